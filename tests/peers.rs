//! Three nodes and a platform as processes of their own over real mosquitto: they cosign each other's checkpoints; one is put back from a
//! backup while the platform is away and signs a second past; the two others and the platform end with the same proof.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{fs, path::Path};

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::House,
    program::{self, Daemon, hufu},
    trade::{bill, buy, metered, records, text},
    wait,
};
use serde_json::Value;

const NAMES: [&str; 3] = ["s1/n1", "s1/n2", "s1/n3"];

/// Makes another node of the house's site; its folder.
fn another(house: &House, port: u16, name: &str) -> String {
    let (dir, broker) = (house.path(&format!("node-{name}")), format!("127.0.0.1:{port}"));
    let (trust, platform) = (house.path("root.pem"), house.path("platform.pem"));
    let named = ["--site", "s1", "--node", name, "--broker", &broker, "--trust", &trust];
    hufu(&[&["init", "--dir", &dir][..], &named, &["--platform-cert", &platform]].concat()).expect(0);
    let cert = house.path(&format!("{name}.pem"));
    house.issue(&format!("{dir}/node.csr"), &cert);
    hufu(&["init", "--dir", &dir, "--cert", &cert]).expect(0);
    let config = format!("{dir}/hufu.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text + "\n[metrics]\nlisten = \"\"\n").expect("a configuration");
    dir
}

/// Has a node follow the two others.
fn follow(config: &str) {
    let text = fs::read_to_string(config).expect("a configuration");
    let text = text.replace("[platform]\n", "[platform]\ncompare_s = 1\n");
    let peers = format!("\n[peers]\nfollow = {NAMES:?}\ncheckpoint_s = 1\n");
    fs::write(config, text + &peers).expect("a configuration");
}

fn start(config: &str, log: &Path) -> Daemon {
    let mut command = program::command(program::ours("hufu"));
    command.args(["agent", "--config", config]);
    Daemon::start(&mut command, log)
}

fn witnesses(config: &str) -> Option<Value> {
    let ran = hufu(&["status", "--json", "--config", config]);
    (ran.code == 0).then(|| ran.json()["witnesses"].clone())
}

/// The fork proofs that a node holds, as its status names them.
fn forks(config: &str) -> Vec<Vec<u8>> {
    let found = witnesses(config).unwrap_or_default();
    let files = found["forks"].as_array().cloned().unwrap_or_default();
    let mut proofs: Vec<Vec<u8>> =
        files.iter().map(|fork| fs::read(fork["file"].as_str().expect("a path")).expect("a file")).collect();
    proofs.sort_unstable();
    proofs
}

fn copy(from: &str, to: &str) {
    let done = program::command("cp").args(["-a", from, to]).status().expect("cp runs");
    assert!(done.success());
}

