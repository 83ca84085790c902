//! The small world of the core's tests: a buyer, a platform and a ledger around `Core::handle` and `Core::due`. No thread,
//! no socket; the ledger lies in a temporary directory. The tests are in `mod.rs`.

use std::collections::VecDeque;

use hufu_gm::{
    Signed,
    ca::{self, Role, Terms},
    cert::Certificate,
    sm2::SecretKey,
    sm3::sm3,
};
use hufu_ledger::{Ledger, Log, NewBlock, NewEntry, Options, Signer};
use hufu_metering::{OrderDraft, Total, WindowDraft};
use hufu_trade::{
    decode, encode,
    entry::{Deal, EntryKind, Receipt, ReceivedBill, Refused, Rules, key_of},
    if2::{Accepted, Answer, Browse, Envelope, Interface, Offered, PLATFORM, Sealed, SendOrder, Topic},
    octets::{ContractNo, Octets},
    parent::ParentOrder,
    rating::Recorded,
    resource::{Kind, Resource},
    statement::{ContractValue, Offer, Payment, Requirement, RequirementItem, Statement, contract_no},
    tariff::Tariff,
    usage::{MeterIdentity, Reason, Status, TimeQuality, TimeState, UsageRecord},
};

use crate::{
    catalogue::{ProductConfig, Requires},
    clock::{Now, ledger_quality},
    exchange::name_of,
    hardware::Hardware,
    node::{Core, Effect, Event, Identity},
    signer::NodeKey,
    stock::{Capacity, NO_GPU_SOLD, Shop},
};

pub(super) const START_NS: i64 = 1_790_000_000_000_000_000;
pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const QUALITY: TimeQuality = TimeQuality { state: TimeState::Synchronised, max_error_ns: Some(1000) };
pub(super) const POOL: &str = "site-1/node-1";

/// One party: a key and its certificate.
pub(super) struct Party {
    pub(super) key: SecretKey,
    pub(super) certificate: Certificate,
}

pub(super) fn party(issuer: Option<&Party>, name: &str, scalar: u8) -> Party {
    let key = SecretKey::from_scalar(&[scalar; 32]).unwrap();
    let (from, to) = (START_NS / 1_000_000_000 - 1000, START_NS / 1_000_000_000 + 86_400 * 300);
    let terms = Terms { serial: &[scalar; 8], not_before_s: from, not_after_s: to, dns_names: &[] };
    let subject = format!("CN={name}");
    let certificate = match issuer {
        None => ca::root(&key, &subject, None, &terms),
        Some(ca) => ca::issue(&ca.certificate, &ca.key, Role::Signer, &subject, &key.public_key(), &terms),
    };
    Party { key, certificate: certificate.unwrap() }
}

