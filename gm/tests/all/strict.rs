//! What no CA may write, each with its own reason, made by rebuilding good documents piece by piece; and bounded random damage to
//! everything this crate reads: nothing panics, nothing trailing or written in a second way is taken.

use std::slice::from_ref;

use hufu_gm::{
    ChainError, Error, Mode,
    ca::{self, Revocation, Terms},
    cert::Certificate,
    chain::{Usage, check_lists, verify_chain},
    crl::Crl,
    csr::Csr,
    enveloped_key,
    pbes2::{self, Password},
    signed::Signed,
    sm2::SecretKey,
};
use proptest::prelude::*;

use crate::pki::{JANUARY_S, YEAR_S, june_ns, key, pki, terms};

const SECOND_NS: i64 = 1_000_000_000;

/// The values inside one DER value, headers included.
fn children(document: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = content(document);
    let mut found = Vec::new();
    while !rest.is_empty() {
        let size = rest.len() - after(rest).len();
        let (one, tail) = rest.split_at(size);
        found.push(one.to_vec());
        rest = tail;
    }
    found
}

/// Length of the header and of the content behind it.
fn sizes(document: &[u8]) -> (usize, usize) {
    match document[1] {
        short @ 0..0x80 => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            let length = document[2..2 + count].iter().fold(0, |sum, byte| sum * 256 + usize::from(*byte));
            (2 + count, length)
        }
    }
}

fn content(document: &[u8]) -> &[u8] {
    let (header, length) = sizes(document);
    &document[header..header + length]
}

fn after(document: &[u8]) -> &[u8] {
    let (header, length) = sizes(document);
    &document[header + length..]
}

fn tlv(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let body = parts.concat();
    let length = match body.len() {
        short @ 0..0x80 => vec![u8::try_from(short).unwrap()],
        long @ 0x80..0x100 => vec![0x81, u8::try_from(long).unwrap()],
        long => [vec![0x82], u16::try_from(long).unwrap().to_be_bytes().to_vec()].concat(),
    };
    [vec![tag], length, body].concat()
}

/// The document with the parts of its signed half changed; its signature is then wrong, which parsing does not look at.
fn rebuilt(document: &[u8], change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let mut outer = children(document);
    let mut inner = children(&outer[0]);
    change(&mut inner);
    outer[0] = tlv(0x30, &inner);
    tlv(0x30, &outer)
}

#[test]
fn what_no_ca_may_write_is_refused_by_name() {
    let node = pki().node;
    assert_eq!(rebuilt(node.der(), |_| {}), node.der(), "rebuilding changes nothing by itself");
    // version, serial, algorithm, issuer, validity, subject, key, extensions
    let serial = |bytes: &[u8]| rebuilt(node.der(), |parts| parts[1] = tlv(2, &[bytes.to_vec()]));
    let time = |text: &str| tlv(0x17, &[text.as_bytes().to_vec()]);
    let extensions = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        rebuilt(node.der(), |parts| {
            let mut list = children(&children(&parts[7])[0]);
            change(&mut list);
            parts[7] = tlv(0xa3, &[tlv(0x30, &list)]);
        })
    };
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("a negative serial number", serial(&[0x80, 1, 2, 3, 4, 5, 6, 7]), "serial number"),
        ("a serial number of zero", serial(&[0]), "serial number"),
        ("a serial number of 21 bytes", serial(&[1; 21]), "serial number"),
        ("a serial number of 100 bytes", serial(&[1; 100]), "serial number"),
        ("no issuer", rebuilt(node.der(), |parts| parts[3] = tlv(0x30, &[])), "issuer has no name"),
        (
            "an end before the beginning",
            rebuilt(node.der(), |parts| parts[4] = tlv(0x30, &[time("270101000000Z"), time("260101000000Z")])),
            "ends before it begins",
        ),
        ("an extension twice", extensions(&|list| list.push(list[0].clone())), "stands twice"),
        (
            "critical FALSE, which DER leaves out",
            extensions(&|list| {
                let mut parts = children(&list[1]);
                parts.insert(1, vec![1, 1, 0]);
                list[1] = tlv(0x30, &parts);
            }),
            "DER",
        ),
        (
            "another algorithm inside than outside",
            rebuilt(node.der(), |parts| parts[2] = tlv(0x30, &[hex::decode("06082a811ccf55018378").unwrap()])),
            "signature algorithm",
        ),
        (
            "version 2",
            rebuilt(node.der(), |parts| parts[0] = hex::decode("a003020101").unwrap()),
            "unsupported version",
        ),
        (
            "a point off the curve",
            rebuilt(node.der(), |parts| {
                let end = parts[6].len() - 1;
                parts[6][end] ^= 1;
            }),
            "public key",
        ),
        ("a part more", rebuilt(node.der(), |parts| parts.push(vec![5, 0])), "DER"),
    ];
    for (name, document, want) in cases {
        let found = Certificate::from_der(&document).unwrap_err().to_string();
        assert!(found.contains(want), "{name}: {found}");
    }
    // 20 bytes with the highest bit set need a zero byte in front, and are allowed.
    assert!(Certificate::from_der(&serial(&[&[0], [0xff; 20].as_slice()].concat())).is_ok());
}

