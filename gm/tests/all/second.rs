//! Differential tests against `libsm`, which shares no code with ours: both must say the same of every signature.
//!
//! What is known of libsm and kept away from it here: its DER reader panics on short input, it is not constant time, it
//! knows the default user id only, and it fills tables at its first use. It takes compressed points, which we refuse.

use hufu_gm::sm2::{PublicKey, SecretKey, Verdict};
use libsm::sm2::signature::{SigCtx, Signature};
use proptest::prelude::*;

/// libsm's own verdict; false also when its reader does not take the signature.
fn libsm(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let context = SigCtx::new();
    let point = context.load_pubkey(public).unwrap();
    Signature::der_decode(signature).is_ok_and(|parsed| context.verify(message, &point, &parsed).unwrap_or(false))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_say_the_same_of_ours_and_of_every_damage(
        scalar in prop::array::uniform32(1_u8..255),
        message in prop::collection::vec(any::<u8>(), 0..200),
        damage in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let key = SecretKey::from_scalar(&scalar).unwrap();
        let public = key.public_key();
        let signature = key.sign(&message).unwrap();
        prop_assert!(public.verify(&message, &signature).is_valid());
        prop_assert!(libsm(&public.to_sec1(), &message, &signature));
        let mut flipped = signature.clone();
        *damage.get_mut(&mut flipped) ^= 1_u8 << bit;
        prop_assert_eq!(public.verify(&message, &flipped).is_valid(), libsm(&public.to_sec1(), &message, &flipped));
        let longer = [message.as_slice(), b"."].concat();
        prop_assert!(!public.verify(&longer, &signature).is_valid() && !libsm(&public.to_sec1(), &longer, &signature));
    }

    #[test]
    fn we_take_what_libsm_signs(message in prop::collection::vec(any::<u8>(), 0..200)) {
        let context = SigCtx::new();
        let (point, secret) = context.new_keypair().unwrap();
        let signature = context.sign(&message, &secret, &point).unwrap().der_encode();
        let public = PublicKey::from_sec1(&context.serialize_pubkey(&point, false).unwrap()).unwrap();
        prop_assert_eq!(public.verify(&message, &signature), Verdict::Valid);
    }
}

#[cfg(feature = "cross-check")]
#[test]
fn the_second_opinion_is_asked_only_about_what_is_well_formed() {
    use hufu_gm::second_opinion::verify_with_libsm;
    let key = SecretKey::from_scalar(&[3; 32]).unwrap();
    let (public, good) = (key.public_key().to_sec1(), key.sign(b"m").unwrap());
    assert_eq!(verify_with_libsm(&public, b"m", &good), Verdict::Valid);
    assert_eq!(verify_with_libsm(&public, b"n", &good), Verdict::Invalid);
    for cut in 0..good.len() {
        assert_eq!(verify_with_libsm(&public, b"m", &good[..cut]), Verdict::Malformed);
    }
    assert_eq!(verify_with_libsm(&public, b"m", &[good.as_slice(), &[0]].concat()), Verdict::Malformed);
    for cut in [0, 1, 33, 64] {
        assert_eq!(verify_with_libsm(&public[..cut], b"m", &good), Verdict::Malformed);
    }
    let mut off_curve = public.clone();
    off_curve[64] ^= 1;
    assert_eq!(verify_with_libsm(&off_curve, b"m", &good), Verdict::Malformed);
    // t = r + s = 0 mod n: well-formed, and no signature of anything.
    let sum_to_n =
        hex::decode("3026020101022100fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54122").unwrap();
    assert_eq!(verify_with_libsm(&public, b"m", &sum_to_n), Verdict::Invalid);
}
