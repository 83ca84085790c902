//! An order's GPU readings: devices held, their memory and energy, the time they were throttled, and who else is on them. All
//! of it comes from the table that the NVML thread fills (`gpu_table.rs`); nothing here calls NVML or waits for it.
//!
//! A device is held whole: its memory and energy are the order's, and a process of somebody else on it is an alarm, not a
//! share. One held device that does not answer makes the order's GPU readings missing, with the reason.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use hufu_trade::{quality::Quality, resource::Kind, usage::SourceIdentity};

use crate::{
    Error, file,
    gpu_table::{PID_COUNT_MAX, Reading, Snapshot, Table, Uuid, Why},
    sample::{At, Raw, Sample},
};

/// Devices of one order at most.
pub const HELD_COUNT_MAX: usize = 64;
/// What is in the table is nobody's reading when the thread that fills it has not finished a round for this long, ns.
pub const STALE_NS: u64 = 10_000_000_000;
const STALE: &str = "NVML did not answer within 10 s";
const NO_NVML: &str = "NVML is not there: no GPU is read";
const UNSEEN: &str = "NVML has not shown this GPU yet";

/// One held device, a second: what `gpu` integrates to device-ns.
const DEVICE_NS: u64 = 1_000_000_000;
/// Where a device tells no limit: more than any draws.
const POWER_LIMIT_MW: u32 = 2_000_000;
/// Alarms that wait for whoever asks.
const TROUBLE_COUNT_MAX: usize = 64;

/// The source of an order's readings of a GPU kind; `None` for other kinds.
pub fn source(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Gpu => Some("nvml, device held"),
        Kind::GpuMemory => Some("nvml nvmlDeviceGetMemoryInfo_v2"),
        Kind::GpuEnergy => Some("nvml nvmlDeviceGetTotalEnergyConsumption"),
        _ => None,
    }
}

/// Something about an order's devices that a person must act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A device is gone: lost, removed, or partitioned anew.
    Gone {
        /// Which.
        uuid: Uuid,
        /// What NVML says.
        why: &'static str,
    },
    /// The thread that asks NVML hangs in a call: the driver, or the machine, must be looked at.
    Hung,
    /// A process outside the order's cgroup computes on a device that the order holds.
    Foreign {
        /// Which.
        uuid: Uuid,
        /// Its process id.
        pid: u32,
    },
    /// The energy counter moved further than the device can draw; that step is not counted.
    Implausible {
        /// Which.
        uuid: Uuid,
    },
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Gone { uuid, why } => write!(f, "{uuid}: {why}"),
            Trouble::Hung => f.write_str(STALE),
            Trouble::Foreign { uuid, pid } => {
                write!(f, "{uuid}: process {pid} computes on it and is not of this order")
            }
            Trouble::Implausible { uuid } => {
                write!(f, "{uuid}: its energy counter moved further than it can draw; not counted")
            }
        }
    }
}

/// A counter of energy as it is told on: the device's own, without what was not believed.
#[derive(Clone, Copy, Debug)]
struct Energy {
    raw: u64,
    boot_ns: u64,
    /// Added to `raw`.
    offset: i128,
    /// One strange value may be a glitch: it waits for the next.
    doubt: bool,
}

#[derive(Debug)]
struct Held {
    uuid: Uuid,
    slot: usize,
    energy: Option<Energy>,
    /// The thread's counter at the last reading.
    throttled: Option<u64>,
    is_gone: bool,
    pids: [u32; PID_COUNT_MAX],
}

/// The devices that an order holds.
#[derive(Debug)]
pub struct GpuMeter {
    table: Option<Arc<Table>>,
    held: Vec<Held>,
    /// Path of the order's cgroup; absent for process trees, of whose processes nothing is said then.
    cgroup: Option<String>,
    root: PathBuf,
    is_hung: bool,
    throttled_ns: u128,
    throttled_why: Option<&'static str>,
    troubles: Vec<Trouble>,
}

impl GpuMeter {
    /// As [`GpuMeter::new`], of devices by the names that NVML gives them.
    ///
    /// # Errors
    /// [`Error::BadDevice`] for a name that cannot be one, [`Error::NotMetered`] for more devices than an order can hold.
    pub(crate) fn open(
        root: &Path,
        table: Option<Arc<Table>>,
        held: &[String],
        cgroup: Option<&str>,
    ) -> Result<Self, Error> {
        if held.len() > HELD_COUNT_MAX {
            return Err(Error::NotMetered { what: "more than 64 GPUs of an order" });
        }
        if table.is_none() {
            return Err(Error::NotMetered { what: "a GPU of an order (NVML is not followed)" });
        }
        let bad = |name: &str| Error::BadDevice { name: name.chars().take(80).collect() };
        let uuids = held.iter().map(|name| Uuid::new(name).ok_or_else(|| bad(name)));
        Ok(Self::new(root, table, &uuids.collect::<Result<Vec<_>, _>>()?, cgroup))
    }

