//! Time-stamps of RFC 3161 (GB/T 20520) over SM3 imprints: the request for one, the answer, what a token says and whether it may be
//! believed (`token.rs`), and a small authority for tests and sites without one (`authority.rs`). Transport is not here.
//!
//! Verified are tokens signed with SM2-with-SM3. A token under another algorithm is read, and its refusal names the algorithm:
//! `openssl ts -verify` checks it.

mod authority;
mod token;

use der::{
    Decode, Encode,
    asn1::{BitStringRef, ObjectIdentifier},
};

pub use authority::{Authority, respond};
pub use token::{Said, Stamp, read, verify};

use crate::{
    Error,
    cert::significant,
    fields::{self, BOOLEAN, Fields, INTEGER, Malformed, OCTETS, SEQUENCE, UTF8, constructed, primitive},
    message::{SM3, algorithm, plain_algorithm},
    sm3::Hash,
};

/// What a request is sent as (RFC 3161 3.4).
pub const QUERY_TYPE: &str = "application/timestamp-query";
/// Longest request, answer or token that is read, bytes.
pub const BYTES_MAX: usize = 32 << 10;
/// Octets of the largest nonce and serial number (RFC 3161 2.4.2: 160 bits).
const NUMBER_OCTETS_MAX: usize = 20;
/// Reasons that an answer may give in words.
const TEXTS_MAX: usize = 8;

/// What is asked: when did this exist?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// SM3 of the data.
    pub imprint: Hash,
    /// Tells the answer from an older one; big-endian without leading zeros.
    pub nonce: Option<Vec<u8>>,
    /// The policy under which the authority shall stamp, in dots; `None` leaves it the choice.
    pub policy: Option<String>,
    /// Whether the authority's certificate shall stand in the token.
    pub with_certificate: bool,
}

impl Request {
    /// DER of `TimeStampReq`.
    ///
    /// # Errors
    /// [`Error::Der`] for a policy that is no object identifier.
    pub fn to_der(&self) -> Result<Vec<u8>, Error> {
        let policy = match &self.policy {
            Some(text) => ObjectIdentifier::new(text).map_err(der::Error::from)?.to_der()?,
            None => Vec::new(),
        };
        let nonce = self.nonce.as_ref().map_or_else(Vec::new, |nonce| fields::natural(nonce));
        let wanted = if self.with_certificate { fields::value(BOOLEAN, &[&[0xff]]) } else { Vec::new() };
        Ok(fields::sequence(&[&fields::number(1)?, &imprint(&self.imprint)?, &policy, &nonce, &wanted]))
    }

    /// A request over data whose SM3 is `imprint`, with random octets as its nonce, for a token with the certificate in it.
    pub fn new(imprint: Hash, nonce: [u8; 16]) -> Self {
        Self { imprint, nonce: Some(significant(&nonce).to_vec()), policy: None, with_certificate: true }
    }

    /// The token in a service's answer to this request, and what it says. Whether its authority is to be believed is [`verify`]'s
    /// question.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn token(&self, answer: &[u8]) -> Result<(Vec<u8>, Said), Unusable> {
        let token = match Answer::from_der(answer)? {
            Answer::Granted(token) => token,
            Answer::Refused { status, why } => return Err(Unusable::Refused { status, why }),
        };
        let said = read(&token)?;
        if said.imprint != self.imprint || said.nonce != self.nonce {
            return Err(Unusable::Other);
        }
        Ok((token, said))
    }

    /// Reads a `TimeStampReq`.
    ///
    /// # Errors
    /// [`Malformed`]: which member, and what of it; an imprint that is not SM3's among them.
    pub fn from_der(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > BYTES_MAX {
            return Err(Malformed::new("TimeStampReq", format!("longer than {BYTES_MAX} bytes")));
        }
        let mut all = Fields::of_sequence(bytes, "TimeStampReq")?;
        all.version(1, "TimeStampReq.version")?;
        let imprint = read_imprint(&mut all)?;
        let policy = all.optional(fields::OID, "reqPolicy")?.map(|value| Fields::of(value.whole).oid("reqPolicy"));
        let policy = policy.transpose()?.map(|oid| oid.to_string());
        let nonce = all.optional(INTEGER, "nonce")?;
        let nonce = nonce.map(|value| read_number(value.whole, "nonce")).transpose()?;
        let with_certificate = read_true(&mut all, "certReq")?;
        if all.optional(constructed(0), "extensions")?.is_some() {
            return Err(Malformed::new("extensions", "none is known"));
        }
        all.finish("TimeStampReq")?;
        Ok(Self { imprint, nonce, policy, with_certificate })
    }
}

/// Why an answer gives no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not of the form.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The authority refuses.
    #[error("refused (status {status}): {why}")]
    Refused {
        /// PKIStatus, 2 to 5.
        status: u32,
        /// The authority's words, or the number of its reason.
        why: String,
    },
    /// It answers another request.
    #[error("the time-stamp answers another request")]
    Other,
}

