//! Messages of GM/T 0010 (GB/T 35275): signed, enveloped, both, or encrypted under a key that both sides have. Here are the
//! names and the envelope that all of them share. It is the syntax of PKCS#7 1.5 under identifiers of its own, read strictly:
//! DER only, version 1, no second form of anything. Files, PEM and what the content means are not here.
//!
//! Written is the standard's form. Read are besides it: SM2-with-SM3 (`1.2.156.10197.1.501`) where the standard has SM2-1
//! (`301.1`), as BouncyCastle and GmSSL write; SM2-2 (`301.2`, GmSSL) and `301.3.2.1` (BouncyCastle) where it has SM2-3
//! (`301.3`); parameters NULL or absent; SM4 (`104`) with an initial vector as SM4-CBC (`104.2`), as CFCA writes.

mod encrypted;
mod enveloped;
mod recipient;
mod signed_data;
mod signed_enveloped;
mod signer;

use der::{Decode, Encode, asn1::ObjectIdentifier};

pub use encrypted::{decrypt_with, encrypt_with};
pub use enveloped::{envelop, open};
pub use signed_data::{SignedContent, sign, verify};
pub use signed_enveloped::{open_signed, sign_and_envelop};
pub use signer::{Algorithm, Attributes, Signer, Signing};

pub(crate) use signer::{
    CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_CERTIFICATE_V2, SM2_SIGNATURE, SM2_WITH_SM3, SM3, SignedAttributes,
    attribute, digests, is_named, read_attributes, read_issuer_and_serial,
};

use crate::fields::{self, Fields, Malformed, NULL, SEQUENCE, constructed};

/// Longest message that is read or written, bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Most certificates in one message.
pub const CERTIFICATES_MAX: usize = 64;
/// Most revocation lists in one message.
pub const CRLS_MAX: usize = 16;
/// Most signers of one message.
pub const SIGNERS_MAX: usize = 16;
/// Most recipients of one message.
pub const RECIPIENTS_MAX: usize = 256;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// What a message is (arc 1.2.156.10197.6.1.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// Octets.
    Data,
    /// Content with signatures.
    SignedData,
    /// Content for recipients.
    EnvelopedData,
    /// Content for recipients, with signatures that only they can check.
    SignedAndEnvelopedData,
    /// Content under a key that both sides have.
    EncryptedData,
}

const CONTENT_TYPES: [(ContentType, ObjectIdentifier); 5] = [
    (ContentType::Data, oid("1.2.156.10197.6.1.4.2.1")),
    (ContentType::SignedData, oid("1.2.156.10197.6.1.4.2.2")),
    (ContentType::EnvelopedData, oid("1.2.156.10197.6.1.4.2.3")),
    (ContentType::SignedAndEnvelopedData, oid("1.2.156.10197.6.1.4.2.4")),
    (ContentType::EncryptedData, oid("1.2.156.10197.6.1.4.2.5")),
];

impl ContentType {
    /// The identifier on the wire.
    pub fn oid(self) -> ObjectIdentifier {
        CONTENT_TYPES.iter().find(|(found, _)| *found == self).map_or(CONTENT_TYPES[0].1, |(_, oid)| *oid)
    }

    /// The name as the standard writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::SignedData => "signedData",
            Self::EnvelopedData => "envelopedData",
            Self::SignedAndEnvelopedData => "signedAndEnvelopedData",
            Self::EncryptedData => "encryptedData",
        }
    }

    fn from_oid(found: ObjectIdentifier, part: &'static str) -> Result<Self, Malformed> {
        if let Some((known, _)) = CONTENT_TYPES.iter().find(|(_, oid)| *oid == found) {
            return Ok(*known);
        }
        let text = found.to_string();
        let whose = if text.starts_with("1.2.840.113549.1.7.") { ", of PKCS#7" } else { "" };
        Err(Malformed::new(part, format!("{text}{whose}; one of 1.2.156.10197.6.1.4.2.1 to 5 expected")))
    }
}

/// What kind of message `bytes` are; nothing else of them is looked at but their outer form.
///
/// # Errors
/// [`Malformed`] when they are no message.
pub fn kind(bytes: &[u8]) -> Result<ContentType, Malformed> {
    open_info(bytes).map(|(found, _)| found)
}

/// `ContentInfo ::= SEQUENCE { contentType, content [0] EXPLICIT ANY }`: the type, and the one SEQUENCE inside.
fn open_info(bytes: &[u8]) -> Result<(ContentType, Fields<'_>), Malformed> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Malformed::new("ContentInfo", format!("longer than {MESSAGE_BYTES_MAX} bytes")));
    }
    let mut info = Fields::of_sequence(bytes, "ContentInfo")?;
    let found = ContentType::from_oid(info.oid("contentType")?, "contentType")?;
    let content = info.take(constructed(0), "content")?;
    info.finish("ContentInfo")?;
    Ok((found, Fields::of_sequence(content.content, "content")?))
}

/// The inside of a message of type `wanted`.
fn open_as(bytes: &[u8], wanted: ContentType) -> Result<Fields<'_>, Malformed> {
    let (found, inside) = open_info(bytes)?;
    if found == wanted {
        return Ok(inside);
    }
    Err(Malformed::new("contentType", format!("{} expected, {} found", wanted.name(), found.name())))
}

/// A finished message around the members of its inside.
fn close(kind: ContentType, members: &[&[u8]]) -> Result<Vec<u8>, crate::Error> {
    let inside = fields::sequence(members);
    Ok(fields::sequence(&[&kind.oid().to_der()?, &fields::value(constructed(0), &[&inside])]))
}

/// `AlgorithmIdentifier` as written: parameters absent.
pub(crate) fn algorithm(oid: ObjectIdentifier) -> Result<Vec<u8>, crate::Error> {
    Ok(fields::sequence(&[&oid.to_der()?]))
}

/// Reads an `AlgorithmIdentifier` with parameters absent or NULL.
pub(crate) fn plain_algorithm(fields: &mut Fields<'_>, part: &'static str) -> Result<ObjectIdentifier, Malformed> {
    let value = fields.take(SEQUENCE, part)?;
    let mut inside = Fields::of(value.content);
    let found = inside.oid(part)?;
    if let Some(null) = inside.optional(NULL, part)?
        && !null.content.is_empty()
    {
        return Err(Malformed::new(part, "a NULL that holds something"));
    }
    inside.finish(part)?;
    Ok(found)
}

/// Bytes of a distinguished name, for a person; hexadecimal where it is none.
pub(crate) fn shown_name(der: &[u8]) -> String {
    x509_cert::name::Name::from_der(der)
        .map_or_else(|_| der.iter().map(|byte| format!("{byte:02x}")).collect(), |name| name.to_string())
}
