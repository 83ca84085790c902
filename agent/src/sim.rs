//! A node for the simulation (ADR 0015): the daemon's writer, core, ledger and sampler without its threads, sockets and clocks.
//! Who drives it hands it messages and the site's answers, tells it to look at the time, and takes what it sends. Nothing of
//! the program itself uses this.

use std::{
    path::PathBuf,
    sync::{Arc, mpsc::sync_channel},
};

use hufu_gm::{cert::Certificate, sm2::SecretKey};
use hufu_ledger::{Ledger, Log, Options, Signer, StateFile, storage::Storage};
use hufu_metering::{Target, hierarchy::Hierarchies};
use hufu_trade::{
    correction::Adjustment,
    entry::EntryName,
    if2::Topic,
    money::Money,
    octets::{ContractNo, Digest, Octets},
    resource::Resource,
    statement::Offer,
    tariff::Tariff,
};

pub use crate::{
    clock::{Clock, Now},
    places::PlaceJob,
};
use crate::{
    config::ProductConfig,
    daemon::record_recovery,
    link::{Outbound, Stub},
    local::Correct,
    node::{Core, Event, Fatal, Identity},
    personal::Operation,
    places::Places,
    sampler::{self, Command, Setting, Thread},
    setup,
    status::Alarms,
    stock::{Capacity, Shop},
    writer::{Input, Writer, WriterError, ledger_quality},
};

/// Room in every channel: nothing here may wait, and what does not fit into the link's is sent again.
const CHANNEL_COUNT_MAX: usize = 4096;
/// Room for the meters' states.
const METER_STATE_BYTES_MAX: usize = 1 << 15;

/// A product of a simulated node.
#[derive(Clone, Debug)]
pub struct Product {
    /// Id.
    pub id: String,
    /// Thousandths of a core one unit holds.
    pub cpu_millicores: u64,
    /// Bytes of memory one unit holds.
    pub memory_bytes: u64,
    /// Longest term, ns.
    pub term_max_ns: u64,
    /// Price terms.
    pub tariff: Tariff,
}

/// Everything a node is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `{site}/{node}`.
    pub pool: String,
    /// The node's key.
    pub key: SecretKey,
    /// Its certificate.
    pub certificate: Certificate,
    /// 32 bytes the entries' salts come from.
    pub salt_key: [u8; 32],
    /// Who may issue buyers' certificates.
    pub anchors: Vec<Certificate>,
    /// The platform's certificate.
    pub platform: Certificate,
    /// Text of the rule table.
    pub rules: String,
    /// What is sold.
    pub products: Vec<Product>,
    /// Thousandths of a core that can be sold.
    pub cpu_millicores: u64,
    /// Bytes of memory that can be sold.
    pub memory_bytes: u64,
    /// Used resources with a trusted source.
    pub metered: Vec<Resource>,
    /// Length of a usage window, ns.
    pub window_ns: u64,
    /// Time between samples, ns.
    pub sample_ns: u64,
    /// Where `/proc` and `/sys` of the simulated host lie.
    pub root: PathBuf,
    /// The meters' state file.
    pub meter_state: PathBuf,
    /// The ledger's directory.
    pub storage: Arc<dyn Storage>,
    /// The directory of its keys.
    pub keys: Arc<dyn Storage>,
    /// Where those keys come from.
    pub random: fn(&mut [u8]) -> Result<(), hufu_gm::Error>,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// The host's clocks.
    pub clock: Clock,
}

/// Why a node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The ledger failed: the disk, or what stands on it.
    Ledger(String),
    /// The platform holds more than this disk: an older copy was restored.
    Behind(String),
    /// Anything else: never to be expected.
    Bug(String),
}

impl From<WriterError> for Halt {
    fn from(error: WriterError) -> Self {
        match &error {
            WriterError::Ledger(why) => Self::Ledger(why.to_string()),
            WriterError::Fatal(Fatal::Behind { .. }) => Self::Behind(error.to_string()),
            _ => Self::Bug(error.to_string()),
        }
    }
}

