//! The index of a segment: where each block lies, the Merkle nodes its blocks completed, and the keys of its entries. In
//! memory while the segment grows, behind the frames once it is sealed. It is derived from the frames alone: `check`
//! makes it again and compares.
//!
//! ```text
//! capacity   blocks of trade, then of finance, in order of height: offset u64, length u32, CRC32C u32, hash 32
//!            stored nodes of trade, then of finance (`merkle::stored_place`): 32 each
//!            keys whose first byte is at most 0, 1, .. 255: u32 each
//!            keys, sorted: key 32, log u8, height u64, index u32, entry hash 32
//! end - 188  seal: magic 8, version u32, number u32, ledger id 16, capacity u64, end of frames u64, chain 32, sizes before
//!            2 x u64, sizes after 2 x u64, roots 2 x 32, keys u32, CRC32C of the index u32, CRC32C of the seal u32
//! ```

use hufu_gm::Hash;

use crate::{
    entry::{EntryRef, Log, PerLog},
    error::Error,
    merkle::stored_count,
    segment::{Pieces, SegmentFile},
};

/// The key that is not indexed: for entries nobody will look up.
pub const NO_KEY: [u8; 32] = [0; 32];

const SEAL_BYTES: usize = 188;
const BLOCK_BYTES: usize = 48;
const KEY_BYTES: usize = 77;
const SEAL_LEN: u64 = SEAL_BYTES as u64;
const BLOCK_LEN: u64 = BLOCK_BYTES as u64;
const NODE_LEN: u64 = 32;
const FAN_LEN: u64 = 256 * 4;
const KEY_LEN: u64 = KEY_BYTES as u64;
const MAGIC: &[u8; 8] = b"hufuseal";
const VERSION: u32 = 1;

/// Where one block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockSlot {
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) crc: u32,
    pub(crate) hash: Hash,
}

/// A key and the entry it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeySlot {
    pub(crate) key: [u8; 32],
    pub(crate) entry: EntryRef,
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

impl Index {
    pub(crate) fn new(start: PerLog<u64>) -> Self {
        let log = |start| LogIndex { start, ..LogIndex::default() };
        Self { logs: PerLog { trade: log(start.trade), finance: log(start.finance) }, keys: Vec::new() }
    }

    /// Takes in a block, the nodes it completes and its entries with their keys.
    pub(crate) fn push(&mut self, log: Log, slot: BlockSlot, nodes: Vec<Hash>, entries: impl Iterator<Item = KeySlot>) {
        let index = self.logs.of_mut(log);
        index.blocks.push(slot);
        index.nodes.extend(nodes);
        self.keys.extend(entries.filter(|slot| slot.key != NO_KEY));
    }

    pub(crate) fn start(&self, log: Log) -> u64 {
        self.logs.of(log).start
    }

    pub(crate) fn block(&self, log: Log, height: u64) -> Option<&BlockSlot> {
        let index = self.logs.of(log);
        index.blocks.get(usize::try_from(height.checked_sub(index.start)?).ok()?)
    }

    pub(crate) fn node(&self, log: Log, place: u64) -> Option<Hash> {
        let index = self.logs.of(log);
        index.nodes.get(usize::try_from(place.checked_sub(stored_count(index.start))?).ok()?).copied()
    }

    pub(crate) fn find(&self, key: &[u8; 32]) -> impl Iterator<Item = EntryRef> {
        self.keys.iter().filter(move |slot| slot.key == *key).map(|slot| slot.entry)
    }

    fn size(&self, log: Log) -> u64 {
        let index = self.logs.of(log);
        index.start.saturating_add(index.blocks.len() as u64)
    }

    fn sealed_len(&self) -> usize {
        let log = |log: &LogIndex| log.blocks.len() * BLOCK_BYTES + log.nodes.len() * 32;
        log(&self.logs.trade) + log(&self.logs.finance) + 1024 + self.keys.len() * KEY_BYTES + SEAL_BYTES
    }

