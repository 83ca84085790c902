//! The clocks of whoever acts now: a thread's own, so that the same course comes of the same seed on every thread. Nodes and
//! platform are given functions that read them.

use std::cell::{Cell, RefCell};

use hufu_agent::sim::{Clock, Now};
use hufu_trade::usage::{TimeQuality, TimeState};

use crate::dice::Dice;

/// When every simulation begins, ns since 1970-01-01Z.
pub const START_NS: i64 = 1_790_000_000_000_000_000;
/// A second, ns.
pub const SECOND: u64 = 1_000_000_000;
/// A minute, ns.
pub const MINUTE: u64 = 60 * SECOND;

const SYNCHRONISED: TimeQuality = TimeQuality { state: TimeState::Synchronised, max_error_ns: Some(1000) };

thread_local! {
    static NODE: Cell<(Now, TimeQuality)> =
        const { Cell::new((Now { real_ns: 0, boot_ns: 0, mono_ns: 0 }, SYNCHRONISED)) };
    static PLATFORM: Cell<i64> = const { Cell::new(0) };
    static SECRETS: RefCell<Dice> = RefCell::new(Dice::new(0));
}

/// The clocks of a host.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    /// How far its wall clock is off, ns.
    pub offset_ns: i64,
    /// Simulated time of its boot.
    pub booted: u64,
    /// How long it slept since then, ns.
    pub slept_ns: u64,
    /// What its wall clock is worth.
    pub state: TimeState,
}

impl HostClock {
    /// A clock that is right, of a host that starts at `time`.
    pub fn new(time: u64) -> Self {
        Self { offset_ns: 0, booted: time, slept_ns: 0, state: TimeState::Synchronised }
    }

    /// What it shows at a simulated time.
    pub fn now(&self, time: u64) -> Now {
        // A kernel has been up for a while before anything reads its clocks.
        let boot_ns = time.saturating_sub(self.booted).saturating_add(10 * SECOND);
        Now {
            real_ns: real_ns(time).saturating_add(self.offset_ns),
            boot_ns,
            mono_ns: boot_ns.saturating_sub(self.slept_ns),
        }
    }

    /// Shows it to the node that acts now.
    pub fn show(&self, time: u64) {
        let max_error_ns = (self.state == TimeState::Synchronised).then_some(1000);
        NODE.set((self.now(time), TimeQuality { state: self.state, max_error_ns }));
    }
}

/// The right time of day, ns since 1970-01-01Z.
pub fn real_ns(time: u64) -> i64 {
    START_NS.saturating_add(i64::try_from(time).unwrap_or(i64::MAX))
}

/// What nodes read.
pub fn node() -> Clock {
    Clock { now: || NODE.get().0, quality: |_| NODE.get().1 }
}

/// What the platform reads.
pub fn platform_ns() -> i64 {
    PLATFORM.get()
}

/// Sets the platform's clock.
pub fn set_platform(real_ns: i64) {
    PLATFORM.set(real_ns);
}

/// Begins a seed's sequence of secrets.
pub fn set_secrets(seed: u64) {
    SECRETS.set(Dice::new(seed ^ 0x5ec2));
}

/// Where the keys of sealed entries come from.
///
/// # Errors
/// None.
pub fn secrets(bytes: &mut [u8]) -> Result<(), hufu_gm::Error> {
    SECRETS.with_borrow_mut(|dice| bytes.iter_mut().for_each(|byte| *byte = dice.number().to_be_bytes()[0]));
    Ok(())
}
