//! What moves a contract after its deal: suspension, renewal, termination, dispute, correction, refund, the ceiling. The small
//! world is `market.rs`.

use hufu_gm::Signed;
use hufu_ledger::Log;
use hufu_trade::{
    correction::Adjustment,
    decode, encode,
    entry::{EntryKind, OrderStatus},
    if2::{Answer, Interface, OrderChange, PaymentState, Sealed},
    money::Money,
    notice::{Notice, Renewal},
    octets::{ContractNo, Octets, rfc3339},
    parent::{ParentOrder, Payable},
    rating::rate_quantities,
    resource::{Kind, Resource},
    statement::{ContractValue, Payment},
    usage::{Reason, UsageRecord},
};

use super::market::{Market, POOL, QUALITY, SECOND, core, party, replay};
use crate::{change::correct, node::Event};

/// A notice as the market's buyer signs it.
pub(super) fn notice(market: &Market, no: ContractNo, act: &str) -> Notice {
    let deal = market.core.book.contracts[&no].deal.as_ref().unwrap().0.hash;
    let time = market.now().real_ns;
    let why = "because".to_owned();
    let (act, pool) = (act.to_owned(), POOL.to_owned());
    Notice { version: 1, contract_no: no, computing_pool_id: pool, deal, act, time, bill: None, renewal: None, why }
}

pub(super) fn by_buyer(market: &Market, notice: &Notice) -> OrderChange {
    let tbs = encode(notice, "Notice").unwrap();
    let signed = Signed::seal(tbs, &market.buyer.certificate.id(), &market.buyer.key).unwrap();
    OrderChange { notice: Sealed(signed.to_bytes().unwrap()) }
}

pub(super) fn by_platform(market: &Market, notice: &Notice) -> OrderChange {
    let tbs = encode(notice, "Notice").unwrap();
    let signed = Signed::seal(tbs, &market.platform.certificate.id(), &market.platform.key).unwrap();
    OrderChange { notice: Sealed(signed.to_bytes().unwrap()) }
}

pub(super) fn ask(market: &mut Market, no: ContractNo, act: &str) -> String {
    let request = by_buyer(market, &notice(market, no, act));
    Market::code(market.say(Interface::OrderChange, &request))
}

fn renewal(seconds: u64, ceiling: &str) -> Option<Renewal> {
    let contract_value = ContractValue { payment: Payment::Postpaid, amount: ceiling.parse().unwrap() };
    Some(Renewal { term_ns: seconds * SECOND, contract_value })
}

/// A market with one order that is served.
fn serving(term_s: u64) -> (Market, ContractNo) {
    serving_child(term_s, None)
}

fn serving_child(term_s: u64, parent: Option<ParentOrder>) -> (Market, ContractNo) {
    let mut market = Market::open();
    market.parent = parent;
    market.event(Event::Linked);
    let (no, _) = market.deal(1, term_s);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    (market, no)
}

pub(super) fn last_read(market: &mut Market, no: ContractNo, total: u128) {
    let last = market.draft(no, Reason::End, total);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
}

/// An order that used 2000 core-seconds, 0.20 CNY, and was billed.
pub(super) fn billed() -> (Market, ContractNo) {
    billed_child(None)
}

fn billed_child(parent: Option<ParentOrder>) -> (Market, ContractNo) {
    let (mut market, no) = serving_child(20, parent);
    market.pass(20 * SECOND);
    last_read(&mut market, no, 2_000_000_000_000);
    market.receipt(Log::Finance);
    assert_eq!(market.state(no), "billed");
    (market, no)
}

pub(super) fn dispute(market: &mut Market, no: ContractNo) -> String {
    let mut asked = notice(market, no, "dispute");
    asked.bill = Some(market.core.book.contracts[&no].bills[0].name.hash);
    let request = by_buyer(market, &asked);
    Market::code(market.say(Interface::OrderChange, &request))
}

fn less(amount: &str) -> Vec<Adjustment> {
    let amount = Money(-amount.parse::<Money>().unwrap().0);
    vec![Adjustment { resource: "cpu".to_owned(), why: "the disk was slow".to_owned(), amount }]
}

