//! This node's own logs as its peers see them: copies of its headers, its checkpoints, and the cosignatures that these got. The ledger
//! itself is the writer's.

use std::{collections::VecDeque, sync::Arc};

use der::asn1::OctetString;
use hufu_gm::{Hash, PublicKey, Signed};
use hufu_ledger::{
    BlockHeader, Checkpoint, Error, Log, LogCopy, Signer, WitnessedCheckpoint,
    block::VERSION,
    storage::{Access, Storage, replace},
    witness::{COSIGNATURES_MAX, Cosignature},
};
use hufu_trade::{
    if2::peers::{Beginning, Headers, Witnessing, chain_to_bytes},
    octets::Octets,
};

use super::{Cosigned, Me, Numbered, Word, log_of};
use crate::clock::Now;

/// Checkpoints of a log that may still be cosigned.
const RECENT_MAX: usize = 8;

/// One log.
struct Line {
    copy: LogCopy,
    /// The last checkpoints, oldest first.
    recent: VecDeque<(Checkpoint, WitnessedCheckpoint)>,
    /// When the last one was made, CLOCK_MONOTONIC ns.
    made_ns: Option<u64>,
    /// Blocks that the ledger holds.
    held: u64,
}

/// Both.
pub(super) struct Own {
    lines: [Line; 2],
    storage: Arc<dyn Storage>,
    /// A header came that leaves a hole: the ledger must be read.
    pub(super) is_behind: bool,
}

/// The file in which the newest checkpoint lies that so many cosigned, for packs. One for each number: a witness that is gone for good does
/// not keep the others' word about what came later from being kept.
pub(crate) fn file_of(log: Log, count: usize) -> String {
    format!("witnessed.{log}.{count}.der")
}

/// The file with the certificates of those who cosigned it, and their issuers.
pub(crate) fn certificates_of(log: Log, count: usize) -> String {
    format!("witnesses.{log}.{count}.der")
}

/// Where a late comer begins with a copy: at the newest checkpoint of the node, where the copy stands exactly there.
///
/// # Errors
/// [`Error`] of the disk.
pub(super) fn beginning(copy: &LogCopy, newest: Option<&WitnessedCheckpoint>) -> Result<Option<Beginning>, Error> {
    // Of another node's log, the checkpoint that was cosigned last.
    let Some(signed) = newest.map(|whole| &whole.checkpoint).or(copy.promised()) else { return Ok(None) };
    let Ok(checkpoint) = Checkpoint::from_bytes(signed.tbs()) else { return Ok(None) };
    let Some(peaks) = copy.peaks_at(checkpoint.size)? else { return Ok(None) };
    let head = copy.headers(checkpoint.size.saturating_sub(1), 1)?;
    let Some(head) = head.first() else { return Ok(None) };
    let peaks = peaks.iter().filter_map(|peak| OctetString::new(peak.to_vec()).ok()).collect();
    let head = Octets(hufu_ledger::block_hash(head.tbs()));
    Ok(Some(Beginning { checkpoint: signed.clone(), peaks, head }))
}

