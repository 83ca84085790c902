//! The entries of a pack, decoded. Nothing here is believed yet: whether they are what was signed, and all of them, is
//! `verdict/`.

use hufu_gm::{Hash, Signed, sm3::sm3};
use hufu_ledger::{Entry, entry_hash};
use hufu_trade::{
    account::Account,
    allocation::Allocation,
    bill::Bill,
    correction::{Correction, RefundPaid},
    demand::{Demand, Response},
    entry::{Deal, EntryKind, FinanceLink, OrderStatus, Payment, Rules, SignedStatement, UserOperation},
    matching::Matching,
    notice::Notice,
    octets::ContractNo,
    rotation::{KeyRotation, SignedRotation},
    statement::{Offer, Statement},
    tariff::Tariff,
    usage::{UsageRecord, Window},
};

use crate::{
    findings::{Findings, Verdict},
    layout::{self, Place},
    open::Members,
    records::Piece,
    text::Text,
};

/// An entry of one kind, with where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Found<'a, T> {
    pub(crate) name: &'a str,
    pub(crate) place: Place,
    pub(crate) hash: Hash,
    pub(crate) value: T,
}

impl<'a, T> Found<'a, T> {
    fn with<U>(&self, value: U) -> Found<'a, U> {
        Found { name: self.name, place: self.place, hash: self.hash, value }
    }

    /// Only where it stands.
    pub(crate) fn bare(&self) -> Found<'a, ()> {
        self.with(())
    }

    /// The place of one of its fields.
    pub(crate) fn field(&self, field: &str) -> String {
        format!("{}#{field}", self.name)
    }
}

/// A buyer's statement with its signature.
#[derive(Clone, Debug)]
pub(crate) struct Stated {
    pub(crate) signed: SignedStatement,
    pub(crate) statement: Statement,
}

/// The node's offer with its signature.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) signed: Signed,
    pub(crate) offer: Offer,
    /// SM3 of the signed bytes: how everybody names it.
    pub(crate) hash: Hash,
}

/// A notice with its signature.
#[derive(Clone, Debug)]
pub(crate) struct Noticed {
    pub(crate) signed: Signed,
    pub(crate) notice: Notice,
}

enum Body {
    Browse(Stated),
    Order(Stated),
    Score(Stated),
    Deal(Deal),
    Offer(Offered),
    Rules(Rules),
    Usage(UsageRecord),
    Window(Window),
    Status(OrderStatus),
    Notice(Noticed),
    Bill(Bill),
    Correction(Correction),
    Payment(Payment),
    Refund(RefundPaid),
    Link(FinanceLink),
    Rotation(SignedRotation, KeyRotation),
    Allocation(Allocation),
    Other,
}

/// What a pack tells, by kind.
#[derive(Default)]
pub(crate) struct Evidence<'a> {
    /// What `bill.der` says; what the bill's entry says where that does not decode.
    pub(crate) bill: Option<Bill>,
    /// The entry of that bill.
    pub(crate) bill_entry: Option<Found<'a, Bill>>,
    /// The entries of the bills before it, oldest first: each names the one before.
    pub(crate) earlier: Vec<Found<'a, Bill>>,
    /// Every bill of the contract that the pack holds, in the order of the finance log.
    pub(crate) bills: Vec<Found<'a, Bill>>,
    pub(crate) browse: Option<Found<'a, Stated>>,
    pub(crate) offer: Option<Found<'a, Offered>>,
    pub(crate) order: Option<Found<'a, Stated>>,
    pub(crate) deal: Option<Found<'a, Deal>>,
    pub(crate) scores: Vec<Found<'a, Stated>>,
    pub(crate) rules: Vec<Found<'a, Rules>>,
    pub(crate) statuses: Vec<Found<'a, OrderStatus>>,
    /// In the order of the trade log.
    pub(crate) notices: Vec<Found<'a, Noticed>>,
    /// In the order of the finance log.
    pub(crate) corrections: Vec<Found<'a, Correction>>,
    pub(crate) payments: Vec<Found<'a, Payment>>,
    pub(crate) refunds: Vec<Found<'a, RefundPaid>>,
    pub(crate) windows: Vec<Found<'a, Window>>,
    /// Where the trade log names finance entries back, in its order.
    pub(crate) links: Vec<Found<'a, FinanceLink>>,
    /// Which devices the contract held.
    pub(crate) allocations: Vec<Found<'a, Allocation>>,
    /// Changes of the node's key.
    pub(crate) rotations: Vec<Found<'a, (SignedRotation, KeyRotation)>>,
    /// In order of `order_seq`.
    pub(crate) records: Vec<Found<'a, UsageRecord>>,
    /// Every entry, by name.
    pub(crate) all: Vec<Found<'a, ()>>,
    /// What `tariff.der` says.
    pub(crate) tariff: Option<Tariff>,
}

