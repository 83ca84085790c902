//! Messages of GM/T 0010: what is written is read, what a strict reader must refuse is refused by name, and damage never passes.
//! The forms that others write are put together here by a second, lenient encoder.

use hufu_gm::{
    Certificate, ChainError, Judgement, Refusal, SecretKey, Sign, Trust,
    ca::{self, Role},
    message::{self, Algorithm, Attributes, ContentType, Signing},
    random,
    sm3::sm3,
    sm4,
};

use crate::pki::{JANUARY_S, Pki, june_ns, key, pki, terms};

pub(crate) const ALL_FORMS: [(Algorithm, Attributes, bool); 6] = [
    (Algorithm::Sm2, Attributes::None, false),
    (Algorithm::Sm2, Attributes::None, true),
    (Algorithm::Sm2, Attributes::Signed { signing_time_s: Some(JANUARY_S + 5) }, false),
    (Algorithm::Sm2WithSm3, Attributes::Signed { signing_time_s: None }, true),
    (Algorithm::Sm2WithSm3, Attributes::None, false),
    (Algorithm::Sm2WithSm3, Attributes::Signed { signing_time_s: Some(JANUARY_S) }, false),
];

/// The encryption half of node-1's pair; its key is 4.
pub(crate) fn recipient(pki: &Pki) -> Certificate {
    let public = key(4).public_key();
    ca::issue(&pki.middle, &key(2), Role::Recipient, "CN=node-1,O=华东算力园,C=CN", &public, &terms(&[4; 16])).unwrap()
}

pub(crate) fn trust(anchors: &[Certificate]) -> Trust<'_> {
    Trust { anchors, known: &[], crls: &[], at_ns: june_ns() }
}

fn signing<'a>(pki: &'a Pki, key: &'a SecretKey, form: (Algorithm, Attributes)) -> Signing<'a> {
    let along = std::slice::from_ref(&pki.middle);
    Signing { key, certificate: &pki.node, along, algorithm: form.0, attributes: form.1 }
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..=127 => out.push(length.try_into().unwrap()),
        128..=255 => out.extend([0x81, length.try_into().unwrap()]),
        _ => out.extend([0x82, (length >> 8).try_into().unwrap(), (length & 0xff).try_into().unwrap()]),
    }
    out.extend(content);
    out
}

fn hexed(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn algorithm(oid: &str) -> Vec<u8> {
    tlv(0x30, &[&hexed(oid)])
}

const SM3: &str = "06082a811ccf55018311";
const SM2_1: &str = "06092a811ccf5501822d01";
const DATA: &str = "060a2a811ccf550601040201";
const SIGNED: &str = "060a2a811ccf550601040202";
const PKCS7_DATA: &str = "06092a864886f70d010701";
const PKCS7_SIGNED: &str = "06092a864886f70d010702";
const CONTENT_TYPE: &str = "06092a864886f70d010903";
const MESSAGE_DIGEST: &str = "06092a864886f70d010904";

/// Everything that can be varied about a `SignedData`.
struct Form {
    outer: &'static str,
    inner: &'static str,
    version: u8,
    signer_version: u8,
    digest: Vec<u8>,
    named: Vec<u8>,
    /// Attributes in this order, and whether they are signed as they stand.
    attributes: Option<Vec<Vec<u8>>>,
    behind: Vec<u8>,
    /// Whether the signer's certificate is in the message.
    has_certificate: bool,
}

impl Default for Form {
    fn default() -> Self {
        let (digest, named) = (algorithm(SM3), algorithm(SM2_1));
        Self {
            outer: SIGNED,
            inner: DATA,
            version: 1,
            signer_version: 1,
            digest,
            named,
            attributes: None,
            behind: vec![],
            has_certificate: true,
        }
    }
}

fn attribute(kind: &str, value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&hexed(kind), &tlv(0x31, &[value])])
}

fn good_attributes(content: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![attribute(CONTENT_TYPE, &hexed(DATA)), attribute(MESSAGE_DIGEST, &tlv(4, &[&sm3(&[content])]))];
    all.sort();
    all
}

