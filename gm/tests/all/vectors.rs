//! The official vectors of `testdata/`, and the table of malformed signatures.

use hufu_gm::{
    sm2::{PublicKey, SecretKey, Verdict},
    sm3::{Sm3, hmac_sm3, sm3},
    sm4::Key,
};
use serde_json::Value;

pub(crate) fn vectors(kind: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../../testdata/gm-vectors.json")).unwrap();
    all.into_iter().filter(|vector| vector["kind"] == kind).collect()
}

pub(crate) fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    hex::decode(vector[field].as_str().unwrap()).unwrap()
}

#[test]
fn sm3_gives_the_published_digests_however_the_message_is_cut() {
    let all = vectors("sm3");
    assert_eq!(all.len(), 4);
    for vector in all {
        let repeat = usize::try_from(vector["repeat"].as_u64().unwrap_or(1)).unwrap();
        let message = bytes(&vector, "msg").repeat(repeat);
        let want = bytes(&vector, "out");
        assert_eq!(sm3(&[&message]).as_slice(), want, "{}", vector["source"]);
        for cut in [0, 1, 63, 64, 65].into_iter().filter(|cut| *cut <= message.len()) {
            let (left, right) = message.split_at(cut);
            assert_eq!(sm3(&[left, right]).as_slice(), want);
            let mut state = Sm3::new();
            state.update(left).update(right);
            assert_eq!(state.finish().as_slice(), want);
        }
    }
}

#[test]
fn hmac_sm3_gives_the_published_codes() {
    let all = vectors("hmac-sm3");
    assert_eq!(all.len(), 4);
    for vector in all {
        let found = hmac_sm3(&bytes(&vector, "key"), &[&bytes(&vector, "msg")]);
        assert_eq!(found.as_slice(), bytes(&vector, "out"), "{}", vector["source"]);
    }
}

fn sm4_key(vector: &Value) -> Key {
    Key::from_bytes(bytes(vector, "key").try_into().unwrap())
}

#[test]
fn sm4_ctr_gives_the_published_texts_both_ways_at_every_length() {
    let all = vectors("sm4-ctr");
    assert_eq!(all.len(), 2);
    for vector in all {
        let (key, nonce) = (sm4_key(&vector), bytes(&vector, "iv").try_into().unwrap());
        let (plain, want) = (bytes(&vector, "pt"), bytes(&vector, "ct"));
        for length in 0..=plain.len() {
            let mut text = plain[..length].to_vec();
            key.apply_ctr(&nonce, &mut text);
            assert_eq!(text, want[..length], "{} at {length}", vector["source"]);
            key.apply_ctr(&nonce, &mut text);
            assert_eq!(text, plain[..length]);
        }
    }
}

#[test]
fn the_blocks_of_the_sm4_standard_are_the_key_stream_of_their_counters() {
    let all = vectors("sm4-ecb");
    assert_eq!(all.len(), 4);
    for vector in all.into_iter().filter(|vector| vector["rounds"].is_null()) {
        for (block, want) in bytes(&vector, "pt").chunks(16).zip(bytes(&vector, "ct").chunks(16)) {
            let mut stream = [0; 16];
            sm4_key(&vector).apply_ctr(block.try_into().unwrap(), &mut stream);
            assert_eq!(stream, want, "{}", vector["source"]);
        }
    }
}

/// A block encrypted a million times in a row (GB/T 32907 example 2): each block is the key stream of the one before.
#[test]
fn a_million_rounds_of_sm4_give_the_published_block() {
    let vector = vectors("sm4-ecb").into_iter().find(|vector| vector["rounds"] == 1_000_000).unwrap();
    let key = sm4_key(&vector);
    let mut block: [u8; 16] = bytes(&vector, "pt").try_into().unwrap();
    for _ in 0..1_000_000 {
        let mut stream = [0; 16];
        key.apply_ctr(&block, &mut stream);
        block = stream;
    }
    assert_eq!(block.as_slice(), bytes(&vector, "ct"), "{}", vector["source"]);
}

