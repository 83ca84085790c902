//! Archives of what a node really writes: windows of usage records, each the golden one of `trade` with its own numbers and
//! hash. How small they are, how long one takes, and what reading and checking them costs.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use hufu_ledger::{Entry, Ledger, Log, NO_KEY, NewBlock, NewEntry, PerLog};

use crate::{
    Figures, Outcome, ROUNDS,
    fixture::{Node, key, options},
    median, memory,
};

/// Orders metered at a time, each with a record in every window.
const ORDERS: u64 = 8;
const WINDOWS: u64 = 10_000;
/// In the golden record: low bytes of begin and end, hash of the record before, low bytes of what was counted.
const TIMES: [usize; 2] = [66, 76];
const HASH: std::ops::Range<usize> = 29..61;
const COUNTS: [usize; 4] = [133, 141, 160, 178];

fn golden(name: &str) -> Outcome<Entry> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../trade/testdata/golden");
    Ok(Entry::from_bytes(&std::fs::read(folder.join(name))?)?)
}

/// Bytes that look random and are the same in every run.
fn noise(random: &mut u64) -> u8 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let [byte, ..] = random.to_be_bytes();
    byte
}

/// One window: its own entry, and a record of each order.
fn window(number: u64, window: &Entry, usage: &Entry) -> NewBlock {
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let time: [u8; 3] = std::array::from_fn(|_| noise(&mut random));
    let mut entries = vec![NewEntry { kind: window.kind, body: window.body.clone(), key: NO_KEY, sealed: false }];
    for order in 0..ORDERS {
        let mut body = usage.body.clone();
        for (byte, new) in TIMES.iter().flat_map(|at| *at..at + 3).zip(time.iter().cycle()) {
            body.get_mut(byte).into_iter().for_each(|byte| *byte = *new);
        }
        for byte in HASH.chain(COUNTS.iter().flat_map(|at| *at..at + 3)) {
            body.get_mut(byte).into_iter().for_each(|byte| *byte = noise(&mut random));
        }
        entries.push(NewEntry { kind: usage.kind, body, key: key(number / 1000 * ORDERS + order), sealed: false });
    }
    NewBlock { log: Log::Trade, entries }
}

fn make(dir: &Path) -> Outcome<Ledger> {
    Ledger::create(dir, &options(), [9; 16])?;
    let (mut ledger, _) = Ledger::open(dir, &options())?;
    let (node, of_window, usage) = (Node::new()?, golden("Entry-window.der")?, golden("Entry-usage-end.der")?);
    for from in (0..WINDOWS).step_by(20) {
        let blocks: Vec<NewBlock> = (from..from + 20).map(|number| window(number, &of_window, &usage)).collect();
        node.append_blocks(&mut ledger, &blocks)?;
    }
    Ok(ledger)
}

/// Seconds to read all blocks of the trade log in order, and to find everything of a contract.
fn reading(ledger: &Ledger) -> Outcome<[f64; 2]> {
    let start = Instant::now();
    ledger.blocks(Log::Trade, 0).try_for_each(|block| block.map(drop))?;
    let read = start.elapsed();
    let found = ledger.find(&key(3))?.len();
    if found != 1000 {
        return Err(format!("{found} records found").into());
    }
    Ok([read.as_secs_f64(), (start.elapsed() - read).as_secs_f64()])
}

pub(crate) fn archives(dir: &Path, figures: &mut Figures) -> Outcome<()> {
    let mut ledger = make(dir)?;
    let plain: Vec<[f64; 2]> = (0..ROUNDS).map(|_| reading(&ledger)).collect::<Outcome<_>>()?;
    let (mut bytes, mut packed, mut seconds) = (0, 0, Vec::new());
    let all = PerLog { trade: WINDOWS, finance: 0 };
    loop {
        let start = Instant::now();
        let Some(archived) = ledger.archive(all)? else { break };
        seconds.push(start.elapsed().as_secs_f64());
        bytes += archived.bytes;
        packed += archived.packed.ok_or("a segment of records did not shrink")?;
    }
    let what = format!("archives / segments, {} of {} bytes", seconds.len(), bytes / seconds.len() as u64);
    figures.at_most(&what, packed as f64 / bytes as f64, 0.5);
    figures.note("making one archive (ms)", &format!("{:.0}", median(seconds) * 1e3));
    let archived: Vec<[f64; 2]> = (0..ROUNDS).map(|_| reading(&ledger)).collect::<Outcome<_>>()?;
    for (place, what) in [(0, "reading all blocks"), (1, "finding a contract's records")] {
        let of = |times: &[[f64; 2]]| median(times.iter().filter_map(|times| times.get(place).copied()).collect());
        let (before, after) = (of(&plain) * 1e3, of(&archived) * 1e3);
        figures.note(&format!("{what}, segments and archives (ms)"), &format!("{before:.0}, {after:.0}"));
    }
    drop(ledger);
    let ledgers: [(u64, PathBuf); 1] = [(WINDOWS, dir.to_owned())];
    memory::growth(&ledgers, figures)
}
