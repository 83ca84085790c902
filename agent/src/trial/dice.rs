//! Random sequences of acts on the core: whatever buyers, platform and clock do in whatever order, what stands in the ledger
//! is signed, sold once, metered and billed from its own records, and replays to the state the live core has.

use std::collections::BTreeMap;

use hufu_gm::Signed;
use hufu_ledger::Log;
use hufu_trade::{
    contract::overall_score,
    correction::{Adjustment, Due, RefundPaid},
    decode,
    entry::{Deal, EntryKind, Payment, SignedStatement},
    if2::{Answer, Envelope, Interface, PLATFORM, PaymentState, SendOrder},
    money::Money,
    notice::{Notice, Renewal},
    octets::{ContractNo, Octets, rfc3339},
    rating::{Before, Recorded, Terms, rate},
    rules::{DEFAULT, RENEW, Row, Write},
    statement::{ContractValue, Offer, Payment as Paying, ScoreCard, ScoreItem},
    usage::Reason,
};

use super::change;
use super::market::{Market, POOL, QUALITY, SECOND, core, party, replay};
use crate::node::Event;

pub(super) const OTHER: &str = include_str!("../../../trade/testdata/rules/other.toml");
/// Sequences a table, and acts in each.
const SEEDS: u64 = 10;
const ACTS: u32 = 200;

/// What every table's sequences come to.
const COMMON: [EntryKind; 6] =
    [EntryKind::Deal, EntryKind::Usage, EntryKind::Gap, EntryKind::Bill, EntryKind::Payment, EntryKind::Score];

/// Numbers from a seed (splitmix64): the same sequence in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(list.len()).unwrap();
        (count > 0).then(|| &list[usize::try_from(self.below(count)).unwrap()])
    }
}

/// One random course of the small world.
struct Course {
    market: Market,
    dice: Dice,
    nonce: u8,
    offers: Vec<(Offer, Octets<32>)>,
    orders: Vec<SendOrder>,
    totals: BTreeMap<ContractNo, u128>,
    stopped: usize,
}

impl Course {
    fn act(&mut self) {
        match self.dice.below(16) {
            0 | 1 => self.browse(),
            2 | 3 => self.order(),
            4 => self.order_again(),
            5 | 6 => self.window(),
            7 => {
                let long = self.dice.below(8) == 0;
                let seconds = self.dice.below(if long { 4000 } else { 90 });
                self.market.pass(seconds * SECOND);
            }
            8 => self.market.receipt(if self.dice.below(2) == 0 { Log::Trade } else { Log::Finance }),
            9 => self.pay(),
            10 => self.score(),
            11 | 12 => self.notice(),
            13 => self.correct(),
            14 => self.refund(),
            _ => self.provision(),
        }
        self.finals();
        self.market.event(Event::Tick);
    }

    fn browse(&mut self) {
        self.nonce += 1;
        let found = self.market.browse(self.nonce);
        self.offers.push(found);
    }

    /// A right order, or one with something wrong.
    fn order(&mut self) {
        let Some((offer, hash)) = self.dice.of(&self.offers).cloned() else { return };
        let (wrong, quantity) = (self.dice.below(4), u32::try_from(self.dice.below(3)).unwrap());
        let mut request = self.market.order_request(&offer, hash, 5 + self.dice.below(60), |statement| {
            let requirement = statement.requirement.as_mut().unwrap();
            requirement.items[0].quantity = quantity.max(1);
            match wrong {
                0 => requirement.tariff = Octets([0; 32]),
                1 => statement.follows = Some(Octets([1; 32])),
                _ => {}
            }
        });
        if self.dice.below(5) == 0 {
            request.signature.0 = self.market.platform.key.sign(&request.statement.0).unwrap();
        }
        self.market.say(Interface::SendOrder, &request);
        self.orders.push(request);
    }

    fn order_again(&mut self) {
        if let Some(request) = self.dice.of(&self.orders).cloned() {
            self.market.say(Interface::SendOrder, &request);
        }
    }

    fn metered(&self) -> Vec<ContractNo> {
        let book = &self.market.core.book;
        let live = book.contracts.values().filter(|contract| self.market.core.is_metered(contract));
        live.map(|contract| contract.no).collect()
    }

