//! The only place in the agent that reads a clock. Everything else takes time as an argument.
#![allow(unsafe_code, reason = "adjtimex(2) has no safe wrapper in the libraries we use; read-only, one call, below")]
#![allow(clippy::disallowed_methods, reason = "this is clock.rs")]

use hufu_trade::usage::{TimeQuality, TimeState};
use rustix::time::{ClockId, clock_gettime};

/// One reading of the three clocks, ns. Durations come from `boot_ns`, timers from `mono_ns`, `real_ns` is a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_REALTIME, ns since 1970-01-01Z.
    pub real_ns: i64,
    /// CLOCK_BOOTTIME, ns: counts suspend.
    pub boot_ns: u64,
    /// CLOCK_MONOTONIC, ns: stands still in suspend.
    pub mono_ns: u64,
}

/// Where writer and sampler have the time from: an argument, so that a simulation can give its own.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// One reading of the three clocks.
    pub now: fn() -> Now,
    /// What the wall clock of a reading is worth.
    pub quality: fn(Now) -> TimeQuality,
}

impl Clock {
    /// The kernel's.
    pub(crate) const SYSTEM: Self = Self { now, quality };
}

/// Reads the clocks.
pub(crate) fn now() -> Now {
    Now {
        real_ns: signed_ns(clock_gettime(ClockId::Realtime)),
        boot_ns: signed_ns(clock_gettime(ClockId::Boottime)).unsigned_abs(),
        mono_ns: signed_ns(clock_gettime(ClockId::Monotonic)).unsigned_abs(),
    }
}

/// Processor time of this process so far, ns.
pub(crate) fn process_cpu_ns() -> u64 {
    signed_ns(clock_gettime(ClockId::ProcessCPUTime)).unsigned_abs()
}

fn signed_ns(time: rustix::time::Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// Time quality by a read-only adjtimex(2): `synchronised` with the kernel's own error bound, otherwise `relative`;
/// `unset` before 2020.
pub(crate) fn quality(now: Now) -> TimeQuality {
    const YEAR_2020_NS: i64 = 1_577_836_800_000_000_000;
    if now.real_ns < YEAR_2020_NS {
        return TimeQuality { state: TimeState::Unset, max_error_ns: None };
    }
    // SAFETY: `timex` is plain integers, all-zero is valid; modes = 0 asks the kernel only to fill the struct in.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    let synchronised = state >= 0 && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
    if synchronised {
        let max_error_ns = u64::try_from(timex.maxerror).ok().map(|us| us.saturating_mul(1000));
        TimeQuality { state: TimeState::Synchronised, max_error_ns }
    } else {
        TimeQuality { state: TimeState::Relative, max_error_ns: None }
    }
}

/// The same time quality in the ledger's own type: `ledger` and `trade` do not know each other.
pub(crate) fn ledger_quality(quality: TimeQuality) -> hufu_ledger::TimeQuality {
    let state = match quality.state {
        TimeState::Unset => hufu_ledger::TimeState::Unset,
        TimeState::Relative => hufu_ledger::TimeState::Relative,
        TimeState::Stepped => hufu_ledger::TimeState::Stepped,
        TimeState::Synchronised => hufu_ledger::TimeState::Synchronised,
    };
    hufu_ledger::TimeQuality { state, max_error_ns: quality.max_error_ns }
}
