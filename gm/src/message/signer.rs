//! Who signed a message and over what: `SignerInfo` with or without signed attributes, made, read and verified. The message
//! around it is in `signed_data.rs` and `signed_enveloped.rs`.

use der::{Decode, Encode, asn1::ObjectIdentifier};

use crate::{
    Certificate, Error, Sign, Usage, Verdict,
    cert::significant,
    fields::{self, Fields, INTEGER, Malformed, OCTETS, SEQUENCE, SET, constructed},
    judgement::{Fault, Refusal, Trust},
    message::{ContentType, SIGNERS_MAX, algorithm, oid, plain_algorithm, shown_name},
    sm3::{Hash, sm3},
};

pub(crate) const SM3: ObjectIdentifier = oid("1.2.156.10197.1.401");
pub(crate) const SM2_SIGNATURE: ObjectIdentifier = oid("1.2.156.10197.1.301.1");
pub(crate) const SM2_WITH_SM3: ObjectIdentifier = oid("1.2.156.10197.1.501");
pub(crate) const CONTENT_TYPE: ObjectIdentifier = oid("1.2.840.113549.1.9.3");
pub(crate) const MESSAGE_DIGEST: ObjectIdentifier = oid("1.2.840.113549.1.9.4");
const SIGNING_TIME: ObjectIdentifier = oid("1.2.840.113549.1.9.5");
/// ESS signingCertificateV2 (RFC 5816).
pub(crate) const SIGNING_CERTIFICATE_V2: ObjectIdentifier = oid("1.2.840.113549.1.9.16.2.47");
const ATTRIBUTES_MAX: usize = 32;

/// How the signature algorithm is called in a message; the signature is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// SM2-1 digital signature, `1.2.156.10197.1.301.1`: the standard's.
    #[default]
    Sm2,
    /// SM2-with-SM3, `1.2.156.10197.1.501`: what BouncyCastle reads and writes.
    Sm2WithSm3,
}

impl Algorithm {
    fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Sm2 => SM2_SIGNATURE,
            Self::Sm2WithSm3 => SM2_WITH_SM3,
        }
    }
}

/// Whether a signer signs the content alone, or attributes that hold its digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attributes {
    /// The content octets are signed.
    #[default]
    None,
    /// contentType and messageDigest are signed, and a time if there is one (Unix seconds; it is the signer's claim).
    Signed {
        /// signingTime.
        signing_time_s: Option<i64>,
    },
}

/// Who signs, and how.
#[derive(Clone, Copy, Debug)]
pub struct Signing<'a> {
    /// Who holds the key.
    pub key: &'a dyn Sign,
    /// Its certificate, which goes into the message.
    pub certificate: &'a Certificate,
    /// Intermediate certificates that go along.
    pub along: &'a [Certificate],
    /// How the signature algorithm is called.
    pub algorithm: Algorithm,
    /// Over what.
    pub attributes: Attributes,
}

impl Signing<'_> {
    /// The certificate must be the key's, and say that it signs.
    fn check(&self) -> Result<(), Error> {
        if *self.certificate.public_key() != self.key.public_key() {
            return Err(Error::NotAPair);
        }
        crate::chain::check_usage(self.certificate, Usage::Signing)?;
        Ok(())
    }

    /// The certificates as `[0] IMPLICIT SET OF`.
    pub(super) fn certificates(&self) -> Vec<u8> {
        let mut all: Vec<Vec<u8>> = vec![self.certificate.der().to_vec()];
        for certificate in self.along.iter().filter(|certificate| *certificate != self.certificate) {
            all.push(certificate.der().to_vec());
        }
        all.sort();
        all.dedup();
        fields::set_of(constructed(0), all)
    }

    /// Signs `content` and makes the `SignerInfo`.
    pub(super) fn signer_info(&self, content: &[u8]) -> Result<Vec<u8>, Error> {
        self.check()?;
        let attributes = match self.attributes {
            Attributes::None => None,
            Attributes::Signed { signing_time_s } => Some(make_attributes(content, signing_time_s)?),
        };
        let signature = match &attributes {
            None => self.key.sign(content)?,
            Some(members) => self.key.sign(&fields::set_of(SET, members.clone()))?,
        };
        let issuer = self.certificate.issuer_name().to_der()?;
        let serial = self.certificate.serial_der()?;
        Ok(fields::sequence(&[
            &fields::number(1)?,
            &fields::sequence(&[&issuer, &serial]),
            &algorithm(SM3)?,
            &attributes.map_or_else(Vec::new, |members| fields::set_of(constructed(0), members)),
            &algorithm(self.algorithm.oid())?,
            &fields::octets(&signature),
        ]))
    }
}

