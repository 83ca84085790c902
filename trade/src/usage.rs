//! What one order used in one window: readings, usage records, gaps and the window entry (DESIGN section 3).
//! Measuring is `metering`, pricing is `rating.rs`; here is only what is said and signed.

use der::{Enumerated, Sequence};
use serde::Serialize;

use crate::{
    Error,
    octets::{ContractNo, Digest, Octets},
    quality::Delivered,
    resource::Resource,
};

/// How far a time can be trusted, best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumerated, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum TimeState {
    /// The clock was never set (year 1970 boots); forbids a final bill, never metering.
    Unset = 0,
    /// Durations hold, the wall clock may not.
    Relative = 1,
    /// The wall clock jumped in the interval.
    Stepped = 2,
    /// Disciplined by NTP or PTP.
    Synchronised = 3,
}

/// Time quality: the state and the greatest error, ns, if known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct TimeQuality {
    /// How far it can be trusted.
    pub state: TimeState,
    /// Greatest error in ns, where the kernel states one.
    pub max_error_ns: Option<u64>,
}

/// Why a record was cut (the OCMF vocabulary, as far as it applies).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Reason {
    /// First record of the order.
    Begin = 0,
    /// An ordinary window edge.
    Continue = 1,
    /// Last record of the order.
    End = 2,
    /// A new price holds from the record's end.
    TariffChange = 3,
    /// The meter could not be read (agent down, counter gone): nothing measured here is billed.
    Gap = 4,
    /// The host lost power or was reset.
    PowerLoss = 5,
    /// The order was suspended by its contract.
    Suspended = 6,
}

impl Reason {
    /// True for records that say "not measured": they carry no usage and are rated by the contract's gap rule.
    pub fn is_gap(self) -> bool {
        matches!(self, Reason::Gap | Reason::PowerLoss)
    }
}

/// How a reading came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Status {
    /// Read from its source.
    Measured = 0,
    /// Bounded, not read (a lost tail, a price change inside a gap).
    Estimated = 1,
    /// Not read; never zero.
    Missing = 2,
}

/// One resource in one usage record. `delta` is this window's quantity, `total` the order's cumulative quantity, both in the
/// resource's base unit. The delta is absent exactly when the status is missing; the total only while nothing was ever read.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Reading {
    /// `ResourceCode`.
    pub code: u8,
    /// Device model or slice.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub qualifier: Option<String>,
    /// How it came about.
    pub status: Status,
    /// This window's quantity.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub delta: Option<u128>,
    /// Cumulative quantity since the deal.
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    pub total: Option<u128>,
    /// Why it is estimated or missing.
    #[asn1(context_specific = "3", tag_mode = "IMPLICIT", optional = "true")]
    pub why: Option<String>,
}

impl Reading {
    /// The resource it is of.
    ///
    /// # Errors
    /// [`Error::UnknownResource`] for a code outside the vocabulary.
    pub fn resource(&self) -> Result<Resource, Error> {
        Resource::from_code(self.code, self.qualifier.clone())
    }
}

/// What a counter's value belongs to. A changed identity is a new counter even when its value is larger.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct MeterIdentity {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Octets<16>,
    /// Kind of source: `cgroup-v2`, `cgroup-v1`, `cgroup-hybrid`, `process-tree`.
    pub source: String,
    /// The cgroup path below its mount, or the root process id.
    pub path: String,
    /// The cgroup's inode, or the root process's start time in clock ticks since boot.
    pub instance: u64,
    /// How the site named the order's place and what that was found to be (`docker:ID -> PATH`); absent where it named the source.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<String>,
    /// What else is read for the order: network, storage, GPUs. Absent when there is none.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached: Option<Vec<SourceIdentity>>,
}

/// What the counters of an attached source belong to. A changed one is a new source, even when its values are larger.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct SourceIdentity {
    /// Kind of source.
    pub source: String,
    /// Where it is: an interface, a directory, a device.
    pub path: String,
    /// What tells it from another at the same path.
    pub instance: u64,
}

