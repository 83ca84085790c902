//! Block IO summed over real devices. A stacked device (device mapper, RAID, loop) and the device below it count the same
//! bytes, so only the lowest devices are summed; which those are is looked up in sysfs once per device.

use std::path::{Path, PathBuf};

use crate::file;

/// Bytes and operations; the kernel's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Io {
    pub(crate) rbytes: u64,
    pub(crate) wbytes: u64,
    pub(crate) rios: u64,
    pub(crate) wios: u64,
}

impl Io {
    fn add(self, other: Self) -> Option<Self> {
        Some(Self {
            rbytes: self.rbytes.checked_add(other.rbytes)?,
            wbytes: self.wbytes.checked_add(other.wbytes)?,
            rios: self.rios.checked_add(other.rios)?,
            wios: self.wios.checked_add(other.wios)?,
        })
    }
}

/// The devices seen so far and whether they count.
#[derive(Debug)]
pub(crate) struct Disks {
    sysfs: PathBuf,
    known: Vec<(u64, u64, bool)>,
}

impl Disks {
    pub(crate) fn new(root: &Path) -> Self {
        Self { sysfs: root.join("sys/dev/block"), known: Vec::new() }
    }

    /// Whether the device is a real one: not a partition, not stacked on another, not memory.
    fn counts(&mut self, major: u64, minor: u64) -> bool {
        if let Some((.., counts)) = self.known.iter().find(|known| (known.0, known.1) == (major, minor)) {
            return *counts;
        }
        let counts = self.look(major, minor);
        self.known.push((major, minor, counts));
        counts
    }

    fn look(&self, major: u64, minor: u64) -> bool {
        const RAM: u64 = 1;
        const LOOP: u64 = 7;
        if matches!(major, RAM | LOOP) {
            return false;
        }
        let directory = self.sysfs.join(format!("{major}:{minor}"));
        let stacked = std::fs::read_dir(directory.join("slaves")).is_ok_and(|mut slaves| slaves.next().is_some());
        let partition = directory.join("partition").exists();
        let compressed_memory = std::fs::canonicalize(&directory)
            .is_ok_and(|real| real.file_name().is_some_and(|name| name.to_string_lossy().starts_with("zram")));
        !(stacked || partition || compressed_memory)
    }

    /// Sum of a cgroup's `io.stat` over real devices; `None` for text it does not know. An empty file is no IO.
    pub(crate) fn io_stat(&mut self, text: &[u8]) -> Option<Io> {
        let mut sum = Io::default();
        for line in file::lines(text) {
            let mut words = file::words(line);
            let (major, minor) = device(words.next()?)?;
            let mut io = Io::default();
            for word in words {
                let at = word.iter().position(|byte| *byte == b'=')?;
                let (key, value) = (word.get(..at)?, word.get(at + 1..)?);
                match key {
                    b"rbytes" => io.rbytes = file::number(value)?,
                    b"wbytes" => io.wbytes = file::number(value)?,
                    b"rios" => io.rios = file::number(value)?,
                    b"wios" => io.wios = file::number(value)?,
                    _ => {}
                }
            }
            if self.counts(major, minor) {
                sum = sum.add(io)?;
            }
        }
        Some(sum)
    }

    /// Sum of `/proc/diskstats` over real devices: sectors are 512 bytes whatever the device says.
    pub(crate) fn diskstats(&mut self, text: &[u8]) -> Option<Io> {
        const SECTOR_BYTES: u64 = 512;
        let mut sum = Io::default();
        for line in file::lines(text) {
            let mut words = file::words(line);
            let (major, minor) = (file::number(words.next()?)?, file::number(words.next()?)?);
            let mut fields = [0_u64; 7];
            for (field, word) in fields.iter_mut().zip(words.skip(1)) {
                *field = file::number(word)?;
            }
            let [rios, _, read_sectors, _, wios, _, written_sectors] = fields;
            if self.counts(major, minor) {
                let (rbytes, wbytes) =
                    (read_sectors.checked_mul(SECTOR_BYTES)?, written_sectors.checked_mul(SECTOR_BYTES)?);
                sum = sum.add(Io { rbytes, wbytes, rios, wios })?;
            }
        }
        Some(sum)
    }
}

/// `major:minor`.
fn device(word: &[u8]) -> Option<(u64, u64)> {
    let at = word.iter().position(|byte| *byte == b':')?;
    Some((file::number(word.get(..at)?)?, file::number(word.get(at + 1..)?)?))
}