    /// A meter of `held` devices, the first [`HELD_COUNT_MAX`] of them, for the order in `cgroup`. Without a table nothing is ever read.
    pub fn new(root: &Path, table: Option<Arc<Table>>, held: &[Uuid], cgroup: Option<&str>) -> Self {
        let mut uuids = held.to_vec();
        uuids.sort_unstable();
        uuids.dedup();
        uuids.truncate(HELD_COUNT_MAX);
        let held = uuids.into_iter().map(|uuid| Held {
            uuid,
            slot: 0,
            energy: None,
            throttled: None,
            is_gone: false,
            pids: [0; PID_COUNT_MAX],
        });
        Self {
            table,
            held: held.collect(),
            cgroup: cgroup.map(|path| path.trim_matches('/').to_owned()),
            root: root.to_owned(),
            is_hung: false,
            throttled_ns: 0,
            throttled_why: Some(UNSEEN),
            troubles: Vec::with_capacity(TROUBLE_COUNT_MAX),
        }
    }

    /// The devices, in the order of their UUIDs.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.held.iter().map(|held| held.uuid)
    }

    /// Whose readings these are: the devices by their UUIDs, which are theirs for ever.
    pub fn identity(&self) -> SourceIdentity {
        let uuids: Vec<&str> = self.held.iter().map(|held| held.uuid.as_str()).collect();
        SourceIdentity { source: "nvml".to_owned(), path: uuids.join(","), instance: 0 }
    }

    /// Device-time since this meter began in which clocks were held down for heat or power, ns; or why it is not known.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn throttled_ns(&self) -> Result<u128, &'static str> {
        self.throttled_why.map_or(Ok(self.throttled_ns), Err)
    }

    /// What somebody must know, the oldest first; each once until it is over and begins anew.
    pub fn take_troubles(&mut self) -> Vec<Trouble> {
        std::mem::take(&mut self.troubles)
    }

    fn say(&mut self, trouble: Trouble) {
        if self.troubles.len() < TROUBLE_COUNT_MAX {
            self.troubles.push(trouble);
        }
    }

    /// Reads all devices as of `at` into the sample's GPU kinds; no allocation while nothing is wrong.
    pub fn read(&mut self, at: At, buffer: &mut [u8], sample: &mut Sample) {
        let mut sums = Sums::default();
        match self.table.clone() {
            None => sums = Sums::missing(NO_NVML),
            Some(table) if table.is_stale(at.boot_ns, STALE_NS) => {
                // Before the first round nothing hangs: the driver may need a minute to wake up.
                let is_hung = table.round_boot_ns() > 0;
                if is_hung && !self.is_hung {
                    self.say(Trouble::Hung);
                }
                self.is_hung |= is_hung;
                sums = Sums::missing(STALE);
                self.held.iter_mut().for_each(|held| held.throttled = None);
            }
            Some(table) => {
                self.is_hung = false;
                for index in 0..self.held.len() {
                    self.look(&table, index, buffer, &mut sums);
                }
            }
        }
        let raw = |sum: Result<u64, &'static str>| sum.map_or_else(Raw::Missing, Raw::Value);
        sample.set(Kind::Gpu, raw(sums.device_ns));
        sample.set(Kind::GpuMemory, raw(sums.memory_bytes));
        sample.set(Kind::GpuEnergy, raw(sums.energy_mj));
        self.throttled_why = sums.throttled.err();
        let throttled = self.throttled_ns().map(|ns| u64::try_from(ns).unwrap_or(u64::MAX));
        sample.set_quality(Quality::GpuThrottled, raw(throttled));
    }

    fn look(&mut self, table: &Table, index: usize, buffer: &mut [u8], sums: &mut Sums) {
        let Some(held) = self.held.get_mut(index) else { return };
        let Some((snapshot, slot)) = table.find(held.uuid, held.slot) else {
            *sums = Sums::missing(UNSEEN);
            return;
        };
        held.slot = slot;
        let uuid = held.uuid;
        let boot_ns = match snapshot.answered {
            Ok(boot_ns) => boot_ns,
            Err(why) => {
                held.throttled = None;
                let is_news = why.is_gone() && !std::mem::replace(&mut held.is_gone, why.is_gone());
                *sums = Sums::missing(why.text());
                if is_news {
                    self.say(Trouble::Gone { uuid, why: why.text() });
                }
                return;
            }
        };
        held.is_gone = false;
        add(&mut sums.device_ns, Ok(DEVICE_NS));
        add(&mut sums.memory_bytes, snapshot.memory_bytes.map_err(Why::text));
        let limit_mw = if snapshot.power_limit_mw == 0 { POWER_LIMIT_MW } else { snapshot.power_limit_mw };
        let (told, is_implausible) = told(&mut held.energy, snapshot.energy_mj, boot_ns, limit_mw);
        add(&mut sums.energy_mj, told);
        match snapshot.throttled_ns {
            Ok(now) => {
                let before = held.throttled.replace(now).unwrap_or(now);
                self.throttled_ns = self.throttled_ns.saturating_add(u128::from(now.saturating_sub(before)));
            }
            Err(why) => {
                held.throttled = None;
                sums.throttled = Err(why.text());
            }
        }
        let is_same = std::mem::replace(&mut held.pids, snapshot.pids) == snapshot.pids;
        if is_implausible {
            self.say(Trouble::Implausible { uuid });
        }
        if !is_same {
            self.find_foreign(&snapshot, buffer);
        }
    }

    /// Looks where processes that are new on a device belong. One that ended meanwhile is nobody's.
    fn find_foreign(&mut self, snapshot: &Snapshot, buffer: &mut [u8]) {
        let Some(cgroup) = self.cgroup.take() else { return };
        for pid in snapshot.pids.into_iter().filter(|pid| *pid != 0) {
            let path = self.root.join("proc").join(pid.to_string()).join("cgroup");
            let Ok(Some(kept)) = file::Kept::open(&path) else { continue };
            let file::Text::Bytes(text) = kept.read(buffer) else { continue };
            if !is_within(text, &cgroup) {
                self.say(Trouble::Foreign { uuid: snapshot.uuid, pid });
                break;
            }
        }
        self.cgroup = Some(cgroup);
    }
}

