//! SM3 digests (GB/T 32905) and HMAC-SM3 (GM/T 0042). Nothing here knows keys, files or certificates.

use hmac::{Hmac, KeyInit, Mac};
use sm3::Digest;

/// An SM3 digest: 32 bytes, printed as lower-case hexadecimal wherever a person sees it.
pub type Hash = [u8; 32];

/// An incremental SM3 computation, for input that does not lie in one place.
#[derive(Clone, Default)]
pub struct Sm3(sm3::Sm3);

impl Sm3 {
    /// Starts an empty computation.
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// The digest of all bytes fed so far.
    pub fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

/// SM3 over the concatenation of `parts`.
pub fn sm3(parts: &[&[u8]]) -> Hash {
    let mut state = Sm3::new();
    for part in parts {
        state.update(part);
    }
    state.finish()
}

/// HMAC-SM3 over the concatenation of `parts` under `key` (any length).
pub fn hmac_sm3(key: &[u8], parts: &[&[u8]]) -> Hash {
    // HMAC accepts every key length, so the error branch of the library's constructor cannot be reached.
    let Ok(mut mac) = Hmac::<sm3::Sm3>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
