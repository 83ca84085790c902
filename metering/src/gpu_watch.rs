//! The one thread that asks NVML: which devices there are, and once a second what each of them does. What it saw lies in
//! the table (`gpu_table.rs`); a call that hangs stops this thread and nothing else. Nothing is ever set.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use nvml_wrapper::{
    Device, Nvml,
    bitmasks::device::ThrottleReasons,
    enum_wrappers::device::Sampling,
    enums::device::{SampleValue, UsedGpuMemory},
    error::NvmlError,
    struct_wrappers::device::ProcessUtilizationSample,
    structs::device::FieldId,
    sys_exports::field_id::NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
};

use crate::{
    gpu::{self, Gpus, INSTANCE_COUNT_MAX, MEMORY_BYTES_MAX},
    gpu_table::{PID_COUNT_MAX, Reading, SLOT_COUNT, Snapshot, Table, Uuid, Why},
};

/// Devices are looked for anew after this many rounds, and in the round after one failed.
const ROUNDS_A_SCAN: u32 = 60;
/// A driver that cannot be had yet is asked for again after this many rounds.
const ROUNDS_A_TRIAL: u32 = 60;
/// A longer time between two rounds is nobody's throttled time.
const ROUND_NS_MAX: u64 = 5_000_000_000;
/// A sensor whose time stands still for longer gives old readings.
const SENSOR_NS_MAX: u64 = 3_000_000_000;
/// No card draws as much; a limit above it is none.
const POWER_LIMIT_MW_MAX: u32 = 10_000_000;

/// What holds the clocks down against the buyer: heat and power, not idleness and not a setting.
const THROTTLED: ThrottleReasons = ThrottleReasons::SW_POWER_CAP
    .union(ThrottleReasons::HW_SLOWDOWN)
    .union(ThrottleReasons::SW_THERMAL_SLOWDOWN)
    .union(ThrottleReasons::HW_THERMAL_SLOWDOWN)
    .union(ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN);

/// What the thread needs.
pub struct Setting {
    /// NVML, by path or by the name the loader finds it under: [`gpu::LIBRARY`].
    pub library: PathBuf,
    /// Time between rounds.
    pub interval: Duration,
    /// CLOCK_BOOTTIME, ns: the caller's clock.
    pub boot_ns: Box<dyn Fn() -> u64 + Send>,
}

/// A running thread. Dropped, it ends after the round it is in.
#[derive(Debug)]
pub struct Watch {
    table: Arc<Table>,
    news: Receiver<Gpus>,
    stop: SyncSender<()>,
    ended: Receiver<()>,
}

impl Watch {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says where it has no thread to give.
    pub fn start(setting: Setting) -> std::io::Result<Self> {
        let table = Arc::new(Table::default());
        let (tell, news) = sync_channel(1);
        let (stop, stopped) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let written = Arc::clone(&table);
        thread::Builder::new().name("nvml".to_owned()).spawn(move || {
            run(&setting, &written, &tell, &stopped);
            drop(tell);
            end.send(()).ok();
        })?;
        Ok(Self { table, news, stop, ended })
    }

    /// What it sees.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The inventory of the first look, waited for at most `within`.
    pub fn inventory(&self, within: Duration) -> Gpus {
        self.news.recv_timeout(within).unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => gpu::unknown(format!("NVML did not answer within {} s", within.as_secs())),
            RecvTimeoutError::Disconnected => gpu::unknown("NVML was left without an answer".to_owned()),
        })
    }

    /// The inventory, where it is another than the one told last. It does not wait.
    pub fn news(&self) -> Option<Gpus> {
        self.news.try_recv().ok()
    }

    /// Asks the thread to end and waits for it, at most `within`: a process should not end while one of its threads is
    /// inside the driver. False where it did not end.
    pub fn stop(self, within: Duration) -> bool {
        self.stop.try_send(()).ok();
        !matches!(self.ended.recv_timeout(within), Err(RecvTimeoutError::Timeout))
    }
}

