//! The commands `cms`, `seal`, `sm2` and `cert` as a user runs them: what is made is checked by the other command and by openssl,
//! and each way of being wrong has its exit status, in both languages and with `--json`.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use hufu_tests::{
    broker::free_port,
    program::{Ran, command, hufu, run},
    slapd::{Slapd, authority},
};
use serde_json::Value;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n....";

/// A folder with a root, a signer (`node`), the encryption half of its pair (`enc`), a maker of seals and a stranger's root.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().expect("a folder"));
        for root in ["root", "other"] {
            bench.hufu(&format!("key new --out {root}.key")).expect(0);
            bench.hufu(&format!("pki root --key {root}.key --subject CN={root},C=CN --out {root}.pem")).expect(0);
        }
        for (name, role) in [("node", "signer"), ("enc", "recipient"), ("maker", "signer")] {
            bench.hufu(&format!("key new --out {name}.key")).expect(0);
            bench.hufu(&format!("key csr --key {name}.key --subject CN={name} --out {name}.csr")).expect(0);
            bench
                .hufu(&format!(
                    "pki issue --ca root.pem --ca-key root.key --csr {name}.csr --role {role} --out {name}.pem"
                ))
                .expect(0);
        }
        bench.write("bill.der", "a bill 账单".as_bytes());
        bench.write("picture.png", PNG);
        bench
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.path().join(name), bytes).expect("a file");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).expect("a file")
    }

    /// Runs `hufu` with these words; those with a dot in them are files of the bench.
    fn hufu(&self, line: &str) -> Ran {
        let is_file = |word: &str| word.contains('.') && !["301.1"].contains(&word) && !word.contains("://");
        let words: Vec<String> =
            line.split_whitespace().map(|word| if is_file(word) { self.path(word) } else { word.to_owned() }).collect();
        hufu(&words)
    }
}

#[test]
fn a_message_is_signed_checked_and_refused() {
    let bench = Bench::new();
    for (flags, check) in [
        ("", ""),
        ("--attributes", ""),
        ("--alg 501", ""),
        ("--alg 501 --attributes --detached", "--content bill.der --detached"),
        ("--detached", "--content bill.der"),
    ] {
        bench.hufu(&format!("cms sign --in bill.der --out bill.p7s --key node.key --cert node.pem {flags}")).expect(0);
        let ran =
            bench.hufu(&format!("cms verify --in bill.p7s --trust root.pem --out back.der {check} --json")).expect(0);
        let found = ran.json();
        assert_eq!(found["result"], "valid", "{found}");
        assert_eq!(found["detached"], flags.contains("--detached"));
        let signer = &found["signers"][0];
        assert_eq!(signer["subject"], "CN=node");
        assert_eq!(signer["alg"], if flags.contains("501") { "501" } else { "301.1" });
        assert_eq!(signer["signing_time"].is_string(), flags.contains("--attributes"));
        assert_eq!(bench.read("back.der"), bench.read("bill.der"));
        // openssl sees the national identifiers in it.
        let parsed =
            run(command("openssl").args(["asn1parse", "-inform", "DER", "-in", &bench.path("bill.p7s")])).expect(0);
        assert!(parsed.stdout.contains("1.2.156.10197.6.1.4.2.2"), "{}", parsed.stdout);
    }
    let _ = fs::remove_file(bench.path("back.der"));
    bench.hufu("cms sign --in bill.der --out bill.p7s --key node.key --cert node.pem").expect(0);
    bench.write("cut.p7s", &bench.read("bill.p7s")[..200]);
    bench.write("changed.p7s", &{
        let mut bytes = bench.read("bill.p7s");
        let at = bytes.windows(6).position(|window| window == b"a bill").expect("the content");
        bytes[at] = b'b';
        bytes
    });
    bench.write("other.der", b"other");
    for (line, code, says) in [
        ("cms verify --in bill.p7s --trust other.pem", 1, "no path to a trust anchor"),
        ("cms verify --in changed.p7s --trust root.pem --out back.der", 1, "not the signature of CN=node"),
        ("cms verify --in bill.p7s --content other.der --trust root.pem", 1, "not the one given"),
        ("cms verify --in bill.p7s --content bill.der --detached --trust root.pem", 1, "to be detached"),
        ("cms verify --in bill.p7s --trust root.pem --at 2020-01-01T00:00:00Z", 1, "not yet valid"),
    ] {
        let ran = bench.hufu(&format!("{line} --json")).expect(code);
        let found = ran.json();
        assert_eq!(found["result"], "invalid", "{line}");
        assert!(found["reason"].as_str().is_some_and(|reason| reason.contains(says)), "{line}: {found}");
        let zh = bench.hufu(&format!("{line} --lang zh")).expect(code);
        assert!(zh.stdout.contains("无效"), "{}", zh.stdout);
    }
    assert!(!Path::new(&bench.path("back.der")).exists(), "nothing is written of what is not valid");
    for (line, code, says) in [
        ("cms verify --in cut.p7s --trust root.pem", 65, "cut short"),
        ("cms verify --in bill.der --trust root.pem", 65, "malformed"),
        ("cms verify --in absent.p7s --trust root.pem", 74, "absent.p7s"),
        ("cms verify --in bill.p7s --trust root.pem --at tomorrow", 2, "--at"),
        ("cms verify --in bill.p7s", 2, "--trust"),
        ("cms sign --in bill.der --out x.p7s --key enc.key --cert node.pem", 2, "not a pair"),
        ("cms sign --in bill.der --out x.p7s --key enc.key --cert enc.pem", 2, "keyUsage"),
        ("cms sign --in bill.der --out x.p7s --key node.key --cert node.pem --alg 500", 2, "--alg"),
    ] {
        let ran = bench.hufu(line).expect(code);
        assert!(ran.stderr.contains(says) && ran.stdout.is_empty(), "{line}: {}", ran.stderr);
    }
    assert!(!Path::new(&bench.path("x.p7s")).exists());
}

