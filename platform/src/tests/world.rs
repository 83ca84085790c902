//! A node with a real ledger, a buyer and the platform's database: selling and sending. What comes
//! after the deal is `acts.rs`.

use std::sync::Arc;

use hufu_gm::{Signed, sm2::SecretKey, sm3::sm3};
use hufu_ledger::{EntryRef, Ledger, Log, NewBlock, NewEntry, Options, Signer, TimeQuality, TimeState};
use hufu_trade::{
    correction::Due,
    decode, encode,
    entry::{
        Certificates, Countersignature, Deal, EntryKind, EntryName, Receipt, Rules, SignedStatement, key_of,
        octet_string,
    },
    if2::{Answer, Blocks, Envelope, Interface, Sealed, SendOrder, Topic},
    notice::Notice,
    octets::{ContractNo, Octets},
    parent::ParentOrder,
    rating::Recorded,
    rules,
    statement::{
        ContractValue, Offer, Payment, Requirement, RequirementItem, Reservation, Statement, con_type, contract_no,
    },
    tariff::Tariff,
    usage::UsageRecord,
};

use super::parties::{Folder, Party, START_S, party};
use crate::{identity::Identity, inbox::Inbox, store::Store};

/// A second, ns.
pub(crate) const SECOND: i64 = 1_000_000_000;
/// When the trade begins.
pub(crate) const START: i64 = START_S * SECOND;
/// `{site}/{node}`.
pub(crate) const POOL: &str = "s1/n1";
/// Usage records of the contract, a minute each.
pub(crate) const RECORDS: u64 = 3;
const SALT_KEY: [u8; 32] = [7; 32];

/// Everything about the one contract.
pub(crate) struct Sold {
    pub(crate) no: ContractNo,
    pub(crate) order: Statement,
    pub(crate) offer: Offer,
    pub(crate) offer_hash: Octets<32>,
    pub(crate) deal: EntryName,
    pub(crate) service_end: i64,
    pub(super) records: Vec<Recorded>,
}

/// The whole small world.
pub(crate) struct World {
    /// The node.
    pub(crate) pool: &'static str,
    pub(crate) folder: Folder,
    pub(crate) ledger: Ledger,
    pub(crate) store: Store,
    pub(crate) identity: Arc<Identity>,
    pub(crate) inbox: Inbox,
    pub(crate) root: Party,
    pub(crate) platform: Party,
    pub(crate) node: Party,
    pub(crate) buyer: Party,
    /// What platform and node call now.
    pub(crate) now: i64,
    /// The node's rule table.
    pub(crate) rules: String,
    /// Acts that end a service, each with the states before and after it.
    pub(crate) ends: Vec<[&'static str; 3]>,
    /// The newest trade entry that moved the contract.
    pub(crate) moved: Option<EntryName>,
    /// Whether the trade log names finance entries back.
    pub(crate) links: bool,
    /// The ceiling of the contract, CNY.
    pub(crate) ceiling: &'static str,
    /// The term of the contract, minutes.
    pub(crate) minutes: u64,
    /// What the newest bill asks for.
    pub(crate) due: Option<Due>,
    /// What the buyer's nonce is made of: another one is another contract.
    pub(crate) nonce: u8,
    /// The parent order that the next contract is a child of.
    pub(crate) parent: Option<ParentOrder>,
    /// What else the node's usage records tell.
    pub(crate) told: fn(&mut UsageRecord),
}

/// What the platform answered to blocks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Codes of problems.
    pub(crate) problems: Vec<String>,
    /// The receipt.
    pub(crate) receipt: Option<Receipt>,
}

impl World {
    /// Rules and certificates stand in the log; nothing has been sent yet.
    pub(crate) async fn open() -> Self {
        Self::of(POOL).await
    }

    /// The same of another node.
    pub(crate) async fn of(pool: &'static str) -> Self {
        Self::made(pool, rules::DEFAULT, vec![["expire", "serving", "ended"]]).await
    }

