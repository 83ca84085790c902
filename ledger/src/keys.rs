//! The keys of sealed entries: one SM4 key for each entry key, each in a small file of its own, in a folder apart from the
//! log. Destroying one erases every entry sealed under it and leaves a tombstone, so that an erased key is never taken for a
//! lost one. What the sealed form is, is `sealed_entry.rs`.
//!
//! `{entry key in hex}.key`, 85 bytes: magic 8, version u32, ledger id 16, entry key 32, CRC32C of all that u32, state u8,
//! SM4 key 16, CRC32C of the SM4 key u32; integers big-endian. A tombstone has the other state, and zeros behind it.

use std::{
    io::ErrorKind,
    sync::{Arc, Mutex, PoisonError},
};

use hufu_gm::{Zeroizing, sm4};

use crate::{
    error::Error,
    identity::write_new,
    segment::{Pieces, SegmentFile, io_error},
    storage::{Access, Storage},
};

/// Where secret bytes come from: [`hufu_gm::random::fill`], or a test's.
pub type Random = fn(&mut [u8]) -> Result<(), hufu_gm::Error>;

/// Keys kept in memory: those of the contracts that move now. The height of the ledger costs no memory.
const KEPT_KEYS: usize = 64;

const MAGIC: &[u8; 8] = b"hufu-key";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 64;
const TAIL_BYTES: usize = 21;
/// No single bit turns one state into the other.
const LIVE: u8 = 0x5a;
const ERASED: u8 = 0xa5;

/// What was found of one key.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// It is there.
    Live(sm4::Key),
    /// It was destroyed.
    Erased,
    /// There is no file, and no tombstone either.
    Missing,
}

/// The keys of one ledger.
#[derive(Debug)]
pub(crate) struct Keys {
    storage: Arc<dyn Storage>,
    ledger: [u8; 16],
    random: Random,
    /// The newest last.
    kept: Mutex<Vec<([u8; 32], sm4::Key)>>,
    /// The folder is there, and every name seen in it is durable.
    is_ready: bool,
}

fn name_of(entry_key: &[u8; 32]) -> String {
    entry_key.iter().map(|byte| format!("{byte:02x}")).chain([".key".to_owned()]).collect()
}

impl Keys {
    pub(crate) fn new(storage: Arc<dyn Storage>, ledger: [u8; 16], random: Random) -> Self {
        Self { storage, ledger, random, kept: Mutex::new(Vec::new()), is_ready: false }
    }

    fn head(&self, entry_key: &[u8; 32]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(self.ledger);
        bytes.extend(entry_key);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend(crc.to_be_bytes());
        bytes
    }