#[test]
fn a_message_is_encrypted_and_opened_by_its_recipient_only() {
    let bench = Bench::new();
    for (signs, opens) in [("", ""), ("--key node.key --cert node.pem", "--trust root.pem")] {
        bench.hufu(&format!("cms encrypt --in bill.der --out bill.p7m --to enc.pem {signs}")).expect(0);
        let line = format!("cms decrypt --in bill.p7m --out plain.der --key enc.key --cert enc.pem {opens} --json");
        let found = bench.hufu(&line).expect(0).json();
        assert_eq!(found["signers"].as_array().map(Vec::len), Some(usize::from(!signs.is_empty())), "{found}");
        assert_eq!(bench.read("plain.der"), bench.read("bill.der"));
        let mode = fs::metadata(bench.path("plain.der")).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "what was secret is not for everybody");
        fs::remove_file(bench.path("plain.der")).expect("removed");
        for (line, says) in [
            (
                "cms decrypt --in bill.p7m --out plain.der --key node.key --cert enc.pem",
                "cannot be opened with this key",
            ),
            ("cms decrypt --in bill.p7m --out plain.der --key node.key --cert node.pem", "not for this certificate"),
        ] {
            let found = bench.hufu(&format!("{line} {opens} --json")).expect(1).json();
            assert_eq!((&found["result"], &found["reason"]), (&"invalid".into(), &says.into()));
        }
        assert!(!Path::new(&bench.path("plain.der")).exists());
    }
    let ran = bench.hufu("cms decrypt --in bill.p7m --out plain.der --key enc.key --cert enc.pem").expect(2);
    assert!(ran.stderr.contains("--trust"), "{}", ran.stderr);
    let ran = bench.hufu("cms encrypt --in bill.der --out x.p7m --to node.pem").expect(2);
    assert!(ran.stderr.contains("keyUsage"), "{}", ran.stderr);
    bench.hufu("cms encrypt --in bill.der --out x.p7m --to enc.pem --key node.key").expect(2);
    bench.hufu("cms sign --in bill.der --out bill.p7s --key node.key --cert node.pem").expect(0);
    bench.hufu("cms decrypt --in bill.p7s --out plain.der --key enc.key --cert enc.pem").expect(65);
}

