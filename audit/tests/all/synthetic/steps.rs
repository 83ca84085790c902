//! One step after another of the synthetic story: records, notices, states, bills, corrections, payments, refunds. Each can be
//! changed before it is signed, so that a story cheats in exactly one thing.

use hufu_gm::Signed;
use hufu_ledger::{EntryRef, Log, NewBlock, foresee};
use hufu_trade::{
    allocation::{Allocation, Device},
    bill::Bill,
    contract::overall_score,
    correction::{Adjustment, Correction, Due, RefundPaid},
    encode,
    entry::{EntryKind, EntryName, FinanceLink, OrderStatus, Payment, octet_string},
    if2::{Answer, Envelope, Interface, PLATFORM, PaymentState},
    money::Money,
    notice::{InForce, Notice, Renewal},
    octets::{ContractNo, Octets, rfc3339},
    prepaid::Prepaid,
    rating::{Before, Terms, rate},
    rotation::{KeyRotation, SignedRotation},
    rules::{DISPUTE, RENEW, RuleTable},
    statement::{ScoreCard, ScoreItem, Statement, con_type},
    usage::{Reading, Reason, UsageRecord},
};

use super::{
    Made, POOL, Plan, SALT_KEY, SECOND, Story, name,
    usage::{readings, usage},
};
use crate::parties::Party;

/// Who signs.
#[allow(dead_code, reason = "the examples tell the plain story only")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The contract's buyer.
    Buyer,
    /// The platform.
    Platform,
    /// Neither.
    Stranger,
}