impl Own {
    /// With the copies that there are.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(super) fn open(copies: [LogCopy; 2], storage: Arc<dyn Storage>) -> Result<Self, Error> {
        let lines = copies.map(|copy| {
            // The last checkpoint stands: its cosignatures may still be on the way.
            let last = copy.standing().zip(copy.promised()).map(|(checkpoint, signed)| {
                let kept = |count| read_kept(&*storage, copy.log(), count).filter(|whole| whole.checkpoint == *signed);
                let whole = (1..=COSIGNATURES_MAX).rev().find_map(kept);
                let whole = whole
                    .unwrap_or_else(|| WitnessedCheckpoint { checkpoint: signed.clone(), cosignatures: Vec::new() });
                (checkpoint, whole)
            });
            let held = copy.size();
            Line { copy, recent: last.into_iter().collect(), made_ns: None, held }
        });
        Ok(Self { lines, storage, is_behind: false })
    }

    pub(super) fn sizes(&self) -> [u64; 2] {
        [0, 1].map(|log: usize| self.lines[log].copy.size())
    }

    /// Blocks that the ledger holds, as far as it is known here.
    pub(super) fn held(&self) -> [u64; 2] {
        [0, 1].map(|log: usize| self.lines[log].held)
    }

    /// The ledger was read. A copy that lost headers is filled from it anew.
    pub(super) fn ledger_holds(&mut self, held: [Word; 2]) {
        for (line, held) in self.lines.iter_mut().zip(held) {
            line.held = held.size;
            // A ledger that was put back and has less knows less than the copy.
            let is_whole = held.size >= line.copy.size() || held.epoch > line.copy.epoch();
            if line.copy.base() > 0 && is_whole {
                line.copy.empty();
            }
        }
    }

    /// A copy that lacks headers which the ledger has is filled from it once more.
    pub(super) fn fill_anew(&mut self, log: usize) {
        if let Some(line) = self.lines.get_mut(log).filter(|line| line.copy.size() <= line.held) {
            line.copy.empty();
            self.is_behind = true;
        }
    }

    /// Takes headers of this node's own log that somebody else kept: whether there were new ones, or why they are not its own.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(super) fn learn(&mut self, told: &Headers, key: &PublicKey) -> Result<Result<bool, String>, Error> {
        let Some(line) = self.lines.get_mut(usize::from(told.log)) else { return Ok(Ok(false)) };
        let mut is_new = false;
        for (height, signed) in (told.first..).zip(&told.headers) {
            let Ok(header) = BlockHeader::from_bytes(signed.tbs()) else { return Ok(Err("not a header".to_owned())) };
            if height < line.copy.size() || header.epoch < line.copy.epoch() {
                continue;
            }
            match line.copy.extend(signed, key) {
                Ok(_) => is_new = true,
                Err(Error::Refused { fault, .. }) => return Ok(Err(format!("{height}: {fault}"))),
                Err(error) => return Err(error),
            }
        }
        if is_new {
            // What was signed must be known after the next start, too.
            line.copy.keep(None)?;
        }
        Ok(Ok(is_new))
    }

    /// Whether the copy has this header at its height.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(super) fn has(&self, signed: &Signed) -> Result<bool, Error> {
        let header = BlockHeader::from_bytes(signed.tbs())?;
        let Some(line) = self.lines.get(usize::from(header.log.number())) else { return Ok(false) };
        Ok(line.copy.headers(header.height, 1)?.first().is_some_and(|held| held.tbs() == signed.tbs()))
    }

    pub(super) fn copy(&self, log: usize) -> Option<&LogCopy> {
        self.lines.get(log).map(|line| &line.copy)
    }

    /// The newest checkpoint of each log.
    pub(super) fn newest(&self) -> [Option<&WitnessedCheckpoint>; 2] {
        [0, 1].map(|log: usize| self.lines[log].recent.back().map(|(_, whole)| whole))
    }

    /// Takes a header of this node's ledger; its log and height, or `None` where it is known or leaves a hole, which is filled from
    /// the ledger.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(super) fn take(&mut self, signed: &Signed) -> Result<Option<(u8, u64)>, Error> {
        let header = BlockHeader::from_bytes(signed.tbs())?;
        let number = header.log.number();
        let Some(line) = self.lines.get_mut(usize::from(number)) else { return Ok(None) };
        line.held = line.held.max(header.height.saturating_add(1));
        if header.height < line.copy.size() {
            let known = line.copy.headers(header.height, 1)?;
            if known.first().is_some_and(|known| known.tbs() == signed.tbs()) || header.epoch <= line.copy.epoch() {
                return Ok(None);
            }
            // A new epoch takes the place of what was lost, from its first block on.
            let below = line.copy.headers(header.height.saturating_sub(1), 1)?;
            let is_first = header.height == 0
                || below.first().is_some_and(|below| hufu_ledger::block_hash(below.tbs()) == header.previous);
            if !is_first || !line.copy.go_back(header.height, header.previous) {
                self.is_behind = true;
                return Ok(None);
            }
            line.held = header.height.saturating_add(1);
            line.recent.clear();
        }
        if header.height > line.copy.size() {
            self.is_behind = true;
            return Ok(None);
        }
        line.copy.extend_own(signed)?;
        Ok(Some((number, header.height)))
    }

    /// Checkpoints that are due: the log grew, and the last one is old enough. Durable before anybody is told.
    ///
    /// # Errors
    /// [`Error`] of the disk. A key that does not sign now makes none.
    pub(super) fn checkpoints(&mut self, now: Now, every_ns: u64, me: &Me) -> Result<Vec<Numbered>, Error> {
        let mut made = Vec::new();
        for (number, line) in (0_u8..).zip(&mut self.lines) {
            let last = line.recent.back().map_or(0, |(checkpoint, _)| checkpoint.size);
            let is_due = line.made_ns.is_none_or(|at| now.mono_ns.saturating_sub(at) >= every_ns);
            // A copy beyond the ledger is what was lost: there is nothing to promise of it.
            if line.copy.size() <= last || !is_due || line.copy.size() > line.held {
                continue;
            }
            let checkpoint = Checkpoint {
                version: VERSION,
                log: log_of(number),
                node: me.pool.clone(),
                epoch: line.copy.epoch(),
                size: line.copy.size(),
                root: line.copy.root(),
                time: now.real_ns,
            };
            let signer = Signer { key: &me.key, cert_id: me.cert_id, salt_key: &[0; 32] };
            let Ok(signed) = checkpoint.seal(&signer) else { continue };
            line.copy.keep(Some(&signed))?;
            line.made_ns = Some(now.mono_ns);
            let whole = WitnessedCheckpoint { checkpoint: signed, cosignatures: Vec::new() };
            line.recent.push_back((checkpoint, whole.clone()));
            if line.recent.len() > RECENT_MAX {
                line.recent.pop_front();
            }
            made.push((number, whole));
        }
        Ok(made)
    }

    /// Adds a witness's cosignature; the newest checkpoint where that changed, or why it is refused.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(super) fn cosigned_by(
        &mut self,
        word: &Witnessing,
        keys: &[(Hash, PublicKey)],
        chains: &dyn Fn(&WitnessedCheckpoint) -> Vec<Vec<u8>>,
    ) -> Result<Result<Option<WitnessedCheckpoint>, &'static str>, Error> {
        let Some(line) = self.lines.get_mut(usize::from(word.log)) else { return Ok(Ok(None)) };
        let found = line.recent.iter_mut().find(|(one, _)| one.size == word.size && one.root == word.root.0);
        let Some((_, whole)) = found else {
            // An older checkpoint; nobody waits for it any more. Another root is for the witness to prove.
            return Ok(Ok(None));
        };
        let Ok(cosignature) = hufu_ledger::witness::read_cosignature(word.cosignature.as_bytes()) else {
            return Ok(Err("a cosignature does not decode"));
        };
        // Of a certificate that is not known yet; its word comes again with the next checkpoint.
        if !keys.iter().any(|(id, _)| cosignature.names(id)) {
            return Ok(Ok(None));
        }
        if !keys.iter().any(|(id, key)| cosignature.is_by(whole.checkpoint.tbs(), (id, key))) {
            return Ok(Err("a cosignature is not the witness's"));
        }
        if !whole.add(cosignature) {
            return Ok(Ok(None));
        }
        let whole = whole.clone();
        let is_newest = line.recent.back().is_some_and(|(_, newest)| newest.checkpoint == whole.checkpoint);
        self.keep(usize::from(word.log), &whole, &chains(&whole))?;
        Ok(Ok(is_newest.then_some(whole)))
    }

    /// Lays the checkpoint down for packs, unless the one there with as many witnesses is newer.
    fn keep(&mut self, log: usize, whole: &WitnessedCheckpoint, certificates: &[Vec<u8>]) -> Result<(), Error> {
        let Some(line) = self.lines.get(log) else { return Ok(()) };
        let (log, count) = (line.copy.log(), whole.cosignatures.len());
        let place = |whole: &WitnessedCheckpoint| whole.read().map_or((0, 0), |one| (one.epoch, one.size));
        if read_kept(&*self.storage, log, count).is_some_and(|there| place(&there) > place(whole)) {
            return Ok(());
        }
        // Certificates first: a checkpoint whose witnesses nobody knows is worth less than certificates that nobody needs.
        if let Ok(bytes) = chain_to_bytes(certificates) {
            replace(&*self.storage, &certificates_of(log, count), &bytes)?;
        }
        replace(&*self.storage, &file_of(log, count), &whole.to_bytes()?)
    }

    /// The last checkpoints of each log with their witnesses by name; one whose name is not known any more is its number.
    pub(super) fn cosigned(&self, name: &dyn Fn(&Cosignature) -> Option<String>) -> [Vec<Cosigned>; 2] {
        [0, 1].map(|log: usize| {
            let each = self.lines[log].recent.iter().map(|(checkpoint, whole)| Cosigned {
                size: checkpoint.size,
                witnesses: whole
                    .cosignatures
                    .iter()
                    .map(|one| name(one).unwrap_or_else(|| hex::encode(one.witness)))
                    .collect(),
            });
            each.collect()
        })
    }
}

fn read_kept(storage: &dyn Storage, log: Log, count: usize) -> Option<WitnessedCheckpoint> {
    let file = storage.open(&file_of(log, count), Access::Read).ok()?;
    let mut bytes = vec![0; usize::try_from(file.size().ok()?.min(64 * 1024)).ok()?];
    file.read_at(&mut bytes, 0).ok()?;
    WitnessedCheckpoint::from_bytes(&bytes).ok()
}
