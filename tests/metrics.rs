//! What a monitoring system reads of a real agent that sells: strict OpenMetrics, promtool without a word, nothing of single
//! orders unless the site says so; and a stranger at the port who gets nowhere.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use hufu_tests::{
    broker::{Memory, Mosquitto, free_port},
    house::House,
    program::{self, hufu},
    trade::{buy, metered},
    tree, wait,
};

const CLASSIC: &str = "text/plain;version=0.0.4";

/// A house whose node serves its metrics on this port.
fn listening(house: &House, port: u16, more: &str) {
    let path = house.at("node/hufu.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    let listen = format!("listen = \"127.0.0.1:{port}\"\n{more}");
    fs::write(&path, text.replace("listen = \"\"\n", &listen)).expect("a configuration");
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the metrics' port");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    stream
}

/// Head and body of the answer to a request.
fn ask(port: u16, request: &str) -> (String, String) {
    let mut stream = connect(port);
    stream.write_all(request.as_bytes()).expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

fn scrape(port: u16, accept: &str) -> String {
    let (head, body) = ask(port, &format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n"));
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let kind =
        if accept == CLASSIC { "text/plain; version=0.0.4" } else { "application/openmetrics-text; version=1.0.0" };
    assert!(head.contains(&format!("content-type: {kind}; charset=utf-8\r\n")), "{head}");
    body
}

/// The samples of an exposition, each with its labels, after every rule of OpenMetrics 1.0.0 that can be broken here: one family
/// in one piece with its type and help before its samples, names that fit the type, no sample twice, and the end.
fn strict(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("the end");
    let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
    let (mut family, mut kind) = ("", "");
    for line in body.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => {
                assert!(families.insert(name), "{name} stands twice");
                assert!(name.starts_with("hufu_") && !help.is_empty(), "{line}");
                (family, kind) = (name, "");
            }
            ["#", "TYPE", name, told] => {
                assert_eq!((name, kind), (family, ""), "{line}");
                assert!(["counter", "gauge", "histogram", "info"].contains(&told), "{line}");
                kind = told;
            }
            ["#", "UNIT", name, unit] => {
                assert_eq!(name, family, "{line}");
                assert!(name.ends_with(&format!("_{unit}")), "{line}");
            }
            _ => {
                let (sample, value) = line.rsplit_once(' ').expect("a value");
                let name = sample.split('{').next().expect("a name");
                let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} in {family}"));
                let suffixes: &[&str] = match kind {
                    "counter" => &["_total"],
                    "info" => &["_info"],
                    "histogram" => &["_sum", "_count", "_bucket"],
                    "gauge" => &[""],
                    other => panic!("{family} is a {other:?}"),
                };
                assert!(suffixes.contains(&suffix), "{line} in a {kind}");
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}: no number"));
                assert!(kind != "counter" || value >= 0.0, "{line}");
                assert!(samples.insert(sample.to_owned(), value).is_none(), "{sample} stands twice");
            }
        }
    }
    samples
}

fn promtool() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.push(tree::root().join("target/tools"));
    let found = places.iter().map(|place| place.join("promtool")).find(|path| path.is_file());
    found.expect("promtool; run scripts/setup")
}

/// promtool has nothing to say.
fn promtool_is_content(text: &str) {
    let mut command = program::command(promtool());
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool");
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("promtool reads");
    let out = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(out.status.success() && said.is_empty(), "{said}");
}

