//! SM4's modes: every vector of `testdata/`, a second implementation where it has the mode, openssl where it has it, and what
//! must be refused.

use hufu_gm::{
    Error,
    mode::{Feedback, Mode, Width},
    sm4::Key,
};
use libsm::sm4::{Cipher, Mode as LibsmMode};
use proptest::prelude::*;
use serde_json::Value;

use crate::{
    matrix,
    openssl::Bench,
    vectors::{bytes, vectors},
};

fn key(vector: &Value) -> Key {
    Key::from_bytes(bytes(vector, "key").try_into().unwrap())
}

fn width(vector: &Value) -> Width {
    Width::from_bits(u8::try_from(vector["j"].as_u64().unwrap_or(128)).unwrap()).unwrap()
}

/// Encrypts to `want`, decrypts back, at every length that has no padding; and the mode survives its DER.
fn check(name: &str, mode: &Mode, key: &Key, plain: &[u8], want: &[u8]) {
    assert_eq!(Mode::from_der(&mode.to_der().unwrap()).unwrap(), *mode, "{name}");
    for length in 0..=plain.len() {
        let made = mode.encrypt(key, &plain[..length], &[]).unwrap();
        assert_eq!(made, want[..length], "{name} at {length}");
        assert_eq!(mode.decrypt(key, &made, &[]).unwrap().as_slice(), &plain[..length], "{name} at {length}");
    }
}

#[test]
fn feedback_modes_give_the_published_texts_at_every_width_and_length() {
    for (kind, count) in [("sm4-ofb", 4), ("sm4-ofbshift", 2), ("sm4-cfb", 5), ("sm4-ctr", 2)] {
        let all = vectors(kind);
        assert_eq!(all.len(), count, "{kind}");
        for vector in all {
            let iv: [u8; 16] = bytes(&vector, "iv").try_into().unwrap();
            let mode = match kind {
                "sm4-ofb" => Mode::Ofb { iv, width: width(&vector), feedback: Feedback::Whole },
                "sm4-ofbshift" => Mode::Ofb { iv, width: width(&vector), feedback: Feedback::Shifted },
                "sm4-cfb" => Mode::Cfb { iv, width: width(&vector) },
                _ => Mode::Ctr { counter: iv },
            };
            let name = format!("{kind} {} {}", vector["j"], vector["source"]);
            check(&name, &mode, &key(&vector), &bytes(&vector, "pt"), &bytes(&vector, "ct"));
        }
    }
}

#[test]
fn cbc_gives_the_published_blocks_and_a_block_of_padding_behind_them() {
    let all = vectors("sm4-cbc");
    assert_eq!(all.len(), 2);
    for vector in all {
        let mode = Mode::Cbc { iv: bytes(&vector, "iv").try_into().unwrap() };
        let (plain, want) = (bytes(&vector, "pt"), bytes(&vector, "ct"));
        let made = mode.encrypt(&key(&vector), &plain, &[]).unwrap();
        assert_eq!((made.len(), &made[..want.len()]), (want.len() + 16, want.as_slice()), "{}", vector["source"]);
        assert_eq!(Mode::from_der(&mode.to_der().unwrap()).unwrap(), mode);
    }
}

#[test]
fn gcm_and_ccm_give_the_published_texts_and_tags_and_refuse_every_change() {
    for kind in ["sm4-gcm", "sm4-ccm"] {
        let vector = vectors(kind).remove(0);
        let nonce = bytes(&vector, "iv").try_into().unwrap();
        let mode = if kind == "sm4-gcm" { Mode::Gcm { nonce } } else { Mode::Ccm { nonce } };
        assert_eq!(Mode::from_der(&mode.to_der().unwrap()).unwrap(), mode);
        let (key, plain, associated) = (key(&vector), bytes(&vector, "pt"), bytes(&vector, "aad"));
        let want = [bytes(&vector, "ct"), bytes(&vector, "tag")].concat();
        assert_eq!(mode.encrypt(&key, &plain, &associated).unwrap(), want, "{kind}");
        assert_eq!(mode.decrypt(&key, &want, &associated).unwrap().as_slice(), plain, "{kind}");
        for index in 0..want.len() {
            let mut changed = want.clone();
            changed[index] ^= 1;
            for text in [changed.as_slice(), &want[..index]] {
                assert!(matches!(mode.decrypt(&key, text, &associated), Err(Error::Decrypt)), "{kind} {index}");
            }
        }
        assert!(matches!(mode.decrypt(&key, &want, b"other"), Err(Error::Decrypt)));
        let nothing = mode.encrypt(&key, &[], &[]).unwrap();
        assert_eq!((nothing.len(), mode.decrypt(&key, &nothing, &[]).unwrap().len()), (16, 0));
    }
}

