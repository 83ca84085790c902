//! Memory as a whole, machine, operating system, kernel.

use std::path::Path;

use hufu_trade::octets::text_option;
use serde::Serialize;

use super::text;
use crate::file;

/// More memory than that no server has: 4 PiB.
pub(super) const MEMORY_BYTES_MAX: u64 = 1 << 52;

/// The memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryCapacity {
    /// Total that the kernel can use, bytes.
    #[serde(with = "text_option")]
    pub total_bytes: Option<u64>,
    /// Available without swapping, bytes.
    #[serde(with = "text_option")]
    pub available_bytes: Option<u64>,
}

/// Machine, operating system, kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct System {
    /// Maker and model by the firmware.
    pub machine: Option<String>,
    /// The distribution's name for itself.
    pub os: Option<String>,
    /// Release of the kernel.
    pub kernel: Option<String>,
}

pub(super) fn memory(root: &Path) -> MemoryCapacity {
    let meminfo = text::bytes(&root.join("proc/meminfo")).unwrap_or_default();
    let bytes = |key: &[u8]| file::keyed(&meminfo, key)?.checked_mul(1024).filter(|bytes| *bytes <= MEMORY_BYTES_MAX);
    MemoryCapacity { total_bytes: bytes(b"MemTotal"), available_bytes: bytes(b"MemAvailable") }
}

pub(super) fn system(root: &Path) -> System {
    let firmware = |name: &str| text::line(&root.join("sys/class/dmi/id").join(name));
    let machine = match (firmware("sys_vendor"), firmware("product_name")) {
        (Some(maker), Some(model)) => Some(format!("{maker} {model}")),
        (maker, model) => model.or(maker).or_else(|| text::line(&root.join("proc/device-tree/model"))),
    };
    let release = ["etc/os-release", "usr/lib/os-release"].into_iter().find_map(|path| text::bytes(&root.join(path)));
    let os = release.and_then(|release| {
        let value = file::lines(&release).find_map(|line| line.strip_prefix(b"PRETTY_NAME="))?;
        text::tidy(value).map(|name| name.trim_matches(['"', '\'']).to_owned())
    });
    System { machine, os, kernel: text::line(&root.join("proc/sys/kernel/osrelease")) }
}
