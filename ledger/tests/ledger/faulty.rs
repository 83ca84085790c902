//! A disk in memory that fails one chosen call and can lose power: what the process sees (live) and what has reached the
//! platter (durable) are kept apart. A failed sync forgets what was waiting, as Linux does.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use hufu_ledger::storage::{Access, Storage, StoredFile};

/// What a failing call leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    NotPersisted,
    PersistedAnyway,
    Torn,
}

/// What a power cut does to what was never confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// No cut: the process only starts again.
    Restart,
    /// All of it is lost.
    LoseAll,
    /// All of it happens to be there.
    KeepAll,
    /// Names are there, contents are not.
    KeepNames,
    /// Contents are there, names are not.
    KeepContents,
    /// Names are there, and the first half of each waiting write.
    TearContents,
    /// Names are there, and the second half of each waiting write.
    TearFronts,
}

impl Cut {
    pub(crate) const ALL: [Cut; 7] = [
        Cut::Restart,
        Cut::LoseAll,
        Cut::KeepAll,
        Cut::KeepNames,
        Cut::KeepContents,
        Cut::TearContents,
        Cut::TearFronts,
    ];
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    waiting: Vec<(usize, Vec<u8>)>,
    locked: bool,
}

fn put(bytes: &mut Vec<u8>, offset: usize, part: &[u8]) {
    let end = offset + part.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(part);
}

/// The sectors of a write, each with where it begins.
fn sectors(offset: usize, part: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR_BYTES - offset % SECTOR_BYTES).min(part.len());
    let (head, rest) = part.split_at(first);
    let rest = rest.chunks(SECTOR_BYTES).enumerate();
    let rest = rest.map(move |(number, sector)| (offset + first + number * SECTOR_BYTES, sector));
    std::iter::once((offset, head)).chain(rest)
}

/// A change of the directory: a new name, another one for the same file, or a name less.
#[derive(Clone, Debug)]
struct Naming {
    from: Option<String>,
    to: Option<(String, usize)>,
}

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug, Default)]
struct Disk {
    inodes: Vec<Inode>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// Changes from `durable` to `live`.
    naming: Vec<Naming>,
    calls: usize,
    bytes_read: usize,
    syncs: usize,
    fail: Option<(usize, Flavour)>,
    room: Option<usize>,
}

impl Disk {
    /// Counts a call; the flavour if it is the one to fail.
    fn call(&mut self) -> Option<Flavour> {
        self.calls += 1;
        self.fail.filter(|(at, _)| *at == self.calls).map(|(_, flavour)| flavour)
    }

    fn used(&self) -> usize {
        self.live.values().map(|place| self.inodes[*place].live.len()).sum()
    }
}

fn failed() -> io::Error {
    io::Error::from_raw_os_error(5)
}

/// The disk, shared by its open files.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultyStorage(Arc<Mutex<Disk>>);

impl FaultyStorage {
    pub(crate) fn calls(&self) -> usize {
        self.0.lock().unwrap().calls
    }

    /// Bytes read and files synced since the disk was new.
    pub(crate) fn costs(&self) -> (usize, usize) {
        let disk = self.0.lock().unwrap();
        (disk.bytes_read, disk.syncs)
    }

    /// Fails the `at`-th call from now on.
    pub(crate) fn fail(&self, at: usize, flavour: Flavour) {
        let mut disk = self.0.lock().unwrap();
        disk.calls = 0;
        disk.fail = Some((at, flavour));
    }

    /// Bytes that all files together may have.
    pub(crate) fn room(&self, bytes: Option<usize>) {
        self.0.lock().unwrap().room = bytes;
    }

    /// Bytes of the files that have a name; nothing here reads on in one that has lost it.
    pub(crate) fn used(&self) -> usize {
        self.0.lock().unwrap().used()
    }

    /// A disk of its own, as the next process finds it.
    pub(crate) fn after(&self, cut: Cut) -> FaultyStorage {
        let mut disk = self.0.lock().unwrap().clone();
        (disk.calls, disk.fail) = (0, None);
        for inode in &mut disk.inodes {
            inode.locked = false;
            if cut == Cut::Restart {
                continue;
            }
            for (offset, part) in std::mem::take(&mut inode.waiting) {
                let half = part.len() / 2;
                match cut {
                    Cut::KeepAll | Cut::KeepContents => put(&mut inode.durable, offset, &part),
                    Cut::TearContents => put(&mut inode.durable, offset, &part[..half]),
                    Cut::TearFronts => put(&mut inode.durable, offset + half, &part[half..]),
                    Cut::Restart | Cut::LoseAll | Cut::KeepNames => {}
                }
            }
            inode.live = inode.durable.clone();
        }
        if cut != Cut::Restart {
            disk.naming.clear();
        }
        match cut {
            Cut::Restart => {}
            Cut::LoseAll | Cut::KeepContents => disk.live = disk.durable.clone(),
            _ => disk.durable = disk.live.clone(),
        }
        FaultyStorage(Arc::new(Mutex::new(disk)))
    }

    /// How many sectors and names wait to be confirmed: each may be there after a power cut, or not.
    pub(crate) fn waiting(&self) -> usize {
        let disk = self.0.lock().unwrap();
        let sectors = |inode: &Inode| inode.waiting.iter().map(|(at, part)| sectors(*at, part).count()).sum::<usize>();
        disk.naming.len() + disk.inodes.iter().map(sectors).sum::<usize>()
    }