#[test]
fn a_list_that_no_ca_may_write_is_refused_by_name() {
    let pki = pki();
    let line = Revocation { certificate: &pki.node, at_s: JANUARY_S };
    let crl = ca::crl(&pki.middle, &key(2), 1, JANUARY_S, JANUARY_S + YEAR_S, &[line]).unwrap();
    assert_eq!(rebuilt(crl.der(), |_| {}), crl.der());
    let time = |text: &str| tlv(0x17, &[text.as_bytes().to_vec()]);
    // version, algorithm, issuer, this update, next update, lines, extensions
    for (name, document, want) in [
        ("no issuer", rebuilt(crl.der(), |parts| parts[2] = tlv(0x30, &[])), "issuer has no name"),
        ("backwards", rebuilt(crl.der(), |parts| parts[4] = time("251231235959Z")), "ends before it begins"),
        ("version 1", rebuilt(crl.der(), |parts| drop(parts.remove(0))), "DER"),
        ("trailing", [crl.der(), &[0]].concat(), "DER"),
    ] {
        let found = Crl::from_der(&document).unwrap_err().to_string();
        assert!(found.contains(want), "{name}: {found}");
    }
}

#[test]
fn whoever_asks_for_lists_gets_a_reason_for_each_that_is_missing_or_old() {
    let pki = pki();
    let path =
        verify_chain(&pki.node, from_ref(&pki.middle), from_ref(&pki.root), &[], june_ns(), Usage::Signing).unwrap();
    let list = |issuer: &Certificate, fill: u8, from_s: i64, until_s: i64| {
        ca::crl(issuer, &key(fill), 1, from_s, until_s, &[]).unwrap()
    };
    let (begin, end) = (JANUARY_S, JANUARY_S + YEAR_S);
    let of_root = list(&pki.root, 1, begin, end);
    let of_middle = list(&pki.middle, 2, begin, end);
    let check = |crls: &[&Crl], at_s: i64| {
        let crls: Vec<Crl> = crls.iter().map(|crl| (*crl).clone()).collect();
        check_lists(&path, &crls, at_s * SECOND_NS).err()
    };
    assert_eq!(check(&[&of_root, &of_middle], begin), None);
    assert_eq!(check(&[&of_root, &of_middle], end), None, "the last second");
    let none = |found: Option<ChainError>, who: &Certificate| matches!(found, Some(ChainError::NoCrl { subject }) if subject == who.subject());
    assert!(none(check(&[], begin), &pki.node));
    assert!(none(check(&[&of_middle], begin), &pki.middle));
    let stale = |found: Option<ChainError>| matches!(found, Some(ChainError::StaleCrl { .. }));
    assert!(stale(check(&[&of_root, &of_middle], end + 1)), "the next one is due");
    assert!(stale(check(&[&of_root, &of_middle], begin - 1)), "not made yet");
    let newer = list(&pki.middle, 2, end, end + YEAR_S);
    assert!(stale(check(&[&of_root, &newer], begin)));
    assert_eq!(check(&[&of_root, &newer, &of_middle], begin), None, "one of two speaks for that time");
    let mut forged = of_middle.der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Crl::from_der(&forged).unwrap();
    assert!(matches!(check(&[&of_root, &forged], begin), Some(ChainError::BadCrl { .. })));
}

