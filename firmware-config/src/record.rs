//! What the burnt-in record says, and its one encoding (the table in the crate's documentation). How it lies in a slot is
//! `image.rs`'s part.

use heapless::Vec;

use crate::{
    Error, Field, SlotFault,
    text::{Host, KeyReference, Segment, SerialNumber},
};

/// SM3 of a certificate's DER.
pub type CertificateId = [u8; 32];

/// Most key slots of a record.
pub const KEY_SLOTS_MAX: usize = 8;
/// Most endpoints of a record.
pub const ENDPOINTS_MAX: usize = 4;

const KEY_SLOT_BYTES_MAX: usize = 1 + 1 + 32 + 1 + KeyReference::BYTES_MAX;
const ENDPOINT_BYTES_MAX: usize = 1 + Host::BYTES_MAX + 2 + 1 + 32;
/// Longest encoding of a record.
pub const RECORD_BYTES_MAX: usize = 1
    + SerialNumber::BYTES_MAX
    + 2 * (1 + Segment::BYTES_MAX)
    + 1
    + KEY_SLOTS_MAX * KEY_SLOT_BYTES_MAX
    + 1
    + ENDPOINTS_MAX * ENDPOINT_BYTES_MAX;

pub(crate) type RecordBytes = Vec<u8, RECORD_BYTES_MAX>;

/// What a key is for. The numbers are those of the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KeyPurpose {
    /// Signs blocks, checkpoints, offers and answers.
    NodeSigning = 1,
    /// The encryption half of the node's double certificate.
    NodeEncryption = 2,
    /// The client side of a TLS connection.
    Transport = 3,
}

impl KeyPurpose {
    /// The number in the encoding.
    pub fn number(self) -> u8 {
        match self {
            Self::NodeSigning => 1,
            Self::NodeEncryption => 2,
            Self::Transport => 3,
        }
    }

    /// The purpose of a number, if it has one.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::NodeSigning),
            2 => Some(Self::NodeEncryption),
            3 => Some(Self::Transport),
            _ => None,
        }
    }
}

/// One key of the node: what it is for, which certificate belongs to it, where it is kept. Never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySlot {
    /// Number of the slot; no two are alike.
    pub index: u8,
    /// What the key is for.
    pub purpose: KeyPurpose,
    /// The key's certificate.
    pub certificate_id: CertificateId,
    /// Where the key is kept.
    pub key_reference: KeyReference,
}

/// One way to the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host of the MQTT broker.
    pub host: Host,
    /// Its port; not 0.
    pub port: u16,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// The certificate under which the platform signs.
    pub platform_certificate_id: CertificateId,
}

/// The burnt-in record. The lists can only be extended through [`Self::add_key_slot`] and [`Self::add_endpoint`], so every
/// value of this type can be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Serial number of the machine.
    pub serial_number: SerialNumber,
    /// The site the node belongs to.
    pub site: Segment,
    /// The node's name within the site.
    pub node: Segment,
    key_slots: Vec<KeySlot, KEY_SLOTS_MAX>,
    endpoints: Vec<Endpoint, ENDPOINTS_MAX>,
}

impl Record {
    /// A record without keys and endpoints.
    pub fn new(serial_number: SerialNumber, site: Segment, node: Segment) -> Self {
        Self { serial_number, site, node, key_slots: Vec::new(), endpoints: Vec::new() }
    }

    /// The key slots, rising by index.
    pub fn key_slots(&self) -> &[KeySlot] {
        &self.key_slots
    }

    /// The endpoints, in order of preference.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The first key slot with this purpose.
    pub fn key_for(&self, purpose: KeyPurpose) -> Option<&KeySlot> {
        self.key_slots.iter().find(|slot| slot.purpose == purpose)
    }

    /// Adds a key slot at its place.
    ///
    /// # Errors
    /// [`Error::TooLong`] when there are [`KEY_SLOTS_MAX`] already; [`Error::Invalid`] when the index is taken.
    pub fn add_key_slot(&mut self, slot: KeySlot) -> Result<(), Error> {
        if self.key_slots.iter().any(|other| other.index == slot.index) {
            return Err(Error::Invalid { field: Field::KeyIndex });
        }
        let place = self.key_slots.iter().take_while(|other| other.index < slot.index).count();
        let full = Error::TooLong { field: Field::KeySlots, max: KEY_SLOTS_MAX };
        self.key_slots.insert(place, slot).map_err(|_| full)
    }

