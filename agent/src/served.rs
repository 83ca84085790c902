//! From the times that metering counted to what a usage record tells of the quality delivered: totals become deltas against the
//! record before. Pure. Measuring is `metering/src/delivered.rs`, the rules are `trade/src/quality.rs`.

use hufu_metering::{OrderDraft, Time};
use hufu_trade::{
    quality::{Delivered, QUALITIES, Quality},
    resource::Kind,
    usage::{Status, UsageRecord},
};

/// What the next record tells. The meter counts from `base`, the totals when it began (anew, after a suspension). A total never
/// falls; once known it stays known. What was never read is told where `all` is set, so that a buyer learns why without each
/// record saying it again.
pub(crate) fn delivered(
    draft: &OrderDraft,
    base: &[Delivered],
    last: Option<&UsageRecord>,
    all: bool,
) -> Option<Vec<Delivered>> {
    let before = last.and_then(|record| record.delivered.as_deref()).unwrap_or_default();
    let known = |list: &[Delivered], code: u8| list.iter().find(|one| one.code == code).and_then(|one| one.total);
    let told = QUALITIES.into_iter().filter_map(|quality| {
        let (began, old) = (known(base, quality.code()), known(before, quality.code()));
        let time = draft.delivered.iter().find(|time| time.quality == quality);
        let one = next(draft, (quality, time), began.unwrap_or(0), old);
        (one.total.is_some() || (all && time.is_some() && concerns(draft, quality))).then_some(one)
    });
    let told: Vec<Delivered> = told.collect();
    (!told.is_empty()).then_some(told)
}

/// Whether an order without a time of this quality lacks one.
fn concerns(draft: &OrderDraft, quality: Quality) -> bool {
    let has_gpu = || {
        let of_gpus = [Kind::Gpu, Kind::GpuMemory, Kind::GpuEnergy];
        draft.totals.iter().any(|total| of_gpus.contains(&total.resource.kind))
    };
    quality != Quality::GpuThrottled || has_gpu()
}

fn next(draft: &OrderDraft, (quality, time): (Quality, Option<&Time>), began: u64, old: Option<u64>) -> Delivered {
    let code = quality.code();
    let why = time.and_then(|time| time.why);
    let missing = |why: &str| Delivered { code, delta: None, total: old, why: Some(why.to_owned()) };
    if draft.reason.is_gap() {
        // What its counters move meanwhile the next record tells, as it does of usage.
        let unread = || missing(why.unwrap_or("nothing was measured"));
        return old.map_or_else(unread, |total| Delivered { code, delta: Some(0), total: Some(total), why: None });
    }
    let Some((time, total_ns)) = time.and_then(|time| time.total_ns.map(|total| (time, total))) else {
        return missing(why.unwrap_or("the meter does not tell it"));
    };
    let Some(now) = u64::try_from(total_ns).ok().and_then(|ns| ns.checked_add(began)) else {
        return missing("longer than a record can tell");
    };
    let floor = old.unwrap_or(0);
    if time.status == Status::Missing && now <= floor {
        return missing(why.unwrap_or("not read"));
    }
    let why = if now < floor { Some("the meter's state was older than the record before") } else { why };
    let total = now.max(floor);
    Delivered { code, delta: Some(total - floor), total: Some(total), why: why.map(str::to_owned) }
}

/// The same totals over time that is not served: a suspension.
pub(crate) fn carried(last: &UsageRecord) -> Option<Vec<Delivered>> {
    let unserved = |one: &Delivered| match one.total {
        Some(_) => Delivered { delta: Some(0), why: None, ..one.clone() },
        None => one.clone(),
    };
    last.delivered.as_ref().map(|told| told.iter().map(unserved).collect())
}

#[cfg(test)]
mod tests {
    use hufu_metering::Total;
    use hufu_trade::{
        octets::Octets,
        quality::check,
        resource::Resource,
        usage::{MeterIdentity, Reason, TimeQuality, TimeState},
    };

    use super::*;

    const SLOW: &str = "the host's stolen time, shared out by CPU time used";
    const GONE: &str = "no pressure file for this order";

    fn time(quality: Quality, status: Status, total_ns: Option<u128>) -> Time {
        let why = match status {
            Status::Measured => None,
            Status::Estimated => Some(SLOW),
            Status::Missing => Some(GONE),
        };
        Time { quality, status, total_ns, why }
    }

    fn draft(reason: Reason, kind: Kind, delivered: Vec<Time>) -> OrderDraft {
        let identity = MeterIdentity {
            boot_id: Octets([1; 16]),
            source: "cgroup-v2".to_owned(),
            path: "hufu-orders/x".to_owned(),
            instance: 7,
            resolved: None,
            attached: None,
        };
        let resource = Resource::used(kind);
        OrderDraft {
            order: [1; 16],
            reason,
            start_real_ns: 0,
            end_real_ns: 10,
            elapsed_ns: 10,
            measured_ns: 10,
            unsampled_ns: 0,
            identity,
            totals: vec![Total { resource, status: Status::Measured, total: Some(1), why: None }],
            delivered,
            why: None,
            lost_cpu_ns_max: None,
            samples_due: 1,
            samples_taken: 1,
        }
    }

