//! Revocation lists.
#![no_main]

use hufu_gm::Crl;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(found) = Crl::from_der(data) else { return };
    assert_eq!(found.der(), data);
    assert!(Crl::from_der(&[data, &[0]].concat()).is_err());
    assert!(found.count() <= data.len());
    let _ = (found.issuer(), found.this_update_ns(), found.next_update_ns(), found.covers(0));
    assert_eq!(Crl::from_pem_many(&found.to_pem()).expect("our own PEM"), [found]);
});