    /// Adds an endpoint, less preferred than those before it.
    ///
    /// # Errors
    /// [`Error::TooLong`] when there are [`ENDPOINTS_MAX`] already; [`Error::Invalid`] for port 0.
    pub fn add_endpoint(&mut self, endpoint: Endpoint) -> Result<(), Error> {
        if endpoint.port == 0 {
            return Err(Error::Invalid { field: Field::Port });
        }
        let full = Error::TooLong { field: Field::Endpoints, max: ENDPOINTS_MAX };
        self.endpoints.push(endpoint).map_err(|_| full)
    }

    /// The encoding.
    pub(crate) fn encode(&self) -> Result<RecordBytes, Error> {
        let mut out = Writer(RecordBytes::new());
        out.text(self.serial_number.as_str())?;
        out.text(self.site.as_str())?;
        out.text(self.node.as_str())?;
        out.count(self.key_slots.len())?;
        for slot in &self.key_slots {
            out.bytes(&[slot.index, slot.purpose.number()])?;
            out.bytes(&slot.certificate_id)?;
            out.text(slot.key_reference.as_str())?;
        }
        out.count(self.endpoints.len())?;
        for endpoint in &self.endpoints {
            out.text(endpoint.host.as_str())?;
            out.bytes(&endpoint.port.to_be_bytes())?;
            out.bytes(&[u8::from(endpoint.tls)])?;
            out.bytes(&endpoint.platform_certificate_id)?;
        }
        Ok(out.0)
    }

    /// Reads an encoding; any other bytes are refused with the field they fail at.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SlotFault> {
        let mut input = Reader(bytes);
        let fault = SlotFault::Record;
        let serial_number = input.text(Field::SerialNumber, SerialNumber::new)?;
        let site = input.text(Field::Segment, Segment::new)?;
        let node = input.text(Field::Segment, Segment::new)?;
        let mut record = Self::new(serial_number, site, node);
        for _ in 0..input.byte(Field::KeySlots)? {
            let slot = input.key_slot()?;
            let rising = record.key_slots.last().is_none_or(|last| last.index < slot.index);
            if !rising {
                return Err(fault(Field::KeyIndex));
            }
            record.add_key_slot(slot).map_err(|_| fault(Field::KeySlots))?;
        }
        for _ in 0..input.byte(Field::Endpoints)? {
            let endpoint = input.endpoint()?;
            let full = if endpoint.port == 0 { Field::Port } else { Field::Endpoints };
            record.add_endpoint(endpoint).map_err(|_| fault(full))?;
        }
        if input.0.is_empty() { Ok(record) } else { Err(fault(Field::Trailing)) }
    }
}

struct Writer(RecordBytes);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // RECORD_BYTES_MAX is the sum of all limits, so this cannot fail; if a limit grows alone, it says so.
        let full = Error::Slot(SlotFault::Length);
        self.0.extend_from_slice(bytes).map_err(|_| full)
    }

    fn count(&mut self, count: usize) -> Result<(), Error> {
        let byte = u8::try_from(count).map_err(|_| Error::Slot(SlotFault::Length))?;
        self.bytes(&[byte])
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        self.count(text.len())?;
        self.bytes(text.as_bytes())
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, field: Field) -> Result<&'a [u8], SlotFault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SlotFault::Record(field))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: Field) -> Result<[u8; N], SlotFault> {
        self.take(N, field)?.try_into().map_err(|_| SlotFault::Record(field))
    }

    fn byte(&mut self, field: Field) -> Result<u8, SlotFault> {
        let [byte] = self.array(field)?;
        Ok(byte)
    }

    fn text<T>(&mut self, field: Field, make: impl FnOnce(&str) -> Result<T, Error>) -> Result<T, SlotFault> {
        let length = self.byte(field)?;
        let bytes = self.take(usize::from(length), field)?;
        let text = core::str::from_utf8(bytes).map_err(|_| SlotFault::Record(field))?;
        make(text).map_err(|_| SlotFault::Record(field))
    }

    fn key_slot(&mut self) -> Result<KeySlot, SlotFault> {
        let index = self.byte(Field::KeyIndex)?;
        let number = self.byte(Field::KeyPurpose)?;
        let purpose = KeyPurpose::from_number(number).ok_or(SlotFault::Record(Field::KeyPurpose))?;
        let certificate_id = self.array(Field::CertificateId)?;
        let key_reference = self.text(Field::KeyReference, KeyReference::new)?;
        Ok(KeySlot { index, purpose, certificate_id, key_reference })
    }

    fn endpoint(&mut self) -> Result<Endpoint, SlotFault> {
        let host = self.text(Field::Host, Host::new)?;
        let port = u16::from_be_bytes(self.array(Field::Port)?);
        let tls = match self.byte(Field::Tls)? {
            0 => false,
            1 => true,
            _ => return Err(SlotFault::Record(Field::Tls)),
        };
        Ok(Endpoint { host, port, tls, platform_certificate_id: self.array(Field::CertificateId)? })
    }
}