/// The whole small world.
pub(super) struct Market {
    pub(super) core: Core,
    pub(super) ledger: Ledger,
    pub(super) dir: tempfile::TempDir,
    /// Where the ledger and its keys lie side by side.
    _home: tempfile::TempDir,
    pub(super) platform: Party,
    pub(super) buyer: Party,
    pub(super) elapsed_ns: u64,
    pub(super) published: Vec<(Topic, Vec<u8>)>,
    pub(super) alarms: Vec<String>,
    /// Log and height of each block, in the order they were written.
    pub(super) appended: Vec<(Log, u64)>,
    pub(super) withdrawn: Vec<ContractNo>,
    pub(super) provided: Vec<ContractNo>,
    /// Workloads that were suspended or stopped.
    pub(super) workloads: Vec<(&'static str, ContractNo)>,
    /// The parent order that what is ordered next is a child of.
    pub(super) parent: Option<ParentOrder>,
}

pub(super) fn core(platform: &Party, node: &Party, root: &Party) -> Core {
    let tariff = Tariff::from_toml("[[price]]\nresource = \"cpu\"\nprice = \"0.36\"\n").unwrap();
    let product = ProductConfig {
        id: "small".to_owned(),
        class: "IaaS".to_owned(),
        name: "Small".to_owned(),
        cpu_millicores: 1000,
        memory_bytes: 1 << 30,
        disk: crate::disk::Disk::default(),
        gpu: None,
        term_max_ns: 3600 * SECOND,
        sla: None,
        delivery: None,
        requires: Requires::default(),
        is_listed: true,
        tariff,
    };
    let sources = vec![(Resource::used(Kind::Cpu), Ok("cgroup-v2:cpu.stat".to_owned()))];
    let capacity = Capacity {
        cpu_millicores: 2000,
        memory_bytes: 8 << 30,
        storage_bytes: 0,
        sources,
        gpus: Err(NO_GPU_SOLD.to_owned()),
    };
    let identity = Identity {
        pool: POOL.to_owned(),
        key: NodeKey::File(node.key.clone()),
        cert_id: Octets(node.certificate.id()),
        salt_key: [9; 32].into(),
        anchors: vec![root.certificate.clone()],
        platform: platform.certificate.clone(),
    };
    let certificates = vec![node.certificate.der().to_vec()];
    Core::new(
        identity,
        Shop { products: vec![product], capacity, certificates, hardware: Hardware::default(), profile: None },
        5 * SECOND,
        [1; 16],
    )
}

pub(super) fn replay(core: &mut Core, ledger: &Ledger) {
    let mut finance = 0;
    for height in 0..ledger.size(Log::Trade) {
        let block = hufu_ledger::Block::from_bytes(&ledger.block(Log::Trade, height).unwrap()).unwrap();
        for (at, bytes) in block.entry_refs().iter().zip(block.entries()) {
            let entry = hufu_ledger::Entry::from_bytes(bytes).unwrap();
            while entry.kind == EntryKind::FinanceLink.number() && finance < ledger.size(Log::Finance) {
                let block = hufu_ledger::Block::from_bytes(&ledger.block(Log::Finance, finance).unwrap()).unwrap();
                let entry = hufu_ledger::Entry::from_bytes(&block.entries()[0]).unwrap();
                core.apply(&name_of(&block.entry_refs()[0]), entry.kind, &entry.body).unwrap();
                finance += 1;
                if finance > 0 {
                    break;
                }
            }
            core.apply(&name_of(at), entry.kind, &entry.body).unwrap();
        }
    }
}

impl Market {
    pub(super) fn open() -> Self {
        Self::under(hufu_trade::rules::DEFAULT)
    }

    /// A node whose first entry is this rule table.
    pub(super) fn under(rules: &str) -> Self {
        // Segments so small that a contract lies in several.
        Self::with_segments(rules, 4096)
    }

    /// The same with segments of so many bytes.
    pub(super) fn with_segments(rules: &str, segment_size: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir_in(home.path()).unwrap();
        let root = party(None, "root", 1);
        let (platform, node, buyer) =
            (party(Some(&root), "site-1/platform", 2), party(Some(&root), POOL, 3), party(Some(&root), "buyer", 4));
        let options = Options { segment_size, ..Options::new(POOL) };
        Ledger::create(dir.path(), &options, [5; 16]).unwrap();
        let (ledger, _) = Ledger::open(dir.path(), &options).unwrap();
        let core = core(&platform, &node, &root);
        let (published, alarms, appended, withdrawn, provided, workloads) = Default::default();
        let mut market = Self {
            core,
            ledger,
            dir,
            _home: home,
            platform,
            buyer,
            elapsed_ns: 0,
            published,
            alarms,
            appended,
            withdrawn,
            provided,
            workloads,
            parent: None,
        };
        let rules = Rules { version: 1, text: rules.to_owned() };
        let body = encode(&rules, "Rules").unwrap();
        let entry = NewEntry { kind: EntryKind::Rules.number(), body, key: key_of(None), sealed: false };
        market.execute(vec![Effect::Append(vec![NewBlock { log: Log::Trade, entries: vec![entry] }])]);
        market
    }

    pub(super) fn now(&self) -> Now {
        let real_ns = START_NS + i64::try_from(self.elapsed_ns).unwrap();
        Now { real_ns, boot_ns: self.elapsed_ns, mono_ns: self.elapsed_ns }
    }

    pub(super) fn pass(&mut self, ns: u64) {
        self.elapsed_ns += ns;
        self.settle();
    }

