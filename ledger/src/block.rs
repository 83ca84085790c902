//! Blocks: a signed header and the entries under its root; how one is built, read strictly and verified. Where blocks are
//! kept is `journal.rs`; what entries mean is nobody's business here.

use der::{Encode, Enumerated, Sequence, asn1::OctetString};
use hufu_gm::{
    Hash, Sign, Signed,
    signed::strict,
    sm2::{PublicKey, Verdict},
    sm3::sm3,
};

use crate::{
    entry::{Entry, EntryRef, Log, entry_hash, foresee},
    error::{Error, Fault},
    merkle::{self, PathStep},
};

/// Version of the block and checkpoint formats.
pub const VERSION: u8 = 1;
/// Most entries in a block.
pub const ENTRIES_MAX: usize = 64;
/// Most bytes of entry DER in a block: 40 KiB.
pub const ENTRY_BYTES_MAX: usize = 40 * 1024;
/// What height 0 names as its parent.
pub const NO_PARENT: Hash = [0; 32];

/// How far the node's clock could be trusted when a block was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated)]
#[repr(u8)]
pub enum TimeState {
    /// The clock was never set.
    Unset = 0,
    /// Good for differences only.
    Relative = 1,
    /// It was stepped since the block before.
    Stepped = 2,
    /// Disciplined by a time source.
    Synchronised = 3,
}

/// `TimeQuality ::= SEQUENCE { state TimeState, maxErrorNs INTEGER OPTIONAL }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Sequence)]
pub struct TimeQuality {
    /// What the clock was worth.
    pub state: TimeState,
    /// Greatest error in nanoseconds, if known.
    pub max_error_ns: Option<u64>,
}

/// What a block's signature covers.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct BlockHeader {
    /// [`VERSION`].
    pub version: u8,
    /// The log it belongs to.
    pub log: Log,
    /// The node that wrote it.
    pub node: String,
    /// Never falls; rises when a node had to give up a part of its past.
    pub epoch: u64,
    /// Place in the log, from 0.
    pub height: u64,
    /// Hash of the block before; [`NO_PARENT`] at height 0.
    #[asn1(type = "OCTET STRING", deref = "true")]
    pub previous: Hash,
    /// Nanoseconds since 1970-01-01T00:00:00Z by the node's clock.
    pub time: i64,
    /// What that clock was worth.
    pub quality: TimeQuality,
    /// RFC 6962 root with SM3 over the entries.
    #[asn1(type = "OCTET STRING", deref = "true")]
    pub root: Hash,
    /// Number of entries.
    pub count: u32,
}

impl BlockHeader {
    /// Strict DER of a version known here.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        read_header(bytes).map_err(|fault| fault.refused(None, None))
    }

    /// The DER, which is what is signed.
    ///
    /// # Errors
    /// [`Error::Gm`] when the node's name is larger than DER lengths allow.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(self.to_der().map_err(hufu_gm::Error::from)?)
    }
}

fn read_header(bytes: &[u8]) -> Result<BlockHeader, Fault> {
    let header: BlockHeader = strict(bytes).map_err(|_| Fault::NotDer)?;
    if header.version == VERSION { Ok(header) } else { Err(Fault::Version(header.version)) }
}

/// Hash of a block: SM3 of its header's DER.
pub fn block_hash(header_der: &[u8]) -> Hash {
    sm3(&[header_der])
}

#[derive(Sequence)]
struct BlockWire {
    header: Signed,
    entries: Vec<OctetString>,
}

/// A block whose inside fits together: strict DER, within the limits, count and root those of its entries. Its signature
/// and its place in the log are checked by [`verify_block`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    header: BlockHeader,
    signed: Signed,
    entries: Vec<Vec<u8>>,
    leaves: Vec<Hash>,
}

