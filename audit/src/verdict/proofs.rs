//! Where entries stand: paths from an entry to a signed header, and from the header to a signed root of the log. A path that
//! does not lead there is the first verdict's matter, one that is not there the second's.

use std::collections::BTreeMap;

use hufu_gm::Hash;
use hufu_ledger::{BlockHeader, Checkpoint, Entry, Log, block_hash, entry_hash, merkle};
use hufu_trade::entry::Receipt;

use crate::{
    evidence::Evidence,
    findings::Findings,
    layout::{self, Place, ProofRow},
    open::Members,
    signed::Kind,
    text::Text,
    verdict::signatures::Authentic,
};

/// What the proofs establish.
#[derive(Debug, Default)]
pub(crate) struct Proven {
    /// Header of the block in which an entry stands.
    pub(crate) headers: BTreeMap<Place, BlockHeader>,
    /// The platform's receipts whose signatures hold.
    pub(crate) receipts: Vec<(String, Receipt)>,
    /// Entries that come with a proof, right or wrong: what is wrong with it the first verdict says.
    pub(crate) shown: Vec<Place>,
    /// Entries of which the whole way to a signed root of the log is shown, with the file of the signed bytes that hold the root.
    pub(crate) rooted: Vec<(Place, String)>,
}

/// A signed root: log, size, root.
pub(crate) type Root = (u8, u64, Hash);

pub(crate) fn root_of(kind: Kind, tbs: &[u8]) -> Option<Root> {
    match kind {
        Kind::Receipt => {
            let receipt: Receipt = hufu_trade::decode(tbs, "Receipt").ok()?;
            Some((receipt.log, receipt.size, receipt.root.0))
        }
        Kind::Checkpoint => {
            let checkpoint = Checkpoint::from_bytes(tbs).ok()?;
            Some((checkpoint.log.number(), checkpoint.size, checkpoint.root))
        }
        _ => None,
    }
}

pub(crate) fn check(
    members: &Members,
    evidence: &Evidence<'_>,
    authentic: &Authentic,
    findings: &mut Findings,
) -> Proven {
    let mut proven = Proven::default();
    let mut roots: BTreeMap<(u8, u64), Hash> = BTreeMap::new();
    for kind in [Kind::Checkpoint, Kind::Receipt] {
        for file in authentic.files(kind) {
            let Some((log, size, root)) = members.bytes(file).and_then(|tbs| root_of(kind, tbs)) else { continue };
            if kind == Kind::Checkpoint {
                of_pool(members, evidence, file, findings);
            }
            let same = *roots.entry((log, size)).or_insert(root) == root;
            findings.completeness.check(same, file, || Text::Fork { size: size.to_string() });
        }
    }
    receipts(members, evidence, authentic, findings, &mut proven);
    let Some(index) = members.text(layout::PROOFS) else {
        findings.completeness.fail(layout::PROOFS, Text::FileMissing { file: layout::PROOFS.into() });
        return proven;
    };
    // What the bill rests on must be in the log; for the others a signed block is enough.
    let last = evidence.bill.iter().map(|bill| &bill.last_record).map(|last| (last.log, last.height, last.index));
    let needed: Vec<Place> = last.chain(evidence.bill_entry.iter().map(|found| found.place)).collect();
    for (number, line) in (1_u32..).zip(index.lines()) {
        match ProofRow::read(line) {
            Some(row) => walk(members, (&row, &needed), authentic, findings, &mut proven),
            None => findings.completeness.fail(format!("{}:{number}", layout::PROOFS), Text::IndexLine {}),
        }
    }
    same_node(evidence, findings, &proven);
    proven
}

/// A checkpoint is of the bill's computing pool.
fn of_pool(members: &Members, evidence: &Evidence<'_>, file: &str, findings: &mut Findings) {
    let checkpoint = members.bytes(file).and_then(|tbs| Checkpoint::from_bytes(tbs).ok());
    let (Some(checkpoint), Some(bill)) = (checkpoint, &evidence.bill) else { return };
    let (told, found) = (bill.computing_pool_id.clone(), checkpoint.node);
    findings.signatures.check(told == found, format!("{file}#node"), || Text::FieldDiffers {
        by: "bill".into(),
        told,
        found,
    });
}

fn receipts(
    members: &Members,
    evidence: &Evidence<'_>,
    authentic: &Authentic,
    findings: &mut Findings,
    proven: &mut Proven,
) {
    let mut names: BTreeMap<Hash, &str> = BTreeMap::new();
    let pool = evidence.bill.as_ref().map(|bill| bill.computing_pool_id.as_str());
    for file in authentic.files(Kind::Receipt) {
        let Some(tbs) = members.bytes(file) else { continue };
        let Ok(receipt) = hufu_trade::decode::<Receipt>(tbs, "Receipt") else { continue };
        let (told, found) = (pool.unwrap_or_default().to_owned(), receipt.computing_pool_id.clone());
        let differs = || Text::FieldDiffers { by: "bill".into(), told: told.clone(), found: found.clone() };
        findings.signatures.check(told == found, format!("{file}#computingPoolId"), differs);
        if names.is_empty() && !receipt.refused.is_empty() {
            names.extend(evidence.all.iter().map(|entry| (entry.hash, entry.name)));
        }
        for refused in &receipt.refused {
            if let Some(name) = names.get(&refused.entry.0) {
                findings.completeness.warn(*name, Text::Refused { code: refused.code.clone() });
            }
        }
        proven.receipts.push((file.to_owned(), receipt));
    }
}

