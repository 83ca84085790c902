//! DER signatures: the plain check and the table agree on every input, and what is not malformed has one form.
#![no_main]

use std::sync::LazyLock;

use hufu_gm::sm2::{PublicKey, SecretKey, Verdict};
use libfuzzer_sys::fuzz_target;

static KNOWN: LazyLock<(SecretKey, PublicKey)> = LazyLock::new(|| {
    let key = SecretKey::from_scalar(&[3; 32]).expect("a key");
    let known = key.public_key().with_table();
    (key, known)
});

fuzz_target!(|data: &[u8]| {
    let (key, known) = &*KNOWN;
    let verdict = key.public_key().verify(b"m", data);
    assert_eq!(known.verify(b"m", data), verdict);
    if verdict == Verdict::Valid {
        assert_eq!(data, key.sign(b"m").expect("a signature"), "a second signature of one message and nonce");
    }
});