/// True when it was told to end.
fn pause(stopped: &Receiver<()>, time: Duration) -> bool {
    !matches!(stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
}

fn run(setting: &Setting, table: &Table, tell: &SyncSender<Gpus>, stopped: &Receiver<()>) {
    let mut told: Option<Gpus> = None;
    loop {
        let nvml = match gpu::open(&setting.library) {
            Ok(nvml) => nvml,
            Err(found) => {
                // A server without the library stays one until the agent starts anew; a driver may still be loaded.
                let is_final = found.devices.is_some();
                let same = told.as_ref() == Some(&found);
                let gone = !same && matches!(tell.try_send(found.clone()), Err(TrySendError::Disconnected(_)));
                if is_final || gone || pause(stopped, setting.interval.saturating_mul(ROUNDS_A_TRIAL)) {
                    return;
                }
                told = Some(found);
                continue;
            }
        };
        let mut rounds = Rounds { table, seen: Vec::new() };
        rounds.watch(&nvml, setting, (tell, &mut told), stopped);
        gpu::close(nvml);
        return;
    }
}

/// A device as it is remembered between two rounds.
struct Seen {
    uuid: Uuid,
    slot: usize,
    /// End of the last round in which its clocks were asked about, and whether they were held down.
    clocks: Option<(u64, bool)>,
    throttled_ns: u64,
    energy: Sensor,
    busy: Sensor,
    /// The newest mean, until there are newer samples.
    busy_percent: Reading,
    /// Time of the newest sample of a process that was taken.
    processes_read_us: u64,
    /// The newest means of processes, percent, until there are newer samples of any.
    processes_busy: Vec<(u32, u8)>,
    power_limit_mw: u32,
    is_here: bool,
}

/// The time that a sensor gives its readings, and when that was seen to move.
#[derive(Default)]
struct Sensor {
    read_us: u64,
    moved_boot_ns: u64,
}

impl Sensor {
    /// Whether a reading of `read_us` is too old at `boot_ns`.
    fn is_stale(&mut self, read_us: u64, boot_ns: u64) -> bool {
        if read_us > self.read_us {
            *self = Self { read_us, moved_boot_ns: boot_ns };
        }
        boot_ns.saturating_sub(self.moved_boot_ns) > SENSOR_NS_MAX
    }
}

struct Rounds<'a> {
    table: &'a Table,
    seen: Vec<Seen>,
}

