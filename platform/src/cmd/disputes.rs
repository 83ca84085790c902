//! Money after a bill, command by command: what is disputed, corrected, paid, refunded, and what of it is refused. And the
//! platform's own notices. Tests only.
#![allow(clippy::indexing_slicing, reason = "a panic is a failed test")]

use std::path::Path;

use hufu_ledger::Log;
use hufu_trade::{
    correction::{Correction, RefundPaid},
    entry::Payment,
    if2::Answer,
    money::FEN,
    octets::Octets,
    usage::Reason,
};
use serde_json::json;

use super::{
    lists::{List, read},
    notice, pay, refund,
    tests::{billed, named, paying, place},
};
use crate::{
    courier::Courier,
    judge::Code,
    tests::{
        far::{busy, relay},
        judgement::{alarm_codes, states},
        world::{START, Sold, World},
    },
};

fn refunding(dir: &Path, number: &str, amount: &str, reference: &str) -> refund::Args {
    let own = str::to_owned;
    refund::Args { bill_no: own(number), place: place(dir), amount: own(amount), reference: own(reference) }
}

fn said(state: &str, bill: &str) -> (String, Vec<String>) {
    (state.to_owned(), vec![bill.to_owned()])
}

pub(super) async fn dispute(world: &mut World, sold: &Sold) {
    world.now += 1;
    let notice = world.notice(sold, "dispute");
    world.noticed(&notice, |world| &world.buyer);
    world.send_all().await;
}

/// The operator has the money, the node logs it.
async fn settled(world: &mut World, sold: &Sold, amount: &str) {
    let number = world.due.clone().expect("a bill").number;
    pay::settle(&paying(world.folder.path(), &number, amount, "t1"), START).await.expect("a payment");
    let confirmed = world.confirm().await;
    assert_eq!((confirmed.0.state.as_str(), confirmed.0.amount_cny.as_deref()), ("paid", Some(amount)));
    world.pay(sold, &confirmed, |_| {});
    world.send_all().await;
}

#[tokio::test]
async fn a_disputed_bill_is_corrected_and_the_lower_amount_is_paid() {
    let (mut world, sold, bill) = billed(|_| {}).await;
    let (dir, total) = (world.folder.path().to_owned(), bill.total.to_string());
    dispute(&mut world, &sold).await;
    assert_eq!(states(&world).await, said("disputed", "disputed"));
    assert_eq!(
        named(pay::settle(&paying(&dir, &bill.number, &total, "t1"), START).await),
        (1, "NotPayable".to_owned())
    );
    world.correct(&sold, "0.50", |_| {});
    world.send_all().await;
    assert_eq!(states(&world).await, said("billed", "payable"));
    let due = world.due.clone().expect("a bill").total.to_string();
    let shown = serde_json::to_value(read(List::Bills, &place(&dir)).await.expect("a list")).expect("JSON");
    assert_eq!((&shown[0]["total_cny"], &shown[0]["due_cny"]), (&json!(total), &json!(due)));
    assert_eq!(
        named(pay::settle(&paying(&dir, &bill.number, &total, "t1"), START).await),
        (1, "WrongAmount".to_owned())
    );
    pay::settle(&paying(&dir, &bill.number, &due, "t1"), START).await.expect("a payment");
    let confirmed = world.confirm().await;
    world.pay(&sold, &confirmed, |payment: &mut Payment| payment.amount.0 += 50 * FEN);
    world.send_all().await;
    assert_eq!(alarm_codes(&world).await, ["signature"], "the platform confirmed another amount");
    assert_eq!(states(&world).await, said("billed", "paid"), "the node has yet to log it");
    world.pay(&sold, &confirmed, |_| {});
    world.send_all().await;
    assert_eq!(states(&world).await, said("paid", "paid"));
}

#[tokio::test]
async fn what_was_recorded_before_a_correction_gives_way_to_what_is_due() {
    let (mut world, sold, bill) = billed(|_| {}).await;
    let (dir, total) = (world.folder.path().to_owned(), bill.total.to_string());
    pay::settle(&paying(&dir, &bill.number, &total, "t1"), START).await.expect("a payment");
    let early = world.confirm().await;
    dispute(&mut world, &sold).await;
    world.correct(&sold, "0.50", |_| {});
    world.pay(&sold, &early, |_| {});
    world.send_all().await;
    assert_eq!((alarm_codes(&world).await, states(&world).await.0.as_str()), (vec!["amount".to_owned()], "billed"));
    let back = refunding(&dir, &bill.number, "0.50", "r1");
    assert_eq!(named(refund::settle(&back, START).await), (1, "NotRefundable".to_owned()), "the node never logged it");
    let due = world.due.clone().expect("a bill").total.to_string();
    settled(&mut world, &sold, &due).await;
    assert_eq!(states(&world).await, said("paid", "paid"));
    let other = paying(&dir, &bill.number, &due, "t2");
    assert_eq!(named(pay::settle(&other, START).await), (1, "PaidOtherwise".to_owned()));
}

