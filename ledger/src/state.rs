//! Small state files with two slots, overwritten in turn: a torn write costs the newest state, never both. They are caches:
//! whoever finds none that fits the ledger replays the ledger. What the bytes mean is the owner's business.
//!
//! Each slot: magic 8, sequence number u64, sizes 2 x u64, roots 2 x 32, length u32, CRC32C of all that and of the bytes
//! u32, bytes, unused; integers big-endian. The slot written last has the larger sequence number.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{
    error::Error,
    log::{Ledger, Stamp},
    segment::{Pieces, io_error},
};

const MAGIC: &[u8; 8] = b"hufustat";
const LENGTH_AT: usize = 8 + 8 + 16 + 64;
const HEAD_LEN: usize = LENGTH_AT + 4 + 4;

/// A state and what it is valid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Sizes and roots of the logs when it was written.
    pub valid_for: Stamp,
    /// Opaque bytes.
    pub bytes: Vec<u8>,
}

/// An open state file. It is not synced: after a power cut it may be stale or gone, and then it is not used.
#[derive(Debug)]
pub struct StateFile {
    file: File,
    path: PathBuf,
    bytes_max: usize,
    newest: u64,
}

impl StateFile {
    /// Opens the file, or makes an empty one: a missing state is no error. `bytes_max` is what one state may hold; states
    /// written with another maximum are not found again.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`].
    pub fn open(path: &Path, bytes_max: usize) -> Result<Self, Error> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = options.map_err(|error| io_error(path.to_owned(), error))?;
        let mut state = Self { file, path: path.to_owned(), bytes_max, newest: 0 };
        state.newest = state.slots()?.iter().map(|(number, _)| *number).max().unwrap_or(0);
        Ok(state)
    }

    fn slot_at(&self, number: u64) -> u64 {
        (number % 2).saturating_mul((HEAD_LEN as u64).saturating_add(self.bytes_max as u64))
    }

    /// Overwrites the older of the two states.
    ///
    /// # Errors
    /// [`Error::StateSize`], [`Error::Io`], [`Error::NoSpace`].
    pub fn write(&mut self, valid_for: &Stamp, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > self.bytes_max || u32::try_from(bytes.len()).is_err() {
            return Err(Error::StateSize { bytes: bytes.len(), bytes_max: self.bytes_max });
        }
        let number = self.newest.saturating_add(1);
        let slot = encode(number, valid_for, bytes);
        let written = self.file.write_all_at(&slot, self.slot_at(number));
        written.map_err(|error| io_error(self.path.clone(), error))?;
        self.newest = number;
        Ok(())
    }

    /// The newest state that is whole and that the ledger vouches for: both logs had these roots at these sizes. What was
    /// appended since, the caller replays.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn read(&self, ledger: &Ledger) -> Result<Option<State>, Error> {
        let mut slots = self.slots()?;
        slots.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        for (_, state) in slots {
            if ledger.holds(&state.valid_for)? {
                return Ok(Some(state));
            }
        }
        Ok(None)
    }

    /// The slots that are whole.
    fn slots(&self) -> Result<Vec<(u64, State)>, Error> {
        let failed = |error| io_error(self.path.clone(), error);
        let size = self.file.metadata().map_err(failed)?.len();
        let mut slots = Vec::new();
        for parity in [0, 1] {
            let at = self.slot_at(parity);
            let room = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX);
            let mut bytes = vec![0; room.min(HEAD_LEN)];
            self.file.read_exact_at(&mut bytes, at).map_err(failed)?;
            // Only what was written of the slot is read: the room in it may be large.
            let written =
                bytes.get(LENGTH_AT..).and_then(<[u8]>::first_chunk).map_or(0, |length| u32::from_be_bytes(*length));
            let written = usize::try_from(written).unwrap_or(usize::MAX).min(self.bytes_max);
            bytes.resize(room.min(HEAD_LEN.saturating_add(written)), 0);
            self.file.read_exact_at(&mut bytes, at).map_err(failed)?;
            slots.extend(decode(&bytes).filter(|(number, _)| number % 2 == parity));
        }
        Ok(slots)
    }
}

fn encode(number: u64, valid_for: &Stamp, bytes: &[u8]) -> Vec<u8> {
    let mut slot = MAGIC.to_vec();
    slot.extend(number.to_be_bytes());
    slot.extend(valid_for.size.trade.to_be_bytes());
    slot.extend(valid_for.size.finance.to_be_bytes());
    slot.extend(valid_for.root.trade);
    slot.extend(valid_for.root.finance);
    slot.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&slot), bytes);
    slot.extend(crc.to_be_bytes());
    slot.extend(bytes);
    slot
}

fn decode(slot: &[u8]) -> Option<(u64, State)> {
    let mut pieces = Pieces(slot);
    if pieces.array()? != *MAGIC {
        return None;
    }
    let number = pieces.u64()?;
    let valid_for = Stamp { size: pieces.per_log(Pieces::u64)?, root: pieces.per_log(Pieces::array)? };
    let length = usize::try_from(pieces.u32()?).ok()?;
    let _crc = pieces.u32()?;
    let bytes = pieces.take(length)?.to_vec();
    // Comparing with the re-encoding checks the CRC.
    let whole = slot.starts_with(&encode(number, &valid_for, &bytes));
    whole.then_some((number, State { valid_for, bytes }))
}
