//! The node's core: one closed set of events in, effects out; no clock, no disk, no network. It reads like the sentence
//! *usage -> window -> bill -> block -> receipt*. The writer (`writer.rs`) executes the effects, appends first.

use std::collections::{BTreeMap, BTreeSet};

use hufu_gm::{Signed, cert::Certificate, keyfile::Secret32, sm3::Hash};
use hufu_ledger::{Log, NewBlock};
use hufu_metering::{OrderDraft, WindowDraft};
use hufu_trade::{
    allocation::Device,
    entry::{EntryKind, EntryName, Receipt},
    if2::{Interface, Topic},
    octets::{ContractNo, Digest, Octets},
    rating::Recorded,
    rules::{BILL, BILL_PERIOD},
    usage::{TimeQuality, TimeState},
};

use crate::{
    batch::{Batch, Draft},
    book::{Book, Unreplayable},
    books::{self, BookError},
    change,
    clock::Now,
    contract::Contract,
    demand::Market,
    directory::Known,
    hardware::Hardware,
    outbox::Cursor,
    session::Session,
    signer::NodeKey,
    stock::Shop,
};

/// Who this node is and whom it believes.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// `{site}/{node}`.
    pub(crate) pool: String,
    /// Who signs for it.
    pub(crate) key: NodeKey,
    pub(crate) cert_id: Digest,
    /// 32 secret bytes the entries' salts come from.
    pub(crate) salt_key: Secret32,
    /// Trust anchors for buyers.
    pub(crate) anchors: Vec<Certificate>,
    /// The platform's own certificate.
    pub(crate) platform: Certificate,
}

/// What happens to the node.
#[derive(Debug)]
pub(crate) enum Event {
    /// Time passed.
    Tick,
    /// The broker took our subscriptions.
    Linked,
    /// The link is gone.
    Unlinked,
    /// A message arrived.
    Message { topic: Topic, payload: Vec<u8> },
    /// A usage window closed.
    Window { draft: WindowDraft, quality: TimeQuality },
    /// The final read of an order.
    Final { contract: ContractNo, drafts: Vec<OrderDraft>, quality: TimeQuality },
    /// The order's place is there and its meter runs, or could not be had.
    Provisioned { contract: ContractNo, outcome: Result<Option<String>, String> },
    /// Entries are durable.
    Appended(Vec<(EntryName, u16, Vec<u8>)>),
    /// The platform's receipt, its signature and root already compared with our log.
    Receipted { receipt: Receipt, signed: Vec<u8> },
    /// The workload of a contract could not be suspended or stopped; it is tried again.
    Unstopped { contract: ContractNo, why: String },
    /// The GPUs that an order can be given, or why nothing is known of them; told when they are others than before.
    Gpus { found: Result<Vec<Device>, String> },
    /// Something about a metered order that a person must act on.
    Trouble { contract: ContractNo, what: &'static str, detail: String },
    /// The usage records of a contract, read back for its bill.
    Records { contract: ContractNo, records: Vec<Recorded> },
    /// The hardware that the node sells from.
    Hardware(Hardware),
}

/// What the node wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Append as one frame, durably; then `Appended` comes back. Every event gives at most one.
    Append(Vec<NewBlock>),
    /// Publish.
    Publish { topic: Topic, payload: Vec<u8>, retain: bool },
    /// Send blocks of a log from a height, at most up to another: one, and more as long as they take no more than `room` octets.
    SendBlocks { log: Log, from: u64, below: u64, room: usize },
    /// Compare a receipt with our log, then `Receipted`.
    CheckReceipt { receipt: Receipt, signed: Vec<u8> },
    /// Read a contract's usage records back, then `Records`.
    ReadRecords(ContractNo),
    /// Answer a request of the platform from what the ledger holds; `signed` is SM3 of what a notice's signer signed.
    Reply { interface: Interface, re: String, contract: ContractNo, signed: Option<Hash> },
    /// Make the order's place, start or resume its workload, and start metering.
    Provision(ContractNo),
    /// Final read, then `Final`.
    Withdraw(ContractNo),
    /// Suspend the order's workload; its place stays.
    Pause(ContractNo),
    /// Stop the order's workload and remove its place.
    Remove(ContractNo),
    /// Something a person must know.
    Alarm { what: &'static str, detail: String },
}

/// The node must not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fatal {
    #[error(transparent)]
    Replay(#[from] Unreplayable),
    #[error("cannot write the books: {0}")]
    Book(#[from] BookError),
    #[error(
        "the platform holds {receipted} blocks of log {log}, this disk only {held}: nothing may be signed before the ledger \
         is whole again"
    )]
    Behind { log: u8, held: u64, receipted: u64 },
}