    fn used(&mut self, no: ContractNo) -> u128 {
        let more = u128::from(self.dice.below(1_000_000_000_000));
        let total = self.totals.entry(no).or_insert(0);
        *total += more;
        *total
    }

    fn window(&mut self) {
        let mut drafts = Vec::new();
        for no in self.metered() {
            let reason = if self.dice.below(4) == 0 { Reason::Gap } else { Reason::Continue };
            let total = if reason == Reason::Gap { self.totals.get(&no).copied().unwrap_or(0) } else { self.used(no) };
            drafts.push(self.market.draft(no, reason, total));
        }
        self.market.window(drafts);
    }

    fn provision(&mut self) {
        let metered = self.metered();
        if let Some(no) = self.dice.of(&metered).copied() {
            let outcome = if self.dice.below(3) == 0 { Err("no place".to_owned()) } else { Ok(None) };
            self.market.event(Event::Provisioned { contract: no, outcome });
        }
    }

    /// The final reads the core asked for.
    fn finals(&mut self) {
        while let Some(no) = self.market.withdrawn.get(self.stopped).copied() {
            self.stopped += 1;
            let total = self.used(no);
            let draft = self.market.draft(no, Reason::End, total);
            let drafts = if self.dice.below(4) == 0 { Vec::new() } else { vec![draft] };
            self.market.event(Event::Final { contract: no, drafts, quality: QUALITY });
        }
    }

    /// The platform says that a bill was paid, sometimes with another amount.
    fn pay(&mut self) {
        let bills = self.market.core.book.contracts.values().flat_map(|contract| &contract.bills);
        let bills: Vec<Due> = bills.map(|billed| billed.due.clone()).collect();
        let Some(bill) = self.dice.of(&bills) else { return };
        let amount = if self.dice.below(3) == 0 { "77.77".to_owned() } else { bill.total.to_string() };
        let paid_at = Some(rfc3339(self.market.now().real_ns));
        let state = PaymentState {
            bill_no: bill.number.clone(),
            state: "paid".to_owned(),
            amount_cny: Some(amount),
            paid_at,
            ..PaymentState::default()
        };
        self.market.say(Interface::PaymentConfirm, &Answer::Ok(state));
    }

    /// A notice of any act that the table lets somebody sign, by the right party or not.
    fn notice(&mut self) {
        let contracts = self.market.core.book.contracts.values();
        let dealt: Vec<ContractNo> = contracts.filter(|contract| contract.deal.is_some()).map(|c| c.no).collect();
        let Some(no) = self.dice.of(&dealt).copied() else { return };
        let table = self.market.core.book.tables[0].2.clone();
        let state = self.market.state(no).to_owned();
        let notices = |row: &&Row| row.writes == [Write::Notice];
        let here: Vec<Row> = table.rows.iter().filter(notices).filter(|row| row.state == state).cloned().collect();
        let all: Vec<Row> = table.rows.iter().filter(notices).cloned().collect();
        let of_here = self.dice.below(4) > 0 && !here.is_empty();
        let Some(row) = self.dice.of(if of_here { &here } else { &all }).cloned() else { return };
        let mut notice = change::notice(&self.market, no, &row.act);
        // Two notices of one instant would be one.
        notice.time -= i64::try_from(self.dice.below(1_000_000)).unwrap();
        notice.bill = self.market.core.book.contracts[&no].bills.last().map(|billed| billed.name.hash);
        if row.act == RENEW {
            let amount = Money(i128::from(self.dice.below(40)) * 100_000_000);
            let contract_value = ContractValue { payment: Paying::Postpaid, amount };
            notice.renewal = Some(Renewal { term_ns: (1 + self.dice.below(4000)) * SECOND, contract_value });
        }
        let platform = row.signers == [hufu_trade::rules::Party::Platform];
        let request = if platform == (self.dice.below(5) > 0) {
            change::by_platform(&self.market, &notice)
        } else {
            change::by_buyer(&self.market, &notice)
        };
        self.market.say(Interface::OrderChange, &request);
    }

