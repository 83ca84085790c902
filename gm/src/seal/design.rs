//! `SESeal`: what a seal is, who may use it and when, what it looks like, and the signature of the one who made it. Using it is
//! `imprint.rs`.

use der::Encode;

use crate::{
    Certificate, Error, Sign, Usage, Verdict,
    fields::{self, Fields, GENERAL_TIME, IA5, Malformed, OCTETS, PRINTABLE, SEQUENCE, UTF8},
    judgement::{Fault, Judgement, Refusal, Trust, certificate},
    seal::{LISTED_MAX, SEAL_BYTES_MAX, TEXT_BYTES_MAX, VERSION, read_algorithm, read_extensions},
    sm3::sm3,
};

const PICTURE_BYTES_MAX: usize = 1 << 20;
const SIDE_MM_MAX: u32 = 1000;

/// How a seal looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Format, for example `PNG`.
    pub format: String,
    /// The image file.
    pub data: Vec<u8>,
    /// Width on paper, mm.
    pub width_mm: u32,
    /// Height on paper, mm.
    pub height_mm: u32,
}

/// What a maker decides about a new seal.
#[derive(Clone, Debug)]
pub struct Design<'a> {
    /// Its identifier, ASCII.
    pub id: &'a str,
    /// Who makes the seal system, ASCII.
    pub vendor: &'a str,
    /// The name that a reader sees.
    pub name: &'a str,
    /// Kind of seal; the standard leaves the numbers to the application.
    pub kind: u32,
    /// Who may use it.
    pub users: &'a [Certificate],
    /// When it was made, Unix seconds.
    pub created_s: i64,
    /// From when it may be used, Unix seconds.
    pub start_s: i64,
    /// Until when, that second included.
    pub end_s: i64,
    /// How it looks.
    pub picture: &'a Picture,
}

/// Whom a seal lists as its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Whole certificates, byte for byte.
    Certificates(Vec<Vec<u8>>),
    /// SM3 of certificates.
    Digests(Vec<Vec<u8>>),
}

impl Listed {
    /// True when `certificate` is in the list.
    pub fn holds(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Certificates(all) => all.iter().any(|one| one == certificate.der()),
            Self::Digests(all) => all.iter().any(|one| *one == sm3(&[certificate.der()])),
        }
    }
}

/// A seal, with the bytes that were received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// All of it.
    pub der: Vec<u8>,
    /// Its identifier.
    pub id: String,
    /// Who made the seal system.
    pub vendor: String,
    /// The name that a reader sees.
    pub name: String,
    /// Kind of seal.
    pub kind: u32,
    /// Who may use it.
    pub listed: Listed,
    /// When it was made, Unix seconds.
    pub created_s: i64,
    /// From when it may be used, Unix seconds.
    pub start_s: i64,
    /// Until when, that second included.
    pub end_s: i64,
    /// How it looks.
    pub picture: Picture,
    /// Who made it.
    pub maker: Certificate,
    info: Vec<u8>,
    signature: Vec<u8>,
}

/// Makes a seal: version 4, its users as whole certificates, signed by `key` over `SES_SealInfo`.
///
/// # Errors
/// [`Error::NotAPair`], [`Error::Chain`] for a certificate that does not sign; [`Error::Fault`] for a design that no reader
/// would take (which member, and why); those of [`Sign::sign`].
pub fn make(design: &Design<'_>, key: &dyn Sign, maker: &Certificate) -> Result<Vec<u8>, Error> {
    if *maker.public_key() != key.public_key() {
        return Err(Error::NotAPair);
    }
    crate::chain::check_usage(maker, Usage::Signing)?;
    let info = write_info(design)?;
    let signature = key.sign(&info)?;
    let der = fields::sequence(&[
        &info,
        &fields::octets(maker.der()),
        &crate::asn1::SM2_WITH_SM3.to_der()?,
        &fields::bits(&signature),
    ]);
    // A design with a name too long, or an end before its start, is found by whoever reads it; here first.
    read(&der).map_err(Fault::from)?;
    Ok(der)
}

