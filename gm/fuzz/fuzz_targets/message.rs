//! Messages of every kind, for one recipient and one anchor: nothing panics, and a valid one has no second form with a byte more.
#![no_main]

use std::sync::LazyLock;

use hufu_gm::{
    Certificate, Judgement, SecretKey, Trust,
    ca::{self, Role, Terms},
    message, sm4,
};
use libfuzzer_sys::fuzz_target;

static HOLDER: LazyLock<(SecretKey, Certificate)> = LazyLock::new(|| {
    let (root_key, key) = (SecretKey::from_scalar(&[1; 32]).expect("a key"), SecretKey::from_scalar(&[4; 32]).expect("a key"));
    let terms = Terms { serial: &[1; 8], not_before_s: 1_767_225_600, not_after_s: 1_798_761_600, dns_names: &[] };
    let root = ca::root(&root_key, "CN=root", None, &terms).expect("a root");
    let holder = ca::issue(&root, &root_key, Role::Recipient, "CN=holder", &key.public_key(), &terms).expect("a certificate");
    (key, holder)
});

fuzz_target!(|data: &[u8]| {
    let (key, holder) = &*HOLDER;
    let anchors = std::slice::from_ref(holder);
    let trust = Trust { anchors, known: anchors, crls: &[], at_ns: 1_780_000_000_000_000_000 };
    let _ = message::kind(data);
    let longer = [data, &[0]].concat();
    for content in [None, Some(&b"content"[..])] {
        if let Judgement::Valid(found) = message::verify(data, content, &trust) {
            assert!(!found.signers.is_empty());
            assert!(matches!(message::verify(&longer, content, &trust), Judgement::Malformed(_)));
        }
    }
    if let Judgement::Valid(_) = message::open(data, holder, key) {
        assert!(matches!(message::open(&longer, holder, key), Judgement::Malformed(_)));
    }
    let _ = message::open_signed(data, holder, key, &trust);
    let _ = message::decrypt_with(data, &sm4::Key::from_bytes([1; 16]));
});
