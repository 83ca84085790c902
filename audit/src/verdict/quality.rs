//! Third verdict: what the readings and times are worth. A gap or a missing reading is no fault, but has to be said; a time
//! that contradicts the platform's clock is one.

use hufu_ledger::{Log, TimeState as BlockTime};
use hufu_trade::{
    octets::rfc3339,
    usage::{Reason, Status, TimeState, UsageRecord},
};

use crate::{
    evidence::{Evidence, Found},
    findings::Verdict,
    layout,
    text::Text,
    verdict::{course::Metered, proofs::Proven},
};

/// How near the platform's clock must be to corroborate, and how far ahead of it contradicts.
pub(crate) const AGREE_NS: i64 = 5_000_000_000;

pub(crate) fn check(evidence: &Evidence<'_>, proven: &Proven, metered: &Metered, out: &mut Verdict) {
    let corroborated = headers(evidence, proven, out);
    for found in &evidence.records {
        out.checked();
        readings(found, out);
        suspension(found, metered, out);
        times(found, corroborated, out);
    }
    for found in &evidence.windows {
        for total in found.value.totals.iter().filter(|total| total.check == "violated") {
            let resource = hufu_trade::resource::Resource::from_code(total.code, None);
            let resource = resource.map_or_else(|_| total.code.to_string(), |resource| resource.to_string());
            out.warn(found.field("totals"), Text::Conservation { resource });
        }
    }
}

/// Compares every proven block's time with when the platform stored it; true when the last usage record's block agrees, so
/// that the times before it hold as far as their monotonic lengths do.
fn headers(evidence: &Evidence<'_>, proven: &Proven, out: &mut Verdict) -> bool {
    let last =
        evidence.bill.as_ref().map(|bill| (bill.last_record.log, bill.last_record.height, bill.last_record.index));
    let bill_at = evidence.bill_entry.as_ref().map(|entry| entry.place);
    let mut agrees = false;
    for (place, header) in &proven.headers {
        let name = format!("signed/block-{}-{}.tbs#time", place.0, place.1);
        if Some(*place) == bill_at && header.quality.state == BlockTime::Unset {
            out.fail(name.as_str(), Text::TimeUnset {});
        }
        let log = Log::from_number(place.0);
        let Some((_, receipt)) = log.and_then(|log| proven.receipt_over(log, place.1)) else { continue };
        out.checked();
        let ahead = header.time.saturating_sub(receipt.stored_at);
        if ahead > AGREE_NS {
            let (block, stored) = (rfc3339(header.time), rfc3339(receipt.stored_at));
            out.fail(name, Text::TimeContradicted { block, stored });
        } else if ahead >= -AGREE_NS && (Some(*place) == last || Some(*place) == bill_at) {
            agrees = true;
        }
    }
    agrees
}

fn readings(found: &Found<'_, UsageRecord>, out: &mut Verdict) {
    let record = &found.value;
    if record.reason.is_gap() {
        let why = record.why.clone().unwrap_or_else(|| "-".to_owned());
        out.warn(found.name, Text::Gap { start: rfc3339(record.start), end: rfc3339(record.end), why });
        return;
    }
    for (number, reading) in record.readings.iter().enumerate() {
        let status = match reading.status {
            Status::Measured => continue,
            Status::Estimated => "estimated",
            Status::Missing => "missing",
        };
        let resource = reading.resource().map_or_else(|_| reading.code.to_string(), |resource| resource.to_string());
        let why = reading.why.clone().unwrap_or_else(|| "-".to_owned());
        let what = Text::Reading { resource, status: status.to_owned(), why };
        out.warn(found.field(&format!("readings.{number}")), what);
    }
}

/// Time that should have been measured is a gap, whatever it is called.
fn suspension(found: &Found<'_, UsageRecord>, metered: &Metered, out: &mut Verdict) {
    let record = &found.value;
    if record.reason != Reason::Suspended || record.end <= record.start {
        return;
    }
    let at = (found.place.1, i64::from(found.place.2));
    if metered.iter().rfind(|(from, _)| *from < at).is_some_and(|(_, metered)| *metered) {
        out.warn(found.name, Text::NotSuspended { start: rfc3339(record.start), end: rfc3339(record.end) });
    }
}

fn times(found: &Found<'_, UsageRecord>, corroborated: bool, out: &mut Verdict) {
    let record = &found.value;
    if record.end < record.start {
        out.fail(found.field("end"), Text::Backwards {});
        return;
    }
    let wall = record.end.saturating_sub(record.start);
    let monotonic = i64::try_from(record.elapsed_ns).unwrap_or(i64::MAX);
    // Over a gap the monotonic length may be lost with the machine.
    let same_length = record.reason.is_gap() || wall.abs_diff(monotonic) <= AGREE_NS.unsigned_abs();
    if !same_length {
        let (wall, monotonic) = (wall.to_string(), monotonic.to_string());
        out.warn(found.field("elapsedNs"), Text::Length { wall, monotonic });
    }
    let state = match record.quality.state {
        TimeState::Synchronised => return,
        TimeState::Stepped => "stepped",
        TimeState::Relative => "relative",
        TimeState::Unset => "unset",
    };
    if !corroborated {
        out.warn(found.field("quality"), Text::TimeUncertain { state: state.to_owned() });
    }
}

/// The field of the bill that a problem is about.
pub(crate) fn bill_field(field: &str) -> String {
    format!("{}#{field}", layout::BILL)
}