#[tokio::test]
async fn what_was_paid_above_a_corrected_bill_goes_back() {
    let (mut world, sold, bill) = billed(|_| {}).await;
    let (dir, number, total) = (world.folder.path().to_owned(), bill.number.clone(), bill.total.to_string());
    let back = |amount: &str, reference: &str| refunding(&dir, &number, amount, reference);
    assert_eq!(named(refund::settle(&back("0.50", "r1"), START).await), (1, "NotPaid".to_owned()));
    settled(&mut world, &sold, &total).await;
    dispute(&mut world, &sold).await;
    assert_eq!(states(&world).await, said("reopened", "disputed"));
    assert_eq!(named(refund::settle(&back("0.50", "r1"), START).await), (1, "NothingOver".to_owned()));
    world.correct(&sold, "0.50", |_| {});
    world.send_all().await;
    assert_eq!(states(&world).await, said("refunding", "paid"));
    let confirmed = world.confirm().await;
    assert_eq!(confirmed.0.state, "paid", "nothing has gone back yet");
    let due = world.due.clone().expect("a bill").total.to_string();
    let lower = pay::settle(&paying(&dir, &number, &due, "t2"), START).await;
    assert_eq!(named(lower), (1, "PaidOtherwise".to_owned()), "what the node logged stays");
    for (name, args, want) in [
        ("too much", back("0.51", "r1"), (1, "WrongRefund")),
        ("nothing", back("0", "r1"), (1, "WrongRefund")),
        ("no number", back("half", "r1"), (2, "NotMoney")),
        ("no reference", back("0.50", " "), (2, "Usage")),
        ("another bill", refunding(&dir, "ab-1", "0.50", "r1"), (1, "UnknownBill")),
    ] {
        let (exit, text) = named(refund::settle(&args, START).await);
        assert_eq!((exit, text.as_str()), want, "{name}");
    }
    let first = refund::settle(&back("0.50", "r1"), START).await.expect("a refund");
    assert_eq!(refund::settle(&back("0.5", "r1"), START + 1).await.expect("the same refund"), first);
    assert_eq!(named(refund::settle(&back("0.50", "r2"), START).await), (1, "RefundedOtherwise".to_owned()));
    let refunded = world.confirm().await;
    let said_of = |text: &Option<String>| text.clone().unwrap_or_default();
    assert_eq!(
        (refunded.0.state.as_str(), said_of(&refunded.0.amount_cny), said_of(&refunded.0.refunded_cny)),
        ("refunded", total, "0.50".to_owned())
    );
    world.refund(&sold, &confirmed, |refund: &mut RefundPaid| refund.amount.0 = 50 * FEN);
    world.refund(&sold, &refunded, |refund| refund.amount.0 -= FEN);
    world.refund(&sold, &refunded, |refund| refund.correction = refund.bill);
    world.refund(&sold, &refunded, |refund| refund.rests_on.hash = refund.bill);
    world.refund(&sold, &refunded, |refund| refund.version = 2);
    record_back(&world, "0.40").await;
    world.now += 1;
    let less = world.confirm().await;
    world.refund(&sold, &less, |_| {});
    world.send_all().await;
    assert_eq!(alarm_codes(&world).await, ["amount", "malformed", "unknown", "unknown", "signature", "signature"]);
    record_back(&world, "0.50").await;
    assert_eq!(states(&world).await.0, "refunding");
    world.refund(&sold, &refunded, |_| {});
    world.send_all().await;
    assert_eq!(states(&world).await, said("refunded", "refunded"));
}

/// The same refund with another amount, behind the commands' back.
async fn record_back(world: &World, amount: &str) {
    let mut tx = world.store.write().await.expect("a transaction");
    sqlx::query("UPDATE refunds SET amount = $1").bind(amount).execute(&mut *tx).await.expect("a statement");
    tx.commit().await.expect("a commit");
}

/// What the operator recorded is gone, as in a database that was restored from a backup.
async fn forget(world: &World, delete: &'static str) {
    let mut tx = world.store.write().await.expect("a transaction");
    sqlx::query(delete).execute(&mut *tx).await.expect("a statement");
    tx.commit().await.expect("a commit");
}

