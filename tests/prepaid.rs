//! A prepaid order given up before its term, with real programs and a real broker: the price is computed, the bill says what goes
//! back, the platform's confirmation names it, and the pack holds.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::fs;

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::{House, NODE, PRODUCT},
    program::{Ran, hufu, platform},
    trade::{Contract, bill, metered, text},
    wait,
};
use serde_json::Value;

/// `busy` (69) means: ask again, with the same papers.
fn answered(what: &str, ask: impl Fn() -> Ran) -> Value {
    wait::until(&format!("{what} is answered"), 60, || {
        let ran = ask();
        (ran.code != 69).then(|| ran.expect(0).json())
    })
}

#[test]
fn a_prepaid_order_given_up_gives_back_what_was_not_served() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port());
    let config = house.path("node/hufu.toml");
    let written = fs::read_to_string(&config).expect("a configuration");
    let reserved = written
        .replace("resource = \"cpu\"\nprice = \"100\"", "resource = \"reserved_cpu\"\nprice = \"10000\"")
        .replace("resource = \"memory\"\nprice = \"10\"", "resource = \"reserved_memory\"\nprice = \"100000\"");
    assert_eq!(reserved.matches("resource = \"reserved_").count(), 2);
    fs::write(&config, reserved).expect("written");
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let mut agent = house.agent();
    wait::until_true("the platform has the catalogue", 60, || {
        house.held("products").iter().any(|product| product["id"] == PRODUCT)
    });
    let state = "c1";
    answered("browse", || house.buyer("browse", &url, state, &["--node", NODE, "--product", PRODUCT]));
    let deal = answered("order", || house.buyer("order", &url, state, &["--term", "1h", "--prepaid"]));
    // A tenth of a core at 10000 an hour, and a 1024th of a GiB at 100000: a tenth of a second is some fen.
    assert_eq!((text(&deal, "payment"), text(&deal, "ceiling_cny")), ("prepaid", "1097.65"));
    let contract = Contract { no: text(&deal, "contract_no").to_owned(), state };
    metered(&house, &contract, 1);
    answered("terminate", || house.buyer("change", &url, state, &["terminate"]));
    let found = wait::until("the bill is at the platform", 90, || bill(&house, &contract));
    let (number, total) = (text(&found, "bill_no").to_owned(), text(&found, "total_cny").to_owned());
    let charged: f64 = total.parse().expect("an amount");
    assert!(charged > 0.0 && charged < 500.0, "{total} of 1097.65");
    let dir = house.path("platform");
    let paid = platform(&["pay", &number, "--dir", &dir, "--amount", &total, "--reference", "p-1"]);
    assert_eq!(paid.code, 0);
    wait::until_true("the contract is paid", 60, || {
        let contracts = house.try_status().map(|status| status["contracts"].clone()).unwrap_or_default();
        contracts.as_array().is_some_and(|all| all.iter().any(|found| found["state"] == "paid"))
    });
    wait::until_true("the pack holds the payment", 60, || {
        let pack = house.path(&format!("{number}.zip"));
        house.buyer("pack", &url, state, &[number.as_str(), "--output", &pack]).expect(0);
        let said = hufu(&["verify", &pack, "--trust", &house.path("root.pem"), "--json"]).expect(0).json();
        let bytes = fs::read(&pack).expect("a pack");
        assert_eq!(said["billed_total_cny"], said["recomputed_total_cny"]);
        let holds = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
        assert!(holds(b"\"refund\": \""), "the bill says what goes back");
        holds(b"-payment.der")
    });
    assert_eq!(house.held("alarms"), Vec::<Value>::new(), "nothing that a person must look at");
    assert_eq!(agent.signal("TERM"), 0);
}
