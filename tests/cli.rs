//! Bad input: one clear line on stderr naming what and where, the exit status of the contract, nothing on stdout, nothing
//! half-written.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use hufu_tests::{
    broker::free_port,
    house::House,
    program::{self, Ran, hufu},
    wait,
};

/// What every failure must look like.
fn refused(ran: Ran, code: i32, names: &str) {
    let ran = ran.expect(code);
    let said = ran.stderr.trim_end();
    assert_eq!(said.lines().count(), 1, "{}: one line expected: {said:?}", ran.line);
    assert!(said.contains(names), "{}: {said:?} does not name {names:?}", ran.line);
    assert!(ran.stdout.is_empty(), "{}: stdout is not empty: {:?}", ran.line, ran.stdout);
}

#[test]
fn wrong_usage_is_2_for_both_programs() {
    for (name, arguments, names) in [
        ("no command", &[][..], "--help"),
        ("an unknown command", &["sell"], "sell"),
        ("an unknown flag", &["status", "--fast"], "--fast"),
        ("an unknown flag with --json", &["--json", "capacity", "--fast"], "--fast"),
        ("a missing argument", &["key", "new"], "--out"),
        ("a value that does not fit", &["meter", "--pid", "x"], "--pid"),
        ("a language nobody speaks", &["--lang", "fr", "capacity"], "fr"),
        ("no trust anchor", &["verify", "x.zip"], "--trust"),
    ] {
        println!("{name}");
        refused(hufu(arguments), 2, names);
    }
    refused(program::platform(&["sell"]), 2, "sell");
    refused(program::platform(&["bills", "--fast"]), 2, "--fast");
}

#[test]
fn what_cannot_be_said_is_74() {
    for line in ["hufu --help", "hufu --version", "hufu --lang zh ledger --help", "hufu-platform --help"] {
        let (name, rest) = line.split_once(' ').expect("two words");
        let shown = program::ours(name);
        let ran = program::shell(&format!("{} {rest} > /dev/full", shown.display()), std::path::Path::new("/"));
        refused(ran, 74, "stdout");
    }
}

#[test]
fn a_tariff_without_a_price_is_65() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [("empty.toml", ""), ("comment.toml", "# nothing\n"), ("bytes.toml", "\u{1}")] {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        refused(hufu(&["meter", "--tariff", path.to_str().expect("text"), "--", "true"]), 65, name);
    }
}

#[test]
fn help_and_version_are_no_failures() {
    for arguments in [["--help"], ["--version"]] {
        assert!(hufu(&arguments).expect(0).stdout.contains("hufu"));
        assert!(program::platform(&arguments).expect(0).stdout.contains("hufu-platform"));
    }
}

#[test]
fn a_configuration_that_is_absent_is_74_and_one_that_is_wrong_78() {
    let house = House::new(free_port());
    let config = house.path("node/hufu.toml");
    let absent = house.path("node/absent.toml");
    refused(hufu(&["check-config", "--config", &absent]), 74, "absent.toml");
    refused(hufu(&["agent", "--config", &absent]), 74, "absent.toml");
    let good = fs::read_to_string(&config).expect("a configuration");
    hufu(&["check-config", "--config", &config]).expect(0);
    for (name, text, names) in [
        ("not TOML", good.replace("[node]", "[node"), "hufu.toml"),
        ("an unknown key", good.replace("sample_ms", "sample_milliseconds"), "sample_milliseconds"),
        ("no broker", good.replace("host = \"127.0.0.1\"", "host = \"\""), "mqtt.host"),
        ("a bad name", good.replace("name = \"n1\"", "name = \"N.1\""), "node.name"),
        ("a window that does not divide a day", good.replace("window_s = 2", "window_s = 7"), "window_s"),
        ("a product twice", format!("{good}{}", &good[good.find("\n[[product]]").expect("a product")..]), "twice"),
        ("a resource nobody knows", good.replace("resource = \"cpu\"", "resource = \"luck\""), "luck"),
        ("a price that is none", good.replace("price = \"100\"", "price = \"1e3\""), "price"),
    ] {
        println!("{name}");
        fs::write(&config, &text).expect("a configuration");
        refused(hufu(&["check-config", "--config", &config]), 78, names);
        refused(hufu(&["--json", "agent", "--config", &config]), 78, names);
    }
    fs::write(&config, [good.as_bytes(), b"# \xff\n"].concat()).expect("a configuration");
    for command in ["check-config", "agent", "status", "products"] {
        refused(hufu(&[command, "--config", &config]), 78, "UTF-8");
    }
    fs::write(&config, &good).expect("a configuration");
    fs::write(house.at("node/platform.pem"), b"\xff").expect("a file");
    refused(hufu(&["check-config", "--config", &config]), 78, "platform.pem");
}

