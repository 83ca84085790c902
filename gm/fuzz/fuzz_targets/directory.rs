//! Answers of a directory, and addresses of one.
#![no_main]

use hufu_gm::directory::{self, Address};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(found) = directory::read_answer(data, &["userCertificate", "certificateRevocationList"]) {
        assert!(found.iter().map(Vec::len).sum::<usize>() <= data.len());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(address) = Address::parse(text) {
            assert!(!address.to_string().chars().any(char::is_control));
        }
    }
});
