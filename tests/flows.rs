//! Whole flows with real programs and real brokers, judged by what the platform holds at the end: every bill once, receipted,
//! provable, whatever was killed on the way.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::fs;

use hufu_tests::{
    broker::{Memory, Mosquitto, free_port},
    house::House,
    program::{Daemon, hufu},
    trade::{Contract, bill, buy, lives, metered, text, workload},
    wait,
};
use serde_json::Value;

/// The node knows that the platform holds everything it has to send.
fn everything_is_receipted(house: &House) -> bool {
    let Some(status) = house.try_status() else { return false };
    let bills = status["contracts"].as_array().into_iter().flatten().flat_map(|c| c["bills"].as_array().cloned());
    let mut bills = bills.flatten().peekable();
    bills.peek().is_some() && bills.all(|bill| bill["receipted"] == true && bill["refused"] != true)
}

/// From the deal to the verified pack: the bill arrives, is receipted, paid and scored, and its pack holds.
fn settle(house: &House, platform: &str, contract: &Contract) -> Value {
    let found = wait::until("the bill is at the platform", 90, || bill(house, contract));
    let number = text(&found, "bill_no").to_owned();
    let total = text(&found, "total_cny").to_owned();
    assert_ne!(total, "0.00", "a workload that burns CPU costs something");
    wait::until_true("the node has the platform's receipt", 60, || everything_is_receipted(house));
    let dir = house.path("platform");
    let pay = ["pay", &number, "--dir", &dir, "--amount", &total, "--reference", "transfer-1"];
    for time in ["once", "again"] {
        println!("paid {time}");
        hufu_tests::program::platform(&pay).expect(0);
    }
    let scored = wait::until("the score is taken", 60, || {
        let ran = house.buyer("score", platform, contract.state, &["cpu=95", "memory=90"]);
        (ran.code != 69).then(|| ran.expect(0).json())
    });
    assert_eq!(scored["contract_no"], contract.no.as_str());
    the_next_buyer_sees_the_score(house, platform, contract);
    wait::until_true("the score is proven", 60, || {
        let listed = hufu(&["buyer", "browse", "--platform", platform, "--json", "--trust", &house.path("root.pem")]);
        let listed = listed.expect(0).json();
        let scores = listed["scores"].as_array().expect("scores");
        scores.iter().any(|score| score["contract_no"] == contract.no.as_str() && score["proven"] == true)
    });
    let pack = house.path(&format!("{}.zip", contract.state));
    house.buyer("pack", platform, contract.state, &[&number, "--output", &pack]).expect(0);
    let trust = house.path("root.pem");
    let verdict = hufu(&["verify", &pack, "--trust", &trust, "--json"]).expect(0).json();
    for (name, verdict) in verdict["verdicts"].as_object().expect("verdicts") {
        assert_ne!(verdict["result"], "fail", "{name}: {verdict}");
    }
    assert_eq!(verdict["billed_total_cny"], verdict["recomputed_total_cny"]);
    assert_eq!(verdict["billed_total_cny"], total.as_str());
    let told = hufu(&["buyer", "score", "--suggest", &pack, "--trust", &trust, "--json"]).expect(0).json();
    let suggested = told["suggested"].as_array().expect("one for each priced resource");
    let named: Vec<&str> = suggested.iter().filter_map(|one| one["resource"].as_str()).collect();
    assert_eq!((told["bill_no"].as_str(), named), (Some(number.as_str()), vec!["cpu", "memory"]), "{told}");
    for one in suggested {
        let has_score = one["score"].as_u64().is_some_and(|score| score <= 100);
        assert!(has_score != one["reason"].is_string(), "a score, or why there is none: {one}");
    }
    for node in house.held("nodes") {
        assert_eq!(node["forks"], 0, "no height was signed twice: {node}");
    }
    assert_eq!(house.held("alarms"), Vec::<Value>::new(), "nothing that a person must look at");
    found
}

