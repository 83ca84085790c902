//! The quality an order was served with: time for which it was throttled, robbed of its CPU or stalled, as usage records carry
//! it and bills sum it up. Nothing of it is priced. What is priced is in `usage.rs`; reading the counters is `metering`.

use der::Sequence;
use serde::{Serialize, Serializer};

use crate::{
    Error, octets,
    rating::Recorded,
    usage::{Reason, UsageRecord},
};

/// What can be told of the quality of service, each in ns. The numbers are `QualityCode` of `docs/evidence.asn1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Quality {
    /// Held back by the order's own CPU limit, summed over its CPUs.
    CpuThrottled = 0,
    /// Taken by the hypervisor from the CPUs of the order.
    CpuStolen = 1,
    /// Some task of the order waited for a CPU.
    CpuStalled = 2,
    /// Some task of the order waited for memory.
    MemoryStalled = 3,
    /// Some task of the order waited for input or output.
    IoStalled = 4,
    /// The order's GPUs ran below their clocks, summed over them.
    GpuThrottled = 5,
}

/// Every kind of quality, in code order.
pub const QUALITIES: [Quality; 6] = [
    Quality::CpuThrottled,
    Quality::CpuStolen,
    Quality::CpuStalled,
    Quality::MemoryStalled,
    Quality::IoStalled,
    Quality::GpuThrottled,
];

impl Quality {
    /// The name in views and messages.
    pub fn name(self) -> &'static str {
        match self {
            Quality::CpuThrottled => "cpu_throttled",
            Quality::CpuStolen => "cpu_stolen",
            Quality::CpuStalled => "cpu_stalled",
            Quality::MemoryStalled => "memory_stalled",
            Quality::IoStalled => "io_stalled",
            Quality::GpuThrottled => "gpu_throttled",
        }
    }

    /// `QualityCode`.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The quality of a `QualityCode`.
    ///
    /// # Errors
    /// [`Error::Field`] for a code outside the module's range.
    pub fn from_code(code: u8) -> Result<Self, Error> {
        let unknown = || Error::Field { what: "Delivered", field: "code", why: format!("{code} is no quality") };
        QUALITIES.get(usize::from(code)).copied().ok_or_else(unknown)
    }
}

/// One kind of quality in one usage record. `delta` is this window's time, `total` that since the deal, both in ns. The delta is
/// absent exactly when it was not read, and then `why` says why; the total only while it never was.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Delivered {
    /// `QualityCode`.
    pub code: u8,
    /// This window's time, ns.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub delta: Option<u64>,
    /// Cumulative time since the deal, ns.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub total: Option<u64>,
    /// Why it is missing, or estimated.
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    pub why: Option<String>,
}

/// One line of a bill about the quality delivered in its period.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct QualityLine {
    /// `QualityCode`; its name in the view.
    #[serde(rename = "quality", serialize_with = "name_of")]
    pub code: u8,
    /// How long, ns: the last total of the period less that of the bill before.
    #[serde(with = "octets::text")]
    pub ns: u64,
    /// For how long it was read, ns: what the records that have a delta of it lasted, without gaps and suspensions.
    #[serde(with = "octets::text")]
    pub elapsed_ns: u64,
}

impl QualityLine {
    /// Its share of the time for which it was read, in hundredths of a percent, cut; `None` where that is no time. Above 10,000
    /// where several CPUs or GPUs were throttled at once.
    pub fn share(&self) -> Option<u128> {
        (u128::from(self.ns) * 10_000).checked_div(u128::from(self.elapsed_ns))
    }
}

fn name_of<S: Serializer>(code: &u8, serializer: S) -> Result<S::Ok, S::Error> {
    match Quality::from_code(*code) {
        Ok(quality) => serializer.serialize_str(quality.name()),
        Err(_) => serializer.collect_str(code),
    }
}

/// The quality lines of a period, in code order, from records that [`check`] takes; `None` where nothing was read. A kind that no
/// record of the period read has no line: missing is not zero. What a counter moved while no record read it comes with the
/// next that does.
///
/// # Errors
/// [`Error::Overflow`]; [`Error::Field`] for totals below those of the bill before.
pub fn lines(billed: Option<&UsageRecord>, records: &[Recorded]) -> Result<Option<Vec<QualityLine>>, Error> {
    let mut lines = Vec::new();
    let last = delivered(records.last().map(|(_, record)| record));
    for now in last {
        let served = |record: &&UsageRecord| !record.reason.is_gap() && record.reason != Reason::Suspended;
        let reads = |record: &&UsageRecord| {
            delivered(Some(*record)).iter().any(|one| one.code == now.code && one.delta.is_some())
        };
        let mut read = records.iter().map(|(_, record)| record).filter(served).filter(reads).peekable();
        let (Some(total), Some(_)) = (now.total, read.peek()) else { continue };
        let sum = |sum: u64, record: &UsageRecord| sum.checked_add(record.elapsed_ns);
        let elapsed_ns = read.try_fold(0, sum).ok_or(Error::Overflow { what: "time of a quality line" })?;
        let before = delivered(billed).iter().find(|old| old.code == now.code).and_then(|old| old.total).unwrap_or(0);
        let fell = || Error::Field {
            what: "UsageRecord",
            field: "delivered",
            why: format!("the total of {} fell since the bill before", now.code),
        };
        lines.push(QualityLine { code: now.code, ns: total.checked_sub(before).ok_or_else(fell)?, elapsed_ns });
    }
    Ok((!lines.is_empty()).then_some(lines))
}

