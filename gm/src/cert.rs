//! Certificates: X.509 with SM2 keys and SM2-with-SM3 signatures, kept as the bytes that were received. Whether one may be
//! trusted is `chain.rs`'s question; `ca.rs` makes them.

use der::{Decode, Encode, Header, Reader, SliceReader, asn1::ObjectIdentifier};
use x509_cert::{
    TbsCertificate, Version,
    ext::{
        Extension,
        pkix::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, SubjectAltName, SubjectKeyIdentifier,
            name::GeneralName,
        },
    },
    name::Name,
};

use crate::{
    Error,
    asn1::{self, Envelope},
    signed::strict,
    sm2::{PublicKey, Verdict},
    sm3::{Hash, sm3},
};

pub(crate) const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
pub(crate) const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
pub(crate) const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
pub(crate) const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
pub(crate) const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
pub(crate) const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
/// id-kp-timeStamping.
pub(crate) const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
const KNOWN_CRITICAL: [ObjectIdentifier; 3] = [KEY_USAGE, SUBJECT_ALT_NAME, BASIC_CONSTRAINTS];
const LABEL: &str = "CERTIFICATE";

/// The purposes a certificate's keyUsage extension names (RFC 5280 4.2.1.3), as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage(u16);

impl KeyUsage {
    /// Signatures over anything but certificates and revocation lists.
    pub const DIGITAL_SIGNATURE: Self = Self(1);
    /// Signatures that bind the signer.
    pub const NON_REPUDIATION: Self = Self(1 << 1);
    /// Transport of keys.
    pub const KEY_ENCIPHERMENT: Self = Self(1 << 2);
    /// Encryption of data.
    pub const DATA_ENCIPHERMENT: Self = Self(1 << 3);
    /// Key agreement.
    pub const KEY_AGREEMENT: Self = Self(1 << 4);
    /// Signatures over certificates.
    pub const CERT_SIGN: Self = Self(1 << 5);
    /// Signatures over revocation lists.
    pub const CRL_SIGN: Self = Self(1 << 6);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True when every purpose of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True when the sets share a purpose.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn bits(self) -> u16 {
        self.0
    }
}

/// A certificate. Two are equal when their bytes are.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Vec<u8>,
    signature: Vec<u8>,
    parsed: TbsCertificate,
    public_key: PublicKey,
    id: Hash,
    ca: Option<BasicConstraints>,
    key_usage: Option<KeyUsage>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}
impl Eq for Certificate {}

impl Certificate {
    /// Reads the DER of one certificate with an SM2 key and an SM2-with-SM3 signature. Nothing is verified.
    ///
    /// # Errors
    /// [`Error::Der`] or [`Error::NotCanonical`] for damaged or trailing bytes; [`Error::SignatureAlgorithm`],
    /// [`Error::PublicKey`], [`Error::Version`] for certificates of another kind; [`Error::DoubleExtension`],
    /// [`Error::SerialForm`], [`Error::NamelessIssuer`], [`Error::Backwards`] for what no CA may write.
    pub fn from_der(bytes: &[u8]) -> Result<Self, Error> {
        let envelope = Envelope::open(bytes)?;
        check_serial_length(envelope.tbs)?;
        let parsed: TbsCertificate = strict(envelope.tbs)?;
        let serial = parsed.serial_number().as_bytes();
        if significant(serial).is_empty() || serial.first().is_some_and(|byte| *byte >= 0x80) {
            return Err(Error::SerialForm);
        }
        if parsed.issuer().is_empty() {
            return Err(Error::NamelessIssuer);
        }
        let validity = parsed.validity();
        if asn1::unix_s(validity.not_after) < asn1::unix_s(validity.not_before) {
            return Err(Error::Backwards);
        }
        if *parsed.signature() != envelope.algorithm {
            return Err(Error::SignatureAlgorithm);
        }
        let extensions: &[Extension] = parsed.extensions().map_or(&[], Vec::as_slice);
        match parsed.version() {
            Version::V3 => asn1::check_distinct(extensions)?,
            Version::V1 if extensions.is_empty() => {}
            _ => return Err(Error::Version),
        }
        let key_usage = asn1::extension::<x509_cert::ext::pkix::KeyUsage>(extensions, KEY_USAGE)?;
        let subject_key_id = asn1::extension::<SubjectKeyIdentifier>(extensions, SUBJECT_KEY_ID)?;
        let authority_key_id = asn1::extension::<AuthorityKeyIdentifier>(extensions, AUTHORITY_KEY_ID)?;
        Ok(Self {
            public_key: asn1::public_key(parsed.subject_public_key_info())?,
            id: sm3(&[bytes]),
            ca: asn1::extension::<BasicConstraints>(extensions, BASIC_CONSTRAINTS)?.filter(|found| found.ca),
            key_usage: key_usage.map(|usage| KeyUsage(usage.0.bits())),
            subject_key_id: subject_key_id.map(|id| id.0.as_bytes().to_vec()),
            authority_key_id: authority_key_id.and_then(|id| id.key_identifier).map(|id| id.as_bytes().to_vec()),
            der: bytes.to_vec(),
            tbs: envelope.tbs.to_vec(),
            signature: envelope.signature,
            parsed,
        })
    }

    /// Reads every `CERTIFICATE` block of a PEM text, in order; other blocks and text around them are passed over.
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

    /// The name of this certificate everywhere in the evidence: SM3 of its DER.
    pub fn id(&self) -> Hash {
        self.id
    }

    /// The holder's distinguished name, as RFC 4514 writes it (`CN=node-1,O=site,C=CN`).
    pub fn subject(&self) -> String {
        self.parsed.subject().to_string()
    }

