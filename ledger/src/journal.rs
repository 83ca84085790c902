//! The journal: a chain of segment files that carries both logs. Appends one batch as one frame with one sync, and finds
//! blocks, Merkle nodes and keys again. Opening it is `recover.rs`; signing is `log.rs`.

use std::sync::Arc;

use hufu_gm::Hash;

use crate::{
    block::{Block, BlockHeader},
    entry::{EntryRef, Log, PerLog},
    error::{Error, Fault},
    identity::{Identity, create_segment},
    index::{BlockSlot, Frames, Index, KeySlot, Seal},
    merkle::{self, Frontier, stored_count, stored_place},
    segment::{
        BATCH_BLOCKS_MAX, FRAME_HEAD_LEN, FramedBlock, HEADER_LEN, PAYLOAD_LEN_MAX, SegmentFile, SegmentHeader,
        encode_frame, encode_payload, segment_name,
    },
    storage::{Access, Storage},
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

/// An open journal. Of sealed segments only the seals are in memory.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) identity: Identity,
    pub(crate) segment_size: u64,
    pub(crate) sealed: Vec<Seal>,
    pub(crate) active: Option<Active>,
    pub(crate) tips: PerLog<Tip>,
    pub(crate) mode: Mode,
    /// Held, never used: the lock goes when the file is closed.
    pub(crate) _lock: Option<SegmentFile>,
}

/// A block on its way into a batch.
#[derive(Debug)]
pub(crate) struct Framed {
    pub(crate) block: Block,
    pub(crate) bytes: Vec<u8>,
    pub(crate) keys: Vec<[u8; 32]>,
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

    /// Writes the batch as one frame. When this returns it is durable; when it fails, only opening again can tell.
    pub(crate) fn append(&mut self, batch: &[Framed]) -> Result<(), Error> {
        self.check_writable()?;
        let payload =
            encode_payload(batch.iter().map(|f| (f.block.header().log, f.bytes.as_slice(), f.keys.as_slice())));
        if batch.is_empty() || batch.len() > BATCH_BLOCKS_MAX || payload.len() > PAYLOAD_LEN_MAX {
            return Err(Error::BatchSize {
                blocks: batch.len(),
                bytes: payload.len(),
                blocks_max: BATCH_BLOCKS_MAX,
                bytes_max: PAYLOAD_LEN_MAX,
            });
        }
        let written = self.write(&payload);
        if written.is_err() {
            self.mode = Mode::Poisoned;
        }
        written
    }

    fn write(&mut self, payload: &[u8]) -> Result<(), Error> {
        let needed = (FRAME_HEAD_LEN + payload.len()) as u64;
        if self.active.as_ref().is_none_or(|active| active.frames.capacity - active.frames.end < needed) {
            self.seal()?;
            self.begin_segment(needed)?;
        }
        let Some(active) = &mut self.active else { return Err(Error::Poisoned) };
        let (frame, chain) = encode_frame(&active.frames.chain, payload);
        let offset = active.frames.end;
        active.file.write(&frame, offset)?;
        active.file.sync()?;
        active.frames.chain = chain;
        active.frames.end = offset + frame.len() as u64;
        // The same code takes the frame in as after a restart, from the same bytes.
        take_in(&mut active.index, &mut self.tips, &self.identity.node, offset, payload)
            .map_err(|fault| fault.damaged(active.number, offset))
    }

    /// Writes the index behind the frames of the active segment; nothing is written to it afterwards.
    pub(crate) fn seal(&mut self) -> Result<(), Error> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let root = PerLog { trade: self.tips.trade.frontier.root(), finance: self.tips.finance.frontier.root() };
        let (bytes, seal) = active.index.seal(active.number, self.identity.id, active.frames, root);
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

    fn open_sealed(&self, seal: &Seal) -> Result<SegmentFile, Error> {
        SegmentFile::open(self.storage.as_ref(), &segment_name(seal.number), Access::Read)
    }

