//! The golden files: one trade from browse to refund between fixed parties, every structure of `docs/evidence.asn1` once.
//! Writing them is the example `golden`; comparing them is a test; openssl and asn1tools check them from outside.

use der::Encode;
use hufu_gm::Signed;
use hufu_trade::{
    bill::Bill,
    encode,
    entry::{
        Countersignature, Deal, EntryKind, EntryName, FinanceLink, Payment, ReceivedBill, Rules, SignedStatement,
        octet_string,
    },
    if2::{Answer, BillPush, Envelope, Interface, PLATFORM, PaymentConfirm, PaymentState, Sealed},
    octets::{ContractNo, Digest, Octets, rfc3339},
    rating::{Terms, rate},
    statement::{
        ContractNoInput, ContractValue, Metered, Offer, Payment as Paying, Requirement, RequirementItem, Reservation,
        ScoreCard, ScoreItem, Statement, con_type, contract_no,
    },
    tariff::Tariff,
};

use crate::{
    golden_after::{Before, after},
    golden_kinds::{child, kinds},
    golden_parts::{block, lone, others, receipt, usage_parts},
    parties::{MINUTE, POOL, Parties, Party, SECOND, T0},
    usage::records,
    wire::{self, EntryRef, Log, digest, entry},
};

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// File name and content, in the order they were made. Names are `TYPE[-WHICH].der` for DER of `TYPE`.
#[derive(Default)]
pub(crate) struct Files(pub(crate) Vec<(String, Vec<u8>)>);

impl Files {
    pub(crate) fn der<T: Encode>(&mut self, name: &str, value: &T) -> Outcome<Vec<u8>> {
        let bytes = value.to_der()?;
        self.raw(&format!("{name}.der"), &bytes);
        Ok(bytes)
    }

    pub(crate) fn raw(&mut self, name: &str, bytes: &[u8]) {
        self.0.push((name.to_owned(), bytes.to_vec()));
    }

    /// What is signed, its signature, and both as `Signed`.
    pub(crate) fn signed(&mut self, name: &str, signed: &Signed) -> Outcome<Vec<u8>> {
        self.raw(&format!("{name}.der"), signed.tbs());
        self.raw(&format!("{name}.sig"), signed.signature());
        self.der(&format!("Signed-{}", name.to_lowercase()), signed)
    }
}

/// A small rule table of its own, so that a new default table does not change these files.
pub(crate) const RULES: &str = r#"version = 1
start = "new"
metered = []
holding = []
[parameters]
gap_rating = "free"
rounding = "line-half-even-8,total-down-2"
offer_valid_s = 3600
score_weights = { cpu = 3000, memory = 2000, net_tx = 500 }
[[rule]]
state = "new"
act = "browse"
signers = ["buyer"]
guard = "none"
writes = ["browse", "offer"]
next = "offered"
"#;

pub(crate) const TARIFF: &str = r#"
[[price]]
resource = "cpu"
scheme = "graduated"
tier = [{ up_to = "7200000000000", price = "0.12" }, { price = "0.1" }]
[[price]]
resource = "memory"
price = "0.02"
[[price]]
resource = "net_tx"
scheme = "volume"
tier = [{ up_to = "1073741824", price = "0.8" }, { price = "0.5" }]
"#;

