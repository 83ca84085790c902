//! Before the first signature after a start, and whenever a receipt names more than this disk holds: the writer compares its ledger
//! with the platform's word, takes back what is missing, or opens a new epoch where nobody has it (ADR 0012). Until that is done
//! nothing is signed. What answers mean is `fetch.rs`.

use std::{sync::mpsc::RecvTimeoutError, time::Duration};

use hufu_ledger::{
    KeptBlock, Ledger, Log, NewBlock, NewEntry, Signer,
    storage::{Access, Storage},
};
use hufu_trade::{
    decode, encode,
    entry::{EntryKind, Epoch, SetAside, key_of, octet_string},
    if2::{Answer, Blocks, Envelope, Fetch, Held, Interface, PLATFORM, Sealed, Topic},
    octets::{ContractNo, Octets},
};

use crate::{
    act::problem,
    clock::ledger_quality,
    fetch::{Comparison, Standing, Trust, Unusable},
    link::Outbound,
    node::{Effect, Event},
    sampler::Command,
    setup,
    writer::{Input, Writer, WriterError},
};

/// Longest wait between two looks, ns: the watchdog waits too.
pub(crate) const LOOK_NS: u64 = 1_000_000_000;
/// Blocks restored in one frame: the ledger takes 256, and 4 MiB.
const FRAME_BLOCKS: usize = 64;
/// The mark that this disk is known to lack something: while it is there no time allows a signature.
const MARK: &str = "behind";

/// How a comparison ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The node may sign.
    Go,
    /// It was told to stop.
    Stop,
}

/// A comparison under way. [`Writer::compare`] does what is due, [`Writer::take_comparing`] deals with an input, and
/// [`Writer::made_whole`] ends it; who waits in between is the daemon's loop or the simulation.
#[derive(Debug)]
pub(crate) struct Whole {
    comparison: Comparison,
    trust: Option<Trust>,
    waiting: Waiting,
    is_known_behind: bool,
    is_changed: bool,
    /// When it began, CLOCK_MONOTONIC ns.
    begun_ns: u64,
}

impl Writer {
    /// Makes sure that nothing that was acknowledged is signed again, then replays the ledger.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn make_whole(&mut self) -> Result<End, WriterError> {
        let mut whole = self.begin_comparing()?;
        while !self.compare(&mut whole)? {
            sd_notify::notify(&[sd_notify::NotifyState::Watchdog]).ok();
            match self.inputs.recv_timeout(Duration::from_nanos(LOOK_NS.min(self.compare_ns))) {
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(End::Stop),
                Ok(input) => self.take_comparing(&mut whole, input)?,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.made_whole(whole)?;
        Ok(End::Go)
    }

    /// Begins a comparison.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn begin_comparing(&mut self) -> Result<Whole, WriterError> {
        let is_known_behind = self.is_marked()?;
        // A ledger in the middle of its restoration need not replay.
        if !is_known_behind && self.core.sizes == [0; 2] {
            self.replay()?;
        }
        let begun_ns = (self.clock.now)().mono_ns;
        let (comparison, waiting) = (Comparison::default(), Waiting::default());
        Ok(Whole { comparison, trust: None, waiting, is_known_behind, is_changed: is_known_behind, begun_ns })
    }

