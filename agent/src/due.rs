//! What is due by the rules and the clock: acts the contract does by itself, what the link should send, when to look again.
//! Answers to events are `node.rs`.

use std::collections::BTreeMap;

use hufu_ledger::Log;
use hufu_trade::{
    encode,
    entry::EntryKind,
    octets::ContractNo,
    rules::{BILL, BILL_PERIOD, CONTEST, EXHAUST, EXPIRE, REFUSE, RuleTable, Since, Timer, Write},
    usage::{TimeQuality, TimeState},
};

use crate::{
    books::{BookError, link},
    clock::Now,
    contract::Contract,
    devices::Need,
    node::{Core, Effect, Fatal, PROVISION_AGAIN_NS, Service},
    outbox::{Cursor, Want},
};

/// A workload that ended within this, ns, is stopped again after a start: the agent may have died before it did.
const ENDED_NS: i64 = 3_600_000_000_000;

fn after_ns(timer: &Timer) -> i64 {
    i64::try_from(timer.after_s).unwrap_or(i64::MAX).saturating_mul(1_000_000_000)
}

/// From when a timer of a contract's state runs; `None`: it does not.
fn begins(contract: &Contract, timer: &Timer) -> Option<i64> {
    match timer.since {
        Since::State => Some(contract.since),
        Since::Bill => contract.arrears_since(),
    }
}

/// Why the node must note that a bill was refused: that was while the contract's state did not let it.
fn uncontested(contract: &Contract, table: &RuleTable) -> Option<String> {
    let row = table.row(&contract.state, CONTEST)?;
    let billed = contract.bills.iter().find(|billed| billed.refused && !billed.contested)?;
    let why = format!("the platform refuses bill {}", billed.bill.number);
    (row.writes == [Write::OrderStatus]).then_some(why)
}

/// Whether an order has the devices that it reserved.
#[derive(PartialEq, Eq)]
enum Given {
    /// It has, or it has them not and waits.
    Before,
    /// An append gives them: the place is made when that is durable.
    Now,
}

/// Has an order's place made, once it holds its devices.
fn provide(
    services: &mut BTreeMap<ContractNo, Service>,
    (no, need): (ContractNo, Need),
    now: Now,
    effects: &mut Vec<Effect>,
) -> Given {
    match need {
        Need::Nothing => {
            services.insert(no, Service::Starting);
            effects.push(Effect::Provision(no));
        }
        Need::Entry(blocks) => {
            effects.push(Effect::Append(blocks));
            return Given::Now;
        }
        Need::Lacking(why) => {
            services.insert(no, Service::Failed { again_ns: now.mono_ns.saturating_add(PROVISION_AGAIN_NS) });
            effects.push(Effect::Alarm { what: "order could not be provided", detail: format!("{no}: {why}") });
        }
    }
    Given::Before
}

impl Core {
    /// After the replay: which orders may have a place or a workload on this machine.
    pub(crate) fn find_places(&mut self, now: Now) {
        let may = |contract: &&Contract| {
            let table = self.book.table_of(Some(contract));
            let lives = table.is_some_and(|(.., table)| table.may_be_metered(&contract.state));
            contract.deal.is_some() && (lives || now.real_ns.saturating_sub(contract.since) < ENDED_NS)
        };
        self.places = self.book.contracts.values().filter(may).map(|contract| contract.no).collect();
    }

    /// What the rules and the clock ask for now. The writer calls it when nothing is pending, until it gives nothing: each
    /// call gives at most one append.
    ///
    /// # Errors
    /// [`Fatal`].
    pub(crate) fn due(&mut self, now: Now, quality: TimeQuality) -> Result<Vec<Effect>, Fatal> {
        self.quality = quality;
        let mut effects = Vec::new();
        if let Some(links) = self.relink()? {
            return Ok(vec![links]);
        }
        for (no, contract) in &self.book.contracts {
            let Some((.., table)) = self.book.table_of(Some(contract)) else { continue };
            if self.is_period_over(contract, table, now) && !self.billing.contains(no) {
                self.billing.push(*no);
                effects.push(Effect::ReadRecords(*no));
                continue;
            }
            if contract.is_only_ordered(table) {
                effects.push(self.by_itself(
                    contract,
                    REFUSE,
                    now,
                    "what followed the order was lost with the disk",
                )?);
                return Ok(effects);
            }
            if let Some(why) = uncontested(contract, table) {
                effects.push(self.by_itself(contract, CONTEST, now, &why)?);
                return Ok(effects);
            }
            if table.is_metered(&contract.state) {
                self.paused.remove(no);
                match (self.services.get(no), self.leaving(contract, now)) {
                    (None, _) => {
                        let need = self.need(contract, now.real_ns)?;
                        self.places.insert(*no);
                        if provide(&mut self.services, (*no, need), now, &mut effects) == Given::Now {
                            return Ok(effects);
                        }
                    }
                    (Some(Service::Failed { again_ns }), None) if now.mono_ns >= *again_ns => {
                        let need = self.need(contract, now.real_ns)?;
                        if provide(&mut self.services, (*no, need), now, &mut effects) == Given::Now {
                            return Ok(effects);
                        }
                    }
                    (Some(Service::Running | Service::Failed { .. }), Some((act, _)))
                        if !table.row(&contract.state, act).is_some_and(|row| table.is_metered(&row.next)) =>
                    {
                        self.services.insert(*no, Service::Stopping);
                        effects.push(Effect::Withdraw(*no));
                    }
                    (Some(Service::Running | Service::Failed { .. }), Some((act, why))) => {
                        effects.push(self.by_itself(contract, act, now, why)?);
                        return Ok(effects);
                    }
                    _ => {}
                }
                continue;
            }
            // The final read came first: the state is no longer a metered one.
            if self.places.contains(no) {
                if !table.may_be_metered(&contract.state) {
                    self.places.remove(no);
                    self.paused.remove(no);
                    self.addresses.remove(no);
                    effects.push(Effect::Remove(*no));
                } else if self.paused.insert(*no) {
                    effects.push(Effect::Pause(*no));
                }
            }
            if table.row(&contract.state, BILL).is_some() && !self.billing.contains(no) {
                // Unset time forbids a final bill, never metering.
                if quality.state != TimeState::Unset {
                    self.billing.push(*no);
                    effects.push(Effect::ReadRecords(*no));
                }
                continue;
            }
            if let Some((act, why)) = self.leaving(contract, now) {
                effects.push(self.by_itself(contract, act, now, why)?);
                return Ok(effects);
            }
        }
        if let Some(judged) = self.judge_demand(now)? {
            effects.push(judged);
            return Ok(effects);
        }
        self.send_due(now, &mut effects);
        Ok(effects)
    }

