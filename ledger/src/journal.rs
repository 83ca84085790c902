//! The journal: a chain of segment files that carries both logs. Appends one batch as one frame with one sync, and finds
//! blocks, Merkle nodes and keys again. Opening it is `recover.rs`; signing is `log.rs`.

use std::sync::Arc;

use hufu_gm::Hash;

use crate::{
    block::{Block, BlockHeader, block_hash, read_parts},
    entry::{EntryRef, Log, PerLog, entry_hash},
    error::{Error, Fault},
    identity::{Identity, create_segment},
    index::{BlockSlot, Frames, Index, inner_place},
    keys::Keys,
    merkle::{self, Frontier},
    sealed::Sealed,
    sealed_entry::{SealedEntry, StoredBlock, is_sealed},
    segment::{
        BATCH_BLOCKS_MAX, FRAME_HEAD_LEN, FramedBlock, HEADER_LEN, NewFrame, PAYLOAD_LEN_MAX, SegmentFile,
        SegmentHeader, read_payload,
    },
    storage::Storage,
};

/// The newest block of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its hash.
    pub hash: Hash,
    /// Its header.
    pub header: BlockHeader,
}

/// Where a log stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tip {
    pub(crate) frontier: Frontier,
    pub(crate) head: Option<Head>,
}

/// Whether appending is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Write,
    Read,
    /// A write failed: what the disk holds is not known.
    Poisoned,
}

/// The segment that is being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) number: u32,
    pub(crate) file: SegmentFile,
    pub(crate) frames: Frames,
    pub(crate) index: Index,
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) identity: Identity,
    pub(crate) segment_size: u64,
    pub(crate) sealed: Sealed,
    pub(crate) active: Option<Active>,
    pub(crate) tips: PerLog<Tip>,
    pub(crate) mode: Mode,
    /// What sealed entries are sealed and opened with.
    pub(crate) keys: Option<Keys>,
    /// Segments below this number are archived, or were looked at.
    pub(crate) archive_from: u32,
    /// Held, never used: the lock goes when the file is closed.
    pub(crate) _lock: Option<SegmentFile>,
}

/// A block on its way into a batch.
#[derive(Debug)]
pub(crate) struct Framed {
    pub(crate) block: Block,
    /// Its hash, computed once: half of what appending computes is SM3.
    pub(crate) hash: Hash,
    pub(crate) bytes: Vec<u8>,
    pub(crate) keys: Vec<[u8; 32]>,
    /// Which entries are sealed; empty when none is.
    pub(crate) sealed: Vec<bool>,
    /// What is written in place of `bytes`, where an entry is sealed.
    pub(crate) stored: Option<Vec<u8>>,
}

impl Framed {
    fn stored(&self) -> &[u8] {
        self.stored.as_deref().unwrap_or(&self.bytes)
    }
}