    /// Does what is due; true when nothing is left to wait for.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn compare(&mut self, whole: &mut Whole) -> Result<bool, WriterError> {
        let now = (self.clock.now)();
        let waited_ns = now.mono_ns.saturating_sub(whole.begun_ns);
        if whole.comparison.open().is_none() {
            return Ok(self.heard.is_enough(waited_ns));
        }
        // An empty ledger may be one whose disk was lost: without the platform's word nobody knows.
        let must_wait = whole.is_known_behind || self.ledger.size(Log::Trade) == 0;
        if !must_wait && waited_ns >= self.compare_ns {
            tracing::warn!("the platform has not said what it holds; going on without its word");
            return Ok(true);
        }
        self.comparing = Some(self.shown(&whole.comparison));
        if self.core.linked
            && let Some(log) = whole.comparison.due(now.mono_ns)
        {
            self.ask(&mut whole.comparison, log)?;
        }
        Ok(false)
    }

    /// Deals with an input while the comparison lasts.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn take_comparing(&mut self, whole: &mut Whole, input: Input) -> Result<(), WriterError> {
        match input {
            Input::Message { topic, payload, stub } => {
                match self.hear(&mut whole.comparison, &mut whole.trust, (&topic, &payload)) {
                    Ok(kept) if kept.is_empty() => {}
                    Ok(kept) => {
                        // The mark is durable before the first block is: a start in between goes on here.
                        self.set_mark(&whole.comparison)?;
                        self.say_behind(whole)?;
                        self.restore(&kept)?;
                        whole.is_changed = true;
                    }
                    Err(Unusable::Ledger(error)) if !is_about_blocks(&error) => return Err(error.into()),
                    Err(why) => self.alarm("what was fetched is not used", why.to_string())?,
                }
                self.link.try_send(Outbound::Ack(stub)).ok();
            }
            Input::Words(words) => self.heard.words = Some(words),
            input => self.put_off(&mut whole.comparison, &mut whole.waiting, input),
        }
        if (whole.comparison.is_behind() || self.beyond().is_some()) && !whole.is_known_behind {
            self.set_mark(&whole.comparison)?;
            self.say_behind(whole)?;
        }
        if whole.is_known_behind {
            // That may take long: who asked at this machine comes again.
            whole.waiting.asked.drain(..).for_each(refuse);
        }
        Ok(())
    }

    /// Says once that this disk lacks something, also where one answer brings all of it: an old copy was put back.
    fn say_behind(&mut self, whole: &mut Whole) -> Result<(), WriterError> {
        if std::mem::replace(&mut whole.is_known_behind, true) {
            return Ok(());
        }
        let detail = self.shown(&whole.comparison);
        self.alarm("this ledger is behind what was acknowledged; nothing is signed until it is whole", detail)
    }

    /// Ends a comparison: the epoch or the first entries where they are due, the replay, and what waited.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn made_whole(&mut self, whole: Whole) -> Result<(), WriterError> {
        let Whole { comparison, waiting, mut is_changed, .. } = whole;
        self.comparing = None;
        let is_lost = |log: &Log| matches!(comparison.standing(*log), Standing::Lost(..));
        if Log::ALL.iter().any(is_lost) || self.beyond().is_some() {
            self.open_epoch(&comparison)?;
            is_changed = true;
        }
        if self.ledger.size(Log::Trade) == 0 {
            setup::first_blocks(&mut self.ledger, &self.core.identity, &self.first, self.clock)?;
            is_changed = true;
        }
        if is_changed {
            self.replay_anew()?;
            if let Some(peers) = &self.peers {
                peers.restored();
            }
        }
        self.clear_mark()?;
        let book = &self.core.book;
        let metered =
            book.contracts.values().filter(|contract| self.core.is_metered(contract)).map(|contract| contract.no);
        self.sampler.send(Command::Only { contracts: metered.collect() }).map_err(|_| WriterError::Sampler)?;
        self.record_unsigned()?;
        for input in waiting.asked {
            if !is_given_up(&input) {
                self.take(input)?;
            }
        }
        Ok(())
    }

    /// A receipt said that this disk lacks something: from now on no time allows a signature.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn now_behind(&mut self) -> Result<(), WriterError> {
        tracing::error!("this ledger is behind its receipts");
        self.set_mark(&Comparison::default())
    }

    /// For a person: what is waited for.
    fn shown(&self, comparison: &Comparison) -> String {
        let of = |log: Log| match comparison.standing(log) {
            Standing::Unknown => format!("{log}: the platform has not answered"),
            Standing::Whole(_) => format!("{log}: whole"),
            Standing::Missing(size) => format!("{log}: {} of {size} blocks", self.ledger.size(log)),
            Standing::Lost(size, _) => {
                format!("{log}: {} of {size} blocks, the platform lost them too", self.ledger.size(log))
            }
        };
        let beyond = |log: Log| match self.signed_beyond(log) {
            Some(size) => format!("{}; others hold headers of {size} blocks", of(log)),
            None => of(log),
        };
        Log::ALL.map(beyond).join(", ")
    }

    fn alarm(&mut self, what: &'static str, detail: String) -> Result<(), WriterError> {
        self.execute(Effect::Alarm { what, detail })
    }

    fn ask(&mut self, comparison: &mut Comparison, log: Log) -> Result<(), WriterError> {
        let certificates = self.core.shop.certificates.iter().cloned().map(Sealed).collect();
        let body = Fetch { log: log.number(), from: self.ledger.size(log), certificates };
        let (now_ns, identity) = ((self.clock.now)().real_ns, &self.core.identity);
        let (pool, interface) = (identity.pool.clone(), Interface::Fetch);
        let (key, cert_id) = (&identity.key, identity.cert_id);
        let sealed = Envelope::seal(interface, &pool, PLATFORM, now_ns, None, Some(now_ns), &body, key, cert_id);
        let (id, payload) = sealed.map_err(|e| WriterError::Entry(e.to_string()))?;
        comparison.asked(log, id);
        self.publish(Topic::Call { pool, interface, answer: false }, payload, false);
        Ok(())
    }

    /// Takes a message; the blocks that are to be stored.
    fn hear(
        &mut self,
        comparison: &mut Comparison,
        trust: &mut Option<Trust>,
        (topic, payload): (&Topic, &[u8]),
    ) -> Result<Vec<KeptBlock>, Unusable> {
        let ours = &self.core.identity.pool;
        let is_answer =
            matches!(topic, Topic::Call { pool, interface: Interface::Fetch, answer: true } if pool == ours);
        if !is_answer {
            // Everything else comes again until it is answered.
            return Ok(Vec::new());
        }
        if payload.first() == Some(&b'{') {
            let opened = self.core.open::<Answer<Held>>(Interface::Fetch, payload);
            let said = opened.map_err(|problem| Unusable::Wrong(problem.remedy.en))?.payload;
            if let Answer::Ok(Held { log, seen: Some(header), .. }) = &said.body
                && let Some(log) = Log::from_number(*log)
            {
                self.heard.saw(&self.core.identity, log, header);
            }
            comparison.answered(&self.ledger, (said.re.as_deref(), said.body), payload)?;
            return Ok(Vec::new());
        }
        let message: Blocks = decode(payload, "Blocks").map_err(|error| Unusable::Wrong(error.to_string()))?;
        let trust = match trust {
            Some(trust) => trust,
            None => {
                let mut known = Trust::new(&self.core.identity);
                known.learn_all(&self.ledger)?;
                trust.insert(known)
            }
        };
        comparison.arrived(&self.ledger, trust, &message)
    }

    /// Stores blocks, durably.
    fn restore(&mut self, kept: &[KeptBlock]) -> Result<(), WriterError> {
        for frame in kept.chunks(FRAME_BLOCKS) {
            self.ledger.restore(frame)?;
        }
        Ok(())
    }

    /// Status is answered, windows and what this machine's users ask wait, and everything else comes again.
    fn put_off(&mut self, comparison: &mut Comparison, waiting: &mut Waiting, input: Input) {
        match input {
            Input::Event(Event::Linked) => {
                comparison.relinked();
                self.core.linked = true;
            }
            Input::Event(Event::Unlinked) => self.core.linked = false,
            Input::Event(event @ Event::Window { .. }) => self.unsigned.push(event),
            Input::Status(answer) => {
                answer.send(self.status()).ok();
            }
            Input::Metrics(answer) => {
                answer.send(self.rendered()).ok();
            }
            Input::Correct { .. }
            | Input::Reading { .. }
            | Input::Erase { .. }
            | Input::Accept(_)
            | Input::Rotate(_) => {
                waiting.asked.push(input);
            }
            Input::Hardware(found) => self.note_hardware(found),
            Input::Peers(shown) => self.peers_shown = Some(shown),
            // It leads to no signature.
            Input::Directory(found) => self.note_directory(found),
            // The final read of an order is made again, and a place asked for again, by the core that is replayed.
            _ => {}
        }
    }

    /// Opens a new epoch in both logs, each block beginning with the entry that says what is lost of its log. One frame: a crash
    /// leaves both or none.
    fn open_epoch(&mut self, comparison: &Comparison) -> Result<(), WriterError> {
        // Above every epoch in which this node ever signed.
        let signed = Log::ALL.map(|log| self.heard.of(log).epoch).into_iter().fold(self.epoch(), u64::max);
        let epoch = signed.saturating_add(1);
        let entry = |log: Log| {
            let held = self.ledger.size(log);
            let (receipted, answer) = match comparison.standing(log) {
                Standing::Lost(size, answer) => (*size, Some(answer)),
                Standing::Whole(size) | Standing::Missing(size) => (*size, None),
                Standing::Unknown => (0, None),
            };
            let signed = self.signed_beyond(log).unwrap_or(0);
            let why = match answer {
                None if signed > held => {
                    "signed and lost here; others hold the headers, the platform does not hold the blocks"
                }
                Some(_) => "acknowledged and lost here; the platform's answer says that it does not hold them either",
                None => "nothing of this log is lost; the other one goes on in a new epoch",
            };
            let octets = answer.map(|answer| octet_string(answer, "Epoch")).transpose();
            let answer = octets.map_err(|e| WriterError::Entry(e.to_string()))?;
            let receipted = receipted.max(signed);
            let body = Epoch { epoch, log: log.number(), held, receipted, why: why.to_owned(), answer };
            let body = encode(&body, "Epoch").map_err(|e| WriterError::Entry(e.to_string()))?;
            Ok::<_, WriterError>(NewEntry { kind: EntryKind::Epoch.number(), body, key: key_of(None), sealed: false })
        };
        let (trade, finance) = (entry(Log::Trade)?, entry(Log::Finance)?);
        let blocks = [
            NewBlock { log: Log::Trade, entries: vec![trade, finance.clone()] },
            NewBlock { log: Log::Finance, entries: vec![finance] },
        ];
        let (now, identity) = ((self.clock.now)(), &self.core.identity);
        let signer = Signer { key: &identity.key, cert_id: identity.cert_id.0, salt_key: &identity.salt_key };
        let quality = ledger_quality((self.clock.quality)(now));
        let appended = self.ledger.append(&blocks, &signer, epoch, now.real_ns, quality)?;
        self.tell_peers(&appended);
        let detail = format!("epoch {epoch}; {}", self.shown(comparison));
        self.alarm("new epoch: what was acknowledged is lost here and at the platform", detail)
    }

    /// The epoch of the newest blocks.
    pub(crate) fn epoch(&self) -> u64 {
        epoch_of(&self.ledger)
    }

    /// Forgets what was known and reads the ledger again; what runs goes on running.
    pub(crate) fn replay_anew(&mut self) -> Result<(), WriterError> {
        self.core.forget();
        self.replay()?;
        // What was erased here once came back from the platform.
        let erased: Vec<ContractNo> = self.core.book.contracts.values().filter(|c| c.erased).map(|c| c.no).collect();
        for no in erased {
            self.ledger.erase(&key_of(Some(no)))?;
        }
        // What the blocks that came back have ended is not metered on.
        let running: Vec<ContractNo> = self.core.services.keys().copied().collect();
        for no in running {
            let is_metered = self.core.book.contracts.get(&no).is_some_and(|contract| self.core.is_metered(contract));
            if !is_metered {
                self.core.services.remove(&no);
                self.sampler.send(Command::Stop { contract: no }).map_err(|_| WriterError::Sampler)?;
            }
        }
        Ok(())
    }

    /// A bad tail that open set aside is said in the log, with its length and hash.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn record_set_aside(&mut self) -> Result<(), WriterError> {
        let mut entries = Vec::new();
        for tail in &self.set_aside {
            // Every open reports every tail; its hash is its key, so each is said once.
            if !self.ledger.find(&tail.sm3)?.is_empty() {
                continue;
            }
            let (segment, offset, length, sm3) = (tail.segment, tail.offset, tail.length, Octets(tail.sm3));
            let body = encode(&SetAside { segment, offset, length, sm3 }, "SetAside");
            let body = body.map_err(|e| WriterError::Entry(e.to_string()))?;
            entries.push(NewEntry { kind: EntryKind::SetAside.number(), body, key: tail.sm3, sealed: false });
        }
        if !entries.is_empty() {
            tracing::error!(count = entries.len(), "a damaged tail was set aside");
            self.append(&[NewBlock { log: Log::Trade, entries }])?;
        }
        self.set_aside.clear();
        Ok(())
    }

    fn is_marked(&self) -> Result<bool, WriterError> {
        match self.storage.open(MARK, Access::Read) {
            Ok(_) => Ok(true),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.mark_failed(source)),
        }
    }

    fn set_mark(&self, comparison: &Comparison) -> Result<(), WriterError> {
        mark(&*self.storage, &self.shown(comparison)).map_err(|source| self.mark_failed(source))
    }

    fn clear_mark(&self) -> Result<(), WriterError> {
        match self.storage.remove(MARK) {
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done.and_then(|()| self.storage.sync_dir()).map_err(|source| self.mark_failed(source)),
        }
    }

    fn mark_failed(&self, source: std::io::Error) -> WriterError {
        WriterError::Mark { path: self.storage.path(MARK), source }
    }
}

