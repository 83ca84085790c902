//! A process is killed with SIGKILL while it appends and archives, many times over one ledger: whatever it reported before is there.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use hufu_ledger::{Block, CheckOptions, Ledger, PerLog, check};

use crate::common::{ID, append, options, public_key};

const DIR: &str = "HUFU_LEDGER_KILL_DIR";
/// Rounds in every run of the tests; `make kill` asks for more.
const ROUNDS: usize = 60;
const ROUNDS_ASKED: &str = "HUFU_KILL_ROUNDS";

/// The child: appends for ever, archives now and then, and says after each return what is now durable. Without its variable it does nothing.
#[test]
fn child_appends_until_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (mut ledger, _) = Ledger::open(Path::new(&dir), &options()).unwrap();
    let mut out = std::io::stdout();
    for number in 0.. {
        for block in append(&mut ledger, number).unwrap() {
            let hash: String = block.block_hash.iter().map(|byte| format!("{byte:02x}")).collect();
            if writeln!(out, "acked {} {} {hash}", block.log.number(), block.height).is_err() {
                return;
            }
        }
        if number % 4 == 3 {
            ledger.archive(PerLog { trade: u64::MAX, finance: u64::MAX }).unwrap();
        }
    }
}

#[test]
fn nothing_reported_before_kill_9_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    Ledger::create(dir.path(), &options(), ID).unwrap();
    let rounds = std::env::var(ROUNDS_ASKED).map_or(ROUNDS, |asked| asked.parse().unwrap());
    let mut acked: Vec<String> = Vec::new();
    for round in 0..rounds {
        let new = acked.len();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child_appends_until_killed", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut lines = lines.filter(|line| line.starts_with("acked ")).fuse();
        // Another number of blocks each time, so that the kill meets other moments.
        acked.extend(lines.by_ref().take(1 + round * 7 % 23));
        child.kill().unwrap();
        acked.extend(lines);
        child.wait().unwrap();
        let (ledger, _) = Ledger::open(dir.path(), &options()).unwrap_or_else(|error| panic!("round {round}: {error}"));
        // Every tenth time all that was ever acknowledged; otherwise what is new.
        for line in if round % 10 == 9 || round + 1 == rounds { &acked[..] } else { &acked[new..] } {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, log, height, hash] = words[..] else { continue };
            let log = hufu_ledger::Log::from_number(log.parse().unwrap()).unwrap();
            let block = Block::from_bytes(&ledger.block(log, height.parse().unwrap()).unwrap()).unwrap();
            let found: String = block.hash().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, hash, "round {round}: {line}");
        }
    }
    assert!(acked.len() > rounds);
    let key_of = |_: &hufu_gm::Hash| Some(public_key());
    let report = check(dir.path(), &CheckOptions { key_of: Some(&key_of), ..CheckOptions::default() }).unwrap();
    assert_eq!(report.problems, []);
    println!("{rounds} kills, {} blocks acknowledged, {} found", acked.len(), report.signatures);
    assert_eq!(report.signatures, report.logs.trade.size + report.logs.finance.size);
}
