//! One shape for every detached signature of the evidence: the signed bytes as they were, who signed, the signature.
//! What the bytes mean is their owner's business (`ledger`, `trade`).

use der::{Decode, Encode, Sequence, Writer, asn1::OctetString};

use crate::{
    Error,
    sign::Sign,
    sm2::{PublicKey, Verdict},
    sm3::Hash,
};

/// `Signed ::= SEQUENCE { tbs OCTET STRING, certId OCTET STRING (SIZE (32)), signature OCTET STRING }` of
/// `docs/evidence.asn1`. The signature covers exactly the octets of `tbs`.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Signed {
    tbs: OctetString,
    cert_id: OctetString,
    signature: OctetString,
}

impl Signed {
    /// Signs `tbs`; `cert_id` names the certificate that belongs to `key` (SM3 of its DER).
    ///
    /// # Errors
    /// Those of [`Sign::sign`]; [`Error::Der`] when `tbs` is larger than DER lengths allow.
    pub fn seal(tbs: Vec<u8>, cert_id: &Hash, key: &dyn Sign) -> Result<Self, Error> {
        let signature = key.sign(&tbs)?;
        Self::from_parts(tbs, cert_id, signature)
    }

    /// Puts received parts together; nothing is verified.
    ///
    /// # Errors
    /// [`Error::Der`] when a part is larger than DER lengths allow.
    pub fn from_parts(tbs: Vec<u8>, cert_id: &Hash, signature: Vec<u8>) -> Result<Self, Error> {
        Ok(Self {
            tbs: OctetString::new(tbs)?,
            cert_id: OctetString::new(cert_id.to_vec())?,
            signature: OctetString::new(signature)?,
        })
    }

    /// The signed octets, as received.
    pub fn tbs(&self) -> &[u8] {
        self.tbs.as_bytes()
    }

    /// Id of the signer's certificate: SM3 of its DER.
    pub fn cert_id(&self) -> Hash {
        self.cert_id.as_bytes().try_into().unwrap_or([0; 32])
    }

    /// The DER `SM2Signature`.
    pub fn signature(&self) -> &[u8] {
        self.signature.as_bytes()
    }

    /// Checks the signature under `key`; whether `key` belongs to [`Self::cert_id`] is the caller's question.
    pub fn verify(&self, key: &PublicKey) -> Verdict {
        key.verify(self.tbs(), self.signature())
    }

    /// DER of the whole.
    ///
    /// # Errors
    /// [`Error::Der`] when the parts are larger than DER lengths allow.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        Ok(self.to_der()?)
    }

    /// Reads strict DER: trailing bytes, a second encoding of the same value, or a certificate id of another length are
    /// refused.
    ///
    /// # Errors
    /// [`Error::Der`] or [`Error::CertIdLength`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        strict::<Self>(bytes)?.checked()
    }

    /// What was read as a part of something larger, after the check that [`Self::from_bytes`] makes beyond DER.
    ///
    /// # Errors
    /// [`Error::CertIdLength`].
    pub fn checked(self) -> Result<Self, Error> {
        if self.cert_id.as_bytes().len() == 32 { Ok(self) } else { Err(Error::CertIdLength) }
    }
}

/// Decodes one DER value and refuses bytes that differ from its canonical re-encoding: the rule of every decoder of the
/// evidence.
///
/// # Errors
/// [`Error::Der`] when the bytes are not DER of a `T`; [`Error::NotCanonical`] when they re-encode otherwise.
pub fn strict<T: for<'a> Decode<'a, Error = der::Error> + Encode>(bytes: &[u8]) -> Result<T, Error> {
    let value = T::from_der(bytes)?;
    let mut rest = Rest { bytes, differs: false };
    match value.encode(&mut rest) {
        Ok(()) if rest.bytes.is_empty() => Ok(value),
        Err(error) if !rest.differs => Err(error.into()),
        _ => Err(Error::NotCanonical),
    }
}

/// What was read and has not been written again: compared as it is written, nothing is kept.
struct Rest<'a> {
    bytes: &'a [u8],
    differs: bool,
}

impl Writer for Rest<'_> {
    fn write(&mut self, slice: &[u8]) -> der::Result<()> {
        match self.bytes.strip_prefix(slice) {
            Some(rest) => {
                self.bytes = rest;
                Ok(())
            }
            None => {
                self.differs = true;
                Err(der::ErrorKind::Failed.into())
            }
        }
    }
}
