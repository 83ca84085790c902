//! A node that asks an LDAP directory about its buyers: Debian's `slapd`, a buyer whose certificate is revoked, and the directory gone.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::fs;

use hufu_tests::{
    broker::{Memory, Mosquitto, free_port},
    house::{House, NODE, PRODUCT},
    program::hufu,
    slapd::{BASE, Slapd, authority},
    trade::{buy, text},
    wait,
};
use serde_json::Value;

/// A list of the root that revokes these certificates, in a directory of its own.
fn serving(house: &House, port: u16, number: &str, revoked: &[&str]) -> Slapd {
    let (ca, key) = (house.path("root.pem"), house.path("root.key"));
    let list = house.path(&format!("root-{number}.crl"));
    let revoked: Vec<String> = revoked.iter().map(|name| house.path(name)).collect();
    let mut words = vec!["pki", "crl", "--ca", &ca, "--ca-key", &key, "--number", number, "--out", &list];
    words.extend(revoked.iter().flat_map(|path| ["--revoke", path.as_str()]));
    hufu(&words).expect(0);
    let entries = authority("test-root", &house.at("root.pem"), &house.at(&format!("root-{number}.crl")));
    Slapd::start(&house.at(&format!("slapd-{number}")), port, &entries)
}

/// What the node says of the one list that it needs, once it is as wanted.
fn list(house: &House, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, 90, || {
        let lists = house.try_status()?["directory"]["lists"].as_array()?.clone();
        lists.into_iter().find(|list| list["of"] == "CN=test-root,C=CN" && is_wanted(list))
    })
}

fn doctor(house: &House) -> Value {
    let ran = hufu(&["doctor", "--json", "--config", &house.path("node/hufu.toml")]);
    let checks = ran.json()["checks"].as_array().cloned().expect("checks");
    checks.into_iter().find(|check| check["id"] == "directory").expect("a check of the directory")
}

/// A browse of the buyer with papers of its own: exit status and what was said.
fn browse(house: &House, url: &str, state: &str) -> (i32, String) {
    let ran = house.buyer("browse", url, state, &["--node", NODE, "--product", PRODUCT]);
    (ran.code, ran.stderr)
}

#[test]
fn a_buyer_that_was_taken_back_gets_no_offer_and_the_cache_says_so_on() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port());
    let port = free_port();
    let config = house.at("node/hufu.toml");
    let plain = fs::read_to_string(&config).expect("a configuration");
    let asks = format!("\n[directory]\nurl = \"ldap://127.0.0.1:{port}/{BASE}\"\nrefresh_s = 10\nmax_age_s = 86400\n");
    fs::write(&config, plain.clone() + &asks).expect("a configuration");
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);

    // Nobody answers and nothing is remembered: the node does not guess, and says what is the matter.
    let mut agent = house.agent();
    wait::until_true("the alarm", 60, || {
        let status = house.try_status();
        status
            .is_some_and(|s| s["alarms"].as_array().is_some_and(|all| all.iter().any(|one| one["what"] == "directory")))
    });
    wait::until_true("the platform has the catalogue", 60, || !house.held("products").is_empty());
    let said = wait::until("an answer of the node", 60, || {
        let (code, said) = browse(&house, &url, "c0");
        assert_eq!(code, 69, "{said}");
        said.contains("revocation list").then_some(said)
    });
    assert!(said.contains("CN=test-root"), "{said}");
    assert_eq!(doctor(&house)["state"], "fail");

    let server = serving(&house, port, "1", &["platform.pem"]);
    list(&house, "the list", |list| list["cached_because"].is_null());
    buy(&house, &url, "c1", "5s");
    assert_eq!(doctor(&house)["state"], "ok");
    let shown = hufu(&["status", "--config", &house.path("node/hufu.toml")]).expect(0).stdout;
    assert!(shown.contains("revocation list of CN=test-root,C=CN: fetched"), "{shown}");

    // The directory is away, and what the cache has is too old to be believed.
    drop(server);
    assert_eq!(agent.signal("TERM"), 0);
    fs::write(&config, plain.clone() + &asks.replace("86400", "10")).expect("a configuration");
    let mut agent = house.agent();
    list(&house, "an old list", |list| text(list, "age_s").parse::<u64>().is_ok_and(|age_s| age_s > 10));
    wait::until_true("it is too old", 60, || browse(&house, &url, "c2").1.contains("too long ago"));
    assert_eq!(agent.signal("TERM"), 0);
    fs::write(&config, plain + &asks).expect("a configuration");
    let mut agent = house.agent();

    // A new list takes the buyer back; the node sees it by itself.
    let server = serving(&house, port, "2", &["platform.pem", "buyer.pem"]);
    let (code, said) = wait::until("the buyer is refused", 90, || {
        let (code, said) = browse(&house, &url, &format!("c3-{}", free_port()));
        (code == 1).then_some((code, said))
    });
    assert!(code == 1 && said.contains("revoked"), "{said}");

    // The directory is gone, and the agent was started again: the cache knows, and says how old it is and why it is asked.
    drop(server);
    assert_eq!(agent.signal("TERM"), 0);
    let mut agent = house.agent();
    let kept = list(&house, "the list from the cache", |list| list["cached_because"].is_string());
    assert!(text(&kept, "cached_because").contains("cannot be reached") && kept["age_s"].is_string(), "{kept}");
    let (code, said) = wait::until("the node answers", 60, || {
        let (code, said) = browse(&house, &url, "c4");
        (code != 69).then_some((code, said))
    });
    assert!(code == 1 && said.contains("revoked"), "{said}");
    assert_eq!(doctor(&house)["state"], "warn");
    assert_eq!(agent.signal("TERM"), 0);
}

#[test]
fn a_wrong_directory_is_said_before_anything_starts() {
    let house = House::new(1);
    let config = house.at("node/hufu.toml");
    let plain = fs::read_to_string(&config).expect("a configuration");
    for (more, says) in [
        ("url = \"ldaps://x/dc=x\"", "ldap://"),
        ("url = \"ldap://x\"", "ldap://"),
        ("url = \"ldap://x/dc=x\"\nrefresh_s = 1", "refresh_s"),
        ("max_age_s = 99999999999", "max_age_s"),
        ("base = \"dc=x\"", "base"),
    ] {
        fs::write(&config, format!("{plain}\n[directory]\n{more}\n")).expect("a configuration");
        let ran = hufu(&["check-config", "--config", &house.path("node/hufu.toml")]).expect(78);
        assert!(ran.stderr.contains(says), "{more}: {}", ran.stderr);
    }
}
