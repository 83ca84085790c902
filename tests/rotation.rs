//! A node changes its key, as an operator does it: while it trades, while it is down, under a password, and with the power cut after
//! each step. Judged by what the platform holds, by packs of bills from before and after, and by openssl.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{fs, path::Path};

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::House,
    pack,
    program::{Daemon, Ran, hufu},
    trade::{Contract, bill, buy, metered, text},
    wait,
};
use serde_json::Value;

fn rotate(house: &House, more: &[&str]) -> Ran {
    hufu(&[&["key", "rotate", "--config", &house.path("node/hufu.toml"), "--json"][..], more].concat())
}

fn step(house: &House, more: &[&str]) -> String {
    text(&rotate(house, more).expect(0).json(), "step").to_owned()
}

/// Makes the next key and gives it a certificate.
fn certified(house: &House, name: &str) -> String {
    let asked = rotate(house, &[]).expect(0).json();
    assert_eq!(asked["step"], "requested");
    let pem = house.path(name);
    house.issue(text(&asked, "request"), &pem);
    pem
}

/// The id of the first certificate of a file.
fn id(pem: &str) -> String {
    let shown = hufu(&["key", "show", pem, "--json"]).expect(0).json();
    text(&shown["certificates"][0], "id").to_owned()
}

fn public_key(path: &Path, more: &[&str]) -> Value {
    let path = path.to_str().expect("text");
    hufu(&[&["key", "show", path, "--json"][..], more].concat()).expect(0).json()["public_key"].clone()
}

/// The certificate that the node signs with, once it is this one.
fn signs_with(house: &House, certificate: &str) {
    wait::until_true("the node signs with the new key", 60, || {
        house.try_status().is_some_and(|status| status["key"]["certificate"] == certificate)
    });
}

/// What is left of a rotation beside the node's own files.
fn left_over(house: &House) -> Vec<String> {
    let names = fs::read_dir(house.at("node")).expect("a folder").map(|entry| entry.expect("a file").file_name());
    names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.contains(".next")).collect()
}

/// The pack of a contract's bill holds, for `hufu verify` and for openssl alone.
fn proven(house: &House, url: &str, contract: &Contract) {
    let found = wait::until("the bill is at the platform", 120, || bill(house, contract));
    let file = house.path(&format!("{}-{}.zip", contract.state, text(&found, "bill_no")));
    house.buyer("pack", url, contract.state, &[text(&found, "bill_no"), "--output", &file]).expect(0);
    let trust = house.path("root.pem");
    let verdict = hufu(&["verify", &file, "--trust", &trust, "--cross-check", "--json"]).expect(0).json();
    assert_ne!(text(&verdict, "billed_total_cny"), "0.00");
    for (name, verdict) in verdict["verdicts"].as_object().expect("verdicts") {
        assert_ne!(verdict["result"], "fail", "{name}: {verdict}");
    }
    let ran = pack::checked_by_openssl(&pack::read(Path::new(&file)), &trust);
    assert!(ran.stdout.contains("ALL CHECKS PASSED") && !ran.stdout.contains("BAD"), "{} {}", ran.stdout, ran.stderr);
}

fn whole(house: &House) {
    let checked = house.check_ledger();
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0), "{checked}");
}

fn untroubled(house: &House) {
    assert_eq!(house.held("alarms"), Vec::<Value>::new(), "nothing that a person must look at");
    assert_eq!(house.held("nodes")[0]["forks"], 0);
}