/// An attribute with its one value, as written.
pub(crate) fn attribute(kind: ObjectIdentifier, value: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(fields::sequence(&[&kind.to_der()?, &fields::value(SET, &[value])]))
}

fn make_attributes(content: &[u8], signing_time_s: Option<i64>) -> Result<Vec<Vec<u8>>, Error> {
    let mut made = vec![
        attribute(CONTENT_TYPE, &ContentType::Data.oid().to_der()?)?,
        attribute(MESSAGE_DIGEST, &fields::octets(&sm3(&[content])))?,
    ];
    if let Some(time_s) = signing_time_s {
        made.push(attribute(SIGNING_TIME, &crate::asn1::time_from_unix_s(time_s)?.to_der()?)?);
    }
    Ok(made)
}

/// One signer of a message whose signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The certificate, trusted for signing.
    pub certificate: Certificate,
    /// How the message calls the algorithm.
    pub algorithm: Algorithm,
    /// When the signer says that it signed, Unix seconds. Nobody confirms it.
    pub signing_time_s: Option<i64>,
    /// Whether attributes were signed, or the content itself.
    pub with_attributes: bool,
}

/// A `SignerInfo` as received.
#[derive(Debug)]
pub(super) struct SignerInfo<'a> {
    issuer: &'a [u8],
    serial: &'a [u8],
    attributes: Option<SignedAttributes<'a>>,
    algorithm: Algorithm,
    signature: &'a [u8],
}

#[derive(Debug)]
pub(crate) struct SignedAttributes<'a> {
    /// The content of the set, which is signed behind the tag and length of a SET.
    pub(crate) content: &'a [u8],
    kind: Option<ObjectIdentifier>,
    digest: Option<&'a [u8]>,
    time_s: Option<i64>,
    /// DER of `SigningCertificateV2`.
    pub(crate) signing_certificate: Option<&'a [u8]>,
}

/// Reads the set of signers, `signerInfos`.
pub(super) fn read_signers<'a>(fields: &mut Fields<'a>) -> Result<Vec<SignerInfo<'a>>, Malformed> {
    let set = fields.take(SET, "signerInfos")?;
    let all = Fields::of(set.content).all(SEQUENCE, SIGNERS_MAX, "signerInfos")?;
    all.into_iter().map(|one| read_signer(one.content)).collect()
}

/// Reads `digestAlgorithms`: SM3 and nothing else.
pub(super) fn read_digests(fields: &mut Fields<'_>) -> Result<(), Malformed> {
    const PART: &str = "digestAlgorithms";
    let set = fields.take(SET, PART)?;
    // Some write it once for each signer.
    let mut all = Fields::of(set.content);
    let mut count = 0;
    while count < SIGNERS_MAX && !all.is_empty() {
        if plain_algorithm(&mut all, PART)? != SM3 {
            return Err(Malformed::new(PART, "not SM3"));
        }
        count += 1;
    }
    all.finish(PART)?;
    if count > 0 { Ok(()) } else { Err(Malformed::new(PART, "SM3 expected")) }
}

/// `digestAlgorithms` as written.
pub(crate) fn digests() -> Result<Vec<u8>, Error> {
    Ok(fields::set_of(SET, vec![algorithm(SM3)?]))
}

