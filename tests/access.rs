//! The access lists that are shipped for brokers: a real mosquitto with the shipped configuration lets each node and the platform do
//! what IF2 asks, and nothing in another's name, and a trade goes through it; the list for EMQX names the same topics.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use hufu_tests::{
    broker::free_port,
    house::House,
    program::{Daemon, code, command, run},
    trade::{bill, buy},
    tree, wait,
};

const USERS: [&str; 3] = ["platform", "n1", "n2"];

/// The shipped files in a folder, with its paths and a port of this test; the broker that runs them.
fn broker(folder: &Path, port: u16) -> Daemon {
    let at = |name: &str| folder.join(name).display().to_string();
    fs::write(at("hufu.passwd"), "").expect("a file");
    for user in USERS {
        run(command("mosquitto_passwd").args(["-b", &at("hufu.passwd"), user, user])).expect(0);
    }
    fs::write(at("hufu.acl"), tree::read("packaging/broker/mosquitto.acl")).expect("an access list");
    // `user` counts only where the test runs as root.
    let told = tree::read("packaging/broker/mosquitto.conf")
        .replace("\nlistener 1883\n", &format!("\nlistener {port} 127.0.0.1\n"))
        .replace("/etc/mosquitto/", &format!("{}/", folder.display()));
    // As Debian includes what lies in conf.d.
    fs::create_dir(at("conf.d")).expect("a folder");
    fs::write(at("conf.d/hufu.conf"), told).expect("a configuration");
    let folder_text = folder.display();
    let whole = format!(
        "persistence true\npersistence_location {folder_text}/\nlog_dest stderr\nuser root\ninclude_dir {folder_text}/conf.d\n"
    );
    fs::write(at("mosquitto.conf"), whole).expect("a configuration");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut program = command("mosquitto");
    program.env("PATH", format!("{path}:/usr/sbin:/sbin")).args(["-c", &at("mosquitto.conf")]);
    let mut daemon = Daemon::start(&mut program, &folder.join("broker.log"));
    wait::until_true("mosquitto listens", 20, || {
        daemon.must_run();
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    daemon
}

fn client(program: &str, port: u16, user: &str, more: &[&str]) -> Command {
    let port = port.to_string();
    let mut client = command(program);
    client.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-u", user, "-P", user]).args(more);
    client
}

#[test]
fn the_access_list_for_mosquitto_lets_nobody_speak_or_hear_for_another() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_port();
    let broker = broker(folder.path(), port);
    let heard = |user: &str| folder.path().join(format!("{user}.heard"));
    let all = ["-t", "hufu/#", "-F", "%t %p"];
    let listeners = USERS.map(|user| Daemon::start(&mut client("mosquitto_sub", port, user, &all), &heard(user)));
    let publish = |user: &str, topic: &str, message: &str| {
        run(&mut client("mosquitto_pub", port, user, &["-t", topic, "-m", message])).expect(0);
    };
    // Each hears what is meant for it, so it is there; then what is sent before a mark has come when the mark has.
    for (user, by, topic) in [
        ("platform", "n1", "hufu/v1/s1/n1/up/bill-push"),
        ("n1", "platform", "hufu/v1/s1/n1/down/browse"),
        ("n2", "platform", "hufu/v1/s1/n2/down/browse"),
    ] {
        let line = format!("{topic} there");
        wait::until_true(user, 20, || {
            publish(by, topic, "there");
            fs::read_to_string(heard(user)).is_ok_and(|text| text.contains(&line))
        });
    }
    // Who publishes, which topic, and who of the three hears it.
    let rows: [(&str, &str, &[&str]); 23] = [
        ("n1", "hufu/v1/s1/n1/presence", &["platform"]),
        ("n1", "hufu/v1/s1/n1/products", &["platform"]),
        ("n1", "hufu/v1/s1/n1/up/blocks", &["platform"]),
        ("n1", "hufu/v1/s1/n1/down/order/re", &["platform"]),
        ("platform", "hufu/v1/s1/n1/down/order", &["n1"]),
        ("platform", "hufu/v1/s1/n2/down/order", &["n2"]),
        ("platform", "hufu/v1/s1/n1/up/blocks/re", &["n1"]),
        ("platform", "hufu/v1/s1/platform/state", &["platform", "n1", "n2"]),
        ("n2", "hufu/v1/s1/n1/presence", &[]),
        ("n2", "hufu/v1/s1/n1/products", &[]),
        ("n2", "hufu/v1/s1/n1/up/blocks", &[]),
        ("n2", "hufu/v1/s1/n1/down/order", &[]),
        ("n2", "hufu/v1/s1/n1/down/order/re", &[]),
        ("n2", "hufu/v1/s1/n1/up/blocks/re", &[]),
        ("n2", "hufu/v1/s1/platform/state", &[]),
        ("n2", "hufu/v1/s2/n2/up/blocks", &[]),
        ("n1", "hufu/v1/s1/n1/down/order", &[]),
        ("n1", "hufu/v1/s1/n1/up/blocks/re", &[]),
        ("n1", "hufu/v1/s1/n1/up/blocks/more", &[]),
        ("platform", "hufu/v1/s1/n1/presence", &[]),
        ("platform", "hufu/v1/s1/n1/products", &[]),
        ("platform", "hufu/v1/s1/n1/up/blocks", &[]),
        ("platform", "hufu/v1/s2/n1/down/order", &[]),
    ];
    for (number, (user, topic, _)) in rows.iter().enumerate() {
        publish(user, topic, &format!("row {number}"));
    }
    for (user, by, topic) in [
        ("platform", "n1", "hufu/v1/s1/n1/up/bill-push"),
        ("n1", "platform", "hufu/v1/s1/n1/down/browse"),
        ("n2", "platform", "hufu/v1/s1/n2/down/browse"),
    ] {
        publish(by, topic, "over");
        wait::until_true(user, 20, || fs::read_to_string(heard(user)).is_ok_and(|text| text.contains(" over\n")));
    }
    for (number, (by, topic, hearers)) in rows.iter().enumerate() {
        let line = format!("{topic} row {number}\n");
        let found: Vec<&str> = ["platform", "n1", "n2"]
            .into_iter()
            .filter(|user| fs::read_to_string(heard(user)).is_ok_and(|text| text.contains(&line)))
            .collect();
        assert_eq!(&found, hearers, "{by} publishes {topic}: {}", broker.said());
    }
    // Nobody without a name, nobody with another's password, nothing that is larger than the limit.
    let status = |mut program: Command| code(program.output().expect("a client").status);
    let (port_text, to) = (port.to_string(), "hufu/v1/s1/n1/up/blocks");
    let mut nameless = command("mosquitto_pub");
    nameless.args(["-h", "127.0.0.1", "-p", &port_text, "-q", "1", "-t", to, "-m", "x"]);
    assert_ne!(status(nameless), 0, "without a name");
    let mut other = command("mosquitto_pub");
    other.args(["-h", "127.0.0.1", "-p", &port_text, "-q", "1", "-u", "n1", "-P", "n2", "-t", to, "-m", "x"]);
    assert_ne!(status(other), 0, "with another's password");
    let large = folder.path().join("large");
    fs::write(&large, vec![b'x'; 131_073]).expect("a file");
    status(client("mosquitto_pub", port, "n1", &["-t", to, "-f", &large.display().to_string()]));
    publish("n1", to, "after the large one");
    wait::until_true("what comes behind it", 20, || {
        fs::read_to_string(heard("platform")).is_ok_and(|text| text.contains("after the large one\n"))
    });
    let text = fs::read_to_string(heard("platform")).expect("what was heard");
    assert!(!text.contains("xxxx"), "the broker refuses what is larger");
    drop(listeners);
}

#[test]
fn a_trade_goes_through_the_shipped_configuration() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_port();
    let _broker = broker(folder.path(), port);
    let house = House::new(port);
    let password = |user: &str| {
        let path = folder.path().join(format!("{user}.password"));
        fs::write(&path, format!("{user}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        path.display().to_string()
    };
    let config = house.at("node/hufu.toml");
    let plain = fs::read_to_string(&config).expect("a configuration");
    let named = format!("[mqtt]\nusername = \"n1\"\npassword = \"{}\"\n", password("n1"));
    fs::write(&config, plain.replacen("[mqtt]\n", &named, 1)).expect("a configuration");
    let address = format!("127.0.0.1:{port}");
    let secret = password("platform");
    let (_platform, url, _) =
        house.platform(&["--broker", &address, "--broker-user", "platform", "--broker-password", &secret]);
    let mut agent = house.agent();
    let contract = buy(&house, &url, "c1", "6s");
    wait::until_true("the bill is at the platform", 90, || bill(&house, &contract).is_some());
    assert_eq!(agent.signal("TERM"), 0, "{}", agent.said());
    wait::until_true("the platform hears that it left", 30, || {
        house.held("nodes").iter().any(|node| node["presence"] == "offline")
    });
}

#[test]
fn the_list_for_emqx_names_the_same_topics() {
    let mosquitto = tree::read("packaging/broker/mosquitto.acl");
    let (mut one, mut who) = (BTreeSet::new(), "all");
    for line in mosquitto.lines().filter(|line| !line.starts_with('#')) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["user", user] => who = user,
            ["topic", right, topic] => drop(one.insert((who.to_owned(), right == "write", topic.to_owned()))),
            ["pattern", right, topic] => {
                one.insert(("all".to_owned(), right == "write", topic.replace("%u", "${username}")));
            }
            _ => assert!(line.is_empty(), "{line}"),
        }
    }
    let mut other = BTreeSet::new();
    let emqx = tree::read("packaging/broker/emqx-acl.conf");
    for line in emqx.lines().filter(|line| line.starts_with("{allow")) {
        let (head, topics) = line.split_once('[').expect("a list of topics");
        let who = if head.contains("\"platform\"") { "platform" } else { "all" };
        assert!(head.contains(", publish, ") != head.contains(", subscribe, ") && line.ends_with("]}."), "{line}");
        let topics = topics.split('"').skip(1).step_by(2);
        other.extend(topics.map(|topic| (who.to_owned(), head.contains(", publish, "), topic.to_owned())));
    }
    assert_eq!(one, other);
    assert!(emqx.trim_end().ends_with("{deny, all}."), "what is not allowed is denied");
    assert_eq!(one.len(), 19);
}
