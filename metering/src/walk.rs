//! What the files below a directory occupy, by looking at each of them: for filesystems without project quotas. One short
//! thread a walk, at most one of an order at a time, so that sampling never waits for a disk.
//!
//! The directory belongs to somebody who may want the number to be wrong. Links are not followed and other filesystems not
//! entered, whatever is renamed meanwhile (openat2(2)); a file of several names is counted once; a sparse file by its blocks; what
//! is too much to look at, or may not be looked at, makes the number missing, never small.

use std::{
    collections::HashSet,
    ffi::{CStr, CString},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat},
    io::Errno,
};

/// Samples between two beginnings of walks, at least.
const PAUSE_SAMPLES: u32 = 10;
/// One sample more of pause for so many files, so that a large directory is not walked all the time.
const FILES_A_SAMPLE: u64 = 2_000;
/// A walk that takes more samples is given up.
const WALK_SAMPLES_MAX: u32 = 60;
/// Most files and directories of a walk.
const FILES_MAX: u64 = 1_000_000;
/// Most files with several names.
const LINKED_MAX: usize = 100_000;
/// Most bytes of paths that wait to be looked into.
const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What one block of st_blocks is, bytes.
const BLOCK_BYTES: u64 = 512;
/// Stack of a walk's thread, bytes.
const STACK_BYTES: usize = 256 * 1024;

const FIRST: &str = "the order's directory is being walked for the first time";
const SLOW: &str = "the order's directory takes too long to walk; give it a project quota";
const MANY: &str = "the order's directory holds more files than are walked; give it a project quota";
const DEEP: &str = "a path in the order's directory is too long to walk; give it a project quota";
const CLOSED: &str = "a directory of the order may not be read; give it a project quota";
const OLD: &str = "this kernel cannot walk a directory safely (openat2); give it a project quota";
const FAILED: &str = "the order's directory cannot be read";
const GONE: &str = "the order's directory was removed or replaced";
const NO_THREAD: &str = "no thread for the walk of the order's directory";

/// Bytes and files of one walk, or why not.
type Walked = Result<(u64, u64), &'static str>;

/// The walks of one directory.
#[derive(Debug)]
pub(crate) struct Walk {
    path: PathBuf,
    device: u64,
    inode: u64,
    running: Option<(JoinHandle<Walked>, Arc<AtomicBool>)>,
    /// Samples since the last beginning.
    since: u32,
    pause: u32,
    last: Result<u64, &'static str>,
}

impl Walk {
    /// Walks of the directory that has this device and inode; nothing is looked at yet.
    pub(crate) fn new(path: PathBuf, device: u64, inode: u64) -> Self {
        Self { path, device, inode, running: None, since: 0, pause: 0, last: Err(FIRST) }
    }

    /// True once the directory was found to be no longer the one.
    pub(crate) fn is_gone(&self) -> bool {
        self.last == Err(GONE)
    }

    /// What the newest walk found; called once a sample. Begins the next one when it is time.
    pub(crate) fn bytes(&mut self) -> Result<u64, &'static str> {
        self.since = self.since.saturating_add(1);
        if let Some((walk, _)) = self.running.take_if(|(walk, _)| walk.is_finished()) {
            // A panic is a bug of ours; the reading is then missing, and the next walk is tried.
            let found = walk.join().unwrap_or(Err(FAILED));
            let files = found.map_or(0, |(_, files)| files);
            self.pause = PAUSE_SAMPLES.saturating_add(u32::try_from(files / FILES_A_SAMPLE).unwrap_or(u32::MAX));
            self.last = found.map(|(bytes, _)| bytes);
        }
        match &self.running {
            Some((_, give_up)) if self.since > WALK_SAMPLES_MAX => {
                give_up.store(true, Ordering::Relaxed);
                self.last = Err(SLOW);
            }
            Some(_) => {}
            None if self.since > self.pause => self.begin(),
            None => {}
        }
        self.last
    }

    fn begin(&mut self) {
        let (path, device, inode) = (self.path.clone(), self.device, self.inode);
        let give_up = Arc::new(AtomicBool::new(false));
        let told = give_up.clone();
        let walk = move || walk(&path, (device, inode), &|| told.load(Ordering::Relaxed));
        match Builder::new().name("storage".to_owned()).stack_size(STACK_BYTES).spawn(walk) {
            Ok(walk) => self.running = Some((walk, give_up)),
            Err(_) => self.last = Err(NO_THREAD),
        }
        self.since = 0;
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        // Nobody waits for it any more: it ends by itself.
        if let Some((_, give_up)) = &self.running {
            give_up.store(true, Ordering::Relaxed);
        }
    }
}