/// The site takes something off the contract's bill; the code of a refusal.
pub(super) fn take_off(market: &mut Market, no: ContractNo, amount: &str) -> String {
    let number = market.core.book.contracts[&no].bills[0].bill.number.clone();
    match correct(&market.core, market.now().real_ns, (&number, less(amount))) {
        Ok((_, blocks)) => {
            market.execute(vec![crate::node::Effect::Append(blocks)]);
            market.settle();
            "accepted".to_owned()
        }
        Err(problem) => problem.code,
    }
}

pub(super) fn paid(market: &Market, no: ContractNo, amount: &str) -> PaymentState {
    let bill_no = market.core.book.contracts[&no].bills[0].bill.number.clone();
    let paid_at = Some(rfc3339(market.now().real_ns));
    let amount_cny = Some(amount.to_owned());
    PaymentState { bill_no, state: "paid".to_owned(), amount_cny, paid_at, ..PaymentState::default() }
}

pub(super) fn replays(market: &Market) {
    let root = party(None, "root", 1);
    let mut again = core(&market.platform, &party(Some(&root), "node", 3), &root);
    replay(&mut again, &market.ledger);
    for (live, again) in market.core.book.contracts.values().zip(again.book.contracts.values()) {
        let told = |c: &crate::contract::Contract| {
            let bills: Vec<_> = c.bills.iter().map(|b| (b.due.clone(), b.paid, b.refunded, b.refused)).collect();
            format!("{} {} {:?} {:?} {:?} {bills:?}", c.state, c.since, c.in_force, c.base, c.notices)
        };
        assert_eq!(told(live), told(again));
    }
}

#[test]
fn a_suspended_order_is_neither_metered_nor_charged_and_goes_on_where_it_stopped() {
    let (mut market, no) = serving(600);
    market.pass(5 * SECOND);
    market.window(vec![market.draft(no, Reason::Continue, 100_000_000_000)]);
    assert_eq!(ask(&mut market, no, "suspend"), "accepted");
    assert_eq!(
        (market.state(no), market.withdrawn.as_slice()),
        ("suspending", &[no][..]),
        "the final read comes first"
    );
    assert!(market.workloads.is_empty());
    last_read(&mut market, no, 150_000_000_000);
    assert_eq!((market.state(no), market.workloads.as_slice()), ("suspended", &[("pause", no)][..]));
    assert_eq!(market.browse(2).0.stock, 1, "the capacity stays held");
    market.pass(SECOND);
    assert_eq!(ask(&mut market, no, "suspend"), "state");
    market.pass(99 * SECOND);
    assert_eq!(ask(&mut market, no, "resume"), "accepted");
    assert_eq!((market.state(no), market.provided.len()), ("serving", 2));
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    market.pass(5 * SECOND);
    // The meter counts from nothing again; the totals do not.
    market.window(vec![market.draft(no, Reason::Continue, 30_000_000_000)]);
    let records: Vec<UsageRecord> = market.records(no).into_iter().map(|(_, record)| record).collect();
    let told: Vec<_> = records.iter().map(|r| (r.reason, r.readings[0].delta, r.readings[0].total)).collect();
    let second = |n: u128| Some(n * 1_000_000_000);
    assert_eq!(
        told,
        [
            (Reason::Begin, second(100), second(100)),
            (Reason::End, second(50), second(150)),
            (Reason::Suspended, second(0), second(150)),
            (Reason::Continue, second(30), second(180)),
        ]
    );
    assert!(records.windows(2).all(|pair| pair[0].end == pair[1].start), "no time is missing");
    assert_eq!(records[2].end - records[2].start, 100_000_000_000);
    replays(&market);
    // A suspended order that is terminated was read already; only its place goes.
    assert_eq!(ask(&mut market, no, "suspend"), "accepted");
    last_read(&mut market, no, 40_000_000_000);
    assert_eq!(ask(&mut market, no, "terminate"), "accepted");
    assert_eq!((market.state(no), market.workloads.last()), ("billed", Some(&("remove", no))));
    assert_eq!(market.core.book.contracts[&no].bills[0].bill.lines[0].quantity, 190_000_000_000);
    replays(&market);
}

