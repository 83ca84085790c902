//! Contracts that are billed while service runs: one bill a period, after an outage one for each, paid in any order, late or
//! never; and that the text of the table alone says how often. The small world is `market.rs`.

use hufu_ledger::Log;
use hufu_trade::{
    decode,
    entry::{EntryKind, OrderStatus},
    if2::{Answer, Interface, PaymentState},
    octets::{ContractNo, rfc3339},
    rules::DEFAULT,
    statement::ContractValue,
    usage::Reason,
};

use super::{
    change::{ask, last_read, notice, replays},
    market::{Market, SECOND},
};
use crate::node::Event;

const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

pub(super) fn every(period: &str) -> String {
    assert!(DEFAULT.contains("billing_period = \"month\""));
    DEFAULT.replace("billing_period = \"month\"", &format!("billing_period = {period:?}"))
}

/// An order of 50 minutes; an hour of the calendar ends 2800 s after the start, the next at 6400 s.
fn serving(rules: &str) -> (Market, ContractNo) {
    let mut market = Market::under(rules);
    market.event(Event::Linked);
    let (no, _) = market.deal(1, 3600);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    (market, no)
}

/// Time passes to so many seconds after the start, and a window with this total closes.
fn window(market: &mut Market, no: ContractNo, second: u64, core_seconds: u128) {
    market.elapsed_ns = second * SECOND;
    let draft = market.draft(no, Reason::Continue, core_seconds * 1_000_000_000);
    market.window(vec![draft]);
}

fn totals(market: &Market, no: ContractNo) -> Vec<(u64, u64, String)> {
    let bills = market.core.book.contracts[&no].bills.iter();
    bills.map(|b| (b.bill.first_seq, b.bill.last_seq, b.bill.total.to_string())).collect()
}

/// The platform says that the bill of an index was paid.
fn pay(market: &mut Market, no: ContractNo, index: usize) {
    let bill = market.core.book.contracts[&no].bills[index].due.clone();
    let (amount_cny, paid_at) = (Some(bill.total.to_string()), Some(rfc3339(market.now().real_ns)));
    let state =
        PaymentState { bill_no: bill.number, state: "paid".to_owned(), amount_cny, paid_at, ..PaymentState::default() };
    market.say(Interface::PaymentConfirm, &Answer::Ok(state));
}

fn renew(market: &mut Market, no: ContractNo, ceiling: &str) -> String {
    let in_force = market.core.book.contracts[&no].in_force.unwrap();
    let contract_value = ContractValue { amount: ceiling.parse().unwrap(), ..in_force.value };
    let renewal = Some(hufu_trade::notice::Renewal { term_ns: HOUR, contract_value });
    let notice = hufu_trade::notice::Notice { renewal, ..notice(market, no, "renew") };
    let request = super::change::by_buyer(market, &notice);
    Market::code(market.say(Interface::OrderChange, &request))
}

/// Two hours, each billed, of a contract that is renewed to go on.
fn twice() -> (Market, ContractNo) {
    let (mut market, no) = serving(&every("hour"));
    window(&mut market, no, 1000, 200);
    for _ in 0..3 {
        assert_eq!(renew(&mut market, no, "10"), "accepted");
        market.elapsed_ns += SECOND;
    }
    window(&mut market, no, 2795, 300);
    assert_eq!(market.state(no), "serving", "the hour is not over");
    window(&mut market, no, 2805, 400);
    assert_eq!(market.state(no), "serving_due");
    window(&mut market, no, 6400, 900);
    assert_eq!(
        totals(&market, no),
        [(0, 1, "0.03".to_owned()), (2, 3, "0.06".to_owned())],
        "what spans goes into the next"
    );
    (market, no)
}

/// Three bills, paid in another order than they were made.
pub(super) fn three_bills() -> Market {
    let (mut market, no) = twice();
    pay(&mut market, no, 1);
    market.elapsed_ns = 7000 * SECOND;
    assert_eq!(ask(&mut market, no, "suspend"), "accepted");
    last_read(&mut market, no, 1_000_000_000_000);
    market.pass(600 * SECOND);
    assert_eq!(ask(&mut market, no, "terminate"), "accepted");
    assert_eq!((market.state(no), totals(&market, no).len()), ("billed", 3));
    pay(&mut market, no, 2);
    assert_eq!(market.state(no), "billed");
    pay(&mut market, no, 0);
    assert_eq!(market.state(no), "paid");
    market
}

#[test]
fn each_period_has_a_bill_and_what_spans_its_end_goes_into_the_next() {
    let (mut market, no) = twice();
    let bills = &market.core.book.contracts[&no].bills;
    assert_eq!(bills[1].bill.previous_bill, Some(bills[0].name.hash));
    assert!(bills.iter().all(|billed| billed.bill.rests_on.is_some() && billed.linked));
    pay(&mut market, no, 1);
    assert_eq!(market.state(no), "serving_due", "the older one is open");
    pay(&mut market, no, 0);
    assert_eq!(market.state(no), "serving");
    market.elapsed_ns = 7000 * SECOND;
    assert_eq!(ask(&mut market, no, "terminate"), "accepted");
    last_read(&mut market, no, 1_000_000_000_000);
    assert_eq!(market.state(no), "billed");
    assert_eq!(totals(&market, no)[2], (4, 4, "0.01".to_owned()));
    pay(&mut market, no, 2);
    assert_eq!(market.state(no), "paid");
    replays(&market);
}

