//! Where an image lies: a file of its own, or a partition. This is the medium of `firmware-config`; the order of writes is not
//! decided here.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use hufu_firmware_config::{IMAGE_BYTES, Storage};
use rustix::fs::{Advice, OFlags, fadvise, major, minor};

/// Sectors of a disk that says nothing better; the unit of the kernel's `start`, too.
const SECTOR_BYTES: u64 = 512;

/// Why a path is no place for an image.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// It could not be opened or read.
    Unreadable(io::Error),
    /// Mounted, or another update is under way.
    InUse,
    /// A file of another size than an image's.
    Size(u64),
    /// Neither a file nor a block device.
    Kind,
    /// A partition whose slots would share a sector of the disk.
    NotAligned(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::InUse => f.write_str("in use: mounted, or another update is under way"),
            Self::Size(bytes) => write!(f, "{bytes} bytes, not the size of an image ({IMAGE_BYTES})"),
            Self::Kind => f.write_str("neither a file nor a block device"),
            Self::NotAligned(why) => f.write_str(why),
        }
    }
}

/// An opened file or block device.
#[derive(Debug)]
pub(crate) struct Target {
    file: File,
    size_bytes: u64,
    sector_bytes: usize,
}

impl Target {
    /// Opens an image to read it.
    pub(crate) fn to_read(path: &Path) -> Result<Self, Unfit> {
        Self::examine(File::open(path).map_err(Unfit::Unreadable)?)
    }

    /// Opens an image to write it in place: nobody else does meanwhile, and a device that is mounted is refused.
    pub(crate) fn to_write(path: &Path) -> Result<Self, Unfit> {
        let is_device = std::fs::metadata(path).map_err(Unfit::Unreadable)?.file_type().is_block_device();
        // On a block device O_EXCL means: not while it is mounted or otherwise held.
        let flags = if is_device { i32::try_from(OFlags::EXCL.bits()).unwrap_or(0) } else { 0 };
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => Unfit::InUse,
            _ => Unfit::Unreadable(error),
        })?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => Unfit::InUse,
            std::fs::TryLockError::Error(error) => Unfit::Unreadable(error),
        })?;
        Self::examine(file)
    }

    fn examine(mut file: File) -> Result<Self, Unfit> {
        let found = file.metadata().map_err(Unfit::Unreadable)?;
        if found.file_type().is_block_device() {
            let size_bytes = file.seek(SeekFrom::End(0)).map_err(Unfit::Unreadable)?;
            let device = format!("{}:{}", major(found.rdev()), minor(found.rdev()));
            let sector_bytes = sector_bytes(&Path::new("/sys/dev/block").join(device))?;
            return Ok(Self { file, size_bytes, sector_bytes });
        }
        if !found.is_file() {
            return Err(Unfit::Kind);
        }
        if found.len() != IMAGE_BYTES as u64 {
            return Err(Unfit::Size(found.len()));
        }
        Ok(Self { file, size_bytes: found.len(), sector_bytes: 512 })
    }
}

/// The unit in which the disk behind a block device writes, from the kernel's description of it. A partition that does not
/// begin with such a unit is refused.
fn sector_bytes(device: &Path) -> Result<usize, Unfit> {
    let number = |path: PathBuf| -> Option<u64> { std::fs::read_to_string(path).ok()?.trim().parse().ok() };
    let is_partition = device.join("partition").exists();
    let queue = if is_partition { device.join("../queue") } else { device.join("queue") };
    let physical = number(queue.join("physical_block_size")).unwrap_or(SECTOR_BYTES).max(SECTOR_BYTES);
    let start =
        if is_partition { number(device.join("start")).unwrap_or(0).checked_mul(SECTOR_BYTES) } else { Some(0) };
    let shift = number(device.join("alignment_offset")).unwrap_or(0);
    if shift != 0 || start.is_none_or(|start| start % physical != 0) {
        let begin = start.map_or_else(|| "?".to_owned(), |start| start.to_string());
        return Err(Unfit::NotAligned(format!("begins at byte {begin} of a disk with sectors of {physical}")));
    }
    usize::try_from(physical).map_err(|_| Unfit::NotAligned(format!("sectors of {physical} bytes")))
}

impl Storage for Target {
    type Error = io::Error;

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn sector_bytes(&self) -> usize {
        self.sector_bytes
    }

    fn read_at(&mut self, offset: usize, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset as u64)
    }

    fn write_at(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset as u64)
    }

    /// The data is on the disk, and out of the page cache where the kernel can do without it, so that what is read back
    /// was read from the disk.
    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fadvise(&self.file, 0, None, Advice::DontNeed).ok();
        Ok(())
    }
}

/// Writes a new image file: whole and under its name, or not at all.
pub(crate) fn create(path: &Path, image: &[u8; IMAGE_BYTES]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&beside)?;
    let written = file.write_all(image).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        std::fs::remove_file(&beside).ok();
    }
    written?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use hufu_firmware_config::blank;

    use super::*;

    #[test]
    fn the_sectors_of_a_disk_come_from_the_kernel_and_crooked_partitions_are_refused() {
        // physical sectors, start of the partition in 512 bytes, its shift, what comes out
        let cases = [
            ("a disk", "512\n", None, "0\n", Some(512)),
            ("a disk of large sectors", "4096\n", None, "0\n", Some(4096)),
            ("a partition", "512\n", Some("63\n"), "0\n", Some(512)),
            ("a partition of large sectors", "4096\n", Some("2048\n"), "0\n", Some(4096)),
            ("one that begins within a sector", "4096\n", Some("63\n"), "0\n", None),
            ("one that the disk itself shifts", "4096\n", Some("2048\n"), "512\n", None),
            ("nothing known", "", None, "", Some(512)),
            ("a partition beyond every disk", "512\n", Some("18446744073709551615\n"), "0\n", None),
        ];
        for (name, physical, start, shift, want) in cases {
            let dir = tempfile::tempdir().unwrap();
            let disk = dir.path().join("sda");
            let device = if start.is_some() { disk.join("sda1") } else { disk.clone() };
            std::fs::create_dir_all(&device).unwrap();
            std::fs::create_dir(disk.join("queue")).unwrap();
            std::fs::write(disk.join("queue/physical_block_size"), physical).unwrap();
            std::fs::write(device.join("alignment_offset"), shift).unwrap();
            if let Some(start) = start {
                std::fs::write(device.join("partition"), "1\n").unwrap();
                std::fs::write(device.join("start"), start).unwrap();
            }
            assert_eq!(sector_bytes(&device).ok(), want, "{name}");
        }
    }

    #[test]
    fn two_writers_of_one_file_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.img");
        create(&path, &blank()).unwrap();
        let first = Target::to_write(&path).unwrap();
        assert!(matches!(Target::to_write(&path), Err(Unfit::InUse)));
        assert!(Target::to_read(&path).is_ok(), "a reader does not wait");
        drop(first);
        assert!(Target::to_write(&path).is_ok());
        assert!(!dir.path().join("node.img.new").exists());
    }

    #[test]
    fn what_is_no_image_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Target::to_write(&dir.path().join("none")), Err(Unfit::Unreadable(_))));
        assert!(matches!(Target::to_read(dir.path()), Err(Unfit::Kind)));
        assert!(matches!(Target::to_write(Path::new("/dev/null")), Err(Unfit::Kind)));
        for length in [0, IMAGE_BYTES - 1, IMAGE_BYTES + 1] {
            let path = dir.path().join("short");
            std::fs::write(&path, vec![0xff; length]).unwrap();
            assert!(matches!(Target::to_read(&path), Err(Unfit::Size(found)) if found == length as u64));
        }
    }
}
