//! What an order's files occupy: the bytes held now, for the integral over time. Three means, the first that is there: a project
//! quota or a filesystem of its own, each by one statfs(2), else a walk (`walk.rs`) in a thread of its own at a slower cadence.
//! Making directories and quotas is the provisioner's.
//!
//! ext4, f2fs and xfs answer statfs(2) of a directory that hands its project on with the project's own numbers: its hard limit in
//! place of the size of the filesystem, what its files occupy as what is not free. No privilege is needed for that. Paths are
//! looked up each time: a directory kept open would keep a filesystem mounted that the site wants to take away.

use std::{
    ffi::CString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use hufu_trade::{resource::Kind, usage::SourceIdentity};
use rustix::fs::{FileType, IFlags, Mode, OFlags, StatVfs, ioctl_getflags, lstat, open, statvfs};

use crate::{
    Error, file,
    hierarchy::unescape,
    plan::Storage,
    sample::{Raw, Sample},
    walk::Walk,
};

/// Local filesystems, whose statfs(2) never waits for somebody else.
const LOCAL: [&str; 9] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "zfs", "overlay"];
/// Those with project quotas.
const WITH_PROJECTS: [&str; 3] = ["ext4", "f2fs", "xfs"];
/// FS_PROJINHERIT_FL: files made in the directory belong to its project.
const HANDS_PROJECT_ON: u32 = 0x2000_0000;

const GONE: &str = "the order's directory was removed or replaced";
const NO_QUOTA: &str = "the order's project quota is no longer in force";
const UNREADABLE: &str = "the order's directory cannot be looked at";
const NO_SIZE: &str = "the order's filesystem has no size";

/// A mounted filesystem, from mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    /// Which part of the filesystem is mounted; `/` is all of it.
    part: String,
    point: PathBuf,
    kind: String,
    quotas_projects: bool,
}

fn mounts(root: &Path) -> Result<Vec<Mount>, Error> {
    let text = file::read_once(&root.join("proc/self/mountinfo"))?;
    let mount = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(2);
        let (device, part, point) = (before.next()?, before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?.to_owned(), after.nth(1).unwrap_or_default());
        let quotas_projects = options.split(',').any(|word| matches!(word, "prjquota" | "pquota"));
        let (device, part, point) = (device.to_owned(), unescape(part), unescape(point).into());
        Some(Mount { device, part, point, kind, quotas_projects })
    };
    Ok(file::lines(&text).filter_map(mount).collect())
}

/// The filesystem that holds `path`; of several mounted on one another, the last.
fn mount_of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let around = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    around.max_by_key(|mount| mount.point.as_os_str().len())
}

/// What holds the files below `path`, which the site named: a filesystem of its own where one is mounted there, whole and
/// nowhere else, else the directory.
///
/// # Errors
/// [`Error::Unreadable`] without mountinfo.
pub fn held_by(root: &Path, path: &Path) -> Result<Storage, Error> {
    let mounts = mounts(root)?;
    let own = mounts.iter().rev().find(|mount| mount.point == path).filter(|mount| mount.part == "/");
    let is_own = own.is_some_and(|own| mounts.iter().filter(|other| other.device == own.device).count() == 1);
    Ok(match is_own {
        true => Storage::Filesystem { mount: path.to_owned() },
        false => Storage::Directory { path: path.to_owned() },
    })
}

/// How the storage of orders whose directories are in `base` is metered, for an offer.
///
/// # Errors
/// [`Error::NoStorage`] for a base that is not there or on a filesystem that is not looked at; [`Error::Unreadable`].
pub fn source(root: &Path, base: &Path) -> Result<String, Error> {
    let failed = |why: String| Error::NoStorage { path: base.to_owned(), why };
    let mounts = mounts(root)?;
    let mount = mount_of(&mounts, base).ok_or_else(|| failed("no filesystem holds it".to_owned()))?;
    if !LOCAL.contains(&mount.kind.as_str()) {
        return Err(failed(format!("{} may keep the meter waiting", mount.kind)));
    }
    if !file::below(root, base).is_dir() {
        return Err(failed("there is no such directory".to_owned()));
    }
    let has_projects = WITH_PROJECTS.contains(&mount.kind.as_str()) && mount.quotas_projects;
    Ok(if has_projects { format!("{} project quota", mount.kind) } else { "directory walk".to_owned() })
}