fn walk(path: &std::path::Path, identity: (u64, u64), gives_up: &dyn Fn() -> bool) -> Walked {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = match openat(CWD, path, flags | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(GONE),
        Err(Errno::ACCESS) => return Err(CLOSED),
        Err(_) => return Err(FAILED),
    };
    let found = fstat(&top).map_err(|_| FAILED)?;
    if (found.st_dev, found.st_ino) != identity {
        return Err(GONE);
    }
    let safely =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let mut pending = vec![CString::from(c".")];
    let (mut pending_bytes, mut bytes, mut files) = (0_usize, 0_u64, 0_u64);
    let mut linked: HashSet<u64> = HashSet::new();
    while let Some(path) = pending.pop() {
        pending_bytes = pending_bytes.saturating_sub(path.count_bytes());
        let directory = match openat2(&top, &path, flags, Mode::empty(), safely) {
            Ok(directory) => directory,
            // It was removed, replaced or mounted upon meanwhile.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
            Err(Errno::ACCESS) => return Err(CLOSED),
            Err(Errno::NAMETOOLONG) => return Err(DEEP),
            Err(Errno::NOSYS) => return Err(OLD),
            Err(_) => return Err(FAILED),
        };
        let own = fstat(&directory).map_err(|_| FAILED)?;
        bytes = bytes.saturating_add(blocks(own.st_blocks));
        for entry in Dir::read_from(&directory).map_err(|_| FAILED)? {
            let entry = match entry {
                Ok(entry) => entry,
                // The directory itself was removed while it was read.
                Err(Errno::NOENT) => break,
                Err(_) => return Err(FAILED),
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            files += 1;
            if files > FILES_MAX {
                return Err(MANY);
            }
            if gives_up() {
                return Err(SLOW);
            }
            let found = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => found,
                Err(Errno::NOENT) => continue,
                Err(Errno::ACCESS) => return Err(CLOSED),
                Err(_) => return Err(FAILED),
            };
            if found.st_dev != identity.0 {
                continue;
            }
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                let below = join(&path, name).ok_or(FAILED)?;
                pending_bytes = pending_bytes.saturating_add(below.count_bytes());
                if pending_bytes > PENDING_BYTES_MAX {
                    return Err(MANY);
                }
                pending.push(below);
                continue;
            }
            if found.st_nlink > 1 {
                if linked.len() >= LINKED_MAX {
                    return Err(MANY);
                }
                if !linked.insert(found.st_ino) {
                    continue;
                }
            }
            bytes = bytes.saturating_add(blocks(found.st_blocks));
        }
    }
    Ok((bytes, files))
}

fn blocks(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0).saturating_mul(BLOCK_BYTES)
}

