//! What can go wrong with a burnt-in record, and in which field.

use core::fmt;

/// The fields of a record, for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Serial number of the machine.
    SerialNumber,
    /// Site or node.
    Segment,
    /// The list of key slots.
    KeySlots,
    /// Index of a key slot.
    KeyIndex,
    /// Purpose of a key slot.
    KeyPurpose,
    /// Key reference of a key slot.
    KeyReference,
    /// A certificate id.
    CertificateId,
    /// The list of endpoints.
    Endpoints,
    /// Host of an endpoint.
    Host,
    /// Port of an endpoint.
    Port,
    /// TLS flag of an endpoint.
    Tls,
    /// What follows the last field.
    Trailing,
}

/// Why a slot does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotFault {
    /// Never written: all bytes are `ff`, as erased flash reads, or all `00`, as a new disk does.
    Empty,
    /// Not [`crate::SLOT_BYTES`] long.
    Size,
    /// Something else stands there.
    Magic,
    /// Written by a later version.
    FormatVersion(u16),
    /// A length that does not fit the slot.
    Length,
    /// Revision 0, which is never written.
    Revision,
    /// A torn or rotten write.
    Crc,
    /// Bytes after the record that are not `ff`.
    Fill,
    /// Whole, but not signed by whom the caller trusts.
    Signature,
    /// Whole and signed, but not a record: its maker's fault.
    Record(Field),
}

/// Errors of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// An image that is not [`crate::IMAGE_BYTES`] long; its reader passed something else.
    ImageSize {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A value for `field` that is too long, or a list that is full.
    TooLong {
        /// The field.
        field: Field,
        /// The most that fits.
        max: usize,
    },
    /// An empty value, or one with characters `field` cannot have.
    Invalid {
        /// The field.
        field: Field,
    },
    /// A signature of 0 or more than 72 bytes.
    SignatureLength,
    /// The caller's signer gave no signature.
    NotSigned,
    /// One slot that does not count.
    Slot(SlotFault),
    /// Neither slot counts: the node does not know who it is, and must not start.
    NoValidSlot {
        /// Why slot A does not.
        a: SlotFault,
        /// Why slot B does not.
        b: SlotFault,
    },
    /// Both slots count, with the same revision and different records: whoever signed them must decide.
    Ambiguous {
        /// The revision.
        revision: u64,
    },
    /// No revision is left above the highest one.
    RevisionExhausted,
}

impl fmt::Display for SlotFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Size => f.write_str("not a slot's size"),
            Self::Magic => f.write_str("not a burnt-in record"),
            Self::FormatVersion(version) => write!(f, "unknown format version {version}"),
            Self::Length => f.write_str("a length does not fit the slot"),
            Self::Revision => f.write_str("revision 0"),
            Self::Crc => f.write_str("checksum differs: torn or damaged"),
            Self::Fill => f.write_str("bytes after the record"),
            Self::Signature => f.write_str("signature does not verify"),
            Self::Record(field) => write!(f, "signed, but malformed at {field:?}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ImageSize { bytes } => write!(f, "an image has {} bytes, not {bytes}", crate::IMAGE_BYTES),
            Self::TooLong { field, max } => write!(f, "{field:?}: at most {max}"),
            Self::Invalid { field } => {
                write!(f, "{field:?}: empty, out of range or with other characters than allowed")
            }
            Self::SignatureLength => f.write_str("a signature has 1 to 72 bytes"),
            Self::NotSigned => f.write_str("the signer gave no signature"),
            Self::Slot(fault) => write!(f, "slot: {fault}"),
            Self::NoValidSlot { a, b } => write!(f, "no valid slot (A: {a}; B: {b})"),
            Self::Ambiguous { revision } => write!(f, "two different records of revision {revision}"),
            Self::RevisionExhausted => f.write_str("no higher revision is left"),
        }
    }
}

impl core::error::Error for Error {}