#[test]
fn a_seal_is_made_used_and_checked() {
    let bench = Bench::new();
    bench
        .hufu("seal make --key maker.key --cert maker.pem --user node.pem --id seal-1 --name 账单专用章 --picture picture.png --out node.seal")
        .expect(0);
    let found = bench.hufu("seal verify --seal node.seal --trust root.pem --json").expect(0).json();
    assert_eq!(
        (&found["seal"]["name"], &found["seal"]["maker"]["subject"]),
        (&"账单专用章".into(), &"CN=maker".into())
    );
    bench.hufu("seal sign --in bill.der --seal node.seal --key node.key --cert node.pem --out bill.ses").expect(0);
    let found = bench.hufu("seal verify --seal bill.ses --in bill.der --trust root.pem --json").expect(0).json();
    assert_eq!((&found["result"], &found["range"]), (&"valid".into(), &"bill.der".into()));
    bench.write("other.der", b"other");
    for (line, code, says) in [
        ("seal verify --seal bill.ses --in other.der --trust root.pem", 1, "its digest is another"),
        ("seal verify --seal bill.ses --in bill.der --trust other.pem", 1, "no path"),
        ("seal verify --seal bill.ses --in bill.der --trust root.pem --at 2020-01-01T00:00:00Z", 1, "in the future"),
        ("seal sign --in bill.der --seal node.seal --key maker.key --cert maker.pem --out x.ses", 2, "does not list"),
        ("seal verify --seal bill.der --in bill.der --trust root.pem", 65, "malformed"),
        (
            "seal make --key maker.key --cert maker.pem --user node.pem --id x --name n --picture bill.der --out x.seal",
            65,
            "picture",
        ),
        (
            "seal make --key maker.key --cert maker.pem --user node.pem --id x --name n --picture picture.png --width 0 --out x.seal",
            2,
            "mm",
        ),
    ] {
        let ran = bench.hufu(line).expect(code);
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains(says), "{line}: {} {}", ran.stdout, ran.stderr);
    }
    bench.hufu("pki crl --ca root.pem --ca-key root.key --revoke maker.pem --out root.crl").expect(0);
    // The seal was used before its maker was taken back, so it stays what it was; a use from now on does not count.
    // Times in certificates are whole seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    bench.hufu("seal sign --in bill.der --seal node.seal --key node.key --cert node.pem --out late.ses").expect(0);
    let ran = bench.hufu("seal verify --seal late.ses --in bill.der --trust root.pem --crl root.crl").expect(1);
    assert!(ran.stdout.contains("CN=maker: revoked"), "{}", ran.stdout);
}

