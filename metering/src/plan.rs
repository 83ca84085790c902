//! What an order is metered by, as the site's provisioning named it. Opening and reading it is `order.rs` and `attached.rs`.

use std::path::PathBuf;

use crate::sample::Target;

/// What an order is metered by, and how the site named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The primary source: CPU, memory, block IO, pressure. Without it there is nothing to meter the order by.
    pub target: Target,
    /// How the target was found where the site named something else, `docker:0123ab -> system.slice/docker-0123ab.scope`;
    /// `None` when it was named directly.
    pub resolved: Option<String>,
    /// The one boundary at which the order's traffic is counted.
    pub network: Option<Network>,
    /// What holds its files.
    pub storage: Option<Storage>,
    /// UUIDs of the GPUs or MIG instances that the order holds.
    pub gpus: Vec<String>,
}

/// The boundary of an order's traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// Counters attached to its cgroup.
    Cgroup,
    /// A network interface.
    Interface {
        /// Its name.
        name: String,
        /// True for the host's end of a pair: what the order received, this end sent.
        host_side: bool,
        /// A process in the network namespace that it is in, a container's or a pod's, where that is not the agent's own.
        netns_pid: Option<u32>,
    },
}

/// What holds an order's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A directory: by its project quota where it has one, else by walking it.
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// A filesystem of its own.
    Filesystem {
        /// Where it is mounted.
        mount: PathBuf,
    },
}

impl From<Target> for Plan {
    /// A target and nothing else.
    fn from(target: Target) -> Self {
        Self { target, resolved: None, network: None, storage: None, gpus: Vec::new() }
    }
}
