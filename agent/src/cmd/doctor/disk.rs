//! The disk under the ledger: room for the next quarter, a file system that keeps what it was told to keep, and whether it
//! does. The one thing written is a probe beside the ledger, never in it.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Check, Patient, State, or_fail};
use crate::{book::Book, clock, hardware::Hardware, stock::Shop, text::Text};

/// The ledger's growth over this many days must fit.
const DAYS: u64 = 90;
/// Bytes of one order's record in one window, with its share of block and frame, before it is archived: measured are 0.6 to 0.9 KiB.
const RECORD_BYTES: u64 = 1024;
/// Orders that a node is expected to run at most, where its products would allow more.
const ORDERS_MAX: u64 = 64;
/// Files that may be made in that time: segments and archives.
const FILES: u64 = 4096;
/// A sync that takes longer keeps the writer from its work, ns.
const SYNC_NS: u64 = 1_000_000_000;

pub(super) fn checks(patient: &Patient<'_>) -> Vec<Check> {
    let Some(dir) = existing(&patient.config.ledger_dir) else { return Vec::new() };
    vec![space(patient, &dir), inodes(patient, &dir), filesystem(patient, &dir), sync(patient, &dir)]
}

/// The directory, or the nearest above it that is there.
fn existing(dir: &Path) -> Option<PathBuf> {
    let dir = std::path::absolute(dir).ok()?;
    dir.ancestors().find(|dir| dir.is_dir()).map(Path::to_owned)
}

/// Bytes that the ledger may grow by: each order that can run at a time leaves a record in every window.
fn growth(patient: &Patient<'_>) -> u64 {
    let config = patient.config;
    let orders = super::machine::capacity(config).map_or(ORDERS_MAX, |capacity| {
        let shop = Shop {
            products: config.products.clone(),
            capacity,
            certificates: Vec::new(),
            hardware: Hardware::default(),
            profile: None,
        };
        let units = shop.products.iter().filter_map(|product| shop.free_units(&Book::default(), product));
        units.max().map_or(1, u64::from).clamp(1, ORDERS_MAX)
    });
    let windows = DAYS * 86_400_000_000_000 / config.window_ns.max(1);
    windows.saturating_mul(RECORD_BYTES).saturating_mul(orders.saturating_add(1))
}

fn space(patient: &Patient<'_>, dir: &Path) -> Check {
    let needed = growth(patient);
    let text = Text::DoctorSpace { bytes: needed.to_string(), days: DAYS.to_string() };
    let found = rustix::fs::statvfs(dir).map(|found| found.f_bavail.saturating_mul(found.f_frsize));
    let judged = match found {
        // A tenth of it lasts nine days: time enough to be told.
        Ok(free) if free < needed / 10 => (State::Fail, free.to_string()),
        Ok(free) if free < needed => (State::Warn, free.to_string()),
        Ok(free) => (State::Ok, free.to_string()),
        Err(error) => (State::Fail, error.to_string()),
    };
    Check { unit: Some("bytes"), ..patient.check("disk_space", judged, &text) }
}

fn inodes(patient: &Patient<'_>, dir: &Path) -> Check {
    let text = Text::DoctorInodes { count: FILES.to_string() };
    let judged = match rustix::fs::statvfs(dir) {
        // File systems that make inodes as they need them say 0 of 0.
        Ok(found) if found.f_files == 0 => (State::Ok, "-".to_owned()),
        Ok(found) if found.f_favail < FILES => (State::Fail, found.f_favail.to_string()),
        Ok(found) => (State::Ok, found.f_favail.to_string()),
        Err(error) => (State::Fail, error.to_string()),
    };
    patient.check("disk_inodes", judged, &text)
}

/// The name of a file system's magic number (statfs(2)), and what it is worth under a ledger.
fn judged(magic: i64) -> (State, String) {
    match magic & 0xffff_ffff {
        0x0102_1994 => (State::Fail, "tmpfs".to_owned()),
        0x8584_58f6 => (State::Fail, "ramfs".to_owned()),
        0x794c_7630 => (State::Fail, "overlay".to_owned()),
        0x6969 => (State::Warn, "nfs".to_owned()),
        0x6573_5546 => (State::Warn, "fuse".to_owned()),
        0xff53_4d42 | 0xfe53_4d42 => (State::Warn, "cifs".to_owned()),
        0xef53 => (State::Ok, "ext4".to_owned()),
        0x5846_5342 => (State::Ok, "xfs".to_owned()),
        0x9123_683e => (State::Ok, "btrfs".to_owned()),
        0x2fc1_2fc1 => (State::Ok, "zfs".to_owned()),
        0xf2f5_2010 => (State::Ok, "f2fs".to_owned()),
        other => (State::Warn, format!("{other:#x}")),
    }
}

fn filesystem(patient: &Patient<'_>, dir: &Path) -> Check {
    let found = match rustix::fs::statfs(dir) {
        Ok(found) => judged(found.f_type),
        Err(error) => (State::Fail, error.to_string()),
    };
    patient.check("filesystem", found, &Text::DoctorFilesystem {})
}

/// Writes, syncs, renames and removes a file of its own: beside the ledger where that is the same disk, so that nothing of the
/// daemon's is touched.
fn sync(patient: &Patient<'_>, dir: &Path) -> Check {
    let (id, text) = ("disk_sync", Text::DoctorSync { ms: (SYNC_NS / 1_000_000).to_string() });
    let device = |dir: &Path| std::fs::metadata(dir).map(|found| found.dev()).ok();
    let parent = dir.parent().filter(|parent| device(parent) == device(dir) && *dir == patient.config.ledger_dir);
    let place = parent.unwrap_or(dir);
    let begun_ns = clock::now().mono_ns;
    let done = probe(place, std::process::id());
    let took_ns = clock::now().mono_ns.saturating_sub(begun_ns);
    match done {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && !patient.is_root => {
            patient.skipped(id, &Text::DoctorNotRoot { path: place.display().to_string() }, &text)
        }
        Ok(()) if took_ns > SYNC_NS => {
            let actual = (State::Warn, (took_ns / 1_000_000).to_string());
            Check { unit: Some("ms"), ..patient.check(id, actual, &text) }
        }
        done => {
            let actual = or_fail(done.map(|()| (took_ns / 1_000_000).to_string()));
            Check { unit: Some("ms"), ..patient.check(id, actual, &text) }
        }
    }
}

fn probe(place: &Path, number: u32) -> std::io::Result<()> {
    let (first, second) = (place.join(format!(".doctor-{number}.new")), place.join(format!(".doctor-{number}")));
    let done = (|| {
        let mut file = File::create_new(&first)?;
        file.write_all(&[0x5a; 4096])?;
        file.sync_all()?;
        std::fs::rename(&first, &second)?;
        File::open(place)?.sync_all()
    })();
    std::fs::remove_file(&first).ok();
    std::fs::remove_file(&second).ok();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_in_memory_keeps_no_ledger() {
        for (magic, state) in [
            (0x0102_1994, State::Fail),
            (0x8584_58f6, State::Fail),
            // As a 32-bit kernel gives it.
            (0xffff_ffff_8584_58f6_u64.cast_signed(), State::Fail),
            (0x794c_7630, State::Fail),
            (0x6969, State::Warn),
            (0xef53, State::Ok),
            (0x1234_5678, State::Warn),
        ] {
            assert_eq!(judged(magic).0, state, "{magic:#x}");
        }
    }

    #[test]
    fn the_probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        probe(dir.path(), 7).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(probe(&dir.path().join("absent"), 7).is_err());
    }
}
