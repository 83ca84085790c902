//! Opening: reads the seals, scans the last segment, sets a bad tail aside. It never discards a byte and never repairs the
//! middle. The same scan serves readers beside a running writer.

use std::{path::PathBuf, sync::Arc};

use hufu_gm::{Hash, sm3::sm3};

use crate::{
    entry::{Log, PerLog},
    error::{Error, Fault},
    identity::{Identity, last_nonzero, lock, write_new},
    index::{Frames, Index},
    journal::{Active, Journal, Mode, Tip, take_in},
    seal::Seal,
    sealed::{Sealed, open_segment, segment_numbers},
    segment::{
        FIRST_LOG_AT, FRAME_HEAD_LEN, FrameAt, HEADER_BYTES, HEADER_LEN, SegmentFile, SegmentHeader, find_frame,
        io_error, read_frame,
    },
    storage::{Access, Storage},
};

/// A tail that was set aside: bytes after the last good frame of a segment, kept in a file of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The segment it was found in.
    pub segment: u32,
    /// Where the good frames of that segment end.
    pub offset: u64,
    /// Bytes set aside.
    pub length: u64,
    /// SM3 of them; also a good key for the entry that records them.
    pub sm3: Hash,
    /// The file that keeps them.
    pub path: PathBuf,
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Every tail ever set aside, the newest included: whatever has no entry yet that records it needs one.
    pub set_aside: Vec<SetAside>,
    /// Sizes of the logs.
    pub sizes: PerLog<u64>,
    /// Segments, those in archives included.
    pub segments: u32,
}

/// Opens for appending.
pub(crate) fn open_write(storage: Arc<dyn Storage>, segment_size: u64) -> Result<(Journal, Recovery), Error> {
    let identity = Identity::read(storage.as_ref())?;
    let lock = lock(storage.as_ref())?;
    let mut journal = open(storage, identity, segment_size, Mode::Write)?;
    journal._lock = Some(lock);
    // A name that can be seen need not be durable yet.
    sync_dir(&journal)?;
    let recovery = Recovery {
        set_aside: set_aside_files(journal.storage.as_ref())?,
        sizes: PerLog { trade: journal.size(Log::Trade), finance: journal.size(Log::Finance) },
        segments: journal.sealed.count().saturating_add(journal.active.is_some().into()),
    };
    Ok((journal, recovery))
}

/// Opens for reading, beside a writer or without one.
pub(crate) fn open_read(storage: Arc<dyn Storage>) -> Result<Journal, Error> {
    let identity = Identity::read(storage.as_ref())?;
    open(storage, identity, 0, Mode::Read)
}

fn sync_dir(journal: &Journal) -> Result<(), Error> {
    journal.storage.sync_dir().map_err(|error| io_error(journal.storage.path(""), error))
}

/// Reads the last two segments, whatever the height: older ones are read when they are asked for, and by a full check.
fn open(storage: Arc<dyn Storage>, identity: Identity, segment_size: u64, mode: Mode) -> Result<Journal, Error> {
    let last = count_segments(storage.as_ref())?.saturating_sub(1);
    let before = match last.checked_sub(1) {
        None => None,
        Some(number) => {
            let file = open_segment(storage.as_ref(), number, Some(identity.id), Access::Read)?;
            let seal = Seal::read(&file)?.filter(|seal| seal.number == number && seal.ledger == identity.id);
            Some((seal.ok_or(Fault::SegmentSeal.damaged(number, 0))?, file))
        }
    };
    let access = if mode == Mode::Write { Access::Write } else { Access::Read };
    let file = open_segment(storage.as_ref(), last, Some(identity.id), access)?;
    let header = read_header(&file, (last, identity.id), before.as_ref().map(|(seal, _)| seal))?;
    // An index that was torn while it was written is made again from the frames.
    let whole = Seal::read_whole(&file)?;
    let tips = match (&whole, &before) {
        (Some(seal), _) => {
            check_seal(seal, &header)?;
            tips_of(seal, &file)?
        }
        (None, Some((seal, file))) => tips_of(seal, file)?,
        (None, None) => PerLog::default(),
    };
    if whole.is_none() && file.is_archive() {
        return Err(Fault::SegmentSeal.damaged(last, header.capacity));
    }
    // An archive was durable before the segment in its place was removed.
    if let Some(seal) = whole.as_ref().filter(|_| mode == Mode::Write && !file.is_archive()) {
        rewrite(&file, seal.capacity, seal.index_len().unwrap_or(0))?;
    }
    let is_sealed = whole.is_some();
    let sealed = Sealed::new(Arc::clone(&storage), identity.id, whole.or(before.map(|(seal, _)| seal)));
    let active = None;
    let mut journal = Journal {
        storage,
        identity,
        segment_size,
        sealed,
        active,
        tips,
        mode,
        keys: None,
        archive_from: 0,
        _lock: None,
    };
    if !is_sealed {
        open_last(&mut journal, file, &header)?;
    }
    Ok(journal)
}

