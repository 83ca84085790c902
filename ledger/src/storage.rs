//! The one seam of this crate: a directory of files as the journal needs it, so that tests can make any call fail and can
//! cut the power. Nothing here knows what the files hold.

use std::{
    fmt::Debug,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{error::Error, identity::write_new};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing, made new or emptied.
    Create,
}

/// One directory. What `sync_data` and `sync_dir` have not confirmed may be lost, in part or whole, when the power goes.
pub trait Storage: Debug + Send + Sync {
    /// Where `name` is, for messages.
    fn path(&self, name: &str) -> PathBuf;
    /// Opens a file of the directory.
    ///
    /// # Errors
    /// As the operating system says.
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StoredFile>>;
    /// The names of all files.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Renames a file; an existing `to` is replaced.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Takes a file's name away; who has it open reads on.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the directory itself, durably, if it is not there.
    ///
    /// # Errors
    /// As the operating system says.
    fn make(&self) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync_dir(&self) -> io::Result<()>;
}

/// Puts a small file in the place of the one with this name, whole or not at all, durably.
///
/// # Errors
/// [`Error::Io`], [`Error::NoSpace`].
pub fn replace(storage: &dyn Storage, name: &str, bytes: &[u8]) -> Result<(), Error> {
    write_new(storage, name, |file| file.write(bytes, 0)).map(drop)
}

/// One open file.
pub trait StoredFile: Debug + Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn size(&self) -> io::Result<u64>;
    /// Fills `bytes` from `offset`; an end of file before that is [`io::ErrorKind::UnexpectedEof`].
    ///
    /// # Errors
    /// As the operating system says.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// As the operating system says.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable, and the length with it.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync_data(&self) -> io::Result<()>;
    /// Takes the file's lock, held until the file is dropped; false when another open file has it.
    ///
    /// # Errors
    /// As the operating system says.
    fn try_lock(&self) -> io::Result<bool>;
}

/// A directory of the operating system.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
    is_private: bool,
}

impl Directory {
    /// The directory at `root`; whether it exists is found out on first use.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), is_private: false }
    }

    /// A directory of secrets: made with mode 0700 and its files with 0600, and a file that group or others may touch is
    /// refused.
    pub fn private(root: &Path) -> Self {
        Self { root: root.to_owned(), is_private: true }
    }
}

impl Storage for Directory {
    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn StoredFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match access {
            Access::Read => &mut options,
            Access::Write => options.write(true),
            Access::Create => options.write(true).create(true).truncate(true),
        };
        if self.is_private {
            options.mode(0o600);
        }
        let file = options.open(self.path(name))?;
        let mode = file.metadata()?.permissions().mode() & 0o7777;
        if self.is_private && mode & 0o077 != 0 {
            let why = format!("mode {mode:04o} gives group or others access to a secret; 0600 or less is needed");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(Box::new(DirectoryFile(file)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in std::fs::read_dir(&self.root)? {
            names.extend(item?.file_name().into_string());
        }
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(name))
    }

    fn make(&self) -> io::Result<()> {
        match DirBuilder::new().mode(if self.is_private { 0o700 } else { 0o777 }).create(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let parent = self.root.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.root)?.sync_all()
    }
}

#[derive(Debug)]
struct DirectoryFile(File);

impl StoredFile for DirectoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        // A child that another thread has just forked shares the lock until it reaches its exec: a held lock is asked again for
        // a fifth of a second before it is somebody else's.
        for _ in 0..20 {
            match self.0.try_lock() {
                Ok(()) => return Ok(true),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(false)
    }
}
