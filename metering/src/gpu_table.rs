//! What the NVML thread saw last of each device, where the sampling thread reads it without waiting and without allocating.
//! Who asks NVML is `gpu_watch.rs`, what an order makes of it is `gpu_meter.rs`.
//!
//! Each slot has two copies. Its one writer fills the copy that is not in force and then moves `turn` on; a reader that saw the
//! same turn before and after has one whole copy. So neither a driver that hangs nor a writer that was put to sleep halfway
//! holds up anybody.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Devices and MIG instances that are followed at once: 16 devices with 7 instances each, and the devices.
pub const SLOT_COUNT: usize = 128;
/// Process ids that are kept of a device.
pub const PID_COUNT_MAX: usize = 16;
/// `GPU-` or `MIG-` and 36 characters, with room.
const UUID_BYTES_MAX: usize = 48;

const UUID_WORDS: usize = UUID_BYTES_MAX / 8;
const PID_WORDS: usize = PID_COUNT_MAX / 2;
/// Of each process its memory, and one byte of its utilisation.
const FIGURE_WORDS: usize = PID_COUNT_MAX + PID_COUNT_MAX / 8;
const READINGS: usize = 5;
const WORDS: usize = UUID_WORDS + 1 + 2 * READINGS + PID_WORDS + FIGURE_WORDS;
/// A slot that was written to meanwhile is looked at again this often; it is written to once a second.
const READS_MAX: u32 = 16;

/// UUID of a device or of a MIG instance, as NVML says it: `GPU-` or `MIG-`, hex digits and dashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; UUID_BYTES_MAX]);

impl Uuid {
    /// The UUID of a text; `None` for what cannot be one. (Drivers before 470 name MIG instances with slashes: those are
    /// not known here.)
    pub fn new(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("GPU-").or_else(|| text.strip_prefix("MIG-"))?;
        let good = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        if digits.is_empty() || text.len() > UUID_BYTES_MAX || !digits.bytes().all(good) {
            return None;
        }
        let mut bytes = [0; UUID_BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self(bytes))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(UUID_BYTES_MAX);
        self.0.get(..end).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }

    /// Whether it names a part of a device.
    pub fn is_instance(&self) -> bool {
        self.0.starts_with(b"MIG-")
    }
}

impl std::fmt::Display for Uuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why NVML did not give a reading. The numbers are those in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Why {
    /// Nobody has asked yet.
    NotRead = 1,
    /// The device or driver does not have it.
    NotSupported = 2,
    /// The user may not.
    Denied = 3,
    /// The device fell off the bus.
    Lost = 4,
    /// The device is not there any more: removed, or its partition was made anew.
    Absent = 5,
    /// The device wants a reset.
    ResetRequired = 6,
    /// The sensor gave an old reading again.
    Stale = 7,
    /// The value is not possible.
    Absurd = 8,
    /// NVML does not tell it for a part of a device.
    Instance = 9,
    /// Any other answer.
    Failed = 10,
}

const WHYS: [Why; 10] = [
    Why::NotRead,
    Why::NotSupported,
    Why::Denied,
    Why::Lost,
    Why::Absent,
    Why::ResetRequired,
    Why::Stale,
    Why::Absurd,
    Why::Instance,
    Why::Failed,
];

impl Why {
    /// For a record.
    pub fn text(self) -> &'static str {
        match self {
            Why::NotRead => "the GPU was not read from NVML yet",
            Why::NotSupported => "this GPU or its driver does not tell it (NVML: not supported)",
            Why::Denied => "NVML does not permit it",
            Why::Lost => "the GPU is lost: it fell off the bus (NVML)",
            Why::Absent => "NVML does not have this GPU or MIG instance any more",
            Why::ResetRequired => "the GPU must be reset before it can be used (NVML)",
            Why::Stale => "the GPU's sensor gave an old reading again",
            Why::Absurd => "NVML gave a value that is not possible",
            Why::Instance => "NVML does not tell it for a MIG instance",
            Why::Failed => "NVML failed to tell it",
        }
    }

    /// Whether the device cannot be used at all.
    pub fn is_gone(self) -> bool {
        matches!(self, Why::Lost | Why::Absent | Why::ResetRequired)
    }
}

/// A reading, or why there is none. Not read is never zero.
pub type Reading = Result<u64, Why>;