    /// The site takes something off a bill, more than is due now and then.
    fn correct(&mut self) {
        let bills = self.market.core.book.contracts.values().flat_map(|contract| &contract.bills);
        let bills: Vec<String> = bills.map(|billed| billed.bill.number.clone()).collect();
        let Some(number) = self.dice.of(&bills).cloned() else { return };
        let amount = Money(-i128::from(self.dice.below(12)) * 1_000_000);
        let less = vec![Adjustment { resource: String::new(), why: "slow".to_owned(), amount }];
        let now_ns = self.market.now().real_ns;
        if let Ok((_, blocks)) = crate::change::correct(&self.market.core, now_ns, (&number, less)) {
            self.market.execute(vec![crate::node::Effect::Append(blocks)]);
        }
    }

    /// The platform says that something went back, sometimes another amount.
    fn refund(&mut self) {
        let bills = self.market.core.book.contracts.values().flat_map(|contract| &contract.bills);
        let paid: Vec<_> = bills.filter_map(|b| Some((b.bill.number.clone(), b.paid?, b.due.total))).collect();
        let Some((bill_no, paid, due)) = self.dice.of(&paid).cloned() else { return };
        let more = Money(i128::from(self.dice.below(3) == 0) * 1_000_000);
        let back = paid.minus(due).unwrap().plus(more).unwrap();
        let at = Some(rfc3339(self.market.now().real_ns));
        let state = PaymentState {
            bill_no,
            state: "refunded".to_owned(),
            amount_cny: Some(paid.to_string()),
            paid_at: at.clone(),
            refund_cny: None,
            refunded_cny: Some(back.to_string()),
            refunded_at: at,
            parent_bill: None,
        };
        self.market.say(Interface::PaymentConfirm, &Answer::Ok(state));
    }

    /// A score, sometimes forged, sometimes wrong, at any time.
    fn score(&mut self) {
        let dealt = self.market.core.book.contracts.values().filter(|contract| contract.deal.is_some());
        let dealt: Vec<ContractNo> = dealt.map(|contract| contract.no).collect();
        let Some(no) = self.dice.of(&dealt).copied() else { return };
        let items = vec![ScoreItem { code: 0, score: u8::try_from(self.dice.below(101)).unwrap() }];
        let overall = overall_score(&self.market.core.book.tables[0].2, &items).unwrap();
        let mut statement = self.market.browse_statement(1);
        let contract = &self.market.core.book.contracts[&no];
        (statement.con_type, statement.nonce, statement.contract_no) = (4, None, no);
        statement.offer = contract.offer.as_ref().map(|(_, _, hash)| *hash);
        statement.follows = contract.deal.as_ref().map(|(name, _)| name.hash);
        statement.score = Some(ScoreCard { overall: overall + u16::from(self.dice.below(4) == 0), items });
        let mut request = self.market.signed(&statement);
        if self.dice.below(4) == 0 {
            request.signature.0 = self.market.platform.key.sign(&request.statement.0).unwrap();
        }
        self.market.say(Interface::Score, &request);
    }
}

/// Units held at any time are within the capacity.
fn check_capacity(market: &Market) {
    let book = &market.core.book;
    let holds = |contract: &&crate::contract::Contract| {
        book.table_of(Some(contract)).is_some_and(|(.., table)| table.is_holding(&contract.state))
    };
    let held: u32 = book.contracts.values().filter(holds).map(crate::contract::Contract::quantity).sum();
    assert!(held <= 2, "{held} units held, two there");
}

