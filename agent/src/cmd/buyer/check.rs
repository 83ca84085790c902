//! What a buyer checks before it signs, and before it believes a deal. Pure: anchors and time are arguments.

use hufu_audit::{Exit, Failure};
use hufu_gm::{Certificate, Signed, Usage, sm3::sm3, verify_chain};
use hufu_ledger::Entry;
use hufu_trade::{
    contract::overall_score,
    decode,
    entry::{Countersignature, Deal, EntryKind, SignedStatement},
    if2::{Accepted, Offered, SendOrder},
    octets::{ContractNo, Digest, Octets, rfc3339},
    party::is_named,
    resource::{KINDS, Resource},
    rules::RuleTable,
    statement::{Offer, ScoreCard, ScoreItem, Statement},
};

use super::{
    sign::{Buyer, digest},
    state::Asked,
};
use crate::text::Text;

/// A node's clock may be ahead by this much.
const SKEW_NS: i64 = 60_000_000_000;

/// An offer that passed every check.
pub(super) struct Checked {
    pub(super) offer: Offer,
    /// SM3 of the offer's signed bytes.
    pub(super) offer_hash: Digest,
    table: RuleTable,
    node: Certificate,
}

fn no(text: Text) -> Failure<Text> {
    Failure::new(Exit::No, text)
}

fn malformed(what: &str, why: &dyn std::fmt::Display) -> Failure<Text> {
    Failure::new(Exit::Malformed, Text::Malformed { path: what.to_owned(), why: why.to_string() })
}

fn open_offer(offered: &Offered) -> Result<(Signed, Offer), Failure<Text>> {
    let signed = Signed::from_bytes(&offered.offer.0).map_err(|e| malformed("offer", &e))?;
    let offer: Offer = decode(signed.tbs(), "Offer").map_err(|e| malformed("offer", &e))?;
    Ok((signed, offer))
}

/// When the offer began to hold.
pub(super) fn offered_at(offered: &Offered) -> Result<i64, Failure<Text>> {
    Ok(open_offer(offered)?.1.valid_from)
}

/// The contract that it is about.
pub(super) fn contract_of(offered: &Offered) -> Result<ContractNo, Failure<Text>> {
    Ok(open_offer(offered)?.1.contract_no)
}

/// Chain to an anchor, the node's name, its signature, the request it answers, validity, price terms, rule table.
pub(super) fn offer(
    asked: &Asked,
    offered: &Offered,
    anchors: &[Certificate],
    now_ns: i64,
) -> Result<Checked, Failure<Text>> {
    let (signed, offer) = open_offer(offered)?;
    let certificates = offered.certificates.iter().map(|der| Certificate::from_der(&der.0));
    let certificates: Vec<Certificate> =
        certificates.collect::<Result<_, _>>().map_err(|e| malformed("certificates", &e))?;
    let (node, rest) = certificates.split_first().ok_or_else(|| malformed("certificates", &"none"))?;
    verify_chain(node, rest, anchors, &[], now_ns, Usage::Signing)
        .map_err(|e| no(Text::OfferChain { why: e.to_string() }))?;
    if !is_named(node, &asked.pool) {
        return Err(no(Text::OfferNode { name: node.subject(), pool: asked.pool.clone() }));
    }
    if signed.cert_id() != node.id() || !signed.verify(node.public_key()).is_valid() {
        return Err(no(Text::OfferSignature {}));
    }
    let request = &asked.request;
    let browsed: Statement = decode(&request.statement.0, "Statement").map_err(|e| malformed("request", &e))?;
    for (field, same) in [
        ("contractNo", offer.contract_no == browsed.contract_no),
        ("computingPoolId", offer.computing_pool_id == asked.pool),
        ("buyer", offer.buyer == browsed.buyer),
        ("productId", offer.product_id == request.product_id),
        ("browse", names_request(&offer, offered, asked)?),
    ] {
        if !same {
            return Err(no(Text::OfferField { field: field.to_owned() }));
        }
    }
    if now_ns >= offer.valid_until {
        return Err(no(Text::OfferExpired { until: rfc3339(offer.valid_until) }));
    }
    if offer.valid_from.saturating_sub(SKEW_NS) > now_ns {
        return Err(no(Text::OfferEarly { from: rfc3339(offer.valid_from) }));
    }
    offer.tariff.check().map_err(|e| no(Text::OfferTariff { why: e.to_string() }))?;
    if Octets(sm3(&[offered.rules.as_bytes()])) != offer.rules {
        return Err(no(Text::OfferRules { why: "SM3".to_owned() }));
    }
    let table = RuleTable::from_toml(&offered.rules).map_err(|e| no(Text::OfferRules { why: e.to_string() }))?;
    Ok(Checked { offer_hash: digest(signed.tbs()), offer, table, node: node.clone() })
}