    /// The act that the clock asks of a contract now, and why: its term ended, or a timer of its state ran out.
    pub(crate) fn leaving<'a>(&'a self, contract: &Contract, now: Now) -> Option<(&'a str, &'static str)> {
        let (.., table) = self.book.table_of(Some(contract))?;
        let ended = contract.in_force.is_some_and(|in_force| now.real_ns >= in_force.service_end);
        if ended && table.row(&contract.state, EXPIRE).is_some() {
            return Some((EXPIRE, "the term ended"));
        }
        if table.row(&contract.state, EXHAUST).is_some() && contract.is_near_ceiling() {
            return Some((EXHAUST, "the next window might exceed the ceiling"));
        }
        let mut timers = table.timers.iter().filter(|timer| timer.state == contract.state);
        // A state that a buyer's notice began began at a time the buyer chose: what is due at once waits for no clock.
        let ran_out = |timer: &&Timer| {
            begins(contract, timer)
                .is_some_and(|from| timer.after_s == 0 || now.real_ns >= from.saturating_add(after_ns(timer)))
        };
        let timer = timers.find(ran_out)?;
        Some((&timer.act, "the time allowed ran out"))
    }

    /// Whether a period of a contract is over that is billed while service runs. An unset time forbids a bill.
    pub(crate) fn is_period_over(&self, contract: &Contract, table: &RuleTable, now: Now) -> bool {
        let (state, is_set) = (&contract.state, self.quality.state != TimeState::Unset);
        is_set
            && table.row(state, BILL_PERIOD).is_some()
            && contract.period_over(table.is_metered(state), now.real_ns).is_some()
    }

    /// An act that happens by itself and leaves nothing but its status.
    fn by_itself(&self, contract: &Contract, act: &str, now: Now, why: &str) -> Result<Effect, Fatal> {
        let status = self.status_entry(contract, act, now.real_ns, why).map_err(BookError::from)?;
        let body = encode(&status, "OrderStatus").map_err(BookError::from)?;
        let mut batch = self.batch();
        batch.entry(Log::Trade, (EntryKind::OrderStatus, Some(contract.no), body)).map_err(BookError::from)?;
        Ok(Effect::Append(batch.finish()))
    }

    /// Names finance entries back that nothing names, in their order. After an epoch what named them may be lost, and what they
    /// rest on with it: then they stand as they are.
    fn relink(&self) -> Result<Option<Effect>, Fatal> {
        if self.book.has_lost || self.book.unlinked.is_empty() {
            return Ok(None);
        }
        let mut batch = self.batch();
        for (no, kind, name) in self.book.unlinked.values() {
            link(&mut batch, *no, *kind, name.clone())?;
        }
        Ok(Some(Effect::Append(batch.finish())))
    }

    fn send_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.linked {
            return;
        }
        effects.extend(self.tell_catalogue(now));
        effects.extend(self.tell_session(now));
        effects.extend(self.push_bills(now));
        effects.extend(self.ask_payments(now));
        effects.extend(self.tell_demands(now));
        // What one log waits for may still fly: it arrives before.
        let sent = [self.cursors[0].sent(), self.cursors[1].sent()];
        for (log, index) in [(Log::Trade, 0), (Log::Finance, 1)] {
            let below = self.book.sendable_below(log.number(), sent);
            match self.cursors[index].want(now.mono_ns, below) {
                Want::Nothing => {}
                Want::Receipt => effects.push(Effect::SendBlocks { log, from: 0, below: 0, room: 0 }),
                Want::From(from, room) => effects.push(Effect::SendBlocks { log, from, below, room }),
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
            if let Some(Service::Failed { again_ns }) = self.services.get(no) {
                times.push(*again_ns);
            }
            let Some((.., table)) = self.book.table_of(Some(contract)) else { continue };
            let ends = contract.in_force.filter(|_| table.row(&contract.state, EXPIRE).is_some());
            times.extend(ends.map(|in_force| in_real(in_force.service_end)));
            for timer in table.timers.iter().filter(|timer| timer.state == contract.state) {
                times.extend(begins(contract, timer).map(|from| in_real(from.saturating_add(after_ns(timer)))));
            }
            times.extend(contract.spans.front().map(|span| in_real(span.boundary)));
        }
        if self.linked {
            times.extend(self.cursors.iter().filter_map(Cursor::due_ns));
            times.extend(self.asks.values().map(|(at, _)| *at));
            times.extend(self.pushed.values().copied());
            times.extend(self.market.due_ns());
            times.push(self.session.due_ns());
        }
        times.extend(self.book.demands.values().filter_map(|known| known.held()).map(|held| in_real(held.hold_until)));
        let ahead = times.into_iter().filter(|at| *at > now.mono_ns);
        ahead.min().unwrap_or_else(|| now.mono_ns.saturating_add(1_000_000_000))
    }
}
