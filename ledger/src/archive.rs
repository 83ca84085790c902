//! An archive: one sealed segment, packed, that gives back exactly its bytes. Here it is opened and read; `pack.rs` makes it,
//! `segment.rs` reads it as it reads a segment's file.
//!
//! ```text
//! 0          header, 64 bytes: magic "hufu-arc", version u32, number u32, ledger id 16, bytes of the segment u64, bytes of
//!            a chunk u32, chunks u32, CRC32C of the table u32, zeros 8, CRC32C of all that u32
//! 64         table: for each chunk its packed length u32, CRC32C of its packed bytes u32
//! ..         chunks: raw DEFLATE of 64 KiB of the segment each, the last of what is left; one that did not shrink stands
//!            as it is, which its length says
//! end - 32   SM3 of the segment
//! ```
//! All integers are big-endian. Where a chunk begins follows from the lengths before it: there is nothing to contradict.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use flate2::{Decompress, FlushDecompress, Status};
use hufu_gm::sm3::Sm3;

use crate::{
    error::{Error, Fault},
    segment::{Pieces, SegmentFile, io_error},
    storage::{Access, Storage},
};

pub(crate) const HEADER_BYTES: usize = 64;
/// Bytes of the segment in a chunk: what reading one byte may cost.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;
/// Most chunks of an archive: half a megabyte of table. A larger segment is not archived.
pub(crate) const CHUNKS_MAX: usize = 64 * 1024;
/// Bytes of the table for each chunk.
pub(crate) const ROW_BYTES: usize = 8;
pub(crate) const HASH_BYTES: usize = 32;
/// Unpacked chunks that are kept: who reads blocks in order goes to and fro between index and frames of two logs.
const KEPT_CHUNKS: usize = 4;

const MAGIC: &[u8; 8] = b"hufu-arc";
const VERSION: u32 = 1;

/// Name of an archive.
pub(crate) fn archive_name(number: u32) -> String {
    format!("arc-{number:08}")
}

/// The header of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArchiveHeader {
    pub(crate) number: u32,
    pub(crate) ledger: [u8; 16],
    /// Bytes of the segment.
    pub(crate) size: u64,
    /// CRC32C of the table.
    pub(crate) table_crc: u32,
}

impl ArchiveHeader {
    /// How many chunks there are; `None` when they are more than an archive may have.
    pub(crate) fn chunks(&self) -> Option<usize> {
        let chunks = usize::try_from(self.size.div_ceil(CHUNK_BYTES as u64)).ok()?;
        (chunks <= CHUNKS_MAX).then_some(chunks)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.ledger);
        bytes.extend(self.size.to_be_bytes());
        bytes.extend(u32::try_from(CHUNK_BYTES).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(self.chunks().and_then(|count| u32::try_from(count).ok()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(self.table_crc.to_be_bytes());
        bytes.extend([0; 8]);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut pieces = Pieces(bytes);
        if pieces.array()? != *MAGIC || pieces.u32()? != VERSION {
            return None;
        }
        let (number, ledger, size) = (pieces.u32()?, pieces.array()?, pieces.u64()?);
        let (_chunk_bytes, _chunks) = (pieces.u32()?, pieces.u32()?);
        let header = Self { number, ledger, size, table_crc: pieces.u32()? };
        // Comparing with the re-encoding covers what has one value only, and the CRC.
        (header.chunks().is_some() && header.encode() == bytes).then_some(header)
    }
}

/// Where a chunk lies in the archive.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    offset: u64,
    /// Packed.
    length: usize,
    crc: u32,
}

/// Chunks that were unpacked lately, the newest last.
#[derive(Debug)]
struct Kept {
    chunks: Vec<(usize, Vec<u8>)>,
    inflater: Decompress,
}

/// An open archive.
#[derive(Debug)]
pub(crate) struct Archive {
    file: SegmentFile,
    header: ArchiveHeader,
    chunks: Vec<Chunk>,
    kept: Mutex<Kept>,
    /// A damaged chunk reads as zeros: for who has named it already and reads on.
    is_lenient: bool,
}

impl Archive {
    /// Opens the archive `name` of segment `number`; of which ledger, if that is known.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is not what its name and place say, or cannot be read at all; [`Error::Io`].
    pub(crate) fn open(
        storage: &dyn Storage,
        name: &str,
        number: u32,
        ledger: Option<[u8; 16]>,
    ) -> Result<Self, Error> {
        let damaged = |fault: Fault| fault.damaged(number, 0);
        let file = SegmentFile::open(storage, name, Access::Read)?;
        let found = file.size()?;
        let at_least = |wanted: usize| {
            let fault = Fault::ArchiveLength { wanted: wanted as u64, found };
            if found < wanted as u64 { Err(damaged(fault)) } else { Ok(()) }
        };
        at_least(HEADER_BYTES + HASH_BYTES)?;
        let header = ArchiveHeader::decode(&file.array::<HEADER_BYTES>(0)?);
        let header = header.ok_or_else(|| damaged(Fault::ArchiveHeader))?;
        if header.number != number {
            return Err(damaged(Fault::ArchiveNumber(header.number)));
        }
        if ledger.is_some_and(|ledger| ledger != header.ledger) {
            return Err(damaged(Fault::ArchiveLedger));
        }
        let count = header.chunks().unwrap_or(0);
        at_least(HEADER_BYTES + count * ROW_BYTES + HASH_BYTES)?;
        let table = file.read(HEADER_BYTES as u64, count * ROW_BYTES)?;
        if crc32c::crc32c(&table) != header.table_crc {
            return Err(damaged(Fault::ArchiveTable));
        }
        let (mut chunks, mut offset) = (Vec::with_capacity(count), (HEADER_BYTES + count * ROW_BYTES) as u64);
        let mut pieces = Pieces(&table);
        while let (Some(length), Some(crc)) = (pieces.u32(), pieces.u32()) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > CHUNK_BYTES {
                return Err(damaged(Fault::ArchiveTable));
            }
            chunks.push(Chunk { offset, length, crc });
            offset = offset.saturating_add(length as u64);
        }
        let wanted = offset.saturating_add(HASH_BYTES as u64);
        if found != wanted {
            return Err(damaged(Fault::ArchiveLength { wanted, found }));
        }
        let kept = Mutex::new(Kept { chunks: Vec::new(), inflater: Decompress::new(false) });
        Ok(Self { file, header, chunks, kept, is_lenient: false })
    }

