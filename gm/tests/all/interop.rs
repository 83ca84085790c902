//! Certificates, requests, lists and signatures against the real `openssl`, in both directions.

use hufu_gm::{
    ca::{self, Revocation, Role},
    cert::{Certificate, KeyUsage},
    chain::{Usage, verify_chain},
    crl::Crl,
    csr::Csr,
    keyfile,
    sm2::{PublicKey, Verdict},
    sm4,
};

use crate::{
    matrix,
    openssl::{Bench, DISTID},
    pki::{JANUARY_S, YEAR_S, june_ns, key, pki, terms},
};

fn at() -> String {
    (JANUARY_S + YEAR_S / 2).to_string()
}

#[test]
fn openssl_verifies_our_signatures_and_refuses_other_messages() {
    let bench = Bench::new();
    keyfile::write_new(&bench.path("k.pem"), &key(3)).unwrap();
    bench.openssl("pkey -in k.pem -pubout -out pub.pem");
    for (round, message) in [b"".as_slice(), b"x", &[0xa5; 1000]].iter().enumerate() {
        bench.write("m", message);
        bench.write("s.der", key(3).sign(message).unwrap());
        let verify = format!("dgst -sm3 -verify pub.pem -sigopt {DISTID} -signature s.der m");
        assert!(bench.openssl(&verify).contains("Verified OK"), "round {round}");
        bench.write("m", [message, b"!".as_slice()].concat());
        assert!(!bench.try_openssl(&verify).0, "round {round}");
    }
    matrix::says("SM2 signature, default user id", "openssl 3.0", "ours read there", "ok");
}

#[test]
fn we_verify_openssls_signatures_and_refuse_its_empty_user_id() {
    let bench = Bench::new();
    let public = bench.openssl_key("k.pem").public_key();
    bench.write("m", b"message digest");
    for _ in 0..5 {
        bench.openssl(&format!("dgst -sm3 -sign k.pem -sigopt {DISTID} -out s.der m"));
        assert!(public.verify(b"message digest", &bench.read("s.der")).is_valid());
        assert!(!public.verify(b"message digesT", &bench.read("s.der")).is_valid());
    }
    bench.openssl("dgst -sm3 -sign k.pem -out default-id.der m");
    assert!(!public.verify(b"message digest", &bench.read("default-id.der")).is_valid());
    matrix::says("SM2 signature, default user id", "openssl 3.0", "theirs read here", "ok");
}

#[test]
fn openssl_decrypts_what_sm4_ctr_encrypts_and_we_decrypt_its_own() {
    let bench = Bench::new();
    // The last counter but one: it must carry over all 128 bits.
    for (round, nonce) in [[0x5a; 16], [0xff; 16]].iter().enumerate() {
        let key = sm4::Key::generate(hufu_gm::random::fill).unwrap();
        let words = format!("-K {} -iv {}", hex::encode(key.as_bytes()), hex::encode(nonce));
        for length in [0, 1, 15, 16, 17, 1000] {
            let plain: Vec<u8> = (0..length).map(|byte: usize| byte.to_le_bytes()[0]).collect();
            let mut text = plain.clone();
            key.apply_ctr(nonce, &mut text);
            bench.write("ours", &text);
            bench.openssl(&format!("enc -d -sm4-ctr {words} -in ours -out back"));
            assert_eq!(bench.read("back"), plain, "round {round}, {length} bytes");
            bench.openssl(&format!("enc -sm4-ctr {words} -in back -out theirs"));
            assert_eq!(bench.read("theirs"), text, "round {round}, {length} bytes");
        }
    }
    assert_eq!(format!("{:?}", sm4::Key::from_bytes([1; 16])), "Key(..)");
}

