//! A node whose key somebody else holds: foreign and own signers behind the local socket, and everything that a signer can do
//! wrong. Judged by what the platform holds and by a check of the whole ledger.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{
    fs,
    os::unix::{fs::MetadataExt, net::UnixDatagram},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::House,
    program::{self, Daemon, hufu},
    trade::{bill, buy, metered, text},
    tree, wait,
};
use serde_json::Value;

/// Starts the foreign signer over `key` and waits until it listens.
fn foreign(house: &House, key: &str, mode: &str) -> Daemon {
    set_mode(house, mode);
    let script = tree::root().join("tests/interop/openssl_signer.py");
    let mut command = program::command("python3");
    command.arg(script).args([key, "signer.sock", "mode", "platform.key"]).current_dir(house.at("."));
    let log = house.at("signer.log");
    fs::remove_file(&log).ok();
    let mut signer = Daemon::start(&mut command, &log);
    wait::until_true("the signer listens", 30, || {
        signer.must_run();
        signer.said().contains("ready")
    });
    signer
}

fn set_mode(house: &House, mode: &str) {
    fs::write(house.at("mode.new"), mode).expect("a file");
    fs::rename(house.at("mode.new"), house.at("mode")).expect("a file");
}

/// Takes the node's key out of its configuration and puts the signer in its place.
fn hand_over(house: &House) {
    let path = house.at("node/hufu.toml");
    let config = fs::read_to_string(&path).expect("a configuration");
    let signer = format!("signer = \"{}\"\nsigner_timeout_ms = 1000", house.path("signer.sock"));
    let config = config.replace("key = \"node.key\"", &signer);
    assert!(config.contains("signer_timeout_ms"), "{config}");
    fs::write(&path, config).expect("a configuration");
    fs::rename(house.at("node/node.key"), house.at("signer.key")).expect("the key");
}

/// The daemon with a service manager that counts its signs of life.
fn agent(house: &House, alive: &Arc<AtomicU64>) -> Daemon {
    let path = house.at("notify.sock");
    fs::remove_file(&path).ok();
    let manager = UnixDatagram::bind(&path).expect("a socket");
    let alive = Arc::clone(alive);
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok(count) = manager.recv(&mut message) {
            if String::from_utf8_lossy(&message[..count]).contains("WATCHDOG=1") {
                alive.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let mut command = program::command(program::ours("hufu"));
    command.args(["agent", "--config", &house.path("node/hufu.toml")]).env("NOTIFY_SOCKET", &path);
    let mut daemon = Daemon::start(&mut command, &house.at("agent.log"));
    wait::until("the agent answers", 60, || {
        daemon.must_run();
        house.try_status()
    });
    daemon
}

/// Waits until the node says that it waits for the signer, and why.
fn away(house: &House, why: &str) -> Value {
    wait::until(&format!("the node misses the signer: {why}"), 60, || {
        let status = house.try_status()?;
        let waits_for = status["waits_for"].as_str()?;
        (waits_for.starts_with("signer: ") && waits_for.contains(why)).then(|| status.clone())
    })
}

/// While nobody signs nothing is appended, the node answers, lives, and alarms; afterwards it goes on.
fn misses(house: &House, alive: &AtomicU64, why: &str) {
    let status = away(house, why);
    let lived = alive.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(2500));
    let later = house.try_status().expect("a status");
    assert_eq!(later["logs"]["trade"]["size"], status["logs"]["trade"]["size"], "nothing is appended: {why}");
    assert!(alive.load(Ordering::Relaxed) > lived, "the watchdog is fed: {why}");
    let alarms = later["alarms"].as_array().expect("alarms");
    assert!(alarms.iter().any(|alarm| alarm["what"] == "signer" && text(alarm, "detail").contains(why)), "{alarms:?}");
}

fn signs_again(house: &House) {
    wait::until_true("the signer is back", 60, || {
        house.try_status().is_some_and(|status| status["waits_for"].is_null())
    });
}

/// How many entries of a kind the ledger has.
fn count(house: &House, kind: &str) -> usize {
    let shown = hufu(&["ledger", "show", &house.path("node/ledger"), "--json"]).expect(0).json();
    shown["entries"].as_array().expect("entries").iter().filter(|entry| entry["kind"] == kind).count()
}

#[test]
fn a_signer_that_is_away_lies_or_dawdles_costs_no_second_and_signs_nothing_wrong() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port());
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    hand_over(&house);
    let mut signer = foreign(&house, "signer.key", "good");
    let alive = Arc::new(AtomicU64::new(0));
    let mut daemon = agent(&house, &alive);
    let contract = buy(&house, &url, "c1", "100s");
    metered(&house, &contract, 0);
    let mut counted = 0;
    for (mode, why) in [
        ("garbage", "none of docs/signer.md"),
        ("half", "none of docs/signer.md"),
        ("wrong", "does not verify"),
        ("other", "another key"),
        ("refuses", "the token is locked"),
        ("slow", "no answer in 1000 ms"),
        ("drip", "no answer in 1000 ms"),
        ("endless", "none of docs/signer.md"),
    ] {
        println!("{mode}");
        set_mode(&house, mode);
        misses(&house, &alive, why);
        set_mode(&house, "good");
        signs_again(&house);
        counted = metered(&house, &contract, counted);
    }
    // It ends in the middle of an answer, and stays away while the agent is started again.
    set_mode(&house, "dies");
    misses(&house, &alive, "start the signer");
    assert_eq!(count(&house, "gap"), 0, "what waited was signed as it was metered");
    assert_eq!(daemon.signal("TERM"), 0);
    let mut daemon = agent(&house, &alive);
    misses(&house, &alive, "start the signer");
    signer.kill();
    let _signer = foreign(&house, "signer.key", "good");
    signs_again(&house);
    metered(&house, &contract, counted);

    let found = wait::until("the bill is at the platform", 180, || bill(&house, &contract));
    assert_ne!(text(&found, "total_cny"), "0.00");
    assert_eq!(daemon.signal("TERM"), 0);
    let checked = house.check_ledger();
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0), "{checked}");
    let pack = house.path("bill.zip");
    house.buyer("pack", &url, contract.state, &[text(&found, "bill_no"), "--output", &pack]).expect(0);
    let verdict = hufu(&["verify", &pack, "--trust", &house.path("root.pem"), "--json"]).expect(0).json();
    for (name, verdict) in verdict["verdicts"].as_object().expect("verdicts") {
        assert_ne!(verdict["result"], "fail", "{name}: {verdict}");
    }
    assert_eq!(house.held("alarms"), Vec::<Value>::new(), "the platform saw nothing wrong");
    assert_eq!(house.held("nodes")[0]["forks"], 0);
}

