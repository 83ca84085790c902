//! Opening an image where it lies, and putting a new slot into it so that a power cut at any moment leaves the old record or
//! the new one. How bytes reach the medium is `storage.rs`'s part; how a slot looks is `image.rs`'s.
//!
//! The order of writes, each step flushed before the next begins:
//!
//! 1. The first sector of the slot that does *not* count is blanked: from here on there is nothing in it that could count.
//! 2. The rest of that slot is written, and read back.
//! 3. Its first sector, which makes the slot count, is written last; the whole slot is read back and checked.
//!
//! The slot that counts is never written. On a medium that keeps its word about sectors a cut thus never leaves a slot with a
//! wrong checksum: [`SlotFault::Crc`] is a damaged medium, not a power cut. Where the medium tears sectors, checksum and
//! signature still keep what is torn from counting.

use core::fmt;

use crate::{
    Error, IMAGE_BYTES, SLOT_BYTES, Selected, Slot, SlotFault, Storage,
    image::{BLANKS, ERASED, IDENTIFIER, choose, parse},
    record::Record,
};

/// Smallest sector: the header that makes a slot count lies in one.
const SECTOR_BYTES_MIN: usize = 16;
/// Bytes that are compared at a time.
const CHUNK_BYTES: usize = 256;

/// Why an image was not opened or a slot not installed. The slot that counted before counts still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstallError<E> {
    /// The medium failed; the same call may be tried again on one that works.
    Storage(E),
    /// The target has fewer than [`IMAGE_BYTES`] bytes; whoever named it must name another.
    TooSmall {
        /// Its size in bytes.
        bytes: u64,
    },
    /// The target's sectors cannot hold one slot without touching the other: not a power of two from 16 to [`SLOT_BYTES`].
    NotAligned {
        /// Bytes of a sector.
        sector_bytes: usize,
    },
    /// What the target holds does not count, and is not the rest of an interrupted first write either: it is never
    /// overwritten. Whoever owns the target must look at it.
    Target(Error),
    /// The new slot does not count: its maker's fault, or the caller trusts another signer.
    New(SlotFault),
    /// The new slot's revision is not above the one that counts.
    RevisionNotAbove {
        /// The new one.
        revision: u64,
        /// The one that counts.
        active: u64,
    },
    /// A revision below the highest one that the caller ever accepted: an old image was put back.
    RolledBack {
        /// The revision found or offered.
        revision: u64,
        /// The highest one accepted.
        floor: u64,
    },
    /// What was read back is not what was written: the medium is failing.
    ReadBack {
        /// The slot that was written.
        slot: Slot,
    },
}