/// What was seen of one device or instance in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whose.
    pub uuid: Uuid,
    /// When, CLOCK_BOOTTIME ns: also whether the device answers at all.
    pub answered: Reading,
    /// Device memory in use by everybody, bytes.
    pub memory_bytes: Reading,
    /// Energy drawn since the driver was loaded, millijoules.
    pub energy_mj: Reading,
    /// Share of the time since the round before in which a kernel ran, percent.
    pub busy_percent: Reading,
    /// Time in which clocks were held down for heat or power since the thread knows the device, ns.
    pub throttled_ns: Reading,
    /// The most power it may draw now, milliwatts; 0 where NVML does not say.
    pub power_limit_mw: u32,
    /// Processes that compute on it: how many; [`None`] where NVML does not say.
    pub process_count: Option<u32>,
    /// Ids of the first of them in the host's own namespace, then zeros.
    pub pids: [u32; PID_COUNT_MAX],
    /// Device memory that each of these uses, bytes; [`None`] where NVML does not say.
    pub pid_memory_bytes: [Option<u64>; PID_COUNT_MAX],
    /// Mean share of the time since the round before in which a kernel of each ran, percent; [`None`] where NVML sampled nothing
    /// of it, as on MIG instances.
    pub pid_busy_percent: [Option<u8>; PID_COUNT_MAX],
}

impl Snapshot {
    /// Nothing known yet, for one reason.
    pub fn unread(uuid: Uuid, why: Why) -> Self {
        Self {
            uuid,
            answered: Err(why),
            memory_bytes: Err(why),
            energy_mj: Err(why),
            busy_percent: Err(why),
            throttled_ns: Err(why),
            power_limit_mw: 0,
            process_count: None,
            pids: [0; PID_COUNT_MAX],
            pid_memory_bytes: [None; PID_COUNT_MAX],
            pid_busy_percent: [None; PID_COUNT_MAX],
        }
    }

