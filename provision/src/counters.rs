//! Counters of the order's traffic, made as root at the cgroup that the agent meters: attached to it, then the agent gets their map,
//! to read and no more; or in nftables where the kernel attaches none, then the agent asks for their values.

use std::{collections::BTreeMap, os::fd::OwnedFd, path::Path};

use hufu_metering::{Target, counters, hierarchy::Hierarchies, nft, resolve::resolve};
use hufu_provision::Network;

fn hierarchies() -> Result<Hierarchies, String> {
    Hierarchies::detect(Path::new("/")).map_err(|e| e.to_string())
}

/// Attaches the counters to a cgroup, a path below the hierarchies, or finds those that are there. `None` where nftables counts.
///
/// # Errors
/// Why there are none: no version 2 hierarchy that holds the cgroup, no right, no support in the kernel.
pub(crate) fn count(cgroup: &str) -> Result<Option<OwnedFd>, String> {
    let hierarchies = hierarchies()?;
    let directory = hierarchies.unified(cgroup).ok_or_else(|| format!("no cgroup {cgroup} of version 2"))?;
    match counters::attach(&directory) {
        Ok(map) => Ok(Some(map)),
        // Only where no cgroup of this machine can have any: offers name one of the two.
        Err(error) if counters::available(&hierarchies).is_ok() => Err(error.to_string()),
        Err(error) => nft::attach(&hierarchies, cgroup).map(|_| None).map_err(|other| format!("{error}; {other}")),
    }
}

/// The same for a cgroup that the site named as its engine or manager does (`docker:ID`), which the agent will find, too.
///
/// # Errors
/// As [`count`]; a name that leads to no cgroup.
pub(crate) fn count_named(named: &str) -> Result<Option<OwnedFd>, String> {
    match resolve(&hierarchies()?, named).map_err(|e| e.to_string())?.target {
        Target::Cgroup { path } => count(&path),
        Target::Process { pid } => Err(format!("process {pid} has no cgroup of its own")),
    }
}

/// By what traffic would be counted here.
///
/// # Errors
/// Why by nothing.
pub(crate) fn probe() -> Result<Network, String> {
    let hierarchies = hierarchies()?;
    match counters::available(&hierarchies) {
        Ok(()) => Ok(Network::Cgroup),
        Err(error) => nft::available(&hierarchies).map(|()| Network::Nft).map_err(|other| format!("{error}; {other}")),
    }
}

/// What nftables counted.
///
/// # Errors
/// What the kernel says.
pub(crate) fn traffic() -> Result<BTreeMap<String, String>, String> {
    let all = nft::list().map_err(|e| e.to_string())?;
    Ok(all.into_iter().map(|found| (found.key(), format!("{} {}", found.rx_bytes, found.tx_bytes))).collect())
}

/// Removes from nftables what was of cgroups that are gone. What could not be removed the next one finds; nobody is billed by it.
pub(crate) fn sweep() {
    // Where nftables cannot be asked nothing of ours is in it.
    if nft::list().is_ok_and(|found| !found.is_empty())
        && let Err(why) = hierarchies().and_then(|found| nft::sweep(&found).map_err(|e| e.to_string()))
    {
        eprintln!("hufu-provision: {why}");
    }
}
