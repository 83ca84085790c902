//! One contract of this node and its bills, as their entries tell them. Taking entries into account is `book.rs`.

use std::{cell::OnceCell, collections::VecDeque};

use hufu_gm::{sm2::PublicKey, sm3::Hash};
use hufu_trade::{
    allocation::Device,
    bill::Bill,
    correction::Due,
    entry::{Deal, EntryName},
    money::Money,
    notice::InForce,
    octets::{ContractNo, Digest},
    period::Calendar,
    quality::{Delivered, Quality},
    rating::rate_quantities,
    resource::Resource,
    rules::{Guard, Party, REFUSE, RuleTable},
    statement::Offer,
    usage::{Reading, UsageRecord},
};

/// A bill of a contract.
#[derive(Clone, Debug)]
pub(crate) struct Billed {
    pub(crate) name: EntryName,
    pub(crate) bill: Bill,
    /// What it asks for, after its corrections.
    pub(crate) due: Due,
    /// What was paid.
    pub(crate) paid: Option<Money>,
    /// What was paid above what is due went back.
    pub(crate) refunded: bool,
    /// The trade log names it back.
    pub(crate) linked: bool,
    /// The platform's receipt covers it.
    pub(crate) receipted: bool,
    /// The platform's receipt refuses it.
    pub(crate) refused: bool,
    /// The node took note of that.
    pub(crate) contested: bool,
    /// The buyer's dispute about it is not settled.
    pub(crate) disputed: bool,
}

impl Billed {
    /// A bill as its entry has it.
    pub(crate) fn new(name: EntryName, bill: Bill) -> Self {
        let due = Due::of(&bill.number, name.hash, bill.total);
        let (paid, [refunded, linked, receipted, refused, contested, disputed]) = (None, [false; 6]);
        Self { name, bill, due, paid, refunded, linked, receipted, refused, contested, disputed }
    }

    /// Whether it is still to be paid.
    pub(crate) fn is_open(&self) -> bool {
        self.due.is_open(self.paid.is_some())
    }

    /// Entry hash of the last correction, or of the bill where there is none: what the platform judges.
    pub(crate) fn newest(&self) -> Digest {
        self.due.last.unwrap_or(self.name.hash)
    }
}

/// Usage of one billing period that is not billed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// First and last record.
    pub(crate) seqs: (u64, u64),
    /// The period's end, ns since 1970-01-01Z; the greatest time where there are no periods.
    pub(crate) boundary: i64,
    /// What the last record read.
    pub(crate) readings: Vec<Reading>,
}

/// One contract.
#[derive(Clone, Debug)]
pub(crate) struct Contract {
    pub(crate) no: ContractNo,
    /// State of the rule table.
    pub(crate) state: String,
    /// When that state was entered, ns since 1970-01-01Z.
    pub(crate) since: i64,
    /// The buyer's certificate id.
    pub(crate) buyer: Digest,
    /// The buyer's key; `None` once it was erased.
    pub(crate) buyer_key: Option<PublicKey>,
    /// What was personal of it was erased: it answers nobody any more.
    pub(crate) erased: bool,
    pub(crate) browse: EntryName,
    /// SM3 of the browse statement: the same statement again is a retry, another one a conflict.
    pub(crate) browse_hash: Hash,
    /// The offer, its place and the hash of its signed bytes.
    pub(crate) offer: Option<(EntryName, Offer, Digest)>,
    /// The order's place and statement hash.
    pub(crate) order: Option<(EntryName, Hash)>,
    pub(crate) deal: Option<(EntryName, Deal)>,
    /// The deal with its renewals.
    pub(crate) in_force: Option<InForce>,
    /// SM3 of what was signed, and place, of each notice: the same one again is a retry.
    pub(crate) notices: Vec<(Hash, EntryName)>,
    /// The totals at the last resumption: the meter counts from there.
    pub(crate) base: Vec<Reading>,
    /// The quality delivered until then: the meter counts from there, too.
    pub(crate) base_delivered: Vec<Delivered>,
    /// When that was, ns since 1970-01-01Z.
    pub(crate) resumed: Option<i64>,
    /// [`Self::is_near_ceiling`], rated once a record, and only when it is asked: a replay rates nothing.
    pub(crate) near_ceiling: OnceCell<bool>,
    /// The last usage record or gap.
    pub(crate) last: Option<(EntryName, UsageRecord)>,
    /// The newest trade entry that moved the contract.
    pub(crate) moved: Option<EntryName>,
    pub(crate) bills: Vec<Billed>,
    /// Where its billing periods end; `None` where it is billed once.
    pub(crate) calendar: Option<Calendar>,
    /// The end of the period that the last bill covers.
    pub(crate) until: Option<i64>,
    /// What is not billed yet, period by period.
    pub(crate) spans: VecDeque<Span>,
    /// The totals that the last bill goes up to.
    pub(crate) billed: Vec<Reading>,
    /// The score's place and statement hash.
    pub(crate) score: Option<(EntryName, Hash)>,
    /// The devices it holds, while it holds capacity.
    pub(crate) devices: Vec<Device>,
}

