//! Readers against captured file trees of the three kinds of hosts, whole, damaged and vanishing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use hufu_metering::{
    At, Error, Network, OrderState, Plan, Sampler, Target,
    capacity::{capacity, trusted_sources},
    hierarchy::{Hierarchies, Mode},
    sample::Raw,
};
use hufu_trade::{
    quality::QUALITIES,
    resource::{KINDS, Kind, Resource},
    usage::{Reason, Status},
};

const SECOND: u64 = 1_000_000_000;

/// A copy of one captured tree that a test may change.
struct Tree(tempfile::TempDir);

impl Tree {
    fn of(kind: &str) -> Self {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(kind), copy.path());
        Self(copy)
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, path: &str, text: &str) {
        fs::write(self.root().join(path), text).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.root().join(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target: PathBuf = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn at(seconds: u64) -> At {
    let boot_ns = seconds * SECOND;
    At { real_ns: 1_700_000_000_000_000_000 + i64::try_from(boot_ns).unwrap(), boot_ns, mono_ns: boot_ns }
}

fn all() -> Vec<Resource> {
    KINDS.map(Resource::used).to_vec()
}

fn target() -> Target {
    Target::Cgroup { path: "orders/a".to_owned() }
}

fn started(tree: &Tree) -> Sampler {
    let mut sampler = Sampler::new(tree.root(), SECOND, at(100)).unwrap();
    sampler.start([7; 16], target(), &all(), &[], None, at(100)).unwrap();
    sampler
}

/// Status and quantity of a kind in the last piece of a window closed one second on.
fn closed(sampler: &mut Sampler, seconds: u64, kind: Kind) -> (Status, Option<u128>) {
    let window = sampler.close(at(seconds), at(seconds).real_ns);
    let last = window.orders.last().unwrap();
    let total = last.totals.iter().find(|total| total.resource == Resource::used(kind)).unwrap();
    assert_eq!(total.why.is_some(), total.status != Status::Measured, "{total:?}");
    (total.status, total.total)
}

#[test]
fn each_generation_is_recognised_and_named() {
    for (kind, mode, source) in
        [("v1", Mode::V1, "cgroup-v1"), ("v2", Mode::V2, "cgroup-v2"), ("hybrid", Mode::Hybrid, "cgroup-hybrid")]
    {
        let tree = Tree::of(kind);
        let mut sampler = Sampler::new(tree.root(), SECOND, at(100)).unwrap();
        let identity = sampler.start([7; 16], target(), &all(), &[], None, at(100)).unwrap();
        assert_eq!((sampler.mode(), identity.source.as_str()), (mode, source));
        assert_eq!(identity.boot_id.to_string(), "0f4d1c866f0b4b579df03c9d34e5a0c1");
        assert!(identity.instance > 0);
    }
}

/// Each number in `testdata/golden` was compared by eye with the texts of its tree; `UPDATE_GOLDEN=1` writes them anew.
#[test]
fn the_whole_reading_of_each_flavour_is_as_written_down() {
    for kind in ["v1", "v2", "hybrid"] {
        let tree = Tree::of(kind);
        let mut sampler = started(&tree);
        let sample = sampler.look([7; 16]).unwrap();
        let mut text = format!("mode: {:?}\n", sampler.mode());
        for kind in KINDS {
            text += &format!("{}: {}\n", kind.name(), said(sample.of(kind)));
        }
        for quality in QUALITIES {
            text += &format!("{}: {}\n", quality.name(), said(sample.quality(quality)));
        }
        text += &format!("processes: {}\n", said(sample.processes()));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden").join(format!("{kind}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&path).unwrap(), "{}", path.display());
    }
}

fn said(raw: Raw) -> String {
    match raw {
        Raw::Value(value) => value.to_string(),
        Raw::Missing(why) => format!("missing, {why}"),
    }
}

#[test]
fn cpu_is_the_exact_difference_in_ns() {
    for (kind, file, text, want) in [
        ("v1", "sys/fs/cgroup/cpu,cpuacct/orders/a/cpuacct.usage", "5600123999\n", 600_000_543),
        ("hybrid", "sys/fs/cgroup/cpuacct/orders/a/cpuacct.usage", "5600123999\n", 600_000_543),
        ("v2", "sys/fs/cgroup/orders/a/cpu.stat", "usage_usec 5600124\nuser_usec 1\n", 600_001_000),
    ] {
        let tree = Tree::of(kind);
        let mut sampler = started(&tree);
        tree.put(file, text);
        assert_eq!(closed(&mut sampler, 101, Kind::Cpu), (Status::Measured, Some(want)), "{kind}");
    }
}