#[test]
fn one_call_issues_both_certificates_and_delivers_the_second_key() {
    let pki = pki();
    let holder = key(3);
    let request = Csr::make(&holder, "CN=n,O=o", &["n.example"]).unwrap();
    let both = [terms(&[5; 16]), terms(&[6; 16])];
    let made = ca::issue_pair(&pki.middle, &key(2), &request, &both, hufu_gm::random::fill).unwrap();
    assert_eq!((made.signing.subject(), made.encryption.subject()), ("CN=n,O=o".into(), "CN=n,O=o".into()));
    assert_ne!(made.signing.serial_hex(), made.encryption.serial_hex());
    let delivered = enveloped_key::open(&made.delivered, &holder).unwrap();
    assert_eq!(delivered.public_key(), *made.encryption.public_key());
    assert_ne!(made.signing.public_key(), made.encryption.public_key());
    let (middle, root) = (from_ref(&pki.middle), from_ref(&pki.root));
    for (name, leaf, usage, allowed) in [
        ("signing signs", &made.signing, Usage::Signing, true),
        ("signing receives", &made.signing, Usage::Encryption, false),
        ("encryption receives", &made.encryption, Usage::Encryption, true),
        ("encryption signs", &made.encryption, Usage::Signing, false),
    ] {
        let found = verify_chain(leaf, middle, root, &[], june_ns(), usage);
        assert_eq!(found.is_ok(), allowed, "{name}");
        assert!(allowed || matches!(found, Err(ChainError::KeyUsage { .. })), "{name}");
    }
    let same = [terms(&[5; 16]), terms(&[5; 16])];
    let twice = ca::issue_pair(&pki.middle, &key(2), &request, &same, hufu_gm::random::fill);
    assert!(matches!(twice, Err(Error::Serial)));
    let failing = |_: &mut [u8]| Err(Error::Randomness);
    let none = ca::issue_pair(&pki.middle, &key(2), &request, &both, failing);
    assert!(matches!(none, Err(Error::Randomness)));
}

#[test]
fn a_challenge_password_is_written_once_and_read_under_both_names() {
    let made = Csr::make_challenged(&key(3), "CN=n", &["n.example"], Some("agreed word 1")).unwrap();
    assert_eq!(made.challenge(), Some("agreed word 1"));
    assert!(made.verify().is_valid());
    assert_eq!(Csr::make(&key(3), "CN=n", &[]).unwrap().challenge(), None);
    for (name, word) in [("empty", ""), ("too long", &"x".repeat(65)), ("not printable", "字"), ("an at sign", "a@b")]
    {
        let found = Csr::make_challenged(&key(3), "CN=n", &[], Some(word));
        assert!(matches!(found, Err(Error::Challenge)), "{name}: {found:?}");
    }
}

/// Name, bytes, and what parses them: true when they were taken.
type Document = (&'static str, Vec<u8>, fn(&[u8]) -> bool);

/// Everything that is parsed, with what it takes to parse it.
fn documents() -> Vec<Document> {
    let pki = pki();
    let line = Revocation { certificate: &pki.node, at_s: JANUARY_S };
    let crl = ca::crl(&pki.middle, &key(2), 1, JANUARY_S, JANUARY_S + YEAR_S, &[line]).unwrap();
    let csr = Csr::make_challenged(&key(3), "CN=n,O=o", &["n.example"], Some("word")).unwrap();
    let constant = |out: &mut [u8]| {
        out.fill(5);
        Ok(())
    };
    let cipher = key(3).public_key().encrypt(b"secret", constant).unwrap();
    let delivered = enveloped_key::wrap(&key(4), &key(3).public_key(), constant).unwrap();
    let sealed = Signed::seal(b"octets".to_vec(), &[7; 32], &key(3)).unwrap().to_bytes().unwrap();
    let encrypted = {
        let terms = pbes2::Terms { iterations: pbes2::ITERATIONS_WRITE_MIN, salt: [1; 16], iv: [2; 16] };
        pbes2::encrypt(&key(3), &Password::new(b"p").unwrap(), &terms).unwrap()
    };
    vec![
        ("a signature", key(3).sign(b"m").unwrap(), |bytes| key(3).public_key().verify(b"m", bytes).is_valid()),
        ("a certificate", pki.node.der().to_vec(), |bytes| {
            Certificate::from_der(bytes).is_ok_and(|found| found.verify_signature(pki_middle()).is_valid())
        }),
        ("a request", csr.der().to_vec(), |bytes| Csr::from_der(bytes).is_ok_and(|found| found.verify().is_valid())),
        ("a list", crl.der().to_vec(), |bytes| {
            Crl::from_der(bytes).is_ok_and(|found| found.verify_signature(&self::pki().middle).is_valid())
        }),
        ("a cipher text", cipher, |bytes| key(3).decrypt(bytes).is_ok()),
        ("a delivered key", delivered, |bytes| enveloped_key::open(bytes, &key(3)).is_ok()),
        ("a signed document", sealed, |bytes| {
            Signed::from_bytes(bytes)
                .is_ok_and(|found| found.verify(&key(3).public_key()).is_valid() && found.cert_id() == [7; 32])
        }),
        ("an encrypted key", encrypted, |bytes| pbes2::decrypt(bytes, &Password::new(b"p").unwrap()).is_ok()),
    ]
}

fn pki_middle() -> &'static hufu_gm::PublicKey {
    static MIDDLE: std::sync::LazyLock<hufu_gm::PublicKey> = std::sync::LazyLock::new(|| key(2).public_key());
    &MIDDLE
}

