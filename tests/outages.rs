//! Outages, with real programs and real brokers: one that is stopped, one that forgets, one that drops messages, lines that are
//! slow, break in the middle of a message or swallow what they are given, and a platform that is away for many windows. Each is
//! judged at the end in the platform's database: every block once and in order, every usage record, every bill once.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{fs, thread, time::Duration};

use hufu_tests::{
    broker::{Memory, Mosquitto, free_port},
    house::{House, NODE, PRODUCT},
    line::Line,
    program::{self, hufu},
    trade::{Contract, bill, buy, metered, records, text},
    wait,
};
use serde_json::Value;

/// Counts what the platform's database holds, read by SQLite itself and not through a program of ours.
const JUDGE: &str = r#"
import json, sqlite3, sys
db = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
one = lambda query: db.execute(query).fetchone()[0]
print(json.dumps({
    "trade": one("SELECT COUNT(*) FROM blocks WHERE log = 0"),
    "trade_top": one("SELECT MAX(height) + 1 FROM blocks WHERE log = 0"),
    "finance": one("SELECT COUNT(*) FROM blocks WHERE log = 1"),
    "finance_top": one("SELECT MAX(height) + 1 FROM blocks WHERE log = 1"),
    "forks": one("SELECT COUNT(*) FROM forks"),
    "usage": one("SELECT COUNT(*) FROM entries WHERE kind = 12"),
    "records": one("SELECT COUNT(*) FROM entries WHERE kind IN (12, 13)"),
    "records_once": one("SELECT COUNT(*) FROM (SELECT DISTINCT contract, seq FROM entries WHERE kind IN (12, 13))"),
    "records_top": one("SELECT MAX(seq) + 1 FROM entries WHERE kind IN (12, 13)"),
    "refused": one("SELECT COUNT(*) FROM entries WHERE refused IS NOT NULL"),
    "bills": one("SELECT COUNT(*) FROM bills"),
    "alarms": one("SELECT COUNT(*) FROM alarms"),
}))
"#;

fn database(house: &House) -> Value {
    program::run(program::command("python3").args(["-c", JUDGE, &house.path("platform/platform.db")])).expect(0).json()
}

/// Waits for the bill of the only contract, ends the agent, and compares both ends.
fn everything_arrived_once(house: &House, url: &str, contract: &Contract, mut agent: program::Daemon, limit_s: u64) {
    let found = wait::until("the bill is at the platform", limit_s, || bill(house, contract));
    let number = text(&found, "bill_no").to_owned();
    wait::until_true("the node has the receipt for it", limit_s, || {
        house.try_status().is_some_and(|status| {
            let mut contracts = status["contracts"].as_array().into_iter().flatten();
            contracts.any(|c| c["contract_no"] == contract.no.as_str() && c["bills"][0]["receipted"] == true)
        })
    });
    let pack = house.path("bill.zip");
    wait::until("the pack", 60, || {
        let ran = house.buyer("pack", url, contract.state, &[&number, "--output", &pack]);
        (ran.code == 0).then_some(())
    });
    assert_eq!(agent.signal("TERM"), 0, "{}", agent.said());
    let held = database(house);
    println!("{held}");
    for [count, top] in
        [["trade", "trade_top"], ["finance", "finance_top"], ["records", "records_once"], ["records", "records_top"]]
    {
        assert_eq!(held[count], held[top], "{count}: each once, none left out: {held}");
    }
    assert_eq!(held["bills"], 1, "{held}");
    for none in ["forks", "refused", "alarms"] {
        assert_eq!(held[none], 0, "{none}: {held}");
    }
    let checked = house.check_ledger();
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0), "{checked}");
    let verdict = hufu(&["verify", &pack, "--trust", &house.path("root.pem"), "--json"]).expect(0).json();
    assert_eq!(verdict["billed_total_cny"], verdict["recomputed_total_cny"], "{verdict}");
    assert_eq!(verdict["billed_total_cny"], found["total_cny"], "{verdict}");
    assert_ne!(found["total_cny"], "0.00");
}

#[test]
fn a_broker_that_is_killed_and_forgets_five_times() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let house = House::new(broker.port());
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let agent = house.agent();
    let contract = buy(&house, &url, "c1", "20s");
    for up_ms in [900, 100, 1700, 400, 1300] {
        broker.kill();
        thread::sleep(Duration::from_millis(600));
        broker.start();
        thread::sleep(Duration::from_millis(up_ms));
    }
    everything_arrived_once(&house, &url, &contract, agent, 120);
}

#[test]
fn a_broker_that_keeps_one_message_and_drops_the_others() {
    let mut broker = Mosquitto::with(Memory::None, "max_inflight_messages 1\nmax_queued_messages 1\n");
    broker.start();
    let house = House::new(broker.port());
    let more = ["--broker", &broker.address(), "--listen", &format!("127.0.0.1:{}", free_port())];
    let (mut platform, url, _) = house.platform(&more);
    let agent = house.agent();
    let contract = buy(&house, &url, "c1", "16s");
    let before = metered(&house, &contract, 0);
    platform.kill();
    metered(&house, &contract, before + 2);
    let (_platform, url, _) = house.platform(&more);
    everything_arrived_once(&house, &url, &contract, agent, 120);
}

