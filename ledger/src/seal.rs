//! The seal of a segment: its last bytes, and how blocks, Merkle nodes and keys are found in the index before it without
//! reading the rest. The index is made by `index.rs`; which segment is asked is `sealed.rs`.

use std::cmp::Ordering;

use hufu_gm::Hash;

use crate::{
    block::{BlockHeader, block_hash},
    entry::{Log, PerLog},
    error::Error,
    index::{BLOCK_BYTES, BlockSlot, FAN_LEN, KEY_BYTES, inner_count},
    journal::{Head, Tip},
    merkle::Frontier,
    segment::{Pieces, SegmentFile},
};

pub(crate) const SEAL_BYTES: usize = 196;
const SEAL_LEN: u64 = SEAL_BYTES as u64;
const BLOCK_LEN: u64 = BLOCK_BYTES as u64;
const KEY_LEN: u64 = KEY_BYTES as u64;
const NODE_LEN: u64 = 32;
const MAGIC: &[u8; 8] = b"hufuseal";
const VERSION: u32 = 2;

/// Log, height and index of an entry whose key begins as one that was asked for.
pub(crate) type Keyed = (Log, u64, u16);

/// The last bytes of a sealed segment.
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
    /// Bytes of each log's newest header; 0 when the log is empty.
    pub(crate) head_len: PerLog<u16>,
    pub(crate) keys: u32,
    /// CRC32C of peaks and headers.
    pub(crate) tips_crc: u32,
    /// CRC32C of the whole index.
    pub(crate) crc: u32,
}

impl Seal {
    pub(crate) fn encode(&self) -> Vec<u8> {
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
        bytes.extend(self.head_len.trade.to_be_bytes());
        bytes.extend(self.head_len.finance.to_be_bytes());
        bytes.extend(self.keys.to_be_bytes());
        bytes.extend(self.tips_crc.to_be_bytes());
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
            head_len: pieces.per_log(Pieces::u16)?,
            keys: pieces.u32()?,
            tips_crc: pieces.u32()?,
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
        inner_count(*self.size.of(log)).saturating_sub(inner_count(*self.start.of(log)))
    }

    fn blocks_len(&self) -> Option<u64> {
        self.blocks(Log::Trade).checked_add(self.blocks(Log::Finance))?.checked_mul(BLOCK_LEN)
    }

