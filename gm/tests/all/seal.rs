//! Electronic seals of GB/T 38540: made, used, and refused by name.

use hufu_gm::{
    Certificate, ChainError, Judgement, Refusal, Trust,
    ca::{self, Role},
    seal::{self, Design, Picture},
    sm3::sm3,
};

use crate::{
    matrix,
    message::trust,
    pki::{JANUARY_S, Pki, YEAR_S, june_ns, key, pki, terms},
};

const DAY_S: i64 = 86_400;
const DOCUMENT: &[u8] = b"statement of account";

/// A maker of seals (key 6) under the site's CA; node-1 (key 3) is the user.
pub(crate) fn maker(pki: &Pki) -> Certificate {
    ca::issue(&pki.middle, &key(2), Role::Signer, "CN=seal maker,O=Hufu,C=CN", &key(6).public_key(), &terms(&[7; 16]))
        .unwrap()
}

pub(crate) fn picture() -> Picture {
    Picture { format: "PNG".into(), data: b"\x89PNG\r\n\x1a\n".to_vec(), width_mm: 40, height_mm: 40 }
}

pub(crate) fn design<'a>(users: &'a [Certificate], picture: &'a Picture) -> Design<'a> {
    Design {
        id: "hufu-seal-1",
        vendor: "hufu",
        name: "华东算力园 账单专用章",
        kind: 1,
        users,
        created_s: JANUARY_S + DAY_S,
        start_s: JANUARY_S + DAY_S,
        end_s: JANUARY_S + YEAR_S - DAY_S,
        picture,
    }
}

/// What a reader of the tests knows: the intermediate is not in a seal.
fn knows<'a>(anchors: &'a [Certificate], known: &'a [Certificate]) -> Trust<'a> {
    Trust { known, ..trust(anchors) }
}

#[test]
fn a_seal_that_was_made_can_be_used_and_checked() {
    let (pki, picture) = (pki(), picture());
    let (maker, users) = (maker(&pki), [pki.node.clone()]);
    let (anchors, known) = ([pki.root.clone()], [pki.middle.clone()]);
    let made = seal::make(&design(&users, &picture), &key(6), &maker).unwrap();
    let found = seal::verify_seal(&made, &knows(&anchors, &known)).valid().unwrap();
    assert_eq!(
        (found.name.as_str(), found.id.as_str(), &found.maker),
        ("华东算力园 账单专用章", "hufu-seal-1", &maker)
    );
    assert_eq!((found.picture, found.kind), (picture, 1));
    assert!(found.listed.holds(&pki.node) && !found.listed.holds(&maker));
    let at_s = june_ns() / 1_000_000_000 - DAY_S;
    let used = seal::sign(&made, &sm3(&[DOCUMENT]), "bill.der", at_s, &key(3), &pki.node).unwrap();
    let imprint = seal::verify(&used, &sm3(&[DOCUMENT]), &knows(&anchors, &known)).valid().unwrap();
    assert_eq!((imprint.at_s, imprint.range.as_str(), imprint.has_time_stamp), (at_s, "bill.der", false));
    assert_eq!((imprint.signer, imprint.seal.der), (pki.node.clone(), made.clone()));
    assert_eq!(seal::read_seal(&used).unwrap().der, made);
}