#[test]
fn a_terminated_order_is_read_stopped_and_billed_before_its_term() {
    let (mut market, no) = serving(600);
    market.pass(5 * SECOND);
    assert_eq!(ask(&mut market, no, "terminate"), "accepted");
    assert_eq!(market.state(no), "leaving");
    last_read(&mut market, no, 2_000_000_000_000);
    assert_eq!((market.state(no), market.workloads.as_slice()), ("billed", &[("remove", no)][..]));
    let bill = &market.core.book.contracts[&no].bills[0].bill;
    assert_eq!((bill.total.to_string().as_str(), bill.period_end), ("0.20", market.now().real_ns));
    assert_eq!(market.browse(3).0.stock, 2, "the capacity is free again");
    replays(&market);
}

#[test]
fn only_buyer_and_platform_move_a_contract_each_by_its_own_acts_and_once() {
    let (mut market, no) = serving(600);
    let good = notice(&market, no, "suspend");
    let mut cases: Vec<(&str, OrderChange, &str)> = vec![
        ("the platform for the buyer", by_platform(&market, &good), "signature"),
        ("the buyer for the platform", by_buyer(&market, &notice(&market, no, "revoke")), "signature"),
        ("an act of the clock", by_buyer(&market, &notice(&market, no, "expire")), "state"),
        ("a payment by notice", by_platform(&market, &notice(&market, no, "pay")), "state"),
        ("no such act", by_buyer(&market, &notice(&market, no, "vanish")), "state"),
        ("another contract", by_buyer(&market, &Notice { contract_no: Octets([9; 16]), ..good.clone() }), "unknown"),
        ("another deal", by_buyer(&market, &Notice { deal: Octets([9; 32]), ..good.clone() }), "malformed"),
        (
            "another node",
            by_buyer(&market, &Notice { computing_pool_id: "a/b".to_owned(), ..good.clone() }),
            "malformed",
        ),
        ("an old one", by_buyer(&market, &Notice { time: good.time - 3_601_000_000_000, ..good.clone() }), "offer"),
        ("no such bill", by_buyer(&market, &Notice { bill: Some(Octets([9; 32])), ..good.clone() }), "unknown"),
        ("a hidden renewal", by_buyer(&market, &Notice { renewal: renewal(60, "10"), ..good.clone() }), "malformed"),
    ];
    let node = market.core.identity.clone();
    let forged = Signed::seal(encode(&good, "Notice").unwrap(), &market.buyer.certificate.id(), &node.key).unwrap();
    cases.push(("the node itself", OrderChange { notice: Sealed(forged.to_bytes().unwrap()) }, "signature"));
    let size = market.ledger.size(Log::Trade);
    for (name, request, code) in cases {
        assert_eq!(Market::code(market.say(Interface::OrderChange, &request)), code, "{name}");
    }
    assert_eq!((market.ledger.size(Log::Trade), market.state(no)), (size, "serving"));
    let request = by_platform(&market, &notice(&market, no, "revoke"));
    assert_eq!(Market::code(market.say(Interface::OrderChange, &request)), "accepted");
    let size = market.ledger.size(Log::Trade);
    let first = market.say(Interface::OrderChange, &request);
    assert_eq!(
        (market.ledger.size(Log::Trade), market.state(no)),
        (size, "leaving"),
        "the same again is answered again"
    );
    assert!(first.unwrap()["ok"]["entry"].is_string());
}

#[test]
fn a_renewal_within_the_offer_moves_the_end_and_the_ceiling() {
    let (mut market, no) = serving(20);
    let cases = [
        ("a term beyond the offer", renewal(3601, "20")),
        ("a lower ceiling", renewal(60, "9.99")),
        (
            "a price",
            renewal(60, "20").map(|r| Renewal {
                contract_value: ContractValue { payment: Payment::Prepaid, ..r.contract_value },
                ..r
            }),
        ),
    ];
    for (name, renewal) in cases {
        let request = by_buyer(&market, &Notice { renewal, ..notice(&market, no, "renew") });
        assert_eq!(Market::code(market.say(Interface::OrderChange, &request)), "offer", "{name}");
    }
    let before = market.core.book.contracts[&no].in_force.unwrap();
    let request = by_buyer(&market, &Notice { renewal: renewal(60, "20"), ..notice(&market, no, "renew") });
    assert_eq!(Market::code(market.say(Interface::OrderChange, &request)), "accepted");
    let after = market.core.book.contracts[&no].in_force.unwrap();
    assert_eq!(after.service_end - before.service_end, 60_000_000_000);
    assert_eq!(after.value.amount.to_string(), "20.00");
    market.pass(79 * SECOND);
    assert_eq!((market.state(no), market.withdrawn.len()), ("serving", 0));
    market.pass(SECOND);
    assert_eq!(market.withdrawn, [no], "it ends at the new end");
    let late = by_buyer(&market, &Notice { renewal: renewal(60, "30"), ..notice(&market, no, "renew") });
    assert_eq!(Market::code(market.say(Interface::OrderChange, &late)), "offer", "after the end");
    replays(&market);
}

