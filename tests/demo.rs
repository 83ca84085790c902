//! `hufu demo` from outside: the JSON of the command contract, the pack checked by `hufu verify` and by openssl alone, every
//! damage found, the same directory used again, interrupted and killed.
#![allow(clippy::expect_used, reason = "a panic is a failed test")]

use std::{fs, path::Path};

use hufu_tests::{
    pack::{self, Members},
    program::{self, Daemon, Ran, hufu},
    wait,
};
use serde_json::Value;

/// Long enough for a few windows of the demonstration.
const SECONDS: &str = "12";
const VERDICTS: [&str; 4] = ["signatures", "completeness", "data_quality", "arithmetic"];

fn demo(dir: &Path) -> Ran {
    let dir = dir.to_str().expect("a temporary folder's name is text");
    hufu(&["demo", "--json", "--seconds", SECONDS, "--dir", dir])
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {value}"))
}

/// A demonstration that ended well, as the command contract has it.
fn done(dir: &Path) -> Value {
    let said = demo(dir).expect(0).json();
    for name in ["node", "contract_no", "bill_no", "total_cny", "pack", "trust", "agent_dir", "platform_dir"] {
        assert!(!text(&said, name).is_empty(), "{name} in {said}");
    }
    for name in ["pack", "trust", "agent_dir", "platform_dir"] {
        let path = Path::new(text(&said, name));
        assert!(path.exists() && path.starts_with(dir), "{name} lies below --dir: {said}");
    }
    assert_eq!(said["receipted"], true, "{said}");
    for name in VERDICTS {
        let found = &said["verdicts"][name];
        let result = found.as_str().or_else(|| found["result"].as_str());
        assert!(matches!(result, Some("pass" | "warn")), "{name} in {said}");
    }
    let usage = said["usage"].as_array().expect("usage");
    let cpu = usage.iter().find(|line| line["resource"] == "cpu").expect("cpu was metered");
    assert_eq!(cpu["unit"], "ns");
    assert!(text(cpu, "quantity").parse::<u64>().expect("an integer") > 0, "{said}");
    said
}

fn verify(pack: &Path, trust: &str) -> Ran {
    hufu(&["verify", pack.to_str().expect("text"), "--trust", trust, "--json"])
}

/// One byte of a member changed, away from its ends; one more in an empty member.
fn flipped(members: &Members, name: &str) -> Members {
    let mut changed = members.clone();
    let bytes = changed.get_mut(name).expect("a member");
    let at = bytes.len() / 2;
    match bytes.get_mut(at) {
        Some(byte) => *byte ^= 0x01,
        // The path of an entry that is alone in its block has no line.
        None => bytes.push(b'L'),
    }
    changed
}

/// The verdicts that failed, each with a place and a reason for every problem.
fn failed(verdict: &Value) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for name in VERDICTS {
        let found = &verdict["verdicts"][name];
        if found["result"] == "fail" {
            for problem in found["problems"].as_array().expect("problems") {
                assert!(!text(problem, "where").is_empty() && !text(problem, "what").is_empty(), "{problem}");
            }
            failed.push(name);
        }
    }
    failed
}

/// Any damage to a piece of a readable pack: status 1, and a signed piece is a matter of signatures.
fn every_damage_is_found(members: &Members, trust: &str, folder: &Path) {
    let path = folder.join("changed.zip");
    pack::write(&path, members);
    verify(&path, trust).expect(0);
    for name in members.keys().filter(|name| *name != "README.txt") {
        pack::write(&path, &flipped(members, name));
        let ran = verify(&path, trust);
        assert_eq!(ran.code, 1, "a flipped byte in {name}: {} {}", ran.stdout, ran.stderr);
        let verdict = ran.json();
        let failed = failed(&verdict);
        let signed = name == "bill.der" || name.ends_with(".tbs") || name.ends_with(".sig");
        let right = if signed { failed.contains(&"signatures") } else { !failed.is_empty() };
        assert!(right, "a flipped byte in {name}: {verdict}");
    }
    for name in members.keys().filter(|name| name.starts_with("entries/") || name.ends_with(".sig")) {
        let mut less = members.clone();
        less.remove(name);
        pack::write(&path, &less);
        assert_eq!(verify(&path, trust).code, 1, "without {name}");
    }
    let mut without = members.clone();
    without.remove("bill.der");
    pack::write(&path, &without);
    verify(&path, trust).expect(65);
    let whole = fs::read(&path).expect("a zip");
    fs::write(&path, &whole[..whole.len() / 2]).expect("a zip cut short");
    verify(&path, trust).expect(65);
}

fn ledger_is_whole(said: &Value) -> Value {
    let (dir, trust) = (text(said, "agent_dir"), text(said, "trust"));
    let ledger = Path::new(dir).join("ledger");
    let checked =
        hufu(&["ledger", "check", ledger.to_str().expect("text"), "--trust", trust, "--json"]).expect(0).json();
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(0), "{checked}");
    checked
}

