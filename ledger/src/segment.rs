//! The bytes of a segment file: its header, its frames, and the batch of blocks in a frame's payload. The index behind
//! them is `index.rs`; which segment comes when is `journal.rs`.
//!
//! ```text
//! 0          header, 128 bytes: magic 8, version u32, number u32, ledger id 16, capacity u64,
//!            end of the frames in the segment before u64, chain hash there 32, blocks before this segment: trade u64,
//!            finance u64, zeros 28, CRC32C of all that u32
//! 128        frames: length u32, CRC32C of (length, chain, payload) u32, chain 32 = SM3(chain before || payload), payload
//! ..         zeros (written when the segment is made), or a tail that was set aside
//! capacity   only in a sealed segment: the index
//! ```
//! Payload: version u8 = 1, blocks u16; for each: log u8, length u32, block, keys u16, keys of 32 bytes. All integers are
//! big-endian.

use std::{
    io,
    path::{Path, PathBuf},
};

use hufu_gm::{Hash, sm3::sm3};

use crate::{
    archive::Archive,
    entry::{Log, PerLog},
    error::{Error, Fault},
    storage::{Access, Storage, StoredFile},
};

/// Bytes of a segment's header; its first frame follows.
pub(crate) const HEADER_LEN: u64 = HEADER_BYTES as u64;
pub(crate) const HEADER_BYTES: usize = 128;
/// Bytes of a frame before its payload.
pub(crate) const FRAME_HEAD_LEN: usize = 40;
/// Most bytes of one frame's payload: what reading one frame may cost in memory.
pub(crate) const PAYLOAD_LEN_MAX: usize = 4 * 1024 * 1024;
/// Most blocks in one frame.
pub(crate) const BATCH_BLOCKS_MAX: usize = 256;

/// Where the payload says which log its first block belongs to.
pub(crate) const FIRST_LOG_AT: usize = 3;

const MAGIC: &[u8; 8] = b"hufu-seg";
const VERSION: u32 = 1;
const PAYLOAD_VERSION: u8 = 1;

/// Name of a segment file.
pub(crate) fn segment_name(number: u32) -> String {
    format!("seg-{number:08}")
}

/// Where the bytes of a segment are.
#[derive(Debug)]
enum Bytes {
    /// In a file, as they are.
    Plain(Box<dyn StoredFile>),
    /// In an archive, which gives them back.
    Packed(Box<Archive>),
}

/// An open file with its path for messages. A segment that was archived reads as before; writing to it fails.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    bytes: Bytes,
    path: PathBuf,
}

impl SegmentFile {
    pub(crate) fn open(storage: &dyn Storage, name: &str, access: Access) -> Result<Self, Error> {
        let path = storage.path(name);
        let file = storage.open(name, access).map_err(|error| io_error(path.clone(), error))?;
        Ok(Self { bytes: Bytes::Plain(file), path })
    }

    pub(crate) fn packed(archive: Archive, path: PathBuf) -> Self {
        Self { bytes: Bytes::Packed(Box::new(archive)), path }
    }

    /// The archive behind it, if it is one.
    pub(crate) fn archive_mut(&mut self) -> Option<&mut Archive> {
        match &mut self.bytes {
            Bytes::Plain(_) => None,
            Bytes::Packed(archive) => Some(archive),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_archive(&self) -> bool {
        matches!(self.bytes, Bytes::Packed(_))
    }

    /// What only a file can do.
    fn file(&self) -> io::Result<&dyn StoredFile> {
        match &self.bytes {
            Bytes::Plain(file) => Ok(file.as_ref()),
            Bytes::Packed(_) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    pub(crate) fn size(&self) -> Result<u64, Error> {
        match &self.bytes {
            Bytes::Plain(file) => file.size().map_err(|error| io_error(self.path.clone(), error)),
            Bytes::Packed(archive) => Ok(archive.size()),
        }
    }

    pub(crate) fn fill(&self, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
        match &self.bytes {
            Bytes::Plain(file) => file.read_at(bytes, offset).map_err(|error| io_error(self.path.clone(), error)),
            Bytes::Packed(archive) => archive.fill(bytes, offset),
        }
    }

    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes, offset)?;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&self, offset: u64) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, offset)?;
        Ok(bytes)
    }

    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.file().and_then(|file| file.write_at(bytes, offset)).map_err(|error| io_error(self.path.clone(), error))
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file().and_then(StoredFile::sync_data).map_err(|error| io_error(self.path.clone(), error))
    }

    pub(crate) fn try_lock(&self) -> Result<bool, Error> {
        self.file().and_then(StoredFile::try_lock).map_err(|error| io_error(self.path.clone(), error))
    }
}

