//! Where calendars cut billing periods, and which bills cover what they should.

use hufu_trade::{
    Error,
    octets::{from_rfc3339, rfc3339},
    period::{Calendar, Covers, Period, check},
    rules::{BILL_PERIOD, DEFAULT, PAY, PAY_PART, RuleTable, Since},
};

fn ns(text: &str) -> i64 {
    from_rfc3339(text).unwrap()
}

fn calendar(period: Period, zone: &str) -> Calendar {
    Calendar::new(period, zone).unwrap().unwrap()
}

#[test]
fn a_calendar_cuts_where_its_zone_does() {
    use Period::{Day, Hour, Month};
    for (period, zone, time, want) in [
        (Month, "Asia/Shanghai", "2026-01-31T15:59:59.999999999Z", "2026-01-31T16:00:00Z"),
        (Month, "Asia/Shanghai", "2026-01-31T16:00:00Z", "2026-01-31T16:00:00Z"),
        (Month, "Asia/Shanghai", "2026-01-31T16:00:00.000000001Z", "2026-02-28T16:00:00Z"),
        (Month, "Asia/Shanghai", "2028-02-10T00:00:00Z", "2028-02-29T16:00:00Z"),
        (Month, "Asia/Shanghai", "2026-12-31T16:00:01Z", "2027-01-31T16:00:00Z"),
        (Month, "Europe/Berlin", "2026-03-15T00:00:00Z", "2026-03-31T22:00:00Z"),
        (Month, "Europe/Berlin", "2026-10-15T00:00:00Z", "2026-10-31T23:00:00Z"),
        // A leap day, a day of 23 hours, one of 25.
        (Day, "Asia/Shanghai", "2028-02-28T16:00:01Z", "2028-02-29T16:00:00Z"),
        (Day, "Europe/Berlin", "2026-03-28T23:00:01Z", "2026-03-29T22:00:00Z"),
        (Day, "Europe/Berlin", "2026-10-24T22:00:01Z", "2026-10-25T23:00:00Z"),
        // Midnight of 2018-11-04 did not happen: the day began at one.
        (Day, "America/Sao_Paulo", "2018-11-04T02:59:59Z", "2018-11-04T03:00:00Z"),
        (Day, "America/Sao_Paulo", "2018-11-04T03:00:01Z", "2018-11-05T02:00:00Z"),
        // Samoa had no 30th of December 2011.
        (Day, "Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-30T10:00:00Z"),
        (Day, "Pacific/Apia", "2011-12-30T10:00:01Z", "2011-12-31T10:00:00Z"),
        (Hour, "Asia/Shanghai", "2026-05-01T00:00:00.000000001Z", "2026-05-01T01:00:00Z"),
        (Hour, "Asia/Shanghai", "2026-05-01T01:00:00Z", "2026-05-01T01:00:00Z"),
        (Hour, "Asia/Kolkata", "2026-05-01T01:10:00Z", "2026-05-01T01:30:00Z"),
        (Hour, "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z"),
        (Hour, "Europe/Berlin", "2026-03-29T01:30:00Z", "2026-03-29T02:00:00Z"),
        // Clocks of Lord Howe shift by half an hour: the last hour of that day is half of one.
        (Hour, "Australia/Lord_Howe", "2026-04-05T13:10:00Z", "2026-04-05T13:30:00Z"),
    ] {
        let found = calendar(period, zone).boundary(ns(time)).unwrap();
        assert_eq!(rfc3339(found), rfc3339(ns(want)), "{period:?} of {zone} at {time}");
    }
    assert!(Calendar::new(Period::Service, "Asia/Atlantis").unwrap().is_none());
    assert!(matches!(Calendar::new(Month, "Asia/Atlantis"), Err(Error::Field { field: "calendar", .. })));
    assert!(matches!(calendar(Month, "Asia/Shanghai").boundary(i64::MAX), Err(Error::Overflow { .. })));
}

#[test]
fn boundaries_rise_and_every_time_has_one() {
    for (period, zone) in [
        (Period::Hour, "Europe/Berlin"),
        (Period::Hour, "Australia/Lord_Howe"),
        (Period::Day, "America/Sao_Paulo"),
        (Period::Month, "Asia/Shanghai"),
    ] {
        let calendar = calendar(period, zone);
        let mut time = ns("2018-01-01T00:00:00Z");
        for _ in 0..if period == Period::Month { 1200 } else { 4000 } {
            let end = calendar.boundary(time).unwrap();
            assert!(end >= time, "{}", rfc3339(time));
            assert_eq!(calendar.boundary(end).unwrap(), end, "a boundary ends its own period");
            let next = calendar.boundary(end + 1).unwrap();
            assert!(next > end);
            time = end + 1;
        }
        assert_eq!(calendar.until([time]).unwrap(), Some(calendar.boundary(time).unwrap()));
        assert_eq!(calendar.until([]).unwrap(), None);
    }
}

