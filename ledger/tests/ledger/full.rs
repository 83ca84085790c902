//! A real file system of 2 MB, filled to the brim, then read-only: the writer stops with a clear reason, and what it had
//! acknowledged is there, while the disk is full and afterwards. It is mounted in a name space of its own.

use std::{
    io::ErrorKind,
    path::Path,
    process::{Command, Output},
};

use hufu_ledger::{AppendedBlock, CheckOptions, Error, Ledger, Options, check};

use crate::common::{ID, NODE, append};

const DIR: &str = "HUFU_LEDGER_FULL_DIR";

fn medium() -> Options {
    Options { segment_size: 64 * 1024, ..Options::new(NODE) }
}

/// The child, inside the name space. Without its variable it does nothing.
#[test]
fn child_fills_its_disk() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mount = Path::new(&dir);
    let dir = mount.join("ledger");
    // What somebody else can remove again.
    std::fs::write(mount.join("ballast"), vec![1; 200 * 1024]).unwrap();
    Ledger::create(&dir, &medium(), ID).unwrap();
    let mut acked = Vec::new();
    for round in 0..3_u64 {
        let (mut ledger, _) = Ledger::open(&dir, &medium()).unwrap();
        let error = loop {
            match append(&mut ledger, round * 1_000_000 + acked.len() as u64) {
                Ok(blocks) => acked.extend(blocks),
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, Error::NoSpace { path } if path.starts_with(&dir)), "{error}");
        assert!(matches!(append(&mut ledger, 1), Err(Error::Poisoned)));
        drop(ledger);
        compare(&dir, &acked);
    }
    assert!(acked.len() > 100, "only {} blocks fitted", acked.len());
    std::fs::remove_file(mount.join("ballast")).unwrap();
    let (mut ledger, _) = Ledger::open(&dir, &medium()).unwrap();
    acked.extend(append(&mut ledger, 7).unwrap());
    drop(ledger);
    compare(&dir, &acked);
    let status = Command::new("mount").args(["-o", "remount,ro"]).arg(mount).status().unwrap();
    assert!(status.success());
    match Ledger::open(&dir, &medium()) {
        Err(Error::Io { source, .. }) => assert_eq!(source.kind(), ErrorKind::ReadOnlyFilesystem),
        other => panic!("{other:?}"),
    }
    let ledger = Ledger::open_read_only(&dir).unwrap();
    assert!(acked.iter().all(|block| ledger.block(block.log, block.height).unwrap() == block.bytes));
    println!("\nfilled {} blocks", acked.len());
}

/// Opens for appending, full or not, and finds everything.
fn compare(dir: &Path, acked: &[AppendedBlock]) {
    let (ledger, _) = Ledger::open(dir, &medium()).unwrap();
    for block in acked {
        assert_eq!(ledger.block(block.log, block.height).unwrap(), block.bytes);
    }
    assert_eq!(check(dir, &CheckOptions::default()).unwrap().problems, []);
}

fn in_a_small_disk(dir: &Path, arguments: &[&str]) -> std::io::Result<Output> {
    let script = "mount -t tmpfs -o size=2m none \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script]).arg(dir).args(arguments).env(DIR, dir).output()
}

#[test]
fn a_disk_filled_to_the_brim_costs_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let probe = in_a_small_disk(dir.path(), &["true"]);
    if !probe.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: no file system can be mounted here, not even in a name space of its own: {probe:?}");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let arguments = [program.to_str().unwrap(), "--exact", "full::child_fills_its_disk", "--nocapture"];
    let output = in_a_small_disk(dir.path(), &arguments).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("\nfilled "), "{output:?}");
}