/// An operating system's error as ours.
pub(crate) fn io_error(path: PathBuf, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace { path },
        _ => Error::Io { path, source },
    }
}

/// Takes fixed-size pieces off the front of a slice.
pub(crate) struct Pieces<'a>(pub(crate) &'a [u8]);

impl<'a> Pieces<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn per_log<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<PerLog<T>> {
        Some(PerLog { trade: one(self)?, finance: one(self)? })
    }
}

/// The header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u32,
    pub(crate) ledger: [u8; 16],
    /// Where the room for frames ends.
    pub(crate) capacity: u64,
    /// Where the good frames of the segment before end; 0 in the first segment.
    pub(crate) previous_end: u64,
    /// Chain hash at that place.
    pub(crate) chain: Hash,
    /// Sizes of the logs before this segment.
    pub(crate) start: PerLog<u64>,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.ledger);
        bytes.extend(self.capacity.to_be_bytes());
        bytes.extend(self.previous_end.to_be_bytes());
        bytes.extend(self.chain);
        bytes.extend(self.start.trade.to_be_bytes());
        bytes.extend(self.start.finance.to_be_bytes());
        bytes.extend([0; 28]);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut pieces = Pieces(bytes);
        if pieces.array()? != *MAGIC || pieces.u32()? != VERSION {
            return None;
        }
        let header = Self {
            number: pieces.u32()?,
            ledger: pieces.array()?,
            capacity: pieces.u64()?,
            previous_end: pieces.u64()?,
            chain: pieces.array()?,
            start: pieces.per_log(Pieces::u64)?,
        };
        // Comparing with the re-encoding covers the zeros and the CRC.
        (header.encode() == bytes && header.capacity >= HEADER_LEN).then_some(header)
    }
}

/// A frame ready to be written after a frame with a certain chain hash.
#[derive(Debug)]
pub(crate) struct NewFrame {
    /// Chain hash before it.
    pub(crate) before: Hash,
    pub(crate) chain: Hash,
    pub(crate) bytes: Vec<u8>,
}

impl NewFrame {
    /// The frame of a batch: for each block its log, its bytes and its entries' keys.
    pub(crate) fn new<'a>(
        before: Hash,
        blocks: impl ExactSizeIterator<Item = (Log, &'a [u8], &'a [[u8; 32]])> + Clone,
    ) -> Self {
        let room = blocks.clone().map(|(_, bytes, keys)| 7 + bytes.len() + keys.len() * 32);
        let mut bytes = Vec::with_capacity(room.fold(FRAME_HEAD_LEN + 3, usize::saturating_add));
        bytes.extend([0; FRAME_HEAD_LEN]);
        encode_payload(&mut bytes, blocks);
        let mut frame = Self { before, chain: before, bytes };
        frame.chain = sm3(&[&before, frame.payload()]);
        let length = u32::try_from(frame.payload().len()).unwrap_or(0);
        let crc = frame_crc(length, &frame.chain, frame.payload());
        let head = length.to_be_bytes().into_iter().chain(crc.to_be_bytes()).chain(frame.chain);
        frame.bytes.iter_mut().zip(head).for_each(|(to, from)| *to = from);
        frame
    }

    pub(crate) fn payload(&self) -> &[u8] {
        self.bytes.get(FRAME_HEAD_LEN..).unwrap_or_default()
    }
}

fn frame_crc(length: u32, chain: &Hash, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&length.to_be_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, chain), payload)
}

/// What stands at one place of a segment.
#[derive(Debug)]
pub(crate) enum FrameAt {
    /// A frame that continues the chain.
    Good(Frame),
    /// Nothing yet: the length is zero, or no frame fits any more.
    End,
    /// No frame. `FrameLength` and `FrameCrc` are what a torn write leaves; the others are not.
    Bad(Fault),
}

/// A frame with an intact CRC.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) offset: u64,
    pub(crate) end: u64,
    pub(crate) chain: Hash,
    pub(crate) payload: Vec<u8>,
}

