//! What `verify_chain` must refuse, one row a reason; and that no damaged byte of a certificate gets through.

use std::slice::from_ref;

use hufu_gm::{
    ChainError, ChainFault, Error,
    ca::{self, Revocation, Role, Terms},
    cert::Certificate,
    chain::{PATH_COUNT_MAX, Usage, verify_chain},
    crl::Crl,
    csr::Csr,
};
use proptest::prelude::*;

use crate::pki::{JANUARY_S, YEAR_S, june_ns, key, pki, terms};

const SECOND_NS: i64 = 1_000_000_000;

fn why(
    leaf: &Certificate,
    intermediates: &[Certificate],
    anchors: &[Certificate],
    at_ns: i64,
    usage: Usage,
) -> Option<ChainError> {
    verify_chain(leaf, intermediates, anchors, &[], at_ns, usage).err()
}

#[test]
fn a_whole_path_is_returned_leaf_first() {
    let pki = pki();
    let (middle, root) = (from_ref(&pki.middle), from_ref(&pki.root));
    let path = verify_chain(&pki.node, middle, root, &[], june_ns(), Usage::Signing);
    assert_eq!(path.unwrap(), [pki.node.clone(), pki.middle.clone(), pki.root.clone()]);
    let anchors = [pki.root.clone(), pki.middle.clone()];
    assert_eq!(verify_chain(&pki.node, &[], &anchors, &[], june_ns(), Usage::Signing).unwrap().len(), 2);
    assert_eq!(verify_chain(&pki.node, &[], from_ref(&pki.node), &[], june_ns(), Usage::Signing).unwrap().len(), 1);
    assert_eq!(verify_chain(&pki.middle, &[], &anchors, &[], june_ns(), Usage::Issuing).unwrap().len(), 1);
}

#[test]
fn each_reason_has_its_own_name() {
    let pki = pki();
    let other = ca::root(&key(8), "CN=Hufu Test Root,O=Hufu,C=CN", None, &terms(&[8; 16])).unwrap();
    let recipient =
        ca::issue(&pki.middle, &key(2), Role::Recipient, "CN=enc", &key(4).public_key(), &terms(&[4; 16])).unwrap();
    let (middle, root) = (from_ref(&pki.middle), from_ref(&pki.root));
    let (begin, end) = (JANUARY_S * SECOND_NS, (JANUARY_S + YEAR_S) * SECOND_NS);
    let why = |leaf: &Certificate, middle: &[Certificate], root: &[Certificate], at_ns: i64, usage: Usage| {
        verify_chain(leaf, middle, root, &[], at_ns, usage).err()
    };
    let node = &pki.node;
    let no_anchor = |found: Option<ChainError>| matches!(found, Some(ChainError::NoAnchor { .. }));
    assert!(no_anchor(why(node, middle, &[], june_ns(), Usage::Signing)), "no anchors at all");
    assert!(no_anchor(why(node, &[], root, june_ns(), Usage::Signing)), "intermediate missing");
    assert!(no_anchor(why(node, middle, &[other], june_ns(), Usage::Signing)), "another root of the same name");
    let expired = |found: Option<ChainError>| matches!(found, Some(ChainError::Expired { .. }));
    assert_eq!(why(node, middle, root, begin, Usage::Signing), None, "first instant");
    assert_eq!(why(node, middle, root, end + SECOND_NS - 1, Usage::Signing), None, "last instant");
    assert!(expired(why(node, middle, root, end + SECOND_NS, Usage::Signing)), "one second later");
    let early = why(node, middle, root, begin - 1, Usage::Signing);
    assert!(matches!(early, Some(ChainError::NotYetValid { .. })), "{early:?}");
    for (name, leaf, usage) in [
        ("a signature under an encryption certificate", &recipient, Usage::Signing),
        ("encryption to a signing certificate", node, Usage::Encryption),
        ("an end entity that issues", node, Usage::Issuing),
        ("a CA that signs messages", &pki.middle, Usage::Signing),
    ] {
        let found = why(leaf, middle, root, june_ns(), usage);
        assert!(
            matches!(&found, Some(ChainError::KeyUsage { subject, .. }) if *subject == leaf.subject()),
            "{name}: {found:?}"
        );
    }
    assert_eq!(why(&recipient, middle, root, june_ns(), Usage::Encryption), None);
}