/// Whether the browse entry the offer names holds exactly what this buyer sent.
fn names_request(offer: &Offer, offered: &Offered, asked: &Asked) -> Result<bool, Failure<Text>> {
    let entry = Entry::from_bytes(&offered.entry.0).map_err(|e| malformed("browse entry", &e))?;
    let body: SignedStatement = decode(&entry.body, "SignedStatement").map_err(|e| malformed("browse entry", &e))?;
    Ok(Octets(hufu_ledger::entry_hash(&offered.entry.0)) == offer.browse
        && entry.kind == EntryKind::Browse.number()
        && body.statement.as_bytes() == asked.request.statement.0
        && body.signature.as_bytes() == asked.request.signature.0)
}

/// The offer was made for the certificate that is about to sign.
pub(super) fn offer_is_mine(checked: &Checked, buyer: &Buyer) -> Result<(), Failure<Text>> {
    if checked.offer.buyer == buyer.id { Ok(()) } else { Err(no(Text::OfferField { field: "buyer".to_owned() })) }
}

/// Quantity and term within the offer.
pub(super) fn order_fits(offer: &Offer, quantity: u32, term_ns: u64) -> Result<(), Failure<Text>> {
    if quantity > offer.stock {
        return Err(no(Text::OfferStock { wanted: quantity.to_string(), stock: offer.stock.to_string() }));
    }
    if term_ns > offer.term_ns_max {
        let seconds = |ns: u64| (ns / 1_000_000_000).to_string();
        return Err(no(Text::OfferTerm { wanted: seconds(term_ns), max: seconds(offer.term_ns_max) }));
    }
    Ok(())
}

/// The deal is about this order, and the node countersigned it.
pub(super) fn deal(checked: &Checked, order: &SendOrder, accepted: &Accepted) -> Result<Deal, Failure<Text>> {
    let entry = Entry::from_bytes(&accepted.entry.0).map_err(|e| malformed("deal entry", &e))?;
    if entry.kind != EntryKind::Deal.number() {
        return Err(malformed("deal entry", &format!("kind {}", entry.kind)));
    }
    let deal: Deal = decode(&entry.body, "Deal").map_err(|e| malformed("deal entry", &e))?;
    let ordered: Statement = decode(&order.statement.0, "Statement").map_err(|e| malformed("order", &e))?;
    let counter = &deal.countersignature;
    let said: Countersignature =
        decode(counter.tbs(), "Countersignature").map_err(|e| malformed("countersignature", &e))?;
    if counter.cert_id() != checked.node.id() || !counter.verify(checked.node.public_key()).is_valid() {
        return Err(no(Text::DealField { field: "countersignature".to_owned() }));
    }
    let offer = &checked.offer;
    let term_ns = ordered.requirement.as_ref().map_or(0, |requirement| requirement.term_ns);
    let end = i64::try_from(term_ns).ok().and_then(|term| deal.contract_time.checked_add(term));
    for (field, same) in [
        ("conType", deal.con_type == hufu_trade::statement::con_type::DEAL),
        ("contractNo", deal.contract_no == offer.contract_no && accepted.contract_no == deal.contract_no.to_string()),
        ("computingPoolId", deal.computing_pool_id == offer.computing_pool_id),
        ("buyer", deal.buyer == offer.buyer),
        ("offer", deal.offer == checked.offer_hash && ordered.offer == Some(checked.offer_hash)),
        ("requirement", ordered.requirement.as_ref() == Some(&deal.requirement)),
        ("contractValue", ordered.contract_value == Some(deal.contract_value)),
        ("buyerSignature", deal.buyer_signature.as_bytes() == order.signature.0),
        ("countersignature.statement", said.statement == digest(&order.statement.0)),
        ("countersignature.buyerSignature", said.buyer_signature == digest(&order.signature.0)),
        ("countersignature.computingPoolId", said.computing_pool_id == offer.computing_pool_id),
        ("serviceEnd", end == Some(deal.service_end)),
    ] {
        if !same {
            return Err(no(Text::DealField { field: field.to_owned() }));
        }
    }
    Ok(deal)
}

/// The score list with its overall score: one item for each priced kind of the deal.
pub(super) fn score_card(checked: &Checked, scores: &[ScoreItem]) -> Result<ScoreCard, Failure<Text>> {
    let priced = checked.offer.tariff.prices.iter().filter_map(|price| price.resource.parse::<Resource>().ok());
    let mut due: Vec<u8> = priced.map(|resource| resource.kind as u8).collect();
    due.sort_unstable();
    due.dedup();
    let mut items = scores.to_vec();
    items.sort_by_key(|item| item.code);
    if !items.iter().map(|item| item.code).eq(due.iter().copied()) {
        let name = |code: &u8| KINDS.get(usize::from(*code)).map_or("?", |kind| kind.name());
        let names: Vec<&str> = due.iter().map(name).collect();
        return Err(Failure::new(Exit::Usage, Text::ScoreItems { names: names.join(" ") }));
    }
    let overall = overall_score(&checked.table, &items).map_err(|e| no(Text::OfferRules { why: e.to_string() }))?;
    Ok(ScoreCard { overall, items })
}
