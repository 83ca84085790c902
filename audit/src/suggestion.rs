//! What the quality lines of a pack's contract suggest that its buyer scores. Judging the pack is `verdict.rs`, the rule is
//! `trade/src/score.rs`; nothing is signed here.

use std::io::{Read, Seek};

use hufu_gm::Certificate;
use hufu_trade::{
    octets::ContractNo,
    quality::{Quality, QualityLine},
    resource::{Kind, Resource},
    score,
};

use crate::{
    Error, Verdicts,
    evidence::Evidence,
    findings::Findings,
    open::Members,
    records,
    verdict::{Options, judge},
};

/// Suggested scores for a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The contract.
    pub contract_no: ContractNo,
    /// The pack's bill.
    pub bill_no: String,
    /// One for each priced kind of resource, in code order.
    pub items: Vec<SuggestedScore>,
}

/// A suggested score for one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuggestedScore {
    /// Of what.
    pub kind: Kind,
    /// 0..100; `None` where nothing that was measured speaks of the kind.
    pub score: Option<u8>,
    /// What speaks of it, over all bills of the contract up to the pack's.
    pub told: Vec<QualityLine>,
}

/// Judges a pack and suggests scores from the quality lines of its contract's bills. `None` where bill, price terms or the sum of
/// the lines cannot be read; what a pack that fails suggests is worth nothing.
///
/// # Errors
/// Those of [`crate::verify`].
pub fn suggest(pack: impl Read + Seek, anchors: &[Certificate]) -> Result<(Verdicts, Option<Suggestion>), Error> {
    let members = Members::open(pack)?;
    let verdicts = judge(&members, anchors, Options::default())?;
    let mut findings = Findings::default();
    let pieces = records::pieces(&members, &mut findings.completeness)?;
    let evidence = Evidence::read(&members, &pieces, &mut findings);
    Ok((verdicts, of(&evidence)))
}

fn of(evidence: &Evidence<'_>) -> Option<Suggestion> {
    let bill = evidence.bill.as_ref()?;
    let bills = evidence.earlier.iter().map(|found| &found.value).chain([bill]);
    let lines = score::together(bills.flat_map(|bill| bill.quality.iter().flatten())).ok()?;
    let prices = &evidence.terms()?.prices;
    let mut kinds: Vec<Kind> =
        prices.iter().filter_map(|price| price.resource.parse().ok()).map(|resource: Resource| resource.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let item = |kind: Kind| {
        let speaks = |line: &&QualityLine| {
            Quality::from_code(line.code).is_ok_and(|quality| score::told_by(kind).contains(&quality))
        };
        let told = lines.iter().filter(speaks).cloned().collect();
        SuggestedScore { kind, score: score::suggest(kind, &lines), told }
    };
    Some(Suggestion {
        contract_no: bill.contract_no,
        bill_no: bill.number.clone(),
        items: kinds.into_iter().map(item).collect(),
    })
}
