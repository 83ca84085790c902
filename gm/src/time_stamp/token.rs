//! The token: what it says (`TSTInfo`) and whether its authority signed that. CMS in the form of RFC 3161 2.4.2: one signer, whose
//! certificate the signed attributes name.

use der::asn1::ObjectIdentifier;
use sha2::{Digest as _, Sha256};

use crate::{
    Certificate, Usage, Verdict,
    fields::{self, Fields, GENERAL_TIME, INTEGER, Malformed, OCTETS, SEQUENCE, SET, constructed, primitive},
    judgement::{Fault, Judgement, Refusal, Trust},
    message::{
        CERTIFICATES_MAX, SIGNERS_MAX, SM2_SIGNATURE, SM2_WITH_SM3, SM3, SignedAttributes, is_named, plain_algorithm,
        read_attributes, read_issuer_and_serial, shown_name,
    },
    sm3::{Hash, sm3},
    time_stamp::{BYTES_MAX, read_implicit, read_imprint, read_number, read_true},
};

/// signedData of CMS (RFC 5652).
pub(super) const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// signedData of GM/T 0010, under which some national authorities answer.
const SIGNED_DATA_GM: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.6.1.4.2.2");
/// id-ct-TSTInfo.
pub(super) const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SECOND_NS: i64 = 1_000_000_000;

/// What a token says. Nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// SM3 of the data that is said to have existed.
    pub imprint: Hash,
    /// When, ns since 1970-01-01Z (genTime).
    pub time_ns: i64,
    /// How far that may be off, ns, where the authority says so.
    pub accuracy_ns: Option<u64>,
    /// The authority's number for it, lower-case hexadecimal.
    pub serial: String,
    /// The policy it was made under, in dots.
    pub policy: String,
    /// The request's nonce.
    pub nonce: Option<Vec<u8>>,
}

/// A token that its authority signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// What it says.
    pub said: Said,
    /// Who says it.
    pub authority: Certificate,
}

/// The one signer, as received.
struct Signer<'a> {
    who: Who<'a>,
    digest: ObjectIdentifier,
    attributes: SignedAttributes<'a>,
    algorithm: ObjectIdentifier,
    signature: &'a [u8],
}

/// How the signer names its certificate.
enum Who<'a> {
    /// By the DER of the issuer's name, and a number.
    Issued(&'a [u8], &'a [u8]),
    /// By the identifier of its key.
    Key(&'a [u8]),
}

struct Token<'a> {
    info: &'a [u8],
    said: Said,
    certificates: Vec<Certificate>,
    signer: Signer<'a>,
}

/// What a token says, unverified.
///
/// # Errors
/// [`Malformed`]: which member, and what of it; an imprint that is not SM3's among them.
pub fn read(token: &[u8]) -> Result<Said, Malformed> {
    open(token).map(|token| token.said)
}

/// Judges a token over data whose SM3 is `imprint`. The authority must have a certificate for time-stamping alone that `trust`
/// holds good at the time the token names; [`Trust::at_ns`] is not looked at.
pub fn verify(token: &[u8], imprint: &Hash, trust: &Trust<'_>) -> Judgement<Stamp> {
    judge(token, imprint, trust).into()
}

fn judge(token: &[u8], imprint: &Hash, trust: &Trust<'_>) -> Result<Stamp, Fault> {
    let token = open(token)?;
    if token.said.imprint != *imprint {
        return Err(Refusal::Imprint.into());
    }
    let signer = &token.signer;
    if ![SM2_SIGNATURE, SM2_WITH_SM3].contains(&signer.algorithm) || signer.digest != SM3 {
        return Err(Refusal::ForeignAlgorithm(signer.algorithm.to_string()).into());
    }
    let known = token.certificates.iter().chain(trust.known);
    let certificate = signer.certificate(known)?;
    trust.check_at(certificate, &token.certificates, &[], Usage::TimeStamping, token.said.time_ns)?;
    signer.attributes.check(TST_INFO, &sm3(&[token.info]), certificate)?;
    check_signing_certificate(signer.attributes.signing_certificate, certificate)?;
    let signed = fields::value(SET, &[signer.attributes.content]);
    match certificate.public_key().verify(&signed, signer.signature) {
        Verdict::Valid => Ok(Stamp { authority: certificate.clone(), said: token.said }),
        Verdict::Invalid => Err(Refusal::Signature(certificate.subject()).into()),
        Verdict::Malformed => Err(Malformed::new("signature", "not the strict DER of an SM2 signature").into()),
    }
}

