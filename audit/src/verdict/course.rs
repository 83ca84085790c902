//! Still the second verdict: the contract's course, replayed by the same interpreter as in the agent and on the platform.

use std::collections::BTreeMap;

use hufu_gm::Hash;
use hufu_trade::{
    contract::{Facts, next},
    rules::RuleTable,
};

use crate::{
    evidence::{Evidence, Found},
    findings::Verdict,
    layout,
    open::Members,
    text::Text,
};

/// The rule table of `contract.toml`; a warning when this program does not know its language.
pub(crate) fn table(members: &Members, out: &mut Verdict) -> Option<RuleTable> {
    let text = members.text(layout::CONTRACT)?;
    match RuleTable::from_toml(text) {
        Ok(table) => Some(table),
        Err(error) => {
            out.warn(layout::CONTRACT, Text::RulesUnknown { why: error.to_string() });
            None
        }
    }
}

/// One act, with the entry that tells of it.
struct Act<'a> {
    place: &'a str,
    name: &'a str,
    /// States that the entry itself tells.
    told: Option<(&'a str, &'a str)>,
    amount_matches: bool,
    /// When, ns since 1970-01-01Z.
    time: i64,
}

fn act<'a>(place: &'a str, name: &'a str, time: i64) -> Act<'a> {
    Act { place, name, told: None, amount_matches: true, time }
}

pub(crate) fn check(table: &RuleTable, evidence: &Evidence<'_>, out: &mut Verdict) {
    let within_offer = within_offer(evidence);
    let service_end = evidence.deal.as_ref().map(|deal| deal.value.service_end);
    let mut state = table.start.as_str();
    let mut billed = false;
    for act in acts(evidence) {
        let facts = Facts {
            // Who signed what is the first verdict's matter.
            buyer_signed: true,
            node_signed: true,
            platform_signed: true,
            // Nobody but the node can know what was free; its countersignature says so.
            capacity_free: true,
            within_offer,
            window_open: service_end.is_none_or(|end| act.time < end),
            amount_matches: act.amount_matches,
        };
        out.checked();
        match next(table, state, act.name, facts) {
            Ok(step) => {
                if let Some((from, to)) = act.told
                    && (from, to) != (state, step.next)
                {
                    let (told, found) = (format!("{from} -> {to}"), format!("{state} -> {}", step.next));
                    out.fail(act.place, Text::State { told, found });
                }
                state = step.next;
                billed |= act.name == "bill";
            }
            Err(refusal) => {
                out.fail(act.place, Text::Act { act: act.name.to_owned(), why: refusal.to_string() });
                return;
            }
        }
    }
    out.check(billed, layout::CONTRACT, || Text::Unbilled { state: state.to_owned() });
}

/// The acts of the entries in the order of the trade log. A finance entry happened where the trade log names it back; where
/// that is not shown, a bill comes after everything else, then payments and scores by their own times.
fn acts<'a>(evidence: &'a Evidence<'_>) -> Vec<Act<'a>> {
    let mut acts: Vec<((u64, i64), Act<'a>)> = Vec::new();
    let at = |height: u64, index: u32| (height, i64::from(index));
    // Where a finance entry is named twice, the first counts.
    let mut links: BTreeMap<Hash, (u64, i64)> = BTreeMap::new();
    for link in &evidence.links {
        links.entry(link.value.finance.hash.0).or_insert_with(|| at(link.place.1, link.place.2));
    }
    let linked = |finance: &Found<'_, ()>| links.get(&finance.hash).copied();
    for (found, name) in [(evidence.browse.as_ref(), "browse"), (evidence.order.as_ref(), "order")] {
        let Some(found) = found else { continue };
        let time = found.value.statement.contract_time;
        acts.push((at(found.place.1, found.place.2), act(found.name, name, time)));
    }
    let deals = evidence.deal.iter();
    acts.extend(
        deals.map(|found| (at(found.place.1, found.place.2), act(found.name, "deal", found.value.contract_time))),
    );
    for found in &evidence.statuses {
        let status = &found.value;
        let act = Act { told: Some((&status.from, &status.to)), ..act(found.name, &status.act, status.time) };
        acts.push((at(found.place.1, found.place.2), act));
    }
    let mut bill_shown = true;
    for found in evidence.bill_before.iter().chain(&evidence.bill_entry) {
        let place = linked(&found.bare());
        bill_shown &= place.is_some();
        let place = place.unwrap_or((u64::MAX - 1, i64::from(u32::try_from(found.place.1).unwrap_or(u32::MAX))));
        acts.push((place, act(found.name, "bill", found.value.period_end)));
    }
    let total = evidence.bill.as_ref().map(|bill| bill.total);
    for found in &evidence.payments {
        let amount_matches = Some(found.value.amount) == total;
        let place = linked(&found.bare()).filter(|_| bill_shown).unwrap_or((u64::MAX, found.value.paid_at));
        acts.push((place, Act { amount_matches, ..act(found.name, "pay", found.value.paid_at) }));
    }
    for found in &evidence.scores {
        let own = (u64::MAX, found.value.statement.contract_time);
        let place = if bill_shown { at(found.place.1, found.place.2) } else { own };
        acts.push((place, act(found.name, "score", found.value.statement.contract_time)));
    }
    acts.sort_by_key(|(place, _)| *place);
    acts.into_iter().map(|(_, act)| act).collect()
}

/// Product, quantity, term and time of the order are those of the offer. Its price terms are the fourth verdict's matter.
fn within_offer(evidence: &Evidence<'_>) -> bool {
    let (Some(order), Some(offer)) = (&evidence.order, &evidence.offer) else { return true };
    let (statement, offer) = (&order.value.statement, &offer.value.offer);
    let Some(requirement) = &statement.requirement else { return false };
    let fits = |item: &hufu_trade::statement::RequirementItem| {
        item.product_id == offer.product_id && item.quantity <= offer.stock
    };
    requirement.items.iter().all(fits)
        && requirement.catalogue_revision == offer.catalogue_revision
        && requirement.term_ns <= offer.term_ns_max
        && (offer.valid_from..offer.valid_until).contains(&statement.contract_time)
}
