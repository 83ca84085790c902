//! Texts with PEM blocks of every kind that is read.
#![no_main]

use hufu_gm::{Certificate, Crl, Csr};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = (Certificate::from_pem_many(text), Crl::from_pem_many(text), Csr::from_pem(text));
});