#[test]
fn the_official_sm2_signature_verifies_and_the_one_with_another_user_id_does_not() {
    let all = vectors("sm2-sign");
    assert_eq!(all.len(), 2);
    for vector in all {
        let signature = der(&bytes(&vector, "r"), &bytes(&vector, "s"));
        let public = SecretKey::from_scalar(&bytes(&vector, "d")).unwrap().public_key();
        if let Some(x) = vector["x"].as_str() {
            assert_eq!(hex::encode(public.to_sec1()), format!("04{x}{}", vector["y"].as_str().unwrap()));
        }
        let want = if vector["id"] == "1234567812345678" { Verdict::Valid } else { Verdict::Invalid };
        assert_eq!(public.verify(&bytes(&vector, "msg"), &signature), want, "{}", vector["source"]);
        if want == Verdict::Valid {
            let literal = "3046022100f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3022100b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa";
            assert_eq!(hex::encode(&signature), literal);
            assert_eq!(hex::encode(public.digest(&bytes(&vector, "msg"))), vector["e"].as_str().unwrap());
        }
    }
}

#[test]
fn signing_is_deterministic_and_verifies() {
    let key = SecretKey::from_scalar(&[3; 32]).unwrap();
    let first = key.sign(b"m").unwrap();
    assert_eq!(first, key.sign(b"m").unwrap());
    assert_ne!(first, key.sign(b"n").unwrap());
    assert!((8..=72).contains(&first.len()));
    assert_eq!(key.public_key().verify(b"m", &first), Verdict::Valid);
    let asked = key.sign_digest(&key.public_key().digest(b"m")).unwrap();
    assert_eq!(key.public_key().verify(b"m", &asked), Verdict::Valid);
    assert_eq!(key.public_key().verify(b"n", &asked), Verdict::Invalid);
}

#[test]
fn secret_keys_outside_the_range_of_the_standard_are_refused() {
    let n_minus = |less: u8| {
        let mut n = hex::decode(N).unwrap();
        *n.last_mut().unwrap() -= less;
        n
    };
    for (name, scalar) in [
        ("zero", vec![0; 32]),
        ("n - 1: 1 + d has no inverse", n_minus(1)),
        ("n", n_minus(0)),
        ("all ones", vec![0xff; 32]),
        ("short", vec![1; 31]),
        ("long", vec![1; 33]),
        ("empty", vec![]),
    ] {
        assert!(SecretKey::from_scalar(&scalar).is_err(), "{name}");
    }
    assert!(SecretKey::from_scalar(&n_minus(2)).is_ok());
}

#[test]
fn a_key_is_never_shown() {
    assert_eq!(format!("{:?}", SecretKey::from_scalar(&[3; 32]).unwrap()), "SecretKey(..)");
}

