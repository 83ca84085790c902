//! IF2: envelopes that were changed, mixed up or too large are refused; ids are stable; topics keep to their alphabet;
//! blocks fit a message.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hufu_gm::SecretKey;
use hufu_trade::{
    Error,
    if2::{
        Answer, Blocks, Delivery, Envelope, Interface, MESSAGE_BYTES_MAX, PLATFORM, PaymentConfirm, PaymentState,
        Problem, Remedy, Topic, content_id, segment_ok,
    },
    octets::{Digest, Octets},
};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use crate::golden_test::read;

const NODE: &str = "site-1/node-a";
const AT: i64 = 1_767_225_600_000_000_000;
const ASKS: Interface = Interface::PaymentConfirm;

fn key(byte: u8) -> SecretKey {
    SecretKey::from_scalar(&[byte; 32]).unwrap()
}

fn question(number: &str) -> PaymentConfirm {
    PaymentConfirm { bill_no: number.to_owned() }
}

fn sealed(number: &str, asked: Option<i64>) -> (String, Vec<u8>) {
    let cert_id: Digest = Octets([5; 32]);
    Envelope::seal(ASKS, NODE, PLATFORM, AT, None, asked, &question(number), &key(1), cert_id).unwrap()
}

/// An envelope of the right key around any payload at all.
fn around(payload: &str) -> Vec<u8> {
    let payload = URL_SAFE_NO_PAD.encode(payload);
    let sig = URL_SAFE_NO_PAD.encode(key(1).sign(payload.as_bytes()).unwrap());
    let cert_id = Octets([5_u8; 32]).to_string();
    serde_json::to_vec(&Envelope { v: 1, payload, cert_id, sig }).unwrap()
}

