//! Properties of integration: never negative, never beyond physics, glitches and resets told apart, sums conserved however
//! time is cut.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use hufu_metering::{
    At, Network, OrderState, Storage, StoredTime,
    sample::{Raw, Sample},
    usage::{Finding, Limits, Stored, Usage},
};
use hufu_trade::{
    octets::Octets,
    resource::{KINDS, Kind, Resource},
    usage::{MeterIdentity, SourceIdentity, Status},
};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const LIMITS: Limits = Limits { cpus: 4, interval_ns: SECOND };

fn at(boot_ns: u64) -> At {
    At { real_ns: i64::try_from(boot_ns).unwrap_or(i64::MAX), boot_ns, mono_ns: boot_ns }
}

fn cpu(value: u64) -> Sample {
    Sample::default().with(Kind::Cpu, Raw::Value(value))
}

/// Takes CPU samples `(boot_ns, value)`; the total and what was found.
fn counted(samples: &[(u64, Option<u64>)]) -> (Option<u128>, Vec<Finding>) {
    let mut usage = Usage::new(&[Resource::used(Kind::Cpu)], &[]);
    let mut findings = Vec::new();
    for (boot_ns, value) in samples {
        let sample = value.map_or_else(Sample::default, cpu);
        usage.step(at(*boot_ns), &sample, &LIMITS, |finding| findings.push(finding));
    }
    (usage.totals()[0].total, findings)
}

#[test]
fn counters_step_by_step() {
    let s = SECOND;
    type Row<'a> = (&'a str, &'a [(u64, Option<u64>)], Option<u128>, usize);
    let rows: [Row<'_>; 12] = [
        ("one sample is a beginning", &[(0, Some(5))], Some(0), 0),
        ("no sample is missing", &[(0, None), (s, None)], None, 0),
        ("a difference", &[(0, Some(5)), (s, Some(7))], Some(2), 0),
        ("a missing reading loses nothing", &[(0, Some(5)), (s, None), (2 * s, Some(9))], Some(4), 0),
        ("a long gap loses nothing", &[(0, Some(5)), (3600 * s, Some(3600 * s))], Some(u128::from(3600 * s) - 5), 0),
        ("one zero is a glitch", &[(0, Some(900)), (s, Some(0)), (2 * s, Some(950))], Some(50), 0),
        ("one spike is a glitch", &[(0, Some(900)), (s, Some(90 * s)), (2 * s, Some(950))], Some(50), 0),
        (
            "two low values are a reset",
            &[(0, Some(900)), (s, Some(0)), (2 * s, Some(30)), (3 * s, Some(40))],
            Some(40),
            1,
        ),
        ("a fall is held until confirmed", &[(0, Some(900)), (s, Some(100))], Some(0), 0),
        (
            "twice beyond physics is quarantined",
            &[(0, Some(0)), (s, Some(90 * s)), (2 * s, Some(91 * s)), (3 * s, Some(92 * s))],
            Some(u128::from(s)),
            1,
        ),
        (
            "a reset beyond physics is quarantined",
            &[(0, Some(900 * s)), (s, Some(80 * s)), (2 * s, Some(80 * s))],
            Some(0),
            1,
        ),
        ("time that steps back is ignored", &[(5 * s, Some(5)), (s, Some(900)), (6 * s, Some(7))], Some(2), 0),
    ];
    for (name, samples, want, findings) in rows {
        let (total, found) = counted(samples);
        assert_eq!((total, found.len()), (want, findings), "{name}: {found:?}");
    }
}

#[test]
fn gauges_integrate_and_gaps_are_not_billed() {
    let memory = |value| Sample::default().with(Kind::Memory, Raw::Value(value));
    let mut usage = Usage::new(&[Resource::used(Kind::Memory)], &[]);
    for (boot_s, value) in [(0, 100), (1, 100), (2, 300), (12, 300), (13, 300)] {
        usage.step(at(boot_s * SECOND), &memory(value), &LIMITS, |_| ());
    }
    assert_eq!(usage.totals()[0].total, Some(100 + 200 + 300));
    assert_eq!((usage.measured_ns, usage.unsampled_ns), (3 * SECOND, 10 * SECOND));
}