fn read_signer(content: &[u8]) -> Result<SignerInfo<'_>, Malformed> {
    let mut fields = Fields::of(content);
    fields.version(1, "SignerInfo.version")?;
    let (issuer, serial) = read_issuer_and_serial(&mut fields)?;
    if plain_algorithm(&mut fields, "digestAlgorithm")? != SM3 {
        return Err(Malformed::new("digestAlgorithm", "not SM3"));
    }
    let attributes = fields.optional(constructed(0), "authenticatedAttributes")?;
    let attributes = attributes.map(|set| read_attributes(set.content)).transpose()?;
    let named = plain_algorithm(&mut fields, "digestEncryptionAlgorithm")?;
    let algorithm = match named {
        SM2_SIGNATURE => Algorithm::Sm2,
        SM2_WITH_SM3 => Algorithm::Sm2WithSm3,
        other => return Err(Malformed::new("digestEncryptionAlgorithm", format!("{other} is not SM2"))),
    };
    let signature = fields.take(OCTETS, "encryptedDigest")?.content;
    if let Some(set) = fields.optional(constructed(1), "unauthenticatedAttributes")? {
        read_attributes(set.content)?;
    }
    fields.finish("SignerInfo")?;
    Ok(SignerInfo { issuer, serial, attributes, algorithm, signature })
}

/// `IssuerAndSerialNumber`: the DER of the name, and the content of the number without leading zeros.
pub(crate) fn read_issuer_and_serial<'a>(fields: &mut Fields<'a>) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    const PART: &str = "issuerAndSerialNumber";
    let mut inside = Fields::of(fields.take(SEQUENCE, PART)?.content);
    let issuer = inside.take(SEQUENCE, PART)?.whole;
    let serial = inside.take(INTEGER, PART)?;
    der::asn1::IntRef::from_der(serial.whole).map_err(|_| Malformed::new(PART, "not the DER of a number"))?;
    inside.finish(PART)?;
    Ok((issuer, significant(serial.content)))
}

/// Attributes must stand in the order of a DER SET, each kind once: otherwise two readers could see two messages.
pub(crate) fn read_attributes(content: &[u8]) -> Result<SignedAttributes<'_>, Malformed> {
    const PART: &str = "attributes";
    let all = Fields::of(content).all(SEQUENCE, ATTRIBUTES_MAX, PART)?;
    if all.is_empty() {
        return Err(Malformed::new(PART, "an empty set"));
    }
    if all.windows(2).any(|pair| matches!(pair, [one, next] if one.whole >= next.whole)) {
        return Err(Malformed::new(PART, "not in the order of a DER set"));
    }
    let mut kinds = Vec::with_capacity(all.len());
    let mut found = SignedAttributes { content, kind: None, digest: None, time_s: None, signing_certificate: None };
    for one in all {
        let mut attribute = Fields::of(one.content);
        let kind = attribute.oid(PART)?;
        let values = attribute.take(SET, PART)?;
        attribute.finish(PART)?;
        if kinds.contains(&kind) {
            return Err(Malformed::new(PART, format!("{kind} stands twice")));
        }
        kinds.push(kind);
        let mut values = Fields::of(values.content);
        match kind {
            CONTENT_TYPE => found.kind = Some(values.oid("contentType attribute")?),
            MESSAGE_DIGEST => found.digest = Some(values.take(OCTETS, "messageDigest attribute")?.content),
            SIGNING_TIME => found.time_s = Some(values.time_s("signingTime attribute")?),
            SIGNING_CERTIFICATE_V2 => {
                found.signing_certificate = Some(values.take(SEQUENCE, "signingCertificateV2 attribute")?.whole);
            }
            _ => {
                while !values.is_empty() {
                    values.any(PART)?;
                }
            }
        }
        values.finish(PART)?;
    }
    Ok(found)
}