#[test]
fn only_the_one_der_form_of_a_signature_is_read() {
    let (public, message, r, s) = official();
    let good = der(&r, &s);
    let n = hex::decode(N).unwrap();
    let zero = vec![0_u8; 32];
    let integer = |body: &[u8]| [&[2, u8::try_from(body.len()).unwrap()], body].concat();
    let wrap = |body: &[u8]| [&[0x30, u8::try_from(body.len()).unwrap()], body].concat();
    let (r_int, s_int) = (integer(&[&[0], r.as_slice()].concat()), integer(&[&[0], s.as_slice()].concat()));
    let cases: [(&str, Vec<u8>); 22] = [
        ("empty", vec![]),
        ("one byte", vec![0x30]),
        ("an empty sequence", vec![0x30, 0]),
        ("trailing byte after the sequence", [good.as_slice(), &[0]].concat()),
        ("trailing byte inside the sequence", wrap(&[r_int.clone(), s_int.clone(), vec![0]].concat())),
        ("a third integer", wrap(&[r_int.clone(), s_int.clone(), integer(&[1])].concat())),
        ("one integer", wrap(&r_int)),
        ("raw r and s", [r.as_slice(), &s].concat()),
        ("r negative", wrap(&[integer(&r), s_int.clone()].concat())),
        ("s negative", wrap(&[r_int.clone(), integer(&s)].concat())),
        ("r with leading zeros", wrap(&[integer(&[&[0, 0], r.as_slice()].concat()), s_int.clone()].concat())),
        ("s with leading zeros", wrap(&[r_int.clone(), integer(&[&[0, 0], s.as_slice()].concat())].concat())),
        ("r zero", wrap(&[integer(&[0]), s_int.clone()].concat())),
        ("s zero", wrap(&[r_int.clone(), integer(&[0])].concat())),
        ("r zero in 32 bytes", wrap(&[integer(&zero), s_int.clone()].concat())),
        ("r equal to n", der(&n, &s)),
        ("s equal to n", der(&r, &n)),
        ("r of all ones", der(&[0xff; 32], &s)),
        ("r of no bytes", wrap(&[vec![2, 0], s_int.clone()].concat())),
        ("length in the long form", [&[0x30, 0x81, 0x46], good.get(2..).unwrap()].concat()),
        ("indefinite length", [&[0x30, 0x80], good.get(2..).unwrap(), &[0, 0]].concat()),
        ("a set, not a sequence", [&[0x31], good.get(1..).unwrap()].concat()),
    ];
    assert_eq!(public.verify(&message, &good), Verdict::Valid);
    for (name, signature) in cases {
        assert_eq!(public.verify(&message, &signature), Verdict::Malformed, "{name}");
    }
}

#[test]
fn well_formed_signatures_of_something_else_are_invalid() {
    let (public, message, r, s) = official();
    let n = hex::decode(N).unwrap();
    for (name, signature) in [
        ("r and s swapped", der(&s, &r)),
        ("n - s: no second signature as with ECDSA", der(&r, &minus(&n, &s))),
        ("r + s = n", der(&r, &minus(&n, &r))),
        ("smallest", vec![0x30, 6, 2, 1, 1, 2, 1, 1]),
    ] {
        assert_eq!(public.verify(&message, &signature), Verdict::Invalid, "{name}");
    }
}

#[test]
fn no_cut_or_flipped_bit_of_a_signature_is_valid() {
    let (public, message, r, s) = official();
    let good = der(&r, &s);
    for index in 0..good.len() {
        assert_eq!(public.verify(&message, &good[..index]), Verdict::Malformed, "cut at {index}");
        for bit in 0..8 {
            let mut flipped = good.clone();
            flipped[index] ^= 1 << bit;
            assert!(!public.verify(&message, &flipped).is_valid(), "byte {index} bit {bit}");
        }
    }
}

const N: &str = "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123";

fn official() -> (PublicKey, Vec<u8>, Vec<u8>, Vec<u8>) {
    let vector = vectors("sm2-sign").remove(0);
    let point = [&[4], bytes(&vector, "x").as_slice(), &bytes(&vector, "y")].concat();
    (PublicKey::from_sec1(&point).unwrap(), bytes(&vector, "msg"), bytes(&vector, "r"), bytes(&vector, "s"))
}

/// `SEQUENCE { r, s }` written by hand, so that nothing of the code under test is used.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |value: &[u8]| {
        let pad: &[u8] = if value.first().is_some_and(|byte| *byte >= 0x80) { &[0] } else { &[] };
        [&[2, u8::try_from(value.len() + pad.len()).unwrap()], pad, value].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], body.as_slice()].concat()
}

/// left - right over 32 bytes, left the greater.
fn minus(left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut out = vec![0; 32];
    for index in (0..32).rev() {
        let difference = i32::from(left[index]) - i32::from(right[index]) - borrow;
        borrow = i32::from(difference < 0);
        out[index] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    out
}
