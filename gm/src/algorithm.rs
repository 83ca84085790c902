//! How a mode of SM4 is named in DER, so that a stored cipher text says how it was made: `AlgorithmIdentifier` with the national
//! object identifiers and the parameters others use. A feedback width without an identifier of its own stands in parameters of
//! ours. What the modes do is `mode.rs`.

use der::{
    Encode, Enumerated, Sequence,
    asn1::{Any, Null, ObjectIdentifier, OctetString, OctetStringRef},
};
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::{
    Error,
    mode::{AEAD_NONCE_BYTES, BLOCK_BYTES, Feedback, Mode, TAG_BYTES, Width},
    signed::strict,
};

/// SM4 itself; CFCA's messages name CBC so, with an initial vector.
pub(crate) const SM4: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.104");
/// Electronic code book: for the one key inside an `SM2EnvelopedKey`, never for texts.
pub(crate) const SM4_ECB: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.104.1");
pub(crate) const SM4_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.104.2");
const SM4_OFB: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.104.3");
const SM4_CFB: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.104.4");
const SM4_CFB1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.104.5");
const SM4_CFB8: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.104.6");
const SM4_CTR: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.104.7");
const SM4_GCM: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.104.8");
const SM4_CCM: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.104.9");

/// `GCMParameters` and `CCMParameters` of RFC 5084, with the length of the tag always written.
#[derive(Sequence)]
struct AeadParameters {
    nonce: OctetString,
    tag_bytes: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Enumerated)]
#[repr(u8)]
enum Register {
    Whole = 0,
    Shifted = 1,
}

/// `FeedbackParameters ::= SEQUENCE { iv OCTET STRING (SIZE (16)), feedbackBits INTEGER (1..128), register ENUMERATED
/// { whole (0), shifted (1) } OPTIONAL -- output feedback only -- }`: the block cipher parameters of GM/T 0016 in DER.
#[derive(Sequence)]
struct FeedbackParameters {
    iv: OctetString,
    feedback_bits: u8,
    register: Option<Register>,
}

impl Mode {
    /// DER of the `AlgorithmIdentifier` that names this mode with its initial vector and, if it is not the full one, its
    /// feedback width.
    ///
    /// # Errors
    /// [`Error::Der`] never in practice: everything in it has a fixed size.
    pub fn to_der(&self) -> Result<Vec<u8>, Error> {
        Ok(self.algorithm()?.to_der()?)
    }

    /// Reads what [`Self::to_der`] wrote, and what others write for the same modes.
    ///
    /// # Errors
    /// [`Error::Der`] or [`Error::NotCanonical`] for damaged or trailing bytes; [`Error::Mode`] for another algorithm or
    /// parameters that it cannot have.
    pub fn from_der(bytes: &[u8]) -> Result<Self, Error> {
        Self::from_algorithm(&strict::<AlgorithmIdentifierOwned>(bytes)?)
    }

    pub(crate) fn algorithm(&self) -> Result<AlgorithmIdentifierOwned, Error> {
        let vector = |bytes: &[u8]| OctetString::new(bytes).and_then(|octets| Any::encode_from(&octets));
        let tagged = |nonce: &[u8]| {
            let parameters = AeadParameters { nonce: OctetString::new(nonce)?, tag_bytes: 16 };
            Any::encode_from(&parameters)
        };
        let wide = |iv: &[u8], width: Width, register| {
            let parameters = FeedbackParameters { iv: OctetString::new(iv)?, feedback_bits: width.bits(), register };
            Any::encode_from(&parameters)
        };
        let (oid, parameters) = match self {
            Self::Cbc { iv } => (SM4_CBC, vector(iv)),
            Self::Ctr { counter } => (SM4_CTR, vector(counter)),
            Self::Ofb { iv, width: Width::FULL, .. } => (SM4_OFB, vector(iv)),
            Self::Ofb { iv, width, feedback } => {
                let register = if *feedback == Feedback::Whole { Register::Whole } else { Register::Shifted };
                (SM4_OFB, wide(iv, *width, Some(register)))
            }
            Self::Cfb { iv, width } => match width.bits() {
                128 => (SM4_CFB, vector(iv)),
                8 => (SM4_CFB8, vector(iv)),
                1 => (SM4_CFB1, vector(iv)),
                _ => (SM4_CFB, wide(iv, *width, None)),
            },
            Self::Gcm { nonce } => (SM4_GCM, tagged(nonce)),
            Self::Ccm { nonce } => (SM4_CCM, tagged(nonce)),
        };
        Ok(AlgorithmIdentifierOwned { oid, parameters: Some(parameters?) })
    }

