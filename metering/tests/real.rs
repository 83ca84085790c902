//! The meter against the truth of this machine: real cgroups, real processes. Where no cgroup can be written or there is no
//! python3 the reason is printed and the test passes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use hufu_metering::{At, OrderDraft, Place, Sampler, Target, hierarchy::Hierarchies};
use hufu_trade::{
    resource::{Kind, Resource},
    usage::{Reason, Status},
};
use rustix::time::{ClockId, clock_gettime};

const INTERVAL_NS: u64 = 100_000_000;

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

fn metered() -> Vec<Resource> {
    [Kind::Cpu, Kind::Memory, Kind::DiskWrite, Kind::NetTx].map(Resource::used).to_vec()
}

/// A place of this test alone, or why there is none.
fn place(name: &str) -> Option<Place> {
    let hierarchies = Hierarchies::detect(Path::new("/")).unwrap();
    match Place::make(&hierarchies, "hufu-metering-test", &format!("{name}-{}", std::process::id())) {
        Ok(place) => Some(place),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// Enters the cgroups given behind `--`, does the work, says what getrusage says it cost, and waits for its stdin to close.
const WORK: &str = r#"
import os, resource, subprocess, sys, threading, time
def used():
    s, c = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return s.ru_utime + s.ru_stime + c.ru_utime + c.ru_stime
for name in sys.argv[2:]:
    with open(name, "w") as f: f.write("0")
start = used()
print("ready", flush=True)
sys.stdin.readline()
def spin(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end: pass
job = sys.argv[1]
if job == "spin": spin(5)
elif job == "brief": spin(0.005)
elif job == "children":
    for i in range(150): subprocess.run(["/bin/sh", "-c", "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done"])
elif job == "threads":
    code = "import time\nend = time.thread_time() + 1.5\nwhile time.thread_time() < end: pass"
    a, b = threading.Thread(target=spin, args=(1.5,)), subprocess.Popen([sys.executable, "-c", code])
    a.start(); a.join(); b.wait()
    t = [threading.Thread(target=spin, args=(0.7,)) for _ in range(2)]
    [x.start() for x in t]; [x.join() for x in t]
elif job == "memory":
    held = bytearray(64 << 20); time.sleep(2)
print(round((used() - start) * 1e9), flush=True)
sys.stdin.readline()
os._exit(0)
"#;

struct Work {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Work {
    fn start(job: &str, procs_files: &[PathBuf]) -> Option<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", WORK, job]).args(procs_files).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut child) = command.spawn() else {
            println!("skipped: no python3");
            return None;
        };
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut work = Self { child, out };
        assert_eq!(work.line(), "ready");
        Some(work)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Ticks until the work is done; what the work says it used, ns.
    fn meter(&mut self, sampler: &mut Sampler) -> u128 {
        self.go();
        let said = std::thread::scope(|scope| {
            let out = &mut self.out;
            let reader = scope.spawn(move || {
                let mut line = String::new();
                out.read_line(&mut line).unwrap();
                line
            });
            while !reader.is_finished() {
                std::thread::sleep(std::time::Duration::from_nanos(INTERVAL_NS));
                sampler.tick(now());
            }
            reader.join().unwrap()
        });
        said.trim().parse().unwrap()
    }

    fn end(mut self) {
        self.go();
        self.child.wait().unwrap();
    }
}

fn total(draft: &OrderDraft, kind: Kind) -> (Status, Option<u128>) {
    let found = draft.totals.iter().find(|total| total.resource == Resource::used(kind)).unwrap();
    (found.status, found.total)
}

fn close_enough(job: &str, source: &str, said_ns: u128, metered_ns: u128, slack_ns: u128) {
    let difference = said_ns.abs_diff(metered_ns);
    println!(
        "{source} {job}: rusage {said_ns} ns, metered {metered_ns} ns, {} ppm",
        difference * 1_000_000 / said_ns.max(1)
    );
    assert!(difference <= (said_ns / 200).max(slack_ns), "{source} {job}: {said_ns} against {metered_ns}");
}

fn cpu_in_cgroup(job: &str) {
    let Some(place) = place(job) else { return };
    let mut sampler = Sampler::new(Path::new("/"), INTERVAL_NS, now()).unwrap();
    let Some(mut work) = Work::start(job, &place.procs_files) else { return place.remove().unwrap() };
    sampler.start([1; 16], place.target.clone(), &metered(), &[], None, now()).unwrap();
    let said = work.meter(&mut sampler);
    let window = sampler.close(now(), now().real_ns);
    work.end();
    let pieces = sampler.stop([1; 16], now()).unwrap();
    place.remove().unwrap();
    place.remove_parents();
    let last = pieces.last().unwrap();
    assert_eq!((pieces.len(), last.reason), (1, Reason::End));
    let (status, metered_ns) = total(last, Kind::Cpu);
    assert_eq!(status, Status::Measured);
    close_enough(job, &last.identity.source, said, metered_ns.unwrap(), 5_000_000);
    assert!(window.totals.iter().all(|total| total.check != "violated"), "{:?}", window.totals);
    assert_eq!(total(last, Kind::NetTx), (Status::Missing, None));
}

#[test]
fn a_spinning_process_in_a_cgroup_is_metered_to_half_a_percent() {
    cpu_in_cgroup("spin");
}

#[test]
fn short_lived_children_in_a_cgroup_are_metered_to_half_a_percent() {
    cpu_in_cgroup("children");
}

#[test]
fn threads_in_a_cgroup_are_metered_to_half_a_percent() {
    cpu_in_cgroup("threads");
}

fn cpu_of_tree(job: &str) {
    let Some(mut work) = Work::start(job, &[]) else { return };
    let mut sampler = Sampler::new(Path::new("/"), INTERVAL_NS, now()).unwrap();
    let target = Target::Process { pid: work.child.id() };
    sampler.start([1; 16], target, &metered(), &[], None, now()).unwrap();
    let said = work.meter(&mut sampler);
    let pieces = sampler.stop([1; 16], now()).unwrap();
    work.end();
    let metered_ns = total(pieces.last().unwrap(), Kind::Cpu).1.unwrap();
    // utime and stime, cutime and cstime are each cut to a tick at both ends.
    close_enough(job, "process-tree", said, metered_ns, 45_000_000);
}

#[test]
fn a_spinning_process_tree_is_metered_to_half_a_percent() {
    cpu_of_tree("spin");
}

#[test]
fn short_lived_children_of_a_process_tree_count_once() {
    cpu_of_tree("children");
}

#[test]
fn threads_of_a_process_tree_count() {
    cpu_of_tree("threads");
}

#[test]
fn memory_in_a_cgroup_is_integrated_over_time() {
    let Some(place) = place("memory") else { return };
    let mut sampler = Sampler::new(Path::new("/"), INTERVAL_NS, now()).unwrap();
    let Some(mut work) = Work::start("memory", &place.procs_files) else { return place.remove().unwrap() };
    sampler.start([1; 16], place.target.clone(), &metered(), &[], None, now()).unwrap();
    work.meter(&mut sampler);
    work.end();
    let pieces = sampler.stop([1; 16], now()).unwrap();
    place.remove().unwrap();
    place.remove_parents();
    let held = total(pieces.last().unwrap(), Kind::Memory).1.unwrap();
    let wanted = 2 * (64_u128 << 20);
    println!("memory: {held} byte-seconds for {wanted} and the interpreter");
    assert!((wanted * 95 / 100..wanted * 13 / 10).contains(&held), "{held} for {wanted}");
}

#[test]
fn a_removed_cgroup_is_a_gap_and_its_successor_a_new_meter() {
    let Some(first) = place("again") else { return };
    let mut sampler = Sampler::new(Path::new("/"), INTERVAL_NS, now()).unwrap();
    let identity = sampler.start([1; 16], first.target.clone(), &metered(), &[], None, now()).unwrap();
    sampler.tick(now());
    first.remove().unwrap();
    sampler.tick(now());
    let second = place("again").unwrap();
    sampler.tick(now());
    let window = sampler.close(now(), now().real_ns);
    let reasons: Vec<Reason> = window.orders.iter().map(|piece| piece.reason).collect();
    assert_eq!(reasons, [Reason::Continue, Reason::Gap, Reason::Continue]);
    assert_eq!(window.orders[0].identity, identity);
    assert_ne!(window.orders[2].identity.instance, identity.instance);
    for pair in window.orders.windows(2) {
        assert_eq!(pair[0].end_real_ns, pair[1].start_real_ns);
    }
    sampler.stop([1; 16], now()).unwrap();
    second.remove().unwrap();
    second.remove_parents();
    first.remove_parents();
}

#[test]
fn nothing_is_lost_over_a_restart_of_the_meter() {
    let Some(place) = place("restart") else { return };
    let mut sampler = Sampler::new(Path::new("/"), INTERVAL_NS, now()).unwrap();
    let Some(mut work) = Work::start("threads", &place.procs_files) else { return place.remove().unwrap() };
    sampler.start([1; 16], place.target.clone(), &metered(), &[], None, now()).unwrap();
    let kept: Vec<Vec<u8>> = sampler.state().iter().map(hufu_metering::OrderState::encode).collect();
    drop(sampler);
    work.go();
    let said: u128 = work.line().parse().unwrap();
    let mut sampler = Sampler::new(Path::new("/"), INTERVAL_NS, now()).unwrap();
    let state = hufu_metering::OrderState::decode(&kept[0]).unwrap();
    sampler.start([1; 16], place.target.clone(), &metered(), &[], Some(state), now()).unwrap();
    work.end();
    let pieces = sampler.stop([1; 16], now()).unwrap();
    place.remove().unwrap();
    place.remove_parents();
    assert_eq!(pieces.len(), 1);
    close_enough("restart", "cgroup", said, total(&pieces[0], Kind::Cpu).1.unwrap(), 5_000_000);
    assert!(pieces[0].unsampled_ns > 1_000_000_000);
}

/// Nothing ticks between the first read and the last: whatever is metered, the final read found.
fn brief(name: &str, inner: bool) {
    let Some(place) = place(name) else { return };
    let mut sampler = Sampler::new(Path::new("/"), INTERVAL_NS, now()).unwrap();
    sampler.start([1; 16], place.target.clone(), &metered(), &[], None, now()).unwrap();
    // An engine's own cgroup below the order's, which the engine removes before anybody reads it.
    let below: Vec<PathBuf> = place.procs_files.iter().map(|file| file.with_file_name("inner")).collect();
    let procs_files: Vec<PathBuf> = if inner {
        below.iter().for_each(|directory| std::fs::create_dir(directory).unwrap());
        below.iter().map(|directory| directory.join("cgroup.procs")).collect()
    } else {
        place.procs_files.clone()
    };
    let work = Work::start("brief", &procs_files);
    let said = work.map(|mut work| {
        work.go();
        let said: u128 = work.line().parse().unwrap();
        work.end();
        said
    });
    if inner {
        below.iter().for_each(|directory| std::fs::remove_dir(directory).unwrap());
    }
    let pieces = sampler.stop([1; 16], now()).unwrap();
    place.remove().unwrap();
    place.remove_parents();
    let Some(said) = said else { return };
    let metered_ns = total(pieces.last().unwrap(), Kind::Cpu).1.unwrap();
    println!("{name}: said {said} ns, metered {metered_ns} ns");
    assert!(said >= 5_000_000 && metered_ns >= said, "{said} against {metered_ns}");
}

#[test]
fn an_order_of_5_ms_that_nothing_sampled_is_all_in_its_final_read() {
    brief("brief", false);
}

#[test]
fn what_ran_in_a_cgroup_that_its_engine_has_removed_stays_in_the_orders_own() {
    brief("envelope", true);
}

#[test]
fn an_order_goes_on_from_its_state_alone_while_its_meter_is_the_same() {
    let Some(place) = place("resume") else { return };
    let reserved = [(Resource::reserved(Kind::Cpu), 500_000_000)];
    let mut sampler = Sampler::new(Path::new("/"), INTERVAL_NS, now()).unwrap();
    sampler.start([1; 16], place.target.clone(), &metered(), &reserved, None, now()).unwrap();
    let state = sampler.state_of([1; 16]).unwrap();
    assert_eq!(sampler.state_of([2; 16]), None);
    drop(sampler);
    let mut sampler = Sampler::new(Path::new("/"), INTERVAL_NS, now()).unwrap();
    assert!(sampler.resume(&state, now()));
    assert!(!sampler.resume(&state, now()), "it is being metered");
    assert!(sampler.is_metering([1; 16], &place.target.clone().into(), &metered(), &reserved));
    assert!(!sampler.is_metering([1; 16], &place.target.clone().into(), &metered(), &[]));
    assert!(!sampler.is_metering([2; 16], &place.target.clone().into(), &metered(), &reserved));
    assert_eq!(sampler.let_go([1; 16]).map(|state| (state.order, state.from)), Some((state.order, state.from)));
    assert!(sampler.orders().next().is_none());
    let mut other = state.clone();
    other.identity.instance += 1;
    assert!(!sampler.resume(&other, now()), "another meter");
    let mut rateless = state.clone();
    rateless.meters.iter_mut().filter(|meter| meter.resource.reserved).for_each(|meter| meter.raw = None);
    assert!(!sampler.resume(&rateless, now()), "a state of an earlier version does not tell the reservation");
    place.remove().unwrap();
    assert!(!sampler.resume(&state, now()), "no meter");
    place.remove_parents();
}

#[test]
fn a_tick_is_cheap_and_memory_stands_still() {
    let Some(first) = place("tick-0") else { return };
    let places: Vec<Place> =
        std::iter::once(first).chain((1..100).filter_map(|index| place(&format!("tick-{index}")))).collect();
    let mut sampler = Sampler::new(Path::new("/"), INTERVAL_NS, now()).unwrap();
    for (index, place) in (0_u8..).zip(&places) {
        sampler.start([index; 16], place.target.clone(), &metered(), &[], None, now()).unwrap();
    }
    let resident_kib = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    (0..100).for_each(|_| sampler.tick(now()));
    let (before_kib, before) = (resident_kib(), now());
    (0..1000).for_each(|_| sampler.tick(now()));
    let (after_kib, after) = (resident_kib(), now());
    println!("tick of {} orders and the host: {} us", places.len(), (after.mono_ns - before.mono_ns) / 1_000_000);
    for place in &places {
        place.remove().unwrap();
    }
    places.iter().for_each(Place::remove_parents);
    assert!(after_kib < before_kib + 512, "{before_kib} KiB before, {after_kib} KiB after");
}
