//! The ledger's structures as `docs/evidence.asn1` has them, written down a second time: `trade` must not depend on
//! `ledger`, and two independent encoders that agree on one module are worth more than one.

use der::{Enumerated, Sequence, asn1::OctetString};
use hufu_gm::{Signed, sm3::sm3};
use hufu_trade::{
    Error, encode,
    entry::{EntryKind, EntryName, octet_string},
    octets::{Digest, Octets},
    usage::TimeQuality,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated)]
#[repr(u32)]
pub(crate) enum Log {
    Trade = 0,
    Finance = 1,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct Entry {
    pub(crate) salt: Octets<16>,
    pub(crate) kind: u16,
    pub(crate) body: OctetString,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct EntryRef {
    pub(crate) log: Log,
    pub(crate) height: u64,
    pub(crate) index: u32,
    pub(crate) hash: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct BlockHeader {
    pub(crate) version: u8,
    pub(crate) log: Log,
    pub(crate) node: String,
    pub(crate) epoch: u64,
    pub(crate) height: u64,
    pub(crate) previous: Digest,
    pub(crate) time: i64,
    pub(crate) quality: TimeQuality,
    pub(crate) root: Digest,
    pub(crate) count: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct Block {
    pub(crate) header: Signed,
    pub(crate) entries: Vec<OctetString>,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct Checkpoint {
    pub(crate) version: u8,
    pub(crate) log: Log,
    pub(crate) node: String,
    pub(crate) epoch: u64,
    pub(crate) size: u64,
    pub(crate) root: Digest,
    pub(crate) time: i64,
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Octets(sm3(&[bytes]))
}

/// Leaf of RFC 6962 with SM3; of an entry's DER it is the entry hash, of a block hash the log's leaf.
pub(crate) fn leaf(bytes: &[u8]) -> Digest {
    Octets(sm3(&[&[0], bytes]))
}

/// Inner node of RFC 6962 with SM3.
pub(crate) fn node(left: Digest, right: Digest) -> Digest {
    Octets(sm3(&[&[1], &left.0, &right.0]))
}

/// An entry at its place in the log of its kind, alone in its block; the salt is made up from the place.
pub(crate) fn entry(kind: EntryKind, height: u64, body: &[u8]) -> Result<(Vec<u8>, EntryName), Error> {
    let finance = [EntryKind::Bill, EntryKind::Correction, EntryKind::Payment, EntryKind::RefundPaid];
    let log = u8::from(finance.contains(&kind));
    let hash = sm3(&[b"test salt", &[log], &height.to_be_bytes()]);
    let mut salt = [0; 16];
    salt.copy_from_slice(&hash[..16]);
    let entry = Entry { salt: Octets(salt), kind: kind.number(), body: octet_string(body, "Entry")? };
    let der = encode(&entry, "Entry")?;
    let name = EntryName { log, height, index: 0, hash: leaf(&der) };
    Ok((der, name))
}
