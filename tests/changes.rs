//! A contract that is changed on its way, with real programs and a real broker: suspended, resumed, renewed, terminated, disputed,
//! corrected, paid, disputed again and refunded. Judged at the platform and by the packs.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::fs;

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::House,
    program::{hufu, platform},
    trade::{Contract, bill, buy, lives, metered, records, text, workload},
    wait,
};
use serde_json::Value;

/// State of a contract as the node says.
fn state(house: &House, contract: &Contract) -> Option<Value> {
    let status = house.try_status()?;
    status["contracts"].as_array()?.iter().find(|found| found["contract_no"] == contract.no.as_str()).cloned()
}

fn comes_to(house: &House, contract: &Contract, wanted: &str) -> Value {
    wait::until(&format!("the contract is {wanted}"), 60, || {
        state(house, contract).filter(|found| found["state"] == wanted)
    })
}

/// The buyer asks for an act; `busy` means ask again, with the same papers.
fn change(house: &House, url: &str, contract: &Contract, more: &[&str]) -> Value {
    wait::until(&format!("{} is answered", more[0]), 60, || {
        let ran = house.buyer("change", url, contract.state, more);
        (ran.code != 69).then(|| ran.expect(0).json())
    })
}

/// The kernel's state letter of a process: `T` is stopped.
fn letter(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('-')
}

/// The buyer's pack of the bill, verified: no verdict fails; what `hufu verify` says.
fn verified(house: &House, url: &str, contract: &Contract, number: &str) -> (String, Value) {
    let pack = house.path(&format!("{number}.zip"));
    house.buyer("pack", url, contract.state, &[number, "--output", &pack]).expect(0);
    let verdict = hufu(&["verify", &pack, "--trust", &house.path("root.pem"), "--json"]).expect(0).json();
    for (name, verdict) in verdict["verdicts"].as_object().expect("verdicts") {
        assert_ne!(verdict["result"], "fail", "{name}: {verdict}");
    }
    (pack, verdict)
}

fn operator(house: &House, verb: &str, number: &str, amount: &str) -> i32 {
    let dir = house.path("platform");
    platform(&[verb, number, "--dir", &dir, "--amount", amount, "--reference", &format!("{verb}-1")]).code
}

/// The site takes 0.01 CNY off the bill; what is due then.
fn correct(house: &House, number: &str) -> String {
    let config = house.path("node/hufu.toml");
    let less = ["--less", "bill=0.01", "--why", "the disk was slow", "--config", &config, "--json"];
    let said = hufu(&[&["correct", number][..], &less].concat()).expect(0).json();
    text(&said, "total").to_owned()
}

#[test]
fn a_contract_is_changed_disputed_corrected_and_refunded_and_every_pack_holds() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port());
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let mut agent = house.agent();
    let contract = buy(&house, &url, "c1", "120s");
    let pid = workload(&house, &contract);
    metered(&house, &contract, 0);

    change(&house, &url, &contract, &["suspend", "--why", "over the weekend"]);
    comes_to(&house, &contract, "suspended");
    wait::until_true("the workload is stopped", 20, || letter(pid) == 'T');
    let quiet = records(&house, &contract);
    // A suspended contract survives a restart, and stays suspended.
    agent.kill();
    agent = house.agent();
    assert_eq!((comes_to(&house, &contract, "suspended")["service"].clone(), letter(pid)), (Value::Null, 'T'));
    assert_eq!(records(&house, &contract), quiet, "nothing is metered meanwhile");
    change(&house, &url, &contract, &["resume"]);
    comes_to(&house, &contract, "serving");
    wait::until_true("the workload goes on", 20, || letter(pid) != 'T');
    metered(&house, &contract, quiet.expect("records") + 2);

    let end = text(&comes_to(&house, &contract, "serving"), "service_end").to_owned();
    let refused = house.buyer("change", &url, contract.state, &["renew", "--term", "60s", "--ceiling", "1"]);
    assert_eq!(refused.code, 1, "no lower ceiling");
    change(&house, &url, &contract, &["renew", "--term", "60s", "--ceiling", "2000"]);
    assert!(text(&comes_to(&house, &contract, "serving"), "service_end") > end.as_str());
    change(&house, &url, &contract, &["terminate"]);
    let found = wait::until("the bill is at the platform", 90, || bill(&house, &contract));
    wait::until_true("the workload was ended", 30, || !lives(pid));
    let (number, total) = (text(&found, "bill_no").to_owned(), text(&found, "total_cny").to_owned());
    assert_ne!(total, "0.00");

    let (pack, verdict) = verified(&house, &url, &contract, &number);
    assert_eq!((&verdict["billed_total_cny"], &verdict["due_total_cny"]), (&found["total_cny"], &found["total_cny"]));
    change(&house, &url, &contract, &["dispute", "--pack", &pack, "--why", "too slow"]);
    comes_to(&house, &contract, "disputed");
    wait::until_true("the platform knows of it", 60, || operator(&house, "pay", &number, &total) == 1);
    let due = correct(&house, &number);
    assert_ne!(due, total);
    wait::until_true("what is due can be paid", 60, || operator(&house, "pay", &number, &due) == 0);
    comes_to(&house, &contract, "paid");
    let (pack, verdict) = verified(&house, &url, &contract, &number);
    assert_eq!(
        (&verdict["billed_total_cny"], &verdict["due_total_cny"]),
        (&found["total_cny"], &Value::from(due.clone()))
    );

    change(&house, &url, &contract, &["dispute", "--pack", &pack, "--why", "and too small"]);
    comes_to(&house, &contract, "reopened");
    correct(&house, &number);
    comes_to(&house, &contract, "refunding");
    assert_eq!(operator(&house, "refund", &number, "0.02"), 1, "not that much");
    wait::until_true("what was paid too much goes back", 60, || operator(&house, "refund", &number, "0.01") == 0);
    comes_to(&house, &contract, "refunded");
    wait::until_true("the platform has everything", 60, || {
        bill(&house, &contract).is_some_and(|found| found["state"] == "refunded")
    });
    verified(&house, &url, &contract, &number);
    assert_eq!(house.held("alarms"), Vec::<Value>::new(), "nothing that a person must look at");
    assert_eq!(agent.signal("TERM"), 0);
    let checked = house.check_ledger();
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0), "{checked}");
}
