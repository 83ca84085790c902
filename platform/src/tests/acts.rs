//! What happens in a contract after its deal: metering, notices, statuses, bills, corrections, payments, refunds, the score.

use hufu_gm::Signed;
use hufu_ledger::Log;
use hufu_trade::{
    bill::Bill,
    contract::overall_score,
    correction::{Adjustment, Correction, Due, RefundPaid},
    encode,
    entry::{EntryKind, EntryName, FinanceLink, OrderStatus, Payment, octet_string},
    if2::{Answer, Envelope, Interface, PLATFORM, PaymentConfirm, PaymentState, Topic},
    notice::{Notice, Renewal},
    octets::{ContractNo, Digest, Octets, from_rfc3339},
    rating::{Before, Terms, rate},
    rules::{self, RuleTable},
    statement::{ContractValue, Payment as Paying, ScoreCard, ScoreItem, Statement, con_type},
    usage::{self, MeterIdentity, Reading, Reason, Status, UsageRecord, Window},
};

use super::{
    parties::Party,
    world::{RECORDS, SECOND, Sold, World},
};

/// What the platform confirmed: its answer, and the envelope it came in.
pub(crate) type Confirmed = (PaymentState, Vec<u8>);

impl World {
    /// Usage to the end of the term, and the acts of that end.
    pub(crate) fn serve(&mut self, sold: &mut Sold) {
        for seq in 0..RECORDS {
            let last = if seq + 1 == RECORDS { Reason::End } else { Reason::Continue };
            self.meter(sold, if seq == 0 { Reason::Begin } else { last });
        }
        for [act, from, to] in self.ends.clone() {
            self.status(sold, [act, from, to]);
        }
    }

    /// One usage record, a minute long; of a suspension it carries the totals on.
    pub(crate) fn meter(&mut self, sold: &mut Sold, reason: Reason) {
        let record = self.metered(sold, reason);
        let body = encode(&record, "UsageRecord").expect("DER");
        let name = self.one(Log::Trade, EntryKind::Usage, sold.no, body);
        sold.records.push((name, record));
    }

    /// The same as the window that it is of has it: in one block with the window's own entry.
    pub(crate) fn window(&mut self, sold: &mut Sold, reason: Reason) {
        let record = self.metered(sold, reason);
        let window = Window {
            version: 1,
            start: record.start,
            end: record.end,
            elapsed_ns: record.elapsed_ns,
            samples_due: 60,
            samples_taken: 60,
            boot_id: Octets([9; 16]),
            quality: record.quality,
            orders: 1,
            totals: Vec::new(),
        };
        let window = encode(&window, "Window").expect("DER");
        let body = encode(&record, "UsageRecord").expect("DER");
        let entries = vec![(EntryKind::Window, None, window), (EntryKind::Usage, Some(sold.no), body)];
        let name = self.append(Log::Trade, entries).remove(1);
        sold.records.push((name, record));
    }

    fn metered(&mut self, sold: &Sold, reason: Reason) -> UsageRecord {
        let previous = sold.records.last().map_or(sold.deal.hash, |(name, _)| name.hash);
        let mut record = usage(sold.no, sold.records.len() as u64, previous, self.now, reason);
        let total = |code| {
            let last = sold.records.last().and_then(|(_, last)| last.readings.iter().find(|r| r.code == code));
            last.and_then(|reading| reading.total).unwrap_or(0)
        };
        for reading in &mut record.readings {
            if reason == Reason::Suspended {
                reading.delta = Some(0);
            }
            reading.total = Some(total(reading.code) + reading.delta.unwrap_or(0));
        }
        (self.told)(&mut record);
        self.now = record.end;
        record
    }

    /// A status of the node: act, state before, state after.
    pub(crate) fn status(&mut self, sold: &Sold, [act, from, to]: [&str; 3]) -> EntryName {
        let status = OrderStatus {
            version: 1,
            contract_no: sold.no,
            act: act.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            time: self.now,
            why: "a test".to_owned(),
        };
        let body = encode(&status, "OrderStatus").expect("DER");
        let name = self.one(Log::Trade, EntryKind::OrderStatus, sold.no, body);
        self.moved = Some(name.clone());
        name
    }

    /// A notice as it would be right now; a dispute is about the newest bill.
    pub(crate) fn notice(&self, sold: &Sold, act: &str) -> Notice {
        Notice {
            version: 1,
            contract_no: sold.no,
            computing_pool_id: self.pool.to_owned(),
            deal: sold.deal.hash,
            act: act.to_owned(),
            time: self.now,
            bill: self.due.as_ref().filter(|_| act == rules::DISPUTE).map(|due| due.bill),
            renewal: None,
            why: "a test".to_owned(),
        }
    }

