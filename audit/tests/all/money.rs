//! Ceilings, corrections, payments and refunds: what a pack says is due, and what it says of amounts that do not follow or that
//! the platform never confirmed.

use hufu_trade::{
    if2::PaymentState,
    money::Money,
    octets::Octets,
    parent::{ParentOrder, Payable},
    statement::Statement,
};

use crate::{
    judge, pack_of, said,
    story::{Cause, check_each},
    synthetic::{By, Plan, Rotated, Step, correct, notice, pay, refund},
};

/// Service as it was ordered, then what happens after the bill.
fn after(after: Vec<Step>) -> Plan {
    Plan { after, ..Plan::default() }
}

fn disputed(next: Vec<Step>) -> Vec<Step> {
    std::iter::once(notice("dispute", By::Buyer)).chain(next).collect()
}

/// Paid, disputed, corrected by a fen.
fn reopened(next: Vec<Step>) -> Vec<Step> {
    let begin = [pay(), notice("dispute", By::Buyer), correct(1)];
    begin.into_iter().chain(next).collect()
}

/// A bill of five fen more than the usage gives, in its rounding line.
fn above(next: Vec<Step>) -> Plan {
    Plan {
        bill: |bill| {
            bill.total.0 += 5_000_000;
            bill.rounding.0 += 5_000_000;
        },
        ..after(next)
    }
}

/// A ceiling of one fen, which five minutes exceed.
fn capped() -> Plan {
    Plan { ceiling: Money(1_000_000), ..Plan::default() }
}

/// Money as it may go.
fn right() -> Vec<Cause> {
    let fine = |name, plan| (name, plan, "pppp", "recomputed");
    // A correction is worth a remark.
    let corrected = |name, plan| (name, plan, "pppw", "are due");
    vec![
        fine("cut at the ceiling", capped()),
        fine("a ceiling that is no whole fen", Plan { ceiling: Money(1_999_999), ..capped() }),
        fine("nothing left of the ceiling", Plan { ceiling: Money(999_999), ..capped() }),
        fine("paid", after(vec![pay()])),
        fine("paid, scored and closed", after(vec![pay(), Step::Score, Step::Status(["close", "scored", "closed"])])),
        fine("scored, then paid", after(vec![Step::Score, pay()])),
        fine("paid after it was overdue", after(vec![Step::Status(["overdue", "billed", "overdue"]), pay()])),
        fine("cut and paid", Plan { after: vec![pay()], ..capped() }),
        fine(
            "paid, disputed, upheld",
            after(vec![pay(), notice("dispute", By::Buyer), notice("uphold", By::Platform)]),
        ),
        corrected("corrected", after(disputed(vec![correct(1)]))),
        corrected("corrected and paid", after(disputed(vec![correct(1), pay()]))),
        corrected(
            "corrected twice",
            after(disputed(vec![correct(1), Step::Wait(1), notice("dispute", By::Buyer), correct(2), pay()])),
        ),
        corrected(
            "corrected, the platform having refused it",
            after(vec![Step::Status(["contest", "billed", "disputed"]), correct(2)]),
        ),
        corrected("a wrong bill put right", above(disputed(vec![correct(5), pay()]))),
        corrected(
            "a wrong bill put right in two steps",
            above(disputed(vec![correct(2), Step::Wait(1), notice("dispute", By::Buyer), correct(3)])),
        ),
        corrected("to be refunded", after(reopened(Vec::new()))),
        corrected("refunded", after(reopened(vec![refund()]))),
        corrected(
            "refunded, scored, closed",
            after(reopened(vec![refund(), Step::Score, Step::Status(["close", "refunded_scored", "closed"])])),
        ),
    ]
}