#[test]
fn every_document_is_taken_as_it_is_and_with_nothing_behind_it() {
    for (name, document, takes) in documents() {
        assert!(takes(&document), "{name}");
        assert!(!takes(&[document.as_slice(), &[0]].concat()), "{name} with a byte more");
        assert!(!takes(&[document.as_slice(), document.as_slice()].concat()), "{name} twice");
        assert!(!takes(&[]), "{name}: nothing");
        // The outer length in a longer form.
        let (header, _) = sizes(&document);
        let length = u32::try_from(document.len() - header).unwrap().to_be_bytes();
        let longer = [&document[..1], &[0x84], length.as_slice(), &document[header..]].concat();
        assert!(!takes(&longer), "{name} with a long length");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_is_taken_and_none_panics(
        which in 0..7_usize,
        at in any::<prop::sample::Index>(),
        kind in 0..5_u8,
        value in any::<u8>(),
        count in 1..9_usize,
    ) {
        // The encrypted key costs 65,536 rounds a try; `keyfile.rs` damages one with fewer.
        let (name, good, takes) = documents().swap_remove(which);
        let mut bytes = good.clone();
        let place = at.index(bytes.len());
        match kind {
            0 => bytes[place] = value,
            1 => bytes.truncate(place),
            2 => drop(bytes.drain(place..(place + count).min(good.len()))),
            3 => drop(bytes.splice(place..place, std::iter::repeat_n(value, count))),
            _ => {
                let piece: Vec<u8> = bytes[place..(place + count).min(good.len())].to_vec();
                drop(bytes.splice(place..place, piece));
            }
        }
        prop_assert!(bytes == good || !takes(&bytes), "{name}: kind {kind} at {place}");
    }

    #[test]
    fn no_noise_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for (name, _, takes) in documents().iter().take(7) {
            prop_assert!(!takes(&bytes), "{name}");
        }
        let _ = Mode::from_der(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(Certificate::from_pem_many(&text).is_err() && Crl::from_pem_many(&text).is_err());
        prop_assert!(Csr::from_pem(&text).is_err());
        let _ = SecretKey::from_scalar(&bytes);
    }
}

#[test]
fn terms_of_a_pair_are_judged_like_those_of_one() {
    let pki = pki();
    let request = Csr::make(&key(3), "CN=n", &[]).unwrap();
    let short = Terms { serial: &[1; 7], ..terms(&[1; 16]) };
    let found = ca::issue_pair(&pki.middle, &key(2), &request, &[terms(&[5; 16]), short], hufu_gm::random::fill);
    assert!(matches!(found, Err(Error::Serial)));
    let found =
        ca::issue_pair(&pki.node, &key(3), &request, &[terms(&[5; 16]), terms(&[6; 16])], hufu_gm::random::fill);
    assert!(matches!(found, Err(Error::Issuer)));
}
