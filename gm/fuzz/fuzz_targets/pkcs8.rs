//! Key files: plain, SEC 1 and encrypted, as text with anything around it. Rounds of PBKDF2 are bounded, so that the fuzzer's time
//! goes into parsing: inputs that name many are passed over.
#![no_main]

use hufu_gm::pbes2::{self, Password};
use libfuzzer_sys::fuzz_target;

/// PBKDF2's rounds as a fuzzer would find them: an INTEGER of three bytes or more is more than it has time for.
fn is_slow(data: &[u8]) -> bool {
    data.windows(2).any(|pair| pair[0] == 2 && (3..=4).contains(&pair[1]))
}

fuzz_target!(|data: &[u8]| {
    let password = Password::new(b"p").expect("a password");
    if !is_slow(data) {
        let _ = pbes2::decrypt(data, &password);
    }
    if let Ok(found) = hufu_gm::keyfile::parse(data, None) {
        let again = hufu_gm::keyfile::parse(data, None).expect("the same again");
        assert_eq!(found.public_key(), again.public_key());
    }
    let _ = Password::new(data);
});