#[test]
fn reservations_accrue_by_elapsed_time() {
    let reserved = [(Resource::reserved(Kind::Cpu), 2_500_000_000), (Resource::reserved(Kind::Memory), 1 << 30)];
    let mut usage = Usage::new(&[], &reserved);
    for boot_s in [0, 1, 100] {
        usage.step(at(boot_s * SECOND), &Sample::default(), &LIMITS, |_| ());
    }
    let totals: Vec<_> = usage
        .totals()
        .into_iter()
        .map(|total| (total.resource.to_string(), total.total.unwrap(), total.status))
        .collect();
    let want = [("reserved_cpu", 250_000_000_000_u128), ("reserved_memory", 100 << 30)];
    assert_eq!(totals, want.map(|(name, total)| (name.to_owned(), total, Status::Measured)));
}

#[test]
fn a_rebase_bills_nothing_in_between() {
    let mut usage = Usage::new(&[Resource::used(Kind::Cpu)], &[]);
    usage.step(at(0), &cpu(0), &LIMITS, |_| ());
    usage.step(at(SECOND), &cpu(500), &LIMITS, |_| ());
    usage.rebase();
    usage.step(at(2 * SECOND), &cpu(7000), &LIMITS, |_| ());
    usage.step(at(3 * SECOND), &cpu(7001), &LIMITS, |_| ());
    assert_eq!(usage.totals()[0].total, Some(501));
}

fn any_value() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![4 => (0..20 * SECOND).prop_map(Some), 2 => (0..200 * SECOND).prop_map(Some), 1 => any::<u64>().prop_map(Some), 1 => Just(Some(0)), 1 => Just(None)]
}