/// Whether what a record says was delivered continues the record before: each kind once, in code order; total = total before +
/// delta; once known a total stays known; a missing delta has its reason; a gap and a suspension add nothing.
///
/// # Errors
/// [`Error::Field`] naming the record and the kind.
pub fn check(record: &UsageRecord, last: Option<&UsageRecord>) -> Result<(), Error> {
    let wrong = |why: String| {
        let why = format!("record {}: {why}", record.order_seq);
        Err(Error::Field { what: "UsageRecord", field: "delivered", why })
    };
    let (now, before) = (delivered(Some(record)), delivered(last));
    if record.delivered.as_ref().is_some_and(Vec::is_empty) {
        return wrong("an empty list where none is due".to_owned());
    }
    for pair in now.windows(2) {
        if let [one, next] = pair
            && next.code <= one.code
        {
            return wrong("kinds out of order".to_owned());
        }
    }
    if let Some(lost) = before.iter().find(|old| old.total.is_some() && !now.iter().any(|new| new.code == old.code)) {
        return wrong(format!("{} lost its total", Quality::from_code(lost.code)?.name()));
    }
    let adds_nothing = record.reason.is_gap() || record.reason == Reason::Suspended;
    for one in now {
        let name = Quality::from_code(one.code)?.name();
        let old = before.iter().find(|old| old.code == one.code).and_then(|old| old.total);
        let delta = one.delta.unwrap_or(0);
        let follows = match one.total {
            None => one.delta.is_none() && old.is_none(),
            Some(total) => old.unwrap_or(0).checked_add(delta) == Some(total),
        };
        if !follows {
            return wrong(format!("the total of {name} does not follow from its deltas"));
        }
        if adds_nothing && delta != 0 {
            return wrong(format!("{name} in time that was not served"));
        }
        if one.delta.is_none() && one.why.is_none() {
            return wrong(format!("{name} is missing without a reason"));
        }
    }
    Ok(())
}

fn delivered(record: Option<&UsageRecord>) -> &[Delivered] {
    record.and_then(|record| record.delivered.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        octets::Octets,
        usage::{TimeQuality, TimeState},
    };

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

    fn read(code: u8, delta: u64, total: u64) -> Delivered {
        Delivered { code, delta: Some(delta), total: Some(total), why: None }
    }

    fn missing(code: u8, total: Option<u64>) -> Delivered {
        Delivered { code, delta: None, total, why: Some("no such file".to_owned()) }
    }

    #[test]
    fn names_and_codes_agree() {
        for (code, quality) in (0..).zip(QUALITIES) {
            assert_eq!((quality.code(), Quality::from_code(code).unwrap()), (code, quality));
        }
        let refused = Quality::from_code(6).unwrap_err().to_string();
        assert!(refused.contains("6 is no quality"), "{refused}");
    }

    #[test]
    fn what_was_delivered_continues_the_record_before() {
        let (go_on, gap) = (Reason::Continue, Reason::Gap);
        let before = Some(vec![read(0, 4, 4), missing(1, None)]);
        let unreasoned = Delivered { why: None, ..missing(1, None) };
        let no_delta = Delivered { delta: None, ..read(1, 0, 1) };
        let no_total = Delivered { total: None, ..read(1, 1, 0) };
        for (name, before, reason, now, want) in [
            ("old form", None, go_on, None, ""),
            ("goes on", before.clone(), go_on, Some(vec![read(0, 3, 7), read(1, 2, 2)]), ""),
            ("missing keeps its total", before.clone(), go_on, Some(vec![missing(0, Some(4)), missing(1, None)]), ""),
            ("a gap adds nothing", before.clone(), gap, Some(vec![read(0, 0, 4), missing(1, None)]), ""),
            ("a new kind", before.clone(), go_on, Some(vec![read(0, 0, 4), read(5, 9, 9)]), ""),
            ("never read may leave", before.clone(), go_on, Some(vec![read(0, 0, 4)]), ""),
            ("falls", before.clone(), go_on, Some(vec![read(0, 0, 3)]), "cpu_throttled does not follow"),
            ("jumps", before.clone(), go_on, Some(vec![read(0, 1, 9)]), "cpu_throttled does not follow"),
            ("a kind is lost", before.clone(), go_on, Some(vec![read(2, 1, 1)]), "cpu_throttled lost its total"),
            ("all are lost", before.clone(), go_on, None, "cpu_throttled lost its total"),
            ("a total is lost", before.clone(), go_on, Some(vec![missing(0, None)]), "cpu_throttled does not follow"),
            ("in a gap", before.clone(), gap, Some(vec![read(0, 1, 5)]), "not served"),
            ("suspended", before, Reason::Suspended, Some(vec![read(0, 1, 5)]), "not served"),
            ("twice", None, go_on, Some(vec![read(1, 1, 1), read(1, 1, 1)]), "out of order"),
            ("out of order", None, go_on, Some(vec![read(2, 1, 1), read(1, 1, 1)]), "out of order"),
            ("unknown", None, go_on, Some(vec![read(6, 1, 1)]), "no quality"),
            ("empty", None, go_on, Some(Vec::new()), "empty list"),
            ("no reason", None, go_on, Some(vec![unreasoned]), "without a reason"),
            ("total from nowhere", None, go_on, Some(vec![no_delta]), "cpu_stolen does not follow"),
            ("delta without a total", None, go_on, Some(vec![no_total]), "cpu_stolen does not follow"),
            ("overflow", Some(vec![read(0, u64::MAX, u64::MAX)]), go_on, Some(vec![read(0, 1, 0)]), "does not follow"),
        ] {
            let last = record(6, Reason::Continue, before);
            let found = check(&record(7, reason, now), Some(&last)).map_err(|error| error.to_string());
            match found {
                Ok(()) => assert!(want.is_empty(), "{name}: accepted"),
                Err(why) => assert!(!want.is_empty() && why.contains(want), "{name}: {why}"),
            }
        }
    }
}
