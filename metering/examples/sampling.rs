//! What a sampling round costs, for `benches/sampling.py`: the sampler as the daemon runs it, over empty orders of its own. How
//! right its numbers are is `benches/accuracy.py`'s.
//!
//! `sampling make N`, `sampling remove N`: the orders' cgroups. `sampling rounds N ROUNDS`: reads as fast as it can, then says
//! the mean CPU time of a round in each ten (one of which reads the quality, too). `sampling run N SECONDS`: once a second.
//! `sampling hold N`: reads twenty times, says `ready` and waits for its input to close.
#![allow(clippy::print_stdout, reason = "it is what it is for")]

use std::{io::Read, path::Path, time::Duration};

use hufu_metering::{At, Error, Place, Sampler, hierarchy::Hierarchies};
use hufu_trade::resource::{Kind, Resource};
use rustix::time::{ClockId, clock_gettime};

const PARENT: &str = "hufu-bench-sampling";
const INTERVAL_NS: u64 = 1_000_000_000;

fn clock_ns(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn at() -> At {
    let ns = |clock| clock_ns(clock).unsigned_abs();
    At { real_ns: clock_ns(ClockId::Realtime), boot_ns: ns(ClockId::Boottime), mono_ns: ns(ClockId::Monotonic) }
}

/// CPU time of this process, ns: on a machine with other work the wall clock says how long others ran.
fn used_ns() -> i64 {
    clock_ns(ClockId::ProcessCPUTime)
}

fn name(index: u16) -> String {
    format!("order-{index}")
}

fn sampler(orders: u16) -> Result<Sampler, Error> {
    let hierarchies = Hierarchies::detect(Path::new("/"))?;
    let mut sampler = Sampler::new(Path::new("/"), INTERVAL_NS, at())?;
    let metered = [Kind::Cpu, Kind::Memory, Kind::DiskRead, Kind::DiskWrite].map(Resource::used);
    for index in 0..orders {
        let mut key = [0; 16];
        key[..2].copy_from_slice(&index.to_be_bytes());
        let place = Place::find(&hierarchies, PARENT, &name(index))?;
        sampler.start(key, place.target, &metered, &[], None, at())?;
    }
    Ok(sampler)
}

fn run(verb: &str, orders: u16, amount: u64) -> Result<(), Error> {
    let hierarchies = Hierarchies::detect(Path::new("/"))?;
    match verb {
        "make" => (0..orders).try_for_each(|index| Place::make(&hierarchies, PARENT, &name(index)).map(drop)),
        "remove" => {
            for index in 0..orders {
                Place::find(&hierarchies, PARENT, &name(index))?.remove()?;
            }
            Place::remove_parent(&hierarchies, PARENT)
        }
        "rounds" => {
            let mut sampler = sampler(orders)?;
            (0..20).for_each(|_| sampler.tick(at()));
            for _ in 0..amount / 10 {
                let from = used_ns();
                (0..10).for_each(|_| sampler.tick(at()));
                println!("{}", (used_ns() - from) / 10);
            }
            Ok(())
        }
        "run" => {
            let mut sampler = sampler(orders)?;
            let mut due = at().mono_ns;
            for _ in 0..amount {
                due += INTERVAL_NS;
                std::thread::sleep(Duration::from_nanos(due.saturating_sub(at().mono_ns)));
                sampler.tick(at());
            }
            Ok(())
        }
        _ => {
            let mut sampler = sampler(orders)?;
            (0..20).for_each(|_| sampler.tick(at()));
            println!("ready");
            std::io::stdin().read_to_end(&mut Vec::new()).ok();
            drop(sampler);
            Ok(())
        }
    }
}

fn main() -> std::process::ExitCode {
    let mut words = std::env::args().skip(1);
    let (verb, orders) = (words.next().unwrap_or_default(), words.next().and_then(|word| word.parse().ok()));
    let amount = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let done = orders.map(|orders| run(&verb, orders, amount));
    match done {
        Some(Ok(())) => std::process::ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
        None => {
            eprintln!("sampling make|remove|rounds|run|hold ORDERS [AMOUNT]");
            std::process::ExitCode::from(2)
        }
    }
}
