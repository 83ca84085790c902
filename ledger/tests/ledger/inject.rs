//! The kernel's answer to the n-th fdatasync is EIO, by strace: the writer stops with a clear reason, and what it had
//! acknowledged is there when it is opened again.

use std::{
    path::Path,
    process::{Command, Output},
};

use hufu_ledger::{Block, CheckOptions, Error, Ledger, Log, check};

use crate::common::{ID, append, options, public_key};

const DIR: &str = "HUFU_LEDGER_INJECT_DIR";
/// Batches of the child: more than 20 fdatasyncs, several segments.
const BATCHES: u64 = 25;

/// The child: opens, appends, and says what is acknowledged and why it stopped. Without its variable it does nothing.
#[test]
fn child_appends_until_a_sync_fails() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let opened = Ledger::open(Path::new(&dir), &options());
    let mut ledger = match opened {
        Ok((ledger, _)) => ledger,
        Err(error) => return println!("\nstopped {error}"),
    };
    for number in 0..BATCHES {
        match append(&mut ledger, number) {
            Ok(blocks) => blocks.iter().for_each(|block| {
                println!("\nacked {} {} {}", block.log.number(), block.height, hex(&block.block_hash));
            }),
            Err(error) => {
                assert!(matches!(append(&mut ledger, 999), Err(Error::Poisoned)), "a failed ledger goes on");
                return println!("\nstopped {error}");
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn child(dir: &Path, trace: &[&str]) -> std::io::Result<Output> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]).args(trace).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "inject::child_appends_until_a_sync_fails", "--nocapture"]).env(DIR, dir).output()
}

fn lines(output: &Output, word: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| line.strip_prefix(word)).map(str::to_owned).collect()
}

#[test]
fn a_failed_fdatasync_stops_the_writer_and_loses_nothing_acknowledged() {
    // Where a process may not trace another there is nothing to test with; `make test` installs strace where it can.
    let probe = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    if !probe.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: strace cannot trace here: {probe:?}");
        return;
    }
    for n in 1..=20 {
        let dir = tempfile::tempdir().unwrap();
        Ledger::create(dir.path(), &options(), ID).unwrap();
        let inject = format!("inject=fdatasync:error=EIO:when={n}");
        let output = child(dir.path(), &["-e", "trace=fdatasync", "-e", &inject]).unwrap();
        let (acked, stopped) = (lines(&output, "acked "), lines(&output, "stopped "));
        let [reason] = &stopped[..] else { panic!("fdatasync {n}: {output:?}") };
        let names_file = reason.starts_with(dir.path().to_str().unwrap());
        assert!(names_file && reason.contains("Input/output error"), "fdatasync {n}: {reason}");
        let (mut ledger, _) = Ledger::open(dir.path(), &options()).unwrap_or_else(|error| panic!("{n}: {error}"));
        for line in &acked {
            let words: Vec<&str> = line.split(' ').collect();
            let log = Log::from_number(words[0].parse().unwrap()).unwrap();
            let block = Block::from_bytes(&ledger.block(log, words[1].parse().unwrap()).unwrap()).unwrap();
            assert_eq!(hex(&block.hash()), words[2], "fdatasync {n}: {line}");
        }
        append(&mut ledger, 500).unwrap_or_else(|error| panic!("fdatasync {n}: goes on: {error}"));
        drop(ledger);
        let key_of = |_: &hufu_gm::Hash| Some(public_key());
        let report = check(dir.path(), &CheckOptions { key_of: Some(&key_of), ..CheckOptions::default() }).unwrap();
        assert_eq!(report.problems, [], "fdatasync {n}");
        assert_eq!(report.signatures, report.logs.trade.size + report.logs.finance.size);
    }
}
