//! SM2 cipher texts: the only one of this plain text and nonce is the seed; whatever opens has one form.
#![no_main]

use hufu_gm::sm2::SecretKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let key = SecretKey::from_scalar(&[3; 32]).expect("a key");
    if key.decrypt(data).is_ok() {
        assert!(key.decrypt(&[data, &[0]].concat()).is_err());
    }
});
