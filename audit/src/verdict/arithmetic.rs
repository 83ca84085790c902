//! Fourth verdict: the bill recomputed from the usage records and the signed price terms by the function that made it, and
//! compared field by field; and held against what the buyer signed.

use hufu_gm::sm3::sm3;
use hufu_trade::{
    bill::Bill,
    correction::Due,
    entry::EntryName,
    money::Money,
    notice::InForce,
    octets::Octets,
    prepaid::{Prepaid, Proration},
    quality::{Quality, QualityLine},
    rating::{Before, Recorded, Terms, rate},
    rules::RuleTable,
    statement::Payment,
    usage::UsageRecord,
};

use crate::{
    evidence::{Evidence, Found},
    findings::Verdict,
    layout,
    open::Members,
    text::Text,
    verdict::quality::bill_field,
};

/// What the bill should say, if it could be recomputed, and what is due after its corrections. Takes the usage records out of
/// `evidence`.
pub(crate) fn check(
    members: &Members,
    evidence: &mut Evidence<'_>,
    table: Option<&RuleTable>,
    out: &mut Verdict,
) -> (Option<Money>, Option<Money>) {
    terms(members, evidence, out);
    let records = std::mem::take(&mut evidence.records);
    let Some(bill) = &evidence.bill else {
        out.fail(layout::BILL, Text::NotRecomputed { why: "no readable bill".to_owned() });
        return (None, None);
    };
    let in_force = in_force(evidence);
    let this = evidence.bill_entry.as_ref().map(|found| found.place);
    for other in evidence.bills.iter().filter(|found| Some(found.place) != this) {
        corrected(evidence, other, out);
    }
    let due = evidence.bill_entry.as_ref().map(|entry| corrected(evidence, entry, out));
    let mut found = Verdict::default();
    sums(bill, &mut found);
    ceiling(bill, evidence, in_force, &mut found);
    let again = recompute(bill, evidence, records, (table, in_force));
    if let Ok(again) = &again {
        // Corrections mend amounts: under another number or currency it is another bill.
        for (field, told, found) in
            [("number", &bill.number, &again.number), ("currency", &bill.currency, &again.currency)]
        {
            let differs = || Text::Recomputed { told: told.clone(), found: found.clone() };
            out.check(told == found, bill_field(field), differs);
        }
        compare(bill, again, &mut found);
    }
    let recomputed = again.as_ref().ok().map(|again| again.total);
    // What a correction took off is no longer asked for: then the bill's mistakes are history.
    let corrected = due.as_ref().filter(|due| due.count > 0).map(|due| due.total);
    let is_history = corrected.zip(recomputed).is_some_and(|(due, right)| due <= right);
    out.absorb(found, is_history);
    if let Err(why) = again {
        out.fail(layout::BILL, Text::NotRecomputed { why });
    }
    if let Some(asked) = corrected {
        let due = asked.to_string();
        match recomputed {
            Some(right) if asked > right => {
                let right = right.to_string();
                out.fail(bill_field("total"), Text::CorrectionAbove { due, right });
            }
            _ => out.warn(bill_field("total"), Text::Corrected { due }),
        }
    }
    (recomputed, due.map_or(Some(bill.total), |due| Some(due.total)))
}

/// The price terms in the pack are those that the buyer signed and the offer holds.
fn terms(members: &Members, evidence: &Evidence<'_>, out: &mut Verdict) {
    let requirement = evidence.order.as_ref().and_then(|order| order.value.statement.requirement.as_ref());
    if let (Some(bytes), Some(requirement)) = (members.bytes(layout::TARIFF), requirement) {
        let same = sm3(&[bytes]) == requirement.tariff.0;
        out.check(same, layout::TARIFF, || Text::TariffHash { by: "order".into() });
    }
    if let (Some(offer), Some(requirement)) = (&evidence.offer, requirement) {
        let same = offer.value.offer.tariff.hash().is_ok_and(|hash| hash == requirement.tariff);
        out.check(same, offer.field("tariff"), || Text::TariffHash { by: "order".into() });
    }
}