#[test]
fn service_ends_before_the_ceiling_and_a_bill_never_exceeds_it() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let (offer, hash) = market.browse(1);
    // One window of 5 s of one core is 0.0005 CNY.
    for (ceiling, code) in [("0", "accepted"), ("0.05", "accepted")] {
        let value = ContractValue { payment: Payment::Postpaid, amount: ceiling.parse().unwrap() };
        let request = market.order_request(&offer, hash, 600, |s| s.contract_value = Some(value));
        let answer = market.say(Interface::SendOrder, &request);
        if ceiling == "0" {
            let least = rate_quantities(&offer.tariff, &[(Resource::used(Kind::Cpu), 5_000_000_000)]).unwrap().total;
            assert_eq!(least, Money(0), "less than a fen is cut: such a ceiling binds nobody");
            assert_eq!(Market::code(answer), code);
            market = Market::open();
            market.event(Event::Linked);
            market.browse(1);
            continue;
        }
        assert_eq!(Market::code(answer), code, "{ceiling}");
    }
    let no = offer.contract_no;
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    market.pass(5 * SECOND);
    market.window(vec![market.draft(no, Reason::Continue, 150_000_000_000)]);
    assert!(market.withdrawn.is_empty(), "0.015 used, 0.015 more twice over is below 0.05");
    market.pass(5 * SECOND);
    market.window(vec![market.draft(no, Reason::Continue, 350_000_000_000)]);
    assert_eq!(market.withdrawn, [no], "0.035 used, and 0.04 more might follow");
    last_read(&mut market, no, 900_000_000_000);
    assert_eq!(market.state(no), "billed");
    let bill = &market.core.book.contracts[&no].bills[0].bill;
    assert_eq!((bill.total.to_string(), bill.over_ceiling), ("0.05".to_owned(), Some(Money(-4_000_000))));
    let acts = market.entries().into_iter().filter(|(kind, _)| *kind == EntryKind::OrderStatus);
    let acts: Vec<String> = acts.map(|(_, body)| decode::<OrderStatus>(&body, "OrderStatus").unwrap().act).collect();
    assert_eq!(acts, ["exhaust"]);
    replays(&market);
}

#[test]
fn a_disputed_bill_is_lowered_by_corrections_and_paid_as_corrected() {
    let (mut market, no) = billed();
    assert_eq!(take_off(&mut market, no, "0.05"), "state", "nothing is in dispute");
    let without = by_buyer(&market, &notice(&market, no, "dispute"));
    assert_eq!(Market::code(market.say(Interface::OrderChange, &without)), "malformed", "a dispute names its bill");
    assert_eq!(dispute(&mut market, no), "accepted");
    let pays = paid(&market, no, "0.20");
    market.say(Interface::PaymentConfirm, &Answer::Ok(pays.clone()));
    assert_eq!(market.state(no), "disputed", "what is in dispute is not paid");
    for (amount, code) in [("0.21", "amount"), ("0.005", "amount"), ("0.05", "accepted"), ("0.05", "state")] {
        assert_eq!(take_off(&mut market, no, amount), code, "{amount}");
    }
    market.pass(SECOND);
    assert_eq!(dispute(&mut market, no), "accepted");
    assert_eq!(take_off(&mut market, no, "0.10"), "accepted");
    let due = market.core.book.contracts[&no].bills[0].due.clone();
    assert_eq!((due.count, due.total.to_string().as_str()), (2, "0.05"));
    market.say(Interface::PaymentConfirm, &Answer::Ok(pays));
    assert_eq!(market.state(no), "billed", "the old amount pays nothing");
    let pays = paid(&market, no, "0.05");
    market.say(Interface::PaymentConfirm, &Answer::Ok(pays));
    assert_eq!(market.state(no), "paid");
    replays(&market);
}

