//! The one writer: takes inputs, asks the core, executes effects; appends first, acknowledges last. Nothing else holds the
//! ledger open for writing.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use hufu_gm::sm3::Hash;
use hufu_ledger::{AppendedBlock, Block, Ledger, Log, NewBlock, Signer, storage::Storage};
use hufu_trade::{
    decode,
    entry::{EntryKind, key_of},
    if2::{Interface, Topic},
    octets::ContractNo,
    rating::Recorded,
    usage::UsageRecord,
};

pub(crate) use crate::input::Input;
use crate::{
    change,
    clock::{Clock, Now, ledger_quality},
    directory::Asking,
    exchange::name_of,
    hardware::Watch,
    heard::Heard,
    link::Outbound,
    metrics::Metrics,
    node::{Core, Effect, Event, Fatal},
    peers, personal,
    places::Places,
    provision,
    rotation::Keys,
    sampler::Command,
    setup::First,
    signer::NodeKey,
    status,
    unsigned::{self, Unsigned},
    whole::End,
};

/// Why the writer ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriterError {
    #[error(transparent)]
    Ledger(#[from] hufu_ledger::Error),
    #[error(transparent)]
    Fatal(#[from] Fatal),
    #[error("the sampler ended")]
    Sampler,
    #[error("the signer is away")]
    Signer,
    #[error("the certificate {0} of this node's key was replaced by a rotation; its key file must be the new one")]
    Rotated(String),
    #[error("an entry of this ledger cannot be read back: {0}")]
    Entry(String),
    #[error("{path}: {source}", path = path.display())]
    Mark { path: PathBuf, source: std::io::Error },
}

/// The writer and what it talks to.
pub(crate) struct Writer {
    pub(crate) core: Core,
    pub(crate) ledger: Ledger,
    /// The ledger's directory: the mark of a node that is behind lies there too.
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) meter_state: hufu_ledger::StateFile,
    /// The contracts as they stood at some size of the ledger.
    pub(crate) core_state: hufu_ledger::StateFile,
    /// Blocks in both logs when it was written last.
    pub(crate) state_at: u64,
    /// It is written after so many blocks.
    pub(crate) state_blocks: u64,
    pub(crate) link: tokio::sync::mpsc::Sender<Outbound>,
    pub(crate) sampler: SyncSender<Command>,
    pub(crate) inputs: Receiver<Input>,
    pub(crate) places: Places,
    pub(crate) alarms: status::Alarms,
    pub(crate) metrics: Metrics,
    /// Watches the hardware; absent where it is simulated.
    pub(crate) hardware: Option<Watch>,
    pub(crate) clock: Clock,
    /// Where the ledger lies, for status.
    pub(crate) dir: PathBuf,
    /// How long the first signature waits for the platform's word, ns.
    pub(crate) compare_ns: u64,
    /// What an empty ledger begins with, when the platform holds nothing of it.
    pub(crate) first: First,
    /// Tails that the opening of the ledger set aside.
    pub(crate) set_aside: Vec<hufu_ledger::SetAside>,
    /// What the comparison with the platform waits for, while it lasts, or the signer's trouble.
    pub(crate) comparing: Option<String>,
    /// What was metered while nothing may be signed.
    pub(crate) unsigned: Unsigned,
    /// Pause before a signer that is away is asked again, ns; 0 once something was signed.
    pub(crate) signer_pause_ns: u64,
    /// Has the directory asked; absent without one.
    pub(crate) directory: Option<Asking>,
    /// The key that is to come, and the one that came last.
    pub(crate) keys: Keys,
    /// Is told what was written; absent where no peers are followed.
    pub(crate) peers: Option<peers::ToPeers>,
    /// How far this node signed, as others know.
    pub(crate) heard: Heard,
    /// How the peers stand, as they said last.
    pub(crate) peers_shown: Option<Box<peers::Shown>>,
}

/// Blocks of one frame when many are written at once.
const FRAME_BLOCKS: usize = 64;