/// A place that could not be provided is tried again after this, ns.
pub(crate) const PROVISION_AGAIN_NS: u64 = 30_000_000_000;

/// How far an order's service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Its place is being made.
    Starting,
    /// It is metered.
    Running,
    /// It could not be provided; tried again at this time, CLOCK_MONOTONIC ns.
    Failed { again_ns: u64 },
    /// The final read is under way.
    Stopping,
}

/// The core.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) identity: Identity,
    pub(crate) book: Book,
    pub(crate) shop: Shop,
    pub(crate) window_ns: u64,
    pub(crate) boot_id: [u8; 16],
    /// Sizes of the logs, trade first.
    pub(crate) sizes: [u64; 2],
    pub(crate) cursors: [Cursor; 2],
    pub(crate) linked: bool,
    /// What runs in this process; rebuilt by asking again after a start.
    pub(crate) services: BTreeMap<ContractNo, Service>,
    /// Orders that may have a place or a workload; after a start those that have one by the ledger or ended not long before.
    pub(crate) places: BTreeSet<ContractNo>,
    /// Those of them whose workload was suspended.
    pub(crate) paused: BTreeSet<ContractNo>,
    /// What the clock is worth, as of the last look at what is due.
    pub(crate) quality: TimeQuality,
    /// Where the buyer reaches the service.
    pub(crate) addresses: BTreeMap<ContractNo, String>,
    /// Receipts that wait for the next block.
    receipts: [Option<Vec<u8>>; 2],
    /// The bill is being computed.
    pub(crate) billing: Vec<ContractNo>,
    /// Next payment question about a bill, by its entry's hash: CLOCK_MONOTONIC ns, and the pause after it.
    pub(crate) asks: BTreeMap<Digest, (u64, u64)>,
    /// When a bill is pushed again, by its entry's hash, CLOCK_MONOTONIC ns.
    pub(crate) pushed: BTreeMap<Digest, u64>,
    /// Revision of the catalogue the platform has.
    pub(crate) told_revision: Option<u64>,
    /// The node's token.
    pub(crate) session: Session,
    /// The conversation about demands.
    pub(crate) market: Market,
    /// Windows whose order sums exceeded the host's counters.
    pub(crate) violations: u64,
    /// Whether only users of whom the platform told may buy.
    pub(crate) accounts_required: bool,
    /// What a directory says of buyers' certificates; absent where none is asked.
    pub(crate) directory: Option<Known>,
}

impl Core {
    /// A core before its ledger is replayed into it.
    pub(crate) fn new(identity: Identity, shop: Shop, window_ns: u64, boot_id: [u8; 16]) -> Self {
        Self {
            identity,
            book: Book::default(),
            shop,
            window_ns,
            boot_id,
            sizes: [0; 2],
            cursors: [Cursor::default(); 2],
            linked: false,
            services: BTreeMap::new(),
            places: BTreeSet::new(),
            paused: BTreeSet::new(),
            quality: TimeQuality { state: TimeState::Relative, max_error_ns: None },
            addresses: BTreeMap::new(),
            receipts: [None, None],
            billing: Vec::new(),
            asks: BTreeMap::new(),
            pushed: BTreeMap::new(),
            told_revision: None,
            session: Session::default(),
            market: Market::default(),
            violations: 0,
            accounts_required: false,
            directory: None,
        }
    }

    /// Forgets what the ledger told, before it is replayed anew; what runs in this process stays known.
    pub(crate) fn forget(&mut self) {
        (self.book, self.sizes, self.cursors) = (Book::default(), [0; 2], [Cursor::default(); 2]);
        (self.receipts, self.told_revision) = ([None, None], None);
        self.billing.clear();
        self.asks.clear();
        self.pushed.clear();
    }