impl Journal {
    pub(crate) fn size(&self, log: Log) -> u64 {
        self.tips.of(log).frontier.size()
    }

    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        match self.mode {
            Mode::Read => Err(Error::ReadOnly),
            Mode::Poisoned => Err(Error::Poisoned),
            Mode::Write => Ok(()),
        }
    }

    /// Chain hash after the last frame.
    pub(crate) fn chain(&self) -> Hash {
        let sealed = || self.sealed.last().map(|seal| seal.chain);
        self.active.as_ref().map(|active| active.frames.chain).or_else(sealed).unwrap_or_default()
    }

    /// Writes the batch, whose blocks are the next of their logs, as one frame: `ready`, if that was made for this place. When
    /// this returns it is durable; when it fails, only opening again can tell.
    pub(crate) fn append(&mut self, batch: &[Framed], ready: Option<NewFrame>) -> Result<(), Error> {
        self.check_writable()?;
        let ready = ready.filter(|frame| frame.before == self.chain());
        let frame = ready.unwrap_or_else(|| new_frame(self.chain(), batch));
        let bytes = frame.payload().len();
        if batch.is_empty() || batch.len() > BATCH_BLOCKS_MAX || bytes > PAYLOAD_LEN_MAX {
            return Err(Error::BatchSize {
                blocks: batch.len(),
                bytes,
                blocks_max: BATCH_BLOCKS_MAX,
                bytes_max: PAYLOAD_LEN_MAX,
            });
        }
        let written = self.write(&frame, batch);
        if written.is_err() {
            self.mode = Mode::Poisoned;
        }
        written
    }

    fn write(&mut self, frame: &NewFrame, batch: &[Framed]) -> Result<(), Error> {
        let needed = frame.bytes.len() as u64;
        if self.active.as_ref().is_none_or(|active| active.frames.capacity - active.frames.end < needed) {
            self.seal()?;
            self.begin_segment(needed)?;
        }
        let Some(active) = &mut self.active else { return Err(Error::Poisoned) };
        let offset = active.frames.end;
        active.file.write(&frame.bytes, offset)?;
        active.file.sync()?;
        active.frames.chain = frame.chain;
        active.frames.end = offset + needed;
        let places = read_payload(frame.payload()).ok_or(Fault::FramePayload.damaged(active.number, offset))?;
        for (framed, made) in places.iter().zip(batch) {
            push(&mut active.index, &mut self.tips, offset, framed, (made.block.header(), made.hash));
        }
        Ok(())
    }

    /// Writes the index behind the frames of the active segment; nothing is written to it afterwards.
    pub(crate) fn seal(&mut self) -> Result<(), Error> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let end = |log| {
            let tip: &Tip = self.tips.of(log);
            (&tip.frontier, tip.head.as_ref().map(|head| &head.header))
        };
        let ends = PerLog { trade: end(Log::Trade), finance: end(Log::Finance) };
        let (bytes, seal) = active.index.seal((active.number, self.identity.id), active.frames, ends)?;
        active.file.write(&bytes, active.frames.capacity)?;
        active.file.sync()?;
        self.sealed.push(seal);
        self.active = None;
        Ok(())
    }

    /// Makes the next segment, with room for a frame of `needed` bytes.
    fn begin_segment(&mut self, needed: u64) -> Result<(), Error> {
        let Some(last) = self.sealed.last() else { return Err(Error::Poisoned) };
        let header = SegmentHeader {
            number: last.number.saturating_add(1),
            ledger: self.identity.id,
            capacity: self.segment_size.max(HEADER_LEN + needed),
            previous_end: last.end,
            chain: last.chain,
            start: last.size,
        };
        let file = create_segment(self.storage.as_ref(), &header)?;
        let frames = Frames { capacity: header.capacity, end: HEADER_LEN, chain: header.chain };
        self.active = Some(Active { number: header.number, file, frames, index: Index::new(header.start) });
        Ok(())
    }

    /// The bytes of one block.
    pub(crate) fn block(&self, log: Log, height: u64) -> Result<Vec<u8>, Error> {
        self.framed_block(log, height, |file, number, slot| read_block(file, number, slot, log, height))
    }

    /// Asks where a block lies, and `read`s there.
    fn framed_block<T>(
        &self,
        log: Log,
        height: u64,
        read: impl FnOnce(&SegmentFile, u32, &BlockSlot) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some(active) = &self.active
            && let Some(slot) = active.index.block(log, height)
        {
            return read(&active.file, active.number, slot);
        }
        let Some(found) = self.sealed.search(|seal| seal.compare_block(log, height))? else {
            return Err(Error::Beyond { log, wanted: height, size: self.size(log) });
        };
        let seal = &found.seal;
        let damaged = || Fault::IndexMismatch.damaged_block(seal.number, seal.capacity, log, height);
        let slot = seal.block(&found.file, log, height)?.ok_or_else(damaged)?;
        read(&found.file, seal.number, &slot)
    }

    /// The Merkle node `(level, place)` of a log. Leaves are not stored: each follows from its block.
    pub(crate) fn node(&self, log: Log, level: u32, place: u64) -> Result<Hash, Error> {
        let Some(stored) = inner_place(level, place) else {
            let (signed, ..) = read_parts(&self.block(log, place)?).map_err(|fault| fault.refused(Some(log), None))?;
            return Ok(merkle::leaf(&block_hash(signed.tbs())));
        };
        if let Some(hash) = self.active.as_ref().and_then(|active| active.index.node(log, stored)) {
            return Ok(hash);
        }
        let Some(found) = self.sealed.search(|seal| seal.compare_node(log, stored))? else {
            return Err(Error::Beyond { log, wanted: place << level, size: self.size(log) });
        };
        let damaged = || Fault::IndexMismatch.damaged(found.seal.number, found.seal.capacity);
        found.seal.node(&found.file, log, stored)?.ok_or_else(damaged)
    }

    /// All entries with `key`, in the order of log, height and index.
    pub(crate) fn find(&self, key: &[u8; 32]) -> Result<Vec<EntryRef>, Error> {
        let mut places = Vec::new();
        for number in 0..self.sealed.count() {
            let found = self.sealed.segment(number)?;
            let damaged = || Fault::IndexMismatch.damaged(number, found.seal.capacity);
            places.extend(found.seal.find(&found.file, key)?.ok_or_else(damaged)?);
        }
        places.extend(self.active.iter().flat_map(|active| active.index.find(key)));
        places.sort_unstable();
        let mut found = Vec::new();
        for place in places {
            found.extend(
                self.framed_block(place.0, place.1, |file, number, slot| read_keyed(file, number, slot, key, place))?,
            );
        }
        Ok(found)
    }
}

