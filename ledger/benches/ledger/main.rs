//! What the ledger costs, as ratios to what it cannot do without: signing, fdatasync, verifying, the bytes of the blocks.
//! Each timed figure is the median of five rounds in which both sides take turns; everything else is counted. Exits with 1
//! when a bar is missed.
//!
//! `cargo bench -p hufu-ledger [-- --million] [-- --quick]`: ledgers of 1,000 and 100,000 blocks, and of a million if asked.
//! They are made beside the build, so that a disk is measured and not a file system in memory.
#![allow(
    clippy::float_arithmetic,
    clippy::disallowed_methods,
    reason = "a bench divides and reads the clock; nothing of it is shipped"
)]

mod appending;
mod counting;
mod fixture;
mod memory;
mod packing;
mod reading;

use std::{error::Error, path::Path};

/// What every part of the bench may fail with.
pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Rounds of every timed figure.
pub(crate) const ROUNDS: usize = 5;

/// The figures and their bars, printed as they come.
#[derive(Default)]
pub(crate) struct Figures {
    missed: usize,
}

impl Figures {
    pub(crate) fn at_least(&mut self, what: &str, found: f64, bar: f64) {
        self.line(what, found, &format!(">= {bar}"), found >= bar);
    }

    pub(crate) fn at_most(&mut self, what: &str, found: f64, bar: f64) {
        self.line(what, found, &format!("<= {bar}"), found <= bar);
    }

    pub(crate) fn note(&self, what: &str, found: &str) {
        println!("{what:<64} {found}");
    }

    fn line(&mut self, what: &str, found: f64, bar: &str, is_reached: bool) {
        let verdict = if is_reached { "" } else { "   MISSED" };
        self.missed += usize::from(!is_reached);
        println!("{what:<64} {found:>9.3}   bar {bar}{verdict}");
    }
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    if let [job, dir] = arguments.as_slice() {
        // A process of its own, so that its memory is nobody else's.
        if memory::child(job, Path::new(dir))? {
            return Ok(());
        }
    }
    let mut sizes = vec![1_000];
    sizes.extend((!has("--quick")).then_some(100_000));
    sizes.extend(has("--million").then_some(1_000_000));
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut figures = Figures::default();
    appending::against_its_bounds(&root.path().join("append"), &mut figures)?;
    let mut ledgers = Vec::new();
    for size in sizes {
        let dir = root.path().join(size.to_string());
        fixture::make(&dir, size)?;
        ledgers.push((size, dir));
    }
    reading::disk(&ledgers, &mut figures)?;
    reading::proofs(&ledgers, &mut figures)?;
    reading::opening(&ledgers, &mut figures)?;
    memory::growth(&ledgers, &mut figures)?;
    appending::at_every_height(&ledgers, &mut figures)?;
    let checked = if has("--quick") { 2_000 } else { 20_000 };
    reading::full_check(checked, &root.path().join("check"), &mut figures)?;
    packing::archives(&root.path().join("archives"), &mut figures)?;
    match figures.missed {
        0 => Ok(()),
        missed => Err(format!("{missed} bars missed").into()),
    }
}
