//! What is due by the rules and the clock: acts the contract does by itself, what the link should send, when to look again.
//! Answers to events are `node.rs`.

use hufu_ledger::Log;
use hufu_trade::{
    encode,
    entry::EntryKind,
    usage::{TimeQuality, TimeState},
};

use crate::{
    books::BookError,
    clock::Now,
    node::{Core, Effect, Fatal, Service},
    outbox::{Cursor, Want},
};

impl Core {
    /// What the rules and the clock ask for now. The writer calls it when nothing is pending, until it gives nothing: each
    /// call gives at most one append.
    ///
    /// # Errors
    /// [`Fatal`].
    pub(crate) fn due(&mut self, now: Now, quality: TimeQuality) -> Result<Vec<Effect>, Fatal> {
        let mut effects = Vec::new();
        for (no, contract) in &self.book.contracts {
            let Some((.., table)) = self.book.table_of(Some(contract)) else { continue };
            if table.metered.contains(&contract.state) {
                let ended = contract.deal.as_ref().is_none_or(|(_, deal)| now.real_ns >= deal.service_end);
                match (self.services.get(no), ended) {
                    (None, _) => {
                        self.services.insert(*no, Service::Starting);
                        effects.push(Effect::Provision(*no));
                    }
                    (Some(Service::Failed { again_ns }), false) if now.mono_ns >= *again_ns => {
                        self.services.insert(*no, Service::Starting);
                        effects.push(Effect::Provision(*no));
                    }
                    (Some(Service::Running | Service::Failed { .. }), true) => {
                        self.services.insert(*no, Service::Stopping);
                        effects.push(Effect::Withdraw(*no));
                    }
                    _ => {}
                }
                continue;
            }
            if table.row(&contract.state, "bill").is_some() && !self.billing.contains(no) {
                // Unset time forbids a final bill, never metering.
                if quality.state != TimeState::Unset {
                    self.billing.push(*no);
                    effects.push(Effect::ReadRecords(*no));
                }
                continue;
            }
            for timer in table.timers.iter().filter(|timer| timer.state == contract.state) {
                let after_ns = i64::try_from(timer.after_s).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
                if now.real_ns >= contract.since.saturating_add(after_ns) {
                    let mut batch = self.batch();
                    let status = self.status_entry(contract, &timer.act, now.real_ns, "the time allowed ran out");
                    let body = encode(&status.map_err(BookError::from)?, "OrderStatus").map_err(BookError::from)?;
                    let draft = (EntryKind::OrderStatus, Some(*no), body);
                    batch.entry(Log::Trade, draft).map_err(BookError::from)?;
                    effects.push(Effect::Append(batch.finish()));
                    return Ok(effects);
                }
            }
        }
        self.send_due(now, &mut effects);
        Ok(effects)
    }

    fn send_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.linked {
            return;
        }
        effects.extend(self.tell_catalogue(now));
        effects.extend(self.push_bills(now));
        effects.extend(self.ask_payments(now));
        let acked = [self.cursors[0].acked(), self.cursors[1].acked()];
        for (log, index) in [(Log::Trade, 0), (Log::Finance, 1)] {
            let below = self.book.sendable_below(log.number(), acked);
            match self.cursors[index].want(now.mono_ns, below) {
                Want::Nothing => {}
                Want::Receipt => effects.push(Effect::SendBlocks { log, from: 0, below: 0 }),
                Want::From(from) => effects.push(Effect::SendBlocks { log, from, below }),
            }
        }
    }

    /// When `due` may have something to do, CLOCK_MONOTONIC ns, at most `now + 60 s`. What was due before now and is still
    /// there waits for an event, not for time.
    pub(crate) fn next_due_ns(&self, now: Now) -> u64 {
        let in_real = |time_ns: i64| {
            let wait = u64::try_from(time_ns.saturating_sub(now.real_ns)).unwrap_or(0);
            now.mono_ns.saturating_add(wait)
        };
        let mut times = vec![now.mono_ns.saturating_add(60_000_000_000)];
        for (no, contract) in &self.book.contracts {
            match (&contract.deal, self.services.get(no)) {
                (Some((_, deal)), Some(Service::Failed { again_ns })) => {
                    times.extend([in_real(deal.service_end), *again_ns]);
                }
                (Some((_, deal)), Some(_)) => times.push(in_real(deal.service_end)),
                _ => {}
            }
            let Some((.., table)) = self.book.table_of(Some(contract)) else { continue };
            for timer in table.timers.iter().filter(|timer| timer.state == contract.state) {
                let after_ns = i64::try_from(timer.after_s).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
                times.push(in_real(contract.since.saturating_add(after_ns)));
            }
        }
        if self.linked {
            times.extend(self.cursors.iter().filter_map(Cursor::due_ns));
            times.extend(self.asks.values().map(|(at, _)| *at));
            times.extend(self.pushed.values().copied());
        }
        let ahead = times.into_iter().filter(|at| *at > now.mono_ns);
        ahead.min().unwrap_or_else(|| now.mono_ns.saturating_add(1_000_000_000))
    }
}
