//! The evidence pack of a bill, from what the platform holds: the node sends every entry, header and proof, so the platform
//! can make the same pack as the node. What a pack is, `hufu-audit` knows; who may have one, the callers.

use std::collections::BTreeMap;

use hufu_audit::pack::{ENTRY_FILES_MAX, Located, PackInput, Proof, Stamp, build};
use hufu_gm::{Certificate, Signed, sm3::sm3};
use hufu_ledger::{Block, Entry};
use hufu_trade::{
    bill::Bill,
    decode,
    entry::{Certificates, EntryKind, EntryName, Rules},
    if2::PLATFORM,
    octets::{Digest, Octets},
    statement::Offer,
    usage::UsageRecord,
};
use sqlx::AnyConnection;

use crate::{
    error::{Error, hash},
    store::{
        bill::{self, StoredBill},
        block,
        contract::{self, StoredEntry},
        list, node, receipt, stamp, tree,
    },
    witness,
};

/// Why there is no pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// No bill of that number is here.
    Bill,
    /// A piece of it is not here yet.
    Piece(String),
}

impl From<&str> for Lack {
    fn from(piece: &str) -> Self {
        Lack::Piece(piece.to_owned())
    }
}

/// Collects everything about the bill `number`. `platform` adds certificates of the platform that the node's log may not hold.
///
/// # Errors
/// [`Error`] from the database; inside, what is lacking.
pub(crate) async fn collect(
    db: &mut AnyConnection,
    number: &str,
    platform: &[Certificate],
) -> Result<Result<PackInput, Lack>, Error> {
    let Some(stored) = bill::find(&mut *db, number).await? else { return Ok(Err(Lack::Bill)) };
    let papers = match Papers::load(&mut *db, &stored, number).await? {
        Ok(papers) => papers,
        Err(lack) => return Ok(Err(lack)),
    };
    let mut input = PackInput {
        bill: located(&papers.bill),
        entries: Vec::new(),
        receipts: Vec::new(),
        checkpoints: Vec::new(),
        stamps: Vec::new(),
        witnesses: Vec::new(),
        node_certificates: Vec::new(),
        platform_certificates: platform.iter().map(|found| found.der().to_vec()).collect(),
        buyer_certificates: Vec::new(),
        crls: Vec::new(),
        entry_files_max: ENTRY_FILES_MAX,
    };
    certificates(&mut *db, &stored.pool, &mut input).await?;
    let mut roots = Roots { pool: &stored.pool, due: papers.due(), receipts: BTreeMap::new() };
    input.bill.proof = Some(roots.prove(&mut *db, &papers.bill.name).await?);
    for (entry, is_proven) in &papers.entries {
        let mut found = located(entry);
        if *is_proven {
            found.proof = Some(roots.prove(&mut *db, &entry.name).await?);
        }
        input.entries.push(found);
    }
    if let Some(proof) = input.bill.proof.as_mut() {
        stamped(&mut *db, &stored.pool, &papers.bill.name, (proof, &mut input.stamps)).await?;
    }
    let last = |found: &&mut Located| (found.log, found.height, found.index) == place(&papers.last_record);
    if let Some(proof) = input.entries.iter_mut().find(last).and_then(|found| found.proof.as_mut()) {
        stamped(&mut *db, &stored.pool, &papers.last_record, (proof, &mut input.stamps)).await?;
    }
    witness::add(&mut *db, &stored.pool, &mut input).await?;
    input.receipts = roots.receipts.into_values().flatten().map(|(_, bytes)| bytes).collect();
    input.receipts.dedup();
    Ok(Ok(input))
}

/// The pack's bytes.
///
/// # Errors
/// [`Error::Audit`]; inside, what is lacking.
pub(crate) fn zip(input: &PackInput) -> Result<Result<Vec<u8>, Lack>, Error> {
    let mut out = std::io::Cursor::new(Vec::new());
    match build(input, &mut out) {
        Ok(()) => Ok(Ok(out.into_inner())),
        Err(hufu_audit::Error::Input { what, why }) => Ok(Err(Lack::Piece(format!("{what}: {why}")))),
        Err(error) => Err(error.into()),
    }
}

fn place(name: &EntryName) -> (u8, u64, u32) {
    (name.log, name.height, name.index)
}