    /// The same under another rule table.
    pub(crate) async fn under(text: &str, ends: Vec<[&'static str; 3]>) -> Self {
        Self::made(POOL, text, ends).await
    }

    async fn made(pool: &'static str, text: &str, ends: Vec<[&'static str; 3]>) -> Self {
        let folder = Folder::new();
        let root = party(None, "root", 1);
        let (platform, node, buyer) =
            (party(Some(&root), "s1/platform", 2), party(Some(&root), pool, 3), party(Some(&root), "buyer-1", 4));
        let store = super::base::store(&folder).await;
        let identity = Arc::new(Identity {
            name: "s1/platform".to_owned(),
            cert_id: platform.id(),
            key: platform.key.clone(),
            chain: vec![platform.certificate.clone()],
            anchors: vec![root.certificate.clone()],
            needs_tokens: false,
            known: hufu_gm::known::KnownKeys::new(2),
        });
        let inbox = Inbox::new(store.clone(), Arc::clone(&identity));
        let ledger = new_ledger_of(pool, &folder, "ledger");
        let (now, rules) = (START, text.to_owned());
        let (moved, due, ceiling) = (None, None, "100");
        let mut world = Self {
            pool,
            folder,
            ledger,
            store,
            identity,
            inbox,
            root,
            platform,
            node,
            buyer,
            now,
            rules,
            ends,
            moved,
            links: true,
            ceiling,
            minutes: RECORDS,
            due,
            nonce: 5,
            parent: None,
            told: |_| {},
        };
        world.found(text);
        world
    }

    fn found(&mut self, text: &str) {
        let certificates = |role: &str, party: &Party| {
            let der = octet_string(party.certificate.der(), "Certificates").expect("octets");
            let listed = Certificates { role: role.to_owned(), certificates: vec![der] };
            (EntryKind::Certificates, None, encode(&listed, "Certificates").expect("DER"))
        };
        let rules = encode(&Rules { version: 1, text: text.to_owned() }, "Rules").expect("DER");
        let listed = vec![certificates("node", &self.node), certificates("platform", &self.platform)];
        self.append(Log::Trade, vec![(EntryKind::Rules, None, rules)]);
        self.append(Log::Trade, listed);
    }

    /// Appends one block.
    pub(crate) fn append(
        &mut self,
        log: Log,
        entries: Vec<(EntryKind, Option<ContractNo>, Vec<u8>)>,
    ) -> Vec<EntryName> {
        let signer = Signer { key: &self.node.key, cert_id: self.node.id(), salt_key: &SALT_KEY };
        append(&mut self.ledger, &signer, self.now, log, entries)
    }

    pub(super) fn one(&mut self, log: Log, kind: EntryKind, no: ContractNo, body: Vec<u8>) -> EntryName {
        self.append(log, vec![(kind, Some(no), body)]).remove(0)
    }

    /// Another ledger of the same node, whose first block `key` signs.
    pub(crate) fn other_first_block(&self, key: &SecretKey) -> Vec<u8> {
        let mut ledger = new_ledger(&self.folder, "other");
        let signer = Signer { key, cert_id: self.node.id(), salt_key: &SALT_KEY };
        let der = octet_string(self.node.certificate.der(), "Certificates").expect("octets");
        let listed = Certificates { role: "node".to_owned(), certificates: vec![der] };
        let body = encode(&listed, "Certificates").expect("DER");
        append(&mut ledger, &signer, self.now, Log::Trade, vec![(EntryKind::Certificates, None, body)]);
        ledger.block(Log::Trade, 0).expect("a block")
    }

    /// The block that the present key would append next with a notice; the ledger stays as it is.
    pub(crate) fn forged_next(&self, notice: &Notice) -> Vec<u8> {
        let copy = self.folder.path().join("copy");
        std::fs::create_dir(&copy).expect("a folder");
        for file in std::fs::read_dir(self.folder.path().join("ledger")).expect("a folder") {
            let file = file.expect("a file");
            if file.file_type().expect("a type").is_file() {
                std::fs::copy(file.path(), copy.join(file.file_name())).expect("a copy");
            }
        }
        let mut ledger = Ledger::open(&copy, &Options::new(self.pool)).expect("a ledger").0;
        let signer = Signer { key: &self.node.key, cert_id: self.node.id(), salt_key: &SALT_KEY };
        let tbs = encode(notice, "Notice").expect("DER");
        let signed = Signed::seal(tbs, &self.buyer.id(), &self.buyer.key).expect("a signature");
        let body = signed.to_bytes().expect("DER");
        let entry = (EntryKind::Notice, Some(notice.contract_no), body);
        let name = append(&mut ledger, &signer, self.now, Log::Trade, vec![entry]).remove(0);
        ledger.block(Log::Trade, name.height).expect("a block")
    }

