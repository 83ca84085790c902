//! Tests of the core: a buyer, a platform and a ledger around `Core::handle` and `Core::due`, with time as an argument.
//! No thread, no socket; the ledger lies in a temporary directory.

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
    contract::overall_score,
    decode, encode,
    entry::{Deal, EntryKind, Receipt, ReceivedBill, Rules, key_of},
    if2::{
        Accepted, Answer, Browse, Envelope, Interface, Offered, PLATFORM, Payload, PaymentState, Sealed, SendOrder,
        Topic,
    },
    octets::{ContractNo, Octets, rfc3339},
    rating::Recorded,
    resource::{Kind, Resource},
    statement::{
        ContractValue, Offer, Payment, Requirement, RequirementItem, ScoreCard, ScoreItem, Statement, contract_no,
    },
    tariff::Tariff,
    usage::{MeterIdentity, Reason, Status, TimeQuality, TimeState, UsageRecord},
};

use crate::{
    clock::Now,
    config::ProductConfig,
    exchange::name_of,
    node::{Core, Effect, Event, Identity},
    stock::{Capacity, Shop},
    writer::ledger_quality,
};

const START_NS: i64 = 1_790_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;
const QUALITY: TimeQuality = TimeQuality { state: TimeState::Synchronised, max_error_ns: Some(1000) };
const POOL: &str = "site-1/node-1";

/// One party: a key and its certificate.
struct Party {
    key: SecretKey,
    certificate: Certificate,
}

