//! A complete synthetic trade for tests and the examples: a small CA, the parties' keys, a real ledger, every entry from browse
//! to bill, the platform's receipts. What happens between deal and bill and after it is `synthetic/steps.rs`. Nothing here
//! asserts anything.

#[path = "synthetic/steps.rs"]
mod steps;
#[path = "synthetic/usage.rs"]
mod usage;

use std::path::Path;

use hufu_audit::pack::{PackInput, from_ledger};
use hufu_gm::{Hash, Signed, sm3::sm3};
use hufu_ledger::{EntryRef, Ledger, Log, NewBlock, NewEntry, Options, Signer, TimeQuality, TimeState};
use hufu_trade::{
    bill::Bill,
    correction::Due,
    encode,
    entry::{
        Certificates, Countersignature, Deal, EntryKind, EntryName, Receipt, Rules, SignedStatement, key_of,
        octet_string,
    },
    money::Money,
    notice::InForce,
    octets::{ContractNo, Octets},
    prepaid::Proration,
    rating::{Before, Recorded},
    rotation, rules,
    statement::{
        ContractValue, Metered, Offer, Payment, Requirement, RequirementItem, Reservation, Statement, con_type,
        contract_no,
    },
    tariff::Tariff,
    usage::UsageRecord,
};
#[allow(unused_imports, reason = "the examples tell the plain story only")]
pub(crate) use steps::{By, Rotated, Step, correct, notice, pay, refund};
#[allow(unused_imports, reason = "the examples tell the plain story only")]
pub(crate) use usage::identity;

use crate::parties::{NAMES, Names, Parties, Party};

/// What a mistake here ends in; tests unwrap it.
pub(crate) type Made<T> = Result<T, Box<dyn std::error::Error>>;

/// First second of the story.
pub(crate) const START_S: i64 = 1_790_000_000;
/// A second, ns.
pub(crate) const SECOND: i64 = 1_000_000_000;
/// `{site}/{node}`.
pub(crate) const POOL: &str = "site-1/node-1";
const SALT_KEY: [u8; 32] = [7; 32];

/// How the story goes; the default is one in which nothing is wrong.
pub(crate) struct Plan {
    /// Usage records, one minute each.
    pub(crate) records: u64,
    /// Changes a record before it is signed.
    pub(crate) record: fn(&mut UsageRecord),
    /// Changes what is signed of a record; the bill is made of what the record was before.
    pub(crate) signed: Box<dyn Fn(&mut UsageRecord)>,
    /// Changes the bill before it is signed.
    pub(crate) bill: fn(&mut Bill),
    /// What the buyer signs as its ceiling.
    pub(crate) ceiling: Money,
    /// The rule table's text.
    pub(crate) rules: String,
    /// The term the buyer orders, minutes; without it that of the records.
    pub(crate) minutes: Option<u64>,
    /// What happens after these records and before service ends.
    pub(crate) service: Vec<Step>,
    /// Acts that end the service, each with the states before and after it.
    pub(crate) ends: Vec<[&'static str; 3]>,
    /// What happens after the bill.
    pub(crate) after: Vec<Step>,
    /// How long after a block the platform stores it, ns.
    pub(crate) stored_after_ns: i64,
    /// Seconds after [`START_S`] at which it begins.
    pub(crate) late_s: i64,
    /// Which bill the pack is of, from 1; without it the last one.
    pub(crate) pack: Option<usize>,
    /// Whether the tariff prices what is reserved: one core.
    pub(crate) reserved: bool,
    /// Whether service ends at all.
    pub(crate) ends_with_bill: bool,
    /// Whether the platform answers at all.
    pub(crate) receipts: bool,
    /// Changes the order statement before it is signed.
    pub(crate) order: fn(&mut Statement),
    /// Whom the certificates of node and platform name.
    pub(crate) names: Names,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            records: 5,
            record: |_| {},
            signed: Box::new(|_| {}),
            bill: |_| {},
            ceiling: Money(1_000_000_000_000_000),
            rules: rules::DEFAULT.to_owned(),
            minutes: None,
            service: Vec::new(),
            ends: vec![["expire", "serving", "ended"]],
            after: Vec::new(),
            stored_after_ns: SECOND / 4,
            late_s: 0,
            pack: None,
            reserved: false,
            ends_with_bill: true,
            receipts: true,
            order: |_| {},
            names: NAMES,
        }
    }
}

