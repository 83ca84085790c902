//! What this server has, and what of an order's usage it can meter, by which source, or why not. Read seldom.

use std::{fs, path::Path};

use hufu_trade::resource::{KINDS, Kind, Resource};
use serde::Serialize;

use crate::{
    Error,
    gpu::Gpus,
    gpu_meter,
    hierarchy::{Hierarchies, Mode},
    inventory::{self, Inventory},
    net,
    sample::absent,
};

/// What a server has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// What it is made of: `cpu`, `memory`, `nodes`, `disks`, `interfaces`, `system`.
    #[serde(flatten)]
    pub inventory: Inventory,
    /// Mounted filesystems on block devices.
    pub filesystems: Vec<Filesystem>,
    /// GPUs; absent when nobody asked ([`Capacity::with_gpus`]).
    pub gpus: Option<Gpus>,
    /// Cgroup generations.
    pub cgroups: Mode,
    /// What can be metered for an order.
    pub resources: Vec<Source>,
}

/// A mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// Where it is mounted.
    pub mount: String,
    /// Its device.
    pub device: String,
    /// Its type.
    pub kind: String,
    /// Size, bytes.
    #[serde(with = "hufu_trade::octets::text")]
    pub total_bytes: u64,
    /// Free for ordinary users, bytes.
    #[serde(with = "hufu_trade::octets::text")]
    pub available_bytes: u64,
}

/// Whether and how one resource of an order can be metered here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The resource.
    pub resource: Resource,
    /// Its base unit.
    pub unit: &'static str,
    /// The trusted source; absent when there is none.
    pub source: Option<String>,
    /// Why there is none.
    pub reason: Option<String>,
}

/// Takes stock of the server below `root`.
///
/// # Errors
/// [`Error::Unreadable`] when there is no `/proc`.
pub fn capacity(root: &Path) -> Result<Capacity, Error> {
    let hierarchies = Hierarchies::detect(root)?;
    let sources = trusted_sources(root)?.into_iter().map(|(resource, source)| {
        let unit = resource.unit();
        let (source, reason) = match source {
            Ok(source) => (Some(source), None),
            Err(reason) => (None, Some(reason)),
        };
        Source { resource, unit, source, reason }
    });
    Ok(Capacity {
        inventory: inventory::take(root),
        filesystems: if root == Path::new("/") { filesystems() } else { Vec::new() },
        gpus: None,
        cgroups: hierarchies.mode(),
        resources: sources.collect(),
    })
}

impl Capacity {
    /// The same with the GPUs, and a row for each kind of them. Memory and energy of devices have their one row.
    #[must_use]
    pub fn with_gpus(mut self, gpus: Gpus) -> Self {
        let is_sold = !gpus.kinds.is_empty();
        let mut whole = gpus.devices.iter().flatten().filter(|gpu| gpu.resource.is_some());
        let counts_energy = whole.any(|gpu| gpu.counts_energy == Some(true));
        for row in &mut self.resources {
            let has = match row.resource.kind {
                Kind::GpuMemory => is_sold,
                Kind::GpuEnergy => counts_energy,
                Kind::Gpu if is_sold => {
                    row.reason = Some("devices are sold by their kind, below".to_owned());
                    continue;
                }
                _ => continue,
            };
            if let Some(source) = gpu_meter::source(row.resource.kind).filter(|_| has) {
                (row.source, row.reason) = (Some(source.to_owned()), None);
            }
        }
        self.resources.extend(gpus.kinds.iter().map(|kind| Source {
            resource: kind.resource.clone(),
            unit: kind.resource.unit(),
            source: gpu_meter::source(kind.resource.kind).map(str::to_owned),
            reason: None,
        }));
        self.gpus = Some(gpus);
        self
    }
}

/// Filesystems of the running system; a device mounted several times is listed once.
fn filesystems() -> Vec<Filesystem> {
    let Ok(disks) = sysinfo::Disks::new_with_refreshed_list() else { return Vec::new() };
    let mut found: Vec<Filesystem> = disks
        .iter()
        .filter(|disk| disk.total_space() > 0)
        .map(|disk| Filesystem {
            mount: disk.mount_point().to_string_lossy().into_owned(),
            device: disk.name().to_string_lossy().into_owned(),
            kind: disk.file_system().to_string_lossy().into_owned(),
            total_bytes: disk.total_space(),
            available_bytes: disk.available_space(),
        })
        .filter(|disk| disk.device.starts_with('/') || disk.kind == "zfs")
        .collect();
    found.sort_by(|a, b| (&a.device, a.mount.len()).cmp(&(&b.device, b.mount.len())));
    found.dedup_by(|a, b| a.device == b.device);
    found
}

/// A resource, and the source it is metered by or why it cannot be.
pub type TrustedSource = (Resource, Result<String, String>);

/// For each kind of resource the source that an order's usage is metered by here, or why it cannot be.
///
/// # Errors
/// [`Error::Unreadable`] when there is no `/proc`.
pub fn trusted_sources(root: &Path) -> Result<Vec<TrustedSource>, Error> {
    let hierarchies = Hierarchies::detect(root)?;
    let network = net::source(&hierarchies);
    let sources = KINDS.into_iter().map(|kind| {
        let found = match kind {
            Kind::NetRx | Kind::NetTx => network.clone(),
            kind => source(&hierarchies, kind).map_err(str::to_owned),
        };
        (Resource::used(kind), found)
    });
    Ok(sources.collect())
}

fn source(hierarchies: &Hierarchies, kind: Kind) -> Result<String, &'static str> {
    let v1 = |controller: &str, file: &str| hierarchies.v1(controller).filter(|mount| mount.join(file).exists());
    let controllers = hierarchies
        .v2()
        .and_then(|mount| fs::read_to_string(mount.join("cgroup.controllers")).ok())
        .unwrap_or_default();
    let v2 = |controller: &str| controllers.split_whitespace().any(|name| name == controller);
    match kind {
        Kind::Cpu if v1("cpuacct", "cpuacct.usage").is_some() => Ok("cgroup v1 cpuacct.usage".to_owned()),
        Kind::Cpu if hierarchies.v2().is_some() => Ok("cgroup v2 cpu.stat usage_usec".to_owned()),
        Kind::Cpu => Err("no cgroup hierarchy: CPU of process trees only, a lower bound"),
        Kind::Memory if v1("memory", "memory.usage_in_bytes").is_some() => {
            Ok("cgroup v1 memory.usage_in_bytes".to_owned())
        }
        Kind::Memory if v2("memory") => Ok("cgroup v2 memory.current".to_owned()),
        Kind::Memory => Err("no memory controller: proportional set size of process trees only"),
        Kind::DiskRead | Kind::DiskWrite | Kind::DiskReadOps | Kind::DiskWriteOps if v2("io") => {
            Ok("cgroup v2 io.stat".to_owned())
        }
        Kind::DiskRead | Kind::DiskWrite | Kind::DiskReadOps | Kind::DiskWriteOps
            if hierarchies.v1("blkio").is_some() =>
        {
            Err(
                "cgroup v1 blkio reads zero until a throttle rule is set and misses late writeback; boot with version 2",
            )
        }
        kind => Err(absent(kind)),
    }
}
