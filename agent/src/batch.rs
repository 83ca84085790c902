//! A batch of blocks under construction: what becomes one frame and one fdatasync. It knows in advance where each entry will
//! stand and what it will hash to, so entries of one batch can name each other.

use hufu_gm::keyfile::Secret32;
use hufu_ledger::{Log, NewBlock, NewEntry, foresee};
use hufu_trade::{
    entry::{EntryKind, EntryName, key_of},
    octets::{ContractNo, Octets},
};

use crate::personal::is_personal;

/// Blocks to be appended together.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    salt_key: &'a Secret32,
    next: [u64; 2],
    blocks: Vec<NewBlock>,
}

/// An entry before it has a place.
pub(crate) type Draft = (EntryKind, Option<ContractNo>, Vec<u8>);

impl<'a> Batch<'a> {
    /// Starts at the logs' present sizes, trade first.
    pub(crate) fn new(salt_key: &'a Secret32, sizes: [u64; 2]) -> Self {
        Self { salt_key, next: sizes, blocks: Vec::new() }
    }

    /// Adds one block and says where its entries will stand.
    ///
    /// # Errors
    /// Those of [`foresee`]: a body larger than DER allows.
    pub(crate) fn block(&mut self, log: Log, drafts: Vec<Draft>) -> Result<Vec<EntryName>, hufu_ledger::Error> {
        let slot = match log {
            Log::Trade => &mut self.next[0],
            Log::Finance => &mut self.next[1],
        };
        let height = *slot;
        *slot += 1;
        let (mut names, mut entries) = (Vec::with_capacity(drafts.len()), Vec::with_capacity(drafts.len()));
        for (index, (kind, contract, body)) in (0_u32..).zip(drafts) {
            let (_, found) = foresee(self.salt_key, (log, height, index), kind.number(), body.clone())?;
            names.push(EntryName { log: log.number(), height, index, hash: Octets(found.hash) });
            let sealed = contract.is_some() && is_personal(kind);
            entries.push(NewEntry { kind: kind.number(), body, key: key_of(contract), sealed });
        }
        self.blocks.push(NewBlock { log, entries });
        Ok(names)
    }

    /// Adds one block of one entry and says where it will stand.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub(crate) fn entry(&mut self, log: Log, draft: Draft) -> Result<EntryName, hufu_ledger::Error> {
        let (next, log_number) = (self.next, log.number());
        let names = self.block(log, vec![draft])?;
        let height = next[usize::from(log_number == 1)];
        Ok(names.into_iter().next().unwrap_or(EntryName { log: log_number, height, index: 0, hash: Octets([0; 32]) }))
    }

    /// The blocks.
    pub(crate) fn finish(self) -> Vec<NewBlock> {
        self.blocks
    }
}