#[test]
fn memory_is_held_bytes_times_seconds() {
    for kind in ["v1", "v2", "hybrid"] {
        let tree = Tree::of(kind);
        let mut sampler = started(&tree);
        assert_eq!(closed(&mut sampler, 102, Kind::Memory), (Status::Measured, Some(2 * 104_857_600)), "{kind}");
    }
}

#[test]
fn block_io_counts_real_devices_once_and_only_in_version_2() {
    let tree = Tree::of("v2");
    let mut sampler = started(&tree);
    let more = "253:0 rbytes=8192 wbytes=1016384 rios=2 wios=14\n254:0 rbytes=12288 wbytes=1016384 rios=3 wios=14 dbytes=0 dios=0\n7:0 rbytes=1 wbytes=9 rios=1 wios=1\n";
    tree.put("sys/fs/cgroup/orders/a/io.stat", more);
    let window = sampler.close(at(101), at(101).real_ns);
    let total = |kind: Kind| {
        let found = window.orders[0].totals.iter().find(|total| total.resource == Resource::used(kind)).unwrap();
        found.total
    };
    assert_eq!(
        [Kind::DiskRead, Kind::DiskWrite, Kind::DiskReadOps, Kind::DiskWriteOps].map(total),
        [Some(4096), Some(1_000_000), Some(1), Some(10)]
    );
    for kind in ["v1", "hybrid"] {
        let tree = Tree::of(kind);
        let mut sampler = started(&tree);
        assert_eq!(closed(&mut sampler, 101, Kind::DiskWrite), (Status::Missing, None), "{kind}");
    }
}

#[test]
fn a_damaged_file_is_a_missing_reading_and_never_zero() {
    let file = "sys/fs/cgroup/orders/a/cpu.stat";
    for text in [
        "",
        "usage_usec\n",
        "usage_usec -1\n",
        "usage_usec 99999999999999999999999\n",
        "usage_usec 1x\n",
        "\0\u{1}garbage",
        "usage_usec 18446744073709551615\n",
    ] {
        let tree = Tree::of("v2");
        tree.put(file, text);
        let mut sampler = started(&tree);
        assert_eq!(closed(&mut sampler, 101, Kind::Cpu), (Status::Missing, None), "{text:?}");
        tree.put(file, "usage_usec 1000\n");
        assert_eq!(closed(&mut sampler, 102, Kind::Cpu), (Status::Measured, Some(0)), "{text:?}");
        tree.put(file, text);
        assert_eq!(closed(&mut sampler, 103, Kind::Cpu), (Status::Estimated, Some(0)), "{text:?}");
        tree.put(file, "usage_usec 3000\n");
        assert_eq!(closed(&mut sampler, 104, Kind::Cpu), (Status::Measured, Some(2_000_000)), "{text:?}");
    }
    for text in [
        "garbage\n",
        "254:0 rbytes=x\n",
        "254:0 rbytes\n",
        "254 rbytes=1\n",
        "254:0 rbytes=18446744073709551615\n254:16 rbytes=18446744073709551615\n",
    ] {
        let tree = Tree::of("v2");
        tree.put("sys/fs/cgroup/orders/a/io.stat", text);
        assert_eq!(closed(&mut started(&tree), 101, Kind::DiskRead), (Status::Missing, None), "{text:?}");
    }
}

#[test]
fn files_that_are_absent_are_missing_readings() {
    for (kind, file, resource) in [
        ("v2", "sys/fs/cgroup/orders/a/memory.current", Kind::Memory),
        ("v2", "sys/fs/cgroup/orders/a/io.stat", Kind::DiskRead),
        ("v1", "sys/fs/cgroup/memory/orders/a", Kind::Memory),
        ("hybrid", "sys/fs/cgroup/memory/orders/a", Kind::Memory),
    ] {
        let tree = Tree::of(kind);
        tree.remove(file);
        assert_eq!(closed(&mut started(&tree), 101, resource), (Status::Missing, None), "{kind} {file}");
    }
    let tree = Tree::of("hybrid");
    tree.remove("sys/fs/cgroup/cpuacct/orders/a");
    assert_eq!(
        closed(&mut started(&tree), 101, Kind::Cpu),
        (Status::Measured, Some(0)),
        "cpu.stat of the unified tree"
    );
}