/// The frame of a batch after `chain`.
pub(crate) fn new_frame(chain: Hash, batch: &[Framed]) -> NewFrame {
    NewFrame::new(chain, batch.iter().map(|f| (f.block.header().log, f.stored(), f.keys.as_slice())))
}

/// The entry at `index` of a block, if its whole key is `key`.
fn read_keyed(
    file: &SegmentFile,
    number: u32,
    slot: &BlockSlot,
    key: &[u8; 32],
    (log, height, index): (Log, u64, u16),
) -> Result<Option<EntryRef>, Error> {
    // Behind the block stand the count of its keys, two bytes, and the keys.
    let at = slot.offset.saturating_add(slot.length.into()).saturating_add(2 + u64::from(index) * 32);
    if file.array::<32>(at)? != *key {
        return Ok(None);
    }
    let bytes = read_block(file, number, slot, log, height)?;
    let damaged = || Fault::IndexMismatch.damaged_block(number, slot.offset, log, height);
    let (_, _, entries) = read_parts(&bytes).map_err(|_| damaged())?;
    let entry = entries.get(usize::from(index)).ok_or_else(damaged)?;
    let hash = match is_sealed(entry) {
        true => SealedEntry::from_bytes(entry).map_err(|_| damaged())?.hash,
        false => entry_hash(entry),
    };
    Ok(Some(EntryRef { log, height, index: index.into(), hash }))
}

fn read_block(file: &SegmentFile, number: u32, slot: &BlockSlot, log: Log, height: u64) -> Result<Vec<u8>, Error> {
    let bytes = file.read(slot.offset, usize::try_from(slot.length).unwrap_or(usize::MAX))?;
    if crc32c::crc32c(&bytes) == slot.crc {
        Ok(bytes)
    } else {
        Err(Fault::IndexMismatch.damaged_block(number, slot.offset, log, height))
    }
}

/// Takes the batch of a frame into index and tips, checking every block's inside and place; signatures are not checked.
pub(crate) fn take_in(
    index: &mut Index,
    tips: &mut PerLog<Tip>,
    node: &str,
    offset: u64,
    payload: &[u8],
) -> Result<(), Fault> {
    for framed in read_payload(payload).ok_or(Fault::FramePayload)? {
        take_in_block(index, tips, node, offset, &framed)?;
    }
    Ok(())
}

fn take_in_block(
    index: &mut Index,
    tips: &mut PerLog<Tip>,
    node: &str,
    frame_offset: u64,
    framed: &FramedBlock<'_>,
) -> Result<(), Fault> {
    let block = StoredBlock::from_bytes(framed.bytes)?;
    check_place(tips.of(framed.log), framed.log, node, &block.header)?;
    if block.entries.len() != framed.keys.len() {
        return Err(Fault::FramePayload);
    }
    push(index, tips, frame_offset, framed, (&block.header, block_hash(block.signed.tbs())));
    Ok(())
}

/// Puts a block that has been checked on top of its log.
fn push(
    index: &mut Index,
    tips: &mut PerLog<Tip>,
    frame_offset: u64,
    framed: &FramedBlock<'_>,
    (header, hash): (&BlockHeader, Hash),
) {
    let tip = tips.of_mut(framed.log);
    let nodes = tip.frontier.push(merkle::leaf(&hash));
    tip.head = Some(Head { hash, header: header.clone() });
    let at = frame_offset.saturating_add((FRAME_HEAD_LEN + framed.offset) as u64);
    index.push(framed.log, BlockSlot::new(at, framed.bytes), &nodes, framed.keys);
}

/// Whether `header` is the next of its log.
pub(crate) fn check_place(tip: &Tip, log: Log, node: &str, header: &BlockHeader) -> Result<(), Fault> {
    let previous = tip.head.as_ref().map_or(crate::block::NO_PARENT, |head| head.hash);
    let expected = crate::block::Expected { log, node, height: tip.frontier.size(), previous };
    expected.check(header)?;
    let from = tip.head.as_ref().map_or(0, |head| head.header.epoch);
    if header.epoch < from { Err(Fault::EpochBackwards { from, to: header.epoch }) } else { Ok(()) }
}