#[test]
fn a_key_that_others_may_read_is_78_and_one_that_is_not_there_74() {
    let house = House::new(free_port());
    let config = house.path("node/hufu.toml");
    let check = || hufu(&["check-config", "--config", &config]);
    for name in ["node/node.key", "node/salt"] {
        let path = house.at(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
        refused(check(), 78, &house.path(name));
        refused(hufu(&["agent", "--config", &config]), 78, "chmod 600");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        fs::rename(&path, house.at("aside")).expect("a file");
        refused(check(), 74, &house.path(name));
        fs::rename(house.at("aside"), &path).expect("a file");
    }
    fs::write(house.at("node/node.key"), "no key\n").expect("a file");
    refused(check(), 65, "node.key");
}

#[test]
fn a_ledger_in_use_is_74_and_stays_as_it_is() {
    let house = House::new(free_port());
    let config = house.path("node/hufu.toml");
    let mut first = house.agent();
    refused_daemon(hufu(&["agent", "--config", &config]), 74, "in use");
    first.must_run();
    assert!(house.try_status().is_some(), "the first agent still answers");
    assert_eq!(first.signal("TERM"), 0, "a daemon that is told to stop has done its work");
    house.check_ledger();
}

/// A daemon may log before it fails; its last line is the one that counts.
fn refused_daemon(ran: Ran, code: i32, names: &str) {
    let ran = ran.expect(code);
    let last = ran.stderr.lines().last().unwrap_or_default();
    assert!(last.contains(names), "{}: {last:?} does not name {names:?}", ran.line);
    assert!(ran.stdout.is_empty(), "{}: stdout is not empty: {:?}", ran.line, ran.stdout);
}

#[test]
fn without_a_broker_the_daemon_runs_and_says_so() {
    let house = House::new(free_port());
    let mut agent = house.agent();
    let at = || house.try_status().map(|status| (status["at"].to_string(), status["linked"].clone()));
    let first = at().expect("a status");
    assert_eq!(first.1, false);
    wait::until_true("it goes on answering", 10, || at().is_some_and(|later| later.0 > first.0 && later.1 == false));
    assert_eq!(agent.signal("INT"), 130, "Ctrl-C");
    house.check_ledger();
}

#[test]
fn nobody_there_is_69_for_commands_that_ask_once() {
    let house = House::new(free_port());
    refused(hufu(&["status", "--config", &house.path("node/hufu.toml")]), 69, "hufu.sock");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    refused(house.buyer("browse", &nobody, "c1", &[]), 69, &nobody);
}

#[test]
fn a_port_in_use_is_74() {
    let house = House::new(free_port());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = house.platform_command(&["--listen", &address, "--embedded-broker"]);
    let ran = program::run(&mut command).expect(74);
    assert!(ran.stderr.contains(&address), "{}", ran.stderr);
}

#[test]
fn a_platform_under_another_name_does_not_start() {
    let house = House::new(free_port());
    let (key, cert, trust) = (house.path("platform.key"), house.path("platform.pem"), house.path("root.pem"));
    let files = ["--key", &key, "--cert", &cert, "--trust", &trust, "--listen", "127.0.0.1:0", "--embedded-broker"];
    let dir = house.path("other");
    let ran = program::platform(&[&["serve", "--json", "--site", "s2", "--dir", &dir][..], &files].concat());
    refused_daemon(ran, 78, "it must name s2/platform");
}

#[test]
fn a_pack_that_is_no_pack_is_65_and_one_that_is_not_there_74() {
    let house = House::new(free_port());
    let trust = house.path("root.pem");
    let pack = house.path("x.zip");
    let verify = || hufu(&["verify", &pack, "--trust", &trust, "--json"]);
    refused(verify(), 74, "x.zip");
    let mut foreign = hufu_tests::pack::Members::new();
    foreign.insert("hello.txt".to_owned(), b"hello".to_vec());
    hufu_tests::pack::write(&house.at("foreign.zip"), &foreign);
    let whole = fs::read(house.at("foreign.zip")).expect("a zip");
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("not a zip", b"PK or not"),
        ("another zip", &whole),
        ("a zip cut short", &whole[..whole.len() - 10]),
    ] {
        println!("{name}");
        fs::write(&pack, bytes).expect("a file");
        refused(verify(), 65, "x.zip");
    }
}

