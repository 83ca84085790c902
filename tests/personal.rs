//! What is personal of a contract, with real programs: encrypted at the node, read only where that is written down, erased when the
//! contract is over; and the buyer's pack holds before and after.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::fs;

use hufu_tests::{
    broker::free_port,
    house::House,
    program::hufu,
    trade::{bill, buy, text},
    tree, wait,
};
use serde_json::Value;

/// What `hufu ledger show` lists.
fn listed(house: &House) -> Vec<Value> {
    let listed = hufu(&["ledger", "show", &house.path("node/ledger"), "--json"]).expect(0).json();
    listed["entries"].as_array().expect("entries").clone()
}

/// The kinds of all entries, or that they cannot be read.
fn kinds(house: &House) -> Vec<String> {
    listed(house).iter().map(|entry| text(entry, "kind").to_owned()).collect()
}

fn count(kinds: &[String], kind: &str) -> usize {
    kinds.iter().filter(|found| *found == kind).count()
}

fn state(house: &House) -> Option<String> {
    Some(text(house.try_status()?["contracts"].as_array()?.first()?, "state").to_owned())
}

fn verified(house: &House, pack: &str) {
    let verdict = hufu(&["verify", pack, "--trust", &house.path("root.pem"), "--json"]).expect(0).json();
    for (name, verdict) in verdict["verdicts"].as_object().expect("verdicts") {
        assert_ne!(verdict["result"], "fail", "{name}: {verdict}");
    }
}

/// Whether the bytes of any file of the ledger hold these.
fn ledger_holds(house: &House, wanted: &[u8]) -> bool {
    let files =
        fs::read_dir(house.at("node/ledger")).expect("a ledger").map(|item| fs::read(item.expect("a file").path()));
    files.into_iter().any(|bytes| bytes.expect("bytes").windows(wanted.len()).any(|part| part == wanted))
}

#[test]
fn personal_data_is_sealed_read_with_a_trace_and_erased_and_the_buyers_pack_holds() {
    // The site's own table: a paid contract is over after a second.
    let rules = tree::read("trade/contract.toml").replace("after_s = 2592000", "after_s = 1");
    let house = House::under(free_port(), Some(&rules));
    let (_platform, url, broker) = house.platform(&["--embedded-broker"]);
    house.point_at(&broker);
    let mut agent = house.agent();
    let contract = buy(&house, &url, "c1", "6s");
    let found = wait::until("the bill is at the platform", 90, || bill(&house, &contract));
    let (number, total) = (text(&found, "bill_no").to_owned(), text(&found, "total_cny").to_owned());
    let config = house.path("node/hufu.toml");
    let erase = || hufu(&["erase", &contract.no, "--why", "asked for it", "--config", &config, "--json"]);
    erase().expect(1);
    let dir = house.path("platform");
    hufu_tests::program::platform(&["pay", &number, "--dir", &dir, "--amount", &total, "--reference", "t-1"]).expect(0);
    wait::until_true("the contract is over", 60, || state(&house).as_deref() == Some("closed"));
    assert!(!ledger_holds(&house, b"buyer-1") && !ledger_holds(&house, b"payment-confirm"));

    // Without an agent nothing personal is shown.
    assert_eq!(agent.signal("TERM"), 0);
    let pack = house.path("node.zip");
    let make = || hufu(&["pack", &number, "--config", &config, "-o", &pack]);
    make().expect(69);
    let shown = kinds(&house);
    assert_eq!((count(&shown, "sealed"), count(&shown, "browse"), count(&shown, "user_operation")), (2, 0, 0));
    hufu(&["ledger", "export", &house.path("node/ledger"), "--out", &house.path("out")]).expect(0);
    assert!(
        !house
            .at("out")
            .join("entries")
            .read_dir()
            .expect("entries")
            .any(|item| { item.expect("an entry").file_name().to_string_lossy().contains("browse") })
    );

    // With one it is, and that stands in the ledger.
    let mut agent = house.agent();
    wait::until_true("the agent answers", 30, || house.try_status().is_some());
    make().expect(0);
    verified(&house, &pack);
    let shown = kinds(&house);
    assert_eq!((count(&shown, "sealed"), count(&shown, "browse"), count(&shown, "user_operation")), (0, 1, 1));

    // Erased, when the platform has everything.
    wait::until_true("everything is acknowledged", 60, || erase().code == 0);
    erase().expect(0);
    make().expect(1);
    for _ in 0..2 {
        let shown = kinds(&house);
        assert_eq!((count(&shown, "erased"), count(&shown, "browse"), count(&shown, "payment")), (2, 0, 0));
        assert_eq!(agent.signal("TERM"), 0);
        let checked = house.check_ledger();
        assert_eq!((&checked["problems"], &checked["erased"]), (&Value::Array(vec![]), &2.into()));
        agent = house.agent();
        wait::until_true("the agent answers", 30, || house.try_status().is_some());
        assert_eq!(state(&house).as_deref(), Some("closed"));
    }
    // The browse is the first entry of a contract, behind rules and certificates: its proof needs no key.
    let place = ["--log", "trade", "--height", "2"];
    hufu(&[&["ledger", "prove", &house.path("node/ledger")][..], &place].concat()).expect(0);

    // The buyer's own pack is the platform's matter, and the platform takes the site's traces.
    let pack = house.path("buyer.zip");
    house.buyer("pack", &url, contract.state, &[&number, "--output", &pack]).expect(0);
    verified(&house, &pack);
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<u64>().ok());
    let listed = listed(&house);
    let last =
        listed.iter().rfind(|entry| entry["kind"] == "user_operation").and_then(|entry| number(&entry["height"]));
    wait::until_true("the platform has every trace", 60, || {
        let status = house.try_status().unwrap_or_default();
        number(&status["logs"]["trade"]["receipted"]) > last
    });
    assert_eq!(house.held("alarms"), Vec::<Value>::new(), "nothing that a person must look at");
    drop(agent);
}
