//! The signed wrapper: one encoding, every damage refused, and bytes that `openssl` takes apart.

use hufu_gm::{Error, Signed};
use proptest::prelude::*;

use crate::{openssl::Bench, pki::key};

#[test]
fn openssl_sees_three_octet_strings_and_verifies_the_first_with_the_third() {
    let bench = Bench::new();
    let signed = Signed::seal(b"what was said".to_vec(), &[7; 32], &key(3)).unwrap();
    bench.write("signed.der", signed.to_bytes().unwrap());
    let text = bench.openssl("asn1parse -inform DER -in signed.der");
    assert_eq!((text.matches("OCTET STRING").count(), text.matches("SEQUENCE").count()), (3, 1), "{text}");
    hufu_gm::keyfile::write_new(&bench.path("k.pem"), &key(3)).unwrap();
    bench.openssl("pkey -in k.pem -pubout -out pub.pem");
    bench.write("m", signed.tbs());
    bench.write("s.der", signed.signature());
    bench.openssl(&format!("dgst -sm3 -verify pub.pem -sigopt {} -signature s.der m", crate::openssl::DISTID));
}

#[test]
fn every_cut_and_every_flipped_bit_is_refused_or_no_longer_the_signers() {
    let good = Signed::seal(b"what was said".to_vec(), &[7; 32], &key(3)).unwrap();
    let bytes = good.to_bytes().unwrap();
    for index in 0..bytes.len() {
        assert!(Signed::from_bytes(&bytes[..index]).is_err(), "cut at {index}");
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1 << bit;
            if let Ok(read) = Signed::from_bytes(&flipped) {
                let same_words = read.verify(&key(3).public_key()).is_valid();
                assert!(!same_words || read.cert_id() != good.cert_id(), "byte {index} bit {bit}");
            }
        }
    }
    assert!(Signed::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn a_certificate_id_has_32_bytes() {
    let short = [0x30, 6, 4, 1, b'm', 4, 1, 7];
    assert!(Signed::from_bytes(&short).is_err());
    let with_id = |length: u8| {
        let id = vec![7; usize::from(length)];
        [&[0x30, length + 7, 4, 1, b'm', 4, length], id.as_slice(), &[4, 0]].concat()
    };
    assert!(Signed::from_bytes(&with_id(32)).is_ok());
    for length in [0, 31, 33] {
        assert!(matches!(Signed::from_bytes(&with_id(length)), Err(Error::CertIdLength)), "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_sealed_comes_back(tbs in prop::collection::vec(any::<u8>(), 0..500), id in any::<[u8; 32]>()) {
        let signed = Signed::seal(tbs.clone(), &id, &key(3)).unwrap();
        let read = Signed::from_bytes(&signed.to_bytes().unwrap()).unwrap();
        prop_assert_eq!((read.tbs(), read.cert_id()), (tbs.as_slice(), id));
        prop_assert!(read.verify(&key(3).public_key()).is_valid());
        prop_assert!(!read.verify(&key(4).public_key()).is_valid());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(read) = Signed::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes().unwrap(), bytes);
        }
    }
}
