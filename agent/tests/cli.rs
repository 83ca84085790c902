//! The built binary at its edges: exit statuses, one line on stderr, nothing but JSON on stdout. What commands compute is
//! tested where it is computed.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

fn hufu(dir: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hufu"));
    command.args(words).current_dir(dir).env_remove("LC_ALL").env_remove("LC_MESSAGES").env("LANG", "C.UTF-8");
    command.output().unwrap()
}

/// Runs a command that must fail: its status, one line on stderr that says `said`, nothing on stdout.
fn refused(dir: &Path, words: &[&str], status: i32, said: &str) {
    let output = hufu(dir, words);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{words:?}: {err}");
    assert!(out.is_empty(), "{words:?} wrote to stdout: {out}");
    assert_eq!(err.lines().count(), 1, "{words:?}: {err}");
    assert!(err.contains(said), "{words:?}: {err}");
}

/// Runs a command that must succeed with `--json`: its one object.
fn object(dir: &Path, words: &[&str]) -> serde_json::Value {
    let mut all = vec!["--json"];
    all.extend_from_slice(words);
    let output = hufu(dir, &all);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {err}");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(value.is_object(), "{words:?}: {value}");
    value
}

/// A root, a platform and a node `s1/n1` with its ledger, in `dir/node`.
fn node(dir: &Path) {
    let run = |words: &[&str]| drop(object(dir, words));
    run(&["key", "new", "-o", "root.key"]);
    run(&["pki", "root", "--key", "root.key", "--subject", "CN=root,C=CN", "-o", "root.pem"]);
    run(&["key", "new", "-o", "platform.key"]);
    run(&["key", "csr", "--key", "platform.key", "--subject", "CN=s1/platform", "-o", "platform.csr"]);
    let issue = |csr: &str, out: &str| {
        run(&["pki", "issue", "--ca", "root.pem", "--ca-key", "root.key", "--csr", csr, "-o", out]);
    };
    issue("platform.csr", "platform.pem");
    let first = ["init", "--dir", "node", "--site", "s1", "--node", "n1", "--broker", "127.0.0.1:1"];
    let trust = ["--trust", "root.pem", "--platform-cert", "platform.pem"];
    run(&[&first[..], &trust[..]].concat());
    issue("node/node.csr", "n1.pem");
    run(&["init", "--dir", "node", "--cert", "n1.pem"]);
}

#[test]
fn wrong_usage_is_status_2_and_one_line() {
    let dir = TempDir::new().unwrap();
    for (words, said) in [
        (&["--foo"][..], "--foo"),
        (&["nothing"], "nothing"),
        (&[], "which command"),
        (&["key"], "which command"),
        (&["key", "new"], "--out"),
        (&["pki", "root", "--key", "k", "--subject", "CN=a", "-o", "o", "--days", "0"], "--days"),
        (&["demo", "--seconds", "1"], "--seconds"),
        (&["buyer", "browse"], "--platform"),
        (&["buyer", "browse", "--platform", "ftp://x"], "--platform"),
        (&["buyer", "score", "cpu=101"], "cpu=101"),
        (&["init", "--dir", "d"], "--site"),
        (&["--lang", "fr", "capacity"], "fr"),
    ] {
        refused(dir.path(), words, 2, said);
    }
    let chinese = hufu(dir.path(), &["--lang", "zh", "nothing"]);
    assert!(String::from_utf8_lossy(&chinese.stderr).contains("未知命令"));
}