    fn words(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        let mut next = words.iter_mut();
        let mut put = |value: u64| {
            if let Some(word) = next.next() {
                *word = value;
            }
        };
        for part in self.uuid.0.chunks_exact(8) {
            put(part.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
        // The count is kept one higher, 0 for none.
        let count = self.process_count.map_or(0, |count| count.saturating_add(1));
        put(u64::from(count) << 32 | u64::from(self.power_limit_mw));
        for reading in [self.answered, self.memory_bytes, self.energy_mj, self.busy_percent, self.throttled_ns] {
            put(reading.err().map_or(0, |why| why as u64));
            put(reading.unwrap_or(0));
        }
        for pair in self.pids.chunks_exact(2) {
            put(pair.iter().fold(0, |word, pid| word << 32 | u64::from(*pid)));
        }
        // Both are kept one higher, 0 for none.
        for memory in self.pid_memory_bytes {
            put(memory.map_or(0, |bytes| bytes.saturating_add(1)));
        }
        for eight in self.pid_busy_percent.chunks_exact(8) {
            put(eight
                .iter()
                .fold(0, |word, busy| word << 8 | u64::from(busy.map_or(0, |busy| busy.saturating_add(1)))));
        }
        words
    }

    fn from_words(words: &[u64; WORDS]) -> Option<Self> {
        let mut next = words.iter().copied();
        let mut uuid = [0; UUID_BYTES_MAX];
        for part in uuid.chunks_exact_mut(8) {
            part.copy_from_slice(&next.next()?.to_be_bytes());
        }
        let uuid = Uuid::new(Uuid(uuid).as_str())?;
        let (count, power_limit_mw) = halves(next.next()?);
        let mut reading = || {
            let (tag, value) = (next.next()?, next.next()?);
            Some(if tag == 0 { Ok(value) } else { Err(WHYS.into_iter().find(|why| *why as u64 == tag)?) })
        };
        let mut snapshot = Self {
            uuid,
            answered: reading()?,
            memory_bytes: reading()?,
            energy_mj: reading()?,
            busy_percent: reading()?,
            throttled_ns: reading()?,
            power_limit_mw,
            process_count: count.checked_sub(1),
            pids: [0; PID_COUNT_MAX],
            pid_memory_bytes: [None; PID_COUNT_MAX],
            pid_busy_percent: [None; PID_COUNT_MAX],
        };
        for pair in snapshot.pids.chunks_exact_mut(2) {
            let (high, low) = halves(next.next()?);
            pair.copy_from_slice(&[high, low]);
        }
        for memory in &mut snapshot.pid_memory_bytes {
            *memory = next.next()?.checked_sub(1);
        }
        for eight in snapshot.pid_busy_percent.chunks_exact_mut(8) {
            let bytes = next.next()?.to_be_bytes();
            eight.iter_mut().zip(bytes).for_each(|(busy, byte)| *busy = byte.checked_sub(1));
        }
        Some(snapshot)
    }
}

fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

type Words = [AtomicU64; WORDS];

#[derive(Debug)]
struct Slot {
    /// The copy in force is the one at `turn` modulo 2.
    turn: AtomicU64,
    copies: [Words; 2],
}

impl Slot {
    const fn new() -> Self {
        Self { turn: AtomicU64::new(0), copies: [const { [const { AtomicU64::new(0) }; WORDS] }; 2] }
    }

    fn copy(&self, turn: u64) -> &Words {
        let [even, odd] = &self.copies;
        if turn.is_multiple_of(2) { even } else { odd }
    }

    fn write(&self, words: &[u64; WORDS]) {
        let next = self.turn.load(Ordering::Relaxed).wrapping_add(1);
        // Whoever reads a word of this copy afterwards sees that the turn has moved on since it was in force.
        fence(Ordering::Release);
        self.copy(next).iter().zip(words).for_each(|(to, from)| to.store(*from, Ordering::Relaxed));
        self.turn.store(next, Ordering::Release);
    }

    fn read(&self) -> Option<[u64; WORDS]> {
        for _ in 0..READS_MAX {
            let turn = self.turn.load(Ordering::Acquire);
            let mut words = [0; WORDS];
            words.iter_mut().zip(self.copy(turn)).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if self.turn.load(Ordering::Relaxed) == turn {
                return Some(words);
            }
        }
        None
    }
}

/// The devices of a server, as the one thread that asks NVML left them.
#[derive(Debug)]
pub struct Table {
    slots: [Slot; SLOT_COUNT],
    /// End of the last round that was finished, CLOCK_BOOTTIME ns; 0 before the first.
    round_boot_ns: AtomicU64,
    rounds: AtomicU64,
}

impl Default for Table {
    fn default() -> Self {
        Self { slots: [const { Slot::new() }; SLOT_COUNT], round_boot_ns: AtomicU64::new(0), rounds: AtomicU64::new(0) }
    }
}

impl Table {
    /// End of the last round that was finished, CLOCK_BOOTTIME ns; 0 before the first.
    pub fn round_boot_ns(&self) -> u64 {
        self.round_boot_ns.load(Ordering::Acquire)
    }

    /// Rounds that were finished.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Acquire)
    }

    /// Whether the thread that asks NVML has not finished a round for `limit_ns`.
    pub fn is_stale(&self, now_boot_ns: u64, limit_ns: u64) -> bool {
        now_boot_ns.saturating_sub(self.round_boot_ns()) > limit_ns
    }

    /// What was seen of a device last, looked for at `slot` first; with the slot it was found in.
    pub fn find(&self, uuid: Uuid, slot: usize) -> Option<(Snapshot, usize)> {
        let at = |index: usize| {
            let snapshot = Snapshot::from_words(&self.slots.get(index)?.read()?)?;
            (snapshot.uuid == uuid).then_some((snapshot, index))
        };
        at(slot).or_else(|| (0..SLOT_COUNT).find_map(at))
    }

    /// Every device that was ever seen and not replaced since.
    pub fn all(&self) -> Vec<Snapshot> {
        self.slots.iter().filter_map(|slot| Snapshot::from_words(&slot.read()?)).collect()
    }

    /// Only the thread that asks NVML writes.
    pub(crate) fn put(&self, slot: usize, snapshot: &Snapshot) {
        if let Some(slot) = self.slots.get(slot) {
            slot.write(&snapshot.words());
        }
    }

    pub(crate) fn end_round(&self, boot_ns: u64) {
        self.round_boot_ns.store(boot_ns, Ordering::Release);
        self.rounds.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn uuid(digit: u8) -> Uuid {
        Uuid::new(&format!("GPU-0000000{digit}-1111-2222-3333-444444444444")).unwrap()
    }

    fn snapshot(number: u64) -> Snapshot {
        let pid = u32::try_from(number).unwrap();
        Snapshot {
            answered: Ok(number),
            memory_bytes: Ok(number),
            energy_mj: if number.is_multiple_of(3) { Err(Why::Stale) } else { Ok(number) },
            process_count: pid.checked_sub(1),
            pids: [pid; PID_COUNT_MAX],
            pid_memory_bytes: [number.checked_sub(1); PID_COUNT_MAX],
            pid_busy_percent: [u8::try_from(number % 101).ok().filter(|_| number.is_multiple_of(2)); PID_COUNT_MAX],
            power_limit_mw: pid,
            ..Snapshot::unread(uuid(1), Why::NotRead)
        }
    }

    #[test]
    fn only_uuids_of_nvml_are_uuids() {
        for (text, good) in [
            ("GPU-00000000-0000-0000-0000-000000000000", true),
            ("MIG-00000000-0000-0000-0000-00000000000f", true),
            ("MIG-GPU-00000000-0000-0000-0000-000000000000/1/0", false),
            ("GPU-", false),
            ("", false),
            ("GPU-0,1", false),
            ("GPU-0 --privileged", false),
            ("gpu-00", false),
            ("GPU-\u{4e2d}", false),
        ] {
            let found = Uuid::new(text);
            assert_eq!(found.is_some(), good, "{text}");
            assert!(found.is_none_or(|uuid| uuid.as_str() == text));
        }
        let longest = format!("GPU-{}", "0".repeat(UUID_BYTES_MAX - 4));
        assert_eq!(Uuid::new(&longest).unwrap().as_str(), longest);
        assert_eq!(Uuid::new(&format!("{longest}0")), None);
    }

    #[test]
    fn what_is_written_is_read_again_whatever_it_is() {
        for number in [0, 1, 2, 3, 4_294_967_295] {
            let written = snapshot(number);
            assert_eq!(Snapshot::from_words(&written.words()), Some(written));
        }
        for why in WHYS {
            let written = Snapshot::unread(uuid(2), why);
            assert_eq!(Snapshot::from_words(&written.words()), Some(written));
        }
        assert_eq!(Snapshot::from_words(&[0; WORDS]), None, "a slot that was never written");
    }

    #[test]
    fn a_device_is_found_wherever_it_is_and_another_never_for_it() {
        let table = Table::default();
        assert_eq!(table.find(uuid(1), 0), None);
        table.put(7, &snapshot(5));
        assert_eq!(table.find(uuid(1), 0), Some((snapshot(5), 7)));
        assert_eq!(table.find(uuid(1), 999), Some((snapshot(5), 7)));
        table.put(7, &Snapshot::unread(uuid(2), Why::Absent));
        assert_eq!(table.find(uuid(1), 7), None);
        assert_eq!(table.all().len(), 1);
    }

    #[test]
    fn a_reader_never_sees_half_of_a_snapshot() {
        let table = Arc::new(Table::default());
        table.put(0, &snapshot(0));
        let written = Arc::clone(&table);
        let writer = std::thread::spawn(move || (0..200_000).for_each(|number| written.put(0, &snapshot(number))));
        let mut seen = 0;
        while !writer.is_finished() || seen == 0 {
            // This writer never rests; a reader that it has overtaken each time may give up, and must not believe what it has.
            let Some((found, _)) = table.find(uuid(1), 0) else { continue };
            assert_eq!(found, snapshot(found.answered.unwrap()));
            seen += 1;
        }
        writer.join().unwrap();
    }

    #[test]
    fn a_writer_that_stopped_halfway_holds_up_nobody() {
        let table = Table::default();
        (1..=3).for_each(|number| table.put(0, &snapshot(number)));
        let slot = &table.slots[0];
        let next = slot.turn.load(Ordering::Relaxed) + 1;
        slot.copy(next).iter().take(WORDS / 2).for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
        assert_eq!(table.find(uuid(1), 0), Some((snapshot(3), 0)));
        table.put(0, &snapshot(4));
        assert_eq!(table.find(uuid(1), 0), Some((snapshot(4), 0)));
    }
}
