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