/// Whoever looks at what is on sale sees how earlier buyers scored, and checks it against its own trust anchor.
fn the_next_buyer_sees_the_score(house: &House, platform: &str, contract: &Contract) {
    for (trust, verified) in
        [(Some("root.pem"), Value::Bool(true)), (Some("platform.pem"), Value::Bool(false)), (None, Value::Null)]
    {
        let trust = trust.map(|name| house.path(name));
        let anchors: Vec<&str> = trust.iter().flat_map(|path| ["--trust", path]).collect();
        let listed =
            hufu(&[&["buyer", "browse", "--platform", platform, "--json"], &anchors[..]].concat()).expect(0).json();
        let mut scores = listed["scores"].as_array().expect("scores").iter();
        let score = scores.find(|score| score["contract_no"] == contract.no.as_str()).expect("the score");
        assert_eq!((&score["overall"], &score["verified"]), (&Value::from("93.00"), &verified), "{trust:?}");
        let deals = listed["deals"].as_array().expect("deals");
        assert!(deals.iter().any(|deal| deal["contract_no"] == contract.no.as_str()), "{deals:?}");
    }
}

/// Stops the agent and checks its whole ledger from the bytes.
fn ledger_is_whole(house: &House, mut agent: Daemon) {
    assert_eq!(agent.signal("TERM"), 0);
    let checked = house.check_ledger();
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0), "{checked}");
}

#[test]
fn the_whole_path_over_the_embedded_broker() {
    let house = House::new(free_port());
    let (platform, url, broker) = house.platform(&["--embedded-broker"]);
    house.point_at(&broker);
    let agent = house.agent();
    let contract = buy(&house, &url, "c1", "8s");
    let pid = workload(&house, &contract);
    assert!(lives(pid));
    settle(&house, &url, &contract);
    wait::until_true("the workload was ended", 30, || !lives(pid));
    ledger_is_whole(&house, agent);
    drop(platform);
}

#[test]
fn the_whole_path_over_mosquitto_twice_with_one_ledger() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port());
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let agent = house.agent();
    for state in ["c1", "c2"] {
        let contract = buy(&house, &url, state, "6s");
        settle(&house, &url, &contract);
    }
    assert_eq!(house.held("bills").len(), 2);
    ledger_is_whole(&house, agent);
}

/// The address that the buyer is told when it sends its order again, once there is one.
fn address(house: &House, platform: &str, contract: &Contract) -> String {
    wait::until("the address is told", 60, || {
        let ran = house.buyer("order", platform, contract.state, &["--term", "60s", "--ceiling", "1000"]);
        let said = (ran.code != 69).then(|| ran.expect(0).json())?;
        assert_eq!(said["contract_no"], contract.no.as_str(), "the same order, not another one");
        said["address"].as_str().map(str::to_owned)
    })
}

#[test]
fn the_buyer_is_told_where_to_go_by_the_sites_command_or_by_its_template() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port());
    let config = house.at("node/hufu.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    let text = text.replace("[provision]\n", "[provision]\naddress = \"ssh://{node}.{site}.example/{contract_no}\"\n");
    fs::write(&config, text).expect("a configuration");
    // The site's own command, which names an address while the site wants it to.
    let command = fs::read_to_string(house.at("provision.sh")).expect("a provisioning command");
    let named = command.replace(r#",\"address\":\"local:$pid\""#, r#"$(cat "$folder/address" 2> /dev/null)"#);
    assert_ne!(named, command);
    fs::write(house.at("provision.sh"), named).expect("a provisioning command");
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let agent = house.agent();
    let by_template = buy(&house, &url, "c1", "60s");
    let told = address(&house, &url, &by_template);
    assert_eq!(told, format!("ssh://n1.s1.example/{}", by_template.no));
    fs::write(house.at("address"), ",\"address\":\"https://gate.example:8443/a\"").expect("an address");
    let by_command = buy(&house, &url, "c2", "60s");
    assert_eq!(address(&house, &url, &by_command), "https://gate.example:8443/a");
    // The site sees the same, and the first buyer's address is what it was.
    let status = house.try_status().expect("a status");
    let shown = |contract: &Contract| {
        let all = status["contracts"].as_array().expect("contracts");
        all.iter().find(|one| one["contract_no"] == contract.no.as_str()).expect("the contract")["address"].clone()
    };
    assert_eq!((shown(&by_template), shown(&by_command)), (told.into(), "https://gate.example:8443/a".into()));
    drop(agent);
}