/// Bills and corrections that do not follow.
fn wrong_amounts() -> Vec<Cause> {
    let wrong = |change| after(disputed(vec![Step::Correct(1, change)]));
    let holds = "the correction does not hold";
    vec![
        (
            "above the ceiling",
            Plan { bill: |bill| bill.total.0 -= bill.over_ceiling.take().map_or(0, |over| over.0), ..capped() },
            "pppf",
            "above the amount",
        ),
        (
            "cut by less than exceeds",
            Plan {
                ceiling: Money(2_000_000),
                bill: |bill| {
                    if let Some(over) = &mut bill.over_ceiling {
                        over.0 -= 1_000_000;
                        bill.total.0 -= 1_000_000;
                    }
                },
                ..Plan::default()
            },
            "pppf",
            "#overCeiling",
        ),
        (
            "another bill put right",
            Plan {
                bill: |bill| {
                    bill.number = bill.number.replace("-1", "-2");
                    (bill.total.0, bill.rounding.0) = (bill.total.0 + 5_000_000, bill.rounding.0 + 5_000_000);
                },
                ..after(disputed(vec![correct(5)]))
            },
            "pppf",
            "#number",
        ),
        ("a wrong bill that nobody corrected", above(Vec::new()), "pppf", "#rounding"),
        ("a wrong bill not lowered enough", above(disputed(vec![correct(1)])), "pppf", "follow from the usage"),
        ("a correction without a dispute", after(vec![correct(1)]), "pfpw", "correct is not allowed in state billed"),
        ("a correction that raises", after(disputed(vec![correct(-1)])), "pppf", "only lowers"),
        ("a correction of nothing", after(disputed(vec![correct(0)])), "pppf", "only lowers"),
        ("a correction without a reason", wrong(|c| c.adjustments.clear()), "pppf", "at least one"),
        (
            "a correction of less than a fen",
            wrong(|c| {
                c.total.0 += 1;
                if let Some(line) = c.adjustments.first_mut() {
                    line.amount.0 += 1;
                }
            }),
            "pppf",
            "whole fen",
        ),
        ("a correction below zero", after(disputed(vec![correct(1_000)])), "pppf", "not below zero"),
        ("a correction of another amount", wrong(|c| c.before.0 += 1_000_000), "pppf", "is due"),
        ("a correction that adds up wrong", wrong(|c| c.total.0 -= 1_000_000), "pppf", holds),
        ("a correction of another number", wrong(|c| c.number.push('1')), "pppf", "-c1 is due"),
        ("a correction of another bill's number", wrong(|c| c.number.insert(0, '0')), "fppf", "names another bill"),
        ("a correction after none", wrong(|c| c.previous = Some(Octets([7; 32]))), "pppf", holds),
        ("a correction of another bill", wrong(|c| c.bill = Octets([7; 32])), "fppp", "names another bill"),
        ("a correction of another node", wrong(|c| c.computing_pool_id.push('0')), "pppf", "computingPoolId"),
        ("a correction that rests on another", wrong(|c| c.rests_on.index += 1), "pfpw", "does not rest on the newest"),
        (
            "a second correction beside the first",
            after(disputed(vec![
                correct(1),
                Step::Wait(1),
                notice("dispute", By::Buyer),
                Step::Correct(1, |c| {
                    c.previous = None;
                }),
            ])),
            "pppf",
            holds,
        ),
    ]
}

/// Payments and refunds of another amount, or that the platform did not confirm.
fn wrong_payments() -> Vec<Cause> {
    let said = |change| after(vec![Step::Pay(By::Platform, change, |_| {})]);
    let paid = |change| after(vec![Step::Pay(By::Platform, |_| {}, change)]);
    let back = |by, state, change| after(reopened(vec![Step::Refund(by, state, change)]));
    let unconfirmed = "the platform does not confirm this";
    vec![
        (
            "paid, says a node's friend",
            after(vec![Step::Pay(By::Stranger, |_| {}, |_| {})]),
            "fppp",
            "does not name site-1/platform",
        ),
        ("paid, says the buyer", after(vec![Step::Pay(By::Buyer, |_| {}, |_| {})]), "fppp", "as buyer and as platform"),
        (
            "paid, with no word of the platform",
            paid(|p| {
                p.confirmation = hufu_trade::entry::octet_string(b"{}", "Payment").unwrap();
            }),
            "fppp",
            unconfirmed,
        ),
        ("unpaid", said(|s| s.state = "unpaid".to_owned()), "fppp", "did not say paid"),
        ("another amount confirmed", said(|s| s.amount_cny = Some("0.01".to_owned())), "fppp", unconfirmed),
        ("no amount confirmed", said(|s| s.amount_cny = None), "fppp", unconfirmed),
        ("an amount in words", said(|s| s.amount_cny = Some("five".to_owned())), "fppp", unconfirmed),
        ("another bill confirmed", said(|s| s.bill_no.push('1')), "fppp", unconfirmed),
        (
            "another time confirmed",
            said(|s| s.paid_at = Some("2026-01-01T00:00:00Z".to_owned())),
            "fppp",
            "another time",
        ),
        ("a refund taken for a payment", said(|s| s.state = "refunded".to_owned()), "fppp", "did not say paid"),
        ("less paid than is due", paid(|p| p.amount.0 -= 1_000_000), "ffpp", "AmountMatches"),
        ("more paid than is due", paid(|p| p.amount.0 += 1_000_000), "ffpp", "AmountMatches"),
        ("payment of another bill", paid(|p| p.bill = Octets([7; 32])), "ffpp", "names another bill"),
        ("payment of another number", paid(|p| p.number.push('1')), "fppp", "names another bill"),
        (
            "payment that rests on another",
            paid(|p| p.rests_on.hash = Octets([7; 32])),
            "pfpp",
            "does not rest on the newest",
        ),
        ("paid twice", after(vec![pay(), Step::Wait(1), pay()]), "pfpp", "pay is not allowed"),
        ("paid while in dispute", after(disputed(vec![pay()])), "pfpp", "pay is not allowed"),
        (
            "the uncorrected amount paid",
            after(disputed(vec![
                correct(1),
                Step::Pay(By::Platform, |s| s.amount_cny = None, |p| p.amount.0 += 1_000_000),
            ])),
            "ffpw",
            "AmountMatches",
        ),
        ("a refund of nothing paid", after(disputed(vec![correct(1), refund()])), "pfpw", "refund is not allowed"),
        (
            "a refund without a correction",
            after(vec![pay(), notice("dispute", By::Buyer), refund()]),
            "pfpp",
            "refund is not allowed",
        ),
        ("refunded, says a node's friend", back(By::Stranger, |_| {}, |_| {}), "fppw", "does not name site-1/platform"),
        ("not refunded", back(By::Platform, |s| s.state = "paid".to_owned(), |_| {}), "fppw", "did not say refunded"),
        (
            "less confirmed than refunded",
            back(By::Platform, |s| s.refunded_cny = Some("0.00".to_owned()), |_| {}),
            "fppw",
            unconfirmed,
        ),
        (
            "a refund at another time",
            back(By::Platform, |s| s.refunded_at = s.refunded_at.take().map(|at| at.replace("2026", "2027")), |_| {}),
            "fppw",
            "another time",
        ),
        (
            "less refunded than was paid above",
            back(By::Platform, |_| {}, |r| r.amount = Money(0)),
            "ffpw",
            "AmountMatches",
        ),
        (
            "a refund of another correction",
            back(By::Platform, |_| {}, |r| r.correction = Octets([7; 32])),
            "pfpw",
            "last correction",
        ),
        (
            "a refund of another bill",
            back(By::Platform, |_| {}, |r| r.bill = Octets([7; 32])),
            "ffpw",
            "names another bill",
        ),
        (
            "a refund that rests on another",
            back(By::Platform, |_| {}, |r| r.rests_on.height += 1),
            "pfpw",
            "does not rest on the newest",
        ),
    ]
}

