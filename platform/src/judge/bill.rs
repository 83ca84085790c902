//! Judges usage records and bills: the chain without holes, the bill computed again to the last digit. Pure. What follows a
//! bill is `payment.rs`.

use std::borrow::Cow;

use hufu_trade::{
    bill::Bill,
    entry::EntryKind,
    money::Money,
    octets::Digest,
    period::{self, Calendar, Covers},
    prepaid::Prepaid,
    quality,
    rating::{Before, Terms, rate},
    rules::{BILL, BILL_PERIOD, RuleTable},
    statement::Payment,
    usage::{Reading, Reason, UsageRecord},
};

use super::{
    code::{Code, Refusal},
    entry::{Judged, Place, given, known, read, step},
    facts::{Contract, Facts},
    payment::is_early,
};

pub(super) fn usage(facts: &Facts, place: &Place<'_>) -> Result<Option<String>, Refusal> {
    // What does not decode is decoded again, for the words of the refusal.
    let record = place
        .record
        .map_or_else(|| read(place.body, "UsageRecord").map(Cow::Owned), |record| Ok(Cow::Borrowed(record)))?;
    let record: &UsageRecord = &record;
    if record.version != 1 || record.reason.is_gap() != (place.kind == EntryKind::Gap) {
        return Err(Refusal::new(Code::Malformed, "version, or a gap that is no gap"));
    }
    let (contract, _) = known(facts, record.contract_no)?;
    let (deal_hash, deal) =
        contract.deal.as_ref().ok_or_else(|| Refusal::new(Code::Unknown, "usage without a deal"))?;
    let last = contract.last.as_ref();
    let (seq, previous, start) = match last {
        Some((name, record)) => (record.order_seq.saturating_add(1), name.hash, record.end),
        None => (0, *deal_hash, deal.contract_time),
    };
    if record.order_seq != seq || record.previous != previous {
        let why = format!("record {} does not continue the chain, {seq} is due", record.order_seq);
        return Err(Refusal::new(Code::State, why));
    }
    if record.start < start || record.end < record.start {
        return Err(Refusal::new(
            Code::State,
            format!("record {seq} overlaps the one before or ends before it starts"),
        ));
    }
    let last = last.map(|(_, record)| record);
    record.check_meter(last.map(|last| last.meter)).map_err(|error| Refusal::new(Code::Malformed, error))?;
    record.readings.iter().try_for_each(|reading| total(record, reading, last))?;
    quality::check(record, last).map_err(|error| Refusal::new(Code::Amount, error))?;
    Ok(None)
}

/// Total = total before + delta; a gap adds nothing, nor does a suspension.
fn total(record: &UsageRecord, reading: &Reading, last: Option<&UsageRecord>) -> Result<(), Refusal> {
    let resource = reading.resource().map_err(|error| Refusal::new(Code::Malformed, error))?;
    let same = |other: &&Reading| other.code == reading.code && other.qualifier == reading.qualifier;
    let before = last.and_then(|last| last.readings.iter().find(same)).and_then(|reading| reading.total);
    let delta = reading.delta.unwrap_or(0);
    let follows = match reading.total {
        None => reading.delta.is_none() && before.is_none(),
        Some(total) => before.unwrap_or(0).checked_add(delta) == Some(total),
    };
    let adds_nothing = record.reason.is_gap() || record.reason == Reason::Suspended;
    if follows && !(adds_nothing && delta != 0) {
        Ok(())
    } else {
        let why = format!("record {}: the total of {resource} does not follow from its deltas", record.order_seq);
        Err(Refusal::new(Code::Amount, why))
    }
}

pub(super) fn bill(facts: &Facts, place: &Place<'_>) -> Result<Judged, Refusal> {
    let bill: Bill = read(place.body, "Bill")?;
    let trade_size = facts.logs.first().map_or(0, |log| log.size);
    if bill.last_record.height >= trade_size && !facts.waited {
        return Ok(Judged::Waits);
    }
    let (contract, table) = known(facts, bill.contract_no)?;
    // Where it stands among the acts of the contract: a bill by period says it, the last one comes when service has ended.
    let is_early = match &bill.rests_on {
        Some(name) => is_early(facts, (contract, table), BILL_PERIOD, name)?,
        None => table.other_log_may_allow(&contract.state, BILL) && !facts.waited,
    };
    if is_early {
        return Ok(Judged::Waits);
    }
    if contract.bills.iter().any(|earlier| !earlier.refused && earlier.bill.number == bill.number) {
        return Err(Refusal::new(Code::Duplicate, format!("bill {} a second time", bill.number)));
    }
    let after = step((contract, table), (bill.act(), place.kind), given(contract, bill.period_end))?;
    let checked =
        check(facts, (contract, table), place.name.hash, &bill).and_then(|()| covers((contract, table), place, &bill));
    Ok(match checked {
        Ok(()) => Judged::Accepted(after),
        Err(refusal) => Judged::Disputed(refusal, after),
    })
}

