//! Counters of the order's traffic, attached as root to the cgroup that the agent meters: it gets their map, to read and no more.

use std::{os::fd::OwnedFd, path::Path};

use hufu_metering::{Target, counters, hierarchy::Hierarchies, resolve::resolve};

/// Attaches the counters to a cgroup, a path below the hierarchies, or finds those that are there.
///
/// # Errors
/// Why there are none: no version 2 hierarchy that holds the cgroup, no right, no support in the kernel.
pub(crate) fn attach(cgroup: &str) -> Result<OwnedFd, String> {
    let hierarchies = Hierarchies::detect(Path::new("/")).map_err(|e| e.to_string())?;
    let directory = hierarchies.unified(cgroup).ok_or_else(|| format!("no cgroup {cgroup} of version 2"))?;
    counters::attach(&directory).map_err(|e| e.to_string())
}

/// The same for a cgroup that the site named as its engine or manager does (`docker:ID`), which the agent will find, too.
///
/// # Errors
/// As [`attach`]; a name that leads to no cgroup.
pub(crate) fn attach_named(named: &str) -> Result<OwnedFd, String> {
    let hierarchies = Hierarchies::detect(Path::new("/")).map_err(|e| e.to_string())?;
    match resolve(&hierarchies, named).map_err(|e| e.to_string())?.target {
        Target::Cgroup { path } => attach(&path),
        Target::Process { pid } => Err(format!("process {pid} has no cgroup of its own")),
    }
}

/// Whether counters could be attached here.
///
/// # Errors
/// Why not.
pub(crate) fn probe() -> Result<(), String> {
    let hierarchies = Hierarchies::detect(Path::new("/")).map_err(|e| e.to_string())?;
    counters::available(&hierarchies).map_err(|e| e.to_string())
}