    /// The issuer's distinguished name.
    pub fn issuer(&self) -> String {
        self.parsed.issuer().to_string()
    }

    /// The holder's common name, if there is exactly one and it is UTF8String or PrintableString. With two, a reader of the
    /// first and a reader of the last would see different holders.
    pub fn common_name(&self) -> Option<String> {
        crate::name::common_name(self.parsed.subject())
    }

    /// The serial number in lower-case hexadecimal, without leading zero bytes.
    pub fn serial_hex(&self) -> String {
        self.serial().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The holder's key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The same certificate with the same key, which has a table now.
    pub(crate) fn with_key(mut self, known: PublicKey) -> Self {
        self.public_key = known;
        self
    }

    /// First instant of validity, ns since 1970.
    pub fn not_before_ns(&self) -> i64 {
        asn1::unix_ns(self.parsed.validity().not_before)
    }

    /// Last second of validity, ns since 1970; `i64::MAX` for what lies after the year 2262.
    pub fn not_after_ns(&self) -> i64 {
        asn1::unix_ns(self.parsed.validity().not_after)
    }

    /// True when basicConstraints says `CA:TRUE`.
    pub fn is_ca(&self) -> bool {
        self.ca.is_some()
    }

    /// How many further CAs may stand below this one; `None` is no limit.
    pub fn path_len(&self) -> Option<u8> {
        self.ca.as_ref().and_then(|constraints| constraints.path_len_constraint)
    }

    /// The keyUsage extension, if there is one.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.key_usage
    }

    /// DNS names of the subjectAltName extension.
    pub fn dns_names(&self) -> Vec<String> {
        asn1::extension::<SubjectAltName>(self.extensions(), SUBJECT_ALT_NAME)
            .ok()
            .flatten()
            .map(|names| dns_names(&names.0))
            .unwrap_or_default()
    }

    /// True when subject and issuer are the same name.
    pub fn is_self_issued(&self) -> bool {
        self.parsed.subject() == self.parsed.issuer()
    }

    /// Checks this certificate's signature under `issuer`'s key, over the bytes as received. Nothing else is looked at:
    /// [`crate::chain::verify_chain`] judges.
    pub fn verify_signature(&self, issuer: &PublicKey) -> Verdict {
        issuer.verify(&self.tbs, &self.signature)
    }

    /// The signed bytes, as received (`openssl asn1parse -strparse 4 -noout -out F` writes the same).
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// The DER signature over [`Self::tbs`].
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    pub(crate) fn serial(&self) -> &[u8] {
        significant(self.parsed.serial_number().as_bytes())
    }

    /// The serial number as it stands in messages, header included.
    pub(crate) fn serial_der(&self) -> Result<Vec<u8>, Error> {
        Ok(self.parsed.serial_number().to_der()?)
    }

    pub(crate) fn subject_name(&self) -> &Name {
        self.parsed.subject()
    }

    pub(crate) fn issuer_name(&self) -> &Name {
        self.parsed.issuer()
    }

    pub(crate) fn subject_key_id(&self) -> Option<&[u8]> {
        self.subject_key_id.as_deref()
    }

    pub(crate) fn authority_key_id(&self) -> Option<&[u8]> {
        self.authority_key_id.as_deref()
    }

    pub(crate) fn is_version_1(&self) -> bool {
        self.parsed.version() == Version::V1
    }

    /// True for a certificate of a time-stamping authority: an extendedKeyUsage that is critical and names that purpose and no
    /// other (RFC 3161 2.3).
    pub fn is_for_time_stamping(&self) -> bool {
        let critical = self.extensions().iter().any(|found| found.extn_id == EXTENDED_KEY_USAGE && found.critical);
        let usage = asn1::extension::<ExtendedKeyUsage>(self.extensions(), EXTENDED_KEY_USAGE).ok().flatten();
        critical && usage.is_some_and(|usage| usage.0 == [TIME_STAMPING])
    }

    /// A critical extension that [`crate::chain`] does not know how to honour. It honours the extendedKeyUsage of an end entity for
    /// time-stamping, and not that of an issuer, which would bind what is below it.
    pub(crate) fn unknown_critical(&self, is_leaf: bool) -> Option<ObjectIdentifier> {
        let honoured = is_leaf && self.is_for_time_stamping();
        let unknown = |extension: &&Extension| {
            extension.critical
                && !KNOWN_CRITICAL.contains(&extension.extn_id)
                && !(honoured && extension.extn_id == EXTENDED_KEY_USAGE)
        };
        self.extensions().iter().find(unknown).map(|extension| extension.extn_id)
    }

    fn extensions(&self) -> &[Extension] {
        self.parsed.extensions().map_or(&[], Vec::as_slice)
    }
}

/// Refuses a serial number of more than 20 bytes before it is parsed, so that it has a reason of its own.
fn check_serial_length(tbs: &[u8]) -> Result<(), Error> {
    let mut reader = SliceReader::new(tbs)?;
    Header::decode(&mut reader)?;
    let mut header = Header::decode(&mut reader)?;
    if header.tag().is_context_specific() {
        reader.read_slice(header.length())?;
        header = Header::decode(&mut reader)?;
    }
    // A leading zero byte makes a number of 20 bytes positive.
    let value = reader.read_slice(header.length())?;
    if significant(value).len() > 20 { Err(Error::SerialForm) } else { Ok(()) }
}

/// The bytes of a number without leading zeros.
pub(crate) fn significant(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or(&[])
}

/// The DNS names among general names.
pub(crate) fn dns_names(names: &[GeneralName]) -> Vec<String> {
    let dns = |name: &GeneralName| match name {
        GeneralName::DnsName(text) => Some(text.as_str().to_owned()),
        _ => None,
    };
    names.iter().filter_map(dns).collect()
}
