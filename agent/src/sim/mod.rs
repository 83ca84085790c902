//! A node for the simulation (ADR 0015): the daemon's writer, core, ledger and sampler without its threads, sockets and clocks.
//! Who drives it hands it messages and the site's answers, tells it to look at the time, and takes what it sends. Nothing of
//! the program itself uses this.

mod beside;
mod setup;
mod view;

use hufu_ledger::{Ledger, Log};
use hufu_metering::Target;
use hufu_trade::{correction::Adjustment, if2::Topic, money::Money, octets::ContractNo};

use self::beside::Beside;
pub use self::{
    setup::{OpensDisk, PeersDisks, Product, Setup},
    view::{BillView, ContractView, PeerView},
};
pub use crate::{
    clock::{Clock, Now},
    places::PlaceJob,
};
use crate::{
    link::{Outbound, Stub},
    local::Correct,
    node::{Event, Fatal},
    personal::Operation,
    places::Places,
    sampler::{Command, Thread},
    whole::{LOOK_NS, Whole},
    writer::{Input, Writer, WriterError},
};

/// Room in every channel: nothing here may wait, and what does not fit into the link's is sent again.
const CHANNEL_COUNT_MAX: usize = 4096;
/// Room for the meters' states.
const METER_STATE_BYTES_MAX: usize = 1 << 15;
/// Room for the core's.
const CORE_STATE_BYTES_MAX: usize = 1 << 18;

/// Why a node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The ledger failed: the disk, or what stands on it.
    Ledger(String),
    /// Anything else: never to be expected.
    Bug(String),
}

impl From<WriterError> for Halt {
    fn from(error: WriterError) -> Self {
        match &error {
            WriterError::Ledger(_) | WriterError::Mark { .. } => Self::Ledger(error.to_string()),
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

/// A running node.
pub struct Node {
    writer: Writer,
    /// The comparison with the platform, while it lasts.
    whole: Option<Whole>,
    thread: Thread,
    sent: tokio::sync::mpsc::Receiver<Outbound>,
    said: Vec<tokio::sync::oneshot::Receiver<String>>,
    archive_ns: u64,
    alarms: u64,
    /// The thread of the peers, while it lasts.
    beside: Option<Beside>,
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
        let Some(told) = self.tell_beside(told)? else { return self.turn() };
        let input = match told {
            In::Linked => Input::Event(Event::Linked),
            In::Unlinked => Input::Event(Event::Unlinked),
            In::Message { topic, payload, number } => Input::Message { topic, payload, stub: Stub::numbered(number) },
            In::Place { contract, outcome } => {
                Input::Place { contract, outcome: outcome.map(|pid| (Target::Process { pid }.into(), None)) }
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
        self.take(input)?;
        self.turn()
    }

    /// As the writer's two loops: while it compares, and while it trades.
    fn take(&mut self, input: Input) -> Result<(), Halt> {
        match &mut self.whole {
            Some(whole) => Ok(self.writer.take_comparing(whole, input)?),
            None => {
                let done = self.writer.take(input);
                self.or_behind(done)
            }
        }
    }

    /// A receipt that names more than this disk holds begins the comparison anew.
    fn or_behind(&mut self, done: Result<(), WriterError>) -> Result<(), Halt> {
        match done {
            Err(WriterError::Fatal(Fatal::Behind { .. })) => {
                self.writer.now_behind()?;
                self.whole = Some(self.writer.begin_comparing()?);
                Ok(())
            }
            done => Ok(done?),
        }
    }

    /// What is due by itself, of the comparison or of trade.
    fn settle(&mut self) -> Result<(), Halt> {
        if let Some(mut whole) = self.whole.take() {
            if !self.writer.compare(&mut whole)? {
                self.whole = Some(whole);
                return Ok(());
            }
            let done = self.writer.made_whole(whole).and_then(|()| self.writer.record_set_aside());
            done?;
        }
        let done = self.writer.settle().map(drop);
        self.or_behind(done)
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
        self.write()?;
        while self.turn_beside()? {
            self.write()?;
        }
        Ok(())
    }

    /// The writer's own loop, until nothing waits for it.
    fn write(&mut self) -> Result<(), Halt> {
        loop {
            self.settle()?;
            if let Ok(input) = self.writer.inputs.try_recv() {
                self.take(input)?;
            } else if let Ok(command) = self.thread.commands().try_recv() {
                if !matches!(command, Command::Quit) {
                    self.thread.obey(command);
                }
            } else {
                if self.whole.is_none() {
                    self.writer.archive(self.now(), &mut self.archive_ns);
                }
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
        let writer = match self.whole {
            Some(_) => LOOK_NS,
            None => self.writer.core.next_due_ns(now).saturating_sub(now.mono_ns),
        };
        self.thread.wait_ns(now).min(writer).min(self.wait_beside_ns(now))
    }

    /// What somebody must know and was not asked for yet: what it is, and more about it.
    pub fn alarms(&mut self) -> Vec<(&'static str, String)> {
        let (count, fresh) = self.writer.alarms.since(self.alarms);
        let fresh = fresh.map(|(what, detail)| (what, detail.to_owned())).collect();
        self.alarms = count;
        fresh
    }

    /// Whether it still compares itself with the platform, and signs nothing.
    pub fn is_comparing(&self) -> bool {
        self.whole.is_some()
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