#[test]
fn after_an_outage_there_is_one_bill_for_each_period_that_has_records() {
    let (mut market, no) = serving(&every("hour"));
    window(&mut market, no, 1000, 100);
    window(&mut market, no, 2800, 200);
    assert_eq!(totals(&market, no).len(), 1, "a window that closes at the boundary ends it");
    for _ in 0..8 {
        renew(&mut market, no, "10");
        market.elapsed_ns += SECOND;
    }
    // Windows of two hours come at once, as from a meter that was held up; between them lies an hour without any.
    market.elapsed_ns = 20_000 * SECOND;
    let at = |market: &Market, second: i64, total: u128| {
        let mut draft = market.draft(no, Reason::Continue, total * 1_000_000_000);
        draft.end_real_ns = super::market::START_NS + second * 1_000_000_000;
        draft
    };
    let drafts =
        [(3000, 300), (6000, 400), (13_000, 500), (20_000, 600)].map(|(second, total)| at(&market, second, total));
    market.window(drafts.to_vec());
    let seqs: Vec<_> = totals(&market, no).into_iter().map(|(first, last, _)| (first, last)).collect();
    assert_eq!(seqs, [(0, 1), (2, 3), (4, 4)]);
    assert_eq!(market.state(no), "serving_due");
    replays(&market);
}

#[test]
fn who_does_not_pay_is_barred_and_who_pays_is_served_again() {
    replays(&barred_and_paid());
}

/// Barred with a bill open, paid, served again.
pub(super) fn barred_and_paid() -> Market {
    let rules = every("hour").replace("1296000", "3600");
    let (mut market, no) = serving(&rules);
    for _ in 0..4 {
        renew(&mut market, no, "10");
        market.elapsed_ns += SECOND;
    }
    window(&mut market, no, 2800, 200);
    // Neither a suspension nor a resumption gives more time.
    market.pass(600 * SECOND);
    assert_eq!(ask(&mut market, no, "suspend"), "accepted");
    last_read(&mut market, no, 250_000_000_000);
    assert_eq!(market.state(no), "suspended_due");
    market.pass(600 * SECOND);
    assert_eq!(ask(&mut market, no, "resume"), "accepted");
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    assert_eq!(market.state(no), "serving_due");
    let withdrawn = market.withdrawn.len();
    market.elapsed_ns = 6399 * SECOND;
    market.settle();
    assert_eq!(market.withdrawn.len(), withdrawn, "a second is left");
    market.pass(SECOND);
    assert_eq!((market.state(no), market.withdrawn.len()), ("barring", withdrawn + 1), "the final read comes first");
    last_read(&mut market, no, 10_000_000_000);
    assert_eq!((market.state(no), market.workloads.last()), ("barred", Some(&("pause", no))));
    assert_eq!(market.browse(7).0.stock, 1, "the capacity stays held");
    market.pass(300 * SECOND);
    let provided = market.provided.len();
    pay(&mut market, no, 0);
    // An hour went by meanwhile: what was used in it is billed as soon as service runs again.
    assert_eq!((market.state(no), market.provided.len()), ("serving_due", provided + 1));
    assert_eq!(totals(&market, no).len(), 2);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    window(&mut market, no, 6800, 20);
    let last = market.records(no);
    let reasons: Vec<_> = last.iter().rev().take(2).map(|(_, record)| record.reason).collect();
    assert_eq!(reasons, [Reason::Continue, Reason::Suspended], "being barred is neither metered nor a hole");
    market
}

#[test]
fn who_never_pays_is_expelled_and_billed_for_the_rest() {
    let (mut market, no) = serving(&every("hour").replace("1296000", "600").replace("2592000\nfrom", "1200\nfrom"));
    renew(&mut market, no, "10");
    window(&mut market, no, 2800, 200);
    market.pass(600 * SECOND);
    last_read(&mut market, no, 300_000_000_000);
    assert_eq!(market.state(no), "barred");
    market.pass(599 * SECOND);
    assert_eq!(market.state(no), "barred");
    market.pass(SECOND);
    assert_eq!(market.state(no), "overdue", "its oldest bill is overdue already");
    let acts = market.entries().into_iter().filter(|(kind, _)| *kind == EntryKind::OrderStatus);
    let acts: Vec<String> = acts.map(|(_, body)| decode::<OrderStatus>(&body, "OrderStatus").unwrap().act).collect();
    assert_eq!(acts, ["overdue", "bar", "expel", "overdue"]);
    assert_eq!(totals(&market, no).len(), 2);
    pay(&mut market, no, 0);
    assert_eq!(market.state(no), "overdue");
    pay(&mut market, no, 1);
    assert_eq!(market.state(no), "paid");
    replays(&market);
}

