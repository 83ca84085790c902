//! What makes a server this server: the facts about its hardware that stay over restarts, upgrades and reconfiguration, in one
//! canonical text. Whoever keeps keys hashes it (SM3, with a salt); nothing here does.
//!
//! The text is lines of UTF-8, each ended by a line feed: `hufu hardware 1` first, then the others in the order of their octets:
//!
//! ```text
//! cpu THREADS MODEL              threads that are there
//! disk KIND BYTES ID             nvme, ssd, hdd, virtual; world-wide name or serial number, else the model
//! gpu UUID
//! memory QUARTERS/4 of 2^N       see [`memory_class`]
//! nic ADDRESS                    the address that came with the device
//! ```
//!
//! What is not known is `-`. Left out are parts that come and go by themselves: links and CPUs switched off, volumes on a
//! network or on USB, functions lent to machines, the names the kernel gave.

use crate::{gpu::Gpus, inventory::Inventory};

/// First line.
const HEAD: &str = "hufu hardware 1";

/// The facts, canonical.
#[must_use]
pub fn facts(inventory: &Inventory, gpus: Option<&Gpus>) -> String {
    let word = |word: Option<&str>| word.filter(|word| !word.is_empty()).unwrap_or("-").to_owned();
    let threads = inventory.cpu.threads.unwrap_or(inventory.cpu.count);
    let mut lines = vec![
        format!("cpu {threads} {}", word(Some(&inventory.cpu.model))),
        format!("memory {}", inventory.memory.total_bytes.map_or_else(|| "-".to_owned(), memory_class)),
    ];
    for disk in inventory.disks.iter().filter(|disk| disk.is_fixed) {
        let bytes = disk.bytes.map(|bytes| bytes.to_string());
        let id = disk.id.as_deref().or(disk.model.as_deref());
        lines.push(format!("disk {} {} {}", word(disk.kind.map(|kind| kind.word())), word(bytes.as_deref()), word(id)));
    }
    let whole = inventory.interfaces.iter().filter(|interface| !interface.is_function);
    lines.extend(whole.filter_map(|interface| interface.address.as_ref()).map(|address| format!("nic {address}")));
    let devices = gpus.and_then(|gpus| gpus.devices.as_ref()).into_iter().flatten();
    lines.extend(devices.map(|gpu| format!("gpu {}", word(gpu.uuid.as_deref()))));
    lines.sort();
    lines.insert(0, HEAD.to_owned());
    lines.into_iter().map(|line| line + "\n").collect()
}

/// The size class of memory: a kernel leaves out what it needs for itself, and the next release another amount, so the size is
/// rounded to the nearest quarter of the power of two above it. A missing module out of four is seen; a new kernel is not.
#[must_use]
pub fn memory_class(bytes: u64) -> String {
    let exponent = 64 - bytes.saturating_sub(1).leading_zeros();
    let whole = 1_u128 << exponent;
    let quarters = (u128::from(bytes) * 4 + whole / 2) / whole;
    format!("{quarters}/4 of 2^{exponent}")
}

/// What one text of facts has and the other has not, as lines for a person: `- disk ..` is missing now, `+ disk ..` is new.
#[must_use]
pub fn differences(accepted: &str, found: &str) -> Vec<String> {
    let only_in = |one: &str, other: &str, sign: &str| {
        let mut rest: Vec<&str> = other.lines().collect();
        let lines = one.lines().filter(|line| match rest.iter().position(|there| there == line) {
            Some(index) => {
                rest.swap_remove(index);
                false
            }
            None => true,
        });
        lines.map(|line| format!("{sign} {line}")).collect::<Vec<_>>()
    };
    let mut lines = only_in(accepted, found, "-");
    lines.extend(only_in(found, accepted, "+"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_class_forgives_a_kernel_and_no_missing_module() {
        const GIB: u64 = 1 << 30;
        const MIB: u64 = 1 << 20;
        for (bytes, want) in [
            (32 * GIB, "4/4 of 2^35"),
            (31 * GIB + 200 * MIB, "4/4 of 2^35"),
            (27 * GIB + 300 * MIB, "3/4 of 2^35"),
            (24 * GIB - 700 * MIB, "3/4 of 2^35"),
            (20 * GIB - 500 * MIB, "2/4 of 2^35"),
            (GIB - 70 * MIB, "4/4 of 2^30"),
            (1, "4/4 of 2^0"),
            (0, "0/4 of 2^0"),
            (u64::MAX, "4/4 of 2^64"),
        ] {
            assert_eq!(memory_class(bytes), want, "{bytes}");
        }
    }

    #[test]
    fn differences_name_what_is_gone_and_what_is_new() {
        let found = differences("h\ngpu a\ngpu a\nnic 1\n", "h\ngpu a\nnic 1\nnic 2\n");
        assert_eq!(found, ["- gpu a", "+ nic 2"]);
        assert_eq!(differences("h\n", "h\n"), [] as [String; 0]);
    }
}
