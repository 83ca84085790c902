//! What a full check is asked and what it answers: plain data. The walk itself is `check.rs`.

use std::{fmt, path::PathBuf};

use hufu_gm::{Hash, sm2::PublicKey};

use crate::{
    checkpoint::Checkpoint,
    entry::{Log, PerLog},
    error::Fault,
    recover::SetAside,
    segment::segment_name,
};

/// Gives the key of a certificate id, or `None` when the certificate is not known or not trusted.
pub type KeyOf<'a> = &'a dyn Fn(&Hash) -> Option<PublicKey>;

/// Whether the certificate of an id may sign the block at a height of a log: what ends one key and begins the next the ledger does
/// not know.
pub type MaySign<'a> = &'a dyn Fn(Log, u64, &Hash) -> bool;
/// Whether an entry, by kind and body, is one that opens an epoch, and if so which place of which log it opens: log, height, epoch.
/// `None` for every other entry.
pub type Opens<'a> = &'a dyn Fn(u16, &[u8]) -> Option<(u8, u64, u64)>;

/// What to hold the ledger against.
pub struct CheckOptions<'a> {
    /// Without it no signature is checked: the ledger can be self-consistent only.
    pub key_of: Option<KeyOf<'a>>,
    /// Without it every certificate may sign every block.
    pub may_sign: Option<MaySign<'a>>,
    /// With it an epoch must begin with the entry that opens it, and only so; without it an epoch only may not fall.
    pub opens: Option<Opens<'a>>,
    /// With it the salts are checked too.
    pub salt_key: Option<&'a [u8; 32]>,
    /// The folder of the keys of sealed entries, if it is not [`crate::keys_beside`]. Where there is no such folder sealed
    /// entries are counted and not opened: a copy of a ledger without its keys proves what the ledger proves.
    pub keys: Option<PathBuf>,
    /// Checkpoints that somebody kept; their signatures are the caller's to check.
    pub checkpoints: &'a [Checkpoint],
    /// How often a bad last frame is read again, 10 ms apart, because the agent may be writing it right now. Default: 20.
    pub rereads: u32,
    /// Threads that verify signatures beside the one that reads. Default: as many as the process has cores.
    pub threads: usize,
}

impl Default for CheckOptions<'_> {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            key_of: None,
            may_sign: None,
            opens: None,
            salt_key: None,
            keys: None,
            checkpoints: &[],
            rereads: 20,
            threads,
        }
    }
}

/// A problem and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Number of the segment, whether it lies in a file of its own or in an archive.
    pub segment: u32,
    /// Byte offset in the segment.
    pub offset: u64,
    /// The log concerned, if known.
    pub log: Option<Log>,
    /// The height concerned, if known.
    pub height: Option<u64>,
    /// What is wrong.
    pub fault: Fault,
}

impl Problem {
    /// The place alone, as text.
    pub fn place(&self) -> String {
        let block = match (self.log, self.height) {
            (Some(log), Some(height)) => format!(", {log} height {height}"),
            (Some(log), None) => format!(", {log}"),
            _ => String::new(),
        };
        format!("{} offset {}{block}", segment_name(self.segment), self.offset)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.fault)
    }
}

/// What was found in one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Number of blocks.
    pub size: u64,
    /// Root over them; `None` when a block is too damaged to know its hash.
    pub root: Option<Hash>,
    /// Time of the newest block, nanoseconds since 1970-01-01T00:00:00Z.
    pub head_time: Option<i64>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The node whose ledger it is; empty when the identity file is damaged.
    pub node: String,
    /// Both logs.
    pub logs: PerLog<LogReport>,
    /// Segments read, those in archives included.
    pub segments: u32,
    /// Entries read.
    pub entries: u64,
    /// Those of them that are sealed.
    pub sealed: u64,
    /// Those of the sealed ones whose key was destroyed.
    pub erased: u64,
    /// Signatures found good.
    pub signatures: u64,
    /// Tails set aside earlier: no problems, but incidents.
    pub set_aside: Vec<SetAside>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

impl Report {
    /// The lowest height of a log with which something is wrong.
    pub fn first_bad(&self, log: Log) -> Option<u64> {
        self.problems.iter().filter(|problem| problem.log == Some(log)).filter_map(|problem| problem.height).min()
    }

    /// The first block with which something is wrong, in the order in which blocks were written. `None` when nothing is, or
    /// only with what surrounds the blocks: an index, a header, a file.
    pub fn first_bad_block(&self) -> Option<(Log, u64)> {
        let log = self.problems.iter().find(|problem| problem.height.is_some())?.log?;
        Some((log, self.first_bad(log)?))
    }
}