/// The segments are numbered from 0 without a hole.
fn count_segments(storage: &dyn Storage) -> Result<u32, Error> {
    let numbers = segment_numbers(storage)?;
    let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    match (0..count).zip(&numbers).find(|(wanted, found)| wanted != *found) {
        Some((missing, _)) => Err(Fault::SegmentMissing.damaged(missing, 0)),
        None if count == 0 => Err(Fault::SegmentMissing.damaged(0, 0)),
        None => Ok(count),
    }
}

fn read_header(
    file: &SegmentFile,
    (number, ledger): (u32, [u8; 16]),
    before: Option<&Seal>,
) -> Result<SegmentHeader, Error> {
    let size = file.size()?;
    let header = if size < HEADER_LEN { None } else { SegmentHeader::decode(&file.array::<HEADER_BYTES>(0)?) };
    let header = header.filter(|header| header.capacity <= size).ok_or(Fault::SegmentHeader.damaged(number, 0))?;
    let continues = match before {
        None => header.previous_end == 0 && header.start == PerLog::default() && header.chain == [0; 32],
        Some(seal) => header.previous_end == seal.end && header.start == seal.size && header.chain == seal.chain,
    };
    if continues && header.number == number && header.ledger == ledger {
        Ok(header)
    } else {
        Err(Fault::SegmentLink.damaged(number, 0))
    }
}

fn check_seal(seal: &Seal, header: &SegmentHeader) -> Result<(), Error> {
    let fits = seal.number == header.number
        && seal.ledger == header.ledger
        && seal.capacity == header.capacity
        && seal.start == header.start
        && (HEADER_LEN..=seal.capacity).contains(&seal.end);
    if fits { Ok(()) } else { Err(Fault::SegmentSeal.damaged(header.number, header.capacity)) }
}

/// Where the logs stand behind a sealed segment.
fn tips_of(seal: &Seal, file: &SegmentFile) -> Result<PerLog<Tip>, Error> {
    seal.tips(file)?.ok_or(Fault::IndexMismatch.damaged(seal.number, seal.capacity))
}

/// Scans the last segment, makes sure that what is seen is durable, and deals with its tail.
fn open_last(journal: &mut Journal, file: SegmentFile, header: &SegmentHeader) -> Result<(), Error> {
    let mut index = Index::new(header.start);
    let scan = scan(&file, header, &journal.identity.node, &mut index, &mut journal.tips)?;
    if journal.mode == Mode::Write {
        // A frame may be in the page cache only, even after a failed sync that a later one will not repeat: write it again.
        let length = usize::try_from(scan.frames.end - scan.last_frame).unwrap_or(0);
        rewrite(&file, scan.last_frame, length)?;
        if let Some(tail) = &scan.tail {
            set_aside(journal.storage.as_ref(), header.number, scan.frames.end, tail)?;
        }
    }
    journal.active = Some(Active { number: header.number, file, frames: scan.frames, index });
    if journal.mode == Mode::Write && scan.tail.is_some() {
        journal.seal()?;
    }
    Ok(())
}

/// Writes bytes over themselves and makes them durable.
fn rewrite(file: &SegmentFile, offset: u64, length: usize) -> Result<(), Error> {
    if length > 0 {
        file.write(&file.read(offset, length)?, offset)?;
    }
    file.sync()
}

struct Scan {
    frames: Frames,
    last_frame: u64,
    tail: Option<Vec<u8>>,
}

