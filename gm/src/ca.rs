//! A small certificate authority: roots, intermediates, end entities, revocation lists. For tests, demonstrations and sites
//! without a CA of their own; randomness and time are arguments, and it keeps no record of what it issued.

use der::{
    Sequence,
    asn1::{OctetString, Uint},
    flagset::FlagSet,
};
use x509_cert::{
    crl::{RevokedCert, TbsCertList},
    ext::{
        Extensions,
        pkix::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage as UsageBits, SubjectKeyIdentifier,
        },
    },
    name::Name,
    serial_number::SerialNumber,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
    time::{Time, Validity},
};

use crate::{
    Error,
    asn1::{self, make_extension, sm2_with_sm3},
    cert::{
        AUTHORITY_KEY_ID, BASIC_CONSTRAINTS, Certificate, EXTENDED_KEY_USAGE, KEY_USAGE, KeyUsage, SUBJECT_ALT_NAME,
        SUBJECT_KEY_ID, TIME_STAMPING,
    },
    crl::{CRL_NUMBER, Crl},
    csr::Csr,
    enveloped_key, name,
    sm2::{PublicKey, SecretKey},
    sm3::sm3,
};

/// Longest validity: ten years and leap days. Some readers refuse more.
pub const VALIDITY_DAYS_MAX: i64 = 3653;

/// What a certificate is for; it fixes basicConstraints and keyUsage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A CA that may have `path_len` further CAs below it; `None` is no limit.
    Authority {
        /// How many further CAs may stand below.
        path_len: Option<u8>,
    },
    /// An end entity that signs: digitalSignature and nonRepudiation.
    Signer,
    /// The encryption half of a double certificate: keyEncipherment, dataEncipherment, keyAgreement. It signs nothing.
    Recipient,
    /// A time-stamping authority: digitalSignature and nonRepudiation, and a critical extendedKeyUsage of timeStamping alone.
    TimeStamper,
}

/// What the issuer decides for one certificate.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// 8 to 20 fresh random bytes. The top bits are set to 01, so that the number is positive and keeps its length.
    pub serial: &'a [u8],
    /// First instant of validity, Unix seconds.
    pub not_before_s: i64,
    /// Last second of validity, Unix seconds; at most [`VALIDITY_DAYS_MAX`] days later.
    pub not_after_s: i64,
    /// DNS names of the subjectAltName; none leaves the extension out.
    pub dns_names: &'a [&'a str],
}

/// One line of a revocation list.
#[derive(Clone, Copy, Debug)]
pub struct Revocation<'a> {
    /// The certificate that is revoked.
    pub certificate: &'a Certificate,
    /// From when on, Unix seconds.
    pub at_s: i64,
}

/// Makes a self-signed root.
///
/// # Errors
/// [`Error::Name`], [`Error::Serial`], [`Error::Validity`], [`Error::DnsName`] for terms that cannot be granted;
/// [`Error::Sign`].
pub fn root(key: &SecretKey, subject: &str, path_len: Option<u8>, terms: &Terms<'_>) -> Result<Certificate, Error> {
    let subject = name::parse(subject)?;
    let public_key = key.public_key();
    let key_id = key_id(&public_key);
    let holder = Holder { subject: &subject, public_key: &public_key, role: Role::Authority { path_len } };
    build(&subject, &key_id, key, &holder, terms)
}

/// Issues a certificate for `public_key` under `issuer`.
///
/// # Errors
/// As [`root`], and [`Error::Issuer`] when `issuer_key` is not the key of `issuer`, or `issuer` may not sign this.
pub fn issue(
    issuer: &Certificate,
    issuer_key: &SecretKey,
    role: Role,
    subject: &str,
    public_key: &PublicKey,
    terms: &Terms<'_>,
) -> Result<Certificate, Error> {
    issue_named(issuer, issuer_key, &Holder { subject: &name::parse(subject)?, public_key, role }, terms)
}

/// Issues what `request` asks for, after checking that the asker holds the key. The names in the request are the
/// issuer's to judge: its subject is taken over, its DNS names only if `terms` repeats them.
///
/// # Errors
/// As [`issue`], and [`Error::BadSignature`] when the request is not signed with its own key.
pub fn issue_for(
    issuer: &Certificate,
    issuer_key: &SecretKey,
    role: Role,
    request: &Csr,
    terms: &Terms<'_>,
) -> Result<Certificate, Error> {
    if !request.verify().is_valid() {
        return Err(Error::BadSignature);
    }
    if request.subject_name().is_empty() {
        return Err(Error::Name);
    }
    let holder = Holder { subject: request.subject_name(), public_key: request.public_key(), role };
    issue_named(issuer, issuer_key, &holder, terms)
}

