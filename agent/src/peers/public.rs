//! What this node and those that it follows make public of their trade: deals without buyer and price, hashes of offers, scores. A
//! record counts where it stands under a header that is held here; what everybody may know of an entry is `trade::if2::public`.

use std::sync::Arc;

use der::Sequence;
use hufu_gm::{Signed, sm3::sm3};
use hufu_ledger::{
    Entry, Error, LogCopy,
    merkle::{self, PathStep},
    storage::{Access, Storage, replace},
};
use hufu_trade::{
    decode, encode,
    entry::{Deal, EntryKind, SignedStatement, octet_string},
    if2::{
        Told,
        public::{Public, PublicDeal, PublicRecord},
    },
    octets::{ContractNo, Octets},
};

use super::{Effect, Peers, read_header, refused};
use crate::clock::Now;

/// Records kept of one node.
const KEPT_MAX: usize = 1024;
/// Name of their file.
pub(crate) const FILE: &str = "public.der";
/// No file of them is larger, octets.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most entries of a block of which a record is believed.
const COUNT_MAX: usize = 1 << 16;

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Sequence)]
struct Kept {
    version: u8,
    /// Blocks of the trade log that were looked through.
    seen: u64,
    records: Vec<PublicRecord>,
}

/// The records of one node.
pub(super) struct Records {
    storage: Arc<dyn Storage>,
    kept: Kept,
    /// Of this node: they changed since they were told. Of another: a message whose headers are not here yet.
    pub(super) is_untold: bool,
    pub(super) waiting: Option<Public>,
    told_ns: Option<u64>,
}

/// What everybody may know of an entry; `None` where that is nothing, or it cannot be read.
pub(crate) fn record(bytes: &[u8], (height, index): (u64, u32), path: &[PathStep]) -> Option<PublicRecord> {
    let entry = Entry::from_bytes(bytes).ok()?;
    let (mut deal, mut offer, mut score) = (None, None, None);
    match EntryKind::from_number(entry.kind)? {
        EntryKind::Deal => {
            let found: Deal = decode(&entry.body, "Deal").ok()?;
            deal = Some(PublicDeal {
                contract_no: found.contract_no,
                items: found.requirement.items,
                contract_time: found.contract_time,
                service_end: found.service_end,
            });
        }
        EntryKind::Offer => offer = Some(Octets(sm3(&[Signed::from_bytes(&entry.body).ok()?.tbs()]))),
        EntryKind::Score => score = Some(octet_string(bytes, "PublicRecord").ok()?),
        _ => return None,
    }
    let path = path.iter().map(|step| Octets(step.hash)).collect();
    Some(PublicRecord { height, index, kind: entry.kind, hash: Octets(merkle::leaf(bytes)), path, deal, offer, score })
}

/// Contract and overall score, hundredths, of a record that is one; `None` for a score that is not the entry of its hash.
pub(crate) fn scored(record: &PublicRecord) -> Option<(ContractNo, u16)> {
    let bytes = record.score.as_ref()?.as_bytes();
    let entry = Entry::from_bytes(bytes).ok()?;
    let statement = decode::<SignedStatement>(&entry.body, "SignedStatement").ok()?.open().ok()?;
    let is_it = merkle::leaf(bytes) == record.hash.0 && entry.kind == EntryKind::Score.number();
    is_it.then_some((statement.contract_no, statement.score?.overall))
}

/// Whether a record stands in a block of so many entries, under the root of its header.
fn is_under(record: &PublicRecord, count: u32, root: &[u8; 32]) -> bool {
    let (Ok(count), Ok(index)) = (usize::try_from(count), usize::try_from(record.index)) else { return false };
    if index >= count || count > COUNT_MAX {
        return false;
    }
    // The sides of a path are those of any tree of this size.
    let Some(sides) = merkle::path(&vec![[0; 32]; count], index) else { return false };
    let steps: Vec<PathStep> =
        sides.iter().zip(&record.path).map(|(side, hash)| PathStep { left: side.left, hash: hash.0 }).collect();
    sides.len() == record.path.len() && merkle::walk(&record.hash.0, &steps) == *root
}

/// The records of a file, rising; none where there is no such file or it is something else.
pub(crate) fn read(storage: &dyn Storage) -> Vec<PublicRecord> {
    kept(storage).records
}

fn kept(storage: &dyn Storage) -> Kept {
    let whole = || {
        let file = storage.open(FILE, Access::Read).ok()?;
        let size = file.size().ok().filter(|size| *size <= FILE_BYTES_MAX)?;
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        file.read_at(&mut bytes, 0).ok()?;
        decode::<Kept>(&bytes, "PublicRecord").ok().filter(|kept| kept.version == 1)
    };
    whole().unwrap_or_else(|| Kept { version: 1, ..Kept::default() })
}