fn sums(bill: &Bill, out: &mut Verdict) {
    let parts = bill.lines.iter().map(|line| line.amount).chain(bill.gaps.iter().map(|gap| gap.amount));
    let sum = parts.chain([bill.rounding]).chain(bill.over_ceiling).try_fold(Money(0), Money::plus);
    out.check(sum.is_ok_and(|sum| sum == bill.total), bill_field("total"), || Text::Sum {});
}

/// What renewals, in the order of the log, had made of the deal when the bill was made. One beyond the range of times fails the
/// course.
fn in_force(evidence: &Evidence<'_>) -> Option<InForce> {
    let deal = InForce::of(&evidence.deal.as_ref()?.value);
    let bill = evidence.bill_entry.as_ref().map(|found| found.hash);
    let billed = evidence.links.iter().find(|link| Some(link.value.finance.hash.0) == bill).map(|link| link.place);
    let before = evidence.notices.iter().filter(|found| billed.is_none_or(|billed| found.place < billed));
    let renewals = before.filter_map(|found| found.value.notice.renewal.as_ref());
    Some(renewals.fold(deal, |in_force, renewal| in_force.renewed(renewal).unwrap_or(in_force)))
}

/// What a bill asks for after its corrections, each of which must follow from what stood before.
fn corrected(evidence: &Evidence<'_>, entry: &Found<'_, Bill>, out: &mut Verdict) -> Due {
    let mut due = Due::of(&entry.value.number, Octets(entry.hash), entry.value.total);
    for found in evidence.corrections.iter().filter(|found| found.value.bill.0 == entry.hash) {
        out.checked();
        match due.corrected(Octets(found.hash), &found.value) {
            Ok(after) => due = after,
            Err(error) => out.fail(found.name, Text::CorrectionWrong { why: error.to_string() }),
        }
        let same = found.value.computing_pool_id == entry.value.computing_pool_id;
        let differs = || Text::FieldDiffers {
            by: "bill".into(),
            told: entry.value.computing_pool_id.clone(),
            found: found.value.computing_pool_id.clone(),
        };
        out.check(same, found.field("computingPoolId"), differs);
    }
    due
}

fn ceiling(bill: &Bill, evidence: &Evidence<'_>, in_force: Option<InForce>, out: &mut Verdict) {
    let signed = evidence.order.as_ref().and_then(|order| order.value.statement.contract_value);
    let Some(value) = in_force.map(|in_force| in_force.value).or(signed) else { return };
    let exceeded = match value.payment {
        Payment::Prepaid | Payment::Postpaid => bill.total > value.amount,
    };
    out.check(!exceeded, bill_field("total"), || Text::Ceiling {
        total: bill.total.to_string(),
        ceiling: value.amount.to_string(),
    });
}

fn recompute(
    bill: &Bill,
    evidence: &Evidence<'_>,
    records: Vec<Found<'_, UsageRecord>>,
    (table, in_force): (Option<&RuleTable>, Option<InForce>),
) -> Result<Bill, String> {
    let tariff = evidence.terms().ok_or("no price terms")?;
    let deal = evidence.deal.as_ref().ok_or("no deal")?;
    let offer = evidence.offer.as_ref().ok_or("no offer")?;
    let before = match evidence.earlier.last() {
        None => None,
        Some(found) => {
            let last = records.iter().find(|record| record.value.order_seq == found.value.last_seq);
            let count = u32::try_from(evidence.earlier.len()).map_err(|error| error.to_string())?;
            let last = last.ok_or("the last usage record of the bill before is missing")?.value.clone();
            Some(Before { hash: Octets(found.hash), count, last })
        }
    };
    let first = before.as_ref().map_or(0, |before| before.last.order_seq.saturating_add(1));
    let records: Vec<Recorded> =
        records.into_iter().filter(|found| found.value.order_seq >= first).map(recorded).collect();
    let billed = evidence.earlier.iter().map(|found| found.value.total);
    let left = in_force.map_or(Ok(None), |in_force| in_force.left(billed)).map_err(|error| error.to_string())?;
    let proration = table.map_or(Proration::Exact, |table| table.parameters.proration);
    let prepaid = in_force.map_or(Ok(None), |now| Prepaid::of(&offer.value.offer, &deal.value, &now, proration));
    let prepaid = prepaid.map_err(|error| error.to_string())?;
    let terms = Terms {
        contract_no: bill.contract_no,
        computing_pool_id: &deal.value.computing_pool_id,
        buyer: deal.value.buyer,
        deal: Octets(deal.hash),
        offer: Octets(offer.value.hash),
        tariff,
        gap_rule: table.map_or("free", |table| &table.parameters.gap_rating),
        left,
        rests_on: bill.rests_on.clone(),
        prepaid: prepaid.as_ref(),
    };
    rate(&terms, before.as_ref(), &records).map_err(|error| error.to_string())
}

