//! From samples to usage: exact differences of counters, time integrals of gauges, reservations. Pure: no I/O, no clock.
//!
//! A counter's difference is billed across any gap as long as the identity is the same. A value that falls or climbs
//! faster than physics allows is held back until the next sample confirms it; what is beyond physics is quarantined and
//! never usage. Totals are cumulative and only grow, so the sum over windows is the sum over steps however it is cut.

use hufu_trade::resource::{Kind, Resource};
use hufu_trade::usage::Status;

use crate::sample::{At, Raw, Sample, absent, is_gauge};

const NS: u128 = 1_000_000_000;

/// What physics and the sampling plan allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// CPUs online.
    pub cpus: u32,
    /// Planned time between samples, ns.
    pub interval_ns: u64,
}

impl Limits {
    /// The greatest believable difference of a counter of `kind` over `elapsed_ns`.
    fn most(&self, kind: Kind, elapsed_ns: u64) -> u128 {
        const DEVICE_BYTES_PER_NS: u128 = 256;
        const DEVICE_OPERATIONS_PER_US: u128 = 100;
        let elapsed = u128::from(elapsed_ns);
        match kind {
            // 1/50 and 20 ms a CPU for the time between reading the clock and reading the counter.
            Kind::Cpu => u128::from(self.cpus).saturating_mul(elapsed + u128::from(elapsed_ns / 50) + 20_000_000),
            Kind::DiskReadOps | Kind::DiskWriteOps => {
                u128::from(elapsed_ns / 1000 + 100_000).saturating_mul(DEVICE_OPERATIONS_PER_US)
            }
            // mJ: as many devices as an order can hold, at twice what any draws. Each device's own limit is in `gpu_meter`.
            Kind::GpuEnergy => (elapsed / 1_000_000_000 + 1).saturating_mul(64 * 2 * 2_000_000),
            _ => (elapsed + 100_000_000).saturating_mul(DEVICE_BYTES_PER_NS),
        }
    }

    /// A longer time without a sample is not integrated: 2.5 intervals.
    pub(crate) fn gap_ns(&self) -> u64 {
        self.interval_ns.saturating_mul(5) / 2
    }
}

/// Something about a step that a record must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The counter started again from zero while its identity stayed; counted from zero.
    Reset {
        /// Which.
        kind: Kind,
        /// Last value before.
        from: u64,
        /// Value after, billed.
        to: u64,
    },
    /// The counter moved further than physics allows, twice; not billed.
    Quarantined {
        /// Which.
        kind: Kind,
        /// Last believed value.
        from: u64,
        /// The value not believed.
        to: u64,
        /// The most that could have been used.
        most: u128,
    },
}

/// How one resource is accumulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Grows; `doubt` is set while a value waits for confirmation.
    Counter { last: Option<(u64, u64)>, doubt: bool },
    /// Held now; the last value and its time.
    Gauge { last: Option<u64> },
    /// Base units a second of elapsed time.
    Reserved { per_second: u64 },
}

/// One resource of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meter {
    resource: Resource,
    flow: Flow,
    /// In units of `divisor`.
    sum: u128,
    /// `sum` at the sample before.
    before: u128,
    read: bool,
    why: Option<&'static str>,
    /// What makes the running piece an estimate, though the last value was read.
    mark: Option<&'static str>,
    /// A greater value of a gauge, or a faster counter in base units a second, is not believed.
    bound: Option<u64>,
}

impl Meter {
    fn used(resource: Resource) -> Self {
        let flow = if is_gauge(resource.kind) {
            Flow::Gauge { last: None }
        } else {
            Flow::Counter { last: None, doubt: false }
        };
        let why = Some(absent(resource.kind));
        Self { resource, flow, sum: 0, before: 0, read: false, why, mark: None, bound: None }
    }

    fn reserved(resource: Resource, per_second: u64) -> Self {
        Self {
            resource,
            flow: Flow::Reserved { per_second },
            sum: 0,
            before: 0,
            read: true,
            why: None,
            mark: None,
            bound: None,
        }
    }

    /// What the sum is divided by to give base units: gauges sum byte-ns of both ends, reservations base units x ns / s.
    fn divisor(&self) -> u128 {
        match self.flow {
            Flow::Counter { .. } => 1,
            Flow::Gauge { .. } => 2 * NS,
            Flow::Reserved { .. } => NS,
        }
    }

