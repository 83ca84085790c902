//! The thread of the peers: whatever one of them sends, writing and metering go on beside it. Its queue is bounded and what does not fit is
//! dropped; what matters comes again.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};

use hufu_ledger::{
    Ledger, Log,
    storage::{Directory, Storage},
};

use super::{Effect, Event, Inbox, Me, Peers, Shown, Storages, Terms, Word, public_record};
use crate::{clock::Clock, link::Outbound, writer::Input};

/// Blocks that are looked through for what is public, at most.
const LOOKED_THROUGH_MAX: u64 = 4096;
/// Between two looks at what is due.
pub(crate) const TICK: Duration = Duration::from_millis(500);

/// What the thread works with.
pub(crate) struct Start {
    pub(crate) me: Me,
    pub(crate) terms: Terms,
    /// The node's ledger, which is only read.
    pub(crate) ledger: PathBuf,
    pub(crate) inbox: Inbox,
    /// The link closes when the writer lets go of it: this one must not hold it.
    pub(crate) link: tokio::sync::mpsc::WeakSender<Outbound>,
    pub(crate) writer: SyncSender<Input>,
    pub(crate) clock: Clock,
}

/// Where the copies of a ledger's peers lie.
pub(crate) fn dir_of(ledger: &Path) -> PathBuf {
    let mut dir = ledger.as_os_str().to_owned();
    dir.push(".peers");
    dir.into()
}

/// Works until nobody sends events any more. A disk that fails ends it with an alarm; the node goes on without.
pub(crate) fn run(mut start: Start) {
    if let Err(error) = work(&mut start) {
        tracing::error!(%error, "peers are not followed any more");
        let detail = error.to_string();
        start.writer.send(Input::Alarm { what: "peers not followed", detail }).ok();
    }
}

fn work(start: &mut Start) -> Result<(), hufu_ledger::Error> {
    let dir = dir_of(&start.ledger);
    let all = Directory::new(&dir);
    all.make().map_err(|source| hufu_ledger::Error::Io { path: dir.clone(), source })?;
    let storages: Storages = Arc::new(move |name: &str| Arc::new(Directory::new(&dir.join(name))));
    let mut peers = Peers::open(start.me.clone(), start.terms.clone(), &storages)?;
    catch_up(&mut peers, &Ledger::open_read_only(&start.ledger)?)?;
    let mut shown = Shown::default();
    let mut looked_ns = 0;
    loop {
        let Ok(event) = start.inbox.next(TICK) else { return Ok(()) };
        let now = (start.clock.now)();
        let mut effects = Vec::new();
        for event in start.inbox.aside().into_iter().chain(event) {
            effects.extend(peers.handle(now, event)?);
        }
        // Under a steady stream of events the clock would never be looked at, and after each of them it would cost more than they do.
        let is_due = u128::from(now.mono_ns.saturating_sub(looked_ns)) >= TICK.as_nanos();
        if is_due {
            looked_ns = now.mono_ns;
            effects.extend(peers.handle(now, Event::Tick)?);
        }
        for effect in effects {
            match effect {
                Effect::Publish { topic, payload, retain } => {
                    let Some(link) = start.link.upgrade() else { return Ok(()) };
                    // A full queue means a stalled link: what is not said now is said again.
                    link.try_send(Outbound::Publish { topic, payload, retain }).ok();
                }
                Effect::Words(words) => {
                    // The writer must hear it: this one waits for it, and the writer never waits for this one.
                    if start.writer.send(Input::Words(words)).is_err() {
                        return Ok(());
                    }
                }
                Effect::Alarm { what, detail } => {
                    start.writer.try_send(Input::Alarm { what, detail }).ok();
                }
            }
        }
        if peers.is_behind() {
            catch_up(&mut peers, &Ledger::open_read_only(&start.ledger)?)?;
        }
        if !is_due {
            continue;
        }
        let now = peers.shown();
        if now != shown && start.writer.try_send(Input::Peers(Box::new(now.clone()))).is_ok() {
            shown = now;
        }
    }
}

/// Takes what the ledger holds above what the copies know.
///
/// # Errors
/// Those of the disk.
pub(crate) fn catch_up(peers: &mut Peers, ledger: &Ledger) -> Result<(), hufu_ledger::Error> {
    let held = |log| {
        let epoch = ledger.head(log).map_or(0, |head| head.header.epoch);
        Word { epoch, size: ledger.size(log) }
    };
    peers.ledger_holds([Log::Trade, Log::Finance].map(held));
    for (log, size) in [Log::Trade, Log::Finance].into_iter().zip(peers.own_sizes()) {
        // What is known here may be of before an epoch.
        let mut from = size.min(ledger.size(log));
        while let Some(below) = from.checked_sub(1)
            && !peers.has_own(ledger.held(log, below)?.signed())?
        {
            from = below;
        }
        for height in from..ledger.size(log) {
            peers.catch_up(ledger.held(log, height)?.signed())?;
        }
    }
    let (size, mut from) = (ledger.size(Log::Trade), peers.public_seen());
    // Of a long log that was never looked through, the newest are enough.
    from = if from > size { 0 } else { from }.max(size.saturating_sub(LOOKED_THROUGH_MAX));
    let mut records = Vec::new();
    for height in from..size {
        let block = ledger.held(Log::Trade, height)?;
        for (index, entry) in (0_u32..).zip(block.entries()) {
            let place = block.entry_path(index).zip(entry.plain());
            records.extend(place.and_then(|(path, bytes)| public_record(bytes, (height, index), &path)));
        }
    }
    peers.public_found((from, size), &records)?;
    peers.caught_up();
    Ok(())
}
