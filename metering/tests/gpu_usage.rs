//! An order's GPU usage from recorded answers of NVML, through the thread that asks it: `fake_nvml.c` replays them step by
//! step, so that each course is the same again. What the answers are like is written down from NVML's interface; a real
//! card's own answers can be put in their place.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(clippy::disallowed_methods, reason = "how long NVML's thread may take; nothing that is tested reads this")]

mod fake;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fake::{Fake, is_static};
use hufu_metering::{
    At, OrderState, Plan, Sampler, Target,
    gpu_meter::{GpuMeter, Trouble},
    gpu_table::{Table, Uuid, Why},
    gpu_watch::{Setting, Watch},
    sample::Sample,
    usage::{Limits, Usage},
};
use hufu_trade::{
    quality::Quality,
    resource::{Kind, Resource},
    usage::SourceIdentity,
};

const S: u64 = 1_000_000_000;
const PATIENCE: Duration = Duration::from_secs(60);
const METERED: [Kind; 3] = [Kind::Gpu, Kind::GpuMemory, Kind::GpuEnergy];
const LIMITS: Limits = Limits { cpus: 4, interval_ns: S };
const ROOT: &str = "/";

/// A server whose NVML answers from `replay`, and an order on it.
struct Server {
    /// Holds the library and the files it answers from.
    _dir: tempfile::TempDir,
    _fake: Fake,
    replay: PathBuf,
    clock: Arc<AtomicU64>,
    watch: Watch,
    meter: GpuMeter,
    usage: Usage,
}

impl Server {
    fn start(replay: &str, defines: &[&str], held: &[&str], cgroup: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay");
        fs::write(&path, replay).unwrap();
        let define = format!("REPLAY=\"{}\"", path.display());
        let defines: Vec<&str> = defines.iter().copied().chain([define.as_str()]).collect();
        let fake = Fake::build(&defines);
        let clock = Arc::new(AtomicU64::new(S));
        let told = Arc::clone(&clock);
        let boot_ns = Box::new(move || told.load(Ordering::SeqCst));
        let setting = Setting { library: fake.path(), interval: Duration::from_millis(1), boot_ns };
        let watch = Watch::start(setting).unwrap();
        let held: Vec<Uuid> = held.iter().map(|uuid| Uuid::new(uuid).unwrap()).collect();
        let meter = GpuMeter::new(Path::new(ROOT), Some(Arc::clone(watch.table())), &held, cgroup);
        let usage = Usage::new(&METERED.map(Resource::used), &[]);
        let mut server = Self { _dir: dir, _fake: fake, replay: path, clock, watch, meter, usage };
        server.rounds();
        server.tick();
        server
    }

    fn table(&self) -> &Table {
        self.watch.table()
    }