fn recorded(found: Found<'_, UsageRecord>) -> Recorded {
    let (log, height, index) = found.place;
    (EntryName { log, height, index, hash: Octets(found.hash) }, found.value)
}

/// Field by field. The hashes a bill names are the first two verdicts' matter.
fn compare(bill: &Bill, again: &Bill, out: &mut Verdict) {
    let shown = |value: &dyn std::fmt::Display| value.to_string();
    for (field, told, found) in [
        ("periodStart", shown(&bill.period_start), shown(&again.period_start)),
        ("periodEnd", shown(&bill.period_end), shown(&again.period_end)),
        ("firstSeq", shown(&bill.first_seq), shown(&again.first_seq)),
        ("lastSeq", shown(&bill.last_seq), shown(&again.last_seq)),
        ("roundingRule", shown(&bill.rounding_rule), shown(&again.rounding_rule)),
        ("rounding", shown(&bill.rounding), shown(&again.rounding)),
        ("overCeiling", over(bill), over(again)),
        ("total", shown(&bill.total), shown(&again.total)),
        ("refund", refund(bill), refund(again)),
        ("quality", quality(bill), quality(again)),
    ] {
        out.check(told == found, bill_field(field), || Text::Recomputed { told, found });
    }
    let count = bill.lines.len().max(again.lines.len());
    for number in 0..count {
        let (told, found) = (bill.lines.get(number), again.lines.get(number));
        out.check(told == found, bill_field(&format!("lines.{number}")), || Text::Recomputed {
            told: line(told),
            found: line(found),
        });
    }
    out.check(bill.gaps == again.gaps, bill_field("gaps"), || Text::Recomputed {
        told: bill.gaps.len().to_string(),
        found: again.gaps.len().to_string(),
    });
}

fn refund(bill: &Bill) -> String {
    bill.refund.map_or_else(|| "-".to_owned(), |refund| refund.to_string())
}

fn quality(bill: &Bill) -> String {
    let name = |code: u8| Quality::from_code(code).map_or_else(|_| code.to_string(), |known| known.name().to_owned());
    let shown = |line: &QualityLine| format!("{} {} of {} ns", name(line.code), line.ns, line.elapsed_ns);
    bill.quality.as_ref().map_or_else(|| "-".to_owned(), |lines| lines.iter().map(shown).collect::<Vec<_>>().join(", "))
}

fn over(bill: &Bill) -> String {
    bill.over_ceiling.map_or_else(|| "-".to_owned(), |over| over.to_string())
}

fn line(line: Option<&hufu_trade::bill::Line>) -> String {
    line.map_or_else(
        || "-".to_owned(),
        |line| {
            let (resource, quantity, unit) = (&line.resource, line.quantity, &line.unit);
            format!(
                "{resource} {quantity} {unit}, tier {}, {} per {} = {}",
                line.tier, line.unit_price, line.per, line.amount
            )
        },
    )
}
