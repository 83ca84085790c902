//! Seals and their use.
#![no_main]

use hufu_gm::{Judgement, Trust, seal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Without an anchor nothing is valid, whatever it is.
    let trust = Trust { anchors: &[], known: &[], crls: &[], at_ns: 1_780_000_000_000_000_000 };
    assert!(!matches!(seal::verify_seal(data, &trust), Judgement::Valid(_)));
    assert!(!matches!(seal::verify(data, &[7; 32], &trust), Judgement::Valid(_)));
    if let Ok(found) = seal::read_seal(data) {
        assert!(found.der.len() < data.len() && found.start_s <= found.end_s);
        assert!(seal::read_seal(&[data, &[0]].concat()).is_err());
    }
});