#[test]
fn an_unknown_cgroup_or_process_is_refused() {
    let tree = Tree::of("v2");
    let mut sampler = Sampler::new(tree.root(), SECOND, at(100)).unwrap();
    for (path, bad_name) in [("orders/none", false), ("../../etc", true), ("", true)] {
        let found = sampler.start([7; 16], Target::Cgroup { path: path.to_owned() }, &all(), &[], None, at(100));
        match found {
            Err(Error::UnknownCgroup { .. }) if !bad_name => {}
            Err(Error::BadName { .. }) if path.contains("..") => {}
            Ok(_) if path.is_empty() => sampler.stop([7; 16], at(100)).map(drop).unwrap(),
            other => panic!("{path}: {other:?}"),
        }
    }
    let found = sampler.start([7; 16], Target::Process { pid: 4_000_000 }, &all(), &[], None, at(100));
    assert!(matches!(found, Err(Error::UnknownProcess { .. })));
    assert!(matches!(sampler.stop([7; 16], at(100)), Err(Error::UnknownOrder)));
}

#[test]
fn a_restart_goes_on_and_another_boot_is_a_power_loss() {
    let tree = Tree::of("v2");
    let file = "sys/fs/cgroup/orders/a/cpu.stat";
    let sampler = started(&tree);
    let kept = OrderState::decode(&sampler.state()[0].encode()).unwrap();
    assert_eq!(vec![kept.clone()], sampler.state());
    drop(sampler);
    tree.put(file, "usage_usec 5500123\n");
    let mut again = Sampler::new(tree.root(), SECOND, at(3700)).unwrap();
    again.start([7; 16], target(), &all(), &[], Some(kept.clone()), at(3700)).unwrap();
    let pieces = again.stop([7; 16], at(3701)).unwrap();
    let cpu = |piece: &hufu_metering::OrderDraft| piece.totals[0].total.unwrap();
    assert_eq!((pieces.len(), pieces[0].elapsed_ns, cpu(&pieces[0])), (1, 3601 * SECOND, 500_000_000));
    assert_eq!((pieces[0].measured_ns, pieces[0].unsampled_ns), (SECOND, 3600 * SECOND));
    assert_eq!(pieces[0].totals[1].total, Some(104_857_600), "memory only where it was sampled");

    tree.put("proc/sys/kernel/random/boot_id", "aaaaaaaa-6f0b-4b57-9df0-3c9d34e5a0c1\n");
    tree.put(file, "usage_usec 100\n");
    let mut booted =
        Sampler::new(tree.root(), SECOND, At { boot_ns: 5 * SECOND, mono_ns: 5 * SECOND, ..at(3700) }).unwrap();
    let start = At { boot_ns: 6 * SECOND, mono_ns: 6 * SECOND, ..at(3701) };
    booted.start([7; 16], target(), &all(), &[], Some(kept), start).unwrap();
    tree.put(file, "usage_usec 300100\n");
    let end = At { boot_ns: 7 * SECOND, mono_ns: 7 * SECOND, ..at(3702) };
    let pieces = booted.stop([7; 16], end).unwrap();
    let reasons: Vec<Reason> = pieces.iter().map(|piece| piece.reason).collect();
    assert_eq!(reasons, [Reason::PowerLoss, Reason::End]);
    assert_eq!((cpu(&pieces[1]), pieces[1].elapsed_ns), (300_000_000, SECOND));
    assert_eq!((pieces[0].start_real_ns, pieces[0].end_real_ns), (at(100).real_ns, at(3701).real_ns));
    assert_eq!(pieces[1].start_real_ns, at(3701).real_ns);
}