#[test]
fn reports_and_disputes_need_packs_and_say_which_is_none() {
    let house = House::new(free_port());
    let (trust, page) = (house.path("root.pem"), house.path("page.html"));
    let (absent, junk) = (house.path("absent.zip"), house.path("junk.zip"));
    let mut foreign = hufu_tests::pack::Members::new();
    foreign.insert("hello.txt".to_owned(), b"hello".to_vec());
    hufu_tests::pack::write(&house.at("foreign.zip"), &foreign);
    let foreign = house.path("foreign.zip");
    fs::write(&junk, "PK or not").expect("a file");
    for (arguments, code, names) in [
        (&["report"][..], 2, "PACK"),
        (&["report", &junk, "-o", &page], 2, "--trust"),
        (&["report", &junk, "--trust", &trust], 2, "--output"),
        (&["report", &junk, "--trust", &trust, "-o", &page, "--fast"], 2, "--fast"),
        (&["report", &absent, "--trust", &trust, "-o", &page], 74, "absent.zip"),
        (&["report", &house.path("node"), "--trust", &trust, "-o", &page], 74, "node"),
        (&["report", &junk, "--trust", &absent, "-o", &page], 74, "absent.zip"),
        (&["report", &junk, "--trust", &junk, "-o", &page], 65, "junk.zip"),
        (&["report", &junk, "--trust", &trust, "-o", &page], 65, "junk.zip"),
        (&["report", &foreign, "--trust", &trust, "-o", &page], 65, "foreign.zip"),
        (&["report", "/dev/zero", "--trust", &trust, "-o", &page], 65, "/dev/zero"),
        (&["dispute"], 2, "A.zip"),
        (&["dispute", &junk], 2, "B.zip"),
        (&["dispute", &junk, &foreign, &absent], 2, "absent.zip"),
        (&["dispute", &absent, &junk], 74, "absent.zip"),
        (&["dispute", &junk, &absent], 74, "absent.zip"),
        (&["dispute", &foreign, &junk], 65, "foreign.zip"),
        (&["dispute", &junk, &foreign, "--trust", &absent], 74, "absent.zip"),
        (&["dispute", &junk, &foreign, "--trust", &foreign], 65, "foreign.zip"),
    ] {
        refused(hufu(arguments), code, names);
        refused(hufu(&[&["--json"], arguments].concat()), code, names);
    }
    assert!(!house.at("page.html").exists() && !house.at("page.html.new").exists(), "no page of no pack");
}

#[test]
fn the_papers_model_takes_no_nonsense() {
    for (arguments, names) in [
        (&["risk"][..], "--attacker"),
        (&["risk", "--attacker", "1.5"], "--attacker"),
        (&["risk", "--attacker=-0.1"], "--attacker"),
        (&["risk", "--attacker", "nan"], "--attacker"),
        (&["risk", "--attacker", "a tenth"], "--attacker"),
        (&["risk", "--attacker", "0.1", "--blocks", "-1"], "-1"),
        (&["risk", "--attacker", "0.1", "--blocks", "1000000000001"], "--blocks"),
        (&["cost", "--bandwidth", "0"], "--bandwidth"),
        (&["cost", "--nodes", "0"], "--nodes"),
        (&["cost", "--repeat", "0"], "--repeat"),
        (&["cost", "--repeat", "1001"], "--repeat"),
        (&["cost", "1"], "1"),
    ] {
        refused(hufu(&[&["ledger"], arguments].concat()), 2, names);
    }
}

