//! The agent under systemd's journal: the native protocol, read by a socket of this test's own at the journal's own path, in a
//! mount namespace where that is allowed.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, os::unix::net::UnixDatagram, time::Duration};

use hufu_tests::{
    broker::free_port,
    house::House,
    program::{self, Daemon},
};

/// The fields of one datagram: `NAME=value` lines, or a name, its value's length in 64 bits and the value.
fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let line = &bytes[..end];
        bytes = &bytes[end + 1..];
        if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
            found.insert(text(&line[..equals]), text(&line[equals + 1..]));
        } else {
            let (length, rest) = bytes.split_first_chunk::<8>().expect("a length");
            let length = usize::try_from(u64::from_le_bytes(*length)).expect("a length");
            found.insert(text(line), text(&rest[..length]));
            bytes = &rest[length + 1..];
        }
    }
    found
}

#[test]
fn under_the_journal_events_have_fields_and_elsewhere_lines() {
    let house = House::new(free_port());
    let run = house.at("run");
    fs::create_dir_all(run.join("systemd/journal")).expect("a directory");
    let socket = UnixDatagram::bind(run.join("systemd/journal/socket")).expect("the journal's socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let log = house.at("agent.log");
    fs::write(&log, "").expect("a log");
    let found = fs::metadata(&log).expect("a log");
    let (dev, ino) = (found.dev(), found.ino());
    let hufu = program::ours("hufu");
    let inside = format!(
        "mount --bind {} /run && exec {} agent --config {}",
        run.display(),
        hufu.display(),
        house.path("node/hufu.toml")
    );
    let start = |stream: String| {
        let mut command = program::command("unshare");
        command.args(["-rm", "sh", "-c", &inside]).env("JOURNAL_STREAM", stream);
        Daemon::start(&mut command, &log)
    };
    let allowed = program::run(program::command("unshare").args(["-rm", "mount", "--bind", "/tmp", "/run"]));
    if allowed.code != 0 {
        println!("no mount namespace here: {}; `make vm-test` reads the real journal", allowed.stderr.trim());
        return;
    }
    let mut agent = start(format!("{dev}:{ino}"));
    let mut bytes = [0; 65_536];
    let mut events = Vec::new();
    while !events.iter().any(|event: &BTreeMap<String, String>| event.contains_key("HUFU_PAUSE_MS")) {
        let length = socket.recv(&mut bytes).expect("an event");
        events.push(fields(&bytes[..length]));
    }
    agent.must_run();
    let began = events
        .iter()
        .find(|event| event.get("MESSAGE").is_some_and(|said| said == "agent running"))
        .expect("its beginning");
    assert_eq!((began["HUFU_NODE"].as_str(), began["SYSLOG_IDENTIFIER"].as_str()), ("s1/n1", "hufu"), "{began:?}");
    let lost = events
        .iter()
        .find(|event| event.get("MESSAGE").is_some_and(|said| said == "broker link lost"))
        .expect("a lost link");
    assert!(lost["HUFU_WHY"].contains("refused") && lost["PRIORITY"] == "4", "{lost:?}");
    assert!(!agent.said().contains("agent running"), "said once: {}", agent.said());
    drop(agent);
    // The variable of a parent's journal does not mute a child whose standard error is another file.
    let agent = start(format!("{dev}:{}", ino + 1));
    hufu_tests::wait::until_true("a line", 20, || agent.said().contains("INFO agent running node=s1/n1"));
}
