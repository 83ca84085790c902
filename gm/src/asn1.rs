//! The ASN.1 that certificates, requests and revocation lists share: algorithm identifiers, the signed envelope, PEM, time.
//! Nothing here is public; what the signed bytes say lives in `cert.rs`, `csr.rs` and `crl.rs`.

use der::{
    Decode, Encode, Header, Reader, Sequence, SliceReader,
    asn1::{Any, AnyRef, BitString, BitStringRef, Null, ObjectIdentifier},
    pem,
};
use x509_cert::{
    ext::Extension,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
    time::Time,
};

use crate::{Error, sign::Sign, sm2::PublicKey};

/// id-ecPublicKey.
pub(crate) const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// The SM2 curve, also seen as the algorithm of a public key (GM/T 0015-2023).
pub(crate) const SM2_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.301");
/// SM2 with SM3, the only signature algorithm of this crate.
pub(crate) const SM2_WITH_SM3: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.501");

/// The algorithm as written: parameters absent (GM/T 0092).
pub(crate) fn sm2_with_sm3() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: SM2_WITH_SM3, parameters: None }
}

/// Accepts SM2-with-SM3 with parameters absent or NULL.
pub(crate) fn check_algorithm(algorithm: &AlgorithmIdentifierOwned) -> Result<(), Error> {
    let parameters_fit = algorithm.parameters.as_ref().is_none_or(|any| *any == Any::from(Null));
    if algorithm.oid == SM2_WITH_SM3 && parameters_fit { Ok(()) } else { Err(Error::SignatureAlgorithm) }
}

/// The public key of a certificate or request: id-ecPublicKey with the SM2 curve, or the curve's own OID.
pub(crate) fn public_key(info: &SubjectPublicKeyInfoOwned) -> Result<PublicKey, Error> {
    let named_curve = || info.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    let fits = match info.algorithm.oid {
        EC_PUBLIC_KEY => named_curve() == Some(SM2_CURVE),
        oid => oid == SM2_CURVE,
    };
    let point = info.subject_public_key.as_bytes().filter(|_| fits).ok_or(Error::PublicKey)?;
    PublicKey::from_sec1(point)
}

/// `SubjectPublicKeyInfo` of `key` as written.
pub(crate) fn public_key_info(key: &PublicKey) -> Result<SubjectPublicKeyInfoOwned, Error> {
    Ok(SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned { oid: EC_PUBLIC_KEY, parameters: Some(Any::encode_from(&SM2_CURVE)?) },
        subject_public_key: BitString::from_bytes(&key.to_sec1())?,
    })
}

/// `SEQUENCE { tbs ANY, signatureAlgorithm, signature BIT STRING }`: X.509's shape of everything signed, with the
/// to-be-signed bytes left exactly as they were received.
pub(crate) struct Envelope<'a> {
    pub(crate) tbs: &'a [u8],
    pub(crate) algorithm: AlgorithmIdentifierOwned,
    pub(crate) signature: Vec<u8>,
}

impl<'a> Envelope<'a> {
    /// Takes `document` apart; the algorithm must be SM2-with-SM3, and nothing may follow.
    pub(crate) fn open(document: &'a [u8]) -> Result<Self, Error> {
        let mut outer = SliceReader::new(document)?;
        let body = AnyRef::decode(&mut outer)?;
        outer.finish()?;
        let body: BodyRef<'a> = body.decode_as()?;
        let tbs = document_slice(document, &body.tbs)?;
        check_algorithm(&body.algorithm)?;
        let signature = body.signature.as_bytes().ok_or(Error::BadSignature)?.to_vec();
        Ok(Self { tbs, algorithm: body.algorithm, signature })
    }
}

#[derive(Sequence)]
struct BodyRef<'a> {
    tbs: AnyRef<'a>,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitStringRef<'a>,
}

/// The bytes of `part`, header included, where they stand in `document`: right after the outer header.
fn document_slice<'a>(document: &'a [u8], part: &AnyRef<'_>) -> Result<&'a [u8], Error> {
    let mut reader = SliceReader::new(document)?;
    Header::decode(&mut reader)?;
    let slice = reader.tlv_bytes()?;
    // The header of `part` must be the shortest one: the same content may not come in two encodings.
    if usize::try_from(part.encoded_len()?).ok() == Some(slice.len()) { Ok(slice) } else { Err(Error::NotCanonical) }
}