    /// The secret of an entry key, as it stands on the disk or was read lately.
    ///
    /// # Errors
    /// [`Error::KeyFile`] when the file is damaged or another's, [`Error::Io`].
    pub(crate) fn find(&self, entry_key: &[u8; 32]) -> Result<Found, Error> {
        if let Some(secret) = self.kept(entry_key) {
            return Ok(Found::Live(secret));
        }
        let name = name_of(entry_key);
        let file = match SegmentFile::open(self.storage.as_ref(), &name, Access::Read) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(Found::Missing),
            other => other?,
        };
        let found = self.read(&file, entry_key)?;
        if let Found::Live(secret) = &found {
            self.keep(*entry_key, secret.clone());
        }
        Ok(found)
    }

    fn read(&self, file: &SegmentFile, entry_key: &[u8; 32]) -> Result<Found, Error> {
        let damaged = || Error::KeyFile { path: file.path().to_owned() };
        if file.size()? != (HEAD_BYTES + TAIL_BYTES) as u64 || file.read(0, HEAD_BYTES)? != self.head(entry_key) {
            return Err(damaged());
        }
        let tail: Zeroizing<[u8; TAIL_BYTES]> = Zeroizing::new(file.array(HEAD_BYTES as u64)?);
        let mut pieces = Pieces(tail.as_slice());
        let (state, secret, crc) = (pieces.u8(), pieces.array().map(sm4::Key::from_bytes), pieces.u32());
        match (state, secret, crc) {
            // An erasure that was interrupted behind its first step is an erasure.
            (Some(ERASED), ..) => Ok(Found::Erased),
            (Some(LIVE), Some(secret), Some(crc)) if crc == crc32c::crc32c(secret.as_bytes()) => {
                Ok(Found::Live(secret))
            }
            _ => Err(damaged()),
        }
    }

    /// The secret of an entry key for an entry that will be written, made if there is none. When this returns it is durable:
    /// no frame may reach the disk before its key. `None` when it was erased.
    ///
    /// # Errors
    /// As [`Self::find`]; [`Error::NoSpace`], [`Error::Gm`] without randomness.
    pub(crate) fn for_writing(&mut self, entry_key: &[u8; 32]) -> Result<Option<sm4::Key>, Error> {
        self.make_ready()?;
        match self.find(entry_key)? {
            Found::Live(secret) => return Ok(Some(secret)),
            Found::Erased => return Ok(None),
            Found::Missing => {}
        }
        let secret = self.one_off()?;
        // Reserved at once, so that no reallocation leaves a copy behind.
        let mut tail = Zeroizing::new(Vec::with_capacity(TAIL_BYTES));
        tail.push(LIVE);
        tail.extend(secret.as_bytes());
        tail.extend(crc32c::crc32c(secret.as_bytes()).to_be_bytes());
        self.write(entry_key, &tail)?;
        self.keep(*entry_key, secret.clone());
        Ok(Some(secret))
    }

    /// A secret that nobody will ever have again.
    pub(crate) fn one_off(&self) -> Result<sm4::Key, Error> {
        Ok(sm4::Key::generate(self.random)?)
    }

    /// Destroys the secret of an entry key, durably on return: a tombstone first, so that a crash leaves a key or an erased
    /// one and nothing between, then zeros over the secret. Again, or without any key, it leaves the same.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoSpace`]: it may have been done or not; whoever was promised it asks again.
    pub(crate) fn erase(&mut self, entry_key: &[u8; 32]) -> Result<(), Error> {
        self.kept.get_mut().unwrap_or_else(PoisonError::into_inner).retain(|(kept, _)| kept != entry_key);
        self.make_ready()?;
        let mut tombstone = [0; TAIL_BYTES];
        tombstone[0] = ERASED;
        let file = match SegmentFile::open(self.storage.as_ref(), &name_of(entry_key), Access::Write) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return self.write(entry_key, &tombstone);
            }
            other => other?,
        };
        match self.read(&file, entry_key) {
            // Whatever stands there may be a secret still: it goes, and a tombstone takes its name.
            Err(Error::KeyFile { .. }) => {
                let length = file.size()?.min(64 * 1024);
                file.write(&vec![0; usize::try_from(length).unwrap_or(HEAD_BYTES)], 0)?;
                file.sync()?;
                self.write(entry_key, &tombstone)
            }
            read => {
                read?;
                file.write(&[ERASED], HEAD_BYTES as u64)?;
                file.sync()?;
                file.write(&tombstone, HEAD_BYTES as u64)?;
                file.sync()
            }
        }
    }

    fn write(&self, entry_key: &[u8; 32], tail: &[u8]) -> Result<(), Error> {
        let bytes = Zeroizing::new([self.head(entry_key).as_slice(), tail].concat());
        write_new(self.storage.as_ref(), &name_of(entry_key), |file| file.write(&bytes, 0)).map(drop)
    }

    /// A name that can be seen need not be durable yet: once in the life of a writer the folder is made and synced.
    fn make_ready(&mut self) -> Result<(), Error> {
        if !self.is_ready {
            let failed = |error| io_error(self.storage.path(""), error);
            self.storage.make().map_err(failed)?;
            self.storage.sync_dir().map_err(failed)?;
            self.is_ready = true;
        }
        Ok(())
    }

    fn kept(&self, entry_key: &[u8; 32]) -> Option<sm4::Key> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().find(|(key, _)| key == entry_key).map(|(_, secret)| secret.clone())
    }

    fn keep(&self, entry_key: [u8; 32], secret: sm4::Key) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_KEYS {
            kept.remove(0);
        }
        kept.push((entry_key, secret));
    }

    /// Where the key of an entry key is, for messages.
    pub(crate) fn path(&self, entry_key: &[u8; 32]) -> std::path::PathBuf {
        self.storage.path(&name_of(entry_key))
    }
}
