//! SM4's modes of operation (GB/T 17964; GB/T 38541 names CBC, OFB, CFB and CTR; GCM and CCM as RFC 8998 uses them). A mode is a
//! typed value with everything but the key: what was encrypted can be decrypted only with the same value, so whoever stores a
//! cipher text stores its mode beside it ([`Mode::to_der`]). Key, block and counter mode are `sm4.rs`, odd widths `feedback.rs`.

use aes_gcm::{
    AeadInOut,
    aead::consts::{U12, U16},
};
use ctr::cipher::{
    BlockModeDecrypt, BlockModeEncrypt, KeyInit, KeyIvInit, StreamCipher,
    block_padding::{NoPadding, Pkcs7},
};
use zeroize::Zeroizing;

use crate::{
    Error,
    feedback::{self, Fed},
    sm4::Key,
};

type Gcm = aes_gcm::AesGcm<sm4::Sm4, U12, U16>;
type Ccm = ccm::Ccm<sm4::Sm4, U16, U12>;

/// Bytes of a block, and of every initial vector and first counter block.
pub const BLOCK_BYTES: usize = 16;
/// Bytes of the nonce of GCM and CCM.
pub const AEAD_NONCE_BYTES: usize = 12;
/// Bytes that GCM and CCM add: the tag, behind the cipher text.
pub const TAG_BYTES: usize = 16;

/// How many bits are fed back at a time (GM/T 0016 `FeedBitLen`): 1, or a multiple of 8 up to 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width(u8);

impl Width {
    /// The whole block: what everybody means who names no width.
    pub const FULL: Self = Self(128);

    /// A width of `bits`.
    ///
    /// # Errors
    /// [`Error::Mode`] for any other width.
    pub fn from_bits(bits: u8) -> Result<Self, Error> {
        if bits == 1 || (bits.is_multiple_of(8) && (8..=128).contains(&bits)) {
            Ok(Self(bits))
        } else {
            Err(Error::Mode)
        }
    }

    /// Bits: 1..=128.
    pub fn bits(self) -> u8 {
        self.0
    }
}

/// Which of two readings of output feedback; they differ for every width but the full one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// The whole block is fed back (ISO/IEC 10116, on which GB/T 17964 rests).
    Whole,
    /// Only the bits that were used are shifted in (FIPS 81, BouncyCastle).
    Shifted,
}

/// A mode of operation with its initial vector, which must be fresh for every text under one key.
///
/// Only GCM and CCM detect a change. After any of the others somebody must check a signature or a code over the cipher text;
/// CBC's padding is no such check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Cipher block chaining with PKCS#7 padding; the initial vector must be unpredictable.
    Cbc {
        /// Initial vector.
        iv: [u8; BLOCK_BYTES],
    },
    /// Counter mode; the counter goes up as one big-endian number.
    Ctr {
        /// First counter block.
        counter: [u8; BLOCK_BYTES],
    },
    /// Output feedback.
    Ofb {
        /// Initial vector.
        iv: [u8; BLOCK_BYTES],
        /// Bits used at a time. Other widths than the full one are a matter between two parties.
        width: Width,
        /// What goes back into the register.
        feedback: Feedback,
    },
    /// Cipher feedback.
    Cfb {
        /// Initial vector.
        iv: [u8; BLOCK_BYTES],
        /// Bits fed back at a time.
        width: Width,
    },
    /// Galois/counter mode with a tag of 16 bytes behind the cipher text (RFC 8998).
    Gcm {
        /// Never twice under one key: a second use gives the authentication key away.
        nonce: [u8; AEAD_NONCE_BYTES],
    },
    /// Counter with CBC-MAC, with a tag of 16 bytes behind the cipher text (RFC 8998); texts below 16 MiB.
    Ccm {
        /// Never twice under one key.
        nonce: [u8; AEAD_NONCE_BYTES],
    },
}

impl Mode {
    /// Encrypts `plain`. `associated` is authenticated along with it and must be empty but for GCM and CCM.
    ///
    /// # Errors
    /// [`Error::Mode`] for associated data in a mode that has none, or a text too long for the mode.
    pub fn encrypt(&self, key: &Key, plain: &[u8], associated: &[u8]) -> Result<Vec<u8>, Error> {
        self.check_associated(associated)?;
        let mut text = plain.to_vec();
        match self {
            Self::Cbc { iv } => {
                return Ok(cbc::Encryptor::<sm4::Sm4>::new(key.as_bytes().into(), iv.into())
                    .encrypt_padded_vec::<Pkcs7>(plain));
            }
            Self::Ctr { counter } => key.apply_ctr(counter, &mut text),
            Self::Ofb { iv, width, feedback } => apply_ofb(key, iv, *width, *feedback, &mut text),
            Self::Cfb { iv, width: Width(128) } => {
                cfb_mode::Encryptor::<sm4::Sm4>::new(key.as_bytes().into(), iv.into()).encrypt(&mut text);
            }
            Self::Cfb { iv, width: Width(8) } => {
                cfb8::Encryptor::<sm4::Sm4>::new(key.as_bytes().into(), iv.into()).encrypt(&mut text);
            }
            Self::Cfb { iv, width } => feedback::apply(key, iv, width.bits(), Fed::Output, &mut text),
            Self::Gcm { nonce } => {
                let tag = Gcm::new(key.as_bytes().into()).encrypt_inout_detached(
                    nonce.into(),
                    associated,
                    text.as_mut_slice().into(),
                );
                text.extend_from_slice(&tag.map_err(|_| Error::Mode)?);
            }
            Self::Ccm { nonce } => {
                let tag = Ccm::new(key.as_bytes().into()).encrypt_inout_detached(
                    nonce.into(),
                    associated,
                    text.as_mut_slice().into(),
                );
                text.extend_from_slice(&tag.map_err(|_| Error::Mode)?);
            }
        }
        Ok(text)
    }

