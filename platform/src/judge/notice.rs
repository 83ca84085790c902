//! Judges notices, by which the buyer or the platform moves a running contract. Pure. What an act means is the rule table's
//! matter; what a dispute leads to is `payment.rs`.

use hufu_gm::{Hash, Signed, sm2::PublicKey, sm3::sm3};
use hufu_trade::{
    contract::Facts as Act,
    notice::Notice,
    octets::Octets,
    rules::{Party, RuleTable, Write},
};

use super::{
    code::{Code, Refusal},
    entry::{Judged, Place, given, known, read, step},
    facts::{Contract, Facts},
};

/// A notice for the node `pool`, its fields in order. Nobody's signature is verified.
///
/// # Errors
/// The [`Refusal`].
pub(crate) fn open(bytes: &[u8], pool: &str) -> Result<(Signed, Notice), Refusal> {
    let signed = Signed::from_bytes(bytes).map_err(|error| Refusal::new(Code::Malformed, error))?;
    let notice: Notice = read(signed.tbs(), "Notice")?;
    notice.check().map_err(|error| Refusal::new(Code::Malformed, error))?;
    if notice.computing_pool_id == pool {
        Ok((signed, notice))
    } else {
        Err(Refusal::new(Code::Malformed, "computingPoolId is not that of this node"))
    }
}

/// Whether a notice is signed under this certificate.
pub(crate) fn is_by(signed: &Signed, (id, key): (&Hash, &PublicKey)) -> bool {
    signed.cert_id() == *id && signed.verify(key).is_valid()
}

/// Whether an act of a state happens by nothing but a notice of this party. A notice must never stand for an act that leaves
/// something else in the log: it could pay a bill.
pub(crate) fn is_notice(table: &RuleTable, state: &str, act: &str, by: Option<Party>) -> bool {
    let row = table.row(state, act).filter(|row| row.writes == [Write::Notice]);
    row.is_some_and(|row| by.is_none_or(|by| row.signers == [by]))
}

pub(super) fn notice(facts: &Facts, place: &Place<'_>) -> Result<Judged, Refusal> {
    let (signed, notice) = open(place.body, &facts.pool)?;
    let (contract, table) = known(facts, notice.contract_no)?;
    if contract.deal.as_ref().map(|(hash, _)| *hash) != Some(notice.deal) {
        return Err(Refusal::new(Code::Malformed, "the notice names another deal"));
    }
    let buyer_signed = contract.buyer.as_ref().is_some_and(|(id, key)| is_by(&signed, (&id.0, key)));
    let platform_signed = facts.platform.as_ref().is_some_and(|(id, key)| is_by(&signed, (id, key)));
    if !buyer_signed && !platform_signed {
        let why = "the notice is signed neither by the contract's buyer nor by this platform";
        return Err(Refusal::new(Code::Signature, why));
    }
    if contract.notices.contains(&Octets(sm3(&[signed.tbs()]))) {
        return Err(Refusal::new(Code::Duplicate, format!("the notice to {} a second time", notice.act)));
    }
    // The bill or payment that it follows may still be on its way in the other log.
    if table.other_log_may_allow(&contract.state, &notice.act) && !facts.waited {
        return Ok(Judged::Waits);
    }
    if notice.bill.is_some_and(|bill| contract.billed(bill).is_none()) {
        return Err(Refusal::new(Code::Unknown, "the notice is about a bill that this contract does not have"));
    }
    if table.row(&contract.state, &notice.act).is_some() && !is_notice(table, &contract.state, &notice.act, None) {
        return Err(Refusal::new(Code::State, format!("act {} does not happen by a notice", notice.act)));
    }
    let within_offer = is_within_offer(contract, &notice);
    let act = Act { buyer_signed, platform_signed, within_offer, ..given(contract, notice.time) };
    Ok(step((contract, table), (&notice.act, place.kind), act).into())
}

/// Whether a renewal, if it is one, stays within the offer.
fn is_within_offer(contract: &Contract, notice: &Notice) -> bool {
    let terms = contract.in_force.zip(contract.offer.as_ref()).zip(contract.deal.as_ref());
    notice.renewal.as_ref().is_none_or(|renewal| {
        terms.is_some_and(|((in_force, (_, offer)), (_, deal))| in_force.takes(renewal, (offer, deal), notice.time))
    })
}
