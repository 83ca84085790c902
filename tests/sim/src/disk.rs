//! A directory on a disk that fails, fills up and loses power: what the process sees (live) and what has reached the platter
//! (durable) are kept apart. A failed sync forgets what was waiting, as Linux does; a power cut keeps any subset of the sectors
//! and names that were never confirmed.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hufu_ledger::storage::{Access, Storage, StoredFile};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What a failing call leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Nothing.
    NotPersisted,
    /// Everything.
    PersistedAnyway,
    /// A part.
    Torn,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    waiting: Vec<(usize, Vec<u8>)>,
    /// Of `waiting`, what waited at the last sync already: only a lying disk has any.
    overdue: usize,
    locked: bool,
}

/// A change of the directory: a new name, another one for the same file, or a name less.
#[derive(Clone, Debug)]
struct Naming {
    from: Option<String>,
    to: Option<(String, usize)>,
}

#[derive(Clone, Debug, Default)]
struct Files {
    inodes: Vec<Inode>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    naming: Vec<Naming>,
    fail: Option<(u64, Flavour)>,
    failed: bool,
    room: Option<usize>,
    lies: bool,
    quiet: bool,
}

fn put(bytes: &mut Vec<u8>, offset: usize, part: &[u8]) {
    let end = offset + part.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(offset..end) {
        place.copy_from_slice(part);
    }
}

/// The sectors of a write, each with where it begins.
fn sectors(offset: usize, part: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR_BYTES - offset % SECTOR_BYTES).min(part.len());
    let (head, rest) = part.split_at(first);
    let rest = rest.chunks(SECTOR_BYTES).enumerate();
    let rest = rest.map(move |(number, sector)| (offset + first + number * SECTOR_BYTES, sector));
    std::iter::once((offset, head)).chain(rest)
}

fn failed() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Files {
    /// Counts a call; the flavour if it is the one to fail.
    fn call(&mut self) -> Option<Flavour> {
        if self.quiet {
            return None;
        }
        let (left, flavour) = self.fail.as_mut()?;
        *left = left.saturating_sub(1);
        if *left > 0 {
            return None;
        }
        let flavour = *flavour;
        (self.fail, self.failed) = (None, true);
        Some(flavour)
    }

    fn used(&self) -> usize {
        self.live.values().filter_map(|place| self.inodes.get(*place)).map(|inode| inode.live.len()).sum()
    }
}

/// The directory, shared by its open files.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Files>>);

impl Disk {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails the `at`-th call from now on.
    pub fn fail(&self, at: u64, flavour: Flavour) {
        self.files().fail = Some((at, flavour));
    }

    /// Whether a call failed since this was asked last, and no more calls will.
    pub fn take_failed(&self) -> bool {
        let mut files = self.files();
        files.fail = None;
        std::mem::take(&mut files.failed)
    }

    /// Leaves so many bytes of room; `None` for all that is needed.
    pub fn room(&self, bytes: Option<usize>) {
        let mut files = self.files();
        let used = files.used();
        files.room = bytes.map(|bytes| used + bytes);
    }

    /// From now on a sync says that it is done before it is: only the one after it does it. A planted bug.
    pub fn lie(&self) {
        self.files().lies = true;
    }

    /// While it is so, no call counts or fails: somebody looks on.
    pub fn quiet(&self, is_quiet: bool) {
        self.files().quiet = is_quiet;
    }

    /// What the next process finds where only this one ended: a disk of its own.
    pub fn copy(&self) -> Disk {
        let mut files = self.files().clone();
        (files.fail, files.failed, files.room, files.quiet) = (None, false, None, false);
        files.inodes.iter_mut().for_each(|inode| inode.locked = false);
        Disk(Arc::new(Mutex::new(files)))
    }

    /// Becomes what an older copy was, durably: a backup was restored.
    pub fn restore(&self, backup: &Disk) {
        let mut old = backup.files().clone();
        for inode in &mut old.inodes {
            (inode.locked, inode.overdue) = (false, 0);
            inode.waiting.clear();
            inode.durable = inode.live.clone();
        }
        old.naming.clear();
        old.durable = old.live.clone();
        let mut files = self.files();
        (old.room, old.lies) = (files.room, files.lies);
        *files = old;
    }

    /// The power goes: of what was never confirmed exactly those sectors and names stay for which `keep` says so.
    pub fn cut(&self, mut keep: impl FnMut() -> bool) {
        let mut files = self.files();
        for inode in &mut files.inodes {
            (inode.locked, inode.overdue) = (false, 0);
            for (offset, part) in std::mem::take(&mut inode.waiting) {
                for (at, sector) in sectors(offset, &part).filter(|_| keep()) {
                    put(&mut inode.durable, at, sector);
                }
            }
            inode.live = inode.durable.clone();
        }
        for Naming { from, to } in std::mem::take(&mut files.naming) {
            if keep() {
                from.and_then(|from| files.durable.remove(&from));
                files.durable.extend(to);
            }
        }
        files.live = files.durable.clone();
    }
}