#[test]
fn three_nodes_witness_each_other_and_a_second_past_convicts_its_node() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let house = House::new(broker.port());
    let others = ["n2", "n3"].map(|name| another(&house, broker.port(), name));
    let configs: Vec<String> =
        [house.path("node")].iter().chain(&others).map(|dir| format!("{dir}/hufu.toml")).collect();
    configs.iter().for_each(|config| follow(config));
    let (mut platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let mut second = start(&configs[1], &house.at("n2.log"));
    let mut third = start(&configs[2], &house.at("n3.log"));
    let mut first = house.agent();

    // A bill verifies with its witnesses, and not with more than there are.
    let short = buy(&house, &url, "c0", "3s");
    let number = wait::until("a bill", 60, || Some(text(&bill(&house, &short)?, "bill_no").to_owned()));
    let (pack, root) = (house.path("bill.zip"), house.path("root.pem"));
    let verify = |policy: &str| hufu(&["verify", &pack, "--trust", &root, "--witnesses", policy, "--json"]);
    wait::until_true("the bill is confirmed", 60, || {
        hufu(&["pack", &number, "-o", &pack, "--config", &configs[0]]).expect(0);
        verify("3:s1/n2,s1/n3,s1/platform").code == 0
    });
    let confirmed = verify("3").expect(0).json()["confirmed"].clone();
    assert_eq!(confirmed[2], serde_json::json!({"what": "bill", "witnesses": NAMES[1..], "receipted": true}));
    verify("4").expect(1);
    verify("1:s1/n9").expect(1);

    let contract = buy(&house, &url, "c1", "600s");
    let count = metered(&house, &contract, 1);
    wait::until_true("both witnesses have cosigned", 60, || {
        let found = witnesses(&configs[0]).unwrap_or_default();
        let newest = found["trade"]["checkpoints"].as_array().and_then(|all| {
            all.iter().rev().find(|one| one["witnesses"].as_array().is_some_and(|names| names.len() == 2)).cloned()
        });
        newest.is_some() && found["trade"]["confirmed"] != "0"
    });
    for config in &configs {
        let found = witnesses(config).expect("a status");
        assert!(
            found["peers"].as_array().is_some_and(|peers| peers.iter().all(|peer| peer["is_known"] == true)),
            "{found}"
        );
        assert_eq!(found["forks"], serde_json::json!([]), "{found}");
    }

    // The backup of the first is from now; then it goes on, and is put back while nobody can tell it what it lacks.
    assert_eq!(first.signal("TERM"), 0, "{}", first.said());
    copy(&house.path("node"), &house.path("backup"));
    platform.kill();
    let mut first = house.agent();
    metered(&house, &contract, count + 3);
    let size = |config: &str| -> Option<u64> {
        let found = witnesses(config)?;
        let peer = found["peers"].as_array()?.iter().find(|peer| peer["node"] == NAMES[0])?.clone();
        peer["trade"].as_str()?.parse().ok()
    };
    let own = house.try_status().expect("a status")["logs"]["trade"]["size"].as_str().expect("a size").to_owned();
    let own: u64 = own.parse().expect("a number");
    wait::until_true("the others have followed", 60, || configs[1..].iter().all(|config| size(config) >= Some(own)));
    first.kill();
    fs::remove_dir_all(house.at("node")).expect("a folder");
    copy(&house.path("backup"), &house.path("node"));
    let mut first = house.agent();
    wait::until_true("the first meters again", 60, || records(&house, &contract) > Some(count));
    let proofs = wait::until("both others hold the proof", 90, || {
        let both: Vec<Vec<Vec<u8>>> = configs[1..].iter().map(|config| forks(config)).collect();
        (!both[0].is_empty() && both[0] == both[1]).then(|| both[0].clone())
    });
    let file = house.path("proof.fork");
    fs::write(&file, &proofs[0]).expect("a file");
    let trust = house.path("root.pem");
    let judged = hufu(&["fork", "verify", &file, "--trust", &trust, "--json"]).expect(0).json();
    assert_eq!((judged["node"].as_str(), judged["result"].as_str()), (Some(NAMES[0]), Some("valid")), "{judged}");
    let stranger = house.path("buyer.pem");
    assert_eq!(hufu(&["fork", "verify", &file, "--trust", &stranger]).code, 1, "under another anchor");

    // By openssl alone: both statements are signed under the certificate in the proof.
    let parts = house.path("parts");
    hufu(&["fork", "show", &file, "--out", &parts]).expect(0);
    let openssl = |args: &[&str]| {
        let done = program::command("openssl").args(args).current_dir(&parts).output().expect("openssl runs");
        (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
    };
    let (_, key) = openssl(&["x509", "-in", "signer-1.pem", "-noout", "-pubkey"]);
    fs::write(house.at("parts/signer.pub"), key).expect("a file");
    for name in ["first", "second"] {
        let (signature, tbs) = (format!("{name}.sig"), format!("{name}.der"));
        let id = "distid:1234567812345678";
        let args = ["dgst", "-sm3", "-verify", "signer.pub", "-sigopt", id, "-signature", &signature, &tbs];
        assert!(openssl(&args).0, "{name}");
    }

    // The platform comes back and takes what the witnesses left on the broker.
    let (_platform, ..) = house.platform(&["--broker", &broker.address()]);
    wait::until_true("the platform holds the same proof", 60, || {
        house.held("forks").iter().any(|fork| fork["proof"] == hex(&proofs[0]).as_str() && fork["node"] == NAMES[0])
    });
    assert!(house.held("alarms").iter().any(|alarm| alarm["code"] == "fork"));
    for daemon in [&mut first, &mut second, &mut third] {
        daemon.must_run();
        daemon.kill();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