#[test]
fn ccm_refuses_what_its_length_field_cannot_say() {
    let mode = Mode::Ccm { nonce: [1; 12] };
    let key = Key::from_bytes([7; 16]);
    assert!(matches!(mode.encrypt(&key, &vec![0; (1 << 24) + 1], &[]), Err(Error::Mode)));
}

#[test]
fn padding_that_is_not_right_is_one_error_whatever_is_wrong() {
    let (key, iv) = (Key::from_bytes([3; 16]), [9; 16]);
    let mode = Mode::Cbc { iv };
    let raw = |plain: &[u8; 16]| {
        // A block as CBC would make it, without padding of its own.
        mode.encrypt(&key, plain, &[]).unwrap()[..16].to_vec()
    };
    for last in 0..=255_u8 {
        let mut block = [0xa5; 16];
        block[15] = last;
        let mut right = false;
        if (1..=16).contains(&last) {
            block[16 - usize::from(last)..].fill(last);
            assert_eq!(mode.decrypt(&key, &raw(&block), &[]).unwrap().len(), 16 - usize::from(last));
            right = last == 1;
            block[16 - usize::from(last)] ^= 1;
        }
        // Of a padding of one byte the changed one is its count itself.
        let found = mode.decrypt(&key, &raw(&block), &[]);
        assert!(right || matches!(found, Err(Error::Decrypt)), "{last}");
    }
    for length in [0, 1, 15, 17, 31] {
        assert!(matches!(mode.decrypt(&key, &vec![0; length], &[]), Err(Error::Decrypt)), "{length}");
    }
}

#[test]
fn associated_data_is_refused_where_nothing_would_authenticate_it() {
    let (key, iv) = (Key::from_bytes([3; 16]), [9; 16]);
    for mode in [
        Mode::Cbc { iv },
        Mode::Ctr { counter: iv },
        Mode::Ofb { iv, width: Width::FULL, feedback: Feedback::Whole },
        Mode::Cfb { iv, width: Width::FULL },
    ] {
        assert!(matches!(mode.encrypt(&key, b"x", b"y"), Err(Error::Mode)));
        assert!(matches!(mode.decrypt(&key, &[0; 16], b"y"), Err(Error::Mode)));
    }
}

#[test]
fn only_widths_of_one_bit_or_whole_bytes_exist() {
    let good: Vec<u8> = (0..=255).filter(|bits| Width::from_bits(*bits).is_ok()).collect();
    assert_eq!(good, [1, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128]);
}

/// All widths, both directions, and lengths that end inside a step.
fn every_mode(iv: [u8; 16]) -> Vec<Mode> {
    let widths = [1, 8, 16, 24, 64, 120, 128].map(|bits| Width::from_bits(bits).unwrap());
    let mut all = vec![Mode::Cbc { iv }, Mode::Ctr { counter: iv }, Mode::Gcm { nonce: [1; 12] }];
    all.push(Mode::Ccm { nonce: [2; 12] });
    for width in widths {
        all.push(Mode::Cfb { iv, width });
        all.push(Mode::Ofb { iv, width, feedback: Feedback::Whole });
        if width != Width::FULL {
            all.push(Mode::Ofb { iv, width, feedback: Feedback::Shifted });
        }
    }
    all
}