#[test]
fn a_bill_covers_its_period_and_nothing_else() {
    let hours = calendar(Period::Hour, "Asia/Shanghai");
    let minute = |minutes: i64| ns("2026-05-01T00:00:00Z") + minutes * 60_000_000_000;
    let by_period = |first: i64, last: i64, made: i64| Covers {
        by_period: true,
        first_end: minute(first),
        last_end: minute(last),
        made: Some(minute(made)),
    };
    let last = |first: i64, last: i64| Covers { by_period: false, ..by_period(first, last, last) };
    type Row = (&'static str, &'static [i64], Covers, Option<&'static str>);
    let rows: [Row; 14] = [
        ("an hour", &[], by_period(1, 60, 60), None),
        ("part of an hour", &[], by_period(10, 50, 61), None),
        ("two hours", &[], by_period(10, 61, 130), Some("periodEnd")),
        ("made in its hour", &[], by_period(10, 50, 59), Some("periodEnd")),
        ("the hour after", &[60], by_period(61, 120, 120), None),
        ("an hour later, after an outage", &[60], by_period(200, 210, 240), None),
        ("what was left out", &[50], by_period(60, 60, 120), None),
        ("before the boundary that was billed", &[50], by_period(55, 60, 120), Some("periodStart")),
        ("before the boundary before", &[50, 120], by_period(119, 119, 200), Some("periodStart")),
        ("a record at the boundary, come late", &[60], by_period(60, 115, 120), None),
        ("the last one", &[60], last(61, 500), None),
        ("the last one over what was left out", &[50], last(59, 500), Some("periodStart")),
        ("the only one", &[], last(1, 500), None),
        ("the block's time is not known", &[], Covers { made: None, ..by_period(1, 50, 0) }, None),
    ];
    for (name, before, covers, field) in rows {
        let found = check(Some(&hours), before.iter().map(|at| minute(*at)), &covers);
        let wrong = match &found {
            Ok(()) => None,
            Err(Error::Field { field, .. }) => Some(*field),
            Err(other) => panic!("{name}: {other}"),
        };
        assert_eq!(wrong, field, "{name}: {found:?}");
    }
    assert!(check(None, [], &last(1, 9)).is_ok());
    assert!(matches!(check(None, [], &by_period(1, 9, 60)), Err(Error::Field { field: "restsOn", .. })));
}

#[test]
fn an_old_table_means_what_it_meant() {
    let old = DEFAULT.lines().filter(|line| !line.starts_with("billing_period")).collect::<Vec<_>>().join("\n");
    let table = RuleTable::from_toml(&old).unwrap();
    assert_eq!(table.parameters.billing_period, Period::Service);
    let other = RuleTable::from_toml(include_str!("../../testdata/rules/other.toml")).unwrap();
    assert_eq!((other.parameters.billing_period, other.pay_act(true)), (Period::Service, PAY));
    assert!(other.timers.iter().all(|timer| timer.since == Since::State));
    let table = RuleTable::from_toml(DEFAULT).unwrap();
    assert_eq!((table.pay_act(true), table.pay_act(false)), (PAY_PART, PAY));
    let from_bill = table.timers.iter().filter(|timer| timer.since == Since::Bill).map(|timer| timer.state.as_str());
    assert_eq!(from_bill.collect::<Vec<_>>(), ["serving_due", "suspended_due", "barred", "billed", "billed_scored"]);
    // Wherever service may be billed by period, what is open may be paid, in part and in whole.
    for row in table.rows.iter().filter(|row| row.act == BILL_PERIOD) {
        assert!(table.row(&row.next, PAY).is_some() && table.row(&row.next, PAY_PART).is_some(), "{}", row.next);
        assert_eq!(table.is_metered(&row.state), table.is_metered(&row.next), "{}", row.state);
    }
    for (from, to, want) in [
        ("\"month\"", "\"week\"", "unknown variant"),
        ("from = \"bill\"", "from = \"birth\"", "unknown variant"),
        (
            "act = \"bill_period\"\nsigners = [\"node\"]\nguard = \"none\"\nwrites = [\"bill\"]",
            "act = \"bill_period\"\nsigners = [\"node\"]\nguard = \"none\"\nwrites = [\"order_status\"]",
            "write [bill]",
        ),
        (
            "act = \"bill\"\nsigners = [\"node\"]\nguard = \"none\"\nwrites = [\"bill\"]\nnext = \"billed\"",
            "act = \"bill\"\nsigners = [\"node\"]\nguard = \"none\"\nwrites = [\"bill\"]\nnext = \"ended\"",
            "a second bill",
        ),
    ] {
        assert!(DEFAULT.contains(from), "{from}");
        let error = RuleTable::from_toml(&DEFAULT.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(want), "{to}: {error}");
    }
}