impl<'a> Evidence<'a> {
    pub(crate) fn read(members: &Members, pieces: &'a [Piece<'a>], findings: &mut Findings) -> Self {
        let mut found = Self::default();
        let bill_bytes = members.bytes(layout::BILL).unwrap_or_default();
        match hufu_trade::decode::<Bill>(bill_bytes, "Bill") {
            Ok(bill) => found.bill = Some(bill),
            Err(_) => findings.signatures.fail(layout::BILL, Text::NotThis { what: "Bill".into() }),
        }
        let decoded = decode_all(pieces);
        let mut bills = Vec::new();
        for (name, result) in decoded {
            match result {
                Ok(entry) => found.take(entry, &mut bills),
                Err(what) => findings.completeness.fail(name, what),
            }
        }
        found.choose_bill(bills, bill_bytes);
        found.keep_contract(&mut findings.completeness);
        found.choose_earlier();
        found.records.sort_by_key(|record| record.value.order_seq);
        found.corrections.sort_by_key(|found| found.place);
        found.notices.sort_by_key(|found| found.place);
        found.links.sort_by_key(|found| found.place);
        match members.bytes(layout::TARIFF).map(|bytes| hufu_trade::decode::<Tariff>(bytes, "Tariff")) {
            Some(Ok(tariff)) => found.tariff = Some(tariff),
            Some(Err(error)) => {
                findings.arithmetic.fail(layout::TARIFF, Text::TariffMalformed { why: error.to_string() });
            }
            None => {}
        }
        found
    }

    fn take(&mut self, entry: Found<'a, Body>, bills: &mut Vec<Found<'a, Bill>>) {
        self.all.push(entry.with(()));
        let empty = entry.with(());
        match entry.value {
            Body::Browse(stated) => self.browse = Some(empty.with(stated)),
            Body::Order(stated) => self.order = Some(empty.with(stated)),
            Body::Score(stated) => self.scores.push(empty.with(stated)),
            Body::Deal(deal) => self.deal = Some(empty.with(deal)),
            Body::Offer(offered) => self.offer = Some(empty.with(offered)),
            Body::Rules(rules) => self.rules.push(empty.with(rules)),
            Body::Usage(record) => self.records.push(empty.with(record)),
            Body::Window(window) => self.windows.push(empty.with(window)),
            Body::Status(status) => self.statuses.push(empty.with(status)),
            Body::Notice(noticed) => self.notices.push(empty.with(noticed)),
            Body::Correction(correction) => self.corrections.push(empty.with(correction)),
            Body::Refund(refund) => self.refunds.push(empty.with(refund)),
            Body::Payment(payment) => self.payments.push(empty.with(payment)),
            Body::Bill(bill) => bills.push(empty.with(bill)),
            Body::Link(link) => self.links.push(empty.with(link)),
            Body::Rotation(signed, rotation) => self.rotations.push(empty.with((signed, rotation))),
            Body::Allocation(given) => self.allocations.push(empty.with(given)),
            Body::Other => {}
        }
    }

    /// The bill's entry is the one with the bytes of `bill.der`; failing that, with its number; failing that, the last.
    fn choose_bill(&mut self, bills: Vec<Found<'a, Bill>>, bytes: &[u8]) {
        let same = |bill: &Bill| hufu_trade::encode(bill, "Bill").is_ok_and(|encoded| encoded == bytes);
        let number = self.bill.as_ref().map(|bill| bill.number.clone());
        let at = bills
            .iter()
            .position(|found| same(&found.value))
            .or_else(|| bills.iter().position(|found| Some(&found.value.number) == number.as_ref()))
            .or_else(|| bills.len().checked_sub(1));
        self.bill_entry = at.and_then(|at| bills.get(at)).cloned();
        if self.bill.is_none() {
            self.bill = self.bill_entry.as_ref().map(|found| found.value.clone());
        }
        self.bills = bills;
        self.bills.sort_by_key(|found| found.place);
    }

    /// The chain of bills that ends before the bill of the pack, as far as it is here.
    fn choose_earlier(&mut self) {
        let mut named = self.bill.as_ref().and_then(|bill| bill.previous_bill);
        // A bill stands behind the one that it names, so that the chain ends.
        let mut below = self.bill_entry.as_ref().map(|found| found.place);
        while let Some(hash) = named {
            let before =
                |found: &&Found<'_, Bill>| found.hash == hash.0 && below.is_none_or(|below| found.place < below);
            let Some(found) = self.bills.iter().find(before) else { break };
            (named, below) = (found.value.previous_bill, Some(found.place));
            self.earlier.push(found.clone());
        }
        self.earlier.reverse();
    }

    /// Drops what belongs to another contract than the bill, and says so.
    fn keep_contract(&mut self, completeness: &mut Verdict) {
        let Some(no) = self.bill.as_ref().map(|bill| bill.contract_no) else { return };
        let mut own = |name: &str, of: ContractNo| {
            completeness.check(of == no, name, || Text::Contract {});
            of == no
        };
        self.records.retain(|found| own(found.name, found.value.contract_no));
        self.statuses.retain(|found| own(found.name, found.value.contract_no));
        self.allocations.retain(|found| own(found.name, found.value.contract_no));
        self.links.retain(|found| own(found.name, found.value.contract_no));
        self.payments.retain(|found| own(found.name, found.value.contract_no));
        self.refunds.retain(|found| own(found.name, found.value.contract_no));
        self.corrections.retain(|found| own(found.name, found.value.contract_no));
        self.notices.retain(|found| own(found.name, found.value.notice.contract_no));
        self.scores.retain(|found| own(found.name, found.value.statement.contract_no));
        self.browse = self.browse.take().filter(|found| own(found.name, found.value.statement.contract_no));
        self.order = self.order.take().filter(|found| own(found.name, found.value.statement.contract_no));
        self.offer = self.offer.take().filter(|found| own(found.name, found.value.offer.contract_no));
        self.deal = self.deal.take().filter(|found| own(found.name, found.value.contract_no));
        self.bill_entry = self.bill_entry.take().filter(|found| own(found.name, found.value.contract_no));
        self.bills.retain(|found| own(found.name, found.value.contract_no));
    }

    /// Whether the contract's buyer signed a notice; otherwise the platform must have.
    pub(crate) fn is_buyers(&self, noticed: &Noticed) -> bool {
        self.browse.as_ref().is_some_and(|found| found.value.statement.buyer.0 == noticed.signed.cert_id())
    }

    /// The price terms to rate with: those of the signed offer, or `tariff.der` where there is no offer.
    pub(crate) fn terms(&self) -> Option<&Tariff> {
        self.offer.as_ref().map(|found| &found.value.offer.tariff).or(self.tariff.as_ref())
    }
}

