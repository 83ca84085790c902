//! The platform on a real PostgreSQL: a database that is killed in the middle of intake, and two workers of which one is killed. Each
//! is judged at the end by PostgreSQL's own client: every block, record and bill once, and no receipt over what is not stored.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{fs, thread, time::Duration};

use hufu_tests::{
    broker::{Memory, Mosquitto},
    house::House,
    postgres::Postgres,
    program::{Daemon, command, hufu, ours, run},
    trade::{Contract, bill, buy, metered, text},
    wait,
};

/// Nothing that a receipt covers is missing: there are as many blocks as the largest receipt says.
fn nothing_is_receipted_that_is_not_stored(database: &Postgres) {
    for log in [0, 1] {
        let receipted = database.number(&format!("SELECT COALESCE(MAX(size), 0) FROM receipts WHERE log = {log}"));
        let held = database.number(&format!("SELECT COUNT(*) FROM blocks WHERE log = {log} AND height < {receipted}"));
        assert_eq!(held, receipted, "log {log}");
    }
}

/// Waits for the bill of the only contract, ends the agent, and compares both ends.
fn everything_arrived_once(house: &House, url: &str, contract: &Contract, mut agent: Daemon, database: &Postgres) {
    let found = wait::until("the bill is at the platform", 120, || bill(house, contract));
    let number = text(&found, "bill_no").to_owned();
    wait::until_true("the node has the receipt for it", 120, || {
        house.try_status().is_some_and(|status| status["contracts"][0]["bills"][0]["receipted"] == true)
    });
    let pack = house.path("bill.zip");
    wait::until("the pack", 60, || {
        let ran = house.buyer("pack", url, contract.state, &[&number, "--output", &pack]);
        (ran.code == 0).then_some(())
    });
    assert_eq!(agent.signal("TERM"), 0, "{}", agent.said());
    for (each, all) in [
        ("SELECT COUNT(*) FROM blocks WHERE log = 0", "SELECT MAX(height) + 1 FROM blocks WHERE log = 0"),
        ("SELECT COUNT(*) FROM blocks WHERE log = 1", "SELECT MAX(height) + 1 FROM blocks WHERE log = 1"),
        (
            "SELECT COUNT(*) FROM entries WHERE kind IN (12, 13)",
            "SELECT MAX(seq) + 1 FROM entries WHERE kind IN (12, 13)",
        ),
        (
            "SELECT COUNT(*) FROM entries WHERE kind IN (12, 13)",
            "SELECT COUNT(DISTINCT seq) FROM entries WHERE kind IN (12, 13)",
        ),
        ("SELECT COUNT(*) FROM bills", "SELECT 1"),
        ("SELECT COUNT(*) FROM forks", "SELECT 0"),
        ("SELECT COUNT(*) FROM entries WHERE refused IS NOT NULL", "SELECT 0"),
        ("SELECT COUNT(*) FROM alarms", "SELECT 0"),
    ] {
        assert_eq!(database.number(each), database.number(all), "{each}");
    }
    nothing_is_receipted_that_is_not_stored(database);
    let verdict = hufu(&["verify", &pack, "--trust", &house.path("root.pem"), "--json"]).expect(0).json();
    assert_eq!(verdict["billed_total_cny"], verdict["recomputed_total_cny"], "{verdict}");
    assert_eq!(verdict["billed_total_cny"], found["total_cny"], "{verdict}");
    assert_ne!(found["total_cny"], "0.00");
}

