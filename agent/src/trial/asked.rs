//! Questions of the platform about an order, at every moment of its life. The small world is `market.rs`.

use hufu_trade::{
    entry::EntryKind,
    if2::{Answer, BillList, BillQuery, Interface, PaymentState, RefundAmount, RefundState},
    octets::{ContractNo, rfc3339},
    usage::Reason,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    change::{ask, billed, dispute, paid, take_off},
    market::{Market, QUALITY, SECOND},
    period::every,
    prepaid,
};
use crate::node::Event;

/// The answer, or the code of the refusal; a question leaves no entry.
#[allow(clippy::panic_in_result_fn, reason = "a panic is a failed test")]
fn put<Q: Serialize, A: DeserializeOwned>(market: &mut Market, interface: Interface, body: &Q) -> Result<A, String> {
    let before = market.appended.len();
    let said = market.say(interface, body).expect("an answer");
    assert_eq!(market.appended.len(), before, "a question leaves no entry");
    match serde_json::from_value::<Answer<Value>>(said).unwrap() {
        Answer::Ok(found) => Ok(serde_json::from_value(found).unwrap()),
        Answer::Error(problem) => Err(problem.code),
    }
}

fn refund_at(market: &mut Market, no: ContractNo, at: Option<i64>) -> Result<RefundState, String> {
    put(market, Interface::RefundAmount, &RefundAmount { contract_no: no.to_string(), at: at.map(rfc3339) })
}

/// Paid, charged, to go back, gone back, and whether that is final.
fn amounts(found: &RefundState) -> [&str; 5] {
    let is_final = if found.is_final { "final" } else { "estimate" };
    [&found.paid_cny, &found.charged_cny, &found.refund_cny, &found.refunded_cny, is_final]
}

#[test]
fn what_goes_back_of_a_prepaid_order_is_told_before_it_ends_and_stands_after() {
    let (mut market, no) = prepaid::serving(&every("hour"));
    let start = market.core.book.contracts[&no].deal.as_ref().unwrap().1.contract_time;
    let at = |second: i64| Some(start + second * 1_000_000_000);
    market.elapsed_ns = 600 * SECOND;
    for (time, want) in [
        (None, ["0.36", "0.06", "0.30", "0.00", "estimate"]),
        (at(0), ["0.36", "0.00", "0.36", "0.00", "estimate"]),
        (at(1800), ["0.36", "0.18", "0.18", "0.00", "estimate"]),
        (at(3600), ["0.36", "0.36", "0.00", "0.00", "estimate"]),
    ] {
        let found = refund_at(&mut market, no, time).unwrap();
        assert_eq!(amounts(&found), want, "{time:?}");
        assert_eq!((found.payment.as_str(), found.state.as_str()), ("prepaid", "serving"));
    }
    for outside in [at(-1), at(3601)] {
        assert_eq!(refund_at(&mut market, no, outside).unwrap_err(), "offer");
    }
    assert_eq!(ask(&mut market, no, "terminate"), "accepted");
    let draft = prepaid::held(&market, no, Reason::End);
    market.event(Event::Final { contract: no, drafts: vec![draft], quality: QUALITY });
    let found = refund_at(&mut market, no, None).unwrap();
    assert_eq!(amounts(&found), ["0.36", "0.06", "0.30", "0.00", "final"], "what was told is what the bill says");
    prepaid::pay(&mut market, no, Some("0.30"));
    let found = refund_at(&mut market, no, None).unwrap();
    assert_eq!(amounts(&found), ["0.36", "0.06", "0.30", "0.30", "final"]);
}

#[test]
fn what_goes_back_of_a_postpaid_order_is_what_corrections_took_off() {
    let (mut market, no) = billed();
    let told = |market: &mut Market| refund_at(market, no, None).unwrap();
    assert_eq!(amounts(&told(&mut market)), ["0.00", "0.00", "0.00", "0.00", "final"], "nothing is paid");
    let pays = paid(&market, no, "0.20");
    market.say(Interface::PaymentConfirm, &Answer::Ok(pays));
    assert_eq!(amounts(&told(&mut market)), ["0.20", "0.20", "0.00", "0.00", "final"]);
    market.pass(60 * SECOND);
    assert_eq!(dispute(&mut market, no), "accepted");
    assert_eq!(take_off(&mut market, no, "0.15"), "accepted");
    assert_eq!(amounts(&told(&mut market)), ["0.20", "0.05", "0.15", "0.00", "final"]);
    market.receipt(hufu_ledger::Log::Finance);
    let back = PaymentState {
        state: "refunded".to_owned(),
        refunded_cny: Some("0.15".to_owned()),
        refunded_at: Some(rfc3339(market.now().real_ns)),
        ..paid(&market, no, "0.20")
    };
    market.say(Interface::PaymentConfirm, &Answer::Ok(back));
    assert_eq!(amounts(&told(&mut market)), ["0.20", "0.05", "0.15", "0.15", "final"]);
}

#[test]
fn the_bills_of_a_contract_are_told_with_their_entries() {
    let (mut market, no) = billed();
    let query = |after: Option<&str>| BillQuery { contract_no: no.to_string(), after: after.map(str::to_owned) };
    let found: BillList = put(&mut market, Interface::BillQuery, &query(None)).unwrap();
    let [bill] = &found.bills[..] else { panic!("{found:?}") };
    assert_eq!(
        (bill.state.as_str(), bill.total_cny.as_str(), bill.is_receipted, found.more),
        ("payable", "0.20", true, false)
    );
    let entry = hufu_ledger::Entry::from_bytes(&bill.entry.0).unwrap();
    assert_eq!(entry.kind, EntryKind::Bill.number());
    let held = &market.core.book.contracts[&no].bills[0];
    assert_eq!(hufu_ledger::entry_hash(&bill.entry.0), held.name.hash.0, "the very entry of the log");
    let number = bill.bill_no.clone();
    let found: BillList = put(&mut market, Interface::BillQuery, &query(Some(&number))).unwrap();
    assert!(found.bills.is_empty() && !found.more);
    assert_eq!(put::<_, BillList>(&mut market, Interface::BillQuery, &query(Some("x"))).unwrap_err(), "unknown");
    assert_eq!(dispute(&mut market, no), "accepted");
    let found: BillList = put(&mut market, Interface::BillQuery, &query(None)).unwrap();
    assert_eq!(found.bills[0].state, "disputed");
}

#[test]
fn a_question_about_what_is_not_here_is_refused_with_its_code() {
    let mut market = Market::open();
    let (offer, _) = market.browse(1);
    let (no, other) = (offer.contract_no.to_string(), "00".repeat(16));
    for (contract_no, code) in [(no.as_str(), "state"), (other.as_str(), "unknown"), ("7", "malformed")] {
        let body = json!({ "contract_no": contract_no });
        assert_eq!(put::<_, Value>(&mut market, Interface::RefundAmount, &body).unwrap_err(), code);
    }
    for (contract_no, code) in [(other.as_str(), "unknown"), ("", "malformed")] {
        let body = json!({ "contract_no": contract_no });
        assert_eq!(put::<_, Value>(&mut market, Interface::BillQuery, &body).unwrap_err(), code);
    }
    // What is not a question of this interface at all is an alarm and no answer.
    assert!(market.say(Interface::RefundAmount, &json!({ "contract": no })).is_none());
}