    /// The bytes of one block.
    pub(crate) fn block(&self, log: Log, height: u64) -> Result<Vec<u8>, Error> {
        if let Some(active) = &self.active
            && let Some(slot) = active.index.block(log, height)
        {
            return read_block(&active.file, active.number, slot, log, height);
        }
        let place = self.sealed.partition_point(|seal| *seal.size.of(log) <= height);
        let Some(seal) = self.sealed.get(place) else {
            return Err(Error::Beyond { log, wanted: height, size: self.size(log) });
        };
        let file = self.open_sealed(seal)?;
        let damaged = || Fault::IndexMismatch.damaged_block(seal.number, seal.capacity, log, height);
        let slot = seal.block(&file, log, height)?.ok_or_else(damaged)?;
        read_block(&file, seal.number, &slot, log, height)
    }

    /// The stored Merkle node `(level, place)` of a log.
    pub(crate) fn node(&self, log: Log, level: u32, place: u64) -> Result<Hash, Error> {
        let stored = stored_place(level, place);
        if let Some(hash) = self.active.as_ref().and_then(|active| active.index.node(log, stored)) {
            return Ok(hash);
        }
        let at = self.sealed.partition_point(|seal| stored_count(*seal.size.of(log)) <= stored);
        let Some(seal) = self.sealed.get(at) else {
            return Err(Error::Beyond { log, wanted: place << level, size: self.size(log) });
        };
        let damaged = || Fault::IndexMismatch.damaged(seal.number, seal.capacity);
        seal.node(&self.open_sealed(seal)?, log, stored)?.ok_or_else(damaged)
    }

    /// All entries with `key`, in the order of log, height and index.
    pub(crate) fn find(&self, key: &[u8; 32]) -> Result<Vec<EntryRef>, Error> {
        let mut found = Vec::new();
        for seal in self.sealed.iter().filter(|seal| seal.keys > 0) {
            if !seal.find(&self.open_sealed(seal)?, key, &mut found)? {
                return Err(Fault::IndexMismatch.damaged(seal.number, seal.capacity));
            }
        }
        found.extend(self.active.iter().flat_map(|active| active.index.find(key)));
        found.sort_by_key(|entry| (entry.log, entry.height, entry.index));
        Ok(found)
    }
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
    for framed in crate::segment::read_payload(payload).ok_or(Fault::FramePayload)? {
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
    let block = Block::from_bytes(framed.bytes).map_err(refusal)?;
    let tip = tips.of_mut(framed.log);
    check_place(tip, framed.log, node, block.header())?;
    let refs = block.entry_refs();
    if refs.len() != framed.keys.len() {
        return Err(Fault::FramePayload);
    }
    let hash = block.hash();
    let nodes = tip.frontier.push(merkle::leaf(&hash));
    tip.head = Some(Head { hash, header: block.header().clone() });
    let slot = BlockSlot {
        offset: frame_offset.saturating_add((FRAME_HEAD_LEN + framed.offset) as u64),
        length: u32::try_from(framed.bytes.len()).unwrap_or(u32::MAX),
        crc: crc32c::crc32c(framed.bytes),
        hash,
    };
    let keys = refs.into_iter().zip(framed.keys).map(|(entry, key)| KeySlot { key: *key, entry });
    index.push(framed.log, slot, nodes, keys);
    Ok(())
}

/// The fault inside a refusal.
pub(crate) fn refusal(error: Error) -> Fault {
    match error {
        Error::Refused { fault, .. } => fault,
        _ => Fault::NotDer,
    }
}

/// Whether `header` is the next of its log.
pub(crate) fn check_place(tip: &Tip, log: Log, node: &str, header: &BlockHeader) -> Result<(), Fault> {
    let previous = tip.head.as_ref().map_or(crate::block::NO_PARENT, |head| head.hash);
    let expected = crate::block::Expected { log, node, height: tip.frontier.size(), previous };
    expected.check(header)?;
    let from = tip.head.as_ref().map_or(0, |head| head.header.epoch);
    if header.epoch < from { Err(Fault::EpochBackwards { from, to: header.epoch }) } else { Ok(()) }
}
