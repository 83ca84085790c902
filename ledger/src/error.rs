//! What can go wrong in `ledger`, and what can be wrong with bytes. Nothing here decides what to do about it: that is the
//! caller's, and each variant says whose.

use std::path::PathBuf;

use crate::entry::Log;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk failed. After a failed write or sync the ledger refuses further appends; the agent must stop and be
    /// restarted.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// No room on the disk. The site must free space; nothing acknowledged is lost.
    #[error("{}: no space left on the device", path.display())]
    NoSpace {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// There is no ledger here. It is never created by opening; the site runs `init`, or finds out where its ledger went.
    #[error("{}: no ledger here", path.display())]
    Missing {
        /// The ledger's directory.
        path: PathBuf,
    },
    /// There is a ledger here already, so none is created.
    #[error("{}: a ledger is here already", path.display())]
    Exists {
        /// The ledger's directory.
        path: PathBuf,
    },
    /// Another process has this ledger open for writing.
    #[error("{}: in use by another process", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// An earlier write failed, so what the disk holds is unknown: reopen before the next append.
    #[error("an earlier write failed; the ledger must be opened again")]
    Poisoned,
    /// This ledger was opened for reading only; the caller's mistake.
    #[error("the ledger is open for reading only")]
    ReadOnly,
    /// The ledger belongs to another node; the site's configuration is wrong.
    #[error("{}: this ledger belongs to node {found}, not {wanted}", path.display())]
    OtherNode {
        /// The ledger's directory.
        path: PathBuf,
        /// The node in the identity file.
        found: String,
        /// The node asked for.
        wanted: String,
    },
    /// A node name that is not 1 to 64 of `a-z 0-9 _ -`; the site's configuration is wrong.
    #[error("node name {0:?} is not 1 to 64 of a-z, 0-9, _ and -")]
    NodeName(String),
    /// The bytes of the ledger are damaged in a place that recovery must not touch. A person decides: restore from the
    /// peers or the platform.
    #[error("segment {segment} offset {offset}{}: {fault}", named(*log, *height))]
    Damaged {
        /// Number of the segment file.
        segment: u32,
        /// Byte offset in it.
        offset: u64,
        /// The log concerned, if known.
        log: Option<Log>,
        /// The height concerned, if known.
        height: Option<u64>,
        /// What is wrong.
        fault: Fault,
    },
    /// Block, checkpoint or entry bytes are not what they must be; whoever sent them is at fault.
    #[error("refused{}: {fault}", named(*log, *height))]
    Refused {
        /// The log the bytes name, if they could be read that far.
        log: Option<Log>,
        /// The height the bytes name, if they could be read that far.
        height: Option<u64>,
        /// What is wrong.
        fault: Fault,
    },
    /// There is no such block, entry or size in this log yet.
    #[error("{log} has no {wanted}: its size is {size}")]
    Beyond {
        /// The log.
        log: Log,
        /// The height or size asked for.
        wanted: u64,
        /// Blocks in the log.
        size: u64,
    },
    /// The batch is larger than one frame may be, or holds no block; the caller splits it.
    #[error("a batch of {blocks} blocks and {bytes} bytes: 1 to {blocks_max} blocks and {bytes_max} bytes are allowed")]
    BatchSize {
        /// Blocks in the batch.
        blocks: usize,
        /// Bytes of its frame.
        bytes: usize,
        /// Most blocks allowed.
        blocks_max: usize,
        /// Most bytes allowed.
        bytes_max: usize,
    },
    /// The bytes do not fit a state file's slot; the caller's mistake.
    #[error("state of {bytes} bytes: at most {bytes_max}")]
    StateSize {
        /// Bytes given.
        bytes: usize,
        /// Most bytes allowed.
        bytes_max: usize,
    },
    /// The entry was sealed and its key was destroyed: an answer, not damage. Its hash and every proof stay.
    #[error("{log} height {height}: erased; its key was destroyed")]
    Erased {
        /// The log.
        log: Log,
        /// The height.
        height: u64,
    },
    /// An entry for a key that was destroyed cannot be appended; the caller's mistake. Nothing was written.
    #[error("an entry under a key that was destroyed")]
    ErasedKey,
    /// The key of a sealed entry is not where it was, and was not destroyed. A person brings the file back.
    #[error("{log} height {height}: its key {} is missing, and was not erased", path.display())]
    KeyMissing {
        /// Where the key's file was.
        path: PathBuf,
        /// The log.
        log: Log,
        /// The height.
        height: u64,
    },
    /// A sealed entry in a ledger that was opened without its keys.
    #[error("a sealed entry{}, and the keys are not at hand", named(*log, *height))]
    NoKeys {
        /// The log, where one block is meant.
        log: Option<Log>,
        /// The height, where one block is meant.
        height: Option<u64>,
    },
    /// The file is not the key file it should be: damaged, or another ledger's. A person brings the right one back.
    #[error("{}: damaged, or not a key of this ledger", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
    },
    /// Signing or encoding failed in `gm`.
    #[error(transparent)]
    Gm(#[from] hufu_gm::Error),
}