#[tokio::test]
async fn a_platform_that_lost_its_records_believes_what_it_signed() {
    let (mut world, sold, bill) = billed(|_| {}).await;
    let (dir, number, total) = (world.folder.path().to_owned(), bill.number.clone(), bill.total.to_string());
    pay::settle(&paying(&dir, &number, &total, "t1"), START).await.expect("a payment");
    let confirmed = world.confirm().await;
    forget(&world, "DELETE FROM payments").await;
    world.now += 1;
    assert_eq!(world.confirm().await.0.state, "unpaid");
    world.pay(&sold, &confirmed, |payment| payment.amount.0 += 50 * FEN);
    world.send_all().await;
    assert_eq!(alarm_codes(&world).await, ["unknown"], "it never signed that amount");
    world.pay(&sold, &confirmed, |_| {});
    world.send_all().await;
    assert_eq!(states(&world).await, said("paid", "paid"));
    world.now += 1;
    assert_eq!(world.confirm().await.0.amount_cny, Some(total));
    dispute(&mut world, &sold).await;
    world.correct(&sold, "0.50", |_| {});
    world.send_all().await;
    refund::settle(&refunding(&dir, &number, "0.50", "r1"), START).await.expect("a refund");
    world.now += 1;
    let refunded = world.confirm().await;
    forget(&world, "DELETE FROM refunds").await;
    world.refund(&sold, &refunded, |_| {});
    world.send_all().await;
    assert_eq!(states(&world).await, said("refunded", "refunded"));
    world.now += 1;
    assert_eq!(world.confirm().await.0.refunded_cny.as_deref(), Some("0.50"));
}

#[tokio::test]
async fn a_wrong_correction_is_refused_and_the_dispute_goes_on() {
    let (mut world, sold, _) = billed(|_| {}).await;
    dispute(&mut world, &sold).await;
    type Change = fn(&mut Correction);
    let table: [(&str, &str, Change, &str); 9] = [
        ("it raises", "-0.50", |_| {}, "amount"),
        ("nothing", "0", |_| {}, "amount"),
        ("below zero", "100", |_| {}, "amount"),
        ("another sum", "0.50", |c| c.total.0 += FEN, "amount"),
        ("from another amount", "0.50", |c| c.before.0 += FEN, "amount"),
        ("another number", "0.50", |c| c.number.push('0'), "state"),
        ("after another one", "0.50", |c| c.previous = Some(c.bill), "state"),
        ("another bill", "0.50", |c| c.bill = Octets([1; 32]), "unknown"),
        ("it rests on nothing", "0.50", |c| c.rests_on.hash = c.bill, "unknown"),
    ];
    for (name, less, change, code) in table {
        let (due, before) = (world.due.clone(), alarm_codes(&world).await.len());
        world.correct(&sold, less, change);
        world.due = due;
        world.send_all().await;
        let codes = alarm_codes(&world).await;
        assert_eq!((codes.len(), codes[0].as_str()), (before + 1, code), "{name}");
        assert_eq!(states(&world).await, said("disputed", "disputed"), "{name}");
    }
    world.correct(&sold, "0.50", |_| {});
    world.send_all().await;
    assert_eq!(states(&world).await, said("billed", "payable"));
}

#[tokio::test]
async fn a_refused_bill_is_paid_once_it_is_corrected_far_enough() {
    let (mut world, sold, bill) = billed(|bill| bill.total.0 += 2 * FEN).await;
    assert_eq!(states(&world).await, said("billed", "refused"));
    world.status(&sold, ["contest", "billed", "disputed"]);
    world.correct(&sold, "0.01", |_| {});
    world.send_all().await;
    assert_eq!(alarm_codes(&world).await, ["amount", "amount"], "one fen above the records");
    assert_eq!(states(&world).await, said("billed", "refused"));
    let args = paying(world.folder.path(), &bill.number, &bill.total.to_string(), "t1");
    assert_eq!(named(pay::settle(&args, START).await), (1, "BillRefused".to_owned()));
    world.status(&sold, ["contest", "billed", "disputed"]);
    world.correct(&sold, "0.01", |_| {});
    world.send_all().await;
    assert_eq!(states(&world).await, said("billed", "payable"), "the second correction follows the first");
    let receipt = world.send(Log::Finance, 0).await.receipt.expect("a receipt");
    assert_eq!((receipt.bills.len(), receipt.refused.len()), (0, 2), "what was refused stays refused in the receipts");
    let due = world.due.clone().expect("a bill").total.to_string();
    settled(&mut world, &sold, &due).await;
    assert_eq!(states(&world).await, said("paid", "paid"));
}

#[tokio::test]
async fn a_bill_under_a_wrong_number_is_not_mended() {
    let (mut world, sold, _) = billed(|bill| bill.number = "ab-1".to_owned()).await;
    world.status(&sold, ["contest", "billed", "disputed"]);
    world.correct(&sold, "1.00", |_| {});
    world.send_all().await;
    assert_eq!(alarm_codes(&world).await, ["amount", "amount"]);
    assert_eq!(states(&world).await, said("billed", "refused"));
}

