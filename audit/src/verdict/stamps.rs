//! Time-stamps of RFC 3161 over the platform's receipts: an authority that is none of the parties says when a receipt existed, and
//! with it everything below its root. One that is missing is no problem, one that does not hold is.

use hufu_gm::{Certificate, ChainFault, Judgement, Refusal, Trust, sm3::sm3, time_stamp};
use hufu_ledger::BlockHeader;
use hufu_trade::octets::{rfc3339, time};
use serde::Serialize;

use crate::{
    evidence::Evidence,
    findings::Findings,
    layout,
    open::Members,
    signed::Kind,
    text::Text,
    verdict::{proofs::Proven, quality::AGREE_NS, signatures::Authentic},
};

/// A time-stamp that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stamped {
    /// Its file in the pack.
    pub file: String,
    /// When the receipt existed at the latest, ns since 1970-01-01Z.
    #[serde(with = "time")]
    pub at: i64,
    /// Who says so: the subject of the authority's certificate.
    pub authority: String,
    /// Whether the bill is shown to stand below the root of that receipt.
    pub covers_bill: bool,
}

/// Judges every time-stamp under `anchors`, and the times of what stands below it.
pub(crate) fn check(
    members: &Members,
    anchors: &[Certificate],
    (evidence, authentic): (&Evidence<'_>, &Authentic),
    proven: &Proven,
    findings: &mut Findings,
) -> Vec<Stamped> {
    let mut all = Vec::new();
    for (name, token) in members.below(layout::STAMPS) {
        let Some(tbs_file) = layout::stamped(name) else {
            findings.signatures.fail(name, Text::NotThis { what: "time-stamp".into() });
            continue;
        };
        let receipt = proven.receipts.iter().find(|(file, _)| *file == tbs_file);
        let sealed = members.bytes(&tbs_file).and_then(|tbs| authentic.of(Kind::Receipt, tbs));
        let (Some((_, receipt)), Some(sealed)) = (receipt, sealed) else {
            findings.signatures.fail(name, Text::RootUnsigned { root: tbs_file });
            continue;
        };
        findings.signatures.checked();
        let trust = Trust { anchors, known: &[], crls: &authentic.crls, at_ns: receipt.stored_at };
        let stamp = match time_stamp::verify(token, &sm3(&[&sealed.signature]), &trust) {
            Judgement::Valid(stamp) => stamp,
            Judgement::Invalid(why @ Refusal::ForeignAlgorithm(_)) => {
                findings.signatures.warn(name, Text::StampUnjudged { why: why.to_string() });
                continue;
            }
            Judgement::Invalid(Refusal::Chain(error)) if error.fault() == ChainFault::Untrusted => {
                findings.signatures.warn(name, Text::StampUntrusted { why: error.to_string() });
                continue;
            }
            other => {
                let why = other.valid().err().map(|fault| fault.to_string()).unwrap_or_default();
                findings.signatures.fail(name, Text::StampWrong { why });
                continue;
            }
        };
        let at = stamp.said.time_ns;
        let slack = i64::try_from(stamp.said.accuracy_ns.unwrap_or(0)).unwrap_or(i64::MAX).saturating_add(AGREE_NS);
        let mut in_time = |place: String, found: i64| {
            let holds = found.saturating_sub(at) <= slack;
            findings.data_quality.check(holds, place, || Text::TimeStamped {
                time: rfc3339(found),
                stamp: name.to_owned(),
                at: rfc3339(at),
            });
        };
        in_time(format!("{tbs_file}#storedAt"), receipt.stored_at);
        let below = |(_, root): &&(_, String)| *root == tbs_file;
        for (place, _) in proven.rooted.iter().filter(below) {
            if let Some(BlockHeader { time, .. }) = proven.headers.get(place) {
                in_time(format!("signed/block-{}-{}.tbs#time", place.0, place.1), *time);
            }
        }
        let bill = evidence.bill_entry.as_ref().map(|entry| entry.place);
        let covers_bill = proven.rooted.iter().filter(below).any(|(place, _)| Some(*place) == bill);
        all.push(Stamped { file: name.to_owned(), at, authority: stamp.authority.subject(), covers_bill });
    }
    all
}
