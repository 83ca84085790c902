//! What one look at a workload gives: raw counters and gauges at an instant. No deltas and no rates: those are `usage.rs`.

use hufu_trade::{
    quality::{QUALITIES, Quality},
    resource::Kind,
};

/// An instant by three clocks, ns. Durations come from `boot_ns`, timers from `mono_ns`; `real_ns` is only a label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// CLOCK_REALTIME, ns since 1970-01-01Z.
    pub real_ns: i64,
    /// CLOCK_BOOTTIME, ns: counts suspend.
    pub boot_ns: u64,
    /// CLOCK_MONOTONIC, ns: stands still in suspend.
    pub mono_ns: u64,
}

/// What is metered for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A cgroup by its path below the hierarchies' mounts, without leading slash: `hufu-orders/ab12`.
    Cgroup {
        /// The path.
        path: String,
    },
    /// A process and its descendants, where no cgroup may be written.
    Process {
        /// The root process.
        pid: u32,
    },
}

/// One raw value. Not read is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raw {
    /// As read: ns of CPU, bytes or operations since the counter's birth, or bytes held now.
    Value(u64),
    /// Not read, and why.
    Missing(&'static str),
}

impl Raw {
    /// The value, if it was read.
    pub fn value(self) -> Option<u64> {
        match self {
            Raw::Value(value) => Some(value),
            Raw::Missing(_) => None,
        }
    }
}

/// Why a kind is missing for every order in this version.
pub(crate) fn absent(kind: Kind) -> &'static str {
    match kind {
        Kind::NetRx | Kind::NetTx => "no network boundary for this order",
        Kind::Storage => "no storage meter for this order",
        Kind::Gpu | Kind::GpuMemory | Kind::GpuEnergy => "no GPU meter for this order",
        Kind::Cpu => "no CPU counter for this order",
        Kind::Memory => "no memory gauge for this order",
        Kind::DiskRead | Kind::DiskWrite | Kind::DiskReadOps | Kind::DiskWriteOps => {
            "no block IO counter for this order"
        }
    }
}

/// Why a quality is missing where no source gives it.
fn no_quality(quality: Quality) -> &'static str {
    match quality {
        Quality::CpuThrottled => "no CPU limit counter for this order",
        Quality::CpuStolen => "the host does not say what was stolen",
        Quality::CpuStalled | Quality::MemoryStalled | Quality::IoStalled => "no pressure file for this order",
        Quality::GpuThrottled => "no GPU meter for this order",
    }
}

/// The raw values of one workload at one instant, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    values: [Raw; hufu_trade::resource::KINDS.len()],
    quality: [Raw; QUALITIES.len()],
    processes: Raw,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            values: hufu_trade::resource::KINDS.map(|kind| Raw::Missing(absent(kind))),
            quality: QUALITIES.map(|quality| Raw::Missing(no_quality(quality))),
            processes: Raw::Missing("no process count for this order"),
        }
    }
}

impl Sample {
    /// The value of `kind`.
    pub fn of(&self, kind: Kind) -> Raw {
        self.values.get(kind as usize).copied().unwrap_or(Raw::Missing("unknown kind"))
    }

    /// The sample with `raw` for `kind`.
    #[must_use]
    pub fn with(mut self, kind: Kind, raw: Raw) -> Self {
        self.set(kind, raw);
        self
    }

    /// Time of a quality since its counter's birth, ns.
    pub fn quality(&self, quality: Quality) -> Raw {
        self.quality.get(usize::from(quality.code())).copied().unwrap_or(Raw::Missing("unknown quality"))
    }

    /// Processes and threads in the workload now.
    pub fn processes(&self) -> Raw {
        self.processes
    }

    pub(crate) fn set(&mut self, kind: Kind, raw: Raw) {
        if let Some(value) = self.values.get_mut(kind as usize) {
            *value = raw;
        }
    }

    pub(crate) fn set_quality(&mut self, quality: Quality, raw: Raw) {
        if let Some(value) = self.quality.get_mut(usize::from(quality.code())) {
            *value = raw;
        }
    }

    pub(crate) fn set_processes(&mut self, raw: Raw) {
        self.processes = raw;
    }
}

/// True for kinds that are read as an amount held now and integrated over time; the others count up.
pub fn is_gauge(kind: Kind) -> bool {
    matches!(kind, Kind::Memory | Kind::Storage | Kind::GpuMemory | Kind::Gpu)
}
