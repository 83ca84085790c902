//! The one seam between what is signed and who holds the key: a secret key in this process, or somebody else who is asked for
//! each signature. Asking is not done here; a [`SecretKey`] is the only signer of this crate.

use crate::{
    Error,
    sm2::{PublicKey, SecretKey},
};

/// Whoever signs with one SM2 key. What it gives out as a signature must verify under [`Self::public_key`]: a signer that
/// asks somebody else checks every answer first.
pub trait Sign: std::fmt::Debug + Send + Sync {
    /// The public half of its key.
    fn public_key(&self) -> PublicKey;

    /// Signs `message` (ZA and SM3 included); strict DER of at most 72 bytes.
    ///
    /// # Errors
    /// [`Error::Sign`] as [`SecretKey::sign`]; [`Error::NoSignature`] of a signer that is not in this process.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error>;
}

impl Sign for SecretKey {
    fn public_key(&self) -> PublicKey {
        SecretKey::public_key(self)
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        SecretKey::sign(self, message)
    }
}
