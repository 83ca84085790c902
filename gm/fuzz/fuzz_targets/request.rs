//! Certification requests.
#![no_main]

use hufu_gm::Csr;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(found) = Csr::from_der(data) else { return };
    assert_eq!(found.der(), data);
    assert!(Csr::from_der(&[data, &[0]].concat()).is_err());
    let _ = (found.subject(), found.dns_names(), found.challenge(), found.verify());
    assert_eq!(Csr::from_pem(&found.to_pem()).expect("our own PEM").der(), data);
});