#[test]
fn a_slow_line() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let line = Line::to(broker.port());
    let house = House::new(line.port());
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let agent = house.agent();
    let contract = buy(&house, &url, "c1", "16s");
    // What the node signs in these seconds is more than the line carries in them: it falls behind and catches up.
    line.slow(1200);
    metered(&house, &contract, 4);
    everything_arrived_once(&house, &url, &contract, agent, 180);
}

#[test]
fn a_line_that_breaks_in_the_middle_of_messages() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let [node, platform] = [Line::to(broker.port()), Line::to(broker.port())];
    let house = House::new(node.port());
    let (_platform, url, _) = house.platform(&["--broker", &platform.address()]);
    let agent = house.agent();
    let contract = buy(&house, &url, "c1", "24s");
    for line in [&node, &platform] {
        line.breaks_within(16_000);
    }
    // A connection of before holds until it is cut: this breaks both.
    broker.kill();
    broker.start();
    metered(&house, &contract, 6);
    everything_arrived_once(&house, &url, &contract, agent, 480);
    assert!(node.broken() > 0 && platform.broken() > 0, "{} and {} breaks", node.broken(), platform.broken());
}

/// As one of a cluster does that has just lost another. What node and platform have to say meanwhile must not keep them from it.
#[test]
fn a_broker_that_takes_its_time_to_welcome_anybody() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let line = Line::to(broker.port());
    let house = House::new(line.port());
    let (_platform, url, _) = house.platform(&["--broker", &line.address()]);
    let agent = house.agent();
    let contract = buy(&house, &url, "c1", "16s");
    line.waits(Duration::from_secs(7));
    broker.kill();
    broker.start();
    let asked = ["--node", NODE, "--product", PRODUCT];
    wait::until_true("a buyer is answered", 90, || house.buyer("browse", &url, "c2", &asked).code == 0);
    everything_arrived_once(&house, &url, &contract, agent, 120);
}

/// What the broker kept for the platform is more than any connection of it carries, and comes first on each.
#[test]
fn a_queue_that_no_connection_carries() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let line = Line::to(broker.port());
    let house = House::new(broker.port());
    let more = ["--broker", &line.address(), "--listen", &format!("127.0.0.1:{}", free_port())];
    let (mut platform, url, _) = house.platform(&more);
    let agent = house.agent();
    let contract = buy(&house, &url, "c1", "16s");
    platform.kill();
    let port = broker.port().to_string();
    for _ in 0..12 {
        let topic = "hufu/v1/s1/stranger/presence";
        let said = ["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", topic, "-m", &"x".repeat(4000)];
        program::run(program::command("mosquitto_pub").args(said)).expect(0);
    }
    line.breaks_within(16_000);
    let (_platform, url, _) = house.platform(&more);
    everything_arrived_once(&house, &url, &contract, agent, 240);
    assert!(line.broken() > 0, "no connection broke");
}

#[test]
fn a_line_that_swallows_for_a_while() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let line = Line::to(broker.port());
    let house = House::new(line.port());
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let agent = house.agent();
    let contract = buy(&house, &url, "c1", "16s");
    let before = metered(&house, &contract, 0);
    line.swallow(true);
    metered(&house, &contract, before + 4);
    line.swallow(false);
    everything_arrived_once(&house, &url, &contract, agent, 120);
}

/// Windows of one second for which the platform is away: 45 here, 1440 (a day of the usual windows) by
/// `HUFU_OUTAGE_WINDOWS=1440`.
#[test]
fn a_platform_that_is_away_for_many_windows() {
    let windows: u64 = std::env::var("HUFU_OUTAGE_WINDOWS").map_or(45, |text| text.parse().expect("a number"));
    let mut broker = Mosquitto::with(Memory::Kept, "max_queued_messages 10\n");
    broker.start();
    let house = House::new(broker.port());
    let config = house.at("node/hufu.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text.replace("window_s = 2", "window_s = 1")).expect("a configuration");
    let more = ["--broker", &broker.address(), "--listen", &format!("127.0.0.1:{}", free_port())];
    let (mut platform, url, _) = house.platform(&more);
    let agent = house.agent();
    let term = format!("{}s", windows + 10);
    let contract = buy(&house, &url, "c1", &term);
    let before = metered(&house, &contract, 0);
    assert_eq!(platform.signal("TERM"), 0, "{}", platform.said());
    // What it held when it went away.
    let then = database(&house)["usage"].as_u64().expect("a count");
    wait::until_true("the windows are metered", windows * 2 + 60, || {
        records(&house, &contract).is_some_and(|count| count >= before + windows)
    });
    assert_eq!(database(&house)["usage"], then, "nothing can arrive");
    let (_platform, url, _) = house.platform(&more);
    everything_arrived_once(&house, &url, &contract, agent, 180 + windows);
    let now = database(&house)["usage"].as_u64().expect("a count");
    assert!(now >= then + windows, "{then} before, {now} after {windows} windows");
}
