//! The queue of what is to happen, and the loop that lets it.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use hufu_agent::sim::PlaceJob;
use hufu_platform::sim::Platform;
use hufu_trade::{if2::Topic, octets::ContractNo, rules::DEFAULT};

use crate::{
    broker::Letter,
    buyer::Buyer,
    clocks::{self, MINUTE, SECOND},
    dice::Dice,
    faults::Profile,
    parties::{BUYERS_MAX, NODES_MAX, parties, pool},
    site::Site,
};

/// After so many events everything is looked at.
const WHOLE_LOOK_EVENTS: u64 = 1000;
/// So long everything may take to arrive after the last fault.
const HEALED_NS: u64 = 5 * 60 * MINUTE;

/// A bug that is planted, to show that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// None.
    None,
    /// The disk says that a sync is done before it is: acknowledgements leave before the data are durable.
    AckBeforeSync,
    /// A node that starts again forgets bills that were not acknowledged, and makes them again.
    ForgottenBills,
    /// A node that an older copy was put back for signs before it has compared itself with the platform.
    SignsFirst,
    /// Orders are judged as if there were a thousand times the capacity.
    BlindStock,
}

/// A seed that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Simulated time, ns.
    pub time: u64,
    /// What does not hold.
    pub what: String,
    /// The last things that happened before.
    pub before: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, time, what, before } = self;
        writeln!(f, "seed {seed} fails after {} s: {what}", time / SECOND)?;
        for line in before {
            writeln!(f, "    {line}")?;
        }
        write!(f, "again with: make sim SEEDS=1 FROM={seed}")
    }
}

/// What a seed came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Hash over every event: two runs of a seed have the same.
    pub trace: u64,
    /// How many there were.
    pub events: u64,
    /// Simulated time, ns.
    pub time: u64,
    /// How often what happened: faults, alarms, entries by their kind.
    pub counts: BTreeMap<String, u64>,
}

/// What is to happen.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Wake(usize, u64),
    ToNode(usize, Letter),
    ToPlatform(Letter),
    Link(usize),
    Unlink(usize),
    Restart(usize),
    Job(usize, ContractNo, PlaceJob, u64),
    Buyer(usize),
    Operator,
    Keeper(usize),
    Fault,
    PlatformUp,
    RoomBack(usize),
    Wakes(usize, u64),
}

/// The whole market.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) dice: Dice,
    pub(crate) time: u64,
    queue: BTreeMap<(u64, u64), What>,
    pub(crate) next: u64,
    pub(crate) profile: Profile,
    pub(crate) plant: Plant,
    pub(crate) sites: Vec<Site>,
    pub(crate) buyers: Vec<Buyer>,
    pub(crate) platform: Platform,
    pub(crate) platform_down: bool,
    pub(crate) platform_kept: Vec<Letter>,
    pub(crate) has_backup: bool,
    /// Whether the platform was ever restored from an older copy.
    pub(crate) was_set_back: bool,
    /// Largest size that the platform signed a receipt for, by node and log.
    pub(crate) receipted: BTreeMap<(usize, u8), u64>,
    pub(crate) captured: Vec<Letter>,
    /// What the broker shows whoever subscribes, by topic: of logs only.
    pub(crate) retained: BTreeMap<String, Letter>,
    trace: u64,
    events: u64,
    counts: BTreeMap<String, u64>,
    last: Vec<String>,
    /// Whether all that happens is printed: `SIM_TRACE` is set.
    shows: bool,
}

/// FNV-1a.
fn hash(mut sum: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    sum
}