/// What an authority answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The token, DER.
    Granted(Vec<u8>),
    /// No token.
    Refused {
        /// PKIStatus, 2 to 5.
        status: u32,
        /// The authority's words, or the number of its reason.
        why: String,
    },
}

impl Answer {
    /// Reads a `TimeStampResp`. The token in it is not looked at: [`verify`] does that.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_der(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > BYTES_MAX {
            return Err(Malformed::new("TimeStampResp", format!("longer than {BYTES_MAX} bytes")));
        }
        let mut all = Fields::of_sequence(bytes, "TimeStampResp")?;
        let mut info = Fields::of(all.take(SEQUENCE, "status")?.content);
        let status = info.number("status")?;
        let mut why = Vec::new();
        if let Some(texts) = info.optional(SEQUENCE, "statusString")? {
            let mut texts = Fields::of(texts.content);
            while !texts.is_empty() && why.len() < TEXTS_MAX {
                why.push(texts.text(UTF8, 512, "statusString")?.to_owned());
            }
            texts.finish("statusString")?;
        }
        if let Some(bits) = info.optional(fields::BIT_STRING, "failInfo")? {
            let set = BitStringRef::from_der(bits.whole).map_err(|_| Malformed::new("failInfo", "not a bit string"))?;
            why.extend(set.bits().enumerate().filter(|(_, is_set)| *is_set).map(|(number, _)| reason(number)));
        }
        info.finish("status")?;
        let token = all.optional(SEQUENCE, "timeStampToken")?.map(|value| value.whole.to_vec());
        all.finish("TimeStampResp")?;
        match (status, token) {
            (0 | 1, Some(token)) => Ok(Self::Granted(token)),
            (0 | 1, None) => Err(Malformed::new("timeStampToken", "granted, and absent")),
            (_, Some(_)) => Err(Malformed::new("timeStampToken", "refused, and present")),
            (_, None) => Ok(Self::Refused { status, why: why.join("; ") }),
        }
    }
}

/// The name of a bit of PKIFailureInfo (RFC 3161 2.4.2).
fn reason(bit: usize) -> String {
    let known = [
        (0, "badAlg"),
        (2, "badRequest"),
        (5, "badDataFormat"),
        (14, "timeNotAvailable"),
        (15, "unacceptedPolicy"),
        (16, "unacceptedExtension"),
        (17, "addInfoNotAvailable"),
        (25, "systemFailure"),
    ];
    known
        .iter()
        .find(|(number, _)| *number == bit)
        .map_or_else(|| format!("reason {bit}"), |(_, name)| (*name).to_owned())
}

/// `MessageImprint` of SM3, parameters absent.
fn imprint(digest: &Hash) -> Result<Vec<u8>, Error> {
    Ok(fields::sequence(&[&algorithm(SM3)?, &fields::octets(digest)]))
}

fn read_imprint(all: &mut Fields<'_>) -> Result<Hash, Malformed> {
    const PART: &str = "messageImprint";
    let mut inside = Fields::of(all.take(SEQUENCE, PART)?.content);
    let algorithm = plain_algorithm(&mut inside, PART)?;
    if algorithm != SM3 {
        return Err(Malformed::new(PART, format!("of algorithm {algorithm}, SM3 ({SM3}) expected")));
    }
    let digest = inside.take(OCTETS, PART)?.content;
    inside.finish(PART)?;
    digest.try_into().map_err(|_| Malformed::new(PART, format!("{} octets, SM3 has 32", digest.len())))
}

/// A number that is not negative, without leading zeros, from all of its bytes.
fn read_number(whole: &[u8], part: &'static str) -> Result<Vec<u8>, Malformed> {
    let found = Fields::of(whole).natural(part)?;
    if found.len() > NUMBER_OCTETS_MAX {
        return Err(Malformed::new(part, "of more than 160 bits"));
    }
    Ok(found.to_vec())
}

/// A BOOLEAN DEFAULT FALSE: DER leaves a false one out.
fn read_true(all: &mut Fields<'_>, part: &'static str) -> Result<bool, Malformed> {
    match all.optional(BOOLEAN, part)? {
        None => Ok(false),
        Some(found) if found.content == [0xff] => Ok(true),
        Some(_) => Err(Malformed::new(part, "not the DER of a BOOLEAN that is FALSE unless it stands")),
    }
}

/// `[number] IMPLICIT INTEGER` of small numbers.
fn read_implicit(all: &mut Fields<'_>, number: u8, part: &'static str) -> Result<Option<u32>, Malformed> {
    let Some(found) = all.optional(primitive(number), part)? else { return Ok(None) };
    Fields::of(&fields::value(INTEGER, &[found.content])).number(part).map(Some)
}