impl Block {
    /// Reads `Block ::= SEQUENCE { header Signed, entries SEQUENCE OF OCTET STRING }`.
    ///
    /// # Errors
    /// [`Error::Refused`], naming log and height once the header could be read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let (signed, header, entries) = read_parts(bytes).map_err(|fault| fault.refused(None, None))?;
        match check_entries(&header, &entries) {
            Ok(leaves) => Ok(Self { header, signed, entries, leaves }),
            Err(fault) => Err(fault.refused(Some(header.log), Some(header.height))),
        }
    }

    /// Checks place and signature: what [`verify_block`] checks of bytes, of a block that was read before.
    ///
    /// # Errors
    /// [`Error::Refused`], whose fault says what is wrong.
    pub fn verify(&self, key: &PublicKey, expected: &Expected<'_>) -> Result<(), Error> {
        let checked = expected.check(&self.header).and_then(|()| check_signature(&self.signed, key));
        checked.map_err(|fault| fault.refused(Some(self.header.log), Some(self.header.height)))
    }

    /// The DER.
    ///
    /// # Errors
    /// [`Error::Gm`] when it is larger than DER lengths allow.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let entries = self.entries.iter().map(|entry| OctetString::new(entry.as_slice())).collect::<Result<_, _>>();
        let wire = BlockWire { header: self.signed.clone(), entries: entries.map_err(hufu_gm::Error::from)? };
        Ok(wire.to_der().map_err(hufu_gm::Error::from)?)
    }

    /// The header.
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// The header as it was signed.
    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    /// The block's hash, which the next block names.
    pub fn hash(&self) -> Hash {
        block_hash(self.signed.tbs())
    }

    /// DER of each entry.
    pub fn entries(&self) -> &[Vec<u8>] {
        &self.entries
    }

    /// One entry's reference, if there is such an entry.
    pub fn entry_ref(&self, index: u32) -> Option<EntryRef> {
        let hash = *self.leaves.get(usize::try_from(index).ok()?)?;
        Some(EntryRef { log: self.header.log, height: self.header.height, index, hash })
    }

    /// References to all entries.
    pub fn entry_refs(&self) -> Vec<EntryRef> {
        (0..self.header.count).filter_map(|index| self.entry_ref(index)).collect()
    }

    /// Path from one entry's hash to the header's root.
    pub fn entry_path(&self, index: u32) -> Option<Vec<PathStep>> {
        merkle::path(&self.leaves, usize::try_from(index).ok()?)
    }
}

/// Path from entry `index` to the root in the header of a block's bytes.
///
/// # Errors
/// [`Error::Refused`] when the bytes are no block; [`Error::Beyond`] when it has no such entry.
pub fn entry_path(block: &[u8], index: u32) -> Result<Vec<PathStep>, Error> {
    let block = Block::from_bytes(block)?;
    let beyond =
        || Error::Beyond { log: block.header.log, wanted: u64::from(index), size: u64::from(block.header.count) };
    block.entry_path(index).ok_or_else(beyond)
}

/// The parts of a block whose DER is strict, before anything is asked of them.
pub(crate) fn read_parts(bytes: &[u8]) -> Result<(Signed, BlockHeader, Vec<Vec<u8>>), Fault> {
    let wire: BlockWire = strict(bytes).map_err(|_| Fault::NotDer)?;
    let signed = wire.header.checked().map_err(|_| Fault::NotDer)?;
    let header = read_header(signed.tbs())?;
    Ok((signed, header, wire.entries.into_iter().map(Vec::from).collect()))
}

/// Checks limits, count, strict DER and root; gives the leaves.
pub(crate) fn check_entries(header: &BlockHeader, entries: &[Vec<u8>]) -> Result<Vec<Hash>, Fault> {
    check_limits(entries.len(), entry_bytes(entries))?;
    if usize::try_from(header.count) != Ok(entries.len()) {
        return Err(Fault::WrongCount { header: header.count, found: entries.len() });
    }
    for entry in entries {
        strict::<Entry>(entry).map_err(|_| Fault::NotDer)?;
    }
    let leaves: Vec<Hash> = entries.iter().map(|entry| entry_hash(entry)).collect();
    if merkle::root(&leaves) == header.root { Ok(leaves) } else { Err(Fault::WrongRoot) }
}

fn entry_bytes(entries: &[Vec<u8>]) -> usize {
    entries.iter().map(Vec::len).fold(0, usize::saturating_add)
}

pub(crate) fn check_limits(count: usize, bytes: usize) -> Result<(), Fault> {
    match count {
        0 => Err(Fault::NoEntries),
        count if count > ENTRIES_MAX => Err(Fault::TooManyEntries(count)),
        _ if bytes > ENTRY_BYTES_MAX => Err(Fault::TooManyBytes(bytes)),
        _ => Ok(()),
    }
}

/// What signs: the node's key, the id of its certificate and the key of its salts.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// Who signs with the node's SM2 key.
    pub key: &'a dyn Sign,
    /// SM3 of the certificate's DER.
    pub cert_id: Hash,
    /// The node's salt key; whoever knows it can guess at hidden entries.
    pub salt_key: &'a [u8; 32],
}

impl std::fmt::Debug for Signer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("key", &self.key).field("cert_id", &self.cert_id).finish_non_exhaustive()
    }
}