impl Form {
    fn make(&self, content: &[u8], certificate: &Certificate, along: &[Certificate], key: &dyn Sign) -> Vec<u8> {
        let issuer_and_serial = issuer_and_serial(certificate);
        let attributes = self.attributes.as_ref().map(|all| all.concat());
        let signature = match &attributes {
            None => key.sign(content).unwrap(),
            Some(all) => key.sign(&tlv(0x31, &[all])).unwrap(),
        };
        let signer = tlv(
            0x30,
            &[
                &[2, 1, self.signer_version],
                &issuer_and_serial,
                &self.digest,
                &attributes.map_or(vec![], |all| tlv(0xa0, &[&all])),
                &self.named,
                &tlv(4, &[&signature]),
            ],
        );
        let own = self.has_certificate.then_some(certificate);
        let certificates = own.into_iter().chain(along).map(|one| one.der().to_vec()).collect::<Vec<_>>();
        let inside = tlv(
            0x30,
            &[
                &[2, 1, self.version],
                &tlv(0x31, &[&self.digest]),
                &tlv(0x30, &[&hexed(self.inner), &tlv(0xa0, &[&tlv(4, &[content])])]),
                &tlv(0xa0, &[&certificates.concat()]),
                &tlv(0x31, &[&signer]),
                &self.behind,
            ],
        );
        tlv(0x30, &[&hexed(self.outer), &tlv(0xa0, &[&inside])])
    }
}

/// Issuer and serial of a certificate, cut out of its bytes: `[0] version, serial, algorithm, issuer`.
fn issuer_and_serial(certificate: &Certificate) -> Vec<u8> {
    use der::{Decode, Reader, SliceReader, asn1::AnyRef};
    let tbs = AnyRef::from_der(certificate.tbs()).unwrap();
    let mut reader = SliceReader::new(tbs.value()).unwrap();
    reader.tlv_bytes().unwrap();
    let serial = reader.tlv_bytes().unwrap();
    reader.tlv_bytes().unwrap();
    tlv(0x30, &[reader.tlv_bytes().unwrap(), serial])
}

#[test]
fn every_form_that_is_written_is_read_and_says_who_signed() {
    let (pki, key) = (pki(), key(3));
    let anchors = [pki.root.clone()];
    for (algorithm, attributes, detached) in ALL_FORMS {
        for content in [&b""[..], b"a bill", &[7; 70_000]] {
            let made = message::sign(content, &signing(&pki, &key, (algorithm, attributes)), detached).unwrap();
            assert_eq!(message::kind(&made), Ok(ContentType::SignedData));
            let given = detached.then_some(content);
            let found = message::verify(&made, given, &trust(&anchors)).valid().unwrap();
            assert_eq!((found.content.as_slice(), found.is_detached, found.signers.len()), (content, detached, 1));
            let [signer] = found.signers.as_slice() else { panic!("one signer") };
            let time_s = match attributes {
                Attributes::Signed { signing_time_s } => signing_time_s,
                Attributes::None => None,
            };
            assert_eq!((signer.algorithm, signer.signing_time_s), (algorithm, time_s));
            assert_eq!((signer.with_attributes, &signer.certificate), (attributes != Attributes::None, &pki.node));
            let other = message::verify(&made, Some(b"another"), &trust(&anchors));
            assert!(matches!(other, Judgement::Invalid(_)), "{other:?}");
            let missing = message::verify(&made, None, &trust(&anchors));
            assert_eq!(missing == Judgement::Invalid(Refusal::ContentMissing), detached);
        }
    }
}