#[derive(Sequence)]
struct Body {
    tbs: Any,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// Signs the DER of `tbs` and puts the envelope around it. The signature is the DER `SM2Signature`, never raw r || s.
pub(crate) fn seal<T: Encode>(tbs: &T, key: &dyn Sign) -> Result<Vec<u8>, Error> {
    let tbs = tbs.to_der()?;
    let signature = BitString::from_bytes(&key.sign(&tbs)?)?;
    Ok(Body { tbs: Any::from_der(&tbs)?, algorithm: sm2_with_sm3(), signature }.to_der()?)
}

/// The extension's value, if it stands there.
pub(crate) fn extension<'a, T: Decode<'a, Error = der::Error>>(
    extensions: &'a [Extension],
    oid: ObjectIdentifier,
) -> Result<Option<T>, Error> {
    let found = extensions.iter().find(|extension| extension.extn_id == oid);
    Ok(found.map(|extension| T::from_der(extension.extn_value.as_bytes())).transpose()?)
}

/// Refuses a list in which an extension stands twice (RFC 5280 4.2).
pub(crate) fn check_distinct(extensions: &[Extension]) -> Result<(), Error> {
    for (index, extension) in extensions.iter().enumerate() {
        if extensions.iter().skip(index + 1).any(|other| other.extn_id == extension.extn_id) {
            return Err(Error::DoubleExtension(extension.extn_id));
        }
    }
    Ok(())
}

/// An extension as written.
pub(crate) fn make_extension<T: Encode>(oid: ObjectIdentifier, critical: bool, value: &T) -> Result<Extension, Error> {
    Ok(Extension { extn_id: oid, critical, extn_value: der::asn1::OctetString::new(value.to_der()?)? })
}

/// Unix seconds of an X.509 time.
pub(crate) fn unix_s(time: Time) -> i64 {
    i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

/// Nanoseconds since 1970; what lies after the year 2262 is the largest value.
pub(crate) fn unix_ns(time: Time) -> i64 {
    unix_s(time).saturating_mul(1_000_000_000)
}

/// An X.509 time from Unix seconds: UTCTime up to 2049, then GeneralizedTime (RFC 5280 4.1.2.5).
pub(crate) fn time_from_unix_s(unix_s: i64) -> Result<Time, Error> {
    let seconds = u64::try_from(unix_s).map_err(|_| Error::Validity)?;
    let date_time = der::DateTime::from_unix_duration(std::time::Duration::from_secs(seconds));
    Ok(Time::from(date_time.map_err(|_| Error::Validity)?))
}

/// All PEM blocks with `label` in `text`, in order; other blocks and text around them are passed over.
pub(crate) fn pem_blocks(text: &str, label: &str) -> Result<Vec<Vec<u8>>, Error> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(&begin) {
        let tail = rest.get(start..).ok_or(Error::Pem)?;
        let stop = tail.find(&end).ok_or(Error::Pem)? + end.len();
        let block = tail.get(..stop).ok_or(Error::Pem)?;
        let (_, document) = pem::decode_vec(block.as_bytes()).map_err(|_| Error::Pem)?;
        found.push(document);
        rest = tail.get(stop..).ok_or(Error::Pem)?;
    }
    Ok(found)
}

/// One PEM block, lines ending in LF.
pub(crate) fn pem_text(label: &str, document: &[u8]) -> String {
    // The only failures are an overflowing length and a label that is not ASCII; neither can reach this.
    pem::encode_string(label, pem::LineEnding::LF, document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sm2::SecretKey;

    #[test]
    fn sm2_with_sm3_is_taken_without_parameters_or_with_null_only() {
        let with = |oid, parameters| AlgorithmIdentifierOwned { oid, parameters };
        let sm2_curve = Any::encode_from(&SM2_CURVE).unwrap();
        for (name, algorithm, fits) in [
            ("absent", with(SM2_WITH_SM3, None), true),
            ("NULL", with(SM2_WITH_SM3, Some(Any::from(Null))), true),
            ("a curve", with(SM2_WITH_SM3, Some(sm2_curve)), false),
            ("SM2-1 of messages", with(ObjectIdentifier::new_unwrap("1.2.156.10197.1.301.1"), None), false),
            ("ECDSA with SHA-256", with(ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"), None), false),
        ] {
            assert_eq!(check_algorithm(&algorithm).is_ok(), fits, "{name}");
        }
    }

    #[test]
    fn a_public_key_names_its_curve_in_either_of_two_ways() {
        let key = SecretKey::from_scalar(&[3; 32]).unwrap().public_key();
        let written = public_key_info(&key).unwrap();
        let der = written.to_der().unwrap();
        let prefix = "3059301306072a8648ce3d020106082a811ccf5501822d034200";
        assert_eq!(der.iter().take(26).map(|byte| format!("{byte:02x}")).collect::<String>(), prefix);
        let with = |oid, parameters| SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned { oid, parameters },
            subject_public_key: written.subject_public_key.clone(),
        };
        let p256 = Any::encode_from(&ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7")).unwrap();
        for (name, info, fits) in [
            ("as written", written.clone(), true),
            ("the curve as algorithm", with(SM2_CURVE, None), true),
            ("no curve", with(EC_PUBLIC_KEY, None), false),
            ("another curve", with(EC_PUBLIC_KEY, Some(p256)), false),
        ] {
            assert_eq!(public_key(&info).is_ok(), fits, "{name}");
        }
    }

    #[test]
    fn times_cross_the_year_2050_and_stop_at_9999() {
        for (unix_s, form) in [(0, 23), (2_524_607_999, 23), (2_524_608_000, 24), (253_402_300_799, 24)] {
            let time = time_from_unix_s(unix_s).unwrap();
            assert_eq!((super::unix_s(time), time.to_der().unwrap().first()), (unix_s, Some(&form)), "{unix_s}");
        }
        assert!(time_from_unix_s(-1).is_err() && time_from_unix_s(253_402_300_800).is_err());
        assert_eq!(unix_ns(time_from_unix_s(253_402_300_799).unwrap()), i64::MAX);
    }
}
