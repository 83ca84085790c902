//! Judges what follows a bill: the correction that lowers it, its payment, the refund of what was paid above. Pure. The bill
//! itself is `bill.rs`, the dispute before a correction `notice.rs`.

use der::asn1::OctetString;
use hufu_gm::sm2::PublicKey;
use hufu_trade::{
    bill::Bill,
    confirm,
    contract::Facts as Act,
    correction::{Correction, RefundPaid},
    decode,
    entry::{EntryKind, EntryName, Payment},
    money::Money,
    octets::Digest,
    prepaid,
    rules::{CORRECT, REFUND, RuleTable},
};

use super::{
    bill::compute,
    code::{Code, Refusal},
    entry::{Judged, Place, given, known, read, step},
    facts::{Billed, Contract, Facts},
};

/// The trade entry that a finance entry rests on, where its kind has one of its own.
pub(super) fn rests_on(kind: EntryKind, body: &[u8]) -> Option<Digest> {
    let name = match kind {
        EntryKind::Correction => decode::<Correction>(body, "Correction").ok()?.rests_on,
        EntryKind::Payment => decode::<Payment>(body, "Payment").ok()?.rests_on,
        EntryKind::RefundPaid => decode::<RefundPaid>(body, "RefundPaid").ok()?.rests_on,
        EntryKind::Bill => return decode::<Bill>(body, "Bill").ok()?.rests_on.map(|name| name.hash),
        _ => return None,
    };
    Some(name.hash)
}

/// Whether an entry must wait for the trade log: for what it rests on, or for what allows its act.
///
/// # Errors
/// The [`Refusal`] of a name that the trade log gives to another entry.
pub(super) fn is_early(
    facts: &Facts,
    (contract, table): (&Contract, &RuleTable),
    act: &str,
    rests_on: &EntryName,
) -> Result<bool, Refusal> {
    let trade_size = facts.logs.first().map_or(0, |log| log.size);
    if rests_on.log == 0 && rests_on.height >= trade_size {
        return Ok(!facts.waited);
    }
    let is_there = rests_on.log == 0 && facts.named.get(&rests_on.hash).is_some_and(|(name, _)| name == rests_on);
    if !is_there {
        return Err(Refusal::new(Code::Unknown, "it rests on an entry that the trade log does not have"));
    }
    if table.other_log_may_allow(&contract.state, act) && !facts.waited {
        return Ok(true);
    }
    match &contract.moved {
        Some(moved) if moved != rests_on => {
            Err(Refusal::new(Code::State, "it does not rest on the newest trade entry that moved the contract"))
        }
        _ => Ok(false),
    }
}

fn no_bill(number: &str) -> Refusal {
    Refusal::new(Code::Unknown, format!("no bill {number}"))
}

/// A bill that may be paid.
fn payable<'a>(contract: &'a Contract, hash: Digest, number: &str) -> Result<&'a Billed, Refusal> {
    let billed = contract.billed(hash).filter(|billed| !billed.refused && billed.bill.number == number);
    billed.ok_or_else(|| no_bill(number))
}

fn recorded(amounts: &[(String, Money)], number: &str) -> Option<Money> {
    amounts.iter().find(|(of, _)| of == number).map(|(_, amount)| *amount)
}

pub(super) fn correction(facts: &Facts, place: &Place<'_>) -> Result<Judged, Refusal> {
    let correction: Correction = read(place.body, "Correction")?;
    let (contract, table) = known(facts, correction.contract_no)?;
    if correction.computing_pool_id != facts.pool {
        return Err(Refusal::new(Code::Malformed, "computingPoolId is not that of this node"));
    }
    if is_early(facts, (contract, table), CORRECT, &correction.rests_on)? {
        return Ok(Judged::Waits);
    }
    let billed = contract.billed(correction.bill).ok_or_else(|| no_bill(&correction.number))?;
    billed.due.corrected(place.name.hash, &correction).map_err(|error| {
        let code = match &error {
            hufu_trade::Error::Field { field: "version", .. } => Code::Malformed,
            hufu_trade::Error::Field { field: "number" | "previous", .. } => Code::State,
            _ => Code::Amount,
        };
        Refusal::new(code, error)
    })?;
    let after = step((contract, table), (CORRECT, place.kind), given(contract, correction.time))?;
    let mended = if billed.refused { mends(facts, (contract, table), billed, &correction) } else { Ok(()) };
    // One that does not go far enough stands in the log, and the next one follows it: as with the bill itself, the contract
    // moves and the bill stays refused.
    Ok(match mended {
        Ok(()) => Judged::Accepted(after),
        Err(refusal) => Judged::Disputed(refusal, after),
    })
}

