//! What peers hold of this node's own log beyond what it holds itself. A disk that was lost or put back does not know what it signed;
//! whoever followed it does. Each followed node is asked after a start, the writer hears what they say before it signs (`whole.rs`), and the
//! headers that come back stand in this node's copy of its own log.

use std::collections::BTreeSet;

use hufu_gm::Signed;
use hufu_ledger::{Error, WitnessedCheckpoint, verify_checkpoint};
use hufu_trade::if2::{
    Said,
    peers::{ASKED_MAX, Ask, Headers},
};

use super::{Effect, Peers, log_of, refused};
use crate::{clock::Now, pause::Pause};

/// How far this node signed one log, as it signed itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Word {
    /// Epoch of the newest block.
    pub(crate) epoch: u64,
    /// Blocks.
    pub(crate) size: u64,
}

/// What was signed of both logs, trade first, as far as copies and peers know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) logs: [Word; 2],
    /// Every followed node was heard.
    pub(crate) is_all: bool,
}

/// Who is yet to be heard.
#[derive(Debug)]
pub(super) struct Hearing {
    open: BTreeSet<(String, u8)>,
    /// What checkpoints of this node prove that peers cosigned.
    promised: [Word; 2],
    pause: Pause,
    told: Option<Words>,
}

impl Hearing {
    pub(super) fn of<'a>(pools: impl Iterator<Item = &'a String>) -> Self {
        let open = pools.flat_map(|pool| [(pool.clone(), 0), (pool.clone(), 1)]).collect();
        Self { open, promised: [Word::default(); 2], pause: Pause::default(), told: None }
    }
}

impl Peers {
    /// Asks those that were not heard, and says what is known where that changed.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(super) fn hear(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.is_linked && !self.hearing.open.is_empty() && self.hearing.pause.is_over(now.mono_ns) {
            self.hearing.pause.begin(now.mono_ns);
            for (whom, log) in &self.hearing.open {
                effects.extend(self.ask_of_own(whom, *log));
            }
        }
        effects.extend(self.words_changed());
        effects
    }

    /// The two questions: what is beyond this node's copy, and how far its checkpoint goes.
    fn ask_of_own(&self, whom: &str, log: u8) -> Vec<Effect> {
        let from = self.own.copy(usize::from(log)).map_or(0, hufu_ledger::LogCopy::size);
        let beyond = Ask::new(&self.me.pool, log, from, from.saturating_add(ASKED_MAX));
        let asks = [beyond, Ask::new(&self.me.pool, log, 0, 0)];
        asks.iter().filter_map(|ask| ask.to_bytes().ok()).map(|bytes| self.said(whom, Said::Ask, bytes)).collect()
    }

    /// What is known now, where that is news.
    fn words_changed(&mut self) -> Option<Effect> {
        let mut logs = self.hearing.promised;
        for (log, word) in logs.iter_mut().enumerate() {
            if let Some(copy) = self.own.copy(log) {
                *word = (*word).max(Word { epoch: copy.epoch(), size: copy.size() });
            }
        }
        let words = Words { logs, is_all: self.hearing.open.is_empty() };
        let held = self.own.held();
        // How far this node's own writing goes is no news.
        let is_beyond = (0..2).any(|log| words.logs[log].size > held[log]);
        let is_news = match self.hearing.told {
            None => words.is_all || is_beyond,
            Some(told) => told.is_all != words.is_all || (is_beyond && told.logs != words.logs),
        };
        if !is_news {
            return None;
        }
        self.hearing.told = Some(words);
        Some(Effect::Words(words))
    }

    /// The broker still has a checkpoint of this node.
    pub(super) fn own_retained(&mut self, log: u8, payload: &[u8]) -> Vec<Effect> {
        if let Ok(whole) = WitnessedCheckpoint::from_bytes(payload) {
            self.own_promised(log, &whole.checkpoint);
        }
        self.words_changed().into_iter().collect()
    }

    /// A checkpoint of this node, from wherever it comes back. Of one that was signed by a key of before, the platform has what it covers.
    fn own_promised(&mut self, log: u8, signed: &Signed) {
        if let Ok(checkpoint) = verify_checkpoint(signed, &self.me.key.public_key())
            && checkpoint.node == self.me.pool
            && checkpoint.log == log_of(log)
            && let Some(word) = self.hearing.promised.get_mut(usize::from(log))
        {
            *word = (*word).max(Word { epoch: checkpoint.epoch, size: checkpoint.size });
        }
    }

    /// A followed node answers a question about this node's own log.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(super) fn own_answered(&mut self, from: &str, answer: &Headers) -> Result<Vec<Effect>, Error> {
        let key = self.me.key.public_key();
        let checkpoints = answer.beginning.iter().map(|beginning| &beginning.checkpoint).chain(&answer.newest);
        for signed in checkpoints {
            self.own_promised(answer.log, signed);
        }
        if answer.beginning.is_some() || answer.newest.is_some() {
            return Ok(self.words_changed().into_iter().collect());
        }
        if answer.headers.is_empty() {
            self.hearing.open.remove(&(from.to_owned(), answer.log));
            return Ok(self.words_changed().into_iter().collect());
        }
        // One that came twice, or late: the question that is out asks further on.
        if self.own.copy(usize::from(answer.log)).is_some_and(|copy| answer.first < copy.size()) {
            return Ok(Vec::new());
        }
        match self.own.learn(answer, &key)? {
            Ok(true) => {
                let mut effects = self.ask_of_own(from, answer.log);
                effects.extend(self.words_changed());
                Ok(effects)
            }
            // Of an epoch that was left, or nothing new.
            Ok(false) => {
                self.hearing.open.remove(&(from.to_owned(), answer.log));
                Ok(self.words_changed().into_iter().collect())
            }
            Err(why) => Ok(refused(from, &format!("headers of this node itself: {why}"))),
        }
    }
}
