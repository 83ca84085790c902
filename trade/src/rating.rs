//! Rating: usage records and price terms in, bill out. Pure, integers only; estimate and bill are the same function.

use crate::{
    Error,
    bill::{Bill, Line, RatedGap},
    entry::EntryName,
    money::Money,
    octets::{ContractNo, Digest},
    prepaid::Prepaid,
    quality,
    resource::Resource,
    tariff::{Price, Scheme, Tariff},
    usage::{Reading, Reason, Status, UsageRecord},
};

/// Lines of some quantities under some prices, with the rounding line and the total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rated {
    /// Line items in resource and tier order.
    pub lines: Vec<Line>,
    /// total - sum of lines.
    pub rounding: Money,
    /// Whole fen.
    pub total: Money,
}

/// quantity x price / (base units per named unit), in 10^-8 CNY, half-even: the one division of a line.
fn amount(quantity: u128, price: i128, units: u128) -> Result<Money, Error> {
    let overflow = || Error::Overflow { what: "amount of a line" };
    let price = u128::try_from(price).map_err(|_| overflow())?;
    // Prices are 10^-10, amounts 10^-8: hence the factor 100.
    let divisor = units.checked_mul(100).ok_or_else(overflow)?;
    let product = quantity.checked_mul(price).ok_or_else(overflow)?;
    let (quotient, remainder) = (product / divisor, product % divisor);
    let twice = remainder.checked_mul(2).ok_or_else(overflow)?;
    let up = twice > divisor || (twice == divisor && quotient % 2 == 1);
    let rounded = quotient.checked_add(u128::from(up)).ok_or_else(overflow)?;
    i128::try_from(rounded).map(Money).map_err(|_| overflow())
}

fn lines_of(price: &Price, resource: &Resource, quantity: u128) -> Result<Vec<Line>, Error> {
    let (per, units) = resource.kind.priced_per();
    let line = |tier: usize, part: u128| -> Result<Line, Error> {
        let wrong = || Error::Field { what: "Tariff", field: "prices", why: "too many tiers".to_owned() };
        let unit_price = price.tiers.get(tier).ok_or_else(wrong)?.price;
        Ok(Line {
            resource: resource.to_string(),
            unit: resource.unit().to_owned(),
            quantity: part,
            tier: u16::try_from(tier + 1).map_err(|_| wrong())?,
            unit_price,
            per: per.to_owned(),
            amount: amount(part, unit_price.0, units)?,
        })
    };
    if price.scheme != Scheme::Graduated {
        let reached = price.tiers.iter().position(|tier| tier.up_to.is_none_or(|bound| quantity <= bound)).unwrap_or(0);
        return Ok(vec![line(reached, quantity)?]);
    }
    let mut lines = Vec::new();
    let mut below = 0_u128;
    for (index, tier) in price.tiers.iter().enumerate() {
        let upper = tier.up_to.map_or(quantity, |bound| bound.min(quantity));
        if upper > below || (index == 0 && quantity == 0) {
            lines.push(line(index, upper - below)?);
            below = upper;
        }
    }
    Ok(lines)
}

/// Rates quantities: a resource without a price costs nothing and has no line.
///
/// # Errors
/// [`Error::Field`] for price terms that [`Tariff::check`] refuses; [`Error::Overflow`] for quantities beyond 128 bits of money.
pub fn rate_quantities(tariff: &Tariff, quantities: &[(Resource, u128)]) -> Result<Rated, Error> {
    tariff.check()?;
    let mut lines = Vec::new();
    for price in &tariff.prices {
        let resource: Resource = price.resource.parse()?;
        if let Some((_, quantity)) = quantities.iter().find(|(other, _)| *other == resource) {
            lines.extend(lines_of(price, &resource, *quantity)?);
        }
    }
    let mut sum = Money(0);
    for line in &lines {
        sum = sum.plus(line.amount)?;
    }
    let total = sum.cut_to_fen();
    Ok(Rated { lines, rounding: total.minus(sum)?, total })
}