fn write_info(design: &Design<'_>) -> Result<Vec<u8>, Error> {
    let number = |value| fields::number(value);
    let time = |unix_s| fields::general_time(unix_s).ok_or(Error::Validity);
    let users: Vec<Vec<u8>> = design.users.iter().map(|user| fields::octets(user.der())).collect();
    let users: Vec<&[u8]> = users.iter().map(Vec::as_slice).collect();
    let header = fields::sequence(&[
        &fields::value(IA5, &[b"ES"]),
        &number(VERSION)?,
        &fields::value(IA5, &[design.vendor.as_bytes()]),
    ]);
    let property = fields::sequence(&[
        &number(design.kind)?,
        &fields::value(UTF8, &[design.name.as_bytes()]),
        &number(1)?,
        &fields::sequence(&users),
        &time(design.created_s)?,
        &time(design.start_s)?,
        &time(design.end_s)?,
    ]);
    let picture = fields::sequence(&[
        &fields::value(IA5, &[design.picture.format.as_bytes()]),
        &fields::octets(&design.picture.data),
        &number(design.picture.width_mm)?,
        &number(design.picture.height_mm)?,
    ]);
    Ok(fields::sequence(&[&header, &fields::value(IA5, &[design.id.as_bytes()]), &property, &picture]))
}

/// Judges a seal by itself: its form, its maker's signature, and its maker's certificate as of `trust.at_ns`, at which instant
/// it must be usable, too.
pub fn verify(der: &[u8], trust: &Trust<'_>) -> Judgement<Seal> {
    let judge = || -> Result<Seal, Fault> {
        let seal = read(der)?;
        seal.check(trust, trust.at_ns.div_euclid(1_000_000_000))?;
        Ok(seal)
    };
    judge().into()
}

impl Seal {
    /// The maker's signature and certificate, and the seal's own validity, as of `at_s` (Unix seconds).
    pub(super) fn check(&self, trust: &Trust<'_>, at_s: i64) -> Result<(), Fault> {
        match self.maker.public_key().verify(&self.info, &self.signature) {
            Verdict::Valid => {}
            Verdict::Invalid => return Err(Refusal::Signature(self.maker.subject()).into()),
            Verdict::Malformed => {
                return Err(Malformed::new("signedValue", "not the strict DER of an SM2 signature").into());
            }
        }
        trust.check_at(&self.maker, &[], &[], Usage::Signing, at_s.saturating_mul(1_000_000_000))?;
        if at_s < self.start_s || at_s > self.end_s {
            return Err(Refusal::SealTime { at_s, start_s: self.start_s, end_s: self.end_s }.into());
        }
        Ok(())
    }
}

/// Reads a seal; nothing is verified.
pub(super) fn read(der: &[u8]) -> Result<Seal, Malformed> {
    if der.len() > SEAL_BYTES_MAX {
        return Err(Malformed::new("SESeal", format!("longer than {SEAL_BYTES_MAX} bytes")));
    }
    let mut outer = Fields::of_sequence(der, "SESeal")?;
    let info = outer.take(SEQUENCE, "eSealInfo")?;
    let maker = match outer.optional(OCTETS, "cert")? {
        Some(found) => certificate(found.content, "cert")?,
        None => return Err(Malformed::new("SESeal", "of version 1 (GM/T 0031-2014); version 4 is read")),
    };
    read_algorithm(&mut outer, "signAlgID")?;
    let signature = outer.bits("signedValue")?.to_vec();
    outer.finish("SESeal")?;

    let mut members = Fields::of(info.content);
    let vendor = read_header(&mut members)?;
    let id = members.text(IA5, TEXT_BYTES_MAX, "esID")?.to_owned();
    if id.is_empty() {
        return Err(Malformed::new("esID", "is empty"));
    }
    let mut property = Fields::of(members.take(SEQUENCE, "property")?.content);
    let kind = property.number("property.type")?;
    let name = property.text(UTF8, TEXT_BYTES_MAX, "property.name")?.to_owned();
    let listed = read_list(&mut property)?;
    let mut time_s = |part| read_time(&mut property, part);
    let (created_s, start_s, end_s) = (time_s("createDate")?, time_s("validStart")?, time_s("validEnd")?);
    property.finish("property")?;
    if end_s < start_s {
        return Err(Malformed::new("validEnd", "lies before validStart"));
    }
    let picture = read_picture(&mut members)?;
    if let Some(extensions) = members.optional(SEQUENCE, "extDatas")? {
        read_extensions(extensions.content)?;
    }
    members.finish("eSealInfo")?;
    let (der, info) = (der.to_vec(), info.whole.to_vec());
    Ok(Seal { der, id, vendor, name, kind, listed, created_s, start_s, end_s, picture, maker, info, signature })
}

