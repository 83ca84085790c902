//! The ledger read into the core at a start: the same entries, in the order they were written in, that live events bring. Which
//! of them were erased the ledger says. What an entry changes is `contract.rs` and `personal.rs`.

use hufu_ledger::{Closed, HeldEntry, Log};
use hufu_trade::{
    decode,
    entry::{EntryKind, EntryName, Epoch, FinanceLink, key_of},
};

use crate::{
    book::Book,
    core_state::{self, Unusable},
    exchange::name_of,
    node::Fatal,
    writer::{Writer, WriterError},
};

/// Blocks between two notices to the watchdog: some milliseconds.
const WATCHDOG_BLOCKS: u64 = 1024;

/// An entry of the ledger.
enum Read {
    /// Its kind and body.
    Plain(u16, Vec<u8>),
    /// It was erased; its key says of which contract it was.
    Erased([u8; 32]),
}

impl Writer {
    /// Reads the ledger into the core: from the state that it vouches for, where there is one, and otherwise from its beginning.
    ///
    /// # Errors
    /// As [`Self::replay_from`].
    pub(crate) fn replay(&mut self) -> Result<(), WriterError> {
        match self.recall() {
            Ok(Some((book, sizes))) => {
                (self.core.book, self.core.sizes, self.state_at) = (book, sizes, sizes.iter().sum());
                self.replay_from(sizes)
            }
            Ok(None) => self.replay_from([0; 2]),
            Err(error) => {
                tracing::warn!(%error, "core state not usable; the whole ledger is read");
                self.replay_from([0; 2])
            }
        }
    }

    /// The newest state that the ledger vouches for, and the sizes it is valid for.
    fn recall(&self) -> Result<Option<(Book, [u64; 2])>, Unusable> {
        let Some(state) = self.core_state.read(&self.ledger)? else { return Ok(None) };
        let book = core_state::read(&state.bytes, &self.ledger)?;
        Ok(Some((book, [state.valid_for.size.trade, state.valid_for.size.finance])))
    }

    /// Keeps the core's state when the ledger has grown by enough, or `at_once`. A failure costs a longer start and nothing else.
    pub(crate) fn keep_state(&mut self, at_once: bool) {
        let size: u64 = self.core.sizes.iter().sum();
        if size == self.state_at || (!at_once && size < self.state_at.saturating_add(self.state_blocks)) {
            return;
        }
        self.state_at = size;
        let bytes = core_state::write(&self.core.book).map_err(Unusable::from);
        let written = bytes.and_then(|bytes| Ok(self.core_state.write(&self.ledger.stamp(), &bytes)?));
        if let Err(error) = written {
            tracing::warn!(%error, "core state not written");
        }
    }

    /// Reads everything above these sizes, trade first, into the core: the trade log in order, each finance entry just before the
    /// trade entry that names it back, which is the order they were written in.
    ///
    /// # Errors
    /// [`WriterError`] when the ledger cannot be read or does not replay.
    pub(crate) fn replay_from(&mut self, [trade, finance]: [u64; 2]) -> Result<(), WriterError> {
        let (mut finance, finance_size) = (finance, self.ledger.size(Log::Finance));
        self.core.book.has_lost = self.epoch() > 0;
        for height in trade..self.ledger.size(Log::Trade) {
            // A long ledger takes longer than the watchdog waits; each of these blocks is progress.
            if height % WATCHDOG_BLOCKS == 0 {
                sd_notify::notify(&[sd_notify::NotifyState::Watchdog]).ok();
            }
            for (name, read) in self.entries(Log::Trade, height)? {
                if let Read::Plain(kind, body) = &read
                    && *kind == EntryKind::FinanceLink.number()
                {
                    let link: FinanceLink =
                        decode(body, "FinanceLink").map_err(|e| WriterError::Entry(e.to_string()))?;
                    while finance <= link.finance.height
                        && finance < finance_size
                        && self.epoch_at(Log::Finance, finance)? <= self.epoch_at(Log::Trade, height)?
                    {
                        self.apply_block(Log::Finance, finance)?;
                        finance += 1;
                    }
                }
                // Both logs open an epoch at once: what stood in the other one stood there before.
                if let Read::Plain(kind, body) = &read
                    && *kind == EntryKind::Epoch.number()
                {
                    let epoch: Epoch = decode(body, "Epoch").map_err(|e| WriterError::Entry(e.to_string()))?;
                    while epoch.log == 1 && finance < epoch.held.min(finance_size) {
                        self.apply_block(Log::Finance, finance)?;
                        finance += 1;
                    }
                }
                self.apply_read(&name, &read)?;
            }
        }
        for height in finance..self.ledger.size(Log::Finance) {
            self.apply_block(Log::Finance, height)?;
        }
        // Its entry stands before the erasure: a crash may have come between. The ones before it went on to the next entry.
        if let Some(no) = self.core.book.last_erased {
            self.ledger.erase(&key_of(Some(no)))?;
        }
        self.core.find_places((self.clock.now)());
        Ok(())
    }

    /// The epoch of a block, where there was ever more than one.
    fn epoch_at(&self, log: Log, height: u64) -> Result<u64, WriterError> {
        if self.core.book.has_lost { Ok(self.ledger.held(log, height)?.header().epoch) } else { Ok(0) }
    }

    fn apply_block(&mut self, log: Log, height: u64) -> Result<(), WriterError> {
        for (name, read) in self.entries(log, height)? {
            self.apply_read(&name, &read)?;
        }
        Ok(())
    }

    fn apply_read(&mut self, at: &EntryName, read: &Read) -> Result<(), WriterError> {
        match read {
            Read::Plain(kind, body) => Ok(self.core.apply(at, *kind, body).map_err(Fatal::from)?),
            Read::Erased(key) => self.core.apply_erased(at, key).map_err(WriterError::Entry),
        }
    }

    fn entries(&self, log: Log, height: u64) -> Result<Vec<(EntryName, Read)>, WriterError> {
        let block = self.ledger.held(log, height)?;
        let refs = block.entry_refs();
        let both = refs.iter().zip(block.entries());
        both.map(|(at, held)| {
            let bytes = match held {
                HeldEntry::Plain(bytes) => bytes.clone(),
                HeldEntry::Sealed { key, closed: Closed::Erased } => return Ok((name_of(at), Read::Erased(*key))),
                // The node does not guess at what it cannot read: the ledger says which key is missing.
                HeldEntry::Sealed { .. } => self.ledger.entry(log, height, at.index)?,
            };
            let entry = hufu_ledger::Entry::from_bytes(&bytes)?;
            Ok((name_of(at), Read::Plain(entry.kind, entry.body)))
        })
        .collect()
    }
}
