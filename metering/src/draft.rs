//! A piece of an order's time, as the meter hands it out: what becomes a usage record or a gap. How pieces are cut is `order.rs`.

use hufu_trade::usage::{MeterIdentity, Reason};

use crate::{delivered::Time, usage::Total};

/// A piece of an order's time, ready to become a usage record or a gap: the pieces of an order join without hole or overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderDraft {
    /// The caller's key of the order.
    pub order: [u8; 16],
    /// `Continue`, `End`, `Gap` or `PowerLoss`; the caller knows begin, tariff change and suspension.
    pub reason: Reason,
    /// Start, ns since 1970-01-01Z.
    pub start_real_ns: i64,
    /// End, not included, ns since 1970-01-01Z.
    pub end_real_ns: i64,
    /// Length by CLOCK_BOOTTIME, ns (by the wall clock for a power loss: the other stood still).
    pub elapsed_ns: u64,
    /// Time covered by samples, ns.
    pub measured_ns: u64,
    /// Time in which gauges were not integrated, ns; counters lose nothing in it.
    pub unsampled_ns: u64,
    /// Whose counters were read.
    pub identity: MeterIdentity,
    /// Cumulative totals at the end, one a metered or reserved resource in code order. A gap's totals are those before it.
    pub totals: Vec<Total>,
    /// What it was delivered, cumulative at the end, in code order.
    pub delivered: Vec<Time>,
    /// Why there is a gap.
    pub why: Option<String>,
    /// The most CPU time that may have been used unseen in a gap, ns; nothing of it is in the totals.
    pub lost_cpu_ns_max: Option<u128>,
    /// Samples that were due.
    pub samples_due: u32,
    /// Samples that were taken.
    pub samples_taken: u32,
}