/// What reaches a node.
#[derive(Clone, Debug)]
pub enum In {
    /// The broker took its subscriptions.
    Linked,
    /// The link is gone.
    Unlinked,
    /// A message with a number by which it is acknowledged.
    Message {
        /// Where it was published.
        topic: Topic,
        /// What.
        payload: Vec<u8>,
        /// Its number.
        number: u64,
    },
    /// The place of an order is there, its root process being this one; or why not.
    Place {
        /// The order.
        contract: ContractNo,
        /// The process.
        outcome: Result<u32, String>,
    },
    /// A workload could not be suspended or stopped.
    Unstopped {
        /// The order.
        contract: ContractNo,
    },
    /// The site takes an amount off a bill; the amount is negative.
    Correct {
        /// The bill's number.
        bill_no: String,
        /// How much.
        amount: Money,
    },
    /// The site reads personal data of a contract.
    Read {
        /// The contract.
        contract: ContractNo,
    },
    /// The site erases what is personal of a contract.
    Erase {
        /// The contract.
        contract: ContractNo,
    },
}

/// What leaves a node.
#[derive(Clone, Debug)]
pub enum Out {
    /// A message for the broker.
    Publish {
        /// Where.
        topic: Topic,
        /// What.
        payload: Vec<u8>,
        /// Whether the broker keeps it.
        retain: bool,
    },
    /// A message was dealt with.
    Ack(u64),
    /// Something is to be done about a place.
    Job(ContractNo, PlaceJob),
    /// What the site was told of its correction, reading or erasure: JSON.
    Said(String),
}

/// A bill as the node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillView {
    /// Its number.
    pub number: String,
    /// Its entry.
    pub name: EntryName,
    /// As signed.
    pub total: Money,
    /// After its corrections.
    pub due: Money,
    /// What was paid.
    pub paid: Option<Money>,
    /// Whether what was paid too much went back.
    pub refunded: bool,
    /// Whether the platform's receipt covers it.
    pub receipted: bool,
    /// Whether the platform's receipt refuses it.
    pub refused: bool,
}

/// A contract as the node sees it.
#[derive(Clone, Debug)]
pub struct ContractView<'a> {
    /// Its number.
    pub no: ContractNo,
    /// State of the rule table.
    pub state: &'a str,
    /// The offer and its hash.
    pub offer: Option<(&'a Offer, Digest)>,
    /// Entry of the browse.
    pub browse: &'a EntryName,
    /// Entry of the deal.
    pub deal: Option<&'a EntryName>,
    /// End of service, with renewals.
    pub service_end: Option<i64>,
    /// Units it would hold.
    pub quantity: u32,
    /// Whether its state holds capacity.
    pub is_holding: bool,
    /// Whether its state is metered.
    pub is_metered: bool,
    /// Whether it could come to service again, or still awaits its bill.
    pub is_over: bool,
    /// Its bills.
    pub bills: Vec<BillView>,
    /// Whether what was personal of it was erased.
    pub erased: bool,
}

/// A running node.
pub struct Node {
    writer: Writer,
    thread: Thread,
    sent: tokio::sync::mpsc::Receiver<Outbound>,
    said: Vec<tokio::sync::oneshot::Receiver<String>>,
    archive_ns: u64,
    alarms: u64,
}

impl Setup {
    fn options(&self) -> Options {
        Options { segment_size: self.segment_size, random: self.random, ..Options::new(&self.pool) }
    }

    fn identity(&self) -> Identity {
        Identity {
            pool: self.pool.clone(),
            key: self.key.clone(),
            cert_id: Octets(self.certificate.id()),
            salt_key: self.salt_key,
            anchors: self.anchors.clone(),
            platform: self.platform.clone(),
        }
    }