    pub(crate) fn from_algorithm(algorithm: &AlgorithmIdentifierOwned) -> Result<Self, Error> {
        let parameters = algorithm.parameters.as_ref().ok_or(Error::Mode)?;
        let iv = || initial_vector(parameters);
        let bits = |bits| Width::from_bits(bits);
        Ok(match algorithm.oid {
            SM4 | SM4_CBC => Self::Cbc { iv: iv()? },
            SM4_CTR => Self::Ctr { counter: iv()? },
            SM4_CFB1 => Self::Cfb { iv: iv()?, width: bits(1)? },
            SM4_CFB8 => Self::Cfb { iv: iv()?, width: bits(8)? },
            SM4_GCM => Self::Gcm { nonce: aead_nonce(parameters)? },
            SM4_CCM => Self::Ccm { nonce: aead_nonce(parameters)? },
            SM4_OFB | SM4_CFB => match (iv(), algorithm.oid) {
                (Ok(iv), SM4_CFB) => Self::Cfb { iv, width: Width::FULL },
                (Ok(iv), _) => Self::Ofb { iv, width: Width::FULL, feedback: Feedback::Whole },
                (Err(_), oid) => with_width(parameters, oid == SM4_OFB)?,
            },
            _ => return Err(Error::Mode),
        })
    }
}

fn initial_vector(parameters: &Any) -> Result<[u8; BLOCK_BYTES], Error> {
    let octets = parameters.decode_as::<&OctetStringRef>().map_err(|_| Error::Mode)?;
    octets.as_bytes().try_into().map_err(|_| Error::Mode)
}

fn aead_nonce(parameters: &Any) -> Result<[u8; AEAD_NONCE_BYTES], Error> {
    let found: AeadParameters = parameters.decode_as().map_err(|_| Error::Mode)?;
    // RFC 5084's default of 12 is left out when it is meant, and a shorter tag than ours is none we would trust.
    if usize::from(found.tag_bytes) != TAG_BYTES {
        return Err(Error::Mode);
    }
    found.nonce.as_bytes().try_into().map_err(|_| Error::Mode)
}

/// A width in parameters of its own: only those that no identifier or plain initial vector says, so that each mode has one form.
fn with_width(parameters: &Any, output_feedback: bool) -> Result<Mode, Error> {
    let found: FeedbackParameters = parameters.decode_as().map_err(|_| Error::Mode)?;
    let iv = found.iv.as_bytes().try_into().map_err(|_| Error::Mode)?;
    let width = Width::from_bits(found.feedback_bits)?;
    let mode = match (output_feedback, found.register) {
        (true, Some(Register::Whole)) => Mode::Ofb { iv, width, feedback: Feedback::Whole },
        (true, Some(Register::Shifted)) => Mode::Ofb { iv, width, feedback: Feedback::Shifted },
        (false, None) => Mode::Cfb { iv, width },
        _ => return Err(Error::Mode),
    };
    let named_otherwise = width == Width::FULL || (!output_feedback && matches!(width.bits(), 1 | 8));
    if named_otherwise { Err(Error::Mode) } else { Ok(mode) }
}

/// True for parameters that are absent or NULL.
pub(crate) fn no_parameters(algorithm: &AlgorithmIdentifierOwned) -> bool {
    algorithm.parameters.as_ref().is_none_or(|any| *any == Any::from(Null))
}

/// An algorithm without anything beside its name.
pub(crate) fn plain(oid: ObjectIdentifier, parameters: Option<Any>) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid, parameters }
}