#[test]
fn openssl_verifies_each_link_of_our_chain() {
    let (bench, pki) = (Bench::new(), pki());
    for (name, certificate) in [("root", &pki.root), ("middle", &pki.middle), ("node", &pki.node)] {
        bench.write(&format!("{name}.pem"), certificate.to_pem());
    }
    let verify = |issuer: &str, subject: &str| {
        let at = at();
        bench.openssl(&format!(
            "verify -x509_strict -attime {at} -vfyopt {DISTID} -partial_chain -CAfile {issuer}.pem {subject}.pem"
        ))
    };
    // `-vfyopt` reaches the leaf only, so a root's own signature is checked as plain bytes below.
    for (issuer, subject) in [("root", "middle"), ("middle", "node")] {
        assert!(verify(issuer, subject).contains("OK"), "{issuer} -> {subject}");
    }
    let (wrong, text) = bench
        .try_openssl(&format!("verify -attime {} -vfyopt {DISTID} -partial_chain -CAfile root.pem node.pem", at()));
    assert!(!wrong, "{text}");
    matrix::says("Certificates, a chain of three", "openssl 3.0", "ours read there", "ok");
}

#[test]
fn openssl_prints_our_certificate_as_we_do() {
    let (bench, pki) = (Bench::new(), pki());
    bench.write("node.pem", pki.node.to_pem());
    bench.write("node.der", pki.node.der());
    let text = bench.openssl("x509 -in node.pem -noout -text -nameopt RFC2253,-esc_msb");
    for part in
        ["Version: 3", "SM2-with-SM3", "Digital Signature, Non Repudiation", &pki.node.subject(), &pki.node.issuer()]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.contains("X509v3 Key Usage: critical") && !text.contains("Basic Constraints"));
    let serial = bench.openssl("x509 -in node.pem -noout -serial");
    assert_eq!(serial.trim().to_lowercase(), format!("serial={}", pki.node.serial_hex()));
    let hash = bench.openssl("dgst -sm3 -r node.der");
    assert!(hash.starts_with(&hex::encode(pki.node.id())), "{hash}");
    assert_eq!(pki.node.common_name().as_deref(), Some("node-1"));
    assert!(pki.node.subject().contains("华东算力园"), "{}", pki.node.subject());
    let root = bench.write("root.pem", pki.root.to_pem());
    assert!(
        root.exists() && bench.openssl("x509 -in root.pem -noout -text").contains("X509v3 Basic Constraints: critical")
    );
}

#[test]
fn the_signed_bytes_are_what_openssl_cuts_out_and_verifies() {
    let (bench, pki) = (Bench::new(), pki());
    for (subject, issuer) in [(&pki.root, &pki.root), (&pki.middle, &pki.root), (&pki.node, &pki.middle)] {
        bench.write("subject.der", subject.der());
        bench.write("s.der", subject.signature());
        bench.write("issuer.pem", issuer.to_pem());
        bench.openssl("asn1parse -inform DER -in subject.der -strparse 4 -noout -out tbs.der");
        assert_eq!(bench.read("tbs.der"), subject.tbs());
        let public = bench.openssl("x509 -in issuer.pem -noout -pubkey");
        bench.write("pub.pem", public);
        bench.openssl(&format!("dgst -sm3 -verify pub.pem -sigopt {DISTID} -signature s.der tbs.der"));
    }
}