    fn shop(&self) -> Shop {
        let products = self.products.iter().map(|product| ProductConfig {
            id: product.id.clone(),
            class: "IaaS".to_owned(),
            name: product.id.clone(),
            cpu_millicores: product.cpu_millicores,
            memory_bytes: product.memory_bytes,
            term_max_ns: product.term_max_ns,
            tariff: product.tariff.clone(),
        });
        let sources = self.metered.iter().map(|resource| (resource.clone(), Ok("process-tree".to_owned())));
        let capacity = Capacity {
            cpu_millicores: self.cpu_millicores,
            memory_bytes: self.memory_bytes,
            sources: sources.collect(),
        };
        Shop { products: products.collect(), capacity, certificates: vec![self.certificate.der().to_vec()] }
    }

    /// As `hufu init`: the ledger with its first entries.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn create(&self, id: [u8; 16]) -> Result<(), Halt> {
        let failed = |error: hufu_ledger::Error| Halt::Ledger(error.to_string());
        let options = self.options();
        Ledger::create_on(self.storage.as_ref(), &options, id).map_err(failed)?;
        let (mut ledger, _) = Ledger::open_on(Arc::clone(&self.storage), &options).map_err(failed)?;
        let chains = (&[self.certificate.der().to_vec()][..], &[self.platform.der().to_vec()][..]);
        let first = setup::first_blocks(&self.rules, chains).map_err(|error| Halt::Bug(error.to_string()))?;
        let cert_id = self.certificate.id();
        let signer = Signer { key: &self.key, cert_id, salt_key: &self.salt_key };
        let now = (self.clock.now)();
        let quality = ledger_quality((self.clock.quality)(now));
        ledger.append(&first, &signer, 0, now.real_ns, quality).map_err(failed)?;
        Ok(())
    }

    /// As `hufu agent`: opens, replays, says what was set aside.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn start(&self) -> Result<Node, Halt> {
        let failed = |error: hufu_ledger::Error| Halt::Ledger(error.to_string());
        let (ledger, recovery) = Ledger::open_on(Arc::clone(&self.storage), &self.options()).map_err(failed)?;
        let ledger = ledger.with_keys(Arc::clone(&self.keys), self.random);
        let meter_state = StateFile::open(&self.meter_state, METER_STATE_BYTES_MAX).map_err(failed)?;
        let stored = match meter_state.read(&ledger) {
            Ok(state) => state.map_or_else(Vec::new, |state| sampler::unpack(&state.bytes)),
            Err(_) => Vec::new(),
        };
        // The host's boot id, as the daemon reads it.
        let boot = std::fs::read_to_string(self.root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
        let boot_id = Octets::<16>::from_hex(&boot.trim().replace('-', "")).map_or([0; 16], |id| id.0);
        let (inputs, inbox) = sync_channel(CHANNEL_COUNT_MAX);
        let (commands, obeyed) = sync_channel(CHANNEL_COUNT_MAX);
        let (outbound, sent) = tokio::sync::mpsc::channel(CHANNEL_COUNT_MAX);
        let mut writer = Writer {
            core: Core::new(self.identity(), self.shop(), self.window_ns, boot_id),
            ledger,
            meter_state,
            link: outbound,
            sampler: commands,
            inputs: inbox,
            places: Places::Asked(Vec::new()),
            alarms: Alarms::default(),
            clock: self.clock,
            dir: PathBuf::new(),
        };
        writer.replay()?;
        record_recovery(&mut writer, &recovery)?;
        let setting = Setting {
            root: self.root.clone(),
            interval_ns: self.sample_ns,
            window_ns: self.window_ns,
            stored,
            commands: obeyed,
            writer: inputs,
            clock: self.clock,
        };
        let thread = Thread::new(setting).map_err(|error| Halt::Bug(error.to_string()))?;
        let (said, archive_ns, alarms) = (Vec::new(), 0, 0);
        Ok(Node { writer, thread, sent, said, archive_ns, alarms })
    }
}

