//! A small time-stamping authority: reads a request, answers it. Clock, number and transport are its caller's.

use der::Encode;

use crate::{
    Certificate, Error, Sign, Usage,
    fields::{self, BIT_STRING, Malformed, SET, UTF8, constructed},
    message::{CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_CERTIFICATE_V2, SM2_WITH_SM3, SM3, algorithm, attribute, digests},
    sm3::sm3,
    time_stamp::{
        Request, imprint,
        token::{SIGNED_DATA, TST_INFO},
    },
};

/// Who stamps.
#[derive(Clone, Copy, Debug)]
pub struct Authority<'a> {
    /// Who holds the key.
    pub key: &'a dyn Sign,
    /// Its certificate, for time-stamping alone.
    pub certificate: &'a Certificate,
    /// The policy it stamps under, in dots; a request for another is refused.
    pub policy: &'a str,
}

/// The answer (`TimeStampResp`, DER) to `request`: a token of the number `serial` that says `time_s` (Unix seconds, accurate to
/// the second), or a refusal with its reason.
///
/// # Errors
/// What is wrong with the authority itself: [`Error::NotAPair`], [`Error::Chain`] for a certificate that is not for this,
/// [`Error::Der`] for a policy or time that cannot be written; those of [`Sign::sign`].
pub fn respond(request: &[u8], authority: &Authority<'_>, serial: u64, time_s: i64) -> Result<Vec<u8>, Error> {
    if *authority.certificate.public_key() != authority.key.public_key() {
        return Err(Error::NotAPair);
    }
    crate::chain::check_usage(authority.certificate, Usage::TimeStamping)?;
    let request = match Request::from_der(request) {
        Ok(request) => request,
        // badAlg and badDataFormat, as bits of the failure's number.
        Err(Malformed { part: "messageImprint", why }) => return refusal(&why, 0),
        Err(malformed) => return refusal(&malformed.to_string(), 5),
    };
    if request.policy.as_deref().is_some_and(|policy| policy != authority.policy) {
        return refusal(&format!("the policy is {}", authority.policy), 15);
    }
    let token = token(&request, authority, serial, time_s)?;
    Ok(fields::sequence(&[&fields::sequence(&[&fields::number(0)?]), &token]))
}

fn refusal(why: &str, bit: usize) -> Result<Vec<u8>, Error> {
    let mut bits = vec![0_u8; bit / 8 + 1];
    if let Some(octet) = bits.get_mut(bit / 8) {
        *octet = 0x80 >> (bit % 8);
    }
    let unused = [u8::try_from(7 - bit % 8).unwrap_or(0)];
    let text = fields::sequence(&[&fields::value(UTF8, &[why.as_bytes()])]);
    let failure = fields::value(BIT_STRING, &[&unused, &bits]);
    Ok(fields::sequence(&[&fields::sequence(&[&fields::number(2)?, &text, &failure])]))
}

fn token(request: &Request, authority: &Authority<'_>, serial: u64, time_s: i64) -> Result<Vec<u8>, Error> {
    let certificate = authority.certificate;
    let policy = der::asn1::ObjectIdentifier::new(authority.policy).map_err(der::Error::from)?.to_der()?;
    let time = fields::general_time(time_s).ok_or(Error::Validity)?;
    let accuracy = fields::sequence(&[&fields::number(1)?]);
    let nonce = request.nonce.as_ref().map_or_else(Vec::new, |nonce| fields::natural(nonce));
    // tsa [0] holds a GeneralName, directoryName [4], both explicit.
    let name = fields::value(constructed(4), &[&certificate.subject_name().to_der()?]);
    let info = fields::sequence(&[
        &fields::number(1)?,
        &policy,
        &imprint(&request.imprint)?,
        &serial.to_der()?,
        &time,
        &accuracy,
        &nonce,
        &fields::value(constructed(0), &[&name]),
    ]);
    let digest = algorithm(SM3)?;
    let named = fields::sequence(&[&digest, &fields::octets(&certificate.id())]);
    let attributes = vec![
        attribute(CONTENT_TYPE, &TST_INFO.to_der()?)?,
        attribute(MESSAGE_DIGEST, &fields::octets(&sm3(&[&info])))?,
        attribute(SIGNING_CERTIFICATE_V2, &fields::sequence(&[&fields::sequence(&[&named])]))?,
    ];
    let signature = authority.key.sign(&fields::set_of(SET, attributes.clone()))?;
    let signer = fields::sequence(&[
        &fields::number(1)?,
        &fields::sequence(&[&certificate.issuer_name().to_der()?, &certificate.serial_der()?]),
        &digest,
        &fields::set_of(constructed(0), attributes),
        &algorithm(SM2_WITH_SM3)?,
        &fields::octets(&signature),
    ]);
    let along = if request.with_certificate { fields::value(constructed(0), &[certificate.der()]) } else { Vec::new() };
    let content = fields::sequence(&[&TST_INFO.to_der()?, &fields::value(constructed(0), &[&fields::octets(&info)])]);
    let signed =
        fields::sequence(&[&fields::number(3)?, &digests()?, &content, &along, &fields::value(SET, &[&signer])]);
    Ok(fields::sequence(&[&SIGNED_DATA.to_der()?, &fields::value(constructed(0), &[&signed])]))
}
