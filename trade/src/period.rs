//! Periods that are billed while service runs: where the calendar of a deal cuts time, and which usage records a bill by period
//! holds. Pure; the zone's rules are those that the program was built with, no clock and no file of the machine is read.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Deserialize;

use crate::{Error, bill::Bill, octets::from_rfc3339, rules::RuleTable, statement::Payment, tariff::Tariff};

/// The period that a text names in a time zone: a month `YYYY-MM`, a day `YYYY-MM-DD`, or two instants of RFC 3339 in UTC with `/` between
/// them. Its start and its end, not included, ns since 1970-01-01Z.
///
/// # Errors
/// [`Error::Text`] for any other text; as [`Calendar::of`] for the zone.
pub fn named(zone: &str, text: &str) -> Result<(i64, i64), Error> {
    let wrong = || {
        let why =
            format!("{text:?}: YYYY-MM, YYYY-MM-DD, or two times of RFC 3339 in UTC with / between them expected");
        Error::Text { what: "period", why }
    };
    if let Some((from, until)) = text.split_once('/') {
        let ends = from_rfc3339(from).zip(from_rfc3339(until));
        return ends.filter(|(from, until)| from < until).ok_or_else(wrong);
    }
    let calendar = Calendar::new(Period::Day, zone)?.ok_or_else(out_of_range)?;
    let is_month = Month::is_name(text);
    let first: Date = if is_month { format!("{text}-01") } else { text.to_owned() }.parse().map_err(|_| wrong())?;
    if !is_month && text.len() != "2026-01-01".len() {
        return Err(wrong());
    }
    let last = if is_month { first.last_of_month() } else { first };
    Ok((calendar.start(first)?, calendar.start(last.tomorrow().map_err(|_| out_of_range())?)?))
}

const HOUR_NS: i64 = 3_600_000_000_000;

/// How often a contract is billed while service runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Calendar months.
    Month,
    /// Calendar days.
    Day,
    /// Whole hours, counted from the beginning of each calendar day.
    Hour,
    /// Once, at the end of service.
    #[default]
    Service,
}

/// The boundaries of a contract's billing periods. A usage record belongs to the period in which it ends, the boundary at that
/// period's end included.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    period: Period,
}

fn out_of_range() -> Error {
    Error::Overflow { what: "billing calendar" }
}

/// A calendar month of a tariff's time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Month {
    /// `YYYY-MM`.
    pub name: String,
    /// Its start, ns since 1970-01-01Z.
    pub start: i64,
    /// Its end, not included.
    pub end: i64,
}

impl Month {
    /// The month that a bill belongs to whose period ends at `end`, ns since 1970-01-01Z: a period that ends with the month belongs
    /// to that month and not to the next.
    ///
    /// # Errors
    /// [`Error::Field`] when `zone` is no IANA time zone, [`Error::Overflow`] at the edge of what calendars reach.
    pub fn of(zone: &str, end: i64) -> Result<Self, Error> {
        let calendar = Calendar::new(Period::Month, zone)?.ok_or_else(out_of_range)?;
        let last = end.checked_sub(1).ok_or_else(out_of_range)?;
        let instant = Timestamp::from_nanosecond(i128::from(last)).map_err(|_| out_of_range())?;
        let first = calendar.zone.to_datetime(instant).date().first_of_month();
        let next = first.last_of_month().tomorrow().map_err(|_| out_of_range())?;
        let name = format!("{:04}-{:02}", first.year(), first.month());
        Ok(Self { name, start: calendar.start(first)?, end: calendar.start(next)? })
    }

    /// Whether a text is the name of a month: `YYYY-MM`.
    pub fn is_name(text: &str) -> bool {
        let digits = |part: &str, count: usize| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
        text.split_once('-').is_some_and(|(year, month)| {
            digits(year, 4) && digits(month, 2) && month.parse().is_ok_and(|month: u8| (1..=12).contains(&month))
        })
    }
}

impl Calendar {
    /// The calendar of a contract with this rule table, tariff and kind of payment; `None` where it is billed once, at the end
    /// of service. A prepaid one always is.
    ///
    /// # Errors
    /// [`Error::Field`] when the tariff's calendar is not an IANA time zone.
    pub fn of(table: &RuleTable, tariff: &Tariff, payment: Payment) -> Result<Option<Self>, Error> {
        if payment == Payment::Prepaid {
            return Ok(None);
        }
        Self::new(table.parameters.billing_period, &tariff.calendar)
    }

    /// A calendar in an IANA time zone; `None` for [`Period::Service`].
    ///
    /// # Errors
    /// As [`Calendar::of`].
    pub fn new(period: Period, zone: &str) -> Result<Option<Self>, Error> {
        if period == Period::Service {
            return Ok(None);
        }
        let unknown = |_| Error::Field { what: "Tariff", field: "calendar", why: format!("{zone} is no time zone") };
        Ok(Some(Self { zone: TimeZone::get(zone).map_err(unknown)?, period }))
    }