/// Shows an entry below the root of the oldest receipt over it that has a time-stamp, if there is one.
async fn stamped(
    db: &mut AnyConnection,
    pool: &str,
    name: &EntryName,
    (proof, stamps): (&mut Proof, &mut Vec<Stamp>),
) -> Result<(), Error> {
    let Some((size, receipt, token)) = stamp::covering(&mut *db, (pool, name.log), name.height).await? else {
        return Ok(());
    };
    proof.more.push((size, tree::path(&mut *db, (pool, name.log), name.height, size).await?));
    stamps.push(Stamp { receipt, token });
    Ok(())
}

fn located(entry: &StoredEntry) -> Located {
    let EntryName { log, height, index, .. } = entry.name;
    Located { log, height, index, entry: entry.bytes.clone(), proof: None }
}

/// The entries of a pack.
struct Papers {
    bill: StoredEntry,
    last_record: EntryName,
    /// True for those whose place in the log is shown; the usage records before the last hang on it by hash.
    entries: Vec<(StoredEntry, bool)>,
}

impl Papers {
    async fn load(db: &mut AnyConnection, stored: &StoredBill, number: &str) -> Result<Result<Self, Lack>, Error> {
        let pool = stored.pool.as_str();
        let no = list::contract_no(&stored.contract)?;
        let bill_hash: Digest = Octets(hash(&stored.hash)?);
        let found = contract::entries(&mut *db, pool, no).await?;
        let Some(entry) = found.iter().find(|entry| entry.name.hash == bill_hash).cloned() else {
            return Ok(Err(Lack::Bill));
        };
        let bill: Bill = decode(&Entry::from_bytes(&entry.bytes)?.body, "Bill")?;
        if bill.number != number {
            return Err(Error::Damaged("bill number"));
        }
        let chain = earlier(&found, &bill)?;
        let mut entries = Vec::new();
        let mut first_seq = bill.first_seq;
        let mut offer = None;
        // What the platform refused is no part of the contract's course; its receipts say so. A correction that does not go
        // far enough moved the contract all the same, and the next one follows it; so did a bill that the next goes on from.
        let counts = |entry: &StoredEntry| {
            entry.refused.is_none() || entry.kind == EntryKind::Correction.number() || chain.contains(&entry.name.hash)
        };
        for entry in found.into_iter().filter(counts) {
            let body = Entry::from_bytes(&entry.bytes)?.body;
            match EntryKind::from_number(entry.kind) {
                Some(EntryKind::Bill) => {
                    if entry.name.hash == bill_hash {
                        continue;
                    }
                    if bill.previous_bill == Some(entry.name.hash) {
                        first_seq = decode::<Bill>(&body, "Bill")?.last_seq;
                    }
                }
                Some(EntryKind::Offer) => {
                    offer = Some(decode::<Offer>(Signed::from_bytes(&body)?.tbs(), "Offer")?);
                }
                // Who at the site read what is no part of the trade.
                None | Some(EntryKind::UserOperation) => continue,
                Some(_) => {}
            }
            entries.push((entry, true));
        }
        let Some(offer) = offer else { return Ok(Err("the offer".into())) };
        for entry in contract::records(&mut *db, pool, no, first_seq..u64::MAX).await? {
            let record: UsageRecord = decode(&Entry::from_bytes(&entry.bytes)?.body, "UsageRecord")?;
            if record.order_seq <= bill.last_seq {
                let is_last = entry.name == bill.last_record;
                entries.push((entry, is_last));
            }
        }
        if !entries.iter().any(|(entry, _)| entry.name == bill.last_record) {
            return Ok(Err("the last usage record".into()));
        }
        let Some(rules) = rules(&mut *db, pool, &offer).await? else { return Ok(Err("the rule table".into())) };
        entries.push((rules, true));
        let rotations = contract::of_kind(&mut *db, pool, EntryKind::KeyRotation).await?;
        entries.extend(rotations.into_iter().filter(|entry| entry.refused.is_none()).map(|entry| (entry, true)));
        Ok(Ok(Self { bill: entry, last_record: bill.last_record, entries }))
    }

    /// For each log the height that one receipt must cover; what came after it (a score, a payment) has later ones.
    fn due(&self) -> BTreeMap<u8, u64> {
        let mut due = BTreeMap::new();
        for name in [&self.bill.name, &self.last_record] {
            let height: &mut u64 = due.entry(name.log).or_default();
            *height = name.height.max(*height);
        }
        due
    }
}

