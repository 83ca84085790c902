//! Second verdict: nothing is missing. The papers of the contract are all here, the usage records follow each other from the
//! first to the last without a hole, what the bill rests on stands in the log, and the contract's rules allow its course.

use std::collections::BTreeMap;

use hufu_gm::{Hash, sm3::sm3};
use hufu_ledger::Log;
use hufu_trade::bill::Bill;

use crate::{
    evidence::{Evidence, Found},
    findings::Verdict,
    layout::{self, Place},
    open::Members,
    text::Text,
    verdict::proofs::Proven,
};

pub(crate) fn check(members: &Members, evidence: &Evidence<'_>, proven: &Proven, out: &mut Verdict) {
    if members.doubled {
        out.fail("-", Text::Double { name: "?".into() });
    }
    for (name, why) in &members.unreadable {
        out.fail(name.as_str(), Text::FileUnreadable { why: why.clone() });
    }
    for name in [layout::TARIFF, layout::CONTRACT] {
        out.check(members.bytes(name).is_some(), name, || Text::FileMissing { file: name.to_owned() });
    }
    for name in [layout::README, layout::BILL_JSON] {
        if members.bytes(name).is_none() {
            out.warn(name, Text::ViewMissing {});
        }
    }
    papers(evidence, out);
    let finance = evidence.all.iter().filter(|found| found.place.0 == Log::Finance.number());
    let finance: BTreeMap<Place, Hash> = finance.map(|found| (found.place, found.hash)).collect();
    for link in &evidence.links {
        let named = &link.value.finance;
        if let Some(hash) = finance.get(&(named.log, named.height, named.index)) {
            out.check(*hash == named.hash.0, link.field("finance"), || Text::LinkHash {});
        }
    }
    if let Some(bill) = &evidence.bill {
        records(bill, evidence, out);
        standing(bill, evidence, proven, out);
    }
}

fn papers(evidence: &Evidence<'_>, out: &mut Verdict) {
    let rules = evidence.offer.as_ref().map(|found| found.value.offer.rules.0);
    let has_rules = match rules {
        Some(hash) => evidence.rules.iter().any(|found| sm3(&[found.value.text.as_bytes()]) == hash),
        None => !evidence.rules.is_empty(),
    };
    for (what, present) in [
        ("browse", evidence.browse.is_some()),
        ("offer", evidence.offer.is_some()),
        ("order", evidence.order.is_some()),
        ("deal", evidence.deal.is_some()),
        ("rules", has_rules),
        ("bill", evidence.bill_entry.is_some()),
    ] {
        out.check(present, format!("entries/*-{what}.der"), || Text::EntryMissing { what: what.to_owned() });
    }
    if let Some(bill) = &evidence.bill {
        let first = evidence.earlier.first().map_or(bill, |found| &found.value);
        let place = evidence.earlier.first().map_or(layout::BILL, |found| found.name);
        out.check(first.previous_bill.is_none(), format!("{place}#previousBill"), || Text::EntryMissing {
            what: "bill before".to_owned(),
        });
    }
}

/// The chain of usage records, `order_seq` by `order_seq`.
fn records(bill: &Bill, evidence: &Evidence<'_>, out: &mut Verdict) {
    let carried = evidence.earlier.last().map(|before| before.value.last_seq);
    let mut meter = None;
    let mut before: Option<(Hash, i64)> = match carried {
        Some(last) => {
            let found = evidence.records.iter().find(|found| found.value.order_seq == last);
            if found.is_none() {
                let what = format!("usage record {last} of the bill before");
                out.fail(format!("{}#previousBill", layout::BILL), Text::EntryMissing { what });
            }
            meter = found.map(|found| found.value.meter);
            found.map(|found| (found.hash, found.value.end))
        }
        None => evidence.deal.as_ref().map(|deal| (deal.hash, i64::MIN)),
    };
    let mut due = bill.first_seq;
    if carried.is_none() {
        out.check(due == 0, format!("{}#firstSeq", layout::BILL), || Text::SeqHole {
            due: "0".into(),
            found: due.to_string(),
        });
    }
    let mut last: Option<&Found<'_, _>> = None;
    let mut count: u64 = 0;
    for found in &evidence.records {
        let record = &found.value;
        if Some(record.order_seq) == carried {
            continue;
        }
        count = count.saturating_add(1);
        let seq = || record.order_seq.to_string();
        out.check(record.order_seq == due, found.field("orderSeq"), || Text::SeqHole {
            due: due.to_string(),
            found: seq(),
        });
        if let Some((hash, end)) = before {
            let named = record.previous.0 == hash;
            out.check(named, found.field("previous"), || Text::ChainBroken { seq: seq() });
            let joined = end == i64::MIN || end == record.start;
            out.check(joined, found.field("start"), || Text::TimeHole { seq: seq() });
        }
        if let Err(error) = record.check_meter(meter) {
            out.fail(found.field("meter"), Text::Meter { why: error.to_string() });
        }
        meter = Some(record.meter);
        let later = last.is_none_or(|last: &Found<'_, _>| last.place < found.place);
        out.check(later, found.name, || Text::PlaceOrder { seq: seq() });
        before = Some((found.hash, record.end));
        due = record.order_seq.saturating_add(1);
        last = Some(found);
    }
    let wanted = bill.last_seq.checked_sub(bill.first_seq).and_then(|span| span.checked_add(1));
    out.check(wanted == Some(count), format!("{}#lastSeq", layout::BILL), || Text::SeqShort {
        due: wanted.unwrap_or(0).to_string(),
        count: count.to_string(),
    });
    let named = last.is_some_and(|found| {
        let name = &bill.last_record;
        found.hash == name.hash.0 && found.place == (name.log, name.height, name.index)
    });
    out.check(named, format!("{}#lastRecord", layout::BILL), || Text::HashLink {
        to: "last usage record".into(),
        by: "bill".into(),
    });
}

/// Bill and last usage record stand in signed blocks; the platform has them.
fn standing(bill: &Bill, evidence: &Evidence<'_>, proven: &Proven, out: &mut Verdict) {
    let last = &bill.last_record;
    let place = (last.log, last.height, last.index);
    out.check(proven.shown.contains(&place), format!("{}#lastRecord", layout::BILL), || Text::NoProof {
        what: "last usage record".into(),
    });
    let Some(entry) = &evidence.bill_entry else { return };
    out.check(proven.shown.contains(&entry.place), entry.name, || Text::NoProof { what: "bill".into() });
    let received = Log::from_number(entry.place.0)
        .and_then(|log| proven.receipt_over(log, entry.place.1))
        .is_some_and(|_| proven.rooted.iter().any(|(place, _)| *place == entry.place));
    if !received {
        out.warn(entry.name, Text::NoReceipt {});
    }
}