impl Storage for Disk {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StoredFile>> {
        let mut files = self.files();
        let flavour = files.call();
        if flavour.is_some() && (access != Access::Create || flavour == Some(Flavour::NotPersisted)) {
            return Err(failed());
        }
        // The lock must stay the same file; everything else is made anew.
        if access == Access::Create && (name != "LOCK" || !files.live.contains_key(name)) {
            files.inodes.push(Inode::default());
            let place = files.inodes.len() - 1;
            files.live.insert(name.to_owned(), place);
            files.naming.push(Naming { from: None, to: Some((name.to_owned(), place)) });
        }
        if flavour.is_some() {
            return Err(failed());
        }
        let place = *files.live.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(DiskFile { disk: self.clone(), place, holds_lock: Mutex::new(false) }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut files = self.files();
        if files.call().is_some() {
            return Err(failed());
        }
        Ok(files.live.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let flavour = files.call();
        if flavour != Some(Flavour::NotPersisted) {
            let place = files.live.remove(from).ok_or(io::ErrorKind::NotFound)?;
            files.live.insert(to.to_owned(), place);
            files.naming.push(Naming { from: Some(from.to_owned()), to: Some((to.to_owned(), place)) });
        }
        flavour.map_or(Ok(()), |_| Err(failed()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut files = self.files();
        let flavour = files.call();
        if flavour != Some(Flavour::NotPersisted) {
            files.live.remove(name).ok_or(io::ErrorKind::NotFound)?;
            files.naming.push(Naming { from: Some(name.to_owned()), to: None });
        }
        flavour.map_or(Ok(()), |_| Err(failed()))
    }

    /// The disk is the directory: there is nothing to make.
    fn make(&self) -> io::Result<()> {
        self.files().call().map_or(Ok(()), |_| Err(failed()))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut files = self.files();
        let flavour = files.call();
        if flavour != Some(Flavour::NotPersisted) {
            files.durable = files.live.clone();
            files.naming.clear();
        }
        flavour.map_or(Ok(()), |_| Err(failed()))
    }
}

#[derive(Debug)]
struct DiskFile {
    disk: Disk,
    place: usize,
    holds_lock: Mutex<bool>,
}

impl DiskFile {
    fn with<T>(&self, work: impl FnOnce(&mut Inode, Option<Flavour>) -> io::Result<T>) -> io::Result<T> {
        let mut files = self.disk.files();
        let flavour = files.call();
        let inode = files.inodes.get_mut(self.place).ok_or(io::ErrorKind::NotFound)?;
        work(inode, flavour)
    }
}

impl StoredFile for DiskFile {
    fn size(&self) -> io::Result<u64> {
        self.with(|inode, flavour| match flavour {
            Some(_) => Err(failed()),
            None => Ok(u64::try_from(inode.live.len()).unwrap_or(u64::MAX)),
        })
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|inode, flavour| {
            if flavour.is_some() {
                return Err(failed());
            }
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = offset.saturating_add(bytes.len());
            bytes.copy_from_slice(inode.live.get(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let room = {
            let files = self.disk.files();
            files.room.filter(|_| !files.quiet).map(|room| room.saturating_sub(files.used()))
        };
        self.with(|inode, flavour| {
            let keep = match flavour {
                None | Some(Flavour::PersistedAnyway) => bytes,
                Some(Flavour::NotPersisted) => &[],
                Some(Flavour::Torn) => bytes.get(..bytes.len() / 2).unwrap_or_default(),
            };
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let grows = (offset + keep.len()).saturating_sub(inode.live.len());
            if room.is_some_and(|room| grows > room) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if !keep.is_empty() {
                put(&mut inode.live, offset, keep);
                inode.waiting.push((offset, keep.to_vec()));
            }
            flavour.map_or(Ok(()), |_| Err(failed()))
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let lies = self.disk.files().lies;
        self.with(|inode, flavour| {
            let due = if lies { inode.overdue } else { inode.waiting.len() };
            for (offset, part) in inode.waiting.drain(..due) {
                match flavour {
                    None | Some(Flavour::PersistedAnyway) => put(&mut inode.durable, offset, &part),
                    Some(Flavour::NotPersisted) => {}
                    Some(Flavour::Torn) => {
                        put(&mut inode.durable, offset, part.get(..part.len() / 2).unwrap_or_default());
                    }
                }
            }
            inode.overdue = inode.waiting.len();
            flavour.map_or(Ok(()), |_| Err(failed()))
        })
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.with(|inode, flavour| {
            if flavour.is_some() {
                return Err(failed());
            }
            let is_free = !std::mem::replace(&mut inode.locked, true);
            *self.holds_lock.lock().unwrap_or_else(PoisonError::into_inner) = is_free;
            Ok(is_free)
        })
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        let holds = *self.holds_lock.lock().unwrap_or_else(PoisonError::into_inner);
        if holds && let Some(inode) = self.disk.files().inodes.get_mut(self.place) {
            inode.locked = false;
        }
    }
}