impl Rounds<'_> {
    fn watch(
        &mut self,
        nvml: &Nvml,
        setting: &Setting,
        (tell, told): (&SyncSender<Gpus>, &mut Option<Gpus>),
        stopped: &Receiver<()>,
    ) {
        let mut devices: Vec<(Uuid, Device<'_>)> = Vec::new();
        let mut until_scan = 0;
        loop {
            if until_scan == 0 {
                let found = gpu::ask(nvml);
                devices = handles(nvml);
                if told.as_ref() != Some(&found) {
                    match tell.try_send(found.clone()) {
                        Ok(()) => *told = Some(found),
                        // Whoever listens has not taken the last one yet: at the next scan again.
                        Err(TrySendError::Full(_)) => {}
                        Err(TrySendError::Disconnected(_)) => return,
                    }
                }
                until_scan = ROUNDS_A_SCAN;
                self.remember(&devices);
            }
            until_scan -= 1;
            if !self.round(&devices, &setting.boot_ns) {
                until_scan = 0;
            }
            self.table.end_round((setting.boot_ns)());
            if pause(stopped, setting.interval) {
                return;
            }
        }
    }

    /// Gives each device a slot; one that is not there any more keeps its own until another needs it.
    fn remember(&mut self, devices: &[(Uuid, Device<'_>)]) {
        for seen in &mut self.seen {
            seen.is_here = devices.iter().any(|(uuid, _)| *uuid == seen.uuid);
        }
        for (uuid, device) in devices {
            let limit = device.enforced_power_limit().ok().filter(|limit| *limit <= POWER_LIMIT_MW_MAX);
            if let Some(seen) = self.seen.iter_mut().find(|seen| seen.uuid == *uuid) {
                seen.power_limit_mw = limit.unwrap_or(0);
                continue;
            }
            let slot = if self.seen.len() < SLOT_COUNT {
                self.seen.len()
            } else {
                let Some(index) = self.seen.iter().position(|seen| !seen.is_here) else { continue };
                self.seen.swap_remove(index).slot
            };
            self.seen.push(Seen {
                uuid: *uuid,
                slot,
                clocks: None,
                throttled_ns: 0,
                energy: Sensor::default(),
                busy: Sensor::default(),
                busy_percent: Err(Why::NotRead),
                processes_read_us: 0,
                processes_busy: Vec::new(),
                power_limit_mw: limit.unwrap_or(0),
                is_here: true,
            });
        }
    }

    /// Looks at every device; false where one of them is not what it was.
    fn round(&mut self, devices: &[(Uuid, Device<'_>)], boot_ns: &dyn Fn() -> u64) -> bool {
        let mut is_whole = true;
        for seen in &mut self.seen {
            let snapshot = match devices.iter().find(|(uuid, _)| *uuid == seen.uuid) {
                Some((_, device)) => seen.look(device, boot_ns),
                None => Snapshot::unread(seen.uuid, lost_or_absent(self.table, seen)),
            };
            // One that is known to be gone is found again by the next scan.
            let gone = snapshot.answered.is_err_and(Why::is_gone);
            is_whole &= !gone || !seen.is_here;
            seen.is_here &= !gone;
            self.table.put(seen.slot, &snapshot);
        }
        is_whole
    }
}

/// A device that the driver does not list any more: what it was told to be last says more than that it is absent.
fn lost_or_absent(table: &Table, seen: &Seen) -> Why {
    let last = table.find(seen.uuid, seen.slot).and_then(|(last, _)| last.answered.err());
    last.filter(|why| why.is_gone()).unwrap_or(Why::Absent)
}

/// Handles of every device and MIG instance that tells its UUID.
fn handles(nvml: &Nvml) -> Vec<(Uuid, Device<'_>)> {
    let mut found = Vec::new();
    let count = nvml.device_count().unwrap_or(0).min(gpu::DEVICE_COUNT_MAX);
    for device in (0..count).filter_map(|index| nvml.device_by_index(index).ok()) {
        if device.mig_mode().is_ok_and(|mode| mode.current == 1) {
            let parts = device.mig_device_count().unwrap_or(0).min(INSTANCE_COUNT_MAX);
            let parts = (0..parts).filter_map(|index| device.mig_device_by_index(index).ok());
            found.extend(parts.filter_map(|part| Some((Uuid::new(&part.uuid().ok()?)?, part))));
        }
        if let Some(uuid) = device.uuid().ok().and_then(|uuid| Uuid::new(&uuid)) {
            found.push((uuid, device));
        }
    }
    found
}

impl Seen {
    fn look(&mut self, device: &Device<'_>, boot_ns: &dyn Fn() -> u64) -> Snapshot {
        let answered = match device.uuid() {
            Ok(uuid) if uuid == self.uuid.as_str() => Ok(boot_ns()),
            // The handle is another device's by now.
            Ok(_) => Err(Why::Absent),
            Err(error) => Err(why(&error)),
        };
        let now_ns = match answered {
            Ok(now_ns) => now_ns,
            Err(why) => {
                self.clocks = None;
                return Snapshot::unread(self.uuid, why);
            }
        };
        let processes = device.running_compute_processes().ok();
        let mut pids = [0; PID_COUNT_MAX];
        let mut pid_memory_bytes = [None; PID_COUNT_MAX];
        for ((to, memory), process) in pids.iter_mut().zip(&mut pid_memory_bytes).zip(processes.iter().flatten()) {
            *to = process.pid;
            *memory = match process.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            };
        }
        let pid_busy_percent = self.busy_of(device, &pids);
        let snapshot = Snapshot {
            uuid: self.uuid,
            answered,
            memory_bytes: memory(device),
            energy_mj: self.energy(device, now_ns),
            busy_percent: self.busy(device, now_ns),
            throttled_ns: self.throttled(device, now_ns),
            power_limit_mw: self.power_limit_mw,
            process_count: processes.and_then(|found| u32::try_from(found.len()).ok()),
            pids,
            pid_memory_bytes,
            pid_busy_percent,
        };
        // A device that is lost while it is asked gives some answers and not others: it is lost.
        let readings = [snapshot.memory_bytes, snapshot.energy_mj, snapshot.busy_percent, snapshot.throttled_ns];
        match readings.into_iter().filter_map(Reading::err).find(|why| why.is_gone()) {
            Some(why) => {
                self.clocks = None;
                Snapshot::unread(self.uuid, why)
            }
            None => snapshot,
        }
    }

    /// The counter with the time of its reading, where the driver tells one; else without.
    fn energy(&mut self, device: &Device<'_>, now_ns: u64) -> Reading {
        if self.uuid.is_instance() {
            return Err(Why::Instance);
        }
        let fields = device.field_values_for(&[FieldId(NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION)]);
        let field = fields.ok().and_then(|fields| fields.into_iter().next()).and_then(Result::ok);
        let Some((read_us, value)) = field.and_then(|field| Some((field.timestamp, field.value.ok()?))) else {
            return device.total_energy_consumption().map_err(|error| why(&error));
        };
        // A driver that gives no time gives 0.
        if u64::try_from(read_us).is_ok_and(|read_us| read_us > 0 && self.energy.is_stale(read_us, now_ns)) {
            return Err(Why::Stale);
        }
        whole(&value).ok_or(Why::Absurd)
    }

    /// Mean of the driver's newest samples of each process. Its ring holds entries beyond all sense, too.
    fn busy_of(&mut self, device: &Device<'_>, pids: &[u32; PID_COUNT_MAX]) -> [Option<u8>; PID_COUNT_MAX] {
        if self.uuid.is_instance() || pids.iter().all(|pid| *pid == 0) {
            return [None; PID_COUNT_MAX];
        }
        // No new sample, or none at all on this device: nothing new is said of anybody.
        let since_us = self.processes_read_us;
        let samples = device.process_utilization_stats(since_us).unwrap_or_default();
        let new: Vec<&ProcessUtilizationSample> =
            samples.iter().filter(|sample| sample.timestamp > since_us && sample.sm_util <= 100).collect();
        if let Some(newest) = new.iter().map(|sample| sample.timestamp).max() {
            self.processes_read_us = newest;
            let mean = |pid: u32| {
                let of = new.iter().filter(|sample| sample.pid == pid);
                let (count, sum) = of.fold((0, 0), |(count, sum), sample| (count + 1, sum + u64::from(sample.sm_util)));
                Some((pid, u8::try_from(sum.checked_div(count)?).ok()?))
            };
            self.processes_busy = pids.iter().filter(|pid| **pid != 0).filter_map(|pid| mean(*pid)).collect();
        }
        pids.map(|pid| self.processes_busy.iter().find(|(of, _)| *of == pid).map(|(_, busy)| *busy))
    }

    /// Mean of the driver's own samples since the last round; where it keeps none, its last figure.
    fn busy(&mut self, device: &Device<'_>, now_ns: u64) -> Reading {
        if self.uuid.is_instance() {
            return Err(Why::Instance);
        }
        let samples = match device.samples(Sampling::GpuUtilization, Some(self.busy.read_us)) {
            Ok(samples) => samples,
            // No new one since the last round.
            Err(NvmlError::NotFound) => Vec::new(),
            Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => {
                let percent = device.utilization_rates().map_err(|error| why(&error))?.gpu;
                return if percent <= 100 { Ok(u64::from(percent)) } else { Err(Why::Absurd) };
            }
            Err(error) => return Err(why(&error)),
        };
        // The ring holds entries that were never filled, and values beyond all sense.
        let new = samples.iter().filter(|sample| sample.timestamp > self.busy.read_us);
        let (mut count, mut sum, mut last_us, mut is_absurd) = (0_u64, 0_u64, 0, false);
        for sample in new {
            last_us = last_us.max(sample.timestamp);
            match whole(&sample.value).filter(|percent| *percent <= 100) {
                Some(percent) => (count, sum) = (count + 1, sum.saturating_add(percent)),
                None => is_absurd = true,
            }
        }
        let is_stale = self.busy.is_stale(last_us, now_ns);
        match sum.checked_div(count) {
            Some(mean) => self.busy_percent = Ok(mean),
            None if is_absurd => self.busy_percent = Err(Why::Absurd),
            None => {}
        }
        if is_stale { Err(Why::Stale) } else { self.busy_percent }
    }

    /// Time between rounds in which the clocks were held down: whole where both ends say so, half where one does.
    fn throttled(&mut self, device: &Device<'_>, boot_ns: u64) -> Reading {
        let reasons = match device.current_throttle_reasons() {
            Ok(reasons) => reasons,
            Err(error) => {
                self.clocks = None;
                return Err(why(&error));
            }
        };
        let is_held = reasons.intersects(THROTTLED);
        if let Some((before_ns, was_held)) = self.clocks.replace((boot_ns, is_held)) {
            let elapsed_ns = boot_ns.saturating_sub(before_ns);
            let held = u64::from(is_held) + u64::from(was_held);
            if elapsed_ns <= ROUND_NS_MAX {
                self.throttled_ns = self.throttled_ns.saturating_add(elapsed_ns.saturating_mul(held) / 2);
            }
        }
        Ok(self.throttled_ns)
    }
}

fn memory(device: &Device<'_>) -> Reading {
    let info = device.memory_info().map_err(|error| why(&error))?;
    let credible = info.used <= info.total && info.total <= MEMORY_BYTES_MAX;
    if credible { Ok(info.used) } else { Err(Why::Absurd) }
}

/// A whole number; NVML says which of its numbers are not.
fn whole(value: &SampleValue) -> Option<u64> {
    match value {
        SampleValue::U32(value) => Some(u64::from(*value)),
        SampleValue::U64(value) => Some(*value),
        SampleValue::I64(value) => u64::try_from(*value).ok(),
        SampleValue::F64(_) => None,
    }
}

fn why(error: &NvmlError) -> Why {
    match error {
        NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => Why::NotSupported,
        NvmlError::NoPermission => Why::Denied,
        NvmlError::GpuLost => Why::Lost,
        NvmlError::NotFound | NvmlError::InvalidArg => Why::Absent,
        NvmlError::ResetRequired => Why::ResetRequired,
        NvmlError::UnexpectedVariant(_) | NvmlError::Utf8Error(_) => Why::Absurd,
        _ => Why::Failed,
    }
}

impl Setting {
    /// The library as everybody has it, asked once a second.
    pub fn usual(library: &Path, boot_ns: impl Fn() -> u64 + Send + 'static) -> Self {
        Self { library: library.to_owned(), interval: Duration::from_secs(1), boot_ns: Box::new(boot_ns) }
    }
}