    /// Waits until a round is over that began after this was called.
    fn rounds(&self) {
        let (from, began) = (self.table().rounds(), Instant::now());
        while self.table().rounds() < from + 2 {
            assert!(began.elapsed() < PATIENCE, "NVML's thread stands still");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn answer_from(&self, step: u32) {
        let new = self.replay.with_extension("new");
        fs::write(&new, step.to_string()).unwrap();
        // The library looks for `replay.step`; it never sees half of it.
        fs::rename(new, self.replay.with_extension("step")).unwrap();
    }

    fn now_ns(&self) -> u64 {
        self.clock.load(Ordering::SeqCst)
    }

    /// From now on NVML answers as in `step`, and a second of that goes by.
    fn second(&mut self, step: u32) {
        self.answer_from(step);
        self.rounds();
        self.clock.fetch_add(S, Ordering::SeqCst);
        self.rounds();
        self.tick();
    }

    fn tick(&mut self) {
        let at = At { boot_ns: self.now_ns(), ..At::default() };
        let mut sample = Sample::default();
        self.meter.read(at, &mut [0; 4096], &mut sample);
        self.usage.step(at, &sample, &LIMITS, |finding| panic!("{finding:?}"));
    }

    /// Device-ns, byte-seconds, millijoules, throttled ns, and what is wrong with them.
    fn told(&self) -> (Vec<Option<u128>>, Option<u128>, Vec<String>) {
        let totals = self.usage.totals();
        let mut why: Vec<String> = totals.iter().filter_map(|total| total.why.clone()).collect();
        why.dedup();
        (totals.into_iter().map(|total| total.total).collect(), self.meter.throttled_ns().ok(), why)
    }
}

fn uuid(text: &str) -> Uuid {
    Uuid::new(text).unwrap()
}

const GPU_0: &str = "GPU-00000000-0000-0000-0000-000000000000";
const GPU_1: &str = "GPU-10000000-0000-0000-0000-000000000000";
const MIG_2: &str = "MIG-00000000-0000-0000-0000-000000000003";
const NO_WHY: Vec<String> = Vec::new();
/// What a gauge says that was missing for a while.
const PART: &str = "not read for a part of the time, and not counted there";

#[test]
fn a_card_under_load_is_metered_to_the_joule() {
    if is_static() {
        return;
    }
    // An H200's figures: 143,771 MiB, 700 W; power-capped (4) in steps 2 and 3, idle (1) at first.
    let replay = "0 energy 9000000 9120000 9700000 10400000 11000000\n\
                  0 memory 0 1073741824 2147483648\n\
                  0 busy 0 0 97 100 98\n\
                  0 clocks 1 0 4 4 0\n\
                  0 limit 700000\n";
    let mut server = Server::start(replay, &["MIB=143771", "NAME=\"NVIDIA H200\""], &[GPU_0], None);
    for step in 1..=4 {
        server.second(step);
        let (snapshot, _) = server.table().find(uuid(GPU_0), 0).unwrap();
        assert_eq!(snapshot.busy_percent, Ok([0, 0, 97, 100, 98][step as usize]));
    }
    let gib = 1_u128 << 30;
    // Memory by trapezoids: 0.5, then 1.5, 2 and 2 GiB-seconds.
    let want = vec![Some(4 * u128::from(S)), Some(6 * gib), Some(2_000_000)];
    assert_eq!(server.told(), (want, Some(2 * u128::from(S)), NO_WHY));
    assert_eq!(server.meter.take_troubles(), []);
}

#[test]
fn old_readings_and_nonsense_are_gaps_and_a_counter_loses_nothing_over_them() {
    if is_static() {
        return;
    }
    // The sensor stands still in steps 1 to 5; memory is more than there is in step 6; the energy jumps in step 7 for once.
    let replay = "0 energy 1000000@10 1000000@10 1000000@10 1000000@10 1000000@10 1000000@10 1600000@20 \
                  1152921504606846976@30 1900000@40 2000000@50\n\
                  0 memory 1024 1024 1024 1024 1024 1024 1152921504606846976 1024\n\
                  0 busy 50@10 50@10 50@10 50@10 50@10 50@10 2147483632@20 100@30\n\
                  0 clocks 0 0 0 0 0 0 err999 0\n\
                  0 limit 700000\n";
    let mut server = Server::start(replay, &[], &[GPU_0], None);
    let energy = |server: &Server| server.told().0[2];
    for step in 1..=3 {
        server.second(step);
        assert_eq!((energy(&server), server.told().2), (Some(0), NO_WHY), "it may be as old as that");
    }
    for step in 4..=5 {
        server.second(step);
        assert_eq!((energy(&server), server.told().2), (Some(0), vec![Why::Stale.text().to_owned()]));
    }
    server.second(6);
    let (snapshot, _) = server.table().find(uuid(GPU_0), 0).unwrap();
    let [memory, busy, throttled] = [snapshot.memory_bytes, snapshot.busy_percent, snapshot.throttled_ns];
    assert_eq!([memory, busy, throttled], [Err(Why::Absurd), Err(Why::Absurd), Err(Why::Failed)]);
    assert_eq!((energy(&server), server.told().1), (Some(600_000), None));
    assert_eq!(server.told().2, [Why::Absurd.text()]);
    server.second(7);
    assert!(server.told().2.iter().any(|why| why.contains("waits for confirmation")));
    for step in 8..=9 {
        server.second(step);
    }
    // Steps 6 and 7 have one end without a reading of memory, each; a wrong value of the counter is nobody's.
    let want = vec![Some(9 * u128::from(S)), Some(7 * 1024), Some(1_000_000)];
    assert_eq!(server.told(), (want, Some(0), vec![PART.to_owned()]));
}

#[test]
fn a_lost_card_is_missing_with_its_reason_and_another_order_is_unharmed() {
    if is_static() {
        return;
    }
    let replay = "1 here 0 0 err15 err15 0\n\
                  1 energy 500 600 700 800 900\n\
                  0 energy 500 600 700 800 900\n";
    let mut server = Server::start(replay, &["COUNT=2"], &[GPU_0, GPU_1], None);
    let mut other = GpuMeter::new(Path::new(ROOT), Some(Arc::clone(server.watch.table())), &[uuid(GPU_0)], None);
    let found = server.watch.inventory(PATIENCE);
    assert_eq!(found.kinds[0].count, 2);
    server.second(1);
    for step in 2..=3 {
        server.second(step);
        let mut sample = Sample::default();
        other.read(At { boot_ns: server.now_ns(), ..At::default() }, &mut [0; 64], &mut sample);
        assert_eq!(sample.of(Kind::Gpu).value(), Some(S));
        assert_eq!(sample.of(Kind::GpuEnergy).value(), Some(500 + 100 * u64::from(step)));
    }
    let why = Why::Lost.text();
    assert_eq!(server.told().2, [why]);
    assert_eq!(server.told().0[0], Some(2 * u128::from(S)), "two devices for one second");
    assert_eq!(server.meter.take_troubles(), [Trouble::Gone { uuid: uuid(GPU_1), why }]);
    // The inventory has it no more, so nobody is sold it.
    let began = Instant::now();
    let told = loop {
        assert!(began.elapsed() < PATIENCE);
        match server.watch.news() {
            Some(told) if told.kinds[0].count == 1 => break told,
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    assert!(told.devices.unwrap()[1].reason.as_ref().unwrap().contains("fell off the bus"));
    // It comes back only where the driver has it again, which is looked for once in a while.
    server.answer_from(4);
    let began = Instant::now();
    while server.table().find(uuid(GPU_1), 0).unwrap().0.answered.is_err() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    server.second(4);
    server.second(4);
    assert_eq!(server.told().2, [PART]);
    assert_eq!(server.told().0[0], Some(4 * u128::from(S)), "what lies between is not counted");
    assert_eq!(server.told().0[2], Some(800), "energy is: the counter went on");
}

#[test]
fn a_call_that_hangs_stops_nobody_and_goes_on_when_it_returns() {
    if is_static() {
        return;
    }
    let replay = "0 energy 1000 2000 hang 4000 5000\n0 memory 10\n";
    let mut server = Server::start(replay, &["COUNT=1"], &[GPU_0], None);
    server.second(1);
    server.answer_from(2);
    let mut rounds = 0;
    while rounds != server.table().rounds() {
        rounds = server.table().rounds();
        std::thread::sleep(Duration::from_millis(100));
    }
    let began = Instant::now();
    for second in 1..=12 {
        server.clock.fetch_add(S, Ordering::SeqCst);
        server.tick();
        let is_missing = server.told().2 == ["NVML did not answer within 10 s"];
        assert_eq!(is_missing, second > 10, "second {second}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "a reading never waits");
    assert_eq!(server.meter.take_troubles(), [Trouble::Hung]);
    server.answer_from(3);
    server.rounds();
    server.tick();
    server.second(4);
    let (totals, throttled, why) = server.told();
    assert_eq!((totals[2], throttled, why), (Some(4000), None, vec![PART.to_owned()]));
    assert!(server.watch.stop(PATIENCE), "it ends when it is told to");
}

#[test]
fn a_thread_inside_a_hanging_call_is_left_alone_at_the_end() {
    if is_static() {
        return;
    }
    let server = Server::start("0 memory 1 hang\n", &[], &[GPU_0], None);
    server.answer_from(1);
    let mut rounds = 0;
    while rounds != server.table().rounds() {
        rounds = server.table().rounds();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!server.watch.stop(Duration::from_millis(100)));
    fs::write(server.replay.with_extension("step"), "0").unwrap();
}

#[test]
fn a_mig_instance_has_time_and_memory_and_says_what_it_has_not() {
    if is_static() {
        return;
    }
    let replay = "0.2 memory 0 1048576 1048576\n0 energy 1 2 3\n";
    let mut server = Server::start(replay, &["MIG=1"], &[MIG_2], None);
    server.second(1);
    server.second(2);
    let (totals, throttled, why) = server.told();
    assert_eq!(totals, [Some(2 * u128::from(S)), Some(3 * (1 << 19)), None]);
    assert_eq!((throttled, why), (None, vec![Why::Instance.text().to_owned()]));
    let (whole, _) = server.table().find(uuid(GPU_0), 0).unwrap();
    assert_eq!(whole.energy_mj, Ok(3), "its card counts");
}

#[test]
fn drivers_without_times_or_samples_are_read_all_the_same() {
    if is_static() {
        return;
    }
    let mut server = Server::start("0 energy 1000 2000\n0 rates 40 200\n", &["WITHOUT_FIELDS"], &[GPU_0], None);
    assert_eq!(server.table().find(uuid(GPU_0), 0).unwrap().0.busy_percent, Ok(40));
    server.second(1);
    assert_eq!(server.told().0[2], Some(1000));
    let (snapshot, _) = server.table().find(uuid(GPU_0), 0).unwrap();
    assert_eq!((snapshot.busy_percent, snapshot.process_count), (Err(Why::Absurd), None));
}

#[test]
fn of_each_process_its_memory_and_utilisation_are_told_where_nvml_samples_them() {
    if is_static() {
        return;
    }
    // A sample at 5 us, none newer, one of nonsense, one of another process at the same place.
    let replay = "0 process 70 70 70 71\n0 sm 40@5 40@5 200@9 60@12\n";
    let mut server = Server::start(replay, &[], &[GPU_0], None);
    for (step, pid, busy) in [(0, 70, Some(40)), (1, 70, Some(40)), (2, 70, Some(40)), (3, 71, Some(60))] {
        server.second(step);
        let snapshot = server.table().find(uuid(GPU_0), 0).unwrap().0;
        assert_eq!(
            (snapshot.pids[0], snapshot.pid_memory_bytes[0], snapshot.pid_busy_percent[0]),
            (pid, Some(1 << 20), busy)
        );
        assert_eq!((snapshot.pids[1], snapshot.pid_memory_bytes[1], snapshot.pid_busy_percent[1]), (0, None, None));
    }
    let mut without = Server::start("0 process 70\n", &[], &[GPU_0], None);
    without.second(0);
    assert_eq!(without.table().find(uuid(GPU_0), 0).unwrap().0.pid_busy_percent[0], None);
}

#[test]
fn a_process_of_somebody_else_on_a_held_card_is_said() {
    if is_static() {
        return;
    }
    let own = std::process::id();
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).map(|path| path.trim_start_matches('/'));
    // A machine without cgroups of its own has every process at the root.
    let path = path.max_by_key(|path| path.len()).unwrap().to_owned();
    let replay = format!("0 process 0 {own} {own}\n");
    let mut stranger = Server::start(&replay, &[], &[GPU_0], Some("hufu-orders/nobody-is-here"));
    stranger.second(1);
    stranger.second(2);
    assert_eq!(stranger.table().find(uuid(GPU_0), 0).unwrap().0.process_count, Some(1));
    assert_eq!(stranger.meter.take_troubles(), [Trouble::Foreign { uuid: uuid(GPU_0), pid: own }]);
    if !path.is_empty() {
        let mut guest = Server::start(&replay, &[], &[GPU_0], Some(&path));
        guest.second(1);
        assert_eq!(guest.meter.take_troubles(), []);
    }
}

#[test]
fn without_a_library_the_thread_says_so_and_ends() {
    if is_static() {
        return;
    }
    let watch = Watch::start(Setting::usual(Path::new("/nowhere/libnvidia-ml.so.1"), || 1)).unwrap();
    assert!(watch.inventory(PATIENCE).reason.unwrap().contains("is not installed"));
    assert_eq!((watch.table().rounds(), watch.table().all()), (0, Vec::new()));
    assert!(watch.stop(PATIENCE));
}

#[test]
fn an_order_is_metered_over_its_gpus_and_goes_on_after_a_restart() {
    if is_static() {
        return;
    }
    let replay = "0 energy 1000 1600 2200 2900\n0 memory 2048\n0 clocks 0 8 0\n0 limit 700000\n";
    let mut server = Server::start(replay, &[], &[GPU_0], None);
    let metered = ["gpu:H100-80G", "gpu_memory", "gpu_energy"].map(|name| name.parse::<Resource>().unwrap());
    let plan = || Plan { gpus: vec![GPU_0.to_owned()], ..Plan::from(Target::Process { pid: std::process::id() }) };
    let at = |server: &Server| {
        let boot_ns = server.now_ns();
        At { real_ns: i64::try_from(boot_ns).unwrap(), boot_ns, mono_ns: boot_ns }
    };
    let mut sampler = Sampler::new(Path::new(ROOT), S, at(&server)).unwrap();
    sampler.follow_gpus(Arc::clone(server.watch.table()));
    sampler.start([1; 16], plan(), &metered, &[], None, at(&server)).unwrap();
    server.second(1);
    sampler.tick(at(&server));
    let state = sampler.state_of([1; 16]).unwrap().encode();
    drop(sampler);
    // The agent is away for a second; NVML is followed anew, the device is the same.
    server.second(2);
    let mut sampler = Sampler::new(Path::new(ROOT), S, at(&server)).unwrap();
    sampler.follow_gpus(Arc::clone(server.watch.table()));
    let state = OrderState::decode(&state).unwrap();
    assert_eq!(state.gpus, [GPU_0]);
    assert!(sampler.resume(&state, at(&server)), "from its state alone");
    server.second(3);
    sampler.tick(at(&server));
    let end = i64::try_from(server.now_ns()).unwrap();
    let draft = sampler.close(at(&server), end).orders.pop().unwrap();
    let told: Vec<(String, Option<u128>)> =
        draft.totals.iter().map(|total| (total.resource.to_string(), total.total)).collect();
    let want = [("gpu:H100-80G", 3 * u128::from(S)), ("gpu_memory", 3 * 2048), ("gpu_energy", 1900)];
    assert_eq!(told, want.map(|(name, total)| (name.to_owned(), Some(total))));
    let own = SourceIdentity { source: "nvml".to_owned(), path: GPU_0.to_owned(), instance: 0 };
    assert_eq!(draft.identity.attached, Some(vec![own]));
    let throttled = draft.delivered.iter().find(|time| time.quality == Quality::GpuThrottled).unwrap();
    assert!(throttled.total_ns.is_some(), "{throttled:?}");
    // Without NVML's thread its GPU kinds are missing, and nothing else of it.
    let mut blind = Sampler::new(Path::new(ROOT), S, at(&server)).unwrap();
    let cpu = Resource::used(Kind::Cpu);
    blind.start([2; 16], plan(), &[cpu, metered[0].clone()], &[], None, at(&server)).unwrap();
    server.second(3);
    blind.tick(at(&server));
    let draft = blind.close(at(&server), end + 1).orders.pop().unwrap();
    assert!(draft.totals[0].total.is_some(), "{:?}", draft.totals);
    let why = draft.totals[1].why.as_deref().unwrap();
    assert!(draft.totals[1].total.is_none() && why.contains("NVML is not followed"), "{why}");
}