/// What waits for the end of a comparison, beside windows of running workloads: those wait in [`Writer::unsigned`].
#[derive(Debug, Default)]
struct Waiting {
    /// What users of this machine ask for; the local API lets one ask at a time.
    asked: Vec<Input>,
}

/// Whether nobody waits for the answer any more: what was asked may have been asked again since.
fn is_given_up(input: &Input) -> bool {
    match input {
        Input::Correct { answer, .. }
        | Input::Reading { answer, .. }
        | Input::Erase { answer, .. }
        | Input::Accept(answer)
        | Input::Rotate(answer) => answer.is_closed(),
        _ => true,
    }
}

fn refuse(input: Input) {
    let en = "the node fetches back what its ledger lacks; ask again later";
    let busy = problem("busy", None, en, "节点正在取回其账本所缺的区块，请稍后重试");
    if let Input::Correct { answer, .. }
    | Input::Reading { answer, .. }
    | Input::Erase { answer, .. }
    | Input::Accept(answer)
    | Input::Rotate(answer) = input
    {
        answer.send(serde_json::json!({ "error": busy }).to_string()).ok();
    }
}

/// From now on a start waits for the platform's word before it signs, durably.
///
/// # Errors
/// Those of the disk.
pub(crate) fn mark(storage: &dyn Storage, why: &str) -> std::io::Result<()> {
    let file = storage.open(MARK, Access::Create)?;
    file.write_at(why.as_bytes(), 0)?;
    file.sync_data()?;
    storage.sync_dir()
}

/// The epoch of a ledger's newest blocks.
pub(crate) fn epoch_of(ledger: &Ledger) -> u64 {
    Log::ALL.into_iter().filter_map(|log| ledger.head(log)).map(|head| head.header.epoch).max().unwrap_or(0)
}

/// Whether an error says something of blocks that came, and nothing of this ledger.
fn is_about_blocks(error: &hufu_ledger::Error) -> bool {
    matches!(error, hufu_ledger::Error::Refused { .. })
}