/// Both certificates of a double certificate (GM/T 0015), and the encryption key pair on its way to the holder.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Over the key of the request: it signs.
    pub signing: Certificate,
    /// Over a key pair that the CA made: it receives.
    pub encryption: Certificate,
    /// DER `SM2EnvelopedKey` of that pair, encrypted to the key of the request; see [`crate::enveloped_key::open`].
    pub delivered: Vec<u8>,
    /// The pair itself, for a CA that must keep it; wiped when dropped.
    pub pair: SecretKey,
}

/// Issues the double certificate that `request` asks for: the same name, two keys. `terms` are those of the signing and of the
/// encryption certificate, each with a serial number of its own; `fill` gives the randomness of the encryption key pair.
///
/// # Errors
/// As [`issue_for`]; [`Error::Serial`] for the same serial number twice; [`Error::Randomness`] when `fill` fails.
pub fn issue_pair(
    issuer: &Certificate,
    issuer_key: &SecretKey,
    request: &Csr,
    terms: &[Terms<'_>; 2],
    mut fill: impl FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<Pair, Error> {
    let [signing, encryption] = terms;
    if serial(signing.serial)? == serial(encryption.serial)? {
        return Err(Error::Serial);
    }
    let signing = issue_for(issuer, issuer_key, Role::Signer, request, signing)?;
    let pair = SecretKey::generate(&mut fill)?;
    let holder = Holder { subject: request.subject_name(), public_key: &pair.public_key(), role: Role::Recipient };
    let encryption = issue_named(issuer, issuer_key, &holder, encryption)?;
    let delivered = enveloped_key::wrap(&pair, request.public_key(), fill)?;
    Ok(Pair { signing, encryption, delivered, pair })
}

/// Makes revocation list `number` of `issuer`. A later list must repeat every line of the earlier ones.
///
/// # Errors
/// [`Error::Issuer`] when `issuer_key` is not the key of `issuer`, `issuer` may not sign lists, or a certificate is not its
/// own; [`Error::Validity`] for times outside the years 1970 to 9999 or a next list due before this one; [`Error::Sign`].
pub fn crl(
    issuer: &Certificate,
    issuer_key: &SecretKey,
    number: u64,
    this_update_s: i64,
    next_update_s: i64,
    revocations: &[Revocation<'_>],
) -> Result<Crl, Error> {
    check_issuer(issuer, issuer_key, KeyUsage::CRL_SIGN)?;
    if next_update_s <= this_update_s {
        return Err(Error::Validity);
    }
    let mut revoked: Vec<RevokedCert> = Vec::with_capacity(revocations.len());
    for line in revocations {
        if line.certificate.issuer_name() != issuer.subject_name() {
            return Err(Error::Issuer);
        }
        revoked.push(RevokedCert {
            serial_number: SerialNumber::new(line.certificate.serial())?,
            revocation_date: asn1::time_from_unix_s(line.at_s)?,
            crl_entry_extensions: None,
        });
    }
    let extensions = vec![
        make_extension(AUTHORITY_KEY_ID, false, &authority_key_id(&issuer_key_id(issuer))?)?,
        make_extension(CRL_NUMBER, false, &Uint::new(&number.to_be_bytes())?)?,
    ];
    let list: TbsCertList = TbsCertList {
        version: x509_cert::Version::V2,
        signature: sm2_with_sm3(),
        issuer: issuer.subject_name().clone(),
        this_update: asn1::time_from_unix_s(this_update_s)?,
        next_update: Some(asn1::time_from_unix_s(next_update_s)?),
        revoked_certificates: if revoked.is_empty() { None } else { Some(revoked) },
        crl_extensions: Some(extensions),
    };
    Crl::from_der(&asn1::seal(&list, issuer_key)?)
}

struct Holder<'a> {
    subject: &'a Name,
    public_key: &'a PublicKey,
    role: Role,
}

fn issue_named(
    issuer: &Certificate,
    issuer_key: &SecretKey,
    holder: &Holder<'_>,
    terms: &Terms<'_>,
) -> Result<Certificate, Error> {
    check_issuer(issuer, issuer_key, KeyUsage::CERT_SIGN)?;
    if let Role::Authority { path_len } = holder.role {
        // A CA below must be allowed, and may not promise more room than it stands in.
        let fits = match (issuer.path_len(), path_len) {
            (None, _) => true,
            (Some(room), Some(wanted)) => wanted < room,
            (Some(room), None) => room > 0,
        };
        if !fits {
            return Err(Error::Issuer);
        }
    }
    build(issuer.subject_name(), &issuer_key_id(issuer), issuer_key, holder, terms)
}

fn check_issuer(issuer: &Certificate, issuer_key: &SecretKey, needed: KeyUsage) -> Result<(), Error> {
    let may_sign = issuer.key_usage().is_none_or(|usage| usage.contains(needed));
    let is_pair = *issuer.public_key() == issuer_key.public_key();
    if issuer.is_ca() && may_sign && is_pair { Ok(()) } else { Err(Error::Issuer) }
}

/// `TBSCertificate` of RFC 5280 as this crate writes it: always v3, never unique identifiers.
#[derive(Sequence)]
struct Tbs {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: u8,
    serial: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    public_key: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Extensions,
}

fn build(
    issuer: &Name,
    issuer_key_id: &[u8],
    issuer_key: &SecretKey,
    holder: &Holder<'_>,
    terms: &Terms<'_>,
) -> Result<Certificate, Error> {
    let (not_before, not_after) = validity(terms)?;
    let mut extensions = role_extensions(holder.role)?;
    let subject_key_id = SubjectKeyIdentifier(OctetString::new(key_id(holder.public_key))?);
    extensions.push(make_extension(SUBJECT_KEY_ID, false, &subject_key_id)?);
    extensions.push(make_extension(AUTHORITY_KEY_ID, false, &authority_key_id(issuer_key_id)?)?);
    if !terms.dns_names.is_empty() {
        extensions.push(make_extension(SUBJECT_ALT_NAME, false, &name::alternative(terms.dns_names)?)?);
    }
    let tbs = Tbs {
        version: 2,
        serial: serial(terms.serial)?,
        signature: sm2_with_sm3(),
        issuer: issuer.clone(),
        validity: Validity::new(not_before, not_after),
        subject: holder.subject.clone(),
        public_key: asn1::public_key_info(holder.public_key)?,
        extensions,
    };
    Certificate::from_der(&asn1::seal(&tbs, issuer_key)?)
}

/// End entities get no basicConstraints: `CA:FALSE` encodes as an empty SEQUENCE, which some readers refuse.
fn role_extensions(role: Role) -> Result<Extensions, Error> {
    let (ca, usage) = match role {
        Role::Authority { path_len } => {
            let constraints = BasicConstraints { ca: true, path_len_constraint: path_len };
            (Some(constraints), KeyUsage::CERT_SIGN.with(KeyUsage::CRL_SIGN))
        }
        Role::Signer | Role::TimeStamper => (None, KeyUsage::DIGITAL_SIGNATURE.with(KeyUsage::NON_REPUDIATION)),
        Role::Recipient => {
            (None, KeyUsage::KEY_ENCIPHERMENT.with(KeyUsage::DATA_ENCIPHERMENT).with(KeyUsage::KEY_AGREEMENT))
        }
    };
    let mut extensions = Extensions::new();
    if let Some(constraints) = ca {
        extensions.push(make_extension(BASIC_CONSTRAINTS, true, &constraints)?);
    }
    extensions.push(make_extension(KEY_USAGE, true, &UsageBits(FlagSet::new_truncated(usage.bits())))?);
    if role == Role::TimeStamper {
        extensions.push(make_extension(EXTENDED_KEY_USAGE, true, &ExtendedKeyUsage(vec![TIME_STAMPING]))?);
    }
    Ok(extensions)
}

fn validity(terms: &Terms<'_>) -> Result<(Time, Time), Error> {
    let length_s = terms.not_after_s.checked_sub(terms.not_before_s).ok_or(Error::Validity)?;
    if length_s <= 0 || length_s > VALIDITY_DAYS_MAX * 86_400 {
        return Err(Error::Validity);
    }
    Ok((asn1::time_from_unix_s(terms.not_before_s)?, asn1::time_from_unix_s(terms.not_after_s)?))
}

fn serial(random: &[u8]) -> Result<SerialNumber, Error> {
    let mut bytes = random.to_vec();
    match bytes.first_mut() {
        Some(first) if (8..=20).contains(&random.len()) => *first = (*first & 0x3f) | 0x40,
        _ => return Err(Error::Serial),
    }
    Ok(SerialNumber::new(&bytes)?)
}

/// Names a key inside certificates: the first 20 bytes of SM3 over the point.
fn key_id(key: &PublicKey) -> Vec<u8> {
    sm3(&[&key.to_sec1()]).iter().copied().take(20).collect()
}

/// What the issuer calls its own key; a CA of other make may have chosen otherwise than [`key_id`].
fn issuer_key_id(issuer: &Certificate) -> Vec<u8> {
    issuer.subject_key_id().map_or_else(|| key_id(issuer.public_key()), <[u8]>::to_vec)
}

fn authority_key_id(key_id: &[u8]) -> Result<AuthorityKeyIdentifier, Error> {
    Ok(AuthorityKeyIdentifier { key_identifier: Some(OctetString::new(key_id)?), ..Default::default() })
}
