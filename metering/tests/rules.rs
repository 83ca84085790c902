//! The rules of integration that others paid for, each under its name: what a counter, a gauge or a clock may do to a meter, and
//! what it must not do to a bill. Properties over arbitrary courses are in `integrate.rs`, damaged files in `fixtures.rs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{fs, path::Path};

use hufu_metering::{
    At, OrderDraft, Sampler, Target,
    sample::{Raw, Sample},
    usage::{Finding, Limits, Usage},
};
use hufu_trade::{
    quality::Quality,
    resource::{KINDS, Kind, Resource},
    usage::{Reason, Status},
};

const SECOND: u64 = 1_000_000_000;
const LIMITS: Limits = Limits { cpus: 4, interval_ns: SECOND };
const KEY: [u8; 16] = [7; 16];

fn at(boot_ns: u64) -> At {
    At { real_ns: 1_700_000_000_000_000_000 + i64::try_from(boot_ns).unwrap(), boot_ns, mono_ns: boot_ns }
}

/// Steps one kind through values, one a second; total, status and findings at the end.
fn stepped(kind: Kind, values: &[Option<u64>]) -> (Option<u128>, Status, Vec<Finding>) {
    let mut usage = Usage::new(&[Resource::used(kind)], &[]);
    let mut findings = Vec::new();
    for (second, value) in (100..).zip(values) {
        let raw = value.map_or(Raw::Missing("the sensor is away"), Raw::Value);
        let sample = Sample::default().with(kind, raw);
        usage.step(at(second * SECOND), &sample, &LIMITS, |finding| findings.push(finding));
    }
    let total = usage.totals().remove(0);
    (total.total, total.status, findings)
}

/// A host of version 2 in a directory, with one order.
struct Host(tempfile::TempDir);