/// EncryptedData of a key that both sides have: openssl opens ours with the key and the vector in the message.
#[test]
fn a_file_is_encrypted_under_a_key_that_both_have() {
    let bench = Bench::new();
    let key: Vec<u8> = (1..17).collect();
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    bench.write("raw.key", &key);
    bench.write("hex.key", format!("{digits}\n").as_bytes());
    bench.write("other.key", &[7; 16]);
    bench.write("short.key", &key[..15]);
    bench.write("open.key", &key);
    for name in ["raw.key", "hex.key", "other.key", "short.key"] {
        fs::set_permissions(bench.path(name), fs::Permissions::from_mode(0o600)).expect("a mode");
    }
    fs::set_permissions(bench.path("open.key"), fs::Permissions::from_mode(0o644)).expect("a mode");
    let made = bench.hufu("cms encrypt --in bill.der --out bill.p7 --key-file raw.key --json").expect(0).json();
    assert_eq!(made["kind"], "encryptedData");
    let found = bench.hufu("cms decrypt --in bill.p7 --out back.der --key-file hex.key --json").expect(0).json();
    assert_eq!((&found["result"], &found["kind"]), (&"valid".into(), &"encryptedData".into()));
    assert_eq!(bench.read("back.der"), bench.read("bill.der"));
    assert_eq!(fs::metadata(bench.path("back.der")).expect("a file").permissions().mode() & 0o777, 0o600);

    let openssl = |line: &str| run(command("openssl").args(line.split_whitespace()).current_dir(bench.0.path()));
    let parsed = openssl("asn1parse -inform DER -in bill.p7").expect(0).stdout;
    assert!(parsed.contains("1.2.156.10197.6.1.4.2.5"), "{parsed}");
    let line =
        |says: &str| parsed.lines().find(|line| line.contains(says)).unwrap_or_else(|| panic!("{says}: {parsed}"));
    let vector = line("OCTET STRING").rsplit(':').next().expect("hexadecimal").to_owned();
    // The encrypted content ends the message: one block of it.
    let whole = bench.read("bill.p7");
    bench.write("cipher.bin", &whole[whole.len() - 16..]);
    openssl(&format!("enc -d -sm4-cbc -K {digits} -iv {vector} -in cipher.bin -out opened")).expect(0);
    assert_eq!(bench.read("opened"), bench.read("bill.der"));

    bench.hufu("cms encrypt --in bill.der --out to.p7m --to enc.pem").expect(0);
    for (line, code, says) in [
        ("cms decrypt --in bill.p7 --out x.der --key-file other.key", 1, "cannot be opened"),
        ("cms decrypt --in bill.p7 --out x.der --key-file short.key", 65, "32 hexadecimal digits"),
        ("cms decrypt --in bill.p7 --out x.der --key-file open.key", 78, "chmod 600"),
        ("cms decrypt --in bill.p7 --out x.der --key-file none.key", 74, "none.key"),
        ("cms decrypt --in bill.p7 --out x.der --key enc.key --cert enc.pem", 65, "--key-file"),
        ("cms decrypt --in to.p7m --out x.der --key-file raw.key", 65, "--cert"),
        ("cms decrypt --in bill.p7 --out x.der", 2, "--key"),
        ("cms decrypt --in bill.p7 --out x.der --key-file raw.key --key enc.key", 2, "--key"),
        ("cms encrypt --in bill.der --out x.der --key-file raw.key --to enc.pem", 2, "--to"),
        ("cms encrypt --in bill.der --out x.der", 2, "--to"),
    ] {
        let ran = bench.hufu(line).expect(code);
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains(says), "{line}: {} {}", ran.stdout, ran.stderr);
    }
    assert!(!Path::new(&bench.path("x.der")).exists());
}

#[test]
fn bare_sm2_is_what_openssl_reads_and_writes() {
    let bench = Bench::new();
    let openssl = |line: &str| run(command("openssl").args(line.split_whitespace()).current_dir(bench.0.path()));
    bench.hufu("sm2 sign --in bill.der --key node.key --out bill.sig").expect(0);
    bench.hufu("sm2 verify --in bill.der --sig bill.sig --cert node.pem").expect(0);
    bench.write("pub.pem", openssl("x509 -in node.pem -noout -pubkey").expect(0).stdout.as_bytes());
    openssl("dgst -sm3 -verify pub.pem -sigopt distid:1234567812345678 -signature bill.sig bill.der").expect(0);
    openssl("dgst -sm3 -sign node.key -sigopt distid:1234567812345678 -out theirs.sig bill.der").expect(0);
    bench.hufu("sm2 verify --in bill.der --sig theirs.sig --cert node.pem").expect(0);
    let found = bench.hufu("sm2 verify --in picture.png --sig bill.sig --cert node.pem --json").expect(1).json();
    assert_eq!(found["result"], "invalid");
    bench.hufu("sm2 verify --in bill.der --sig bill.der --cert node.pem").expect(65);
    bench.hufu("sm2 encrypt --in bill.der --to enc.pem --out bill.enc").expect(0);
    openssl("pkeyutl -decrypt -inkey enc.key -in bill.enc -out opened").expect(0);
    assert_eq!(bench.read("opened"), bench.read("bill.der"));
    bench.write("enc.pub", openssl("x509 -in enc.pem -noout -pubkey").expect(0).stdout.as_bytes());
    openssl("pkeyutl -encrypt -pubin -inkey enc.pub -in bill.der -out theirs.enc").expect(0);
    bench.hufu("sm2 decrypt --in theirs.enc --key enc.key --out plain.der").expect(0);
    assert_eq!(bench.read("plain.der"), bench.read("bill.der"));
    bench.hufu("sm2 decrypt --in theirs.enc --key node.key --out x.der").expect(1);
    bench.hufu("sm2 decrypt --in bill.der --key enc.key --out x.der").expect(65);
    assert!(!Path::new(&bench.path("x.der")).exists());
}