#[test]
fn an_expired_link_refuses_what_it_carries_and_an_expired_anchor_too() {
    let short = Terms { not_after_s: JANUARY_S + 1000, ..terms(&[5; 16]) };
    let root = ca::root(&key(1), "CN=r", None, &short).unwrap();
    let node = ca::issue(&root, &key(1), Role::Signer, "CN=n", &key(3).public_key(), &terms(&[6; 16])).unwrap();
    let found = why(&node, &[], from_ref(&root), june_ns(), Usage::Signing);
    assert!(matches!(&found, Some(ChainError::Expired { subject, .. }) if subject == "CN=r"), "{found:?}");
    assert_eq!(why(&node, &[], &[root], JANUARY_S * SECOND_NS, Usage::Signing), None);
}

#[test]
fn an_end_entity_is_no_issuer_even_as_an_anchor() {
    // A "CA" that is none: the same name and key as the true intermediate, but certified as a signer.
    let pki = pki();
    let public = key(2).public_key();
    let fake =
        ca::issue(&pki.root, &key(1), Role::Signer, "CN=site-a CA,O=Hufu,C=CN", &public, &terms(&[7; 16])).unwrap();
    for (intermediates, anchors) in [(vec![fake.clone()], vec![pki.root.clone()]), (vec![], vec![fake.clone()])] {
        let found = why(&pki.node, &intermediates, &anchors, june_ns(), Usage::Signing);
        assert!(matches!(found, Some(ChainError::NotAnAuthority { .. })), "{found:?}");
    }
    // The true one beside it wins, whichever comes first.
    assert_eq!(why(&pki.node, &[fake, pki.middle.clone()], &[pki.root], june_ns(), Usage::Signing), None);
}

#[test]
fn a_path_length_is_kept_by_our_ca_and_enforced_on_others() {
    let role = Role::Authority { path_len: None };
    let root = ca::root(&key(1), "CN=r", Some(0), &terms(&[1; 8])).unwrap();
    let below = ca::issue(&root, &key(1), role, "CN=i", &key(2).public_key(), &terms(&[2; 8]));
    assert!(matches!(below, Err(Error::Issuer)));
    // A root of the same name and key without the limit makes what the limited one must not carry.
    let free = ca::root(&key(1), "CN=r", None, &terms(&[3; 8])).unwrap();
    let middle = ca::issue(&free, &key(1), role, "CN=i", &key(2).public_key(), &terms(&[2; 8])).unwrap();
    let node = ca::issue(&middle, &key(2), Role::Signer, "CN=n", &key(3).public_key(), &terms(&[4; 8])).unwrap();
    let middles = [middle];
    let found = why(&node, &middles, from_ref(&root), june_ns(), Usage::Signing);
    assert!(matches!(found, Some(ChainError::PathLength { limit: 0, .. })), "{found:?}");
    assert_eq!(why(&node, &middles, &[root, free], june_ns(), Usage::Signing), None);
}

#[test]
fn a_revoked_certificate_is_refused_from_that_instant_on() {
    let pki = pki();
    let line = Revocation { certificate: &pki.node, at_s: JANUARY_S + 1000 };
    let crl = ca::crl(&pki.middle, &key(2), 1, JANUARY_S + 2000, JANUARY_S + YEAR_S, &[line]).unwrap();
    let check = |crls: &[Crl], at_s: i64| {
        let (middle, root) = ([pki.middle.clone()], [pki.root.clone()]);
        verify_chain(&pki.node, &middle, &root, crls, at_s * SECOND_NS, Usage::Signing).err()
    };
    let revoked = ChainError::Revoked { subject: pki.node.subject(), revoked_at_ns: (JANUARY_S + 1000) * SECOND_NS };
    assert_eq!(check(from_ref(&crl), JANUARY_S + 999), None);
    assert_eq!(check(from_ref(&crl), JANUARY_S + 1000), Some(revoked));
    let empty = ca::crl(&pki.middle, &key(2), 1, JANUARY_S, JANUARY_S + YEAR_S, &[]).unwrap();
    assert_eq!(check(&[empty], JANUARY_S + 2000), None);
    // A list of the intermediate's name made with another key is damage; one of a stranger is none of our business.
    let forger = ca::issue(
        &pki.root,
        &key(1),
        Role::Authority { path_len: Some(0) },
        "CN=x",
        &key(9).public_key(),
        &terms(&[9; 8]),
    );
    let stranger = ca::crl(&forger.unwrap(), &key(9), 1, JANUARY_S, JANUARY_S + 1, &[]).unwrap();
    assert_eq!(check(&[stranger], JANUARY_S + 2000), None);
    let mut forged = crl.der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Crl::from_der(&forged).unwrap();
    let found = check(&[forged], JANUARY_S).unwrap();
    assert_eq!((matches!(found, ChainError::BadCrl { .. }), found.fault()), (true, ChainFault::Damaged));
}

