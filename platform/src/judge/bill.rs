//! Judges usage records, bills and payments: the chain without holes, the bill computed again to the last digit. Pure.

use hufu_trade::{
    bill::Bill,
    contract::Facts as Act,
    entry::{EntryKind, Payment},
    if2::{Answer, Envelope, Interface, PaymentState},
    rating::{Before, Terms, rate},
    rules::RuleTable,
    statement::Payment as Paying,
    usage::{Reading, UsageRecord},
};

use super::{
    code::{Code, Refusal},
    entry::{Judged, Place, given, known, read, step},
    facts::{Contract, Facts},
};

pub(super) fn usage(facts: &Facts, place: &Place<'_>) -> Result<Option<String>, Refusal> {
    let record: UsageRecord = read(place.body, "UsageRecord")?;
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
    record.readings.iter().try_for_each(|reading| total(&record, reading, last.map(|(_, record)| record)))?;
    Ok(None)
}

/// Total = total before + delta; a gap adds nothing.
fn total(record: &UsageRecord, reading: &Reading, last: Option<&UsageRecord>) -> Result<(), Refusal> {
    let resource = reading.resource().map_err(|error| Refusal::new(Code::Malformed, error))?;
    let same = |other: &&Reading| other.code == reading.code && other.qualifier == reading.qualifier;
    let before = last.and_then(|last| last.readings.iter().find(same)).and_then(|reading| reading.total);
    let delta = reading.delta.unwrap_or(0);
    let follows = match reading.total {
        None => reading.delta.is_none() && before.is_none(),
        Some(total) => before.unwrap_or(0).checked_add(delta) == Some(total),
    };
    if follows && !(record.reason.is_gap() && delta != 0) {
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
    if table.other_log_may_allow(&contract.state, "bill") && !facts.waited {
        return Ok(Judged::Waits);
    }
    if contract.bills.iter().any(|(_, earlier)| earlier.number == bill.number) {
        return Err(Refusal::new(Code::Duplicate, format!("bill {} a second time", bill.number)));
    }
    let after = step(table, contract, "bill", given(contract, bill.period_end))?;
    Ok(match check(facts, contract, table, &bill) {
        Ok(()) => Judged::Accepted(after),
        Err(refusal) => Judged::Disputed(refusal, after),
    })
}

/// Whether a bill is exactly what follows from the records, and not above the ceiling.
fn check(facts: &Facts, contract: &Contract, table: &RuleTable, bill: &Bill) -> Result<(), Refusal> {
    let computed = compute(facts, contract, table, bill)?;
    if let Some(what) = difference(bill, &computed) {
        return Err(Refusal::new(Code::Amount, format!("bill {}: {what}", bill.number)));
    }
    let value = contract.deal.as_ref().map(|(_, deal)| deal.contract_value);
    if value.is_some_and(|value| value.payment == Paying::Postpaid && bill.total > value.amount) {
        return Err(Refusal::new(Code::Amount, format!("bill {} is above the contract's ceiling", bill.number)));
    }
    Ok(())
}

/// The bill as it follows from the stored records and the deal's tariff.
fn compute(facts: &Facts, contract: &Contract, table: &RuleTable, bill: &Bill) -> Result<Bill, Refusal> {
    let unknown = |what: &str| Refusal::new(Code::Unknown, format!("bill {}: {what}", bill.number));
    let (deal_hash, _) = contract.deal.as_ref().ok_or_else(|| unknown("no deal"))?;
    let (offer_hash, offer) = contract.offer.as_ref().ok_or_else(|| unknown("no offer"))?;
    let (buyer, _) = contract.buyer.as_ref().ok_or_else(|| unknown("no buyer"))?;
    let before = match contract.bills.last() {
        None => None,
        Some((hash, last)) => {
            let record = contract.records.iter().find(|(_, record)| record.order_seq == last.last_seq);
            let (_, record) = record.ok_or_else(|| unknown("the last record of the bill before is missing"))?;
            let count = u32::try_from(contract.bills.len()).unwrap_or(u32::MAX);
            Some(Before { hash: *hash, count, last: record.clone() })
        }
    };
    let first = before.as_ref().map_or(0, |before| before.last.order_seq.saturating_add(1));
    let in_period = |seq: u64| (first..=bill.last_seq).contains(&seq);
    let records: Vec<_> = contract.records.iter().filter(|(_, r)| in_period(r.order_seq)).cloned().collect();
    let terms = Terms {
        contract_no: bill.contract_no,
        computing_pool_id: &facts.pool,
        buyer: *buyer,
        deal: *deal_hash,
        offer: *offer_hash,
        tariff: &offer.tariff,
        gap_rule: &table.parameters.gap_rating,
        left: contract.left().map_err(|error| Refusal::new(Code::Amount, error))?,
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
    } else {
        Some("its period, references or terms are not those of the contract".to_owned())
    }
}

pub(super) fn payment(facts: &Facts, place: &Place<'_>) -> Result<Judged, Refusal> {
    let payment: Payment = read(place.body, "Payment")?;
    let (contract, table) = known(facts, payment.contract_no)?;
    let trade_size = facts.logs.first().map_or(0, |log| log.size);
    let early = payment.rests_on.height >= trade_size || table.other_log_may_allow(&contract.state, "pay");
    if early && !facts.waited {
        return Ok(Judged::Waits);
    }
    let billed = contract.bills.iter().find(|(hash, bill)| *hash == payment.bill && bill.number == payment.number);
    let (_, bill) = billed.ok_or_else(|| Refusal::new(Code::Unknown, format!("no bill {}", payment.number)))?;
    let recorded = contract.payments.iter().find(|(number, _)| *number == payment.number);
    let (_, amount) =
        recorded.ok_or_else(|| Refusal::new(Code::Unknown, format!("no payment of {} here", payment.number)))?;
    let given = Act {
        platform_signed: confirmed(facts, &payment),
        amount_matches: payment.amount == bill.total && *amount == bill.total,
        ..given(contract, payment.paid_at)
    };
    Ok(step(table, contract, "pay", given).into())
}

/// Whether the confirmation inside is this platform's word that the bill was paid.
fn confirmed(facts: &Facts, payment: &Payment) -> bool {
    let Some((id, key)) = &facts.platform else { return false };
    let received = payment.confirmation.as_bytes();
    let Ok(envelope) = Envelope::parse(received) else { return false };
    if envelope.signer().ok().map(|signer| signer.0) != Some(*id) {
        return false;
    }
    let opened = envelope.open::<Answer<PaymentState>>(key, Interface::PaymentConfirm, &facts.pool, received);
    opened.is_ok_and(|opened| match opened.payload.body {
        Answer::Ok(state) => {
            let amount = state.amount_cny.as_deref().and_then(|text| text.parse().ok());
            state.bill_no == payment.number && state.state == "paid" && amount == Some(payment.amount)
        }
        Answer::Error(_) => false,
    })
}
