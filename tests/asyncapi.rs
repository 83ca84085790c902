//! docs/asyncapi.yaml, the contract of IF2 in a form that programs read: the official parser takes it, it says what docs/if2.md
//! says, its examples are the golden files, and every message of a run is one that it allows. The Node side is `asyncapi/validate.mjs`.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::{House, NODE},
    program::{Daemon, Ran, command, platform, run},
    trade::{bill, buy, metered, text},
    tree, wait,
};
use serde_json::Value;

const DOCUMENT: &str = "docs/asyncapi.yaml";

/// Runs validate.mjs in the tree's root with the packages that `scripts/node-env.sh` installs.
fn validate(arguments: &[&str]) -> Ran {
    run(command(tree::root().join("scripts/node-env.sh")).current_dir(tree::root())).expect(0);
    run(command("node").arg("tests/asyncapi/validate.mjs").arg(DOCUMENT).args(arguments).current_dir(tree::root()))
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// First and further columns of a Markdown table's rows below a heading, without backquotes.
fn rows<'a>(document: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let section = document.split(heading).nth(1).expect("the heading").split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn the_official_parser_takes_the_document_and_it_says_what_if2_md_says() {
    let told = validate(&["trade/testdata/golden"]).expect(0).json();
    assert_eq!(told["version"], "3.1.0");
    assert!(told["examples"].as_u64() >= Some(15), "{}", told["examples"]);
    let channels: BTreeSet<&str> = told["channels"].as_object().expect("channels").keys().map(String::as_str).collect();
    let if2 = tree::read("docs/if2.md");
    let mut wanted = BTreeSet::new();
    let mut again = BTreeMap::new();
    for row in rows(&if2, "\n## 3. ") {
        let [names, direction, kind, ..] = row.as_slice() else { panic!("{row:?}") };
        for name in names.split(',').map(|name| name.trim().trim_matches('`')) {
            let address = format!("hufu/v1/{{site}}/{{node}}/{direction}/{name}");
            again.insert(address.clone(), kind.split(':').next().unwrap_or_default().to_owned());
            wanted.insert(format!("{address}/re"));
            wanted.insert(address);
        }
    }
    assert_eq!(again.len(), 18, "{again:?}");
    // The topics of section 1 that are no interface's.
    let topics: Vec<&str> = rows(&if2, "\n## 1. ").iter().map(|row| row[0].trim_matches('`')).collect();
    wanted.extend(topics.iter().filter(|topic| !topic.contains("{interface}")).map(|topic| (*topic).to_owned()));
    assert_eq!(channels, wanted.iter().map(String::as_str).collect(), "topics");
    for pair in told["again"].as_array().expect("pairs") {
        let [address, kind] = strings(pair)[..] else { panic!("{pair}") };
        let listed = again.get(&address.replace("/products", "/up/product-report"));
        assert_eq!(listed.map(String::as_str), Some(kind), "{address}");
    }
    for reply in told["replies"].as_array().expect("replies") {
        let [asked, answered, action] = strings(reply)[..] else { panic!("{reply}") };
        assert_eq!(answered, format!("{asked}/re"));
        assert_eq!(action, if asked.contains("/up/") { "receive" } else { "send" }, "{asked}");
    }
}

/// A mosquitto_sub that writes down every message of the site.
fn recorder(house: &House, broker: &Mosquitto) -> Daemon {
    let port = broker.port().to_string();
    let mut program = command("mosquitto_sub");
    program.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", "hufu/#", "-t", "ready", "-F", "%t %r %x"]);
    let recorder = Daemon::start(&mut program, &house.at("record"));
    wait::until_true("the recorder hears", 20, || {
        publish(broker, "ready", "now");
        recorder.said().contains("ready 0 ")
    });
    recorder
}

