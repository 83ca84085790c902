//! SM2 encryption and delivered key pairs: the official vector, openssl and libsm in both directions, and what is refused.

use hufu_gm::{
    Error, enveloped_key,
    sm2::{PublicKey, SecretKey},
    sm2_cipher::PLAIN_BYTES_MAX,
};
use libsm::sm2::{encrypt, signature::SigCtx};
use proptest::prelude::*;

use crate::{
    matrix,
    openssl::Bench,
    vectors::{bytes, vectors},
};

/// Randomness that repeats `bytes`.
fn fixed(bytes: Vec<u8>) -> impl FnMut(&mut [u8]) -> Result<(), Error> {
    move |out| {
        let source: Vec<u8> = bytes.iter().copied().cycle().take(out.len()).collect();
        out.copy_from_slice(&source);
        Ok(())
    }
}

fn key(fill: u8) -> SecretKey {
    SecretKey::from_scalar(&[fill; 32]).unwrap()
}

#[test]
fn the_official_cipher_text_comes_out_and_opens() {
    let vector = vectors("sm2-encrypt").remove(0);
    let key = SecretKey::from_scalar(&bytes(&vector, "d")).unwrap();
    let want = "307c022004ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73022100e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0042059983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766041321886ca989ca9c7d58087307ca93092d651efa";
    let made = key.public_key().encrypt(&bytes(&vector, "msg"), fixed(bytes(&vector, "k"))).unwrap();
    assert_eq!(hex::encode(&made), want);
    assert!(want.contains(vector["c3"].as_str().unwrap()) && want.ends_with(vector["c2"].as_str().unwrap()));
    assert_eq!(key.decrypt(&made).unwrap().as_slice(), bytes(&vector, "msg"));
}

#[test]
fn an_all_zero_key_stream_is_tried_again() {
    // One byte is hidden by a zero key stream in one of 256 tries; no cipher text may equal its plain text.
    let public = key(5).public_key();
    let mut asked = 0_u32;
    let mut made = 0;
    for start in 0..400_u32 {
        let mut k = start;
        let text = public.encrypt(b"A", |out| {
            k += 1;
            asked += 1;
            out.fill(1);
            out[..4].copy_from_slice(&(k << 8).to_be_bytes());
            Ok(())
        });
        assert_ne!(text.unwrap().last(), Some(&b'A'));
        made += 1;
    }
    assert!(asked > made, "none of {asked} tries met a zero key stream, so this test shows nothing");
}

#[test]
fn nothing_and_too_much_are_refused() {
    let public = key(5).public_key();
    for plain in [vec![], vec![0; PLAIN_BYTES_MAX + 1]] {
        assert!(matches!(public.encrypt(&plain, fixed(vec![1])), Err(Error::PlainLength)));
    }
    let whole = public.encrypt(&vec![7; PLAIN_BYTES_MAX], fixed(vec![1])).unwrap();
    assert_eq!(key(5).decrypt(&whole).unwrap().len(), PLAIN_BYTES_MAX);
    assert!(matches!(key(5).decrypt(&vec![0x30; PLAIN_BYTES_MAX + 257]), Err(Error::Decrypt)));
    let failing = |_: &mut [u8]| Err(Error::Randomness);
    assert!(matches!(public.encrypt(b"x", failing), Err(Error::Randomness)));
}

/// `SM2Cipher` written by hand.
fn der(x: &[u8], y: &[u8], hash: &[u8], text: &[u8]) -> Vec<u8> {
    let tlv = |tag: u8, body: &[u8]| [&[tag, u8::try_from(body.len()).unwrap()], body].concat();
    let integer = |value: &[u8]| {
        let body: Vec<u8> = value.iter().copied().skip_while(|byte| *byte == 0).collect();
        let pad: &[u8] = if body.first().is_none_or(|byte| *byte >= 0x80) { &[0] } else { &[] };
        tlv(2, &[pad, &body].concat())
    };
    let body = [integer(x), integer(y), tlv(4, hash), tlv(4, text)].concat();
    if body.len() < 128 {
        return tlv(0x30, &body);
    }
    [&[0x30, 0x81, u8::try_from(body.len()).unwrap()], body.as_slice()].concat()
}

