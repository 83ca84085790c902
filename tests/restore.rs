//! A node whose ledger is lost while its platform's database is lost too: what an export and an older copy hold is put back, and the node
//! goes on. Real programs and a real broker.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::fs;

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::House,
    program::{self, hufu},
    trade::{bill, buy, metered, text},
    wait,
};

fn copy(from: &str, to: &str) {
    program::run(program::command("cp").args(["-a", from, to])).expect(0);
}

#[test]
fn what_copies_hold_comes_back_and_the_node_goes_on() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let house = House::new(broker.port());
    let address = broker.address();
    let (mut platform, url, _) = house.platform(&["--broker", &address]);
    let mut agent = house.agent();
    let first = buy(&house, &url, "first", "12s");
    wait::until("it is billed", 90, || bill(&house, &first));
    // An export under the agent's eyes holds everything so far; a copy of the disk a while later a little more.
    let (ledger, exported) = (house.path("node/ledger"), house.path("exported"));
    hufu(&["ledger", "export", &ledger, "--out", &exported]).expect(0);
    let second = buy(&house, &url, "second", "300s");
    metered(&house, &second, 0);
    assert_eq!(agent.signal("TERM"), 0, "{}", agent.said());
    assert_eq!(platform.signal("TERM"), 0);
    let before = house.check_ledger();
    assert_eq!(before["problems"].as_array().map(Vec::len), Some(0), "{before}");
    let backup = house.path("backup");
    fs::create_dir(&backup).expect("a folder");
    for name in ["ledger", "ledger.keys"] {
        copy(&house.path(&format!("node/{name}")), &backup);
    }
    // Both sides lose their disks.
    for name in ["node/ledger", "node/ledger.keys", "platform"] {
        fs::remove_dir_all(house.at(name)).expect("a folder");
    }
    let (dir, config) = (house.path("node"), house.path("node/hufu.toml"));
    let from = ["--from", &exported, "--from", &house.path("backup/ledger")];
    let restore = |more: &[&str]| hufu(&[&["ledger", "restore", "--config", &config, "--json"][..], more].concat());
    assert_eq!(restore(&from).code, 74, "there is no ledger to put anything back into");
    hufu(&["init", "--dir", &dir, "--recover"]).expect(0);

    // What is not this node's, or altered, is not put back.
    let altered = house.path("altered");
    copy(&exported, &altered);
    let block = house.at("altered/blocks/trade-1.der");
    let mut bytes = fs::read(&block).expect("a block");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&block, bytes).expect("a block");
    assert_eq!(restore(&["--from", &altered]).code, 1);
    assert_eq!(restore(&["--from", &house.path("nowhere")]).code, 74);

    let back = restore(&from).expect(0).json();
    let now = house.check_ledger();
    assert_eq!(now["problems"].as_array().map(Vec::len), Some(0), "{now}");
    assert_eq!(now["logs"], before["logs"], "the same blocks to the last: {back}");
    assert_eq!(restore(&from).expect(0).json()["restored"], serde_json::json!(["0", "0"]), "and once");

    // A platform with an empty database gets all of it again, and trade goes on.
    let (_platform, url, _) = house.platform(&["--broker", &address]);
    let _agent = house.agent();
    let held = wait::until("the first bill is at the platform again", 120, || bill(&house, &first));
    let number = text(&held, "bill_no").to_owned();
    let third = buy(&house, &url, "third", "12s");
    wait::until("trade goes on", 120, || bill(&house, &third));
    let pack = house.path("bill.zip");
    house.buyer("pack", &url, "first", &[&number, "--output", &pack]).expect(0);
    hufu(&["verify", &pack, "--trust", &house.path("root.pem"), "--json"]).expect(0);
    for node in house.held("nodes") {
        assert_eq!(node["forks"], 0, "no height was signed twice: {node}");
    }
}
