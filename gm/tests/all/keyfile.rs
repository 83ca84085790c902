//! Key files against `openssl`, the file system, and damage.

use hufu_gm::{Error, keyfile, sm2::SecretKey};

use crate::openssl::{Bench, set_mode};

fn key(fill: u8) -> SecretKey {
    SecretKey::from_scalar(&[fill; 32]).unwrap()
}

#[test]
fn openssl_reads_what_we_write_and_agrees_on_the_public_half() {
    let bench = Bench::new();
    keyfile::write_new(&bench.path("k.pem"), &key(7)).unwrap();
    let text = bench.openssl("pkey -in k.pem -noout -text -check");
    assert!(text.contains("SM2") && text.contains("Key is valid"), "{text}");
    bench.openssl("pkey -in k.pem -pubout -outform DER -out p.der");
    assert!(bench.read("p.der").ends_with(&key(7).public_key().to_sec1()));
}

#[test]
fn every_form_openssl_writes_is_read_as_the_same_key() {
    let bench = Bench::new();
    let made = bench.openssl_key("k.pem");
    bench.openssl("ec -in k.pem -out sec1.pem");
    bench.openssl("pkcs8 -topk8 -nocrypt -in k.pem -out pkcs8.pem");
    bench.openssl("ecparam -name SM2 -out params.pem");
    let both = bench.read_text("params.pem") + &bench.read_text("sec1.pem");
    bench.write("both.pem", both);
    for name in ["sec1.pem", "pkcs8.pem", "both.pem"] {
        set_mode(&bench.path(name), 0o600);
        let read = keyfile::read(&bench.path(name)).unwrap();
        assert_eq!(read.public_key(), made.public_key(), "{name}");
    }
}

#[test]
fn a_written_key_comes_back_and_its_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let path = bench.path("k.pem");
    keyfile::write_new(&path, &key(9)).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let message = b"the same key signs the same";
    assert_eq!(keyfile::read(&path).unwrap().sign(message).unwrap(), key(9).sign(message).unwrap());
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let bench = Bench::new();
    let path = bench.write("k.pem", "mine");
    assert!(matches!(keyfile::write_new(&path, &key(9)), Err(Error::Io { .. })));
    assert!(matches!(keyfile::write_secret32_new(&path, &[1; 32]), Err(Error::Io { .. })));
    assert_eq!(bench.read("k.pem"), b"mine");
}

#[test]
fn any_access_of_group_or_others_is_refused() {
    let bench = Bench::new();
    let path = bench.path("k.pem");
    keyfile::write_new(&path, &key(9)).unwrap();
    for mode in [0o604, 0o640, 0o610, 0o602, 0o620, 0o601, 0o777, 0o444] {
        set_mode(&path, mode);
        match keyfile::read(&path) {
            Err(Error::KeyFileMode { mode: found, path: named }) => assert_eq!((found, named), (mode, path.clone())),
            other => panic!("{mode:o}: {other:?}"),
        }
    }
    for mode in [0o600, 0o400, 0o700] {
        set_mode(&path, mode);
        keyfile::read(&path).unwrap();
    }
}

#[test]
fn missing_files_and_directories_are_told_apart_from_damage() {
    let bench = Bench::new();
    assert!(matches!(keyfile::read(&bench.path("none.pem")), Err(Error::Io { .. })));
    assert!(matches!(keyfile::read(&bench.path("")), Err(Error::KeyFileMalformed { .. })));
    assert!(matches!(keyfile::write_new(&bench.path("no/dir.pem"), &key(1)), Err(Error::Io { .. })));
}

#[test]
fn what_is_not_one_sm2_key_is_malformed() {
    let bench = Bench::new();
    bench.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.pem");
    bench.openssl("ec -in p256.pem -out p256-sec1.pem");
    bench.openssl("genpkey -algorithm ed25519 -out ed.pem");
    keyfile::write_new(&bench.path("good.pem"), &key(5)).unwrap();
    let good = bench.read_text("good.pem");
    let other_public = swap_public(&good);
    let cases: [(&str, String); 8] = [
        ("another curve", bench.read_text("p256.pem")),
        ("another curve in SEC 1", bench.read_text("p256-sec1.pem")),
        ("another algorithm", bench.read_text("ed.pem")),
        ("nothing", String::new()),
        ("two keys", good.clone() + &good),
        ("cut off", good.get(..100).unwrap().to_owned()),
        ("a public half that is another key's", other_public),
        ("too large", "#".repeat(70_000) + &good),
    ];
    for (name, text) in cases {
        let path = bench.write("case.pem", text);
        set_mode(&path, 0o600);
        let read = keyfile::read(&path);
        assert!(matches!(read, Err(Error::KeyFileMalformed { .. })), "{name}: {read:?}");
    }
}

#[test]
fn no_cut_or_flipped_bit_of_a_key_file_panics_or_gives_another_key() {
    let bench = Bench::new();
    keyfile::write_new(&bench.path("good.pem"), &key(5)).unwrap();
    let good = bench.read("good.pem");
    let public = key(5).public_key();
    let path = bench.write("case.pem", "");
    set_mode(&path, 0o600);
    for index in 0..good.len() {
        let mut flipped = good.clone();
        flipped[index] ^= 1;
        for bytes in [&good[..index], flipped.as_slice()] {
            std::fs::write(&path, bytes).unwrap();
            // Flips in text around the block change nothing; a flip inside it is caught by the public half.
            if let Ok(read) = keyfile::read(&path) {
                assert_eq!(read.public_key(), public, "byte {index}");
            }
        }
    }
}

#[test]
fn a_raw_secret_comes_back_and_other_lengths_are_refused() {
    let bench = Bench::new();
    let secret = [0xa5; 32];
    keyfile::write_secret32_new(&bench.path("salt"), &secret).unwrap();
    assert_eq!(*keyfile::read_secret32(&bench.path("salt")).unwrap(), secret);
    set_mode(&bench.path("salt"), 0o640);
    assert!(matches!(keyfile::read_secret32(&bench.path("salt")), Err(Error::KeyFileMode { .. })));
    for length in [0, 31, 33, 64] {
        let path = bench.write("other", vec![1; length]);
        set_mode(&path, 0o600);
        assert!(matches!(keyfile::read_secret32(&path), Err(Error::KeyFileMalformed { .. })), "{length}");
    }
}

/// The same file with the public half of another key.
fn swap_public(text: &str) -> String {
    let (label, mut document) = der::pem::decode_vec(text.as_bytes()).unwrap();
    let at = document.len() - 65;
    document[at..].copy_from_slice(&key(6).public_key().to_sec1());
    der::pem::encode_string(label, der::pem::LineEnding::LF, &document).unwrap()
}
