//! Runs seeds one by one and says how each ended: `survey FROM COUNT [TRACE]`. For whoever works on the simulation.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a tool for tests")]

use hufu_sim::{Plant, run};

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let (from, count) = (numbers[0], numbers[1]);
    for seed in from..from + count {
        #[allow(clippy::disallowed_methods, reason = "how fast it is")]
        let began = std::time::Instant::now();
        match run(seed, Plant::None) {
            Ok(sum) if numbers.len() > 2 => println!("{sum:#?}"),
            Ok(sum) => println!(
                "{seed}: ok {} events {} s {} ms",
                sum.events,
                sum.time / 1_000_000_000,
                began.elapsed().as_millis()
            ),
            Err(failure) if numbers.len() > 2 => println!("{failure}"),
            Err(failure) => println!(
                "{seed}: {} s: {} ({} ms)",
                failure.time / 1_000_000_000,
                failure.what,
                began.elapsed().as_millis()
            ),
        }
    }
}