impl Signer<'_> {
    fn certificate<'c>(&self, mut at_hand: impl Iterator<Item = &'c Certificate>) -> Result<&'c Certificate, Refusal> {
        let found = at_hand.find(|certificate| match self.who {
            Who::Issued(issuer, serial) => is_named(certificate, issuer, serial),
            Who::Key(id) => certificate.subject_key_id() == Some(id),
        });
        found.ok_or_else(|| {
            Refusal::SignerUnknown(match self.who {
                Who::Issued(issuer, serial) => format!("{} of {}", hexadecimal(serial), shown_name(issuer)),
                Who::Key(id) => format!("with the key {}", hexadecimal(id)),
            })
        })
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The signed attributes must name the certificate by a hash of it (RFC 5816): else another one with the same name and number
/// could be put in its place.
fn check_signing_certificate(value: Option<&[u8]>, certificate: &Certificate) -> Result<(), Fault> {
    const PART: &str = "signingCertificateV2";
    let wrong = |why| Refusal::Attribute { attribute: PART, why };
    let value = value.ok_or_else(|| wrong("is missing"))?;
    let mut inside = Fields::of_sequence(value, PART)?;
    let mut first = Fields::of(Fields::of(inside.take(SEQUENCE, PART)?.content).take(SEQUENCE, PART)?.content);
    let algorithm = match first.optional(SEQUENCE, PART)? {
        Some(found) => plain_algorithm(&mut Fields::of(found.whole), PART)?,
        None => SHA_256,
    };
    let found = first.take(OCTETS, PART)?.content;
    let is_it = match algorithm {
        SM3 => found == certificate.id(),
        SHA_256 => found == Sha256::digest(certificate.der()).as_slice(),
        _ => return Err(wrong("names the certificate by a hash that is neither SM3 nor SHA-256").into()),
    };
    if is_it { Ok(()) } else { Err(wrong("names another certificate").into()) }
}

fn open(bytes: &[u8]) -> Result<Token<'_>, Malformed> {
    if bytes.len() > BYTES_MAX {
        return Err(Malformed::new("ContentInfo", format!("longer than {BYTES_MAX} bytes")));
    }
    let mut outer = Fields::of_sequence(bytes, "ContentInfo")?;
    let kind = outer.oid("contentType")?;
    if kind != SIGNED_DATA && kind != SIGNED_DATA_GM {
        return Err(Malformed::new("contentType", format!("{kind} is not signedData")));
    }
    let content = outer.take(constructed(0), "content")?.content;
    outer.finish("ContentInfo")?;
    let mut all = Fields::of_sequence(content, "SignedData")?;
    let version = all.number("SignedData.version")?;
    if version != 3 && (kind, version) != (SIGNED_DATA_GM, 1) {
        return Err(Malformed::new("SignedData.version", format!("3 expected, {version} found")));
    }
    let digests =
        Fields::of(all.take(SET, "digestAlgorithms")?.content).all(SEQUENCE, SIGNERS_MAX, "digestAlgorithms")?;
    let mut inner = Fields::of(all.take(SEQUENCE, "encapContentInfo")?.content);
    let kind = inner.oid("eContentType")?;
    if kind != TST_INFO {
        return Err(Malformed::new("eContentType", format!("{kind} is not TSTInfo")));
    }
    let explicit = inner.take(constructed(0), "eContent")?.content;
    inner.finish("encapContentInfo")?;
    let mut explicit = Fields::of(explicit);
    let info = explicit.take(OCTETS, "eContent")?.content;
    explicit.finish("eContent")?;
    let mut certificates = Vec::new();
    if let Some(set) = all.optional(constructed(0), "certificates")? {
        // One under another algorithm is nobody's here.
        let found = Fields::of(set.content).all(SEQUENCE, CERTIFICATES_MAX, "certificates")?;
        certificates.extend(found.iter().filter_map(|one| Certificate::from_der(one.whole).ok()));
    }
    all.optional(constructed(1), "crls")?;
    let signers = Fields::of(all.take(SET, "signerInfos")?.content).all(SEQUENCE, SIGNERS_MAX, "signerInfos")?;
    all.finish("SignedData")?;
    let [signer] = signers.as_slice() else {
        return Err(Malformed::new("signerInfos", format!("one expected, {} found", signers.len())));
    };
    let signer = read_signer(signer.content)?;
    for digest in digests {
        let found = plain_algorithm(&mut Fields::of(digest.whole), "digestAlgorithms")?;
        if found != signer.digest {
            return Err(Malformed::new("digestAlgorithms", format!("{found} is not the signer's")));
        }
    }
    Ok(Token { info, said: read_info(info)?, certificates, signer })
}

fn read_signer(content: &[u8]) -> Result<Signer<'_>, Malformed> {
    let mut all = Fields::of(content);
    let who = match all.number("SignerInfo.version")? {
        1 => {
            let (issuer, serial) = read_issuer_and_serial(&mut all)?;
            Who::Issued(issuer, serial)
        }
        3 => Who::Key(all.take(primitive(0), "subjectKeyIdentifier")?.content),
        other => return Err(Malformed::new("SignerInfo.version", format!("1 or 3 expected, {other} found"))),
    };
    let digest = plain_algorithm(&mut all, "digestAlgorithm")?;
    let attributes = read_attributes(all.take(constructed(0), "signedAttrs")?.content)?;
    // Others have parameters; they are their readers' business.
    let algorithm = Fields::of(all.take(SEQUENCE, "signatureAlgorithm")?.content).oid("signatureAlgorithm")?;
    let signature = all.take(OCTETS, "signature")?.content;
    all.optional(constructed(1), "unsignedAttrs")?;
    all.finish("SignerInfo")?;
    Ok(Signer { who, digest, attributes, algorithm, signature })
}