#[test]
fn help_and_version_are_answers() {
    let dir = TempDir::new().unwrap();
    for words in [&["--help"][..], &["--version"], &["buyer", "order", "--help"]] {
        let output = hufu(dir.path(), words);
        assert!(output.status.success() && !output.stdout.is_empty() && output.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn files_that_are_absent_open_or_in_the_way_have_their_own_statuses() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    refused(at, &["check-config", "--config", "none.toml"], 74, "none.toml");
    refused(at, &["agent", "--config", "none.toml"], 74, "none.toml");
    refused(at, &["key", "show", "none.key"], 74, "none.key");
    refused(at, &["ledger", "check", "none"], 74, "none");
    fs::write(at.join("bad.toml"), "[node\n").unwrap();
    refused(at, &["check-config", "--config", "bad.toml"], 78, "bad.toml");
    fs::write(at.join("unknown.toml"), "[nodes]\n").unwrap();
    refused(at, &["agent", "--config", "unknown.toml"], 78, "unknown.toml");
    object(at, &["key", "new", "-o", "a.key"]);
    refused(at, &["key", "new", "-o", "a.key"], 74, "a.key");
    fs::set_permissions(at.join("a.key"), fs::Permissions::from_mode(0o644)).unwrap();
    refused(at, &["key", "csr", "--key", "a.key", "--subject", "CN=a"], 78, "chmod 600");
    fs::write(at.join("junk.pem"), "junk").unwrap();
    refused(at, &["key", "show", "junk.pem"], 65, "junk.pem");
    refused(at, &["key", "new", "-o", "no/such/dir/a.key"], 74, "no/such/dir/a.key");
    refused(at, &["ledger", "export", "none", "--out", "x"], 74, "none");
    assert!(!at.join("x").exists(), "nothing half-written");
}

#[test]
fn a_failed_init_leaves_nothing_behind_and_a_second_one_is_refused() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    node(at);
    let again = ["init", "--dir", "node", "--site", "s1", "--node", "n1", "--broker", "127.0.0.1:1"];
    let trust = ["--trust", "root.pem", "--platform-cert", "platform.pem"];
    refused(at, &[&again[..], &trust[..]].concat(), 74, "node");
    // The platform's certificate is not that of this node's key.
    let other = ["init", "--dir", "other", "--site", "s1", "--node", "n2", "--broker", "127.0.0.1:1"];
    refused(at, &[&other[..], &trust[..], &["--cert", "platform.pem"]].concat(), 78, "node.pem");
    assert_eq!(fs::read_dir(at.join("other")).unwrap().count(), 0);
    let mode = fs::metadata(at.join("node")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_certificate_that_names_another_is_refused_before_a_ledger_is_made() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    node(at);
    object(at, &["key", "new", "-o", "k.key"]);
    let certify = |subject: &str, dns: &str, out: &str| {
        let csr = format!("{out}.csr");
        let request = ["key", "csr", "--key", "k.key", "--subject", subject, "-o", &csr];
        let names = ["--dns", dns];
        object(at, &[&request[..], if dns.is_empty() { &[] } else { &names }].concat());
        object(at, &["pki", "issue", "--ca", "root.pem", "--ca-key", "root.key", "--csr", &csr, "-o", out]);
    };
    let named = ["init", "--site", "s1", "--node", "n1", "--broker", "127.0.0.1:1", "--trust", "root.pem"];
    let init = |to: &'static str, cert: &'static str, platform: &'static str| {
        let more = ["--dir", to, "--key", "k.key", "--cert", cert, "--platform-cert", platform];
        [&named[..], &more].concat()
    };
    for (number, subject, dns) in [(1, "CN=n1", "n1"), (2, "CN=s2/n1", "n1.s2"), (3, "CN=s1/platform", "")] {
        certify(subject, dns, "k.pem");
        refused(at, &init("refused", "k.pem", "platform.pem"), 78, "it must name s1/n1");
        assert_eq!(fs::read_dir(at.join("refused")).unwrap().count(), 0, "{number}");
        fs::remove_file(at.join("k.pem")).unwrap();
        fs::remove_file(at.join("k.pem.csr")).unwrap();
    }
    certify("CN=Rack 4", "n1.s1", "k.pem");
    refused(at, &init("refused", "k.pem", "n1.pem"), 78, "it must name s1/platform");
    // In two steps the platform's is looked at in the first.
    let first = [&named[..], &["--dir", "refused", "--platform-cert", "n1.pem"]].concat();
    refused(at, &first, 78, "it must name s1/platform");
    assert_eq!(fs::read_dir(at.join("refused")).unwrap().count(), 0);
    object(at, &init("taken", "k.pem", "platform.pem"));
    // The same rule at the daemon's start, for a certificate that came later.
    certify("CN=s1/n2", "", "later.pem");
    fs::copy(at.join("later.pem"), at.join("taken/node.pem")).unwrap();
    for command in ["agent", "check-config"] {
        refused(at, &[command, "--config", "taken/hufu.toml"], 78, "it must name s1/n1");
        refused(at, &["--lang", "zh", command, "--config", "taken/hufu.toml"], 78, "须指明 s1/n1");
    }
}

#[test]
fn a_new_node_checks_lists_and_proves_its_ledger() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    node(at);
    assert_eq!(object(at, &["check-config", "--config", "node/hufu.toml"])["node"], "s1/n1");
    assert!(object(at, &["products", "--config", "node/hufu.toml"])["products"].is_array());
    refused(at, &["status", "--config", "node/hufu.toml"], 69, "hufu.sock");
    let checked = object(at, &["ledger", "check", "node/ledger", "--trust", "root.pem"]);
    assert_eq!(checked["logs"]["trade"]["size"], "2");
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0));
    assert_eq!(checked["trust"], "anchored");
    assert_eq!(object(at, &["ledger", "check", "node/ledger"])["trust"], "self-consistent only");
    assert_eq!(object(at, &["ledger", "show", "node/ledger"])["entries"][0]["kind"], "rules");
    object(at, &["ledger", "export", "node/ledger", "--out", "out"]);
    assert!(at.join("out/entries/trade-0-0-rules.der").exists());
    let proof = object(at, &["ledger", "prove", "node/ledger", "--log", "trade", "--height", "1", "--index", "0"]);
    assert_eq!(proof["size"], "2");
    refused(at, &["ledger", "prove", "node/ledger", "--log", "trade", "--height", "9"], 2, "9");
    // A stranger's anchor trusts no signature of this ledger.
    object(at, &["key", "new", "-o", "other.key"]);
    object(at, &["pki", "root", "--key", "other.key", "--subject", "CN=other", "-o", "other.pem"]);
    let doubted = hufu(at, &["--json", "ledger", "check", "node/ledger", "--trust", "other.pem"]);
    assert_eq!(doubted.status.code(), Some(1));
}