/// Makes everything.
pub(crate) fn files() -> Outcome<Files> {
    let parties = Parties::new()?;
    let mut files = Files::default();
    for (name, party) in
        [("root", &parties.root), ("buyer", &parties.buyer), ("node", &parties.node), ("platform", &parties.platform)]
    {
        files.raw(&format!("{name}.crt"), party.certificate.to_pem().as_bytes());
    }
    let chain = [parties.buyer.certificate.der().to_vec()];
    let rules = files.der("Rules", &Rules { version: 1, text: RULES.to_owned() })?;
    let first_block = block(&mut files, &parties, "rules", 0, [0; 32], EntryKind::Rules, &rules)?;

    let browse = browse(&mut files, &parties)?;
    let (statement, signature) = sign(&mut files, &parties, "browse", &browse)?;
    let signed = SignedStatement::new(&statement, &signature, &chain)?;
    let body = files.der("SignedStatement-browse", &signed)?;
    let browse_block = block(&mut files, &parties, "browse", 1, first_block.0, EntryKind::Browse, &body)?;
    let browse_name = browse_block.1;

    let tariff = Tariff::from_toml(TARIFF)?;
    files.der("Tariff", &tariff)?;
    files.der("Price", tariff.prices.first().ok_or("no price")?)?;
    let tiers = &tariff.prices.first().ok_or("no price")?.tiers;
    files.der("Tier-bounded", tiers.first().ok_or("no tier")?)?;
    files.der("Tier-open", tiers.last().ok_or("no tier")?)?;
    let offer = offer(&mut files, &parties, browse.contract_no, browse_name.hash, tariff.clone())?;
    let offer = parties.node.seal(encode(&offer, "Offer")?)?;
    let body = files.signed("Offer", &offer)?;
    lone(&mut files, "offer", EntryKind::Offer, 2, &body)?;
    let offer_hash = digest(offer.tbs());

    let order = order(&mut files, &browse, offer_hash, browse_name.hash, &tariff)?;
    let (deal, deal_name) = deal(&mut files, &parties, &order)?;

    let records = records(browse.contract_no, deal_name.hash, deal.contract_time)?;
    for (name, record) in [("begin", 0), ("gap", 1), ("end", 2)].map(|(name, i)| (name, records.get(i))) {
        let (_, record) = record.ok_or("no record")?;
        files.der(&format!("UsageRecord-{name}"), record)?;
    }
    usage_parts(&mut files, &parties, &records)?;
    let terms = Terms {
        contract_no: browse.contract_no,
        computing_pool_id: POOL,
        buyer: parties.buyer.id(),
        deal: deal_name.hash,
        offer: offer_hash,
        tariff: &tariff,
        gap_rule: "free",
        left: Some(order.2.amount),
        rests_on: None,
        prepaid: None,
    };
    let bill = rate(&terms, None, &records)?;
    let bill_der = files.der("Bill", &bill)?;
    files.der("Line", bill.lines.first().ok_or("no line")?)?;
    files.der("RatedGap", bill.gaps.first().ok_or("no gap")?)?;
    let (bill_entry, _) = entry(EntryKind::Bill, 0, &bill_der)?;
    let (bill_block, bill_name) = block(&mut files, &parties, "bill", 0, [0; 32], EntryKind::Bill, &bill_der)?;
    let link =
        FinanceLink { contract_no: browse.contract_no, kind: EntryKind::Bill.number(), finance: bill_name.clone() };
    let body = files.der("FinanceLink", &link)?;
    lone(&mut files, "finance-link", EntryKind::FinanceLink, 14, &body)?;

    let received = ReceivedBill { entry: bill_name.hash, number: bill.number.clone() };
    files.der("ReceivedBill", &received)?;
    receipt(&mut files, &parties, [first_block.0, browse_block.0], (bill_block, received))?;
    let push = BillPush {
        bill_no: bill.number.clone(),
        contract_no: browse.contract_no.to_string(),
        entry: Sealed(bill_entry),
        height: bill_name.height,
        total_cny: bill.total.to_string(),
    };
    pushed(&mut files, &parties, &push)?;
    let paid_at = T0 + 200 * MINUTE;
    let confirmation = confirmed(&mut files, &parties, &bill, paid_at)?;
    let payment = Payment {
        version: 1,
        contract_no: browse.contract_no,
        number: bill.number.clone(),
        bill: bill_name.hash,
        amount: bill.total,
        paid_at,
        rests_on: deal_name.clone(),
        confirmation: octet_string(&confirmation, "Payment")?,
    };
    let body = files.der("Payment", &payment)?;
    lone(&mut files, "payment", EntryKind::Payment, 1, &body)?;
    score(&mut files, &parties, &order.0, deal_name.hash)?;
    others(&mut files, &parties, browse.contract_no)?;
    kinds(&mut files, &parties, &order.1, child((&bill_name, &bill)))?;
    after(&mut files, &parties, &Before { terms, records, bill: (bill_name, bill), paid_at })?;
    Ok(files)
}

fn sign(files: &mut Files, parties: &Parties, name: &str, statement: &Statement) -> Outcome<(Vec<u8>, Vec<u8>)> {
    statement.check()?;
    let der = files.der(&format!("Statement-{name}"), statement)?;
    let signature = parties.buyer.key.sign(&der)?;
    files.raw(&format!("Statement-{name}.sig"), &signature);
    Ok((der, signature))
}