/// Where the story stands.
struct Story<'a> {
    parties: &'a Parties,
    ledger: Ledger,
    time: i64,
    contract: Option<ContractNo>,
    offer: Option<(Offer, Hash)>,
    deal: Option<EntryRef>,
    in_force: Option<InForce>,
    records: Vec<Recorded>,
    /// Records there will be.
    due_records: u64,
    /// What is due for each bill, what was paid of it.
    dues: Vec<(Due, Money)>,
    /// What each bill says.
    totals: Vec<Money>,
    /// What each gives back.
    refunds: Vec<Option<Money>>,
    agreed: Option<Deal>,
    proration: Proration,
    /// The bill that steps are about.
    current: usize,
    /// The bill that the next one goes on from, and how many records are billed.
    before: Option<Before>,
    billed: usize,
    /// The newest trade entry that moved the contract.
    moved: Option<EntryName>,
    /// The notice before.
    noticed: Vec<u8>,
    /// The node signs with its next key.
    rotated: bool,
}

type Draft = (EntryKind, Vec<u8>);

impl Story<'_> {
    fn append(&mut self, log: Log, drafts: Vec<Draft>) -> Made<Vec<EntryRef>> {
        let entries = drafts.into_iter().map(|(kind, body)| self.entry(kind, body)).collect();
        self.append_blocks(&[NewBlock { log, entries }])
    }

    fn entry(&self, kind: EntryKind, body: Vec<u8>) -> NewEntry {
        let of = !matches!(kind, EntryKind::Rules | EntryKind::Certificates | EntryKind::Receipt | EntryKind::Window);
        let key = if kind == EntryKind::KeyRotation { rotation::KEY } else { key_of(self.contract.filter(|_| of)) };
        NewEntry { kind: kind.number(), body, key, sealed: false }
    }

    fn append_blocks(&mut self, blocks: &[NewBlock]) -> Made<Vec<EntryRef>> {
        let node = if self.rotated { &self.parties.next } else { &self.parties.node };
        let signer = Signer { key: &node.key, cert_id: node.id(), salt_key: &SALT_KEY };
        let quality = TimeQuality { state: TimeState::Synchronised, max_error_ns: Some(500_000) };
        let appended = self.ledger.append(blocks, &signer, 0, self.time, quality)?;
        Ok(appended.into_iter().flat_map(|block| block.entries).collect())
    }

    fn node_seals(&self, tbs: Vec<u8>) -> Made<Signed> {
        Ok(Signed::seal(tbs, &self.parties.node.id(), &self.parties.node.key)?)
    }

    fn buyer_signs(&self, statement: &Statement, with_chain: &[Vec<u8>]) -> Made<(SignedStatement, Vec<u8>)> {
        let tbs = encode(statement, "Statement")?;
        let signature = self.parties.buyer.key.sign(&tbs)?;
        let signed = SignedStatement::new(&tbs, &signature, with_chain)?;
        let body = encode(&signed, "SignedStatement")?;
        Ok((signed, body))
    }

    fn receipt(&mut self, log: Log, after_ns: i64) -> Made<()> {
        let receipt = Receipt {
            version: 1,
            computing_pool_id: POOL.to_owned(),
            log: log.number(),
            size: self.ledger.size(log),
            root: Octets(self.ledger.root(log)),
            stored_at: self.time + after_ns,
            refused: Vec::new(),
            bills: Vec::new(),
        };
        let platform = &self.parties.platform;
        let signed = Signed::seal(encode(&receipt, "Receipt")?, &platform.id(), &platform.key)?.to_bytes()?;
        self.append(Log::Trade, vec![(EntryKind::Receipt, signed)])?;
        Ok(())
    }
}

fn name(of: &EntryRef) -> EntryName {
    EntryName { log: of.log.number(), height: of.height, index: of.index, hash: Octets(of.hash) }
}