    /// A disk of its own after a power cut that kept exactly the sectors and names for which `keep` says so.
    pub(crate) fn after_any(&self, mut keep: impl FnMut() -> bool) -> FaultyStorage {
        let mut disk = self.0.lock().unwrap().clone();
        (disk.calls, disk.fail) = (0, None);
        for inode in &mut disk.inodes {
            inode.locked = false;
            for (offset, part) in std::mem::take(&mut inode.waiting) {
                for (at, sector) in sectors(offset, &part).filter(|_| keep()) {
                    put(&mut inode.durable, at, sector);
                }
            }
            inode.live = inode.durable.clone();
        }
        for Naming { from, to } in std::mem::take(&mut disk.naming) {
            if keep() {
                from.and_then(|from| disk.durable.remove(&from));
                disk.durable.extend(to);
            }
        }
        disk.live = disk.durable.clone();
        FaultyStorage(Arc::new(Mutex::new(disk)))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().live.keys().cloned().collect()
    }

    /// Writes over a file's bytes, durably: damage.
    pub(crate) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.0.lock().unwrap();
        let place = disk.live[name];
        let inode = &mut disk.inodes[place];
        change(&mut inode.live);
        inode.durable = inode.live.clone();
    }
}

impl Storage for FaultyStorage {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/faulty").join(name)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StoredFile>> {
        let mut disk = self.0.lock().unwrap();
        let flavour = disk.call();
        if flavour.is_some() && (access != Access::Create || flavour == Some(Flavour::NotPersisted)) {
            return Err(failed());
        }
        // The lock must stay the same file; everything else is made anew.
        if access == Access::Create && (name != "LOCK" || !disk.live.contains_key(name)) {
            disk.inodes.push(Inode::default());
            let place = disk.inodes.len() - 1;
            disk.live.insert(name.to_owned(), place);
            disk.naming.push(Naming { from: None, to: Some((name.to_owned(), place)) });
        }
        if flavour.is_some() {
            return Err(failed());
        }
        let place = *disk.live.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(FaultyFile { disk: Arc::clone(&self.0), place, holds_lock: Mutex::new(false) }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut disk = self.0.lock().unwrap();
        if disk.call().is_some() {
            return Err(failed());
        }
        Ok(disk.live.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let flavour = disk.call();
        if flavour != Some(Flavour::NotPersisted) {
            let place = disk.live.remove(from).ok_or(io::ErrorKind::NotFound)?;
            disk.live.insert(to.to_owned(), place);
            disk.naming.push(Naming { from: Some(from.to_owned()), to: Some((to.to_owned(), place)) });
        }
        flavour.map_or(Ok(()), |_| Err(failed()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let flavour = disk.call();
        if flavour != Some(Flavour::NotPersisted) {
            disk.live.remove(name).ok_or(io::ErrorKind::NotFound)?;
            disk.naming.push(Naming { from: Some(name.to_owned()), to: None });
        }
        flavour.map_or(Ok(()), |_| Err(failed()))
    }

    /// The disk is the directory: there is nothing to make.
    fn make(&self) -> io::Result<()> {
        self.0.lock().unwrap().call().map_or(Ok(()), |_| Err(failed()))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let flavour = disk.call();
        if flavour != Some(Flavour::NotPersisted) {
            disk.durable = disk.live.clone();
            disk.naming.clear();
        }
        flavour.map_or(Ok(()), |_| Err(failed()))
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: Arc<Mutex<Disk>>,
    place: usize,
    holds_lock: Mutex<bool>,
}

impl StoredFile for FaultyFile {
    fn size(&self) -> io::Result<u64> {
        let mut disk = self.disk.lock().unwrap();
        if disk.call().is_some() {
            return Err(failed());
        }
        Ok(disk.inodes[self.place].live.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap();
        if disk.call().is_some() {
            return Err(failed());
        }
        disk.bytes_read += bytes.len();
        let offset = usize::try_from(offset).unwrap();
        let live = &disk.inodes[self.place].live;
        bytes.copy_from_slice(live.get(offset..offset + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap();
        let flavour = disk.call();
        let keep = match flavour {
            None | Some(Flavour::PersistedAnyway) => bytes,
            Some(Flavour::NotPersisted) => &[],
            Some(Flavour::Torn) => &bytes[..bytes.len() / 2],
        };
        let offset = usize::try_from(offset).unwrap();
        let used = disk.used();
        let grows = (offset + keep.len()).saturating_sub(disk.inodes[self.place].live.len());
        if disk.room.is_some_and(|room| used + grows > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = &mut disk.inodes[self.place];
        if !keep.is_empty() {
            put(&mut inode.live, offset, keep);
            inode.waiting.push((offset, keep.to_vec()));
        }
        flavour.map_or(Ok(()), |_| Err(failed()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap();
        disk.syncs += 1;
        let flavour = disk.call();
        let inode = &mut disk.inodes[self.place];
        for (offset, part) in std::mem::take(&mut inode.waiting) {
            match flavour {
                None | Some(Flavour::PersistedAnyway) => put(&mut inode.durable, offset, &part),
                Some(Flavour::NotPersisted) => {}
                Some(Flavour::Torn) => put(&mut inode.durable, offset, &part[..part.len() / 2]),
            }
        }
        flavour.map_or(Ok(()), |_| Err(failed()))
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut disk = self.disk.lock().unwrap();
        if disk.call().is_some() {
            return Err(failed());
        }
        let inode = &mut disk.inodes[self.place];
        let free = !std::mem::replace(&mut inode.locked, true);
        *self.holds_lock.lock().unwrap() = free;
        Ok(free)
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        if *self.holds_lock.lock().unwrap() {
            self.disk.lock().unwrap().inodes[self.place].locked = false;
        }
    }
}