    fn step(&mut self, at: At, elapsed_ns: Option<u64>, sample: &Sample, limits: &Limits) -> Option<Finding> {
        self.before = self.sum;
        let raw = sample.of(self.resource.kind);
        match &mut self.flow {
            Flow::Reserved { per_second } => {
                let amount = u128::from(elapsed_ns.unwrap_or(0)).saturating_mul(u128::from(*per_second));
                self.sum = self.sum.saturating_add(amount);
                None
            }
            Flow::Gauge { last } => {
                let raw = match (raw, self.bound) {
                    (Raw::Value(value), Some(bound)) if value > bound => Raw::Missing("it said more than there is"),
                    (raw, _) => raw,
                };
                let value = note(raw, &mut self.read, &mut self.why);
                if value.is_none() && self.read {
                    self.mark = Some("not read for a part of the time, and not counted there");
                }
                if let (Some(old), Some(new), Some(elapsed)) = (*last, value, elapsed_ns)
                    && elapsed <= limits.gap_ns()
                {
                    let ends = u128::from(old) + u128::from(new);
                    self.sum = self.sum.saturating_add(ends.saturating_mul(u128::from(elapsed)));
                }
                *last = value;
                None
            }
            Flow::Counter { last, doubt } => {
                let value = note(raw, &mut self.read, &mut self.why)?;
                let Some((old, old_boot_ns)) = *last else {
                    *last = Some((value, at.boot_ns));
                    return None;
                };
                let kind = self.resource.kind;
                let elapsed_ns = at.boot_ns.saturating_sub(old_boot_ns);
                let most = limits.most(kind, elapsed_ns);
                // A tenth of a second for what is between the clock and the counter, and bursts.
                let reach =
                    |bound| u128::from(elapsed_ns.saturating_add(100_000_000)).saturating_mul(u128::from(bound)) / NS;
                let most = self.bound.map_or(most, |bound| most.min(reach(bound)));
                let (delta, finding) = match value.checked_sub(old) {
                    Some(delta) if u128::from(delta) <= most => (delta, None),
                    _ if !*doubt => {
                        // One strange value may be a glitch: wait for the next, keep the last believed one.
                        *doubt = true;
                        self.why = Some("the last value waits for confirmation");
                        return None;
                    }
                    None if kind == Kind::Cpu && u128::from(value) <= most => {
                        (value, Some(Finding::Reset { kind, from: old, to: value }))
                    }
                    _ => (0, Some(Finding::Quarantined { kind, from: old, to: value, most })),
                };
                *last = Some((value, at.boot_ns));
                *doubt = false;
                self.sum = self.sum.saturating_add(u128::from(delta));
                finding
            }
        }
    }

    fn forget(&mut self) {
        self.before = self.sum;
        match &mut self.flow {
            Flow::Counter { last, doubt } => (*last, *doubt) = (None, false),
            Flow::Gauge { last } => *last = None,
            Flow::Reserved { .. } => {}
        }
    }
}

/// Notes that a value was read, or why not.
fn note(raw: Raw, read: &mut bool, why: &mut Option<&'static str>) -> Option<u64> {
    match raw {
        Raw::Value(value) => {
            (*read, *why) = (true, None);
            Some(value)
        }
        Raw::Missing(reason) => {
            *why = Some(reason);
            None
        }
    }
}

/// Cumulative quantity of one resource since the order began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Total {
    /// Which resource.
    pub resource: Resource,
    /// How it came about.
    pub status: Status,
    /// Quantity in the resource's base unit; absent exactly when nothing was ever read.
    pub total: Option<u128>,
    /// Why it is estimated or missing.
    pub why: Option<String>,
}

/// What is kept of one resource across a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Which resource.
    pub resource: Resource,
    /// Last believed raw value of a counter, last value of a gauge, base units a second of a reservation.
    pub raw: Option<u64>,
    /// BOOTTIME of a counter's value, ns.
    pub raw_boot_ns: u64,
    /// The accumulator in its own unit.
    pub sum: u128,
    /// Whether it was ever read.
    pub read: bool,
}

/// The accumulated usage of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    meters: Vec<Meter>,
    /// The last two samples' times.
    last: Option<At>,
    before: Option<At>,
    /// Time covered by samples, ns.
    pub measured_ns: u64,
    /// Time without samples, in which gauges were not integrated, ns.
    pub unsampled_ns: u64,
}

