//! A node whose ledger is older than what the platform acknowledged: a backup that was put back, a disk that was lost, and blocks
//! that nobody has any more. Real programs and a real broker; judged by both ledgers' entries, at the node and at the platform.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{fs, path::Path, time::Duration};

use hufu_tests::{
    broker::{Memory, Mosquitto, free_port},
    house::House,
    program::{self, Daemon, hufu, platform},
    trade::{Contract, bill, buy, metered, records, text},
    wait,
};
use serde_json::Value;

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    program::run(program::command("cp").arg("-a").arg(from).arg(to)).expect(0);
}

/// Puts the node's folder back as it was; what was there is kept aside under a name.
fn put_back(house: &House, backup: &str, aside: &str) {
    fs::rename(house.at("node"), house.at(aside)).expect("the node's folder");
    copy(&house.at(backup), &house.at("node"));
}

/// Every entry of the node's ledger as log, height, index and hash.
fn entries(house: &House) -> Vec<(String, u64, u64, String)> {
    let shown = hufu(&["ledger", "show", &house.path("node/ledger"), "--json"]).expect(0).json();
    let entry = |found: &Value| {
        let height = text(found, "height").parse().expect("a height");
        let index = found["index"].as_u64().expect("an index");
        (text(found, "log").to_owned(), height, index, text(found, "hash").to_owned())
    };
    shown["entries"].as_array().expect("entries").iter().map(entry).collect()
}

/// The entries of the node's ledger that the platform holds: no others were acknowledged, and those that nobody saw may be signed
/// anew.
fn acknowledged(house: &House) -> Vec<(String, u64, u64, String)> {
    let node = house.held("nodes").remove(0);
    let size = |log: &str| node[format!("{log}_size")].as_u64().expect("a size");
    let all = entries(house);
    all.into_iter().filter(|(log, height, ..)| *height < size(log)).collect()
}

/// The sizes of both logs as the node says, and as its receipts say.
fn sizes(house: &House) -> Option<[(u64, u64); 2]> {
    let status = house.try_status()?;
    let of = |name: &str| {
        let log = &status["logs"][name];
        Some((log["size"].as_str()?.parse().ok()?, log["receipted"].as_str().unwrap_or("0").parse().ok()?))
    };
    Some([of("trade")?, of("finance")?])
}

/// Stops the agent and checks its ledger from the bytes.
fn stop_and_check(house: &House, mut agent: Daemon) {
    assert_eq!(agent.signal("TERM"), 0, "{}", agent.said());
    let checked = house.check_ledger();
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0), "{checked}");
}

/// An order under way with a copy of the node from its first records, and more acknowledged since than that copy holds.
fn older_copy(house: &House, url: &str, term: &str) -> (Contract, u64) {
    let mut agent = house.agent();
    let contract = buy(house, url, "c1", term);
    metered(house, &contract, 0);
    assert_eq!(agent.signal("TERM"), 0);
    copy(&house.at("node"), &house.at("backup"));
    let mut agent = house.agent();
    let before = wait::until("the records so far", 30, || records(house, &contract));
    metered(house, &contract, before + 2);
    let held = sizes(house).expect("a status")[0].0;
    wait::until_true("the platform acknowledged them", 60, || sizes(house).is_some_and(|[trade, _]| trade.1 >= held));
    let counted = wait::until("the records so far", 30, || records(house, &contract));
    assert_eq!(agent.signal("TERM"), 0);
    (contract, counted)
}

/// From the bill to the payment in the node's log.
fn paid(house: &House, contract: &Contract) {
    let found = wait::until("the bill is at the platform", 120, || bill(house, contract));
    let (number, total) = (text(&found, "bill_no"), text(&found, "total_cny"));
    assert_ne!(total, "0.00");
    let dir = house.path("platform");
    let pay = ["pay", number, "--dir", &dir, "--amount", total, "--reference", "transfer-1"];
    wait::until_true("it can be paid", 30, || platform(&pay).code == 0);
    wait::until_true("the node knows that it is paid", 90, || {
        let status = house.try_status();
        let bills = status.map(|status| status["contracts"][0]["bills"].clone());
        bills
            .is_some_and(|bills| bills.as_array().is_some_and(|b| !b.is_empty() && b.iter().all(|b| b["paid"] == true)))
    });
    wait::until_true("and the platform that the node does", 60, || {
        house
            .held("orders")
            .iter()
            .any(|order| order["contract_no"] == contract.no.as_str() && order["state"] == "paid")
    });
}

/// The buyer's pack of the bill holds.
fn pack_holds(house: &House, url: &str, contract: &Contract) {
    let number = text(&bill(house, contract).expect("a bill"), "bill_no").to_owned();
    let pack = house.path("bill.zip");
    house.buyer("pack", url, contract.state, &[&number, "--output", &pack]).expect(0);
    let verdict = hufu(&["verify", &pack, "--trust", &house.path("root.pem"), "--json"]).expect(0).json();
    for (name, verdict) in verdict["verdicts"].as_object().expect("verdicts") {
        assert_ne!(verdict["result"], "fail", "{name}: {verdict}");
    }
}

