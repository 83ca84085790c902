//! Still the second verdict: the contract's course, replayed by the same interpreter as in the agent and on the platform.

use std::collections::BTreeMap;

use hufu_gm::Hash;
use hufu_ledger::Log;
use hufu_trade::{
    bill::Bill,
    confirm,
    contract::{Facts, replay},
    correction::{Correction, Due, RefundPaid},
    entry::{EntryKind, EntryName, Payment},
    money::Money,
    notice::{InForce, Notice},
    octets::Octets,
    period::{self, Calendar, Covers},
    prepaid,
    rules::{CORRECT, EXHAUST, PAY, REFUND, RuleTable},
    statement::Payment as Paying,
};

use crate::{
    evidence::{Evidence, Found},
    findings::Verdict,
    layout,
    open::Members,
    text::Text,
    verdict::proofs::Proven,
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
    kind: EntryKind,
    does: Does<'a>,
    /// When, ns since 1970-01-01Z.
    time: i64,
    /// How a finance entry would name it.
    entry: EntryName,
}

/// The entry as others name it.
fn named<T>(found: &Found<'_, T>) -> EntryName {
    let (log, height, index) = found.place;
    EntryName { log, height, index, hash: Octets(found.hash) }
}

/// What an act does besides moving the state, and what its guard asks about.
enum Does<'a> {
    Nothing,
    /// The states that the entry itself tells.
    Tells(&'a str, &'a str),
    Notices {
        notice: &'a Notice,
        by_buyer: bool,
    },
    Bills(&'a Bill, Due),
    Corrects(&'a Correction),
    Pays(&'a Payment),
    Refunds(&'a RefundPaid),
}

impl Does<'_> {
    /// The trade entry that a finance entry says it rests on.
    fn rests_on(&self) -> Option<&EntryName> {
        match self {
            Does::Corrects(correction) => Some(&correction.rests_on),
            Does::Pays(payment) => Some(&payment.rests_on),
            Does::Refunds(refund) => Some(&refund.rests_on),
            Does::Bills(bill, _) => bill.rests_on.as_ref(),
            Does::Nothing | Does::Tells(..) | Does::Notices { .. } => None,
        }
    }
}

/// Where a contract is: its state, what is in force of the deal, what its bills ask for and what was paid of them.
struct Course<'a> {
    state: &'a str,
    in_force: Option<InForce>,
    dues: BTreeMap<Hash, (Due, Option<Money>)>,
    /// The bills so far, each with its entry's hash.
    bills: Vec<(Hash, &'a Bill)>,
    /// The newest trade entry that moved it.
    moved: Option<EntryName>,
}

/// From which places of the trade log on the contract is metered, and from which it is not.
pub(crate) type Metered = Vec<((u64, i64), bool)>;

/// Replays the contract as far as the rules allow.
pub(crate) fn check(table: &RuleTable, evidence: &Evidence<'_>, proven: &Proven, out: &mut Verdict) -> Metered {
    let mut metered = Metered::new();
    let ordered = within_offer(evidence);
    let in_force = evidence.deal.as_ref().map(|deal| InForce::of(&deal.value));
    let mut course =
        Course { state: table.start.as_str(), in_force, dues: BTreeMap::new(), bills: Vec::new(), moved: None };
    for (at, act) in acts(evidence) {
        let facts = course.facts(&act, evidence, ordered);
        out.checked();
        let name = match &act.does {
            Does::Pays(payment) => table.pay_act(course.others_open(payment.bill.0)),
            _ => act.name,
        };
        if act.name == EXHAUST && course.in_force.is_some_and(|now| now.value.payment == Paying::Prepaid) {
            out.fail(act.place, Text::ExhaustPrepaid {});
        }
        match replay(table, course.state, name, act.kind, facts) {
            Ok(step) => {
                if let Does::Tells(from, to) = act.does
                    && (from, to) != (course.state, step.next)
                {
                    let (told, found) = (format!("{from} -> {to}"), format!("{} -> {}", course.state, step.next));
                    out.fail(act.place, Text::State { told, found });
                }
                // Without its place in the trade log nobody can say what came before a finance entry.
                if let Some(name) = act.does.rests_on().filter(|_| at.0 < UNPLACED) {
                    out.check(course.moved.as_ref() == Some(name), format!("{}#restsOn", act.place), || {
                        Text::RestsOn {}
                    });
                }
                course.follows(&act, out);
                course.covers(&act, (table, evidence, proven), out);
                course.state = step.next;
                metered.push((at, table.is_metered(step.next)));
                course.go_on(act);
            }
            Err(refusal) => {
                out.fail(act.place, Text::Act { act: name.to_owned(), why: refusal.to_string() });
                return metered;
            }
        }
    }
    out.check(!course.bills.is_empty(), layout::CONTRACT, || Text::Unbilled { state: course.state.to_owned() });
    metered
}

impl<'a> Course<'a> {
    fn facts(&self, act: &Act<'_>, evidence: &Evidence<'_>, ordered: bool) -> Facts {
        let mut facts = Facts {
            // Who signed what is the first verdict's matter.
            buyer_signed: true,
            node_signed: true,
            platform_signed: true,
            // Nobody but the node can know what was free; its countersignature says so.
            capacity_free: true,
            within_offer: ordered,
            window_open: self.in_force.is_none_or(|in_force| act.time < in_force.service_end),
            amount_matches: true,
        };
        match &act.does {
            Does::Notices { notice, by_buyer } => {
                (facts.buyer_signed, facts.platform_signed) = (*by_buyer, !by_buyer);
                if let (Some(renewal), Some(offer)) = (&notice.renewal, &evidence.offer) {
                    let terms = self.in_force.zip(evidence.deal.as_ref());
                    facts.within_offer = terms.is_some_and(|(in_force, deal)| {
                        in_force.takes(renewal, (&offer.value.offer, &deal.value), notice.time)
                    });
                }
            }
            Does::Pays(payment) => {
                let bill = self.bills.iter().find(|(hash, _)| *hash == payment.bill.0).map(|(_, bill)| *bill);
                let names = |due: &Due| {
                    let back = bill.map_or(Ok(None), |bill| prepaid::refund_of(bill, due));
                    back.is_ok_and(|back| confirm::names_refund(payment.confirmation.as_bytes(), back))
                };
                let right = |(due, _): &(Due, Option<Money>)| due.total == payment.amount && names(due);
                facts.amount_matches = self.dues.get(&payment.bill.0).is_some_and(right);
            }
            Does::Refunds(refund) => {
                let right = |(due, paid): &(Due, Option<Money>)| {
                    let above = paid.and_then(|paid| paid.minus(due.total).ok());
                    above.is_some_and(|above| above > Money(0) && above == refund.amount)
                };
                facts.amount_matches = self.dues.get(&refund.bill.0).is_some_and(right);
            }
            _ => {}
        }
        facts
    }

    /// A refund names the last correction before it.
    fn follows(&self, act: &Act<'_>, out: &mut Verdict) {
        if let Does::Refunds(refund) = &act.does
            && let Some((due, _)) = self.dues.get(&refund.bill.0)
        {
            let last = due.last == Some(refund.correction);
            out.check(last, format!("{}#correction", act.place), || Text::RefundFollows {});
        }
    }

    /// Whether another bill than this one is still to be paid.
    fn others_open(&self, bill: Hash) -> bool {
        self.dues.iter().any(|(hash, (due, paid))| *hash != bill && due.is_open(paid.is_some()))
    }

    /// A bill names the one before it, and covers the usage of the period that it is for.
    fn covers(
        &self,
        act: &Act<'_>,
        (table, evidence, proven): (&RuleTable, &Evidence<'_>, &Proven),
        out: &mut Verdict,
    ) {
        let Does::Bills(bill, _) = &act.does else { return };
        let before = self.bills.last().map(|(hash, _)| Octets(*hash));
        out.check(bill.previous_bill == before, format!("{}#previousBill", act.place), || Text::BillChain {});
        let Some(tariff) = evidence.terms() else { return };
        let place = (act.entry.log, act.entry.height, act.entry.index);
        // Of another bill than the pack's there are no records: its first one ends no later than its last.
        let is_this = evidence.bill_entry.as_ref().is_some_and(|found| found.place == place);
        let first = evidence.records.iter().find(|found| is_this && found.value.order_seq == bill.first_seq);
        let covers = Covers {
            by_period: bill.rests_on.is_some(),
            first_end: first.map_or(bill.period_end, |found| found.value.end),
            last_end: bill.period_end,
            made: proven.headers.get(&place).map(|header| header.time),
        };
        let ends = period::ends(self.bills.iter().map(|(_, bill)| *bill));
        let payment = self.in_force.map_or(Paying::Postpaid, |in_force| in_force.value.payment);
        let held =
            Calendar::of(table, tariff, payment).and_then(|calendar| period::check(calendar.as_ref(), ends, &covers));
        if let Err(error) = held {
            out.fail(act.place, Text::BillPeriod { why: error.to_string() });
        }
    }

    fn go_on(&mut self, act: Act<'a>) {
        let hash = act.entry.hash;
        if act.entry.log == Log::Trade.number() {
            self.moved = Some(act.entry);
        }
        match act.does {
            Does::Notices { notice, .. } => {
                if let (Some(in_force), Some(renewal)) = (&mut self.in_force, &notice.renewal) {
                    *in_force = in_force.renewed(renewal).unwrap_or(*in_force);
                }
            }
            Does::Bills(bill, due) => {
                self.bills.push((hash.0, bill));
                self.dues.insert(due.bill.0, (due, None));
            }
            // Whether it follows from the bill is the fourth verdict's matter.
            Does::Corrects(correction) => {
                if let Some((due, _)) = self.dues.get_mut(&correction.bill.0) {
                    *due = due.corrected(hash, correction).unwrap_or_else(|_| due.clone());
                }
            }
            Does::Pays(payment) => {
                if let Some((_, paid)) = self.dues.get_mut(&payment.bill.0) {
                    *paid = Some(payment.amount);
                }
            }
            Does::Nothing | Does::Tells(..) | Does::Refunds(..) => {}
        }
    }
}

/// A place in the order of acts: height and index in the trade log.
type At = (u64, i64);
/// Heights from here on are no places of the trade log.
const UNPLACED: u64 = u64::MAX - 1;

/// The acts of the entries in the order of the trade log. A finance entry happened where the trade log names it back; where
/// that is not shown, a bill comes after everything else, then what follows it by its own time.
fn acts<'a>(evidence: &'a Evidence<'_>) -> Vec<(At, Act<'a>)> {
    let mut acts: Vec<(At, Act<'a>)> = Vec::new();
    let at = |height: u64, index: u32| (height, i64::from(index));
    // Where a finance entry is named twice, the first counts.
    let mut links: BTreeMap<Hash, At> = BTreeMap::new();
    for link in &evidence.links {
        links.entry(link.value.finance.hash.0).or_insert_with(|| at(link.place.1, link.place.2));
    }
    let linked = |finance: &Found<'_, ()>| links.get(&finance.hash).copied();
    let stated = [(evidence.browse.as_ref(), "browse"), (evidence.order.as_ref(), "order")];
    for (found, name) in stated.into_iter().filter_map(|(found, name)| Some((found?, name))) {
        let kind = if name == "browse" { EntryKind::Browse } else { EntryKind::Order };
        let time = found.value.statement.contract_time;
        let act = Act { place: found.name, name, kind, does: Does::Nothing, time, entry: named(found) };
        acts.push((at(found.place.1, found.place.2), act));
    }
    if let Some(found) = &evidence.deal {
        let time = found.value.contract_time;
        let act = Act {
            place: found.name,
            name: "deal",
            kind: EntryKind::Deal,
            does: Does::Nothing,
            time,
            entry: named(found),
        };
        acts.push((at(found.place.1, found.place.2), act));
    }
    for found in &evidence.statuses {
        let status = &found.value;
        let (does, time) = (Does::Tells(&status.from, &status.to), status.time);
        let act =
            Act { place: found.name, name: &status.act, kind: EntryKind::OrderStatus, does, time, entry: named(found) };
        acts.push((at(found.place.1, found.place.2), act));
    }
    for found in &evidence.notices {
        let notice = &found.value.notice;
        let does = Does::Notices { notice, by_buyer: evidence.is_buyers(&found.value) };
        let act = Act {
            place: found.name,
            name: &notice.act,
            kind: EntryKind::Notice,
            does,
            time: notice.time,
            entry: named(found),
        };
        acts.push((at(found.place.1, found.place.2), act));
    }
    let mut bill_shown = true;
    for found in &evidence.bills {
        let (bill, place) = (&found.value, linked(&found.bare()));
        bill_shown &= place.is_some();
        let place = place.unwrap_or((UNPLACED, i64::from(u32::try_from(found.place.1).unwrap_or(u32::MAX))));
        let does = Does::Bills(bill, Due::of(&bill.number, Octets(found.hash), bill.total));
        let time = bill.period_end;
        acts.push((
            place,
            Act { place: found.name, name: bill.act(), kind: EntryKind::Bill, does, time, entry: named(found) },
        ));
    }
    let after = |found: Found<'_, ()>, time: i64| linked(&found).filter(|_| bill_shown).unwrap_or((u64::MAX, time));
    for found in &evidence.corrections {
        let (value, kind) = (&found.value, EntryKind::Correction);
        let (does, time) = (Does::Corrects(value), value.time);
        acts.push((
            after(found.bare(), time),
            Act { place: found.name, name: CORRECT, kind, does, time, entry: named(found) },
        ));
    }
    for found in &evidence.payments {
        let (value, kind) = (&found.value, EntryKind::Payment);
        let (does, time) = (Does::Pays(value), value.paid_at);
        acts.push((
            after(found.bare(), time),
            Act { place: found.name, name: PAY, kind, does, time, entry: named(found) },
        ));
    }
    for found in &evidence.refunds {
        let (value, kind) = (&found.value, EntryKind::RefundPaid);
        let (does, time) = (Does::Refunds(value), value.paid_at);
        acts.push((
            after(found.bare(), time),
            Act { place: found.name, name: REFUND, kind, does, time, entry: named(found) },
        ));
    }
    for found in &evidence.scores {
        let time = found.value.statement.contract_time;
        let place = if bill_shown { at(found.place.1, found.place.2) } else { (u64::MAX, time) };
        let act = Act {
            place: found.name,
            name: "score",
            kind: EntryKind::Score,
            does: Does::Nothing,
            time,
            entry: named(found),
        };
        acts.push((place, act));
    }
    acts.sort_by_key(|(place, _)| *place);
    acts
}

/// Product, quantity, term and time of the order are those of the offer. Its price terms are the fourth verdict's matter.
fn within_offer(evidence: &Evidence<'_>) -> bool {
    let (Some(order), Some(offer)) = (&evidence.order, &evidence.offer) else { return true };
    let (statement, offer) = (&order.value.statement, &offer.value.offer);
    let Some(requirement) = &statement.requirement else { return false };
    let quantity: u64 = requirement.items.iter().map(|item| u64::from(item.quantity)).sum();
    requirement.items.iter().all(|item| item.product_id == offer.product_id)
        && quantity <= u64::from(offer.stock)
        && requirement.catalogue_revision == offer.catalogue_revision
        && requirement.term_ns <= offer.term_ns_max
        && statement.contract_value.is_some_and(|value| prepaid::fits(offer, requirement, requirement.term_ns, &value))
        && (offer.valid_from..offer.valid_until).contains(&statement.contract_time)
}
