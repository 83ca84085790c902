//! The helper as systemd starts it: a connection as standard input and output, real cgroups of this machine, a real workload.
//! On a machine with systemd running the slices are the virtual machine's matter (`tests/vm/`); there and where cgroups may not be
//! written, only what needs none is tried.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    io::Write,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use serde_json::{Value, json};

struct Helper {
    dir: tempfile::TempDir,
    /// What it is run by, where it is to lack rights.
    by: &'static [&'static str],
}

impl Helper {
    fn new(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("provision.toml"), settings).unwrap();
        Self { dir, by: &[] }
    }

    /// One request, as one process answers it.
    fn ask(&self, line: &str) -> (Value, ExitStatus) {
        let (answer, _, status) = self.ask_for(line);
        (answer, status)
    }

    /// The same with what came along.
    fn ask_for(&self, line: &str) -> (Value, Option<OwnedFd>, ExitStatus) {
        let (mut here, there) = UnixStream::pair().unwrap();
        let output: OwnedFd = there.try_clone().unwrap().into();
        let words = [self.by, &[env!("CARGO_BIN_EXE_hufu-provision")]].concat();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .args([self.dir.path().join("provision.toml"), self.dir.path().join("locks")])
            .stdin(OwnedFd::from(there))
            .stdout(output)
            .spawn()
            .unwrap();
        // A helper that refuses before it reads closes the connection.
        here.write_all(format!("{line}\n").as_bytes()).ok();
        let (answer, counters) = hufu_provision::receive_line(here, 1 << 16).unwrap_or_default();
        let status = child.wait().unwrap();
        (serde_json::from_slice(&answer).unwrap_or(Value::Null), counters, status)
    }
}

fn order() -> String {
    format!("{:032x}", std::process::id())
}

fn start(order: &str) -> String {
    let reserves = json!({ "cpu": "100", "memory": "16777216" });
    json!({ "verb": "start", "contract_no": order, "quantity": 2, "reserves": reserves,
            "service_end": "2030-01-01T00:00:00Z" })
    .to_string()
}

fn simple(verb: &str, order: &str) -> String {
    json!({ "verb": verb, "contract_no": order }).to_string()
}

#[test]
fn what_is_not_a_request_is_refused_with_its_reason() {
    let helper = Helper::new("");
    let wrong = [
        (String::from("nonsense"), "malformed"),
        (String::from("{}"), "malformed"),
        (simple("exec", &order()), "malformed"),
        (simple("stop", "../../../etc/passwd"), "contract_no"),
        (simple("start", &order()), "quantity"),
        (format!("{{\"verb\":\"{}", "x".repeat(20_000)), "malformed"),
    ];
    for (line, word) in wrong {
        let (answer, status) = helper.ask(&line);
        let why = answer["error"].as_str().unwrap_or_default().to_owned();
        assert!(why.contains(word), "{line:.60}: {answer}");
        assert!(status.success(), "a refusal is an answer");
    }
    let (answer, status) = Helper::new("comand = []").ask(&simple("stop", &order()));
    assert!(answer["error"].as_str().is_some_and(|why| why.contains("comand")), "{answer}");
    assert_eq!(status.code(), Some(78));
}

#[test]
fn without_a_connection_there_is_nobody_to_answer() {
    let out = Command::new(env!("CARGO_BIN_EXE_hufu-provision")).stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(out.stdout.is_empty());
}

/// The cgroup files of the order that exist, by name.
fn found(order: &str, name: &str) -> Vec<PathBuf> {
    found_below("hufu-test-provision", order, name)
}

fn found_below(parent: &str, order: &str, name: &str) -> Vec<PathBuf> {
    let mut directories = vec![PathBuf::from("/sys/fs/cgroup")];
    directories.extend(fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path()));
    let files = directories.into_iter().map(|mount| mount.join(parent).join(order).join(name));
    files.filter(|file| file.exists()).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn an_order_gets_its_place_rests_and_ends() {
    let can_write = rustix::process::geteuid().is_root() && Path::new("/sys/fs/cgroup/cgroup.procs").exists()
        || fs::read_dir("/sys/fs/cgroup")
            .is_ok_and(|mut found| found.any(|entry| entry.is_ok_and(|e| e.path().join("tasks").exists())));
    if Path::new("/run/systemd/system").is_dir() || !can_write {
        eprintln!("no cgroups of our own to be had here: not tried");
        return;
    }
    let order = order();
    let script = tempfile::tempdir().unwrap();
    let path = script.path().join("command.sh");
    // The site's command: a workload that enters the place before it execs.
    let text = r#"#!/bin/sh
request=$(cat)
echo "$request" >> "$(dirname "$0")/log"
case $request in
  *'"verb":"start"'*)
    [ -e "$(dirname "$0")/started" ] && exit 0
    touch "$(dirname "$0")/started"
    places=$(printf %s "$request" | sed 's/.*"procs_files":\[\([^]]*\)\].*/\1/' | tr -d '"' | tr ',' ' ')
    setsid sh -c 'for p in "$@"; do echo 0 > "$p"; done; exec sleep 300' - $places < /dev/null > /dev/null 2>&1 &
    echo '{"address":"here"}' ;;