    pub(super) fn event(&mut self, event: Event) {
        let effects = self.core.handle(self.now(), event).unwrap();
        self.execute(effects);
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..50 {
            let effects = self.core.due(self.now(), QUALITY).unwrap();
            if effects.is_empty() {
                return;
            }
            self.execute(effects);
        }
        panic!("the core never settles");
    }

    pub(super) fn execute(&mut self, effects: Vec<Effect>) {
        let mut queue: VecDeque<Effect> = effects.into();
        while let Some(effect) = queue.pop_front() {
            match effect {
                Effect::Append(blocks) => {
                    let identity = self.core.identity.clone();
                    let signer =
                        Signer { key: &identity.key, cert_id: identity.cert_id.0, salt_key: &identity.salt_key };
                    let now = self.now();
                    let written =
                        self.ledger.append(&blocks, &signer, 0, now.real_ns, ledger_quality(QUALITY)).unwrap();
                    self.appended
                        .extend(blocks.iter().zip(&written).map(|(new, done)| (new.log, done.entries[0].height)));
                    let pairs = blocks.into_iter().zip(written).flat_map(|(new, done)| {
                        new.entries.into_iter().zip(done.entries).map(|(e, at)| (name_of(&at), e.kind, e.body))
                    });
                    let entries = pairs.collect();
                    queue.extend(self.core.handle(now, Event::Appended(entries)).unwrap());
                }
                Effect::Publish { topic, payload, .. } => self.published.push((topic, payload)),
                Effect::Reply { interface, re, contract, signed } => {
                    let names = self.core.reply_entries(interface, contract, signed);
                    let entries: Vec<_> = names
                        .into_iter()
                        .map(|name| {
                            let bytes = self.ledger.entry(Log::Trade, name.height, name.index).unwrap();
                            let body = hufu_ledger::Entry::from_bytes(&bytes).unwrap().body;
                            (name, bytes, body)
                        })
                        .collect();
                    queue.extend(self.core.reply(self.now(), (interface, &re, contract), &entries));
                }
                Effect::ReadRecords(contract) => {
                    let records = self.records(contract);
                    queue.extend(self.core.handle(self.now(), Event::Records { contract, records }).unwrap());
                }
                Effect::Provision(no) => self.provided.push(no),
                Effect::Withdraw(no) => self.withdrawn.push(no),
                Effect::Pause(no) => self.workloads.push(("pause", no)),
                Effect::Remove(no) => self.workloads.push(("remove", no)),
                Effect::CheckReceipt { receipt, signed } => {
                    queue.extend(self.core.handle(self.now(), Event::Receipted { receipt, signed }).unwrap());
                }
                Effect::Alarm { what, detail } => self.alarms.push(format!("{what}: {detail}")),
                Effect::SendBlocks { .. } => {}
            }
        }
    }

    pub(super) fn records(&self, contract: ContractNo) -> Vec<Recorded> {
        let found = self.ledger.find(&key_of(Some(contract))).unwrap();
        let trade = found.into_iter().filter(|at| at.log == Log::Trade);
        trade
            .filter_map(|at| {
                let bytes = self.ledger.entry(at.log, at.height, at.index).unwrap();
                let entry = hufu_ledger::Entry::from_bytes(&bytes).unwrap();
                let usage = matches!(EntryKind::from_number(entry.kind), Some(EntryKind::Usage | EntryKind::Gap));
                usage.then(|| (name_of(&at), decode::<UsageRecord>(&entry.body, "UsageRecord").unwrap()))
            })
            .collect()
    }

    /// Kinds and bodies of all entries, those of the trade log first.
    pub(super) fn entries(&self) -> Vec<(EntryKind, Vec<u8>)> {
        let blocks = [Log::Trade, Log::Finance].into_iter().flat_map(|log| self.ledger.blocks(log, 0));
        let blocks = blocks.map(|found| hufu_ledger::Block::from_bytes(&found.unwrap().1).unwrap());
        let entries = |block: hufu_ledger::Block| {
            let entries = block.entries().iter().map(|bytes| hufu_ledger::Entry::from_bytes(bytes).unwrap());
            entries.map(|entry| (EntryKind::from_number(entry.kind).unwrap(), entry.body)).collect::<Vec<_>>()
        };
        blocks.flat_map(entries).collect()
    }