#[test]
fn what_others_write_is_read() {
    let (pki, content) = (pki(), b"content".as_slice());
    let anchors = [pki.root.clone()];
    let along = std::slice::from_ref(&pki.middle);
    let null = |oid: &str| tlv(0x30, &[&hexed(oid), &[5, 0]]);
    for (name, form) in [
        ("as written", Form::default()),
        ("parameters NULL, as gmsm", Form { digest: null(SM3), named: null(SM2_1), ..Form::default() }),
        ("501, as BouncyCastle and GmSSL", Form { named: algorithm("06082a811ccf55018375"), ..Form::default() }),
        ("attributes", Form { attributes: Some(good_attributes(content)), ..Form::default() }),
    ] {
        let made = form.make(content, &pki.node, along, &key(3));
        let found = message::verify(&made, None, &trust(&anchors)).valid();
        assert!(found.is_ok_and(|found| found.content == content), "{name}");
    }
    // Certificates may be known otherwise.
    let made = Form::default().make(content, &pki.node, &[], &key(3));
    let known = Trust { known: along, ..trust(&anchors) };
    assert!(message::verify(&made, None, &known).valid().is_ok());
}

#[test]
fn a_strict_reader_refuses_by_name() {
    let (pki, content) = (pki(), b"content".as_slice());
    let anchors = [pki.root.clone()];
    let along = std::slice::from_ref(&pki.middle);
    let good = || good_attributes(content);
    let reversed = || good().into_iter().rev().collect::<Vec<_>>();
    let twice = || {
        let mut all = good();
        all.push(attribute(MESSAGE_DIGEST, &tlv(4, &[&[0; 32]])));
        all.sort();
        all
    };
    let only = |index: usize| vec![good().remove(index)];
    let digest_of_other =
        vec![attribute(CONTENT_TYPE, &hexed(DATA)), attribute(MESSAGE_DIGEST, &tlv(4, &[&sm3(&[b"other"])]))];
    let other_type =
        vec![attribute(CONTENT_TYPE, &hexed(PKCS7_DATA)), attribute(MESSAGE_DIGEST, &tlv(4, &[&sm3(&[content])]))];
    let table: Vec<(&str, Form, &str)> = vec![
        ("outer type of PKCS#7", Form { outer: PKCS7_SIGNED, ..Form::default() }, "of PKCS#7"),
        ("inner type of PKCS#7", Form { inner: PKCS7_DATA, ..Form::default() }, "of PKCS#7"),
        ("version 3", Form { version: 3, ..Form::default() }, "SignedData.version: 1 expected, 3 found"),
        ("version 3 of the signer", Form { signer_version: 3, ..Form::default() }, "SignerInfo.version: 1 expected"),
        ("SHA-256", Form { digest: algorithm("0609608648016503040201"), ..Form::default() }, "not SM3"),
        ("ECDSA", Form { named: algorithm("06082a8648ce3d040302"), ..Form::default() }, "is not SM2"),
        (
            "key exchange as signature",
            Form { named: algorithm("06092a811ccf5501822d02"), ..Form::default() },
            "is not SM2",
        ),
        ("attributes out of order", Form { attributes: Some(reversed()), ..Form::default() }, "order of a DER set"),
        ("an attribute twice", Form { attributes: Some(twice()), ..Form::default() }, "stands twice"),
        ("no attributes in the set", Form { attributes: Some(vec![]), ..Form::default() }, "an empty set"),
        ("no messageDigest", Form { attributes: Some(only(0)), ..Form::default() }, "messageDigest: is missing"),
        ("no contentType", Form { attributes: Some(only(1)), ..Form::default() }, "contentType: is missing"),
        (
            "messageDigest of another",
            Form { attributes: Some(digest_of_other), ..Form::default() },
            "digest is another",
        ),
        (
            "contentType of another",
            Form { attributes: Some(other_type), ..Form::default() },
            "is not the type of the content",
        ),
        ("something behind", Form { behind: vec![5, 0], ..Form::default() }, "bytes too many"),
    ];
    for (name, form, why) in table {
        let made = form.make(content, &pki.node, along, &key(3));
        let text = message::verify(&made, None, &trust(&anchors)).valid().unwrap_err().to_string();
        assert!(text.contains(why), "{name}: {text}");
    }
    let mut trailing = Form::default().make(content, &pki.node, along, &key(3));
    trailing.push(0);
    let text = message::verify(&trailing, None, &trust(&anchors)).valid().unwrap_err().to_string();
    assert!(text.contains("1 bytes too many"), "{text}");
}