    /// A batch at the logs' present ends.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch::new(&self.identity.salt_key, self.sizes)
    }

    /// DER of `Signed` over `tbs` by the node.
    ///
    /// # Errors
    /// Those of [`Signed::seal`].
    pub(crate) fn seal(&self, tbs: Vec<u8>) -> Result<Vec<u8>, hufu_gm::Error> {
        Signed::seal(tbs, &self.identity.cert_id.0, &self.identity.key)?.to_bytes()
    }

    /// Takes durable entries into account, live and in replay.
    ///
    /// # Errors
    /// [`Unreplayable`].
    pub(crate) fn apply(&mut self, at: &EntryName, kind: u16, body: &[u8]) -> Result<(), Unreplayable> {
        self.grow(at);
        self.book.apply(at, kind, body)
    }

    /// The log of an entry is as high as it.
    pub(crate) fn grow(&mut self, at: &EntryName) {
        if let Some(size) = self.sizes.get_mut(usize::from(at.log)) {
            *size = (*size).max(at.height + 1);
        }
    }

    /// Takes one event into account and says what to do.
    ///
    /// # Errors
    /// [`Fatal`]: the daemon stops.
    pub(crate) fn handle(&mut self, now: Now, event: Event) -> Result<Vec<Effect>, Fatal> {
        match event {
            Event::Tick => Ok(Vec::new()),
            Event::Linked => {
                self.linked = true;
                self.cursors.iter_mut().for_each(Cursor::relinked);
                self.told_revision = None;
                self.asks.clear();
                self.market.relinked(now.mono_ns);
                self.session.relinked(now.mono_ns);
                Ok(Vec::new())
            }
            Event::Unlinked => {
                self.linked = false;
                Ok(Vec::new())
            }
            Event::Message { topic, payload } => Ok(self.message(now, topic, &payload)),
            Event::Window { draft, quality } => self.window(draft, quality),
            Event::Final { contract, drafts, quality } => self.finish(now, contract, drafts, quality),
            Event::Provisioned { contract, outcome } => Ok(self.provisioned(now, contract, outcome)),
            Event::Appended(entries) => {
                for (at, kind, body) in &entries {
                    self.apply(at, *kind, body)?;
                }
                Ok(Vec::new())
            }
            Event::Receipted { receipt, signed } => self.receipted(now, receipt, signed),
            Event::Unstopped { contract, why } => {
                let detail = format!("{contract}: {why}");
                Ok(vec![Effect::Alarm { what: "workload not suspended or stopped", detail }])
            }
            Event::Gpus { found } => Ok(self.devices(found)),
            Event::Trouble { contract, what, detail } => {
                Ok(vec![Effect::Alarm { what, detail: format!("{contract}: {detail}") }])
            }
            Event::Records { contract, records } => self.bill(now, contract, &records),
            Event::Hardware(hardware) => Ok(self.hardware(hardware)),
        }
    }

    fn window(&mut self, mut draft: WindowDraft, quality: TimeQuality) -> Result<Vec<Effect>, Fatal> {
        // The sampler goes on with orders before the ledger was read; it says that some of them are over.
        draft.orders.retain(|order| {
            let contract = self.book.contracts.get(&Octets(order.order));
            contract.is_some_and(|contract| self.is_metered(contract))
        });
        let mut effects = Vec::new();
        for total in draft.totals.iter().filter(|total| total.check == "violated") {
            self.violations += 1;
            let detail = format!("code {}: orders {} host {:?}", total.code, total.orders, total.host);
            effects.push(Effect::Alarm { what: "conservation violated", detail });
        }
        if draft.orders.is_empty() {
            return Ok(effects);
        }
        let waiting = self.waiting_receipts();
        effects.push(Effect::Append(books::window(self, &draft, quality, waiting)?));
        Ok(effects)
    }

    fn waiting_receipts(&mut self) -> Vec<Draft> {
        let waiting = self.receipts.iter_mut().filter_map(Option::take);
        waiting.map(|signed| (EntryKind::Receipt, None, signed)).collect()
    }

    fn finish(
        &mut self,
        now: Now,
        no: ContractNo,
        mut drafts: Vec<OrderDraft>,
        quality: TimeQuality,
    ) -> Result<Vec<Effect>, Fatal> {
        self.services.remove(&no);
        let Some(contract) = self.book.contracts.get(&no).filter(|contract| self.is_metered(contract)) else {
            return Ok(Vec::new());
        };
        if drafts.is_empty() {
            drafts.push(books::unmetered(contract, &self.metered(contract), now.real_ns, self.boot_id));
        }
        let act = self.leaving(contract, now);
        Ok(vec![Effect::Append(books::finish(self, contract, &drafts, quality, (now.real_ns, act))?)])
    }

    fn provisioned(&mut self, now: Now, no: ContractNo, outcome: Result<Option<String>, String>) -> Vec<Effect> {
        match outcome {
            Ok(address) => {
                self.services.insert(no, Service::Running);
                self.addresses.extend(address.map(|address| (no, address)));
                Vec::new()
            }
            Err(why) => {
                let again_ns = now.mono_ns.saturating_add(PROVISION_AGAIN_NS);
                self.services.insert(no, Service::Failed { again_ns });
                vec![Effect::Alarm { what: "order could not be provided", detail: format!("{no}: {why}") }]
            }
        }
    }

    fn bill(&mut self, now: Now, no: ContractNo, records: &[Recorded]) -> Result<Vec<Effect>, Fatal> {
        let Some(contract) = self.book.contracts.get(&no) else { return Ok(Vec::new()) };
        let Some((.., table)) = self.book.table_of(Some(contract)) else { return Ok(Vec::new()) };
        let is_final = table.row(&contract.state, BILL).is_some();
        let end = contract.period_over(table.is_metered(&contract.state), now.real_ns).filter(|_| !is_final);
        if !is_final && (end.is_none() || table.row(&contract.state, BILL_PERIOD).is_none()) {
            self.billing.retain(|other| *other != no);
            return Ok(Vec::new());
        }
        if records.is_empty() {
            // The service ended before its first record: one gap record makes the chain, and the bill, whole.
            let draft = books::unmetered(contract, &self.metered(contract), now.real_ns, self.boot_id);
            let quality = TimeQuality { state: TimeState::Relative, max_error_ns: None };
            let blocks = books::window(self, &empty_window(&draft, now, self.boot_id), quality, Vec::new())?;
            self.billing.retain(|other| *other != no);
            return Ok(vec![Effect::Append(blocks)]);
        }
        if contract.spans.is_empty() {
            // All of it was billed before service ended: the last bill is over the time since, in which nothing ran.
            let mut batch = self.batch();
            books::suspended(self, &mut batch, contract, now.real_ns)?;
            let blocks = batch.finish();
            self.billing.retain(|other| *other != no);
            return Ok(vec![Effect::Append(blocks)]);
        }
        match books::bill(self, contract, records, end) {
            Ok(blocks) => {
                self.billing.retain(|other| *other != no);
                Ok(vec![Effect::Append(blocks)])
            }
            // One bill that cannot be computed must not stop the others; it is tried again after a restart.
            Err(BookError::Trade(error)) => {
                Ok(vec![Effect::Alarm { what: "bill cannot be computed", detail: format!("{no}: {error}") }])
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Blocks of a log below this height were sent, the last of them in a message of so many octets.
    pub(crate) fn sent_below(&mut self, log: Log, height: u64, octets: usize) {
        if let Some(cursor) = self.cursors.get_mut(usize::from(log.number())) {
            cursor.sent_below(height, octets);
        }
    }

    fn receipted(&mut self, now: Now, receipt: Receipt, signed: Vec<u8>) -> Result<Vec<Effect>, Fatal> {
        let log = usize::from(receipt.log);
        let held = self.sizes.get(log).copied().unwrap_or(0);
        if receipt.size > held {
            return Err(Fatal::Behind { log: receipt.log, held, receipted: receipt.size });
        }
        if self.cursors.get(log).and_then(Cursor::acked).is_some_and(|acked| receipt.size < acked) {
            // An old receipt, or a platform that lost what it held, of the other log too. Each log waits for what the platform
            // holds of the other, so what it holds is asked for anew, of both.
            self.cursors.iter_mut().for_each(Cursor::relinked);
            return Ok(Vec::new());
        }
        let is_stuck = self.cursors.get_mut(log).is_some_and(|cursor| cursor.receipt(now.mono_ns, receipt.size));
        // What the platform does not take waits for the other log there, of which a late receipt may have said too much.
        if is_stuck && let Some(other) = self.cursors.get_mut(1 - log).filter(|other| other.is_answered()) {
            other.relinked();
        }
        let known = self.book.receipted.get(log).and_then(Option::as_ref).map_or(0, |old| old.size);
        let mut effects: Vec<Effect> = receipt
            .refused
            .iter()
            .map(|refused| Effect::Alarm {
                what: "the platform refuses an entry",
                detail: format!("{} {}", refused.entry, refused.code),
            })
            .collect();
        if receipt.size <= known {
            return Ok(effects);
        }
        // Where nothing is metered no window will take it along, but a backlog has a last receipt.
        let is_last = self.services.is_empty() && receipt.size >= self.book.obligation.get(log).copied().unwrap_or(0);
        let at_once = !receipt.bills.is_empty() || !receipt.refused.is_empty() || is_last;
        self.book.receipt(receipt.clone());
        if let Some(slot) = self.receipts.get_mut(log) {
            *slot = Some(signed);
        }
        if at_once {
            let waiting = self.waiting_receipts();
            effects.push(Effect::Append(change::receipts(self, now.real_ns, &receipt, waiting)?));
        }
        Ok(effects)
    }

    /// Whether the contract's state is one in which its order is metered.
    pub(crate) fn is_metered(&self, contract: &Contract) -> bool {
        self.book.table_of(Some(contract)).is_some_and(|(.., table)| table.is_metered(&contract.state))
    }
}

fn empty_window(draft: &OrderDraft, now: Now, boot_id: [u8; 16]) -> WindowDraft {
    WindowDraft {
        start_real_ns: draft.start_real_ns,
        end_real_ns: now.real_ns,
        elapsed_ns: draft.elapsed_ns,
        samples_due: 0,
        samples_taken: 0,
        boot_id,
        orders: vec![draft.clone()],
        totals: Vec::new(),
    }
}
