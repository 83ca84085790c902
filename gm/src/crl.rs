//! Certificate revocation lists (X.509 v2, whole lists of one issuer), kept as the bytes that were received. When a list
//! counts is `chain.rs`'s question; `ca.rs` makes them. Delta, partitioned and indirect lists are refused.

use std::collections::BTreeMap;

use der::asn1::ObjectIdentifier;
use x509_cert::{Version, crl::TbsCertList, ext::Extension, ext::pkix::AuthorityKeyIdentifier, name::Name};

use crate::{
    Error,
    asn1::{self, Envelope},
    cert::{AUTHORITY_KEY_ID, Certificate, significant},
    signed::strict,
    sm2::Verdict,
};

pub(crate) const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const LABEL: &str = "X509 CRL";

/// A revocation list.
#[derive(Clone, Debug)]
pub struct Crl {
    der: Vec<u8>,
    tbs: Vec<u8>,
    signature: Vec<u8>,
    issuer: Name,
    authority_key_id: Option<Vec<u8>>,
    this_update_ns: i64,
    next_update_ns: Option<i64>,
    /// Serial number without leading zeros -> instant of revocation, ns since 1970.
    revoked: BTreeMap<Vec<u8>, i64>,
}

impl PartialEq for Crl {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}
impl Eq for Crl {}

impl Crl {
    /// Reads the DER of one list signed with SM2-with-SM3. Nothing is verified.
    ///
    /// # Errors
    /// [`Error::Der`] or [`Error::NotCanonical`] for damaged or trailing bytes; [`Error::SignatureAlgorithm`],
    /// [`Error::Version`], [`Error::DoubleExtension`], [`Error::CriticalExtension`] for lists of another kind;
    /// [`Error::NamelessIssuer`], [`Error::Backwards`] for what no CA may write.
    pub fn from_der(bytes: &[u8]) -> Result<Self, Error> {
        let envelope = Envelope::open(bytes)?;
        let list: TbsCertList = strict(envelope.tbs)?;
        if list.signature != envelope.algorithm {
            return Err(Error::SignatureAlgorithm);
        }
        if list.version != Version::V2 {
            return Err(Error::Version);
        }
        if list.issuer.is_empty() {
            return Err(Error::NamelessIssuer);
        }
        let ends = |next| asn1::unix_s(next) < asn1::unix_s(list.this_update);
        if list.next_update.is_some_and(ends) {
            return Err(Error::Backwards);
        }
        let extensions = list.crl_extensions.unwrap_or_default();
        asn1::check_distinct(&extensions)?;
        refuse_critical(&extensions)?;
        let authority_key_id = asn1::extension::<AuthorityKeyIdentifier>(&extensions, AUTHORITY_KEY_ID)?;
        let mut revoked = BTreeMap::new();
        for entry in list.revoked_certificates.unwrap_or_default() {
            let extensions = entry.crl_entry_extensions.unwrap_or_default();
            asn1::check_distinct(&extensions)?;
            refuse_critical(&extensions)?;
            let at_ns = asn1::unix_ns(entry.revocation_date);
            let earliest = revoked.entry(significant(entry.serial_number.as_bytes()).to_vec()).or_insert(at_ns);
            *earliest = at_ns.min(*earliest);
        }
        Ok(Self {
            authority_key_id: authority_key_id.and_then(|id| id.key_identifier).map(|id| id.as_bytes().to_vec()),
            this_update_ns: asn1::unix_ns(list.this_update),
            next_update_ns: list.next_update.map(asn1::unix_ns),
            issuer: list.issuer,
            revoked,
            der: bytes.to_vec(),
            tbs: envelope.tbs.to_vec(),
            signature: envelope.signature,
        })
    }

    /// Reads every `X509 CRL` block of a PEM text, in order; other blocks and text around them are passed over.
    ///
    /// # Errors
    /// [`Error::Pem`] for a broken block or a text without any; then as [`Self::from_der`].
    pub fn from_pem_many(text: &str) -> Result<Vec<Self>, Error> {
        let found: Result<Vec<_>, _> =
            asn1::pem_blocks(text, LABEL)?.iter().map(|block| Self::from_der(block)).collect();
        found.and_then(|all| if all.is_empty() { Err(Error::Pem) } else { Ok(all) })
    }

    /// PEM of the received bytes.
    pub fn to_pem(&self) -> String {
        asn1::pem_text(LABEL, &self.der)
    }

    /// The bytes as received.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The issuer's distinguished name, as RFC 4514 writes it.
    pub fn issuer(&self) -> String {
        self.issuer.to_string()
    }

    /// When the list was made, ns since 1970.
    pub fn this_update_ns(&self) -> i64 {
        self.this_update_ns
    }

    /// When the next one is due, ns since 1970.
    pub fn next_update_ns(&self) -> Option<i64> {
        self.next_update_ns
    }

    /// Whether the list speaks for `at_ns`: made by then, and the next one not yet due. One that names no next is good for ever
    /// after.
    pub fn covers(&self, at_ns: i64) -> bool {
        self.this_update_ns <= at_ns && self.next_update_ns.is_none_or(|next| at_ns <= next.saturating_add(999_999_999))
    }

    /// How many certificates are listed.
    pub fn count(&self) -> usize {
        self.revoked.len()
    }

    /// When `certificate` was revoked, ns since 1970, if it is listed here by its issuer.
    pub fn revoked_at_ns(&self, certificate: &Certificate) -> Option<i64> {
        if self.issuer != *certificate.issuer_name() {
            return None;
        }
        self.revoked.get(certificate.serial()).copied()
    }

    /// Checks the list's signature under `issuer`'s key. Nothing else is looked at.
    pub fn verify_signature(&self, issuer: &Certificate) -> Verdict {
        issuer.public_key().verify(&self.tbs, &self.signature)
    }

    /// True when name and key identifier (where both sides carry one) say that `issuer` made this list.
    pub(crate) fn names_issuer(&self, issuer: &Certificate) -> bool {
        let same_key = match (self.authority_key_id.as_deref(), issuer.subject_key_id()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        same_key && self.issuer == *issuer.subject_name()
    }
}

fn refuse_critical(extensions: &[Extension]) -> Result<(), Error> {
    match extensions.iter().find(|extension| extension.critical) {
        Some(extension) => Err(Error::CriticalExtension(extension.extn_id)),
        None => Ok(()),
    }
}
