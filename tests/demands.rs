//! 需求定制 with real programs: a buyer publishes a demand, the node proposes and holds, the buyer orders what was proposed; and
//! what the node says of the contract while it runs.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::fs;

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::{House, NODE, PRODUCT},
    program::hufu,
    trade::{bill, buy, text},
    wait,
};

#[test]
fn a_demand_becomes_a_proposal_that_is_held_and_an_order() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let house = House::new(broker.port());
    let config = house.at("node/hufu.toml");
    let told = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, format!("{told}\n[demand]\nevery_s = 1\n")).expect("a configuration");
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let mut agent = house.agent();
    wait::until_true("the platform has the catalogue", 60, || {
        house.held("products").iter().any(|product| product["id"] == PRODUCT)
    });
    let stock = || house.held("products")[0]["stock"].as_u64().expect("a count");
    let before = stock();

    let wanted = ["--min", "cpu=1", "--term", "20s", "--node", NODE, "--attribute", "region=east"];
    let published = house.buyer("demand", &url, "wanted", &wanted).expect(0).json();
    let number = text(&published, "demand_no").to_owned();
    let trust = house.path("root.pem");
    let shown = |number: &str| {
        let command = ["buyer", "proposals", number, "--platform", &url, "--trust", &trust, "--json"];
        hufu(&command).expect(0).json()
    };
    let found = wait::until("the node has answered", 60, || {
        let found = shown(&number);
        (found["responses"] != serde_json::json!([])).then_some(found)
    });
    let response = &found["responses"][0];
    assert_eq!((response["node"].as_str(), response["verified"].as_bool()), (Some(NODE), Some(true)), "{found}");
    assert_eq!(response["proposal"]["product_id"], PRODUCT, "{found}");
    assert_eq!(found["plans"][0]["parts"][0]["node"], NODE, "{found}");
    wait::until_true("the capacity is held", 30, || stock() == before - 1);

    let select = |node: &str| house.buyer("select", &url, "wanted", &[&number, "--node", node, "--why", "the nearest"]);
    assert_eq!(select("s1/nobody").code, 1, "who has proposed nothing is not chosen");
    let chosen = select(NODE).expect(0).json();
    assert_eq!(chosen["chosen"], serde_json::json!([response["proposal_no"]]), "{chosen}");
    assert_eq!((&chosen["candidates"][0]["score"], text(&chosen, "why")), (&10_000.into(), "the nearest"), "{chosen}");
    let known = shown(&number);
    assert_eq!((&known["is_open"], &known["matching"]["chosen"]), (&false.into(), &chosen["chosen"]), "{known}");
    let ledger = house.path("node/ledger");
    wait::until_true("the node's ledger has the choice", 30, || {
        let told = hufu(&["ledger", "show", &ledger, "--json"]).expect(0).json();
        told.to_string().contains("\"matching\"")
    });
    assert_eq!(stock(), before - 1, "what was chosen stays held");

    let impossible = house.buyer("demand", &url, "wanted", &["--class", "SaaS"]).expect(0).json();
    let refused = wait::until("the node has answered", 60, || {
        let found = shown(text(&impossible, "demand_no"));
        (found["responses"] != serde_json::json!([])).then_some(found)
    });
    assert_eq!(refused["responses"][0]["refusal"]["code"], "unknown", "{refused}");

    let contract = buy(&house, &url, "c1", "15s");
    assert_eq!(stock(), before - 1, "what was held is what the order took");
    let told = house.buyer("refund", &url, "c1", &[]).expect(0).json();
    assert_eq!(
        (text(&told, "payment"), text(&told, "refund_cny"), &told["is_final"]),
        ("postpaid", "0.00", &false.into())
    );
    let early = house.buyer("refund", &url, "c1", &["--at", "2020-01-01T00:00:00Z"]);
    assert_eq!(early.code, 1, "before the term: {early:?}");
    let found = wait::until("the bill is at the platform", 90, || bill(&house, &contract));
    let listed = house.buyer("bills", &url, "c1", &["--contract", &contract.no]).expect(0).json();
    assert_eq!(listed["bills"][0]["bill_no"], found["bill_no"], "{listed}");
    assert_eq!(listed["bills"][0]["total_cny"], found["total_cny"], "{listed}");
    reconciled(&house, &url, &found);
    assert_eq!(agent.signal("TERM"), 0, "{}", agent.said());
    let checked = house.check_ledger();
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0), "{checked}");
    assert!(house.held("alarms").is_empty(), "{:?}", house.held("alarms"));
}

/// Node and platform compare their books over HTTP and by files, before and after the platform recorded money.
fn reconciled(house: &House, url: &str, billed: &serde_json::Value) {
    let (config, period) = (house.path("node/hufu.toml"), "2020-01-01T00:00:00Z/2100-01-01T00:00:00Z");
    let own =
        |more: &[&str]| hufu(&[&["reconcile", "--period", period, "--config", &config, "--json"][..], more].concat());
    let (dir, key, cert) = (house.path("platform"), house.path("platform.key"), house.path("platform.pem"));
    let (trust, node, answer) = (house.path("root.pem"), house.path("books.der"), house.path("both.der"));
    let theirs = |more: &[&str]| {
        let base = ["reconcile", "--node", NODE, "--period", period, "--dir", &dir, "--json"];
        hufu_tests::program::platform(&[&base[..], more].concat())
    };
    let same = wait::until("both sides agree", 60, || {
        let ran = own(&["--platform", url]);
        (ran.code == 0).then(|| ran.json())
    });
    assert_eq!(same["sums"]["bill"]["node"], same["sums"]["bill"]["platform"], "{same}");
    assert_eq!(same["sums"]["deal"]["node"]["count"], 1, "{same}");
    assert_eq!(theirs(&[]).expect(0).json()["signed"], true);

    let (number, total) = (text(billed, "bill_no"), text(billed, "total_cny"));
    let pay = ["pay", number, "--dir", &dir, "--amount", total, "--reference", "transfer-1"];
    hufu_tests::program::platform(&pay).expect(0);
    wait::until_true("the node's ledger tells of the payment", 90, || {
        let ran = own(&["--platform", url]);
        let found = ran.json();
        ran.code == 0 && found["sums"]["payment"]["node"]["amount_cny"] == total
    });
    // By files: the node signs, the platform answers, the node reads the pair.
    own(&["--out", &node]).expect(0);
    let answered = ["--with", &node, "--out", &answer, "--key", &key, "--cert", &cert, "--trust", &trust];
    assert_eq!(theirs(&answered).expect(0).json()["differences"], serde_json::json!([]));
    assert_eq!(own(&["--with", &answer]).expect(0).json()["differences"], serde_json::json!([]));
    let mut bytes = fs::read(&answer).expect("a file");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&answer, bytes).expect("a file");
    assert_eq!(own(&["--with", &answer]).code, 1, "a signature that does not hold");
    assert_eq!(own(&["--with", &house.path("root.pem")]).code, 65);
    assert_eq!(hufu(&["reconcile", "--period", "2026-13", "--config", &config, "--out", &node]).code, 2);
}