/// Whether a simulated host can be metered at all.
///
/// # Errors
/// What is wrong with it.
pub fn probe(root: &std::path::Path) -> Result<(), String> {
    Hierarchies::detect(root).map(drop).map_err(|error| error.to_string())
}

impl Node {
    fn now(&self) -> Now {
        (self.writer.clock.now)()
    }

    /// Deals with something that happened, and with all that it leads to. What was sent before an error was sent.
    ///
    /// # Errors
    /// [`Halt`]: the node has ended.
    pub fn tell(&mut self, told: In) -> Result<(), Halt> {
        let input = match told {
            In::Linked => Input::Event(Event::Linked),
            In::Unlinked => Input::Event(Event::Unlinked),
            In::Message { topic, payload, number } => Input::Message { topic, payload, stub: Stub::numbered(number) },
            In::Place { contract, outcome } => {
                Input::Place { contract, outcome: outcome.map(|pid| (Target::Process { pid }, None)) }
            }
            In::Unstopped { contract } => {
                Input::Event(Event::Unstopped { contract, why: "the command failed".to_owned() })
            }
            In::Correct { bill_no, amount } => {
                let adjustments = vec![Adjustment { resource: String::new(), why: "slow".to_owned(), amount }];
                Input::Correct { order: Correct { bill_no, adjustments }, answer: self.answer() }
            }
            In::Read { contract } => {
                Input::Reading { operation: operation("read"), contracts: vec![contract], answer: self.answer() }
            }
            In::Erase { contract } => Input::Erase { operation: operation("erase"), contract, answer: self.answer() },
        };
        self.writer.take(input)?;
        self.turn()
    }

