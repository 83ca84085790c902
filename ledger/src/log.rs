//! `Ledger`: the two logs of one node as the rest of the house sees them. Makes and signs blocks, appends them, answers for
//! what was appended. Files are `journal.rs` and below.

use std::{path::Path, sync::Arc};

use hufu_gm::{Hash, Signed};

use crate::{
    block::{Block, NO_PARENT, Signer, TimeQuality, VERSION},
    checkpoint::Checkpoint,
    entry::{EntryRef, Log, PerLog},
    error::{Error, Fault},
    identity::{self, Identity, check_node},
    journal::{Framed, Head, Journal, check_place},
    merkle::{self, Frontier, PathStep},
    options::{Options, keys_beside},
    pack::Archived,
    plan::{Batch, End, Plan},
    recover::{Recovery, open_read, open_write},
    sealed_entry::Destroyed,
    segment::{BATCH_BLOCKS_MAX, io_error},
    storage::{Directory, Storage},
};

/// An entry to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// What the body is; opaque here.
    pub kind: u16,
    /// Opaque bytes.
    pub body: Vec<u8>,
    /// What [`Ledger::find`] finds it by; [`crate::NO_KEY`] for nothing.
    pub key: [u8; 32],
    /// Whether it is encrypted on the disk, under an SM4 key of its `key`, until [`Ledger::erase`] destroys that. An entry
    /// without a key cannot be sealed.
    pub sealed: bool,
}

/// A block to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewBlock {
    /// Its log.
    pub log: Log,
    /// Its entries: 1 to 64, at most 40 KiB.
    pub entries: Vec<NewEntry>,
}

/// A block that was appended before, on its way back: what a peer or the platform kept of this ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBlock {
    /// The block.
    pub bytes: Vec<u8>,
    /// One key for each entry, as in [`NewEntry::key`].
    pub keys: Vec<[u8; 32]>,
    /// For each entry whether it is sealed, as in [`NewEntry::sealed`]; empty when none is.
    pub sealed: Vec<bool>,
}

/// A block that was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendedBlock {
    /// Its log.
    pub log: Log,
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub block_hash: Hash,
    /// Its entries.
    pub entries: Vec<EntryRef>,
    /// The block itself, to send on.
    pub bytes: Vec<u8>,
}

/// Sizes and roots of both logs: what a state file is valid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Blocks in each log.
    pub size: PerLog<u64>,
    /// Root of each log at that size.
    pub root: PerLog<Hash>,
}

/// The two logs of one node, on disk.
///
/// One process at a time may have it open for appending. After any failed write it refuses everything but reading until it
/// is opened again.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) journal: Journal,
}

impl Ledger {
    /// Makes an empty ledger in `dir`, which is made if need be. `id` is 16 fresh random bytes.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is one already, [`Error::NodeName`], [`Error::InUse`], [`Error::Io`],
    /// [`Error::NoSpace`].
    pub fn create(dir: &Path, options: &Options, id: [u8; 16]) -> Result<(), Error> {
        check_node(&options.node)?;
        std::fs::create_dir_all(dir).map_err(|error| io_error(dir.to_owned(), error))?;
        Self::create_on(&Directory::new(dir), options, id)?;
        // The directory's own name must last as well.
        match dir.canonicalize().ok().as_deref().and_then(Path::parent) {
            Some(parent) => Directory::new(parent).sync_dir().map_err(|error| io_error(parent.to_owned(), error)),
            None => Ok(()),
        }
    }