fn party(issuer: Option<&Party>, name: &str, scalar: u8) -> Party {
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
struct Market {
    core: Core,
    ledger: Ledger,
    dir: tempfile::TempDir,
    platform: Party,
    buyer: Party,
    elapsed_ns: u64,
    published: Vec<(Topic, Vec<u8>)>,
    alarms: Vec<String>,
    withdrawn: Vec<ContractNo>,
    provided: Vec<ContractNo>,
}

fn core(platform: &Party, node: &Party, root: &Party) -> Core {
    let tariff = Tariff::from_toml("[[price]]\nresource = \"cpu\"\nprice = \"0.36\"\n").unwrap();
    let product = ProductConfig {
        id: "small".to_owned(),
        class: "IaaS".to_owned(),
        name: "Small".to_owned(),
        cpu_millicores: 1000,
        memory_bytes: 1 << 30,
        term_max_ns: 3600 * SECOND,
        tariff,
    };
    let sources = vec![(Resource::used(Kind::Cpu), Ok("cgroup-v2:cpu.stat".to_owned()))];
    let capacity = Capacity { cpu_millicores: 2000, memory_bytes: 8 << 30, sources };
    let identity = Identity {
        pool: POOL.to_owned(),
        key: node.key.clone(),
        cert_id: Octets(node.certificate.id()),
        salt_key: [9; 32],
        anchors: vec![root.certificate.clone()],
        platform: platform.certificate.clone(),
    };
    let certificates = vec![node.certificate.der().to_vec()];
    Core::new(identity, Shop { products: vec![product], capacity, certificates }, 5 * SECOND, [1; 16])
}

fn replay(core: &mut Core, ledger: &Ledger) {
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
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = party(None, "root", 1);
        let (platform, node, buyer) =
            (party(Some(&root), "platform", 2), party(Some(&root), "node", 3), party(Some(&root), "buyer", 4));
        let options = Options::new(POOL);
        Ledger::create(dir.path(), &options, [5; 16]).unwrap();
        let (ledger, _) = Ledger::open(dir.path(), &options).unwrap();
        let core = core(&platform, &node, &root);
        let (published, alarms, withdrawn, provided) = Default::default();
        let mut market =
            Self { core, ledger, dir, platform, buyer, elapsed_ns: 0, published, alarms, withdrawn, provided };
        let rules = Rules { version: 1, text: hufu_trade::rules::DEFAULT.to_owned() };
        let body = encode(&rules, "Rules").unwrap();
        let entry = NewEntry { kind: EntryKind::Rules.number(), body, key: key_of(None) };
        market.execute(vec![Effect::Append(vec![NewBlock { log: Log::Trade, entries: vec![entry] }])]);
        market
    }

    fn now(&self) -> Now {
        let real_ns = START_NS + i64::try_from(self.elapsed_ns).unwrap();
        Now { real_ns, boot_ns: self.elapsed_ns, mono_ns: self.elapsed_ns }
    }

    fn pass(&mut self, ns: u64) {
        self.elapsed_ns += ns;
        self.settle();
    }

    fn event(&mut self, event: Event) {
        let effects = self.core.handle(self.now(), event).unwrap();
        self.execute(effects);
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            let effects = self.core.due(self.now(), QUALITY).unwrap();
            if effects.is_empty() {
                return;
            }
            self.execute(effects);
        }
        panic!("the core never settles");
    }

    fn execute(&mut self, effects: Vec<Effect>) {
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
                    let pairs = blocks.into_iter().zip(written).flat_map(|(new, done)| {
                        new.entries.into_iter().zip(done.entries).map(|(e, at)| (name_of(&at), e.kind, e.body))
                    });
                    let entries = pairs.collect();
                    queue.extend(self.core.handle(now, Event::Appended(entries)).unwrap());
                }
                Effect::Publish { topic, payload, .. } => self.published.push((topic, payload)),
                Effect::Reply { interface, re, contract } => {
                    let names = self.core.reply_entries(interface, contract);
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
                Effect::CheckReceipt { receipt, signed } => {
                    queue.extend(self.core.handle(self.now(), Event::Receipted { receipt, signed }).unwrap());
                }
                Effect::Alarm { what, detail } => self.alarms.push(format!("{what}: {detail}")),
                Effect::SendBlocks { .. } => {}
            }
        }
    }

    fn records(&self, contract: ContractNo) -> Vec<Recorded> {
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

    /// The platform says something; the body of the node's last answer, if it answered.
    fn say<T: serde::Serialize>(&mut self, interface: Interface, body: &T) -> Option<serde_json::Value> {
        let key = self.platform.key.clone();
        self.say_as(interface, body, &key, Octets(self.platform.certificate.id()))
    }

    fn say_as<T: serde::Serialize>(
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

    fn browse_statement(&self, nonce: u8) -> Statement {
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

    fn browse(&mut self, nonce: u8) -> (Offer, Octets<32>) {
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

    fn order_request(
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

    fn signed(&self, statement: &Statement) -> SendOrder {
        let statement = encode(statement, "Statement").unwrap();
        let signature = self.buyer.key.sign(&statement).unwrap();
        SendOrder { statement: Sealed(statement), signature: Sealed(signature) }
    }

    fn deal(&mut self, nonce: u8, term_s: u64) -> (ContractNo, Deal) {
        let (offer, hash) = self.browse(nonce);
        let request = self.order_request(&offer, hash, term_s, |_| {});
        let answer = self.say(Interface::SendOrder, &request).expect("an answer");
        let Answer::Ok(accepted) = serde_json::from_value::<Answer<Accepted>>(answer).unwrap() else {
            panic!("refused")
        };
        let entry = hufu_ledger::Entry::from_bytes(&accepted.entry.0).unwrap();
        (offer.contract_no, decode(&entry.body, "Deal").unwrap())
    }

    fn draft(&self, no: ContractNo, reason: Reason, total: u128) -> OrderDraft {
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
            },
            totals: vec![Total { resource, status: Status::Measured, total: Some(total), why: None }],
            why: None,
            lost_cpu_ns_max: None,
            samples_due: 5,
            samples_taken: 5,
        }
    }

    fn window(&mut self, orders: Vec<OrderDraft>) {
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

    fn receipt(&mut self, log: Log) {
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
            refused: Vec::new(),
            bills,
        };
        let tbs = encode(&receipt, "Receipt").unwrap();
        let signed = Signed::seal(tbs, &self.platform.certificate.id(), &self.platform.key).unwrap();
        let topic = Topic::Call { pool: POOL.to_owned(), interface: Interface::Blocks, answer: true };
        self.event(Event::Message { topic, payload: signed.to_bytes().unwrap() });
    }

    fn state(&self, no: ContractNo) -> &str {
        &self.core.book.contracts[&no].state
    }

    fn code(answer: Option<serde_json::Value>) -> String {
        let answer = answer.expect("an answer");
        answer["error"]["code"].as_str().unwrap_or("accepted").to_owned()
    }
}

#[test]
fn a_contract_goes_from_browse_to_scored_and_replays_to_the_same_state() {
    let mut market = Market::open();
    market.event(Event::Linked);
    let (no, deal) = market.deal(1, 20);
    assert_eq!(market.provided, [no]);
    market.event(Event::Provisioned { contract: no, outcome: Ok(None) });
    for (second, total) in [(5, 4), (10, 9)] {
        market.elapsed_ns = second * SECOND;
        let draft = market.draft(no, Reason::Continue, total * 1_000_000_000);
        market.window(vec![draft]);
    }
    market.elapsed_ns = 20 * SECOND;
    market.event(Event::Tick);
    assert_eq!(market.withdrawn, [no]);
    let last = market.draft(no, Reason::End, 100_000_000_000);
    market.event(Event::Final { contract: no, drafts: vec![last], quality: QUALITY });
    assert_eq!(market.state(no), "billed");
    let bill = market.core.book.contracts[&no].bills[0].bill.clone();
    // 100 core-seconds at 0.36 CNY a core-hour are exactly one fen.
    assert_eq!((bill.total.to_string().as_str(), bill.first_seq, bill.last_seq), ("0.01", 0, 2));
    assert_eq!(bill.period_start, deal.contract_time);
    assert!(market.core.book.contracts[&no].bills[0].linked);

    market.receipt(Log::Finance);
    assert!(market.core.book.contracts[&no].bills[0].receipted);
    let number = bill.number.clone();
    let paid = |amount: &str| {
        let (amount_cny, paid_at) = (Some(amount.to_owned()), Some(rfc3339(START_NS)));
        Answer::Ok(PaymentState { bill_no: number.clone(), state: "paid".to_owned(), amount_cny, paid_at })
    };
    market.say(Interface::PaymentConfirm, &paid("0.02"));
    assert_eq!(market.state(no), "billed", "a wrong amount pays nothing");
    market.say(Interface::PaymentConfirm, &paid("0.01"));
    assert_eq!(market.state(no), "paid");
    market.say(Interface::PaymentConfirm, &paid("0.01"));

    let items = vec![ScoreItem { code: 0, score: 87 }];
    let table = market.core.book.tables[0].2.clone();
    let overall = overall_score(&table, &items).unwrap();
    let (offer_hash, deal_hash) = {
        let contract = &market.core.book.contracts[&no];
        (contract.offer.as_ref().unwrap().2, contract.deal.as_ref().unwrap().0.hash)
    };
    let mut score = market.browse_statement(1);
    (score.con_type, score.nonce, score.contract_no) = (4, None, no);
    (score.offer, score.follows) = (Some(offer_hash), Some(deal_hash));
    score.score = Some(ScoreCard { overall: overall + 1, items: items.clone() });
    let wrong = market.signed(&score);
    assert_eq!(Market::code(market.say(Interface::Score, &wrong)), "amount");
    score.score = Some(ScoreCard { overall, items });
    let right = market.signed(&score);
    assert_eq!(Market::code(market.say(Interface::Score, &right)), "accepted");
    assert_eq!(market.state(no), "scored");
    let size = market.ledger.size(Log::Trade);
    assert_eq!(Market::code(market.say(Interface::Score, &right)), "accepted", "the same again is answered again");
    assert_eq!(market.ledger.size(Log::Trade), size, "and written once");
    score.contract_time += 1;
    let other = market.signed(&score);
    assert_eq!(Market::code(market.say(Interface::Score, &other)), "duplicate");

    let root = party(None, "root", 1);
    let mut again = core(&market.platform, &party(Some(&root), "node", 3), &root);
    replay(&mut again, &market.ledger);
    assert_eq!(again.book.contracts[&no].state, "scored");
    assert_eq!((again.sizes, again.book.obligation), (market.core.sizes, market.core.book.obligation));
    assert_eq!(market.alarms.len(), 1, "{:?}", market.alarms);
    drop(market.dir);
}

#[test]
fn capacity_is_never_oversold_and_a_refusal_is_written() {
    let mut market = Market::open();
    let (first, _) = market.deal(1, 20);
    // Two cores: room for one more, so of two offers made at once only one becomes a deal.
    let (offer_b, hash_b) = market.browse(2);
    let (offer_c, hash_c) = market.browse(3);
    assert_eq!((offer_b.stock, offer_c.stock), (1, 1));
    let b = market.order_request(&offer_b, hash_b, 20, |_| {});
    let c = market.order_request(&offer_c, hash_c, 20, |_| {});
    assert_eq!(Market::code(market.say(Interface::SendOrder, &b)), "accepted");
    assert_eq!(Market::code(market.say(Interface::SendOrder, &c)), "stock");
    assert_eq!(market.state(offer_c.contract_no), "refused");
    assert_eq!(Market::code(market.say(Interface::SendOrder, &c)), "stock", "the same answer again");
    assert_eq!((market.state(first), market.state(offer_b.contract_no)), ("serving", "serving"));
}

#[test]
fn orders_that_are_not_the_offers_are_refused_and_leave_nothing() {
    let mut market = Market::open();
    let (offer, hash) = market.browse(1);
    let size = market.ledger.size(Log::Trade);
    let mut cases: Vec<(&str, SendOrder, &str)> = Vec::new();
    let mut case = |name, code, edit: &dyn Fn(&mut Statement)| {
        cases.push((name, market.order_request(&offer, hash, 20, edit), code));
    };
    case("another tariff", "offer", &|s| s.requirement.as_mut().unwrap().tariff = Octets([0; 32]));
    case("another revision", "offer", &|s| s.requirement.as_mut().unwrap().catalogue_revision += 1);
    case("too long", "offer", &|s| s.requirement.as_mut().unwrap().term_ns = 7200 * SECOND);
    case("too many", "offer", &|s| s.requirement.as_mut().unwrap().items[0].quantity = 3);
    case("another offer", "offer", &|s| s.offer = Some(Octets([1; 32])));
    case("another browse", "offer", &|s| s.follows = Some(Octets([1; 32])));
    case("unknown contract", "unknown", &|s| s.contract_no = Octets([1; 16]));
    case("another node", "malformed", &|s| s.computing_pool_id = "site-1/other".to_owned());
    case("stale", "offer", &|s| s.contract_time -= 2 * 3_600_000_000_000);
    let mut forged = market.order_request(&offer, hash, 20, |_| {});
    forged.signature = Sealed(market.platform.key.sign(&forged.statement.0).unwrap());
    cases.push(("another signer", forged, "signature"));
    for (name, request, code) in cases {
        assert_eq!(Market::code(market.say(Interface::SendOrder, &request)), code, "{name}");
    }
    assert_eq!(market.ledger.size(Log::Trade), size);
    market.pass(3601 * SECOND);
    assert_eq!(market.state(offer.contract_no), "lapsed");
}

#[test]
fn only_the_platform_is_heard() {
    let mut market = Market::open();
    let request = SendOrder { statement: Sealed(vec![1]), signature: Sealed(vec![2]) };
    let (key, cert) = (market.buyer.key.clone(), Octets(market.buyer.certificate.id()));
    assert_eq!(market.say_as(Interface::SendOrder, &request, &key, cert), None);
    let platform = Octets(market.platform.certificate.id());
    assert_eq!(market.say_as(Interface::SendOrder, &request, &key, platform), None, "a borrowed name");
    assert_eq!(Market::code(market.say(Interface::SendOrder, &request)), "malformed");
    assert_eq!(market.alarms.len(), 2);
    let _: Option<Payload<()>> = None;
}

#[test]
fn a_platform_that_holds_more_than_this_disk_stops_the_node() {
    let mut market = Market::open();
    let receipt = Receipt {
        version: 1,
        computing_pool_id: POOL.to_owned(),
        log: 0,
        size: 99,
        root: Octets([0; 32]),
        stored_at: START_NS,
        refused: Vec::new(),
        bills: Vec::new(),
    };
    let now = market.now();
    assert!(market.core.handle(now, Event::Receipted { receipt, signed: Vec::new() }).is_err());
}

#[test]
fn an_order_that_could_not_be_provided_is_a_gap_and_costs_nothing() {
    let mut market = Market::open();
    let (no, _) = market.deal(1, 20);
    market.event(Event::Provisioned { contract: no, outcome: Err("no cgroup".to_owned()) });
    market.pass(30 * SECOND);
    market.event(Event::Final { contract: no, drafts: Vec::new(), quality: QUALITY });
    assert_eq!(market.state(no), "billed");
    let bill = &market.core.book.contracts[&no].bills[0].bill;
    assert_eq!((bill.total.0, bill.gaps.len(), bill.lines.len()), (0, 1, 0));
}
