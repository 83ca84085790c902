//! Process trees from written `/proc` files: what happens to a child's time when it ends, is adopted, or its id is reused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{fs, path::Path};

use hufu_metering::{At, Known, OrderDraft, Sampler, Target};
use hufu_trade::{
    resource::{Kind, Resource},
    usage::Reason,
};

const SECOND: u64 = 1_000_000_000;
const TICK_NS: u128 = 10_000_000;

struct Proc(tempfile::TempDir, std::cell::Cell<u64>);

impl Proc {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::create_dir_all(root.path().join("proc/sys/kernel/random")).unwrap();
        fs::write(root.path().join("proc/self/mountinfo"), "24 29 0:23 / /proc rw - proc proc rw\n").unwrap();
        fs::write(root.path().join("proc/sys/kernel/random/boot_id"), "0f4d1c86-6f0b-4b57-9df0-3c9d34e5a0c1\n")
            .unwrap();
        Self(root, std::cell::Cell::new(100))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A process with its own and its waited-for ticks.
    fn put(&self, pid: u32, ppid: u32, own: u64, waited: u64, starttime: u64) {
        let directory = self.path().join(format!("proc/{pid}"));
        fs::create_dir_all(&directory).unwrap();
        let stat = format!(
            "{pid} (a (b) c) S {ppid} 1 1 0 -1 4194304 1 2 3 4 {own} 0 {waited} 0 20 0 1 0 {starttime} 1000 100 1\n"
        );
        fs::write(directory.join("stat"), stat).unwrap();
        fs::write(directory.join("smaps_rollup"), "1-2 ---p 0 00:00 0 [rollup]\nRss: 900 kB\nPss: 100 kB\n").unwrap();
    }

    fn end(&self, pid: u32) {
        fs::remove_dir_all(self.path().join(format!("proc/{pid}"))).unwrap();
    }

    fn now(&self) -> At {
        self.1.set(self.1.get() + 1);
        let boot_ns = self.1.get() * SECOND;
        At { real_ns: i64::try_from(boot_ns).unwrap(), boot_ns, mono_ns: boot_ns }
    }
}

fn started(host: &Proc) -> Sampler {
    let mut sampler = Sampler::new(host.path(), SECOND, host.now()).unwrap();
    let metered = [Kind::Cpu, Kind::Memory].map(Resource::used);
    sampler.start([1; 16], Target::Process { pid: 50 }, &metered, &[], None, host.now()).unwrap();
    sampler
}

fn ticks(pieces: &[OrderDraft]) -> u128 {
    pieces.last().unwrap().totals[0].total.unwrap() / TICK_NS
}

#[test]
fn after_a_power_cut_usage_counts_from_the_newest_record_also_where_the_state_is_older_or_gone() {
    let metered = [Kind::Cpu, Kind::Memory].map(Resource::used);
    // Whether the host lost power, whether an old state is there, ticks used after: all of them.
    for (is_cut, has_state, want) in [(true, true, 100 + 7), (true, false, 100 + 7), (false, true, 100 + 20)] {
        let host = Proc::new();
        host.put(50, 1, 10, 0, 7);
        let mut sampler = started(&host);
        host.put(50, 1, 60, 0, 7);
        sampler.tick(host.now());
        let state = sampler.state().pop().filter(|_| has_state);
        host.put(50, 1, 110, 0, 7);
        let said = ticks(&sampler.close(host.now(), i64::MAX).orders);
        assert_eq!(said, 100);
        if is_cut {
            let boot_id = host.path().join("proc/sys/kernel/random/boot_id");
            fs::write(boot_id, "1f4d1c86-6f0b-4b57-9df0-3c9d34e5a0c1\n").unwrap();
            host.put(50, 1, 5, 0, 3);
        }
        let totals = vec![(Resource::used(Kind::Cpu), said * TICK_NS)];
        let mut sampler = Sampler::new(host.path(), SECOND, host.now()).unwrap();
        let known = Known { state, totals, ..Known::default() };
        sampler.go_on([1; 16], Target::Process { pid: 50 }, (&metered, &[]), known, host.now()).unwrap();
        if is_cut {
            host.put(50, 1, 12, 0, 3);
        } else {
            host.put(50, 1, 130, 0, 7);
        }
        sampler.tick(host.now());
        assert_eq!(ticks(&sampler.stop([1; 16], host.now()).unwrap()), want, "cut {is_cut}, state {has_state}");
    }
}

#[test]
fn a_child_counts_once_before_and_after_it_is_waited_for() {
    let host = Proc::new();
    host.put(50, 1, 10, 0, 7);
    let mut sampler = started(&host);
    host.put(50, 1, 12, 0, 7);
    host.put(51, 50, 30, 0, 9);
    sampler.tick(host.now());
    host.put(50, 1, 13, 30, 7);
    host.end(51);
    sampler.tick(host.now());
    assert_eq!(ticks(&sampler.stop([1; 16], host.now()).unwrap()), 3 + 30);
}