    /// Decrypts what [`Self::encrypt`] gave. The result is wiped when dropped.
    ///
    /// # Errors
    /// [`Error::Decrypt`] for padding or a tag that is not right, or a length that cannot be: the same for every reason.
    /// [`Error::Mode`] as [`Self::encrypt`].
    pub fn decrypt(&self, key: &Key, cipher: &[u8], associated: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.check_associated(associated)?;
        let mut text = Zeroizing::new(cipher.to_vec());
        match self {
            Self::Cbc { iv } => {
                let decryptor = cbc::Decryptor::<sm4::Sm4>::new(key.as_bytes().into(), iv.into());
                decryptor.decrypt_padded::<NoPadding>(text.as_mut_slice()).map_err(|_| Error::Decrypt)?;
                unpad(&mut text)?;
            }
            Self::Ctr { counter } => key.apply_ctr(counter, &mut text),
            Self::Ofb { iv, width, feedback } => apply_ofb(key, iv, *width, *feedback, &mut text),
            Self::Cfb { iv, width: Width(128) } => {
                cfb_mode::Decryptor::<sm4::Sm4>::new(key.as_bytes().into(), iv.into()).decrypt(&mut text);
            }
            Self::Cfb { iv, width: Width(8) } => {
                cfb8::Decryptor::<sm4::Sm4>::new(key.as_bytes().into(), iv.into()).decrypt(&mut text);
            }
            Self::Cfb { iv, width } => feedback::apply(key, iv, width.bits(), Fed::Input, &mut text),
            Self::Gcm { nonce } => open(&Gcm::new(key.as_bytes().into()), nonce, associated, &mut text)?,
            Self::Ccm { nonce } => open(&Ccm::new(key.as_bytes().into()), nonce, associated, &mut text)?,
        }
        Ok(text)
    }

    fn check_associated(&self, associated: &[u8]) -> Result<(), Error> {
        let authenticates = matches!(self, Self::Gcm { .. } | Self::Ccm { .. });
        if authenticates || associated.is_empty() { Ok(()) } else { Err(Error::Mode) }
    }
}

/// Output feedback is its own inverse.
fn apply_ofb(key: &Key, iv: &[u8; BLOCK_BYTES], width: Width, feedback: Feedback, text: &mut [u8]) {
    match (width, feedback) {
        // Both readings are one here.
        (Width::FULL, _) => ofb::Ofb::<sm4::Sm4>::new(key.as_bytes().into(), iv.into()).apply_keystream(text),
        (_, Feedback::Whole) => feedback::apply(key, iv, width.bits(), Fed::Block, text),
        (_, Feedback::Shifted) => feedback::apply(key, iv, width.bits(), Fed::Stream, text),
    }
}

/// Checks the tag behind `text`, decrypts and cuts it off. Nothing is decrypted when the tag is wrong.
fn open<A>(aead: &A, nonce: &[u8; AEAD_NONCE_BYTES], associated: &[u8], text: &mut Vec<u8>) -> Result<(), Error>
where
    A: AeadInOut<NonceSize = U12, TagSize = U16>,
{
    let length = text.len().checked_sub(TAG_BYTES).ok_or(Error::Decrypt)?;
    let (body, tag) = text.split_at_mut_checked(length).ok_or(Error::Decrypt)?;
    let tag: [u8; TAG_BYTES] = (&*tag).try_into().map_err(|_| Error::Decrypt)?;
    let outcome = aead.decrypt_inout_detached(nonce.into(), associated, body.into(), (&tag).into());
    outcome.map_err(|_| Error::Decrypt)?;
    text.truncate(length);
    Ok(())
}

/// Takes PKCS#7 padding off. Every byte of the last block is looked at whatever it holds, so that the time does not say where
/// the padding went wrong.
fn unpad(text: &mut Vec<u8>) -> Result<(), Error> {
    let last = text.len().checked_sub(BLOCK_BYTES).and_then(|start| text.get(start..)).ok_or(Error::Decrypt)?;
    let count = last.last().copied().unwrap_or(0);
    let mut wrong = u8::from(count == 0) | u8::from(count > 16);
    for (distance, byte) in (1_u8..).zip(last.iter().rev()) {
        let padding = u8::from(distance <= count).wrapping_neg();
        wrong |= padding & (byte ^ count);
    }
    if std::hint::black_box(wrong) != 0 {
        return Err(Error::Decrypt);
    }
    text.truncate(text.len() - usize::from(count));
    Ok(())
}