fn size(checked: &Value, log: &str) -> u64 {
    text(&checked["logs"][log], "size").parse().expect("a size")
}

#[test]
fn a_demonstration_is_proved_with_hufu_and_with_openssl_and_goes_on_in_its_directory() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().canonicalize().expect("a folder").join("demo");
    let said = done(&dir);
    let trust = text(&said, "trust");
    let path = Path::new(text(&said, "pack"));
    let verdict = verify(path, trust).expect(0).json();
    assert_eq!(failed(&verdict), Vec::<&str>::new());
    assert_eq!(verdict["billed_total_cny"], said["total_cny"]);
    assert_eq!(verdict["recomputed_total_cny"], said["total_cny"]);

    let members = pack::read(path);
    let ran = pack::checked_by_openssl(&members, trust);
    assert!(ran.stdout.contains("ALL CHECKS PASSED") && !ran.stdout.contains("BAD"), "{} {}", ran.stdout, ran.stderr);
    let signed = members.keys().find(|name| name.ends_with(".tbs")).expect("signed bytes");
    let ran = pack::checked_by_openssl(&flipped(&members, signed), trust);
    assert!(ran.stdout.contains("BAD") && !ran.stdout.contains("ALL CHECKS PASSED"), "{}", ran.stdout);
    every_damage_is_found(&members, trust, folder.path());

    let first = ledger_is_whole(&said);
    let again = done(&dir);
    assert_eq!(again["node"], said["node"]);
    assert_ne!(again["contract_no"], said["contract_no"], "a new contract");
    let second = ledger_is_whole(&again);
    for log in ["trade", "finance"] {
        assert!(size(&second, log) > size(&first, log), "the {log} log goes on: {first} {second}");
    }
    // The first pack is what it was.
    verify(path, trust).expect(0);
    packs_of_two_contracts(path, Path::new(text(&again, "pack")), trust, folder.path());
}

/// Two contracts do not contradict each other, and the page of a good pack goes where it can or not at all.
fn packs_of_two_contracts(first: &Path, second: &Path, trust: &str, folder: &Path) {
    let (one, other) = (first.to_str().expect("text"), second.to_str().expect("text"));
    let junk = folder.join("junk.zip");
    fs::write(&junk, "PK or not").expect("a file");
    for (a, b, names) in [(one, other, other), (other, one, one), (one, junk.to_str().expect("text"), "junk.zip")] {
        let ran = hufu(&["dispute", a, b, "--trust", trust, "--json"]).expect(65);
        assert!(ran.stderr.contains(names) && ran.stdout.is_empty(), "{} {}", ran.stdout, ran.stderr);
    }
    hufu(&["dispute", one, one, "--trust", trust]).expect(0);
    let page = |to: &Path| hufu(&["report", one, "--trust", trust, "--json", "-o", to.to_str().expect("text")]);
    fs::create_dir(folder.join("there")).expect("a folder");
    for place in ["absent/page.html", "junk.zip/page.html", "there"] {
        let ran = page(&folder.join(place)).expect(74);
        assert!(ran.stderr.contains(place) && ran.stdout.is_empty(), "{} {}", ran.stdout, ran.stderr);
    }
    assert!(!folder.join("absent").exists() && !folder.join("there.new").exists());
    page(Path::new("/dev/full")).expect(74);
    page(Path::new("/dev/null")).expect(0);
    for device in ["/dev/full", "/dev/null"] {
        assert!(!fs::metadata(device).expect("a device").is_file(), "{device} is what it was");
    }
    page(&folder.join("page.html")).expect(0);
}

/// The processes that work in this directory.
fn running_in(dir: &Path) -> Vec<std::path::PathBuf> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten().map(|process| process.path());
    processes.filter(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir))).collect()
}

#[test]
fn interrupted_or_killed_and_started_again_are_clean() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().canonicalize().expect("a folder").join("demo");
    let start = || {
        let mut command = program::command(program::ours("hufu"));
        command.args(["demo", "--seconds", "300", "--dir"]).arg(&dir);
        Daemon::start(&mut command, &folder.path().join("demo.log"))
    };
    // The demonstration, the platform, the agent and the workload.
    let running = |daemon: &mut Daemon| {
        wait::until_true("platform, agent and workload run", 60, || {
            daemon.must_run();
            running_in(&dir).len() >= 4
        });
    };
    let mut daemon = start();
    running(&mut daemon);
    assert_eq!(daemon.signal("INT"), 130, "Ctrl-C: {}", daemon.said());
    wait::until_true("nobody is left after Ctrl-C", 20, || running_in(&dir).is_empty());

    let mut daemon = start();
    running(&mut daemon);
    daemon.kill();
    wait::until_true("nobody is left after kill -9", 30, || running_in(&dir).is_empty());
    ledger_is_whole(&done(&dir));
}