/// Reads the frame at `offset`, after which `chain` holds (`None`: whatever it says).
pub(crate) fn read_frame(
    file: &SegmentFile,
    offset: u64,
    capacity: u64,
    chain: Option<&Hash>,
) -> Result<FrameAt, Error> {
    let head_len = FRAME_HEAD_LEN as u64;
    let Some(room) = capacity.checked_sub(offset).and_then(|room| room.checked_sub(head_len)) else {
        return Ok(FrameAt::End);
    };
    let head: [u8; FRAME_HEAD_LEN] = file.array(offset)?;
    let mut pieces = Pieces(&head);
    let (Some(length), Some(crc), Some(stored)) = (pieces.u32(), pieces.u32(), pieces.array::<32>()) else {
        return Ok(FrameAt::End);
    };
    let payload_len = usize::try_from(length).unwrap_or(usize::MAX);
    if length == 0 {
        return Ok(FrameAt::End);
    }
    if u64::from(length) > room || payload_len > PAYLOAD_LEN_MAX {
        return Ok(FrameAt::Bad(Fault::FrameLength));
    }
    let payload = file.read(offset + head_len, payload_len)?;
    if frame_crc(length, &stored, &payload) != crc {
        return Ok(FrameAt::Bad(Fault::FrameCrc));
    }
    if chain.is_some_and(|chain| sm3(&[chain, &payload]) != stored) {
        return Ok(FrameAt::Bad(Fault::FrameChain));
    }
    Ok(FrameAt::Good(Frame { offset, end: offset + head_len + u64::from(length), chain: stored, payload }))
}

/// The payload and the chain hash of a frame whose CRC does not fit, when it still reads as a batch: so that a check can say
/// which block is damaged.
pub(crate) fn read_loose(file: &SegmentFile, offset: u64, capacity: u64) -> Result<Option<(Vec<u8>, Hash)>, Error> {
    let at = offset + FRAME_HEAD_LEN as u64;
    if at > capacity {
        return Ok(None);
    }
    let head: [u8; FRAME_HEAD_LEN] = file.array(offset)?;
    let mut pieces = Pieces(&head);
    let (Some(length), Some(_), Some(chain)) = (pieces.u32(), pieces.u32(), pieces.array()) else { return Ok(None) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > PAYLOAD_LEN_MAX || length as u64 > capacity - at {
        return Ok(None);
    }
    let payload = file.read(at, length)?;
    Ok(read_payload(&payload).is_some().then_some((payload, chain)))
}

/// The first place after the beginning of `bytes` where a frame with an intact CRC stands: proof that what is broken
/// before it is no torn tail.
pub(crate) fn find_frame(bytes: &[u8]) -> Option<usize> {
    (1..bytes.len()).find(|at| bytes.get(*at..).is_some_and(begins_with_frame))
}

fn begins_with_frame(bytes: &[u8]) -> bool {
    let mut pieces = Pieces(bytes);
    let (Some(length), Some(crc), Some(chain)) = (pieces.u32(), pieces.u32(), pieces.array::<32>()) else {
        return false;
    };
    let Some(payload) = usize::try_from(length).ok().and_then(|length| pieces.take(length)) else { return false };
    // Cheap questions first: the CRC is asked only where a batch could begin.
    matches!(payload, [PAYLOAD_VERSION, _, _, 0 | 1, ..]) && frame_crc(length, &chain, payload) == crc
}

/// A block in a frame's payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FramedBlock<'a> {
    pub(crate) log: Log,
    pub(crate) bytes: &'a [u8],
    /// Where the block begins in the payload.
    pub(crate) offset: usize,
    /// One key of 32 bytes for each entry.
    pub(crate) keys: &'a [[u8; 32]],
}

fn encode_payload<'a>(payload: &mut Vec<u8>, blocks: impl ExactSizeIterator<Item = (Log, &'a [u8], &'a [[u8; 32]])>) {
    payload.push(PAYLOAD_VERSION);
    payload.extend(u16::try_from(blocks.len()).unwrap_or(u16::MAX).to_be_bytes());
    for (log, bytes, keys) in blocks {
        payload.push(log.number());
        payload.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        payload.extend(bytes);
        payload.extend(u16::try_from(keys.len()).unwrap_or(u16::MAX).to_be_bytes());
        payload.extend(keys.as_flattened());
    }
}

/// Reads the payload of a frame.
pub(crate) fn read_payload(payload: &[u8]) -> Option<Vec<FramedBlock<'_>>> {
    let mut pieces = Pieces(payload);
    if pieces.u8()? != PAYLOAD_VERSION {
        return None;
    }
    let count = pieces.u16()?;
    let mut blocks = Vec::new();
    for _ in 0..count {
        let log = Log::from_number(pieces.u8()?)?;
        let length = usize::try_from(pieces.u32()?).ok()?;
        let offset = payload.len() - pieces.0.len();
        let bytes = pieces.take(length)?;
        let keys_len = usize::from(pieces.u16()?) * 32;
        let (keys, _) = pieces.take(keys_len)?.as_chunks();
        blocks.push(FramedBlock { log, bytes, offset, keys });
    }
    (pieces.0.is_empty() && count > 0).then_some(blocks)
}
