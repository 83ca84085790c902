//! Key files against `openssl`, the file system, and damage.

use hufu_gm::{
    Error, Mode, keyfile,
    pbes2::{self, Password},
    sm2::SecretKey,
    sm4::Key,
};

use crate::{
    matrix,
    openssl::{Bench, set_mode},
    vectors::{bytes, vectors},
};

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
    matrix::says("PKCS#8", "openssl 3.0", "ours read there", "ok");
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
    matrix::says("PKCS#8", "openssl 3.0", "theirs read here", "ok");
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

const PASSWORD: &[u8] = b"correct horse battery staple";

fn password(text: &[u8]) -> Password {
    Password::new(text).unwrap()
}

fn terms(iterations: u32) -> pbes2::Terms {
    pbes2::Terms { iterations, salt: [0x5a; 16], iv: [0xc3; 16] }
}

#[test]
fn pbkdf2_gives_the_known_keys() {
    let all = vectors("pbkdf2-hmac-sm3");
    assert_eq!(all.len(), 4);
    for vector in all {
        let mut out = vec![0; usize::try_from(vector["len"].as_u64().unwrap()).unwrap()];
        let rounds = u32::try_from(vector["iter"].as_u64().unwrap()).unwrap();
        pbes2::pbkdf2_hmac_sm3(&bytes(&vector, "password"), &bytes(&vector, "salt"), rounds, &mut out);
        assert_eq!(out, bytes(&vector, "out"), "{}", vector["source"]);
    }
}

#[test]
fn a_key_under_a_password_comes_back_with_it_and_only_with_it() {
    let bench = Bench::new();
    let path = bench.path("k.pem");
    keyfile::write_encrypted_new(&path, &key(9), &password(PASSWORD), &terms(65_536)).unwrap();
    let found = keyfile::read_encrypted(&path, &password(PASSWORD)).unwrap();
    assert_eq!(found.sign(b"m").unwrap(), key(9).sign(b"m").unwrap());
    assert!(matches!(keyfile::read(&path), Err(Error::KeyFileEncrypted { .. })), "no password");
    let wrong = keyfile::read_encrypted(&path, &password(b"correct horse battery stapler"));
    assert!(matches!(wrong, Err(Error::KeyFilePassword { .. })), "{wrong:?}");
    assert!(wrong.unwrap_err().to_string().contains("wrong password, or a damaged file"));
    keyfile::write_new(&bench.path("clear.pem"), &key(9)).unwrap();
    let clear = keyfile::read_encrypted(&bench.path("clear.pem"), &password(PASSWORD));
    assert!(matches!(clear, Err(Error::KeyFileClear { .. })));
    assert!(bench.read_text("k.pem").starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
}

fn tlv(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = match u8::try_from(body.len()) {
        Ok(short) if short < 0x80 => vec![short],
        Ok(long) => vec![0x81, long],
        Err(_) => [&[0x82], u16::try_from(body.len()).unwrap().to_be_bytes().as_slice()].concat(),
    };
    [&[tag], length.as_slice(), body].concat()
}

fn integer(value: u32) -> Vec<u8> {
    let bytes: Vec<u8> = value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    let pad: &[u8] = if bytes.first().is_none_or(|byte| *byte >= 0x80) { &[0] } else { &[] };
    tlv(2, &[pad, &bytes].concat())
}

/// An encrypted key written by hand, so that other stacks' forms can be tried without them.
struct Made {
    rounds: u32,
    salt: Vec<u8>,
    key_bytes: Option<u32>,
    /// DER of the PRF's algorithm identifier.
    prf: Vec<u8>,
    cipher: &'static str,
}

const OURS: &str = "06092a811ccf5501831102";
const OTHERS: &str = "060a2a811ccf550183110301";
const CBC: &str = "06082a811ccf55016802";

impl Made {
    fn with(prf: &str) -> Self {
        let prf = tlv(0x30, &hex::decode(prf).unwrap());
        Self { rounds: 2048, salt: vec![7; 16], key_bytes: Some(16), prf, cipher: CBC }
    }

    fn der(&self) -> Vec<u8> {
        let mut secret = [0; 16];
        pbes2::pbkdf2_hmac_sm3(PASSWORD, &self.salt, self.rounds.min(10_000), &mut secret);
        let bench = Bench::new();
        keyfile::write_new(&bench.path("k.pem"), &key(9)).unwrap();
        let (_, plain) = der::pem::decode_vec(&bench.read("k.pem")).unwrap();
        let data = Mode::Cbc { iv: [3; 16] }.encrypt(&Key::from_bytes(secret), &plain, &[]).unwrap();
        let length = self.key_bytes.map(integer).unwrap_or_default();
        let derivation = [tlv(4, &self.salt), integer(self.rounds), length, self.prf.clone()].concat();
        let oid = |text: &str| hex::decode(text).unwrap();
        let derivation = tlv(0x30, &[oid("06092a864886f70d01050c"), tlv(0x30, &derivation)].concat());
        let cipher = tlv(0x30, &[oid(self.cipher), tlv(4, &[3; 16])].concat());
        let parameters = tlv(0x30, &[derivation, cipher].concat());
        let algorithm = tlv(0x30, &[oid("06092a864886f70d01050d"), parameters].concat());
        tlv(0x30, &[algorithm, tlv(4, &data)].concat())
    }

    fn open(&self) -> Result<SecretKey, Error> {
        pbes2::decrypt(&self.der(), &password(PASSWORD))
    }
}

#[test]
fn keys_of_other_stacks_are_read_and_other_schemes_are_refused_by_name() {
    let ours = || Made::with(OURS);
    for (name, made) in [
        ("as we write it, with fewer rounds", ours()),
        ("NULL parameters", Made::with(&format!("{OURS}0500"))),
        ("the name that OpenSSL and Tongsuo use", Made::with(OTHERS)),
        ("that name with NULL", Made::with(&format!("{OTHERS}0500"))),
        ("no length of the key", Made { key_bytes: None, ..ours() }),
        ("fewest rounds", Made { rounds: 1000, ..ours() }),
        ("shortest salt", Made { salt: vec![1; 8], ..ours() }),
    ] {
        let found = made.open().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.public_key(), key(9).public_key(), "{name}");
    }
    for (name, made) in [
        ("HMAC-SHA256", Made::with("06082a864886f70d02090500")),
        ("the default PRF, HMAC-SHA1", Made { prf: vec![], ..ours() }),
        ("the PRF with a parameter", Made::with(&format!("{OURS}020101"))),
        ("a key of 32 bytes", Made { key_bytes: Some(32), ..ours() }),
        ("a salt of 7 bytes", Made { salt: vec![1; 7], ..ours() }),
        ("a salt of 65 bytes", Made { salt: vec![1; 65], ..ours() }),
        ("counter mode", Made { cipher: "06082a811ccf55016807", ..ours() }),
    ] {
        let found = made.open();
        assert!(matches!(found, Err(Error::KeyEncryption)), "{name}: {found:?}");
    }
    for rounds in [0, 1, 999, 10_000_001, u32::MAX] {
        let found = Made { rounds, ..ours() }.open();
        assert!(matches!(found, Err(Error::Iterations)), "{rounds}: {found:?}");
    }
    for iterations in [0, 1, 65_535, 10_000_001, u32::MAX] {
        let found = pbes2::encrypt(&key(1), &password(PASSWORD), &terms(iterations));
        assert!(matches!(found, Err(Error::Iterations)), "{iterations}");
    }
}

