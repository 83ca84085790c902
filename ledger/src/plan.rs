//! Signing ahead: a batch can be made and signed while the one before it is on its way to the disk, because a block names
//! the hash of the header before it and not its signature. Whose thread signs is the caller's choice.

use hufu_gm::Hash;

use crate::{
    block::{Block, Place, Signer, TimeQuality, build},
    entry::{Log, PerLog},
    error::{Error, Fault},
    journal::{Framed, Journal, check_place, new_frame},
    log::{AppendedBlock, NewBlock},
    sealed_entry::Destroyed,
    segment::{BATCH_BLOCKS_MAX, NewFrame},
};

/// Where one log will stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) height: u64,
    pub(crate) previous: Hash,
    pub(crate) epoch: u64,
}

/// Where the logs will stand when everything signed through it is appended. It comes from [`crate::Ledger::plan`] and knows
/// nothing of what is appended in another way meanwhile: such batches are refused.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) node: String,
    pub(crate) ends: PerLog<End>,
    /// Chain hash after the last frame.
    pub(crate) chain: Hash,
}

/// Signed blocks on their way into the ledger: one frame. Nothing of it may be shown to anybody before
/// [`crate::Ledger::commit`] has returned.
#[derive(Debug)]
pub struct Batch {
    framed: Vec<Framed>,
    /// The frame it becomes if nothing comes between: to hash it is no work for who waits for the disk. Sealing is the
    /// journal's, which has the keys: a batch with a sealed entry is framed there.
    frame: Option<NewFrame>,
}

impl Plan {
    /// Makes and signs the blocks that come next. `epoch` may not fall; `time_ns` is nanoseconds since
    /// 1970-01-01T00:00:00Z. When it fails the plan is as before.
    ///
    /// # Errors
    /// [`Error::Refused`] when a block is over its limits or the epoch falls, [`Error::Gm`].
    pub fn sign(
        &mut self,
        blocks: &[NewBlock],
        signer: &Signer<'_>,
        epoch: u64,
        time_ns: i64,
        quality: TimeQuality,
    ) -> Result<Batch, Error> {
        let (mut ends, mut framed) = (self.ends, Vec::new());
        // More blocks than a frame may hold are refused by the journal; do not sign them all first.
        for new in blocks.iter().take(BATCH_BLOCKS_MAX + 1) {
            let (log, end) = (new.log, ends.of_mut(new.log));
            let End { height, previous, epoch: from } = *end;
            if epoch < from {
                return Err(Fault::EpochBackwards { from, to: epoch }.refused(Some(log), Some(height)));
            }
            let place = Place { log, node: &self.node, epoch, height, previous, time: time_ns, quality };
            let block = build(place, new.entries.iter().map(|entry| (entry.kind, entry.body.as_slice())), signer)?;
            let (hash, bytes) = (block.hash(), block.to_bytes()?);
            *end = End { height: height.saturating_add(1), previous: hash, epoch };
            let keys = new.entries.iter().map(|entry| entry.key).collect();
            // Most blocks have no sealed entry, and an empty list costs nothing.
            let sealed = match new.entries.iter().any(|entry| entry.sealed) {
                true => new.entries.iter().map(|entry| entry.sealed).collect(),
                false => Vec::new(),
            };
            framed.push(Framed { block, hash, bytes, keys, sealed, stored: None });
        }
        let is_plain = framed.iter().all(|framed| framed.sealed.is_empty());
        let frame = is_plain.then(|| new_frame(self.chain, &framed));
        (self.ends, self.chain) = (ends, frame.as_ref().map_or(self.chain, |frame| frame.chain));
        Ok(Batch { framed, frame })
    }
}

impl Batch {
    /// Appends it: durable on return, all or none.
    pub(crate) fn append_to(mut self, journal: &mut Journal) -> Result<Vec<AppendedBlock>, Error> {
        for log in Log::ALL {
            let first = self.framed.iter().map(|framed| framed.block.header()).find(|header| header.log == log);
            let Some(first) = first else { continue };
            check_place(journal.tips.of(log), log, &journal.identity.node, first)
                .map_err(|fault| fault.refused(Some(log), Some(first.height)))?;
        }
        journal.seal_entries(&mut self.framed, Destroyed::Refuse)?;
        journal.append(&self.framed, self.frame)?;
        Ok(self.framed.into_iter().map(appended).collect())
    }
}

fn appended(framed: Framed) -> AppendedBlock {
    let block: &Block = &framed.block;
    AppendedBlock {
        log: block.header().log,
        height: block.header().height,
        block_hash: framed.hash,
        entries: block.entry_refs(),
        bytes: framed.bytes,
    }
}