    /// The bytes that seal the segment: index and seal. The keys are sorted in place: a second copy would be the largest
    /// piece of memory this crate ever holds.
    pub(crate) fn seal(
        &mut self,
        number: u32,
        ledger: [u8; 16],
        frames: Frames,
        root: PerLog<Hash>,
    ) -> (Vec<u8>, Seal) {
        self.keys.sort_unstable_by_key(|slot| (slot.key, slot.entry.log, slot.entry.height, slot.entry.index));
        let keys = &self.keys;
        let mut bytes = Vec::with_capacity(self.sealed_len());
        for log in Log::ALL {
            for slot in &self.logs.of(log).blocks {
                bytes.extend(slot.offset.to_be_bytes());
                bytes.extend(slot.length.to_be_bytes());
                bytes.extend(slot.crc.to_be_bytes());
                bytes.extend(slot.hash);
            }
        }
        for log in Log::ALL {
            bytes.extend(self.logs.of(log).nodes.as_flattened());
        }
        for first in 0..=u8::MAX {
            let count = keys.partition_point(|slot| slot.key.first().is_some_and(|byte| *byte <= first));
            bytes.extend(u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        }
        for slot in keys {
            bytes.extend(slot.key);
            bytes.push(slot.entry.log.number());
            bytes.extend(slot.entry.height.to_be_bytes());
            bytes.extend(slot.entry.index.to_be_bytes());
            bytes.extend(slot.entry.hash);
        }
        let seal = Seal {
            number,
            ledger,
            capacity: frames.capacity,
            end: frames.end,
            chain: frames.chain,
            start: PerLog { trade: self.start(Log::Trade), finance: self.start(Log::Finance) },
            size: PerLog { trade: self.size(Log::Trade), finance: self.size(Log::Finance) },
            root,
            keys: u32::try_from(keys.len()).unwrap_or(u32::MAX),
            crc: crc32c::crc32c(&bytes),
        };
        bytes.extend(seal.encode());
        (bytes, seal)
    }
}

/// Where the frames of a segment end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames {
    pub(crate) capacity: u64,
    pub(crate) end: u64,
    pub(crate) chain: Hash,
}

/// The last bytes of a sealed segment: all that is kept of it in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) number: u32,
    pub(crate) ledger: [u8; 16],
    pub(crate) capacity: u64,
    pub(crate) end: u64,
    pub(crate) chain: Hash,
    pub(crate) start: PerLog<u64>,
    pub(crate) size: PerLog<u64>,
    pub(crate) root: PerLog<Hash>,
    pub(crate) keys: u32,
    pub(crate) crc: u32,
}

