//! What the server is made of, as the kernel tells it below a root path. Read seldom: at the start, every few minutes, and when
//! a person asks. A part that cannot be read is absent, never zero; text that makes no sense is no reading. What of it can be
//! metered is `capacity.rs`; what of it makes the server this server is `fingerprint.rs`.

mod disks;
mod network;
mod processor;
mod system;
mod text;

use std::path::Path;

use serde::Serialize;

pub use disks::{Disk, DiskKind};
pub use network::Interface;
pub use processor::{CpuCapacity, Node};
pub use system::{MemoryCapacity, System};

/// The parts of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// CPUs.
    pub cpu: CpuCapacity,
    /// Memory.
    pub memory: MemoryCapacity,
    /// NUMA nodes; none where the kernel has no notion of them.
    pub nodes: Vec<Node>,
    /// Disks with a device behind them, by name.
    pub disks: Vec<Disk>,
    /// Network interfaces with a device behind them, by name.
    pub interfaces: Vec<Interface>,
    /// Machine, operating system and kernel.
    pub system: System,
}

/// Looks at the server below `root` (`/` on a real host).
#[must_use]
pub fn take(root: &Path) -> Inventory {
    Inventory {
        cpu: processor::cpu(root),
        memory: system::memory(root),
        nodes: processor::nodes(root),
        disks: disks::disks(root),
        interfaces: network::interfaces(root),
        system: system::system(root),
    }
}
