//! One node with its disk, its host, its clocks and its end of the link; what it does is looked at as soon as it is done.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use hufu_agent::sim::{Halt, In, Node, Out, PeersDisks, PlaceJob, Product, Setup};
use hufu_ledger::{Entry, Log, WitnessedCheckpoint, block_hash};
use hufu_trade::{
    decode,
    if2::{Accepted, Answer, Blocks, Envelope, Interface, Offered, Payload, Sealed, Told, Topic, peers::Headers},
    octets::ContractNo,
    resource::{Kind, Resource},
    tariff::Tariff,
};

use crate::{
    audit::Audit,
    broker::Letter,
    clocks::{self, HostClock, MINUTE, SECOND},
    dice::Dice,
    disk::Disk,
    host::Host,
    parties::{parties, pool},
    world::{Plant, What, World},
};

/// Use of a workload is written down for the readers this often at most, ns.
const WRITE_NS: u64 = 5 * SECOND;

/// Directories by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside(Arc<Mutex<BTreeMap<String, Disk>>>);

impl Beside {
    fn open(&self, name: &str) -> Disk {
        let mut disks = self.0.lock().expect("one thread");
        disks.entry(name.to_owned()).or_default().clone()
    }

    pub(crate) fn all(&self) -> Vec<Disk> {
        self.0.lock().expect("one thread").values().cloned().collect()
    }

    pub(crate) fn copy(&self) -> BTreeMap<String, Disk> {
        self.0.lock().expect("one thread").iter().map(|(name, disk)| (name.clone(), disk.copy())).collect()
    }

    /// Becomes what an older copy was; what is newer than it is gone.
    pub(crate) fn restore(&self, backup: &BTreeMap<String, Disk>) {
        for (name, disk) in self.0.lock().expect("one thread").iter() {
            disk.restore(backup.get(name).unwrap_or(&Disk::default()));
        }
    }

    pub(crate) fn quiet(&self, is_quiet: bool) {
        self.all().iter().for_each(|disk| disk.quiet(is_quiet));
    }
}

/// An older copy of a node's disks: of its ledger, its keys, and, where the site copies that too, what lies beside them.
pub(crate) type Backup = (Disk, Disk, Option<BTreeMap<String, Disk>>);

/// A node and everything around it.
pub(crate) struct Site {
    pub(crate) pool: String,
    pub(crate) setup: Setup,
    pub(crate) disk: Disk,
    pub(crate) keys: Disk,
    /// The directories of what is held of other nodes, and of its own log for them, by name.
    pub(crate) beside: Beside,
    pub(crate) host: Host,
    pub(crate) clock: HostClock,
    /// `None` while it does not run.
    pub(crate) node: Option<Node>,
    pub(crate) audit: Audit,
    pub(crate) is_linked: bool,
    /// Nothing gets through until then, simulated time.
    pub(crate) parted_until: u64,
    /// The host sleeps until then.
    pub(crate) asleep_until: u64,
    /// An older copy of its ledger was restored once: since then it waits for the platform's word, however long that takes.
    pub(crate) is_restored: bool,
    /// Whether the disk was made to fail or to be full.
    pub(crate) is_starved: bool,
    pub(crate) backup: Option<Backup>,
    /// What the broker keeps for it.
    pub(crate) kept: Vec<Letter>,
    /// Delivered and not acknowledged.
    pub(crate) unacknowledged: BTreeMap<u64, Letter>,
    pub(crate) next_number: u64,
    pub(crate) generation: u64,
    /// The newest job of each order.
    pub(crate) jobs: BTreeMap<ContractNo, u64>,
    written: u64,
}

