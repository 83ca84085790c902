//! What buyers ask of the node (browse, order, score), judged and turned into entries. Pure: no clock, no disk, no network.
//! State changes only when the entries are applied (`contract.rs`).

use hufu_gm::{PublicKey, Signed, Usage, cert::Certificate, sm3::sm3, verify_chain};
use hufu_ledger::{Log, NewBlock};
use hufu_trade::{
    contract::{Facts, Refusal, next, overall_score},
    encode,
    entry::{Countersignature, Deal, EntryKind, OrderStatus, SignedStatement, octet_string},
    estimate::all_held,
    if2::{Browse, Problem, Remedy, SendOrder},
    money::Money,
    octets::{ContractNo, Digest, Octets},
    prepaid,
    resource::Resource,
    rules::{BROWSE, REFUSE},
    statement::{Offer, Payment, Requirement, Statement, con_type},
};

use crate::{contract::Contract, directory, node::Core, stock::reserves};

/// A statement older or newer than this against the node's clock is refused: it may be a replay of an old one.
pub(crate) const FRESH_NS: i64 = 3_600_000_000_000;

/// What to do with an accepted request.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Append these blocks, then answer.
    Write(Vec<NewBlock>),
    /// The same request was accepted before: answer again.
    Again,
}

/// A refusal in both languages.
pub(crate) fn problem(code: &str, field: Option<&str>, en: impl Into<String>, zh: impl Into<String>) -> Problem {
    Problem { code: code.to_owned(), field: field.map(str::to_owned), remedy: Remedy { en: en.into(), zh: zh.into() } }
}

pub(crate) fn malformed(error: impl std::fmt::Display) -> Problem {
    problem("malformed", None, format!("malformed request: {error}"), format!("请求格式错误：{error}"))
}

pub(crate) fn refused(refusal: &Refusal) -> Problem {
    problem(refusal.code(), None, format!("the contract refuses: {refusal}"), format!("合约拒绝：{refusal}"))
}

pub(crate) fn own_fault(error: impl std::fmt::Display) -> Problem {
    problem("busy", None, format!("the node cannot answer now: {error}"), format!("节点暂时无法应答：{error}"))
}

/// Reads a statement of the expected type for this node, signed by `buyer_key`.
fn read_statement(core: &Core, signed: &SignedStatement, kind: u8) -> Result<Statement, Problem> {
    let statement = signed.open().map_err(malformed)?;
    if statement.con_type != kind {
        return Err(malformed(format!("conType {} where {kind} is due", statement.con_type)));
    }
    if statement.computing_pool_id != core.identity.pool {
        let here = &core.identity.pool;
        return Err(malformed(format!("computingPoolId {} where this node is {here}", statement.computing_pool_id)));
    }
    Ok(statement)
}

fn signed_by(contract: &Contract, signed: &SignedStatement) -> bool {
    let verify = |key: &PublicKey| key.verify(signed.statement.as_bytes(), signed.signature.as_bytes()).is_valid();
    contract.buyer_key.as_ref().is_some_and(verify)
}

pub(crate) fn stale() -> Problem {
    problem(
        "offer",
        Some("contractTime"),
        "the statement's time is more than an hour from the node's clock; set the clock and sign again",
        "声明时间与节点时钟相差超过一小时；请校准时钟后重新签名",
    )
}

fn conflict() -> Problem {
    problem(
        "duplicate",
        Some("contractNo"),
        "this contract number already has another statement; start with a new browse",
        "该合约编号已有另一份声明；请重新浏览",
    )
}

pub(crate) fn unknown(no: ContractNo) -> Problem {
    problem("unknown", Some("contractNo"), format!("no contract {no} here"), format!("本节点没有合约 {no}"))
}

/// The path of a buyer's certificate to an anchor, none of it taken back as far as a directory is asked.
fn trusted(
    core: &Core,
    leaf: &Certificate,
    intermediates: &[Certificate],
    now_ns: i64,
) -> Result<Vec<Certificate>, Problem> {
    let known = core.directory.as_ref();
    let crls = known.map(directory::Known::crls).unwrap_or_default();
    let all = [intermediates, known.map_or(&[][..], directory::Known::issuers)].concat();
    let path = verify_chain(leaf, &all, &core.identity.anchors, &crls, now_ns, Usage::Signing).map_err(|e| {
        let zh = format!("证书不被信任：{e}");
        problem("certificate", Some("certificates"), format!("the certificate is not trusted: {e}"), zh)
    })?;
    known.map_or(Ok(()), |known| known.speaks_for(&path, now_ns))?;
    Ok(path)
}

