//! Keys, signatures, cipher texts, requests, certificates and lists against BouncyCastle (`tests/interop/Keys.java`), in both
//! directions. `openssl` is asked beside each subject's own tests; what both said stands in the matrix.

use hufu_gm::{
    ca::{self, Revocation, Role},
    cert::Certificate,
    chain::{Usage, check_lists, verify_chain},
    crl::Crl,
    csr::Csr,
    keyfile,
    pbes2::{self, Password},
    random,
};

use crate::{
    java::Java,
    matrix::says,
    openssl::{Bench, set_mode},
    pki::{JANUARY_S, YEAR_S, june_ns, key, pki, terms},
};

const BC: &str = "BouncyCastle 1.72";
const OURS: &str = "ours read there";
const THEIRS: &str = "theirs read here";

/// A bench with our PKI and the keys of root (1), intermediate (2) and node (3).
fn bench() -> (Bench, crate::pki::Pki) {
    let (bench, pki) = (Bench::new(), pki());
    for (name, fill) in [("root", 1), ("middle", 2), ("node", 3)] {
        keyfile::write_new(&bench.path(&format!("{name}.key")), &key(fill)).unwrap();
    }
    for (name, certificate) in [("root", &pki.root), ("middle", &pki.middle), ("node", &pki.node)] {
        bench.write(&format!("{name}.pem"), certificate.to_pem());
    }
    let recipient =
        ca::issue(&pki.middle, &key(2), Role::Recipient, "CN=enc", &key(3).public_key(), &terms(&[7; 16])).unwrap();
    bench.write("enc.pem", recipient.to_pem());
    bench.write("data.bin", "a message 消息");
    (bench, pki)
}

#[test]
fn bouncycastle_and_we_agree_on_keys_signatures_and_cipher_texts() {
    let (bench, pki) = bench();
    let mut java = Java::start(&bench, "Keys");
    let data = bench.read("data.bin");

    bench.write("ours.sig", key(3).sign(&data).unwrap());
    java.ask(&bench, &["verify", "node.pem", "data.bin", "ours.sig"]).unwrap();
    bench.write("other.bin", "another message");
    assert!(java.ask(&bench, &["verify", "node.pem", "other.bin", "ours.sig"]).is_err(), "it refuses another message");
    says("SM2 signature, default user id", BC, OURS, "ok");
    java.ask(&bench, &["sign", "node.key", "data.bin", "theirs.sig"]).unwrap();
    assert!(pki.node.public_key().verify(&data, &bench.read("theirs.sig")).is_valid());
    says("SM2 signature, default user id", BC, THEIRS, "ok");

    bench.write("ours.enc", key(3).public_key().encrypt(&data, random::fill).unwrap());
    java.ask(&bench, &["decrypt", "node.key", "ours.enc", "back.bin"]).unwrap();
    assert_eq!(bench.read("back.bin"), data);
    says("SM2Cipher", BC, OURS, "ok");
    java.ask(&bench, &["encrypt", "enc.pem", "data.bin", "theirs.enc"]).unwrap();
    assert_eq!(key(3).decrypt(&bench.read("theirs.enc")).unwrap().as_slice(), data);
    says("SM2Cipher", BC, THEIRS, "ok");

    // The plain key file was read above, to sign and to decrypt.
    says("PKCS#8", BC, OURS, "ok");
    java.ask(&bench, &["key-new", "theirs.key"]).unwrap();
    set_mode(&bench.path("theirs.key"), 0o600);
    let theirs = keyfile::read(&bench.path("theirs.key")).unwrap();
    java.ask(&bench, &["sign", "theirs.key", "data.bin", "with.sig"]).unwrap();
    assert!(theirs.public_key().verify(&data, &bench.read("with.sig")).is_valid());
    says("PKCS#8", BC, THEIRS, "ok");

    let password = Password::new(b"secret").unwrap();
    let under = pbes2::Terms::generate(pbes2::ITERATIONS_WRITE_MIN, random::fill).unwrap();
    keyfile::write_encrypted_new(&bench.path("ours.p8e"), &key(3), &password, &under).unwrap();
    java.ask(&bench, &["key-decrypt", "ours.p8e", "secret", "node.key"]).unwrap();
    assert!(
        java.ask(&bench, &["key-decrypt", "ours.p8e", "wrong", "node.key"]).is_err(),
        "it refuses another password"
    );
    says("Encrypted PKCS#8, PRF 401.2, joined by hand from primitives", BC, OURS, "ok");
    java.ask(&bench, &["key-encrypt", "node.key", "theirs.p8e", "secret", "20000"]).unwrap();
    set_mode(&bench.path("theirs.p8e"), 0o600);
    let opened = keyfile::read_encrypted(&bench.path("theirs.p8e"), &password).unwrap();
    assert_eq!(opened.public_key(), key(3).public_key());
    says("Encrypted PKCS#8, PRF 401.2, joined by hand from primitives", BC, THEIRS, "ok");
}

