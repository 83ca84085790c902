//! A directory that counts: bytes read and syncs. The counters of one ledger, never a clock.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hufu_ledger::storage::{Access, Directory, Storage, StoredFile};

#[derive(Debug, Default)]
struct Counters {
    bytes_read: AtomicU64,
    syncs: AtomicU64,
}

#[derive(Clone, Debug)]
pub(crate) struct Counting {
    directory: Directory,
    counters: Arc<Counters>,
}

impl Counting {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { directory: Directory::new(dir), counters: Arc::default() }
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.counters.bytes_read.load(Ordering::Relaxed)
    }

    /// Syncs of files; those of the directory are not fdatasync.
    pub(crate) fn syncs(&self) -> u64 {
        self.counters.syncs.load(Ordering::Relaxed)
    }
}

impl Storage for Counting {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StoredFile>> {
        let file = self.directory.open(name, access)?;
        Ok(Box::new(CountingFile { file, counters: Arc::clone(&self.counters) }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove(name)
    }

    fn make(&self) -> io::Result<()> {
        self.directory.make()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.directory.sync_dir()
    }
}

#[derive(Debug)]
struct CountingFile {
    file: Box<dyn StoredFile>,
    counters: Arc<Counters>,
}

impl StoredFile for CountingFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.counters.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}