/// Whether a correction mends a bill that was refused: not above what follows from the records. Only amounts can be mended:
/// under another number the bill would stand in for one that is somebody else's.
fn mends(
    facts: &Facts,
    course: (&Contract, &RuleTable),
    billed: &Billed,
    correction: &Correction,
) -> Result<(), Refusal> {
    let computed = compute(facts, course, billed.hash, &billed.bill)?;
    let bill = &billed.bill;
    let is_taken = course.0.bills.iter().any(|other| !other.refused && other.bill.number == bill.number);
    let is_the_one = bill.number == computed.number
        && bill.computing_pool_id == computed.computing_pool_id
        && bill.currency == computed.currency;
    if is_taken || !is_the_one {
        let why = format!("bill {} is wrong in more than its amounts", bill.number);
        return Err(Refusal::new(Code::Amount, why));
    }
    if correction.total > computed.total {
        let why =
            format!("{}: {} where {} follows from the records", correction.number, correction.total, computed.total);
        return Err(Refusal::new(Code::Amount, why));
    }
    Ok(())
}

pub(super) fn payment(facts: &Facts, place: &Place<'_>) -> Result<Judged, Refusal> {
    let payment: Payment = read(place.body, "Payment")?;
    let (contract, table) = known(facts, payment.contract_no)?;
    let act = table.pay_act(contract.others_open(payment.bill));
    if is_early(facts, (contract, table), act, &payment.rests_on)? {
        return Ok(Judged::Waits);
    }
    let billed = payable(contract, payment.bill, &payment.number)?;
    let due = billed.due.total;
    let back = prepaid::refund_of(&billed.bill, &billed.due).map_err(|error| Refusal::new(Code::Amount, error))?;
    let platform_signed = confirmed(facts, &payment.confirmation, |key| confirm::payment(&payment, key, &facts.pool));
    // A platform that was restored from a backup has lost what its operator recorded; its own signed word still stands.
    let paid = recorded(&contract.payments, &payment.number).or(platform_signed.then_some(payment.amount));
    let paid = paid.ok_or_else(|| Refusal::new(Code::Unknown, format!("no payment of {} here", payment.number)))?;
    let given = Act {
        platform_signed,
        amount_matches: payment.amount == due
            && paid == due
            && is_of_level(contract, &payment)
            && confirm::names_refund(payment.confirmation.as_bytes(), back),
        ..given(contract, payment.paid_at)
    };
    Ok(step((contract, table), (act, place.kind), given).into())
}

/// Whether it was paid on the level that the buyer signed: through the parent order, or by itself.
fn is_of_level(contract: &Contract, payment: &Payment) -> bool {
    let parent = contract.deal.as_ref().and_then(|(_, deal)| deal.requirement.parent);
    confirm::parent_bill(payment.confirmation.as_bytes(), parent.as_ref()).is_ok()
}

pub(super) fn refund(facts: &Facts, place: &Place<'_>) -> Result<Judged, Refusal> {
    let refund: RefundPaid = read(place.body, "RefundPaid")?;
    let (contract, table) = known(facts, refund.contract_no)?;
    if refund.version != 1 {
        return Err(Refusal::new(Code::Malformed, "unknown version, 1 expected"));
    }
    if is_early(facts, (contract, table), REFUND, &refund.rests_on)? {
        return Ok(Judged::Waits);
    }
    let due = &payable(contract, refund.bill, &refund.number)?.due;
    if due.last != Some(refund.correction) {
        let why = format!("the refund of {} does not name its last correction", refund.number);
        return Err(Refusal::new(Code::Unknown, why));
    }
    let platform_signed = confirmed(facts, &refund.confirmation, |key| confirm::refund(&refund, key, &facts.pool));
    let back = recorded(&contract.refunds, &refund.number).or(platform_signed.then_some(refund.amount));
    let both = recorded(&contract.payments, &refund.number).zip(back);
    let (paid, back) =
        both.ok_or_else(|| Refusal::new(Code::Unknown, format!("no refund of {} here", refund.number)))?;
    let over = paid.minus(due.total).map_err(|error| Refusal::new(Code::Amount, error))?;
    let given = Act {
        platform_signed,
        amount_matches: over > Money(0) && refund.amount == over && back == over,
        ..given(contract, refund.paid_at)
    };
    Ok(step((contract, table), (REFUND, place.kind), given).into())
}

/// Whether the confirmation inside is this platform's, and says what the entry says.
fn confirmed(
    facts: &Facts,
    confirmation: &OctetString,
    says: impl Fn(&PublicKey) -> Result<(), hufu_trade::Error>,
) -> bool {
    let Some((id, key)) = &facts.platform else { return false };
    let signer = confirm::sealed(confirmation.as_bytes()).map(|sealed| sealed.cert_id.0);
    signer.is_ok_and(|signer| signer == *id) && says(key).is_ok()
}
