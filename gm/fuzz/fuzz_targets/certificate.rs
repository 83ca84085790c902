//! Certificates: what is read is kept byte for byte, answers every question, and nothing of it is trusted by itself.
#![no_main]

use hufu_gm::{Certificate, Usage, verify_chain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(found) = Certificate::from_der(data) else { return };
    assert_eq!(found.der(), data);
    assert!(Certificate::from_der(&[data, &[0]].concat()).is_err());
    let _ = (found.subject(), found.issuer(), found.common_name(), found.dns_names(), found.serial_hex());
    let again = Certificate::from_pem_many(&found.to_pem()).expect("our own PEM");
    assert_eq!(again, std::slice::from_ref(&found));
    assert!(verify_chain(&found, &again, &[], &[], 0, Usage::Signing).is_err());
    let _ = verify_chain(&found, &[], &again, &[], found.not_before_ns(), Usage::Signing);
});
