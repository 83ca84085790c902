//! The second implementation that must agree: hashes, and verification by `libsm`, which shares no code with `sm2.rs`. Only public
//! values come here, because libsm is not constant time; and only after our own strict parser has passed them, because
//! libsm's DER reader panics on short input. Off unless the feature `cross-check` is on.

use libsm::sm2::signature::{SigCtx, Signature};

use libsm::{sm3::hash::Sm3Hash, sm4};

use crate::{
    mode::BLOCK_BYTES,
    sm2::{PublicKey, Verdict},
    sm3::Hash,
};

/// SM3 of `message` as libsm computes it.
pub fn sm3_with_libsm(message: &[u8]) -> Hash {
    Sm3Hash::new(message).get_hash()
}

/// SM4 in counter mode as libsm computes it, over texts that are no secrets: its cipher looks up tables by key and text, as ours
/// does, and wipes nothing. `None` never in practice.
pub fn sm4_ctr_with_libsm(key: &[u8; 16], counter: &[u8; BLOCK_BYTES], text: &[u8]) -> Option<Vec<u8>> {
    let cipher = sm4::Cipher::new(key, sm4::Mode::Ctr).ok()?;
    cipher.encrypt(&[], text, counter).ok()
}

/// What libsm says of a DER signature over `message` under the uncompressed point `public_key`, with the default user id.
///
/// [`Verdict::Malformed`] when the point or the signature does not pass our strict parser; libsm never sees it then. The
/// first call of a process is slow: libsm fills its tables (about a second without optimisation of dependencies).
pub fn verify_with_libsm(public_key: &[u8], message: &[u8], signature: &[u8]) -> Verdict {
    if PublicKey::from_sec1(public_key).is_err() {
        return Verdict::Malformed;
    }
    let Ok(parsed) = sm2::dsa::Signature::from_der(signature) else { return Verdict::Malformed };
    if parsed.to_der().as_ref() != signature {
        return Verdict::Malformed;
    }
    let raw = parsed.to_bytes();
    let (r, s) = raw.split_at(raw.len() / 2);
    let context = SigCtx::new();
    let agreed =
        context.load_pubkey(public_key).and_then(|point| context.verify(message, &point, &Signature::new(r, s)));
    if matches!(agreed, Ok(true)) { Verdict::Valid } else { Verdict::Invalid }
}