fn setup(
    index: usize,
    dice: &mut Dice,
    root: &Path,
    (disk, keys, beside): (&Disk, &Disk, &Beside),
    rules: &str,
) -> Setup {
    let beside = beside.clone();
    let who = &parties().nodes[index];
    let tariff = |text: &str| Tariff::from_toml(text).expect("a tariff");
    let small = "[[price]]\nresource = \"cpu\"\nprice = \"3.6\"\n[[price]]\nresource = \"memory\"\nprice = \"20\"\n";
    let large =
        "[[price]]\nresource = \"cpu\"\nprice = \"36\"\n[[price]]\nresource = \"reserved_cpu\"\nprice = \"9\"\n";
    let product = |id: &str, units: u64, text: &str| Product {
        id: id.to_owned(),
        cpu_millicores: 1000 * units,
        memory_bytes: units << 20,
        term_max_ns: 60 * MINUTE,
        tariff: tariff(text),
    };
    Setup {
        pool: pool(index),
        key: who.key.clone(),
        certificate: who.certificate.clone(),
        salt_key: [u8::try_from(index).unwrap() + 1; 32],
        anchors: vec![parties().root.certificate.clone()],
        platform: parties().platform.certificate.clone(),
        rules: rules.to_owned(),
        products: vec![product("small", 1, small), product("large", 2, large)],
        cpu_millicores: 1000 * dice.between(2, 4),
        memory_bytes: 64 << 20,
        metered: [Kind::Cpu, Kind::Memory].map(Resource::used).to_vec(),
        window_ns: [5, 10][usize::try_from(dice.below(2)).unwrap()] * MINUTE,
        sample_ns: MINUTE,
        root: root.to_owned(),
        meter_state: root.join("meter.state"),
        core_state: root.join("core.state"),
        state_blocks: [5, 17][index % 2],
        storage: Arc::new(disk.clone()),
        keys: Arc::new(keys.clone()),
        random: clocks::secrets,
        segment_size: 1 << dice.between(13, 16),
        compare_ns: 30 * SECOND,
        follow: Vec::new(),
        peers: PeersDisks(Arc::new(move |name: &str| Arc::new(beside.open(name)))),
        checkpoint_ns: MINUTE,
        hear_ns: 5 * SECOND,
        clock: clocks::node(),
    }
}

impl Site {
    /// A node that was set up and does not run yet.
    pub(crate) fn new(index: usize, dice: &mut Dice, folder: &Path, rules: &str) -> Result<Self, String> {
        let (disk, keys, beside) = (Disk::default(), Disk::default(), Beside::default());
        let clock = HostClock::new(0);
        let host = Host::new(&folder.join(format!("n{index}")), 0);
        let setup = setup(index, dice, host.root(), (&disk, &keys, &beside), rules);
        clock.show(0);
        setup.create([u8::try_from(index).unwrap() + 1; 16]).map_err(|halt| format!("init: {halt:?}"))?;
        Ok(Self {
            pool: pool(index),
            setup,
            disk,
            keys,
            beside,
            host,
            clock,
            node: None,
            audit: Audit::default(),
            is_linked: false,
            parted_until: 0,
            asleep_until: 0,
            is_restored: false,
            is_starved: false,
            backup: None,
            kept: Vec::new(),
            unacknowledged: BTreeMap::new(),
            next_number: 0,
            generation: 0,
            jobs: BTreeMap::new(),
            written: 0,
        })
    }

    fn quiet(&self, is_quiet: bool) {
        self.disk.quiet(is_quiet);
        self.keys.quiet(is_quiet);
        self.beside.quiet(is_quiet);
    }

    /// Whether a message about a log is for this node.
    pub(crate) fn hears(&self, topic: &Topic) -> bool {
        let follow = &self.setup.follow;
        match topic {
            // Of its own, what the broker keeps of its checkpoints.
            Topic::Ledger { pool, told } if *pool == self.pool => {
                !follow.is_empty() && matches!(told, Told::Checkpoint(_))
            }
            Topic::Ledger { pool, .. } => follow.contains(pool) || (!follow.is_empty() && pool.ends_with("/platform")),
            Topic::LedgerTo { to, .. } => !follow.is_empty() && *to == self.pool,
            _ => false,
        }
    }