#[test]
fn what_earlier_bills_took_of_the_ceiling_is_gone() {
    let (mut market, no) = serving(&every("hour"));
    let record = |market: &mut Market, second, used| window(market, no, second, used);
    renew(&mut market, no, "10");
    // 10 CNY are 100,000 core-seconds at 0.36 a core-hour.
    record(&mut market, 1000, 30_000);
    record(&mut market, 2800, 60_000);
    assert_eq!(totals(&market, no), [(0, 1, "6.00".to_owned())]);
    record(&mut market, 2900, 70_000);
    assert!(market.withdrawn.is_empty(), "a core-hour worth of 1 and twice that is below the 4 that are left");
    record(&mut market, 3000, 82_000);
    assert_eq!(market.withdrawn, [no], "2.20 used since the bill, and 2.40 more might follow");
    last_read(&mut market, no, 120_000_000_000_000);
    let bills = &market.core.book.contracts[&no].bills;
    assert_eq!((bills[1].bill.total.to_string().as_str(), market.state(no)), ("4.00", "billed"));
    assert!(bills[1].bill.over_ceiling.is_some());
    replays(&market);
}

#[test]
fn all_that_was_billed_while_suspended_leaves_an_empty_last_bill() {
    let (mut market, no) = serving(&every("hour"));
    window(&mut market, no, 1000, 100);
    assert_eq!(ask(&mut market, no, "suspend"), "accepted");
    last_read(&mut market, no, 200_000_000_000);
    market.elapsed_ns = 2800 * SECOND;
    market.settle();
    assert_eq!(
        (market.state(no), totals(&market, no).len()),
        ("suspended_due", 1),
        "nothing runs that could still end before"
    );
    market.elapsed_ns = 3600 * SECOND;
    market.settle();
    assert_eq!(market.state(no), "billed");
    assert_eq!(totals(&market, no)[1], (2, 2, "0.00".to_owned()));
    pay(&mut market, no, 0);
    assert_eq!(market.state(no), "paid", "a bill that asks for nothing is not open");
    replays(&market);
}

#[test]
fn the_text_of_the_table_alone_says_how_often() {
    for (period, bills) in [("hour", 3), ("day", 2), ("month", 1), ("service", 1)] {
        let (mut market, no) = serving(&every(period));
        for _ in 0..2 {
            renew(&mut market, no, "10");
            market.elapsed_ns += SECOND;
        }
        for second in [2000, 2800, 6000, 6400] {
            window(&mut market, no, second, u128::from(second));
        }
        assert_eq!(market.state(no), if bills > 1 { "serving_due" } else { "serving" }, "{period}");
        market.elapsed_ns = 7000 * SECOND;
        assert_eq!(ask(&mut market, no, "terminate"), "accepted");
        last_read(&mut market, no, 8_000_000_000_000);
        assert_eq!(totals(&market, no).len(), bills, "{period}");
    }
}

#[test]
fn a_bill_refused_while_service_runs_is_contested_when_service_has_ended() {
    let (mut market, no) = twice();
    market.refuse(no);
    assert_eq!(market.state(no), "serving_due");
    market.elapsed_ns = 7000 * SECOND;
    assert_eq!(ask(&mut market, no, "terminate"), "accepted");
    last_read(&mut market, no, 1_000_000_000_000);
    assert_eq!(market.state(no), "disputed");
    pay(&mut market, no, 1);
    assert_eq!(market.state(no), "disputed", "what is not in dispute can be paid");
    assert!(market.core.book.contracts[&no].bills[1].paid.is_some());
    replays(&market);
}

#[test]
fn every_open_bill_is_asked_about_and_none_in_dispute_is_paid() {
    let (mut market, no) = twice();
    market.elapsed_ns = 7000 * SECOND;
    assert_eq!(ask(&mut market, no, "terminate"), "accepted");
    last_read(&mut market, no, 1_000_000_000_000);
    market.receipt(Log::Finance);
    market.published.clear();
    market.pass(MINUTE);
    assert_eq!(market.core.asks.len(), 3);
    let first = market.core.book.contracts[&no].bills[0].name.hash;
    let dispute = hufu_trade::notice::Notice { bill: Some(first), ..notice(&market, no, "dispute") };
    let request = super::change::by_buyer(&market, &dispute);
    assert_eq!(Market::code(market.say(Interface::OrderChange, &request)), "accepted");
    pay(&mut market, no, 0);
    pay(&mut market, no, 2);
    let is_paid: Vec<bool> = market.core.book.contracts[&no].bills.iter().map(|b| b.paid.is_some()).collect();
    assert_eq!((is_paid, market.state(no)), (vec![false, false, true], "disputed"));
    market.pass(DAY);
    assert_eq!(ask(&mut market, no, "withdraw"), "accepted");
    for index in 0..2 {
        pay(&mut market, no, index);
    }
    assert_eq!(market.state(no), "paid");
    replays(&market);
}