    /// The platform says something; the body of the node's last answer, if it answered.
    pub(super) fn say<T: serde::Serialize>(&mut self, interface: Interface, body: &T) -> Option<serde_json::Value> {
        let key = self.platform.key.clone();
        self.say_as(interface, body, &key, Octets(self.platform.certificate.id()))
    }

    pub(super) fn say_as<T: serde::Serialize>(
        &mut self,
        interface: Interface,
        body: &T,
        key: &SecretKey,
        cert: Octets<32>,
    ) -> Option<serde_json::Value> {
        self.published.clear();
        let now = self.now().real_ns;
        let (_, payload) = Envelope::seal(interface, PLATFORM, POOL, now, None, None, body, key, cert).unwrap();
        let topic = Topic::Call { pool: POOL.to_owned(), interface, answer: interface.is_up() };
        self.event(Event::Message { topic, payload });
        let answer = Topic::Call { pool: POOL.to_owned(), interface, answer: true };
        let (_, bytes) = self.published.iter().find(|(topic, _)| *topic == answer)?;
        let opened = Envelope::parse(bytes).unwrap();
        let key = self.core.identity.key.public_key();
        Some(opened.open::<serde_json::Value>(&key, interface, PLATFORM, bytes).unwrap().payload.body)
    }

    pub(super) fn browse_statement(&self, nonce: u8) -> Statement {
        let (buyer, time) = (Octets(self.buyer.certificate.id()), self.now().real_ns);
        let nonce = Octets([nonce; 16]);
        let contract_no = contract_no(buyer, POOL, nonce, time).unwrap();
        Statement {
            version: 1,
            con_type: 1,
            contract_no,
            contract_time: time,
            computing_pool_id: POOL.to_owned(),
            buyer,
            nonce: Some(nonce),
            offer: None,
            follows: None,
            requirement: None,
            contract_value: None,
            score: None,
        }
    }

    pub(super) fn browse(&mut self, nonce: u8) -> (Offer, Octets<32>) {
        let statement = encode(&self.browse_statement(nonce), "Statement").unwrap();
        let signature = self.buyer.key.sign(&statement).unwrap();
        let request = Browse {
            statement: Sealed(statement),
            signature: Sealed(signature),
            certificates: vec![Sealed(self.buyer.certificate.der().to_vec())],
            product_id: "small".to_owned(),
        };
        let answer = self.say(Interface::Browse, &request).expect("an answer");
        let Answer::Ok(offered) = serde_json::from_value::<Answer<Offered>>(answer).unwrap() else { panic!("refused") };
        let signed = Signed::from_bytes(&offered.offer.0).unwrap();
        assert!(signed.verify(&self.core.identity.key.public_key()).is_valid());
        (decode(signed.tbs(), "Offer").unwrap(), Octets(sm3(&[signed.tbs()])))
    }

    pub(super) fn order_request(
        &self,
        offer: &Offer,
        hash: Octets<32>,
        term_s: u64,
        edit: impl FnOnce(&mut Statement),
    ) -> SendOrder {
        let requirement = Requirement {
            catalogue_revision: offer.catalogue_revision,
            items: vec![RequirementItem { product_id: "small".to_owned(), quantity: 1 }],
            term_ns: term_s * SECOND,
            tariff: offer.tariff.hash().unwrap(),
            parent: self.parent,
        };
        let value = ContractValue { payment: Payment::Postpaid, amount: "10".parse().unwrap() };
        let mut statement = Statement {
            version: 1,
            con_type: 2,
            contract_no: offer.contract_no,
            contract_time: self.now().real_ns,
            computing_pool_id: POOL.to_owned(),
            buyer: offer.buyer,
            nonce: None,
            offer: Some(hash),
            follows: Some(offer.browse),
            requirement: Some(requirement),
            contract_value: Some(value),
            score: None,
        };
        edit(&mut statement);
        self.signed(&statement)
    }