#[test]
fn a_state_of_version_1_is_read_as_a_target_and_nothing_else() {
    // What version 2 has after the meters: resolution, attached sources, network, storage, GPUs, six times.
    const MORE: usize = 3 + 1 + 3 + 3 + 1 + 6 * (1 + 8 + 8 + 16);
    let tree = Tree::of("v2");
    let state = started(&tree).state().remove(0);
    let mut bytes = state.encode();
    bytes.truncate(bytes.len() - MORE);
    bytes[0] = 1;
    let old = OrderState::decode(&bytes).unwrap();
    assert_eq!((&old.identity, &old.meters, old.last), (&state.identity, &state.meters, state.last));
    assert_eq!((&old.network, &old.storage, old.gpus.len()), (&None, &None, 0));
    assert!(old.delivered.iter().all(|time| !time.read && time.raw.is_none()));
    let mut again = Sampler::new(tree.root(), SECOND, at(200)).unwrap();
    assert!(again.resume(&old, at(200)), "an upgrade goes on");
    bytes.push(0);
    assert!(OrderState::decode(&bytes).is_err());
}

#[test]
fn every_truncation_and_flip_of_stored_state_is_read_or_refused_without_panic() {
    let tree = Tree::of("v2");
    let bytes = started(&tree).state()[0].encode();
    assert!(bytes.len() < 1024, "{}", bytes.len());
    for end in 0..bytes.len() {
        assert!(OrderState::decode(&bytes[..end]).is_err(), "{end}");
    }
    for index in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1 << bit;
            if let Ok(state) = OrderState::decode(&flipped) {
                assert_eq!(state.encode(), flipped, "byte {index} bit {bit}: decode is injective");
            }
        }
    }
}

#[test]
fn conservation_is_checked_and_a_violation_is_said() {
    for (orders_usage, want) in [("5600123\n", "checked"), ("6900123\n", "violated")] {
        let tree = Tree::of("v2");
        let mut sampler = started(&tree);
        tree.put("sys/fs/cgroup/orders/a/cpu.stat", &format!("usage_usec {orders_usage}"));
        tree.put("sys/fs/cgroup/cpu.stat", "usage_usec 90700000\n");
        let window = sampler.close(at(101), at(101).real_ns);
        let cpu = &window.totals[0];
        assert_eq!((cpu.code, cpu.host, cpu.check.as_str()), (0, Some(700_000_000), want));
        assert_eq!(window.samples_taken, 1);
        assert_eq!(window.totals.len(), KINDS.len());
    }
}

#[test]
fn what_was_held_back_at_a_windows_edge_accuses_nobody_of_the_next_one() {
    let tree = Tree::of("v2");
    let mut sampler = started(&tree);
    let put = |orders_us: u64, host_us: u64| {
        tree.put("sys/fs/cgroup/orders/a/cpu.stat", &format!("usage_usec {}\n", 5_000_123 + orders_us));
        tree.put("sys/fs/cgroup/cpu.stat", &format!("usage_usec {}\n", 90_000_000 + host_us));
    };
    put(500_000, 500_000);
    sampler.tick(at(101));
    // That sample was an old one: within a millisecond more CPU time appears than the host has.
    put(1_200_000, 1_200_000);
    let edge_ns = 101 * SECOND + 1_000_000;
    let edge = At { real_ns: at(101).real_ns + 1_000_000, boot_ns: edge_ns, mono_ns: edge_ns };
    let first = sampler.close(edge, edge.real_ns);
    assert_eq!((first.totals[0].orders, first.totals[0].check.as_str()), (500_000_000, "checked"), "held back");
    put(1_300_000, 1_300_000);
    let second = sampler.close(at(102), at(102).real_ns);
    let cpu = &second.totals[0];
    assert_eq!((cpu.host, cpu.orders), (Some(100_000_000), 800_000_000), "confirmed, and counted");
    assert_eq!(cpu.check, "not checked: the window holds usage from before it began");
    put(2_200_000, 1_400_000);
    let third = sampler.close(at(103), at(103).real_ns);
    assert_eq!(third.totals[0].check, "violated", "and looked at again from then on");
}

