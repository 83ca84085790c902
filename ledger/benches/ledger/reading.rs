//! Bytes on disk, bytes read at opening, hashes in a proof, and a full check against verifying alone.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use hufu_gm::Hash;
use hufu_ledger::{CheckOptions, Ledger, Log, check};

use crate::{
    Figures, Outcome, ROUNDS,
    counting::Counting,
    fixture::{Node, make, options},
    median,
};

pub(crate) fn disk(ledgers: &[(u64, PathBuf)], figures: &mut Figures) -> Outcome<()> {
    for (size, dir) in ledgers {
        let ledger = Ledger::open_read_only(dir)?;
        let mut blocks = 0;
        for log in Log::ALL {
            for block in ledger.blocks(log, 0) {
                blocks += block?.1.len() as u64;
            }
        }
        let mut files = 0;
        for file in std::fs::read_dir(dir)? {
            files += file?.metadata()?.len();
        }
        let (ratio, mean) = (files as f64 / blocks as f64, blocks / size);
        let what = format!("bytes on disk / bytes of blocks, {size} blocks of {mean} bytes");
        // A thousand blocks do not fill the first segment: all but its end is room for the next ones.
        if *size < 10_000 {
            figures.note(&what, &format!("{ratio:.3} (one segment, made whole in advance)"));
        } else {
            figures.at_most(&what, ratio, 1.3);
        }
    }
    Ok(())
}

pub(crate) fn proofs(ledgers: &[(u64, PathBuf)], figures: &mut Figures) -> Outcome<()> {
    for (_, dir) in ledgers {
        let ledger = Ledger::open_read_only(dir)?;
        let size = ledger.size(Log::Trade);
        let mut longest = 0;
        for height in (0..size).step_by(usize::try_from(size.div_ceil(500))?) {
            // The path's hashes, and the leaf's own.
            longest = longest.max(ledger.prove(Log::Trade, height, size)?.len() + 1);
        }
        let bar = f64::from(u64::BITS - (size - 1).leading_zeros() + 1);
        figures.at_most(&format!("hashes per proof, {size} blocks in the log"), longest as f64, bar);
    }
    Ok(())
}

pub(crate) fn opening(ledgers: &[(u64, PathBuf)], figures: &mut Figures) -> Outcome<()> {
    let mut most = 0;
    for (size, dir) in ledgers {
        let storage = Counting::new(dir);
        drop(Ledger::open_on(Arc::new(storage.clone()), &options())?);
        figures.note(&format!("bytes read at open, {size} blocks"), &storage.bytes_read().to_string());
        most = most.max(storage.bytes_read());
    }
    // One segment is scanned; before it stand a header and a seal, and the last frame is read once more.
    let segment = options().segment_size as f64;
    figures.at_most("most bytes read at open / bytes of a segment", most as f64 / segment, 1.05);
    Ok(())
}

pub(crate) fn full_check(size: u64, dir: &Path, figures: &mut Figures) -> Outcome<()> {
    make(dir, size)?;
    let public = Node::new()?.public_key();
    let key_of = |_: &Hash| Some(public.clone());
    let ledger = Ledger::open_read_only(dir)?;
    let blocks: Vec<_> = ledger.blocks(Log::Trade, 0).take(1000).collect::<Result<_, _>>()?;
    let blocks: Vec<hufu_ledger::Block> =
        blocks.iter().map(|(_, bytes)| hufu_ledger::Block::from_bytes(bytes)).collect::<Result<_, _>>()?;
    let cores = std::thread::available_parallelism()?.get();
    let verify_each = || {
        let blocks = blocks.iter().cycle().take(usize::try_from(size).unwrap_or(0) / cores);
        blocks.filter(|block| block.signed().verify(&public).is_valid()).count()
    };
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let verified: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..cores).map(|_| scope.spawn(verify_each)).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).sum()
        });
        let alone = verified as f64 / start.elapsed().as_secs_f64();
        let start = Instant::now();
        let report = check(dir, &CheckOptions { key_of: Some(&key_of), ..CheckOptions::default() })?;
        let checked = report.signatures as f64 / start.elapsed().as_secs_f64();
        if let Some(problem) = report.problems.first() {
            return Err(problem.to_string().into());
        }
        ratios.push(checked / alone);
    }
    figures.at_least(&format!("full check / SM2 verification on {cores} cores"), median(ratios), 0.9);
    Ok(())
}
