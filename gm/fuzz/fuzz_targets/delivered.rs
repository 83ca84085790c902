//! Delivered key pairs (`SM2EnvelopedKey`).
#![no_main]

use hufu_gm::{enveloped_key, sm2::SecretKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let holder = SecretKey::from_scalar(&[3; 32]).expect("a key");
    if enveloped_key::open(data, &holder).is_ok() {
        assert!(enveloped_key::open(&[data, &[0]].concat(), &holder).is_err());
    }
});