#[test]
fn a_child_is_paid_on_the_level_that_its_buyer_signed() {
    let of = |payable| Some(ParentOrder { parent_no: Octets([5; 16]), payable, children: 2 });
    for (parent, named, want) in [
        (None, None, "paid"),
        (None, Some("ab"), "billed"),
        (of(Payable::Child), None, "paid"),
        (of(Payable::Child), Some("ab"), "billed"),
        (of(Payable::Parent), Some("ab"), "paid"),
        (of(Payable::Parent), None, "billed"),
        (of(Payable::Parent), Some("AB"), "billed"),
    ] {
        let (mut market, no) = billed_child(parent);
        let parent_bill = named.map(|pair| pair.repeat(32));
        let pays = PaymentState { parent_bill, ..paid(&market, no, "0.20") };
        market.say(Interface::PaymentConfirm, &Answer::Ok(pays));
        assert_eq!(market.state(no), want, "{parent:?} {named:?}");
        replays(&market);
    }
}

#[test]
fn what_was_paid_above_a_corrected_bill_goes_back() {
    let (mut market, no) = billed();
    let pays = paid(&market, no, "0.20");
    market.say(Interface::PaymentConfirm, &Answer::Ok(pays));
    market.pass(60 * SECOND);
    assert_eq!(dispute(&mut market, no), "accepted");
    assert_eq!(take_off(&mut market, no, "0.15"), "accepted");
    assert_eq!(market.state(no), "refunding");
    market.receipt(Log::Finance);
    market.published.clear();
    market.pass(60 * SECOND);
    assert!(!market.published.is_empty(), "the platform is asked again");
    let refund = |market: &Market, amount: &str| PaymentState {
        state: "refunded".to_owned(),
        refunded_cny: Some(amount.to_owned()),
        refunded_at: Some(rfc3339(market.now().real_ns)),
        ..paid(market, no, "0.20")
    };
    let wrong = refund(&market, "0.05");
    market.say(Interface::PaymentConfirm, &Answer::Ok(wrong));
    assert_eq!(market.state(no), "refunding");
    let right = refund(&market, "0.15");
    market.say(Interface::PaymentConfirm, &Answer::Ok(right.clone()));
    assert_eq!(market.state(no), "refunded");
    let size = market.ledger.size(Log::Finance);
    market.say(Interface::PaymentConfirm, &Answer::Ok(right));
    assert_eq!(market.ledger.size(Log::Finance), size, "once");
    market.pass(30 * 86_400 * SECOND);
    assert_eq!(market.state(no), "closed");
    replays(&market);
}

#[test]
fn a_bill_the_platform_refuses_is_contested_and_can_be_corrected() {
    let (mut market, no) = serving(20);
    market.pass(20 * SECOND);
    last_read(&mut market, no, 2_000_000_000_000);
    market.refuse(no);
    assert_eq!(market.state(no), "disputed");
    assert!(market.core.book.contracts[&no].bills[0].refused);
    assert_eq!(take_off(&mut market, no, "0.10"), "accepted");
    assert!(!market.core.book.contracts[&no].bills[0].refused);
    replays(&market);
}

#[test]
fn after_a_start_the_workloads_that_may_run_are_known() {
    let (mut market, no) = serving(20);
    market.pass(20 * SECOND);
    last_read(&mut market, no, 0);
    let root = party(None, "root", 1);
    for (later, want) in [(0, true), (2 * 3600, false)] {
        let mut again = core(&market.platform, &party(Some(&root), "node", 3), &root);
        replay(&mut again, &market.ledger);
        let mut now = market.now();
        now.real_ns += later * 1_000_000_000;
        again.find_places(now);
        let effects = again.due(now, QUALITY).unwrap();
        let removes = effects.iter().any(|e| matches!(e, crate::node::Effect::Remove(found) if *found == no));
        assert_eq!(removes, want, "{later} s later: the agent may have died before it stopped the workload");
    }
}