/// Paper 2.2 (1): a browse statement becomes a browse entry and a signed offer.
///
/// # Errors
/// The [`Problem`] for the buyer.
pub(crate) fn browse(core: &Core, now_ns: i64, request: &Browse) -> Result<(ContractNo, Plan), Problem> {
    let chain: Vec<Vec<u8>> = request.certificates.iter().map(|c| c.0.clone()).collect();
    let signed = SignedStatement::new(&request.statement.0, &request.signature.0, &chain).map_err(malformed)?;
    let statement = read_statement(core, &signed, con_type::BROWSE)?;
    let no = statement.contract_no;
    if core.book.contracts.contains_key(&no) {
        let contract = core.contract(no)?;
        let same = contract.browse_hash == sm3(&[&request.statement.0]);
        let product = contract.offer.as_ref().is_some_and(|(_, offer, _)| offer.product_id == request.product_id);
        return if same && product { Ok((no, Plan::Again)) } else { Err(conflict()) };
    }
    if now_ns.abs_diff(statement.contract_time) > FRESH_NS.unsigned_abs() {
        return Err(stale());
    }
    let certificates: Vec<Certificate> =
        chain.iter().map(|der| Certificate::from_der(der)).collect::<Result<_, _>>().map_err(malformed)?;
    let Some((leaf, intermediates)) = certificates.split_first() else {
        return Err(malformed("no certificate"));
    };
    if Octets(leaf.id()) != statement.buyer {
        return Err(malformed("the certificate is not the one the statement names"));
    }
    let path = trusted(core, leaf, intermediates, now_ns)?;
    // What the directory had to add stands in the entry, too: whoever reads it later has no directory to ask.
    let is_complete = path.iter().skip(1).all(|one| core.identity.anchors.contains(one) || intermediates.contains(one));
    let signed = if is_complete {
        signed
    } else {
        let anchored = path.iter().take_while(|one| !core.identity.anchors.contains(one));
        let chain: Vec<Vec<u8>> = anchored.map(|one| one.der().to_vec()).collect();
        SignedStatement::new(&request.statement.0, &request.signature.0, &chain).map_err(malformed)?
    };
    let buyer_signed = leaf.public_key().verify(&request.statement.0, &request.signature.0).is_valid();
    let Some((rules, _, table)) = core.book.table_of(None) else { return Err(own_fault("no rule table")) };
    let facts = Facts { buyer_signed, node_signed: true, window_open: true, ..Facts::default() };
    next(table, &table.start, BROWSE, facts).map_err(|r| refused(&r))?;
    let Some(product) = core.shop.product(&request.product_id).filter(|product| product.is_listed) else {
        let zh = format!("没有产品 {}", request.product_id);
        return Err(problem("unknown", Some("product_id"), format!("no product {}", request.product_id), zh));
    };
    core.may_buy(statement.buyer)?;
    let mut batch = core.batch();
    let body = encode(&signed, "SignedStatement").map_err(malformed)?;
    let browse = batch.entry(Log::Trade, (EntryKind::Browse, Some(no), body)).map_err(own_fault)?;
    let tariff = core.shop.tariff(product);
    let valid_ns = i64::try_from(table.parameters.offer_valid_s).unwrap_or(0).saturating_mul(1_000_000_000);
    let offer = Offer {
        version: 1,
        contract_no: no,
        computing_pool_id: core.identity.pool.clone(),
        buyer: statement.buyer,
        browse: browse.hash,
        product_id: product.id.clone(),
        catalogue_revision: core.book.revision,
        stock: core.shop.free_for(&core.book, product, statement.buyer).unwrap_or(0),
        term_ns_max: product.term_max_ns,
        valid_from: now_ns,
        valid_until: now_ns.saturating_add(valid_ns),
        metered: core.shop.metered_list(product, &tariff),
        tariff,
        window_ns: core.window_ns,
        reserves: reserves(product),
        rules: *rules,
        fingerprint: core.shop.hardware.fingerprint,
    };
    let sealed = core.seal(encode(&offer, "Offer").map_err(own_fault)?).map_err(own_fault)?;
    batch.entry(Log::Trade, (EntryKind::Offer, Some(no), sealed)).map_err(own_fault)?;
    Ok((no, Plan::Write(batch.finish())))
}

