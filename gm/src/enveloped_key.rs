//! `SM2EnvelopedKey` (GM/T 0009 7.4): how a CA or its key centre hands over the *encryption* key pair of a double certificate,
//! encrypted to the holder's *signing* key. Certificates for the pair are `ca.rs`.

use ctr::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use der::{
    Encode, Sequence,
    asn1::{Any, BitString, Null},
};
use x509_cert::spki::AlgorithmIdentifierOwned;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    Error,
    algorithm::{SM4, SM4_ECB, no_parameters, plain},
    signed::strict,
    sm2::{PublicKey, SecretKey},
    sm2_cipher::Sm2Cipher,
    sm4::{KEY_BYTES, Key},
};

/// `SM2EnvelopedKey ::= SEQUENCE { symAlgID AlgorithmIdentifier, symEncryptedKey SM2Cipher, Sm2PublicKey SM2PublicKey,
/// Sm2EncryptedPrivateKey BIT STRING }`; the last is SM4-ECB of the scalar, 32 bytes, no padding.
#[derive(Sequence)]
struct EnvelopedKey {
    algorithm: AlgorithmIdentifierOwned,
    key: Sm2Cipher,
    public_key: BitString,
    private_key: BitString,
}

/// Wraps `pair` for whoever holds `holder`, the signing key that a certificate request proved. `fill` gives fresh randomness.
///
/// # Errors
/// [`Error::Randomness`] when `fill` fails.
pub fn wrap(
    pair: &SecretKey,
    holder: &PublicKey,
    mut fill: impl FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    let session = Key::generate(&mut fill)?;
    let mut scalar = Zeroizing::new(<[u8; 32]>::from(pair.inner().to_bytes()));
    let cipher = sm4::Sm4::new(session.as_bytes().into());
    for half in scalar.chunks_exact_mut(KEY_BYTES) {
        let block = half.try_into().map_err(|_| Error::SecretKeyRange)?;
        cipher.encrypt_block(block);
    }
    let document = EnvelopedKey {
        algorithm: plain(SM4_ECB, Some(Any::from(Null))),
        key: holder.encrypt_cipher(session.as_bytes(), fill)?,
        public_key: BitString::from_bytes(&pair.public_key().to_sec1())?,
        private_key: BitString::from_bytes(&*scalar)?,
    };
    Ok(document.to_der()?)
}

/// Opens what [`wrap`] made, or a CA, with the holder's signing key.
///
/// # Errors
/// [`Error::Der`] or [`Error::NotCanonical`] for bytes that are not one `SM2EnvelopedKey`; [`Error::Mode`] for another cipher
/// than SM4; [`Error::Decrypt`] when it is not for this holder, was changed, or its two halves are not a pair.
pub fn open(der: &[u8], holder: &SecretKey) -> Result<SecretKey, Error> {
    let document: EnvelopedKey = strict(der)?;
    if !matches!(document.algorithm.oid, SM4 | SM4_ECB) || !no_parameters(&document.algorithm) {
        return Err(Error::Mode);
    }
    let session = holder.decrypt_cipher(&document.key)?;
    let session: [u8; KEY_BYTES] = session.as_slice().try_into().map_err(|_| Error::Decrypt)?;
    let session = Key::from_bytes(session);
    let private = document.private_key.as_bytes().ok_or(Error::Decrypt)?;
    let mut scalar = Zeroizing::new(<[u8; 32]>::try_from(private).map_err(|_| Error::Decrypt)?);
    let cipher = sm4::Sm4::new(session.as_bytes().into());
    for half in scalar.chunks_exact_mut(KEY_BYTES) {
        let block = half.try_into().map_err(|_| Error::Decrypt)?;
        cipher.decrypt_block(block);
    }
    let pair = SecretKey::from_scalar(&*scalar).map_err(|_| Error::Decrypt)?;
    scalar.zeroize();
    let named = document.public_key.as_bytes();
    if named == Some(pair.public_key().to_sec1().as_slice()) { Ok(pair) } else { Err(Error::Decrypt) }
}