/// Every entry that needs a signature has it; nobody has a second order, deal or score.
fn check_signatures(market: &Market) -> BTreeMap<u16, u32> {
    let (buyer, node) = (market.buyer.certificate.public_key(), market.core.identity.key.public_key());
    let platform = market.platform.certificate.public_key();
    let (mut seen, mut counts): (Vec<(ContractNo, EntryKind)>, BTreeMap<u16, u32>) = Default::default();
    let mut once = |no: ContractNo, kind: EntryKind| {
        assert!(!seen.contains(&(no, kind)), "{no}: a second {}", kind.name());
        seen.push((no, kind));
    };
    let mut orders: BTreeMap<ContractNo, SignedStatement> = BTreeMap::new();
    let mut notices: Vec<Vec<u8>> = Vec::new();
    let (mut paid, mut refunded): (Vec<Octets<32>>, Vec<Octets<32>>) = Default::default();
    for (kind, body) in market.entries() {
        *counts.entry(kind.number()).or_default() += 1;
        match kind {
            EntryKind::Browse | EntryKind::Order | EntryKind::Score => {
                let signed: SignedStatement = decode(&body, "SignedStatement").unwrap();
                assert!(buyer.verify(signed.statement.as_bytes(), signed.signature.as_bytes()).is_valid());
                let no = signed.open().unwrap().contract_no;
                once(no, kind);
                if kind == EntryKind::Order {
                    orders.insert(no, signed);
                }
            }
            EntryKind::Offer => assert!(Signed::from_bytes(&body).unwrap().verify(&node).is_valid()),
            EntryKind::Deal => {
                let deal: Deal = decode(&body, "Deal").unwrap();
                assert!(deal.countersignature.verify(&node).is_valid());
                assert_eq!(deal.buyer_signature, orders[&deal.contract_no].signature);
                once(deal.contract_no, kind);
            }
            EntryKind::Payment => {
                let payment: Payment = decode(&body, "Payment").unwrap();
                let received = payment.confirmation.as_bytes();
                let envelope = Envelope::parse(received).unwrap();
                let opened =
                    envelope.open::<Answer<PaymentState>>(platform, Interface::PaymentConfirm, POOL, received).unwrap();
                assert_eq!(opened.payload.from, PLATFORM);
                assert!(!paid.contains(&payment.bill), "{}: paid twice", payment.number);
                paid.push(payment.bill);
            }
            EntryKind::Notice => {
                let signed = Signed::from_bytes(&body).unwrap();
                let notice: Notice = decode(signed.tbs(), "Notice").unwrap();
                let by = |party| match party {
                    hufu_trade::rules::Party::Buyer => signed.verify(buyer).is_valid(),
                    _ => signed.verify(platform).is_valid(),
                };
                let rows = market.core.book.tables[0].2.rows.iter().filter(|row| row.act == notice.act);
                assert!(rows.flat_map(|row| &row.signers).all(|party| by(*party)), "{}", notice.act);
                assert!(!notices.contains(&signed.tbs().to_vec()), "the same notice twice");
                notices.push(signed.tbs().to_vec());
            }
            EntryKind::RefundPaid => {
                let refund: RefundPaid = decode(&body, "RefundPaid").unwrap();
                let received = refund.confirmation.as_bytes();
                let envelope = Envelope::parse(received).unwrap();
                envelope.open::<Answer<PaymentState>>(platform, Interface::PaymentConfirm, POOL, received).unwrap();
                assert!(!refunded.contains(&refund.bill), "{}: refunded twice", refund.number);
                refunded.push(refund.bill);
            }
            _ => {}
        }
    }
    counts
}

/// Every bill follows from its own order's records, goes on where the one before ended, and is paid in full or not at all.
fn check_bills(market: &Market) {
    for contract in market.core.book.contracts.values() {
        let records: Vec<Recorded> = market.records(contract.no);
        let (deal, start) = match &contract.deal {
            Some((name, deal)) => (name.hash, deal.contract_time),
            None => {
                assert!(records.is_empty() && contract.bills.is_empty(), "usage or bill without a deal");
                continue;
            }
        };
        let (mut previous, mut end) = (deal, start);
        for (seq, (name, record)) in (0..).zip(&records) {
            assert_eq!((record.order_seq, record.previous, record.start), (seq, previous, end), "{}", contract.no);
            (previous, end) = (name.hash, record.end);
        }
        let mut before: Option<Before> = None;
        let mut totals = Vec::new();
        for (count, billed) in (1..).zip(&contract.bills) {
            // What was in force when an earlier bill was made may have been lifted since.
            let is_last = contract.bills.len() == totals.len() + 1;
            let left = match (is_last, billed.bill.over_ceiling) {
                (true, _) => contract.in_force.unwrap().left(totals.iter().copied()).unwrap(),
                (false, over) => over.map(|_| billed.bill.total),
            };
            totals.push(billed.bill.total);
            assert!(billed.due.total <= billed.bill.total && billed.due.total >= Money(0));
            assert!(billed.paid.is_none_or(|paid| paid >= billed.due.total && paid <= billed.bill.total));
            assert!(!billed.refunded || billed.paid > Some(billed.due.total));
            let (_, offer, hash) = contract.offer.as_ref().unwrap();
            let first = before.as_ref().map_or(0, |before| before.last.order_seq + 1);
            let due = |(_, record): &&Recorded| (first..=billed.bill.last_seq).contains(&record.order_seq);
            let due: Vec<Recorded> = records.iter().filter(due).cloned().collect();
            let terms = Terms {
                contract_no: contract.no,
                computing_pool_id: POOL,
                buyer: contract.buyer,
                deal,
                offer: *hash,
                tariff: &offer.tariff,
                gap_rule: "free",
                left,
                rests_on: billed.bill.rests_on.clone(),
                prepaid: None,
            };
            assert_eq!(billed.bill, rate(&terms, before.as_ref(), &due).unwrap());
            assert_eq!(billed.bill.period_start, before.as_ref().map_or(start, |before| before.last.end));
            before = Some(Before { hash: billed.name.hash, count, last: due.last().unwrap().1.clone() });
        }
    }
}