/// One thing that happens.
#[allow(dead_code, reason = "the examples tell the plain story only")]
pub(crate) enum Step {
    /// So many more minutes of use, a record each.
    Records(u64),
    /// A suspension of so many minutes: one record.
    Suspended(i64),
    /// Time passes, seconds.
    Wait(i64),
    /// An act of the node with the states before and after it.
    Status([&'static str; 3]),
    /// The devices that the order holds.
    Devices(fn(&mut Allocation)),
    /// A notice with this act.
    Notice(&'static str, By, fn(&mut Notice)),
    /// The notice before, once more.
    Again,
    /// A correction that takes so many fen off.
    Correct(i128, fn(&mut Correction)),
    /// A bill by period over what is not billed yet but so many records.
    Bill(usize, fn(&mut Bill)),
    /// What follows is about the bill of this number, from 1.
    Of(usize),
    /// What is due was paid, as the platform, or whoever signs for it, says.
    Pay(By, fn(&mut PaymentState), fn(&mut Payment)),
    /// What was paid too much went back.
    Refund(By, fn(&mut PaymentState), fn(&mut RefundPaid)),
    /// The buyer's score.
    Score,
    /// The node changes its key.
    Rotate(Rotated),
}

/// How the key is changed.
#[allow(dead_code, reason = "the examples tell the plain story only")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotated {
    /// As it should be.
    Right,
    /// The old key signs on.
    InVain,
    /// The new key signs in the old one's place.
    WithoutOld,
    /// The old key signs in the new one's place.
    WithoutNew,
    /// The rotation is of another node.
    Elsewhere,
    /// It says that the new key has signed the finance log from its begin.
    Backdated,
}

/// A notice as it should be.
#[allow(dead_code, reason = "the examples tell the plain story only")]
pub(crate) fn notice(act: &'static str, by: By) -> Step {
    Step::Notice(act, by, |_| {})
}

/// A correction as it should be.
#[allow(dead_code, reason = "the examples tell the plain story only")]
pub(crate) fn correct(fen: i128) -> Step {
    Step::Correct(fen, |_| {})
}

/// A payment as it should be.
#[allow(dead_code, reason = "the examples tell the plain story only")]
pub(crate) fn pay() -> Step {
    Step::Pay(By::Platform, |_| {}, |_| {})
}

/// A refund as it should be.
#[allow(dead_code, reason = "the examples tell the plain story only")]
pub(crate) fn refund() -> Step {
    Step::Refund(By::Platform, |_| {}, |_| {})
}

impl Step {
    /// Usage records that it makes.
    pub(super) fn records(&self) -> u64 {
        match self {
            Step::Records(count) => *count,
            Step::Suspended(_) => 1,
            _ => 0,
        }
    }

    pub(super) fn is_strangers(&self) -> bool {
        matches!(self, Step::Notice(_, by, _) | Step::Pay(by, ..) | Step::Refund(by, ..) if *by == By::Stranger)
    }
}

/// The fen that a correction takes off, and why.
fn less(fen: i128) -> Adjustment {
    Adjustment { resource: "cpu".to_owned(), why: "counted twice".to_owned(), amount: Money(-fen * 1_000_000) }
}

impl Story<'_> {
    fn no(&self) -> Made<ContractNo> {
        Ok(self.contract.ok_or("no contract")?)
    }

    fn signer(&self, by: By) -> &Party {
        match by {
            By::Buyer => &self.parties.buyer,
            By::Platform => &self.parties.platform,
            By::Stranger => &self.parties.stranger,
        }
    }

    pub(super) fn step(&mut self, plan: &Plan, step: &Step) -> Made<()> {
        match step {
            Step::Records(count) => self.meter(plan, *count),
            Step::Suspended(minutes) => self.suspended(plan, *minutes),
            Step::Wait(seconds) => {
                self.time += seconds * SECOND;
                Ok(())
            }
            Step::Status(acts) => self.status(acts),
            Step::Devices(change) => self.devices(*change),
            Step::Notice(act, by, change) => self.notice(act, *by, *change),
            Step::Again => self.moves(EntryKind::Notice, self.noticed.clone()),
            Step::Bill(less, change) => {
                let end = self.records.len().saturating_sub(*less);
                self.bill(*change, end, self.moved.clone())
            }
            Step::Of(number) => {
                self.current = number.saturating_sub(1);
                Ok(())
            }
            Step::Correct(fen, change) => self.correct(*fen, *change),
            Step::Rotate(how) => self.rotate(*how),
            Step::Pay(by, state, change) => self.pay(*by, *state, *change),
            Step::Refund(by, state, change) => self.refund(*by, *state, *change),
            Step::Score => self.score(plan),
        }
    }

    /// The usage records, many blocks to a frame.
    pub(super) fn meter(&mut self, plan: &Plan, count: u64) -> Made<()> {
        let measured = self.records.iter().filter(|(_, record)| record.reason != Reason::Suspended).count();
        let (first, mut blocks) = (u64::try_from(measured)?, Vec::new());
        for number in 0..count {
            let record = self.record(readings(first + number), 60 * SECOND)?;
            self.push(plan, record, &mut blocks)?;
            if blocks.len() == 200 || number + 1 == count {
                self.time = self.records.last().map_or(self.time, |(_, record)| record.end);
                self.append_blocks(&std::mem::take(&mut blocks))?;
            }
        }
        Ok(())
    }

    /// The record that stands for a suspension: nothing was used, totals are carried.
    fn suspended(&mut self, plan: &Plan, minutes: i64) -> Made<()> {
        let before = self.records.last().map(|(_, record)| record.readings.clone()).unwrap_or_default();
        let unused = |reading: Reading| Reading { delta: reading.delta.map(|_| 0), ..reading };
        let mut record = self.record(before.into_iter().map(unused).collect(), minutes * 60 * SECOND)?;
        (record.reason, record.why) = (Reason::Suspended, Some("the order was suspended".to_owned()));
        let mut blocks = Vec::new();
        self.push(plan, record, &mut blocks)?;
        self.time = self.records.last().map_or(self.time, |(_, record)| record.end);
        self.append_blocks(&blocks)?;
        Ok(())
    }

    fn record(&self, readings: Vec<Reading>, length: i64) -> Made<UsageRecord> {
        let deal = self.deal.ok_or("no deal")?.hash;
        let last = self.records.last();
        let (previous, start) = last.map_or((deal, self.time), |(name, record)| (name.hash.0, record.end));
        let seq = u64::try_from(self.records.len())?;
        Ok(usage(seq, previous, self.no()?, (start, length), self.due_records.saturating_sub(1), readings))
    }

    /// Foresees the record's place behind `blocks` that are not yet appended.
    fn push(&mut self, plan: &Plan, mut record: UsageRecord, blocks: &mut Vec<NewBlock>) -> Made<()> {
        (plan.record)(&mut record);
        let mut signed = record.clone();
        (plan.signed)(&mut signed);
        let body = encode(&signed, "UsageRecord")?;
        let kind = if record.reason.is_gap() { EntryKind::Gap } else { EntryKind::Usage };
        let height = self.ledger.size(Log::Trade) + u64::try_from(blocks.len())?;
        let (_, at) = foresee(&SALT_KEY, (Log::Trade, height, 0), kind.number(), body.clone())?;
        blocks.push(NewBlock { log: Log::Trade, entries: vec![self.entry(kind, body)] });
        self.records.push((name(&at), record));
        Ok(())
    }

    /// A trade entry that moves the contract.
    fn moves(&mut self, kind: EntryKind, body: Vec<u8>) -> Made<()> {
        let at = self.append(Log::Trade, vec![(kind, body)])?;
        self.moved = at.first().map(name);
        Ok(())
    }

    fn status(&mut self, [act, from, to]: &[&str; 3]) -> Made<()> {
        let status = OrderStatus {
            version: 1,
            contract_no: self.no()?,
            act: (*act).to_owned(),
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            time: self.time,
            why: "as the rules say".to_owned(),
        };
        self.moves(EntryKind::OrderStatus, encode(&status, "OrderStatus")?)
    }

    fn devices(&mut self, change: fn(&mut Allocation)) -> Made<()> {
        let device = |id: &str| Device { resource: "gpu:A100-80G".to_owned(), id: id.to_owned() };
        let devices = vec![device("GPU-1"), device("GPU-2")];
        let mut given = Allocation { version: 1, contract_no: self.no()?, time: self.time, devices };
        change(&mut given);
        self.append(Log::Trade, vec![(EntryKind::Allocation, encode(&given, "Allocation")?)])?;
        Ok(())
    }

    fn notice(&mut self, act: &str, by: By, change: fn(&mut Notice)) -> Made<()> {
        let mut in_force = self.in_force.ok_or("no deal")?;
        let renewal = Renewal { term_ns: 300_000_000_000, contract_value: in_force.value };
        let mut notice = Notice {
            version: 1,
            contract_no: self.no()?,
            computing_pool_id: POOL.to_owned(),
            deal: Octets(self.deal.ok_or("no deal")?.hash),
            act: act.to_owned(),
            time: self.time,
            bill: self.due().ok().filter(|_| act == DISPUTE).map(|due| due.bill),
            renewal: Some(renewal).filter(|_| act == RENEW),
            why: "a reason".to_owned(),
        };
        change(&mut notice);
        if let Some(renewal) = &notice.renewal {
            in_force = in_force.renewed(renewal)?;
        }
        self.in_force = Some(in_force);
        let signer = self.signer(by);
        let signed = Signed::seal(encode(&notice, "Notice")?, &signer.id(), &signer.key)?.to_bytes()?;
        self.noticed.clone_from(&signed);
        self.moves(EntryKind::Notice, signed)
    }

    fn score(&mut self, plan: &Plan) -> Made<()> {
        let table = RuleTable::from_toml(&plan.rules)?;
        let (offer, offer_hash) = self.offer.clone().ok_or("no offer")?;
        let items: Vec<ScoreItem> = [0, 1, 7].map(|code| ScoreItem { code, score: 90 }).to_vec();
        let score = Statement {
            version: 1,
            con_type: con_type::SCORE,
            contract_no: self.no()?,
            contract_time: self.time,
            computing_pool_id: POOL.to_owned(),
            buyer: offer.buyer,
            nonce: None,
            offer: Some(Octets(offer_hash)),
            follows: self.deal.map(|deal| Octets(deal.hash)),
            requirement: None,
            contract_value: None,
            score: Some(ScoreCard { overall: overall_score(&table, &items)?, items }),
        };
        let (_, body) = self.buyer_signs(&score, &[])?;
        self.moves(EntryKind::Score, body)
    }

    /// A finance entry and the trade log's entry that names it back.
    fn finance(&mut self, kind: EntryKind, body: Vec<u8>) -> Made<EntryName> {
        let at: Vec<EntryRef> = self.append(Log::Finance, vec![(kind, body)])?;
        let finance = name(at.first().ok_or("no entry")?);
        let link = FinanceLink { contract_no: self.no()?, kind: kind.number(), finance: finance.clone() };
        self.append(Log::Trade, vec![(EntryKind::FinanceLink, encode(&link, "FinanceLink")?)])?;
        Ok(finance)
    }

    /// How the contract is charged, if it is prepaid.
    fn prepaid(&self, in_force: &InForce) -> Made<Option<Prepaid>> {
        let (offer, _) = self.offer.as_ref().ok_or("no offer")?;
        let deal = self.agreed.as_ref().ok_or("no deal")?;
        // Where nothing can be prepaid a story that says so goes on as a postpaid one.
        Ok(Prepaid::of(offer, deal, in_force, self.proration).unwrap_or(None))
    }

    /// What is due for the bill that steps are about.
    fn due(&self) -> Made<Due> {
        Ok(self.dues.get(self.current).ok_or("no bill")?.0.clone())
    }

    /// A bill over the records up to one; `change` comes before it is signed.
    pub(super) fn bill(&mut self, change: fn(&mut Bill), end: usize, rests_on: Option<EntryName>) -> Made<()> {
        let (offer, offer_hash) = self.offer.clone().ok_or("no offer")?;
        let billed = self.totals.iter().copied();
        let in_force = self.in_force.ok_or("no deal")?;
        let prepaid = self.prepaid(&in_force)?;
        let terms = Terms {
            contract_no: self.no()?,
            computing_pool_id: POOL,
            buyer: offer.buyer,
            deal: Octets(self.deal.ok_or("no deal")?.hash),
            offer: Octets(offer_hash),
            tariff: &offer.tariff,
            gap_rule: "free",
            left: self.in_force.ok_or("no deal")?.left(billed)?,
            rests_on,
            prepaid: prepaid.as_ref(),
        };
        let records = self.records.get(self.billed..end).ok_or("no such records")?;
        let mut bill = rate(&terms, self.before.as_ref(), records)?;
        let last = records.last().ok_or("no record")?.1.clone();
        change(&mut bill);
        let hash = self.finance(EntryKind::Bill, encode(&bill, "Bill")?)?.hash;
        self.current = self.dues.len();
        self.dues.push((Due::of(&bill.number, hash, bill.total), Money(0)));
        self.totals.push(bill.total);
        self.refunds.push(bill.refund);
        self.before = Some(Before { hash, count: u32::try_from(self.dues.len())?, last });
        self.billed = end;
        Ok(())
    }

    fn correct(&mut self, fen: i128, change: fn(&mut Correction)) -> Made<()> {
        let due = self.due()?;
        let adjustment = less(fen);
        let mut correction = Correction {
            version: 1,
            number: format!("{}-c{}", due.number, due.count + 1),
            contract_no: self.no()?,
            computing_pool_id: POOL.to_owned(),
            bill: due.bill,
            previous: due.last,
            rests_on: self.moved.clone().ok_or("no deal")?,
            time: self.time,
            before: due.total,
            total: due.total.plus(adjustment.amount)?,
            adjustments: vec![adjustment],
        };
        change(&mut correction);
        let hash = self.finance(EntryKind::Correction, encode(&correction, "Correction")?)?.hash;
        if let Some((known, _)) = self.dues.get_mut(self.current) {
            *known = due.corrected(hash, &correction).unwrap_or(due);
        }
        Ok(())
    }

    fn rotate(&mut self, how: Rotated) -> Made<()> {
        let (old, new) = (&self.parties.node, &self.parties.next);
        let pool = if how == Rotated::Elsewhere { "site-1/node-2" } else { POOL };
        let rotation = KeyRotation {
            version: 1,
            computing_pool_id: pool.to_owned(),
            old: Octets(old.id()),
            new: Octets(new.id()),
            finance_from: if how == Rotated::Backdated { 0 } else { self.ledger.size(Log::Finance) },
            time: self.time,
            why: "yearly".to_owned(),
        };
        let tbs = encode(&rotation, "KeyRotation")?;
        let octets = |bytes: &[u8]| octet_string(bytes, "SignedRotation");
        let by = |party: &Party| -> Made<_> { Ok(octets(&party.key.sign(&tbs)?)?) };
        let signed = SignedRotation {
            rotation: octets(&tbs)?,
            old_signature: by(if how == Rotated::WithoutOld { new } else { old })?,
            new_signature: by(if how == Rotated::WithoutNew { old } else { new })?,
            certificates: new.ders().iter().map(|der| octets(der)).collect::<Result<_, _>>()?,
        };
        self.append(Log::Trade, vec![(EntryKind::KeyRotation, encode(&signed, "SignedRotation")?)])?;
        self.rotated = how != Rotated::InVain;
        Ok(())
    }

    /// The platform's answer to the question whether a bill was paid.
    fn envelope(&self, by: By, said: PaymentState) -> Made<Vec<u8>> {
        let signer = self.signer(by);
        let (interface, answer) = (Interface::PaymentConfirm, Answer::Ok(said));
        let id = Octets(signer.id());
        Ok(Envelope::seal(interface, PLATFORM, POOL, self.time, Some("q"), None, &answer, &signer.key, id)?.1)
    }

    fn pay(&mut self, by: By, state: fn(&mut PaymentState), change: fn(&mut Payment)) -> Made<()> {
        let due = self.due()?;
        let mut said = PaymentState {
            bill_no: due.number.clone(),
            state: "paid".to_owned(),
            amount_cny: Some(due.total.to_string()),
            paid_at: Some(rfc3339(self.time)),
            refund_cny: self.refunds.get(self.current).copied().flatten().map(|back| back.to_string()),
            ..PaymentState::default()
        };
        state(&mut said);
        let mut payment = Payment {
            version: 1,
            contract_no: self.no()?,
            number: due.number,
            bill: due.bill,
            amount: due.total,
            paid_at: self.time,
            rests_on: self.moved.clone().ok_or("no deal")?,
            confirmation: octet_string(&self.envelope(by, said)?, "Payment")?,
        };
        change(&mut payment);
        if let Some((_, paid)) = self.dues.get_mut(self.current) {
            *paid = payment.amount;
        }
        self.finance(EntryKind::Payment, encode(&payment, "Payment")?).map(|_| ())
    }

    fn refund(&mut self, by: By, state: fn(&mut PaymentState), change: fn(&mut RefundPaid)) -> Made<()> {
        let due = self.due()?;
        let paid = self.dues.get(self.current).map_or(Money(0), |(_, paid)| *paid);
        let amount = paid.minus(due.total)?;
        let mut said = PaymentState {
            bill_no: due.number.clone(),
            state: "refunded".to_owned(),
            amount_cny: Some(paid.to_string()),
            paid_at: Some(rfc3339(self.time)),
            refund_cny: None,
            refunded_cny: Some(amount.to_string()),
            refunded_at: Some(rfc3339(self.time)),
            parent_bill: None,
        };
        state(&mut said);
        let mut refund = RefundPaid {
            version: 1,
            contract_no: self.no()?,
            number: due.number,
            bill: due.bill,
            correction: due.last.unwrap_or(Octets([0; 32])),
            amount,
            paid_at: self.time,
            rests_on: self.moved.clone().ok_or("no deal")?,
            confirmation: octet_string(&self.envelope(by, said)?, "RefundPaid")?,
        };
        change(&mut refund);
        self.finance(EntryKind::RefundPaid, encode(&refund, "RefundPaid")?).map(|_| ())
    }
}