/// What a bill rests on besides its usage.
#[derive(Clone, Debug)]
pub struct Terms<'a> {
    /// The contract.
    pub contract_no: ContractNo,
    /// `{site}/{node}`.
    pub computing_pool_id: &'a str,
    /// The buyer's certificate id.
    pub buyer: Digest,
    /// Entry hash of the deal.
    pub deal: Digest,
    /// SM3 of the offer's signed bytes.
    pub offer: Digest,
    /// The price terms.
    pub tariff: &'a Tariff,
    /// The rule that rates gaps, from the deal's rule table.
    pub gap_rule: &'a str,
    /// What earlier bills left of the ceiling ([`crate::notice::InForce::left`]); `None`: there is no ceiling.
    pub left: Option<Money>,
    /// For a bill by period the newest trade entry that moved the contract; `None` for the one after the end of service.
    pub rests_on: Option<EntryName>,
    /// How a prepaid contract is charged; `None` for a postpaid one.
    pub prepaid: Option<&'a Prepaid>,
}

/// The order's bill before this one.
#[derive(Clone, Debug)]
pub struct Before {
    /// Entry hash of that bill.
    pub hash: Digest,
    /// Its running number.
    pub count: u32,
    /// Its last usage record: the totals it billed up to.
    pub last: UsageRecord,
}

/// A usage record with the place and hash of its entry.
pub type Recorded = (EntryName, UsageRecord);

/// Rates one period: `records` are the order's usage records and gaps since the last bill, in order and without holes.
/// Quantities are differences of cumulative totals, so a lost record could not change them; that the deltas add up to the
/// same is checked too.
///
/// # Errors
/// [`Error::Field`] naming a record that does not continue the one before, or totals that disagree with deltas.
pub fn rate(terms: &Terms<'_>, before: Option<&Before>, records: &[Recorded]) -> Result<Bill, Error> {
    let wrong = |field: &'static str, why: String| Error::Field { what: "UsageRecord", field, why };
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Err(wrong("orderSeq", "no usage record in the period".to_owned()));
    };
    let overflow = |what: &'static str| move || Error::Overflow { what };
    let after = |seq: u64| seq.checked_add(1).ok_or_else(overflow("order_seq"));
    let mut expected = before.map_or(Ok(0), |b| after(b.last.order_seq))?;
    for (_, record) in records {
        if record.order_seq != expected || record.contract_no != terms.contract_no {
            return Err(wrong("orderSeq", format!("{} where {expected} of this order is due", record.order_seq)));
        }
        expected = after(expected)?;
    }
    let count = before.map_or(Some(1), |b| b.count.checked_add(1)).ok_or_else(overflow("number of bills"))?;
    let gap_amount = match terms.gap_rule {
        "free" => Money(0),
        other => return Err(Error::Text { what: "rule table", why: format!("gap_rating {other} is unknown") }),
    };
    let used = quantities(before.map(|b| &b.last), records)?;
    let rated = match terms.prepaid {
        Some(prepaid) => rate_quantities(terms.tariff, &prepaid.charged(&used)?)?,
        None => rate_quantities(terms.tariff, &used)?,
    };
    let left = terms.prepaid.map(Prepaid::price).or(terms.left);
    let gaps = records
        .iter()
        .filter(|(_, record)| record.reason.is_gap())
        .map(|(_, record)| RatedGap {
            order_seq: record.order_seq,
            start: record.start,
            end: record.end,
            rule: terms.gap_rule.to_owned(),
            amount: gap_amount,
        })
        .collect();
    let total = left.map_or(rated.total, |left| rated.total.min(left));
    let over = total.minus(rated.total)?;
    Ok(Bill {
        version: 1,
        number: format!("{}-{count}", terms.contract_no),
        contract_no: terms.contract_no,
        computing_pool_id: terms.computing_pool_id.to_owned(),
        buyer: terms.buyer,
        deal: terms.deal,
        offer: terms.offer,
        period_start: first.1.start,
        period_end: last.1.end,
        first_seq: first.1.order_seq,
        last_seq: last.1.order_seq,
        last_record: last.0.clone(),
        rests_on: terms.rests_on.clone(),
        previous_bill: before.map(|b| b.hash),
        currency: terms.tariff.currency.clone(),
        rounding_rule: terms.tariff.rounding.clone(),
        lines: rated.lines,
        gaps,
        rounding: rated.rounding,
        over_ceiling: (over != Money(0)).then_some(over),
        total,
        refund: terms.prepaid.map(|prepaid| prepaid.price().minus(total)).transpose()?,
        quality: quality::lines(before.map(|b| &b.last), records)?,
    })
}

