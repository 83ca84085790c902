//! The node's burnt-in record: who it is, where its keys are, whom it talks to.
//!
//! **What**: a small signed record in one of two slots of an image, written once by whoever installs the node and read at
//! every start of the agent. [`Record`] is what it says, [`image`] is how it lies on the medium, [`mod@install`] is how a new one
//! gets there.
//!
//! **Why two slots**: a new record goes into the slot that is not in use; a torn write damages that one only, and the other
//! still starts the node. Of two valid slots the higher revision counts. The order of writes is [`mod@install`]'s, so that a
//! power cut at any moment leaves the old record or the new one, whole.
//!
//! **What not**: no keys (a key slot names a certificate and a file), no files and devices, no cryptography: whoever calls
//! passes the medium ([`Storage`]) and the signature check, so this crate runs without `std` on the smallest boot medium. It
//! allocates nothing, and no bytes make it panic.
//!
//! # The bytes
//!
//! An image is slot A, then slot B, of [`SLOT_BYTES`] each. All numbers are big-endian. A slot:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `HUFU` |
//! | 4 | 2 | format version, 1 |
//! | 6 | 2 | record length L |
//! | 8 | 8 | revision, from 1, one higher with every record |
//! | 16 | L | record |
//! | 16+L | 1 | signature length S, 1 to 72 |
//! | 17+L | S | signature (DER `SM2Signature`) over bytes 0 .. 16+L |
//! | 17+L+S | 4 | CRC-32 (IEEE 802.3) over bytes 0 .. 17+L+S |
//! | 21+L+S | rest | `ff`, as erased flash reads |
//!
//! The CRC tells a torn write from a forged record; only the signature makes a record count. A record, in this order, with
//! `text` = one length byte and that many bytes:
//!
//! | field | form | limits |
//! |---|---|---|
//! | serial number of the machine | text | 1 to 64 printable ASCII characters |
//! | site | text | `[a-z0-9_-]{1,64}` |
//! | node | text | `[a-z0-9_-]{1,64}` |
//! | number of key slots | 1 byte | at most 8 |
//! | each key slot: index | 1 byte | strictly rising |
//! | – purpose | 1 byte | 1 node signing, 2 node encryption, 3 transport |
//! | – certificate id | 32 bytes | SM3 of the certificate's DER |
//! | – key reference | text | 1 to 128 printable ASCII characters |
//! | number of endpoints | 1 byte | at most 4, in order of preference |
//! | each endpoint: broker host | text | 1 to 253 of `[A-Za-z0-9.:_-]` |
//! | – port | 2 bytes | not 0 |
//! | – TLS | 1 byte | 0 or 1 |
//! | – platform certificate id | 32 bytes | SM3 of the certificate's DER |
//!
//! Nothing may follow. A record has one encoding, so equal records are equal bytes.
//!
//! # Example
//!
//! ```
//! use hufu_firmware_config::{Record, Segment, SerialNumber, Signature, Slot, blank, build, install, open};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A stand-in for SM2: real callers sign with the site's key and verify with its certificate.
//! let sign = |signed: &[u8]| Signature::new(&[signed.len() as u8 | 1]).ok();
//! let verify = |signed: &[u8], signature: &[u8]| signature == [signed.len() as u8 | 1];
//!
//! let record = Record::new(SerialNumber::new("SN-0001")?, Segment::new("site-a")?, Segment::new("node-1")?);
//! // The medium is memory here; the agent passes a file or a partition.
//! let mut image = blank();
//! install(&mut image, &build(&record, 1, sign)?, 0, verify)?;
//! install(&mut image, &build(&record, 2, sign)?, 1, verify)?;
//! let found = open(&mut image, 2, verify)?;
//! assert_eq!((found.slot, found.revision, found.record), (Slot::B, 2, record));
//! # Ok(())
//! # }
//! ```
//!
//! # Going back
//!
//! An attacker who can write the medium can put an older signed image back, and this crate cannot see it: it keeps nothing
//! but the image. Whoever needs a defence remembers the highest revision that it ever accepted in a place of its own and passes
//! it as `floor`; [`open`] and [`fn@install`] refuse what is below. Revisions are the signer's: no two records of a node may
//! have the same one.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod error;
pub mod image;
pub mod install;
pub mod record;
mod storage;
pub mod text;

pub use error::{Error, Field, SlotFault};
pub use image::{IMAGE_BYTES, SLOT_BYTES, Selected, Signature, Slot, blank, build, parse, select};
pub use install::{InstallError, install, open};
pub use record::{CertificateId, Endpoint, KeyPurpose, KeySlot, Record};
pub use storage::Storage;
pub use text::{Host, KeyReference, Segment, SerialNumber};