fn join(path: &CStr, name: &CStr) -> Option<CString> {
    CString::new([path.to_bytes(), b"/", name.to_bytes()].concat()).ok()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
        path::Path,
    };

    use super::*;

    fn walked(path: &Path) -> Walked {
        let found = fs::symlink_metadata(path).unwrap();
        walk(path, (found.dev(), found.ino()), &|| false)
    }

    /// What du(1) says.
    fn du(path: &Path) -> u64 {
        let out = std::process::Command::new("du").args(["-sx", "-B1"]).arg(path).output().unwrap();
        String::from_utf8(out.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn a_walk_counts_what_du_counts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b/c")).unwrap();
        fs::write(at("a/one"), vec![1; 100_000]).unwrap();
        fs::hard_link(at("a/one"), at("a/b/same")).unwrap();
        fs::write(at("a/b/c/two"), vec![2; 5]).unwrap();
        let sparse = fs::File::create(at("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        symlink("/", at("a/root")).unwrap();
        symlink("..", at("a/up")).unwrap();
        let (bytes, files) = walked(dir.path()).unwrap();
        assert_eq!(bytes, du(dir.path()));
        assert!((100_000..1 << 30).contains(&bytes), "{bytes}");
        assert_eq!(files, 9);
    }

    #[test]
    fn a_walk_that_is_not_wanted_any_more_ends_and_another_directory_is_not_walked() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x"), "x").unwrap();
        let found = fs::metadata(dir.path()).unwrap();
        let identity = (found.dev(), found.ino());
        assert_eq!(walk(dir.path(), identity, &|| true), Err(SLOW));
        assert_eq!(walk(dir.path(), (identity.0, identity.1 + 1), &|| false), Err(GONE));
        assert_eq!(walk(&dir.path().join("none"), identity, &|| false), Err(GONE));
        symlink(dir.path(), dir.path().join("link")).unwrap();
        assert_eq!(walk(&dir.path().join("link"), identity, &|| false), Err(GONE));
    }

    #[test]
    fn a_closed_directory_makes_the_number_missing() {
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        let want = if rustix::process::geteuid().is_root() { Ok(2) } else { Err(CLOSED) };
        fs::write(dir.path().join("x"), "x").unwrap();
        assert_eq!(walked(dir.path()).map(|(_, files)| files), want);
    }

    #[test]
    fn a_path_too_long_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut at = rustix::fs::open(dir.path(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let name = "n".repeat(200);
        for _ in 0..25 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = openat(&at, &name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        assert_eq!(walked(dir.path()), Err(DEEP));
    }

    #[test]
    fn the_value_is_missing_first_then_walked_again_every_tenth_sample() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x"), vec![1; 50_000]).unwrap();
        let found = fs::metadata(dir.path()).unwrap();
        let mut walk = Walk::new(dir.path().to_owned(), found.dev(), found.ino());
        let finish = |walk: &mut Walk| {
            while walk.running.as_ref().is_some_and(|(running, _)| !running.is_finished()) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        };
        assert_eq!(walk.bytes(), Err(FIRST));
        finish(&mut walk);
        let first = walk.bytes().unwrap();
        assert_eq!(first, du(dir.path()));
        fs::write(dir.path().join("y"), vec![1; 50_000]).unwrap();
        let mut samples = 1;
        while walk.running.is_none() {
            assert_eq!(walk.bytes(), Ok(first));
            samples += 1;
        }
        assert_eq!(samples, PAUSE_SAMPLES + 1);
        finish(&mut walk);
        assert_eq!(walk.bytes(), Ok(du(dir.path())));
        fs::remove_dir_all(dir.path()).unwrap();
        while walk.bytes().is_ok() {
            finish(&mut walk);
        }
        assert!(walk.is_gone());
    }

    #[test]
    fn a_walk_that_hangs_makes_the_value_missing() {
        let mut walk = Walk::new("/nowhere".into(), 0, 0);
        let give_up = Arc::new(AtomicBool::new(false));
        let told = give_up.clone();
        let hangs = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Err(SLOW)
        });
        walk.last = Ok(7);
        walk.running = Some((hangs, give_up));
        for _ in 0..WALK_SAMPLES_MAX {
            assert_eq!(walk.bytes(), Ok(7));
        }
        assert_eq!(walk.bytes(), Err(SLOW));
    }
}