impl Writer {
    /// Runs until told to stop.
    ///
    /// # Errors
    /// [`WriterError`]: the daemon exits and is restarted; it never goes on after a failed append.
    pub(crate) fn run(mut self) -> Result<(), WriterError> {
        sd_notify::notify(&[sd_notify::NotifyState::Ready]).ok();
        let mut is_whole = false;
        loop {
            match self.trade(&mut is_whole) {
                Ok(()) => break,
                // A receipt came that names more than this disk holds: nothing more is signed until that is here.
                Err(WriterError::Fatal(Fatal::Behind { .. })) => {
                    self.now_behind()?;
                    is_whole = false;
                }
                Err(_) if self.core.identity.key.away().is_some() => {
                    if self.await_signer(is_whole)? == End::Stop {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        sd_notify::notify(&[sd_notify::NotifyState::Stopping]).ok();
        if let Some(said) = self.core.log_out((self.clock.now)()) {
            self.execute(said)?;
        }
        self.keep_state(true);
        self.sampler.send(Command::Quit).map_err(|_| WriterError::Sampler)
    }

    /// Makes the ledger whole unless it is, signs what waited, and trades until told to stop.
    fn trade(&mut self, is_whole: &mut bool) -> Result<(), WriterError> {
        if !*is_whole && self.make_whole()? == End::Stop {
            return Ok(());
        }
        *is_whole = true;
        self.record_unsigned()?;
        self.record_set_aside()?;
        self.rotate_due()?;
        self.work()
    }

    /// Trades until told to stop.
    fn work(&mut self) -> Result<(), WriterError> {
        let mut archive_ns = 0;
        loop {
            self.watch_hardware()?;
            self.watch_directory();
            let now = self.settle()?;
            if self.core.identity.key.away().is_some() {
                return Err(WriterError::Signer);
            }
            let now = self.archive(now, &mut archive_ns);
            sd_notify::notify(&[sd_notify::NotifyState::Watchdog]).ok();
            let wait = self.core.next_due_ns(now).saturating_sub(now.mono_ns).min(20_000_000_000);
            match self.inputs.recv_timeout(Duration::from_nanos(wait)) {
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(input) => self.take(input)?,
                Err(RecvTimeoutError::Timeout) => self.event(Event::Tick)?,
            }
        }
    }

    /// Does what is due until nothing is.
    pub(crate) fn settle(&mut self) -> Result<Now, WriterError> {
        loop {
            let now = (self.clock.now)();
            let effects = self.core.due(now, (self.clock.quality)(now))?;
            if effects.is_empty() {
                return Ok(now);
            }
            // An append comes last. One that nobody signs, be it of a bill in between, leaves the others to be done.
            let mut unsigned = None;
            for effect in effects {
                match self.execute(effect) {
                    Err(error) if self.core.identity.key.away().is_some() => unsigned = Some(error),
                    done => done?,
                }
            }
            unsigned.map_or(Ok(()), Err)?;
        }
    }

    /// Deals with one input: when this returns, all that it led to is durable.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn take(&mut self, input: Input) -> Result<(), WriterError> {
        match input {
            Input::Event(event) => {
                // Only a signer can be away; what a key file signs costs no copy.
                let is_far = matches!(self.core.identity.key, NodeKey::Far(_));
                let copy = if is_far { unsigned::again(&event) } else { None };
                let done = self.event(event);
                if done.is_err() {
                    copy.into_iter().for_each(|event| self.unsigned.push(event));
                }
                done
            }
            Input::Message { topic, payload, stub } => {
                let done = self.event(Event::Message { topic, payload });
                let is_away = self.core.identity.key.away().is_some();
                if !matches!(done, Ok(()) | Err(WriterError::Fatal(Fatal::Behind { .. }))) && !is_away {
                    return done;
                }
                // Acknowledged only now, when everything it led to is durable. A full channel means a stalled link: the
                // broker delivers the message again.
                self.link.try_send(Outbound::Ack(stub)).ok();
                done
            }
            Input::Place { contract, outcome } => match outcome {
                Ok((plan, address)) => {
                    let Some(known) = self.core.book.contracts.get(&contract) else { return Ok(()) };
                    let metered = self.core.metered(known).into_iter().filter(|resource| !resource.reserved).collect();
                    let reserved = self.core.reserved(known);
                    let plan = Box::new(plan);
                    let (totals, times, resumed_ns) = (known.counted(), known.counted_times(), known.resumed);
                    let command =
                        Command::Start { contract, plan, metered, reserved, totals, times, address, resumed_ns };
                    self.sampler.send(command).map_err(|_| WriterError::Sampler)
                }
                Err(why) => self.event(Event::Provisioned { contract, outcome: Err(why) }),
            },
            Input::Counters { path, counters } => {
                self.sampler.send(Command::HandOver { path, counters }).map_err(|_| WriterError::Sampler)
            }
            Input::MeterState(bytes) => {
                if let Err(error) = self.meter_state.write(&self.ledger.stamp(), &bytes) {
                    tracing::warn!(%error, "meter state not written");
                }
                Ok(())
            }
            Input::Correct { order, answer } => {
                let judged =
                    change::correct(&self.core, (self.clock.now)().real_ns, (&order.bill_no, order.adjustments));
                let said = match judged {
                    Ok((correction, blocks)) => {
                        self.append(&blocks)?;
                        serde_json::json!({ "ok": correction })
                    }
                    Err(problem) => serde_json::json!({ "error": problem }),
                };
                // Whoever asked may be gone; the correction stands all the same.
                answer.send(said.to_string()).ok();
                Ok(())
            }
            Input::Reading { operation, contracts, answer } => {
                let now_ns = (self.clock.now)().real_ns;
                let said = match personal::reading(&self.core, now_ns, &operation, &contracts) {
                    Ok(blocks) => {
                        // Durable before anything is shown; each frame is small.
                        for frame in blocks.chunks(FRAME_BLOCKS) {
                            self.append(frame)?;
                        }
                        serde_json::json!({ "ok": contracts.len() })
                    }
                    Err(problem) => serde_json::json!({ "error": problem }),
                };
                answer.send(said.to_string()).ok();
                Ok(())
            }
            Input::Erase { operation, contract, answer } => {
                let key = key_of(Some(contract));
                let found = self.ledger.find(&key)?;
                let now_ns = (self.clock.now)().real_ns;
                let said = match personal::erasure(&self.core, now_ns, &operation, (contract, &found)) {
                    Ok(blocks) => {
                        if !blocks.is_empty() {
                            self.append(&blocks)?;
                        }
                        self.ledger.erase(&key)?;
                        self.keep_state(true);
                        serde_json::json!({ "ok": { "contract_no": contract, "erased": true } })
                    }
                    Err(problem) => serde_json::json!({ "error": problem }),
                };
                answer.send(said.to_string()).ok();
                Ok(())
            }
            Input::Status(answer) => {
                answer.send(self.status()).ok();
                Ok(())
            }
            Input::Accounts(answer) => {
                answer.send(self.core.accounts_shown().to_string()).ok();
                Ok(())
            }
            Input::Hardware(found) => self.take_hardware(found),
            Input::Directory(found) => self.take_directory(found),
            Input::Accept(answer) => {
                answer.send(self.accept_hardware()?).ok();
                Ok(())
            }
            Input::Metrics(answer) => {
                answer.send(self.rendered()).ok();
                Ok(())
            }
            Input::Rotate(answer) => self.rotate_asked(answer),
            Input::Alarm { what, detail } => self.execute(Effect::Alarm { what, detail }),
            Input::Words(words) => {
                self.heard.words = Some(words);
                self.beyond().map_or(Ok(()), |behind| Err(behind.into()))
            }
            Input::Peers(shown) => {
                self.peers_shown = Some(shown);
                Ok(())
            }
            Input::Stop => Ok(()),
        }
    }

    pub(crate) fn event(&mut self, event: Event) -> Result<(), WriterError> {
        for effect in self.core.handle((self.clock.now)(), event)? {
            self.execute(effect)?;
        }
        Ok(())
    }

    pub(crate) fn execute(&mut self, effect: Effect) -> Result<(), WriterError> {
        match effect {
            Effect::Append(blocks) => self.append(&blocks),
            Effect::Publish { topic, payload, retain } => {
                self.publish(topic, payload, retain);
                Ok(())
            }
            Effect::SendBlocks { log, from, below, room } => self.send_blocks(log, from..below, room),
            Effect::CheckReceipt { receipt, signed } => {
                let log = if receipt.log == 1 { Log::Finance } else { Log::Trade };
                if receipt.size <= self.ledger.size(log) && self.ledger.root_at(log, receipt.size)? != receipt.root.0 {
                    let detail = format!("log {} size {}", receipt.log, receipt.size);
                    return self.execute(Effect::Alarm { what: "receipt has another root than this ledger", detail });
                }
                self.event(Event::Receipted { receipt, signed })
            }
            Effect::ReadRecords(contract) => {
                let records = self.records(contract)?;
                self.event(Event::Records { contract, records })
            }
            Effect::Reply { interface, re, contract, signed } => self.reply(interface, &re, (contract, signed)),
            Effect::Provision(contract) => {
                if let Some(job) = provision::job(&self.core, contract) {
                    self.places.provide(job);
                }
                Ok(())
            }
            Effect::Withdraw(contract) => {
                self.sampler.send(Command::Stop { contract }).map_err(|_| WriterError::Sampler)
            }
            Effect::Pause(contract) => {
                self.places.pause(contract);
                Ok(())
            }
            Effect::Remove(contract) => {
                self.places.withdraw(contract);
                Ok(())
            }
            Effect::Alarm { what, detail } => {
                if self.alarms.raise(what, detail.clone(), (self.clock.now)().real_ns) {
                    // Most details begin with the contract they are about.
                    let number = detail.split_once(':').map(|(number, _)| number);
                    let contract = number.filter(|number| ContractNo::from_hex(number).is_some());
                    tracing::error!(alarm = what, contract, detail, "{what}");
                }
                Ok(())
            }
        }
    }

    /// Appends one frame and takes it into account.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn append(&mut self, blocks: &[NewBlock]) -> Result<(), WriterError> {
        let now = (self.clock.now)();
        let quality = ledger_quality((self.clock.quality)(now));
        let identity = &self.core.identity;
        let signer = Signer { key: &identity.key, cert_id: identity.cert_id.0, salt_key: &identity.salt_key };
        let appended = self.ledger.append(blocks, &signer, self.epoch(), now.real_ns, quality)?;
        self.metrics.took((self.clock.now)().mono_ns.saturating_sub(now.mono_ns));
        self.signer_pause_ns = 0;
        self.tell_peers(&appended);
        let mut entries = Vec::new();
        for (block, written) in blocks.iter().zip(&appended) {
            self.metrics.appended(block.log);
            for (entry, at) in block.entries.iter().zip(&written.entries) {
                self.metrics.entry(entry.kind, &entry.body);
                entries.push((name_of(at), entry.kind, entry.body.clone()));
            }
        }
        self.event(Event::Appended(entries))?;
        self.keep_state(false);
        Ok(())
    }

    /// Peers see what was written.
    pub(crate) fn tell_peers(&self, appended: &[AppendedBlock]) {
        if let Some(peers) = &self.peers {
            let (mut headers, mut public) = (Vec::new(), Vec::new());
            for block in appended.iter().filter_map(|block| Block::from_bytes(&block.bytes).ok()) {
                for (index, bytes) in (0_u32..).zip(block.entries()) {
                    let place = (block.header().height, index);
                    let path = block.entry_path(index).unwrap_or_default();
                    public.extend(peers::public_record(bytes, place, &path));
                }
                headers.push(block.signed().clone());
            }
            peers.written(peers::Event::Written { headers, public });
        }
    }

    pub(crate) fn publish(&self, topic: Topic, payload: Vec<u8>, retain: bool) {
        // Everything published is repeated until answered, so a full channel loses nothing.
        if self.link.try_send(Outbound::Publish { topic, payload, retain }).is_err() {
            tracing::warn!("link is busy; message waits for its repetition");
        }
    }

    /// The usage records of a contract that a bill to come may ask for, from the last one of the newest bill on: of an order of a year
    /// all of them would be half a million.
    fn records(&self, contract: ContractNo) -> Result<Vec<Recorded>, WriterError> {
        let newest = self.core.book.contracts.get(&contract).and_then(|contract| contract.bills.last());
        let billed = newest.map_or(0, |billed| billed.bill.last_record.height);
        let mut records = Vec::new();
        for at in self.ledger.find(&key_of(Some(contract)))? {
            if at.log != Log::Trade || at.height < billed {
                continue;
            }
            let entry = hufu_ledger::Entry::from_bytes(&self.ledger.entry(at.log, at.height, at.index)?)?;
            if matches!(EntryKind::from_number(entry.kind), Some(EntryKind::Usage | EntryKind::Gap)) {
                let record: UsageRecord =
                    decode(&entry.body, "UsageRecord").map_err(|e| WriterError::Entry(e.to_string()))?;
                records.push((name_of(&at), record));
            }
        }
        records.sort_by_key(|(_, record)| record.order_seq);
        Ok(records)
    }

    fn reply(
        &mut self,
        interface: Interface,
        re: &str,
        (contract, signed): (ContractNo, Option<Hash>),
    ) -> Result<(), WriterError> {
        let mut entries = Vec::new();
        for name in self.core.reply_entries(interface, contract, signed) {
            let log = if name.log == 1 { Log::Finance } else { Log::Trade };
            let bytes = self.ledger.entry(log, name.height, name.index)?;
            let body = hufu_ledger::Entry::from_bytes(&bytes)?.body;
            entries.push((name, bytes, body));
        }
        match self.core.reply((self.clock.now)(), (interface, re, contract), &entries) {
            Some(effect) => self.execute(effect),
            None => Ok(()),
        }
    }
}
