//! SM2 encryption to a public key (GB/T 32918.4), as the DER `SM2Cipher` of GM/T 0009 7.2. For keys and other short secrets; the
//! delivery of whole key pairs is `enveloped_key.rs`, messages are `message`'s. Whoever decrypts learns from an error whether
//! the bytes were DER, and nothing else: point off the curve, wrong key and changed text are one error.

use der::{
    Encode, Sequence,
    asn1::{OctetString, Uint},
};
use sm2::{
    AffinePoint, NonZeroScalar, ProjectivePoint,
    elliptic_curve::{point::AffineCoordinates, subtle::ConstantTimeEq},
};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    Error,
    signed::strict,
    sm2::{PublicKey, SecretKey},
    sm3::{Sm3, sm3},
};

/// Longest plain text, bytes. More is a message with a symmetric key, not an SM2 cipher text.
pub const PLAIN_BYTES_MAX: usize = 1024 * 1024;

/// `SM2Cipher ::= SEQUENCE { XCoordinate INTEGER, YCoordinate INTEGER, HASH OCTET STRING SIZE(32), CipherText OCTET STRING }`.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct Sm2Cipher {
    x: Uint,
    y: Uint,
    hash: OctetString,
    text: OctetString,
}

impl PublicKey {
    /// Encrypts `plain` to the holder of this key; `fill` gives 32 bytes of fresh randomness each time it is asked. The result
    /// is DER of an `SM2Cipher`.
    ///
    /// # Errors
    /// [`Error::PlainLength`] for nothing, or more than [`PLAIN_BYTES_MAX`]; [`Error::Randomness`] when `fill` fails.
    pub fn encrypt(&self, plain: &[u8], fill: impl FnMut(&mut [u8]) -> Result<(), Error>) -> Result<Vec<u8>, Error> {
        Ok(self.encrypt_cipher(plain, fill)?.to_der()?)
    }

    pub(crate) fn encrypt_cipher(
        &self,
        plain: &[u8],
        mut fill: impl FnMut(&mut [u8]) -> Result<(), Error>,
    ) -> Result<Sm2Cipher, Error> {
        // With nothing to hide the key stream has no bits, which the standard's "not all zero" can never allow.
        if plain.is_empty() || plain.len() > PLAIN_BYTES_MAX {
            return Err(Error::PlainLength);
        }
        let holder = ProjectivePoint::from(*self.affine());
        loop {
            let k = Zeroizing::new(random_scalar(&mut fill)?);
            let first = (ProjectivePoint::GENERATOR * **k).to_affine();
            let shared = Shared::of((holder * **k).to_affine());
            let mut text = plain.to_vec();
            if !shared.apply(&mut text) {
                continue;
            }
            return Ok(Sm2Cipher {
                x: Uint::new(&first.x())?,
                y: Uint::new(&first.y())?,
                hash: OctetString::new(shared.hash(plain))?,
                text: OctetString::new(text)?,
            });
        }
    }
}

impl SecretKey {
    /// Decrypts the DER of an `SM2Cipher`. The result is wiped when dropped.
    ///
    /// # Errors
    /// [`Error::Der`] or [`Error::NotCanonical`] for bytes that are not one `SM2Cipher` (also trailing ones);
    /// [`Error::Decrypt`] for everything else, without saying what.
    pub fn decrypt(&self, der: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        // Nothing is parsed of what no encryption of ours could be.
        if der.len() > PLAIN_BYTES_MAX + 256 {
            return Err(Error::Decrypt);
        }
        self.decrypt_cipher(&strict::<Sm2Cipher>(der)?)
    }

    pub(crate) fn decrypt_cipher(&self, cipher: &Sm2Cipher) -> Result<Zeroizing<Vec<u8>>, Error> {
        let body = cipher.text.as_bytes();
        if body.is_empty() || body.len() > PLAIN_BYTES_MAX {
            return Err(Error::Decrypt);
        }
        // A point off the curve would leak the key bit by bit; the cofactor is 1, so on the curve is in the group.
        let first = AffinePoint::from_coordinates(&coordinate(&cipher.x)?.into(), &coordinate(&cipher.y)?.into());
        let first = Option::<AffinePoint>::from(first).ok_or(Error::Decrypt)?;
        let secret = Zeroizing::new(self.inner().to_nonzero_scalar());
        let shared = Shared::of((ProjectivePoint::from(first) * **secret).to_affine());
        let mut plain = Zeroizing::new(body.to_vec());
        let used = shared.apply(&mut plain);
        let same = shared.hash(&plain).ct_eq(&hash_of(cipher)?);
        if used && bool::from(same) { Ok(plain) } else { Err(Error::Decrypt) }
    }
}

fn hash_of(cipher: &Sm2Cipher) -> Result<[u8; 32], Error> {
    cipher.hash.as_bytes().try_into().map_err(|_| Error::Decrypt)
}

/// A coordinate of 32 bytes from an INTEGER that may be shorter.
fn coordinate(value: &Uint) -> Result<[u8; 32], Error> {
    let bytes = value.as_bytes();
    let mut out = [0; 32];
    let start = out.len().checked_sub(bytes.len()).ok_or(Error::Decrypt)?;
    out.get_mut(start..).ok_or(Error::Decrypt)?.copy_from_slice(bytes);
    Ok(out)
}

/// k of 1..=n-1.
fn random_scalar(fill: &mut impl FnMut(&mut [u8]) -> Result<(), Error>) -> Result<NonZeroScalar, Error> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    loop {
        fill(bytes.as_mut())?;
        if let Some(found) = Option::<NonZeroScalar>::from(NonZeroScalar::from_repr((*bytes).into())) {
            return Ok(found);
        }
    }
}

/// x2 and y2, which only sender and holder know.
struct Shared {
    x: Zeroizing<[u8; 32]>,
    y: Zeroizing<[u8; 32]>,
}

impl Shared {
    fn of(point: AffinePoint) -> Self {
        Self { x: Zeroizing::new(point.x().into()), y: Zeroizing::new(point.y().into()) }
    }

    /// Puts the key stream KDF(x2 || y2) over `text` (GB/T 32918.4 5.4.3); false when it was all zero.
    fn apply(&self, text: &mut [u8]) -> bool {
        let mut any = 0;
        for (counter, piece) in (1_u32..).zip(text.chunks_mut(32)) {
            let mut stream = sm3(&[&*self.x, &*self.y, &counter.to_be_bytes()]);
            for (byte, key) in piece.iter_mut().zip(stream.iter()) {
                *byte ^= key;
                any |= key;
            }
            stream.zeroize();
        }
        any != 0
    }

    /// C3 = SM3(x2 || M || y2).
    fn hash(&self, plain: &[u8]) -> [u8; 32] {
        let mut state = Sm3::new();
        state.update(&*self.x).update(plain).update(&*self.y);
        state.finish()
    }
}