#[test]
fn a_child_never_seen_counts_when_its_parent_waits() {
    let host = Proc::new();
    host.put(50, 1, 10, 5, 7);
    let mut sampler = started(&host);
    host.put(50, 1, 10, 45, 7);
    assert_eq!(ticks(&sampler.stop([1; 16], host.now()).unwrap()), 40);
}

#[test]
fn a_child_that_lost_its_parent_is_followed_and_stays_counted() {
    let host = Proc::new();
    host.put(50, 1, 0, 0, 7);
    host.put(51, 50, 0, 0, 8);
    host.put(52, 51, 0, 0, 9);
    let mut sampler = started(&host);
    host.put(52, 1, 20, 0, 9);
    host.put(50, 1, 0, 3, 7);
    host.end(51);
    sampler.tick(host.now());
    host.put(52, 1, 50, 0, 9);
    sampler.tick(host.now());
    host.end(52);
    sampler.tick(host.now());
    assert_eq!(ticks(&sampler.stop([1; 16], host.now()).unwrap()), 53);
}

#[test]
fn a_reused_id_is_a_stranger() {
    let host = Proc::new();
    host.put(50, 1, 0, 0, 7);
    host.put(51, 50, 10, 0, 8);
    let mut sampler = started(&host);
    host.put(51, 1, 5000, 0, 99);
    host.put(50, 1, 1, 10, 7);
    sampler.tick(host.now());
    assert_eq!(ticks(&sampler.stop([1; 16], host.now()).unwrap()), 1);

    let mut sampler = started(&host);
    host.put(50, 1, 90, 0, 1234);
    sampler.tick(host.now());
    sampler.tick(host.now());
    let pieces = sampler.stop([1; 16], host.now()).unwrap();
    assert!(pieces.iter().any(|piece| piece.reason == Reason::Gap), "{pieces:?}");
    assert_eq!(ticks(&pieces), 0);
}

#[test]
fn a_race_with_an_ending_child_heals_and_is_not_counted_twice() {
    let host = Proc::new();
    host.put(50, 1, 0, 0, 7);
    host.put(51, 50, 60, 0, 8);
    let mut sampler = started(&host);
    // The child has gone, the parent's waited time was read before.
    host.end(51);
    sampler.tick(host.now());
    host.put(50, 1, 5, 60, 7);
    sampler.tick(host.now());
    assert_eq!(ticks(&sampler.stop([1; 16], host.now()).unwrap()), 5);
}

#[test]
fn children_nobody_waits_for_stay_counted() {
    let host = Proc::new();
    host.put(50, 1, 0, 0, 7);
    host.put(51, 50, 60, 0, 8);
    let mut sampler = started(&host);
    host.end(51);
    for own in 1..=4 {
        host.put(50, 1, own, 0, 7);
        sampler.tick(host.now());
    }
    host.put(50, 1, 24, 0, 7);
    let counted = ticks(&sampler.stop([1; 16], host.now()).unwrap());
    assert!((20..=24).contains(&counted), "{counted}");
}

#[test]
fn memory_is_proportional_and_damaged_files_are_missing() {
    let host = Proc::new();
    host.put(50, 1, 0, 0, 7);
    host.put(51, 50, 0, 0, 8);
    let mut sampler = started(&host);
    sampler.tick(host.now());
    let pieces = sampler.stop([1; 16], host.now()).unwrap();
    assert_eq!(pieces[0].totals[1].total, Some(2 * 2 * 100 * 1024));
    for text in ["", "50 (x", "50 (x) S", "50 (x) S 1 1 1 0 -1 4194304 1 2 3 4 a 0 0 0 20 0 1 0 7", "x (x) S 1"] {
        fs::write(host.path().join("proc/50/stat"), text).unwrap();
        let mut sampler = Sampler::new(host.path(), SECOND, host.now()).unwrap();
        assert!(sampler.start([1; 16], Target::Process { pid: 50 }, &[], &[], None, host.now()).is_err(), "{text:?}");
    }
}

#[test]
fn a_restart_of_the_meter_counts_nothing_twice() {
    let host = Proc::new();
    host.put(50, 1, 1000, 0, 7);
    host.put(51, 50, 0, 0, 8);
    let mut sampler = started(&host);
    // An adopted child ends: its 100 ticks are in no file any more.
    host.put(51, 1, 100, 0, 8);
    sampler.tick(host.now());
    host.end(51);
    sampler.tick(host.now());
    let kept = sampler.state().remove(0);
    drop(sampler);
    // So long that counting everything again would look possible.
    host.1.set(host.1.get() + 1000);
    for (own, least, most) in [(1050, 100, 150), (1500, 500, 600)] {
        host.put(50, 1, own, 0, 7);
        let mut sampler = Sampler::new(host.path(), SECOND, host.now()).unwrap();
        let metered = [Kind::Cpu, Kind::Memory].map(Resource::used);
        let target = Target::Process { pid: 50 };
        sampler.start([1; 16], target, &metered, &[], Some(kept.clone()), host.now()).unwrap();
        for _ in 0..5 {
            sampler.tick(host.now());
        }
        let counted = ticks(&sampler.stop([1; 16], host.now()).unwrap());
        assert!((least..=most).contains(&counted), "{own}: {counted}");
    }
}
