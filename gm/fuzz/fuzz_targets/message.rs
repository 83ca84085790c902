//! Messages of every kind, for the recipient and under the anchor of the seeds: nothing panics, and a valid one has no second
//! form with a byte more.
#![no_main]

use std::sync::LazyLock;

use hufu_gm::{
    Certificate, Judgement, SecretKey, Trust,
    ca::{self, Role, Terms},
    message, sm4,
};
use libfuzzer_sys::fuzz_target;

struct Known {
    key: SecretKey,
    anchors: [Certificate; 1],
    holder: Certificate,
}

/// As `gm/examples/fuzz_seeds.rs` makes them: signatures are deterministic, so these are the same certificates.
static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let key = SecretKey::from_scalar(&[3; 32]).expect("a key");
    let dns_names: &[&str] = &["n.example"];
    let terms = |serial| Terms { serial, not_before_s: 1_767_225_600, not_after_s: 1_798_761_600, dns_names };
    let root = ca::root(&key, "CN=root,O=site,C=CN", Some(1), &terms(&[1; 16])).expect("a root");
    let holder = ca::issue(&root, &key, Role::Recipient, "CN=n,O=site", &key.public_key(), &terms(&[3; 16]));
    Known { key, anchors: [root], holder: holder.expect("a certificate") }
});

fuzz_target!(|data: &[u8]| {
    let Known { key, anchors, holder } = &*KNOWN;
    let trust = Trust { anchors, known: &[], crls: &[], at_ns: 1_780_000_000_000_000_000 };
    let _ = message::kind(data);
    let longer = [data, &[0]].concat();
    for content in [None, Some(&b"content"[..])] {
        if let Judgement::Valid(found) = message::verify(data, content, &trust) {
            assert!(!found.signers.is_empty() && found.content == b"content");
            assert!(matches!(message::verify(&longer, content, &trust), Judgement::Malformed(_)));
        }
    }
    if let Judgement::Valid(_) = message::open(data, holder, key) {
        assert!(matches!(message::open(&longer, holder, key), Judgement::Malformed(_)));
    }
    if let Judgement::Valid((content, signers)) = message::open_signed(data, holder, key, &trust) {
        assert!(*content == b"content" && !signers.is_empty());
    }
    let _ = message::decrypt_with(data, &sm4::Key::from_bytes([5; 16]));
});
