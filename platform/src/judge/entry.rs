//! Judges one entry of a stored block: who signed it, what it names, what the contract allows. Pure. Offers, orders and
//! deals are `deal.rs`, notices
//! `notice.rs`, usage and bills `bill.rs`, what follows a bill `payment.rs`. A refused entry stays stored, in dispute.

use hufu_gm::{Hash, Signed, sm3::sm3};
use hufu_trade::{
    allocation::Allocation,
    contract::{Facts as Act, overall_score, replay},
    decode,
    entry::{
        Certificates, EntryKind, EntryName, Epoch, FinanceLink, OrderStatus, Receipt, Rules, SetAside, SignedStatement,
        UserOperation,
    },
    octets::{ContractNo, Octets},
    resource::Resource,
    rules::{EXHAUST, RuleTable},
    statement::{Offer, Payment as Paying, ScoreItem, Statement, con_type},
    usage::{UsageRecord, Window},
};

use super::{
    bill,
    certificate::trusted,
    code::{Code, Refusal},
    deal,
    facts::{Contract, Facts, node_certificates},
    kinds, notice, payment,
};

/// An entry taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    /// Where it is and what it hashes to.
    pub(crate) name: &'a EntryName,
    /// What it is.
    pub(crate) kind: EntryKind,
    /// Its body.
    pub(crate) body: &'a [u8],
    /// What a usage record's or gap's body says, where it decodes.
    pub(crate) record: Option<&'a UsageRecord>,
    /// Time of its block, ns since 1970-01-01Z.
    pub(crate) block_ns: i64,
    /// Certificate id of the key that signed its block.
    pub(crate) signer: Hash,
}

/// What judging an entry gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// In order; the contract's state afterwards, if the entry moved it.
    Accepted(Option<String>),
    /// The other log must come first.
    Waits,
    /// Refused.
    Refused(Refusal),
    /// Refused, and yet the contract moves: the node's log goes on from it, its content is in dispute.
    Disputed(Refusal, Option<String>),
}

impl From<Result<Option<String>, Refusal>> for Judged {
    fn from(result: Result<Option<String>, Refusal>) -> Self {
        result.map_or_else(Judged::Refused, Judged::Accepted)
    }
}