    fn nodes_at(&self, log: Log) -> Option<u64> {
        let first = self.capacity.checked_add(self.blocks_len()?)?;
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

    fn tips_at(&self) -> Option<u64> {
        self.keys_at()?.checked_add(u64::from(self.keys).checked_mul(KEY_LEN)?)
    }

    fn tips_len(&self) -> usize {
        let log = |log| self.size.of(log).count_ones() as usize * 32 + usize::from(*self.head_len.of(log));
        log(Log::Trade) + log(Log::Finance)
    }

    fn seal_at(&self) -> Option<u64> {
        self.tips_at()?.checked_add(self.tips_len() as u64)
    }

    /// Whether the segment holds the block of `height` (`Equal`), lies before it or behind it.
    pub(crate) fn compare_block(&self, log: Log, height: u64) -> Ordering {
        compare(*self.start.of(log), *self.size.of(log), height)
    }

    /// The same for the inner node stored at `place`.
    pub(crate) fn compare_node(&self, log: Log, place: u64) -> Ordering {
        compare(inner_count(*self.start.of(log)), inner_count(*self.size.of(log)), place)
    }

    /// Where the block of `height` lies; `None` when the segment does not hold it or its index is damaged.
    pub(crate) fn block(&self, file: &SegmentFile, log: Log, height: u64) -> Result<Option<BlockSlot>, Error> {
        let Some(place) = height.checked_sub(*self.start.of(log)).filter(|place| *place < self.blocks(log)) else {
            return Ok(None);
        };
        let before = if log == Log::Trade { 0 } else { self.blocks(Log::Trade) };
        let bytes: [u8; BLOCK_BYTES] = file.array(self.capacity + (before + place) * BLOCK_LEN)?;
        let inside = |slot: &BlockSlot| slot.offset.checked_add(slot.length.into()).is_some_and(|end| end <= self.end);
        Ok(BlockSlot::decode(&bytes).filter(inside))
    }

    /// The inner node stored at `place`; `None` when the segment does not hold it.
    pub(crate) fn node(&self, file: &SegmentFile, log: Log, place: u64) -> Result<Option<Hash>, Error> {
        let first = inner_count(*self.start.of(log));
        let Some(place) = place.checked_sub(first).filter(|place| *place < self.nodes(log)) else { return Ok(None) };
        let Some(first) = self.nodes_at(log) else { return Ok(None) };
        Ok(Some(file.array(first + place * NODE_LEN)?))
    }

    /// Log, height and index of the entries whose key begins as `key`; `None` when the index is damaged.
    pub(crate) fn find(&self, file: &SegmentFile, key: &[u8; 32]) -> Result<Option<Vec<Keyed>>, Error> {
        let (Some(fan_at), Some(keys_at)) = (self.fan_at(), self.keys_at()) else { return Ok(None) };
        let fan =
            |first: u8| -> Result<u32, Error> { Ok(u32::from_be_bytes(file.array(fan_at + u64::from(first) * 4)?)) };
        let ([first, ..], [wanted, ..]) = (*key, key.as_chunks::<8>().0) else { return Ok(None) };
        let (mut low, high) = (first.checked_sub(1).map_or(Ok(0), fan)?, fan(first)?);
        if low > high || high > self.keys {
            return Ok(None);
        }
        let mut above = high;
        while low < above {
            let middle = low + (above - low) / 2;
            let at: [u8; 8] = file.array(keys_at + u64::from(middle) * KEY_LEN)?;
            if at < *wanted { low = middle + 1 } else { above = middle }
        }
        let mut found = Vec::new();
        for place in low..high {
            let bytes: [u8; KEY_BYTES] = file.array(keys_at + u64::from(place) * KEY_LEN)?;
            let mut pieces = Pieces(&bytes);
            if pieces.array::<8>() != Some(*wanted) {
                break;
            }
            let (Some(block), Some(index)) = (pieces.u32(), pieces.u16()) else { return Ok(None) };
            match self.height_of(block.into()) {
                Some((log, height)) => found.push((log, height, index)),
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// Log and height of the block at one place of the table of blocks.
    fn height_of(&self, block: u64) -> Option<(Log, u64)> {
        let finance = match block.checked_sub(self.blocks(Log::Trade)) {
            None => return Some((Log::Trade, self.start.trade.checked_add(block)?)),
            Some(finance) => finance,
        };
        (finance < self.blocks(Log::Finance)).then_some((Log::Finance, self.start.finance.checked_add(finance)?))
    }

    /// Where the logs stand behind this segment; `None` when these bytes of the index are damaged.
    pub(crate) fn tips(&self, file: &SegmentFile) -> Result<Option<PerLog<Tip>>, Error> {
        let Some(at) = self.tips_at() else { return Ok(None) };
        let bytes = file.read(at, self.tips_len())?;
        if crc32c::crc32c(&bytes) != self.tips_crc {
            return Ok(None);
        }
        let mut pieces = Pieces(&bytes);
        let tip = |log, pieces: &mut Pieces<'_>| {
            let size = *self.size.of(log);
            let (peaks, _) = pieces.take(size.count_ones() as usize * 32)?.as_chunks();
            let frontier = Frontier::from_peaks(size, peaks.to_vec());
            let header = pieces.take(usize::from(*self.head_len.of(log)))?;
            let head = match size {
                0 => None,
                _ => Some(Head { hash: block_hash(header), header: BlockHeader::from_bytes(header).ok()? }),
            };
            (frontier.root() == *self.root.of(log)).then_some(Tip { frontier, head })
        };
        let tips = tip(Log::Trade, &mut pieces).zip(tip(Log::Finance, &mut pieces));
        Ok(tips.map(|(trade, finance)| PerLog { trade, finance }))
    }
}

fn compare(start: u64, size: u64, wanted: u64) -> Ordering {
    if size <= wanted {
        Ordering::Less
    } else if start > wanted {
        Ordering::Greater
    } else {
        Ordering::Equal
    }
}