    /// Sends these blocks and gives what came back.
    pub(crate) async fn send_blocks(&mut self, log: Log, first: u64, blocks: Vec<Vec<u8>>) -> Answered {
        let message = Blocks::pack(log.number(), first, blocks).expect("a message");
        let payload = encode(&message, "Blocks").expect("DER");
        let topic = Topic::Call { pool: self.pool.to_owned(), interface: Interface::Blocks, answer: false };
        let taken = self.inbox.take(self.now, &topic, &payload).await.expect("the database");
        let mut answered = Answered { problems: Vec::new(), receipt: None };
        for outgoing in taken.outgoing {
            let key = self.identity.key.public_key();
            if let Ok(signed) = Signed::from_bytes(&outgoing.payload) {
                assert!(signed.verify(&key).is_valid());
                answered.receipt = Some(decode(signed.tbs(), "Receipt").expect("a receipt"));
                continue;
            }
            let envelope = Envelope::parse(&outgoing.payload).expect("an envelope");
            let opened = envelope.open::<Answer<()>>(&key, Interface::Blocks, self.pool, &outgoing.payload);
            let Answer::Error(problem) = opened.expect("the platform's").payload.body else { panic!("an ok") };
            answered.problems.push(problem.code);
        }
        answered
    }

    /// Sends a log from `first` on, as far as it goes.
    pub(crate) async fn send(&mut self, log: Log, first: u64) -> Answered {
        let blocks = self.ledger.blocks(log, first).map(|found| found.expect("a block").1).collect();
        self.send_blocks(log, first, blocks).await
    }

    /// Sends both logs as often as they wait for each other; asserts that everything was taken without a problem.
    pub(crate) async fn send_all(&mut self) {
        let (mut sizes, mut before) = ([0, 0], [u64::MAX; 2]);
        while sizes != before {
            before = sizes;
            for (log, size) in [Log::Trade, Log::Finance].into_iter().zip(&mut sizes) {
                let answered = self.send(log, *size).await;
                assert_eq!(answered.problems, Vec::<String>::new());
                *size = answered.receipt.expect("a receipt").size;
            }
        }
    }

    pub(super) fn sign(&self, statement: &Statement) -> (SignedStatement, Vec<u8>) {
        let tbs = encode(statement, "Statement").expect("DER");
        let signature = self.buyer.key.sign(&tbs).expect("a signature");
        let is_browse = statement.con_type == con_type::BROWSE;
        let chain = if is_browse { vec![self.buyer.certificate.der().to_vec()] } else { Vec::new() };
        let signed = SignedStatement::new(&tbs, &signature, &chain).expect("a statement");
        let body = encode(&signed, "SignedStatement").expect("DER");
        (signed, body)
    }

    /// The buyer's browse statement.
    pub(crate) fn browse(&self) -> Statement {
        let (buyer, nonce) = (Octets(self.buyer.id()), Octets([self.nonce; 16]));
        Statement {
            version: 1,
            con_type: con_type::BROWSE,
            contract_no: contract_no(buyer, self.pool, nonce, START).expect("a number"),
            contract_time: START,
            computing_pool_id: self.pool.to_owned(),
            buyer,
            nonce: Some(nonce),
            offer: None,
            follows: None,
            requirement: None,
            contract_value: None,
            score: None,
        }
    }

    /// A statement as it travels.
    pub(crate) fn signed(&self, statement: &Statement) -> SendOrder {
        let (signed, _) = self.sign(statement);
        let octets = |bytes: &[u8]| Sealed(bytes.to_vec());
        SendOrder { statement: octets(signed.statement.as_bytes()), signature: octets(signed.signature.as_bytes()) }
    }

    /// Browse, offer, order, deal, usage until the service has ended.
    pub(crate) fn sell(&mut self) -> Sold {
        let mut sold = self.deal();
        self.serve(&mut sold);
        sold
    }