#[test]
fn a_check_names_the_first_bad_block_and_lists_the_rest() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    node(at);
    assert_eq!(object(at, &["ledger", "check", "node/ledger"])["first_bad"], serde_json::Value::Null);
    // The last byte of a block is the last of its last entry's body.
    object(at, &["ledger", "export", "node/ledger", "--out", "out"]);
    let block = fs::read(at.join("out/blocks/trade-1.der")).unwrap();
    let segment = at.join("node/ledger/seg-00000000");
    let mut bytes = fs::read(&segment).unwrap();
    let place = bytes.windows(block.len()).position(|window| window == block).unwrap();
    bytes[place + block.len() - 1] ^= 1;
    fs::write(&segment, bytes).unwrap();
    // Block 1 holds the certificates: with --trust nobody's signature would count.
    let words = ["ledger", "check", "node/ledger"];
    let checked = hufu(at, &[&["--json"], &words[..]].concat());
    assert_eq!(checked.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(report["first_bad"], serde_json::json!({ "log": "trade", "height": "1" }));
    let problems = report["problems"].as_array().unwrap();
    let says = |what: &str| problems.iter().any(|problem| problem["what"].as_str().unwrap().contains(what));
    assert!(problems.len() >= 2 && says("frame CRC") && says("wrong root"), "{problems:?}");
    let text = String::from_utf8(hufu(at, &words).stdout).unwrap();
    assert!(text.contains("\nfirst bad block: trade height 1\n"), "{text}");
    assert!(text.contains(&format!(" {} problems", problems.len())), "{text}");
}