/// Payments of a child, and the keys that sign.
fn of_children_and_keys() -> Vec<Cause> {
    const OWN: fn(&mut Statement) = |_| {};
    let child: fn(&mut Statement) = |said| said.requirement.as_mut().unwrap().parent = Some(of(Payable::Child));
    let whole: fn(&mut Statement) = |said| said.requirement.as_mut().unwrap().parent = Some(of(Payable::Parent));
    let named: fn(&mut PaymentState) = |state| state.parent_bill = Some("ab".repeat(32));
    let upper: fn(&mut PaymentState) = |state| state.parent_bill = Some("AB".repeat(32));
    let paid = |order, state| Plan { order, ..after(vec![Step::Pay(By::Platform, state, |_| {})]) };
    let (none, many) = ("no parent bill is named", "a parent bill is named");
    let rotated = |how| after(vec![pay(), Step::Rotate(how), notice("dispute", By::Buyer)]);
    let served = |how| Plan { service: vec![Step::Rotate(how), Step::Records(2)], ..Plan::default() };
    let out = "not in force";
    vec![
        ("a child paid by itself", paid(child, |_| {}), "pppp", "recomputed"),
        ("a child paid through its parent", paid(whole, named), "pppp", "recomputed"),
        ("a child paid by itself, though the parent is payable", paid(whole, |_| {}), "fppp", none),
        ("a child paid through its parent, though it is payable", paid(child, named), "fppp", many),
        ("a parent of an order that has none", paid(OWN, named), "fppp", many),
        ("a parent bill spelled otherwise", paid(whole, upper), "fppp", "lower-case"),
        ("another key after the payment", rotated(Rotated::Right), "pppp", "recomputed"),
        ("another key while it serves", served(Rotated::Right), "pppp", "recomputed"),
        ("another key, and the old one signs on", rotated(Rotated::InVain), "fppp", out),
        ("another key, and the old one signs the bill", served(Rotated::InVain), "fppp", out),
        ("another key, too early", rotated(Rotated::Backdated), "fppp", out),
        ("another key without the old one's word", rotated(Rotated::WithoutOld), "fppp", "rotation-old"),
        ("another key without its own word", rotated(Rotated::WithoutNew), "fppp", "rotation-new"),
        ("another key of another node", rotated(Rotated::Elsewhere), "fppp", "site-1/node-2"),
    ]
}

fn of(payable: Payable) -> ParentOrder {
    ParentOrder { parent_no: Octets([5; 16]), payable, children: 3 }
}

pub(crate) fn causes() -> Vec<Cause> {
    right().into_iter().chain(of_children_and_keys()).chain(wrong_amounts()).chain(wrong_payments()).collect()
}

#[test]
fn each_amount_is_held_against_what_is_due_and_what_the_platform_said() {
    check_each(causes());
}

#[test]
fn what_is_due_is_said_beside_what_was_billed() {
    let billed = |plan: &Plan| {
        let (parties, pack) = pack_of(plan);
        let verdicts = judge(&pack, &parties);
        let totals = [verdicts.billed_total, verdicts.recomputed_total, verdicts.due_total];
        totals.map(|total| total.unwrap_or_else(|| panic!("{}", said(&verdicts))).0)
    };
    let [whole, again, due] = billed(&Plan::default());
    assert_eq!((again, due), (whole, whole));
    assert_eq!(billed(&capped()), [1_000_000; 3]);
    assert_eq!(billed(&after(disputed(vec![correct(1)]))), [whole, whole, whole - 1_000_000]);
    assert_eq!(billed(&above(disputed(vec![correct(5)]))), [whole + 5_000_000, whole, whole]);
}