impl Usage {
    /// Nothing used yet. `reserved` gives base units a second: 1,000,000,000 for one core or device, bytes for memory.
    pub fn new(metered: &[Resource], reserved: &[(Resource, u64)]) -> Self {
        let used = metered.iter().filter(|resource| !resource.reserved).cloned().map(Meter::used);
        let held = reserved.iter().map(|(resource, per_second)| Meter::reserved(resource.clone(), *per_second));
        let mut meters: Vec<Meter> = used.chain(held).collect();
        meters.sort_by(|a, b| {
            (a.resource.code(), &a.resource.qualifier).cmp(&(b.resource.code(), &b.resource.qualifier))
        });
        meters.dedup_by(|a, b| a.resource == b.resource);
        Self { meters, last: None, before: None, measured_ns: 0, unsampled_ns: 0 }
    }

    /// Takes a sample. A sample from before the last one is ignored.
    pub fn step(&mut self, at: At, sample: &Sample, limits: &Limits, mut found: impl FnMut(Finding)) {
        let elapsed_ns = match self.last {
            Some(last) => match at.boot_ns.checked_sub(last.boot_ns) {
                Some(elapsed) => Some(elapsed),
                None => return,
            },
            None => None,
        };
        for meter in &mut self.meters {
            if let Some(finding) = meter.step(at, elapsed_ns, sample, limits) {
                found(finding);
            }
        }
        let elapsed = elapsed_ns.unwrap_or(0);
        let covered = if elapsed <= limits.gap_ns() { &mut self.measured_ns } else { &mut self.unsampled_ns };
        *covered = covered.saturating_add(elapsed);
        self.before = self.last;
        self.last = Some(at);
    }

    /// True while a value waits for confirmation: one more sample settles it.
    pub fn in_doubt(&self) -> bool {
        self.meters.iter().any(|meter| matches!(meter.flow, Flow::Counter { doubt: true, .. }))
    }

    /// Time of the last sample.
    pub fn last(&self) -> Option<At> {
        self.last
    }

    /// Hands out the time measured up to an instant; what was measured after it stays.
    pub(crate) fn take_measured(&mut self, boot_ns: u64) -> u64 {
        let after_ns = self.last.map_or(0, |last| last.boot_ns.saturating_sub(boot_ns)).min(self.measured_ns);
        let taken_ns = self.measured_ns - after_ns;
        (self.measured_ns, self.unsampled_ns) = (after_ns, 0);
        taken_ns
    }

    /// Forgets raw values and the last sample, keeps sums: the identity changed, or time passed that is a gap.
    pub fn rebase(&mut self) {
        self.meters.iter_mut().for_each(Meter::forget);
        (self.last, self.before) = (None, None);
    }

    /// Forgets the raw values of `kinds` alone: their source is another one.
    pub(crate) fn rebase_kinds(&mut self, kinds: &[Kind], why: &'static str) {
        for meter in self.meters.iter_mut().filter(|meter| kinds.contains(&meter.resource.kind)) {
            if !matches!(meter.flow, Flow::Reserved { .. }) {
                meter.forget();
                meter.mark = Some(why);
            }
        }
    }

    /// No value of `kind` is believed beyond `most`: held at once, or counted up in a second.
    pub(crate) fn bound(&mut self, kind: Kind, most: Option<u64>) {
        let of = self.meters.iter_mut().filter(|meter| meter.resource.kind == kind && !meter.resource.reserved);
        of.for_each(|meter| meter.bound = most);
    }

    /// The running piece's quantity of `kind` is an estimate.
    pub(crate) fn mark(&mut self, kind: Kind, why: &'static str) {
        let of = self.meters.iter_mut().filter(|meter| meter.resource.kind == kind && !meter.resource.reserved);
        of.for_each(|meter| meter.mark = Some(why));
    }

    /// A new piece begins: what marked the one before does not mark it.
    pub(crate) fn clear_marks(&mut self) {
        self.meters.iter_mut().for_each(|meter| meter.mark = None);
    }

    /// The totals at the last sample.
    pub fn totals(&self) -> Vec<Total> {
        self.meters.iter().map(|meter| total(meter, meter.sum, None)).collect()
    }

    /// The totals at the sample before the last.
    pub fn totals_before(&self) -> Vec<Total> {
        self.meters.iter().map(|meter| total(meter, meter.before, None)).collect()
    }

    /// The used sum of `kind` so far, in base units; 0 if it is not metered.
    pub(crate) fn used(&self, kind: Kind) -> u128 {
        self.meters
            .iter()
            .filter(|meter| meter.resource.kind == kind && !meter.resource.reserved)
            .map(|meter| meter.sum / meter.divisor())
            .sum()
    }

