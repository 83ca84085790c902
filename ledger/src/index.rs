//! The index of a segment: where each block lies, the Merkle nodes its blocks completed, the keys of its entries, and where
//! the logs stand behind it. In memory while the segment grows, behind the frames once it is sealed. It is derived from the
//! frames alone: `check` makes it again and compares.
//!
//! ```text
//! capacity   blocks of trade, then of finance, in order of height: offset u64, length u32, CRC32C u32
//!            inner nodes of trade, then of finance, in the order in which they were completed: 32 each. A leaf is not
//!            stored: it follows from its block
//!            keys whose first byte is at most 0, 1, .. 255: u32 each
//!            keys, sorted: first 8 bytes of the key, place of its block above u32, index in the block u16. The whole key
//!            stands behind the block in its frame
//!            for trade, then finance: peaks of the tree 32 each, header of the newest block
//! end - 196  seal: magic 8, version u32, number u32, ledger id 16, capacity u64, end of frames u64, chain 32, sizes before
//!            2 x u64, sizes after 2 x u64, roots 2 x 32, bytes of the headers 2 x u16, keys u32, CRC32C of peaks and
//!            headers u32, CRC32C of the index u32, CRC32C of the seal u32
//! ```

use hufu_gm::Hash;

use crate::{
    block::BlockHeader,
    entry::{Log, PerLog},
    error::Error,
    merkle::{Frontier, stored_count, stored_place},
    seal::{SEAL_BYTES, Seal},
    segment::Pieces,
};

/// The key that is not indexed: for entries nobody will look up.
pub const NO_KEY: [u8; 32] = [0; 32];

pub(crate) const BLOCK_BYTES: usize = 16;
pub(crate) const KEY_BYTES: usize = 14;
pub(crate) const FAN_LEN: u64 = 256 * 4;

/// How many inner nodes the first `size` leaves complete.
pub(crate) fn inner_count(size: u64) -> u64 {
    stored_count(size).saturating_sub(size)
}

/// Where the inner node `(level, place)` stands among the inner nodes; `None` for a leaf.
pub(crate) fn inner_place(level: u32, place: u64) -> Option<u64> {
    let leaves = place.checked_add(1)?.checked_mul(1_u64.checked_shl(level)?)?;
    if level == 0 { None } else { stored_place(level, place).checked_sub(leaves) }
}

/// Where one block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockSlot {
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) crc: u32,
}

impl BlockSlot {
    /// Where `block` lies when it begins at `offset`.
    pub(crate) fn new(offset: u64, block: &[u8]) -> Self {
        Self { offset, length: u32::try_from(block.len()).unwrap_or(u32::MAX), crc: crc32c::crc32c(block) }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut pieces = Pieces(bytes);
        Some(Self { offset: pieces.u64()?, length: pieces.u32()?, crc: pieces.u32()? })
    }
}

/// The beginning of a key, and its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct KeySlot {
    first: [u8; 8],
    log: Log,
    /// Place of the block among those of its log in this segment.
    place: u32,
    index: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LogIndex {
    start: u64,
    blocks: Vec<BlockSlot>,
    nodes: Vec<Hash>,
}

/// The index of the segment that is being written, or of one being checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    logs: PerLog<LogIndex>,
    keys: Vec<KeySlot>,
}

/// What a seal says of one log's end: its tree and its newest header.
pub(crate) type Ending<'a> = (&'a Frontier, Option<&'a BlockHeader>);

impl Index {
    pub(crate) fn new(start: PerLog<u64>) -> Self {
        let log = |start| LogIndex { start, ..LogIndex::default() };
        Self { logs: PerLog { trade: log(start.trade), finance: log(start.finance) }, keys: Vec::new() }
    }

    /// Takes in a block, the nodes it completes from the leaf up, and its entries' keys.
    pub(crate) fn push(&mut self, log: Log, slot: BlockSlot, nodes: &[Hash], keys: &[[u8; 32]]) {
        let index = self.logs.of_mut(log);
        let place = u32::try_from(index.blocks.len()).unwrap_or(u32::MAX);
        index.blocks.push(slot);
        index.nodes.extend(nodes.iter().skip(1));
        for (number, key) in (0_u16..).zip(keys).filter(|(_, key)| **key != NO_KEY) {
            if let [first, ..] = key.as_chunks::<8>().0 {
                self.keys.push(KeySlot { first: *first, log, place, index: number });
            }
        }
    }