impl<E: fmt::Display> fmt::Display for InstallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::TooSmall { bytes } => write!(f, "{bytes} bytes are too small: an image has {IMAGE_BYTES}"),
            Self::NotAligned { sector_bytes } => {
                write!(f, "sectors of {sector_bytes} bytes: a slot of {SLOT_BYTES} must begin and end with a sector")
            }
            Self::Target(error) => error.fmt(f),
            Self::New(fault) => write!(f, "the new slot does not count: {fault}"),
            Self::RevisionNotAbove { revision, active } => {
                write!(f, "revision {revision} is not above the one that counts, {active}")
            }
            Self::RolledBack { revision, floor } => {
                write!(f, "revision {revision} is below {floor}, which was accepted before: an old image was put back")
            }
            Self::ReadBack { slot } => write!(f, "slot {slot:?} does not read back as written: the medium fails"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for InstallError<E> {}

/// Reads the record that counts from where it lies. `floor` is the highest revision that the caller ever accepted, 0 if it
/// keeps none.
///
/// # Errors
/// [`InstallError::TooSmall`], [`InstallError::NotAligned`], [`InstallError::Target`] as [`crate::select`],
/// [`InstallError::RolledBack`], and the medium's own.
pub fn open<S: Storage>(
    storage: &mut S,
    floor: u64,
    verify: impl Fn(&[u8], &[u8]) -> bool,
) -> Result<Selected, InstallError<S::Error>> {
    fits(storage)?;
    let (a, b) = (read(storage, Slot::A, &verify)?, read(storage, Slot::B, &verify)?);
    let found = choose(a.found, b.found).map_err(InstallError::Target)?;
    above_floor(found.revision, floor)?;
    Ok(found)
}

/// Installs the bytes of a slot, as [`crate::build`] makes them, beside the one that counts, and returns what counts now. A
/// record that counts already with this revision is only flushed, so that a call that was interrupted can be made again.
///
/// # Errors
/// Every variant of [`InstallError`]. The slot that counted before was not written.
pub fn install<S: Storage>(
    storage: &mut S,
    new: &[u8; SLOT_BYTES],
    floor: u64,
    verify: impl Fn(&[u8], &[u8]) -> bool,
) -> Result<Selected, InstallError<S::Error>> {
    fits(storage)?;
    let (record, revision) = parse(new, &verify).map_err(InstallError::New)?;
    above_floor(revision, floor)?;
    let (a, b) = (read(storage, Slot::A, &verify)?, read(storage, Slot::B, &verify)?);
    let unwritten = a.unfinished && b.unfinished && (a.is_empty() || b.is_empty());
    let slot = match choose(a.found, b.found) {
        Ok(active) if active.revision == revision && active.record == record => {
            storage.flush().map_err(InstallError::Storage)?;
            return Ok(active);
        }
        Ok(active) if active.revision >= revision => {
            return Err(InstallError::RevisionNotAbove { revision, active: active.revision });
        }
        Ok(active) => active.slot.other(),
        Err(Error::NoValidSlot { .. }) if unwritten => Slot::A,
        Err(error) => return Err(InstallError::Target(error)),
    };
    write(storage, slot, new)?;
    match open(storage, floor, verify) {
        Ok(found) if found.slot == slot && found.revision == revision && found.record == record => Ok(found),
        Err(InstallError::Storage(error)) => Err(InstallError::Storage(error)),
        _ => Err(InstallError::ReadBack { slot }),
    }
}

fn fits<S: Storage>(storage: &S) -> Result<(), InstallError<S::Error>> {
    let (bytes, sector_bytes) = (storage.size_bytes(), storage.sector_bytes());
    if !sector_bytes.is_power_of_two() || !(SECTOR_BYTES_MIN..=SLOT_BYTES).contains(&sector_bytes) {
        return Err(InstallError::NotAligned { sector_bytes });
    }
    if bytes < IMAGE_BYTES as u64 { Err(InstallError::TooSmall { bytes }) } else { Ok(()) }
}

fn above_floor<E>(revision: u64, floor: u64) -> Result<(), InstallError<E>> {
    if revision < floor { Err(InstallError::RolledBack { revision, floor }) } else { Ok(()) }
}

/// A slot as it lies on the medium.
struct Lying {
    found: Result<(Record, u64), SlotFault>,
    /// Empty, or what a first write that was cut short may have left: nothing of anybody else's is lost with it.
    unfinished: bool,
}

impl Lying {
    fn is_empty(&self) -> bool {
        self.found == Err(SlotFault::Empty)
    }
}

fn read<S: Storage>(
    storage: &mut S,
    slot: Slot,
    verify: impl Fn(&[u8], &[u8]) -> bool,
) -> Result<Lying, InstallError<S::Error>> {
    let mut bytes = [0; SLOT_BYTES];
    storage.read_at(slot.offset(), &mut bytes).map_err(InstallError::Storage)?;
    let found = parse(&bytes, verify);
    // A slot that is whole was finished, whoever signed it.
    let whole = matches!(found, Ok(_) | Err(SlotFault::Signature | SlotFault::Revision | SlotFault::Record(_)));
    // Before anything else of a slot is written its first sector is blanked with ff, and after everything else it begins as
    // ours does; many file systems leave their first bytes 00.
    let blank = bytes.iter().all(|byte| BLANKS.contains(byte));
    let blanked = bytes.iter().take(SECTOR_BYTES_MIN).all(|byte| *byte == ERASED);
    let begun = bytes.first() == IDENTIFIER.first()
        && bytes.iter().zip(IDENTIFIER).all(|(byte, own)| *byte == own || *byte == ERASED);
    Ok(Lying { found, unfinished: !whole && (blank || blanked || begun) })
}

/// Writes a slot in the order that the head of this file gives.
fn write<S: Storage>(storage: &mut S, slot: Slot, new: &[u8; SLOT_BYTES]) -> Result<(), InstallError<S::Error>> {
    const BLANK: [u8; SLOT_BYTES] = [ERASED; SLOT_BYTES];
    let sector_bytes = storage.sector_bytes();
    let start = slot.offset();
    // `fits` was asked: a sector is at most a slot.
    let (Some((commit, body)), Some(blank)) = (new.split_at_checked(sector_bytes), BLANK.get(..sector_bytes)) else {
        return Err(InstallError::NotAligned { sector_bytes });
    };
    put(storage, start, blank)?;
    if !body.is_empty() {
        put(storage, start + sector_bytes, body)?;
        if !lies(storage, start + sector_bytes, body)? {
            return Err(InstallError::ReadBack { slot });
        }
    }
    // The caller reads the slot back as whoever opens the image does.
    put(storage, start, commit)
}

/// Writes, and returns when it is on the medium.
fn put<S: Storage>(storage: &mut S, offset: usize, bytes: &[u8]) -> Result<(), InstallError<S::Error>> {
    storage.write_at(offset, bytes).map_err(InstallError::Storage)?;
    storage.flush().map_err(InstallError::Storage)
}

/// Whether these bytes stand there.
fn lies<S: Storage>(storage: &mut S, offset: usize, bytes: &[u8]) -> Result<bool, InstallError<S::Error>> {
    let mut place = offset;
    for chunk in bytes.chunks(CHUNK_BYTES) {
        let mut buffer = [0; CHUNK_BYTES];
        let Some(found) = buffer.get_mut(..chunk.len()) else { return Ok(false) };
        storage.read_at(place, found).map_err(InstallError::Storage)?;
        if found != chunk {
            return Ok(false);
        }
        place += chunk.len();
    }
    Ok(true)
}
