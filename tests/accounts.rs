//! Accounts with real programs (6.1, 7.1, 7.6): a buyer gets one at platform and node by coming; the operator suspends it; what was done at
//! the platform is a signed chain, of which the user sees its own.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::fs;

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::{House, NODE, PRODUCT},
    program::{self, hufu},
    trade::{buy, text},
    wait,
};
use serde_json::Value;

fn accounts(house: &House) -> Vec<Value> {
    let found = hufu(&["account", "list", "--json", "--config", &house.path("node/hufu.toml")]).expect(0).json();
    found["accounts"].as_array().expect("a list").clone()
}

#[test]
fn a_user_gets_an_account_at_platform_and_node_and_sees_what_was_done() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let house = House::new(broker.port());
    let config = house.at("node/hufu.toml");
    let told = fs::read_to_string(&config).expect("a configuration");
    let told = told.replace("[platform]\n", "[platform]\naccounts_required = true\n");
    fs::write(&config, told).expect("a configuration");
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let _agent = house.agent();
    let contract = buy(&house, &url, "first", "300s");

    let cert = hufu(&["cert", "show", &house.path("buyer.pem"), "--json"]).expect(0).json();
    let user = text(&cert["certificates"][0], "id").to_owned();
    let held = accounts(&house);
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!((text(&held[0], "user"), text(&held[0], "state")), (user.as_str(), "active"));
    wait::until_true("the node holds it", 30, || {
        let rows = house.held("accounts");
        rows.len() == 1 && rows[0]["told"] == 1 && rows[0]["nodes"] == 1
    });

    let token = house.path("user.token");
    house.buyer("token", &url, "first", &["--output", &token]).expect(0);
    let (platform, root, node) = (house.path("platform.pem"), house.path("root.pem"), house.path("node/hufu.toml"));
    let enters = || {
        let at = ["--platform-cert", &platform, "--trust", &root, "--audience", NODE, "--config", &node];
        hufu(&[&["token", "check", &token][..], &at].concat()).code
    };
    assert_eq!(enters(), 0);

    let dir = house.path("platform");
    let operator = |more: &[&str]| program::platform(&[more, &["--dir", &dir, "--json"]].concat());
    let changed = operator(&["account", &user, "--state", "suspended", "--why", "unpaid bills"]).expect(0).json();
    assert_eq!(changed["revision"], 2);
    wait::until_true("the node has the change", 60, || text(&accounts(&house)[0], "state") == "suspended");
    assert_eq!(enters(), 1, "a suspended user does not enter");
    let papers = ["--node", NODE, "--product", PRODUCT];
    assert_eq!(house.buyer("browse", &url, "second", &papers).code, 1);
    let serving = house.held("orders").iter().any(|order| order["contract_no"] == contract.no.as_str());
    assert!(serving, "what runs goes on");
    operator(&["account", &user, "--state", "active", "--why", "paid"]).expect(0);
    house.buyer("browse", &url, "third", &papers).expect(0);
    assert_eq!(operator(&["account", "zz", "--why", "x"]).code, 2);
    assert_eq!(operator(&["account", &user, "--node", "s1/nobody", "--why", "x"]).code, 1);

    let seen = wait::until("all of it is signed", 30, || {
        let seen = house.buyer("operations", &url, "first", &[]).expect(0).json();
        (seen["operations"].as_array().map(Vec::len) == Some(4)).then_some(seen)
    });
    let acts: Vec<&str> = seen["operations"].as_array().expect("a list").iter().map(|one| text(one, "act")).collect();
    assert_eq!(acts, ["account", "account", "token", "register"], "{seen}");
    assert_eq!((text(&seen, "user"), &seen["account"]["state"]), (user.as_str(), &"active".into()));
    let checked = operator(&["operations", "--check", "--cert", &platform]).expect(0).json();
    assert_eq!((&checked["operations"], &checked["holds"]), (&4.into(), &true.into()));
    let other = house.path("n1.pem");
    assert_eq!(operator(&["operations", "--check", "--cert", &other]).code, 1, "not under another's certificate");
    let ledger = house.check_ledger();
    assert_eq!(ledger["problems"], serde_json::json!([]), "{ledger}");
}
