//! What this ledger holds of a block: its header, the hash of every entry, and of the sealed entries those that can be read;
//! and erasing them. Roots and proofs need no more than hashes, so they are the same before and after an erasure. How entries are sealed is
//! `sealed_entry.rs`, where their keys are is `keys.rs`.

use std::sync::Arc;

use hufu_gm::{Hash, Signed};

use crate::{
    block::{BlockHeader, block_hash},
    entry::{EntryRef, Log},
    error::{Error, Fault},
    journal::Journal,
    keys::{Found, Keys, Random},
    log::Ledger,
    merkle::{self, PathStep},
    sealed_entry::{SealedEntry, StoredBlock, block_with, has_sealed, is_sealed},
    storage::Storage,
};

/// Why a sealed entry cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Its key was destroyed: nobody reads it again here.
    Erased,
    /// Its key is not where it was, and was not destroyed: a person must find it.
    KeyMissing,
    /// The ledger was opened without keys.
    NoKeys,
}

/// One entry of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldEntry {
    /// Its DER.
    Plain(Vec<u8>),
    /// Sealed, and not to be read.
    Sealed {
        /// The entry's key, as in [`crate::NewEntry::key`].
        key: [u8; 32],
        /// Why.
        closed: Closed,
    },
}

impl HeldEntry {
    /// Its DER, where it can be read.
    pub fn plain(&self) -> Option<&[u8]> {
        match self {
            HeldEntry::Plain(bytes) => Some(bytes),
            HeldEntry::Sealed { .. } => None,
        }
    }
}

/// A block as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBlock {
    header: BlockHeader,
    signed: Signed,
    entries: Vec<HeldEntry>,
    leaves: Vec<Hash>,
}

impl HeldBlock {
    /// The header.
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// The header as it was signed.
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// The block's hash.
    pub fn hash(&self) -> Hash {
        block_hash(self.signed.tbs())
    }

    /// The entries.
    pub fn entries(&self) -> &[HeldEntry] {
        &self.entries
    }

    /// References to all entries, read or not.
    pub fn entry_refs(&self) -> Vec<EntryRef> {
        let (log, height) = (self.header.log, self.header.height);
        (0..).zip(&self.leaves).map(|(index, hash)| EntryRef { log, height, index, hash: *hash }).collect()
    }

    /// Path from one entry's hash to the header's root.
    pub fn entry_path(&self, index: u32) -> Option<Vec<PathStep>> {
        merkle::path(&self.leaves, usize::try_from(index).ok()?)
    }
}

impl Ledger {
    /// Seals and opens with the keys in `storage` from now on, and makes new ones from `random`.
    #[must_use]
    pub fn with_keys(mut self, storage: Arc<dyn Storage>, random: Random) -> Self {
        self.journal.keys = Some(Keys::new(storage, self.id(), random));
        self
    }

    /// Leaves sealed entries sealed from now on.
    #[must_use]
    pub fn without_keys(mut self) -> Self {
        self.journal.keys = None;
        self
    }

    /// A block as far as it can be read: an entry that is erased, or whose key is missing, is said to be.
    ///
    /// # Errors
    /// [`Error::Beyond`], [`Error::Io`], [`Error::Damaged`], [`Error::KeyFile`], [`Error::Refused`] with
    /// [`Fault::WrongDecryption`].
    pub fn held(&self, log: Log, height: u64) -> Result<HeldBlock, Error> {
        self.journal.held(log, height, &self.journal.block(log, height)?)
    }

    /// Destroys the SM4 key of an entry key: every entry sealed under it is erased here, durably on return, and no entry can be
    /// sealed under it again. Roots, proofs, [`Self::find`] and everything else stay as they are. Doing it again does no harm.
    /// What others hold, backups and what a disk keeps of old sectors are out of reach.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Poisoned`], [`Error::NoKeys`] in a ledger without keys: nothing was done.
    /// [`Error::Io`], [`Error::NoSpace`]: it may have been, and must be done again.
    pub fn erase(&mut self, key: &[u8; 32]) -> Result<(), Error> {
        self.journal.check_writable()?;
        match &mut self.journal.keys {
            Some(keys) => keys.erase(key),
            None => Err(Error::NoKeys { log: None, height: None }),
        }
    }

