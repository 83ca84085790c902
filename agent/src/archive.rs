//! Which part of the ledger is settled, and when the writer has time to archive it (ADR 0009). Packing a segment is the
//! ledger's; here is only what the ledger cannot know.

use hufu_ledger::{Error, PerLog};

use crate::{book::Book, clock::Now, contract::Contract, writer::Writer};

/// An archive takes some tenths of a second: only when nothing is due for longer than this, ns.
const IDLE_NS: u64 = 1_000_000_000;
/// Pause after a segment was packed, ns: a disk must not be kept busy with what has time.
const PAUSE_NS: u64 = 10_000_000_000;
/// Pause when there was nothing to pack, or no room for it, ns.
const NOTHING_NS: u64 = 600_000_000_000;

impl Book {
    /// Nothing below these heights is open: the platform has a receipt of it, and every contract that has an entry there is
    /// settled.
    pub(crate) fn settled_below(&self) -> PerLog<u64> {
        let receipted = |log: usize| self.receipted.get(log).and_then(Option::as_ref).map_or(0, |receipt| receipt.size);
        let mut below = PerLog { trade: receipted(0), finance: receipted(1) };
        for contract in self.contracts.values().filter(|contract| !self.is_settled(contract)) {
            below.trade = below.trade.min(contract.browse.height);
            let bill = contract.bills.first().map_or(u64::MAX, |billed| billed.name.height);
            below.finance = below.finance.min(bill);
        }
        below
    }

    fn is_settled(&self, contract: &Contract) -> bool {
        let table = self.table_of(Some(contract));
        table.is_some_and(|(.., table)| table.is_settled(&contract.state))
            && contract.bills.iter().all(|billed| billed.receipted && !billed.refused)
    }
}

impl Writer {
    /// Archives one segment if there is time for it and it is settled; `again_ns` is when to look again, CLOCK_MONOTONIC.
    /// What fails costs the archive and nothing else, so the node goes on; the time when it is done comes back.
    pub(crate) fn archive(&mut self, now: Now, again_ns: &mut u64) -> Now {
        if now.mono_ns < *again_ns || self.core.next_due_ns(now) < now.mono_ns.saturating_add(IDLE_NS) {
            return now;
        }
        let archived = self.ledger.archive(self.core.book.settled_below());
        let now = (self.clock.now)();
        let pause = if matches!(archived, Ok(None) | Err(Error::NoSpace { .. })) { NOTHING_NS } else { PAUSE_NS };
        *again_ns = now.mono_ns.saturating_add(pause);
        match archived {
            Ok(None) => {}
            Ok(Some(done)) => {
                tracing::info!(segment = done.segment, bytes = done.bytes, packed = ?done.packed, "archived")
            }
            Err(error) => {
                if self.alarms.raise("segment not archived", error.to_string(), now.real_ns) {
                    tracing::error!(%error, "segment not archived");
                }
            }
        }
        now
    }
}