fn within_offer(statement: &Statement, offer: &Offer, offer_hash: Digest, contract: &Contract, now_ns: i64) -> bool {
    let (Some(requirement), Some(value)) = (&statement.requirement, &statement.contract_value) else { return false };
    let [item] = requirement.items.as_slice() else { return false };
    statement.offer == Some(offer_hash)
        && statement.follows == Some(contract.browse.hash)
        && statement.buyer == contract.buyer
        && item.product_id == offer.product_id
        && (1..=offer.stock).contains(&item.quantity)
        && requirement.catalogue_revision == offer.catalogue_revision
        && requirement.term_ns <= offer.term_ns_max
        && offer.tariff.hash().is_ok_and(|hash| hash == requirement.tariff)
        && prepaid::fits(offer, requirement, requirement.term_ns, value)
        && now_ns.abs_diff(statement.contract_time) <= FRESH_NS.unsigned_abs()
        // Both, for everybody else holds the statement's own time against the offer, and would refuse the deal.
        && (offer.valid_from..offer.valid_until).contains(&statement.contract_time)
        && (offer.valid_from..offer.valid_until).contains(&now_ns)
}

/// What one usage window may cost when an order uses all it holds: with less no service could be given that is paid for.
///
/// # Errors
/// [`hufu_trade::Error`] for quantities out of range.
fn least_ceiling(offer: &Offer, requirement: &Requirement) -> Result<Money, hufu_trade::Error> {
    let units = requirement.items.iter().fold(0_u128, |sum, item| sum + u128::from(item.quantity));
    all_held(&offer.tariff, &offer.reserves, units, offer.window_ns)
}

/// Paper 2.2 (2) and (3): an order statement becomes an order entry and, if capacity is free, the deal.
///
/// # Errors
/// The [`Problem`] for the buyer, before anything is written. An order that is in order but finds no capacity is written
/// together with its refusal.
pub(crate) fn order(core: &Core, now_ns: i64, request: &SendOrder) -> Result<(ContractNo, Plan), Problem> {
    let signed = SignedStatement::new(&request.statement.0, &request.signature.0, &[]).map_err(malformed)?;
    let statement = read_statement(core, &signed, con_type::ORDER)?;
    let no = statement.contract_no;
    let contract = core.contract(no)?;
    if let Some((_, hash)) = &contract.order {
        return if *hash == sm3(&[&request.statement.0]) { Ok((no, Plan::Again)) } else { Err(conflict()) };
    }
    let Some((.., table)) = core.book.table_of(Some(contract)) else { return Err(own_fault("no rule table")) };
    let Some((_, offer, offer_hash)) = &contract.offer else { return Err(unknown(no)) };
    let within = within_offer(&statement, offer, *offer_hash, contract, now_ns);
    let (Some(requirement), Some(value)) = (statement.requirement.clone(), statement.contract_value) else {
        return Err(malformed("requirement and contractValue expected"));
    };
    if value.payment == Payment::Prepaid {
        let price = prepaid::price_of_term(offer, &requirement, requirement.term_ns).map_err(malformed)?;
        if value.amount != price {
            let en = format!("{} where the price of this term is {price}", value.amount);
            let zh = format!("金额 {}，而本期限的价格为 {price}", value.amount);
            return Err(problem("amount", Some("contract_value"), en, zh));
        }
    }
    let least = least_ceiling(offer, &requirement).map_err(malformed)?;
    if value.payment == Payment::Postpaid && value.amount < least {
        let en =
            format!("the ceiling is {}, one window of this order may cost {least}; sign a higher one", value.amount);
        let zh = format!("上限为 {}，本订单一个计量窗口的费用可达 {least}；请签署更高的上限", value.amount);
        return Err(problem("amount", Some("contract_value"), en, zh));
    }
    let wanted = requirement.items.iter().fold(0_u32, |sum, item| sum.saturating_add(item.quantity));
    let free = core
        .shop
        .product(&offer.product_id)
        .and_then(|product| core.shop.free_for(&core.book, product, contract.buyer));
    let facts = Facts {
        buyer_signed: signed_by(contract, &signed),
        within_offer: within,
        capacity_free: free.is_some_and(|free| wanted <= free),
        ..core.facts(contract, now_ns)
    };
    let ordered = next(table, &contract.state, "order", facts).map_err(|r| refused(&r))?;
    core.may_buy(contract.buyer)?;
    let mut batch = core.batch();
    let body = encode(&signed, "SignedStatement").map_err(malformed)?;
    let order = batch.entry(Log::Trade, (EntryKind::Order, Some(no), body)).map_err(own_fault)?;
    if let Err(refusal) = next(table, ordered.next, "deal", facts) {
        let step = next(table, ordered.next, REFUSE, facts).map_err(|_| refused(&refusal))?;
        let status = OrderStatus {
            version: 1,
            contract_no: no,
            act: REFUSE.to_owned(),
            from: ordered.next.to_owned(),
            to: step.next.to_owned(),
            time: now_ns,
            why: refusal.to_string(),
        };
        let body = encode(&status, "OrderStatus").map_err(own_fault)?;
        batch.entry(Log::Trade, (EntryKind::OrderStatus, Some(no), body)).map_err(own_fault)?;
        return Ok((no, Plan::Write(batch.finish())));
    }
    let counter = Countersignature {
        statement: Octets(sm3(&[&request.statement.0])),
        buyer_signature: Octets(sm3(&[&request.signature.0])),
        computing_pool_id: core.identity.pool.clone(),
        time: now_ns,
    };
    let sealed = core.seal(encode(&counter, "Countersignature").map_err(own_fault)?).map_err(own_fault)?;
    let term_ns = i64::try_from(requirement.term_ns).unwrap_or(i64::MAX);
    let deal = Deal {
        version: 1,
        con_type: con_type::DEAL,
        contract_no: no,
        contract_time: now_ns,
        computing_pool_id: core.identity.pool.clone(),
        buyer: contract.buyer,
        order,
        offer: *offer_hash,
        requirement,
        contract_value: value,
        buyer_signature: octet_string(&request.signature.0, "Deal").map_err(malformed)?,
        countersignature: Signed::from_bytes(&sealed).map_err(own_fault)?,
        service_end: now_ns.saturating_add(term_ns),
    };
    let body = encode(&deal, "Deal").map_err(own_fault)?;
    batch.entry(Log::Trade, (EntryKind::Deal, Some(no), body)).map_err(own_fault)?;
    Ok((no, Plan::Write(batch.finish())))
}