/// Whether one of a process's cgroups is `cgroup` or below it.
fn is_within(text: &[u8], cgroup: &str) -> bool {
    file::lines(text).any(|line| {
        // `hierarchy:controllers:/path`
        let path = line.splitn(3, |byte| *byte == b':').nth(2).and_then(|path| path.strip_prefix(b"/"));
        let rest = path.and_then(|path| path.strip_prefix(cgroup.as_bytes()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    })
}

/// The sums over an order's devices.
struct Sums {
    device_ns: Result<u64, &'static str>,
    memory_bytes: Result<u64, &'static str>,
    energy_mj: Result<u64, &'static str>,
    throttled: Result<(), &'static str>,
}

impl Default for Sums {
    fn default() -> Self {
        Self { device_ns: Ok(0), memory_bytes: Ok(0), energy_mj: Ok(0), throttled: Ok(()) }
    }
}

impl Sums {
    fn missing(why: &'static str) -> Self {
        Self { device_ns: Err(why), memory_bytes: Err(why), energy_mj: Err(why), throttled: Err(why) }
    }
}

/// A sum with one missing part is missing.
fn add(sum: &mut Result<u64, &'static str>, part: Result<u64, &'static str>) {
    *sum = match (*sum, part) {
        (Ok(sum), Ok(part)) => sum.checked_add(part).ok_or(Why::Absurd.text()),
        (Err(why), _) | (Ok(_), Err(why)) => Err(why),
    };
}

/// What a device's counter is told on as, and whether a step of it is left out now. It falls to zero when the driver is
/// loaded anew and is then counted from zero; it cannot climb faster than the device may draw.
fn told(known: &mut Option<Energy>, read: Reading, boot_ns: u64, limit_mw: u32) -> (Result<u64, &'static str>, bool) {
    let raw = match read {
        Ok(raw) => raw,
        Err(why) => return (Err(why.text()), false),
    };
    let energy = known.get_or_insert(Energy { raw, boot_ns, offset: 0, doubt: false });
    let elapsed_ns = boot_ns.saturating_sub(energy.boot_ns);
    // Twice the limit for peaks, and a second for the time between the sensor and the clock.
    let most_mj = (u128::from(elapsed_ns) + 1_000_000_000).saturating_mul(2 * u128::from(limit_mw)) / 1_000_000_000;
    let step = raw.checked_sub(energy.raw).map(u128::from);
    let mut is_left_out = false;
    if step.is_none_or(|step| step > most_mj) {
        if !std::mem::replace(&mut energy.doubt, true) {
            return (Err("the energy counter's last value waits for confirmation"), false);
        }
        let told = i128::from(energy.raw) + energy.offset;
        let began_anew = step.is_none() && u128::from(raw) <= most_mj;
        energy.offset = if began_anew { told } else { told - i128::from(raw) };
        is_left_out = !began_anew;
    }
    (energy.raw, energy.boot_ns, energy.doubt) = (raw, boot_ns, false);
    let told = u64::try_from(i128::from(raw) + energy.offset).map_err(|_| Why::Absurd.text());
    (told, is_left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn uuid(digit: u8) -> Uuid {
        Uuid::new(&format!("GPU-0000000{digit}-1111-2222-3333-444444444444")).unwrap()
    }

    #[test]
    fn the_energy_told_only_grows_and_leaves_out_what_no_device_can_draw() {
        // 700 W: at most 1,400 J a second, and one second's more.
        let course: [(u64, Reading, Option<u64>, bool); 12] = [
            (0, Ok(5_000_000), Some(5_000_000), false),
            (1, Ok(5_600_000), Some(5_600_000), false),
            (2, Err(Why::Stale), None, false),
            (3, Ok(6_800_000), Some(6_800_000), false),
            (4, Ok(0), None, false),
            (5, Ok(7_900_000), Some(7_900_000), false),
            (6, Ok(1 << 60), None, false),
            (7, Ok((1 << 60) + 600_000), Some(7_900_000), true),
            (8, Ok((1 << 60) + 1_200_000), Some(8_500_000), false),
            (9, Ok(300_000), None, false),
            (10, Ok(900_000), Some(9_400_000), false),
            (11, Ok(1_000_000), Some(9_500_000), false),
        ];
        let mut known = None;
        for (second, read, want, is_left_out) in course {
            let (found, left_out) = told(&mut known, read, second * S, 700_000);
            assert_eq!((found.ok(), left_out), (want, is_left_out), "second {second}");
        }
    }

    #[test]
    fn a_process_is_of_the_order_only_below_its_own_path() {
        let cgroup = "hufu-orders.slice/hufu-orders-ab12.slice";
        for (text, want) in [
            ("0::/hufu-orders.slice/hufu-orders-ab12.slice\n", true),
            ("0::/hufu-orders.slice/hufu-orders-ab12.slice/run-1.scope\n", true),
            ("12:cpuacct:/\n1:memory:/hufu-orders.slice/hufu-orders-ab12.slice/x\n0::/\n", true),
            ("0::/hufu-orders.slice/hufu-orders-ab12.slice2\n", false),
            ("0::/user.slice\n", false),
            ("0::/x/hufu-orders.slice/hufu-orders-ab12.slice\n", false),
            ("", false),
        ] {
            assert_eq!(is_within(text.as_bytes(), cgroup), want, "{text}");
        }
    }

    #[test]
    fn one_device_that_does_not_answer_makes_all_missing_and_is_said_once() {
        let table = Arc::new(Table::default());
        let mut meter = GpuMeter::new(Path::new("/"), Some(Arc::clone(&table)), &[uuid(2), uuid(1), uuid(2)], None);
        let read = |meter: &mut GpuMeter, second: u64| {
            let mut sample = Sample::default();
            meter.read(At { boot_ns: second * S, ..At::default() }, &mut [0; 64], &mut sample);
            [Kind::Gpu, Kind::GpuMemory, Kind::GpuEnergy].map(|kind| sample.of(kind))
        };
        assert_eq!(read(&mut meter, 1), [Raw::Missing(UNSEEN); 3], "before the first round");
        let whole = |digit: u8, second: u64| Snapshot {
            answered: Ok(second * S),
            memory_bytes: Ok(100),
            energy_mj: Ok(1000 + second),
            throttled_ns: Ok(second * 10),
            ..Snapshot::unread(uuid(digit), Why::NotRead)
        };
        let round = |second: u64, snapshots: [Snapshot; 2]| {
            snapshots.iter().enumerate().for_each(|(slot, snapshot)| table.put(slot, snapshot));
            table.end_round(second * S);
        };
        round(1, [whole(1, 1), whole(2, 1)]);
        assert_eq!(read(&mut meter, 1), [2 * S, 200, 2002].map(Raw::Value));
        round(2, [whole(1, 2), Snapshot::unread(uuid(2), Why::Lost)]);
        for second in 2..4 {
            assert_eq!(read(&mut meter, second), [Raw::Missing(Why::Lost.text()); 3]);
        }
        assert_eq!(meter.take_troubles(), [Trouble::Gone { uuid: uuid(2), why: Why::Lost.text() }]);
        round(5, [whole(1, 5), whole(2, 5)]);
        assert_eq!(read(&mut meter, 5), [2 * S, 200, 2010].map(Raw::Value));
        // The first device's whole time, of the second only what is seen from both ends.
        assert_eq!(meter.throttled_ns(), Ok(40));
        assert_eq!(read(&mut meter, 15)[0], Raw::Value(2 * S), "ten seconds are waited");
        assert_eq!(read(&mut meter, 16), [Raw::Missing(STALE); 3]);
        assert_eq!(read(&mut meter, 17), [Raw::Missing(STALE); 3]);
        assert_eq!(meter.take_troubles(), [Trouble::Hung]);
        assert_eq!(meter.throttled_ns(), Err(STALE));
        let mut none = GpuMeter::new(Path::new("/"), None, &[uuid(1)], None);
        assert_eq!(read(&mut none, 1), [Raw::Missing(NO_NVML); 3]);
    }
}