#[test]
fn a_firmware_image_counts_only_with_its_signer() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    node(at);
    let build = ["firmware", "build", "-o", "fw.img", "--serial", "SN-1", "--site", "s1", "--node", "n2"];
    let ends = ["--endpoint", "127.0.0.1:1883=platform.pem", "--key", "root.key"];
    assert_eq!(object(at, &[&build[..], &ends[..]].concat())["revision"], "1");
    assert_eq!(object(at, &[&build[..], &ends[..]].concat())["slot"], "B");
    assert_eq!(object(at, &["firmware", "verify", "fw.img", "--signer", "root.pem"])["node"], "n2");
    refused(at, &["firmware", "verify", "fw.img", "--signer", "platform.pem"], 1, "fw.img");
    fs::write(at.join("short.img"), b"short").unwrap();
    refused(at, &["firmware", "show", "short.img", "--signer", "root.pem"], 65, "short.img");
}

#[test]
fn a_record_made_elsewhere_is_installed_beside_the_old_one_and_never_goes_back() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    node(at);
    let build = |out: &str, node: &str, revision: &str, key: &str| {
        let named = ["firmware", "build", "-o", out, "--serial", "SN-1", "--site", "s1", "--node", node];
        let signed = ["--endpoint", "127.0.0.1:1=platform.pem", "--key", key, "--revision", revision];
        object(at, &[&named[..], &signed[..]].concat())
    };
    let update = ["firmware", "update", "node.img", "--signer", "root.pem", "--from"];
    let with = |from: &'static str| [&update[..], &[from]].concat();
    build("node.img", "n1", "4", "root.key");
    build("new.img", "n2", "7", "root.key");
    build("old.img", "n3", "6", "root.key");
    build("forged.img", "n4", "9", "platform.key");
    let before = fs::read(at.join("node.img")).unwrap();

    // A partition's size and its rest are not the image's business; a file's are.
    fs::write(at.join("short.img"), &before[..8191]).unwrap();
    refused(at, &with("short.img"), 65, "short.img has 8191 bytes, an image needs 8192");
    refused(at, &with("forged.img"), 1, "forged.img");
    let onto = |target| ["firmware", "update", target, "--signer", "root.pem", "--from", "new.img"];
    refused(at, &onto("none.img"), 74, "none.img");
    refused(at, &onto("short.img"), 65, "short.img");
    fs::write(at.join("full.img"), [0x5a; 8192]).unwrap();
    refused(at, &onto("full.img"), 1, "blank its first 8192 bytes");
    assert_eq!(fs::read(at.join("full.img")).unwrap(), [0x5a; 8192]);
    fs::write(at.join("blank.img"), [0; 8192]).unwrap();
    assert_eq!(object(at, &onto("blank.img"))["slot"], "A");
    assert_eq!(fs::read(at.join("node.img")).unwrap(), before);

    let installed = object(at, &with("new.img"));
    let shown = ["slot", "revision", "node", "other_slot"].map(|name| installed[name].as_str().unwrap().to_owned());
    assert_eq!(shown, ["B", "7", "n2", "revision 4"]);
    let after = fs::read(at.join("node.img")).unwrap();
    assert_eq!(after[..4096], before[..4096], "the slot that counted");
    assert_eq!(object(at, &with("new.img")), installed, "asked again, nothing changes");
    refused(at, &with("old.img"), 1, "revision 6 is not above revision 7");

    // The node remembers; `verify` and `update` ask it when they are told where.
    fs::write(at.join("node/ledger/firmware.revision"), "8\n").unwrap();
    let state = ["--state", "node/ledger"];
    let verify = ["firmware", "verify", "node.img", "--signer", "root.pem"];
    assert_eq!(object(at, &verify)["revision"], "7");
    refused(at, &[&verify[..], &state[..]].concat(), 1, "revision 7 is below 8");
    refused(at, &[&onto("blank.img")[..], &state[..]].concat(), 1, "revision 7 is below 8");
}

