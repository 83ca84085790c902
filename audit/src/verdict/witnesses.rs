//! Other nodes that saw a checkpoint: how far the deal, the last usage record and the bill are confirmed, and whether that is what the
//! reader asks for. A witness that the reader does not trust is a remark and counts for nothing.

use std::collections::{BTreeMap, BTreeSet};

use hufu_gm::{Hash, sm3::sm3};
use hufu_ledger::witness::Witnessed;
use hufu_trade::party::platform_of;
use serde::Serialize;

use crate::{
    evidence::Evidence,
    findings::Findings,
    layout::Place,
    open::Members,
    signed::Kind,
    text::Text,
    verdict::{
        proofs::{Proven, Root, root_of},
        signatures::{Authentic, Sealed},
    },
};

/// Whose word a reader wants before an entry is confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// So many of them.
    pub needed: u32,
    /// Who counts, `{site}/{node}` or `{site}/platform`; nobody named: every trusted node, and the platform's receipt as one more.
    pub among: Vec<String>,
}

/// Reads `K`, or `K:NAME,NAME,..`.
impl std::str::FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, names) = text.split_once(':').unwrap_or((text, ""));
        let among: Vec<String> = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let needed: u32 = number.parse().map_err(|_| format!("{text:?}: a number expected, or K:NAME,NAME"))?;
        if text.ends_with(':') || among.iter().any(|name| !name.contains('/')) {
            return Err(format!("{text:?}: names are SITE/NODE or SITE/platform, with a comma between them"));
        }
        if needed == 0 || !among.is_empty() && among.len() < usize::try_from(needed).unwrap_or(usize::MAX) {
            return Err(format!("{text:?}: at least 1 expected, and no more than are named"));
        }
        Ok(Self { needed, among })
    }
}

/// How far one piece of the trade is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confirmed {
    /// `deal`, `usage` (the bill's last record) or `bill`.
    pub what: &'static str,
    /// The nodes that saw a checkpoint over it.
    pub witnesses: Vec<String>,
    /// Whether a receipt of the platform covers it.
    pub receipted: bool,
}

/// Judges every cosignature, and what the policy asks for.
pub(crate) fn check(
    members: &Members,
    policy: Option<&Policy>,
    (evidence, authentic): (&Evidence<'_>, &Authentic),
    proven: &Proven,
    findings: &mut Findings,
) -> Vec<Confirmed> {
    let seen = seen(members, evidence, authentic, findings);
    let roots: Vec<(Place, Root, bool)> = proven
        .rooted
        .iter()
        .filter_map(|(place, file)| {
            let tbs = members.bytes(file)?;
            let receipt = authentic.of(Kind::Receipt, tbs).is_some();
            let kind = if receipt { Kind::Receipt } else { Kind::Checkpoint };
            Some((*place, root_of(kind, tbs)?, receipt))
        })
        .collect();
    let last = evidence.bill.as_ref().map(|bill| &bill.last_record).map(|last| (last.log, last.height, last.index));
    let pieces = [
        ("deal", evidence.deal.as_ref().map(|found| found.place)),
        ("usage", last),
        ("bill", evidence.bill_entry.as_ref().map(|found| found.place)),
    ];
    let mut all = Vec::new();
    for (what, place) in pieces.into_iter().filter_map(|(what, place)| Some((what, place?))) {
        let below = || roots.iter().filter(|(there, ..)| *there == place);
        let witnesses: BTreeSet<&String> = below().filter_map(|(_, root, _)| seen.get(root)).flatten().collect();
        let receipted = below().any(|(.., receipt)| *receipt);
        let one = Confirmed { what, witnesses: witnesses.into_iter().cloned().collect(), receipted };
        if let Some(policy) = policy {
            let platform = evidence.bill.as_ref().map(|bill| platform_of(&bill.computing_pool_id)).unwrap_or_default();
            let found = counted(&one, policy, &platform);
            findings.completeness.check(found >= policy.needed, what, || Text::Unwitnessed {
                what: what.to_owned(),
                found: found.to_string(),
                needed: policy.needed.to_string(),
            });
        }
        all.push(one);
    }
    all
}

/// How many count.
fn counted(one: &Confirmed, policy: &Policy, platform: &str) -> u32 {
    let counts = |name: &str| policy.among.is_empty() || policy.among.iter().any(|among| among == name);
    let nodes = one.witnesses.iter().filter(|name| counts(name)).count();
    u32::try_from(nodes + usize::from(one.receipted && counts(platform))).unwrap_or(u32::MAX)
}

/// Who saw which root.
fn seen(
    members: &Members,
    evidence: &Evidence<'_>,
    authentic: &Authentic,
    findings: &mut Findings,
) -> BTreeMap<Root, BTreeSet<String>> {
    let checkpoints: BTreeMap<Hash, Root> = authentic
        .files(Kind::Checkpoint)
        .filter_map(|file| members.bytes(file))
        .filter_map(|tbs| Some((sm3(&[tbs]), root_of(Kind::Checkpoint, tbs)?)))
        .collect();
    let pool = evidence.bill.as_ref().map(|bill| bill.computing_pool_id.as_str()).unwrap_or_default();
    let mut seen: BTreeMap<Root, BTreeSet<String>> = BTreeMap::new();
    for Sealed { certificate, tbs: file, node, .. } in authentic.sealed(Kind::Witnessed) {
        let Some(witnessed) = members.bytes(file).and_then(|tbs| Witnessed::from_bytes(tbs).ok()) else { continue };
        let Some(root) = checkpoints.get(&witnessed.checkpoint) else {
            findings.signatures.fail(file.as_str(), Text::WitnessOfNothing {});
            continue;
        };
        match node {
            Some(node) if witnessed.witness == *certificate && node != pool => {
                seen.entry(*root).or_default().insert(node.clone());
            }
            _ => findings.signatures.fail(file.as_str(), Text::NoWitness {}),
        }
    }
    seen
}