/// One core at 0.36 CNY an hour, from 0.30 where it was held for more than six minutes.
pub(crate) fn reserved() -> Made<Tariff> {
    let text = r#"
        [[price]]
        resource = "reserved_cpu"
        scheme = "volume"
        tier = [{ up_to = "360000000000", price = "0.36" }, { price = "0.30" }]
    "#;
    Ok(Tariff::from_toml(text)?)
}

/// The price terms of the story.
pub(crate) fn tariff() -> Made<Tariff> {
    let text = r#"
        [[price]]
        resource = "cpu"
        price = "0.35"
        [[price]]
        resource = "memory"
        scheme = "graduated"
        tier = [{ up_to = "3865470566400", price = "0.02" }, { price = "0.015" }]
        [[price]]
        resource = "net_tx"
        price = "0.8"
    "#;
    Ok(Tariff::from_toml(text)?)
}

/// Plays the story in `dir` and returns what the node's ledger gives for the pack of its bill.
pub(crate) fn play(dir: &Path, parties: &Parties, plan: &Plan) -> Made<PackInput> {
    let options = Options::new(POOL);
    Ledger::create(dir, &options, [8; 16])?;
    let (ledger, _) = Ledger::open(dir, &options)?;
    let mut story = Story {
        parties,
        ledger,
        time: (START_S + plan.late_s) * SECOND,
        contract: None,
        offer: None,
        deal: None,
        in_force: None,
        records: Vec::new(),
        due_records: plan.records + plan.service.iter().map(Step::records).sum::<u64>(),
        dues: Vec::new(),
        totals: Vec::new(),
        refunds: Vec::new(),
        agreed: None,
        proration: rules::RuleTable::from_toml(&plan.rules)
            .map_or(Proration::Exact, |table| table.parameters.proration),
        current: 0,
        before: None,
        billed: 0,
        moved: None,
        noticed: Vec::new(),
        rotated: false,
    };
    let certificates = |role: &str, party: &Party| -> Made<Vec<u8>> {
        let certificates =
            party.ders().iter().map(|der| octet_string(der, "Certificates")).collect::<Result<_, _>>()?;
        Ok(encode(&Certificates { role: role.to_owned(), certificates }, "Certificates")?)
    };
    let rules = encode(&Rules { version: 1, text: plan.rules.clone() }, "Rules")?;
    story.append(Log::Trade, vec![(EntryKind::Rules, rules)])?;
    story.append(
        Log::Trade,
        vec![
            (EntryKind::Certificates, certificates("node", &parties.node)?),
            (EntryKind::Certificates, certificates("platform", &parties.platform)?),
        ],
    )?;
    contract(&mut story, plan)?;
    story.meter(plan, plan.records)?;
    for step in &plan.service {
        story.step(plan, step)?;
    }
    if plan.ends_with_bill {
        finish(&mut story, plan)?;
    } else if plan.receipts {
        story.receipt(Log::Trade, plan.stored_after_ns)?;
        story.receipt(Log::Finance, plan.stored_after_ns)?;
    }
    for step in &plan.after {
        story.step(plan, step)?;
    }
    let wanted = plan.pack.unwrap_or(story.dues.len());
    let (due, _) = story.dues.get(wanted.saturating_sub(1)).ok_or("no bill")?;
    let number = due.number.clone();
    let mut input = from_ledger(&story.ledger, &number, &[], &[])?;
    input.crls = vec![story.parties.crl.clone()];
    if plan.service.iter().chain(&plan.after).any(Step::is_strangers) {
        input.buyer_certificates = story.parties.stranger.ders();
    }
    Ok(input)
}

