//! The peers of a simulated node: what their thread does beside the writer, in its turn.

use hufu_trade::if2::Topic;

use super::{Halt, In, Node};
use crate::{
    clock::Now,
    link::{Outbound, Stub},
    peers::{
        Effect, Event, Inbox, Me, Peers, Storages, Terms,
        thread::{TICK, catch_up},
    },
    writer::Input,
};

/// The daemon looks twice a second; a minute of simulated time need not be a hundred and twenty events.
const TICKS: u64 = 10;

/// The peers, and what the writer tells them.
pub(super) struct Beside {
    peers: Peers,
    inbox: Inbox,
    /// When the clock was looked at last, CLOCK_MONOTONIC ns.
    looked_ns: Option<u64>,
}

fn tick_ns() -> u64 {
    u64::try_from(TICK.as_nanos()).unwrap_or(u64::MAX).saturating_mul(TICKS)
}

impl Node {
    /// Begins to take part. A disk that fails leaves the node without, as the daemon's thread ends then.
    pub(super) fn take_part(&mut self, me: Me, terms: Terms, storages: &Storages, inbox: Inbox) -> Result<(), Halt> {
        let opened = Peers::open(me, terms, storages).and_then(|mut peers| {
            catch_up(&mut peers, &self.writer.ledger)?;
            Ok(peers)
        });
        match opened {
            Ok(peers) => {
                self.beside = Some(Beside { peers, inbox, looked_ns: None });
                Ok(())
            }
            Err(error) => self.end_beside(&error),
        }
    }

    fn end_beside(&mut self, error: &hufu_ledger::Error) -> Result<(), Halt> {
        self.beside = None;
        self.take(Input::Alarm { what: "peers not followed", detail: error.to_string() })
    }

    /// What the peers hear of what reaches the node; the rest, if that is not all of it.
    pub(super) fn tell_beside(&mut self, told: In) -> Result<Option<In>, Halt> {
        let event = match &told {
            In::Linked => Event::Linked,
            In::Unlinked => Event::Unlinked,
            In::Message { topic: Topic::Ledger { .. } | Topic::LedgerTo { .. }, .. } => {
                let In::Message { topic, payload, number } = told else { return Ok(None) };
                self.writer.link.try_send(Outbound::Ack(Stub::numbered(number))).ok();
                self.happen(Event::Message { topic, payload })?;
                return Ok(None);
            }
            _ => return Ok(Some(told)),
        };
        self.happen(event)?;
        Ok(Some(told))
    }

    /// What is due beside the writer; whether that left something for it.
    pub(super) fn turn_beside(&mut self) -> Result<bool, Halt> {
        let now = self.now();
        let Some(beside) = &mut self.beside else { return Ok(false) };
        let mut events: Vec<Event> = beside.inbox.waiting().collect();
        events.extend(beside.inbox.aside());
        if beside.looked_ns.is_none_or(|looked| now.mono_ns.saturating_sub(looked) >= tick_ns()) {
            beside.looked_ns = Some(now.mono_ns);
            events.push(Event::Tick);
        }
        let has_more = !events.is_empty();
        for event in events {
            self.happen(event)?;
        }
        Ok(has_more)
    }

    pub(super) fn wait_beside_ns(&self, now: Now) -> u64 {
        let looked = self.beside.as_ref().map(|beside| beside.looked_ns.unwrap_or(0));
        looked.map_or(u64::MAX, |looked| looked.saturating_add(tick_ns()).saturating_sub(now.mono_ns))
    }

    /// Lets the peers deal with something, and does what they want.
    fn happen(&mut self, event: Event) -> Result<(), Halt> {
        let now = self.now();
        let Some(beside) = &mut self.beside else { return Ok(()) };
        let effects = match beside.peers.handle(now, event) {
            Ok(effects) => effects,
            Err(error) => return self.end_beside(&error),
        };
        for effect in effects {
            match effect {
                Effect::Publish { topic, payload, retain } => {
                    self.writer.link.try_send(Outbound::Publish { topic, payload, retain }).ok();
                }
                Effect::Words(words) => self.take(Input::Words(words))?,
                Effect::Alarm { what, detail } => self.take(Input::Alarm { what, detail })?,
            }
        }
        let Some(beside) = self.beside.as_mut().filter(|beside| beside.peers.is_behind()) else { return Ok(()) };
        match catch_up(&mut beside.peers, &self.writer.ledger) {
            Ok(()) => Ok(()),
            Err(error) => self.end_beside(&error),
        }
    }

    /// How the peers stand; `None` where this node takes no part, or not any more.
    pub(super) fn shown_beside(&self) -> Option<crate::peers::Shown> {
        self.beside.as_ref().map(|beside| beside.peers.shown())
    }
}