#[test]
fn a_node_that_sells_tells_how_it_is() {
    let mut broker = Mosquitto::new(Memory::None);
    broker.start();
    let house = House::new(broker.port());
    let port = free_port();
    listening(&house, port, "orders = true\n");
    let (_platform, http, _) = house.platform(&["--broker", &broker.address()]);
    let _agent = house.agent();
    let contract = buy(&house, &http, "first", "120s");
    metered(&house, &contract, 1);
    let order = |name: &str| format!("hufu_order_{name}_total{{order=\"{}\"}}", contract.no);
    let found = wait::until("a scrape after two records", 30, || {
        let found = strict(&scrape(port, "application/openmetrics-text"));
        (found.get("hufu_ledger_entries_total{kind=\"usage\"}").is_some_and(|count| *count >= 2.0)).then_some(found)
    });
    for (name, least, most) in [
        ("hufu_node_info{node=\"s1/n1\"}", 1.0, 1.0),
        ("hufu_mqtt_connected", 1.0, 1.0),
        ("hufu_mqtt_connections_total", 1.0, 9.0),
        ("hufu_orders{state=\"serving\"}", 1.0, 1.0),
        ("hufu_orders_running", 1.0, 1.0),
        ("hufu_ledger_waiting", 0.0, 0.0),
        ("hufu_ledger_height{log=\"trade\"}", 4.0, 1e6),
        ("hufu_ledger_append_seconds_count", 4.0, 1e6),
        ("hufu_ledger_append_seconds_bucket{le=\"+Inf\"}", 4.0, 1e6),
        ("hufu_ledger_entries_total{kind=\"window\"}", 2.0, 1e6),
        ("hufu_ledger_appended_blocks_total{log=\"trade\"}", 4.0, 1e6),
        ("hufu_sampler_ticks_total", 4.0, 1e6),
        ("hufu_process_resident_memory_bytes", 1e6, 1e9),
        ("hufu_process_open_fds", 5.0, 1000.0),
        (order("cpu_seconds").as_str(), 0.000_001, 1000.0),
        (order("memory_byte_seconds").as_str(), 1.0, 1e15),
    ] {
        let value = found.get(name).unwrap_or_else(|| panic!("{name} is not there: {found:#?}"));
        assert!((least..=most).contains(value), "{name} {value}");
    }
    let stock = found.iter().find(|(name, _)| name.starts_with("hufu_product_stock{product=\"small\"}"));
    assert!(stock.is_some_and(|(_, units)| *units >= 1.0), "{stock:?}");
    std::thread::sleep(Duration::from_millis(1100));
    let classic = scrape(port, CLASSIC);
    assert!(classic.contains("# TYPE hufu_ledger_entries_total counter\n") && !classic.contains("# EOF"), "{classic}");
    promtool_is_content(&classic);
}

#[test]
fn single_orders_are_nobodys_business_unless_the_site_says_so() {
    let house = House::new(free_port());
    let port = free_port();
    listening(&house, port, "");
    let _agent = house.agent();
    let names =
        |text: &str| text.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect::<Vec<_>>();
    let text = scrape(port, "*/*");
    assert!(names(&text).len() > 15, "{text}");
    assert!(!text.contains("hufu_order_"), "{text}");
    promtool_is_content(&scrape(port, CLASSIC));
}

#[test]
fn a_stranger_at_the_port_gets_nowhere() {
    let house = House::new(free_port());
    let port = free_port();
    listening(&house, port, "");
    let agent = house.agent();
    let (head, _) = ask(port, "GET /status HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    let (head, _) = ask(port, "DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    // A head without end is cut off, not collected.
    let mut flood = connect(port);
    let mut sent = 0_usize;
    while sent < 64 << 20 && flood.write_all(&[b'x'; 65_536]).is_ok() {
        sent += 65_536;
    }
    assert!(sent < 64 << 20, "the agent reads on");
    // Whoever says nothing, and whoever says it slowly, is sent away in time; the others wait that long at most.
    let mut silent: Vec<TcpStream> = (0..12).map(|_| connect(port)).collect();
    for stream in &mut silent {
        stream.write_all(b"GET /me").expect("half a request");
    }
    assert!(house.try_status().is_some(), "the agent answers its own machine");
    for stream in &mut silent {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).ok();
    }
    scrape(port, "*/*");
    let files = fs::read_dir(format!("/proc/{}/fd", agent.pid())).expect("its files").count();
    assert!(files < 64, "{files} open files");
}

#[test]
fn a_port_in_use_costs_a_warning_and_one_for_other_machines_is_refused() {
    let house = House::new(free_port());
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listening(&house, taken.local_addr().expect("an address").port(), "");
    let agent = house.agent();
    wait::until_true("the warning", 10, || agent.said().contains("metrics are not served"));
    assert!(house.try_status().is_some());
    drop(agent);
    let path = house.at("node/hufu.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    fs::write(&path, text.replace("listen = \"127.0.0.1", "listen = \"0.0.0.0")).expect("a configuration");
    let ran = hufu(&["check-config", "--config", &house.path("node/hufu.toml")]).expect(78);
    assert!(ran.stderr.contains("metrics.expose = true"), "{}", ran.stderr);
}
