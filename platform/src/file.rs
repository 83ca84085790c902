//! Reading and writing the one file that a command is given or makes; every failure with its status and its path.

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use hufu_audit::{Exit, Failure};

use crate::text::Text;

/// Status 74: `path` could not be written.
pub(crate) fn unwritable(path: &Path, why: &dyn std::fmt::Display) -> Failure<Text> {
    Failure::new(Exit::Io, Text::FileUnwritable { path: path.display().to_string(), why: why.to_string() })
}

/// No file that a command is given is larger.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads a whole file.
///
/// # Errors
/// Status 74.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure<Text>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| {
        Failure::new(Exit::Io, Text::FileUnreadable { path: path.display().to_string(), why: error.to_string() })
    })
}

/// Writes or replaces a file: written beside, synced, renamed, the directory synced. Readers see the old content or the
/// new, nothing between.
///
/// # Errors
/// Status 74.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure<Text>> {
    let mut beside = Beside::create(path)?;
    beside.put(bytes);
    beside.finish()
}

/// The same for what is written piece by piece. Whatever is not finished leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Beside {
    path: PathBuf,
    beside: PathBuf,
    /// The file, or why it could not be written; that is said at the end.
    file: std::io::Result<BufWriter<File>>,
}

impl Beside {
    /// Begins beside `path`.
    ///
    /// # Errors
    /// Status 74.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure<Text>> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.new", std::process::id()));
        let beside = PathBuf::from(beside);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&beside);
        let file = file.map_err(|error| unwritable(path, &error))?;
        Ok(Self { path: path.to_owned(), beside, file: Ok(BufWriter::new(file)) })
    }

    /// Writes on.
    pub(crate) fn write(&mut self, text: &str) {
        self.put(text.as_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Ok(file) = &mut self.file
            && let Err(error) = file.write_all(bytes)
        {
            self.file = Err(error);
        }
    }

    /// Takes the place of what was at the path.
    ///
    /// # Errors
    /// Status 74.
    pub(crate) fn finish(mut self) -> Result<(), Failure<Text>> {
        let file = std::mem::replace(&mut self.file, Err(std::io::ErrorKind::Other.into()));
        let done = file.and_then(|file| {
            file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
            std::fs::rename(&self.beside, &self.path)?;
            let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(dir)?.sync_all()
        });
        done.map_err(|error| unwritable(&self.path, &error))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // After the rename there is nothing left of it.
        let _ = std::fs::remove_file(&self.beside);
    }
}