impl Seal {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.ledger);
        bytes.extend(self.capacity.to_be_bytes());
        bytes.extend(self.end.to_be_bytes());
        bytes.extend(self.chain);
        for sizes in [&self.start, &self.size] {
            bytes.extend(sizes.trade.to_be_bytes());
            bytes.extend(sizes.finance.to_be_bytes());
        }
        bytes.extend(self.root.trade);
        bytes.extend(self.root.finance);
        bytes.extend(self.keys.to_be_bytes());
        bytes.extend(self.crc.to_be_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut pieces = Pieces(bytes);
        if pieces.array()? != *MAGIC || pieces.u32()? != VERSION {
            return None;
        }
        let seal = Self {
            number: pieces.u32()?,
            ledger: pieces.array()?,
            capacity: pieces.u64()?,
            end: pieces.u64()?,
            chain: pieces.array()?,
            start: pieces.per_log(Pieces::u64)?,
            size: pieces.per_log(Pieces::u64)?,
            root: pieces.per_log(Pieces::array)?,
            keys: pieces.u32()?,
            crc: pieces.u32()?,
        };
        let ordered = Log::ALL.iter().all(|log| seal.start.of(*log) <= seal.size.of(*log));
        (ordered && seal.encode() == bytes).then_some(seal)
    }

    /// The seal at the end of a file, if there is an intact one where it belongs.
    pub(crate) fn read(file: &SegmentFile) -> Result<Option<Self>, Error> {
        let size = file.size()?;
        let Some(at) = size.checked_sub(SEAL_LEN) else { return Ok(None) };
        let seal = Self::decode(&file.array::<SEAL_BYTES>(at)?);
        Ok(seal.filter(|seal| seal.seal_at() == Some(at)))
    }

    /// As [`Self::read`], and the whole index before it is intact too: a seal alone may have outlived a power cut.
    pub(crate) fn read_whole(file: &SegmentFile) -> Result<Option<Self>, Error> {
        let Some(seal) = Self::read(file)? else { return Ok(None) };
        let Some(length) = seal.index_len().and_then(|length| length.checked_sub(SEAL_BYTES)) else { return Ok(None) };
        let crc = crc32c::crc32c(&file.read(seal.capacity, length)?);
        Ok((crc == seal.crc).then_some(seal))
    }

    /// Bytes of index and seal.
    pub(crate) fn index_len(&self) -> Option<usize> {
        let end = self.seal_at()?.checked_add(SEAL_LEN)?;
        usize::try_from(end.checked_sub(self.capacity)?).ok()
    }

    fn blocks(&self, log: Log) -> u64 {
        self.size.of(log).saturating_sub(*self.start.of(log))
    }

    fn nodes(&self, log: Log) -> u64 {
        stored_count(*self.size.of(log)).saturating_sub(stored_count(*self.start.of(log)))
    }

    fn blocks_at(&self, log: Log) -> Option<u64> {
        match log {
            Log::Trade => Some(self.capacity),
            Log::Finance => self.capacity.checked_add(self.blocks(Log::Trade).checked_mul(BLOCK_LEN)?),
        }
    }

    fn nodes_at(&self, log: Log) -> Option<u64> {
        let blocks = self.blocks(Log::Finance).checked_mul(BLOCK_LEN)?;
        let first = self.blocks_at(Log::Finance)?.checked_add(blocks)?;
        match log {
            Log::Trade => Some(first),
            Log::Finance => first.checked_add(self.nodes(Log::Trade).checked_mul(NODE_LEN)?),
        }
    }

    fn fan_at(&self) -> Option<u64> {
        self.nodes_at(Log::Finance)?.checked_add(self.nodes(Log::Finance).checked_mul(NODE_LEN)?)
    }

    fn keys_at(&self) -> Option<u64> {
        self.fan_at()?.checked_add(FAN_LEN)
    }

    fn seal_at(&self) -> Option<u64> {
        self.keys_at()?.checked_add(u64::from(self.keys).checked_mul(KEY_LEN)?)
    }

    /// Where the block of `height` lies; `None` when the segment does not hold it or its index is damaged.
    pub(crate) fn block(&self, file: &SegmentFile, log: Log, height: u64) -> Result<Option<BlockSlot>, Error> {
        let Some(place) = height.checked_sub(*self.start.of(log)).filter(|place| *place < self.blocks(log)) else {
            return Ok(None);
        };
        let Some(first) = self.blocks_at(log) else { return Ok(None) };
        let bytes: [u8; BLOCK_BYTES] = file.array(first + place * BLOCK_LEN)?;
        let mut pieces = Pieces(&bytes);
        let read = |pieces: &mut Pieces<'_>| {
            let (offset, length, crc) = (pieces.u64()?, pieces.u32()?, pieces.u32()?);
            Some(BlockSlot { offset, length, crc, hash: pieces.array()? })
        };
        let inside = |slot: &BlockSlot| slot.offset.checked_add(slot.length.into()).is_some_and(|end| end <= self.end);
        Ok(read(&mut pieces).filter(inside))
    }

    /// The stored node at `place`; `None` when the segment does not hold it.
    pub(crate) fn node(&self, file: &SegmentFile, log: Log, place: u64) -> Result<Option<Hash>, Error> {
        let first = stored_count(*self.start.of(log));
        let Some(place) = place.checked_sub(first).filter(|place| *place < self.nodes(log)) else { return Ok(None) };
        let Some(first) = self.nodes_at(log) else { return Ok(None) };
        Ok(Some(file.array(first + place * NODE_LEN)?))
    }

    /// The entries with `key`, appended to `found`; false when the index is damaged.
    pub(crate) fn find(&self, file: &SegmentFile, key: &[u8; 32], found: &mut Vec<EntryRef>) -> Result<bool, Error> {
        let (Some(fan_at), Some(keys_at)) = (self.fan_at(), self.keys_at()) else { return Ok(false) };
        let fan =
            |first: u8| -> Result<u32, Error> { Ok(u32::from_be_bytes(file.array(fan_at + u64::from(first) * 4)?)) };
        let [first, ..] = *key;
        let (mut low, high) = (first.checked_sub(1).map_or(Ok(0), fan)?, fan(first)?);
        if low > high || high > self.keys {
            return Ok(false);
        }
        let mut above = high;
        while low < above {
            let middle = low + (above - low) / 2;
            let at: [u8; 32] = file.array(keys_at + u64::from(middle) * KEY_LEN)?;
            if at < *key { low = middle + 1 } else { above = middle }
        }
        for place in low..high {
            let bytes: [u8; KEY_BYTES] = file.array(keys_at + u64::from(place) * KEY_LEN)?;
            let mut pieces = Pieces(&bytes);
            if pieces.array::<32>() != Some(*key) {
                break;
            }
            let read = |pieces: &mut Pieces<'_>| {
                let log = Log::from_number(pieces.u8()?)?;
                Some(EntryRef { log, height: pieces.u64()?, index: pieces.u32()?, hash: pieces.array()? })
            };
            match read(&mut pieces) {
                Some(entry) => found.push(entry),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}
