//! The contracts of this node as their entries tell them. `apply` is the only way state changes, live and in replay, so both
//! always reach the same state. What a contract is, is `contract.rs`; deciding what to write is `act.rs`, `change.rs` and `books.rs`.

use std::collections::BTreeMap;

use hufu_gm::{Signed, cert::Certificate, sm3::sm3};
use hufu_trade::{
    allocation::Allocation,
    bill::Bill,
    contract::{Facts, replay},
    contract_of,
    correction::{Correction, RefundPaid},
    decode,
    entry::{Deal, EntryKind, EntryName, FinanceLink, OrderStatus, Payment, Receipt, Rules, SignedStatement},
    notice::{InForce, Notice},
    octets::{ContractNo, Digest, Octets},
    period::Calendar,
    rotation::SignedRotation,
    rules::{BROWSE, CONTEST, CORRECT, DISPUTE, PAY_PART, REFUND, RuleTable},
    statement::{Offer, Statement},
    usage::{Reason, UsageRecord, Window},
};

use crate::{
    account::Accounts,
    contract::{Billed, Contract},
    demand::Demanded,
};

/// A ledger that does not replay: damage, or a newer program wrote it. The daemon stops.
#[derive(Debug, thiserror::Error)]
#[error("entry {log}-{height}-{index} ({kind}) does not replay: {why}", log = at.log, height = at.height, index = at.index)]
pub(crate) struct Unreplayable {
    /// Where.
    pub(crate) at: EntryName,
    /// Entry kind number.
    pub(crate) kind: u16,
    /// Why.
    pub(crate) why: String,
}

/// All contracts, the rule tables they run by, and what the platform has acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) contracts: BTreeMap<ContractNo, Contract>,
    /// Rule tables by the hash of their text; the last is in force for new contracts.
    pub(crate) tables: Vec<(Digest, String, RuleTable)>,
    /// End of the last window, ns since 1970-01-01Z.
    pub(crate) window_end: Option<i64>,
    /// Largest receipt per log.
    pub(crate) receipted: [Option<Receipt>; 2],
    /// Blocks below this height hold something the platform must acknowledge, per log.
    pub(crate) obligation: [u64; 2],
    /// Rises whenever a contract takes or frees capacity.
    pub(crate) revision: u64,
    /// Heights of trade entries that name a finance entry back, with that entry's height; few, the last of each contract.
    pub(crate) links: Vec<(u64, u64)>,
    /// Finance entries that no trade entry names back, by height: after a restore the platform may have held the one and not the
    /// other. While there are any, the order in which the logs were written is not in them.
    pub(crate) unlinked: BTreeMap<u64, (ContractNo, EntryKind, EntryName)>,
    /// Demands that have not lapsed or hold capacity, with the node's answers, by SM3 of the demand's DER.
    pub(crate) demands: BTreeMap<Digest, Demanded>,
    /// Accounts of the platform, by user.
    pub(crate) accounts: Accounts,
    /// The newest erasure; only it may have been interrupted.
    pub(crate) last_erased: Option<ContractNo>,
    /// An epoch began after the first: of what came before something may be lost, and what is left of it need not follow from
    /// what is left before it.
    pub(crate) has_lost: bool,
}

/// Every signature and guard held when the entry was written; the table decides the rest.
const REPLAYED: Facts = Facts {
    buyer_signed: true,
    node_signed: true,
    platform_signed: true,
    capacity_free: true,
    within_offer: true,
    window_open: true,
    amount_matches: true,
};

impl Book {
    /// The rule table a contract runs by: its offer's, or the one in force.
    pub(crate) fn table_of(&self, contract: Option<&Contract>) -> Option<&(Digest, String, RuleTable)> {
        match contract.and_then(|c| c.offer.as_ref()) {
            Some((_, offer, _)) => self.tables.iter().rev().find(|(hash, ..)| *hash == offer.rules),
            None => self.tables.last(),
        }
    }

    /// Takes one entry of the log into account.
    ///
    /// # Errors
    /// [`Unreplayable`] naming the entry.
    pub(crate) fn apply(&mut self, at: &EntryName, kind: u16, body: &[u8]) -> Result<(), Unreplayable> {
        if kind != EntryKind::Receipt.number() {
            self.oblige(at);
        }
        match self.absorb(at, kind, body) {
            // What it rests on is lost: it stands in the log, and moves no contract that is still known.
            Err(why) if self.has_lost && at.log == 1 => {
                tracing::warn!(height = at.height, why, "a finance entry rests on what is lost");
                Ok(())
            }
            done => {
                self.note_link(at, kind, body);
                done.map_err(|why| Unreplayable { at: at.clone(), kind, why })
            }
        }
    }