#[test]
fn openssl_verifies_our_request_and_we_its() {
    let bench = Bench::new();
    let ours = Csr::make(&key(3), "CN=node-1,O=华东,C=CN", &["node-1.example.org", "node-1"]).unwrap();
    bench.write("ours.csr", ours.to_pem());
    let text = bench.openssl(&format!("req -verify -noout -text -vfyopt {DISTID} -in ours.csr"));
    assert!(text.contains("verify OK") && text.contains("DNS:node-1.example.org, DNS:node-1"), "{text}");
    assert!(ours.verify().is_valid());

    let key = bench.openssl_key("k.pem");
    bench.openssl(&format!(
        "req -new -key k.pem -sm3 -sigopt {DISTID} -subj /C=CN/CN=theirs -addext subjectAltName=DNS:a.example,IP:10.0.0.1 -out theirs.csr"
    ));
    let theirs = Csr::from_pem(&bench.read_text("theirs.csr")).unwrap();
    assert!(theirs.verify().is_valid());
    assert_eq!(
        (theirs.subject().as_str(), theirs.dns_names()),
        ("CN=theirs,C=CN", ["a.example".to_owned()].as_slice())
    );
    assert_eq!(*theirs.public_key(), key.public_key());
    let pki = pki();
    let issued = ca::issue_for(&pki.middle, &crate::pki::key(2), Role::Signer, &theirs, &terms(&[9; 8])).unwrap();
    assert_eq!(*issued.public_key(), key.public_key());
    verify_chain(&issued, &[pki.middle], &[pki.root], &[], june_ns(), Usage::Signing).unwrap();
    matrix::says("Certification request", "openssl 3.0", "ours read there", "ok");
    matrix::says("Certification request", "openssl 3.0", "theirs read here", "ok");
}

#[test]
fn a_chain_made_by_openssl_is_accepted() {
    let bench = Bench::new();
    let key = bench.openssl_key("root.key");
    bench.openssl_key("middle.key");
    bench.openssl_key("node.key");
    bench.openssl(&format!(
        "req -new -x509 -key root.key -sm3 -sigopt {DISTID} -subj /C=CN/CN=root -days 900 -out root.pem"
    ));
    bench.write("ca.cnf", "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n");
    bench.write(
        "node.cnf",
        "keyUsage=critical,digitalSignature\nbasicConstraints=CA:FALSE\nsubjectAltName=DNS:n.example\n",
    );
    for (subject, issuer, file) in [("middle", "root", "ca.cnf"), ("node", "middle", "node.cnf")] {
        bench.openssl(&format!(
            "req -new -key {subject}.key -sm3 -sigopt {DISTID} -subj /C=CN/CN={subject} -out {subject}.csr"
        ));
        bench.openssl(&format!(
            "x509 -req -in {subject}.csr -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial -sm3 -days 800 -sigopt {DISTID} -vfyopt {DISTID} -extfile {file} -out {subject}.pem"
        ));
    }
    let all = ["root.pem", "middle.pem", "node.pem"].map(|name| bench.read_text(name)).concat();
    let [root, middle, node]: [Certificate; 3] = Certificate::from_pem_many(&all).unwrap().try_into().unwrap();
    assert_eq!(*root.public_key(), key.public_key());
    assert_eq!(node.dns_names(), ["n.example"]);
    assert_eq!(node.key_usage(), Some(KeyUsage::DIGITAL_SIGNATURE));
    assert!(!node.is_ca() && middle.path_len() == Some(0) && root.is_self_issued());
    let at_ns = node.not_before_ns();
    let path =
        verify_chain(&node, std::slice::from_ref(&middle), std::slice::from_ref(&root), &[], at_ns, Usage::Signing)
            .unwrap();
    assert_eq!(path, [node.clone(), middle.clone(), root]);
    assert_eq!(verify_chain(&node, &[], &[middle], &[], at_ns, Usage::Signing).unwrap().len(), 2);
    let printed = bench.openssl("x509 -in node.pem -noout -enddate -dateopt iso_8601");
    let year: i64 = printed.trim_start_matches("notAfter=").get(..4).unwrap().parse().unwrap();
    assert!((year - 1970) * 31_556_952 - (node.not_after_ns() / 1_000_000_000) < 86_400, "{printed}");
    matrix::says("Certificates, a chain of three", "openssl 3.0", "theirs read here", "ok");
}