    /// A notice of a longer term under a ceiling.
    pub(crate) fn renewal(&self, sold: &Sold, term_ns: u64, ceiling: &str) -> Notice {
        let contract_value = ContractValue { payment: Paying::Postpaid, amount: ceiling.parse().expect("money") };
        Notice { renewal: Some(Renewal { term_ns, contract_value }), ..self.notice(sold, rules::RENEW) }
    }

    /// Puts a notice into the node's log as `signer` signed it.
    pub(crate) fn noticed(&mut self, notice: &Notice, signer: fn(&World) -> &Party) -> EntryName {
        let body = signed(notice, signer(self)).to_bytes().expect("DER");
        let name = self.one(Log::Trade, EntryKind::Notice, notice.contract_no, body);
        self.moved = Some(name.clone());
        name
    }

    /// Bills the contract; `change` comes before the signature.
    pub(crate) fn bill(&mut self, sold: &Sold, change: fn(&mut Bill)) -> Bill {
        self.billed(sold, (None, None), change).1
    }

    /// Bills what was used since `before`; of a bill by period `rests_on` is the act that it stands behind.
    pub(crate) fn billed(
        &mut self,
        sold: &Sold,
        (rests_on, before): (Option<EntryName>, Option<&Before>),
        change: fn(&mut Bill),
    ) -> (EntryName, Bill) {
        let terms = Terms {
            contract_no: sold.no,
            computing_pool_id: self.pool,
            buyer: sold.offer.buyer,
            deal: sold.deal.hash,
            offer: sold.offer_hash,
            tariff: &sold.offer.tariff,
            gap_rule: "free",
            left: Some(self.ceiling.parse().expect("money")),
            rests_on,
            prepaid: None,
        };
        let first = before.map_or(0, |before| before.last.order_seq + 1);
        let records: Vec<_> = sold.records.iter().filter(|(_, record)| record.order_seq >= first).cloned().collect();
        let mut bill = rate(&terms, before, &records).expect("a bill");
        change(&mut bill);
        let name = self.finance(EntryKind::Bill, sold.no, encode(&bill, "Bill").expect("DER"));
        self.due = Some(Due::of(&bill.number, name.hash, bill.total));
        (name, bill)
    }

    /// A finance entry, with the trade log's entry that names it back.
    pub(crate) fn finance(&mut self, kind: EntryKind, no: ContractNo, body: Vec<u8>) -> EntryName {
        let finance = self.one(Log::Finance, kind, no, body);
        if !self.links {
            return finance;
        }
        let link = FinanceLink { contract_no: no, kind: kind.number(), finance: finance.clone() };
        self.one(Log::Trade, EntryKind::FinanceLink, no, encode(&link, "FinanceLink").expect("DER"));
        finance
    }

    /// A correction that takes `less` CNY off the newest bill; `change` makes it wrong.
    pub(crate) fn correct(&mut self, sold: &Sold, less: &str, change: fn(&mut Correction)) {
        let due = self.due.clone().expect("a bill");
        let amount = hufu_trade::money::Money(0).minus(less.parse().expect("money")).expect("money");
        let mut correction = Correction {
            version: 1,
            number: format!("{}-c{}", due.number, due.count + 1),
            contract_no: sold.no,
            computing_pool_id: self.pool.to_owned(),
            bill: due.bill,
            previous: due.last,
            rests_on: self.moved.clone().expect("an act"),
            time: self.now,
            before: due.total,
            adjustments: vec![Adjustment { resource: String::new(), why: "a test".to_owned(), amount }],
            total: due.total.plus(amount).expect("money"),
        };
        change(&mut correction);
        let body = encode(&correction, "Correction").expect("DER");
        let name = self.finance(EntryKind::Correction, sold.no, body);
        self.due = Some(due.corrected(name.hash, &correction).unwrap_or(due));
    }

    /// Asks the platform about the newest bill's payment.
    pub(crate) async fn confirm(&mut self) -> Confirmed {
        let bill_no = self.due.as_ref().expect("a bill").number.clone();
        let (interface, id) = (Interface::PaymentConfirm, Octets(self.node.id()));
        let (now, key, body) = (self.now, &self.node.key, PaymentConfirm { bill_no });
        let asked =
            Envelope::seal(interface, self.pool, PLATFORM, now, None, Some(now), &body, key, id).expect("a question");
        let topic = Topic::Call { pool: self.pool.to_owned(), interface, answer: false };
        let taken = self.inbox.take(now, &topic, &asked.1).await.expect("the database");
        let received = taken.outgoing.into_iter().next().expect("an answer").payload;
        let envelope = Envelope::parse(&received).expect("an envelope");
        let key = self.platform.key.public_key();
        let opened =
            envelope.open::<Answer<PaymentState>>(&key, interface, self.pool, &received).expect("the platform's");
        let Answer::Ok(state) = opened.payload.body else { panic!("a problem") };
        (state, received)
    }