/// One question of docs/signer.md, as user `uid`; what came back.
fn ask(socket: &Path, question: &str, uid: u32) -> String {
    let text = "import os, socket, sys
os.setuid(int(sys.argv[3]))
stream = socket.socket(socket.AF_UNIX)
stream.connect(sys.argv[1])
stream.sendall(sys.argv[2].encode() + b'\\n')
print(stream.makefile().read())";
    let mut command = program::command("python3");
    command.args(["-c", text]).arg(socket).arg(question).arg(uid.to_string());
    program::run(&mut command).stdout
}

fn own_uid() -> u32 {
    fs::metadata("/proc/self").expect("/proc").uid()
}

/// Starts `hufu signer` over a key.
fn own_signer(house: &House, key: &str) -> Daemon {
    let mut command = program::command(program::ours("hufu"));
    command.args(["signer", "--key", &house.path(key), "--socket", &house.path("own.sock"), "--json"]);
    let signer = Daemon::start(&mut command, &house.at("own.log"));
    wait::until_true("the signer says that it is ready", 30, || signer.said().contains("public_key"));
    signer
}

#[test]
fn a_node_is_enrolled_with_a_signer_and_no_command_signs_without_it() {
    let house = House::new(1);
    hufu(&["key", "new", "--out", &house.path("far.key")]).expect(0);
    let mut signer = own_signer(&house, "far.key");
    let (socket, dir, config) = (house.path("own.sock"), house.path("far"), house.path("far/hufu.toml"));
    let (trust, platform) = (house.path("root.pem"), house.path("platform.pem"));
    let named = ["--site", "s1", "--node", "n1", "--broker", "127.0.0.1:1", "--trust", &trust];
    let init = |socket: &str| {
        let with = ["--platform-cert", &platform, "--signer", socket];
        hufu(&[&["init", "--dir", &dir][..], &named, &with].concat())
    };
    init(&house.path("nowhere.sock")).expect(74);
    init(&socket).expect(0);
    assert!(!house.at("far/node.key").exists(), "no key file is made");
    let ca = ["--ca", &trust, "--ca-key", &house.path("root.key")];
    let (csr, pem) = (house.path("far/node.csr"), house.path("far.pem"));
    hufu(&[&["pki", "issue", "--csr", &csr, "--out", &pem][..], &ca].concat()).expect(0);
    let shown = hufu(&["key", "csr", "--signer", &socket, "--subject", "CN=x", "--json"]).expect(0).json();
    assert!(text(&shown, "csr").contains("BEGIN CERTIFICATE REQUEST"));

    // Nobody signs, so no ledger is made, and everything says why.
    signer.kill();
    for ran in [
        hufu(&["init", "--dir", &dir, "--cert", &pem]),
        hufu(&["key", "csr", "--signer", &socket, "--subject", "CN=x"]),
    ] {
        let ran = ran.expect(69);
        assert!(ran.stderr.contains("own.sock"), "{}", ran.stderr);
    }
    assert!(!house.at("far/ledger").exists(), "a ledger of which nobody signs the first block is not made");
    let signer = own_signer(&house, "far.key");
    hufu(&["init", "--dir", &dir, "--cert", &pem]).expect(0);
    hufu(&["check-config", "--config", &config]).expect(0);
    drop(signer);
    hufu(&["check-config", "--config", &config]).expect(69);
    let _other = own_signer(&house, "buyer.key");
    let said = hufu(&["check-config", "--config", &config]).expect(69).stderr;
    assert!(said.contains("another key"), "{said}");
    let checked = hufu(&["ledger", "check", &house.path("far/ledger"), "--trust", &trust, "--json"]).expect(0).json();
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0), "{checked}");
}