    /// Bytes of the segment.
    pub(crate) fn size(&self) -> u64 {
        self.header.size
    }

    /// Fills `bytes` from `offset` of the segment.
    pub(crate) fn fill(&self, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= self.size());
        let (Some(_), Ok(mut at)) = (end, usize::try_from(offset)) else {
            return Err(io_error(self.file.path().to_owned(), io::ErrorKind::UnexpectedEof.into()));
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (place, inside) = (at / CHUNK_BYTES, at % CHUNK_BYTES);
            let chunk = self.chunk(&mut kept, place)?;
            let part = chunk.get(inside..).unwrap_or_default();
            let length = part.len().min(rest.len());
            if length == 0 {
                return Err(self.damaged(place));
            }
            let (front, behind) = rest.split_at_mut(length);
            front.copy_from_slice(part.get(..length).unwrap_or_default());
            (rest, at) = (behind, at + length);
        }
        Ok(())
    }

    /// Unpacks everything once: the chunks that are damaged, with where their bytes begin in the segment, or that all
    /// together are not what was packed. From then on a damaged chunk reads as zeros.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn survey(&mut self) -> Result<Vec<(u64, Fault)>, Error> {
        let (mut found, mut hash) = (Vec::new(), Sm3::new());
        for place in 0..self.chunks.len() {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            match self.chunk(&mut kept, place) {
                Ok(chunk) => drop(hash.update(chunk)),
                Err(Error::Damaged { offset, fault, .. }) => found.push((offset, fault)),
                Err(error) => return Err(error),
            }
        }
        let stored: [u8; HASH_BYTES] = self.file.array(self.file.size()?.saturating_sub(HASH_BYTES as u64))?;
        if found.is_empty() && hash.finish() != stored {
            found.push((0, Fault::ArchiveHash));
        }
        self.is_lenient = true;
        Ok(found)
    }

    fn damaged(&self, place: usize) -> Error {
        Fault::ArchiveChunk(place).damaged(self.header.number, (place as u64).saturating_mul(CHUNK_BYTES as u64))
    }

    /// One chunk, unpacked now or lately.
    fn chunk<'a>(&self, kept: &'a mut Kept, place: usize) -> Result<&'a [u8], Error> {
        let mut buffer = match kept.chunks.iter().position(|(number, _)| *number == place) {
            Some(at) => {
                let found = kept.chunks.remove(at);
                kept.chunks.push(found);
                return Ok(kept.chunks.last().map_or(&[], |(_, bytes)| bytes));
            }
            None if kept.chunks.len() < KEPT_CHUNKS => Vec::new(),
            None => kept.chunks.remove(0).1,
        };
        let chunk = self.chunks.get(place).ok_or_else(|| self.damaged(place))?;
        let begins = (place as u64).saturating_mul(CHUNK_BYTES as u64);
        let length = usize::try_from(self.size().saturating_sub(begins)).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let packed = self.file.read(chunk.offset, chunk.length)?;
        let is_good = crc32c::crc32c(&packed) == chunk.crc && unpack(&mut kept.inflater, &packed, &mut buffer, length);
        if !is_good && !self.is_lenient {
            return Err(self.damaged(place));
        }
        if !is_good {
            buffer.clear();
            buffer.resize(length, 0);
        }
        kept.chunks.push((place, buffer));
        Ok(kept.chunks.last().map_or(&[], |(_, bytes)| bytes))
    }
}

/// Unpacks into `bytes`; false unless that gives exactly `length` bytes from all of `packed`. It never gives more than one
/// byte too many, whatever is packed.
fn unpack(inflater: &mut Decompress, packed: &[u8], bytes: &mut Vec<u8>, length: usize) -> bool {
    bytes.clear();
    if packed.len() == length {
        bytes.extend(packed);
        return true;
    }
    bytes.resize(length + 1, 0);
    inflater.reset(false);
    let ended = inflater.decompress(packed, bytes, FlushDecompress::Finish);
    let is_whole = ended.is_ok_and(|status| status == Status::StreamEnd)
        && inflater.total_out() == length as u64
        && inflater.total_in() == packed.len() as u64;
    bytes.truncate(length);
    is_whole
}