impl SignerInfo<'_> {
    /// The certificate that the signer names, among those at hand.
    pub(super) fn certificate<'c>(
        &self,
        mut at_hand: impl Iterator<Item = &'c Certificate>,
    ) -> Result<&'c Certificate, Refusal> {
        at_hand
            .find(|certificate| is_named(certificate, self.issuer, self.serial))
            .ok_or_else(|| Refusal::SignerUnknown(self.shown()))
    }

    fn shown(&self) -> String {
        let serial: String = self.serial.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{serial} of {}", shown_name(self.issuer))
    }

    /// Attributes and signature over `content`, under a certificate that is trusted already.
    pub(super) fn verify(&self, content: &[u8], certificate: &Certificate) -> Result<Signer, Fault> {
        let verdict = match &self.attributes {
            None => certificate.public_key().verify(content, self.signature),
            Some(attributes) => {
                attributes.check(ContentType::Data.oid(), &sm3(&[content]), certificate)?;
                certificate.public_key().verify(&fields::value(SET, &[attributes.content]), self.signature)
            }
        };
        match verdict {
            Verdict::Valid => Ok(Signer {
                certificate: certificate.clone(),
                algorithm: self.algorithm,
                signing_time_s: self.attributes.as_ref().and_then(|attributes| attributes.time_s),
                with_attributes: self.attributes.is_some(),
            }),
            Verdict::Invalid => Err(Refusal::Signature(certificate.subject()).into()),
            Verdict::Malformed => {
                Err(Malformed::new("encryptedDigest", "not the strict DER of an SM2 signature").into())
            }
        }
    }

    /// True when the signer signed attributes.
    pub(super) fn has_attributes(&self) -> bool {
        self.attributes.is_some()
    }
}

impl SignedAttributes<'_> {
    /// Whether they are over a content of this type and digest.
    pub(crate) fn check(&self, kind: ObjectIdentifier, digest: &Hash, signer: &Certificate) -> Result<(), Refusal> {
        let attribute = |attribute, why| Refusal::Attribute { attribute, why };
        match self.kind {
            None => return Err(attribute("contentType", "is missing")),
            Some(found) if found != kind => {
                return Err(attribute("contentType", "is not the type of the content"));
            }
            Some(_) => {}
        }
        match self.digest {
            None => Err(attribute("messageDigest", "is missing")),
            Some(found) if found != digest => Err(Refusal::Digest(signer.subject())),
            Some(_) => Ok(()),
        }
    }
}

/// True when name and number are those of `certificate`.
pub(crate) fn is_named(certificate: &Certificate, issuer: &[u8], serial: &[u8]) -> bool {
    certificate.serial() == serial && certificate.issuer_name().to_der().is_ok_and(|name| name == issuer)
}

/// Finds, trusts and verifies every signer; all must be good.
pub(super) fn verify_all(
    signers: &[SignerInfo<'_>],
    content: &[u8],
    along: &Along,
    trust: &Trust<'_>,
) -> Result<Vec<Signer>, Fault> {
    let trusted = trust_all(signers, along, trust)?;
    signers.iter().zip(trusted).map(|(signer, certificate)| signer.verify(content, certificate)).collect()
}

/// The certificates of all signers, each trusted to sign. At least one.
pub(super) fn trust_all<'c>(
    signers: &[SignerInfo<'_>],
    along: &'c Along,
    trust: &Trust<'c>,
) -> Result<Vec<&'c Certificate>, Refusal> {
    if signers.is_empty() {
        return Err(Refusal::NoSigner);
    }
    let mut found = Vec::with_capacity(signers.len());
    for signer in signers {
        let certificate = signer.certificate(along.certificates.iter().chain(trust.known))?;
        trust.check(certificate, &along.certificates, &along.crls, Usage::Signing)?;
        found.push(certificate);
    }
    Ok(found)
}

/// Certificates and revocation lists that came with a message.
#[derive(Debug, Default)]
pub(super) struct Along {
    pub(super) certificates: Vec<Certificate>,
    pub(super) crls: Vec<crate::Crl>,
}

impl Along {
    /// Reads `certificates [0]` and `crls [1]`, either of which may be absent.
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let mut along = Self::default();
        if let Some(set) = fields.optional(constructed(0), "certificates")? {
            for one in Fields::of(set.content).all(SEQUENCE, super::CERTIFICATES_MAX, "certificates")? {
                along.certificates.push(crate::judgement::certificate(one.whole, "certificates")?);
            }
        }
        if let Some(set) = fields.optional(constructed(1), "crls")? {
            for one in Fields::of(set.content).all(SEQUENCE, super::CRLS_MAX, "crls")? {
                let crl = crate::Crl::from_der(one.whole);
                along.crls.push(crl.map_err(|error| Malformed::new("crls", error.to_string()))?);
            }
        }
        Ok(along)
    }
}