fn read_info(bytes: &[u8]) -> Result<Said, Malformed> {
    let mut all = Fields::of_sequence(bytes, "TSTInfo")?;
    all.version(1, "TSTInfo.version")?;
    let policy = all.oid("policy")?.to_string();
    let imprint = read_imprint(&mut all)?;
    let serial = read_number(all.take(INTEGER, "serialNumber")?.whole, "serialNumber")?;
    let time_ns = read_time(all.take(GENERAL_TIME, "genTime")?.content)?;
    let accuracy_ns = all.optional(SEQUENCE, "accuracy")?.map(|value| read_accuracy(value.content)).transpose()?;
    read_true(&mut all, "ordering")?;
    let nonce = all.optional(INTEGER, "nonce")?;
    let nonce = nonce.map(|value| read_number(value.whole, "nonce")).transpose()?;
    all.optional(constructed(0), "tsa")?;
    all.optional(constructed(1), "extensions")?;
    all.finish("TSTInfo")?;
    Ok(Said { imprint, time_ns, accuracy_ns, serial: hexadecimal(&serial), policy, nonce })
}

/// `YYYYMMDDHHMMSS[.f]Z`, where the fraction does not end with a zero.
fn read_time(content: &[u8]) -> Result<i64, Malformed> {
    const PART: &str = "genTime";
    let wrong = || Malformed::new(PART, "not a time of the form YYYYMMDDHHMMSS[.f]Z");
    let (whole, fraction) = match content.iter().position(|byte| *byte == b'.') {
        None => (content.to_vec(), &[][..]),
        Some(dot) => {
            let (whole, fraction) = (content.get(..dot), content.get(dot + 1..));
            let fraction = fraction.and_then(|rest| rest.strip_suffix(b"Z")).ok_or_else(wrong)?;
            if fraction.is_empty() || fraction.ends_with(b"0") || !fraction.iter().all(u8::is_ascii_digit) {
                return Err(wrong());
            }
            ([whole.unwrap_or_default(), b"Z"].concat(), fraction)
        }
    };
    let seconds = Fields::of(&fields::value(GENERAL_TIME, &[&whole])).time_s(PART)?;
    // Digits beyond the ninth are less than what is kept.
    let ns = (0..9).fold(0_i64, |ns, at| ns * 10 + fraction.get(at).map_or(0, |digit| i64::from(digit - b'0')));
    seconds.checked_mul(SECOND_NS).and_then(|whole| whole.checked_add(ns)).ok_or_else(wrong)
}

fn read_accuracy(content: &[u8]) -> Result<u64, Malformed> {
    const PART: &str = "accuracy";
    let mut all = Fields::of(content);
    let seconds = all.optional(INTEGER, PART)?.map(|value| Fields::of(value.whole).number(PART)).transpose()?;
    let [millis, micros] = [read_implicit(&mut all, 0, PART)?, read_implicit(&mut all, 1, PART)?];
    all.finish(PART)?;
    let below = |found: Option<u32>| found.is_none_or(|found| (1..=999).contains(&found));
    if !below(millis) || !below(micros) {
        return Err(Malformed::new(PART, "millis and micros go from 1 to 999"));
    }
    let part = |found: Option<u32>, ns: u64| u64::from(found.unwrap_or(0)) * ns;
    Ok(part(seconds, 1_000_000_000) + part(millis, 1_000_000) + part(micros, 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_form() {
        for (text, want) in [
            ("20261129170000Z", Some(1_795_971_600_000_000_000)),
            ("20261129170000.5Z", Some(1_795_971_600_500_000_000)),
            ("20261129170000.000000001Z", Some(1_795_971_600_000_000_001)),
            ("20261129170000.0000000019Z", Some(1_795_971_600_000_000_001)),
            ("20261129170000.50Z", None),
            ("20261129170000.Z", None),
            ("20261129170000.5", None),
            ("20261129170000.5+08", None),
            ("20261329170000.5Z", None),
            (".5Z", None),
            ("", None),
        ] {
            assert_eq!(read_time(text.as_bytes()).ok(), want, "{text}");
        }
    }

    #[test]
    fn accuracies_are_sums() {
        for (bytes, want) in [
            (&[2, 1, 1, 0x80, 1, 5, 0x81, 1, 7][..], Some(1_005_007_000)),
            (&[0x81, 2, 3, 0xe7], Some(999_000)),
            (&[], Some(0)),
            (&[0x80, 1, 0], None),
            (&[0x80, 2, 3, 0xe8], None),
            (&[0x80, 2, 0, 5], None),
            (&[0x81, 1, 7, 0x80, 1, 5], None),
        ] {
            assert_eq!(read_accuracy(bytes).ok(), want, "{bytes:x?}");
        }
    }
}