#[test]
fn a_host_whose_memory_cannot_be_read_is_not_accused() {
    let tree = Tree::of("v2");
    std::fs::remove_file(tree.root().join("proc/meminfo")).unwrap();
    let mut sampler = started(&tree);
    tree.put("sys/fs/cgroup/orders/a/memory.current", "900000000000\n");
    sampler.tick(at(101));
    let window = sampler.close(at(102), at(102).real_ns);
    let memory = window.totals.iter().find(|total| total.code == Resource::used(Kind::Memory).code()).unwrap();
    assert_eq!((memory.host, memory.check.as_str()), (None, "no meminfo"));
}

#[test]
fn sources_say_what_can_be_metered_and_why_not() {
    let want = [("v1", [true, true, false]), ("v2", [true, true, true]), ("hybrid", [true, true, false])];
    for (kind, [cpu, memory, disk]) in want {
        let tree = Tree::of(kind);
        let found = trusted_sources(tree.root()).unwrap();
        let has =
            |kind: Kind| found.iter().any(|(resource, source)| *resource == Resource::used(kind) && source.is_ok());
        assert_eq!([has(Kind::Cpu), has(Kind::Memory), has(Kind::DiskWrite)], [cpu, memory, disk], "{kind}");
        assert_eq!([Kind::NetRx, Kind::Gpu, Kind::Storage].map(has), [false; 3]);
        let capacity = capacity(tree.root()).unwrap();
        assert_eq!((capacity.inventory.cpu.count, capacity.resources.len()), (2, KINDS.len()));
        assert_eq!(capacity.inventory.interfaces[0].name, "eth0");
        assert_eq!(capacity.inventory.interfaces[0].speed_mbit, Some(1000));
    }
}

#[test]
fn a_cgroup_may_be_named_by_its_directory_or_below_its_mount() {
    let tree = Tree::of("hybrid");
    let hierarchies = Hierarchies::detect(tree.root()).unwrap();
    for named in ["orders/a", "/orders/a/", "/sys/fs/cgroup/cpuacct/orders/a", "/sys/fs/cgroup/unified/orders/a"] {
        assert_eq!(hierarchies.relative(named), "orders/a", "{named}");
    }
}

/// Ticks and closes at odd times while the CPU counter runs; every window's pieces join and add up.
#[test]
fn windows_partition_time_and_sums_are_conserved_also_when_closed_late() {
    for late_ms in [0, 3, 900, 2500, 7000] {
        let tree = Tree::of("v2");
        let mut sampler = started(&tree);
        let mut end_ns = at(100).real_ns;
        let (mut last, mut sum, mut estimated) = (0, 0, 0);
        for window in 1..=5_u64 {
            let mut when = at(100 + window * 10);
            when.boot_ns += late_ms * 1_000_000;
            when.real_ns += i64::try_from(late_ms * 1_000_000).unwrap();
            let used_us = 5_000_123 + (when.boot_ns - 100 * SECOND) / 1000;
            tree.put("sys/fs/cgroup/orders/a/cpu.stat", &format!("usage_usec {used_us}\n"));
            let draft = sampler.close(when, at(100 + window * 10).real_ns);
            assert_eq!(draft.end_real_ns, at(100 + window * 10).real_ns);
            for piece in &draft.orders {
                assert_eq!(piece.start_real_ns, end_ns, "{late_ms}");
                end_ns = piece.end_real_ns;
                let total = piece.totals[0].total.unwrap();
                sum += total - last;
                last = total;
                estimated += u32::from(piece.totals[0].status == Status::Estimated);
            }
            assert_eq!(end_ns, draft.end_real_ns);
        }
        assert_eq!(estimated, if late_ms > 1000 { 5 } else { 0 }, "{late_ms}");
        let pieces = sampler.stop([7; 16], at(160)).unwrap();
        sum += pieces[0].totals[0].total.unwrap() - last;
        assert_eq!(sum, u128::from(50 * SECOND + late_ms * 1_000_000), "{late_ms}");
    }
}

#[test]
fn a_quarantined_value_is_a_gap_and_never_usage() {
    let tree = Tree::of("v2");
    let mut sampler = started(&tree);
    for (seconds, usage_usec) in [(101, 5_100_123_u64), (102, 905_100_123), (103, 906_100_123), (104, 906_200_123)] {
        tree.put("sys/fs/cgroup/orders/a/cpu.stat", &format!("usage_usec {usage_usec}\n"));
        sampler.tick(at(seconds));
    }
    let pieces = sampler.stop([7; 16], at(105)).unwrap();
    let shown: Vec<_> = pieces.iter().map(|piece| (piece.reason, piece.totals[0].total.unwrap() / 1_000_000)).collect();
    assert_eq!(shown, [(Reason::Continue, 100), (Reason::Gap, 100), (Reason::End, 200)]);
    assert!(pieces[1].why.as_ref().unwrap().starts_with("cpu counter went from"));
}