/// The bills that a bill goes on from.
fn earlier(found: &[StoredEntry], bill: &Bill) -> Result<Vec<Digest>, Error> {
    let (mut chain, mut named) = (Vec::new(), bill.previous_bill);
    let is_bill = |entry: &&StoredEntry| entry.kind == EntryKind::Bill.number();
    while let Some(entry) = found.iter().filter(is_bill).find(|entry| Some(entry.name.hash) == named) {
        if chain.contains(&entry.name.hash) {
            break;
        }
        chain.push(entry.name.hash);
        named = decode::<Bill>(&Entry::from_bytes(&entry.bytes)?.body, "Bill")?.previous_bill;
    }
    Ok(chain)
}

/// The rule table that an offer names.
async fn rules(db: &mut AnyConnection, pool: &str, offer: &Offer) -> Result<Option<StoredEntry>, Error> {
    for entry in contract::of_kind(db, pool, EntryKind::Rules).await? {
        let rules: Rules = decode(&Entry::from_bytes(&entry.bytes)?.body, "Rules")?;
        if sm3(&[rules.text.as_bytes()]) == offer.rules.0 {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The certificates known for the node, and those its log names for itself and for the platform.
async fn certificates(db: &mut AnyConnection, pool: &str, input: &mut PackInput) -> Result<(), Error> {
    let known = node::certificates(&mut *db, pool).await?;
    input.node_certificates.extend(known.iter().map(|(_, found)| found.der().to_vec()));
    for entry in contract::of_kind(db, pool, EntryKind::Certificates).await? {
        if entry.refused.is_some() {
            continue;
        }
        let listed: Certificates = decode(&Entry::from_bytes(&entry.bytes)?.body, "Certificates")?;
        let of_platform = listed.role == PLATFORM;
        let list = if of_platform { &mut input.platform_certificates } else { &mut input.node_certificates };
        // What a node says of the platform was never verified: bytes that are no certificate must not spoil the pack.
        let ders = listed.certificates.iter().map(|der| der.as_bytes());
        list.extend(ders.filter(|der| Certificate::from_der(der).is_ok()).map(<[u8]>::to_vec));
    }
    Ok(())
}

/// The proof that an entry stands in its node's log, and the oldest receipt that covers it.
///
/// # Errors
/// [`Error`] from the database.
pub(crate) async fn prove(
    db: &mut AnyConnection,
    pool: &str,
    name: &EntryName,
) -> Result<(Proof, Option<Vec<u8>>), Error> {
    let mut roots = Roots { pool, due: BTreeMap::new(), receipts: BTreeMap::new() };
    let proof = roots.prove(db, name).await?;
    Ok((proof, roots.receipts.into_values().flatten().map(|(_, bytes)| bytes).next()))
}

/// Size and bytes of a receipt, if there is one yet.
type Covering = Option<(u64, Vec<u8>)>;

/// The receipts that the proofs lead to.
struct Roots<'a> {
    pool: &'a str,
    due: BTreeMap<u8, u64>,
    /// By log and height asked for: the oldest receipt that covers it.
    receipts: BTreeMap<(u8, u64), Covering>,
}

impl Roots<'_> {
    /// Entry -> block -> the receipt's root.
    async fn prove(&mut self, db: &mut AnyConnection, name: &EntryName) -> Result<Proof, Error> {
        let (log, height) = (name.log, name.height);
        let block = Block::from_bytes(&block::bytes(&mut *db, self.pool, (log, height)).await?)?;
        let entry_path = block.entry_path(name.index).ok_or(Error::Damaged("entry beyond its block"))?;
        let log_size = self.size(&mut *db, (log, height)).await?;
        let log_path = match log_size {
            0 => Vec::new(),
            size => tree::path(&mut *db, (self.pool, log), height, size).await?,
        };
        Ok(Proof { header: block.signed().to_bytes()?, entry_path, log_size, log_path, more: Vec::new() })
    }

    /// Size of the log under the receipt that covers a height; 0 when none does yet.
    async fn size(&mut self, db: &mut AnyConnection, (log, height): (u8, u64)) -> Result<u64, Error> {
        let due = self.due.get(&log).copied().unwrap_or(0).max(height);
        if !self.receipts.contains_key(&(log, due)) {
            let found = receipt::covering(db, (self.pool, log), due).await?;
            self.receipts.insert((log, due), found);
        }
        let found = self.receipts.get(&(log, due)).and_then(Option::as_ref);
        Ok(found.map_or(0, |(size, _)| *size))
    }
}
