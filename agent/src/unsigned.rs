//! What the writer does while the signer is away: nothing is signed, so nothing is appended and nothing acknowledged; what was
//! metered waits in memory, in its order, and is signed when the signer is back. Asking the signer is `signer.rs`.

use std::{collections::VecDeque, sync::mpsc::RecvTimeoutError, time::Duration};

use crate::{
    act::problem,
    node::{Effect, Event},
    signer::NodeKey,
    whole::{End, LOOK_NS},
    writer::{Input, Writer, WriterError},
};

/// Pause before the signer is asked again, ns; doubles to [`PAUSE_NS_MAX`].
const PAUSE_NS: u64 = 1_000_000_000;
const PAUSE_NS_MAX: u64 = 30_000_000_000;
/// Windows that wait, and orders in all of them (some 40 MB): what comes later is measured again by the next window that is
/// taken.
const WINDOWS_MAX: usize = 4096;
const ORDERS_MAX: usize = 100_000;

/// What was metered and cannot be measured again: a copy, to be taken once more when its append fails.
pub(crate) fn again(event: &Event) -> Option<Event> {
    match event {
        Event::Window { draft, quality } => Some(Event::Window { draft: draft.clone(), quality: *quality }),
        Event::Final { contract, drafts, quality } => {
            Some(Event::Final { contract: *contract, drafts: drafts.clone(), quality: *quality })
        }
        _ => None,
    }
}

/// What was metered while nothing may be signed, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Unsigned {
    events: VecDeque<Event>,
    /// In all windows.
    orders: usize,
}

fn orders_of(event: &Event) -> usize {
    match event {
        Event::Window { draft, .. } => draft.orders.len(),
        _ => 0,
    }
}

impl Unsigned {
    /// Keeps it, unless it is a window and there is no room; a final read comes once, and there are as many as orders.
    pub(crate) fn push(&mut self, event: Event) {
        let is_full = self.events.len() >= WINDOWS_MAX || self.orders >= ORDERS_MAX;
        if !is_full || !matches!(event, Event::Window { .. }) {
            self.orders += orders_of(&event);
            self.events.push_back(event);
        }
    }

    fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.orders -= orders_of(&event);
        Some(event)
    }

    /// It could not be signed this time either.
    fn put_back(&mut self, event: Event) {
        self.orders += orders_of(&event);
        self.events.push_front(event);
    }
}