    /// The beginning of a calendar day, ns since 1970-01-01Z. Midnight that is skipped by a shift of clocks is where it would
    /// have been without; midnight that comes twice is the first.
    fn start(&self, date: Date) -> Result<i64, Error> {
        let zoned = date.to_zoned(self.zone.clone()).map_err(|_| out_of_range())?;
        i64::try_from(zoned.timestamp().as_nanosecond()).map_err(|_| out_of_range())
    }

    /// The first boundary that is not before `time`, both ns since 1970-01-01Z: the end of the period of a record that ends at
    /// `time`.
    ///
    /// # Errors
    /// [`Error::Overflow`] for a time at the edge of what calendars reach.
    pub fn boundary(&self, time: i64) -> Result<i64, Error> {
        let instant = Timestamp::from_nanosecond(i128::from(time)).map_err(|_| out_of_range())?;
        let day = self.zone.to_datetime(instant).date();
        let mut starts = Vec::with_capacity(4);
        match self.period {
            Period::Month => {
                let mut first = day.first_of_month();
                for _ in 0..3 {
                    starts.push(self.start(first)?);
                    first = first.last_of_month().tomorrow().map_err(|_| out_of_range())?;
                }
            }
            Period::Day | Period::Hour => {
                let mut date = day.yesterday().map_err(|_| out_of_range())?;
                for _ in 0..4 {
                    starts.push(self.start(date)?);
                    date = date.tomorrow().map_err(|_| out_of_range())?;
                }
            }
            Period::Service => {}
        }
        let end = starts.iter().copied().filter(|start| *start >= time).min().ok_or_else(out_of_range)?;
        if self.period != Period::Hour {
            return Ok(end);
        }
        let begin = starts.into_iter().filter(|start| *start < time).max().ok_or_else(out_of_range)?;
        // From the day's beginning in steps of an hour; the last one may be shorter where clocks shift by less.
        let into = time.checked_sub(begin).ok_or_else(out_of_range)?;
        let whole = into.checked_add(HOUR_NS - 1).ok_or_else(out_of_range)? / HOUR_NS;
        let hour = whole.checked_mul(HOUR_NS).and_then(|ns| begin.checked_add(ns)).ok_or_else(out_of_range)?;
        Ok(hour.min(end))
    }

    /// The boundary that the next bill by period goes up to: `first_end` is the end of the first record that is not billed yet,
    /// `until` what [`Calendar::until`] gives for the bills before.
    ///
    /// # Errors
    /// As [`Calendar::boundary`].
    pub fn next(&self, first_end: i64, until: Option<i64>) -> Result<i64, Error> {
        let after = until.map_or(i64::MIN, |until| until.saturating_add(1));
        self.boundary(first_end.max(after))
    }

    /// The boundary up to which bills by period have billed, by the ends of their periods in their order; `None` without bills.
    ///
    /// # Errors
    /// As [`Calendar::boundary`].
    pub fn until(&self, period_ends: impl IntoIterator<Item = i64>) -> Result<Option<i64>, Error> {
        period_ends.into_iter().try_fold(None, |until, end| self.next(end, until).map(Some))
    }
}

/// What of a bill decides whether it covers the period that it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covers {
    /// It is a bill by period, not the one after the end of service.
    pub by_period: bool,
    /// The end of its first usage record, ns since 1970-01-01Z.
    pub first_end: i64,
    /// The end of its last usage record.
    pub last_end: i64,
    /// The time of the block that it stands in, where that is known.
    pub made: Option<i64>,
}

/// Whether a bill covers what it should: one by period the records up to one boundary, made when that had passed, and no bill
/// holds a record that an earlier one left out. `before` are the ends of the periods of the bills before.
///
/// # Errors
/// [`Error::Field`] saying what is wrong; [`Error::Overflow`].
pub fn check(calendar: Option<&Calendar>, before: impl IntoIterator<Item = i64>, covers: &Covers) -> Result<(), Error> {
    let wrong = |field: &'static str, why: String| Err(Error::Field { what: "Bill", field, why });
    let Some(calendar) = calendar else {
        return match covers.by_period {
            true => wrong("restsOn", "this contract is billed once, at the end of service".to_owned()),
            false => Ok(()),
        };
    };
    let mut before = before.into_iter().peekable();
    if before.peek().is_none() && !covers.by_period {
        return Ok(());
    }
    let until = calendar.until(before)?;
    if until.is_some_and(|until| covers.first_end < until) {
        return wrong("periodStart", "the bill before left out usage of its period".to_owned());
    }
    if !covers.by_period {
        return Ok(());
    }
    let end = calendar.next(covers.first_end, until)?;
    if covers.last_end > end {
        return wrong("periodEnd", "it holds usage of more than one period".to_owned());
    }
    match covers.made {
        Some(made) if made < end => wrong("periodEnd", "it was made before its period was over".to_owned()),
        _ => Ok(()),
    }
}

/// The ends of the periods of some bills.
pub fn ends<'a>(bills: impl IntoIterator<Item = &'a Bill>) -> impl Iterator<Item = i64> {
    bills.into_iter().map(|bill| bill.period_end)
}
