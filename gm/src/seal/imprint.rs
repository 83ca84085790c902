//! `SES_Signature`: a seal used on a document at a time, signed by one whom the seal lists. Time stamps of third parties are
//! carried and not judged.

use der::Encode;

use crate::{
    Certificate, Error, Hash, Sign, Usage, Verdict,
    fields::{self, BIT_STRING, Fields, GENERAL_TIME, IA5, Malformed, OCTETS, SEQUENCE, constructed},
    judgement::{Fault, Judgement, Refusal, Trust, certificate},
    seal::{SEAL_BYTES_MAX, Seal, TEXT_BYTES_MAX, VERSION, design, read_algorithm, read_extensions},
};

const SECOND_NS: i64 = 1_000_000_000;

/// A seal on a document, with everything in it found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imprint {
    /// The seal.
    pub seal: Seal,
    /// Who used it.
    pub signer: Certificate,
    /// When, as the signer says, Unix seconds.
    pub at_s: i64,
    /// SM3 of the document.
    pub digest: Hash,
    /// What of the document is protected, in words of the application.
    pub range: String,
    /// Whether a time stamp of a third party is there. It is not judged.
    pub has_time_stamp: bool,
}

/// Uses `seal` on the document of this SM3 at `at_s` (Unix seconds). `range` says what is protected, for example the name of
/// the file; ASCII.
///
/// # Errors
/// [`Error::Fault`] when the seal is malformed, does not list `signer`, or may not be used at that time, or for a `range` that
/// no reader would take; [`Error::NotAPair`]; [`Error::Chain`]; those of [`Sign::sign`].
pub fn sign(
    seal: &[u8],
    digest: &Hash,
    range: &str,
    at_s: i64,
    key: &dyn Sign,
    signer: &Certificate,
) -> Result<Vec<u8>, Error> {
    if *signer.public_key() != key.public_key() {
        return Err(Error::NotAPair);
    }
    crate::chain::check_usage(signer, Usage::Signing)?;
    let parsed = design::read(seal).map_err(Fault::from)?;
    check_use(&parsed, signer, at_s).map_err(Fault::from)?;
    let to_sign = fields::sequence(&[
        &fields::number(VERSION)?,
        seal,
        &fields::general_time(at_s).ok_or(Error::Validity)?,
        &fields::bits(digest),
        &fields::value(IA5, &[range.as_bytes()]),
    ]);
    let signature = key.sign(&to_sign)?;
    let der = fields::sequence(&[
        &to_sign,
        &fields::octets(signer.der()),
        &crate::asn1::SM2_WITH_SM3.to_der()?,
        &fields::bits(&signature),
    ]);
    read(&der).map_err(Fault::from)?;
    Ok(der)
}

/// Judges a seal on a document, in the standard's order: form; the signature over it; the signer's certificate at the time it
/// names; the document's SM3; the signer in the seal's list; the maker's signature and certificate; the seal's own validity.
///
/// Certificates are judged at the time that the signer names, which must not lie after `trust.at_ns`. It is the signer's claim:
/// whoever took a key that was revoked later can name an earlier time.
pub fn verify(signature: &[u8], digest: &Hash, trust: &Trust<'_>) -> Judgement<Imprint> {
    judge(signature, digest, trust).into()
}

/// The seal inside a signature, without any judgement: to show it.
///
/// # Errors
/// [`Malformed`] when there is none.
pub fn read_seal(signature: &[u8]) -> Result<Seal, Malformed> {
    read(signature).map(|received| received.imprint.seal)
}

struct Received<'a> {
    imprint: Imprint,
    to_sign: &'a [u8],
    signature: &'a [u8],
}

fn judge(signature: &[u8], digest: &Hash, trust: &Trust<'_>) -> Result<Imprint, Fault> {
    let Received { imprint, to_sign, signature } = read(signature)?;
    let signer = &imprint.signer;
    match signer.public_key().verify(to_sign, signature) {
        Verdict::Valid => {}
        Verdict::Invalid => return Err(Refusal::Signature(signer.subject()).into()),
        Verdict::Malformed => return Err(Malformed::new("signature", "not the strict DER of an SM2 signature").into()),
    }
    if imprint.at_s > trust.at_ns.div_euclid(SECOND_NS) {
        return Err(Refusal::Future { at_s: imprint.at_s }.into());
    }
    trust.check_at(signer, &[], &[], Usage::Signing, imprint.at_s.saturating_mul(SECOND_NS))?;
    if imprint.digest != *digest {
        return Err(Refusal::Digest(signer.subject()).into());
    }
    if !imprint.seal.listed.holds(signer) {
        return Err(Refusal::NotListed(signer.subject()).into());
    }
    imprint.seal.check(trust, imprint.at_s)?;
    Ok(imprint)
}

fn check_use(seal: &Seal, signer: &Certificate, at_s: i64) -> Result<(), Refusal> {
    if !seal.listed.holds(signer) {
        return Err(Refusal::NotListed(signer.subject()));
    }
    if at_s < seal.start_s || at_s > seal.end_s {
        return Err(Refusal::SealTime { at_s, start_s: seal.start_s, end_s: seal.end_s });
    }
    Ok(())
}

fn read(der: &[u8]) -> Result<Received<'_>, Malformed> {
    if der.len() > SEAL_BYTES_MAX + SEAL_BYTES_MAX / 4 {
        return Err(Malformed::new("SES_Signature", "too long"));
    }
    let mut outer = Fields::of_sequence(der, "SES_Signature")?;
    let to_sign = outer.take(SEQUENCE, "toSign")?;
    let signer = match outer.optional(OCTETS, "cert")? {
        Some(found) => certificate(found.content, "cert")?,
        None => return Err(Malformed::new("SES_Signature", "of version 1 (GM/T 0031-2014); version 4 is read")),
    };
    read_algorithm(&mut outer, "signatureAlgID")?;
    let signature = outer.bits("signature")?;
    let stamp = outer.optional(constructed(0), "timeStamp")?;
    if let Some(stamp) = stamp {
        let mut inside = Fields::of(stamp.content);
        inside.take(BIT_STRING, "timeStamp")?;
        inside.finish("timeStamp")?;
    }
    outer.finish("SES_Signature")?;

    let mut members = Fields::of(to_sign.content);
    members.version(VERSION, "toSign.version")?;
    let seal = design::read(members.take(SEQUENCE, "eseal")?.whole)?;
    let time = members.take(GENERAL_TIME, "timeInfo")?;
    let at_s = Fields::of(time.whole).time_s("timeInfo")?;
    let digest = members.bits("dataHash")?;
    let digest = digest.try_into().map_err(|_| Malformed::new("dataHash", "not an SM3 of 32 bytes"))?;
    let range = members.text(IA5, TEXT_BYTES_MAX, "propertyInfo")?.to_owned();
    if let Some(explicit) = members.optional(constructed(0), "extDatas")? {
        let mut inside = Fields::of(explicit.content);
        read_extensions(inside.take(SEQUENCE, "extDatas")?.content)?;
        inside.finish("extDatas")?;
    }
    members.finish("toSign")?;
    let imprint = Imprint { seal, signer, at_s, digest, range, has_time_stamp: stamp.is_some() };
    Ok(Received { imprint, to_sign: to_sign.whole, signature })
}
