//! Entries: opaque bytes with an integer kind and a salt, and the references by which one entry names another. What a kind
//! or a body means is not known here.

use std::fmt;

use der::{Encode, Enumerated, Sequence};
use hufu_gm::{
    Hash,
    signed::strict,
    sm3::{hmac_sm3, sm3},
};

use crate::error::{Error, Fault};

/// The two logs of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumerated)]
#[repr(u8)]
pub enum Log {
    /// Log 0.
    Trade = 0,
    /// Log 1.
    Finance = 1,
}

impl Log {
    /// Both logs, in the order of their numbers.
    pub const ALL: [Log; 2] = [Log::Trade, Log::Finance];

    /// The number of the wire format.
    pub fn number(self) -> u8 {
        match self {
            Log::Trade => 0,
            Log::Finance => 1,
        }
    }

    /// The log of a number, if there is one.
    pub fn from_number(number: u8) -> Option<Log> {
        match number {
            0 => Some(Log::Trade),
            1 => Some(Log::Finance),
            _ => None,
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Log::Trade => "trade",
            Log::Finance => "finance",
        })
    }
}

/// One value for each log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerLog<T> {
    /// The trade log's.
    pub trade: T,
    /// The finance log's.
    pub finance: T,
}

impl<T> PerLog<T> {
    /// The value of `log`.
    pub fn of(&self, log: Log) -> &T {
        match log {
            Log::Trade => &self.trade,
            Log::Finance => &self.finance,
        }
    }

    /// The value of `log`, to change.
    pub fn of_mut(&mut self, log: Log) -> &mut T {
        match log {
            Log::Trade => &mut self.trade,
            Log::Finance => &mut self.finance,
        }
    }
}

/// `Entry ::= SEQUENCE { salt OCTET STRING (SIZE (16)), kind INTEGER, body OCTET STRING }`.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Entry {
    /// Hides the entry from whoever sees only its hash.
    #[asn1(type = "OCTET STRING", deref = "true")]
    pub salt: [u8; 16],
    /// What the body is; the trade's numbers, not ours.
    pub kind: u16,
    /// Opaque bytes.
    #[asn1(type = "OCTET STRING", deref = "true")]
    pub body: Vec<u8>,
}

impl Entry {
    /// Strict DER.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Fault::NotDer`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        strict(bytes).map_err(|_| Fault::NotDer.refused(None, None))
    }

    /// The DER.
    ///
    /// # Errors
    /// [`Error::Gm`] when the body is larger than DER lengths allow.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(self.to_der().map_err(hufu_gm::Error::from)?)
    }
}

/// Hash of an entry, which is also its leaf in the block's tree: `SM3(00 || Entry DER)`.
pub fn entry_hash(entry_der: &[u8]) -> Hash {
    sm3(&[&[0], entry_der])
}

/// The salt of the entry at one place: the first 16 bytes of
/// `HMAC-SM3(node salt key, "hufu-salt-v1" || log u8 || height u64 BE || index u32 BE)`.
pub fn salt(salt_key: &[u8; 32], log: Log, height: u64, index: u32) -> [u8; 16] {
    let mac = hmac_sm3(salt_key, &[b"hufu-salt-v1", &[log.number()], &height.to_be_bytes(), &index.to_be_bytes()]);
    let mut salt = [0; 16];
    salt.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
    salt
}

/// The entry that will stand at one place, known before it is appended: so two entries of one batch can name each other's
/// place, and one of them the other's hash.
///
/// # Errors
/// [`Error::Gm`] when the body is larger than DER lengths allow.
pub fn foresee(
    salt_key: &[u8; 32],
    (log, height, index): (Log, u64, u32),
    kind: u16,
    body: Vec<u8>,
) -> Result<(Vec<u8>, EntryRef), Error> {
    let bytes = Entry { salt: salt(salt_key, log, height, index), kind, body }.to_bytes()?;
    let hash = entry_hash(&bytes);
    Ok((bytes, EntryRef { log, height, index, hash }))
}

/// `EntryRef ::= SEQUENCE { log Log, height INTEGER, index INTEGER, hash OCTET STRING (SIZE (32)) }`: how one entry names
/// another. `hash` is the entry hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Sequence)]
pub struct EntryRef {
    /// The log it is in.
    pub log: Log,
    /// The block it is in, from 0.
    pub height: u64,
    /// Its place in the block, from 0.
    pub index: u32,
    /// Its entry hash.
    #[asn1(type = "OCTET STRING", deref = "true")]
    pub hash: Hash,
}

impl EntryRef {
    /// Strict DER.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Fault::NotDer`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        strict(bytes).map_err(|_| Fault::NotDer.refused(None, None))
    }

    /// The DER.
    ///
    /// # Errors
    /// [`Error::Gm`] never in practice: the value is small.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(self.to_der().map_err(hufu_gm::Error::from)?)
    }
}
