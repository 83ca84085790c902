//! A real daemon whose server is not made of what its site accepted: it sells nothing, says what differs and goes on metering;
//! the site's word is kept over a restart. What the command line says of the server, and what it measures.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::fs;

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::House,
    program::hufu,
    wait,
};
use serde_json::Value;

/// The first product's stock and what keeps it from being one unit more.
fn stock(status: &Value) -> (u64, String) {
    let product = &status["products"][0];
    (product["stock"].as_u64().expect("a stock"), product["why"].as_str().expect("a reason").to_owned())
}

/// The status once the node knows its hardware.
fn looked(house: &House) -> Value {
    let known = || house.try_status().filter(|status| status["hardware"]["fingerprint"].is_string());
    wait::until("the node knows its hardware", 180, known)
}

#[test]
fn a_server_that_was_rebuilt_sells_nothing_until_its_site_accepts_it() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let house = House::new(broker.port());
    let (config, accepted) = (house.path("node/hufu.toml"), house.at("node/ledger/hardware.accepted"));
    let text = fs::read_to_string(&config).expect("a configuration");
    // There is no platform: its word is not waited for.
    fs::write(&config, text.replace("[platform]\n", "[platform]\ncompare_s = 1\n")).expect("a file");
    let mut agent = house.agent();
    let status = looked(&house);
    let fingerprint = status["hardware"]["fingerprint"].clone();
    assert!(stock(&status).0 >= 1 && status["hardware"]["changed"] == serde_json::json!([]), "{status}");
    assert!(status["agent"]["cpu_ns"].is_string() && status["agent"]["threads"].is_number(), "{}", status["agent"]);
    assert_eq!(agent.signal("TERM"), 0);

    // As a disk that was there when the site accepted the server, and is not now.
    let facts = fs::read_to_string(&accepted).expect("what was accepted");
    fs::write(&accepted, facts.clone() + "disk hdd 1000 gone\n").expect("a file");
    let mut agent = house.agent();
    let status = looked(&house);
    assert_eq!(status["hardware"]["changed"], serde_json::json!(["- disk hdd 1000 gone"]));
    assert_eq!(status["hardware"]["fingerprint"], fingerprint, "it is that of what there is");
    let (units, why) = stock(&status);
    assert!(units == 0 && why.contains("- disk hdd 1000 gone") && why.contains("hufu capacity --accept"), "{why}");
    let alarms = status["alarms"].as_array().expect("alarms");
    let alarm = alarms.iter().find(|alarm| alarm["what"] == "hardware").expect("an alarm");
    assert!(alarm["detail"].as_str().is_some_and(|detail| detail.contains("open contracts: none")), "{alarm}");
    let shown = hufu(&["status", "--lang", "zh", "--config", &config]).expect(0);
    assert!(shown.stdout.contains("停止出售") && shown.stdout.contains("代理自身"), "{}", shown.stdout);

    let said = hufu(&["capacity", "--accept", "--json", "--config", &config]).expect(0).json();
    assert_eq!((&said["fingerprint"], &said["accepted"][0]), (&fingerprint, &"- disk hdd 1000 gone".into()));
    let status = house.try_status().expect("a status");
    assert!(stock(&status).0 >= 1 && status["hardware"]["changed"] == serde_json::json!([]), "{status}");
    assert_eq!(fs::read_to_string(&accepted).expect("what is accepted"), facts);
    agent.must_run();
    assert_eq!(agent.signal("TERM"), 0);
    hufu(&["capacity", "--accept", "--config", &config]).expect(69);
    let mut agent = house.agent();
    assert_eq!(looked(&house)["hardware"]["changed"], serde_json::json!([]));
    agent.must_run();
}

#[test]
fn a_server_is_measured_against_what_its_products_need() {
    let house = House::new(1);
    let config = house.path("node/hufu.toml");
    let measure = || {
        let dir = house.path("node");
        hufu(&["capacity", "--benchmark", "--seconds", "1", "--json", "--dir", &dir, "--config", &config])
    };
    let found = measure().expect(0).json();
    let checks = found["checks"].as_array().expect("checks");
    let ids: Vec<_> = checks.iter().filter_map(|check| check["id"].as_str()).collect();
    assert_eq!(ids, ["disk_write_bytes_s", "disk_read_ops_s", "memory_bytes_s", "sm3_bytes_s"]);
    for check in checks {
        let actual = check["actual"].as_str().and_then(|actual| actual.parse::<u64>().ok());
        assert!(actual.is_some_and(|actual| actual > 0) && check["required"] == "-", "{check}");
    }
    let text = fs::read_to_string(house.at("node/hufu.toml")).expect("a configuration");
    // The comments that `hufu init` writes name a product, too.
    let product = "\nid = \"small\"\n";
    assert_eq!(text.matches(product).count(), 1, "{text}");
    let needs = format!("{product}requires = {{ memory_bytes_s = 1, sm3_bytes_s = 9000000000000000000 }}\n");
    fs::write(house.at("node/hufu.toml"), text.replace(product, &needs)).expect("a file");
    let found = measure().expect(1).json();
    let states: Vec<_> =
        found["checks"].as_array().expect("checks").iter().filter_map(|check| check["state"].as_str()).collect();
    assert_eq!((states, &found["state"]), (vec!["ok", "ok", "ok", "fail"], &"fail".into()));
    let left = fs::read_dir(house.at("node")).expect("a directory").filter_map(Result::ok);
    assert!(left.into_iter().all(|item| !item.file_name().to_string_lossy().contains("benchmark")));
    hufu(&["capacity", "--benchmark", "--dir", "/no/such/place"]).expect(74);
    hufu(&["capacity", "--seconds", "1"]).expect(2);
}
