//! Ends of cgroups that an engine removes by itself, against what their processes say they used: heard in time nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use hufu_metering::{At, Place, Sampler, ends::Ends, hierarchy::Hierarchies};
use hufu_trade::resource::{Kind, Resource};
use rustix::time::{ClockId, clock_gettime};

const PARENT: &str = "hufu-metering-ends-test";

fn now() -> At {
    let ns = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec * 1_000_000_000 + time.tv_nsec
    };
    At {
        real_ns: ns(ClockId::Realtime),
        boot_ns: ns(ClockId::Boottime).unsigned_abs(),
        mono_ns: ns(ClockId::Monotonic).unsigned_abs(),
    }
}

/// Enters the cgroups, burns 60 ms and says what it used, ns.
const WORK: &str = r#"
import resource, sys, time
for name in sys.argv[1:]:
    with open(name, "w") as f: f.write("0")
start = time.process_time_ns()
while time.process_time_ns() < start + 60_000_000: pass
print(time.process_time_ns() - start, flush=True)
"#;

/// One short-lived cgroup of an engine that removes it so long after its process ended: what its process used, what was metered.
fn one(number: u32, heard: bool, wait: Duration) -> Option<(u64, u64)> {
    let hierarchies = Hierarchies::detect(Path::new("/")).unwrap();
    let name = format!("{}-{number}", std::process::id());
    let place = Place::make(&hierarchies, PARENT, &name).inspect_err(|why| println!("skipped: {why}")).ok()?;
    let mut sampler = Sampler::new(Path::new("/"), 1_000_000_000, now()).unwrap();
    let (sender, receiver) = mpsc::sync_channel(16);
    if heard {
        let ends = Arc::new(Ends::new().unwrap());
        sampler.hear(Arc::clone(&ends));
        std::thread::spawn(move || {
            let mut is_over = false;
            while !is_over && ends.wait(|number| is_over |= sender.send(number).is_err()).is_ok() {}
        });
    }
    sampler.start([1; 16], place.target.clone(), &[Resource::used(Kind::Cpu)], &[], None, now()).unwrap();
    let child =
        Command::new("python3").args(["-c", WORK]).args(&place.procs_files).stdout(Stdio::piped()).spawn().unwrap();
    // The engine, which knows nothing of a meter.
    let engine = std::thread::spawn(move || {
        let out = child.wait_with_output().unwrap();
        std::thread::sleep(wait);
        while place.remove().is_err() {}
        place.remove_parents();
        String::from_utf8(out.stdout).unwrap().trim().parse::<u64>().unwrap()
    });
    // The sampling thread: its next tick would be a second away.
    while let Ok(number) = receiver.recv_timeout(Duration::from_millis(20)) {
        sampler.emptied(number, now());
    }
    while !engine.is_finished() {
        while let Ok(number) = receiver.recv_timeout(Duration::from_millis(5)) {
            sampler.emptied(number, now());
        }
    }
    let used = engine.join().unwrap();
    sampler.tick(now());
    let pieces = sampler.stop([1; 16], now()).unwrap();
    let metered = pieces.last().unwrap().totals[0].total.unwrap_or(0);
    Some((used, u64::try_from(metered).unwrap()))
}

#[test]
fn what_an_engine_removes_is_read_before() {
    let hierarchies = Hierarchies::detect(Path::new("/")).unwrap();
    if hierarchies.unified("/").is_none() {
        return println!("skipped: no version 2 hierarchy");
    }
    for (heard, wait_ms) in [(false, 20), (true, 0), (true, 2), (true, 20)] {
        let (mut used, mut metered, mut lost) = (0, 0, 0);
        for number in 0..20 {
            let Some((own, found)) = one(number, heard, Duration::from_millis(wait_ms)) else { return };
            (used, metered) = (used + own, metered + found);
            lost += u32::from(found + own / 500 < own);
        }
        println!(
            "heard {heard}, removed {wait_ms} ms after: {lost} of 20 not whole, {used} ns used, {metered} metered"
        );
        // How soon an engine can come is a matter of luck; one that takes its time finds it read.
        assert!(!heard || wait_ms < 20 || lost == 0);
    }
}
