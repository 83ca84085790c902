//! The four verdicts over a pack from anybody: signatures, completeness, data quality, arithmetic. What was received is what
//! is hashed and verified. Making a pack is `pack.rs`; the page a person reads is `report.rs`.

mod arithmetic;
mod completeness;
mod course;
mod links;
mod proofs;
mod quality;
mod rotation;
pub(crate) mod signatures;
mod stamps;
mod witnesses;

use std::io::{Read, Seek};

use hufu_gm::Certificate;
use hufu_trade::{
    confirm,
    money::Money,
    octets::{Digest, rfc3339},
    parent::{ParentOrder, Payable},
};
use serde::Serialize;

pub use stamps::Stamped;
pub use witnesses::{Confirmed, Policy};

use crate::{
    Error, Exit, Lang,
    evidence::Evidence,
    findings::{Findings, Outcome, Verdict},
    open::Members,
    records,
    text::Text,
};

/// How a pack is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    /// Every signature must also pass the second implementation; needs the feature `cross-check`.
    pub cross_check: bool,
    /// Deal, last usage record and bill must be confirmed so far.
    pub witnesses: Option<&'a Policy>,
}

/// What a verification says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Everything is signed by whom it says, under certificates that lead to a trust anchor.
    pub signatures: Verdict,
    /// Nothing is missing.
    pub completeness: Verdict,
    /// What readings and times are worth.
    pub data_quality: Verdict,
    /// The bill is what usage and prices give.
    pub arithmetic: Verdict,
    /// What the bill says.
    pub billed_total: Option<Money>,
    /// What it should say, where it could be recomputed.
    pub recomputed_total: Option<Money>,
    /// What is due after corrections.
    pub due_total: Option<Money>,
    /// The parent order that the bill's contract is a child of, as its deal says.
    pub parent: Option<ParentShown>,
    /// The time-stamps that hold.
    pub stamps: Vec<Stamped>,
    /// How far deal, usage and bill are confirmed.
    pub confirmed: Vec<Confirmed>,
    /// Role and subject of every certificate that signed something that holds.
    pub parties: Vec<(&'static str, String)>,
}

/// The parent order of a child, as its pack shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParentShown {
    /// Number, level that is paid, number of children.
    #[serde(flatten)]
    pub order: ParentOrder,
    /// The parent bills that the payments name.
    pub parent_bills: Vec<Digest>,
}

impl ParentShown {
    fn of(evidence: &Evidence<'_>) -> Option<Self> {
        let order = evidence.deal.as_ref()?.value.requirement.parent?;
        let named = |confirmation: &[u8]| confirm::parent_bill(confirmation, Some(&order)).ok().flatten();
        let parent_bills = evidence.payments.iter().filter_map(|found| named(found.value.confirmation.as_bytes()));
        Some(Self { order, parent_bills: parent_bills.collect() })
    }
}

/// Verifies a pack. `anchors` are the reader's own: nothing in the pack is trusted but what leads to them.
///
/// # Errors
/// [`Error::Unreadable`], [`Error::TooLarge`] or [`Error::NoBill`] when the container cannot be listed, is beyond the limits
/// of [`crate::limits`], or holds no `bill.der`. Everything else is a problem of a verdict.
pub fn verify(pack: impl Read + Seek, anchors: &[Certificate], options: Options<'_>) -> Result<Verdicts, Error> {
    judge(&Members::open(pack)?, anchors, options)
}

/// The four verdicts over the members of a pack.
pub(crate) fn judge(members: &Members, anchors: &[Certificate], options: Options<'_>) -> Result<Verdicts, Error> {
    let mut findings = Findings::default();
    let pieces = records::pieces(members, &mut findings.completeness)?;
    let mut evidence = Evidence::read(members, &pieces, &mut findings);
    let authentic = signatures::check(members, anchors, options, &mut findings.signatures);
    links::check(members, &evidence, &authentic, &mut findings.signatures);
    rotation::check(members, &evidence, &authentic, &mut findings.signatures);
    let proven = proofs::check(members, &evidence, &authentic, &mut findings);
    let stamps = stamps::check(members, anchors, (&evidence, &authentic), &proven, &mut findings);
    let confirmed = witnesses::check(members, options.witnesses, (&evidence, &authentic), &proven, &mut findings);
    completeness::check(members, &evidence, &proven, &mut findings.completeness);
    let table = course::table(members, &mut findings.completeness);
    let metered = table.as_ref().map(|table| course::check(table, &evidence, &proven, &mut findings.completeness));
    quality::check(&evidence, &proven, &metered.unwrap_or_default(), &mut findings.data_quality);
    let (recomputed_total, due_total) =
        arithmetic::check(members, &mut evidence, table.as_ref(), &mut findings.arithmetic);
    let parent = ParentShown::of(&evidence);
    let billed_total = evidence.bill.as_ref().map(|bill| bill.total);
    let parties = authentic.parties.into_iter().map(|(role, subject)| (role.name(), subject)).collect();
    let Findings { signatures, completeness, data_quality, arithmetic } = findings;
    let mut verdicts = Verdicts {
        signatures,
        completeness,
        data_quality,
        arithmetic,
        billed_total,
        recomputed_total,
        due_total,
        parent,
        stamps,
        confirmed,
        parties,
    };
    for verdict in verdicts.each_mut() {
        verdict.close();
    }
    Ok(verdicts)
}

