//! `hufu doctor` before real faults: each is named by its own check with what is and what to do, the others stay as they were,
//! and nothing is mended, made or disturbed.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{collections::BTreeMap, fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path, time::SystemTime};

use hufu_tests::{
    broker::{Memory, Mosquitto, free_port},
    house::House,
    program::{self, Ran, hufu},
    wait,
};
use serde_json::Value;

/// What depends on the machine the tests run on, not on what they do.
const OF_THE_MACHINE: &[&str] = &["filesystem", "disk_space", "clock_synchronised", "open_files", "gpus", "metered"];

fn doctor(house: &House) -> Ran {
    hufu(&["doctor", "--json", "--config", &house.path("node/hufu.toml")])
}

/// State and words of each check, after looking at the form of the whole.
fn judged(ran: &Ran) -> BTreeMap<String, Value> {
    let found = ran.json();
    let checks = found["checks"].as_array().expect("checks").clone();
    let failed = checks.iter().any(|check| check["state"] == "fail");
    assert_eq!(ran.code, i32::from(failed), "{}", ran.stdout);
    assert_eq!(found["state"] == "fail", failed);
    let mut by_id = BTreeMap::new();
    for check in checks {
        for text in ["purpose", "required", "remedy"] {
            assert!(check[text].as_str().is_some_and(|text| !text.is_empty()), "{text} of {check}");
        }
        let looked = check["state"] != "skipped";
        assert_eq!((check["actual"].is_string(), check["why"].is_string()), (looked, !looked), "{check}");
        let id = check["id"].as_str().expect("an id").to_owned();
        assert!(by_id.insert(id, check).is_none());
    }
    by_id
}

/// The ids of the checks in this state, without those of the machine.
fn of(checks: &BTreeMap<String, Value>, state: &str) -> Vec<String> {
    let ours = checks.iter().filter(|(id, check)| check["state"] == state && !OF_THE_MACHINE.contains(&id.as_str()));
    ours.map(|(id, _)| id.clone()).collect()
}

fn names(dir: &Path) -> Vec<(String, SystemTime)> {
    let found = fs::read_dir(dir).expect("a directory").map(|item| item.expect("a name"));
    let time = |item: &fs::DirEntry| item.metadata().expect("a file").modified().expect("a time");
    let mut names: Vec<_> = found.map(|item| (item.file_name().to_string_lossy().into_owned(), time(&item))).collect();
    names.sort();
    names
}

#[test]
fn a_whole_node_is_well_with_and_without_its_daemon() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let house = House::new(broker.port());
    let before = names(&house.at("node/ledger"));
    let still = judged(&doctor(&house));
    assert_eq!(of(&still, "fail"), [""; 0], "{still:#?}");
    assert_eq!(of(&still, "skipped"), ["agent"]);
    assert!(still.len() >= 22, "{:?}", still.keys());
    assert_eq!(names(&house.at("node/ledger")), before, "nothing of the ledger was touched");
    assert!(names(&house.at("node")).iter().all(|(name, _)| !name.contains("doctor")));
    let mut agent = house.agent();
    wait::until_true("the agent is linked", 30, || house.try_status().is_some_and(|status| status["linked"] == true));
    let running = judged(&doctor(&house));
    assert_eq!(of(&running, "fail"), [""; 0], "{running:#?}");
    assert_eq!(of(&running, "skipped"), [""; 0]);
    assert!(running["open_files"]["actual"].as_str().expect("a limit").parse::<u64>().is_ok());
    agent.must_run();
    assert_eq!(agent.said().matches("broker link lost").count(), 0, "the broker did not send the daemon away");
    let shown = hufu(&["doctor", "--lang", "zh", "--config", &house.path("node/hufu.toml")]);
    assert!(shown.stdout.contains("检查项") && shown.stdout.contains("node_key"), "{}", shown.stdout);
}

/// A fault, made and mended; the checks that must fail, those that may be skipped for it, and what one of them must say.
struct Fault {
    name: &'static str,
    make: fn(&House),
    fails: &'static [&'static str],
    says: &'static str,
}

fn move_away(house: &House, name: &str) {
    fs::rename(house.at(name), house.at("aside")).expect("a file");
}

