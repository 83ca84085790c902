//! SM2 signatures (GB/T 32918.2, used as GM/T 0009 says: ZA with the default id, SM3, DER `SEQUENCE { r, s }`).
//! Key files live in `keyfile.rs`; certificates in `cert.rs`. `libsm` never comes near this file: it is not constant time.

use std::sync::{Arc, LazyLock};

use sm2::dsa::signature::{Signer, Verifier, hazmat::PrehashSigner};

use crate::{
    Error,
    known::Table,
    sm3::{Hash, Sm3, sm3},
};

/// The user id every party of the trade uses (GM/T 0009 clause 10). Always written explicitly: OpenSSL before 4.0 defaults
/// to an empty one.
pub const USER_ID: &str = "1234567812345678";

/// An SM2 secret key. Its memory is wiped when dropped; `Debug` never shows it. What the arithmetic leaves on the stack while
/// it signs is out of reach.
#[derive(Clone)]
pub struct SecretKey {
    key: sm2::SecretKey,
    /// On the heap, so that moving the key leaves no copy where it was.
    signing: Box<sm2::dsa::SigningKey>,
}

/// A key that everybody knows: what a wiped one is overwritten with, because the library's signing key wipes nothing itself.
static KNOWN: LazyLock<Option<sm2::dsa::SigningKey>> = LazyLock::new(|| {
    let mut one = [0; 32];
    one[31] = 1;
    sm2::dsa::SigningKey::from_slice(USER_ID, &one).ok()
});

impl SecretKey {
    fn wipe(&mut self) {
        if let Some(known) = KNOWN.as_ref() {
            known.clone_into(&mut self.signing);
            // The compiler may not leave the write away because nobody reads it any more.
            std::hint::black_box(&mut self.signing);
        }
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl SecretKey {
    /// Makes a key from 32 bytes of fresh randomness given by `fill`; asks again for the values that are out of range.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `fill` fails.
    pub fn generate(mut fill: impl FnMut(&mut [u8]) -> Result<(), Error>) -> Result<Self, Error> {
        let mut bytes = zeroize::Zeroizing::new([0_u8; 32]);
        loop {
            fill(bytes.as_mut())?;
            if let Ok(key) = Self::from_scalar(bytes.as_ref()) {
                return Ok(key);
            }
        }
    }

    /// Takes a big-endian scalar of 32 bytes, `1 <= d <= n-2`.
    ///
    /// # Errors
    /// [`Error::SecretKeyRange`] for any other value or length.
    pub fn from_scalar(bytes: &[u8]) -> Result<Self, Error> {
        // d = n-1 makes 1+d zero, so signing would have no inverse: the library accepts it, the standard does not.
        if bytes.len() != 32 || bytes >= N_MINUS_1.as_slice() {
            return Err(Error::SecretKeyRange);
        }
        let key = sm2::SecretKey::from_slice(bytes).map_err(|_| Error::SecretKeyRange)?;
        Self::from_inner(key)
    }

    pub(crate) fn from_inner(key: sm2::SecretKey) -> Result<Self, Error> {
        let signing = sm2::dsa::SigningKey::new(USER_ID, &key).map_err(|_| Error::SecretKeyRange)?;
        Ok(Self { key, signing: Box::new(signing) })
    }

    pub(crate) fn inner(&self) -> &sm2::SecretKey {
        &self.key
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::of(self.signing.verifying_key().clone())
    }

    /// Signs `message` (ZA and SM3 included); the result is the DER signature of at most 72 bytes. The nonce is RFC 6979's,
    /// so the same key and message give the same bytes.
    ///
    /// # Errors
    /// [`Error::Sign`] in the arithmetic corner cases of the standard's step A5 and A6 (chance about 2^-256).
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature: sm2::dsa::Signature = self.signing.try_sign(message).map_err(|_| Error::Sign)?;
        Ok(signature.to_der().as_ref().to_vec())
    }

    /// Signs a digest `e = SM3(ZA || M)` that somebody else computed: [`PublicKey::digest`]. Whoever may ask for this may have
    /// anything signed. The result is as that of [`Self::sign`].
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn sign_digest(&self, digest: &Hash) -> Result<Vec<u8>, Error> {
        let signature: sm2::dsa::Signature = self.signing.sign_prehash(digest).map_err(|_| Error::Sign)?;
        Ok(signature.to_der().as_ref().to_vec())
    }
}

const N_MINUS_1: [u8; 32] = [
    0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x72, 0x03, 0xdf,
    0x6b, 0x21, 0xc6, 0x05, 0x2b, 0x53, 0xbb, 0xf4, 0x09, 0x39, 0xd5, 0x41, 0x22,
];

/// Length of [`USER_ID`] in bits.
const ENTL: [u8; 2] = [0x00, 0x80];
/// a, b, xG and yG of the curve (GB/T 32918.5).
const CURVE: [u8; 128] = [
    0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc, 0x28, 0xe9, 0xfa, 0x9e, 0x9d, 0x9f,
    0x5e, 0x34, 0x4d, 0x5a, 0x9e, 0x4b, 0xcf, 0x65, 0x09, 0xa7, 0xf3, 0x97, 0x89, 0xf5, 0x15, 0xab, 0x8f, 0x92, 0xdd,
    0xbc, 0xbd, 0x41, 0x4d, 0x94, 0x0e, 0x93, 0x32, 0xc4, 0xae, 0x2c, 0x1f, 0x19, 0x81, 0x19, 0x5f, 0x99, 0x04, 0x46,
    0x6a, 0x39, 0xc9, 0x94, 0x8f, 0xe3, 0x0b, 0xbf, 0xf2, 0x66, 0x0b, 0xe1, 0x71, 0x5a, 0x45, 0x89, 0x33, 0x4c, 0x74,
    0xc7, 0xbc, 0x37, 0x36, 0xa2, 0xf4, 0xf6, 0x77, 0x9c, 0x59, 0xbd, 0xce, 0xe3, 0x6b, 0x69, 0x21, 0x53, 0xd0, 0xa9,
    0x87, 0x7c, 0xc6, 0x2a, 0x47, 0x40, 0x02, 0xdf, 0x32, 0xe5, 0x21, 0x39, 0xf0, 0xa0,
];

/// What a signature check found. Three cases, so that no caller can take "could not be read" for "right".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The signature is this key's signature of this message.
    Valid,
    /// Well-formed, but not this key's signature of this message.
    Invalid,
    /// Not a strict DER `SM2Signature` with r and s in range.
    Malformed,
}

