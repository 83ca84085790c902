//! Still the second verdict: the contract's course, replayed by the same interpreter as in the agent and on the platform.

use hufu_trade::{
    contract::{Facts, next},
    rules::RuleTable,
};

use crate::{evidence::Evidence, findings::Verdict, layout, open::Members, text::Text};

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
}

fn act<'a>(place: &'a str, name: &'a str) -> Act<'a> {
    Act { place, name, told: None, amount_matches: true }
}

pub(crate) fn check(table: &RuleTable, evidence: &Evidence<'_>, out: &mut Verdict) {
    let within_offer = within_offer(evidence);
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
            window_open: true,
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

/// The acts of the entries, in the order in which they must have happened.
fn acts<'a>(evidence: &'a Evidence<'_>) -> Vec<Act<'a>> {
    let mut before_bill: Vec<(u64, u32, Act<'a>)> = Vec::new();
    let mut push = |place: layout::Place, act: Act<'a>| before_bill.push((place.1, place.2, act));
    if let Some(found) = &evidence.browse {
        push(found.place, act(found.name, "browse"));
    }
    if let Some(found) = &evidence.order {
        push(found.place, act(found.name, "order"));
    }
    if let Some(found) = &evidence.deal {
        push(found.place, act(found.name, "deal"));
    }
    for found in &evidence.statuses {
        let status = &found.value;
        push(found.place, Act { told: Some((&status.from, &status.to)), ..act(found.name, &status.act) });
    }
    before_bill.sort_by_key(|(height, index, _)| (*height, *index));
    let mut acts: Vec<Act<'a>> = before_bill.into_iter().map(|(.., act)| act).collect();
    for found in evidence.bill_before.iter().chain(&evidence.bill_entry) {
        acts.push(act(found.name, "bill"));
    }
    let total = evidence.bill.as_ref().map(|bill| bill.total);
    let paid = evidence.payments.iter().map(|found| {
        let amount_matches = Some(found.value.amount) == total;
        (found.value.paid_at, Act { amount_matches, ..act(found.name, "pay") })
    });
    let scored = evidence.scores.iter().map(|found| (found.value.statement.contract_time, act(found.name, "score")));
    let mut after: Vec<(i64, Act<'a>)> = paid.chain(scored).collect();
    after.sort_by_key(|(time, _)| *time);
    acts.extend(after.into_iter().map(|(_, act)| act));
    acts
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
