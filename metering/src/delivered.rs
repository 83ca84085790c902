//! The quality an order was delivered: how long it was throttled, stolen from or stalled. Like counters of usage, and never
//! usage: nothing here is priced. Pure; reading is done by the sources.

use hufu_trade::{
    quality::{QUALITIES, Quality},
    usage::Status,
};

use crate::{
    sample::{At, Raw, Sample},
    usage::Limits,
};

/// Cumulative time of one quality since the order began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Which quality.
    pub quality: Quality,
    /// How it came about; missing when the last sample did not read it, whatever was read before.
    pub status: Status,
    /// ns so far; absent while nothing was ever read.
    pub total_ns: Option<u128>,
    /// Why it is estimated or missing.
    pub why: Option<&'static str>,
}

/// What is kept of one quality across a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredTime {
    /// Last believed raw value, ns.
    pub raw: Option<u64>,
    /// BOOTTIME of that value, ns.
    pub raw_boot_ns: u64,
    /// ns so far.
    pub sum_ns: u128,
    /// Whether it was ever read.
    pub read: bool,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    kept: StoredTime,
    status: Status,
    why: Option<&'static str>,
}

/// The times of one order.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    tallies: [Tally; QUALITIES.len()],
}

impl Delivered {
    pub(crate) fn new(kept: [StoredTime; QUALITIES.len()]) -> Self {
        let tallies = kept.map(|kept| Tally { kept, status: Status::Missing, why: Some("not read yet") });
        Self { tallies }
    }

    /// Takes what a sample says; stolen time is no counter of the order's, see [`Delivered::add`]. A counter that falls, or climbs faster than time on all CPUs, is begun anew and not counted.
    pub(crate) fn step(&mut self, at: At, sample: &Sample, limits: &Limits) {
        let counters = self.tallies.iter_mut().zip(QUALITIES).filter(|(_, quality)| *quality != Quality::CpuStolen);
        for (tally, quality) in counters {
            tally.step(at, sample.quality(quality), limits);
        }
    }

    /// Adds to a time that is not a counter of the order's own.
    pub(crate) fn add(&mut self, quality: Quality, ns: Result<u64, &'static str>, why: &'static str) {
        let Some((tally, _)) = self.tallies.iter_mut().zip(QUALITIES).find(|(_, known)| *known == quality) else {
            return;
        };
        match ns {
            Ok(ns) => {
                tally.kept.sum_ns = tally.kept.sum_ns.saturating_add(u128::from(ns));
                tally.kept.read = true;
                (tally.status, tally.why) = (Status::Estimated, Some(why));
            }
            Err(missing) => (tally.status, tally.why) = (Status::Missing, Some(missing)),
        }
    }

    /// Goes on from times that records told already, where the sums are behind them: a total never falls, so what comes next would
    /// not count until it had made up for them. A counter only when it has no value to count on from (`rebased`):
    /// otherwise its next difference makes up for them by itself.
    pub(crate) fn lift(&mut self, times: &[(Quality, u128)], rebased: bool) {
        for (tally, known) in self.tallies.iter_mut().zip(QUALITIES) {
            let Some((_, ns)) = times.iter().find(|(quality, _)| *quality == known) else { continue };
            if rebased || tally.kept.raw.is_none() {
                tally.kept.sum_ns = tally.kept.sum_ns.max(*ns);
                tally.kept.read = true;
            }
        }
    }

    /// The raw values are another source's from now on.
    pub(crate) fn rebase(&mut self, quality: Option<Quality>) {
        for (tally, known) in self.tallies.iter_mut().zip(QUALITIES) {
            if quality.is_none_or(|quality| quality == known) {
                tally.kept.raw = None;
            }
        }
    }

    /// The times at the last sample.
    pub(crate) fn times(&self) -> Vec<Time> {
        self.tallies.iter().zip(QUALITIES).map(|(tally, quality)| tally.time(quality)).collect()
    }

    /// What to keep across a restart.
    pub(crate) fn stored(&self) -> [StoredTime; QUALITIES.len()] {
        self.tallies.map(|tally| tally.kept)
    }
}

impl Tally {
    fn step(&mut self, at: At, raw: Raw, limits: &Limits) {
        let value = match raw {
            Raw::Value(value) => value,
            Raw::Missing(why) => {
                (self.status, self.why) = (Status::Missing, Some(why));
                return;
            }
        };
        let kept = &mut self.kept;
        let most = u128::from(limits.cpus)
            .saturating_mul(u128::from(at.boot_ns.saturating_sub(kept.raw_boot_ns)).saturating_add(100_000_000));
        (self.status, self.why, kept.read) = (Status::Measured, None, true);
        match kept.raw.map(|old| value.checked_sub(old)) {
            None => {}
            Some(Some(delta)) if u128::from(delta) <= most => {
                kept.sum_ns = kept.sum_ns.saturating_add(u128::from(delta));
            }
            Some(_) => (self.status, self.why) = (Status::Estimated, Some("its counter jumped; begun anew")),
        }
        (kept.raw, kept.raw_boot_ns) = (Some(value), at.boot_ns);
    }

    fn time(&self, quality: Quality) -> Time {
        Time { quality, status: self.status, total_ns: self.kept.read.then_some(self.kept.sum_ns), why: self.why }
    }
}
