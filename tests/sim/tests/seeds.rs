//! Many seeds; that a seed is always the same course; and that known bugs, planted, are found.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use hufu_sim::{Failure, Plant, Summary, run};

/// Seeds of `make test`; `make sim` gives its own.
const SEEDS: u64 = 200;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs seeds on all cores until one fails; what they came to, together, or the smallest seed that failed.
fn all(from: u64, count: u64, plant: Plant) -> Result<Summary, Box<Failure>> {
    let next = AtomicU64::new(from);
    let end = AtomicU64::new(from.saturating_add(count));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut sum = Summary { trace: 0, events: 0, time: 0, counts: BTreeMap::new() };
        let mut failed = None;
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= end.load(Ordering::SeqCst) {
                return (sum, failed);
            }
            match run(seed, plant) {
                Ok(one) => {
                    sum.events += one.events;
                    sum.time += one.time;
                    one.counts.into_iter().for_each(|(what, count)| *sum.counts.entry(what).or_default() += count);
                }
                Err(failure) => {
                    end.fetch_min(seed, Ordering::SeqCst);
                    failed = Some(failure);
                }
            }
        }
    };
    let mut sum = Summary { trace: 0, events: 0, time: 0, counts: BTreeMap::new() };
    let mut first: Option<Box<Failure>> = None;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (one, failed) = worker.join().expect("a worker");
            sum.events += one.events;
            sum.time += one.time;
            one.counts.into_iter().for_each(|(what, count)| *sum.counts.entry(what).or_default() += count);
            if let Some(failed) = failed
                && first.as_ref().is_none_or(|first| failed.seed < first.seed)
            {
                first = Some(failed);
            }
        }
    });
    first.map_or(Ok(sum), Err)
}

#[test]
fn whatever_happens_the_market_keeps_its_word() {
    let (from, count) = (number("FROM", 1), number("SEEDS", SEEDS));
    #[allow(clippy::disallowed_methods, reason = "how fast it is; nothing simulated reads this")]
    let began = std::time::Instant::now();
    let sum = match all(from, count, Plant::None) {
        Ok(sum) => sum,
        Err(failure) => panic!("{failure}"),
    };
    let elapsed_ms = began.elapsed().as_millis().max(1);
    let hours = sum.time / 3_600_000_000_000;
    let speed = u128::from(count) * 10_000 / elapsed_ms;
    println!(
        "{count} seeds from {from}: {} events, {hours} hours of market in {elapsed_ms} ms, {}.{} seeds/s",
        sum.events,
        speed / 10,
        speed % 10
    );
    for (what, count) in &sum.counts {
        println!("  {count:>8}  {what}");
    }
    // A course is worth something only if it comes as far as this.
    if count >= SEEDS {
        let must = [
            "deal",
            "usage",
            "gap",
            "bill",
            "payment",
            "correction",
            "refund_paid",
            "score",
            "notice",
            "PowerCut",
            "down cosignature",
            "peer opened an epoch",
        ];
        for what in must {
            assert!(sum.counts.get(what).is_some_and(|count| *count > 1), "no {what}: {:?}", sum.counts);
        }
    }
}

#[test]
fn a_seed_is_always_the_same_course() {
    for seed in 1..4 {
        let (one, two) = (run(seed, Plant::None), run(seed, Plant::None));
        assert_eq!(one, two, "seed {seed}");
    }
}

/// The first seed from one on that finds a planted bug.
fn found(plant: Plant, from: u64, says: &[&str]) {
    let Err(failure) = all(from, 1000, plant) else { panic!("{plant:?} was not found in 1,000 seeds") };
    println!("{plant:?} is found by seed {}: {}", failure.seed, failure.what);
    assert!(says.iter().any(|word| failure.what.contains(word)), "{failure}");
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    found(
        Plant::AckBeforeSync,
        1,
        &[
            "acknowledged blocks are lost",
            "signed twice",
            "the platform holds",
            "missing or damaged",
            "index and stored bytes differ",
        ],
    );
}

#[test]
fn a_bill_that_is_not_idempotent_is_found() {
    found(Plant::ForgottenBills, 40, &["a second bill", "is not what follows", "a replay comes to another state"]);
}

#[test]
fn a_restored_node_that_signs_before_it_compares_is_found() {
    found(
        Plant::SignsFirst,
        1,
        &["signed twice", "the platform holds more", "is not the node's", "fork", "another root"],
    );
}

#[test]
fn stock_that_is_not_looked_at_is_found() {
    found(Plant::BlindStock, 1, &["oversold"]);
}