    /// What a node says of its log stands in its ledger, and is never said otherwise.
    fn look_at_told(&mut self, told: &Told, payload: &[u8]) -> Result<(), String> {
        match told {
            Told::Headers => {
                let told = Headers::from_bytes(payload).map_err(|error| error.to_string())?;
                for (height, signed) in (told.first..).zip(&told.headers) {
                    self.audit.publish(usize::from(told.log), height, block_hash(signed.tbs()))?;
                }
            }
            Told::Checkpoint(_) => {
                let whole = WitnessedCheckpoint::from_bytes(payload).map_err(|error| error.to_string())?;
                let said = whole.read().map_err(|error| error.to_string())?;
                self.audit.promise(usize::from(said.log.number()), (said.epoch, said.size), said.root)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Units of CPU and memory that contracts hold.
    fn held(node: &Node) -> (u64, u64) {
        let mut sum = (0, 0);
        for contract in node.contracts().filter(|contract| contract.is_holding) {
            let Some((offer, _)) = contract.offer else { continue };
            for held in &offer.reserves {
                let part = if held.resource == "cpu" { &mut sum.0 } else { &mut sum.1 };
                *part += held.quantity * u64::from(contract.quantity);
            }
        }
        sum
    }
}

impl World {
    /// Starts a node.
    pub(crate) fn start(&mut self, index: usize) -> Result<(), String> {
        let time = self.time;
        let site = &mut self.sites[index];
        if site.node.is_some() {
            return Ok(());
        }
        site.clock.show(time);
        site.host.count(time);
        site.host.write();
        match site.setup.start() {
            Err(halt) => return self.fell(index, &halt),
            Ok(mut node) => {
                if self.plant == Plant::ForgottenBills {
                    node.plant_forgotten_bills();
                }
                site.quiet(true);
                site.audit.compare(node.ledger()).map_err(|why| format!("{}: {why}", site.pool))?;
                site.quiet(false);
                site.node = Some(node);
            }
        }
        self.count("start");
        let pause = self.dice.pause(2 * SECOND);
        self.after(pause, What::Link(index));
        self.drive(index, None)
    }

    /// Lets a node do something, looks at what it did and takes what it sends.
    pub(crate) fn drive(&mut self, index: usize, told: Option<In>) -> Result<(), String> {
        let (time, plant) = (self.time, self.plant);
        let site = &mut self.sites[index];
        let Some(node) = site.node.as_mut().filter(|_| time >= site.asleep_until) else { return Ok(()) };
        site.clock.show(time);
        site.host.count(time);
        if time >= site.written + WRITE_NS {
            site.host.write();
            site.written = time;
        }
        let orders =
            |told: &In| matches!(told, In::Message { topic: Topic::Call { interface: Interface::SendOrder, .. }, .. });
        let is_blind = plant == Plant::BlindStock && told.as_ref().is_some_and(orders);
        if is_blind {
            node.plant_blind_stock(&site.setup, true);
        }
        let done = match told {
            Some(told) => node.tell(told),
            None => node.turn(),
        };
        if is_blind {
            node.plant_blind_stock(&site.setup, false);
        }
        let (outs, alarms) = (node.outs(), node.alarms());
        let quiet = |is_quiet| {
            site.disk.quiet(is_quiet);
            site.keys.quiet(is_quiet);
            site.beside.quiet(is_quiet);
        };
        quiet(true);
        let grown = site.audit.follow(node.ledger(), &site.host).map_err(|why| format!("{}: {why}", site.pool))?;
        if grown {
            let (cpu, memory) = Site::held(node);
            if cpu > site.setup.cpu_millicores || memory > site.setup.memory_bytes {
                return Err(format!("{}: oversold: {cpu} of {}", site.pool, site.setup.cpu_millicores));
            }
        }
        quiet(false);
        let wait = node.wait_ns();
        self.look_at_alarms(index, &alarms)?;
        for out in outs {
            self.out(index, out)?;
        }
        if let Err(halt) = done {
            return self.fell(index, &halt);
        }
        let site = &mut self.sites[index];
        site.generation += 1;
        let wake = What::Wake(index, site.generation);
        self.after(wait.clamp(SECOND / 1000, MINUTE), wake);
        Ok(())
    }

    fn look_at_alarms(&mut self, index: usize, alarms: &[(&'static str, String)]) -> Result<(), String> {
        for (what, detail) in alarms {
            self.count(what);
            self.note(&format!("alarm of node {index}: {what}: {detail}"));
            let is_bad = match *what {
                "conservation violated" | "bill cannot be computed" | "catalogue too large" => true,
                "receipt has another root than this ledger" | "the platform refuses an entry" => {
                    !self.profile.platform_lies
                }
                _ => false,
            };
            if is_bad {
                return Err(format!("{}: {what}: {detail}", self.sites[index].pool));
            }
        }
        Ok(())
    }

    fn out(&mut self, index: usize, out: Out) -> Result<(), String> {
        match out {
            Out::Ack(number) => {
                self.sites[index].unacknowledged.remove(&number);
            }
            Out::Job(contract, job) => {
                let site = &mut self.sites[index];
                let number = site.jobs.entry(contract).or_default();
                *number += 1;
                let what = What::Job(index, contract, job, *number);
                let pause = self.dice.pause(SECOND);
                self.after(pause, what);
            }
            Out::Said(_) => {}
            Out::Publish { topic, payload, retain } => {
                self.look_at_message(index, &topic, &payload)
                    .map_err(|why| format!("{}: {topic}: {why}", self.sites[index].pool))?;
                if self.sites[index].is_linked {
                    self.post_up(index, Letter { topic, payload }, retain);
                }
            }
        }
        Ok(())
    }

    /// What a node says stands in its ledger.
    fn look_at_message(&mut self, index: usize, topic: &Topic, payload: &[u8]) -> Result<(), String> {
        let site = &mut self.sites[index];
        if let Topic::Ledger { told, .. } = topic {
            return site.look_at_told(told, payload);
        }
        let Topic::Call { interface, answer, .. } = topic else { return Ok(()) };
        if (*interface, *answer) == (Interface::Blocks, false) {
            let blocks: Blocks = decode(payload, "Blocks").map_err(|error| error.to_string())?;
            for (height, bytes) in (blocks.first..).zip(&blocks.blocks) {
                let block = hufu_ledger::Block::from_bytes(bytes.as_bytes()).map_err(|error| error.to_string())?;
                site.audit.publish(usize::from(blocks.log), height, block.hash())?;
            }
            return Ok(());
        }
        let Some(node) = site.node.as_ref().filter(|_| *answer) else { return Ok(()) };
        let body = body_of(payload).ok_or("an answer that cannot be read")?;
        site.quiet(true);
        let there = |entry: &[u8], height: u64, at: u32| {
            node.ledger().entry(Log::Trade, height, at).is_ok_and(|found| found == entry)
        };
        let is_there = match interface {
            Interface::Browse => match serde_json::from_value::<Answer<Offered>>(body) {
                Ok(Answer::Ok(offered)) => {
                    let no = Entry::from_bytes(&offered.entry.0).is_ok();
                    let of = |c: &hufu_agent::sim::ContractView<'_>| there(&offered.entry.0, c.browse.height, 0);
                    no && node.contracts().any(|contract| of(&contract))
                }
                Ok(Answer::Error(_)) => true,
                Err(_) => false,
            },
            Interface::SendOrder | Interface::Score | Interface::OrderChange => {
                match serde_json::from_value::<Answer<Accepted>>(body) {
                    Ok(Answer::Ok(accepted)) => there(&accepted.entry.0, accepted.height, accepted.index),
                    Ok(Answer::Error(_)) => true,
                    Err(_) => false,
                }
            }
            _ => true,
        };
        site.quiet(false);
        if is_there { Ok(()) } else { Err("an answer names what does not stand in the ledger".to_owned()) }
    }

    /// A node has ended by itself.
    pub(crate) fn fell(&mut self, index: usize, halt: &Halt) -> Result<(), String> {
        self.down(index);
        let site = &mut self.sites[index];
        let has_failed = site.disk.take_failed() | site.keys.take_failed() | site.is_starved;
        let pool = site.pool.clone();
        match halt {
            Halt::Ledger(_) if has_failed => {
                self.count("stopped: disk");
                let pause = self.dice.pause(5 * SECOND);
                self.after(pause, What::Restart(index));
                Ok(())
            }
            _ => Err(format!("{pool} stopped: {halt:?}")),
        }
    }

    /// The process is gone, as by a `kill -9`.
    pub(crate) fn down(&mut self, index: usize) {
        let site = &mut self.sites[index];
        site.node = None;
        site.is_linked = false;
        site.generation += 1;
        // Its provisioning threads end with it.
        site.jobs.values_mut().for_each(|number| *number += 1);
        self.broken_off(index);
    }

    /// The site does what a node asked for an order.
    pub(crate) fn job(&mut self, index: usize, no: ContractNo, job: PlaceJob, number: u64) -> Result<(), String> {
        let (time, fails) = (self.time, self.dice.permille(self.profile.provision_fails));
        let millicores = 100 * self.dice.between(0, 20);
        let site = &mut self.sites[index];
        if site.node.is_none() || site.jobs.get(&no) != Some(&number) {
            return Ok(());
        }
        if time < site.asleep_until {
            let wait = site.asleep_until - time;
            self.after(wait, What::Job(index, no, job, number));
            return Ok(());
        }
        site.host.count(time);
        match (job, fails) {
            (PlaceJob::Provide, true) => {
                self.drive(index, Some(In::Place { contract: no, outcome: Err("no place".to_owned()) }))
            }
            (PlaceJob::Provide, false) => {
                let pid = site.host.start(no, millicores);
                self.drive(index, Some(In::Place { contract: no, outcome: Ok(pid) }))
            }
            (_, true) => {
                self.after(2 * SECOND, What::Job(index, no, job, number));
                self.drive(index, Some(In::Unstopped { contract: no }))
            }
            (PlaceJob::Pause, false) => {
                site.host.pause(no);
                Ok(())
            }
            (PlaceJob::Withdraw, false) => {
                site.host.end(no);
                Ok(())
            }
        }
    }
}

/// The body inside an envelope; nothing is verified.
pub(crate) fn body_of(payload: &[u8]) -> Option<serde_json::Value> {
    let envelope = Envelope::parse(payload).ok()?;
    let json: Sealed = serde_json::from_value(serde_json::Value::String(envelope.payload)).ok()?;
    let payload: Payload<serde_json::Value> = serde_json::from_slice(&json.0).ok()?;
    Some(payload.body)
}