    pub(super) fn signed(&self, statement: &Statement) -> SendOrder {
        let statement = encode(statement, "Statement").unwrap();
        let signature = self.buyer.key.sign(&statement).unwrap();
        SendOrder { statement: Sealed(statement), signature: Sealed(signature) }
    }

    pub(super) fn deal(&mut self, nonce: u8, term_s: u64) -> (ContractNo, Deal) {
        let (offer, hash) = self.browse(nonce);
        let request = self.order_request(&offer, hash, term_s, |_| {});
        let answer = self.say(Interface::SendOrder, &request).expect("an answer");
        let Answer::Ok(accepted) = serde_json::from_value::<Answer<Accepted>>(answer).unwrap() else {
            panic!("refused")
        };
        let entry = hufu_ledger::Entry::from_bytes(&accepted.entry.0).unwrap();
        (offer.contract_no, decode(&entry.body, "Deal").unwrap())
    }

    pub(super) fn draft(&self, no: ContractNo, reason: Reason, total: u128) -> OrderDraft {
        let now = self.now();
        let resource = Resource::used(Kind::Cpu);
        OrderDraft {
            order: no.0,
            reason,
            start_real_ns: now.real_ns,
            end_real_ns: now.real_ns,
            elapsed_ns: 5 * SECOND,
            measured_ns: 5 * SECOND,
            unsampled_ns: 0,
            identity: MeterIdentity {
                boot_id: Octets([1; 16]),
                source: "cgroup-v2".to_owned(),
                path: "hufu-orders/x".to_owned(),
                instance: 7,
                resolved: None,
                attached: None,
            },
            totals: vec![Total { resource, status: Status::Measured, total: Some(total), why: None }],
            delivered: Vec::new(),
            why: None,
            lost_cpu_ns_max: None,
            samples_due: 5,
            samples_taken: 5,
        }
    }

    pub(super) fn window(&mut self, orders: Vec<OrderDraft>) {
        let now = self.now();
        let draft = WindowDraft {
            start_real_ns: now.real_ns - 5_000_000_000,
            end_real_ns: now.real_ns,
            elapsed_ns: 5 * SECOND,
            samples_due: 5,
            samples_taken: 5,
            boot_id: [1; 16],
            orders,
            totals: Vec::new(),
        };
        self.event(Event::Window { draft, quality: QUALITY });
    }

    pub(super) fn receipt(&mut self, log: Log) {
        self.receive(log, Vec::new());
    }

    /// The platform refuses the bill of a contract.
    pub(super) fn refuse(&mut self, no: ContractNo) {
        let entry = self.core.book.contracts[&no].bills[0].name.hash;
        self.receive(Log::Finance, vec![Refused { entry, code: "amount".to_owned() }]);
    }

    fn receive(&mut self, log: Log, refused: Vec<Refused>) {
        let bills = if log == Log::Finance {
            let bills = self.core.book.contracts.values().flat_map(|c| &c.bills);
            bills.map(|b| ReceivedBill { entry: b.name.hash, number: b.bill.number.clone() }).collect()
        } else {
            Vec::new()
        };
        let receipt = Receipt {
            version: 1,
            computing_pool_id: POOL.to_owned(),
            log: log.number(),
            size: self.ledger.size(log),
            root: Octets(self.ledger.root(log)),
            stored_at: self.now().real_ns,
            refused,
            bills,
        };
        let tbs = encode(&receipt, "Receipt").unwrap();
        let signed = Signed::seal(tbs, &self.platform.certificate.id(), &self.platform.key).unwrap();
        let topic = Topic::Call { pool: POOL.to_owned(), interface: Interface::Blocks, answer: true };
        self.event(Event::Message { topic, payload: signed.to_bytes().unwrap() });
    }

    pub(super) fn state(&self, no: ContractNo) -> &str {
        &self.core.book.contracts[&no].state
    }

    pub(super) fn code(answer: Option<serde_json::Value>) -> String {
        let answer = answer.expect("an answer");
        answer["error"]["code"].as_str().unwrap_or("accepted").to_owned()
    }
}