#[test]
fn every_cipher_text_that_is_wrong_is_refused_without_a_reason() {
    let vector = vectors("sm2-encrypt").remove(0);
    let key = SecretKey::from_scalar(&bytes(&vector, "d")).unwrap();
    let (c1, hash, text) = (bytes(&vector, "c1"), bytes(&vector, "c3"), bytes(&vector, "c2"));
    let (x, y) = c1[1..].split_at(32);
    assert_eq!(key.decrypt(&der(x, y, &hash, &text)).unwrap().as_slice(), bytes(&vector, "msg"));
    let p = hex::decode("fffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffff").unwrap();
    let mut off = y.to_vec();
    off[31] ^= 1;
    for (name, wrong) in [
        ("a point off the curve", der(x, &off, &hash, &text)),
        ("zero", der(&[], &[], &hash, &text)),
        ("a coordinate equal to p", der(&p, y, &hash, &text)),
        ("a coordinate of 33 bytes", der(&[&[1], x].concat(), y, &hash, &text)),
        ("a hash of 31 bytes", der(x, y, &hash[..31], &text)),
        ("another hash", der(x, y, &[0; 32], &text)),
        ("no text", der(x, y, &hash, &[])),
        ("a shorter text", der(x, y, &hash, &text[1..])),
    ] {
        let found = key.decrypt(&wrong);
        assert!(matches!(found, Err(Error::Decrypt)), "{name}: {found:?}");
        assert_eq!(found.unwrap_err().to_string(), "cannot be decrypted", "{name}");
    }
    assert!(matches!(self::key(6).decrypt(&der(x, y, &hash, &text)), Err(Error::Decrypt)), "another key");
    let good = der(x, y, &hash, &text);
    for index in 0..good.len() {
        assert!(key.decrypt(&good[..index]).is_err(), "cut at {index}");
        let mut flipped = good.clone();
        flipped[index] ^= 1;
        assert!(key.decrypt(&flipped).is_err(), "byte {index}");
    }
    assert!(matches!(key.decrypt(&[good.as_slice(), &[0]].concat()), Err(Error::Der(_))), "trailing byte");
}

#[test]
fn openssl_opens_ours_and_we_its() {
    let bench = Bench::new();
    let key = bench.openssl_key("k.pem");
    bench.openssl("pkey -in k.pem -pubout -out p.pem");
    for length in [1, 16, 31, 32, 33, 100] {
        let plain: Vec<u8> = (0..length).collect();
        bench.write("plain", &plain);
        bench.openssl("pkeyutl -encrypt -pubin -inkey p.pem -in plain -out theirs.der");
        assert_eq!(key.decrypt(&bench.read("theirs.der")).unwrap().as_slice(), plain);
        bench.write("ours.der", key.public_key().encrypt(&plain, hufu_gm::random::fill).unwrap());
        bench.openssl("pkeyutl -decrypt -inkey k.pem -in ours.der -out back");
        assert_eq!(bench.read("back"), plain);
    }
    matrix::says("SM2Cipher", "openssl 3.0", "ours read there", "ok");
    matrix::says("SM2Cipher", "openssl 3.0", "theirs read here", "ok");
}

#[test]
fn libsm_opens_ours_and_we_its() {
    let context = SigCtx::new();
    for fill in 1..4 {
        let secret = context.load_seckey(&[fill; 32]).unwrap();
        let point = context.load_pubkey(&key(fill).public_key().to_sec1()).unwrap();
        let plain = vec![fill; 40];
        let raw = encrypt::EncryptCtx::new(plain.len(), point).encrypt(&plain).unwrap();
        // C1 || C2 || C3, C1 with its 04 in front.
        let (c1, rest) = raw[1..].split_at(64);
        let (text, hash) = rest.split_at(plain.len());
        assert_eq!(key(fill).decrypt(&der(&c1[..32], &c1[32..], hash, text)).unwrap().as_slice(), plain);
        let ours = key(fill).public_key().encrypt(&plain, hufu_gm::random::fill).unwrap();
        let raw = as_c1c2c3(&ours);
        assert_eq!(encrypt::DecryptCtx::new(plain.len(), secret).decrypt(&raw).unwrap(), plain);
    }
}

