//! The sealed segments, found on disk when they are asked for: in memory are only the last seal and the segment that was
//! looked at last. So a ledger's height costs no memory, and opening reads the same few bytes at any height.

use std::{
    cmp::Ordering,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    error::{Error, Fault},
    seal::Seal,
    segment::{SegmentFile, segment_name},
    storage::{Access, Storage},
};

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
        let file = SegmentFile::open(self.storage.as_ref(), &segment_name(number), Access::Read)?;
        let seal = Seal::read(&file)?.filter(|seal| seal.number == number && seal.ledger == self.ledger);
        let seal = seal.ok_or(Fault::SegmentSeal.damaged(number, 0))?;
        let found = Arc::new(SealedSegment { seal, file });
        *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&found));
        Ok(found)
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
