//! What reconciliation finds, and why it says so.

use hufu_trade::{
    decode, encode,
    entry::{EntryKind, EntryName},
    money::Money,
    octets::Octets,
    reconciliation::{Cause, Reconciliation, ReconciliationLine, Side, differences, sum},
};

fn line(kind: EntryKind, number: &str, amount: i128, height: Option<u64>) -> ReconciliationLine {
    let log = u8::from(kind.number() >= EntryKind::Bill.number());
    ReconciliationLine {
        kind: kind.number(),
        number: number.to_owned(),
        contract_no: Octets([7; 16]),
        time: 50,
        amount: Some(Money(amount)),
        entry: height.map(|height| EntryName { log, height, index: 0, hash: Octets([9; 32]) }),
        refused: None,
    }
}

fn books(side: Side, lines: Vec<ReconciliationLine>) -> Reconciliation {
    Reconciliation {
        version: 1,
        computing_pool_id: "site-1/node-a".to_owned(),
        side: side as u8,
        from: 0,
        until: 100,
        time: 200,
        trade_size: 10,
        trade_root: Octets([1; 32]),
        finance_size: 10,
        finance_root: Octets([2; 32]),
        other: None,
        lines: Reconciliation::sorted(lines),
    }
}

#[test]
fn each_difference_has_its_cause() {
    let bill = |amount, height| line(EntryKind::Bill, "a-1", amount, Some(height));
    let paid = |amount, height| line(EntryKind::Payment, "a-1", amount, height);
    let refused = ReconciliationLine { refused: Some("amount".to_owned()), ..bill(5, 3) };
    let mut other = bill(5, 3);
    other.entry.as_mut().unwrap().hash = Octets([8; 32]);
    let erased = ReconciliationLine { amount: None, time: 51, ..paid(0, Some(3)) };
    let late = ReconciliationLine { time: 60, ..paid(5, Some(3)) };
    for (name, node, platform, want) in [
        ("the same", Some(bill(5, 3)), Some(bill(5, 3)), None),
        ("above what the platform holds", Some(bill(5, 10)), None, Some(Cause::NotSent)),
        ("below what the platform holds", Some(bill(5, 9)), None, Some(Cause::Missing)),
        ("above what the node holds", None, Some(bill(5, 10)), Some(Cause::Lost)),
        ("below what the node holds", None, Some(bill(5, 9)), Some(Cause::Missing)),
        ("refused", Some(bill(5, 3)), Some(refused), Some(Cause::Refused)),
        ("another amount", Some(bill(5, 3)), Some(bill(6, 3)), Some(Cause::Amount)),
        ("another entry", Some(bill(5, 3)), Some(other), Some(Cause::Entry)),
        ("paid, the node has not heard", None, Some(paid(5, None)), Some(Cause::NotConfirmed)),
        ("paid, the platform does not know", Some(paid(5, Some(3))), None, Some(Cause::NotRecorded)),
        ("paid, its block on the way", Some(paid(5, Some(10))), Some(paid(5, None)), Some(Cause::NotSent)),
        ("paid at another time", Some(paid(5, Some(3))), Some(late), Some(Cause::Time)),
        ("erased at the node", Some(erased), Some(paid(5, Some(3))), None),
    ] {
        let node = books(Side::Node, node.into_iter().collect());
        let platform = books(Side::Platform, platform.into_iter().collect());
        node.check().unwrap_or_else(|e| panic!("{name}: {e}"));
        platform.check().unwrap_or_else(|e| panic!("{name}: {e}"));
        node.fits(&platform).unwrap();
        let found: Vec<Cause> = differences(&node, &platform).iter().map(|found| found.cause).collect();
        assert_eq!(found, want.into_iter().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn a_statement_is_checked_and_read_back() {
    let lines = vec![line(EntryKind::Payment, "a-1", 5, Some(3)), line(EntryKind::Deal, "a", 9, Some(1))];
    let good = books(Side::Node, lines);
    let der = encode(&good, "Reconciliation").unwrap();
    assert_eq!(decode::<Reconciliation>(&der, "Reconciliation").unwrap(), good);
    assert_eq!(sum(&good, EntryKind::Payment).unwrap(), (1, Money(5)));
    type Change = fn(&mut Reconciliation);
    let changes: [(&str, Change); 10] = [
        ("version", |b| b.version = 2),
        ("computingPoolId", |b| b.computing_pool_id = "site-1/platform".to_owned()),
        ("side", |b| b.side = 2),
        ("until", |b| b.until = 0),
        ("lines", |b| b.lines.reverse()),
        ("lines", |b| b.lines.push(b.lines[1].clone())),
        ("lines", |b| b.lines[0].kind = EntryKind::Browse.number()),
        ("lines", |b| b.lines[0].time = 100),
        ("lines", |b| b.lines[0].number = String::new()),
        ("lines", |b| b.lines[0].entry = None),
    ];
    for (field, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        let said = bad.check().unwrap_err().to_string();
        assert!(said.starts_with(&format!("Reconciliation.{field}")), "{field}: {said}");
    }
    let platform = Reconciliation { side: 1, ..good.clone() };
    good.fits(&platform).unwrap();
    platform.fits(&good).unwrap_err();
    good.fits(&Reconciliation { from: 1, ..platform.clone() }).unwrap_err();
    good.fits(&Reconciliation { computing_pool_id: "site-1/node-b".to_owned(), ..platform }).unwrap_err();
}

#[test]
fn a_period_is_named_by_month_day_or_two_times() {
    let at = |text: &str| hufu_trade::octets::from_rfc3339(text).unwrap();
    for (zone, text, want) in [
        ("Asia/Shanghai", "2026-11", Some(("2026-10-31T16:00:00Z", "2026-11-30T16:00:00Z"))),
        ("Asia/Shanghai", "2026-12-31", Some(("2026-12-30T16:00:00Z", "2026-12-31T16:00:00Z"))),
        ("UTC", "2024-02", Some(("2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"))),
        ("UTC", "2026-01-01T00:00:00Z/2026-01-01T00:00:01Z", Some(("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"))),
        ("UTC", "2026-01-01T00:00:00Z/2026-01-01T00:00:00Z", None),
        ("UTC", "2026-13", None),
        ("UTC", "2026-02-30", None),
        ("UTC", "2026", None),
        ("UTC", "2026-1-1", None),
        ("UTC", "20260101", None),
        ("UTC", "", None),
        ("Mars/Olympus", "2026-11", None),
    ] {
        let want = want.map(|(from, until)| (at(from), at(until)));
        assert_eq!(hufu_trade::period::named(zone, text).ok(), want, "{zone} {text}");
    }
}
