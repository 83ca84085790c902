//! Appending against what it cannot do without, and appending at every height.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use hufu_ledger::{Ledger, NewBlock};

use crate::{
    Figures, Outcome, ROUNDS,
    counting::Counting,
    fixture::{Node, block, options},
    median,
};

const MANY: u64 = 100;
/// Batches in a row when the next is signed while one goes to the disk.
const BATCHES: u64 = 20;

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

/// A file of zeros that is there on the disk, as a segment is.
fn probe(path: &Path) -> Outcome<File> {
    let mut file = File::create(path)?;
    for _ in 0..64 {
        file.write_all(&[0; 64 * 1024])?;
    }
    file.sync_all()?;
    Ok(file)
}

pub(crate) fn against_its_bounds(dir: &Path, figures: &mut Figures) -> Outcome<()> {
    Ledger::create(dir, &options(), [9; 16])?;
    let (mut ledger, _) = Ledger::open(dir, &options())?;
    let (node, file) = (Node::new()?, probe(&dir.with_extension("probe"))?);
    // A header is what is signed; a frame of one block is about 700 bytes.
    let (header, frame) = ([42; 140], [7; 700]);
    let frames = vec![7; frame.len() * usize::try_from(MANY)?];
    let blocks: Vec<NewBlock> = (0..MANY).map(block).collect();
    let (mut one, mut many) = (Vec::new(), Vec::new());
    let (mut signing, mut syncing) = (Vec::new(), Vec::new());
    let mut cpu: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let sign = seconds(300, |_| Ok(node.key.sign(&header).map(drop)?))?;
        let sync = |bytes: &[u8], count: u64| {
            seconds(count, |number| {
                file.write_all_at(bytes, number * bytes.len() as u64)?;
                Ok(file.sync_data()?)
            })
        };
        let (sync_one, sync_many) = (sync(&frame, 300)?, sync(&frames, 30)?);
        let append_one = seconds(300, |number| node.append(&mut ledger, number, number + 1))?;
        let append_many = seconds(1, |_| node.append_ahead(&mut ledger, &blocks, BATCHES))? / (BATCHES * MANY) as f64;
        one.push((sign + sync_one) / append_one);
        many.push(sign.max(sync_many / MANY as f64) / append_many);
        signing.push(sign);
        let costs = cpu_of_a_block(&mut ledger, &node, &blocks)?;
        cpu.iter_mut().zip(costs).for_each(|(all, cost)| all.push(cost * 1e6));
        syncing.push(sync_one);
    }
    let (signing, syncing) = (median(signing) * 1e6, median(syncing) * 1e6);
    figures.note("one signature, one write with fdatasync (us)", &format!("{signing:.0}, {syncing:.0}"));
    let [sign, make, commit] = cpu.map(median);
    figures.note("CPU of a signature, a signed block, its append (us)", &format!("{sign:.0}, {make:.0}, {commit:.0}"));
    figures.at_least("signed append, 1 a batch / (1 / (t_sign + t_fdatasync))", median(one), 0.8);
    figures.at_least("signed append, 100 a batch, signed ahead / the smaller bound", median(many), 0.8);
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