impl Verdicts {
    fn each_mut(&mut self) -> [&mut Verdict; 4] {
        [&mut self.signatures, &mut self.completeness, &mut self.data_quality, &mut self.arithmetic]
    }

    /// Name and verdict, in the order of the command contract.
    pub fn each(&self) -> [(&'static str, &Verdict); 4] {
        [
            ("signatures", &self.signatures),
            ("completeness", &self.completeness),
            ("data_quality", &self.data_quality),
            ("arithmetic", &self.arithmetic),
        ]
    }

    /// 0 when nothing fails (warnings included), 1 otherwise.
    pub fn exit(&self) -> Exit {
        let failed = self.each().iter().any(|(_, verdict)| verdict.result == Outcome::Fail);
        if failed { Exit::No } else { Exit::Done }
    }

    /// The command contract's JSON, with the problems in `lang`.
    pub fn to_json(&self, lang: Lang) -> serde_json::Value {
        let verdicts: serde_json::Map<String, serde_json::Value> =
            self.each().into_iter().map(|(name, verdict)| (name.to_owned(), verdict.to_json(lang))).collect();
        serde_json::json!({
            "verdicts": verdicts,
            "billed_total_cny": self.billed_total,
            "recomputed_total_cny": self.recomputed_total,
            "due_total_cny": self.due_total,
            "parent": self.parent,
            "stamps": self.stamps,
            "confirmed": self.confirmed,
        })
    }

    /// The statement a person reads: who signed, the amounts, four lines, and below each what it has to say.
    pub fn to_text(&self, lang: Lang) -> String {
        let mut lines = Vec::new();
        for (role, subject) in &self.parties {
            lines.push(Text::Party { role: (*role).to_owned(), subject: subject.clone() }.render(lang));
        }
        let shown = |money: Option<Money>| money.map_or_else(|| "-".to_owned(), |money| money.to_string());
        let (billed, recomputed) = (shown(self.billed_total), shown(self.recomputed_total));
        lines.push(Text::Totals { billed, recomputed }.render(lang));
        if let Some(ParentShown { order, .. }) = &self.parent {
            let (parent, children) = (order.parent_no.to_string(), order.children.to_string());
            let line = match order.payable {
                Payable::Parent => Text::ChildOfPayable { parent, children },
                Payable::Child => Text::ChildOf { parent, children },
            };
            lines.push(line.render(lang));
        }
        for Stamped { at, authority, file, covers_bill } in &self.stamps {
            let (at, authority, file) = (rfc3339(*at), authority.clone(), file.clone());
            let line = if *covers_bill {
                Text::StampedBill { at, authority, file }
            } else {
                Text::StampedReceipt { at, authority, file }
            };
            lines.push(line.render(lang));
        }
        for Confirmed { what, witnesses, .. } in self.confirmed.iter().filter(|one| !one.witnesses.is_empty()) {
            lines.push(Text::SeenBy { what: (*what).to_owned(), witnesses: witnesses.join(", ") }.render(lang));
        }
        let heads =
            [Text::HeadSignatures {}, Text::HeadCompleteness {}, Text::HeadDataQuality {}, Text::HeadArithmetic {}];
        for (head, (_, verdict)) in heads.iter().zip(self.each()) {
            let result = match verdict.result {
                Outcome::Pass => Text::Pass {},
                Outcome::Warn => Text::Warn {},
                Outcome::Fail => Text::Fail {},
            };
            let line = Text::Line {
                name: head.render(lang),
                result: result.render(lang),
                checked: verdict.checked.to_string(),
                problems: verdict.problems.len().to_string(),
            };
            lines.push(line.render(lang));
            for problem in &verdict.problems {
                lines.push(format!("    {}: {}", problem.place, problem.what.render(lang)));
            }
        }
        lines.join("\n") + "\n"
    }
}
