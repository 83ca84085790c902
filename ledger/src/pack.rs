//! Making archives: which segment is next, and one segment packed in an order that a power cut may interrupt anywhere.
//! Whether a period is settled is the caller's knowledge; reading an archive is `archive.rs`.

use flate2::{Compress, Compression, FlushCompress, Status};
use hufu_gm::sm3::Sm3;

use crate::{
    archive::{Archive, ArchiveHeader, CHUNK_BYTES, HEADER_BYTES, ROW_BYTES, archive_name},
    entry::{Log, PerLog},
    error::{Error, Fault},
    identity::NEW,
    journal::Journal,
    seal::Seal,
    segment::{FrameAt, HEADER_LEN, SegmentFile, io_error, read_frame, segment_name},
    storage::{Access, Storage},
};

/// A segment that was looked at: packed, or not worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Its number.
    pub segment: u32,
    /// Bytes of the segment.
    pub bytes: u64,
    /// Bytes of its archive; `None` when it would not have become smaller than nine tenths of the segment, which was
    /// therefore left as it is.
    pub packed: Option<u64>,
}

impl Journal {
    /// Packs the oldest segment that is not packed yet, lies wholly below `below` and is not among the last two.
    pub(crate) fn archive(&mut self, below: PerLog<u64>) -> Result<Option<Archived>, Error> {
        self.check_writable()?;
        let storage = self.storage.as_ref();
        let names = storage.list().map_err(|error| io_error(storage.path(""), error))?;
        let count = self.sealed.count().saturating_add(self.active.is_some().into());
        let number =
            |name: &String| name.strip_prefix("seg-")?.parse::<u32>().ok().filter(|n| segment_name(*n) == *name);
        let open = names.iter().filter_map(number).filter(|number| *number >= self.archive_from).min();
        let Some(number) = open.filter(|number| number.saturating_add(2) < count) else { return Ok(None) };
        let file = SegmentFile::open(storage, &segment_name(number), Access::Read)?;
        let seal = Seal::read(&file)?.filter(|seal| seal.number == number && seal.ledger == self.identity.id);
        let seal = seal.ok_or(Fault::SegmentSeal.damaged(number, 0))?;
        if Log::ALL.iter().any(|log| seal.size.of(*log) > below.of(*log)) {
            return Ok(None);
        }
        // Whatever comes of it, the next call is for the next one: a segment is tried once in one life, but for a full disk.
        self.archive_from = number.saturating_add(1);
        check_frames(&file, &seal)?;
        let bytes = file.size()?;
        let header = ArchiveHeader { number, ledger: self.identity.id, size: bytes, table_crc: 0 };
        let made = if header.chunks().is_some() { make(storage, &file, header) } else { Ok(None) };
        if matches!(made, Err(Error::NoSpace { .. })) {
            self.archive_from = number;
        }
        let packed = made?;
        if packed.is_some() {
            storage.remove(&segment_name(number)).map_err(|error| io_error(storage.path(""), error))?;
            storage.sync_dir().map_err(|error| io_error(storage.path(""), error))?;
            self.sealed.forget(number);
        }
        Ok(Some(Archived { segment: number, bytes, packed }))
    }
}

/// A segment whose index or frames are damaged is not packed: a person must see it as it is.
fn check_frames(file: &SegmentFile, seal: &Seal) -> Result<(), Error> {
    if Seal::read_whole(file)?.is_none() {
        return Err(Fault::IndexMismatch.damaged(seal.number, seal.capacity));
    }
    let mut offset = HEADER_LEN;
    while offset < seal.end {
        match read_frame(file, offset, seal.capacity, None)? {
            FrameAt::Good(frame) => offset = frame.end,
            FrameAt::End => return Err(Fault::FrameLength.damaged(seal.number, offset)),
            FrameAt::Bad(fault) => return Err(fault.damaged(seal.number, offset)),
        }
    }
    Ok(())
}

