//! How much a process grows when it opens or checks a ledger: highest resident memory after, less resident memory before,
//! in a process of its own.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use hufu_gm::Hash;
use hufu_ledger::{CheckOptions, Ledger, check};

use crate::{
    Figures, Outcome,
    fixture::{Node, options},
};

const OPEN: &str = "--memory-of-open";
const CHECK: &str = "--memory-of-check";

fn status_kib(name: &str) -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line in /proc/self/status")?;
    Ok(line.trim_matches(|c: char| !c.is_ascii_digit()).parse()?)
}

/// What the child does; false when it was not asked to be one. Prints growth in KiB.
pub(crate) fn child(job: &str, dir: &Path) -> Outcome<bool> {
    if job != OPEN && job != CHECK {
        return Ok(false);
    }
    let public = Node::new()?.public_key();
    let key_of = |_: &Hash| Some(public.clone());
    // The highest mark so far is forgotten, so that only what follows counts.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before = status_kib("VmRSS:")?;
    if job == OPEN {
        let ledger = Ledger::open(dir, &options())?;
        println!("{}", status_kib("VmHWM:")?.saturating_sub(before));
        drop(ledger);
    } else {
        let report = check(dir, &CheckOptions { key_of: Some(&key_of), ..CheckOptions::default() })?;
        println!("{}", status_kib("VmHWM:")?.saturating_sub(before));
        if let Some(problem) = report.problems.first() {
            return Err(problem.to_string().into());
        }
    }
    Ok(true)
}

pub(crate) fn growth(ledgers: &[(u64, PathBuf)], figures: &mut Figures) -> Outcome<()> {
    for (size, dir) in ledgers {
        for (job, what, bar) in [(OPEN, "open", 3.0), (CHECK, "full check", 16.0)] {
            let ran = Command::new(std::env::current_exe()?).arg(job).arg(dir).output()?;
            if !ran.status.success() {
                return Err(String::from_utf8_lossy(&ran.stderr).into());
            }
            let kib: f64 = String::from_utf8(ran.stdout)?.trim().parse()?;
            figures.at_most(&format!("memory growth of {what}, {size} blocks, MiB"), kib / 1024.0, bar);
        }
    }
    Ok(())
}