/// Everything of a header that does not follow from the entries.
pub(crate) struct Place<'a> {
    pub(crate) log: Log,
    pub(crate) node: &'a str,
    pub(crate) epoch: u64,
    pub(crate) height: u64,
    pub(crate) previous: Hash,
    pub(crate) time: i64,
    pub(crate) quality: TimeQuality,
}

/// Salts, hashes, signs: one block at `place` of the entries `(kind, body)`.
pub(crate) fn build<'a>(
    place: Place<'_>,
    entries: impl Iterator<Item = (u16, &'a [u8])>,
    signer: &Signer<'_>,
) -> Result<Block, Error> {
    let (log, height) = (place.log, place.height);
    let (mut ders, mut leaves) = (Vec::new(), Vec::new());
    for (index, (kind, body)) in (0_u32..).zip(entries) {
        let (der, entry) = foresee(signer.salt_key, (log, height, index), kind, body.to_vec())?;
        ders.push(der);
        leaves.push(entry.hash);
    }
    check_limits(ders.len(), entry_bytes(&ders)).map_err(|fault| fault.refused(Some(log), Some(height)))?;
    let count = u32::try_from(ders.len()).unwrap_or(u32::MAX);
    let Place { log, node, epoch, height, previous, time, quality } = place;
    let root = merkle::root(&leaves);
    let header = BlockHeader {
        version: VERSION,
        log,
        node: node.to_owned(),
        epoch,
        height,
        previous,
        time,
        quality,
        root,
        count,
    };
    let signed = Signed::seal(header.to_bytes()?, &signer.cert_id, signer.key)?;
    Ok(Block { header, signed, entries: ders, leaves })
}

/// DER of a signed block of one entry `(kind, body)` at height 0 of the trade log of `node`, kept nowhere: what a block costs in
/// time and bytes can be measured without a ledger.
///
/// # Errors
/// As [`crate::Plan::sign`].
pub fn sample_block(
    node: &str,
    entry: (u16, &[u8]),
    signer: &Signer<'_>,
    time: i64,
    quality: TimeQuality,
) -> Result<Vec<u8>, Error> {
    let place = Place { log: Log::Trade, node, epoch: 0, height: 0, previous: NO_PARENT, time, quality };
    build(place, std::iter::once(entry), signer)?.to_bytes()
}

/// The place a block must have.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Its log.
    pub log: Log,
    /// Its node.
    pub node: &'a str,
    /// Its height.
    pub height: u64,
    /// Hash of the block before; [`NO_PARENT`] at height 0.
    pub previous: Hash,
}

impl Expected<'_> {
    /// Whether `header` stands here.
    pub(crate) fn check(&self, header: &BlockHeader) -> Result<(), Fault> {
        if header.log != self.log {
            Err(Fault::OtherLog(header.log))
        } else if header.node != self.node {
            Err(Fault::OtherNode(header.node.clone()))
        } else if header.height != self.height {
            Err(Fault::WrongHeight { wanted: self.height, found: header.height })
        } else if header.previous != self.previous {
            Err(Fault::WrongParent)
        } else {
            Ok(())
        }
    }
}

/// Checks a signature and names what is wrong with it.
pub(crate) fn check_signature(signed: &Signed, key: &PublicKey) -> Result<(), Fault> {
    match signed.verify(key) {
        Verdict::Valid => Ok(()),
        Verdict::Invalid => Err(Fault::BadSignature),
        Verdict::Malformed => Err(Fault::MalformedSignature),
    }
}

/// Reads a block that came from elsewhere and checks everything that can be checked without the rest of its log: strict
/// DER, limits, count, root, place and the header's signature under `key`. Whether `key` belongs to the certificate that
/// the header names, and whether that was good at the time, is the caller's question.
///
/// # Errors
/// [`Error::Refused`], whose fault says what is wrong.
pub fn verify_block(bytes: &[u8], key: &PublicKey, expected: &Expected<'_>) -> Result<Block, Error> {
    let block = Block::from_bytes(bytes)?;
    block.verify(key, expected)?;
    Ok(block)
}

/// As [`verify_block`], for a header that came without its entries.
///
/// # Errors
/// [`Error::Refused`], whose fault says what is wrong.
pub fn verify_header(signed: &Signed, key: &PublicKey, expected: &Expected<'_>) -> Result<BlockHeader, Error> {
    let header = BlockHeader::from_bytes(signed.tbs())?;
    let checked = expected.check(&header).and_then(|()| check_signature(signed, key));
    checked.map_err(|fault| fault.refused(Some(header.log), Some(header.height)))?;
    Ok(header)
}