/// How the bytes are found.
#[derive(Debug)]
enum Means {
    /// By the project's numbers, as long as they are not those of the filesystem at `top`.
    Quota {
        top: CString,
    },
    Filesystem,
    Walk(Walk),
}

/// A meter of what an order's files occupy.
#[derive(Debug)]
pub(crate) struct StorageMeter {
    /// As the site named it.
    named: String,
    path: CString,
    device: u64,
    inode: u64,
    instance: u64,
    means: Means,
    is_gone: bool,
}

impl StorageMeter {
    /// Opens what holds an order's files.
    ///
    /// # Errors
    /// [`Error::NoStorage`] for what is no directory, no mount point, on a filesystem that might not answer, or not there.
    pub(crate) fn open(root: &Path, storage: &Storage) -> Result<Self, Error> {
        let (Storage::Directory { path: named } | Storage::Filesystem { mount: named }) = storage;
        let failed = |why: String| Error::NoStorage { path: named.clone(), why };
        let mounts = mounts(root)?;
        let mount = mount_of(&mounts, named).ok_or_else(|| failed("no filesystem holds it".to_owned()))?;
        let full = file::below(root, named);
        let path = c_path(&full).ok_or_else(|| failed("a path without a zero byte expected".to_owned()))?;
        if !LOCAL.contains(&mount.kind.as_str()) {
            let why = format!("{} may keep the meter waiting; only {} are looked at", mount.kind, LOCAL.join(", "));
            return Err(failed(why));
        }
        if matches!(storage, Storage::Filesystem { .. }) && mount.point != *named {
            return Err(failed("no filesystem is mounted there".to_owned()));
        }
        let found = lstat(&path).map_err(|e| failed(e.to_string()))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return Err(failed("a directory expected, no link to one".to_owned()));
        }
        let (device, inode) = (found.st_dev, found.st_ino);
        let means = match storage {
            Storage::Filesystem { .. } => Means::Filesystem,
            Storage::Directory { .. } => match quota_top(root, mount, &full, device) {
                Some(top) => Means::Quota { top },
                None => Means::Walk(Walk::new(full, device, inode)),
            },
        };
        let instance = match means {
            // Its own number where it has one: it stays the same when the filesystem is mounted anew.
            Means::Filesystem => statvfs(&path).ok().map(|found| found.f_fsid).filter(|id| *id > 0).unwrap_or(device),
            Means::Quota { .. } | Means::Walk(_) => inode,
        };
        let named = named.display().to_string();
        Ok(Self { named, path, device, inode, instance, means, is_gone: false })
    }

    /// Whose bytes these are.
    pub(crate) fn identity(&self) -> SourceIdentity {
        let source = match self.means {
            Means::Quota { .. } => "project-quota",
            Means::Filesystem => "filesystem",
            Means::Walk(_) => "directory",
        };
        SourceIdentity { source: source.to_owned(), path: self.named.clone(), instance: self.instance }
    }

    /// True once the directory is no longer the one that was opened.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Sets the bytes held now, or why they are not known.
    pub(crate) fn read(&mut self, _buffer: &mut [u8], sample: &mut Sample) {
        let held = match self.held() {
            Ok(bytes) => Raw::Value(bytes),
            Err(why) => Raw::Missing(why),
        };
        sample.set(Kind::Storage, held);
    }

    fn held(&mut self) -> Result<u64, &'static str> {
        if let Means::Walk(walk) = &mut self.means {
            let walked = walk.bytes();
            self.is_gone = walk.is_gone();
            return walked;
        }
        let found = lstat(&self.path);
        self.is_gone = match found {
            Ok(found) => (found.st_dev, found.st_ino) != (self.device, self.inode),
            Err(error) => matches!(error, rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR),
        };
        if self.is_gone {
            return Err(GONE);
        }
        let own = statvfs(&self.path).map_err(|_| UNREADABLE)?;
        if let Means::Quota { top } = &self.means
            && statvfs(top).map_err(|_| UNREADABLE)?.f_blocks == own.f_blocks
        {
            return Err(NO_QUOTA);
        }
        used(&own).ok_or(NO_SIZE)
    }
}

fn used(found: &StatVfs) -> Option<u64> {
    if found.f_blocks == 0 {
        return None;
    }
    found.f_blocks.checked_sub(found.f_bfree)?.checked_mul(found.f_frsize)
}

fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

/// The mount point above a directory whose statfs(2) speaks of its project: it has another size than the filesystem. Where the
/// directory may be opened its flag must say so, too.
fn quota_top(root: &Path, mount: &Mount, path: &Path, device: u64) -> Option<CString> {
    if !WITH_PROJECTS.contains(&mount.kind.as_str()) {
        return None;
    }
    let top = c_path(&file::below(root, &mount.point))?;
    // Another device: the path led through a link to another filesystem.
    if lstat(&top).ok()?.st_dev != device {
        return None;
    }
    let (own, whole) = (statvfs(path).ok()?, statvfs(&top).ok()?);
    if own.f_blocks >= whole.f_blocks {
        return None;
    }
    let flags = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    match flags.and_then(ioctl_getflags) {
        Ok(flags) if !flags.contains(IFlags::from_bits_retain(HANDS_PROJECT_ON)) => None,
        // It may not be opened by this process, or this filesystem does not tell.
        Ok(_) | Err(_) => Some(top),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(mountinfo: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
        std::fs::write(root.path().join("proc/self/mountinfo"), mountinfo).unwrap();
        root
    }

    const MOUNTS: &str = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                          23 22 8:2 / /srv/own rw - xfs /dev/sdb rw\n\
                          24 22 8:1 /home /srv/bound rw - ext4 /dev/sda1 rw\n\
                          25 22 8:3 / /srv/a\\040b rw - ext4 /dev/sdc rw\n\
                          26 22 8:3 / /srv/twice rw - ext4 /dev/sdc rw\n\
                          27 22 0:50 / /srv/far rw - nfs4 far:/x rw\n\
                          garbage\n";

    #[test]
    fn only_what_is_mounted_whole_and_once_is_a_filesystem_of_its_own() {
        let root = with(MOUNTS);
        for (path, own) in [
            ("/srv/own", true),
            ("/srv/own/below", false),
            ("/srv/bound", false),
            ("/srv/a b", false),
            ("/srv/twice", false),
            ("/srv/far", true),
            ("/srv/none", false),
        ] {
            let held = held_by(root.path(), Path::new(path)).unwrap();
            assert_eq!(matches!(held, Storage::Filesystem { .. }), own, "{path}: {held:?}");
        }
    }

    #[test]
    fn an_offer_says_how_storage_is_metered() {
        let root = with(&format!("{MOUNTS}28 22 8:9 / /srv/quota rw - ext4 /dev/sdq rw,prjquota\n"));
        for path in ["srv/quota/a", "srv/plain", "srv/far"] {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        for (base, want) in [
            ("/srv/quota/a", Ok("ext4 project quota")),
            ("/srv/plain", Ok("directory walk")),
            ("/srv/far", Err("keep the meter waiting")),
            ("/srv/none", Err("no such directory")),
        ] {
            match (source(root.path(), Path::new(base)), want) {
                (Ok(found), Ok(word)) => assert_eq!(found, word, "{base}"),
                (Err(error), Err(word)) => assert!(error.to_string().contains(word), "{base}: {error}"),
                (found, _) => panic!("{base}: {found:?}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_metered_is_said_when_it_is_opened() {
        let root = with(MOUNTS);
        std::fs::create_dir_all(root.path().join("srv/own")).unwrap();
        std::fs::write(root.path().join("srv/file"), "").unwrap();
        std::os::unix::fs::symlink("own", root.path().join("srv/link")).unwrap();
        let filesystem = |path: &str| Storage::Filesystem { mount: path.into() };
        let directory = |path: &str| Storage::Directory { path: path.into() };
        for (storage, word) in [
            (filesystem("/srv/own/x"), "no filesystem is mounted there"),
            (filesystem("/srv/far"), "nfs4 may keep the meter waiting"),
            (directory("/srv/far/x"), "nfs4 may keep the meter waiting"),
            (directory("/srv/none"), "No such file"),
            (directory("/srv/file"), "a directory expected"),
            (directory("/srv/link"), "a directory expected"),
            (directory("relative"), "no filesystem holds it"),
            (directory("/srv/\0"), "zero byte"),
        ] {
            let why = StorageMeter::open(root.path(), &storage).unwrap_err().to_string();
            assert!(why.contains(word), "{storage:?}: {why}");
        }
    }
}