#[test]
fn a_stored_mode_comes_back_with_its_width_and_no_other_bytes_are_one() {
    for mode in every_mode([0x80; 16]) {
        let der = mode.to_der().unwrap();
        assert_eq!(Mode::from_der(&der).unwrap(), mode, "{mode:?}");
        for index in 0..der.len() {
            assert!(Mode::from_der(&der[..index]).is_err(), "{mode:?} cut at {index}");
            for bit in 0..8 {
                let mut changed = der.clone();
                changed[index] ^= 1 << bit;
                if let Ok(other) = Mode::from_der(&changed) {
                    // Another mode, and the one form of it; only SM4's own name is a second one for CBC.
                    assert_ne!(other, mode, "{mode:?} {index}");
                    assert_eq!(other.to_der().unwrap(), changed, "{mode:?} {index}");
                }
            }
        }
        assert!(Mode::from_der(&[der.as_slice(), &[0]].concat()).is_err());
    }
    // CFCA names CBC so.
    let cfca = hex::decode("301b06072a811ccf55016804100102030405060708090a0b0c0d0e0f10").unwrap();
    assert!(matches!(Mode::from_der(&cfca), Ok(Mode::Cbc { .. })));
    // The full width in parameters of ours would be a second form of the same mode.
    for (name, text) in [
        ("as parameters", "302206082a811ccf55016804301604100102030405060708090a0b0c0d0e0f1002020080"),
        ("of 8 bits", "302106082a811ccf55016804301504100102030405060708090a0b0c0d0e0f10020108"),
    ] {
        assert!(matches!(Mode::from_der(&hex::decode(text).unwrap()), Err(Error::Mode)), "{name}");
    }
}

#[test]
fn libsm_gives_the_same_texts_in_the_modes_it_has() {
    let (key, iv) = ([0x5a; 16], [0xc3; 16]);
    for (mode, theirs) in [
        (Mode::Ctr { counter: iv }, LibsmMode::Ctr),
        (Mode::Ofb { iv, width: Width::FULL, feedback: Feedback::Whole }, LibsmMode::Ofb),
        (Mode::Cfb { iv, width: Width::FULL }, LibsmMode::Cfb),
        (Mode::Cbc { iv }, LibsmMode::Cbc),
    ] {
        let cipher = Cipher::new(&key, theirs).unwrap();
        for length in 0..100_u8 {
            let plain: Vec<u8> = (0..length).collect();
            let ours = mode.encrypt(&Key::from_bytes(key), &plain, &[]).unwrap();
            assert_eq!(ours, cipher.encrypt(&[], &plain, &iv).unwrap(), "{mode:?} {length}");
            assert_eq!(cipher.decrypt(&[], &ours, &iv).unwrap(), plain, "{mode:?} {length}");
        }
    }
}

#[test]
fn openssl_decrypts_ours_and_we_its_in_the_modes_it_has() {
    let bench = Bench::new();
    let (key, iv) = ([0x5a; 16], [0xc3; 16]);
    let plain: Vec<u8> = (0..77).collect();
    bench.write("plain", &plain);
    let secret = format!("-K {} -iv {}", hex::encode(key), hex::encode(iv));
    for (name, mode) in [
        ("ctr", Mode::Ctr { counter: iv }),
        ("ofb", Mode::Ofb { iv, width: Width::FULL, feedback: Feedback::Whole }),
        ("cfb", Mode::Cfb { iv, width: Width::FULL }),
        ("cbc", Mode::Cbc { iv }),
    ] {
        bench.openssl(&format!("enc -sm4-{name} {secret} -in plain -out theirs"));
        let key = Key::from_bytes(key);
        assert_eq!(mode.decrypt(&key, &bench.read("theirs"), &[]).unwrap().as_slice(), plain, "{name}");
        bench.write("ours", mode.encrypt(&key, &plain, &[]).unwrap());
        bench.openssl(&format!("enc -d -sm4-{name} {secret} -in ours -out back"));
        assert_eq!(bench.read("back"), plain, "{name}");
    }
    matrix::says("SM4 in CBC, CTR, OFB, CFB", "openssl 3.0", "ours read there", "ok");
    matrix::says("SM4 in CBC, CTR, OFB, CFB", "openssl 3.0", "theirs read here", "ok");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_encrypted_comes_back_in_every_mode(
        secret in any::<[u8; 16]>(),
        iv in any::<[u8; 16]>(),
        plain in prop::collection::vec(any::<u8>(), 0..70),
    ) {
        let key = Key::from_bytes(secret);
        for mode in every_mode(iv) {
            let made = mode.encrypt(&key, &plain, &[]).unwrap();
            prop_assert_eq!(mode.decrypt(&key, &made, &[]).unwrap().to_vec(), plain.clone(), "{:?}", mode);
        }
    }
}