/// The ledger replayed into a fresh core is the live one.
fn check_replay(market: &Market) {
    let root = party(None, "root", 1);
    let mut again = core(&market.platform, &party(Some(&root), "node", 3), &root);
    replay(&mut again, &market.ledger);
    let (live, again) = (&market.core, &again);
    assert_eq!((live.sizes, live.book.revision), (again.sizes, again.book.revision));
    assert_eq!((live.book.obligation, live.book.window_end), (again.book.obligation, again.book.window_end));
    assert_eq!(live.book.contracts.len(), again.book.contracts.len());
    for (live, again) in live.book.contracts.values().zip(again.book.contracts.values()) {
        assert_eq!(
            (&live.state, live.since, live.in_force),
            (&again.state, again.since, again.in_force),
            "{}",
            live.no
        );
        let told = |contract: &crate::contract::Contract| {
            let names: Vec<_> =
                contract.bills.iter().map(|b| (b.name.clone(), b.linked, b.due.clone(), b.paid, b.refunded)).collect();
            format!(
                "{:?} {:?} {:?} {:?} {:?} {names:?}",
                contract.deal, contract.last, contract.score, contract.base, contract.notices
            )
        };
        assert_eq!(told(live), told(again));
    }
}

/// A random course under a rule table, as many acts long.
pub(super) fn course(text: &str, seed: u64, acts: u32) -> Market {
    let mut market = Market::under(text);
    market.event(Event::Linked);
    let (offers, orders, totals) = Default::default();
    let mut course = Course { market, dice: Dice(seed), nonce: 0, offers, orders, totals, stopped: 0 };
    for _ in 0..acts {
        course.act();
        check_capacity(&course.market);
    }
    course.market
}

fn check(text: &str, kinds: &[EntryKind], seeds: std::ops::Range<u64>) {
    let mut counts: BTreeMap<u16, u32> = BTreeMap::new();
    for seed in seeds {
        let market = course(text, seed, ACTS);
        for (kind, count) in check_signatures(&market) {
            *counts.entry(kind).or_default() += count;
        }
        check_bills(&market);
        check_replay(&market);
    }
    // The sequences are worth something only if they come as far as this.
    for kind in kinds {
        assert!(counts.get(&kind.number()).is_some_and(|count| *count > 1), "{}: {counts:?}", kind.name());
    }
}

#[test]
fn whatever_happens_the_default_contract_keeps_its_word() {
    let more = [EntryKind::Notice, EntryKind::Correction, EntryKind::RefundPaid];
    check(DEFAULT, &[&COMMON[..], &more].concat(), 0..SEEDS);
}

#[test]
fn whatever_happens_a_contract_by_the_hour_keeps_its_word() {
    let hourly = super::period::every("hour").replace("1296000", "1800");
    check(&hourly, &[&COMMON[..], &[EntryKind::Notice, EntryKind::Correction]].concat(), 2000..2000 + SEEDS);
}

#[test]
fn whatever_happens_another_contract_keeps_its_word() {
    check(OTHER, &[&COMMON[..], &[EntryKind::Notice]].concat(), 1000..1000 + SEEDS);
}