    fn record(order_seq: u64, reason: Reason, delivered: Option<Vec<Delivered>>) -> UsageRecord {
        UsageRecord {
            version: 1,
            contract_no: Octets([1; 16]),
            order_seq,
            previous: Octets([2; 32]),
            start: 0,
            end: 10,
            reason,
            elapsed_ns: 10,
            quality: TimeQuality { state: TimeState::Synchronised, max_error_ns: None },
            meter: Octets([3; 16]),
            identity: None,
            why: None,
            readings: Vec::new(),
            delivered,
        }
    }

    fn told(code: u8, delta: Option<u64>, total: Option<u64>, why: Option<&str>) -> Delivered {
        Delivered { code, delta, total, why: why.map(str::to_owned) }
    }

    #[test]
    fn what_a_record_tells_continues_the_one_before() {
        use Status::{Estimated, Measured, Missing};
        let (go_on, stalled, stolen) = (Reason::Continue, Quality::CpuStalled, Quality::CpuStolen);
        let before = || Some(vec![told(2, Some(5), Some(30), None)]);
        let older = "the meter's state was older than the record before";
        let huge = u128::from(u64::MAX) + 1;
        for (name, last, reason, time, want) in [
            ("the first", None, go_on, time(stalled, Measured, Some(7)), told(2, Some(7), Some(7), None)),
            ("goes on", before(), go_on, time(stalled, Measured, Some(42)), told(2, Some(12), Some(42), None)),
            ("nothing more", before(), go_on, time(stalled, Measured, Some(30)), told(2, Some(0), Some(30), None)),
            ("missing", before(), go_on, time(stalled, Missing, Some(30)), told(2, None, Some(30), Some(GONE))),
            (
                "missing at last",
                before(),
                go_on,
                time(stalled, Missing, Some(31)),
                told(2, Some(1), Some(31), Some(GONE)),
            ),
            (
                "missing and behind",
                before(),
                go_on,
                time(stalled, Missing, Some(3)),
                told(2, None, Some(30), Some(GONE)),
            ),
            ("behind", before(), go_on, time(stalled, Measured, Some(29)), told(2, Some(0), Some(30), Some(older))),
            ("a gap", before(), Reason::Gap, time(stalled, Measured, Some(99)), told(2, Some(0), Some(30), None)),
            ("no power", before(), Reason::PowerLoss, time(stalled, Missing, None), told(2, Some(0), Some(30), None)),
            ("never read", None, go_on, time(stalled, Missing, None), told(2, None, None, Some(GONE))),
            ("first of all a gap", None, Reason::Gap, time(stalled, Missing, Some(4)), told(2, None, None, Some(GONE))),
            (
                "absurd",
                before(),
                go_on,
                time(stalled, Measured, Some(huge)),
                told(2, None, Some(30), Some("longer than a record can tell")),
            ),
            ("shared out", None, go_on, time(stolen, Estimated, Some(0)), told(1, Some(0), Some(0), Some(SLOW))),
        ] {
            let last = last.map(|delivered| record(6, Reason::Continue, Some(delivered)));
            let found = delivered(&draft(reason, Kind::Cpu, vec![time]), &[], last.as_ref(), true);
            assert_eq!(found, Some(vec![want]), "{name}");
            check(&record(7, reason, found), last.as_ref()).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn a_suspension_carries_the_totals_and_the_meter_counts_from_them() {
        let last =
            record(6, Reason::Continue, Some(vec![told(1, None, None, Some(GONE)), told(2, Some(5), Some(30), None)]));
        let paused = record(7, Reason::Suspended, carried(&last));
        check(&paused, Some(&last)).unwrap();
        let base = paused.delivered.clone().unwrap();
        let fresh = draft(Reason::Continue, Kind::Cpu, vec![time(Quality::CpuStalled, Status::Measured, Some(4))]);
        let after = delivered(&fresh, &base, Some(&paused), false);
        assert_eq!(after, Some(vec![told(2, Some(4), Some(34), None)]));
        check(&record(8, Reason::Continue, after), Some(&paused)).unwrap();
        assert_eq!(carried(&record(6, Reason::Continue, None)), None, "a chain from before there was such a thing");
    }

    #[test]
    fn what_was_never_read_is_told_only_where_all_is() {
        let times = || {
            vec![time(Quality::CpuStolen, Status::Missing, None), time(Quality::GpuThrottled, Status::Missing, None)]
        };
        let find = |kind, all| delivered(&draft(Reason::Continue, kind, times()), &[], None, all);
        assert_eq!(find(Kind::Cpu, false), None);
        let codes = |told: Option<Vec<Delivered>>| told.unwrap().iter().map(|one| one.code).collect::<Vec<_>>();
        assert_eq!(codes(find(Kind::Cpu, true)), [1], "an order without a GPU lacks no time of one");
        assert_eq!(codes(find(Kind::GpuMemory, true)), [1, 5]);
    }

    #[test]
    fn a_kind_that_the_meter_tells_no_more_keeps_its_total() {
        let last = record(6, Reason::Continue, Some(vec![told(4, Some(5), Some(30), None)]));
        for reason in [Reason::Continue, Reason::Gap, Reason::End] {
            let found = delivered(&draft(reason, Kind::Cpu, Vec::new()), &[], Some(&last), false);
            assert_eq!(found.as_ref().unwrap()[0].total, Some(30), "{reason:?}");
            check(&record(7, reason, found), Some(&last)).unwrap();
        }
    }
}