/// What libsm reads, from our DER of texts below 128 bytes.
fn as_c1c2c3(der: &[u8]) -> Vec<u8> {
    let mut rest = if der[1] == 0x81 { &der[3..] } else { &der[2..] };
    let mut parts = Vec::new();
    while let [_, length, tail @ ..] = rest {
        let (part, after) = tail.split_at(usize::from(*length));
        parts.push(part);
        rest = after;
    }
    let padded = |part: &[u8]| {
        let short: Vec<u8> = part.iter().copied().skip_while(|byte| *byte == 0).collect();
        [vec![0; 32 - short.len()], short].concat()
    };
    [vec![4], padded(parts[0]), padded(parts[1]), parts[3].to_vec(), parts[2].to_vec()].concat()
}

#[test]
fn a_delivered_key_pair_opens_for_its_holder_only() {
    let (holder, pair) = (key(3), key(4));
    let made = enveloped_key::wrap(&pair, &holder.public_key(), hufu_gm::random::fill).unwrap();
    let found = enveloped_key::open(&made, &holder).unwrap();
    assert_eq!(found.public_key(), pair.public_key());
    assert_eq!(found.sign(b"m").unwrap(), pair.sign(b"m").unwrap());
    assert!(matches!(enveloped_key::open(&made, &pair), Err(Error::Decrypt)));
    for index in 0..made.len() {
        assert!(enveloped_key::open(&made[..index], &holder).is_err(), "cut at {index}");
        let mut flipped = made.clone();
        flipped[index] ^= 1;
        // NULL parameters may be absent and 104 stands for 104.1; no single bit makes one of the other.
        assert!(enveloped_key::open(&flipped, &holder).is_err(), "byte {index}");
    }
    assert!(enveloped_key::open(&[made.as_slice(), &[0]].concat(), &holder).is_err(), "trailing byte");
}

#[test]
fn openssl_alone_opens_a_delivered_key_pair() {
    // With a shell and openssl only: the session key by pkeyutl, the scalar by SM4-ECB.
    let (bench, pair) = (Bench::new(), key(4));
    let holder = bench.openssl_key("k.pem");
    bench.write("e.der", enveloped_key::wrap(&pair, &holder.public_key(), hufu_gm::random::fill).unwrap());
    let listing = bench.openssl("asn1parse -inform DER -in e.der");
    assert!(listing.contains("sm4-ecb"), "{listing}");
    let offset = |depth: &str, nth: usize| {
        let line = listing.lines().filter(|line| line.contains(depth)).nth(nth).unwrap();
        line.trim().split(':').next().unwrap().to_owned()
    };
    bench.openssl(&format!("asn1parse -inform DER -in e.der -strparse {} -noout -out c.der", offset("d=1", 1)));
    bench.openssl("pkeyutl -decrypt -inkey k.pem -in c.der -out session");
    let made = bench.read("e.der");
    bench.write("scalar.enc", &made[made.len() - 32..]);
    let session = hex::encode(bench.read("session"));
    bench.openssl(&format!("enc -d -sm4-ecb -nopad -K {session} -in scalar.enc -out scalar"));
    assert_eq!(bench.read("scalar"), [4; 32]);
    matrix::says("SM2EnvelopedKey", "openssl 3.0 asn1parse, pkeyutl and enc", "ours read there", "ok");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_encrypted_comes_back(scalar in prop::array::uniform32(1_u8..255), plain in prop::collection::vec(any::<u8>(), 1..200)) {
        let key = SecretKey::from_scalar(&scalar).unwrap();
        let made = key.public_key().encrypt(&plain, hufu_gm::random::fill).unwrap();
        prop_assert_eq!(key.decrypt(&made).unwrap().to_vec(), plain.clone());
        let public = PublicKey::from_sec1(&key.public_key().to_sec1()).unwrap();
        prop_assert_eq!(public.encrypt(&plain, fixed(vec![9])).unwrap(), key.public_key().encrypt(&plain, fixed(vec![9])).unwrap());
    }
}
