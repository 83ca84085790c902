//! The operating system's randomness: what composition roots pass as `fill` to [`crate::sm2::SecretKey::generate`] and use
//! for serial numbers and salt keys. Nothing else in this crate is random; tests pass bytes of their own.

use crate::Error;

/// Fills `bytes` from the operating system.
///
/// # Errors
/// [`Error::Randomness`] when it has none; the caller should stop.
pub fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|_| Error::Randomness)
}
