//! Usage over time, resource by resource, in few enough points to draw: integers only. A stretch that was not measured stays
//! one, however many records are drawn as one point.

use std::collections::BTreeMap;

use hufu_trade::{
    bill::Bill,
    rating::rate_quantities,
    resource::Resource,
    tariff::Tariff,
    usage::{Reason, Status, UsageRecord},
};

/// Most points of a chart.
const POINTS_MAX: usize = 240;
/// Most stretches that are drawn apart; nearer ones are drawn as one.
const STRETCHES_MAX: i128 = 600;

/// A stretch of time, ns since 1970.
pub(super) type Stretch = (i64, i64);

/// One point of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) at: Stretch,
    /// Thousandths of the base unit a second, over what was measured.
    pub(super) rate: u128,
    /// What the resource has cost until its end, 10^-8 CNY.
    pub(super) cost: u128,
}

/// One resource.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) resource: Resource,
    pub(super) points: Vec<Point>,
    /// Where nothing was measured of it.
    pub(super) absent: Vec<Stretch>,
    /// Where the order was suspended.
    pub(super) paused: Vec<Stretch>,
    pub(super) has_price: bool,
}

/// What fell into one point.
#[derive(Clone, Copy, Default)]
struct Sum {
    at: Stretch,
    delta: u128,
    elapsed_ns: u128,
}

/// Every resource that a record of the bill's period tells of, in the order of their codes.
pub(super) fn series(bill: &Bill, tariff: Option<&Tariff>, records: &[&UsageRecord]) -> Vec<Series> {
    let grid = Grid::new(bill, records.len());
    let mut sums: BTreeMap<Resource, (Vec<Sum>, Vec<Stretch>)> = BTreeMap::new();
    for record in records {
        for resource in record.readings.iter().filter_map(|reading| reading.resource().ok()) {
            sums.entry(resource).or_default();
        }
    }
    let mut paused = Vec::new();
    for record in records {
        let at = (record.start, record.end);
        if record.reason == Reason::Suspended {
            paused.extend(Some(at).filter(|(from, to)| from < to));
            continue;
        }
        if record.reason.is_gap() {
            sums.values_mut().for_each(|(_, absent)| absent.push(at));
            continue;
        }
        for reading in &record.readings {
            let Some((sum, absent)) = reading.resource().ok().and_then(|resource| sums.get_mut(&resource)) else {
                continue;
            };
            match reading.delta {
                Some(delta) if reading.status != Status::Missing => {
                    grid.add(sum, Sum { at, delta, elapsed_ns: record.elapsed_ns.into() });
                }
                _ => absent.push(at),
            }
        }
    }
    let paused = grid.join(paused);
    let each = sums.into_iter().map(|(resource, (sums, absent))| {
        let series = drawn(resource, sums, &grid.join(absent), tariff);
        Series { paused: paused.clone(), ..series }
    });
    each.collect()
}

fn drawn(resource: Resource, sums: Vec<Sum>, absent: &[Stretch], tariff: Option<&Tariff>) -> Series {
    let name = resource.to_string();
    let has_price = tariff.is_some_and(|tariff| tariff.prices.iter().any(|price| price.resource == name));
    let mut used = 0_u128;
    let mut points = Vec::with_capacity(sums.len());
    for sum in sums.iter().filter(|sum| sum.at.1 > sum.at.0) {
        used = used.saturating_add(sum.delta);
        let rated = tariff.filter(|_| has_price).and_then(|t| rate_quantities(t, &[(resource.clone(), used)]).ok());
        let cost = rated.iter().flat_map(|rated| &rated.lines).map(|line| line.amount.0).sum::<i128>();
        let rate = sum.delta.saturating_mul(1_000_000_000_000).checked_div(sum.elapsed_ns).unwrap_or(0);
        points.push(Point { at: sum.at, rate, cost: cost.unsigned_abs() });
    }
    Series { resource, points, absent: absent.to_vec(), paused: Vec::new(), has_price }
}

/// How time is cut into points.
enum Grid {
    /// Few records: each is a point.
    Records(Stretch),
    /// Many: stretches of one length.
    Even(Stretch),
}

impl Grid {
    fn new(bill: &Bill, count: usize) -> Self {
        let whole = (bill.period_start, bill.period_end.max(bill.period_start.saturating_add(1)));
        if count <= POINTS_MAX { Self::Records(whole) } else { Self::Even(whole) }
    }

    fn add(&self, sums: &mut Vec<Sum>, new: Sum) {
        let Self::Even(whole) = self else { return sums.push(new) };
        if sums.is_empty() {
            sums.resize(POINTS_MAX, Sum::default());
        }
        let count = i128::try_from(POINTS_MAX).unwrap_or(1);
        let (start, length) = (i128::from(whole.0), i128::from(whole.1) - i128::from(whole.0));
        let (from, to) = (i128::from(new.at.0), i128::from(new.at.1));
        let bucket = |time: i128| ((time - start) * count / length).clamp(0, count - 1);
        for index in bucket(from)..=bucket(to - 1) {
            let edge = |index: i128| start + length * index / count;
            let (low, high) = (from.max(edge(index)), to.min(edge(index + 1)));
            let part = u128::try_from(high - low).unwrap_or(0);
            let whole = u128::try_from(to - from).unwrap_or(0);
            let share = |value: u128| value.saturating_mul(part).checked_div(whole).unwrap_or(0);
            if let (Some(sum), true) = (usize::try_from(index).ok().and_then(|index| sums.get_mut(index)), part > 0) {
                let at = |time: i128| i64::try_from(time).unwrap_or(0);
                sum.at = (at(edge(index)), at(edge(index + 1)));
                sum.delta = sum.delta.saturating_add(share(new.delta));
                sum.elapsed_ns = sum.elapsed_ns.saturating_add(share(new.elapsed_ns));
            }
        }
    }

    /// Stretches that touch, or that no eye could tell apart, as one.
    fn join(&self, stretches: Vec<Stretch>) -> Vec<Stretch> {
        let (Self::Records(whole) | Self::Even(whole)) = self;
        let near = (i128::from(whole.1) - i128::from(whole.0)) / STRETCHES_MAX;
        let mut joined: Vec<Stretch> = Vec::new();
        for (from, to) in stretches {
            match joined.last_mut() {
                Some(last) if i128::from(from) - i128::from(last.1) <= near => last.1 = to.max(last.1),
                _ => joined.push((from, to)),
            }
        }
        joined
    }
}