#[test]
fn the_papers_model_says_what_it_computed() {
    let risk = |more: &[&str]| hufu(&[&["--json", "ledger", "risk"], more].concat()).expect(0).json();
    // The first two are in section 11 of Nakamoto's paper: q = 0.3, z = 5 and q = 0.1, z = 10.
    for (arguments, reading, formula) in [
        (&["--attacker", "0.3", "--blocks", "5"][..], "1.773523114e-1", 1),
        (&["--attacker", "0.1", "--blocks", "10", "--attacker-blocks", "10"], "1.241402175e-6", 2),
        (&["--attacker", "0.1"], "3.455243466e-3", 1),
        (&["--attacker", "0.1", "--blocks", "1000"], "3.20e-569", 1),
        (&["--attacker", "0", "--blocks", "3"], "0", 1),
        (&["--attacker", "0.2", "--blocks", "1000000000000"], "1.50e-276339129901", 1),
    ] {
        let said = risk(arguments);
        assert_eq!(said["reading"]["probability"], reading, "{said}");
        assert_eq!(said["printed"]["formula"], formula, "{said}");
    }
    let said = risk(&["--attacker", "0.5"]);
    assert_eq!((&said["reading"]["probability"], said["printed"].is_null()), (&"1".into(), true), "{said}");
    assert!(hufu(&["ledger", "risk", "--attacker", "0.1"]).expect(0).stdout.contains("4.091462520e-3"));
    let zh = hufu(&["--lang", "zh", "ledger", "risk", "--attacker", "0.1"]).expect(0).stdout;
    assert!(zh.contains("见证") && zh.contains("3.455243466e-3"), "{zh}");

    let cost = ["--json", "ledger", "cost", "--repeat", "3", "--bandwidth", "1000000", "--nodes", "2"];
    let said = hufu(&cost).expect(0).json();
    let number =
        |value: &serde_json::Value| value.as_str().and_then(|text| text.parse::<f64>().ok()).expect("a number");
    let blocks = said["blocks"].as_array().expect("blocks");
    let kinds: Vec<_> = blocks.iter().filter_map(|block| block["kind"].as_str()).collect();
    assert_eq!(kinds, ["browse", "order", "deal", "score"]);
    let bytes: f64 = blocks.iter().map(|block| number(&block["bytes"])).sum();
    assert!(blocks.iter().all(|block| number(&block["make_ns"]) > 0.0 && number(&block["verify_ns"]) > 0.0), "{said}");
    let production = number(&said["printed"]["production_s"]);
    assert!((production - bytes * 8.0 * 2.0 / 1e6).abs() < 1e-8, "{said}");
    let sum = production + number(&said["printed"]["validation_s"]);
    assert!((number(&said["printed"]["total_s"]) - sum).abs() < 1e-8, "{said}");
    assert!((number(&said["reading"]["total_s"]) - sum - number(&said["reading"]["making_s"])).abs() < 1e-8, "{said}");
    let said = hufu(&["--json", "ledger", "cost", "--repeat", "1"]).expect(0).json();
    assert!(said["printed"]["total_s"].is_null() && said["blocks"][0]["line_s"].is_null(), "{said}");
    assert!(hufu(&["ledger", "cost", "--repeat", "1"]).expect(0).stdout.contains("deal"));
}

#[test]
fn a_place_that_cannot_be_written_is_74_and_nothing_is_left_behind() {
    let house = House::new(free_port());
    fs::write(house.at("file"), "").expect("a file");
    let inside = house.path("file/node");
    let (trust, platform) = (house.path("root.pem"), house.path("platform.pem"));
    let named = ["--site", "s1", "--node", "n2", "--broker", "127.0.0.1:1883", "--trust", &trust, "--platform-cert"];
    refused(hufu(&[&["init", "--dir", &inside][..], &named, &[&platform]].concat()), 74, &inside);
    refused(hufu(&["key", "new", "--out", &house.path("file/x.key")]), 74, "x.key");
    refused(hufu(&["key", "new", "--out", &house.path("absent/x.key")]), 74, "x.key");
    assert!(!house.at("absent").exists());
}

#[test]
fn init_never_overwrites_a_node() {
    let house = House::new(free_port());
    let before = fs::metadata(house.at("node/node.key")).expect("a key").ino();
    let dir = house.path("node");
    let (trust, platform) = (house.path("root.pem"), house.path("platform.pem"));
    let named = ["--site", "s1", "--node", "n1", "--broker", "127.0.0.1:1883", "--trust", &trust, "--platform-cert"];
    refused(hufu(&[&["init", "--dir", &dir][..], &named, &[&platform]].concat()), 74, &dir);
    refused(hufu(&["init", "--dir", &dir, "--cert", &house.path("n1.pem")]), 74, "node.pem");
    refused(hufu(&["key", "new", "--out", &house.path("node/node.key")]), 74, "node.key");
    assert_eq!(fs::metadata(house.at("node/node.key")).expect("a key").ino(), before);
    house.check_ledger();
}

#[test]
fn a_missing_ledger_is_never_made_by_the_daemon() {
    let house = House::new(free_port());
    fs::rename(house.at("node/ledger"), house.at("aside")).expect("a ledger");
    refused_daemon(hufu(&["agent", "--config", &house.path("node/hufu.toml")]), 74, "ledger");
    assert!(!house.at("node/ledger").exists());
    refused(hufu(&["ledger", "check", &house.path("node/ledger")]), 74, "node/ledger");
}

#[test]
fn ctrl_c_ends_the_platform_with_130() {
    let house = House::new(free_port());
    let (mut serve, ..) = house.platform(&["--embedded-broker"]);
    assert_eq!(serve.signal("INT"), 130);
}