/// Memory is fast enough for thousands of seeds; a disk need not be.
fn home() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// Runs a seed.
///
/// # Errors
/// The [`Failure`].
pub fn run(seed: u64, plant: Plant) -> Result<Summary, Box<Failure>> {
    clocks::set_secrets(seed);
    clocks::set_platform(clocks::real_ns(0));
    let failed = |what: String| Box::new(Failure { seed, time: 0, what, before: Vec::new() });
    let mut world = World::new(seed, plant).map_err(failed)?;
    match world.live() {
        Ok(()) => {
            for site in &world.sites {
                for (kind, count) in &site.audit.kinds {
                    let kind = hufu_trade::entry::EntryKind::from_number(*kind).map_or("unknown", |kind| kind.name());
                    *world.counts.entry(kind.to_owned()).or_default() += count;
                }
            }
            Ok(Summary { trace: world.trace, events: world.events, time: world.time, counts: world.counts })
        }
        Err(what) => Err(Box::new(Failure { seed, time: world.time, what, before: world.last })),
    }
}

impl World {
    fn new(seed: u64, plant: Plant) -> Result<Self, String> {
        let mut dice = Dice::new(seed);
        let folder = tempfile::Builder::new().prefix("hufu-sim-").tempdir_in(home()).map_err(|e| e.to_string())?;
        // Half of the seeds come to what takes weeks.
        let rules = match dice.below(2) {
            0 => DEFAULT.to_owned(),
            _ => DEFAULT.replace("after_s = 1296000", "after_s = 1500").replace("after_s = 2592000", "after_s = 2000"),
        };
        let profile = Profile::new(&mut dice);
        // Small worlds most often: what goes wrong between many goes wrong between two, and there are more seeds.
        let of = |dice: &mut Dice, counts: &[usize]| dice.of(counts).copied().unwrap_or(1);
        let (nodes, buyers) = (of(&mut dice, &[1, 1, 1, 2, 2, NODES_MAX]), of(&mut dice, &[1, 1, 2, 2, 3, BUYERS_MAX]));
        // Of nodes that are not alone most keep each other honest.
        let takes_part = nodes > 1 && dice.below(4) > 0;
        let mut sites = Vec::new();
        for index in 0..nodes {
            let mut site = Site::new(index, &mut dice, folder.path(), &rules)?;
            if takes_part {
                site.setup.follow = (0..nodes).filter(|other| *other != index).map(pool).collect();
            }
            if plant == Plant::AckBeforeSync {
                site.disk.lie();
            }
            sites.push(site);
        }
        let directory = folder.path().join("platform");
        std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        let who = &parties().platform;
        let anchors = [parties().root.certificate.clone()];
        let platform = Platform::open(&directory, (&who.key, &who.certificate), &anchors, clocks::platform_ns);
        let mut world = Self {
            folder,
            dice,
            time: 0,
            queue: BTreeMap::new(),
            next: 0,
            profile,
            plant,
            sites,
            buyers: (0..buyers).map(|_| Buyer::default()).collect(),
            platform: platform.map_err(|broken| broken.0)?,
            platform_down: false,
            platform_kept: Vec::new(),
            has_backup: false,
            was_set_back: false,
            receipted: BTreeMap::new(),
            captured: Vec::new(),
            retained: BTreeMap::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            events: 0,
            counts: BTreeMap::new(),
            last: Vec::new(),
            shows: std::env::var_os("SIM_TRACE").is_some(),
        };
        for index in 0..nodes {
            world.after(SECOND, What::Restart(index));
            world.after(MINUTE, What::Keeper(index));
        }
        for index in 0..buyers {
            world.after(10 * SECOND, What::Buyer(index));
        }
        world.after(MINUTE, What::Operator);
        world.after(MINUTE, What::Fault);
        Ok(world)
    }

    /// Lets something happen after a while.
    pub(crate) fn after(&mut self, pause: u64, what: What) {
        self.next += 1;
        self.queue.insert((self.time.saturating_add(pause), self.next), what);
    }

