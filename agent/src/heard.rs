//! How far this node signed its own logs, as others know it: the nodes that it follows, by copies and checkpoints, and the platform, by
//! headers of blocks that it does not hold. A disk that was lost or put back does not know; the node's own signature is the proof.

use hufu_gm::Signed;
use hufu_ledger::{BlockHeader, Log};
use hufu_trade::if2::Sealed;

use crate::{
    node::{Fatal, Identity},
    peers::{Word, Words},
    writer::Writer,
};

/// What was heard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    /// How long the first signature after a start waits for the followed nodes, ns; `None` where none is followed.
    pub(crate) wait_ns: Option<u64>,
    /// What those say.
    pub(crate) words: Option<Words>,
    /// What the platform shows, by log.
    seen: [Word; 2],
}

impl Heard {
    /// Nothing, by a node that waits so long for those that it follows.
    pub(crate) fn waiting(wait_ns: Option<u64>) -> Self {
        Self { wait_ns, ..Self::default() }
    }

    /// Whether nobody is waited for any more after so many ns.
    pub(crate) fn is_enough(&self, waited_ns: u64) -> bool {
        let is_all = self.words.is_some_and(|words| words.is_all);
        self.wait_ns.is_none_or(|wait_ns| is_all || waited_ns >= wait_ns)
    }

    /// How far this node signed a log.
    pub(crate) fn of(&self, log: Log) -> Word {
        let place = usize::from(log.number());
        let by_peers = self.words.and_then(|words| words.logs.get(place).copied()).unwrap_or_default();
        self.seen.get(place).copied().unwrap_or_default().max(by_peers)
    }

    /// The platform shows a header of this node of a block that it does not hold.
    pub(crate) fn saw(&mut self, identity: &Identity, log: Log, header: &Sealed) {
        let Ok(signed) = Signed::from_bytes(&header.0) else { return };
        let Ok(header) = BlockHeader::from_bytes(signed.tbs()) else { return };
        let is_own = header.node == identity.pool && header.log == log;
        // Of one that was signed with a key of before, the platform holds the block: it took the change of keys after it.
        if is_own
            && signed.verify(&identity.key.public_key()).is_valid()
            && let Some(seen) = self.seen.get_mut(usize::from(log.number()))
        {
            *seen = (*seen).max(Word { epoch: header.epoch, size: header.height.saturating_add(1) });
        }
    }
}

impl Writer {
    /// Blocks of a log that this node signed in this epoch or a later one, as others know, where the ledger holds fewer.
    pub(crate) fn signed_beyond(&self, log: Log) -> Option<u64> {
        let word = self.heard.of(log);
        (word.size > self.ledger.size(log) && word.epoch >= self.epoch()).then_some(word.size)
    }

    /// The first log of which this node signed more than it holds.
    pub(crate) fn beyond(&self) -> Option<Fatal> {
        Log::ALL.into_iter().find_map(|log| {
            let receipted = self.signed_beyond(log)?;
            Some(Fatal::Behind { log: log.number(), held: self.ledger.size(log), receipted })
        })
    }
}