impl Host {
    const ORDER: &'static str = "sys/fs/cgroup/orders/a";

    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for (path, text) in [
            ("proc/self/mountinfo", "33 23 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"),
            ("proc/sys/kernel/random/boot_id", "0f4d1c86-6f0b-4b57-9df0-3c9d34e5a0c1\n"),
            ("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 500 kB\n"),
            ("proc/stat", "cpu  100 0 100 1000 0 0 0 0 0 0\n"),
            ("sys/devices/system/cpu/online", "0-3\n"),
            ("sys/fs/cgroup/cpu.stat", "usage_usec 9000000\n"),
        ] {
            host.put(path, text);
        }
        host.order(1000, 4096);
        host
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn order(&self, usage_usec: u64, memory: u64) {
        self.put(&format!("{}/cpu.stat", Self::ORDER), &format!("usage_usec {usage_usec}\n"));
        self.put(&format!("{}/memory.current", Self::ORDER), &format!("{memory}\n"));
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn started(&self) -> Sampler {
        let mut sampler = Sampler::new(self.root(), SECOND, at(100 * SECOND)).unwrap();
        let target = Target::Cgroup { path: "orders/a".to_owned() };
        sampler.start(KEY, target, &KINDS.map(Resource::used), &[], None, at(100 * SECOND)).unwrap();
        sampler
    }
}

fn of(draft: &OrderDraft, kind: Kind) -> (Status, Option<u128>) {
    let found = draft.totals.iter().find(|total| total.resource == Resource::used(kind)).unwrap();
    (found.status, found.total)
}

#[test]
fn rule_1_a_counter_that_goes_backwards_never_makes_usage_negative_and_is_said() {
    let (total, _, findings) = stepped(Kind::Cpu, &[1000, 2000, 500, 700].map(Some));
    // 1,000 before the reset; 500 since it, confirmed by the next sample together with its own 200.
    assert_eq!(total, Some(1000 + 700));
    assert_eq!(findings, [Finding::Reset { kind: Kind::Cpu, from: 2000, to: 700 }]);
    // What is no CPU time has no bound that would tell a reset from another counter: nothing of it is billed.
    let (total, _, findings) = stepped(Kind::DiskRead, &[1000, 2000, 500, 700, 800].map(Some));
    assert_eq!(total, Some(1000 + 100));
    assert!(matches!(findings[..], [Finding::Quarantined { from: 2000, to: 700, .. }]), "{findings:?}");
}

#[test]
fn rule_2_a_new_counter_under_the_old_name_is_new_even_when_its_value_is_larger() {
    let host = Host::new();
    let sampler = host.started();
    let kept = sampler.state().remove(0);
    fs::remove_dir_all(host.root().join(Host::ORDER)).unwrap();
    // The directory's inode may be given again at once, as it is not in a kernel's cgroups: take another.
    fs::create_dir_all(host.root().join("sys/fs/cgroup/orders/b")).unwrap();
    host.order(9_000_000, 4096);
    let mut again = Sampler::new(host.root(), SECOND, at(200 * SECOND)).unwrap();
    if again.resume(&kept, at(200 * SECOND)) {
        println!("skipped: this filesystem gave the same inode again");
        return;
    }
    let target = Target::Cgroup { path: "orders/a".to_owned() };
    again.start(KEY, target, &KINDS.map(Resource::used), &[], Some(kept), at(200 * SECOND)).unwrap();
    let window = again.close(at(201 * SECOND), at(201 * SECOND).real_ns);
    assert_eq!(of(window.orders.last().unwrap(), Kind::Cpu).1, Some(0));
    let gap = window.orders.iter().find(|piece| piece.reason == Reason::Gap).unwrap();
    assert_eq!(gap.lost_cpu_ns_max, Some(u128::from(4 * 100 * SECOND)), "a lost tail has an upper bound");
}

#[test]
fn rule_3_the_step_across_a_window_edge_is_in_exactly_one_of_them() {
    let host = Host::new();
    let mut sampler = host.started();
    let mut sum = 0;
    for (second, usec) in [(101, 200_000), (102, 500_000), (105, 900_000), (106, 1_000_000)] {
        host.order(usec, 4096);
        let window = sampler.close(at(second * SECOND), at(second * SECOND).real_ns);
        sum = of(window.orders.last().unwrap(), Kind::Cpu).1.unwrap();
    }
    assert_eq!(sum, u128::from((1_000_000_u64 - 1000) * 1000));
}

#[test]
fn rule_4_a_source_that_vanishes_before_its_last_read_leaves_a_gap_with_an_upper_bound() {
    let host = Host::new();
    let mut sampler = host.started();
    host.order(300_000, 4096);
    sampler.tick(at(101 * SECOND));
    // A kept file of an ordinary filesystem outlives its removal, as a cgroup's does not: `real.rs` removes real ones.
    let kept = sampler.let_go(KEY).unwrap();
    fs::remove_dir_all(host.root().join(Host::ORDER)).unwrap();
    let target = Target::Cgroup { path: "orders/a".to_owned() };
    sampler.start(KEY, target, &KINDS.map(Resource::used), &[], Some(kept), at(103 * SECOND)).unwrap();
    let pieces = sampler.stop(KEY, at(104 * SECOND)).unwrap();
    assert_eq!(
        pieces.iter().map(|piece| piece.reason).collect::<Vec<_>>(),
        [Reason::Continue, Reason::Gap, Reason::End]
    );
    assert_eq!(pieces[1].lost_cpu_ns_max, Some(u128::from(3 * 4 * SECOND)));
    assert_eq!(
        of(&pieces[2], Kind::Cpu).1,
        Some(299_000_000),
        "what was read before stays, what was not is not guessed"
    );
}

#[test]
fn rule_5_missing_is_never_zero() {
    assert_eq!(stepped(Kind::Memory, &[None, None]).0, None);
    let (total, status, _) = stepped(Kind::Memory, &[Some(100), None, Some(100), Some(100)]);
    assert_eq!((total, status), (Some(100), Status::Estimated), "of three seconds one was read at both ends");
    let (total, status, _) = stepped(Kind::Cpu, &[Some(100), None, Some(400)]);
    assert_eq!((total, status), (Some(300), Status::Measured), "a counter makes up for what was not read");
}

#[test]
fn rule_6_a_reading_older_than_the_last_one_is_no_reading() {
    let mut usage = Usage::new(&[Resource::used(Kind::Cpu)], &[]);
    let cpu = |value| Sample::default().with(Kind::Cpu, Raw::Value(value));
    usage.step(at(100 * SECOND), &cpu(1000), &LIMITS, |_| ());
    usage.step(at(101 * SECOND), &cpu(2000), &LIMITS, |_| ());
    usage.step(at(99 * SECOND), &cpu(9000), &LIMITS, |_| ());
    assert_eq!((usage.totals()[0].total, usage.last()), (Some(1000), Some(at(101 * SECOND))));
}

#[test]
fn rule_7_what_physics_forbids_is_quarantined_as_a_gap_and_not_billed() {
    // Four CPUs cannot use ten seconds in one; nor can an order hold more memory than there is.
    let host = Host::new();
    let mut sampler = host.started();
    host.order(20_000_000, 4096);
    sampler.tick(at(101 * SECOND));
    host.order(20_500_000, 4096);
    let window = sampler.close(at(102 * SECOND), at(102 * SECOND).real_ns);
    let gap = window.orders.iter().find(|piece| piece.reason == Reason::Gap).unwrap();
    assert!(gap.why.as_deref().unwrap().contains("at most"), "{:?}", gap.why);
    assert_eq!(of(window.orders.last().unwrap(), Kind::Cpu).1, Some(0));
    host.order(20_500_000, u64::MAX);
    let window = sampler.close(at(103 * SECOND), at(103 * SECOND).real_ns);
    let total = window.orders[0].totals.iter().find(|total| total.resource.kind == Kind::Memory).unwrap();
    assert_eq!((total.status, total.total), (Status::Estimated, Some(2 * 4096)));
    assert_eq!(total.why.as_deref(), Some("it said more than there is"));
}

#[test]
fn rule_8_a_wrapped_counter_is_no_usage_beyond_what_it_can_have_been() {
    let (total, _, findings) = stepped(Kind::NetRx, &[u64::MAX - 10, u64::MAX, 5, 25, 30].map(Some));
    assert_eq!(total, Some(10 + 5), "{findings:?}");
    assert_eq!(findings.len(), 1);
}

#[test]
fn rule_9_one_zero_in_the_middle_is_a_glitch_and_no_reset() {
    let (total, status, findings) = stepped(Kind::Cpu, &[1000, 2000, 0, 3000, 4000].map(Some));
    assert_eq!((total, status, findings), (Some(3000), Status::Measured, vec![]));
}

#[test]
fn rule_14_quality_is_read_from_the_cgroup_and_what_is_not_there_says_so() {
    let host = Host::new();
    let mut sampler = host.started();
    let window = sampler.close(at(101 * SECOND), at(101 * SECOND).real_ns);
    let times = &window.orders[0].delivered;
    assert!(
        times
            .iter()
            .all(|time| { time.total_ns.is_none() == time.why.is_some() || time.quality == Quality::CpuStolen })
    );
    host.put(
        &format!("{}/cpu.stat", Host::ORDER),
        "usage_usec 1000\nnr_periods 1\nnr_throttled 1\nthrottled_usec 5000\n",
    );
    sampler.close(at(102 * SECOND), at(102 * SECOND).real_ns);
    host.put(
        &format!("{}/cpu.stat", Host::ORDER),
        "usage_usec 1000\nnr_periods 1\nnr_throttled 1\nthrottled_usec 7000\n",
    );
    let window = sampler.close(at(103 * SECOND), at(103 * SECOND).real_ns);
    let throttled = window.orders[0].delivered.iter().find(|time| time.quality == Quality::CpuThrottled).unwrap();
    assert_eq!((throttled.total_ns, throttled.why), (Some(2_000_000), None));
}

#[test]
fn stolen_time_is_shared_out_by_the_cpu_time_that_each_order_used() {
    let host = Host::new();
    let mut sampler = host.started();
    sampler.close(at(101 * SECOND), at(101 * SECOND).real_ns);
    // The host used one second of which the order used a quarter; 40 ticks were stolen.
    host.put("sys/fs/cgroup/cpu.stat", "usage_usec 10000000\n");
    host.put("proc/stat", "cpu  150 0 150 1000 0 0 0 40 0 0\n");
    host.order(251_000, 4096);
    let window = sampler.close(at(102 * SECOND), at(102 * SECOND).real_ns);
    let stolen = window.orders[0].delivered.iter().find(|time| time.quality == Quality::CpuStolen).unwrap();
    assert_eq!(stolen.total_ns, Some(100_000_000));
    assert!(stolen.why.unwrap().contains("shared out"), "{stolen:?}");
}

#[test]
fn rule_15_and_17_a_suspended_host_accrues_no_gauge_and_loses_no_counter() {
    let host = Host::new();
    let mut sampler = host.started();
    sampler.tick(at(101 * SECOND));
    // An hour of suspend: BOOTTIME runs, MONOTONIC stood still.
    let woken = At { mono_ns: 102 * SECOND, ..at(3701 * SECOND) };
    host.order(51_000, 4096);
    let window = sampler.close(woken, woken.real_ns);
    let piece = window.orders.last().unwrap();
    assert_eq!(of(piece, Kind::Cpu), (Status::Measured, Some(50_000_000)));
    assert_eq!(of(piece, Kind::Memory), (Status::Estimated, Some(4096)));
    assert_eq!((piece.measured_ns, piece.unsampled_ns), (SECOND, 3600 * SECOND));
}

#[test]
fn rule_16_a_step_of_the_wall_clock_changes_labels_and_no_quantity() {
    let host = Host::new();
    let mut sampler = host.started();
    sampler.tick(at(101 * SECOND));
    let stepped = At { real_ns: at(102 * SECOND).real_ns + 86_400_000_000_000, ..at(102 * SECOND) };
    let window = sampler.close(stepped, stepped.real_ns);
    let piece = window.orders.last().unwrap();
    assert_eq!((piece.elapsed_ns, of(piece, Kind::Memory).1), (2 * SECOND, Some(2 * 4096)));
}

#[test]
fn rule_18_a_clock_of_1970_meters_at_once() {
    let host = Host::new();
    let born = |seconds: u64| At { real_ns: i64::try_from(seconds * SECOND).unwrap(), ..at(seconds * SECOND) };
    let mut sampler = Sampler::new(host.root(), SECOND, born(5)).unwrap();
    let target = Target::Cgroup { path: "orders/a".to_owned() };
    sampler.start(KEY, target, &[Resource::used(Kind::Memory)], &[], None, born(5)).unwrap();
    let window = sampler.close(born(6), born(6).real_ns);
    assert_eq!(of(&window.orders[0], Kind::Memory), (Status::Measured, Some(4096)));
}