fn browse(files: &mut Files, parties: &Parties) -> Outcome<Statement> {
    let (nonce, time) = (Octets(*b"nonce of buyer 1"), T0);
    let input = ContractNoInput { buyer: parties.buyer.id(), pool: POOL.to_owned(), nonce, time };
    files.der("ContractNoInput", &input)?;
    Ok(Statement {
        version: 1,
        con_type: con_type::BROWSE,
        contract_no: contract_no(parties.buyer.id(), POOL, nonce, time)?,
        contract_time: time,
        computing_pool_id: POOL.to_owned(),
        buyer: parties.buyer.id(),
        nonce: Some(nonce),
        offer: None,
        follows: None,
        requirement: None,
        contract_value: None,
        score: None,
    })
}

fn offer(files: &mut Files, parties: &Parties, no: ContractNo, browse: Digest, tariff: Tariff) -> Outcome<Offer> {
    let metered = |resource: &str, source: &str, why_not: Option<&str>| Metered {
        resource: resource.to_owned(),
        source: source.to_owned(),
        why_not: why_not.map(str::to_owned),
    };
    let metered = vec![
        metered("cpu", "cgroup2:cpu.stat usage_usec", None),
        metered("memory", "cgroup2:memory.current", None),
        metered("net_tx", "", Some("no counter at the order's network boundary")),
    ];
    let reserves = vec![
        Reservation { resource: "cpu".to_owned(), quantity: 2_000 },
        Reservation { resource: "memory".to_owned(), quantity: 4 << 30 },
    ];
    files.der("Metered", metered.first().ok_or("none metered")?)?;
    files.der("Metered-not", metered.last().ok_or("none metered")?)?;
    files.der("Reservation", reserves.first().ok_or("none reserved")?)?;
    let offer = Offer {
        version: 1,
        contract_no: no,
        computing_pool_id: POOL.to_owned(),
        buyer: parties.buyer.id(),
        browse,
        product_id: "vm-2c4g".to_owned(),
        catalogue_revision: 7,
        stock: 3,
        term_ns_max: 86_400_000_000_000,
        valid_from: T0 + SECOND,
        valid_until: T0 + SECOND + 60 * MINUTE,
        tariff,
        metered,
        window_ns: 3_600_000_000_000,
        reserves,
        rules: digest(RULES.as_bytes()),
        fingerprint: None,
    };
    let fingerprint = Some(digest(b"salt and facts of the hardware"));
    files.der("Offer-fingerprint", &Offer { fingerprint, ..offer.clone() })?;
    Ok(offer)
}

fn order(files: &mut Files, browse: &Statement, offer: Digest, follows: Digest, tariff: &Tariff) -> Outcome<Ordered> {
    let item = RequirementItem { product_id: "vm-2c4g".to_owned(), quantity: 1 };
    files.der("RequirementItem", &item)?;
    let term_ns = 7_200_000_000_000;
    let requirement =
        Requirement { catalogue_revision: 7, items: vec![item], term_ns, tariff: tariff.hash()?, parent: None };
    files.der("Requirement", &requirement)?;
    let contract_value = ContractValue { payment: Paying::Postpaid, amount: "50".parse()? };
    files.der("ContractValue", &contract_value)?;
    let statement = Statement {
        con_type: con_type::ORDER,
        contract_time: T0 + 5 * MINUTE,
        nonce: None,
        offer: Some(offer),
        follows: Some(follows),
        requirement: Some(requirement.clone()),
        contract_value: Some(contract_value),
        ..browse.clone()
    };
    Ok(Ordered(statement, requirement, contract_value, offer))
}

/// The order's statement, its requirement, its value and the offer's hash.
struct Ordered(Statement, Requirement, ContractValue, Digest);