type Decoded<'a> = (&'a str, Result<Found<'a, Body>, Text>);

/// Below this many entries one thread is faster.
const PARALLEL_FROM: usize = 2_000;

fn decode_all<'a>(pieces: &'a [Piece<'a>]) -> Vec<Decoded<'a>> {
    let decode_part = |part: &'a [Piece<'a>]| -> Vec<Decoded<'a>> {
        part.iter().map(|piece| (piece.name.as_str(), decode(piece))).collect()
    };
    let (left, right) = pieces.split_at(if pieces.len() < PARALLEL_FROM { pieces.len() } else { pieces.len() / 2 });
    if right.is_empty() {
        return decode_part(left);
    }
    std::thread::scope(|scope| {
        let other = scope.spawn(|| decode_part(right));
        let mut all = decode_part(left);
        // A panic of the other thread would be our bug; its half then counts as missing.
        all.extend(other.join().unwrap_or_default());
        all
    })
}

fn decode<'a>(piece: &'a Piece<'a>) -> Result<Found<'a, Body>, Text> {
    let (name, bytes) = (piece.name.as_str(), piece.bytes);
    let malformed = |error: &dyn std::fmt::Display| Text::EntryMalformed { why: error.to_string() };
    let (place, told) = piece.told.ok_or_else(|| Text::NotThis { what: "name".into() })?;
    let entry = Entry::from_bytes(bytes).map_err(|e| malformed(&e))?;
    let kind = EntryKind::from_number(entry.kind);
    let kind = kind.ok_or_else(|| malformed(&format!("kind {} is unknown", entry.kind)))?;
    if kind.name() != told {
        return Err(Text::EntryName { kind: kind.name().to_owned() });
    }
    let value = decode_body(kind, &entry.body).map_err(|e| malformed(&e))?;
    Ok(Found { name, place, hash: entry_hash(bytes), value })
}