    /// Whether the SM4 key of an entry key was destroyed.
    ///
    /// # Errors
    /// [`Error::KeyFile`], [`Error::Io`].
    pub fn is_erased(&self, key: &[u8; 32]) -> Result<bool, Error> {
        let found = self.journal.keys.as_ref().map(|keys| keys.find(key)).transpose()?;
        Ok(matches!(found, Some(Found::Erased)))
    }
}

impl Journal {
    /// The bytes of a block as it was signed.
    ///
    /// # Errors
    /// As [`crate::Ledger::block`].
    pub(crate) fn plain_block(&self, log: Log, height: u64) -> Result<Vec<u8>, Error> {
        let stored = self.block(log, height)?;
        if !has_sealed(&stored) {
            return Ok(stored);
        }
        let held = self.held(log, height, &stored)?;
        let entries = held.entries.into_iter().map(|entry| self.plain(entry, (log, height)));
        block_with(&held.signed, &entries.collect::<Result<Vec<_>, _>>()?)
    }

    /// The DER of one entry; its neighbours may be erased.
    ///
    /// # Errors
    /// As [`crate::Ledger::entry`].
    pub(crate) fn plain_entry(&self, log: Log, height: u64, index: u32) -> Result<Vec<u8>, Error> {
        let held = self.held(log, height, &self.block(log, height)?)?;
        let size = u64::from(held.header.count);
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let entry = held.entries.into_iter().nth(place);
        let beyond = || Error::Beyond { log, wanted: u64::from(index), size };
        self.plain(entry.ok_or_else(beyond)?, (log, height))
    }

    /// Reads a stored block and opens what can be opened.
    pub(crate) fn held(&self, log: Log, height: u64, stored: &[u8]) -> Result<HeldBlock, Error> {
        let refused = |fault: Fault| fault.refused(Some(log), Some(height));
        let StoredBlock { signed, header, entries, leaves } = StoredBlock::from_bytes(stored).map_err(refused)?;
        let open = |(index, bytes): (u32, Vec<u8>)| {
            if !is_sealed(&bytes) {
                return Ok(HeldEntry::Plain(bytes));
            }
            let sealed = SealedEntry::from_bytes(&bytes).map_err(refused)?;
            let key = sealed.key;
            let Some(keys) = &self.keys else { return Ok(HeldEntry::Sealed { key, closed: Closed::NoKeys }) };
            match keys.find(&key)? {
                Found::Live(secret) => {
                    sealed.open(&secret).map(HeldEntry::Plain).ok_or_else(|| refused(Fault::WrongDecryption(index)))
                }
                Found::Erased => Ok(HeldEntry::Sealed { key, closed: Closed::Erased }),
                Found::Missing => Ok(HeldEntry::Sealed { key, closed: Closed::KeyMissing }),
            }
        };
        let entries = (0_u32..).zip(entries).map(open).collect::<Result<_, _>>()?;
        Ok(HeldBlock { header, signed, entries, leaves })
    }

    fn plain(&self, entry: HeldEntry, (log, height): (Log, u64)) -> Result<Vec<u8>, Error> {
        match entry {
            HeldEntry::Plain(bytes) => Ok(bytes),
            HeldEntry::Sealed { closed: Closed::Erased, .. } => Err(Error::Erased { log, height }),
            HeldEntry::Sealed { closed: Closed::NoKeys, .. } => {
                Err(Error::NoKeys { log: Some(log), height: Some(height) })
            }
            HeldEntry::Sealed { key, closed: Closed::KeyMissing } => {
                let path = self.keys.as_ref().map_or_else(Default::default, |keys| keys.path(&key));
                Err(Error::KeyMissing { path, log, height })
            }
        }
    }
}
