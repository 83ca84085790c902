//! Certification requests (PKCS#10, GM/T 0092): how a key's holder asks for a certificate. Who grants one is `ca.rs`'s part.

use der::{
    Decode, Tag, Tagged,
    asn1::{Any, ObjectIdentifier, SetOfVec},
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
    sm2::{PublicKey, Verdict},
};

const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
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
}

impl Csr {
    /// Makes and signs a request for `subject` (`CN=node-1,O=site,C=CN`) and, if any, DNS names.
    ///
    /// # Errors
    /// [`Error::Name`] or [`Error::DnsName`] for names that cannot be written; those of [`Sign::sign`].
    pub fn make(key: &dyn Sign, subject: &str, dns_names: &[&str]) -> Result<Self, Error> {
        let mut attributes = SetOfVec::new();
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
        let info = CertReqInfo::from_der(envelope.tbs)?;
        Ok(Self {
            public_key: asn1::public_key(&info.public_key)?,
            dns_names: requested_dns_names(&info)?,
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

    /// Checks that whoever made the request holds its key.
    pub fn verify(&self) -> Verdict {
        self.public_key.verify(&self.tbs, &self.signature)
    }

    pub(crate) fn subject_name(&self) -> &Name {
        &self.subject
    }
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
