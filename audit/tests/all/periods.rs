//! Contracts that are billed while service runs: several bills, paid in any order or not at all, and what a pack says of a bill
//! that does not cover what it should.

use hufu_audit::Exit;
use hufu_trade::{money::Money, octets::Octets, rules};

use crate::{
    judge, pack_of, results, said, stored,
    story::{Cause, check_each},
    synthetic::{By, Plan, Step, correct, notice, pay, refund},
    unzip,
};

/// The default table, with hours for months.
pub(crate) fn hourly() -> String {
    let (from, to) = ("billing_period = \"month\"", "billing_period = \"hour\"");
    assert!(rules::DEFAULT.contains(from));
    rules::DEFAULT.replace(from, to)
}

/// The first hour is over 150 s after the deal: two of the records lie in it, the third spans its end.
const LATE_S: i64 = 3600 - 803 - 150;

const DUE: [&str; 3] = ["expire", "serving_due", "ended"];
const PLAIN: [&str; 3] = ["expire", "serving", "ended"];

fn bill() -> Step {
    Step::Bill(1, |_| {})
}

/// Three minutes, of which two are billed; then what comes, and the end of service.
fn billed(service: Vec<Step>, ends: Vec<[&'static str; 3]>) -> Plan {
    let service: Vec<Step> = [bill()].into_iter().chain(service).collect();
    Plan { records: 3, minutes: Some(400), rules: hourly(), late_s: LATE_S, service, ends, ..Plan::default() }
}

/// Two hours and a third, each billed.
fn thrice(service: Vec<Step>, ends: Vec<[&'static str; 3]>, after: Vec<Step>) -> Plan {
    let steps = [Step::Records(60), bill()].into_iter().chain(service).collect();
    Plan { after, ..billed(steps, ends) }
}

fn right() -> Vec<Cause> {
    let fine = |name, plan| (name, plan, "pppp", "recomputed");
    let arrears = |then: Vec<Step>| -> Vec<Step> {
        let head = [Step::Status(["overdue", "serving_due", "barring"]), Step::Status(["bar", "barring", "barred"])];
        head.into_iter().chain(then).collect()
    };
    vec![
        fine("the second of two bills", billed(vec![], vec![DUE])),
        fine("the first of two bills", Plan { pack: Some(1), ..billed(vec![], vec![DUE]) }),
        fine("a bill while service runs", Plan { ends_with_bill: false, ..billed(vec![], vec![]) }),
        fine("paid while service runs", billed(vec![pay()], vec![PLAIN])),
        fine(
            "paid after service",
            Plan { after: vec![Step::Of(1), pay(), Step::Of(2), pay()], ..billed(vec![], vec![DUE]) },
        ),
        fine("the third of three bills", thrice(vec![], vec![DUE], vec![])),
        fine("the second of three bills", Plan { pack: Some(2), ..thrice(vec![], vec![DUE], vec![]) }),
        fine("the last paid first", thrice(vec![pay(), Step::Of(1), pay()], vec![PLAIN], vec![])),
        fine(
            "all paid in the end, one after the other",
            thrice(vec![], vec![DUE], vec![Step::Of(2), pay(), Step::Of(3), pay(), Step::Score, Step::Of(1), pay()]),
        ),
        fine(
            "suspended with a bill open, resumed, paid",
            billed(
                vec![
                    notice("suspend", By::Buyer),
                    Step::Status(["pause", "suspending_due", "suspended_due"]),
                    Step::Suspended(3),
                    notice("resume", By::Buyer),
                    pay(),
                    Step::Records(2),
                ],
                vec![PLAIN],
            ),
        ),
        fine(
            "barred, paid, served on",
            billed(arrears(vec![Step::Suspended(3), pay(), Step::Records(1)]), vec![PLAIN]),
        ),
        fine("barred until the end", billed(arrears(vec![]), vec![["expel", "barred", "ended"]])),
        fine(
            "the ceiling reached by the second bill",
            Plan { ceiling: Money(2_000_000), ..thrice(vec![], vec![DUE], vec![]) },
        ),
        (
            "a bill of a period corrected after the end",
            thrice(
                vec![],
                vec![DUE],
                vec![Step::Of(1), notice("dispute", By::Buyer), Step::Of(2), pay(), Step::Of(1), correct(1), pay()],
            ),
            "pppp",
            "recomputed",
        ),
        (
            "a bill of a period refunded",
            Plan {
                pack: Some(1),
                ..billed(vec![pay()], vec![PLAIN]).and(vec![
                    pay(),
                    Step::Of(1),
                    notice("dispute", By::Buyer),
                    correct(1),
                    refund(),
                ])
            },
            "pppw",
            "are due",
        ),
    ]
}

impl Plan {
    fn and(self, after: Vec<Step>) -> Self {
        Plan { after, ..self }
    }
}

fn wrong() -> Vec<Cause> {
    let changed = |change| Plan { bill: change, ..billed(vec![], vec![DUE]) };
    let period =
        |change| Plan { service: vec![Step::Bill(1, change)], ends_with_bill: false, ..billed(vec![], vec![]) };
    let monthly = |plan: Plan| Plan { rules: rules::DEFAULT.to_owned(), ..plan };
    let once = |plan: Plan| Plan { rules: hourly().replace("\"hour\"", "\"service\""), ..plan };
    vec![
        (
            "more than one period",
            Plan { service: vec![Step::Bill(0, |_| {}), Step::Records(1)], ..billed(vec![], vec![DUE]) },
            "pfpp",
            "left out usage",
        ),
        (
            "more than one period, of which one is far",
            Plan {
                service: vec![Step::Records(60), Step::Bill(1, |_| {})],
                ends_with_bill: false,
                ..billed(vec![], vec![])
            },
            "pfpp",
            "more than one period",
        ),
        (
            "less than its period",
            Plan { service: vec![Step::Bill(2, |_| {})], ..billed(vec![], vec![DUE]) },
            "pfpp",
            "left out usage",
        ),
        (
            "before its period is over",
            Plan { records: 2, service: vec![Step::Bill(0, |_| {})], ends_with_bill: false, ..billed(vec![], vec![]) },
            "pfpp",
            "before its period was over",
        ),
        (
            "by the hour where months are agreed",
            monthly(Plan { ends_with_bill: false, ..billed(vec![], vec![]) }),
            "pfpp",
            "before its period was over",
        ),
        ("by the hour where it is billed once", once(billed(vec![], vec![DUE])), "pfpp", "billed once"),
        (
            "in a state without bills",
            billed(vec![notice("terminate", By::Buyer), Step::Records(1), bill()], vec![["leave", "leaving", "ended"]]),
            "pfpp",
            "bill_period",
        ),
        (
            "no bill by period in a service state",
            period(|bill| bill.rests_on = None),
            "pfpp",
            "bill is not allowed in state serving",
        ),
        (
            "the last bill as one by period",
            Plan { bill: |bill| bill.rests_on = Some(bill.last_record.clone()), ..Plan::default() },
            "pfpp",
            "bill_period is not allowed",
        ),
        ("it rests on another entry", period(|bill| bill.rests_on = Some(bill.last_record.clone())), "pfpp", "restsOn"),
        (
            "a second bill that skips a record",
            Plan {
                service: vec![bill(), Step::Records(2)],
                bill: |bill| bill.first_seq += 1,
                ..billed(vec![], vec![DUE])
            },
            "pfpf",
            "where 2 of this order is due",
        ),
        ("a second bill that overlaps", changed(|bill| bill.first_seq -= 1), "pfpf", "#firstSeq"),
        ("a second bill that begins anew", changed(|bill| bill.previous_bill = None), "pfpf", "previousBill"),
        (
            "a second bill after another",
            changed(|bill| bill.previous_bill = Some(Octets([7; 32]))),
            "pfpf",
            "bill before",
        ),
        (
            "a second bill with the third one's number",
            changed(|bill| bill.number = bill.number.replace("-2", "-3")),
            "pppf",
            "#number",
        ),
        (
            "a ceiling that earlier bills do not count against",
            Plan {
                ceiling: Money(60_000_000),
                bill: |bill| bill.total.0 -= bill.over_ceiling.take().map_or(0, |over| over.0),
                ..thrice(vec![Step::Records(30)], vec![DUE], vec![])
            },
            "pppf",
            "#overCeiling",
        ),
        ("paid in part where nothing else is open", billed(vec![pay()], vec![DUE]), "pfpp", "-> ended"),
        ("paid in whole where another is open", thrice(vec![pay()], vec![PLAIN], vec![]), "pfpp", "-> ended"),
        ("paid twice", billed(vec![pay(), pay()], vec![PLAIN]), "pfpp", "not allowed in state serving"),
        (
            "barred and served on without payment",
            billed(
                vec![Step::Status(["overdue", "serving_due", "barring"]), Step::Status(["bar", "barring", "barred"])],
                vec![PLAIN],
            ),
            "pfpp",
            "barred",
        ),
    ]
}

pub(crate) fn causes() -> Vec<Cause> {
    right().into_iter().chain(wrong()).collect()
}

#[test]
fn bills_by_period_are_judged_by_what_they_cover_and_in_which_state() {
    check_each(causes());
}

#[test]
fn nothing_that_the_third_bill_rests_on_can_be_missing() {
    let (parties, pack) = pack_of(&thrice(vec![pay()], vec![DUE], vec![Step::Of(1), pay()]));
    let whole = judge(&pack, &parties);
    assert_eq!(results(&whole), "pppp", "{}", said(&whole));
    let files = unzip(&pack);
    for name in files.keys().filter(|name| name.starts_with("entries/")) {
        let mut less = files.clone();
        less.remove(name);
        assert_eq!(judge(&stored(&less), &parties).exit(), Exit::No, "{name}");
    }
    assert_eq!(files.keys().filter(|name| name.ends_with("-bill.der")).count(), 3);
}