/// Decodes strictly; other bytes are `malformed`.
pub(super) fn read<T>(body: &[u8], what: &'static str) -> Result<T, Refusal>
where
    T: for<'a> der::Decode<'a, Error = der::Error> + der::Encode,
{
    decode(body, what).map_err(|error| Refusal::new(Code::Malformed, error))
}

/// Judges an entry against the facts.
pub(crate) fn judge(facts: &Facts, place: &Place<'_>) -> Judged {
    let finance_kind =
        matches!(place.kind, EntryKind::Bill | EntryKind::Correction | EntryKind::Payment | EntryKind::RefundPaid);
    // Both logs open an epoch, each for itself.
    if finance_kind != (place.name.log == 1) && place.kind != EntryKind::Epoch {
        return Judged::Refused(Refusal::new(Code::Malformed, format!("{} in the wrong log", place.kind.name())));
    }
    match place.kind {
        EntryKind::Browse => browse(facts, place).into(),
        EntryKind::Offer => deal::offer(facts, place).into(),
        EntryKind::Order => deal::order(facts, place).into(),
        EntryKind::Deal => deal::deal(facts, place).into(),
        EntryKind::Score => score(facts, place).unwrap_or_else(Judged::Refused),
        EntryKind::OrderStatus => status(facts, place).unwrap_or_else(Judged::Refused),
        EntryKind::Usage | EntryKind::Gap => bill::usage(facts, place).into(),
        EntryKind::Bill => bill::bill(facts, place).unwrap_or_else(Judged::Refused),
        EntryKind::Notice => notice::notice(facts, place).unwrap_or_else(Judged::Refused),
        EntryKind::Correction => payment::correction(facts, place).unwrap_or_else(Judged::Refused),
        EntryKind::Payment => payment::payment(facts, place).unwrap_or_else(Judged::Refused),
        EntryKind::RefundPaid => payment::refund(facts, place).unwrap_or_else(Judged::Refused),
        EntryKind::FinanceLink => link(facts, place).unwrap_or_else(Judged::Refused),
        EntryKind::UserOperation => operation(facts, place).into(),
        EntryKind::Allocation => allocation(facts, place).into(),
        EntryKind::Demand => kinds::demand(facts, place).into(),
        EntryKind::Response => kinds::response(facts, place).into(),
        EntryKind::Matching => kinds::matching(facts, place).into(),
        EntryKind::Account => kinds::account(facts, place).into(),
        EntryKind::KeyRotation => kinds::rotation(facts, place).into(),
        EntryKind::Rules => rules(place.body).into(),
        EntryKind::Receipt => receipt(facts, place.body).into(),
        EntryKind::Certificates => certificates(facts, place.body).into(),
        EntryKind::Window => read::<Window>(place.body, "Window").map(|_| None).into(),
        EntryKind::SetAside => read::<SetAside>(place.body, "SetAside").map(|_| None).into(),
        EntryKind::Epoch => read::<Epoch>(place.body, "Epoch").map(|_| None).into(),
        // A kind of a later version is stored and not judged.
        #[allow(unreachable_patterns, reason = "the list of kinds grows in `trade`; a new one is stored, not judged")]
        _ => Judged::Accepted(None),
    }
}

/// One step of the contract by an entry of a kind; the state after it.
pub(super) fn step(
    (contract, table): (&Contract, &RuleTable),
    (act, kind): (&str, EntryKind),
    given: Act,
) -> Result<Option<String>, Refusal> {
    let state = if contract.state.is_empty() { table.start.as_str() } else { contract.state.as_str() };
    let step = replay(table, state, act, kind, given).map_err(|refusal| {
        let code = match refusal.code() {
            "signature" => Code::Signature,
            "stock" => Code::Stock,
            "amount" => Code::Amount,
            "offer" => Code::Offer,
            _ => Code::State,
        };
        Refusal::new(code, refusal)
    })?;
    Ok(Some(step.next.to_owned()))
}

/// What holds for any act of a contract at a time; what only the act's own content shows is for the caller to add. Nobody but
/// the node can know what was free: its countersignature says so.
pub(super) fn given(contract: &Contract, act_ns: i64) -> Act {
    Act {
        node_signed: true,
        capacity_free: true,
        within_offer: contract.deal.is_some(),
        window_open: contract.in_force.is_none_or(|in_force| act_ns < in_force.service_end),
        ..Act::default()
    }
}

/// The contract and its rule table.
pub(super) fn known(facts: &Facts, no: ContractNo) -> Result<(&Contract, &RuleTable), Refusal> {
    let contract = facts.contracts.get(&no).filter(|contract| !contract.state.is_empty());
    let contract = contract.ok_or_else(|| Refusal::new(Code::Unknown, format!("no contract {no}")))?;
    let table = facts.table(Some(contract)).ok_or_else(|| Refusal::new(Code::Unknown, "no rule table"))?;
    Ok((contract, table))
}

/// A statement of the expected type for this node.
pub(super) fn statement(facts: &Facts, body: &[u8], kind: u8) -> Result<(Statement, SignedStatement), Refusal> {
    let signed: SignedStatement = read(body, "SignedStatement")?;
    let statement = signed.open().map_err(|error| Refusal::new(Code::Malformed, error))?;
    if statement.con_type != kind || statement.computing_pool_id != facts.pool {
        return Err(Refusal::new(Code::Malformed, "conType or computingPoolId is not that of this entry and node"));
    }
    Ok((statement, signed))
}

/// Whether the contract's buyer made the statement and its signature.
pub(super) fn by_buyer(contract: &Contract, statement: &Statement, signed: &SignedStatement) -> bool {
    contract.buyer.as_ref().is_some_and(|(id, key)| {
        *id == statement.buyer && key.verify(signed.statement.as_bytes(), signed.signature.as_bytes()).is_valid()
    })
}

/// What a user of the site did moves nothing: its form, and that the contract is known.
fn operation(facts: &Facts, place: &Place<'_>) -> Result<Option<String>, Refusal> {
    let done: UserOperation = read(place.body, "UserOperation")?;
    done.check().map_err(|error| Refusal::new(Code::Malformed, error))?;
    known(facts, done.contract_no).map(|_| None)
}

/// Which devices an order holds moves nothing: its form, and that the contract has a deal whose offer reserves so many of them.
fn allocation(facts: &Facts, place: &Place<'_>) -> Result<Option<String>, Refusal> {
    let given: Allocation = read(place.body, "Allocation")?;
    given.check().map_err(|error| Refusal::new(Code::Malformed, error))?;
    let (contract, _) = known(facts, given.contract_no)?;
    let (Some((_, offer)), Some((_, deal))) = (&contract.offer, &contract.deal) else {
        return Err(Refusal::new(Code::State, "there is no deal whose devices these could be"));
    };
    let units: u64 = deal.requirement.items.iter().map(|item| u64::from(item.quantity)).sum();
    let is_held = |resource: &str| {
        let count = given.devices.iter().filter(|device| device.resource == resource).count();
        let held = offer.reserves.iter().find(|held| held.resource == resource);
        held.and_then(|held| held.quantity.checked_mul(units)).is_some_and(|held| u64::try_from(count) == Ok(held))
    };
    if given.devices.iter().all(|device| is_held(&device.resource)) {
        Ok(None)
    } else {
        Err(Refusal::new(Code::Offer, "these are not the devices that the offer reserves"))
    }
}

fn browse(facts: &Facts, place: &Place<'_>) -> Result<Option<String>, Refusal> {
    let (statement, signed) = statement(facts, place.body, con_type::BROWSE)?;
    let ders: Vec<Vec<u8>> = signed.certificates.iter().map(|der| der.as_bytes().to_vec()).collect();
    let chain = trusted(&ders, &facts.anchors, place.block_ns)?;
    let leaf = chain.first().filter(|leaf| Octets(leaf.id()) == statement.buyer);
    let leaf = leaf.ok_or_else(|| Refusal::new(Code::Certificate, "not the certificate the statement names"))?;
    let buyer_signed = leaf.public_key().verify(signed.statement.as_bytes(), signed.signature.as_bytes()).is_valid();
    let table = facts.table(None).ok_or_else(|| Refusal::new(Code::Unknown, "no rule table"))?;
    let fresh = Contract::default();
    let contract = facts.contracts.get(&statement.contract_no).unwrap_or(&fresh);
    step((contract, table), ("browse", place.kind), Act { buyer_signed, ..given(contract, statement.contract_time) })
}

fn score(facts: &Facts, place: &Place<'_>) -> Result<Judged, Refusal> {
    let (statement, signed) = statement(facts, place.body, con_type::SCORE)?;
    let (contract, table) = known(facts, statement.contract_no)?;
    check_score(contract, table, &statement, &signed)?;
    // The bill that a score follows may still be on its way in the other log.
    if table.other_log_may_allow(&contract.state, "score") && !facts.waited {
        return Ok(Judged::Waits);
    }
    let act = Act { buyer_signed: true, ..given(contract, statement.contract_time) };
    Ok(step((contract, table), ("score", place.kind), act).into())
}

/// Whether a score statement is the buyer's, of this contract, with the overall score the contract computes.
///
/// # Errors
/// The [`Refusal`].
pub(crate) fn check_score(
    contract: &Contract,
    table: &RuleTable,
    statement: &Statement,
    signed: &SignedStatement,
) -> Result<(), Refusal> {
    if !by_buyer(contract, statement, signed) {
        return Err(Refusal::new(Code::Signature, "the score is not signed by the contract's buyer"));
    }
    let (Some((offer, terms)), Some((deal, _)), Some(card)) = (&contract.offer, &contract.deal, &statement.score)
    else {
        return Err(Refusal::new(Code::State, "there is no deal to score"));
    };
    if statement.offer != Some(*offer) || statement.follows != Some(*deal) {
        return Err(Refusal::new(Code::Offer, "the score names another offer or deal"));
    }
    scores_all(terms, &card.items)?;
    let overall = overall_score(table, &card.items).map_err(|error| Refusal::new(Code::Malformed, error))?;
    if overall == card.overall {
        Ok(())
    } else {
        Err(Refusal::new(Code::Amount, format!("overall score {} where {overall} follows", card.overall)))
    }
}

/// One score for each resource kind that the offer prices, no more and no less: otherwise keeping a score that the node
/// refuses would shut the right one out.
fn scores_all(offer: &Offer, items: &[ScoreItem]) -> Result<(), Refusal> {
    let priced = offer.tariff.prices.iter().filter_map(|price| price.resource.parse::<Resource>().ok());
    let mut due: Vec<u8> = priced.map(|resource| resource.kind as u8).collect();
    due.sort_unstable();
    due.dedup();
    if items.iter().map(|item| item.code).eq(due) {
        Ok(())
    } else {
        Err(Refusal::new(Code::Malformed, "one score for each priced resource kind of the deal is expected"))
    }
}

fn status(facts: &Facts, place: &Place<'_>) -> Result<Judged, Refusal> {
    let status: OrderStatus = read(place.body, "OrderStatus")?;
    let (contract, table) = known(facts, status.contract_no)?;
    if table.other_log_may_allow(&contract.state, &status.act) && !facts.waited {
        return Ok(Judged::Waits);
    }
    let is_prepaid = contract.in_force.is_some_and(|in_force| in_force.value.payment == Paying::Prepaid);
    if status.act == EXHAUST && is_prepaid {
        return Err(Refusal::new(Code::State, "a prepaid contract has no ceiling that could be exhausted"));
    }
    let after = step((contract, table), (&status.act, place.kind), given(contract, status.time))?;
    if status.from == contract.state && Some(&status.to) == after.as_ref() {
        Ok(Judged::Accepted(after))
    } else {
        Err(Refusal::new(Code::State, format!("{} leads from {} to another state", status.act, contract.state)))
    }
}

fn link(facts: &Facts, place: &Place<'_>) -> Result<Judged, Refusal> {
    let link: FinanceLink = read(place.body, "FinanceLink")?;
    let finance_size = facts.logs.get(1).map_or(0, |log| log.size);
    if link.finance.height >= finance_size && !facts.waited {
        return Ok(Judged::Waits);
    }
    match facts.named.get(&link.finance.hash) {
        Some((name, kind)) if *name == link.finance && *kind == link.kind => Ok(Judged::Accepted(None)),
        _ => Err(Refusal::new(Code::Unknown, "no such finance entry")),
    }
}

fn rules(body: &[u8]) -> Result<Option<String>, Refusal> {
    let rules: Rules = read(body, "Rules")?;
    RuleTable::from_toml(&rules.text).map(|_| None).map_err(|error| Refusal::new(Code::Malformed, error))
}

fn receipt(facts: &Facts, body: &[u8]) -> Result<Option<String>, Refusal> {
    let signed = Signed::from_bytes(body).map_err(|error| Refusal::new(Code::Malformed, error))?;
    let receipt: Receipt = read(signed.tbs(), "Receipt")?;
    let ours = facts.platform.as_ref().filter(|(id, _)| *id == signed.cert_id());
    match ours {
        // Signed under a certificate the platform had before: it cannot be judged here, and it obliges nobody.
        None => Ok(None),
        Some((_, key)) if receipt.computing_pool_id == facts.pool && signed.verify(key).is_valid() => Ok(None),
        Some(_) => Err(Refusal::new(Code::Signature, "not a receipt of this platform")),
    }
}

fn certificates(facts: &Facts, body: &[u8]) -> Result<Option<String>, Refusal> {
    let listed: Certificates = read(body, "Certificates")?;
    if node_certificates(body).is_none() {
        return Ok(None);
    }
    let leaf = listed.certificates.first().map(|der| sm3(&[der.as_bytes()]));
    let known = leaf.and_then(|id| facts.certificates.get(&id));
    known.map(|_| None).ok_or_else(|| Refusal::new(Code::Certificate, "these certificates are not trusted"))
}