#[test]
fn a_revoked_intermediate_takes_everything_below_with_it() {
    let pki = pki();
    let line = Revocation { certificate: &pki.middle, at_s: JANUARY_S };
    let crl = ca::crl(&pki.root, &key(1), 1, JANUARY_S, JANUARY_S + YEAR_S, &[line]).unwrap();
    let found = verify_chain(&pki.node, from_ref(&pki.middle), from_ref(&pki.root), &[crl], june_ns(), Usage::Signing);
    assert!(matches!(found, Err(ChainError::Revoked { subject, .. }) if subject == pki.middle.subject()));
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_certificate_is_refused() {
    let pki = pki();
    let (middle, root) = ([pki.middle], [pki.root]);
    let good = pki.node.der();
    let mut damaged = 0;
    for index in 0..good.len() {
        assert!(Certificate::from_der(&good[..index]).is_err(), "cut at {index}");
        let mut bytes = good.to_vec();
        bytes[index] ^= 1 << (index % 8);
        let Ok(parsed) = Certificate::from_der(&bytes) else { continue };
        let found =
            why(&parsed, &middle, &root, june_ns(), Usage::Signing).unwrap_or_else(|| panic!("byte {index} passed"));
        damaged += usize::from(found.fault() == ChainFault::Damaged);
    }
    assert!(damaged > 100, "{damaged}");
    assert!(Certificate::from_der(&[good, &[0]].concat()).is_err(), "trailing byte");
}

#[test]
fn rings_and_heaps_of_intermediates_end() {
    // Cross-certificates in a ring, none of them anchored.
    let role = Role::Authority { path_len: None };
    let a = ca::root(&key(1), "CN=a", None, &terms(&[1; 8])).unwrap();
    let b = ca::root(&key(2), "CN=b", None, &terms(&[1; 8])).unwrap();
    let mut heap = vec![a.clone(), b.clone()];
    for serial in 0..40_u8 {
        heap.push(ca::issue(&a, &key(1), role, "CN=b", &key(2).public_key(), &terms(&[serial; 8])).unwrap());
        heap.push(ca::issue(&b, &key(2), role, "CN=a", &key(1).public_key(), &terms(&[serial; 8])).unwrap());
    }
    let leaf = ca::issue(&b, &key(2), Role::Signer, "CN=n", &key(3).public_key(), &terms(&[3; 8])).unwrap();
    let anchors = [pki().root];
    let found = why(&leaf, &heap, &anchors, june_ns(), Usage::Signing).unwrap();
    assert!(matches!(found, ChainError::TooManyPaths { .. }), "{found:?}");
}

#[test]
fn a_path_longer_than_the_limit_is_refused() {
    let role = Role::Authority { path_len: None };
    let root = ca::root(&key(1), "CN=0", None, &terms(&[1; 8])).unwrap();
    let mut chain = vec![root.clone()];
    for step in 1..u8::try_from(PATH_COUNT_MAX).unwrap() {
        let (issuer, issuer_key) = (chain.last().unwrap(), key(step));
        let public = key(step + 1).public_key();
        chain.push(ca::issue(issuer, &issuer_key, role, &format!("CN={step}"), &public, &terms(&[1; 8])).unwrap());
    }
    let last = u8::try_from(PATH_COUNT_MAX).unwrap();
    let fits = chain.last().unwrap();
    let count = verify_chain(fits, &chain, from_ref(&root), &[], june_ns(), Usage::Issuing).unwrap().len();
    assert_eq!(count, PATH_COUNT_MAX);
    let leaf = ca::issue(fits, &key(last), Role::Signer, "CN=n", &key(3).public_key(), &terms(&[1; 8])).unwrap();
    let found = why(&leaf, &chain, &[root], june_ns(), Usage::Signing);
    assert!(matches!(found, Some(ChainError::PathTooLong { .. })), "{found:?}");
}

#[test]
fn terms_that_cannot_be_granted_are_refused() {
    let good = terms(&[1; 16]);
    let many = "x".repeat(254);
    let cases = [
        ("serial of 7 bytes", Terms { serial: &[1; 7], ..good }, Error::Serial),
        ("serial of 21 bytes", Terms { serial: &[1; 21], ..good }, Error::Serial),
        ("ends before it begins", Terms { not_after_s: JANUARY_S, ..good }, Error::Validity),
        ("more than ten years", Terms { not_after_s: JANUARY_S + 3654 * 86_400, ..good }, Error::Validity),
        ("before 1970", Terms { not_before_s: -1, not_after_s: 1, ..good }, Error::Validity),
        ("overflow", Terms { not_before_s: i64::MIN, not_after_s: i64::MAX, ..good }, Error::Validity),
        ("an empty DNS name", Terms { dns_names: &[""], ..good }, Error::DnsName),
        ("a long DNS name", Terms { dns_names: &[&many], ..good }, Error::DnsName),
    ];
    for (name, terms, want) in cases {
        let found = ca::root(&key(1), "CN=r", None, &terms).unwrap_err();
        assert_eq!(found.to_string(), want.to_string(), "{name}");
    }
    for name in ["", " ", "CN", "CN=", "=x", "NOSUCH=x", "CN=x,", ",", "CN=\\", &"CN=x,".repeat(400)] {
        let made = ca::root(&key(1), name, None, &good);
        assert!(matches!(made, Err(Error::Name)), "{name:?}: {made:?}");
    }
    let pki = pki();
    let wrong_key = ca::issue(&pki.middle, &key(1), Role::Signer, "CN=n", &key(3).public_key(), &good);
    assert!(matches!(wrong_key, Err(Error::Issuer)));
    let not_a_ca = ca::issue(&pki.node, &key(3), Role::Signer, "CN=n", &key(3).public_key(), &good);
    assert!(matches!(not_a_ca, Err(Error::Issuer)));
    let not_its_own = [Revocation { certificate: &pki.node, at_s: JANUARY_S }];
    assert!(matches!(ca::crl(&pki.root, &key(1), 1, JANUARY_S, JANUARY_S + 1, &not_its_own), Err(Error::Issuer)));
}

#[test]
fn serial_numbers_of_every_allowed_length_are_positive_and_keep_it() {
    for length in 8..=20 {
        for fill in [0x00, 0x7f, 0x80, 0xff] {
            let serial = vec![fill; length];
            let made = ca::root(&key(1), "CN=r", None, &terms(&serial)).unwrap();
            assert_eq!(made.serial_hex().len(), 2 * length, "{fill:02x}");
        }
    }
}

#[test]
fn a_request_that_its_key_did_not_sign_gets_nothing() {
    let pki = pki();
    let good = Csr::make(&key(5), "CN=n", &[]).unwrap();
    let mut passed = 0;
    for index in 0..good.der().len() {
        assert!(Csr::from_der(&good.der()[..index]).is_err(), "cut at {index}");
        let mut bytes = good.der().to_vec();
        bytes[index] ^= 1;
        if let Ok(request) = Csr::from_der(&bytes) {
            let made = ca::issue_for(&pki.middle, &key(2), Role::Signer, &request, &terms(&[1; 8]));
            assert!(matches!(made, Err(Error::BadSignature)), "byte {index}");
            passed += 1;
        }
    }
    assert!(passed > 50);
}

#[test]
fn no_cut_or_flip_of_a_revocation_list_verifies() {
    let pki = pki();
    let line = Revocation { certificate: &pki.node, at_s: JANUARY_S };
    let good = ca::crl(&pki.middle, &key(2), 300, JANUARY_S, JANUARY_S + 1, &[line]).unwrap();
    for index in 0..good.der().len() {
        assert!(Crl::from_der(&good.der()[..index]).is_err(), "cut at {index}");
        let mut bytes = good.der().to_vec();
        bytes[index] ^= 1;
        assert!(
            Crl::from_der(&bytes).map_or(true, |crl| !crl.verify_signature(&pki.middle).is_valid()),
            "byte {index}"
        );
    }
}

#[test]
fn pem_texts_are_read_block_by_block() {
    let pki = pki();
    let text = format!("a comment\n{}\n{}trailing", pki.root.to_pem(), pki.node.to_pem());
    assert_eq!(Certificate::from_pem_many(&text).unwrap(), [pki.root.clone(), pki.node]);
    let crlf = pki.root.to_pem().replace('\n', "\r\n");
    assert_eq!(Certificate::from_pem_many(&crlf).unwrap().len(), 1);
    let cut = text.get(..text.len() - 40).unwrap();
    assert!(matches!(Certificate::from_pem_many(cut), Err(Error::Pem)));
    for nothing in
        ["", "no pem", "-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"]
    {
        assert!(Certificate::from_pem_many(nothing).is_err(), "{nothing}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Certificate::from_der(&bytes);
        let _ = Crl::from_der(&bytes);
        let _ = Csr::from_der(&bytes);
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in ".{0,80}", label in "(CERTIFICATE|X509 CRL|CERTIFICATE REQUEST)") {
        let framed = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
        let _ = (Certificate::from_pem_many(&framed), Crl::from_pem_many(&framed), Csr::from_pem(&framed));
        let _ = Csr::make(&key(5), &text, &[]);
        let _ = Csr::make(&key(5), &format!("CN={text}"), &[&text]);
    }
}