impl MeterIdentity {
    /// The id records carry: first 16 bytes of SM3 over the identity's DER.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the text fields are longer than DER lengths allow.
    pub fn id(&self) -> Result<Octets<16>, Error> {
        let hash = hufu_gm::sm3::sm3(&[&crate::encode(self, "MeterIdentity")?]);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Ok(Octets(id))
    }
}

/// A usage record or a gap: what one order used in one half-open UTC interval `[start, end)`.
/// The chain over `previous` and `order_seq` shows removed records; the totals make a lost one harmless.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct UsageRecord {
    /// Format version, 1.
    pub version: u8,
    /// The order's contract.
    pub contract_no: ContractNo,
    /// 0, 1, 2, ... without holes.
    pub order_seq: u64,
    /// Entry hash of the record before, of the deal for the first.
    pub previous: Digest,
    /// Start of the interval, ns since 1970-01-01Z.
    pub start: i64,
    /// End of the interval, not included, ns since 1970-01-01Z.
    pub end: i64,
    /// Why the record was cut.
    pub reason: Reason,
    /// Length by CLOCK_BOOTTIME, ns: holds even where the wall clock does not.
    pub elapsed_ns: u64,
    /// Quality of start and end.
    pub quality: TimeQuality,
    /// [`MeterIdentity::id`] of the counters read at the end.
    pub meter: Octets<16>,
    /// The identity itself, in the first record and wherever it changed.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub identity: Option<MeterIdentity>,
    /// Why there is a gap, for a person.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub why: Option<String>,
    /// One reading a metered resource of the offer, in code order.
    pub readings: Vec<Reading>,
    /// The quality delivered, in code order; absent where none is told.
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    pub delivered: Option<Vec<Delivered>>,
}

impl UsageRecord {
    /// Whether its `meter` is of counters that are known: of the identity that it brings, else of the record before, whose meter
    /// is `before`. Only the first record of an order must bring one; where the record before is not at hand nothing is compared.
    ///
    /// # Errors
    /// [`Error::Field`] `meter` of another identity, or changed without one; [`Error::Field`] `identity` of a first record
    /// without it.
    pub fn check_meter(&self, before: Option<Octets<16>>) -> Result<(), Error> {
        let wrong = |field: &'static str, why: &str| {
            let why = format!("record {}: {why}", self.order_seq);
            Err(Error::Field { what: "UsageRecord", field, why })
        };
        match (&self.identity, before) {
            (Some(identity), _) if identity.id()? != self.meter => {
                wrong("meter", "not the SM3 of the identity it brings")
            }
            (Some(_), _) => Ok(()),
            (None, _) if self.order_seq == 0 => wrong("identity", "the first record brings none"),
            (None, Some(before)) if before != self.meter => wrong("meter", "changed without an identity"),
            (None, _) => Ok(()),
        }
    }
}

/// Host totals of one resource in one window: what all orders together cannot exceed.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct HostTotal {
    /// `ResourceCode`.
    pub code: u8,
    /// The host's own counter over the window; absent when it could not be read.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(with = "crate::octets::text_option")]
    pub host: Option<u128>,
    /// Sum of the orders' deltas.
    #[serde(with = "crate::octets::text")]
    pub orders: u128,
    /// Whether conservation was checked: `checked`, `violated`, or why not.
    pub check: String,
}

/// The first entry of a usage window's first block: host totals, conservation, sampling.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Window {
    /// Format version, 1.
    pub version: u8,
    /// Start, ns since 1970-01-01Z.
    pub start: i64,
    /// End, not included.
    pub end: i64,
    /// Length by CLOCK_BOOTTIME, ns.
    pub elapsed_ns: u64,
    /// Samples that were due.
    pub samples_due: u32,
    /// Samples that were taken.
    pub samples_taken: u32,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Octets<16>,
    /// Quality of start and end.
    pub quality: TimeQuality,
    /// Orders with a record in this window.
    pub orders: u32,
    /// One total a resource that has orders.
    pub totals: Vec<HostTotal>,
}