/// What is wrong with bytes. Facts only; place and fault-bearer are in [`Error`] or `Problem`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Not the DER that belongs here, or not canonical.
    #[error("not the canonical DER that belongs here")]
    NotDer,
    /// A version this code does not know.
    #[error("version {0} is unknown")]
    Version(u8),
    /// The block belongs to the other log.
    #[error("block of the {0} log")]
    OtherLog(Log),
    /// The block belongs to another node.
    #[error("block of node {0:?}")]
    OtherNode(String),
    /// The block has another height.
    #[error("height {found} where {wanted} belongs")]
    WrongHeight {
        /// Height that belongs here.
        wanted: u64,
        /// Height found.
        found: u64,
    },
    /// The same height twice.
    #[error("height {0} a second time")]
    DuplicateHeight(u64),
    /// The header does not name the hash of the block before it.
    #[error("wrong parent")]
    WrongParent,
    /// The header's root is not the root of the entries.
    #[error("wrong root")]
    WrongRoot,
    /// The header's count is not the number of entries.
    #[error("count {header}, but {found} entries")]
    WrongCount {
        /// Count in the header.
        header: u32,
        /// Entries found.
        found: usize,
    },
    /// A block holds at least one entry.
    #[error("no entries")]
    NoEntries,
    /// More entries than a block may hold.
    #[error("{0} entries, more than a block may hold")]
    TooManyEntries(usize),
    /// More entry bytes than a block may hold.
    #[error("{0} entry bytes, more than a block may hold")]
    TooManyBytes(usize),
    /// The signature is well-formed, and not of this key over these bytes.
    #[error("bad signature")]
    BadSignature,
    /// The signature is not a strict DER SM2 signature.
    #[error("malformed signature")]
    MalformedSignature,
    /// No key is known for the certificate that the header names.
    #[error("unknown certificate")]
    UnknownCertificate,
    /// The certificate's key signs other blocks than this one: it was changed before it, or comes into force after it.
    #[error("signed by a key that is not in force at this height")]
    KeyNotInForce,
    /// The epoch is smaller than the one before it.
    #[error("epoch {to} after epoch {from}")]
    EpochBackwards {
        /// Epoch of the block before.
        from: u64,
        /// Epoch found.
        to: u64,
    },
    /// A block is of a later epoch than the one before it, and its first entry does not say so.
    #[error("epoch {to} after epoch {from}, and no entry that opens it here")]
    EpochUnopened {
        /// Epoch of the block before.
        from: u64,
        /// Epoch of this block.
        to: u64,
    },
    /// An entry opens an epoch in a block that does not begin one.
    #[error("entry {0} opens an epoch that does not begin here")]
    EpochAstray(u32),
    /// The entry's salt is not the one the node's salt key gives.
    #[error("wrong salt in entry {0}")]
    WrongSalt(u32),
    /// The frame's length reaches beyond the segment or the limit.
    #[error("frame length out of range")]
    FrameLength,
    /// The frame's CRC does not fit.
    #[error("frame CRC does not fit")]
    FrameCrc,
    /// The frame does not continue the chain.
    #[error("frame does not continue the chain")]
    FrameChain,
    /// The frame's payload is not a batch of blocks with their keys.
    #[error("frame payload is not a batch of blocks")]
    FramePayload,
    /// A good frame follows a damaged place: not a torn tail.
    #[error("damaged, and a good frame follows at offset {0}")]
    GoodFrameFollows(u64),
    /// Bytes after the last good frame that are no frame.
    #[error("{0} bytes that are no frame")]
    BadTail(u64),
    /// The identity file is unreadable.
    #[error("identity file damaged")]
    Identity,
    /// The segment's header is damaged.
    #[error("segment header damaged")]
    SegmentHeader,
    /// A segment between others is not there.
    #[error("segment missing")]
    SegmentMissing,
    /// A segment that must be sealed has no intact seal.
    #[error("seal of the segment missing or damaged")]
    SegmentSeal,
    /// The segment does not continue the one before it.
    #[error("segment does not continue the one before it")]
    SegmentLink,
    /// The archive's header is damaged.
    #[error("archive header damaged")]
    ArchiveHeader,
    /// The archive's table of chunks is damaged.
    #[error("archive table damaged")]
    ArchiveTable,
    /// The archive says that it holds another segment than its name does.
    #[error("archive of segment {0}")]
    ArchiveNumber(u32),
    /// The archive belongs to another ledger.
    #[error("archive of another ledger")]
    ArchiveLedger,
    /// The archive is shorter or longer than it says.
    #[error("archive of {found} bytes where {wanted} belong")]
    ArchiveLength {
        /// Bytes it must have, as far as it can be read.
        wanted: u64,
        /// Bytes it has.
        found: u64,
    },
    /// A chunk of the archive has another CRC than its table says, or does not unpack to the bytes it stands for.
    #[error("chunk {0} of the archive damaged")]
    ArchiveChunk(usize),
    /// What the archive unpacks to has another SM3 than what was packed.
    #[error("archive gives back other bytes than were packed")]
    ArchiveHash,
    /// Blocks are not there; the height is the first of them.
    #[error("blocks up to height {0} are missing or cannot be read")]
    BlocksMissing(u64),
    /// The log's root at this size is not the checkpoint's.
    #[error("another root than the checkpoint's at size {0}")]
    WrongCheckpoint(u64),
    /// A checkpoint names more blocks than there are.
    #[error("a checkpoint names {0} blocks: some are missing here")]
    MissingBlocks(u64),
    /// An entry is to be sealed, or is sealed, without a key of its own to seal it under, or under another one.
    #[error("entry {0} is sealed, but not under its own key")]
    SealedKey(u32),
    /// What a sealed entry decrypts to is not what the block's root covers.
    #[error("entry {0} decrypts to other bytes than were signed")]
    WrongDecryption(u32),
    /// The key of a sealed entry is not where it was, and was not destroyed.
    #[error("the key of entry {0} is missing, and was not erased")]
    KeyMissing(u32),
    /// The key file of a sealed entry is damaged, another ledger's, or cannot be read.
    #[error("the key file of entry {0} is damaged, not of this ledger, or cannot be read")]
    KeyFile(u32),
    /// The index of a sealed segment differs from its frames, or stored bytes from the index.
    #[error("index and stored bytes differ")]
    IndexMismatch,
}

impl Fault {
    /// This fault in a block somebody gave us.
    pub(crate) fn refused(self, log: Option<Log>, height: Option<u64>) -> Error {
        Error::Refused { log, height, fault: self }
    }

    /// This fault at a place of the journal.
    pub(crate) fn damaged(self, segment: u32, offset: u64) -> Error {
        Error::Damaged { segment, offset, log: None, height: None, fault: self }
    }

    /// This fault in a block of the journal.
    pub(crate) fn damaged_block(self, segment: u32, offset: u64, log: Log, height: u64) -> Error {
        Error::Damaged { segment, offset, log: Some(log), height: Some(height), fault: self }
    }
}

fn named(log: Option<Log>, height: Option<u64>) -> String {
    match (log, height) {
        (Some(log), Some(height)) => format!(" ({log} height {height})"),
        (Some(log), None) => format!(" ({log})"),
        _ => String::new(),
    }
}