#[test]
fn the_signer_hears_its_own_users_only_and_says_its_key_to_nobody() {
    let house = House::new(1);
    let key = fs::read_to_string(house.at("buyer.key")).expect("a key");
    let signer = own_signer(&house, "buyer.key");
    let socket = house.at("own.sock");
    let good = ask(&socket, "{\"ask\":\"public_key\"}", own_uid());
    assert!(good.contains("\"public_key\":\"04"), "{good}");
    for question in ["", "{\"ask\":\"secret_key\"}", "{\"ask\":\"sign\"}", &"x".repeat(1100)] {
        assert!(ask(&socket, question, own_uid()).contains("error"), "{question:.20}");
    }
    let again = ["signer", "--key", &house.path("buyer.key"), "--socket", &house.path("own.sock")];
    hufu(&again).expect(74);
    let said = signer.said();
    for line in key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!said.contains(line), "the key is in the signer's output");
    }
    if own_uid() != 0 {
        println!("not root: other users cannot be tried");
        return;
    }
    // Every folder above, and the socket, are open: only the check of the peer is left.
    program::shell("chmod 755 . && chmod 666 own.sock", &house.at(".")).expect(0);
    assert!(ask(&socket, "{\"ask\":\"public_key\"}", 65534).contains("uid 65534 may not ask"));
    // A process that keeps its memory to itself belongs to root in /proc, whoever runs it.
    program::shell("cp buyer.key nobody.key && chown 65534 nobody.key && mkdir run && chown 65534 run", &house.at("."))
        .expect(0);
    let mut command = program::command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program::ours("hufu"));
    command.args(["signer", "--key", &house.path("nobody.key"), "--socket", &house.path("run/s.sock"), "--json"]);
    let nobody = Daemon::start(&mut command, &house.at("nobody.log"));
    wait::until_true("it is ready", 30, || nobody.said().contains("public_key"));
    let owner = fs::metadata(format!("/proc/{}/environ", nobody.pid())).expect("a process").uid();
    assert_eq!(owner, 0, "another process of its user can read its memory");
    // And the agent does not believe an unknown user's signer.
    let config = house.at("node/hufu.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    let socket = format!("signer = \"{}\"", house.path("run/s.sock"));
    fs::write(&config, text.replace("key = \"node.key\"", &socket)).expect("a configuration");
    let said = hufu(&["check-config", "--config", &house.path("node/hufu.toml")]).expect(78).stderr;
    assert!(said.contains("uid 65534"), "{said}");
}