/// Browse, offer, order, deal.
fn contract(story: &mut Story<'_>, plan: &Plan) -> Made<()> {
    let buyer = Octets(story.parties.buyer.id());
    let nonce = Octets([5; 16]);
    let no = contract_no(buyer, POOL, nonce, story.time)?;
    story.contract = Some(no);
    let browse = Statement {
        version: 1,
        con_type: con_type::BROWSE,
        contract_no: no,
        contract_time: story.time,
        computing_pool_id: POOL.to_owned(),
        buyer,
        nonce: Some(nonce),
        offer: None,
        follows: None,
        requirement: None,
        contract_value: None,
        score: None,
    };
    let chain = story.parties.buyer.ders();
    let (_, body) = story.buyer_signs(&browse, &chain)?;
    let browse_at = story.append(Log::Trade, vec![(EntryKind::Browse, body)])?;
    let browsed = browse_at.first().map_or([0; 32], |at| at.hash);
    story.time += SECOND;
    let tariff = if plan.reserved { reserved()? } else { tariff()? };
    let tariff_hash = tariff.hash()?;
    let offer = Offer {
        version: 1,
        contract_no: no,
        computing_pool_id: POOL.to_owned(),
        buyer,
        browse: Octets(browsed),
        product_id: "vm-small".to_owned(),
        catalogue_revision: 3,
        stock: 10,
        term_ns_max: 400 * 86_400_000_000_000,
        valid_from: story.time,
        valid_until: story.time + 3600 * SECOND,
        tariff,
        metered: vec![Metered { resource: "cpu".into(), source: "cgroup-v2:cpu.stat".into(), why_not: None }],
        window_ns: 60_000_000_000,
        reserves: vec![Reservation { resource: "cpu".to_owned(), quantity: 1_000 }],
        rules: Octets(sm3(&[plan.rules.as_bytes()])),
        fingerprint: None,
    };
    let sealed = story.node_seals(encode(&offer, "Offer")?)?;
    let offer_hash = sm3(&[sealed.tbs()]);
    story.append(Log::Trade, vec![(EntryKind::Offer, sealed.to_bytes()?)])?;
    story.time += SECOND;
    let mut order = Statement {
        con_type: con_type::ORDER,
        contract_time: story.time,
        nonce: None,
        offer: Some(Octets(offer_hash)),
        follows: Some(Octets(browsed)),
        requirement: Some(Requirement {
            catalogue_revision: 3,
            items: vec![RequirementItem { product_id: "vm-small".to_owned(), quantity: 1 }],
            term_ns: plan.minutes.unwrap_or(plan.records).max(1) * 60_000_000_000,
            tariff: tariff_hash,
            parent: None,
        }),
        contract_value: Some(ContractValue { payment: Payment::Postpaid, amount: plan.ceiling }),
        ..browse
    };
    (plan.order)(&mut order);
    let (signed, body) = story.buyer_signs(&order, &[])?;
    let ordered = story.append(Log::Trade, vec![(EntryKind::Order, body)])?;
    story.time += SECOND;
    let counter = Countersignature {
        statement: Octets(sm3(&[signed.statement.as_bytes()])),
        buyer_signature: Octets(sm3(&[signed.signature.as_bytes()])),
        computing_pool_id: POOL.to_owned(),
        time: story.time,
    };
    let term = i64::try_from(plan.minutes.unwrap_or(plan.records))? * 60 * SECOND;
    let deal = Deal {
        version: 1,
        con_type: con_type::DEAL,
        contract_no: no,
        contract_time: story.time,
        computing_pool_id: POOL.to_owned(),
        buyer,
        order: name(ordered.first().ok_or("no order")?),
        offer: Octets(offer_hash),
        requirement: order.requirement.ok_or("no requirement")?,
        contract_value: order.contract_value.ok_or("no value")?,
        buyer_signature: signed.signature.clone(),
        countersignature: story.node_seals(encode(&counter, "Countersignature")?)?,
        service_end: story.time + term,
    };
    let at = story.append(Log::Trade, vec![(EntryKind::Deal, encode(&deal, "Deal")?)])?;
    let at = *at.first().ok_or("no deal")?;
    (story.deal, story.moved) = (Some(at), Some(name(&at)));
    story.agreed = Some(deal.clone());
    (story.in_force, story.offer) = (Some(InForce::of(&deal)), Some((offer, offer_hash)));
    Ok(())
}

/// The end of service, the last bill, the platform's receipts.
fn finish(story: &mut Story<'_>, plan: &Plan) -> Made<()> {
    for end in &plan.ends {
        story.step(plan, &Step::Status(*end))?;
    }
    if plan.receipts {
        story.receipt(Log::Trade, plan.stored_after_ns)?;
    }
    story.bill(plan.bill, story.records.len(), None)?;
    if plan.receipts {
        story.receipt(Log::Finance, plan.stored_after_ns)?;
    }
    Ok(())
}