fn scan(
    file: &SegmentFile,
    header: &SegmentHeader,
    node: &str,
    index: &mut Index,
    tips: &mut PerLog<Tip>,
) -> Result<Scan, Error> {
    let mut frames = Frames { capacity: header.capacity, end: HEADER_LEN, chain: header.chain };
    let mut last_frame = HEADER_LEN;
    loop {
        let damaged = |fault: Fault, tips: &PerLog<Tip>| name_place(fault, file, header.number, frames.end, tips);
        match read_frame(file, frames.end, frames.capacity, Some(&frames.chain))? {
            FrameAt::Good(frame) => {
                take_in(index, tips, node, frame.offset, &frame.payload).map_err(|fault| damaged(fault, tips))?;
                last_frame = frame.offset;
                (frames.end, frames.chain) = (frame.end, frame.chain);
            }
            FrameAt::Bad(fault @ (Fault::FrameChain | Fault::FramePayload)) => return Err(damaged(fault, tips)),
            FrameAt::End | FrameAt::Bad(_) => {
                let Some(last) = last_nonzero(file, frames.end, frames.capacity)? else {
                    return Ok(Scan { frames, last_frame, tail: None });
                };
                let length = usize::try_from(last + 1 - frames.end).unwrap_or(usize::MAX);
                let tail = file.read(frames.end, length)?;
                // Beside a writer the frame may have been completed while we looked.
                let again = read_frame(file, frames.end, frames.capacity, Some(&frames.chain))?;
                if matches!(again, FrameAt::Good(_)) {
                    continue;
                }
                return match find_frame(&tail) {
                    Some(at) => Err(damaged(Fault::GoodFrameFollows(frames.end + at as u64), tips)),
                    None => Ok(Scan { frames, last_frame, tail: Some(tail) }),
                };
            }
        }
    }
}

/// A fault in a frame hits the next height of the log that the frame's first block says it belongs to, if that can be read.
fn name_place(fault: Fault, file: &SegmentFile, segment: u32, offset: u64, tips: &PerLog<Tip>) -> Error {
    let number = file.array::<1>(offset.saturating_add((FRAME_HEAD_LEN + FIRST_LOG_AT) as u64));
    match number.ok().and_then(|[number]| Log::from_number(number)) {
        Some(log) => fault.damaged_block(segment, offset, log, tips.of(log).frontier.size()),
        None => fault.damaged(segment, offset),
    }
}

/// Copies a tail into a file of its own, durable on return. Another tail of the same place is kept beside it.
fn set_aside(storage: &dyn Storage, segment: u32, offset: u64, tail: &[u8]) -> Result<(), Error> {
    let names = storage.list().map_err(|error| io_error(storage.path(""), error))?;
    for attempt in 0_u32.. {
        let extra = if attempt == 0 { String::new() } else { format!(".{attempt}") };
        let name = format!("tail-{segment:08}-{offset}{extra}.bad");
        if names.contains(&name) {
            if read_whole(storage, &name)? == tail {
                return Ok(());
            }
            continue;
        }
        write_new(storage, &name, |file| file.write(tail, 0))?;
        return Ok(());
    }
    Ok(())
}

fn read_whole(storage: &dyn Storage, name: &str) -> Result<Vec<u8>, Error> {
    let file = SegmentFile::open(storage, name, Access::Read)?;
    file.read(0, usize::try_from(file.size()?).unwrap_or(usize::MAX))
}

/// All tails that were set aside, oldest place first.
pub(crate) fn set_aside_files(storage: &dyn Storage) -> Result<Vec<SetAside>, Error> {
    let names = storage.list().map_err(|error| io_error(storage.path(""), error))?;
    let mut found = Vec::new();
    for name in names {
        let Some(middle) = name.strip_prefix("tail-").and_then(|rest| rest.strip_suffix(".bad")) else { continue };
        let Some((segment, place)) = middle.split_once('-') else { continue };
        let place = place.split_once('.').map_or(place, |(place, _)| place);
        let (Ok(segment), Ok(offset)) = (segment.parse(), place.parse()) else { continue };
        let bytes = read_whole(storage, &name)?;
        let (length, sm3) = (bytes.len() as u64, sm3(&[&bytes]));
        found.push(SetAside { segment, offset, length, sm3, path: storage.path(&name) });
    }
    found.sort_by(|a, b| (a.segment, a.offset, &a.path).cmp(&(b.segment, b.offset, &b.path)));
    Ok(found)
}
