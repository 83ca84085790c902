//! Writing the few files that commands leave behind.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use hufu_audit::{Exit, Failure};

use crate::text::Text;

/// Writes or replaces a file; readers see the old content or the new, nothing between.
///
/// # Errors
/// 74 when it cannot be written; nothing is left behind.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure<Text>> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&beside);
    let written = file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    });
    written.map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        Failure::new(Exit::Io, Text::FileUnwritable { path: path.display().to_string(), why: error.to_string() })
    })
}
