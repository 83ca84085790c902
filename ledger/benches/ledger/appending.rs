//! Appending against what it cannot do without, and appending at every height.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use hufu_ledger::{Block, Ledger, Log, NewBlock};

use crate::{
    Figures, Outcome, ROUNDS,
    counting::Counting,
    fixture::{Node, block, options},
    median,
};

const MANY: u64 = 100;
/// Batches in a row when the next is signed while one goes to the disk.
const BATCHES: u64 = 8;
/// Turns in a round.
const SLICES: u32 = 6;

/// Mean seconds of one of `count` calls.
fn seconds(count: u64, mut work: impl FnMut(u64) -> Outcome<()>) -> Outcome<f64> {
    let start = Instant::now();
    for number in 0..count {
        work(number)?;
    }
    Ok(start.elapsed().as_secs_f64() / count as f64)
}

/// CPU seconds of this thread by the kernel's book: what a busy machine does not change.
fn cpu_seconds() -> Outcome<f64> {
    // The kernel writes its book when the thread gives way.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().unwrap_or_default().parse::<f64>()? / 1e9)
}

/// CPU of signing, of making a signed block, and of appending one of a batch that is ready, in seconds.
fn cpu_of_a_block(ledger: &mut Ledger, node: &Node, blocks: &[NewBlock]) -> Outcome<[f64; 3]> {
    let count = blocks.len() as f64;
    let start = cpu_seconds()?;
    for _ in blocks {
        node.key.sign(&[42; 140])?;
    }
    let signed = cpu_seconds()?;
    let batch = node.sign(&mut ledger.plan(), blocks)?;
    let made = cpu_seconds()?;
    ledger.commit(batch)?;
    let done = cpu_seconds()?;
    Ok([(signed - start) / count, (made - signed) / count, (done - made) / count])
}

/// A file of zeros that is there on the disk, as a segment is, to write frames into.
struct Probe {
    file: File,
    at: u64,
}

const PROBE_BYTES: u64 = 4 * 1024 * 1024;

impl Probe {
    fn new(path: &Path) -> Outcome<Self> {
        let mut file = File::create(path)?;
        file.write_all(&vec![0; usize::try_from(PROBE_BYTES)?])?;
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }

    /// Mean seconds of writing and syncing `frame`, behind what was written before.
    fn sync(&mut self, frame: &[u8], count: u64) -> Outcome<f64> {
        seconds(count, |_| {
            if self.at + frame.len() as u64 > PROBE_BYTES {
                self.at = 0;
            }
            self.file.write_all_at(frame, self.at)?;
            self.at += frame.len() as u64;
            Ok(self.file.sync_data()?)
        })
    }
}

/// Mean seconds of a signature, on a thread of its own for as long as [`Node::append_ahead`] has one: who has slept gets a
/// busy processor sooner than who has not.
fn signing(node: &Node, header: &[u8]) -> Outcome<f64> {
    let sign =
        || -> Result<(), hufu_gm::Error> { (0..MANY * BATCHES).try_for_each(|_| node.key.sign(header).map(drop)) };
    let start = Instant::now();
    std::thread::scope(|scope| scope.spawn(sign).join()).map_err(|_| "the signing thread panicked")??;
    Ok(start.elapsed().as_secs_f64() / (MANY * BATCHES) as f64)
}

/// Sums of one round's slices: what is compared takes turns so often that a busy machine hits both alike.
#[derive(Clone, Copy, Default)]
struct Round {
    sign: f64,
    sync_one: f64,
    sync_many: f64,
    append_one: f64,
    append_many: f64,
}

pub(crate) fn against_its_bounds(dir: &Path, figures: &mut Figures) -> Outcome<()> {
    Ledger::create(dir, &options(), [9; 16])?;
    let (mut ledger, _) = Ledger::open(dir, &options())?;
    let (node, mut probe) = (Node::new()?, Probe::new(&dir.with_extension("probe"))?);
    node.append(&mut ledger, 0, 1)?;
    let first = ledger.block(Log::Trade, 0)?;
    let header = Block::from_bytes(&first)?.signed().tbs().to_vec();
    // A frame has 40 bytes and 3 before its blocks, each block 7 and its entry's key around it.
    let one_more = first.len() + 7 + 32;
    let (frame, frames) = (vec![7; 43 + one_more], vec![7; 43 + usize::try_from(MANY)? * one_more]);
    let blocks: Vec<NewBlock> = (0..MANY).map(block).collect();
    let mut rounds = Vec::new();
    let mut cpu: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let mut round = Round::default();
        for _ in 0..SLICES {
            round.sign += signing(&node, &header)?;
            round.sync_one += probe.sync(&frame, 50)?;
            round.append_one += seconds(50, |number| node.append(&mut ledger, number, number + 1))?;
            round.sync_many += probe.sync(&frames, BATCHES)?;
            let many = seconds(1, |_| node.append_ahead(&mut ledger, &blocks, BATCHES))?;
            round.append_many += many / BATCHES as f64;
        }
        rounds.push(round);
        let costs = cpu_of_a_block(&mut ledger, &node, &blocks)?;
        cpu.iter_mut().zip(costs).for_each(|(all, cost)| all.push(cost * 1e6));
    }
    let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    let us = |value| format!("{:.0}", of(value) / f64::from(SLICES) * 1e6);
    let syncs = format!("{}, {}, {}", us(|r| r.sign), us(|r| r.sync_one), us(|r| r.sync_many));
    figures.note("a signature, fdatasync of one block's frame, of a hundred's (us)", &syncs);
    let [sign, make, commit] = cpu.map(median);
    figures.note("CPU of a signature, a signed block, its append (us)", &format!("{sign:.0}, {make:.0}, {commit:.1}"));
    let one = of(|r| (r.sign + r.sync_one) / r.append_one);
    let many = of(|r| (r.sign * MANY as f64).max(r.sync_many) / r.append_many);
    figures.at_least("signed append, 1 a batch / (1 / (t_sign + t_fdatasync))", one, 0.8);
    figures.at_least("signed append, 100 a batch, signed ahead / the smaller bound", many, 0.8);
    Ok(())
}

/// Syncs of a batch, and the median time of an append, at each height in turn.
pub(crate) fn at_every_height(ledgers: &[(u64, PathBuf)], figures: &mut Figures) -> Outcome<()> {
    let node = Node::new()?;
    let mut open = Vec::new();
    for (size, dir) in ledgers {
        let storage = Counting::new(dir);
        let (ledger, _) = Ledger::open_on(Arc::new(storage.clone()), &options())?;
        open.push((*size, storage, ledger, Vec::new()));
    }
    for (_, storage, ledger, _) in &mut open {
        let before = storage.syncs();
        for number in 0..200 {
            node.append(ledger, number, number + 1)?;
        }
        // A new segment is two more: the old one's index, the new one's zeros.
        figures.at_most("fdatasyncs in 200 batches", (storage.syncs() - before) as f64, 202.0);
    }
    for _ in 0..ROUNDS {
        for (_, _, ledger, rounds) in &mut open {
            let mut times = Vec::new();
            for number in 0..100 {
                times.push(seconds(1, |_| node.append(ledger, number, number + 1))?);
            }
            rounds.push(median(times));
        }
    }
    let p50: Vec<f64> = open.into_iter().map(|(_, _, _, rounds)| median(rounds)).collect();
    let (low, high) = (p50.iter().copied().fold(f64::MAX, f64::min), p50.iter().copied().fold(0.0, f64::max));
    figures.at_most("p50 of append, slowest height / fastest height", high / low, 1.3);
    Ok(())
}