    /// The payment of the newest bill as the platform confirmed it; `change` makes it wrong.
    pub(crate) fn pay(&mut self, sold: &Sold, confirmed: &Confirmed, change: fn(&mut Payment)) {
        let due = self.due.clone().expect("a bill");
        let mut payment = Payment {
            version: 1,
            contract_no: sold.no,
            number: due.number,
            bill: due.bill,
            amount: confirmed.0.amount_cny.as_deref().and_then(|text| text.parse().ok()).unwrap_or(due.total),
            paid_at: confirmed.0.paid_at.as_deref().and_then(from_rfc3339).unwrap_or(self.now),
            rests_on: self.moved.clone().expect("an act"),
            confirmation: octet_string(&confirmed.1, "Payment").expect("octets"),
        };
        change(&mut payment);
        self.finance(EntryKind::Payment, sold.no, encode(&payment, "Payment").expect("DER"));
    }

    /// The refund of the newest bill as the platform confirmed it; `change` makes it wrong.
    pub(crate) fn refund(&mut self, sold: &Sold, confirmed: &Confirmed, change: fn(&mut RefundPaid)) {
        let due = self.due.clone().expect("a bill");
        let mut refund = RefundPaid {
            version: 1,
            contract_no: sold.no,
            number: due.number,
            bill: due.bill,
            correction: due.last.unwrap_or(due.bill),
            amount: confirmed.0.refunded_cny.as_deref().and_then(|text| text.parse().ok()).unwrap_or(due.total),
            paid_at: confirmed.0.refunded_at.as_deref().and_then(from_rfc3339).unwrap_or(self.now),
            rests_on: self.moved.clone().expect("an act"),
            confirmation: octet_string(&confirmed.1, "RefundPaid").expect("octets"),
        };
        change(&mut refund);
        self.finance(EntryKind::RefundPaid, sold.no, encode(&refund, "RefundPaid").expect("DER"));
    }

    /// The buyer's score of CPU and memory, right in every respect.
    pub(crate) fn score(&self, sold: &Sold, cpu: u8) -> Statement {
        let items = vec![ScoreItem { code: 0, score: cpu }, ScoreItem { code: 1, score: 90 }];
        let table = RuleTable::from_toml(rules::DEFAULT).expect("a table");
        let overall = overall_score(&table, &items).expect("a score");
        Statement {
            con_type: con_type::SCORE,
            contract_time: sold.service_end,
            nonce: None,
            offer: Some(sold.offer_hash),
            follows: Some(sold.deal.hash),
            score: Some(ScoreCard { overall, items }),
            ..self.browse()
        }
    }

    /// The node takes the buyer's score into its log.
    pub(crate) fn log_score(&mut self, sold: &Sold, cpu: u8) {
        let body = self.sign(&self.score(sold, cpu)).1;
        self.moved = Some(self.one(Log::Trade, EntryKind::Score, sold.no, body));
    }
}

/// A notice as `signer` signs it.
pub(crate) fn signed(notice: &Notice, signer: &Party) -> Signed {
    Signed::seal(encode(notice, "Notice").expect("DER"), &signer.id(), &signer.key).expect("a signature")
}

/// Whose counters the records hold.
pub(crate) fn identity() -> MeterIdentity {
    MeterIdentity {
        boot_id: Octets([9; 16]),
        source: "cgroup-v2".to_owned(),
        path: "hufu-orders/1".to_owned(),
        instance: 9,
        resolved: None,
        attached: None,
    }
}

fn usage(contract_no: ContractNo, seq: u64, previous: Digest, start: i64, reason: Reason) -> UsageRecord {
    let reading = |code: u8, step: u128| Reading {
        code,
        qualifier: None,
        status: Status::Measured,
        delta: Some(step),
        total: None,
        why: None,
    };
    UsageRecord {
        version: 1,
        contract_no,
        order_seq: seq,
        previous,
        start,
        end: start + 60 * SECOND,
        reason,
        elapsed_ns: 60_000_000_000,
        quality: usage::TimeQuality { state: usage::TimeState::Synchronised, max_error_ns: Some(1000) },
        meter: identity().id().expect("an identity"),
        identity: (seq == 0).then(identity),
        why: None,
        readings: vec![reading(0, 57_600_000_000), reading(1, 257_698_037_760)],
        delivered: None,
    }
}
