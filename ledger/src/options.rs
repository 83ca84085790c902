//! How a ledger is created and opened: plain data. Where the keys of its sealed entries are, too; what is in them is `keys.rs`.

use std::path::{Path, PathBuf};

use crate::{error::Error, keys::Random, segment::io_error};

/// How a ledger is created and opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node whose ledger it is: 1 to 64 of `a-z 0-9 _ -`.
    pub node: String,
    /// Bytes given to a new segment before its frames; a larger batch gets a larger segment.
    pub segment_size: u64,
    /// The folder of the keys of sealed entries, made when the first is needed. It must not lie inside the ledger: who copies
    /// the one must not copy the other. `None`: [`keys_beside`].
    pub keys: Option<PathBuf>,
    /// Where those keys come from.
    pub random: Random,
}

impl Options {
    /// Segments of 4 MiB: what opening scans and what lies unused at the end. Keys beside the ledger.
    pub fn new(node: &str) -> Self {
        let (node, segment_size) = (node.to_owned(), 4 * 1024 * 1024);
        Self { node, segment_size, keys: None, random: hufu_gm::random::fill }
    }
}

/// Where the keys of the ledger in `dir` are unless [`Options::keys`] says otherwise: beside it, under its name and `.keys`.
///
/// # Errors
/// [`Error::Io`] when there is no such directory.
pub fn keys_beside(dir: &Path) -> Result<PathBuf, Error> {
    let dir = dir.canonicalize().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { path: dir.to_owned() },
        _ => io_error(dir.to_owned(), error),
    })?;
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".keys");
    Ok(dir.with_file_name(name))
}