esac
"#;
    fs::write(&path, text).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, executable).unwrap();
    let settings = format!("parent = \"hufu-test-provision\"\ntasks_max = 77\ncommand = [\"{}\"]\n", path.display());
    let helper = Helper::new(&settings);

    let (answer, _) = helper.ask(&start(&order));
    assert_eq!(answer["cgroup"], format!("hufu-test-provision/{order}"), "{answer}");
    assert_eq!(answer["address"], "here");
    let limits = [
        ("cpu.max", "20000 100000"),
        ("cpu.cfs_quota_us", "20000"),
        ("memory.max", "33554432"),
        ("memory.limit_in_bytes", "33554432"),
    ];
    let set: Vec<_> =
        limits.iter().flat_map(|(name, want)| found(&order, name).into_iter().map(move |f| (f, *want))).collect();
    assert!(!set.is_empty(), "a limit was set");
    for (file, want) in set {
        assert_eq!(read(&file), want, "{}", file.display());
    }
    let pids = || -> Vec<String> {
        let mut pids: Vec<_> = found(&order, "cgroup.procs")
            .iter()
            .flat_map(|f| read(f).lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        pids.sort();
        pids.dedup();
        pids
    };
    for _ in 0..100 {
        if !pids().is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let [pid] = &pids()[..] else { panic!("{:?}", pids()) };
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).unwrap_or("gone").to_owned()
    };

    let (answer, _) = helper.ask(&simple("suspend", &order));
    assert_eq!(answer, json!({}));
    let frozen = found(&order, "cgroup.freeze");
    assert!(state() == "T" || frozen.iter().any(|file| read(file) == "1"), "{}", state());

    let (again, _) = helper.ask(&start(&order));
    assert_eq!(again["cgroup"], format!("hufu-test-provision/{order}"));
    assert_ne!(state(), "T");
    assert_eq!(pids(), std::slice::from_ref(pid), "no second workload");

    let (answer, _) = helper.ask(&simple("stop", &order));
    assert_eq!(answer, json!({}));
    assert_eq!(found(&order, "cgroup.procs"), Vec::<PathBuf>::new());
    let (answer, _) = helper.ask(&simple("stop", &order));
    assert_eq!(answer, json!({}), "what is gone is stopped");
    let verbs: Vec<String> =
        fs::read_to_string(script.path().join("log")).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(verbs.len(), 5, "{verbs:?}");
    for mount in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        fs::remove_dir(mount.path().join("hufu-test-provision")).ok();
    }
    fs::remove_dir("/sys/fs/cgroup/hufu-test-provision").ok();
}

/// Enters the place, waits for a line, then sends itself 1000 datagrams of 100 bytes.
const TALKER: &str = r#"
import socket, sys
for name in sys.argv[1:]:
    with open(name, "w") as f: f.write("0")
print("ready", flush=True)
sys.stdin.readline()
a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(("127.0.0.1", 0)); a.connect(a.getsockname())
for _ in range(1000):
    a.send(bytes(100)); a.recv(200)
print("done", flush=True)
sys.stdin.readline()
"#;