#[test]
fn no_cut_or_flip_of_an_encrypted_key_opens_or_panics() {
    let made = Made::with(OURS);
    let good = Made { rounds: 1000, ..made }.der();
    for index in 0..good.len() {
        assert!(pbes2::decrypt(&good[..index], &password(PASSWORD)).is_err(), "cut at {index}");
        let mut flipped = good.clone();
        flipped[index] ^= 1;
        assert!(pbes2::decrypt(&flipped, &password(PASSWORD)).is_err(), "byte {index}");
    }
    assert!(pbes2::decrypt(&[good.as_slice(), &[0]].concat(), &password(PASSWORD)).is_err(), "trailing byte");
}

#[test]
fn a_password_is_one_line_of_a_private_file() {
    for (name, text) in [
        ("nothing", b"".as_slice()),
        ("an empty line", b"\n"),
        ("two lines", b"a\nb"),
        ("two line ends", b"a\n\n"),
        ("a zero byte", b"a\0b"),
        ("too long", &[b'a'; 1025]),
    ] {
        assert!(matches!(Password::new(text), Err(Error::Password)), "{name}");
    }
    let bench = Bench::new();
    keyfile::write_encrypted_new(&bench.path("k.pem"), &key(9), &password(PASSWORD), &terms(65_536)).unwrap();
    for end in ["", "\n", "\r\n"] {
        let path = bench.write("p", [PASSWORD, end.as_bytes()].concat());
        set_mode(&path, 0o600);
        assert!(keyfile::read_encrypted(&bench.path("k.pem"), &keyfile::read_password(&path).unwrap()).is_ok());
    }
    set_mode(&bench.path("p"), 0o644);
    assert!(matches!(keyfile::read_password(&bench.path("p")), Err(Error::KeyFileMode { mode: 0o644, .. })));
    assert!(matches!(keyfile::read_password(&bench.path("none")), Err(Error::Io { .. })));
    assert_eq!(format!("{:?}", password(PASSWORD)), "Password(..)");
}

#[test]
fn a_secret_of_another_user_is_refused() {
    let bench = Bench::new();
    let path = bench.path("k.pem");
    keyfile::write_new(&path, &key(9)).unwrap();
    // Only root may give a file away; for anybody else there is nothing to try.
    if std::os::unix::fs::chown(&path, Some(12_345), None).is_err() {
        return;
    }
    assert!(matches!(keyfile::read(&path), Err(Error::KeyFileOwner { uid: 12_345, .. })));
    assert!(matches!(keyfile::read_of(&path, 1, None), Err(Error::KeyFileOwner { .. })));
    assert!(keyfile::read_of(&path, 12_345, None).is_ok());
    let salt = bench.path("salt");
    keyfile::write_secret32_new(&salt, &[1; 32]).unwrap();
    std::os::unix::fs::chown(&salt, Some(12_345), None).unwrap();
    assert!(matches!(keyfile::read_secret32(&salt), Err(Error::KeyFileOwner { .. })));
    assert!(keyfile::read_secret32_of(&salt, 12_345).is_ok());
}