    /// Whether `kind` is metered.
    pub(crate) fn meters(&self, kind: Kind) -> bool {
        self.meters.iter().any(|meter| meter.resource.kind == kind && !meter.resource.reserved)
    }

    /// The totals at an instant between the last two samples, the last step split by time.
    pub fn totals_at(&self, boot_ns: u64) -> Vec<Total> {
        let (Some(before), Some(last)) = (self.before, self.last) else { return self.totals() };
        let span = last.boot_ns.saturating_sub(before.boot_ns);
        let part = boot_ns.saturating_sub(before.boot_ns);
        if part >= span {
            return self.totals();
        }
        let split = |meter: &Meter| {
            let step = meter.sum.saturating_sub(meter.before);
            let sum = meter.before.saturating_add(share(step, u128::from(part), u128::from(span)));
            total(meter, sum, Some("split by time at the window edge: no sample at the edge"))
        };
        self.meters.iter().map(split).collect()
    }

    /// Whether it accumulates the same resources, in the same way, as another one.
    pub(crate) fn meters_as(&self, other: &Self) -> bool {
        let plan = |usage: &Self| -> Vec<(Resource, Option<u64>)> {
            let rate = |meter: &Meter| match meter.flow {
                Flow::Reserved { per_second } => Some(per_second),
                Flow::Counter { .. } | Flow::Gauge { .. } => None,
            };
            usage.meters.iter().map(|meter| (meter.resource.clone(), rate(meter))).collect()
        };
        plan(self) == plan(other)
    }

    /// What to keep across a restart.
    pub fn stored(&self) -> Vec<Stored> {
        let keep = |meter: &Meter| {
            let (raw, raw_boot_ns) = match meter.flow {
                Flow::Counter { last: Some((raw, boot_ns)), .. } => (Some(raw), boot_ns),
                Flow::Gauge { last } => (last, 0),
                Flow::Reserved { per_second } => (Some(per_second), 0),
                Flow::Counter { .. } => (None, 0),
            };
            Stored { resource: meter.resource.clone(), raw, raw_boot_ns, sum: meter.sum, read: meter.read }
        };
        self.meters.iter().map(keep).collect()
    }

    /// Goes on from totals that were said already, where the sums are behind them: a total never falls, so what is used next
    /// would not count until it had made up for them. A counter only when it has no value to count on from
    /// (`rebased`): otherwise its next difference makes up for them by itself.
    pub(crate) fn lift(&mut self, totals: &[(Resource, u128)], rebased: bool) {
        for meter in &mut self.meters {
            let Some((_, total)) = totals.iter().find(|(resource, _)| *resource == meter.resource) else { continue };
            if rebased || !matches!(meter.flow, Flow::Counter { .. }) {
                meter.sum = meter.sum.max(total.saturating_mul(meter.divisor()));
                meter.before = meter.sum;
            }
        }
    }

    /// Takes sums, and raw values too, from a stored state; resources it does not know begin at zero. `last` is the time
    /// of the stored state's last sample.
    pub fn restore(&mut self, stored: &[Stored], last: At) {
        for meter in &mut self.meters {
            let Some(old) = stored.iter().find(|old| old.resource == meter.resource) else { continue };
            (meter.sum, meter.before, meter.read) = (old.sum, old.sum, old.read);
            match &mut meter.flow {
                Flow::Counter { last, .. } => *last = old.raw.map(|raw| (raw, old.raw_boot_ns)),
                Flow::Gauge { last } => *last = old.raw,
                Flow::Reserved { .. } => {}
            }
        }
        self.last = Some(last);
    }
}

/// `step x part / span` for `part <= span`, without overflow, rounded down.
fn share(step: u128, part: u128, span: u128) -> u128 {
    if span == 0 {
        return step;
    }
    match step.checked_mul(part) {
        Some(product) => product / span,
        None => (step / span).saturating_mul(part),
    }
}

fn total(meter: &Meter, sum: u128, split: Option<&'static str>) -> Total {
    let reserved = matches!(meter.flow, Flow::Reserved { .. });
    let (status, why) = match (meter.read, meter.why) {
        (false, why) => (Status::Missing, why),
        (true, Some(why)) => (Status::Estimated, Some(why)),
        (true, None) if meter.mark.is_some() => (Status::Estimated, meter.mark),
        (true, None) if split.is_some() && !reserved => (Status::Estimated, split),
        (true, None) => (Status::Measured, None),
    };
    let total = meter.read.then(|| sum / meter.divisor());
    Total { resource: meter.resource.clone(), status, total, why: why.map(str::to_owned) }
}