impl Contract {
    /// A contract of which only the browse is known.
    pub(crate) fn new(
        no: ContractNo,
        browse: &EntryName,
        (state, since): (String, i64),
        (buyer, buyer_key): (Digest, Option<PublicKey>),
        browse_hash: Hash,
    ) -> Self {
        Self {
            no,
            state,
            since,
            buyer,
            buyer_key,
            erased: false,
            browse: browse.clone(),
            browse_hash,
            offer: None,
            order: None,
            deal: None,
            in_force: None,
            notices: Vec::new(),
            base: Vec::new(),
            base_delivered: Vec::new(),
            resumed: None,
            near_ceiling: OnceCell::new(),
            last: None,
            moved: None,
            bills: Vec::new(),
            calendar: None,
            until: None,
            spans: VecDeque::new(),
            billed: Vec::new(),
            score: None,
            devices: Vec::new(),
        }
    }

    /// Whether its order is left without the deal or the refusal that were appended together with it: they were lost before an epoch.
    pub(crate) fn is_only_ordered(&self, table: &RuleTable) -> bool {
        let is_alone = self.order.is_some() && self.deal.is_none() && !self.erased;
        let row = table.row(&self.state, REFUSE).filter(|_| is_alone);
        row.is_some_and(|row| row.signers == [Party::Node] && row.guard == Guard::None)
    }

    /// Units of the product the deal holds.
    pub(crate) fn quantity(&self) -> u32 {
        let items = self.deal.iter().flat_map(|(_, deal)| &deal.requirement.items);
        items.fold(0, |sum: u32, item| sum.saturating_add(item.quantity))
    }

    /// What its bills have left of the ceiling; `None` without one.
    ///
    /// # Errors
    /// [`hufu_trade::Error::Overflow`].
    pub(crate) fn left(&self) -> Result<Option<Money>, hufu_trade::Error> {
        self.in_force.map_or(Ok(None), |in_force| in_force.left(self.bills.iter().map(|billed| billed.bill.total)))
    }

    /// Takes a usage record into account.
    ///
    /// # Errors
    /// [`hufu_trade::Error::Overflow`] for a time beyond the calendar.
    pub(crate) fn metered(&mut self, at: &EntryName, record: UsageRecord) -> Result<(), hufu_trade::Error> {
        let (seq, readings) = (record.order_seq, record.readings.clone());
        match self.spans.back_mut() {
            Some(span) if record.end <= span.boundary => (span.seqs.1, span.readings) = (seq, readings),
            back => {
                let until = back.map(|span| span.boundary).or(self.until);
                let next = self.calendar.as_ref().map(|calendar| calendar.next(record.end, until)).transpose()?;
                self.spans.push_back(Span { seqs: (seq, seq), boundary: next.unwrap_or(i64::MAX), readings });
            }
        }
        self.last = Some((at.clone(), record));
        self.near_ceiling.take();
        Ok(())
    }

    /// What the meter has counted since it began (anew, after a suspension) by the newest record, in base units.
    pub(crate) fn counted(&self) -> Vec<(Resource, u128)> {
        let readings = self.last.iter().flat_map(|(_, record)| &record.readings);
        let counted = |reading: &Reading| {
            let began = self.base.iter().find(|b| (b.code, &b.qualifier) == (reading.code, &reading.qualifier));
            let began = began.and_then(|reading| reading.total).unwrap_or(0);
            Some((reading.resource().ok()?, reading.total?.saturating_sub(began)))
        };
        readings.filter_map(counted).collect()
    }

