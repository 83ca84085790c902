//! Bounded properties over everything that reads bytes of others: no panic, and nothing passes that was changed. `gm/fuzz` does
//! the same without a bound.

use hufu_gm::{Judgement, Trust, directory, message, seal};
use proptest::{collection::vec, prelude::*};

use crate::{
    message::{recipient, trust},
    pki::{Pki, key, pki},
};

fn judge_all(bytes: &[u8], pki: &Pki, trust: &Trust<'_>) -> bool {
    let holder = recipient(pki);
    let _ = message::kind(bytes);
    let signed = message::verify(bytes, None, trust);
    let opened = message::open(bytes, &holder, &key(4));
    let both = message::open_signed(bytes, &holder, &key(4), trust);
    let sealed = seal::verify(bytes, &[7; 32], trust);
    let made = seal::verify_seal(bytes, trust);
    let _ = hufu_gm::Certificate::from_der(bytes);
    let _ = hufu_gm::Crl::from_der(bytes);
    let _ = hufu_gm::Csr::from_der(bytes);
    matches!(signed, Judgement::Valid(_))
        || matches!(opened, Judgement::Valid(_))
        || matches!(both, Judgement::Valid(_))
        || matches!(sealed, Judgement::Valid(_))
        || matches!(made, Judgement::Valid(_))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_never_a_message(bytes in vec(any::<u8>(), 0..400)) {
        let pki = pki();
        let anchors = [pki.root.clone()];
        prop_assert!(!judge_all(&bytes, &pki, &trust(&anchors)));
    }

    #[test]
    fn no_answer_of_a_directory_panics(start in 0_usize..3, bytes in vec(any::<u8>(), 0..300)) {
        let starts: [&[u8]; 3] = [&[], &[0x30, 0x84, 0, 0, 0, 40, 2, 1, 1, 0x64, 30], &[0x30, 12, 2, 1, 1, 0x65, 7]];
        let answer = [starts[start], &bytes].concat();
        if let Ok(found) = directory::read_answer(&answer, &["userCertificate"]) {
            prop_assert!(found.iter().map(Vec::len).sum::<usize>() <= answer.len());
        }
    }

    #[test]
    fn a_message_with_noise_in_it_is_never_another_message(at in 0_usize..2000, noise in vec(any::<u8>(), 1..8), form in 0_usize..6) {
        let pki = pki();
        let anchors = [pki.root.clone()];
        let (algorithm, attributes, _) = crate::message::ALL_FORMS[form];
        let secret = key(3);
        let signing = message::Signing { key: &secret, certificate: &pki.node, along: std::slice::from_ref(&pki.middle), algorithm, attributes };
        let mut bytes = message::sign(b"content", &signing, false).unwrap();
        let at = at % bytes.len();
        let end = (at + noise.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&noise[..end - at]);
        if let Judgement::Valid(found) = message::verify(&bytes, None, &trust(&anchors)) {
            prop_assert_eq!(found.content.as_slice(), b"content");
        }
        let _ = judge_all(&bytes, &pki, &trust(&anchors));
    }
}
