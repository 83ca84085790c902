//! Tables of known keys, and many claims at once, must say exactly what the plain check says: of good signatures, of every
//! damage, of the keys whose multiples meet in the tables, and on any number of threads.

use std::num::NonZeroUsize;

use hufu_gm::{
    claims::{Claim, verify_many},
    known::{KnownKeys, TABLE_BYTES},
    sm2::{PublicKey, SecretKey, Verdict},
};
use proptest::prelude::*;

use crate::vectors::{bytes, vectors};

fn both(public: &PublicKey, known: &PublicKey, message: &[u8], signature: &[u8]) -> Verdict {
    let plain = public.verify(message, signature);
    assert_eq!(known.verify(message, signature), plain, "{}", hex::encode(signature));
    plain
}

#[test]
fn the_official_signature_is_valid_and_no_flipped_bit_or_cut_of_it() {
    let vector = vectors("sm2-sign").remove(0);
    let public = SecretKey::from_scalar(&bytes(&vector, "d")).unwrap().public_key();
    let known = public.with_table();
    let message = bytes(&vector, "msg");
    let good = hex::decode("3046022100f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3022100b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa").unwrap();
    assert_eq!(both(&public, &known, &message, &good), Verdict::Valid);
    for index in 0..good.len() {
        assert_eq!(both(&public, &known, &message, &good[..index]), Verdict::Malformed, "cut at {index}");
        let mut flipped = good.clone();
        flipped[index] ^= 1 << (index % 8);
        assert!(!both(&public, &known, &message, &flipped).is_valid(), "byte {index}");
    }
}

/// Keys that are small multiples of the generator, and their opposites: sums in the tables meet the same x.
#[test]
fn keys_that_meet_the_generator_in_its_tables_are_judged_alike() {
    let mut scalars: Vec<[u8; 32]> = Vec::new();
    for small in 1..=70_u8 {
        let mut scalar = [0; 32];
        scalar[31] = small;
        scalars.push(scalar);
    }
    for shift in [1, 6, 12, 30, 126, 252] {
        let mut scalar = [0; 32];
        scalar[31 - shift / 8] = 1 << (shift % 8);
        scalars.push(scalar);
    }
    for scalar in scalars {
        let key = SecretKey::from_scalar(&scalar).unwrap();
        let mut opposite = key.public_key().to_sec1();
        opposite.splice(33.., minus(&opposite[33..]));
        let good = key.sign(b"m").unwrap();
        for public in [key.public_key(), PublicKey::from_sec1(&opposite).unwrap()] {
            let known = public.with_table();
            assert_eq!(both(&public, &known, b"m", &good).is_valid(), public == key.public_key());
            assert!(!both(&public, &known, b"n", &good).is_valid());
            for (r, s) in [(1, 1), (1, 2), (2, 1), (63, 1), (1, 64), (32, 32)] {
                let _ = both(&public, &known, b"m", &[0x30, 6, 2, 1, r, 2, 1, s]);
            }
        }
    }
}

/// p - y.
fn minus(y: &[u8]) -> Vec<u8> {
    let p = hex::decode("fffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffff").unwrap();
    let mut borrow = 0;
    let mut out = vec![0; 32];
    for index in (0..32).rev() {
        let difference = i32::from(p[index]) - i32::from(y[index]) - borrow;
        borrow = i32::from(difference < 0);
        out[index] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    out
}

#[test]
fn sums_that_vanish_are_no_signature() {
    // r + s = n: t is zero, and the table would add nothing of the key.
    let n = "fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54122";
    let public = SecretKey::from_scalar(&[3; 32]).unwrap().public_key();
    let known = public.with_table();
    let sum_to_n = hex::decode(format!("3026020101022100{n}")).unwrap();
    assert_eq!(both(&public, &known, b"m", &sum_to_n), Verdict::Invalid);
    // Key 1: sG + tP = (2s + r)G vanishes for r = n - 2s.
    let mut one = [0; 32];
    one[31] = 1;
    let public = SecretKey::from_scalar(&one).unwrap().public_key();
    let known = public.with_table();
    let less = "fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54121";
    let vanishing = hex::decode(format!("3026022100{less}020101")).unwrap();
    assert_eq!(both(&public, &known, b"m", &vanishing), Verdict::Invalid);
}

#[test]
fn a_bounded_number_of_keys_is_kept_and_each_answer_stays_the_same() {
    assert_eq!(TABLE_BYTES, 88_064);
    let known = KnownKeys::new(2);
    let keys: Vec<SecretKey> = (1..6).map(|fill| SecretKey::from_scalar(&[fill; 32]).unwrap()).collect();
    for round in 0..30 {
        for key in keys.iter().take(1 + round % keys.len()) {
            let good = key.sign(b"m").unwrap();
            assert!(known.verify(&key.public_key(), b"m", &good).is_valid());
            assert_eq!(known.verify(&key.public_key(), b"n", &good), Verdict::Invalid);
            assert_eq!(known.verify(&key.public_key(), b"m", b"no"), Verdict::Malformed);
        }
    }
}

#[test]
fn many_claims_are_judged_in_their_order_on_any_number_of_threads() {
    let keys: Vec<SecretKey> = (1..4).map(|fill| SecretKey::from_scalar(&[fill; 32]).unwrap()).collect();
    let publics: Vec<PublicKey> = keys.iter().map(SecretKey::public_key).collect();
    let messages: Vec<Vec<u8>> = (0..150_u8).map(|index| vec![index; usize::from(index)]).collect();
    let signatures: Vec<Vec<u8>> = messages
        .iter()
        .enumerate()
        .map(|(index, message)| {
            let mut made = keys[index % 3].sign(message).unwrap();
            match index % 7 {
                0 => drop(made.pop()),
                1 => *made.last_mut().unwrap() ^= 1,
                _ => {}
            }
            made
        })
        .collect();
    let claims: Vec<Claim<'_>> = (0..150)
        .map(|index| Claim { key: &publics[index % 3], message: &messages[index], signature: &signatures[index] })
        .collect();
    let want: Vec<Verdict> = claims.iter().map(|claim| claim.key.verify(claim.message, claim.signature)).collect();
    assert!(want.contains(&Verdict::Malformed) && want.contains(&Verdict::Invalid) && want.contains(&Verdict::Valid));
    for threads in [1, 2, 3, 16, 1000] {
        let threads = NonZeroUsize::new(threads).unwrap();
        for count in [0, 1, 15, 16, 17, 150] {
            assert_eq!(verify_many(&claims[..count], threads, &KnownKeys::new(2)), want[..count], "{threads} {count}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_says_what_the_plain_check_says(
        scalar in prop::array::uniform32(1_u8..255),
        message in prop::collection::vec(any::<u8>(), 0..100),
        damage in any::<prop::sample::Index>(),
        bit in 0..8_u32,
        r in prop::array::uniform32(any::<u8>()),
    ) {
        let key = SecretKey::from_scalar(&scalar).unwrap();
        let public = key.public_key();
        let known = public.with_table();
        let mut signature = key.sign(&message).unwrap();
        prop_assert_eq!(both(&public, &known, &message, &signature), Verdict::Valid);
        *damage.get_mut(&mut signature) ^= 1_u8 << bit;
        prop_assert!(!both(&public, &known, &message, &signature).is_valid());
        let any = [&[0x30, 0x45, 2, 0x20, 0x7f], &r[1..], &[2, 0x21, 0, 0xff], &[0xf0; 31]].concat();
        let _ = both(&public, &known, &message, &any);
    }
}