fn read_time(fields: &mut Fields<'_>, part: &'static str) -> Result<i64, Malformed> {
    let value = fields.take(GENERAL_TIME, part)?;
    Fields::of(value.whole).time_s(part)
}

/// `SES_Header`: who made the system.
fn read_header(fields: &mut Fields<'_>) -> Result<String, Malformed> {
    let mut header = Fields::of(fields.take(SEQUENCE, "header")?.content);
    if header.text(IA5, 16, "header.ID")? != "ES" {
        return Err(Malformed::new("header.ID", "ES expected"));
    }
    header.version(VERSION, "header.version")?;
    let vendor = header.text(IA5, TEXT_BYTES_MAX, "header.Vid")?.to_owned();
    header.finish("header")?;
    Ok(vendor)
}

/// `certListType` and `certList`: the type says which of two lists follows.
fn read_list(fields: &mut Fields<'_>) -> Result<Listed, Malformed> {
    let kind = fields.number("certListType")?;
    let list = Fields::of(fields.take(SEQUENCE, "certList")?.content);
    let listed = match kind {
        1 => {
            let all = list.all(OCTETS, LISTED_MAX, "certList")?;
            Listed::Certificates(all.into_iter().map(|one| one.content.to_vec()).collect())
        }
        2 => {
            let all = list.all(SEQUENCE, LISTED_MAX, "certList")?;
            Listed::Digests(all.into_iter().map(|one| read_digest(one.content)).collect::<Result<_, _>>()?)
        }
        other => return Err(Malformed::new("certListType", format!("1 or 2 expected, {other} found"))),
    };
    let is_empty = match &listed {
        Listed::Certificates(all) | Listed::Digests(all) => all.is_empty(),
    };
    if is_empty { Err(Malformed::new("certList", "is empty: nobody may use the seal")) } else { Ok(listed) }
}

/// `CertDigestObj`; the digest must be SM3.
fn read_digest(content: &[u8]) -> Result<Vec<u8>, Malformed> {
    const PART: &str = "certDigestList";
    let mut digest = Fields::of(content);
    let kind = digest.text(PRINTABLE, 64, PART)?;
    let value = digest.take(OCTETS, PART)?.content;
    digest.finish(PART)?;
    let is_sm3 = kind.eq_ignore_ascii_case("SM3") || kind == "1.2.156.10197.1.401";
    if is_sm3 && value.len() == 32 { Ok(value.to_vec()) } else { Err(Malformed::new(PART, "not SM3")) }
}

fn read_picture(fields: &mut Fields<'_>) -> Result<Picture, Malformed> {
    let mut picture = Fields::of(fields.take(SEQUENCE, "picture")?.content);
    let format = picture.text(IA5, 16, "picture.type")?.to_owned();
    let data = picture.take(OCTETS, "picture.data")?.content;
    let (width_mm, height_mm) = (picture.number("picture.width")?, picture.number("picture.height")?);
    picture.finish("picture")?;
    if data.is_empty() || data.len() > PICTURE_BYTES_MAX {
        return Err(Malformed::new("picture.data", format!("1 to {PICTURE_BYTES_MAX} bytes expected")));
    }
    for side in [width_mm, height_mm] {
        if side == 0 || side > SIDE_MM_MAX {
            return Err(Malformed::new("picture", format!("a side must be 1 to {SIDE_MM_MAX} mm")));
        }
    }
    Ok(Picture { format, data: data.to_vec(), width_mm, height_mm })
}