#[test]
fn a_certificate_is_shown_and_checked() {
    let bench = Bench::new();
    let found = bench.hufu("cert show node.pem --json").expect(0).json();
    assert_eq!(found["certificates"][0]["subject"], "CN=node");
    let found = bench.hufu("cert check node.pem --trust root.pem --json").expect(0).json();
    assert_eq!((&found["result"], found["path"].as_array().map(Vec::len)), (&"valid".into(), Some(2)));
    bench.hufu("cert check enc.pem --trust root.pem --for encryption").expect(0);
    bench.hufu("pki crl --ca root.pem --ca-key root.key --revoke node.pem --out root.crl").expect(0);
    for (line, code, says) in [
        ("cert check node.pem --trust other.pem", 1, "no path"),
        ("cert check node.pem --trust root.pem --for encryption", 1, "keyUsage"),
        ("cert check node.pem --trust root.pem --crl root.crl", 1, "revoked"),
        ("cert check node.pem --trust root.pem --at 2020-01-01T00:00:00Z", 1, "not yet valid"),
        ("cert check bill.der --trust root.pem", 65, "malformed"),
        ("cert check node.pem --trust root.pem --directory ldaps://x/dc=x", 2, "ldap://"),
        ("cert check node.pem --trust root.pem --directory ldap://127.0.0.1:9/dc=x", 69, "cannot be reached"),
    ] {
        let ran = bench.hufu(line).expect(code);
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains(says), "{line}: {} {}", ran.stdout, ran.stderr);
    }
}

#[test]
fn a_directory_says_what_was_revoked_and_its_cache_says_it_on() {
    let bench = Bench::new();
    bench.hufu("pki crl --ca root.pem --ca-key root.key --revoke node.pem --out root.crl").expect(0);
    let port = free_port();
    let entries = authority("root", &bench.0.path().join("root.pem"), &bench.0.path().join("root.crl"));
    let server = Slapd::start(bench.0.path(), port, &entries);
    let check = |name: &str| {
        bench.hufu(&format!("cert check {name}.pem --trust root.pem --directory ldap://127.0.0.1:{port}/dc=ca,dc=example --cache the.cache --json"))
    };
    let found = check("maker").expect(0).json();
    let note = &found["directory"][0];
    assert_eq!(
        (&note["what"], &note["of"], &note["cached_because"]),
        (&"crl".into(), &"CN=root,C=CN".into(), &Value::Null)
    );
    let reason = |ran: &Ran| ran.json()["reason"].as_str().map(str::to_owned).unwrap_or_default();
    assert!(reason(&check("node").expect(1)).contains("CN=node: revoked"));
    drop(server);
    let found = check("maker").expect(0).json();
    let note = &found["directory"][0];
    assert!(note["cached_because"].as_str().is_some_and(|why| why.contains("cannot be reached")), "{found}");
    assert!(note["age_s"].is_number(), "{found}");
    assert!(reason(&check("node").expect(1)).contains("CN=node: revoked"));
}