fn no_forks(house: &House) {
    for node in house.held("nodes") {
        assert_eq!(node["forks"], 0, "no height was signed twice: {node}");
    }
}

#[test]
fn a_node_put_back_from_a_backup_fetches_back_what_it_lacks_and_goes_on() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port());
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let (contract, counted) = older_copy(&house, &url, "60s");
    let signed = acknowledged(&house);
    put_back(&house, "backup", "newer");
    assert!(entries(&house).len() < signed.len(), "the copy is older");
    // Killed at once, and again and again while it fetches: each start goes on where the last one was.
    for wait_ms in [40, 80, 120, 160, 200] {
        let mut command = program::command(program::ours("hufu"));
        command.args(["agent", "--config", &house.path("node/hufu.toml")]);
        let mut killed = Daemon::start(&mut command, &house.at("agent.log"));
        std::thread::sleep(Duration::from_millis(wait_ms));
        killed.kill();
    }
    let agent = house.agent();
    wait::until_true("everything is here again, and is metered on", 60, || {
        records(&house, &contract).is_some_and(|count| count > counted)
    });
    assert!(!house.at("node/ledger/behind").exists());
    let said = agent.said();
    assert!(
        said.contains("this ledger is behind what was acknowledged; nothing is signed until it is whole"),
        "{said}"
    );
    paid(&house, &contract);
    stop_and_check(&house, agent);
    let now = entries(&house);
    assert!(signed.iter().all(|entry| now.contains(entry)), "what was signed stands as it was signed");
    pack_holds(&house, &url, &contract);

    // The disk is lost, the key is not.
    let signed = acknowledged(&house);
    for lost in ["node/ledger", "node/ledger.keys"] {
        fs::remove_dir_all(house.at(lost)).expect("a folder");
    }
    hufu(&["init", "--dir", &house.path("node"), "--recover"]).expect(0);
    assert_eq!(entries(&house), Vec::new());
    let agent = house.agent();
    wait::until_true("everything is here again", 60, || {
        house
            .try_status()
            .is_some_and(|status| status["waits_for"].is_null() && status["contracts"][0]["state"] == "paid")
    });
    stop_and_check(&house, agent);
    let now = entries(&house);
    assert!(signed.iter().all(|entry| now.contains(entry)), "what was signed stands as it was signed");
    no_forks(&house);
    assert_eq!(house.held("alarms"), Vec::<Value>::new(), "nothing that a person must look at");
}

/// Deletes the blocks that the platform holds of a log from a height on, and nothing that followed from them.
fn lose_blocks(house: &House, log: u8, from: u64) {
    let text = "import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute('DELETE FROM blocks WHERE log = ? AND height >= ?', sys.argv[2:4]).rowcount)
db.commit()";
    let (log, from) = (log.to_string(), from.to_string());
    let file = house.path("platform/platform.db");
    let ran = program::run(program::command("python3").args(["-c", text, &file, &log, &from])).expect(0);
    assert_ne!(ran.stdout.trim(), "0", "there was something to lose");
}

#[test]
fn blocks_that_nobody_has_any_more_are_named_and_the_node_goes_on_in_a_new_epoch() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port());
    let more = ["--broker", &broker.address(), "--listen", &format!("127.0.0.1:{}", free_port())];
    let (mut first, url, _) = house.platform(&more);
    let (contract, _) = older_copy(&house, &url, "60s");
    let signed = entries(&house);
    put_back(&house, "backup", "newer");
    let kept = entries(&house);
    let size = kept.iter().filter(|(log, ..)| log == "trade").map(|(_, height, ..)| height + 1).max().expect("a size");
    assert_eq!(first.signal("TERM"), 0);
    lose_blocks(&house, 0, size);
    let (_platform, _, _) = house.platform(&more);
    let agent = house.agent();
    wait::until_true("the node says so", 60, || {
        let status = house.try_status().expect("a status");
        let mut alarms = status["alarms"].as_array().expect("alarms").iter();
        alarms.any(|alarm| text(alarm, "what").starts_with("new epoch"))
    });
    paid(&house, &contract);
    stop_and_check(&house, agent);
    let now = entries(&house);
    assert!(kept.iter().all(|entry| now.contains(entry)), "what is left stands as it was signed");
    assert!(!signed.iter().all(|entry| now.contains(entry)), "the rest is lost");
    pack_holds(&house, &url, &contract);
    no_forks(&house);
    let codes: Vec<Value> = house.held("alarms").iter().map(|alarm| alarm["code"].clone()).collect();
    assert!(codes.contains(&"epoch".into()) && codes.contains(&"lost".into()), "{codes:?}");
    assert!(codes.iter().all(|code| code == "epoch" || code == "lost"), "{codes:?}");
    for node in house.held("nodes") {
        let sizes = [&node["trade_size"], &node["finance_size"]].map(|size| size.as_u64().expect("a size"));
        let of = |log: &str| now.iter().filter(|(own, ..)| own == log).map(|(_, height, ..)| height + 1).max();
        // The newest trade blocks hold nothing but receipts, and need not be sent.
        assert!(sizes[0] > size && sizes[0] <= of("trade").expect("a size"), "{node}");
        assert_eq!(Some(sizes[1]), of("finance"), "{node}");
    }
}