/// CPU time of a process and of the children it waited for, ns, by the kernel's own book; 0 once it is gone.
fn cpu_ns(pid: u32) -> u64 {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0 };
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    // utime, stime, cutime, cstime: fields 14 to 17, in hundredths of a second on every Linux.
    rest.split(' ').skip(11).take(4).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10_000_000
}

#[test]
fn an_agent_killed_in_the_middle_of_an_order_loses_nothing_and_counts_nothing_twice() {
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port());
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let mut agent = house.agent();
    let contract = buy(&house, &url, "c1", "20s");
    let pid = workload(&house, &contract);
    for _ in 0..2 {
        let before = metered(&house, &contract, 0);
        agent.kill();
        agent = house.agent();
        metered(&house, &contract, before);
        assert!(lives(pid), "the workload outlives the agent");
    }
    assert_eq!(workload(&house, &contract), pid, "and is not started a second time");
    let mut own_ns = 0;
    wait::until("the bill is at the platform", 90, || {
        own_ns = own_ns.max(cpu_ns(pid));
        bill(&house, &contract)
    });
    let found = settle(&house, &url, &contract);
    let billed_ns = cpu_billed_ns(&house, &contract);
    assert!(
        billed_ns <= own_ns + 200_000_000 && billed_ns >= own_ns - own_ns / 10 - 200_000_000,
        "billed {billed_ns} ns, the workload used {own_ns} ns: {found}"
    );
    ledger_is_whole(&house, agent);
}

/// The CPU time that the platform holds for a contract.
fn cpu_billed_ns(house: &House, contract: &Contract) -> u64 {
    let usage = house.held("usage");
    let cpu = usage.iter().find(|u| u["contract_no"] == contract.no.as_str() && u["resource"] == "cpu");
    text(cpu.expect("cpu was metered"), "quantity").parse().expect("a number")
}

#[test]
fn a_broker_that_comes_late_is_found() {
    let mut broker = Mosquitto::new(Memory::Kept);
    let house = House::new(broker.port());
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let agent = house.agent();
    assert_eq!(house.try_status().expect("a status")["linked"], false);
    broker.start();
    let contract = buy(&house, &url, "c1", "6s");
    settle(&house, &url, &contract);
    ledger_is_whole(&house, agent);
}

#[test]
fn a_broker_that_forgets_everything_in_the_middle_of_an_order_loses_nothing() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let house = House::new(broker.port());
    let (_platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let agent = house.agent();
    let contract = buy(&house, &url, "c1", "16s");
    let before = metered(&house, &contract, 0);
    broker.kill();
    wait::until_true("the node notices", 60, || house.try_status().is_some_and(|status| status["linked"] == false));
    metered(&house, &contract, before + 1);
    broker.start();
    settle(&house, &url, &contract);
    ledger_is_whole(&house, agent);
}

#[test]
fn a_platform_killed_in_the_middle_of_an_order_goes_on_where_it_was() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let house = House::new(broker.port());
    let more = ["--broker", &broker.address(), "--listen", &format!("127.0.0.1:{}", free_port())];
    let (mut platform, url, _) = house.platform(&more);
    let agent = house.agent();
    let contract = buy(&house, &url, "c1", "14s");
    let before = metered(&house, &contract, 0);
    platform.kill();
    metered(&house, &contract, before);
    let (_platform, again, _) = house.platform(&more);
    assert_eq!(url, again);
    settle(&house, &url, &contract);
    assert_eq!(house.held("bills").len(), 1);
    ledger_is_whole(&house, agent);
}
