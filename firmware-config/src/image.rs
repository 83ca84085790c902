//! Slots and images: header, signature, checksum, and which of two slots counts. What the record says is `record.rs`'s
//! part; who may sign one is the caller's.

use core::fmt;

use heapless::Vec;

use crate::{
    Error, SlotFault,
    record::{RECORD_BYTES_MAX, Record},
};

/// Bytes of a slot: one erase block of common flash.
pub const SLOT_BYTES: usize = 4096;
/// Bytes of an image: slot A, then slot B.
pub const IMAGE_BYTES: usize = 2 * SLOT_BYTES;

/// Magic and format version: what every slot begins with.
pub(crate) const IDENTIFIER: [u8; 6] = *b"HUFU\x00\x01";
/// How a byte reads that was never written: on erased flash, and on a new disk.
pub(crate) const BLANKS: [u8; 2] = [ERASED, 0];

const MAGIC: [u8; 4] = *b"HUFU";
const FORMAT_VERSION: u16 = 1;
const HEADER_BYTES: usize = 4 + 2 + 2 + 8;
const SIGNATURE_BYTES_MAX: usize = 72;
const CRC_BYTES: usize = 4;
/// How erased flash reads.
pub(crate) const ERASED: u8 = 0xff;

// The fullest record fits.
const _: () = assert!(HEADER_BYTES + RECORD_BYTES_MAX + 1 + SIGNATURE_BYTES_MAX + CRC_BYTES <= SLOT_BYTES);
const _: () = assert!(RECORD_BYTES_MAX <= u16::MAX as usize);

/// A signature over header and record: 1 to 72 bytes, as a DER `SM2Signature` has.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature(Vec<u8, SIGNATURE_BYTES_MAX>);

impl Signature {
    /// Takes the bytes of a signature.
    ///
    /// # Errors
    /// [`Error::SignatureLength`] when there are none, or more than 72.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::SignatureLength);
        }
        Vec::from_slice(bytes).map(Self).map_err(|_| Error::SignatureLength)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({} bytes)", self.0.len())
    }
}

/// The two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Where the slot begins in an image.
    pub fn offset(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => SLOT_BYTES,
        }
    }
}

/// The record that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// What it says.
    pub record: Record,
    /// Its revision.
    pub revision: u64,
    /// Where it stands.
    pub slot: Slot,
    /// The other slot: its (lower or equal) revision, or why it does not count.
    pub other: Result<u64, SlotFault>,
}

/// An image that was never written.
pub fn blank() -> [u8; IMAGE_BYTES] {
    [ERASED; IMAGE_BYTES]
}

/// Makes the bytes of a slot. `sign` is given header and record and returns the signature over them.
///
/// # Errors
/// [`Error::NotSigned`] when `sign` gives none; [`Error::Slot`] with [`SlotFault::Revision`] for revision 0.
pub fn build(
    record: &Record,
    revision: u64,
    sign: impl FnOnce(&[u8]) -> Option<Signature>,
) -> Result<[u8; SLOT_BYTES], Error> {
    let full = Error::Slot(SlotFault::Length);
    if revision == 0 {
        return Err(Error::Slot(SlotFault::Revision));
    }
    let body = record.encode()?;
    let length = u16::try_from(body.len()).map_err(|_| full)?;
    let mut out: Vec<u8, SLOT_BYTES> = Vec::new();
    let header: [&[u8]; 5] =
        [&MAGIC, &FORMAT_VERSION.to_be_bytes(), &length.to_be_bytes(), &revision.to_be_bytes(), &body];
    for part in header {
        out.extend_from_slice(part).map_err(|_| full)?;
    }
    let signature = sign(&out).ok_or(Error::NotSigned)?;
    let signature_length = u8::try_from(signature.0.len()).map_err(|_| full)?;
    out.push(signature_length).map_err(|_| full)?;
    out.extend_from_slice(&signature.0).map_err(|_| full)?;
    let crc = crc32(&out);
    out.extend_from_slice(&crc.to_be_bytes()).map_err(|_| full)?;
    out.resize(SLOT_BYTES, ERASED).map_err(|_| full)?;
    out.into_array().map_err(|_| full)
}

/// Reads one slot. `verify` is given header and record, and the signature over them.
///
/// # Errors
/// Why the slot does not count. The checksum comes before the signature and the signature before the record, so only
/// signed bytes are ever interpreted beyond their lengths.
pub fn parse(slot: &[u8], verify: impl Fn(&[u8], &[u8]) -> bool) -> Result<(Record, u64), SlotFault> {
    if slot.len() != SLOT_BYTES {
        return Err(SlotFault::Size);
    }
    if BLANKS.iter().any(|blank| slot.iter().all(|byte| byte == blank)) {
        return Err(SlotFault::Empty);
    }
    let parts = Parts::split(slot)?;
    if parts.crc != crc32(parts.covered) {
        return Err(SlotFault::Crc);
    }
    if parts.fill.iter().any(|byte| *byte != ERASED) {
        return Err(SlotFault::Fill);
    }
    if !verify(parts.signed, parts.signature) {
        return Err(SlotFault::Signature);
    }
    if parts.revision == 0 {
        return Err(SlotFault::Revision);
    }
    Ok((Record::decode(parts.body)?, parts.revision))
}