    /// Finance entries of contracts that are known must be named back.
    fn note_link(&mut self, at: &EntryName, kind: u16, body: &[u8]) {
        let Some(kind) = EntryKind::from_number(kind) else { return };
        if at.log == 1
            && let Some(no) = contract_of(kind, body).filter(|no| self.contracts.contains_key(no))
        {
            self.unlinked.insert(at.height, (no, kind, at.clone()));
        }
        if kind == EntryKind::FinanceLink
            && let Ok(link) = decode::<FinanceLink>(body, "FinanceLink")
        {
            self.unlinked.remove(&link.finance.height);
        }
    }

    /// The act of a payment of a bill of a contract.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn pay_act(&self, no: ContractNo, bill: Digest) -> Result<&'static str, String> {
        let contract = self.contracts.get(&no).ok_or("no such contract")?;
        let (.., table) = self.table_of(Some(contract)).ok_or("its rule table is not in the log")?;
        Ok(table.pay_act(contract.others_open(bill)))
    }

    /// The platform must acknowledge the block of an entry.
    pub(crate) fn oblige(&mut self, at: &EntryName) {
        if let Some(obligation) = self.obligation.get_mut(usize::from(at.log)) {
            *obligation = at.height + 1;
        }
    }

    fn absorb(&mut self, at: &EntryName, kind: u16, body: &[u8]) -> Result<(), String> {
        let Some(known) = EntryKind::from_number(kind) else { return Err("unknown kind".to_owned()) };
        match known {
            EntryKind::Rules => self.rules(&read(decode::<Rules>(body, "Rules"))?),
            EntryKind::Browse => self.browse(at, &read(decode::<SignedStatement>(body, "SignedStatement"))?),
            EntryKind::Offer => {
                let signed = read(Signed::from_bytes(body))?;
                let offer: Offer = read(decode(signed.tbs(), "Offer"))?;
                let hash = Octets(sm3(&[signed.tbs()]));
                let contract = self.contract(offer.contract_no)?;
                contract.offer = Some((at.clone(), offer.clone(), hash));
                // The same as in the browse, which may be erased.
                contract.buyer = offer.buyer;
                contract.since = offer.valid_from;
                let state = contract.state.clone();
                let table = self.table_of(self.contracts.get(&offer.contract_no));
                if table.is_some_and(|(.., table)| table.start != state) {
                    return Ok(());
                }
                self.step(offer.contract_no, BROWSE, known, offer.valid_from)
            }
            EntryKind::Order => {
                let (signed, statement) = statement_of(body)?;
                let hash = sm3(&[signed.statement.as_bytes()]);
                self.contract(statement.contract_no)?.order = Some((at.clone(), hash));
                self.step(statement.contract_no, "order", known, statement.contract_time)
            }
            EntryKind::Deal => {
                let deal: Deal = read(decode(body, "Deal"))?;
                let (no, time) = (deal.contract_no, deal.contract_time);
                let ordered: Vec<String> = deal.requirement.items.iter().map(|item| item.product_id.clone()).collect();
                self.take_proposed((deal.buyer, deal.contract_time), &ordered);
                let contract = self.contract(no)?;
                contract.in_force = Some(InForce::of(&deal));
                (contract.deal, contract.moved) = (Some((at.clone(), deal)), Some(at.clone()));
                self.begin_periods(no)?;
                self.step(no, "deal", known, time)
            }
            EntryKind::Notice => self.notice(at, body),
            EntryKind::Score => {
                let (signed, statement) = statement_of(body)?;
                let hash = sm3(&[signed.statement.as_bytes()]);
                let contract = self.contract(statement.contract_no)?;
                (contract.score, contract.moved) = (Some((at.clone(), hash)), Some(at.clone()));
                // The buyer chose this time, so no timer starts from it: it goes on from the state before.
                let since = contract.since;
                self.step(statement.contract_no, "score", known, since)
            }
            EntryKind::OrderStatus => {
                let status: OrderStatus = read(decode(body, "OrderStatus"))?;
                let contract = self.contract(status.contract_no)?;
                contract.moved = Some(at.clone());
                if contract.erased {
                    // A notice before it may be erased.
                    contract.state.clone_from(&status.from);
                }
                self.step(status.contract_no, &status.act, known, status.time)
            }
            EntryKind::Window => {
                let window: Window = read(decode(body, "Window"))?;
                self.window_end = Some(window.end);
                Ok(())
            }
            EntryKind::Usage | EntryKind::Gap => {
                let record: UsageRecord = read(decode(body, "UsageRecord"))?;
                let contract = self.contract(record.contract_no)?;
                if record.reason == Reason::Suspended {
                    (contract.base, contract.resumed) = (record.readings.clone(), Some(record.end));
                    contract.base_delivered = record.delivered.clone().unwrap_or_default();
                }
                read(contract.metered(at, record))
            }
            EntryKind::Bill => {
                let bill: Bill = read(decode(body, "Bill"))?;
                let (no, time, act) = (bill.contract_no, bill.period_end, bill.act());
                read(self.contract(no)?.bill(at, bill))?;
                self.step(no, act, known, time)
            }
            EntryKind::Correction => {
                let correction: Correction = read(decode(body, "Correction"))?;
                let billed = self.billed(correction.contract_no, correction.bill)?;
                billed.due = read(billed.due.corrected(at.hash, &correction))?;
                // The platform may have refused what stood before; what is due now it has yet to judge.
                (billed.refused, billed.contested) = (false, false);
                self.step(correction.contract_no, CORRECT, known, correction.time)
            }
            EntryKind::Payment => {
                let payment: Payment = read(decode(body, "Payment"))?;
                self.billed(payment.contract_no, payment.bill)?.paid = Some(payment.amount);
                let act = self.pay_act(payment.contract_no, payment.bill)?;
                self.step(payment.contract_no, act, known, payment.paid_at)
            }
            EntryKind::RefundPaid => {
                let refund: RefundPaid = read(decode(body, "RefundPaid"))?;
                self.billed(refund.contract_no, refund.bill)?.refunded = true;
                self.step(refund.contract_no, REFUND, known, refund.paid_at)
            }
            EntryKind::FinanceLink => {
                let link: FinanceLink = read(decode(body, "FinanceLink"))?;
                let bills = &mut self.contract(link.contract_no)?.bills;
                bills.iter_mut().filter(|b| b.name.hash == link.finance.hash).for_each(|b| b.linked = true);
                self.links.push((at.height, link.finance.height));
                self.settled_unseen(link.contract_no, link.kind)
            }
            EntryKind::Receipt => {
                let signed = read(Signed::from_bytes(body))?;
                self.receipt(read(decode(signed.tbs(), "Receipt"))?);
                Ok(())
            }
            EntryKind::Allocation => {
                let given: Allocation = read(decode(body, "Allocation"))?;
                read(given.check())?;
                self.contract(given.contract_no)?.devices = given.devices;
                Ok(())
            }
            EntryKind::UserOperation => self.operation(&read(decode(body, "UserOperation"))?),
            EntryKind::Demand => self.demand(at, body),
            EntryKind::Response => self.response(at, body),
            EntryKind::Matching => self.matching(at, body),
            EntryKind::Account => self.account(at, body),
            EntryKind::KeyRotation => read(read(decode::<SignedRotation>(body, "SignedRotation"))?.open()).map(|_| ()),
            EntryKind::Certificates | EntryKind::SetAside | EntryKind::Epoch => Ok(()),
        }
    }

    /// Notes a receipt, stored or just received.
    pub(crate) fn receipt(&mut self, receipt: Receipt) {
        for contract in self.contracts.values_mut() {
            for billed in contract.bills.iter_mut().filter(|b| b.name.log == receipt.log) {
                billed.refused |= receipt.refused.iter().any(|refused| refused.entry == billed.newest());
                billed.receipted |= billed.name.height < receipt.size;
            }
        }
        if receipt.log == 1 {
            self.links.retain(|(_, finance)| *finance >= receipt.size);
        }
        if let Some(slot) = self.receipted.get_mut(usize::from(receipt.log))
            && slot.as_ref().is_none_or(|old| old.size <= receipt.size)
        {
            *slot = Some(receipt);
        }
    }

    /// From the deal on its calendar cuts what is billed.
    pub(crate) fn begin_periods(&mut self, no: ContractNo) -> Result<(), String> {
        let contract = self.contracts.get(&no);
        let terms = self.table_of(contract).zip(contract.and_then(|contract| contract.offer.as_ref()));
        let calendar = terms
            .zip(contract.and_then(|contract| contract.in_force))
            .map(|(((.., table), (_, offer, _)), now)| read(Calendar::of(table, &offer.tariff, now.value.payment)))
            .transpose()?;
        self.contract(no)?.calendar = calendar.flatten();
        Ok(())
    }

    pub(crate) fn rules(&mut self, rules: &Rules) -> Result<(), String> {
        let table = read(RuleTable::from_toml(&rules.text))?;
        self.tables.push((Octets(sm3(&[rules.text.as_bytes()])), rules.text.clone(), table));
        Ok(())
    }

    fn browse(&mut self, at: &EntryName, signed: &SignedStatement) -> Result<(), String> {
        let statement = read(signed.open())?;
        let leaf = signed.certificates.first().ok_or("no certificate")?;
        let certificate = read(Certificate::from_der(leaf.as_bytes()))?;
        let (.., table) = self.tables.last().ok_or("no rule table before it")?;
        // The offer is appended together with it; where that is lost, what was browsed lapses as the platform sees it, too.
        let start = replay(table, &table.start, BROWSE, EntryKind::Browse, REPLAYED).map(|step| step.next.to_owned());
        let start = start.unwrap_or_else(|_| table.start.clone());
        let no = statement.contract_no;
        let key = Some(certificate.public_key().clone());
        let hash = sm3(&[signed.statement.as_bytes()]);
        let contract = Contract::new(no, at, (start, statement.contract_time), (statement.buyer, key), hash);
        match self.contracts.insert(no, contract) {
            None => Ok(()),
            Some(_) => Err("the contract number was used before".to_owned()),
        }
    }

    fn notice(&mut self, at: &EntryName, body: &[u8]) -> Result<(), String> {
        let signed = read(Signed::from_bytes(body))?;
        let notice: Notice = read(decode(signed.tbs(), "Notice"))?;
        let contract = self.contract(notice.contract_no)?;
        contract.notices.push((sm3(&[signed.tbs()]), at.clone()));
        contract.moved = Some(at.clone());
        if notice.act == DISPUTE {
            contract.bills.iter_mut().filter(|b| Some(b.name.hash) == notice.bill).for_each(|b| b.disputed = true);
        }
        if let (Some(in_force), Some(renewal)) = (&mut contract.in_force, &notice.renewal) {
            *in_force = read(in_force.renewed(renewal))?;
            contract.near_ceiling.take();
        }
        self.step(notice.contract_no, &notice.act, EntryKind::Notice, notice.time)
    }

    fn billed(&mut self, no: ContractNo, bill: Digest) -> Result<&mut Billed, String> {
        let bills = &mut self.contract(no)?.bills;
        bills
            .iter_mut()
            .find(|billed| billed.name.hash == bill)
            .ok_or_else(|| format!("contract {no} has no such bill"))
    }

    pub(crate) fn contract(&mut self, no: ContractNo) -> Result<&mut Contract, String> {
        self.contracts.get_mut(&no).ok_or_else(|| format!("contract {no} was never browsed"))
    }

    pub(crate) fn step(&mut self, no: ContractNo, act: &str, kind: EntryKind, time: i64) -> Result<(), String> {
        let contract = self.contracts.get(&no).ok_or("no such contract")?;
        let (.., table) = self.table_of(Some(contract)).ok_or("its rule table is not in the log")?;
        let state = match replay(table, &contract.state, act, kind, REPLAYED) {
            Ok(step) => step.next.to_owned(),
            // What moved it before is erased, and the entry of the erasure says where it ended; or it is lost.
            Err(_) if contract.erased || self.has_lost => {
                let row = table.rows.iter().find(|row| row.act == act);
                row.map_or_else(|| contract.state.clone(), |row| row.next.clone())
            }
            Err(refusal) => return Err(refusal.to_string()),
        };
        let (held, holds) = (table.is_holding(&contract.state), table.is_holding(&state));
        if held != holds {
            self.revision += 1;
        }
        let contract = self.contract(no)?;
        (contract.state, contract.since) = (state, time);
        if !holds {
            contract.devices.clear();
        }
        for billed in &mut contract.bills {
            billed.contested |= act == CONTEST && billed.refused;
            // What answers a dispute ends it; a score and the payment of another bill do not.
            billed.disputed &= matches!(act, DISPUTE | PAY_PART | "score");
        }
        Ok(())
    }
}

fn read<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

/// A signed statement and what it states.
pub(crate) fn statement_of(body: &[u8]) -> Result<(SignedStatement, Statement), String> {
    let signed: SignedStatement = read(decode(body, "SignedStatement"))?;
    let statement = read(signed.open())?;
    Ok((signed, statement))
}