#[test]
fn bouncycastle_and_we_agree_on_requests_certificates_and_lists() {
    let (bench, pki) = bench();
    let mut java = Java::start(&bench, "Keys");

    let request = Csr::make_challenged(&key(3), "CN=ours,O=o", &["ours.example"], Some("word")).unwrap();
    bench.write("ours.csr", request.to_pem());
    // In the order of the encoding, which RFC 4514 writes from its end.
    assert_eq!(java.ask(&bench, &["request-check", "ours.csr"]).unwrap(), "O=o,CN=ours");
    says("Certification request", BC, OURS, "ok");
    java.ask(&bench, &["request", "node.key", "theirs.csr", "CN=theirs,O=o"]).unwrap();
    let theirs = Csr::from_pem(&bench.read_text("theirs.csr")).unwrap();
    assert!(theirs.verify().is_valid());
    assert_eq!(*theirs.public_key(), key(3).public_key());
    says("Certification request", BC, THEIRS, "ok");

    let june_ms = june_ns() / 1_000_000;
    java.ask(&bench, &["chain-check", "node.pem", "middle.pem", "root.pem", &june_ms.to_string()]).unwrap();
    let late_ms = (JANUARY_S + 2 * YEAR_S) * 1000;
    assert!(
        java.ask(&bench, &["chain-check", "node.pem", "middle.pem", "root.pem", &late_ms.to_string()]).is_err(),
        "expired"
    );
    says("Certificates, a chain of three", BC, OURS, "ok");
    java.ask(&bench, &["issue", "middle.key", "middle.pem", "theirs.csr", "theirs.pem"]).unwrap();
    let leaf = Certificate::from_pem_many(&bench.read_text("theirs.pem")).unwrap().remove(0);
    let path = verify_chain(
        &leaf,
        std::slice::from_ref(&pki.middle),
        std::slice::from_ref(&pki.root),
        &[],
        june_ns(),
        Usage::Signing,
    );
    let path = path.unwrap();
    says("Certificates, a chain of three", BC, THEIRS, "ok");

    let line = Revocation { certificate: &pki.node, at_s: JANUARY_S };
    let crl = ca::crl(&pki.middle, &key(2), 1, JANUARY_S, JANUARY_S + YEAR_S, &[line]).unwrap();
    bench.write("ours.crl", crl.to_pem());
    assert_eq!(java.ask(&bench, &["list-check", "ours.crl", "middle.pem", "node.pem"]).unwrap(), "revoked");
    assert_eq!(java.ask(&bench, &["list-check", "ours.crl", "middle.pem", "theirs.pem"]).unwrap(), "good");
    assert!(java.ask(&bench, &["list-check", "ours.crl", "root.pem", "node.pem"]).is_err(), "another issuer's key");
    says("Revocation list", BC, OURS, "ok");
    java.ask(&bench, &["list", "middle.key", "middle.pem", "node.pem", "theirs.crl"]).unwrap();
    let lists = Crl::from_pem_many(&bench.read_text("theirs.crl")).unwrap();
    let of_root = ca::crl(&pki.root, &key(1), 1, JANUARY_S, JANUARY_S + YEAR_S, &[]).unwrap();
    let all = [lists[0].clone(), of_root];
    check_lists(&path, &all, june_ns()).unwrap();
    let revoked = verify_chain(
        &pki.node,
        std::slice::from_ref(&pki.middle),
        std::slice::from_ref(&pki.root),
        &lists,
        june_ns(),
        Usage::Signing,
    );
    assert!(matches!(revoked, Err(hufu_gm::ChainError::Revoked { .. })));
    says("Revocation list", BC, THEIRS, "ok");
}