#[test]
fn a_seal_is_refused_for_each_reason() {
    let (pki, picture) = (pki(), picture());
    let (maker, users) = (maker(&pki), [pki.node.clone()]);
    let (anchors, known) = ([pki.root.clone()], [pki.middle.clone()]);
    let good = design(&users, &picture);
    let made = seal::make(&good, &key(6), &maker).unwrap();
    let digest = sm3(&[DOCUMENT]);
    let at_s = JANUARY_S + 30 * DAY_S;
    let used = seal::sign(&made, &digest, "bill", at_s, &key(3), &pki.node).unwrap();
    let refused = |bytes: &[u8], digest: &[u8; 32], trust: &Trust<'_>| match seal::verify(bytes, digest, trust) {
        Judgement::Invalid(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let ours = knows(&anchors, &known);
    assert_eq!(refused(&used, &sm3(&[b"another"]), &ours), Refusal::Digest(pki.node.subject()));
    assert!(matches!(refused(&used, &digest, &knows(&[], &known)), Refusal::Chain(ChainError::NoAnchor { .. })));
    let before = Trust { at_ns: (at_s - 1) * 1_000_000_000, ..ours };
    assert_eq!(refused(&used, &digest, &before), Refusal::Future { at_s });
    // Years later it is still right: certificates are judged as of the time of use.
    let later = Trust { at_ns: (JANUARY_S + 20 * YEAR_S) * 1_000_000_000, ..ours };
    assert!(matches!(seal::verify(&used, &digest, &later), Judgement::Valid(_)));
    for (whose, certificate) in [("the signer", &pki.node), ("the maker", &maker)] {
        let line = ca::Revocation { certificate, at_s: at_s - 1 };
        let crl = [ca::crl(&pki.middle, &key(2), 1, at_s, at_s + DAY_S, &[line]).unwrap()];
        let gone = refused(&used, &digest, &Trust { crls: &crl, ..ours });
        assert!(matches!(gone, Refusal::Chain(ChainError::Revoked { .. })), "{whose}: {gone}");
    }
    // Using it where it may not be used.
    let by_maker = seal::sign(&made, &digest, "bill", at_s, &key(6), &maker).unwrap_err().to_string();
    assert!(by_maker.contains("does not list"), "{by_maker}");
    for outside_s in [JANUARY_S, JANUARY_S + YEAR_S] {
        let text = seal::sign(&made, &digest, "bill", outside_s, &key(3), &pki.node).unwrap_err().to_string();
        assert!(text.contains("the seal is valid from"), "{text}");
    }
    assert!(matches!(seal::sign(&made, &digest, "b", at_s, &key(6), &pki.node), Err(hufu_gm::Error::NotAPair)));
    // Designs that no reader would take.
    let long = "x".repeat(600);
    for (name, wrong, why) in [
        ("nobody", Design { users: &[], ..good.clone() }, "certList: is empty"),
        ("an end before the start", Design { end_s: JANUARY_S, ..good.clone() }, "lies before validStart"),
        ("a long name", Design { name: &long, ..good.clone() }, "property.name"),
        ("an id that is not ASCII", Design { id: "印", ..good.clone() }, "esID"),
        ("no id", Design { id: "", ..good.clone() }, "esID: is empty"),
        ("a time before 1970", Design { created_s: -5, ..good.clone() }, "1970"),
    ] {
        let text = seal::make(&wrong, &key(6), &maker).unwrap_err().to_string();
        assert!(text.contains(why), "{name}: {text}");
    }
    let flat = Picture { width_mm: 0, ..picture.clone() };
    assert!(seal::make(&design(&users, &flat), &key(6), &maker).is_err());
}

#[test]
fn no_changed_bit_of_a_seal_passes() {
    let (pki, picture) = (pki(), picture());
    let (maker, users) = (maker(&pki), [pki.node.clone()]);
    let (anchors, known) = ([pki.root.clone()], [pki.middle.clone()]);
    let made = seal::make(&design(&users, &picture), &key(6), &maker).unwrap();
    let digest = sm3(&[DOCUMENT]);
    let mut used = seal::sign(&made, &digest, "bill", JANUARY_S + 30 * DAY_S, &key(3), &pki.node).unwrap();
    for at in 0..used.len() {
        used[at] ^= 1 << (at % 8);
        let judged = seal::verify(&used, &digest, &knows(&anchors, &known));
        assert!(!matches!(judged, Judgement::Valid(_)), "byte {at}");
        used[at] ^= 1 << (at % 8);
    }
    let longer = [used.as_slice(), &[0]].concat();
    assert!(matches!(seal::verify(&longer, &digest, &knows(&anchors, &known)), Judgement::Malformed(_)));
}

/// Files of ofdrw's own tests (testdata/README.md), made by its encoder in 2020 and 2026.
#[test]
fn a_seal_signature_of_ofdrw_is_valid_and_other_versions_are_told_apart() {
    let file = |name: &str| std::fs::read(format!("{}/testdata/ofdrw/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let used = file("SignedValueV4.dat");
    // `openssl asn1parse -inform DER -in SignedValueV4.dat` shows dataHash at offset 17039, behind one octet of unused bits.
    let digest: [u8; 32] = used[17_042..17_074].try_into().unwrap();
    let seal = seal::read_seal(&used).unwrap();
    assert_eq!((seal.name.as_str(), seal.vendor.as_str(), seal.kind), ("OFD R&W 测试用印章", "OFDR&WTest", 3));
    assert_eq!((seal.picture.format.as_str(), seal.picture.width_mm, seal.picture.data.len()), ("PNG", 40, 15_693));
    let signer = match &seal.listed {
        seal::Listed::Certificates(all) => Certificate::from_der(&all[0]).unwrap(),
        seal::Listed::Digests(_) => panic!("certificates are listed"),
    };
    // Both certificates are self-made ones of the project; its root is not in the file, so they are the anchors.
    let anchors = [signer.clone(), seal.maker.clone()];
    let at_ns = 1_630_000_000_000_000_000;
    let ours = Trust { at_ns, ..trust(&anchors) };
    let imprint = seal::verify(&used, &digest, &ours).valid().unwrap();
    assert_eq!((imprint.range.as_str(), imprint.at_s), ("/Doc_0/Signs/Sign_0/Signature.xml", 1_602_501_243));
    assert_eq!((imprint.signer, imprint.seal), (signer, seal));
    let without = seal::verify(&used, &digest, &Trust { at_ns, ..trust(&[]) });
    assert!(matches!(without, Judgement::Invalid(Refusal::Chain(ChainError::NoAnchor { .. }))), "{without:?}");
    matrix::says("Seal and seal signature, version 4", "ofdrw, files of its tests", "theirs read here", "ok");
    for (name, why) in [("UserV1.esl", "version 1"), ("UserV5.esl", "4 expected, 5 found")] {
        let text = seal::verify_seal(&file(name), &ours).valid().unwrap_err().to_string();
        assert!(text.contains(why), "{name}: {text}");
    }
}