#[test]
fn a_daemon_refuses_an_old_record_that_was_put_back() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    node(at);
    let build = ["firmware", "build", "-o", "node.img", "--serial", "SN-1", "--site", "s1", "--node", "n1"];
    let ends = ["--endpoint", "127.0.0.1:1=platform.pem", "--key", "root.key"];
    object(at, &[&build[..], &ends[..]].concat());
    let old = fs::read(at.join("node.img")).unwrap();
    object(at, &[&build[..], &ends[..]].concat());
    let text = fs::read_to_string(at.join("node/hufu.toml")).unwrap();
    let named = "site = \"s1\"\nname = \"n1\"\n";
    let burnt_in = "firmware = \"../node.img\"\nfirmware_signer = \"../root.pem\"\n";
    let broker = "host = \"127.0.0.1\"\nport = 1\n";
    assert!(text.contains(named) && text.contains(broker), "{text}");
    fs::write(at.join("node/hufu.toml"), text.replace(named, burnt_in).replace(broker, "")).unwrap();
    let floor = at.join("node/ledger/firmware.revision");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_hufu"));
    let daemon = daemon.args(["agent", "--config", "node/hufu.toml"]).current_dir(at).stderr(Stdio::null());
    let mut daemon = daemon.spawn().unwrap();
    for _ in 0..600 {
        if floor.exists() || daemon.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(daemon.try_wait().unwrap(), None, "the daemon runs");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(fs::read_to_string(&floor).unwrap(), "2\n");

    fs::write(at.join("node.img"), old).unwrap();
    let output = hufu(at, &["agent", "--config", "node/hufu.toml"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("revision 1 is below 2") && said.contains("node.img"), "{said}");
    assert_eq!(fs::read_to_string(&floor).unwrap(), "2\n");
}

#[test]
fn a_platform_that_is_not_there_is_69() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    node(at);
    object(at, &["key", "new", "-o", "b.key"]);
    object(at, &["key", "csr", "--key", "b.key", "--subject", "CN=b", "-o", "b.csr"]);
    object(at, &["pki", "issue", "--ca", "root.pem", "--ca-key", "root.key", "--csr", "b.csr", "-o", "b.pem"]);
    let whom = ["--key", "b.key", "--cert", "b.pem", "--trust", "root.pem"];
    let browse = ["buyer", "browse", "--platform", "http://127.0.0.1:1", "--node", "s1/n1", "--product", "p"];
    refused(at, &[&browse[..], &whom[..]].concat(), 69, "http://127.0.0.1:1");
    // By files it needs nobody.
    let to_file = ["buyer", "browse", "--out", "req.json", "--node", "s1/n1", "--product", "p", "--state", "c"];
    object(at, &[&to_file[..], &whom[..]].concat());
    let request: serde_json::Value = serde_json::from_slice(&fs::read(at.join("req.json")).unwrap()).unwrap();
    assert_eq!((&request["iface"], &request["to"]), (&"browse".into(), &"s1/n1".into()));
    fs::write(at.join("ans.json"), r#"{"error":{"code":"stock","remedy":{"en":"wait","zh":"请等待"}}}"#).unwrap();
    refused(at, &[&["buyer", "browse", "--in", "ans.json", "--state", "c"][..], &whom[..]].concat(), 1, "wait");
    fs::write(at.join("ans.json"), "{}").unwrap();
    refused(at, &[&["buyer", "browse", "--in", "ans.json", "--state", "c"][..], &whom[..]].concat(), 65, "ans.json");
    refused(at, &[&["buyer", "order", "--in", "ans.json", "--state", "c"][..], &whom[..]].concat(), 74, "offer.json");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let dir = TempDir::new().unwrap();
    node(dir.path());
    let script = format!("'{}' ledger show node/ledger | true", env!("CARGO_BIN_EXE_hufu"));
    let output = Command::new("sh").args(["-c", &script]).current_dir(dir.path()).output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}
