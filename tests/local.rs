//! The agent's socket: who may ask what, and how much. The socket's own mode lets in nobody but its owner; here it is opened, so
//! that the checks behind it are left alone.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
};

use hufu_tests::{
    broker::free_port,
    house::House,
    program::{self, hufu},
};
use serde_json::Value;

/// What the agent answers to a line from user `uid`.
fn ask(socket: &Path, line: &str, uid: u32) -> Value {
    let text = "import os, socket, sys
os.setuid(int(sys.argv[3]))
stream = socket.socket(socket.AF_UNIX)
stream.connect(sys.argv[1])
stream.sendall(sys.argv[2].encode() + b'\\n')
sys.stdout.write(stream.makefile().read())";
    let mut command = program::command("python3");
    command.args(["-c", text]).arg(socket).arg(line).arg(uid.to_string());
    program::run(&mut command).expect(0).json()
}

#[test]
fn a_stranger_at_the_socket_sees_the_status_and_changes_nothing() {
    let house = House::new(free_port());
    // No platform will say what it holds.
    let config = house.at("node/hufu.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    let platform = "certificates = \"platform.pem\"";
    fs::write(&config, text.replace(platform, &format!("{platform}\ncompare_s = 1"))).expect("a configuration");
    let mut agent = house.agent();
    let socket = house.at("node/hufu.sock");
    hufu_tests::wait::until_true("the agent trades", 30, || {
        house.try_status().is_some_and(|status| status["waits_for"].is_null())
    });
    let mode = fs::metadata(&socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "its owner's only");
    let own = fs::metadata("/proc/self").expect("/proc").uid();
    let number = "0".repeat(32);
    let questions = [
        "{\"ask\":\"correct\",\"bill_no\":\"B-1\",\"less\":[],\"why\":\"because\"}".to_owned(),
        format!("{{\"ask\":\"erase\",\"contract_no\":\"{number}\",\"why\":\"because\"}}"),
        format!("{{\"ask\":\"reading\",\"act\":\"read\",\"contracts\":[\"{number}\"],\"why\":\"because\"}}"),
    ];
    for question in &questions {
        let said = ask(&socket, question, own);
        assert_ne!(said["error"]["code"], "permission", "the owner may ask: {said}");
    }
    if own == 0 {
        program::shell("chmod 755 . node && chmod 666 node/hufu.sock", &house.at(".")).expect(0);
        let size = |status: &Value| status["logs"]["trade"]["size"].as_str().map(str::to_owned);
        let before = ask(&socket, "{\"ask\":\"status\"}", 65534);
        assert_eq!(before["node"], "s1/n1", "{before}");
        for question in &questions {
            let said = ask(&socket, question, 65534);
            assert_eq!(said["error"]["code"], "permission", "{question}: {said}");
        }
        assert_eq!(size(&ask(&socket, "{\"ask\":\"status\"}", 0)), size(&before), "nothing was written");
    } else {
        println!("not root: other users cannot be tried");
    }
    assert_eq!(agent.signal("TERM"), 0);
}

#[test]
fn what_is_asked_at_the_socket_is_bounded() {
    let house = House::new(free_port());
    let _agent = house.agent();
    let socket = house.at("node/hufu.sock");
    let say = |octets: &[u8]| {
        let mut stream = UnixStream::connect(&socket).expect("the agent");
        // It may stop reading before the end, and answer.
        stream.write_all(octets).ok();
        let mut said = String::new();
        stream.read_to_string(&mut said).ok();
        said
    };
    for (name, octets) in [
        ("nothing", &b"\n"[..]),
        ("no JSON", b"status\n"),
        ("another verb", b"{\"ask\":\"sell\"}\n"),
        ("octets", &[0xff, 0, 0xfe, b'\n']),
    ] {
        assert!(say(octets).contains("malformed"), "{name}");
    }
    // Longer than a question may be: it is cut, and what is left is none. The kernel may reset the connection before that is read.
    let long = [b"{\"ask\":\"status\",".as_slice(), &[b' '; 200_000]].concat();
    assert!(!say(&long).contains("\"node\""));
    // Who says nothing keeps nobody from asking for longer than the ten seconds a question may take.
    let silent = UnixStream::connect(&socket).expect("the agent");
    let status = hufu_tests::wait::until("the agent answers the next one", 30, || house.try_status());
    assert_eq!(status["node"], "s1/n1");
    drop(silent);
}

#[test]
fn a_file_without_an_end_is_refused_at_its_limit() {
    let house = House::new(free_port());
    let config = house.path("node/hufu.toml");
    let ran = hufu(&["check-config", "--config", "/dev/zero"]).expect(74);
    assert!(ran.stderr.contains("larger than"), "{}", ran.stderr);
    let ran = hufu(&["key", "show", "/dev/zero"]).expect(65);
    assert!(ran.stderr.contains("64 MiB"), "{}", ran.stderr);
    let text = fs::read_to_string(&config).expect("a configuration");
    for (key, value, code) in [
        ("certificates = \"node.pem\"", "certificates = \"/dev/zero\"", 74),
        ("trust = [\"trust.pem\"]", "trust = [\"/dev/zero\"]", 74),
        ("key = \"node.key\"", "key = \"/dev/zero\"", 65),
        ("salt = \"salt\"", "salt = \"/dev/zero\"", 65),
    ] {
        let changed = text.replacen(key, value, 1);
        assert_ne!(changed, text, "{key}");
        fs::write(&config, changed).expect("a configuration");
        hufu(&["check-config", "--config", &config]).expect(code);
    }
    fs::write(&config, text).expect("a configuration");
    hufu(&["check-config", "--config", &config]).expect(0);
}