/// Chooses the slot that counts: the valid one with the higher revision. A damaged slot never stands in the other's way.
///
/// # Errors
/// [`Error::ImageSize`] for bytes that are no image; [`Error::NoValidSlot`] with both reasons; [`Error::Ambiguous`] when two
/// valid slots of the same revision say different things.
pub fn select(image: &[u8], verify: impl Fn(&[u8], &[u8]) -> bool) -> Result<Selected, Error> {
    let size = Error::ImageSize { bytes: image.len() };
    let (a, b) = image.split_at_checked(SLOT_BYTES).filter(|(_, b)| b.len() == SLOT_BYTES).ok_or(size)?;
    choose(parse(a, &verify), parse(b, &verify))
}

/// [`select`] for two slots that were read already.
pub(crate) fn choose(
    a: Result<(Record, u64), SlotFault>,
    b: Result<(Record, u64), SlotFault>,
) -> Result<Selected, Error> {
    match (a, b) {
        (Err(a), Err(b)) => Err(Error::NoValidSlot { a, b }),
        (Ok((record, revision)), Err(fault)) => Ok(Selected { record, revision, slot: Slot::A, other: Err(fault) }),
        (Err(fault), Ok((record, revision))) => Ok(Selected { record, revision, slot: Slot::B, other: Err(fault) }),
        (Ok((a, a_revision)), Ok((b, b_revision))) if a_revision == b_revision && a != b => {
            Err(Error::Ambiguous { revision: a_revision })
        }
        (Ok((_, a_revision)), Ok((record, b_revision))) if b_revision > a_revision => {
            Ok(Selected { record, revision: b_revision, slot: Slot::B, other: Ok(a_revision) })
        }
        (Ok((record, a_revision)), Ok((_, b_revision))) => {
            Ok(Selected { record, revision: a_revision, slot: Slot::A, other: Ok(b_revision) })
        }
    }
}

/// A slot taken apart; lengths fit, nothing else is checked.
struct Parts<'a> {
    revision: u64,
    body: &'a [u8],
    /// Header and record.
    signed: &'a [u8],
    signature: &'a [u8],
    /// Everything before the checksum.
    covered: &'a [u8],
    crc: u32,
    fill: &'a [u8],
}

impl<'a> Parts<'a> {
    fn split(slot: &'a [u8]) -> Result<Self, SlotFault> {
        let length = SlotFault::Length;
        let (magic, rest) = slot.split_first_chunk::<4>().ok_or(length)?;
        if *magic != MAGIC {
            return Err(SlotFault::Magic);
        }
        let (version, rest) = rest.split_first_chunk::<2>().ok_or(length)?;
        if *version != FORMAT_VERSION.to_be_bytes() {
            return Err(SlotFault::FormatVersion(u16::from_be_bytes(*version)));
        }
        let (body_length, rest) = rest.split_first_chunk::<2>().ok_or(length)?;
        let (revision, rest) = rest.split_first_chunk::<8>().ok_or(length)?;
        let body_length = usize::from(u16::from_be_bytes(*body_length));
        if body_length > RECORD_BYTES_MAX {
            return Err(length);
        }
        let (body, rest) = rest.split_at_checked(body_length).ok_or(length)?;
        let (signature_length, rest) = rest.split_first().ok_or(length)?;
        let signature_length = usize::from(*signature_length);
        if signature_length == 0 || signature_length > SIGNATURE_BYTES_MAX {
            return Err(length);
        }
        let (signature, rest) = rest.split_at_checked(signature_length).ok_or(length)?;
        let (crc, fill) = rest.split_first_chunk::<CRC_BYTES>().ok_or(length)?;
        let signed = slot.get(..HEADER_BYTES + body_length).ok_or(length)?;
        let covered = slot.get(..HEADER_BYTES + body_length + 1 + signature_length).ok_or(length)?;
        let (revision, crc) = (u64::from_be_bytes(*revision), u32::from_be_bytes(*crc));
        Ok(Self { revision, body, signed, signature, covered, crc, fill })
    }
}

/// CRC-32 of IEEE 802.3 (reflected, polynomial edb88320), bit by bit: 4 KiB at every start need no table.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let low_bit_mask = (crc & 1).wrapping_neg();
            crc = (crc >> 1) ^ (0xedb8_8320 & low_bit_mask);
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::crc32;

    #[test]
    fn the_checksum_is_the_one_everybody_calls_crc_32() {
        // The check value of the CRC catalogue, and Python's zlib.crc32.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(&[0xff; 32]), 0xff6c_ab0b);
    }
}
