//! Reserved rates of block IO as limits: their names in a request, for systemd and for `io.max` of cgroup version 2. Version 1 has
//! no limit that holds: its throttling does not see what the kernel writes back later.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// A rate's resource, its property of systemd, its word in `io.max`.
pub(crate) const RATES: [(&str, &str, &str); 4] = [
    ("disk_read", "IOReadBandwidthMax", "rbps"),
    ("disk_write", "IOWriteBandwidthMax", "wbps"),
    ("disk_read_ops", "IOReadIOPSMax", "riops"),
    ("disk_write_ops", "IOWriteIOPSMax", "wiops"),
];

/// What an order may read and write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IoLimits {
    /// Bytes or operations a second, in the order of [`RATES`].
    pub(crate) rates: [Option<u64>; 4],
    /// Block devices, or files on them.
    pub(crate) devices: Vec<PathBuf>,
}

/// The rates that are reserved, as `reserved` says for each resource.
///
/// # Errors
/// Those of `reserved`.
pub(crate) fn rates(
    reserved: impl Fn(&'static str) -> Result<Option<u64>, String>,
) -> Result<[Option<u64>; 4], String> {
    let mut found = [None; 4];
    for (rate, (resource, ..)) in found.iter_mut().zip(RATES) {
        *rate = reserved(resource)?;
    }
    Ok(found)
}

impl IoLimits {
    /// Whether any rate is limited.
    pub(crate) fn is_set(&self) -> bool {
        self.rates.iter().any(Option::is_some)
    }

    /// The lines for `io.max`, one a device, below `root`.
    ///
    /// # Errors
    /// Which path leads to no block device.
    pub(crate) fn lines(&self, root: &Path) -> Result<Vec<String>, String> {
        let words: Vec<String> = self
            .rates
            .iter()
            .zip(RATES)
            .filter_map(|(rate, (.., word))| rate.map(|rate| format!("{word}={rate}")))
            .collect();
        let line = |path: &PathBuf| Ok(format!("{} {}", disk_of(root, path)?, words.join(" ")));
        self.devices.iter().map(line).collect()
    }
}

/// The whole disk, `major:minor`, of a device or of the filesystem that holds a file; of a path that is not there yet, its parent's.
fn disk_of(root: &Path, path: &Path) -> Result<String, String> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    let found = fs::metadata(there).map_err(|e| format!("{}: {e}", path.display()))?;
    let device = if found.file_type().is_block_device() { found.rdev() } else { found.dev() };
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let entry = root.join("sys/dev/block").join(&number);
    if !entry.exists() {
        let why = "lies on no block device; name the devices in io_devices of provision.toml";
        return Err(format!("{}: {why}", path.display()));
    }
    if !entry.join("partition").exists() {
        return Ok(number);
    }
    // A partition is a directory in its disk's.
    let disk = fs::canonicalize(&entry).map(|entry| entry.join("../dev"));
    let number = disk.and_then(fs::read_to_string).map_err(|e| format!("the disk of {}: {e}", path.display()))?;
    Ok(number.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_set_for_the_whole_disk() {
        let dir = tempfile::tempdir().unwrap();
        let here = fs::metadata(dir.path()).unwrap().dev();
        let number = format!("{}:{}", rustix::fs::major(here), rustix::fs::minor(here));
        let root = tempfile::tempdir().unwrap();
        let reserved = |name: &'static str| {
            Ok([("disk_read", 7), ("disk_write_ops", 9)].iter().find(|r| r.0 == name).map(|r| r.1))
        };
        let limits = IoLimits { rates: rates(reserved).unwrap(), devices: vec![dir.path().join("not/there/yet")] };
        assert!(limits.is_set());
        let why = limits.lines(root.path()).unwrap_err();
        assert!(why.contains("io_devices"), "{why}");
        let disk = root.path().join("sys/devices/disk");
        fs::create_dir_all(disk.join("part")).unwrap();
        fs::create_dir_all(root.path().join("sys/dev/block")).unwrap();
        std::os::unix::fs::symlink("../../devices/disk/part", root.path().join("sys/dev/block").join(&number)).unwrap();
        assert_eq!(limits.lines(root.path()).unwrap(), [format!("{number} rbps=7 wiops=9")]);
        fs::write(disk.join("part/partition"), "1\n").unwrap();
        fs::write(disk.join("dev"), "250:0\n").unwrap();
        assert_eq!(limits.lines(root.path()).unwrap(), ["250:0 rbps=7 wiops=9"]);
        let none = IoLimits { rates: rates(|_| Ok(None)).unwrap(), ..limits };
        assert!(!none.is_set());
    }
}