/// What the records of a period add up to, per resource: last total minus the total billed before, checked against the sum
/// of the deltas. A resource that was never read in the period has no quantity (missing is not zero, and is not billed).
///
/// # Errors
/// [`Error::Field`] naming the record and resource where total, deltas and status part; [`Error::Overflow`];
/// [`Error::UnknownResource`].
pub fn quantities(billed: Option<&UsageRecord>, records: &[Recorded]) -> Result<Vec<(Resource, u128)>, Error> {
    let mut running: Vec<Running> = Vec::new();
    for reading in billed.iter().flat_map(|record| &record.readings) {
        if let Some(total) = reading.total {
            running.push(Running { resource: reading.resource()?, billed: total, total, read: false });
        }
    }
    let mut last = billed;
    for (_, record) in records {
        for reading in &record.readings {
            continue_total(&mut running, record, reading)?;
        }
        quality::check(record, last)?;
        last = Some(record);
    }
    let mut result = Vec::with_capacity(running.len());
    for run in running.into_iter().filter(|run| run.read) {
        let quantity = run.total.checked_sub(run.billed).ok_or(Error::Overflow { what: "difference of totals" })?;
        result.push((run.resource, quantity));
    }
    result.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(result)
}

/// The cumulative total of one resource on its way through a period.
struct Running {
    resource: Resource,
    billed: u128,
    total: u128,
    /// A record of the period has a delta of it.
    read: bool,
}

/// Takes one reading into account: total = total before + delta, and neither without the other once known.
fn continue_total(running: &mut Vec<Running>, record: &UsageRecord, reading: &Reading) -> Result<(), Error> {
    let resource = reading.resource()?;
    let wrong = |why: String| {
        let why = format!("record {}: {resource} {why}", record.order_seq);
        Err(Error::Field { what: "UsageRecord", field: "readings", why })
    };
    let known = running.iter().position(|run| run.resource == resource);
    if reading.delta.is_none() != (reading.status == Status::Missing) {
        return wrong("has a delta exactly when it is not missing".to_owned());
    }
    let Some(total) = reading.total else {
        return if known.is_none() && reading.delta.is_none() { Ok(()) } else { wrong("lost its total".to_owned()) };
    };
    let before = known.and_then(|index| running.get(index)).map_or(0, |run| run.total);
    let delta = reading.delta.unwrap_or(0);
    let sum = before.checked_add(delta).ok_or(Error::Overflow { what: "sum of usage" })?;
    if sum != total {
        return wrong(format!("totals {total} where its deltas give {sum}"));
    }
    if record.reason.is_gap() && delta != 0 {
        return wrong("has usage in a gap".to_owned());
    }
    if record.reason == Reason::Suspended && delta != 0 {
        return wrong("has usage while suspended".to_owned());
    }
    let read = reading.delta.is_some();
    match known.and_then(|index| running.get_mut(index)) {
        Some(run) => (run.total, run.read) = (total, run.read || read),
        None => running.push(Running { resource, billed: 0, total, read }),
    }
    Ok(())
}