    /// What the meter has counted of each quality since then, in ns.
    pub(crate) fn counted_times(&self) -> Vec<(Quality, u128)> {
        let told = self.last.iter().flat_map(|(_, record)| record.delivered.iter().flatten());
        let counted = |one: &Delivered| {
            let began = self.base_delivered.iter().find(|began| began.code == one.code).and_then(|began| began.total);
            Some((Quality::from_code(one.code).ok()?, u128::from(one.total?.saturating_sub(began.unwrap_or(0)))))
        };
        told.filter_map(counted).collect()
    }

    /// Takes a bill into account.
    ///
    /// # Errors
    /// As [`Contract::metered`].
    pub(crate) fn bill(&mut self, at: &EntryName, bill: Bill) -> Result<(), hufu_trade::Error> {
        while let Some(mut span) = self.spans.pop_front_if(|span| span.seqs.0 <= bill.last_seq) {
            self.billed.clone_from(&span.readings);
            if span.seqs.1 > bill.last_seq {
                span.seqs.0 = bill.last_seq.saturating_add(1);
                self.spans.push_front(span);
                break;
            }
        }
        let calendar = self.calendar.as_ref();
        self.until = calendar.map(|calendar| calendar.next(bill.period_end, self.until)).transpose()?;
        self.bills.push(Billed::new(at.clone(), bill));
        self.near_ceiling.take();
        Ok(())
    }

    /// The end of the first period that is over and not billed yet: a window has closed at or past it, or nothing is metered
    /// that could still end before it.
    pub(crate) fn period_over(&self, is_metered: bool, now_ns: i64) -> Option<i64> {
        let end = self.spans.front()?.boundary;
        let closed = !is_metered || self.last.as_ref().is_some_and(|(_, record)| record.end >= end);
        (self.calendar.is_some() && closed && now_ns >= end).then_some(end)
    }

    /// Whether another bill than this one is still to be paid.
    pub(crate) fn others_open(&self, bill: Digest) -> bool {
        self.bills.iter().any(|billed| billed.name.hash != bill && billed.is_open())
    }

    /// The end of the period of the oldest open bill.
    pub(crate) fn arrears_since(&self) -> Option<i64> {
        self.bills.iter().find(|billed| billed.is_open()).map(|billed| billed.bill.period_end)
    }

    /// Whether what is not billed yet and twice the newest record exceed what the bills left of the ceiling. Costs that cannot be computed are
    /// the bill's matter.
    pub(crate) fn is_near_ceiling(&self) -> bool {
        *self.near_ceiling.get_or_init(|| self.last.as_ref().is_some_and(|(_, record)| self.nears_ceiling(record)))
    }

    fn nears_ceiling(&self, record: &UsageRecord) -> bool {
        let (Ok(Some(ceiling)), Some((_, offer, _))) = (self.left(), &self.offer) else { return false };
        let billed = |reading: &Reading| {
            let same = |other: &&Reading| other.code == reading.code && other.qualifier == reading.qualifier;
            self.billed.iter().find(same).and_then(|billed| billed.total).unwrap_or(0)
        };
        let cost = |part: fn(&Reading) -> Option<u128>| -> Option<i128> {
            let readings = record.readings.iter();
            let quantities = readings
                .filter_map(|reading| Some((reading.resource().ok()?, part(reading)?.saturating_sub(billed(reading)))));
            rate_quantities(&offer.tariff, &quantities.collect::<Vec<_>>()).ok().map(|rated| rated.total.0)
        };
        let now = cost(|reading| reading.total);
        let before = cost(|reading| reading.total?.checked_sub(reading.delta.unwrap_or(0)));
        now.zip(before).is_some_and(|(now, before)| {
            now.checked_sub(before)
                .and_then(|last| last.checked_mul(2)?.checked_add(now))
                .is_none_or(|sum| sum > ceiling.0)
        })
    }
}
