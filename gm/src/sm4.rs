//! SM4 in counter mode (GB/T 32907, GB/T 17964): secret bytes at rest. It hides and does not protect against change: whoever
//! decrypts compares a hash he trusts. Where keys are kept and what they encrypt is the caller's business.

use ctr::{
    Ctr128BE,
    cipher::{KeyIvInit, StreamCipher},
};
use zeroize::Zeroizing;

use crate::Error;

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;
/// Bytes of the first counter block.
pub const NONCE_BYTES: usize = 16;

/// An SM4 key. Its memory is wiped when dropped; `Debug` never shows it.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A key of fresh randomness given by `fill`.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `fill` fails.
    pub fn generate(mut fill: impl FnMut(&mut [u8]) -> Result<(), Error>) -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        fill(key.as_mut())?;
        Ok(Self(key))
    }

    /// The key of these bytes.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret itself, for the file that keeps it.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Encrypts or decrypts in place: counter mode is its own inverse. `nonce` is the first counter block, which counts up as
    /// one big-endian number; two texts under one key must never share one.
    pub fn apply_ctr(&self, nonce: &[u8; NONCE_BYTES], bytes: &mut [u8]) {
        Ctr128BE::<sm4::Sm4>::new((&*self.0).into(), nonce.into()).apply_keystream(bytes);
    }
}