/// Writes the archive beside the segment, reads it back, makes it durable and gives it its name: its bytes, or `None` when it
/// is not worth it. What fails leaves no file behind where that can be helped: the disk may be full.
fn make(storage: &dyn Storage, segment: &SegmentFile, header: ArchiveHeader) -> Result<Option<u64>, Error> {
    let name = archive_name(header.number);
    let new = format!("{name}{NEW}");
    let written = SegmentFile::open(storage, &new, Access::Create).and_then(|file| {
        let packed = write(&file, segment, header)?;
        if packed.saturating_mul(10) >= header.size.saturating_mul(9) {
            return Ok(None);
        }
        compare(storage, &new, segment, header)?;
        file.sync()?;
        Ok(Some(packed))
    });
    if !matches!(written, Ok(Some(_))) {
        let _ = storage.remove(&new);
        return written;
    }
    storage.rename(&new, &name).map_err(|error| io_error(storage.path(&name), error))?;
    storage.sync_dir().map_err(|error| io_error(storage.path(""), error))?;
    written
}

/// The bytes of a chunk of `segment`, and where the next one begins.
fn chunk(segment: &SegmentFile, at: u64, size: u64) -> Result<(Vec<u8>, u64), Error> {
    let length = usize::try_from(size.saturating_sub(at)).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
    Ok((segment.read(at, length)?, at.saturating_add(length as u64)))
}

/// Packs chunk after chunk, then writes what goes before them. Returns how many bytes there are.
fn write(file: &SegmentFile, segment: &SegmentFile, mut header: ArchiveHeader) -> Result<u64, Error> {
    let (mut table, mut hash) = (Vec::new(), Sm3::new());
    let mut deflater = Compress::new(Compression::default(), false);
    let mut packed = vec![0; CHUNK_BYTES];
    let mut to = (HEADER_BYTES + header.chunks().unwrap_or(0) * ROW_BYTES) as u64;
    let mut at = 0;
    while at < header.size {
        let (bytes, next) = chunk(segment, at, header.size)?;
        hash.update(&bytes);
        let shrunk = shrink(&mut deflater, &bytes, &mut packed).unwrap_or(&bytes);
        table.extend(u32::try_from(shrunk.len()).unwrap_or(u32::MAX).to_be_bytes());
        table.extend(crc32c::crc32c(shrunk).to_be_bytes());
        file.write(shrunk, to)?;
        (at, to) = (next, to.saturating_add(shrunk.len() as u64));
    }
    let hash = hash.finish();
    file.write(&hash, to)?;
    header.table_crc = crc32c::crc32c(&table);
    let mut front = header.encode();
    front.extend(table);
    file.write(&front, 0)?;
    Ok(to.saturating_add(hash.len() as u64))
}

/// `bytes` packed, if that is shorter.
fn shrink<'a>(deflater: &mut Compress, bytes: &[u8], packed: &'a mut [u8]) -> Option<&'a [u8]> {
    deflater.reset();
    let room = packed.get_mut(..bytes.len().checked_sub(1)?)?;
    let ended = deflater.compress(bytes, room, FlushCompress::Finish).ok()?;
    let length = usize::try_from(deflater.total_out()).ok()?;
    (ended == Status::StreamEnd).then(|| room.get(..length))?
}

/// Reads the archive back and compares it with the segment, byte by byte.
fn compare(storage: &dyn Storage, name: &str, segment: &SegmentFile, header: ArchiveHeader) -> Result<(), Error> {
    let mut archive = Archive::open(storage, name, header.number, Some(header.ledger))?;
    if let Some((offset, fault)) = archive.survey()?.into_iter().next() {
        return Err(fault.damaged(header.number, offset));
    }
    let mut at = 0;
    let mut back = Vec::new();
    while at < header.size {
        let (bytes, next) = chunk(segment, at, header.size)?;
        back.resize(bytes.len(), 0);
        archive.fill(&mut back, at)?;
        if back != bytes {
            return Err(Fault::ArchiveHash.damaged(header.number, at));
        }
        at = next;
    }
    Ok(())
}
