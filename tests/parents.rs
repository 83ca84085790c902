//! Two orders of one buyer with one parent, with real programs and a real broker: the parent is paid, no child by itself, and each
//! child's pack says so, to both verifiers.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::process::Command;

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::House,
    program::{hufu, platform},
    trade::{Contract, bill, buy_with, text},
    wait,
};
use serde_json::Value;

fn pay(house: &House, number: &str, amount: &str) -> i32 {
    let dir = house.path("platform");
    platform(&["pay", number, "--dir", &dir, "--amount", amount, "--reference", "transfer-1"]).code
}

fn fen(amount: &str) -> u64 {
    amount.replace('.', "").parse().expect("an amount of whole fen")
}

fn state(house: &House, contract: &Contract) -> Option<String> {
    let status = house.try_status()?;
    let found = status["contracts"].as_array()?.iter().find(|c| c["contract_no"] == contract.no.as_str())?.clone();
    found["state"].as_str().map(str::to_owned)
}

/// What the other verifier says of a pack.
fn verify_py(house: &House, pack: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/verify.py");
    let root = house.path("root.pem");
    let run = Command::new("python3").args([script, "--json", "--trust", &root, pack]).output().expect("python3");
    serde_json::from_slice(&run.stdout).expect("one JSON object")
}

#[test]
fn two_children_are_paid_through_their_parent_and_their_packs_say_so() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port());
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let mut agent = house.agent();
    let level = ["--payable", "parent", "--children", "2"];
    let (first, deal) = buy_with(&house, &url, "c1", "8s", &level);
    let parent = text(&deal["parent"], "parent_no").to_owned();
    assert_eq!((deal["parent"]["payable"].as_str(), deal["parent"]["children"].as_u64()), (Some("parent"), Some(2)));

    let number = wait::until("the first bill is at the platform", 90, || bill(&house, &first));
    let (number, total) = (text(&number, "bill_no").to_owned(), text(&number, "total_cny").to_owned());
    let row = house.held("parents").pop().expect("a parent");
    assert_eq!((row["total_cny"].clone(), row["open_cny"].as_str()), (Value::Null, Some(total.as_str())), "{row}");
    assert_eq!(pay(&house, &number, &total), 1, "a child is not paid by itself");
    assert_eq!(pay(&house, &parent, &total), 1, "a child has no bill yet");

    let (second, _) = buy_with(&house, &url, "c2", "8s", &[&level[..], &["--parent", &parent]].concat());
    let other = wait::until("the second bill is at the platform", 90, || bill(&house, &second));
    let sum = fen(&total) + fen(text(&other, "total_cny"));
    let row = house.held("parents").pop().expect("a parent");
    assert_eq!((fen(text(&row, "total_cny")), fen(text(&row, "open_cny"))), (sum, sum), "{row}");
    assert_eq!(pay(&house, &parent, &total), 1, "not all that is open");
    assert_eq!(pay(&house, &parent, text(&row, "total_cny")), 0);
    assert_eq!(pay(&house, &parent, text(&row, "total_cny")), 0, "the same again is the same answer");
    for contract in [&first, &second] {
        wait::until("the child is paid", 60, || state(&house, contract).filter(|state| state == "paid"));
    }
    wait::until_true("the parent bill is signed", 60, || {
        house.held("parents").pop().is_some_and(|row| row["paid"][0]["signed"].is_string())
    });
    let row = house.held("parents").pop().expect("a parent");
    assert_eq!(row["open_cny"], "0.00");

    for (contract, number) in [(&first, number.as_str()), (&second, text(&other, "bill_no"))] {
        let pack = house.path(&format!("{number}.zip"));
        wait::until_true("the pack holds the payment", 60, || {
            house.buyer("pack", &url, contract.state, &[number, "--output", &pack]).expect(0);
            let said = hufu(&["verify", &pack, "--trust", &house.path("root.pem"), "--json"]).expect(0).json();
            said["parent"]["parent_bills"][0] == row["paid"][0]["parent_bill"]
        });
        let ran = hufu(&["verify", &pack, "--trust", &house.path("root.pem"), "--lang", "en"]).expect(0);
        assert!(ran.stdout.contains(&format!("payable through parent {parent}")), "{}", ran.stdout);
        let said = hufu(&["verify", &pack, "--trust", &house.path("root.pem"), "--json"]).expect(0).json();
        for (name, verdict) in said["verdicts"].as_object().expect("verdicts") {
            assert_ne!(verdict["result"], "fail", "{name}: {verdict}");
        }
        let other = verify_py(&house, &pack);
        assert_eq!((&other["parent"], other["exit"].as_i64()), (&said["parent"], Some(0)), "{other}");
    }
    assert_eq!(house.held("alarms"), Vec::<Value>::new(), "nothing that a person must look at");
    assert_eq!(agent.signal("TERM"), 0);
    let checked = house.check_ledger();
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0), "{checked}");
}