    /// Browse, offer, order, deal.
    pub(crate) fn deal(&mut self) -> Sold {
        let browse = self.browse();
        let no = browse.contract_no;
        let body = self.sign(&browse).1;
        let browsed = self.one(Log::Trade, EntryKind::Browse, no, body);
        let tariff = "[[price]]\nresource = \"cpu\"\nprice = \"36\"\n[[price]]\nresource = \"memory\"\nprice = \"2\"\n";
        let offer = Offer {
            version: 1,
            contract_no: no,
            computing_pool_id: self.pool.to_owned(),
            buyer: browse.buyer,
            browse: browsed.hash,
            product_id: "small".to_owned(),
            catalogue_revision: 1,
            stock: 2,
            term_ns_max: self.minutes.max(60) * 60_000_000_000,
            valid_from: self.now,
            valid_until: self.now + 3600 * SECOND,
            tariff: Tariff::from_toml(tariff).expect("a tariff"),
            metered: Vec::new(),
            window_ns: 60_000_000_000,
            reserves: vec![Reservation { resource: "gpu:A100-80G".to_owned(), quantity: 2 }],
            rules: Octets(sm3(&[self.rules.as_bytes()])),
            fingerprint: None,
        };
        let sealed = self.node_seals(encode(&offer, "Offer").expect("DER"));
        let offer_hash = Octets(sm3(&[sealed.tbs()]));
        self.one(Log::Trade, EntryKind::Offer, no, sealed.to_bytes().expect("DER"));
        self.now += SECOND;
        let requirement = Requirement {
            catalogue_revision: 1,
            items: vec![RequirementItem { product_id: "small".to_owned(), quantity: 1 }],
            term_ns: self.minutes * 60_000_000_000,
            tariff: offer.tariff.hash().expect("a hash"),
            parent: self.parent,
        };
        let value = ContractValue { payment: Payment::Postpaid, amount: self.ceiling.parse().expect("money") };
        let order = Statement {
            con_type: con_type::ORDER,
            contract_time: self.now,
            nonce: None,
            offer: Some(offer_hash),
            follows: Some(browsed.hash),
            requirement: Some(requirement.clone()),
            contract_value: Some(value),
            ..browse
        };
        let (signed, body) = self.sign(&order);
        let ordered = self.one(Log::Trade, EntryKind::Order, no, body);
        let counter = Countersignature {
            statement: Octets(sm3(&[signed.statement.as_bytes()])),
            buyer_signature: Octets(sm3(&[signed.signature.as_bytes()])),
            computing_pool_id: self.pool.to_owned(),
            time: self.now,
        };
        let service_end = self.now + i64::try_from(self.minutes).expect("small") * 60 * SECOND;
        let deal = Deal {
            version: 1,
            con_type: con_type::DEAL,
            contract_no: no,
            contract_time: self.now,
            computing_pool_id: self.pool.to_owned(),
            buyer: order.buyer,
            order: ordered,
            offer: offer_hash,
            requirement,
            contract_value: value,
            buyer_signature: signed.signature.clone(),
            countersignature: self.node_seals(encode(&counter, "Countersignature").expect("DER")),
            service_end,
        };
        let deal = self.one(Log::Trade, EntryKind::Deal, no, encode(&deal, "Deal").expect("DER"));
        self.moved = Some(deal.clone());
        Sold { no, order, offer, offer_hash, deal, service_end, records: Vec::new() }
    }

    fn node_seals(&self, tbs: Vec<u8>) -> Signed {
        Signed::seal(tbs, &self.node.id(), &self.node.key).expect("a signature")
    }
}

pub(super) fn new_ledger(folder: &Folder, name: &str) -> Ledger {
    new_ledger_of(POOL, folder, name)
}

fn new_ledger_of(pool: &str, folder: &Folder, name: &str) -> Ledger {
    let (dir, options) = (folder.path().join(name), Options::new(pool));
    Ledger::create(&dir, &options, [8; 16]).expect("a ledger");
    Ledger::open(&dir, &options).expect("a ledger").0
}

fn append(
    ledger: &mut Ledger,
    signer: &Signer<'_>,
    now: i64,
    log: Log,
    entries: Vec<(EntryKind, Option<ContractNo>, Vec<u8>)>,
) -> Vec<EntryName> {
    let entries = entries
        .into_iter()
        .map(|(kind, no, body)| NewEntry { kind: kind.number(), body, key: key_of(no), sealed: false })
        .collect();
    let quality = TimeQuality { state: TimeState::Synchronised, max_error_ns: Some(1000) };
    let epoch = Log::ALL.iter().filter_map(|log| ledger.head(*log)).map(|head| head.header.epoch).max().unwrap_or(0);
    let appended = ledger.append(&[NewBlock { log, entries }], signer, epoch, now, quality).expect("an append");
    let name =
        |at: &EntryRef| EntryName { log: at.log.number(), height: at.height, index: at.index, hash: Octets(at.hash) };
    appended.iter().flat_map(|block| &block.entries).map(name).collect()
}
