//! The sealed segments, found on disk when they are asked for: in memory are only the last seal and the segment that was
//! looked at last. So a ledger's height costs no memory, and opening reads the same few bytes at any height. Which of them
//! are archives makes no difference here or above.

use std::{
    cmp::Ordering,
    io::ErrorKind,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    archive::{Archive, archive_name},
    error::{Error, Fault},
    seal::Seal,
    segment::{SegmentFile, io_error, segment_name},
    storage::{Access, Storage},
};

/// Looks at a directory in which the writer may be putting an archive in a segment's place.
const LOOKS: usize = 3;

/// The numbers of all segments, archived or not, in order.
pub(crate) fn segment_numbers(storage: &dyn Storage) -> Result<Vec<u32>, Error> {
    let mut numbers = Vec::new();
    for _ in 0..LOOKS {
        let names = storage.list().map_err(|error| io_error(storage.path(""), error))?;
        numbers = names.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        // A list that was read while a segment became an archive may have neither of the two.
        if (0..).zip(&numbers).all(|(wanted, found)| wanted == *found) {
            break;
        }
    }
    Ok(numbers)
}

fn number_of(name: &str) -> Option<u32> {
    let number = name.strip_prefix("seg-").or_else(|| name.strip_prefix("arc-"))?.parse().ok()?;
    (name == segment_name(number) || name == archive_name(number)).then_some(number)
}

/// Opens a segment, in its own file or in its archive. Where both are there the segment is taken: an archive was interrupted.
pub(crate) fn open_segment(
    storage: &dyn Storage,
    number: u32,
    ledger: Option<[u8; 16]>,
    access: Access,
) -> Result<SegmentFile, Error> {
    let missing = match SegmentFile::open(storage, &segment_name(number), access) {
        Err(Error::Io { path, source }) if source.kind() == ErrorKind::NotFound => Error::Io { path, source },
        other => return other,
    };
    let name = archive_name(number);
    match Archive::open(storage, &name, number, ledger) {
        Ok(archive) => Ok(SegmentFile::packed(archive, storage.path(&name))),
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Err(missing),
        Err(error) => Err(error),
    }
}

/// A sealed segment, open for reading.
#[derive(Debug)]
pub(crate) struct SealedSegment {
    pub(crate) seal: Seal,
    pub(crate) file: SegmentFile,
}

/// All sealed segments: those up to the last one.
#[derive(Debug)]
pub(crate) struct Sealed {
    storage: Arc<dyn Storage>,
    ledger: [u8; 16],
    last: Option<Seal>,
    recent: Mutex<Option<Arc<SealedSegment>>>,
}

impl Sealed {
    pub(crate) fn new(storage: Arc<dyn Storage>, ledger: [u8; 16], last: Option<Seal>) -> Self {
        Self { storage, ledger, last, recent: Mutex::new(None) }
    }

    pub(crate) fn last(&self) -> Option<&Seal> {
        self.last.as_ref()
    }

    /// How many there are; they are numbered from 0.
    pub(crate) fn count(&self) -> u32 {
        self.last.as_ref().map_or(0, |seal| seal.number.saturating_add(1))
    }

    pub(crate) fn push(&mut self, seal: Seal) {
        self.last = Some(seal);
    }

    /// One of them.
    pub(crate) fn segment(&self, number: u32) -> Result<Arc<SealedSegment>, Error> {
        if let Some(recent) = self.recent().filter(|recent| recent.seal.number == number) {
            return Ok(recent);
        }
        let file = open_segment(self.storage.as_ref(), number, Some(self.ledger), Access::Read)?;
        let seal = Seal::read(&file)?.filter(|seal| seal.number == number && seal.ledger == self.ledger);
        let seal = seal.ok_or(Fault::SegmentSeal.damaged(number, 0))?;
        let found = Arc::new(SealedSegment { seal, file });
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&found));
        Ok(found)
    }

    /// Closes a segment whose file is gone, so that its room on the disk is free.
    pub(crate) fn forget(&self, number: u32) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.take_if(|recent| recent.seal.number == number);
    }

    fn recent(&self) -> Option<Arc<SealedSegment>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The segment for which `compare` says `Equal`; the ones before it are `Less`. Who reads on in order finds it at once.
    pub(crate) fn search(&self, compare: impl Fn(&Seal) -> Ordering) -> Result<Option<Arc<SealedSegment>>, Error> {
        let (mut low, mut above, mut next) = (0, self.count(), None);
        if let Some(recent) = self.recent() {
            let number = recent.seal.number;
            match compare(&recent.seal) {
                Ordering::Equal => return Ok(Some(recent)),
                Ordering::Less => {
                    low = number.saturating_add(1);
                    next = Some(low);
                }
                Ordering::Greater => above = number,
            }
        }
        while low < above {
            let middle = next.take().unwrap_or(low + (above - low) / 2);
            let found = self.segment(middle)?;
            match compare(&found.seal) {
                Ordering::Equal => return Ok(Some(found)),
                Ordering::Less => low = middle.saturating_add(1),
                Ordering::Greater => above = middle,
            }
        }
        Ok(None)
    }
}
