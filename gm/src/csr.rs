//! Certification requests (PKCS#10, GM/T 0092): how a key's holder asks for a certificate. Who grants one is `ca.rs`'s part.

use der::{
    Tag, Tagged,
    asn1::{Any, ObjectIdentifier, PrintableString, SetOfVec},
};
use x509_cert::{
    attr::Attribute,
    ext::{Extension, pkix::SubjectAltName},
    name::Name,
    request::{CertReqInfo, Version},
};

use crate::{
    Error,
    asn1::{self, Envelope},
    cert::{SUBJECT_ALT_NAME, dns_names},
    name,
    sign::Sign,
    signed::strict,
    sm2::{PublicKey, Verdict},
};

const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
/// The challenge password as GM/T 0092 numbers it.
const CHALLENGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.6.1.4.1.10.3");
/// The same attribute of PKCS#9, which openssl writes.
const CHALLENGE_PKCS9: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7");
/// Longest challenge password, characters.
const CHALLENGE_CHARS_MAX: usize = 64;
const LABEL: &str = "CERTIFICATE REQUEST";

/// A certification request, kept as the bytes that were received.
#[derive(Clone, Debug)]
pub struct Csr {
    der: Vec<u8>,
    tbs: Vec<u8>,
    signature: Vec<u8>,
    subject: Name,
    public_key: PublicKey,
    dns_names: Vec<String>,
    challenge: Option<String>,
}

impl Csr {
    /// Makes and signs a request for `subject` (`CN=node-1,O=site,C=CN`) and, if any, DNS names.
    ///
    /// # Errors
    /// [`Error::Name`] or [`Error::DnsName`] for names that cannot be written; those of [`Sign::sign`].
    pub fn make(key: &dyn Sign, subject: &str, dns_names: &[&str]) -> Result<Self, Error> {
        Self::make_challenged(key, subject, dns_names, None)
    }

    /// As [`Self::make`], with the challenge password (GM/T 0092) that some CAs want: a word agreed on with the CA, for anybody to
    /// read in the request.
    ///
    /// # Errors
    /// As [`Self::make`]; [`Error::Challenge`] for a word that is empty, longer than 64 characters or not a PrintableString.
    pub fn make_challenged(
        key: &dyn Sign,
        subject: &str,
        dns_names: &[&str],
        challenge: Option<&str>,
    ) -> Result<Self, Error> {
        let mut attributes = SetOfVec::new();
        if let Some(word) = challenge {
            let printable = PrintableString::new(word).map_err(|_| Error::Challenge)?;
            let mut values = SetOfVec::new();
            values.insert(Any::encode_from(&printable)?)?;
            attributes.insert(Attribute { oid: CHALLENGE, values })?;
        }
        if !dns_names.is_empty() {
            let extensions = vec![asn1::make_extension(SUBJECT_ALT_NAME, false, &name::alternative(dns_names)?)?];
            let mut values = SetOfVec::new();
            values.insert(Any::encode_from(&extensions)?)?;
            attributes.insert(Attribute { oid: EXTENSION_REQUEST, values })?;
        }
        let info = CertReqInfo {
            version: Version::V1,
            subject: name::parse(subject)?,
            public_key: asn1::public_key_info(&key.public_key())?,
            attributes,
        };
        Self::from_der(&asn1::seal(&info, key)?)
    }

    /// Reads the DER of one request. Nothing is verified: see [`Self::verify`].
    ///
    /// # Errors
    /// [`Error::Der`] or [`Error::NotCanonical`] for damaged or trailing bytes; [`Error::SignatureAlgorithm`] or
    /// [`Error::PublicKey`] for requests of another kind.
    pub fn from_der(bytes: &[u8]) -> Result<Self, Error> {
        let envelope = Envelope::open(bytes)?;
        let info: CertReqInfo = strict(envelope.tbs)?;
        Ok(Self {
            public_key: asn1::public_key(&info.public_key)?,
            dns_names: requested_dns_names(&info)?,
            challenge: challenge_of(&info)?,
            subject: info.subject,
            der: bytes.to_vec(),
            tbs: envelope.tbs.to_vec(),
            signature: envelope.signature,
        })
    }

    /// Reads the first `CERTIFICATE REQUEST` block of a PEM text.
    ///
    /// # Errors
    /// [`Error::Pem`] for a broken block or a text without one; then as [`Self::from_der`].
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let block = asn1::pem_blocks(text, LABEL)?.into_iter().next().ok_or(Error::Pem)?;
        Self::from_der(&block)
    }

    /// PEM of the received bytes.
    pub fn to_pem(&self) -> String {
        asn1::pem_text(LABEL, &self.der)
    }

    /// The bytes as received.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whose certificate is asked for, as RFC 4514 writes it.
    pub fn subject(&self) -> String {
        self.subject.to_string()
    }

    /// The key the certificate is asked for.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The DNS names asked for.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// The challenge password, if there is one. It is no secret.
    pub fn challenge(&self) -> Option<&str> {
        self.challenge.as_deref()
    }

    /// Checks that whoever made the request holds its key.
    pub fn verify(&self) -> Verdict {
        self.public_key.verify(&self.tbs, &self.signature)
    }

    pub(crate) fn subject_name(&self) -> &Name {
        &self.subject
    }
}

/// The one challenge password under either of its two names.
fn challenge_of(info: &CertReqInfo) -> Result<Option<String>, Error> {
    let mut found = None;
    let named = |attribute: &&Attribute| matches!(attribute.oid, CHALLENGE | CHALLENGE_PKCS9);
    for value in info.attributes.iter().filter(named).flat_map(|attribute| attribute.values.iter()) {
        let printable = || value.decode_as::<PrintableString>().map(|text| text.as_str().to_owned());
        let word = printable().or_else(|_| value.decode_as::<String>()).map_err(|_| Error::Challenge)?;
        let fits = (1..=CHALLENGE_CHARS_MAX).contains(&word.chars().count());
        if !fits || found.replace(word).is_some() {
            return Err(Error::Challenge);
        }
    }
    Ok(found)
}

fn requested_dns_names(info: &CertReqInfo) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for attribute in info.attributes.iter().filter(|attribute| attribute.oid == EXTENSION_REQUEST) {
        for value in attribute.values.iter().filter(|value| value.tag() == Tag::Sequence) {
            let extensions: Vec<Extension> = value.decode_as()?;
            asn1::check_distinct(&extensions)?;
            if let Some(names) = asn1::extension::<SubjectAltName>(&extensions, SUBJECT_ALT_NAME)? {
                found.extend(dns_names(&names.0));
            }
        }
    }
    Ok(found)
}