/// Paper 2.2 (4): a score statement becomes a score entry, once, after service ended, if its overall score is the contract's.
///
/// # Errors
/// The [`Problem`] for the buyer.
pub(crate) fn score(core: &Core, request: &SendOrder) -> Result<(ContractNo, Plan), Problem> {
    let signed = SignedStatement::new(&request.statement.0, &request.signature.0, &[]).map_err(malformed)?;
    let statement = read_statement(core, &signed, con_type::SCORE)?;
    let no = statement.contract_no;
    let contract = core.contract(no)?;
    if let Some((_, hash)) = &contract.score {
        return if *hash == sm3(&[&request.statement.0]) { Ok((no, Plan::Again)) } else { Err(conflict()) };
    }
    let Some((.., table)) = core.book.table_of(Some(contract)) else { return Err(own_fault("no rule table")) };
    let (Some((_, offer, offer_hash)), Some((deal_name, _)), Some(card)) =
        (&contract.offer, &contract.deal, &statement.score)
    else {
        return Err(problem("state", None, "there is no deal to score", "没有可评分的交易"));
    };
    let follows = statement.offer == Some(*offer_hash)
        && statement.follows == Some(deal_name.hash)
        && statement.buyer == contract.buyer;
    if !follows {
        return Err(malformed("offer, follows or buyer is not that of the deal"));
    }
    let kinds = scored_kinds(offer);
    if !card.items.iter().all(|item| kinds.contains(&item.code)) || card.items.len() != kinds.len() {
        let names = format!("one score for each priced resource kind of the deal, codes {kinds:?}");
        let zh = format!("交易中每种计价资源各一个评分，代码 {kinds:?}");
        return Err(problem("malformed", Some("score"), names, zh));
    }
    let overall = overall_score(table, &card.items).map_err(malformed)?;
    if overall != card.overall {
        let zh = format!("总评分应为 {overall}（百分之一）");
        return Err(problem("amount", Some("overall"), format!("the overall score must be {overall} hundredths"), zh));
    }
    let buyer_signed = signed_by(contract, &signed);
    let facts = Facts { buyer_signed, ..core.facts(contract, statement.contract_time) };
    next(table, &contract.state, "score", facts).map_err(|r| refused(&r))?;
    let mut batch = core.batch();
    let body = encode(&signed, "SignedStatement").map_err(malformed)?;
    batch.entry(Log::Trade, (EntryKind::Score, Some(no), body)).map_err(own_fault)?;
    Ok((no, Plan::Write(batch.finish())))
}

/// The resource kinds a deal is scored on: those its tariff prices, by code.
fn scored_kinds(offer: &Offer) -> Vec<u8> {
    let resources = offer.tariff.prices.iter().filter_map(|price| price.resource.parse::<Resource>().ok());
    let mut kinds: Vec<u8> = resources.map(|resource| resource.kind as u8).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
