//! What reaches the peers: a bounded queue, from which a message of the broker may be lost, and beside it what must not be, however full
//! the queue is. Neither the writer nor the link ever waits for the peers.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

use super::Event;

/// Events that may wait.
const EVENTS_MAX: usize = 512;

/// What stands beside the queue until the peers look.
#[derive(Debug, Default)]
struct Aside {
    /// Which connection is up; 0: none.
    linked: AtomicU64,
    /// The ledger holds what did not come by the queue.
    is_behind: AtomicBool,
    /// The key that this node signs with from now on.
    rotated: Mutex<Option<Event>>,
}

/// The end of whoever has something for the peers.
#[derive(Clone, Debug)]
pub(crate) struct ToPeers {
    queue: SyncSender<Event>,
    aside: Arc<Aside>,
}

/// The peers' end.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Receiver<Event>,
    aside: Arc<Aside>,
    connection: u64,
}

/// Both ends.
pub(crate) fn queue() -> (ToPeers, Inbox) {
    let (sender, receiver) = sync_channel(EVENTS_MAX);
    let aside = Arc::<Aside>::default();
    (ToPeers { queue: sender, aside: Arc::clone(&aside) }, Inbox { queue: receiver, aside, connection: 0 })
}

impl ToPeers {
    /// A message of the broker: what matters comes again where there is no room for it.
    pub(crate) fn message(&self, event: Event) {
        self.queue.try_send(event).ok();
    }

    /// What was written; where there is no room for it, it is read from the ledger.
    pub(crate) fn written(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            self.restored();
        }
    }

    /// Blocks came back into the ledger, or an epoch took the place of some.
    pub(crate) fn restored(&self) {
        self.aside.is_behind.store(true, Ordering::Release);
    }

    /// The node signs with another key from now on.
    pub(crate) fn rotated(&self, event: Event) {
        *self.aside.rotated.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
    }

    /// Which connection is up; 0: none.
    pub(crate) fn linked(&self, connection: u64) {
        self.aside.linked.store(connection, Ordering::Release);
    }
}

impl Inbox {
    /// The next event of the queue, or `None` where none came in so long.
    ///
    /// # Errors
    /// Nobody sends any more.
    pub(crate) fn next(&self, wait: Duration) -> Result<Option<Event>, RecvTimeoutError> {
        match self.queue.recv_timeout(wait) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(RecvTimeoutError::Disconnected),
        }
    }

    /// All that waits in the queue.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = Event> {
        self.queue.try_iter()
    }

    /// What stands beside the queue, and was not taken yet.
    pub(crate) fn aside(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let linked = self.aside.linked.load(Ordering::Acquire);
        if linked != self.connection {
            self.connection = linked;
            events.push(Event::Unlinked);
            if linked > 0 {
                events.push(Event::Linked);
            }
        }
        if self.aside.is_behind.swap(false, Ordering::AcqRel) {
            events.push(Event::Restored);
        }
        events.extend(self.aside.rotated.lock().unwrap_or_else(PoisonError::into_inner).take());
        events
    }
}

#[cfg(test)]
mod tests {
    use hufu_trade::if2::Topic;

    use super::*;

    fn written() -> Event {
        Event::Written { headers: Vec::new(), public: Vec::new() }
    }

    #[test]
    fn a_full_queue_loses_only_messages() {
        let (to, mut inbox) = queue();
        for _ in 0..=EVENTS_MAX {
            to.message(Event::Message { topic: Topic::Presence { pool: "s1/n1".to_owned() }, payload: Vec::new() });
        }
        assert!(inbox.aside().is_empty());
        to.linked(3);
        to.written(written());
        // A later one stands for both.
        to.rotated(Event::Tick);
        to.rotated(Event::Linked);
        assert!(matches!(inbox.aside()[..], [Event::Unlinked, Event::Linked, Event::Restored, Event::Linked]));
        assert!(inbox.aside().is_empty(), "taken once");
        assert_eq!(inbox.waiting().count(), EVENTS_MAX);
        to.written(written());
        assert!(inbox.aside().is_empty() && matches!(inbox.next(Duration::ZERO), Ok(Some(Event::Written { .. }))));
        to.linked(0);
        assert!(matches!(inbox.aside()[..], [Event::Unlinked]));
        drop(to);
        assert!(inbox.next(Duration::ZERO).is_err());
    }
}