impl Records {
    /// What is held in a directory that is there.
    pub(super) fn open(storage: Arc<dyn Storage>) -> Self {
        let kept = kept(&*storage);
        let is_untold = !kept.records.is_empty();
        Self { storage, kept, is_untold, waiting: None, told_ns: None }
    }

    /// Blocks of the trade log that were looked through.
    pub(super) fn seen(&self) -> u64 {
        self.kept.seen
    }

    pub(super) fn all(&self) -> &[PublicRecord] {
        &self.kept.records
    }

    /// Takes the records of this node's own blocks `from` to `until`, in the place of what stood there.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(super) fn take(&mut self, (from, until): (u64, u64), records: &[PublicRecord]) -> Result<(), Error> {
        self.kept.seen = until;
        if self.put(from, records) {
            self.is_untold = true;
            self.save()?;
        }
        Ok(())
    }

    /// Whether what stands from a height on changed.
    fn put(&mut self, from: u64, records: &[PublicRecord]) -> bool {
        let at = self.kept.records.partition_point(|record| record.height < from);
        if self.kept.records.get(at..) == Some(records) {
            return false;
        }
        self.kept.records.truncate(at);
        self.kept.records.extend_from_slice(records);
        let over = self.kept.records.len().saturating_sub(KEPT_MAX);
        self.kept.records.drain(..over);
        true
    }

    fn save(&self) -> Result<(), Error> {
        let bytes = encode(&self.kept, "PublicRecord").unwrap_or_default();
        replace(&*self.storage, FILE, &bytes)
    }
}

impl Peers {
    /// The newest records of this node, where they changed and the last telling is old enough.
    pub(super) fn public_told(&mut self, now: Now) -> Option<Effect> {
        let every_ns = self.terms.checkpoint_ns;
        let is_due = self.public.told_ns.is_none_or(|at| now.mono_ns.saturating_sub(at) >= every_ns);
        if !self.public.is_untold || !is_due {
            return None;
        }
        let said = encode(&Public::newest(&self.me.pool, self.public.all()), "Public").ok()?;
        // A signer that is away tells them the next time.
        let signed = Signed::seal(said, &self.me.cert_id, &self.me.key).ok()?.to_bytes().ok()?;
        (self.public.told_ns, self.public.is_untold) = (Some(now.mono_ns), false);
        Some(self.told(Told::Public, signed, true))
    }

    /// A followed node tells its newest records.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(super) fn public_heard(&mut self, pool: &str, payload: &[u8]) -> Result<Vec<Effect>, Error> {
        let Ok(signed) = Signed::from_bytes(payload) else { return Ok(refused(pool, "public records do not decode")) };
        // Of a certificate that is not known yet: they come again.
        let Some(key) = self.key_of(pool, &signed) else { return Ok(Vec::new()) };
        if !signed.verify(&key).is_valid() {
            return Ok(refused(pool, "public records are not signed by it"));
        }
        let told = match decode::<Public>(signed.tbs(), "Public").and_then(|told| told.check().map(|()| told)) {
            Ok(told) if told.node == pool => told,
            Ok(_) => return Ok(refused(pool, "public records of another node")),
            Err(error) => return Ok(refused(pool, &error.to_string())),
        };
        if let Some(peer) = self.peers.get_mut(pool) {
            peer.public.waiting = Some(told);
        }
        self.settle_public(pool)
    }

    /// Takes records that waited for their headers.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(super) fn settle_public(&mut self, pool: &str) -> Result<Vec<Effect>, Error> {
        let Some(peer) = self.peers.get_mut(pool) else { return Ok(Vec::new()) };
        let copy = &peer.logs[0].copy;
        let is_ready = |told: &Public| told.records.last().is_none_or(|last| last.height < copy.size());
        let Some(told) = peer.public.waiting.take_if(|told| is_ready(told)) else { return Ok(Vec::new()) };
        let mut records = Vec::new();
        for record in told.records {
            match stands(copy, &record)? {
                Some(true) if record.score.is_none() || scored(&record).is_some() => records.push(record),
                // Below where the copy begins, or beyond its room.
                None => {}
                Some(_) => {
                    let at = format!("{}-{}", record.height, record.index);
                    return Ok(refused(pool, &format!("public record {at} does not stand in its block")));
                }
            }
        }
        if peer.public.put(told.from, &records) {
            peer.public.save()?;
        }
        Ok(Vec::new())
    }
}

/// Whether a record stands under the header that a copy has; `None` where it has none.
fn stands(copy: &LogCopy, record: &PublicRecord) -> Result<Option<bool>, Error> {
    let headers = copy.headers(record.height, 1)?;
    let header = headers.first().and_then(read_header);
    Ok(header.map(|header| is_under(record, header.count, &header.root)))
}