    pub(crate) fn start(&self, log: Log) -> u64 {
        self.logs.of(log).start
    }

    pub(crate) fn block(&self, log: Log, height: u64) -> Option<&BlockSlot> {
        let index = self.logs.of(log);
        index.blocks.get(usize::try_from(height.checked_sub(index.start)?).ok()?)
    }

    /// The inner node stored at `place`.
    pub(crate) fn node(&self, log: Log, place: u64) -> Option<Hash> {
        let index = self.logs.of(log);
        index.nodes.get(usize::try_from(place.checked_sub(inner_count(index.start))?).ok()?).copied()
    }

    /// Log, height and index of the entries whose key begins as `key`.
    pub(crate) fn find(&self, key: &[u8; 32]) -> impl Iterator<Item = (Log, u64, u16)> {
        let slots = self.keys.iter().filter(move |slot| key.starts_with(&slot.first));
        slots.map(|slot| (slot.log, self.start(slot.log).saturating_add(slot.place.into()), slot.index))
    }

    fn size(&self, log: Log) -> u64 {
        let index = self.logs.of(log);
        index.start.saturating_add(index.blocks.len() as u64)
    }

    fn sealed_len(&self) -> usize {
        let log = |log: &LogIndex| log.blocks.len() * BLOCK_BYTES + log.nodes.len() * 32;
        log(&self.logs.trade) + log(&self.logs.finance) + 1024 + self.keys.len() * KEY_BYTES + SEAL_BYTES + 8192
    }

    /// The bytes that seal the segment: index and seal. The keys are sorted in place.
    ///
    /// # Errors
    /// [`Error::Gm`] never in practice: headers are small.
    pub(crate) fn seal(
        &mut self,
        (number, ledger): (u32, [u8; 16]),
        frames: Frames,
        ends: PerLog<Ending<'_>>,
    ) -> Result<(Vec<u8>, Seal), Error> {
        self.keys.sort_unstable();
        let keys = &self.keys;
        let mut bytes = Vec::with_capacity(self.sealed_len());
        for slot in Log::ALL.iter().flat_map(|log| &self.logs.of(*log).blocks) {
            bytes.extend(slot.offset.to_be_bytes());
            bytes.extend(slot.length.to_be_bytes());
            bytes.extend(slot.crc.to_be_bytes());
        }
        for log in Log::ALL {
            bytes.extend(self.logs.of(log).nodes.as_flattened());
        }
        for first in 0..=u8::MAX {
            let count = keys.partition_point(|slot| slot.first.first().is_some_and(|byte| *byte <= first));
            bytes.extend(u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        }
        let before = u32::try_from(self.logs.trade.blocks.len()).unwrap_or(u32::MAX);
        for slot in keys {
            let before = if slot.log == Log::Trade { 0 } else { before };
            bytes.extend(slot.first);
            bytes.extend(before.saturating_add(slot.place).to_be_bytes());
            bytes.extend(slot.index.to_be_bytes());
        }
        let (tips_at, mut head_len) = (bytes.len(), PerLog::default());
        for log in Log::ALL {
            let (frontier, header) = *ends.of(log);
            let header = header.map(BlockHeader::to_bytes).transpose()?.unwrap_or_default();
            bytes.extend(frontier.peaks().as_flattened());
            bytes.extend(&header);
            *head_len.of_mut(log) = u16::try_from(header.len()).unwrap_or(u16::MAX);
        }
        let seal = Seal {
            number,
            ledger,
            capacity: frames.capacity,
            end: frames.end,
            chain: frames.chain,
            start: PerLog { trade: self.start(Log::Trade), finance: self.start(Log::Finance) },
            size: PerLog { trade: self.size(Log::Trade), finance: self.size(Log::Finance) },
            root: PerLog { trade: ends.trade.0.root(), finance: ends.finance.0.root() },
            head_len,
            keys: u32::try_from(keys.len()).unwrap_or(u32::MAX),
            tips_crc: crc32c::crc32c(bytes.get(tips_at..).unwrap_or_default()),
            crc: crc32c::crc32c(&bytes),
        };
        bytes.extend(seal.encode());
        Ok((bytes, seal))
    }
}

/// Where the frames of a segment end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames {
    pub(crate) capacity: u64,
    pub(crate) end: u64,
    pub(crate) chain: Hash,
}