/// Whether a bill covers the usage of the period that it is for.
fn covers((contract, table): (&Contract, &RuleTable), place: &Place<'_>, bill: &Bill) -> Result<(), Refusal> {
    let Some((_, offer)) = &contract.offer else { return Ok(()) };
    let first = contract.records.iter().find(|(_, record)| record.order_seq == bill.first_seq);
    let covers = Covers {
        by_period: bill.rests_on.is_some(),
        first_end: first.map_or(bill.period_end, |(_, record)| record.end),
        last_end: bill.period_end,
        made: Some(place.block_ns),
    };
    let before = contract.before(place.name.hash, bill.previous_bill);
    let ends = period::ends(before.into_iter().map(|billed| &billed.bill));
    let payment = contract.in_force.map_or(Payment::Postpaid, |in_force| in_force.value.payment);
    let held = Calendar::of(table, &offer.tariff, payment)
        .and_then(|calendar| period::check(calendar.as_ref(), ends, &covers));
    held.map_err(|error| Refusal::new(Code::Amount, error))
}

/// Whether a bill is exactly what follows from the records, cut at the ceiling.
fn check(facts: &Facts, course: (&Contract, &RuleTable), hash: Digest, bill: &Bill) -> Result<(), Refusal> {
    let computed = compute(facts, course, hash, bill)?;
    match difference(bill, &computed) {
        Some(what) => Err(Refusal::new(Code::Amount, format!("bill {}: {what}", bill.number))),
        None => Ok(()),
    }
}

/// What the bills before the one of an entry have left of the ceiling in force; `None`: there is no ceiling.
fn left(contract: &Contract, hash: Digest, bill: &Bill) -> Result<Option<Money>, Refusal> {
    let billed = contract.before(hash, bill.previous_bill).into_iter().map(|billed| billed.bill.total);
    let left = contract.in_force.map_or(Ok(None), |in_force| in_force.left(billed));
    left.map_err(|error| Refusal::new(Code::Amount, error))
}

/// The bill as it follows from the stored records and the deal's tariff, in place of the one whose entry is `hash`.
///
/// # Errors
/// The [`Refusal`].
pub(super) fn compute(
    facts: &Facts,
    (contract, table): (&Contract, &RuleTable),
    hash: Digest,
    bill: &Bill,
) -> Result<Bill, Refusal> {
    let unknown = |what: &str| Refusal::new(Code::Unknown, format!("bill {}: {what}", bill.number));
    let (deal_hash, deal) = contract.deal.as_ref().ok_or_else(|| unknown("no deal"))?;
    let (offer_hash, offer) = contract.offer.as_ref().ok_or_else(|| unknown("no offer"))?;
    let (buyer, _) = contract.buyer.as_ref().ok_or_else(|| unknown("no buyer"))?;
    let earlier = contract.before(hash, bill.previous_bill);
    let before = match earlier.last() {
        None => None,
        Some(last) => {
            let record = contract.records.iter().find(|(_, record)| record.order_seq == last.bill.last_seq);
            let (_, record) = record.ok_or_else(|| unknown("the last record of the bill before is missing"))?;
            let count = u32::try_from(earlier.len()).unwrap_or(u32::MAX);
            Some(Before { hash: last.hash, count, last: record.clone() })
        }
    };
    let first = before.as_ref().map_or(0, |before| before.last.order_seq.saturating_add(1));
    let in_period = |seq: u64| (first..=bill.last_seq).contains(&seq);
    let records: Vec<_> = contract.records.iter().filter(|(_, r)| in_period(r.order_seq)).cloned().collect();
    let in_force = contract.in_force.ok_or_else(|| unknown("no deal"))?;
    let prepaid = Prepaid::of(offer, deal, &in_force, table.parameters.proration)
        .map_err(|error| Refusal::new(Code::Amount, error))?;
    let terms = Terms {
        contract_no: bill.contract_no,
        computing_pool_id: &facts.pool,
        buyer: *buyer,
        deal: *deal_hash,
        offer: *offer_hash,
        tariff: &offer.tariff,
        gap_rule: &table.parameters.gap_rating,
        left: left(contract, hash, bill)?,
        rests_on: bill.rests_on.clone(),
        prepaid: prepaid.as_ref(),
    };
    rate(&terms, before.as_ref(), &records).map_err(|error| Refusal::new(Code::Amount, error))
}

/// The first thing in which a bill differs from the computed one.
fn difference(bill: &Bill, computed: &Bill) -> Option<String> {
    if bill == computed {
        None
    } else if bill.total != computed.total {
        Some(format!("total {} where {} follows from the records", bill.total, computed.total))
    } else if bill.lines != computed.lines || bill.rounding != computed.rounding {
        Some("its lines do not follow from the records".to_owned())
    } else if bill.quality != computed.quality {
        Some("its quality lines do not follow from the records".to_owned())
    } else {
        Some("its period, references or terms are not those of the contract".to_owned())
    }
}
