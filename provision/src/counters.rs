//! Counters of the order's traffic, attached as root to the cgroup that the agent meters: it gets their map, to read and no more.

use std::{os::fd::OwnedFd, path::Path};

use hufu_metering::{counters, hierarchy::Hierarchies};

/// Attaches the counters to a cgroup, a path below the hierarchies, or finds those that are there.
///
/// # Errors
/// Why there are none: no version 2 hierarchy that holds the cgroup, no right, no support in the kernel.
pub(crate) fn attach(cgroup: &str) -> Result<OwnedFd, String> {
    let hierarchies = Hierarchies::detect(Path::new("/")).map_err(|e| e.to_string())?;
    let directory = hierarchies.unified(cgroup).ok_or_else(|| format!("no cgroup {cgroup} of version 2"))?;
    counters::attach(&directory).map_err(|e| e.to_string())
}

/// Whether counters could be attached here.
///
/// # Errors
/// Why not.
pub(crate) fn probe() -> Result<(), String> {
    let hierarchies = Hierarchies::detect(Path::new("/")).map_err(|e| e.to_string())?;
    counters::available(&hierarchies).map_err(|e| e.to_string())
}