fn short_windows(house: &House) {
    let config = house.at("node/hufu.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text.replace("window_s = 2", "window_s = 1")).expect("a configuration");
}

#[test]
fn a_database_elsewhere_is_reached_over_tls_and_its_certificate_is_checked() {
    let mut database = Postgres::new();
    let (plain, root) = database.start_with_tls();
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let over = |options: &str| format!("{plain}?{options}");
    let house = House::new(broker.port()).on(&over(&format!("sslmode=verify-full&sslrootcert={root}")));
    let (mut platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let mut agent = house.agent();
    let contract = buy(&house, &url, "c1", "4s");
    wait::until_true("the bill is at the platform", 120, || bill(&house, &contract).is_some());
    let select = "SELECT COUNT(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
        WHERE a.client_addr IS NOT NULL AND NOT s.ssl";
    assert_eq!(database.number(select), 0, "no connection in the clear");
    assert_ne!(database.number(&select.replace("NOT s.ssl", "s.ssl")), 0);
    for (options, why) in [
        (format!("sslmode=verify-full&sslrootcert={}", house.path("root.pem")), "another root"),
        ("sslmode=verify-full".to_owned(), "the system's roots"),
        ("sslmode=disable".to_owned(), "in the clear"),
    ] {
        let ran = run(command(ours("hufu-platform")).args(["nodes", "--json", "--database", &over(&options)]));
        assert!(ran.code != 0 && !ran.stderr.contains("panicked"), "{why}: {ran:?}");
    }
    platform.must_run();
    assert_eq!(agent.signal("TERM"), 0, "{}", agent.said());
}

#[test]
fn a_database_that_is_killed_in_the_middle_of_intake() {
    let mut database = Postgres::new();
    database.start();
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port()).on(&database.url());
    short_windows(&house);
    let (mut platform, url, _) = house.platform(&["--broker", &broker.address()]);
    let agent = house.agent();
    let contract = buy(&house, &url, "c1", "24s");
    for (up_ms, down_ms) in [(1500, 300), (700, 2500), (2300, 800)] {
        thread::sleep(Duration::from_millis(up_ms));
        database.kill();
        thread::sleep(Duration::from_millis(down_ms));
        database.start();
        nothing_is_receipted_that_is_not_stored(&database);
    }
    metered(&house, &contract, 10);
    platform.must_run();
    everything_arrived_once(&house, &url, &contract, agent, &database);
    let said = platform.said();
    let noticed = ["not stored", "lease not renewed", "error communicating with database"];
    assert!(noticed.iter().any(|words| said.contains(words)), "the outages were noticed: {said}");
    assert!(!said.contains("hufu@"), "no user or password in the log: {said}");
}

#[test]
fn of_two_workers_the_one_that_lives_takes_over() {
    let mut database = Postgres::new();
    database.start();
    let mut broker = Mosquitto::new(Memory::Kept);
    broker.start();
    let house = House::new(broker.port()).on(&database.url());
    short_windows(&house);
    let more = ["--broker", &broker.address(), "--lease-s", "2"];
    let (first, url_1, _) = house.platform(&more);
    let (second, url_2, _) = house.worker("second", &more);
    wait::until_true("both hold their share", 30, || {
        let shares = "SELECT COUNT(*) FROM (SELECT worker FROM leases WHERE worker IS NOT NULL GROUP BY worker HAVING COUNT(*) = 32) shares";
        database.number(shares) == 2
    });
    let agent = house.agent();
    // Whichever worker the buyer asks, the holder of the node takes its answer in.
    let contract = buy(&house, &url_1, "c1", "24s");
    let before = metered(&house, &contract, 2);
    // The part of s1/n1: SM3 of the name, as store/lease.rs says.
    let part = i64::from(hex_byte(
        &hufu_tests::program::shell("printf %s s1/n1 | openssl dgst -sm3 -r", &house.at("")).expect(0).stdout,
    )) % 64;
    let holder = database.query(&format!("SELECT worker FROM leases WHERE part = {part}"));
    let own = fs::read_to_string(house.at("platform/worker")).expect("a worker's name");
    let (mut killed, mut left, url) =
        if holder == own.trim() { (first, second, url_2) } else { (second, first, url_1) };
    let blocks = database.number("SELECT COUNT(*) FROM blocks");
    killed.kill();
    metered(&house, &contract, before + 4);
    wait::until_true("the other worker goes on", 20, || database.number("SELECT COUNT(*) FROM blocks") > blocks);
    let heir = database.query(&format!("SELECT worker FROM leases WHERE part = {part}"));
    assert!(!heir.is_empty() && heir != holder, "{heir} took over from {holder}");
    left.must_run();
    everything_arrived_once(&house, &url, &contract, agent, &database);
    assert_eq!(left.signal("TERM"), 0, "{}", left.said());
    assert_eq!(
        database.number("SELECT COUNT(*) FROM leases WHERE worker IS NOT NULL"),
        0,
        "an end gives everything up"
    );
}

fn hex_byte(digest: &str) -> u8 {
    u8::from_str_radix(digest.get(..2).expect("a digest"), 16).expect("hexadecimal")
}