#[tokio::test]
async fn a_correction_waits_for_the_dispute_and_a_payment_for_the_status_it_rests_on() {
    let (mut world, sold, bill) = billed(|_| {}).await;
    world.now += 1;
    let notice = world.notice(&sold, "dispute");
    world.noticed(&notice, |world| &world.buyer);
    world.correct(&sold, "0.50", |_| {});
    let size = |receipt: Option<hufu_trade::entry::Receipt>| receipt.expect("a receipt").size;
    assert_eq!(size(world.send(Log::Finance, 0).await.receipt), 1, "the dispute is not here yet");
    world.send_all().await;
    assert_eq!(states(&world).await, said("billed", "payable"));

    let due = world.due.clone().expect("a bill").total.to_string();
    pay::settle(&paying(world.folder.path(), &bill.number, &due, "t1"), START).await.expect("a payment");
    let confirmed = world.confirm().await;
    world.status(&sold, ["overdue", "billed", "overdue"]);
    world.pay(&sold, &confirmed, |_| {});
    assert_eq!(size(world.send(Log::Finance, 0).await.receipt), 2, "the payment would be judged before its status");
    world.send_all().await;
    assert_eq!(states(&world).await, said("paid", "paid"));
    assert_eq!(alarm_codes(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_dispute_waits_for_its_bill() {
    let mut world = World::open().await;
    let sold = world.sell();
    world.links = false;
    world.bill(&sold, |_| {});
    let notice = world.notice(&sold, "dispute");
    world.noticed(&notice, |world| &world.buyer);
    let size = world.ledger.size(Log::Trade);
    assert_eq!(world.send(Log::Trade, 0).await.receipt.map(|receipt| receipt.size), Some(size - 1));
    world.send_all().await;
    assert_eq!(states(&world).await, said("disputed", "disputed"));
}

#[tokio::test]
async fn the_platform_upholds_a_disputed_bill() {
    let (mut world, sold, bill) = billed(|_| {}).await;
    dispute(&mut world, &sold).await;
    let args = noticing(&world, &sold.no.to_string(), "uphold", "it is right", Some(&bill.number));
    let kept = notice::keep(&args, world.now).await.expect("a notice");
    world.noticed(&kept, |world| &world.platform);
    world.send_all().await;
    assert_eq!(states(&world).await, said("billed", "payable"));
}

fn noticing(world: &World, contract: &str, act: &str, why: &str, bill: Option<&str>) -> notice::Args {
    let own = str::to_owned;
    let place = place(world.folder.path());
    notice::Args { contract_no: own(contract), act: own(act), place, why: own(why), bill: bill.map(own) }
}

#[tokio::test]
async fn a_notice_of_the_platform_is_kept_until_its_node_answers() {
    let mut world = World::open().await;
    let mut sold = world.deal();
    world.meter(&mut sold, Reason::Begin);
    world.send_all().await;
    let no = sold.no.to_string();
    let keep = async |act: &str, why: &str, bill: Option<&str>, contract: &str| {
        notice::keep(&noticing(&world, contract, act, why, bill), START).await
    };
    let long = "w".repeat(401);
    for (name, act, why, bill, contract, want) in [
        ("another state's act", "uphold", "w", None, no.as_str(), (1, "NoSuchAct")),
        ("the buyer's act", "suspend", "w", None, &no, (1, "NoSuchAct")),
        ("the node's act", "expire", "w", None, &no, (1, "NoSuchAct")),
        ("no such bill", "revoke", "w", Some("ab-1"), &no, (1, "UnknownBill")),
        ("a long reason", "revoke", &long, None, &no, (2, "Usage")),
        ("no contract", "revoke", "w", None, "00000000000000000000000000000000", (1, "UnknownContract")),
        ("no number", "revoke", "w", None, "ab", (2, "Usage")),
    ] {
        let (exit, text) = named(keep(act, why, bill, contract).await);
        assert_eq!((exit, text.as_str()), want, "{name}");
    }
    let kept = keep("revoke", "not paid", None, &no).await.expect("a notice");
    assert_eq!(keep("revoke", "again", None, &no).await.expect("the same notice"), kept);
    let answers = async || {
        let rows = read(List::Notices, &place(world.folder.path())).await.expect("a list");
        serde_json::to_value(rows).expect("JSON")[0]["answer"].clone()
    };
    let round = async |answer| {
        let relay = relay(&world, || START, answer);
        let courier = Courier { store: world.store.clone(), identity: world.identity.clone(), relay, worker: None };
        courier.round().await.expect("a round");
    };
    round(busy()).await;
    assert_eq!(answers().await, "waiting", "a busy node is asked again");
    round(Answer::Ok(json!({ "contract_no": no, "height": 9, "index": 0 }))).await;
    assert_eq!(answers().await, "accepted");
    // Nothing is sent twice.
    round(Answer::Error(Code::State.problem(None, "too late"))).await;
    assert_eq!(answers().await, "accepted");
}
