//! The resources of the trade, their base units and the named units prices are given in (DESIGN section 4).
//! How a resource is read is `metering`'s business.

use serde::{Serialize, Serializer};

use crate::Error;

/// What can be metered and priced. The numbers are `ResourceCode` of `docs/evidence.asn1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// CPU time, ns.
    Cpu = 0,
    /// Memory held over time, byte-seconds.
    Memory = 1,
    /// Bytes read from block devices.
    DiskRead = 2,
    /// Bytes written to block devices.
    DiskWrite = 3,
    /// Read operations on block devices.
    DiskReadOps = 4,
    /// Write operations on block devices.
    DiskWriteOps = 5,
    /// Bytes received at the order's network boundary.
    NetRx = 6,
    /// Bytes sent at the order's network boundary.
    NetTx = 7,
    /// Storage held over time, byte-seconds.
    Storage = 8,
    /// GPU devices or slices held over time, device-ns.
    Gpu = 9,
    /// GPU memory held over time, byte-seconds.
    GpuMemory = 10,
    /// Energy drawn by GPUs, millijoules.
    GpuEnergy = 11,
}

/// Every kind, in code order.
pub const KINDS: [Kind; 12] = [
    Kind::Cpu,
    Kind::Memory,
    Kind::DiskRead,
    Kind::DiskWrite,
    Kind::DiskReadOps,
    Kind::DiskWriteOps,
    Kind::NetRx,
    Kind::NetTx,
    Kind::Storage,
    Kind::Gpu,
    Kind::GpuMemory,
    Kind::GpuEnergy,
];

impl Kind {
    /// The name in the command contract.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cpu => "cpu",
            Kind::Memory => "memory",
            Kind::DiskRead => "disk_read",
            Kind::DiskWrite => "disk_write",
            Kind::DiskReadOps => "disk_read_ops",
            Kind::DiskWriteOps => "disk_write_ops",
            Kind::NetRx => "net_rx",
            Kind::NetTx => "net_tx",
            Kind::Storage => "storage",
            Kind::Gpu => "gpu",
            Kind::GpuMemory => "gpu_memory",
            Kind::GpuEnergy => "gpu_energy",
        }
    }

    /// The base unit of its quantities.
    pub fn unit(self) -> &'static str {
        match self {
            Kind::Cpu => "ns",
            Kind::Memory | Kind::Storage | Kind::GpuMemory => "byte-seconds",
            Kind::DiskRead | Kind::DiskWrite | Kind::NetRx | Kind::NetTx => "bytes",
            Kind::DiskReadOps | Kind::DiskWriteOps => "operations",
            Kind::Gpu => "device-ns",
            Kind::GpuEnergy => "millijoules",
        }
    }

    /// The named unit its prices are per, and how many base units that is.
    pub fn priced_per(self) -> (&'static str, u128) {
        const HOUR_NS: u128 = 3_600_000_000_000;
        const GIB: u128 = 1 << 30;
        match self {
            Kind::Cpu => ("core-hour", HOUR_NS),
            Kind::Memory | Kind::Storage | Kind::GpuMemory => ("GiB-hour", GIB * 3600),
            Kind::DiskRead | Kind::DiskWrite | Kind::NetRx | Kind::NetTx => ("GiB", GIB),
            Kind::DiskReadOps | Kind::DiskWriteOps => ("million-operations", 1_000_000),
            Kind::Gpu => ("GPU-hour", HOUR_NS),
            Kind::GpuEnergy => ("kWh", 3_600_000_000),
        }
    }
}

const RESERVED: u8 = 32;
const RESERVED_PREFIX: &str = "reserved_";

/// A resource of a deal: a kind, used or reserved, perhaps with a qualifier (`gpu:A100-80G`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// What it is.
    pub kind: Kind,
    /// True for the reserved quantity (held for the order whether used or not).
    pub reserved: bool,
    /// Device model or slice, 1 to 64 bytes without control characters, where one kind has several prices.
    pub qualifier: Option<String>,
}

impl Resource {
    /// The used quantity of `kind`, without qualifier.
    pub const fn used(kind: Kind) -> Self {
        Self { kind, reserved: false, qualifier: None }
    }

    /// The reserved quantity of `kind`, without qualifier.
    pub const fn reserved(kind: Kind) -> Self {
        Self { kind, reserved: true, qualifier: None }
    }

    /// `ResourceCode`: the kind's number, plus 32 for reserved quantities.
    pub fn code(&self) -> u8 {
        self.kind as u8 + if self.reserved { RESERVED } else { 0 }
    }

    /// The resource of a `ResourceCode` and qualifier.
    ///
    /// # Errors
    /// [`Error::UnknownResource`] for a code or qualifier outside the module's range.
    pub fn from_code(code: u8, qualifier: Option<String>) -> Result<Self, Error> {
        let (index, reserved) = if code >= RESERVED { (code - RESERVED, true) } else { (code, false) };
        let unknown = || Error::UnknownResource { name: format!("code {code}") };
        let kind = *KINDS.get(usize::from(index)).ok_or_else(unknown)?;
        if qualifier.as_ref().is_some_and(|q| q.is_empty() || q.len() > 64 || q.chars().any(char::is_control)) {
            return Err(unknown());
        }
        Ok(Self { kind, reserved, qualifier })
    }

    /// The base unit of its quantities.
    pub fn unit(&self) -> &'static str {
        self.kind.unit()
    }
}

impl std::str::FromStr for Resource {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::UnknownResource { name: text.chars().take(80).collect() };
        let (name, qualifier) = match text.split_once(':') {
            Some((name, qualifier)) => (name, Some(qualifier.to_owned())),
            None => (text, None),
        };
        let (name, reserved) = match name.strip_prefix(RESERVED_PREFIX) {
            Some(rest) => (rest, true),
            None => (name, false),
        };
        let kind = KINDS.into_iter().find(|kind| kind.name() == name).ok_or_else(unknown)?;
        Self::from_code(kind as u8 + if reserved { RESERVED } else { 0 }, qualifier).map_err(|_| unknown())
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.reserved {
            f.write_str(RESERVED_PREFIX)?;
        }
        f.write_str(self.kind.name())?;
        match &self.qualifier {
            Some(qualifier) => write!(f, ":{qualifier}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