fn decode_body(kind: EntryKind, body: &[u8]) -> Result<Body, hufu_trade::Error> {
    use hufu_trade::decode;
    let gm = |source| hufu_trade::Error::Malformed { what: "Signed", source };
    let stated = || -> Result<Stated, hufu_trade::Error> {
        let signed: SignedStatement = decode(body, "SignedStatement")?;
        let statement = signed.open()?;
        Ok(Stated { signed, statement })
    };
    Ok(match kind {
        EntryKind::Browse => Body::Browse(stated()?),
        EntryKind::Order => Body::Order(stated()?),
        EntryKind::Score => Body::Score(stated()?),
        EntryKind::Deal => Body::Deal(decode(body, "Deal")?),
        EntryKind::Offer => {
            let signed = Signed::from_bytes(body).map_err(gm)?;
            let (offer, hash) = (decode(signed.tbs(), "Offer")?, sm3(&[signed.tbs()]));
            Body::Offer(Offered { signed, offer, hash })
        }
        EntryKind::Rules => Body::Rules(decode(body, "Rules")?),
        EntryKind::Usage | EntryKind::Gap => Body::Usage(decode(body, "UsageRecord")?),
        EntryKind::Window => Body::Window(decode(body, "Window")?),
        EntryKind::OrderStatus => Body::Status(decode(body, "OrderStatus")?),
        EntryKind::Notice => {
            let signed = Signed::from_bytes(body).map_err(gm)?;
            let notice: Notice = decode(signed.tbs(), "Notice")?;
            notice.check()?;
            Body::Notice(Noticed { signed, notice })
        }
        EntryKind::Correction => Body::Correction(decode(body, "Correction")?),
        EntryKind::RefundPaid => Body::Refund(decode(body, "RefundPaid")?),
        EntryKind::Bill => Body::Bill(decode(body, "Bill")?),
        EntryKind::Payment => Body::Payment(decode(body, "Payment")?),
        EntryKind::FinanceLink => Body::Link(decode(body, "FinanceLink")?),
        EntryKind::Allocation => {
            let given: Allocation = decode(body, "Allocation")?;
            given.check()?;
            Body::Allocation(given)
        }
        EntryKind::UserOperation => {
            decode::<UserOperation>(body, "UserOperation")?.check()?;
            Body::Other
        }
        EntryKind::KeyRotation => {
            let signed: SignedRotation = decode(body, "SignedRotation")?;
            let rotation = signed.open()?;
            Body::Rotation(signed, rotation)
        }
        EntryKind::Demand => {
            let signed = Signed::from_bytes(body).map_err(gm)?;
            decode::<Demand>(signed.tbs(), "Demand")?.check()?;
            Body::Other
        }
        EntryKind::Response => {
            let signed = Signed::from_bytes(body).map_err(gm)?;
            decode::<Response>(signed.tbs(), "Response")?.check()?;
            Body::Other
        }
        EntryKind::Matching => {
            let signed = Signed::from_bytes(body).map_err(gm)?;
            decode::<Matching>(signed.tbs(), "Matching")?.check()?;
            Body::Other
        }
        EntryKind::Account => {
            let signed = Signed::from_bytes(body).map_err(gm)?;
            decode::<Account>(signed.tbs(), "Account")?.check()?;
            Body::Other
        }
        EntryKind::Receipt | EntryKind::Certificates | EntryKind::SetAside | EntryKind::Epoch => Body::Other,
    })
}