    /// Every letter of such a topic is lost, wherever it is.
    pub(crate) fn forget_letters(&mut self, is_lost: impl Fn(&Topic) -> bool) {
        self.queue.retain(|_, what| match what {
            What::ToNode(_, letter) | What::ToPlatform(letter) => !is_lost(&letter.topic),
            _ => true,
        });
        self.platform_kept.retain(|letter| !is_lost(&letter.topic));
        self.captured.retain(|letter| !is_lost(&letter.topic));
        for site in &mut self.sites {
            site.kept.retain(|letter| !is_lost(&letter.topic));
            site.unacknowledged.retain(|_, letter| !is_lost(&letter.topic));
        }
    }

    /// Counts what happened.
    pub(crate) fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    /// Notes what happened, for whoever reads a failure.
    pub(crate) fn note(&mut self, what: &str) {
        if self.shows {
            println!("{:>6} s  {what}", self.time / SECOND);
        }
        if self.last.len() >= 40 {
            self.last.remove(0);
        }
        self.last.push(format!("{:>6} s  {what}", self.time / SECOND));
    }

    fn live(&mut self) -> Result<(), String> {
        let end = self.profile.market_ns;
        self.until(end, false)?;
        self.heal()?;
        let done = self.until(end + HEALED_NS, true)?;
        if !done {
            let why = self.unfinished()?.unwrap_or_default();
            return Err(format!("not everything has arrived {} s after the last fault: {why}", HEALED_NS / SECOND));
        }
        self.whole_look()?;
        self.check_ledgers()
    }

    /// Lets things happen until a time, or until everything has arrived; whether it has.
    fn until(&mut self, end: u64, heals: bool) -> Result<bool, String> {
        let mut look = self.time;
        while let Some(((time, _), what)) = self.queue.pop_first() {
            if time > end {
                self.queue.insert((time, 0), what);
                break;
            }
            self.time = time;
            if heals && time >= look {
                look = time + MINUTE;
                if self.unfinished()?.is_none() {
                    return Ok(true);
                }
            }
            self.happen(what, heals)?;
            self.events += 1;
            if self.events.is_multiple_of(WHOLE_LOOK_EVENTS) {
                self.whole_look()?;
            }
        }
        self.time = end;
        Ok(false)
    }

    fn happen(&mut self, what: What, heals: bool) -> Result<(), String> {
        clocks::set_platform(clocks::real_ns(self.time));
        self.trace = hash(self.trace, &self.time.to_be_bytes());
        let said = match &what {
            What::ToNode(index, Letter { topic, payload }) => {
                self.trace = hash(self.trace, payload);
                self.count(&format!("down {}", topic.to_string().rsplit('/').next().unwrap_or_default()));
                format!("to node {index}: {topic} {}", payload.len())
            }
            What::ToPlatform(Letter { topic, payload }) => {
                self.trace = hash(self.trace, payload);
                self.count(&format!("up {}", topic.to_string().rsplit('/').take(2).collect::<Vec<_>>().join(" ")));
                format!("to the platform: {topic} {}", payload.len())
            }
            other => format!("{other:?}"),
        };
        self.trace = hash(self.trace, said.as_bytes());
        if !matches!(what, What::Wake(..)) {
            self.note(&said);
        }
        match what {
            What::Wake(index, generation) if self.sites[index].generation == generation => self.drive(index, None),
            What::Wake(..) => Ok(()),
            What::ToNode(index, letter) => self.deliver(index, letter),
            What::ToPlatform(letter) => self.take(letter),
            What::Link(index) => self.link(index),
            What::Unlink(index) => self.unlink(index),
            What::Restart(index) => self.restart(index),
            What::Job(index, no, job, number) => self.job(index, no, job, number),
            What::Buyer(index) => self.buyer(index),
            What::Operator => self.operator(),
            What::Keeper(index) => self.keeper(index),
            What::Fault if heals => Ok(()),
            What::Fault => self.fault(),
            What::PlatformUp => {
                self.platform_up();
                Ok(())
            }
            What::RoomBack(index) => {
                self.room_back(index);
                Ok(())
            }
            What::Wakes(index, length) => self.wakes(index, length),
        }
    }
}
