//! Where secrets may be and where they may not: after a whole course of a node no file but the secret's own, no log, no status
//! and no error holds the key, the salt or a contract's data key, in any of the forms in which programs write octets.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use hufu_tests::{
    broker::free_port,
    house::House,
    program::{self, hufu},
    trade::{bill, buy, text},
    wait,
};

/// A secret in all the forms in which it might be written, and the only file that may hold it.
struct Secret {
    name: String,
    forms: Vec<Vec<u8>>,
    at: PathBuf,
}

impl Secret {
    fn new(name: &str, octets: &[u8], at: PathBuf) -> Self {
        assert!(octets.len() >= 16, "{name}");
        Self { name: name.to_owned(), forms: forms(octets), at }
    }

    fn is_in(&self, haystack: &[u8]) -> bool {
        self.forms.iter().any(|form| haystack.windows(form.len()).any(|window| window == form.as_slice()))
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The scalar of a PKCS#8 file that `hufu key new` made.
fn scalar(path: &Path) -> Vec<u8> {
    let text = "import base64, sys
lines = [line for line in open(sys.argv[1]) if not line.startswith('-')]
print(base64.b64decode(''.join(lines))[36:68].hex())";
    let ran = program::run(program::command("python3").args(["-c", text]).arg(path)).expect(0);
    let digits = ran.stdout.trim();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex")).collect()
}

/// Octets as they are, in hexadecimal, as a list of numbers, and in base64 at any of its three places.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let list = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let mut forms = vec![secret.to_vec(), hex(secret).into_bytes(), hex(secret).to_uppercase().into_bytes()];
    forms.push(list.into_bytes());
    let text = "import base64, sys
secret = bytes.fromhex(sys.argv[1])
for skip in range(3):
    print(base64.b64encode(secret[skip:][: (len(secret) - skip) // 3 * 3]).decode())";
    let ran = program::run(program::command("python3").args(["-c", text, &hex(secret)])).expect(0);
    for line in ran.stdout.lines() {
        forms.push(line.as_bytes().to_vec());
        forms.push(line.replace('+', "-").replace('/', "_").into_bytes());
    }
    forms
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").filter_map(Result::ok) {
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

#[test]
fn no_secret_leaves_its_own_file() {
    let house = House::new(free_port());
    let (_platform, url, broker) = house.platform(&["--embedded-broker"]);
    house.point_at(&broker);
    let mut agent = house.agent();
    let contract = buy(&house, &url, "c1", "4s");
    let found = wait::until("the bill is at the platform", 90, || bill(&house, &contract));
    let pack = house.path("bill.zip");
    let config = house.path("node/hufu.toml");
    let mut said = vec![
        hufu(&["status", "--config", &config]).expect(0),
        hufu(&["status", "--json", "--config", &config]).expect(0),
        hufu(&["pack", text(&found, "bill_no"), "-o", &pack, "--config", &config]).expect(0),
        hufu(&["key", "show", &house.path("node/node.key")]).expect(0),
    ];
    assert_eq!(agent.signal("TERM"), 0);

    let mut secrets =
        vec![Secret::new("salt", &fs::read(house.at("node/salt")).expect("a salt"), house.at("node/salt"))];
    for name in ["node/node.key", "buyer.key", "platform.key"] {
        secrets.push(Secret::new(name, &scalar(&house.at(name)), house.at(name)));
    }
    for entry in fs::read_dir(house.at("node/ledger.keys")).expect("keys").filter_map(Result::ok) {
        let file = fs::read(entry.path()).expect("a key");
        secrets.push(Secret::new("a contract's key", &file[65..81], entry.path()));
    }
    assert!(secrets.len() >= 5, "a contract has a key of its own");

    // What is said of key files that are wrong.
    let broken = house.path("broken.key");
    let key = fs::read_to_string(house.at("node/node.key")).expect("a key");
    for (content, mode) in
        [(key[..key.len() - 40].to_owned(), "600"), (key.clone(), "644"), (format!("{key}{key}"), "600")]
    {
        fs::write(&broken, content).expect("a file");
        program::shell(&format!("chmod {mode} broken.key"), &house.at(".")).expect(0);
        let ran = hufu(&["key", "csr", "--key", &broken, "--subject", "CN=x"]);
        assert_ne!(ran.code, 0);
        said.push(ran);
    }
    fs::remove_file(&broken).expect("a file");

    let mut all = Vec::new();
    files(&house.at("."), &mut all);
    assert!(all.iter().any(|path| path.ends_with("agent.log")) && all.len() > 20, "{all:?}");
    for secret in &secrets {
        for ran in &said {
            let is_shown = secret.is_in(ran.stdout.as_bytes()) || secret.is_in(ran.stderr.as_bytes());
            assert!(!is_shown, "{}: {} shows it", secret.name, ran.line);
        }
        for path in &all {
            let content = fs::read(path).expect("a file");
            if fs::canonicalize(&secret.at).ok() == fs::canonicalize(path).ok() {
                // Lines break the base64 of a PEM file.
                let joined: Vec<u8> = content.iter().copied().filter(|octet| *octet != b'\n').collect();
                assert!(secret.is_in(&content) || secret.is_in(&joined), "{} can be found in {path:?}", secret.name);
            } else {
                assert!(!secret.is_in(&content), "{} stands in {path:?}", secret.name);
            }
        }
    }
}