#[test]
fn the_counters_of_the_orders_traffic_come_with_the_answer_and_are_the_same_again() {
    use hufu_metering::counters::{Counters, Traffic, probe};
    let hierarchies = hufu_metering::hierarchy::Hierarchies::detect(Path::new("/")).unwrap();
    let Some(mount) = hierarchies.unified("/") else { return eprintln!("no version 2 here: not tried") };
    if Path::new("/run/systemd/system").is_dir() {
        return eprintln!("systemd makes the places here: not tried");
    }
    if let Err(why) = probe(&mount) {
        return eprintln!("not tried: {why}");
    }
    let order = format!("{:032x}", u64::from(std::process::id()) + (1 << 40));
    let helper = Helper::new("parent = \"hufu-test-provision-net\"\n");
    let (answer, counters, _) = helper.ask_for(&start(&order));
    assert_eq!(answer["network"], "cgroup", "{answer}");
    let counters = Counters::map(counters.unwrap()).unwrap();
    assert_eq!(counters.read(), Traffic::default());
    let procs: Vec<PathBuf> = found_below("hufu-test-provision-net", &order, "cgroup.procs");
    let mut talker = Command::new("python3")
        .args(["-c", TALKER])
        .args(&procs)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = talker.stdin.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(talker.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    input.write_all(b"\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "done");
    let counted = counters.read();
    let bytes = 1000 * (20 + 8 + 100);
    let want = Traffic { rx_bytes: bytes, tx_bytes: bytes, rx_packets: 1000, tx_packets: 1000 };
    assert_eq!(counted, want);
    // The agent started anew, and asks again; many times, and nothing is left of it.
    for _ in 0..5 {
        let (_, again, _) = helper.ask_for(&start(&order));
        let again = Counters::map(again.unwrap()).unwrap();
        assert_eq!((again.id(), again.read()), (counters.id(), counted));
    }
    let (answer, none, _) = helper.ask_for(&simple("suspend", &order));
    assert_eq!((answer, none.is_none()), (json!({}), true));
    let (answer, _) = helper.ask(&simple("stop", &order));
    assert_eq!(answer, json!({}));
    talker.wait().unwrap();
    assert_eq!(counters.read(), counted, "the last reading outlives the place");
    for mount in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        fs::remove_dir(mount.path().join("hufu-test-provision-net")).ok();
    }
    fs::remove_dir("/sys/fs/cgroup/hufu-test-provision-net").ok();
}

#[test]
fn where_bpf_is_forbidden_nftables_counts_and_is_asked_and_cleared() {
    use hufu_metering::{hierarchy::Hierarchies, nft};

    let hierarchies = Hierarchies::detect(Path::new("/")).unwrap();
    let mut helper = Helper::new("parent = \"hufu-test-provision-nft\"\n");
    helper.by = &["setpriv", "--bounding-set", "-sys_admin,-bpf,-perfmon"];
    let zeros = "0".repeat(32);
    let (answer, status) = match nft::available(&hierarchies) {
        Ok(()) if Path::new("/usr/bin/setpriv").exists() => helper.ask(&simple("probe", &zeros)),
        found => return eprintln!("nftables cannot count here: not tried ({found:?})"),
    };
    if answer["network"] == "cgroup" {
        return eprintln!("bpf(2) needs no right here: not tried");
    }
    assert_eq!((answer, status.code()), (json!({ "network": "nft" }), Some(0)));
    let order = format!("{:032x}", u64::from(std::process::id()) << 32 | 7);
    let (answer, counters, _) = helper.ask_for(&start(&order));
    assert_eq!((&answer["network"], counters.is_none()), (&json!("cgroup"), true), "{answer}");
    let cgroup = hierarchies.unified(answer["cgroup"].as_str().unwrap()).unwrap();
    let own = format!("{}_", std::os::unix::fs::MetadataExt::ino(&fs::metadata(&cgroup).unwrap()));
    // Another process of the same helper knows what was counted; so does the agent's, which asks for all.
    let told = || helper.ask(&simple("traffic", &zeros)).0["traffic"].clone();
    let of = |told: &Value| -> Vec<(String, Value)> {
        let all = told.as_object().cloned().unwrap_or_default();
        all.into_iter().filter(|(key, _)| key.starts_with(&own)).collect()
    };
    let first = of(&told());
    assert_eq!(first.iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), ["0 0"]);
    let (again, _) = helper.ask(&start(&order));
    assert_eq!((&again["cgroup"], of(&told())), (&answer["cgroup"], first), "found again, not made anew");
    let (stopped, _) = helper.ask(&simple("stop", &order));
    assert_eq!(stopped, json!({}));
    assert_eq!(of(&told()), Vec::new(), "what was of the order is gone with it");
    for mount in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        fs::remove_dir(mount.path().join("hufu-test-provision-nft")).ok();
    }
    fs::remove_dir("/sys/fs/cgroup/hufu-test-provision-nft").ok();
}