fn publish(broker: &Mosquitto, topic: &str, message: &str) {
    let port = broker.port().to_string();
    run(command("mosquitto_pub").args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", topic, "-m", message]))
        .expect(0);
}

#[test]
fn every_message_of_a_trade_is_one_that_the_document_allows() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let house = House::new(broker.port());
    let config = house.at("node/hufu.toml");
    let told = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, format!("{told}\n[demand]\nevery_s = 1\n")).expect("a configuration");
    let recorder = recorder(&house, &broker);
    let (mut operator, url, _) = house.platform(&["--broker", &broker.address()]);
    let mut agent = house.agent();
    let contract = buy(&house, &url, "c1", "300s");
    let wanted = ["--min", "cpu=1", "--term", "20s", "--node", NODE, "--attribute", "region=east"];
    house.buyer("demand", &url, "wanted", &wanted).expect(0);
    house.buyer("demand", &url, "wanted", &["--class", "SaaS"]).expect(0);
    house.buyer("refund", &url, "c1", &[]).expect(0);
    house.buyer("refund", &url, "c1", &["--at", "2020-01-01T00:00:00Z"]).expect(1);
    metered(&house, &contract, 0);
    for act in ["suspend", "terminate"] {
        wait::until_true(act, 60, || house.buyer("change", &url, "c1", &[act]).code == 0);
    }
    let found = wait::until("the bill is at the platform", 90, || bill(&house, &contract));
    house.buyer("bills", &url, "c1", &["--contract", &contract.no]).expect(0);
    wait::until_true("the score is taken", 60, || house.buyer("score", &url, "c1", &["cpu=95", "memory=90"]).code == 0);
    let (number, total) = (text(&found, "bill_no"), text(&found, "total_cny"));
    let pay = ["pay", number, "--dir", &house.path("platform"), "--amount", total, "--reference", "transfer-1"];
    wait::until_true("it can be paid", 60, || platform(&pay).code == 0);
    let paid = |status: Value| status["contracts"][0]["state"] == "scored" || status["contracts"][0]["state"] == "paid";
    wait::until_true("the node knows of the payment", 90, || house.try_status().is_some_and(paid));
    let responses = |said: &str| said.matches("/up/demand-response/re ").count();
    wait::until_true("both demands are answered", 60, || responses(&recorder.said()) >= 2);

    let good = validate(&["--record", &house.path("record")]).expect(0).json();
    assert!(good["errors"]["offer"].as_u64() >= Some(1), "a moment before the term: {good}");
    // One more member than an envelope has: no schema allows it, and the platform says so.
    let answer = format!("hufu/v1/{NODE}/up/bill-push/re ");
    let answers = |said: &str| said.matches(&answer).count();
    let before = answers(&recorder.said());
    let stray = format!(r#"{{"v":1,"payload":"e30","cert_id":"{}","sig":"MAA","more":1}}"#, "0".repeat(64));
    publish(&broker, &format!("hufu/v1/{NODE}/up/bill-push"), &stray);
    wait::until_true("it is answered", 30, || answers(&recorder.said()) > before);
    assert_eq!(agent.signal("TERM"), 0, "{}", agent.said());
    wait::until_true("it has logged out", 20, || recorder.said().contains("/up/logout/re "));
    assert_eq!(operator.signal("TERM"), 0, "{}", operator.said());
    wait::until_true("the platform's last word", 20, || recorder.said().matches("/platform/state ").count() >= 2);

    let told = validate(&["--record", &house.path("record")]).expect(1).json();
    let wrong = strings(&told["wrong"]);
    assert!(wrong.len() == 1 && wrong[0].starts_with(&format!("hufu/v1/{NODE}/up/bill-push: 0 kinds")), "{wrong:#?}");
    assert_eq!(told["errors"]["malformed"], 1, "{told}");
    let seen = told["seen"].as_object().expect("kinds of messages");
    let addresses: BTreeSet<&str> = seen.keys().filter_map(|kind| kind.split(' ').next()).collect();
    // All but user-info, which the reference agent never asks.
    let asked = addresses.iter().filter(|address| address.contains("/up/") || address.contains("/down/"));
    assert_eq!(asked.clone().filter(|address| !address.ends_with("/re")).count(), 17, "interfaces: {seen:#?}");
    assert_eq!(asked.count(), 34, "and their answers: {seen:#?}");
    assert_eq!(addresses.len(), 37, "and presence, products, state: {seen:#?}");
}