impl Verdict {
    /// True only for [`Verdict::Valid`].
    pub fn is_valid(self) -> bool {
        self == Verdict::Valid
    }
}

/// SM3 after the part of ZA that is the same for every key: the user id and the curve.
static ZA_PREFIX: LazyLock<Sm3> = LazyLock::new(|| {
    let mut state = Sm3::new();
    state.update(&ENTL).update(USER_ID.as_bytes()).update(&CURVE);
    state
});

/// An SM2 public key with its ZA computed once.
#[derive(Clone, Debug)]
pub struct PublicKey {
    verifying: sm2::dsa::VerifyingKey,
    za: Hash,
    /// Multiples of the point, where the key is one that comes again and again.
    table: Option<Arc<Table>>,
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.verifying.as_affine() == other.verifying.as_affine()
    }
}
impl Eq for PublicKey {}

impl PublicKey {
    /// Takes an uncompressed point `04 || X || Y` that lies on the curve.
    ///
    /// # Errors
    /// [`Error::PublicKey`] for any other bytes.
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() != 65 || bytes.first() != Some(&4) {
            return Err(Error::PublicKey);
        }
        let verifying = sm2::dsa::VerifyingKey::from_sec1_bytes(USER_ID, bytes).map_err(|_| Error::PublicKey)?;
        Ok(Self::of(verifying))
    }

    fn of(verifying: sm2::dsa::VerifyingKey) -> Self {
        let point = verifying.to_sec1_bytes();
        let mut za = ZA_PREFIX.clone();
        za.update(point.get(1..).unwrap_or_default());
        Self { verifying, za: za.finish(), table: None }
    }

    /// The same key with a table of its multiples ([`crate::known`]): [`crate::known::TABLE_BYTES`] of memory, which clones share,
    /// and every check takes a fraction of its time. Making one costs as much as several checks, so it is for whoever has many
    /// signatures of one key: a platform, an auditor. The answers are the same.
    #[must_use]
    pub fn with_table(&self) -> Self {
        let table = self.table.clone().or_else(|| Table::of(self.affine()).map(Arc::new));
        Self { table, ..self.clone() }
    }

    pub(crate) fn affine(&self) -> &sm2::AffinePoint {
        self.verifying.as_affine()
    }

    /// The uncompressed point, 65 bytes.
    pub fn to_sec1(&self) -> Vec<u8> {
        self.verifying.to_sec1_bytes().into_vec()
    }

    /// What a signature over `message` really signs: `e = SM3(ZA || M)` (GB/T 32918.2 6.1, A1 and A2), ZA being SM3 over the
    /// user id, the curve and this key (5.5).
    pub fn digest(&self, message: &[u8]) -> Hash {
        sm3(&[&self.za, message])
    }

    /// A strict DER signature with r and s in 1..=n-1.
    pub(crate) fn parse(signature: &[u8]) -> Option<sm2::dsa::Signature> {
        let parsed = sm2::dsa::Signature::from_der(signature).ok()?;
        // The parser is strict today; comparing the re-encoding keeps it so: a second encoding of one signature is an attack.
        Some(parsed).filter(|parsed| parsed.to_der().as_ref() == signature)
    }

    /// Checks a DER signature over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Verdict {
        let Some(parsed) = Self::parse(signature) else { return Verdict::Malformed };
        let holds = match &self.table {
            Some(table) => table.holds(&self.digest(message), &parsed) == Some(true),
            None => self.verifying.verify(message, &parsed).is_ok(),
        };
        if holds { Verdict::Valid } else { Verdict::Invalid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiped_key_is_one_that_everybody_knows() {
        let mut key = SecretKey::from_scalar(&[7; 32]).unwrap();
        let (own, place) = (key.public_key(), std::ptr::from_ref(&*key.signing));
        key.wipe();
        assert_ne!(key.public_key(), own);
        let mut one = [0; 32];
        one[31] = 1;
        assert_eq!(key.signing.to_bytes().as_slice(), one);
        assert_eq!(place, std::ptr::from_ref(&*key.signing), "written over, not beside");
    }
}
