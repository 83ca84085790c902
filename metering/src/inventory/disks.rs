//! Disks: what stands in `/sys/block` with a device behind it. Stacked ones (LVM, RAID, loop) count others again, and media
//! that come and go are no part of the server.

use std::path::Path;

use hufu_trade::octets::text_option;
use serde::Serialize;

use super::text;

/// More than that no disk holds: 1 EiB.
const BYTES_MAX: u64 = 1 << 60;
/// The kernel counts in these, whatever the disk does.
const SECTOR_BYTES: u64 = 512;
/// Makers of disks that a hypervisor makes up.
const VIRTUAL: [&str; 6] = ["QEMU", "VMware", "VBOX", "Msft", "Xen", "VirtIO"];

/// What a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskKind {
    /// Flash on NVMe.
    Nvme,
    /// Flash behind a disk controller.
    Ssd,
    /// It rotates.
    Hdd,
    /// A hypervisor made it up.
    Virtual,
}

impl DiskKind {
    /// Its word in `--json` and in the facts of a fingerprint.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Nvme => "nvme",
            Self::Ssd => "ssd",
            Self::Hdd => "hdd",
            Self::Virtual => "virtual",
        }
    }
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// The kernel's name.
    pub name: String,
    /// What it is, where that can be said.
    pub kind: Option<DiskKind>,
    /// Model.
    pub model: Option<String>,
    /// Size, bytes.
    #[serde(with = "text_option")]
    pub bytes: Option<u64>,
    /// Its world-wide name or serial number, whichever it gives.
    pub id: Option<String>,
    /// Whether it is a part of this server: not on USB, not on a network, not removable.
    pub is_fixed: bool,
}

pub(super) fn disks(root: &Path) -> Vec<Disk> {
    let directory = root.join("sys/block");
    text::names(&directory).into_iter().filter_map(|name| disk(&directory, name)).collect()
}

fn disk(directory: &Path, name: String) -> Option<Disk> {
    let own = directory.join(&name);
    // Optical and floppy drives have a device, too.
    if !own.join("device").exists() || name.starts_with("sr") || name.starts_with("fd") {
        return None;
    }
    let said = |path: &str| text::line(&own.join(path));
    let sectors = text::number(&own.join("size"), BYTES_MAX / SECTOR_BYTES).filter(|sectors| *sectors > 0);
    let model = said("device/model");
    let is_made_up = |text: &Option<String>| {
        text.as_ref()
            .is_some_and(|text| VIRTUAL.iter().any(|maker| text.to_uppercase().contains(&maker.to_uppercase())))
    };
    let kind = match said("queue/rotational").as_deref() {
        _ if name.starts_with("vd") || name.starts_with("xvd") => Some(DiskKind::Virtual),
        _ if is_made_up(&said("device/vendor")) || is_made_up(&model) => Some(DiskKind::Virtual),
        _ if name.starts_with("nvme") => Some(DiskKind::Nvme),
        Some("0") => Some(DiskKind::Ssd),
        Some("1") => Some(DiskKind::Hdd),
        _ => None,
    };
    let id = ["wwid", "device/wwid", "device/serial", "serial"].into_iter().find_map(said);
    // Whoever lends a volume over a network takes it away again.
    let path = std::fs::canonicalize(&own).unwrap_or_default();
    let is_lent = path.components().any(|part| {
        let part = part.as_os_str().to_string_lossy();
        part.starts_with("usb") || part.starts_with("session") || part == "nvme-fabrics"
    });
    let is_fixed = !is_lent && said("removable").as_deref() != Some("1");
    Some(Disk { name, kind, model, bytes: sectors.map(|sectors| sectors * SECTOR_BYTES), id, is_fixed })
}
