//! Random demands, responses, choices, compared books, rotations and parent orders, as `dice.rs` makes the other structures.

use hufu_trade::{
    account::{Account, Operation},
    demand::{Demand, DemandAttribute, DemandItem, DemandRefusal, Proposal, Response},
    if2::{
        peers::{Ask, Beginning, Headers, Witnessing},
        public::{Public, PublicDeal, PublicRecord},
    },
    matching::{Candidate, Matching, Selection},
    parent::{ChildBill, ParentBill, ParentNoInput, ParentOrder, Payable},
    reconciliation::{Reconciliation, ReconciliationLine},
    rotation::{KeyRotation, SignedRotation},
    statement::{RequirementItem, Reservation},
};

use crate::dice::Dice;

impl Dice<'_> {
    pub(crate) fn demand(&mut self) -> Demand {
        let item = |d: &mut Self| DemandItem {
            class: d.text(),
            minima: d.some(|d| Reservation { resource: d.text(), quantity: d.u64() }),
            quantity: d.u32(),
        };
        Demand {
            version: self.u8(),
            demand_no: self.hash(),
            buyer: self.hash(),
            relay: self.text(),
            time: self.i64(),
            valid_until: self.i64(),
            pools: self.maybe(|d| d.some(Self::text)),
            template: self.text(),
            items: self.some(item),
            attributes: self.some(|d| DemandAttribute { name: d.text(), value: d.text() }),
            term_ns: self.u64(),
            start_from: self.i64(),
            start_until: self.i64(),
            ceiling: self.maybe(Self::money),
        }
    }
    pub(crate) fn response(&mut self) -> Response {
        let proposal = |d: &mut Self| Proposal {
            product_id: d.text(),
            catalogue_revision: d.u64(),
            quantity: d.u32(),
            term_ns: d.u64(),
            tariff: d.hash(),
            estimate: d.money(),
            hold_until: d.i64(),
        };
        Response {
            version: self.u8(),
            demand: self.hash(),
            follows: self.hash(),
            proposal_no: self.hash(),
            computing_pool_id: self.text(),
            time: self.i64(),
            proposal: self.maybe(proposal),
            refusal: self.maybe(|d| DemandRefusal { code: d.text(), why: d.text() }),
        }
    }
    pub(crate) fn account(&mut self) -> Account {
        Account {
            version: self.u8(),
            relay: self.text(),
            user: self.hash(),
            revision: self.u64(),
            roles: self.some(Self::text),
            state: self.text(),
            time: self.i64(),
            operation: self.hash(),
        }
    }
    pub(crate) fn operation(&mut self) -> Operation {
        Operation {
            version: self.u8(),
            relay: self.text(),
            number: self.u64(),
            previous: self.hash(),
            operator: self.text(),
            act: self.text(),
            about: self.text(),
            time: self.i64(),
            why: self.text(),
        }
    }
    pub(crate) fn selection(&mut self) -> Selection {
        Selection {
            version: self.u8(),
            demand: self.hash(),
            time: self.i64(),
            chosen: self.some(Self::hash),
            why: self.text(),
        }
    }
    pub(crate) fn matching(&mut self) -> Matching {
        let candidate = |d: &mut Self| Candidate {
            computing_pool_id: d.text(),
            proposal_no: d.hash(),
            response: d.hash(),
            estimate: d.maybe(Self::money),
            score: d.u16(),
        };
        Matching {
            version: self.u8(),
            demand: self.hash(),
            relay: self.text(),
            time: self.i64(),
            candidates: self.some(candidate),
            selection: self.signed(),
        }
    }
    pub(crate) fn public(&mut self) -> Public {
        let item = |d: &mut Self| RequirementItem { product_id: d.text(), quantity: d.u32() };
        let deal = |d: &mut Self| PublicDeal {
            contract_no: d.hash(),
            items: d.some(item),
            contract_time: d.i64(),
            service_end: d.i64(),
        };
        let record = |d: &mut Self| PublicRecord {
            height: d.u64(),
            index: d.u32(),
            kind: d.u16(),
            hash: d.hash(),
            path: d.some(Self::hash),
            deal: d.maybe(deal),
            offer: d.maybe(Self::hash),
            score: d.maybe(Self::bytes),
        };
        Public { version: self.u8(), node: self.text(), from: self.u64(), records: self.some(record) }
    }
    pub(crate) fn reconciliation(&mut self) -> Reconciliation {
        let line = |d: &mut Self| ReconciliationLine {
            kind: d.u16(),
            number: d.text(),
            contract_no: d.hash(),
            time: d.i64(),
            amount: d.maybe(Self::money),
            entry: d.maybe(Self::entry_name),
            refused: d.maybe(Self::text),
        };
        Reconciliation {
            version: self.u8(),
            computing_pool_id: self.text(),
            side: self.u8(),
            from: self.i64(),
            until: self.i64(),
            time: self.i64(),
            trade_size: self.u64(),
            trade_root: self.hash(),
            finance_size: self.u64(),
            finance_root: self.hash(),
            other: self.maybe(Self::hash),
            lines: self.some(line),
        }
    }
    pub(crate) fn headers(&mut self) -> Headers {
        let beginning = |d: &mut Self| Beginning { checkpoint: d.signed(), peaks: d.some(Self::bytes), head: d.hash() };
        Headers {
            version: self.u8(),
            node: self.text(),
            log: self.u8(),
            first: self.u64(),
            headers: self.some(Self::signed),
            beginning: self.maybe(beginning),
            newest: self.maybe(Self::signed),
        }
    }
    pub(crate) fn ask(&mut self) -> Ask {
        Ask { version: self.u8(), node: self.text(), log: self.u8(), from: self.u64(), until: self.u64() }
    }
    pub(crate) fn witnessing(&mut self) -> Witnessing {
        Witnessing {
            version: self.u8(),
            node: self.text(),
            log: self.u8(),
            size: self.u64(),
            root: self.hash(),
            cosignature: self.bytes(),
        }
    }
    pub(crate) fn key_rotation(&mut self) -> KeyRotation {
        KeyRotation {
            version: self.u8(),
            computing_pool_id: self.text(),
            old: self.hash(),
            new: self.hash(),
            finance_from: self.u64(),
            time: self.i64(),
            why: self.text(),
        }
    }
    pub(crate) fn signed_rotation(&mut self) -> SignedRotation {
        SignedRotation {
            rotation: self.bytes(),
            old_signature: self.bytes(),
            new_signature: self.bytes(),
            certificates: self.some(Self::bytes),
        }
    }
    pub(crate) fn parent_no_input(&mut self) -> ParentNoInput {
        ParentNoInput { buyer: self.hash(), nonce: self.hash(), time: self.i64() }
    }
    pub(crate) fn parent_order(&mut self) -> ParentOrder {
        let payable = self.pick(&[Payable::Child, Payable::Parent]);
        ParentOrder { parent_no: self.hash(), payable, children: self.u32() }
    }
    pub(crate) fn parent_bill(&mut self) -> ParentBill {
        let child = |d: &mut Self| ChildBill {
            contract_no: d.hash(),
            computing_pool_id: d.text(),
            bill: d.hash(),
            number: d.text(),
            due: d.money(),
        };
        ParentBill {
            version: self.u8(),
            parent_no: self.hash(),
            buyer: self.hash(),
            time: self.i64(),
            currency: self.text(),
            children: self.some(child),
            total: self.money(),
        }
    }
}