fn deal(files: &mut Files, parties: &Parties, order: &Ordered) -> Outcome<(Deal, EntryName)> {
    let Ordered(statement, requirement, contract_value, offer) = order;
    let (der, signature) = sign(files, parties, "order", statement)?;
    let body = files.der("SignedStatement-order", &SignedStatement::new(&der, &signature, &[])?)?;
    let order_name = lone(files, "order", EntryKind::Order, 3, &body)?;
    files.der("EntryName", &order_name)?;
    let reference =
        EntryRef { log: Log::Trade, height: order_name.height, index: order_name.index, hash: order_name.hash };
    files.der("EntryRef", &reference)?;
    let time = T0 + 10 * MINUTE;
    let said = Countersignature {
        statement: digest(&der),
        buyer_signature: digest(&signature),
        computing_pool_id: POOL.to_owned(),
        time,
    };
    let countersignature = parties.node.seal(encode(&said, "Countersignature")?)?;
    files.signed("Countersignature", &countersignature)?;
    let deal = Deal {
        version: 1,
        con_type: con_type::DEAL,
        contract_no: statement.contract_no,
        contract_time: time,
        computing_pool_id: POOL.to_owned(),
        buyer: statement.buyer,
        order: order_name,
        offer: *offer,
        requirement: requirement.clone(),
        contract_value: *contract_value,
        buyer_signature: octet_string(&signature, "Deal")?,
        countersignature,
        service_end: time + i64::try_from(requirement.term_ns)?,
    };
    let body = files.der("Deal", &deal)?;
    let name = lone(files, "deal", EntryKind::Deal, 4, &body)?;
    Ok((deal, name))
}

fn score(files: &mut Files, parties: &Parties, order: &Statement, deal: Digest) -> Outcome<()> {
    let items = [(0, 95), (1, 90), (7, 81)].map(|(code, score)| ScoreItem { code, score }).to_vec();
    files.der("ScoreItem", items.first().ok_or("no score")?)?;
    let card = ScoreCard { overall: 9_191, items };
    files.der("ScoreCard", &card)?;
    let statement = Statement {
        con_type: con_type::SCORE,
        contract_time: T0 + 300 * MINUTE,
        follows: Some(deal),
        requirement: None,
        contract_value: None,
        score: Some(card),
        ..order.clone()
    };
    let (der, signature) = sign(files, parties, "score", &statement)?;
    let body = files.der("SignedStatement-score", &SignedStatement::new(&der, &signature, &[])?)?;
    lone(files, "score", EntryKind::Score, 16, &body)?;
    Ok(())
}

/// An envelope, the characters it signs, and the signature by itself.
pub(crate) fn keep(files: &mut Files, name: &str, bytes: &[u8], party: &Party) -> Outcome<()> {
    let payload = Envelope::parse(bytes)?.payload;
    files.raw(&format!("{name}.json"), bytes);
    files.raw(&format!("{name}.payload"), payload.as_bytes());
    files.raw(&format!("{name}.sig"), &party.key.sign(payload.as_bytes())?);
    Ok(())
}

/// A bill pushed by the node.
fn pushed(files: &mut Files, parties: &Parties, push: &BillPush) -> Outcome<()> {
    let (node, at) = (&parties.node, T0 + 190 * MINUTE);
    let (_, bytes) = Envelope::seal(Interface::BillPush, POOL, PLATFORM, at, None, None, push, &node.key, node.id())?;
    keep(files, "envelope", &bytes, node)
}

/// The node's question whether a bill was paid, and the platform's answer; gives the answer's envelope.
fn confirmed(files: &mut Files, parties: &Parties, bill: &Bill, paid_at: i64) -> Outcome<Vec<u8>> {
    let Parties { node, platform, .. } = parties;
    let (asks, at) = (Interface::PaymentConfirm, paid_at + MINUTE);
    let question = PaymentConfirm { bill_no: bill.number.clone() };
    let (id, asked) = Envelope::seal(asks, POOL, PLATFORM, at, None, Some(at), &question, &node.key, node.id())?;
    keep(files, "envelope-ask", &asked, node)?;
    let answer = Answer::Ok(PaymentState {
        bill_no: bill.number.clone(),
        state: "paid".to_owned(),
        amount_cny: Some(bill.total.to_string()),
        paid_at: Some(rfc3339(paid_at)),
        ..PaymentState::default()
    });
    let at = at + SECOND;
    let (_, answer) = Envelope::seal(asks, PLATFORM, POOL, at, Some(&id), None, &answer, &platform.key, platform.id())?;
    keep(files, "envelope-answer", &answer, platform)?;
    Ok(answer)
}

/// SM3 of every DER file, one `HEX  NAME` a line, as `openssl dgst -sm3 -r` would say.
pub(crate) fn hashes(files: &Files) -> String {
    let ders = files.0.iter().filter(|(name, _)| name.ends_with(".der"));
    let mut lines: Vec<String> = ders.map(|(name, bytes)| format!("{name} {}\n", wire::digest(bytes))).collect();
    lines.sort();
    lines.concat()
}