#[test]
fn extensions_decide_as_they_must() {
    let bench = Bench::new();
    bench.openssl_key("ca.key");
    bench.openssl_key("n.key");
    bench.openssl(&format!("req -new -x509 -key ca.key -sm3 -sigopt {DISTID} -subj /CN=ca -days 900 -out ca.pem"));
    bench.openssl(&format!("req -new -key n.key -sm3 -sigopt {DISTID} -subj /CN=n -out n.csr"));
    let ca = Certificate::from_pem_many(&bench.read_text("ca.pem")).unwrap().remove(0);
    assert_eq!((ca.is_ca(), ca.key_usage()), (true, None), "a root as `openssl req -x509` makes it");
    let signing = "keyUsage=critical,digitalSignature\n";
    for (name, extensions, want) in [
        ("plain", signing.to_owned(), None),
        ("not critical keyUsage", "keyUsage=digitalSignature\n".to_owned(), None),
        ("unknown, not critical", format!("{signing}1.2.3.4=ASN1:NULL\n"), None),
        ("unknown and critical", format!("{signing}1.2.3.4=critical,ASN1:NULL\n"), Some("critical")),
        (
            "an extended usage that must be honoured",
            format!("{signing}extendedKeyUsage=critical,serverAuth\n"),
            Some("critical"),
        ),
        ("no keyUsage", "subjectKeyIdentifier=hash\n".to_owned(), Some("keyUsage")),
        ("the wrong keyUsage", "keyUsage=critical,keyEncipherment\n".to_owned(), Some("keyUsage")),
    ] {
        bench.write("e.cnf", extensions);
        bench.openssl(&format!(
            "x509 -req -in n.csr -CA ca.pem -CAkey ca.key -CAcreateserial -sm3 -days 800 -sigopt {DISTID} -vfyopt {DISTID} -extfile e.cnf -out n.pem"
        ));
        let node = Certificate::from_pem_many(&bench.read_text("n.pem")).unwrap().remove(0);
        let at_ns = node.not_before_ns();
        let found = verify_chain(&node, &[], std::slice::from_ref(&ca), &[], at_ns, Usage::Signing).err();
        let text = found.map(|error| error.to_string());
        assert_eq!(text.is_some(), want.is_some(), "{name}: {text:?}");
        assert!(want.is_none_or(|part| text.is_some_and(|text| text.contains(part))), "{name}");
    }
    // A certificate of version 1 is no issuer's business but an anchor's.
    bench.openssl(&format!(
        "x509 -req -in n.csr -signkey n.key -sm3 -days 800 -sigopt {DISTID} -vfyopt {DISTID} -out v1.pem"
    ));
    let v1 = Certificate::from_pem_many(&bench.read_text("v1.pem")).unwrap().remove(0);
    assert!(!v1.is_ca() && v1.verify_signature(v1.public_key()).is_valid());
}

#[test]
fn openssl_reads_and_verifies_our_revocation_list() {
    let (bench, pki) = (Bench::new(), pki());
    let line = Revocation { certificate: &pki.node, at_s: JANUARY_S + 1000 };
    let crl = ca::crl(&pki.middle, &key(2), 7, JANUARY_S + 2000, JANUARY_S + YEAR_S, &[line]).unwrap();
    bench.write("c.crl", crl.to_pem());
    bench.write("middle.pem", pki.middle.to_pem());
    bench.write("node.pem", pki.node.to_pem());
    let text = bench.openssl("crl -in c.crl -noout -text");
    assert!(text.contains(&pki.node.serial_hex().to_uppercase()) && text.contains("X509v3 CRL Number"), "{text}");
    // `openssl crl -CAfile` has no switch for the user id, so the signature is checked as plain bytes.
    bench.write("c.der", crl.der());
    bench.openssl("asn1parse -inform DER -in c.der -strparse 4 -noout -out tbs.der");
    let public = bench.openssl("x509 -in middle.pem -noout -pubkey");
    bench.write("pub.pem", public);
    let tbs = bench.read("tbs.der");
    let signature = crl.der().get(crl.der().len() - 80..).unwrap();
    let start = (0..signature.len())
        .find(|at| signature.get(*at..).is_some_and(|rest| pki.middle.public_key().verify(&tbs, rest).is_valid()));
    bench.write("s.der", signature.get(start.unwrap()..).unwrap());
    bench.openssl(&format!("dgst -sm3 -verify pub.pem -sigopt {DISTID} -signature s.der tbs.der"));
    matrix::says("Revocation list", "openssl 3.0", "ours read there", "ok");
}