impl Writer {
    /// Waits until the signer signs again; then, where the ledger is whole, it is replayed: what the core did in the middle of
    /// an event that failed counts for nothing.
    ///
    /// # Errors
    /// [`WriterError`].
    pub(crate) fn await_signer(&mut self, is_whole: bool) -> Result<End, WriterError> {
        let NodeKey::Far(signer) = self.core.identity.key.clone() else { return Ok(End::Go) };
        let mut why = self.core.identity.key.away().unwrap_or_default();
        self.say_away(&why)?;
        let mut next_ns = (self.clock.now)().mono_ns.saturating_add(self.signer_pause());
        loop {
            sd_notify::notify(&[sd_notify::NotifyState::Watchdog]).ok();
            let now_ns = (self.clock.now)().mono_ns;
            if now_ns >= next_ns {
                let Err(fault) = signer.probe() else { break };
                let fault = fault.to_string();
                if fault != why {
                    why = fault;
                    self.say_away(&why)?;
                }
                next_ns = (self.clock.now)().mono_ns.saturating_add(self.signer_pause());
            }
            let wait = next_ns.saturating_sub(now_ns).min(LOOK_NS);
            match self.inputs.recv_timeout(Duration::from_nanos(wait)) {
                Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(End::Stop),
                Ok(input) => self.take_unsigned(input)?,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.comparing = None;
        tracing::info!(waiting = self.unsigned.events.len(), "the signer signs again");
        if is_whole {
            self.replay_anew()?;
        }
        Ok(End::Go)
    }

    /// The pause before the next question, longer each time until something was signed.
    fn signer_pause(&mut self) -> u64 {
        let pause_ns = self.signer_pause_ns.clamp(PAUSE_NS, PAUSE_NS_MAX);
        self.signer_pause_ns = pause_ns.saturating_mul(2);
        pause_ns
    }

    fn say_away(&mut self, why: &str) -> Result<(), WriterError> {
        self.comparing = Some(format!("signer: {why}"));
        self.execute(Effect::Alarm { what: "signer", detail: why.to_owned() })
    }

    /// Deals with an input while nobody signs.
    fn take_unsigned(&mut self, input: Input) -> Result<(), WriterError> {
        match input {
            Input::Event(event @ (Event::Window { .. } | Event::Final { .. })) => self.unsigned.push(event),
            // None of these leads to a signature.
            Input::Event(
                event @ (Event::Linked
                | Event::Unlinked
                | Event::Provisioned { .. }
                | Event::Unstopped { .. }
                | Event::Hardware(_)),
            ) => self.event(event)?,
            input @ (Input::Place { .. }
            | Input::Counters { .. }
            | Input::Status(_)
            | Input::Accounts(_)
            | Input::Metrics(_)
            | Input::Hardware(_)
            | Input::Directory(_)
            | Input::Alarm { .. }
            | Input::Peers(_)
            | Input::Words(_)
            | Input::Accept(_)) => self.take(input)?,
            // Whoever sent it sends it again until it is answered.
            Input::Message { stub, .. } => {
                self.link.try_send(crate::link::Outbound::Ack(stub)).ok();
            }
            Input::Correct { answer, .. }
            | Input::Reading { answer, .. }
            | Input::Erase { answer, .. }
            | Input::Rotate(answer) => {
                let en = "nobody signs for the node now; hufu status says why, ask again later";
                let away = problem("busy", None, en, "目前无人为本节点签名，原因见 hufu status，请稍后重试");
                answer.send(serde_json::json!({ "error": away }).to_string()).ok();
            }
            // The meters' state would be ahead of what is signed: after a crash now the old one measures everything again.
            Input::MeterState(_) | Input::Event(_) | Input::Stop => {}
        }
        Ok(())
    }

    /// Signs what waited, in its order; the core leaves out of windows the orders that are over by now.
    ///
    /// # Errors
    /// [`WriterError`]; what is not signed yet waits on.
    pub(crate) fn record_unsigned(&mut self) -> Result<(), WriterError> {
        while let Some(event) = self.unsigned.pop() {
            let copy = again(&event);
            let done = self.event(event);
            if done.is_err() {
                copy.into_iter().for_each(|event| self.unsigned.put_back(event));
                return done;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hufu_metering::WindowDraft;
    use hufu_trade::{
        octets::Octets,
        usage::{TimeQuality, TimeState},
    };

    use super::*;

    const QUALITY: TimeQuality = TimeQuality { state: TimeState::Relative, max_error_ns: None };

    fn window(start_real_ns: i64) -> Event {
        let draft = WindowDraft {
            start_real_ns,
            end_real_ns: start_real_ns + 1,
            elapsed_ns: 1,
            samples_due: 1,
            samples_taken: 1,
            boot_id: [0; 16],
            orders: Vec::new(),
            totals: Vec::new(),
        };
        Event::Window { draft, quality: QUALITY }
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut unsigned = Unsigned::default();
        (0..4106).for_each(|at| unsigned.push(window(at)));
        assert_eq!(unsigned.events.len(), WINDOWS_MAX);
        unsigned.push(Event::Final { contract: Octets([1; 16]), drafts: Vec::new(), quality: QUALITY });
        assert_eq!(unsigned.events.len(), WINDOWS_MAX + 1, "a final read comes once");
        let first = unsigned.pop().unwrap();
        assert!(matches!(&first, Event::Window { draft, .. } if draft.start_real_ns == 0), "the oldest are kept");
        unsigned.put_back(first);
        assert_eq!((unsigned.events.len(), unsigned.orders), (WINDOWS_MAX + 1, 0));
        unsigned.events.clear();
        unsigned.orders = ORDERS_MAX;
        unsigned.push(window(0));
        assert!(unsigned.events.is_empty());
    }
}
