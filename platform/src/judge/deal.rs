//! Judges what leads to a deal: the node's offer, the buyer's order, the countersigned deal. Pure.

use hufu_gm::{PublicKey, Signed, sm3::sm3};
use hufu_trade::{
    contract::Facts as Act,
    entry::{Countersignature, Deal},
    octets::{Digest, Octets},
    prepaid,
    statement::{Offer, Statement, con_type},
};

use super::{
    code::{Code, Refusal},
    entry::{Place, by_buyer, given, known, read, statement, step},
    facts::{Contract, Facts},
};

fn differs(why: &str) -> Refusal {
    Refusal::new(Code::Offer, why)
}

/// Bytes the node signed, with a key in force where they stand; the refusal is `signature`.
pub(super) fn by_node(facts: &Facts, (signed, place): (&Signed, &Place<'_>), what: &str) -> Result<(), Refusal> {
    let key = facts.node_key(&signed.cert_id());
    let in_force = |key: &PublicKey| facts.signers.may_sign(place.name.log, place.name.height, key);
    if key.is_some_and(|key| signed.verify(key).is_valid() && in_force(key)) {
        Ok(())
    } else {
        Err(Refusal::new(Code::Signature, format!("the {what} is not signed by the node")))
    }
}

pub(super) fn offer(facts: &Facts, place: &Place<'_>) -> Result<Option<String>, Refusal> {
    let signed = Signed::from_bytes(place.body).map_err(|error| Refusal::new(Code::Malformed, error))?;
    let offer: Offer = read(signed.tbs(), "Offer")?;
    by_node(facts, (&signed, place), "offer")?;
    let (contract, _) = known(facts, offer.contract_no)?;
    if contract.offer.is_some() {
        return Err(Refusal::new(Code::Duplicate, "the contract has an offer already"));
    }
    let buyer = contract.buyer.as_ref().map(|(id, _)| *id);
    if offer.computing_pool_id != facts.pool || buyer != Some(offer.buyer) || contract.browse != Some(offer.browse) {
        return Err(differs("the offer answers another browse"));
    }
    if !facts.rules.contains_key(&offer.rules) {
        return Err(Refusal::new(Code::Unknown, "the offer names a rule table that is not in the log"));
    }
    offer.tariff.check().map_err(|error| differs(&error.to_string()))?;
    Ok(None)
}

/// Whether an order stays within its offer; the error says what does not.
fn within(statement: &Statement, contract: &Contract, hash: Digest, offer: &Offer) -> Result<(), &'static str> {
    let Some(requirement) = &statement.requirement else { return Err("the order has no requirement") };
    let units = requirement.items.iter().fold(0_u32, |sum, item| sum.saturating_add(item.quantity));
    let value = statement.contract_value.as_ref();
    let priced = value.is_some_and(|value| prepaid::fits(offer, requirement, requirement.term_ns, value));
    let checks = [
        (statement.offer == Some(hash), "the order names another offer"),
        (statement.follows == contract.browse, "the order follows another entry"),
        (requirement.items.iter().all(|item| item.product_id == offer.product_id), "the order names another product"),
        (offer.tariff.hash().is_ok_and(|tariff| tariff == requirement.tariff), "the order names another tariff"),
        (requirement.term_ns <= offer.term_ns_max, "the term is longer than offered"),
        (units <= offer.stock, "more units than offered"),
        (priced, "a prepaid order must have the price of its term, and all that is priced must be reserved"),
        ((offer.valid_from..offer.valid_until).contains(&statement.contract_time), "the offer was not valid then"),
    ];
    checks.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(*why))
}

pub(super) fn order(facts: &Facts, place: &Place<'_>) -> Result<Option<String>, Refusal> {
    let (statement, signed) = statement(facts, place.body, con_type::ORDER)?;
    let (contract, table) = known(facts, statement.contract_no)?;
    if !by_buyer(contract, &statement, &signed) {
        return Err(Refusal::new(Code::Signature, "the order is not signed by the contract's buyer"));
    }
    let (hash, offer) = contract.offer.as_ref().ok_or_else(|| differs("there is no offer"))?;
    within(&statement, contract, *hash, offer).map_err(differs)?;
    let act = Act { buyer_signed: true, within_offer: true, ..given(contract, statement.contract_time) };
    step((contract, table), ("order", place.kind), act)
}

pub(super) fn deal(facts: &Facts, place: &Place<'_>) -> Result<Option<String>, Refusal> {
    let deal: Deal = read(place.body, "Deal")?;
    let (contract, table) = known(facts, deal.contract_no)?;
    if deal.version != 1 || deal.con_type != con_type::DEAL || deal.computing_pool_id != facts.pool {
        return Err(Refusal::new(Code::Malformed, "version, conType or computingPoolId"));
    }
    let (name, statement, signed) =
        contract.order.as_ref().ok_or_else(|| Refusal::new(Code::State, "there is no order to accept"))?;
    let countersigned: Countersignature = read(deal.countersignature.tbs(), "Countersignature")?;
    by_node(facts, (&deal.countersignature, place), "deal")?;
    let right = countersigned.statement == Octets(sm3(&[signed.statement.as_bytes()]))
        && countersigned.buyer_signature == Octets(sm3(&[signed.signature.as_bytes()]))
        && countersigned.computing_pool_id == facts.pool
        && deal.buyer_signature == signed.signature;
    if !right {
        return Err(Refusal::new(Code::Signature, "the countersignature covers another order"));
    }
    let term_ns = statement.requirement.as_ref().and_then(|requirement| i64::try_from(requirement.term_ns).ok());
    let end = term_ns.and_then(|term_ns| deal.contract_time.checked_add(term_ns));
    let checks = [
        (deal.order == *name, "the deal names another order"),
        (contract.offer.as_ref().is_some_and(|(hash, _)| *hash == deal.offer), "the deal names another offer"),
        (contract.buyer.as_ref().is_some_and(|(id, _)| *id == deal.buyer), "the deal names another buyer"),
        (Some(&deal.requirement) == statement.requirement.as_ref(), "the deal's requirement is not the order's"),
        (Some(deal.contract_value) == statement.contract_value, "the deal's value is not the order's"),
        (end == Some(deal.service_end), "the service does not last the term ordered"),
    ];
    if let Some((_, why)) = checks.iter().find(|(holds, _)| !holds) {
        return Err(differs(why));
    }
    let act = Act { buyer_signed: true, within_offer: true, ..given(contract, deal.contract_time) };
    step((contract, table), ("deal", place.kind), act)
}
