//! What the writer does while the signer is away: nothing is signed, so nothing is appended and nothing acknowledged; what was
//! metered waits in memory, in its order, and is signed when the signer is back. Asking the signer is `signer.rs`.

use std::{sync::mpsc::RecvTimeoutError, time::Duration};

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
        tracing::info!(waiting = self.unsigned.len(), "the signer signs again");
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
            Input::Event(event @ (Event::Window { .. } | Event::Final { .. })) => self.put_off_event(event),
            // None of these leads to a signature.
            Input::Event(
                event @ (Event::Linked | Event::Unlinked | Event::Provisioned { .. } | Event::Unstopped { .. }),
            ) => self.event(event)?,
            input @ (Input::Place { .. } | Input::Status(_)) => self.take(input)?,
            // Whoever sent it sends it again until it is answered.
            Input::Message { stub, .. } => {
                self.link.try_send(crate::link::Outbound::Ack(stub)).ok();
            }
            Input::Correct { answer, .. } | Input::Reading { answer, .. } | Input::Erase { answer, .. } => {
                let en = "nobody signs for the node now; hufu status says why, ask again later";
                let away = problem("busy", None, en, "目前无人为本节点签名，原因见 hufu status，请稍后重试");
                answer.send(serde_json::json!({ "error": away }).to_string()).ok();
            }
            // The meters' state would be ahead of what is signed: after a crash now the old one measures everything again.
            Input::MeterState(_) | Input::Event(_) | Input::Stop => {}
        }
        Ok(())
    }

    /// Keeps what was metered until it can be signed.
    pub(crate) fn put_off_event(&mut self, event: Event) {
        let orders_of = |event: &Event| match event {
            Event::Window { draft, .. } => draft.orders.len(),
            _ => 0,
        };
        let is_full =
            self.unsigned.len() >= WINDOWS_MAX || self.unsigned.iter().map(orders_of).sum::<usize>() > ORDERS_MAX;
        if !is_full || !matches!(event, Event::Window { .. }) {
            self.unsigned.push_back(event);
        }
    }

    /// Signs what waited, in its order; windows without the orders that are over by now.
    ///
    /// # Errors
    /// [`WriterError`]; what is not signed yet waits on.
    pub(crate) fn record_unsigned(&mut self) -> Result<(), WriterError> {
        while let Some(event) = self.unsigned.pop_front() {
            let copy = again(&event);
            let done = match event {
                Event::Window { draft, quality } => self.late_window(draft, quality),
                event => self.event(event),
            };
            if done.is_err() {
                copy.into_iter().for_each(|event| self.unsigned.push_front(event));
                return done;
            }
        }
        Ok(())
    }
}
