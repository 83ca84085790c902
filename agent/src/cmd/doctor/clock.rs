//! The wall clock, judged by what the node already knows: it reads no clock but through `crate::clock`.

use hufu_ledger::{Ledger, Log};
use hufu_trade::{octets::rfc3339, usage::TimeState};

use super::{Check, Patient, State};
use crate::{clock::quality, setup, text::Text};

/// No program of this version was built before: 2026-01-01.
const BUILT_NS: i64 = 1_767_225_600_000_000_000;
/// What two blocks of one moment may differ by, ns.
const SLACK_NS: i64 = 2_000_000_000;

pub(super) fn checks(patient: &Patient<'_>) -> Vec<Check> {
    vec![synchronised(patient), not_before(patient)]
}

fn synchronised(patient: &Patient<'_>) -> Check {
    let found = quality(patient.now);
    let judged = match (found.state, found.max_error_ns) {
        (TimeState::Synchronised, Some(error_ns)) => (State::Ok, format!("+-{} ms", error_ns / 1_000_000)),
        (TimeState::Synchronised, None) => (State::Ok, "synchronised".to_owned()),
        (TimeState::Unset, _) => (State::Fail, rfc3339(patient.now.real_ns)),
        _ => (State::Warn, "not synchronised".to_owned()),
    };
    patient.check("clock_synchronised", judged, &Text::DoctorClock {})
}

/// What must lie in the past: this version, the certificate's beginning, the newest blocks.
fn not_before(patient: &Patient<'_>) -> Check {
    let mut past = vec![BUILT_NS];
    if let Ok(chain) = setup::certificates(&patient.config.certificates) {
        past.extend(chain.first().map(|leaf| leaf.not_before_ns()));
    }
    if let Ok(ledger) = Ledger::open_read_only(&patient.config.ledger_dir) {
        past.extend(Log::ALL.into_iter().filter_map(|log| ledger.head(log)).map(|head| head.header.time - SLACK_NS));
    }
    let latest = past.into_iter().max().unwrap_or(BUILT_NS);
    let state = if patient.now.real_ns < latest { State::Fail } else { State::Ok };
    let text = Text::DoctorPast { latest: rfc3339(latest) };
    patient.check("clock_past", (state, rfc3339(patient.now.real_ns)), &text)
}
