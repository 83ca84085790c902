//! The far end of IF2 written from the documents alone, in Python (`interop/operator`), against a real agent over a real mosquitto:
//! product report, order, bill, payment, demands, and every kind of wrong message. What Rust does here is to make the house, and to
//! look at the node's ledger at the end.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::{House, PRODUCT},
    program::{command, ours, run},
    tree,
};

#[test]
fn an_operator_written_from_the_documents_trades_with_the_agent() {
    run(command(tree::root().join("scripts/python-env.sh")).current_dir(tree::root())).expect(0);
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port());
    let config = house.at("node/hufu.toml");
    let told = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, format!("{told}\n[demand]\nevery_s = 1\n")).expect("a configuration");
    let status = format!("{} status --json --config {}", ours("hufu").display(), house.path("node/hufu.toml"));
    let mut operator = command(tree::root().join("target/py/bin/python"));
    operator.arg("tests/interop/operator").current_dir(tree::root());
    operator.args(["--broker", &broker.address(), "--site", "s1", "--node", "n1", "--product", PRODUCT]);
    operator.args(["--key", &house.path("platform.key"), "--cert", &house.path("platform.pem")]);
    operator.args(["--trust", &house.path("root.pem"), "--status", &status]);
    operator.args(["--buyer-key", &house.path("buyer.key"), "--buyer-cert", &house.path("buyer.pem")]);
    let operator = std::thread::spawn(move || run(&mut operator));
    // What the platform says last of itself is retained: the node begins when there is somebody to compare its log with.
    let port = broker.port().to_string();
    let state = ["-h", "127.0.0.1", "-p", &port, "-t", "hufu/v1/s1/platform/state", "-C", "1", "-W", "60"];
    let online = run(command("mosquitto_sub").args(state)).expect(0).stdout;
    assert!(online.contains(r#""state":"online""#), "{online}");
    let mut agent = house.agent();
    let ran = operator.join().expect("the operator's end");
    assert_eq!(ran.code, 0, "{}\n{}\nagent: {}", ran.stdout, ran.stderr, agent.said());
    let told = ran.json();
    println!("{told:#}");
    assert_ne!(told["total_cny"], "0.00", "a workload that burns CPU costs something");
    assert_eq!(told["refused"], serde_json::json!({}), "nothing in the node's log is wrong");
    assert_eq!(told["refusal"], "unknown", "no product of that class");
    assert!(
        told["tokens"].as_u64() >= Some(2),
        "one from the first, one for the one that was taken: {}",
        told["tokens"]
    );
    let wrong = told["wrong"].as_object().expect("wrong messages");
    assert!(wrong.len() >= 60, "{} kinds of wrong messages", wrong.len());

    let status = house.try_status().expect("the agent lives");
    let contract = &status["contracts"].as_array().expect("contracts").iter().find(|c| c["state"] == "paid");
    let contract = contract.unwrap_or_else(|| panic!("no contract is paid: {status:#}"));
    assert_eq!(contract["contract_no"], told["contract_no"]);
    assert_eq!(contract["bills"][0]["total_cny"], told["total_cny"]);
    assert_eq!((&contract["bills"][0]["paid"], &contract["bills"][0]["receipted"]), (&true.into(), &true.into()));
    assert_eq!(agent.signal("TERM"), 0, "{}", agent.said());
    let checked = house.check_ledger();
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0), "{checked}");
}