/// The field an envelope is refused for; empty when it opens.
fn check(bytes: &[u8], key: &SecretKey, interface: Interface, to: &str) -> &'static str {
    let opened = Envelope::parse(bytes).and_then(|envelope| {
        envelope.signer()?;
        envelope.open::<PaymentConfirm>(&key.public_key(), interface, to, bytes)
    });
    match opened {
        Ok(opened) => {
            assert_eq!(opened.received, bytes);
            ""
        }
        Err(Error::Field { what: "Envelope", field, .. }) => field,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_envelope_opens_for_its_receiver_under_its_signer() {
    let (id, bytes) = sealed("b-1", Some(7));
    let envelope = Envelope::parse(&bytes).unwrap();
    assert_eq!(envelope.signer().unwrap(), Octets([5; 32]));
    let opened = envelope.open::<PaymentConfirm>(&key(1).public_key(), ASKS, PLATFORM, &bytes).unwrap();
    assert_eq!(opened.payload.body, question("b-1"));
    assert_eq!((opened.payload.id.as_str(), opened.payload.from.as_str()), (id.as_str(), NODE));
    assert_eq!(opened.payload.at, "2026-01-01T00:00:00Z");
}

#[test]
fn everything_else_is_refused_for_its_field() {
    let (_, good) = sealed("b-1", None);
    let text = String::from_utf8(good.clone()).unwrap();
    let payload = |changed: &str| {
        around(&format!(r#"{{"id":"00","iface":"payment-confirm","from":"a/b","to":"platform","at":"x",{changed}}}"#))
    };
    let body = r#""body":{"bill_no":"b"}"#;
    let named = |id: &str| {
        let rest = r#""iface":"payment-confirm","from":"a/b","to":"platform","at":"x","body":{"bill_no":"b"}"#;
        around(&format!(r#"{{"id":"{id}",{rest}}}"#))
    };
    let part =
        |name: &str| serde_json::from_slice::<serde_json::Value>(&good).unwrap()[name].as_str().unwrap().to_owned();
    let with = |name: &str, value: &str| text.replace(&part(name), value).into_bytes();
    let other = Envelope::parse(&sealed("b-2", None).1).unwrap();
    for (name, bytes, want) in [
        ("a good one", good.clone(), ""),
        ("a good one around a payload of another maker", payload(body), ""),
        ("nothing", Vec::new(), "payload"),
        ("not JSON", b"{".to_vec(), "payload"),
        ("a list", b"[]".to_vec(), "payload"),
        ("a trailing byte", [&good[..], b"x"].concat(), "payload"),
        ("version 2", text.replace("\"v\":1", "\"v\":2").into_bytes(), "v"),
        ("version as text", text.replace("\"v\":1", "\"v\":\"1\"").into_bytes(), "payload"),
        ("no version", text.replace("\"v\":1,", "").into_bytes(), "payload"),
        ("an unknown member", text.replace("\"v\":1", "\"v\":1,\"w\":1").into_bytes(), "payload"),
        ("a member twice", text.replace("\"v\":1", "\"v\":1,\"v\":1").into_bytes(), "payload"),
        ("a short certificate id", with("cert_id", "05"), "cert_id"),
        ("the payload of another message", with("payload", &other.payload), "sig"),
        ("the signature of another message", with("sig", &other.sig), "sig"),
        ("a signature with padding", with("sig", &format!("{}=", part("sig"))), "sig"),
        ("a signature in another alphabet", with("sig", "++//"), "sig"),
        ("no signature", with("sig", ""), "sig"),
        ("a payload that is no JSON", around("nonsense"), "payload"),
        ("an unknown member inside", payload(&format!("\"w\":1,{body}")), "payload"),
        ("an unknown member in the body", payload(r#""body":{"bill_no":"b","w":1}"#), "payload"),
        ("a body of another shape", payload(r#""body":{"bill":"b"}"#), "payload"),
        ("no body", payload(r#""re":"00""#), "payload"),
        ("an empty id", named(""), "id"),
        ("an id of 64 characters", named(&"账".repeat(64)), ""),
        ("an id of 65 characters", named(&"a".repeat(65)), "id"),
    ] {
        assert_eq!(check(&bytes, &key(1), ASKS, PLATFORM), want, "{name}");
    }
    assert_eq!(check(&good, &key(2), ASKS, PLATFORM), "sig", "another key");
    assert_eq!(check(&good, &key(1), Interface::BillPush, PLATFORM), "iface", "another interface");
    assert_eq!(check(&good, &key(1), ASKS, NODE), "to", "another receiver");
}

#[test]
fn messages_above_the_limit_are_neither_made_nor_read() {
    let body = question(&"b".repeat(MESSAGE_BYTES_MAX));
    let made = Envelope::seal(ASKS, NODE, PLATFORM, AT, None, None, &body, &key(1), Octets([5; 32]));
    assert!(matches!(made, Err(Error::Field { field: "payload", .. })));
    let (_, mut bytes) = sealed("b-1", None);
    bytes.resize(MESSAGE_BYTES_MAX, b' ');
    assert!(Envelope::parse(&bytes).is_ok(), "white space up to the limit");
    bytes.push(b' ');
    assert!(Envelope::parse(&bytes).is_err());
}

#[test]
fn facts_take_their_id_from_content_and_questions_from_content_and_time() {
    let json = serde_json::to_vec(&question("b-1")).unwrap();
    assert_eq!(sealed("b-1", None).0, content_id(ASKS, &json));
    assert_eq!(sealed("b-1", None), sealed("b-1", None), "the same fact is the same message");
    assert_ne!(sealed("b-1", None).0, sealed("b-2", None).0);
    assert_eq!(sealed("b-1", Some(7)).0, sealed("b-1", Some(7)).0, "a retry");
    assert_ne!(sealed("b-1", Some(7)).0, sealed("b-1", Some(8)).0, "asked anew");
    assert_ne!(content_id(ASKS, &json), content_id(Interface::BillPush, &json));
    // printf 'payment-confirm\0{}' | openssl dgst -sm3 -r | cut -c1-32
    assert_eq!(content_id(ASKS, b"{}"), "354c55591e7de898a11d2a86132a39af");
}

#[test]
fn the_golden_envelope_is_a_bill_push_of_the_golden_node() {
    let bytes = read("envelope.json");
    let certificate = hufu_gm::Certificate::from_pem_many(&String::from_utf8(read("node.crt")).unwrap()).unwrap();
    let envelope = Envelope::parse(&bytes).unwrap();
    assert_eq!(envelope.signer().unwrap().0, certificate[0].id());
    let key = certificate[0].public_key();
    let opened = envelope.open::<serde_json::Value>(key, Interface::BillPush, PLATFORM, &bytes).unwrap();
    assert_eq!(opened.payload.body["total_cny"], "1.07");
    assert_eq!(opened.payload.body["entry"], URL_SAFE_NO_PAD.encode(read("Entry-bill.der")));
}

#[test]
fn an_answer_is_exactly_one_of_ok_and_error() {
    let problem = Problem {
        code: "state".to_owned(),
        field: None,
        remedy: Remedy { en: "wait".to_owned(), zh: "等待".to_owned() },
    };
    let state = PaymentState { bill_no: "b".to_owned(), state: "unpaid".to_owned(), ..PaymentState::default() };
    let refunded = PaymentState {
        bill_no: "b".to_owned(),
        state: "refunded".to_owned(),
        refunded_cny: Some("0.11".to_owned()),
        ..PaymentState::default()
    };
    for (answer, want) in [
        (Answer::Ok(state), r#"{"ok":{"bill_no":"b","state":"unpaid"}}"#),
        (Answer::Ok(refunded), r#"{"ok":{"bill_no":"b","state":"refunded","refunded_cny":"0.11"}}"#),
        (Answer::Error(problem), r#"{"error":{"code":"state","remedy":{"en":"wait","zh":"等待"}}}"#),
    ] {
        assert_eq!(serde_json::to_string(&answer).unwrap(), want);
        assert_eq!(serde_json::from_str::<Answer<PaymentState>>(want).unwrap(), answer);
    }
    for wrong in ["{}", r#"{"ok":1}"#, r#"{"done":{}}"#, r#"{"ok":{"bill_no":"b","state":"paid"},"error":{}}"#] {
        assert!(serde_json::from_str::<Answer<PaymentState>>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn every_interface_has_a_name_of_the_alphabet_and_one_direction() {
    let names: Vec<&str> = Interface::ALL.iter().map(|interface| interface.name()).collect();
    let up = Interface::ALL.iter().filter(|interface| interface.is_up()).count();
    assert_eq!(names[..4], ["auth-code", "token", "logout", "user-info"]);
    assert_eq!(names[4..9], ["product-report", "blocks", "bill-push", "payment-confirm", "fetch"]);
    assert_eq!(names[9..11], ["demands", "demand-response"]);
    assert_eq!(names[11..], ["browse", "order", "score", "order-change", "account", "refund-amount", "bill-query"]);
    assert_eq!(up, 11, "those of a node come first");
    for interface in Interface::ALL {
        assert!(segment_ok(interface.name()));
        assert_eq!(Interface::from_name(interface.name()), Some(*interface));
        let call = Topic::Call { pool: NODE.to_owned(), interface: *interface, answer: false }.to_string();
        let wrong = if interface.is_up() { call.replace("/up/", "/down/") } else { call.replace("/down/", "/up/") };
        assert_eq!(Topic::parse(&wrong), None, "{wrong}");
        assert!(!interface.is_up() || interface.delivery() != Delivery::Replayable);
    }
}

#[test]
fn topics_outside_the_tree_or_the_alphabet_are_nobodys() {
    let long = format!("hufu/v1/{}/n/presence", "s".repeat(65));
    for wrong in [
        "hufu/v1/s/n",
        "hufu/v1/s/n/presence/",
        "/hufu/v1/s/n/presence",
        "hufu/v1//n/presence",
        "hufu/v1/s/n.1/presence",
        "hufu/v1/s/n 1/presence",
        "hufu/v1/s/+/presence",
        "hufu/v1/s/#",
        "hufu/v1/s/节点/presence",
        "hufu/v1/s/n/state",
        "hufu/v1/s/platform/presence",
        "hufu/v1/s/platform/up/blocks",
        "hufu/v1/s/n/up/blocks/re/re",
        "hufu/v1/s/n/up/blocks/er",
        "hufu/v1/s/n/up/unknown",
        "HUFU/v1/s/n/presence",
        &long,
    ] {
        assert_eq!(Topic::parse(wrong), None, "{wrong}");
    }
    assert!(segment_ok(&"s".repeat(64)) && !segment_ok(""));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_segment_is_lower_case_letters_digits_underscore_and_hyphen(text in any::<String>(), good in "[a-z0-9_-]{1,64}") {
        prop_assert!(segment_ok(&good));
        let pool = format!("{good}/n");
        prop_assert_eq!(Topic::parse(&format!("hufu/v1/{pool}/presence")), Some(Topic::Presence { pool }));
        let want = (1..=64).contains(&text.len()) && text.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-'));
        prop_assert_eq!(segment_ok(&text), want);
    }

    #[test]
    fn any_bytes_are_an_envelope_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Envelope::parse(&bytes).is_err());
    }

    #[test]
    fn every_changed_byte_of_an_envelope_is_noticed(at in any::<u16>(), to in any::<u8>()) {
        let (_, mut bytes) = sealed("b-1", None);
        let at = usize::from(at) % bytes.len();
        let cert_id = Envelope::parse(&bytes).unwrap().cert_id;
        let was = std::mem::replace(&mut bytes[at], to);
        // The certificate id is not signed: it names the key to try, and another key does not verify.
        let same = Envelope::parse(&bytes).is_ok_and(|envelope| envelope.cert_id == cert_id);
        prop_assert!(was == to || !same || !check(&bytes, &key(1), ASKS, PLATFORM).is_empty());
    }

    #[test]
    fn packed_blocks_fit_a_message_and_go_on_where_they_stopped(sizes in proptest::collection::vec(1..44_000_usize, 0..12), first in any::<u64>()) {
        let blocks: Vec<Vec<u8>> = sizes.iter().map(|size| vec![0x30; *size]).collect();
        let mut rest = &blocks[..];
        while !rest.is_empty() {
            let packed = Blocks::pack(1, first, rest.iter().cloned()).unwrap();
            prop_assert!(!packed.blocks.is_empty() && packed.blocks.len() <= rest.len());
            prop_assert!(hufu_trade::encode(&packed, "Blocks").unwrap().len() <= MESSAGE_BYTES_MAX);
            for (taken, block) in packed.blocks.iter().zip(rest) {
                prop_assert_eq!(taken.as_bytes(), &block[..]);
            }
            rest = &rest[packed.blocks.len()..];
        }
        let empty = Blocks::pack(0, first, []).unwrap();
        prop_assert_eq!((empty.first, empty.blocks.len()), (first, 0));
    }
}
