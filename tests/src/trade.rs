//! What flows have in common: a contract, from the catalogue to its records and its bill, as buyer, node and platform see it.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    house::{House, NODE, PRODUCT},
    wait,
};

/// A contract as the buyer knows it.
#[derive(Debug)]
pub struct Contract {
    /// Its number, hexadecimal.
    pub no: String,
    /// The folder of the buyer's papers.
    pub state: &'static str,
}

/// Waits until the platform has the node's catalogue, then browses and orders with a process of the buyer's own.
pub fn buy(house: &House, platform: &str, state: &'static str, term: &str) -> Contract {
    buy_with(house, platform, state, term, &[]).0
}

/// The same with more arguments of the order; what the order printed.
pub fn buy_with(house: &House, platform: &str, state: &'static str, term: &str, more: &[&str]) -> (Contract, Value) {
    buy_of(house, NODE, (platform, state, term), more)
}

/// The same of any node of the house.
pub fn buy_of(
    house: &House,
    node: &str,
    (platform, state, term): (&str, &'static str, &str),
    more: &[&str],
) -> (Contract, Value) {
    wait::until_true("the platform has the catalogue", 60, || {
        house.held("products").iter().any(|product| product["id"] == PRODUCT && product["node"] == node)
    });
    // `busy` (69) means that the node is not linked right now: ask again, with the same papers.
    let answered = |verb: &str, more: &[&str]| {
        wait::until(&format!("{verb} is answered"), 60, || {
            let ran = house.buyer(verb, platform, state, more);
            (ran.code != 69).then(|| ran.expect(0).json())
        })
    };
    let offer = answered("browse", &["--node", node, "--product", PRODUCT]);
    let deal = answered("order", &[&["--term", term, "--ceiling", "1000"][..], more].concat());
    assert_eq!(offer["contract_no"], deal["contract_no"]);
    (Contract { no: deal["contract_no"].as_str().expect("a number").to_owned(), state }, deal)
}

/// The one bill of a contract that the platform holds.
pub fn bill(house: &House, contract: &Contract) -> Option<Value> {
    let mut bills = house.held("bills");
    bills.retain(|bill| bill["contract_no"] == contract.no.as_str());
    assert!(bills.len() <= 1, "one bill for one contract: {bills:?}");
    bills.pop()
}

/// A member that is text.
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {value}"))
}

/// The process that the provisioning command started for a contract.
pub fn workload(house: &House, contract: &Contract) -> u32 {
    let path = house.at(&format!("{}.pid", contract.no));
    wait::until("the workload was started", 20, || fs::read_to_string(&path).ok()?.trim().parse().ok())
}

/// Whether a process lives.
pub fn lives(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Usage records of a contract so far, as the node says; `None` while it does not answer.
pub fn records(house: &House, contract: &Contract) -> Option<u64> {
    records_in(&house.try_status()?, contract)
}

/// The same in what any node says of itself.
pub fn records_in(status: &Value, contract: &Contract) -> Option<u64> {
    let found = status["contracts"].as_array()?.iter().find(|c| c["contract_no"] == contract.no.as_str())?;
    found["records"].as_str()?.parse().ok()
}

/// Waits for more usage records than these; how many there are.
pub fn metered(house: &House, contract: &Contract, more_than: u64) -> u64 {
    wait::until("another usage record", 60, || records(house, contract).filter(|count| *count > more_than))
}