/// Steps of a well-behaved counter: time and CPU of up to 4 CPUs.
fn steps() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((1..5 * SECOND, 0..=4_u64), 1..40)
        .prop_map(|steps| steps.into_iter().map(|(elapsed, cpus)| (elapsed, elapsed * cpus)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_read_usage_never_falls_and_never_beats_physics(samples in prop::collection::vec((0..10 * SECOND, any_value()), 1..60)) {
        let mut usage = Usage::new(&[Resource::used(Kind::Cpu)], &[]);
        let (mut boot_ns, mut before) = (0, 0);
        for (elapsed, value) in &samples {
            boot_ns += elapsed;
            usage.step(at(boot_ns), &value.map_or_else(Sample::default, cpu), &LIMITS, |_| ());
            let total = usage.totals()[0].total.unwrap_or(0);
            prop_assert!(total >= before);
            before = total;
        }
        let slack = u128::from(boot_ns) / 50 * 4 + 80_000_000 * samples.len() as u128 + 4;
        prop_assert!(before <= 4 * u128::from(boot_ns) + slack);
    }

    #[test]
    fn a_glitch_changes_nothing(steps in steps(), glitch in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], place in any::<prop::sample::Index>()) {
        let mut samples = vec![(0, Some(1 << 40))];
        for (elapsed, used) in &steps {
            let (boot_ns, value) = *samples.last().unwrap();
            samples.push((boot_ns + elapsed, value.map(|value| value + used)));
        }
        let want = u128::from(steps.iter().map(|step| step.1).sum::<u64>());
        prop_assert_eq!(counted(&samples).0, Some(want));
        // A wrong value between two right ones, unless it is plausible.
        let index = place.index(samples.len() - 1) + 1;
        let (before, after) = (samples[index - 1], samples[index]);
        let middle = u64::midpoint(before.0, after.0);
        let plausible = glitch.checked_sub(before.1.unwrap()).is_some_and(|delta| delta <= 5 * (middle - before.0) + 80_000_000);
        prop_assume!(!plausible);
        samples.insert(index, (middle, Some(glitch)));
        prop_assert_eq!(counted(&samples).0, Some(want));
    }

    #[test]
    fn a_reset_is_counted_from_zero(first in steps(), second in steps()) {
        let mut samples = vec![(0, Some(1 << 60))];
        for (elapsed, used) in &first {
            let (boot_ns, value) = *samples.last().unwrap();
            samples.push((boot_ns + elapsed, value.map(|value| value + used)));
        }
        samples.push((samples.last().unwrap().0 + 1, Some(0)));
        for (elapsed, used) in &second {
            let (boot_ns, value) = *samples.last().unwrap();
            samples.push((boot_ns + elapsed, value.map(|value| value + used)));
        }
        let want = first.iter().chain(&second).map(|step| u128::from(step.1)).sum();
        let (total, findings) = counted(&samples);
        prop_assert_eq!(total, Some(want));
        prop_assert_eq!(findings.len(), 1);
    }

    #[test]
    fn windows_cut_anywhere_add_up(steps in steps(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10), memory in any::<u32>()) {
        let resources = [Resource::used(Kind::Cpu), Resource::used(Kind::Memory)];
        let mut usage = Usage::new(&resources, &[(Resource::reserved(Kind::Cpu), SECOND)]);
        let sample = |value: u64| cpu(value).with(Kind::Memory, Raw::Value(memory.into()));
        let (mut boot_ns, mut value) = (0, 0);
        usage.step(at(0), &sample(0), &LIMITS, |_| ());
        let mut last = vec![0_u128; 3];
        let mut sums = vec![0_u128; 3];
        let mut record = |usage: &Usage, edge: Option<u64>| {
            let totals = edge.map_or_else(|| usage.totals(), |edge| usage.totals_at(edge));
            for ((sum, last), total) in sums.iter_mut().zip(&mut last).zip(totals) {
                let total = total.total.unwrap();
                assert!(total >= *last, "a window is never negative");
                *sum += total - *last;
                *last = total;
            }
        };
        for (index, (elapsed, used)) in steps.iter().enumerate() {
            (boot_ns, value) = (boot_ns + elapsed, value + used);
            usage.step(at(boot_ns), &sample(value), &LIMITS, |_| ());
            let mut edges: Vec<u64> = cuts.iter().filter(|cut| cut.index(steps.len()) == index).map(|cut| cut.index(usize::try_from(*elapsed).unwrap()) as u64).collect();
            edges.sort_unstable();
            for edge in edges {
                record(&usage, Some(boot_ns - elapsed + edge));
            }
        }
        record(&usage, None);
        let want: Vec<u128> = usage.totals().into_iter().map(|total| total.total.unwrap()).collect();
        prop_assert_eq!(sums, want);
        prop_assert_eq!(usage.measured_ns + usage.unsampled_ns, boot_ns);
    }

    #[test]
    fn stored_state_reads_back(order in any::<[u8; 16]>(), boot in any::<[u8; 16]>(), path in "\\PC{0,40}", numbers in prop::collection::vec((any::<u64>(), any::<u128>(), any::<Option<u64>>(), any::<bool>()), 0..12), resolved in any::<Option<String>>(), tags in (0..6_u8, 0..3_u8), gpus in prop::collection::vec("\\PC{0,20}", 0..4)) {
        let meters = numbers.iter().zip(KINDS).map(|((boot_ns, sum, raw, read), kind)| Stored { resource: Resource::used(kind), raw: *raw, raw_boot_ns: *boot_ns, sum: *sum, read: *read }).collect();
        let attached = gpus.iter().map(|path| SourceIdentity { source: "x".to_owned(), path: path.clone(), instance: 3 }).collect::<Vec<_>>();
        let attached = (!attached.is_empty()).then_some(attached);
        let network = match tags.0 {
            0 => None,
            1 => Some(Network::Cgroup),
            tag => Some(Network::Interface {
                name: path.clone(),
                host_side: tag % 2 == 1,
                netns_pid: (tag > 3).then_some(7),
            }),
        };
        let storage = match tags.1 {
            0 => None,
            1 => Some(Storage::Directory { path: path.clone().into() }),
            _ => Some(Storage::Filesystem { mount: path.clone().into() }),
        };
        let mut delivered = [StoredTime::default(); 6];
        for (time, (boot_ns, sum, raw, read)) in delivered.iter_mut().zip(&numbers) {
            *time = StoredTime { raw: *raw, raw_boot_ns: *boot_ns, sum_ns: *sum, read: *read };
        }
        let identity = MeterIdentity { boot_id: Octets(boot), source: "cgroup-v2".to_owned(), path, instance: 7, resolved, attached };
        let state = OrderState { order, identity, last: at(9), from: at(3), measured_ns: 4, unsampled_ns: 2, meters, network, storage, gpus, delivered };
        prop_assert_eq!(OrderState::decode(&state.encode()).unwrap(), state);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(state) = OrderState::decode(&bytes) {
            prop_assert_eq!(state.encode(), bytes);
        }
    }
}