fn configured(house: &House, from: &str, to: &str) {
    let path = house.at("node/hufu.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    assert!(text.contains(from), "{from} in {text}");
    fs::write(&path, text.replace(from, to)).expect("a configuration");
}

/// A certificate for the node's own key whose time is over, by openssl.
fn expired(house: &House) {
    let text = "[ca]\ndefault_ca=c\n[c]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sm3\npolicy=p\n\
                x509_extensions=e\n[p]\ncommonName=supplied\n[e]\nkeyUsage=critical,digitalSignature,nonRepudiation\n";
    fs::write(house.at("ca.cnf"), text).expect("a file");
    let command = "touch index && echo 01 > serial && openssl ca -batch -notext -config ca.cnf -cert root.pem -keyfile root.key \
                   -in node/node.csr -out node/node.pem -startdate 20200101000000Z -enddate 20210101000000Z \
                   -sigopt distid:1234567812345678 -vfyopt distid:1234567812345678";
    program::shell(command, &house.at(".")).expect(0);
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "a key that others may read",
        make: |house| {
            fs::set_permissions(house.at("node/node.key"), fs::Permissions::from_mode(0o644)).expect("a mode")
        },
        fails: &["node_key"],
        says: "0644",
    },
    Fault { name: "no salt", make: |house| move_away(house, "node/salt"), fails: &["salt"], says: "salt" },
    Fault {
        name: "no certificate",
        make: |house| move_away(house, "node/node.pem"),
        fails: &["certificate"],
        says: "node.pem",
    },
    Fault {
        name: "a certificate whose time is over",
        make: expired,
        // The root of this house is younger than it.
        fails: &["certificate", "certificate_time"],
        says: "2021-01-01T00:00:00Z",
    },
    Fault {
        name: "somebody else's certificate",
        make: |house| assert!(fs::copy(house.at("platform.pem"), house.at("node/node.pem")).is_ok()),
        fails: &["certificate", "key_fits"],
        says: "another key",
    },
    Fault {
        name: "a platform's certificate that nobody vouches for",
        make: |house| configured(house, "trust = [\"trust.pem\"]", "trust = [\"platform.pem\"]"),
        fails: &["certificate"],
        says: "s1/n1",
    },
    Fault {
        name: "another node's ledger",
        make: |house| configured(house, "name = \"n1\"", "name = \"n2\""),
        fails: &["certificate", "ledger"],
        says: "s1/n1",
    },
    Fault { name: "no ledger", make: |house| move_away(house, "node/ledger"), fails: &["ledger"], says: "no ledger" },
    Fault {
        name: "a command that is not there",
        make: |house| fs::remove_file(house.at("provision.sh")).expect("a file"),
        fails: &["places"],
        says: "provision.sh",
    },
    Fault {
        name: "a helper that is not there",
        make: |house| configured(house, "[provision]\n", "[provision]\nsocket = \"none.sock\"\n#"),
        fails: &["configuration"],
        says: "exclude",
    },
    Fault {
        name: "a key nobody knows",
        make: |house| configured(house, "sample_ms", "sample_milliseconds"),
        fails: &["configuration"],
        says: "sample_milliseconds",
    },
];

#[test]
fn each_fault_is_named_by_its_own_check() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    for fault in FAULTS {
        println!("{}", fault.name);
        let house = House::new(broker.port());
        (fault.make)(&house);
        let ran = doctor(&house);
        let checks = judged(&ran);
        assert_eq!(of(&checks, "fail"), fault.fails, "{}: {checks:#?}", fault.name);
        let said = checks[*fault.fails.last().expect("a check")]["actual"].as_str().expect("words").to_owned();
        assert!(said.contains(fault.says), "{}: {said}", fault.name);
        let shown = hufu(&["doctor", "--config", &house.path("node/hufu.toml")]).expect(1).stdout;
        for id in fault.fails {
            assert!(shown.contains(&format!("FAIL {id}: ")), "{shown}");
        }
        if fault.name == "no ledger" {
            assert!(!house.at("node/ledger").exists(), "no ledger is made because one is missing");
        }
    }
}

#[test]
fn a_broker_that_is_away_mute_or_no_broker_is_said_in_time() {
    let house = House::new(free_port());
    let checks = judged(&doctor(&house));
    assert_eq!(of(&checks, "fail"), ["broker"], "{checks:#?}");
    // Takes connections and never says a word.
    let mute = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    house.point_at(&format!("127.0.0.1:{}", mute.local_addr().expect("an address").port()));
    let config = house.path("node/hufu.toml");
    let mut timed = program::command("timeout");
    timed.arg("60").arg(program::ours("hufu")).args(["doctor", "--json", "--config", &config]);
    let checks = judged(&program::run(&mut timed));
    assert_eq!(of(&checks, "fail"), ["broker"], "{checks:#?}");
    // A daemon without its broker goes on, and says so.
    let _agent = house.agent();
    let checks = judged(&doctor(&house));
    assert_eq!((of(&checks, "fail"), checks["agent"]["state"].as_str()), (vec!["broker".to_owned()], Some("warn")));
}

#[test]
fn a_mark_of_what_is_missing_is_a_warning() {
    let house = House::new(free_port());
    fs::write(house.at("node/ledger/behind"), "trade: 2 of 9 blocks").expect("a file");
    let checks = judged(&doctor(&house));
    assert_eq!(checks["ledger_behind"]["state"], "warn");
    assert_eq!(checks["ledger_behind"]["actual"], "trade: 2 of 9 blocks");
}

#[test]
fn a_full_disk_in_memory_keeps_no_ledger() {
    let house = House::new(free_port());
    let (ledger, config) = (house.path("node/ledger"), house.path("node/hufu.toml"));
    let hufu = program::ours("hufu");
    // A mount of this test's own; where that is not allowed, /dev/shm shows the half of it that needs none.
    let inside = format!(
        "cp -r {ledger} {ledger}.kept && mount -t tmpfs -o size=256k none {ledger} && cp -r {ledger}.kept/. {ledger} && \
         {{ head -c 1000000 /dev/zero > {ledger}/fill; }} 2> /dev/null; exec {} doctor --json --config {config}",
        hufu.display()
    );
    let ran = program::run(program::command("unshare").args(["-rm", "sh", "-c", &inside]));
    let checks = if ran.code == 0 || ran.code == 1 && ran.stdout.starts_with('{') {
        let checks = judged(&ran);
        assert_eq!(checks["disk_space"]["state"], "fail", "{checks:#?}");
        checks
    } else {
        let shm = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        configured(&house, "[mqtt]\n", &format!("[ledger]\ndir = \"{}\"\n[mqtt]\n", shm.path().display()));
        judged(&doctor(&house))
    };
    assert_eq!((&checks["filesystem"]["state"], &checks["filesystem"]["actual"]), (&"fail".into(), &"tmpfs".into()));
}
