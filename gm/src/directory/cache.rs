//! What a directory gave, on the disk: one small text file for each question, with the time it was fetched and the PEM. It
//! may be deleted at any time. Nothing in it is trusted more than what a directory says.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::DirectoryError;

const FILE_BYTES_MAX: u64 = 16 << 20;
const HEAD: &str = "fetched-at ";

/// A directory of such files.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
}

impl Cache {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn path(&self, slot: &str) -> PathBuf {
        self.directory.join(format!("{slot}.pem"))
    }

    /// The PEM in `slot`, and when it was fetched (Unix seconds); `None` when there is none, or it says no time.
    pub(super) fn get(&self, slot: &str) -> Result<Option<(String, i64)>, DirectoryError> {
        let path = self.path(slot);
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, &error)),
        };
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(|error| failed(&path, &error))?;
        let Ok(text) = String::from_utf8(text) else { return Ok(None) };
        let fetched = text.lines().next().and_then(|line| line.strip_prefix(HEAD)).and_then(|at| at.parse().ok());
        Ok(fetched.map(|at| (text, at)))
    }

    /// Writes `slot` anew; a reader sees the old content or the new.
    pub(super) fn put(&self, slot: &str, pem: &str, now_s: i64) -> Result<(), DirectoryError> {
        let path = self.path(slot);
        let beside = self.directory.join(format!("{slot}.{}.new", std::process::id()));
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.directory)?;
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&beside)?;
            file.write_all(format!("{HEAD}{now_s}\n{pem}").as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&beside);
            failed(&path, &error)
        })
    }
}

fn failed(path: &Path, error: &std::io::Error) -> DirectoryError {
    DirectoryError::Cache { path: path.to_owned(), why: error.to_string() }
}