    /// As [`Self::create`], on any storage.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn create_on(storage: &dyn Storage, options: &Options, id: [u8; 16]) -> Result<(), Error> {
        identity::create(storage, &Identity { id, node: options.node.clone() }, options.segment_size)
    }

    /// Opens a ledger for appending. A bad tail is set aside and reported; no byte is discarded.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::OtherNode`], [`Error::InUse`], [`Error::Damaged`] when more than the tail is damaged,
    /// [`Error::Io`], [`Error::NoSpace`].
    pub fn open(dir: &Path, options: &Options) -> Result<(Self, Recovery), Error> {
        let keys = options.keys.clone().map_or_else(|| keys_beside(dir), Ok)?;
        let (ledger, recovery) = Self::open_on(Arc::new(Directory::new(dir)), options)?;
        Ok((ledger.with_keys(Arc::new(Directory::private(&keys)), options.random), recovery))
    }

    /// As [`Self::open`], on any storage, and without keys: [`Self::with_keys`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(storage: Arc<dyn Storage>, options: &Options) -> Result<(Self, Recovery), Error> {
        let (found, wanted) = (Identity::read(storage.as_ref())?.node, options.node.clone());
        if found != wanted {
            return Err(Error::OtherNode { path: storage.path(""), found, wanted });
        }
        let (journal, recovery) = open_write(storage, options.segment_size)?;
        Ok((Self { journal }, recovery))
    }

    /// Opens a ledger for reading, whether or not another process appends to it: what is complete now can be read. Takes no
    /// lock and writes nothing.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`], [`Error::Io`].
    pub fn open_read_only(dir: &Path) -> Result<Self, Error> {
        let keys = keys_beside(dir)?;
        let ledger = Self::open_read_only_on(Arc::new(Directory::new(dir)))?;
        Ok(ledger.with_keys(Arc::new(Directory::private(&keys)), hufu_gm::random::fill))
    }

    /// As [`Self::open_read_only`], on any storage, and without keys: [`Self::with_keys`].
    ///
    /// # Errors
    /// As [`Self::open_read_only`].
    pub fn open_read_only_on(storage: Arc<dyn Storage>) -> Result<Self, Error> {
        Ok(Self { journal: open_read(storage)? })
    }

    /// Makes, signs and appends blocks: one frame, one sync, durable on return, all or none. `epoch` may not fall; `time_ns`
    /// is nanoseconds since 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// [`Error::Refused`] when a block is over its limits or the epoch falls, [`Error::BatchSize`], [`Error::Gm`],
    /// [`Error::ErasedKey`], [`Error::NoKeys`], [`Error::KeyFile`]: no block was written. [`Error::Io`], [`Error::NoSpace`]: it may have been; every later append is [`Error::Poisoned`].
    pub fn append(
        &mut self,
        blocks: &[NewBlock],
        signer: &Signer<'_>,
        epoch: u64,
        time_ns: i64,
        quality: TimeQuality,
    ) -> Result<Vec<AppendedBlock>, Error> {
        self.journal.check_writable()?;
        let batch = self.plan().sign(blocks, signer, epoch, time_ns, quality)?;
        self.commit(batch)
    }

    /// Where the logs stand, to sign what comes next while this ledger is busy: see [`Plan`].
    pub fn plan(&self) -> Plan {
        let end = |log| {
            let head = self.head(log);
            let (previous, epoch) = head.map_or((NO_PARENT, 0), |head| (head.hash, head.header.epoch));
            End { height: self.size(log), previous, epoch }
        };
        let ends = PerLog { trade: end(Log::Trade), finance: end(Log::Finance) };
        Plan { node: self.node().to_owned(), ends, chain: self.journal.chain() }
    }

    /// Appends a batch that was signed ahead: one frame, one sync, durable on return, all or none.
    ///
    /// # Errors
    /// [`Error::Refused`] when it does not follow what is here, [`Error::BatchSize`], [`Error::ErasedKey`],
    /// [`Error::NoKeys`], [`Error::KeyFile`]: no block was written. [`Error::Io`], [`Error::NoSpace`]: it may have been;
    /// every later append is [`Error::Poisoned`].
    pub fn commit(&mut self, batch: Batch) -> Result<Vec<AppendedBlock>, Error> {
        self.journal.check_writable()?;
        batch.append_to(&mut self.journal)
    }

    /// Appends blocks that exist already, in the order of their heights: one frame, one sync, durable on return, all or none.
    /// Their signatures are the caller's to check, with [`crate::verify_block`]; everything else is checked here. What was erased
    /// here before stays erased.
    ///
    /// # Errors
    /// [`Error::Refused`] when a block is not the next of its log, [`Error::BatchSize`], [`Error::NoKeys`],
    /// [`Error::KeyFile`]: no block was written. [`Error::Io`], [`Error::NoSpace`]: it may have been; every later append is [`Error::Poisoned`].
    pub fn restore(&mut self, blocks: &[KeptBlock]) -> Result<(), Error> {
        self.journal.check_writable()?;
        let (mut tips, mut batch) = (self.journal.tips.clone(), Vec::new());
        for kept in blocks.iter().take(BATCH_BLOCKS_MAX + 1) {
            let block = Block::from_bytes(&kept.bytes)?;
            let (log, height) = (block.header().log, block.header().height);
            let refused = |fault: Fault| fault.refused(Some(log), Some(height));
            let tip = tips.of_mut(log);
            check_place(tip, log, self.node(), block.header()).map_err(refused)?;
            let (count, marks) = (block.entries().len(), kept.sealed.len());
            if count != kept.keys.len() || (marks != 0 && marks != count) {
                return Err(refused(Fault::FramePayload));
            }
            let hash = block.hash();
            tip.frontier.push(merkle::leaf(&hash));
            tip.head = Some(Head { hash, header: block.header().clone() });
            let (bytes, keys, sealed) = (kept.bytes.clone(), kept.keys.clone(), kept.sealed.clone());
            batch.push(Framed { block, hash, bytes, keys, sealed, stored: None });
        }
        self.journal.seal_entries(&mut batch, Destroyed::StaysErased)?;
        self.journal.append(&batch, None)
    }

    /// Packs one segment: the oldest that is not packed yet, lies wholly below these heights and is not among the last two.
    /// Its blocks, keys and proofs are found as before, only slower. `None` when there is none. Whether anybody may still
    /// dispute what lies below is the caller's to know. A call reads and writes one segment, some tenths of a second.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`]: the next call goes on behind this segment. [`Error::NoSpace`]: the next call tries it
    /// again. In each case the segment or its archive is there as it was, and appending goes on.
    pub fn archive(&mut self, below: PerLog<u64>) -> Result<Option<Archived>, Error> {
        self.journal.archive(below)
    }

    /// The node whose ledger this is.
    pub fn node(&self) -> &str {
        &self.journal.identity.node
    }

    /// The ledger's own id.
    pub fn id(&self) -> [u8; 16] {
        self.journal.identity.id
    }

    /// Number of blocks, which is the next height.
    pub fn size(&self, log: Log) -> u64 {
        self.journal.size(log)
    }

    /// Root over all block hashes.
    pub fn root(&self, log: Log) -> Hash {
        self.journal.tips.of(log).frontier.root()
    }

    /// The tree over all block hashes, to see what root blocks will give before they are restored.
    pub fn frontier(&self, log: Log) -> Frontier {
        self.journal.tips.of(log).frontier.clone()
    }

    /// The newest block, if there is one.
    pub fn head(&self, log: Log) -> Option<&Head> {
        self.journal.tips.of(log).head.as_ref()
    }

    /// Sizes and roots now.
    pub fn stamp(&self) -> Stamp {
        let of = |log| (self.size(log), self.root(log));
        let ((trade_size, trade_root), (finance_size, finance_root)) = (of(Log::Trade), of(Log::Finance));
        Stamp {
            size: PerLog { trade: trade_size, finance: finance_size },
            root: PerLog { trade: trade_root, finance: finance_root },
        }
    }

    /// Whether both logs had exactly these roots at these sizes.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn holds(&self, stamp: &Stamp) -> Result<bool, Error> {
        for log in Log::ALL {
            let size = *stamp.size.of(log);
            if size > self.size(log) || self.root_at(log, size)? != *stamp.root.of(log) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Root over the first `size` block hashes.
    ///
    /// # Errors
    /// [`Error::Beyond`], [`Error::Io`], [`Error::Damaged`].
    pub fn root_at(&self, log: Log, size: u64) -> Result<Hash, Error> {
        self.check_size(log, size)?;
        if size == self.size(log) {
            return Ok(self.root(log));
        }
        merkle::root_by(size, &mut |level, place| self.journal.node(log, level, place))
    }

    fn check_size(&self, log: Log, wanted: u64) -> Result<(), Error> {
        let size = self.size(log);
        if wanted <= size { Ok(()) } else { Err(Error::Beyond { log, wanted, size }) }
    }

    /// The bytes of a block as it was signed.
    ///
    /// # Errors
    /// [`Error::Beyond`], [`Error::Io`], [`Error::Damaged`]. When a sealed entry of it cannot be opened: [`Error::Erased`],
    /// [`Error::KeyMissing`], [`Error::NoKeys`], [`Error::KeyFile`], [`Error::Refused`] with [`Fault::WrongDecryption`].
    pub fn block(&self, log: Log, height: u64) -> Result<Vec<u8>, Error> {
        self.journal.plain_block(log, height)
    }

    /// The bytes of the blocks from height `from` on, up to the size now.
    pub fn blocks(&self, log: Log, from: u64) -> impl Iterator<Item = Result<(u64, Vec<u8>), Error>> {
        (from..self.size(log)).map(move |height| Ok((height, self.block(log, height)?)))
    }

    /// The entries with a key, in the order of log, height and index.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn find(&self, key: &[u8; 32]) -> Result<Vec<EntryRef>, Error> {
        self.journal.find(key)
    }

    /// The DER of one entry, whatever is with the others of its block.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub fn entry(&self, log: Log, height: u64, index: u32) -> Result<Vec<u8>, Error> {
        self.journal.plain_entry(log, height, index)
    }

    /// A signed checkpoint of the log as it is now.
    ///
    /// # Errors
    /// [`Error::Gm`].
    pub fn checkpoint(&self, log: Log, signer: &Signer<'_>, time_ns: i64) -> Result<Signed, Error> {
        let checkpoint = Checkpoint {
            version: VERSION,
            log,
            node: self.node().to_owned(),
            epoch: self.head(log).map_or(0, |head| head.header.epoch),
            size: self.size(log),
            root: self.root(log),
            time: time_ns,
        };
        checkpoint.seal(signer)
    }

    /// Path from `merkle::leaf(block hash)` of the block at `height` to the root at `size`.
    ///
    /// # Errors
    /// [`Error::Beyond`], [`Error::Io`], [`Error::Damaged`].
    pub fn prove(&self, log: Log, height: u64, size: u64) -> Result<Vec<PathStep>, Error> {
        self.check_size(log, size)?;
        if height >= size {
            return Err(Error::Beyond { log, wanted: height, size });
        }
        let mut read = |level, place| self.journal.node(log, level, place);
        let path = merkle::path_by(height, size, &mut read)?;
        let leaf = read(0, height)?;
        if merkle::verify_path(&leaf, height, size, &path, &self.root_at(log, size)?) {
            Ok(path)
        } else {
            Err(Error::Damaged {
                segment: 0,
                offset: 0,
                log: Some(log),
                height: Some(height),
                fault: Fault::IndexMismatch,
            })
        }
    }

    /// Consistency proof from `size` to `count` blocks.
    ///
    /// # Errors
    /// [`Error::Beyond`], [`Error::Io`], [`Error::Damaged`].
    pub fn consistency(&self, log: Log, size: u64, count: u64) -> Result<Vec<Hash>, Error> {
        self.check_size(log, count)?;
        if size > count {
            return Err(Error::Beyond { log, wanted: size, size: count });
        }
        merkle::consistency_by(size, count, &mut |level, place| self.journal.node(log, level, place))
    }
}