#[test]
fn a_node_changes_its_key_while_it_trades() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port());
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let mut agent = house.agent();
    let before = buy(&house, &url, "c1", "5s");
    wait::until("the first bill", 90, || bill(&house, &before));
    let across = buy(&house, &url, "c2", "30s");
    let counted = metered(&house, &across, 0);

    let old = fs::read_to_string(house.at("node/node.key")).expect("a key");
    let pem = certified(&house, "n2.pem");
    assert_eq!(step(&house, &[]), "requested", "asked again it is the same key");
    // Certificates that are not the next key's, or not the node's.
    for (cert, says) in [
        (house.path("n1.pem"), "not of the next key"),
        (house.path("buyer.pem"), "must name s1/n1"),
        (house.path("node/node.csr"), "node.csr"),
    ] {
        let ran = rotate(&house, &["--cert", &cert]).expect(78);
        assert!(ran.stderr.contains(says) && ran.stdout.is_empty(), "{}", ran.stderr);
    }
    let done = rotate(&house, &["--cert", &pem, "--why", "two years are over", "--wait", "60"]).expect(0).json();
    assert_eq!((&done["step"], text(&done, "certificate")), (&Value::from("done"), id(&pem).as_str()));
    assert_eq!(left_over(&house), Vec::<String>::new());
    let shown = hufu(&["key", "show", &house.path("node/node.pem"), "--json"]).expect(0).json();
    let now = public_key(&house.at("node/node.key"), &[]);
    assert_eq!(now, shown["certificates"][0]["public_key"]);
    assert_ne!(fs::read_to_string(house.at("node/node.key")).expect("a key"), old);
    let status = house.try_status().expect("a status");
    assert_eq!(status["key"]["rotation"]["receipted"], true, "{}", status["key"]);

    metered(&house, &across, counted);
    let after = buy(&house, &url, "c3", "5s");
    for contract in [&before, &across, &after] {
        proven(&house, &url, contract);
    }
    untroubled(&house);
    assert_eq!(agent.signal("TERM"), 0, "{}", agent.said());
    whole(&house);
    let shown = hufu(&["ledger", "show", &house.path("node/ledger"), "--json"]).expect(0).json();
    let kinds = shown["entries"].as_array().expect("entries").iter().filter(|entry| entry["kind"] == "key_rotation");
    assert_eq!(kinds.count(), 1);
    // And the files are those of a node that never did anything else.
    let mut agent = house.agent();
    signs_with(&house, &id(&pem));
    assert_eq!(agent.signal("TERM"), 0);

    let config = house.at("node/hufu.toml");
    let plain = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, plain.replace("key = \"node.key\"", "signer = \"s.sock\"")).expect("a configuration");
    assert!(rotate(&house, &[]).expect(78).stderr.contains("signer"), "a signer's key is not the node's to change");
}

fn text_is_said(alarm: &Value) -> bool {
    ["of the present key", "no complete PEM block"].iter().any(|why| text(alarm, "detail").contains(why))
}

/// Starts the agent on the files as they are, waits until it signs with a certificate, and kills it.
fn starts_with(house: &House, certificate: &str) {
    let mut agent = house.agent();
    signs_with(house, certificate);
    agent.kill();
}

fn refuses_to_start(house: &House, says: &str) {
    let mut command = hufu_tests::program::command(hufu_tests::program::ours("hufu"));
    let ran = hufu_tests::program::run(command.args(["agent", "--config", &house.path("node/hufu.toml")])).expect(78);
    assert!(ran.stderr.contains(says), "{}", ran.stderr);
}

fn rename(house: &House, from: &str, to: &str) {
    fs::rename(house.at("node").join(from), house.at("node").join(to)).expect("a file");
}