#[test]
fn a_signer_must_be_one_who_may_sign() {
    let (pki, content) = (pki(), b"content".as_slice());
    let along = std::slice::from_ref(&pki.middle);
    let reason = |made: &[u8], trust: &Trust<'_>| match message::verify(made, None, trust) {
        Judgement::Invalid(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let anchors = [pki.root.clone()];
    let ours = trust(&anchors);
    let encryption = recipient(&pki);
    let made = Form::default().make(content, &encryption, along, &key(4));
    assert!(matches!(reason(&made, &ours), Refusal::Chain(ChainError::KeyUsage { .. })));
    let made = Form::default().make(content, &pki.node, along, &key(9));
    assert_eq!(reason(&made, &ours), Refusal::Signature(pki.node.subject()));
    let good = Form::default().make(content, &pki.node, along, &key(3));
    assert!(matches!(reason(&good, &trust(&[])), Refusal::Chain(ChainError::NoAnchor { .. })));
    for (at_s, expired) in [(JANUARY_S - 1, false), (JANUARY_S + 10 * 365 * 86_400, true)] {
        let refused = reason(&good, &Trust { at_ns: at_s * 1_000_000_000, ..ours });
        assert_eq!(matches!(refused, Refusal::Chain(ChainError::Expired { .. })), expired, "{refused}");
        assert_eq!(matches!(refused, Refusal::Chain(ChainError::NotYetValid { .. })), !expired, "{refused}");
    }
    let line = ca::Revocation { certificate: &pki.node, at_s: JANUARY_S + 9 };
    let crl = ca::crl(&pki.middle, &key(2), 1, JANUARY_S + 10, JANUARY_S + 99, &[line]).unwrap();
    let refused = reason(&good, &Trust { crls: &[crl], ..ours });
    assert!(matches!(refused, Refusal::Chain(ChainError::Revoked { .. })), "{refused}");
    // Without the certificate nobody knows whose signature it is.
    let bare = Form { has_certificate: false, ..Form::default() }.make(content, &pki.node, along, &key(3));
    assert!(matches!(reason(&bare, &ours), Refusal::SignerUnknown(who) if who.ends_with("CN=site-a CA,O=Hufu,C=CN")));
    let known = [pki.node.clone()];
    assert!(message::verify(&bare, None, &Trust { known: &known, ..ours }).valid().is_ok());
    // Keys and certificates that do not belong together are refused before anything is signed.
    let (stranger, holder) = (key(9), key(4));
    let wrong = signing(&pki, &stranger, (Algorithm::Sm2, Attributes::None));
    assert!(matches!(message::sign(content, &wrong, false), Err(hufu_gm::Error::NotAPair)));
    let wrong = Signing { key: &holder, certificate: &encryption, ..wrong };
    assert!(matches!(message::sign(content, &wrong, false), Err(hufu_gm::Error::Chain(ChainError::KeyUsage { .. }))));
}

fn replace(bytes: &[u8], part: &[u8], by: &[u8]) -> Vec<u8> {
    let at = bytes.windows(part.len()).position(|window| window == part).unwrap();
    [&bytes[..at], by, &bytes[at + part.len()..]].concat()
}

#[test]
fn no_changed_bit_and_no_cut_passes() {
    let (pki, key) = (pki(), key(3));
    let anchors = [pki.root.clone()];
    let attributes = Attributes::Signed { signing_time_s: Some(JANUARY_S) };
    let content = b"content";
    let made = message::sign(content, &signing(&pki, &key, (Algorithm::Sm2, attributes)), false).unwrap();
    let mut changed = made.clone();
    let mut valid = 0;
    for at in 0..made.len() {
        let cut = message::verify(&made[..at], None, &trust(&anchors));
        assert!(matches!(cut, Judgement::Malformed(_)), "cut at {at}");
        let bit = 1 << (at % 8);
        changed[at] ^= bit;
        if let Judgement::Valid(found) = message::verify(&changed, None, &trust(&anchors)) {
            assert_eq!(
                (found.content.as_slice(), &found.signers[0].certificate),
                (&content[..], &pki.node),
                "bit of {at}"
            );
            valid += 1;
        }
        changed[at] ^= bit;
    }
    // Nothing but the name of the signature algorithm is outside of all signatures here, and no one bit turns it into another.
    assert_eq!(valid, 0, "changed bits that nobody noticed");
}

#[test]
fn envelopes_open_for_their_recipients_and_say_nothing_else() {
    let pki = pki();
    let (holder, holder_key) = (recipient(&pki), key(4));
    let other_key = key(5);
    let other = ca::issue(&pki.middle, &key(2), Role::Recipient, "CN=other", &other_key.public_key(), &terms(&[6; 16]))
        .unwrap();
    for length in [0_usize, 1, 15, 16, 17, 70_000] {
        let content = vec![9; length];
        let made = message::envelop(&content, &[other.clone(), holder.clone()], random::fill).unwrap();
        for (certificate, key) in [(&holder, &holder_key), (&other, &other_key)] {
            assert_eq!(*message::open(&made, certificate, key).valid().unwrap(), content);
        }
    }
    let made = message::envelop(b"secret", std::slice::from_ref(&holder), random::fill).unwrap();
    assert_eq!(message::open(&made, &other, &other_key), Judgement::Invalid(Refusal::NotRecipient));
    assert_eq!(message::open(&made, &holder, &other_key), Judgement::Invalid(Refusal::NotOpened));
    assert!(matches!(message::envelop(b"x", &[], random::fill), Err(hufu_gm::Error::NoRecipient { .. })));
    let refused = message::envelop(b"x", std::slice::from_ref(&pki.node), random::fill);
    assert!(
        matches!(refused, Err(hufu_gm::Error::Chain(ChainError::KeyUsage { .. }))),
        "a signing certificate takes no keys"
    );
    // Whatever is changed, there is one answer, or the change is in what nobody signs.
    let mut changed = made.clone();
    for at in 0..made.len() {
        changed[at] ^= 0x10;
        match message::open(&changed, &holder, &holder_key) {
            Judgement::Malformed(_) | Judgement::Invalid(Refusal::NotOpened | Refusal::NotRecipient) => {}
            Judgement::Valid(found) => assert_ne!(*found, b"secret", "byte {at}"),
            other => panic!("byte {at}: {other:?}"),
        }
        changed[at] ^= 0x10;
    }
}

#[test]
fn names_that_others_give_to_key_and_content_cipher_are_read() {
    let pki = pki();
    let (holder, holder_key) = (recipient(&pki), key(4));
    let made = message::envelop(b"secret", std::slice::from_ref(&holder), random::fill).unwrap();
    let gmssl = replace(&made, &hexed("06092a811ccf5501822d03"), &hexed("06092a811ccf5501822d02"));
    assert_eq!(**message::open(&gmssl, &holder, &holder_key).valid().unwrap(), *b"secret");
    let wrong = replace(&made, &hexed("06092a811ccf5501822d03"), &hexed("06092a811ccf5501822d01"));
    let text = message::open(&wrong, &holder, &holder_key).valid().unwrap_err().to_string();
    assert!(text.contains("is not SM2 encryption"), "{text}");
    let stream = replace(&made, &hexed("06082a811ccf55016802"), &hexed("06082a811ccf55016807"));
    let text = message::open(&stream, &holder, &holder_key).valid().unwrap_err().to_string();
    assert!(text.contains("not SM4-CBC"), "{text}");
}

#[test]
fn signed_and_enveloped_is_both_or_nothing() {
    let (pki, node_key) = (pki(), key(3));
    let (holder, holder_key) = (recipient(&pki), key(4));
    let anchors = [pki.root.clone()];
    let signing = signing(&pki, &node_key, (Algorithm::Sm2, Attributes::None));
    let made = message::sign_and_envelop(b"secret", &signing, std::slice::from_ref(&holder), random::fill).unwrap();
    assert_eq!(message::kind(&made), Ok(ContentType::SignedAndEnvelopedData));
    let (content, signers) = message::open_signed(&made, &holder, &holder_key, &trust(&anchors)).valid().unwrap();
    assert_eq!((&**content, &signers[0].certificate), (&b"secret"[..], &pki.node));
    let untrusted = message::open_signed(&made, &holder, &holder_key, &trust(&[]));
    assert!(matches!(untrusted, Judgement::Invalid(Refusal::Chain(_))), "before anything is opened");
    let wrong = message::open_signed(&made, &holder, &key(5), &trust(&anchors));
    assert_eq!(wrong, Judgement::Invalid(Refusal::NotOpened));
    let attributes = Signing { attributes: Attributes::Signed { signing_time_s: None }, ..signing };
    let refused = message::sign_and_envelop(b"x", &attributes, std::slice::from_ref(&holder), random::fill);
    assert!(matches!(refused, Err(hufu_gm::Error::Attributes)));
    let mut changed = made.clone();
    for at in 0..made.len() {
        changed[at] ^= 1;
        if let Judgement::Valid((content, _)) = message::open_signed(&changed, &holder, &holder_key, &trust(&anchors)) {
            // 301.3 became 301.2, which is read as the same.
            let other_name = changed[..=at].ends_with(&hexed("06092a811ccf5501822d02"));
            assert!(other_name && *content == b"secret", "byte {at} can be changed");
        }
        changed[at] ^= 1;
    }
}

#[test]
fn encrypted_data_needs_the_same_key() {
    let key = sm4::Key::from_bytes([1; 16]);
    let made = message::encrypt_with(b"content", &key, random::fill).unwrap();
    assert_eq!(message::kind(&made), Ok(ContentType::EncryptedData));
    assert_eq!(**message::decrypt_with(&made, &key).valid().unwrap(), *b"content");
    let wrong = message::decrypt_with(&made, &sm4::Key::from_bytes([2; 16]));
    // One in 256 wrong keys gives padding that looks right; the vector is random, so it is not this one every time.
    assert!(
        matches!(&wrong, Judgement::Invalid(Refusal::NotOpened)) || wrong.valid().is_ok_and(|got| *got != b"content")
    );
    assert!(matches!(message::decrypt_with(b"", &key), Judgement::Malformed(_)));
}

/// `testdata/bouncycastle.txt`: messages that BouncyCastle made once, with the commands in its head.
#[test]
fn messages_of_bouncycastle_from_a_file_are_read() {
    let text = include_str!("../../testdata/bouncycastle.txt");
    let file = |name: &str| {
        let line = text.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
        hexed(line.split(' ').nth(1).unwrap())
    };
    let certificate = |name: &str| Certificate::from_der(&file(name)).unwrap();
    let (root, node, holder) = (certificate("root"), certificate("node"), certificate("enc"));
    let anchors = [root];
    let trust = Trust { at_ns: node.not_before_ns(), ..trust(&anchors) };
    let content = file("content");
    for (name, detached, attributes) in [
        ("attached", false, false),
        ("attached-attributes", false, true),
        ("detached", true, false),
        ("detached-attributes", true, true),
    ] {
        let found = message::verify(&file(name), detached.then_some(&content), &trust).valid().unwrap();
        assert_eq!((&found.content, found.is_detached), (&content, detached), "{name}");
        assert_eq!((found.signers[0].with_attributes, &found.signers[0].certificate), (attributes, &node), "{name}");
        assert_eq!(found.signers[0].algorithm, Algorithm::Sm2WithSm3);
    }
    let key = SecretKey::from_scalar(&file("enc-key")).unwrap();
    for name in ["enveloped-301.3", "enveloped-301.2", "enveloped-301.3.2.1"] {
        assert_eq!(**message::open(&file(name), &holder, &key).valid().unwrap(), *content, "{name}");
    }
}