/// All headers are of the log of the bill's computing pool, and no epoch falls as the heights rise.
fn same_node(evidence: &Evidence<'_>, findings: &mut Findings, proven: &Proven) {
    for (((log, height, _), before), ((next_log, next, _), after)) in
        proven.headers.iter().zip(proven.headers.iter().skip(1))
    {
        if log == next_log && after.epoch < before.epoch {
            let (told, found) = (before.epoch.to_string(), after.epoch.to_string());
            let by = format!("block-{log}-{height}");
            findings
                .signatures
                .fail(format!("signed/block-{log}-{next}.tbs#epoch"), Text::FieldDiffers { by, told, found });
        }
    }
    let Some(bill) = &evidence.bill else { return };
    for ((log, height, _), header) in &proven.headers {
        let place = format!("signed/block-{log}-{height}.tbs#node");
        let (told, found) = (bill.computing_pool_id.clone(), header.node.clone());
        findings.signatures.check(told == found, place, || Text::FieldDiffers { by: "bill".into(), told, found });
    }
}

fn walk(
    members: &Members,
    (row, needed): (&ProofRow, &[Place]),
    authentic: &Authentic,
    findings: &mut Findings,
    proven: &mut Proven,
) {
    let missing = |name: &str| Text::FileMissing { file: name.to_owned() };
    let (Some(entry), Some((place, _))) = (members.bytes(&row.entry), layout::entry_place(&row.entry)) else {
        return findings.completeness.fail(row.entry.as_str(), missing(&row.entry));
    };
    let Some(tbs) = members.bytes(&row.header) else {
        return findings.signatures.fail(row.header.as_str(), missing(&row.header));
    };
    let Some(path) = path(members, &row.entry_path, findings) else { return };
    proven.shown.push(place);
    findings.signatures.checked();
    let unsigned = Text::HeaderUnsigned { header: row.header.clone() };
    if authentic.of(Kind::Block, tbs).is_none() {
        return findings.signatures.fail(row.entry.as_str(), unsigned);
    }
    let Ok(header) = BlockHeader::from_bytes(tbs) else {
        return findings.signatures.fail(row.entry.as_str(), unsigned);
    };
    let (log, height, index) = place;
    let stands = (header.log.number(), header.height) == (log, height)
        && Entry::from_bytes(entry).is_ok()
        && merkle::verify_path(&entry_hash(entry), index.into(), header.count.into(), &path, &header.root);
    if !stands {
        return findings.signatures.fail(row.entry.as_str(), Text::PathWrong { header: row.header.clone() });
    }
    if let Some((log_path, root)) = &row.log {
        if rooted(members, &header, tbs, (log_path, root), authentic, findings) {
            proven.rooted.push((place, root.clone()));
        }
    } else if needed.contains(&place) {
        findings.completeness.warn(row.entry.as_str(), Text::NoRoot {});
    }
    proven.headers.insert(place, header);
}

fn rooted(
    members: &Members,
    header: &BlockHeader,
    tbs: &[u8],
    (log_path, root_file): (&str, &str),
    authentic: &Authentic,
    findings: &mut Findings,
) -> bool {
    let Some(path) = path(members, log_path, findings) else { return false };
    let Some(root_tbs) = members.bytes(root_file) else {
        findings.signatures.fail(root_file, Text::FileMissing { file: root_file.to_owned() });
        return false;
    };
    findings.signatures.checked();
    let kinds = [Kind::Receipt, Kind::Checkpoint].into_iter();
    let root = kinds.filter(|kind| authentic.of(*kind, root_tbs).is_some()).find_map(|kind| root_of(kind, root_tbs));
    let Some((log, size, root)) = root else {
        findings.signatures.fail(root_file, Text::RootUnsigned { root: root_file.to_owned() });
        return false;
    };
    let leaf = merkle::leaf(&block_hash(tbs));
    let holds = log == header.log.number() && merkle::verify_path(&leaf, header.height, size, &path, &root);
    if !holds {
        findings.signatures.fail(log_path, Text::LogPathWrong { root: root_file.to_owned() });
    }
    holds
}

fn path(members: &Members, name: &str, findings: &mut Findings) -> Option<Vec<merkle::PathStep>> {
    if members.bytes(name).is_none() {
        findings.completeness.fail(name, Text::FileMissing { file: name.to_owned() });
        return None;
    }
    let path = members.text(name).and_then(merkle::path_from_text);
    if path.is_none() {
        findings.completeness.fail(name, Text::PathMalformed {});
    }
    path
}

impl Proven {
    /// The first receipt that acknowledges the block at a height.
    pub(crate) fn receipt_over(&self, log: Log, height: u64) -> Option<&(String, Receipt)> {
        let covers = |receipt: &Receipt| receipt.log == log.number() && receipt.size > height;
        self.receipts.iter().filter(|(_, receipt)| covers(receipt)).min_by_key(|(_, receipt)| receipt.size)
    }
}