#[test]
fn a_power_cut_after_any_step_leaves_a_node_that_goes_on() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port());
    let config = house.at("node/hufu.toml");
    let text_of = || fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text_of().replace("[platform]\n", "[platform]\ncompare_s = 1\n")).expect("a configuration");
    let old = id(&house.path("node/node.pem"));
    let pem = certified(&house, "n2.pem");
    let new = id(&pem);
    // A key and a request change nothing; a certificate that is none of theirs is an alarm, and no more.
    starts_with(&house, &old);
    for text in [fs::read(house.at("n1.pem")).expect("a chain"), b"junk".to_vec()] {
        fs::write(house.at("node/node.pem.next"), text).expect("a file");
        let mut agent = house.agent();
        let alarm = wait::until("the alarm", 60, || {
            let alarms = house.try_status()?["alarms"].as_array()?.clone();
            alarms.into_iter().find(|alarm| alarm["what"] == "the key cannot be changed")
        });
        assert!(text_is_said(&alarm), "{alarm}");
        signs_with(&house, &old);
        agent.kill();
        fs::remove_file(house.at("node/node.pem.next")).expect("a file");
    }
    assert_eq!(step(&house, &["--cert", &pem]), "placed");
    // The agent changes keys at its next start; without the platform's receipt both keys stay.
    let mut agent = house.agent();
    signs_with(&house, &new);
    assert_eq!(step(&house, &["--wait", "0"]), "recorded");
    agent.kill();
    starts_with(&house, &new);

    // Every state that a cut leaves while the old key is cleared away.
    let (key, next) = (house.at("node/node.key"), house.at("node/node.key.next"));
    let kept = [&key, &next].map(|path| fs::read(path).expect("a key"));
    // The files of before, from a backup: the ledger knows better.
    rename(&house, "node.pem.next", "aside");
    refuses_to_start(&house, &new);
    rename(&house, "aside", "node.pem.next");
    fs::write(&key, vec![0; kept[0].len()]).expect("a key");
    starts_with(&house, &new);
    rename(&house, "node.key.next", "node.key");
    starts_with(&house, &new);
    fs::write(&next, &kept[1]).expect("a key");
    hufu_tests::program::shell("chmod 600 node/node.key.next", &house.at(".")).expect(0);
    fs::write(&key, vec![0; kept[0].len()]).expect("a key");

    // With the platform there, it is over.
    let (platform, url, broker_at) = house.platform(&["--broker", &broker.address()]);
    let mut agent = house.agent();
    assert_eq!(step(&house, &["--wait", "60"]), "done");
    assert_eq!(left_over(&house), Vec::<String>::new());
    assert_eq!(id(&house.path("node/node.pem")), new);
    assert_eq!(agent.signal("TERM"), 0);

    under_a_password(&house, &url);
    // Both rotations come back with a ledger that was lost, though no file names the key in between.
    fs::remove_dir_all(house.at("node/ledger")).expect("the ledger");
    fs::remove_dir_all(house.at("node/ledger.keys")).ok();
    hufu(&["init", "--dir", &house.path("node"), "--recover"]).expect(0);
    let mut agent = house.agent();
    wait::until_true("the ledger is back", 60, || {
        agent.must_run();
        house.try_status().is_some_and(|status| status["waits_for"].is_null() && status["logs"]["trade"]["size"] != "0")
    });
    let last = buy(&house, &url, "c9", "5s");
    proven(&house, &url, &last);
    untroubled(&house);
    drop((agent, platform, broker_at));
    whole(&house);
}

/// A second rotation, with the key under a password from here on.
fn under_a_password(house: &House, url: &str) {
    let config = house.at("node/hufu.toml");
    let password = house.at("node/node.password");
    fs::write(&password, "correct horse\n").expect("a password");
    hufu_tests::program::shell("chmod 600 node/node.password", &house.at(".")).expect(0);
    let (plain, under, password) =
        (house.path("node/node.key"), house.path("node/node.p8"), password.to_str().expect("text").to_owned());
    hufu(&["key", "encrypt", "--key", &plain, "--out", &under, "--password-file", &password]).expect(0);
    let text = fs::read_to_string(&config).expect("a configuration");
    let named = text.replace("key = \"node.key\"", "key = \"node.p8\"\nkey_password = \"node.password\"");
    fs::write(&config, named).expect("a configuration");
    fs::remove_file(plain).expect("the plain key");
    let mut agent: Daemon = house.agent();
    let pem = certified(house, "n3.pem");
    let next = fs::read_to_string(house.at("node/node.p8.next")).expect("a key");
    assert!(next.contains("BEGIN ENCRYPTED PRIVATE KEY"), "the next key is under the password, too");
    assert_eq!(step(house, &["--cert", &pem, "--wait", "60"]), "done");
    let shown = hufu(&["key", "show", &pem, "--json"]).expect(0).json();
    let now = public_key(Path::new(&under), &["--password-file", &password]);
    assert_eq!(now, shown["certificates"][0]["public_key"]);
    let contract = buy(house, url, "c8", "5s");
    proven(house, url, &contract);
    assert_eq!(agent.signal("TERM"), 0);
}