    fn answer(&mut self) -> tokio::sync::oneshot::Sender<String> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.said.push(receiver);
        sender
    }

    /// Does what the time asks for: samples, windows, what the rules want, what is to be sent.
    ///
    /// # Errors
    /// [`Halt`]: the node has ended.
    pub fn turn(&mut self) -> Result<(), Halt> {
        if self.thread.wait_ns(self.now()) == 0 {
            self.thread.look();
        }
        loop {
            let now = self.writer.settle()?;
            if let Ok(input) = self.writer.inputs.try_recv() {
                self.writer.take(input)?;
            } else if let Ok(command) = self.thread.commands().try_recv() {
                if !matches!(command, Command::Quit) {
                    self.thread.obey(command);
                }
            } else {
                self.writer.archive(now, &mut self.archive_ns);
                return Ok(());
            }
        }
    }

    /// An orderly end: the sampler's state is kept.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn stop(&mut self) -> Result<(), Halt> {
        self.thread.keep();
        self.turn()
    }

    /// What it sent since it was asked last.
    pub fn outs(&mut self) -> Vec<Out> {
        let mut outs = Vec::new();
        while let Ok(out) = self.sent.try_recv() {
            outs.push(match out {
                Outbound::Publish { topic, payload, retain } => Out::Publish { topic, payload, retain },
                Outbound::Ack(stub) => Out::Ack(stub.number()),
            });
        }
        if let Places::Asked(jobs) = &mut self.writer.places {
            outs.extend(jobs.drain(..).map(|(contract, job)| Out::Job(contract, job)));
        }
        for mut answer in self.said.drain(..) {
            outs.extend(answer.try_recv().ok().map(Out::Said));
        }
        outs
    }

    /// How long until there is something to do by itself, ns of CLOCK_MONOTONIC, if no clock is stepped.
    pub fn wait_ns(&self) -> u64 {
        let now = self.now();
        self.thread.wait_ns(now).min(self.writer.core.next_due_ns(now).saturating_sub(now.mono_ns))
    }

    /// What somebody must know and was not asked for yet: what it is, and more about it.
    pub fn alarms(&mut self) -> Vec<(&'static str, String)> {
        let (count, fresh) = self.writer.alarms.since(self.alarms);
        let fresh = fresh.map(|(what, detail)| (what, detail.to_owned())).collect();
        self.alarms = count;
        fresh
    }

    /// Its ledger, to be read.
    pub fn ledger(&self) -> &Ledger {
        &self.writer.ledger
    }

    /// Blocks of a log that the platform has acknowledged on this link, as the node knows.
    pub fn acknowledged(&self, log: Log) -> Option<u64> {
        self.writer.core.cursors.get(usize::from(log.number())).and_then(crate::outbox::Cursor::acked)
    }

    /// Blocks of a log that the platform must acknowledge.
    pub fn obligation(&self, log: Log) -> u64 {
        self.writer.core.book.obligation.get(usize::from(log.number())).copied().unwrap_or(0)
    }

    /// Its contracts.
    pub fn contracts(&self) -> impl Iterator<Item = ContractView<'_>> {
        let book = &self.writer.core.book;
        book.contracts.values().map(|contract| {
            let table = book.table_of(Some(contract)).map(|(.., table)| table);
            let bills = contract.bills.iter().map(|billed| BillView {
                number: billed.bill.number.clone(),
                name: billed.name.clone(),
                total: billed.bill.total,
                due: billed.due.total,
                paid: billed.paid,
                refunded: billed.refunded,
                receipted: billed.receipted,
                refused: billed.refused,
            });
            let awaits = |table: &hufu_trade::rules::RuleTable| {
                table.may_be_metered(&contract.state) || table.row(&contract.state, "bill").is_some()
            };
            ContractView {
                no: contract.no,
                state: &contract.state,
                offer: contract.offer.as_ref().map(|(_, offer, hash)| (offer, *hash)),
                browse: &contract.browse,
                deal: contract.deal.as_ref().map(|(name, _)| name),
                service_end: contract.in_force.map(|in_force| in_force.service_end),
                quantity: contract.quantity(),
                is_holding: table.is_some_and(|table| table.is_holding(&contract.state)),
                is_metered: table.is_some_and(|table| table.is_metered(&contract.state)),
                is_over: !table.is_some_and(awaits),
                bills: bills.collect(),
                erased: contract.erased,
            }
        })
    }

    /// Everything that a replay must bring back, as text: two nodes with the same ledger say the same.
    pub fn digest(&self) -> String {
        use std::fmt::Write;
        let core = &self.writer.core;
        let book = &core.book;
        let mut text = format!("{:?} {} {:?} {:?}\n", core.sizes, book.revision, book.obligation, book.window_end);
        for contract in book.contracts.values() {
            let bills: Vec<_> =
                contract.bills.iter().map(|b| (&b.name, b.linked, &b.due, b.paid, b.refunded, b.bill.total)).collect();
            writeln!(
                text,
                "{} {} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {bills:?}",
                contract.no,
                contract.state,
                contract.since,
                contract.in_force,
                contract.offer.as_ref().map(|(name, ..)| name),
                contract.deal,
                contract.last,
                contract.score,
                contract.base,
                contract.notices,
            )
            .ok();
        }
        text
    }

    /// A planted bug: while it is so, orders are judged as if the node had a thousand times its capacity.
    pub fn plant_blind_stock(&mut self, setup: &Setup, is_blind: bool) {
        let capacity = &mut self.writer.core.shop.capacity;
        let times = if is_blind { 1000 } else { 1 };
        capacity.cpu_millicores = setup.cpu_millicores.saturating_mul(times);
        capacity.memory_bytes = setup.memory_bytes.saturating_mul(times);
    }

    /// A planted bug: bills that the platform has not acknowledged are forgotten, and so made again.
    pub fn plant_forgotten_bills(&mut self) {
        for contract in self.writer.core.book.contracts.values_mut() {
            if contract.state == "billed" && contract.bills.last().is_some_and(|billed| !billed.receipted) {
                contract.bills.pop();
                "ended".clone_into(&mut contract.state);
            }
        }
    }
}

fn operation(act: &str) -> Operation {
    Operation { operator: "operator".to_owned(), act: act.to_owned(), why: "a simulation".to_owned() }
}
