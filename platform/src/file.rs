//! Reading and writing the one file that a command is given or makes; every failure with its status and its path.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
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
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = Path::new(&beside);
    let written = write_and_rename(beside, path, bytes);
    written.map_err(|error| {
        // What is left of a failed write is nobody's file.
        let _ = std::fs::remove_file(beside);
        unwritable(path, &error)
    })
}

fn write_and_rename(beside: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(beside, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}
