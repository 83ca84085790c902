//! Disks in memory, which outlive the nodes that write to them and can be made to take nothing.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use hufu_ledger::storage::{Access, Storage, StoredFile};

use crate::peers::Storages;

/// The bytes of a file.
type Content = Arc<Mutex<Vec<u8>>>;

/// A disk in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    files: Arc<Mutex<BTreeMap<String, Content>>>,
    /// Nothing is taken.
    is_broken: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
}

#[derive(Debug)]
struct MemoryFile {
    content: Content,
    is_broken: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
}

impl Memory {
    /// Takes nothing from now on, or everything again.
    pub(super) fn fail(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Ordering::Relaxed);
    }

    /// How often something was read.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// What all its files hold.
    pub(super) fn contents(&self) -> Vec<Vec<u8>> {
        self.files.lock().unwrap().values().map(|file| file.lock().unwrap().clone()).collect()
    }
}

fn taken(is_broken: &AtomicBool) -> io::Result<()> {
    if is_broken.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

impl Storage for Memory {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory").join(name)
    }
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StoredFile>> {
        let mut files = self.files.lock().unwrap();
        if access == Access::Create {
            files.insert(name.to_owned(), Arc::default());
        }
        let file = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let (is_broken, reads) = (Arc::clone(&self.is_broken), Arc::clone(&self.reads));
        Ok(Box::new(MemoryFile { content: Arc::clone(file), is_broken, reads }))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().unwrap().keys().cloned().collect())
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().unwrap().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn make(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
}

impl StoredFile for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().len() as u64)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let file = self.content.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        let found = file.get(from..from + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(found);
        Ok(())
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        taken(&self.is_broken)?;
        let mut file = self.content.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        if file.len() < from + bytes.len() {
            file.resize(from + bytes.len(), 0);
        }
        file[from..from + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        taken(&self.is_broken)
    }
    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// The disks of one node, which outlive it.
pub(super) type Disks = Arc<Mutex<BTreeMap<String, Memory>>>;

pub(super) fn storages(disks: &Disks) -> Storages {
    let disks = Arc::clone(disks);
    Arc::new(move |name: &str| Arc::new(disks.lock().unwrap().entry(name.to_owned()).or_default().clone()))
}