#[test]
fn traffic_beyond_a_cards_link_is_a_gap_and_what_the_link_carries_is_usage() {
    // Megabits a second, whether it is a card, bytes received in the second second, whether that is believed.
    for (speed, is_card, bytes, good) in [
        ("1000", true, 130_000_000_u64, true),
        ("1000", true, 1_300_000_000, false),
        ("1000", false, 1_300_000_000, true),
        ("-1", true, 1_300_000_000, true),
        ("nonsense", true, 1_300_000_000, true),
        ("100000", true, 1_300_000_000, true),
    ] {
        let tree = Tree::of("v2");
        let card = "sys/class/net/ens1";
        for directory in ["statistics", if is_card { "device" } else { "queues" }] {
            fs::create_dir_all(tree.root().join(card).join(directory)).unwrap();
        }
        for (name, text) in [("ifindex", "2"), ("iflink", "2"), ("speed", speed)] {
            tree.put(&format!("{card}/{name}"), &format!("{text}\n"));
        }
        let put = |received: u64| {
            tree.put(&format!("{card}/statistics/rx_bytes"), &format!("{received}\n"));
            tree.put(&format!("{card}/statistics/tx_bytes"), "0\n");
        };
        put(5_000);
        let network = Network::Interface { name: "ens1".to_owned(), host_side: false, netns_pid: None };
        let plan = Plan { network: Some(network), ..target().into() };
        let mut sampler = Sampler::new(tree.root(), SECOND, at(100)).unwrap();
        sampler.start([7; 16], plan, &[Resource::used(Kind::NetRx)], &[], None, at(100)).unwrap();
        for (seconds, more) in [(101, 0), (102, bytes), (103, bytes)] {
            put(6_000 + more);
            sampler.tick(at(seconds));
        }
        put(7_000 + bytes);
        let pieces = sampler.stop([7; 16], at(104)).unwrap();
        let gaps: Vec<_> = pieces.iter().filter(|piece| piece.reason == Reason::Gap).collect();
        let total = pieces.last().unwrap().totals[0].total;
        assert_eq!(
            (gaps.is_empty(), total),
            (good, Some(2_000 + if good { u128::from(bytes) } else { 0 })),
            "{speed} {is_card}"
        );
        assert!(gaps.iter().all(|gap| gap.why.as_ref().unwrap().starts_with("net_rx counter went from")), "{gaps:?}");
    }
}

#[test]
fn a_link_that_is_negotiated_anew_may_carry_more() {
    let tree = Tree::of("v2");
    let card = "sys/class/net/ens1";
    for directory in ["statistics", "device"] {
        fs::create_dir_all(tree.root().join(card).join(directory)).unwrap();
    }
    for (name, text) in [
        ("ifindex", "2"),
        ("iflink", "2"),
        ("speed", "1000"),
        ("statistics/tx_bytes", "0"),
        ("statistics/rx_bytes", "0"),
    ] {
        tree.put(&format!("{card}/{name}"), &format!("{text}\n"));
    }
    let network = Network::Interface { name: "ens1".to_owned(), host_side: false, netns_pid: None };
    let plan = Plan { network: Some(network), ..target().into() };
    let mut sampler = Sampler::new(tree.root(), SECOND, at(100)).unwrap();
    sampler.start([7; 16], plan, &[Resource::used(Kind::NetRx)], &[], None, at(100)).unwrap();
    tree.put(&format!("{card}/speed"), "10000\n");
    for second in 101..=120 {
        tree.put(
            &format!("{card}/statistics/rx_bytes"),
            &format!("{}\n", (second - 111_u64.min(second)) * 1_000_000_000),
        );
        sampler.tick(at(second));
    }
    let pieces = sampler.stop([7; 16], at(121)).unwrap();
    assert_eq!(pieces.last().unwrap().totals[0].total, Some(9_000_000_000), "{pieces:?}");
}