#[test]
fn we_read_and_verify_a_revocation_list_made_by_openssl() {
    let bench = Bench::new();
    bench.openssl_key("ca.key");
    bench.openssl(&format!(
        "req -new -x509 -key ca.key -sm3 -sigopt {DISTID} -subj /C=CN/CN=ca -days 900 -addext keyUsage=critical,keyCertSign,cRLSign -out ca.pem"
    ));
    let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n";
    bench.write("ca.cnf", config);
    bench.write("index.txt", "R\t351231235959Z\t261101000000Z,keyCompromise\t0102030405060708\tunknown\t/CN=node\n");
    bench.write("number", "01\n");
    bench.openssl(&format!(
        "ca -config ca.cnf -gencrl -md sm3 -sigopt {DISTID} -cert ca.pem -keyfile ca.key -crldays 30 -out c.crl"
    ));
    let crl = Crl::from_pem_many(&bench.read_text("c.crl")).unwrap().remove(0);
    let ca = Certificate::from_pem_many(&bench.read_text("ca.pem")).unwrap().remove(0);
    assert!(crl.verify_signature(&ca).is_valid());
    assert_eq!((crl.count(), crl.issuer()), (1, "CN=ca,C=CN".to_owned()));
    assert!(crl.next_update_ns().unwrap() > crl.this_update_ns());

    // A list of only some certificates must not pass for a whole one.
    let partial = config.to_owned() + "issuingDistributionPoint=critical,@p\n[p]\nonlyuser=TRUE\n";
    bench.write("ca.cnf", partial);
    bench.openssl(&format!(
        "ca -config ca.cnf -gencrl -md sm3 -sigopt {DISTID} -cert ca.pem -keyfile ca.key -crldays 30 -out p.crl"
    ));
    let refused = Crl::from_pem_many(&bench.read_text("p.crl"));
    assert!(matches!(refused, Err(hufu_gm::Error::CriticalExtension(_))), "{refused:?}");
    matrix::says("Revocation list", "openssl 3.0", "theirs read here", "ok");
}

#[test]
fn another_algorithm_is_refused_by_name() {
    let bench = Bench::new();
    bench.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -subj /CN=x -out p256.pem");
    let refused = Certificate::from_pem_many(&bench.read_text("p256.pem"));
    assert!(matches!(refused, Err(hufu_gm::Error::SignatureAlgorithm)), "{refused:?}");
}

#[test]
fn a_key_off_the_curve_or_compressed_is_refused() {
    let mut point = key(3).public_key().to_sec1();
    let compressed: Vec<u8> = std::iter::once(2 + (point[64] & 1)).chain(point[1..33].iter().copied()).collect();
    assert!(PublicKey::from_sec1(&compressed).is_err());
    point[64] ^= 1;
    assert!(PublicKey::from_sec1(&point).is_err());
}

/// What an external signer does: `openssl` signs a digest of which it knows nothing (docs/signer.md).
#[test]
fn a_digest_that_openssl_signed_is_a_signature_of_the_message() {
    let bench = Bench::new();
    let key = bench.openssl_key("k.pem");
    for message in [&b""[..], b"m", &[7; 100_000]] {
        bench.write("digest", key.public_key().digest(message));
        bench.openssl("pkeyutl -sign -inkey k.pem -in digest -out signature");
        let signature = bench.read("signature");
        assert_eq!(key.public_key().verify(message, &signature), Verdict::Valid);
        assert_eq!(key.public_key().verify(b"another", &signature), Verdict::Invalid);
    }
}
