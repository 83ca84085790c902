//! The way between nodes and platform: messages are lost, late, twice, out of order, kept for whoever is away, and forgotten.

use hufu_agent::sim::In;
use hufu_trade::if2::Topic;

use crate::{
    clocks::SECOND,
    world::{What, World},
};

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) topic: Topic,
    pub(crate) payload: Vec<u8>,
}

/// Old messages that somebody kept, at most so many.
const CAPTURED_MAX: usize = 64;

impl World {
    /// How long a message takes, and whether it comes a second time; `None`: it is lost.
    fn fate(&mut self) -> (Option<u64>, Option<u64>) {
        let (lost, twice, slow) = (self.profile.lost, self.profile.twice, self.profile.slow_ns);
        let first = (!self.dice.permille(lost)).then(|| self.dice.pause(slow));
        let second = self.dice.permille(twice).then(|| self.dice.pause(slow * 4));
        (first, second)
    }

    fn capture(&mut self, letter: &Letter) {
        if self.captured.len() < CAPTURED_MAX {
            self.captured.push(letter.clone());
        } else if self.dice.permille(100) {
            let place = usize::try_from(self.dice.below(64)).unwrap();
            self.captured[place] = letter.clone();
        }
    }

    /// A node sends a message. What it says of its log goes to everybody who follows it, too.
    pub(crate) fn post_up(&mut self, index: usize, letter: Letter, retain: bool) {
        self.capture(&letter);
        if self.time < self.sites[index].parted_until {
            return;
        }
        if retain && matches!(letter.topic, Topic::Ledger { .. }) {
            self.retained.insert(letter.topic.to_string(), letter.clone());
        }
        self.post_to_nodes(&letter);
        if matches!(letter.topic, Topic::LedgerTo { .. }) {
            return;
        }
        let (first, second) = self.fate();
        for pause in [first, second].into_iter().flatten() {
            self.after(pause, What::ToPlatform(letter.clone()));
        }
    }

    /// What is said of a log, to every node that hears it.
    fn post_to_nodes(&mut self, letter: &Letter) {
        for index in 0..self.sites.len() {
            if self.sites[index].hears(&letter.topic) {
                let (first, second) = self.fate();
                for pause in [first, second].into_iter().flatten() {
                    self.after(pause, What::ToNode(index, letter.clone()));
                }
            }
        }
    }

    /// The platform sends a message to a node.
    pub(crate) fn post_down(&mut self, letter: Letter) {
        self.capture(&letter);
        if matches!(letter.topic, Topic::Ledger { .. }) {
            self.retained.insert(letter.topic.to_string(), letter.clone());
            return self.post_to_nodes(&letter);
        }
        let (Topic::Call { pool, .. } | Topic::Products { pool } | Topic::Presence { pool }) = &letter.topic else {
            return;
        };
        let Some(index) = self.sites.iter().position(|site| site.pool == *pool) else { return };
        let (first, second) = self.fate();
        for pause in [first, second].into_iter().flatten() {
            self.after(pause, What::ToNode(index, letter.clone()));
        }
    }

    /// A message has reached a node's end of the link.
    pub(crate) fn deliver(&mut self, index: usize, letter: Letter) -> Result<(), String> {
        let time = self.time;
        let site = &mut self.sites[index];
        let is_there = site.node.is_some() && site.is_linked && time >= site.parted_until.max(site.asleep_until);
        if !is_there {
            // A session that the broker keeps holds a few hundred messages, no more.
            if site.kept.len() < 200 {
                site.kept.push(letter);
            }
            return Ok(());
        }
        site.next_number += 1;
        let number = site.next_number;
        // What the peers hear is acknowledged on its arrival.
        if !matches!(letter.topic, Topic::Ledger { .. } | Topic::LedgerTo { .. }) {
            site.unacknowledged.insert(number, letter.clone());
        }
        let Letter { topic, payload } = letter;
        self.drive(index, Some(In::Message { topic, payload, number }))
    }

    /// A node's link comes up.
    pub(crate) fn link(&mut self, index: usize) -> Result<(), String> {
        let time = self.time;
        let site = &mut self.sites[index];
        if site.node.is_none() || site.is_linked {
            return Ok(());
        }
        let until = site.parted_until.max(site.asleep_until);
        if time < until {
            self.after(until - time + SECOND, What::Link(index));
            return Ok(());
        }
        site.is_linked = true;
        self.drive(index, Some(In::Linked))?;
        let site = &mut self.sites[index];
        // What was not acknowledged comes first, and again.
        let mut letters: Vec<Letter> = std::mem::take(&mut site.unacknowledged).into_values().collect();
        letters.append(&mut site.kept);
        let is_forgotten = self.dice.permille(self.profile.forgets);
        if is_forgotten {
            self.count("session lost");
            letters.clear();
            if self.dice.below(4) == 0 {
                self.retained.clear();
            }
        }
        let site = &self.sites[index];
        letters.extend(self.retained.values().filter(|letter| site.hears(&letter.topic)).cloned());
        for letter in letters {
            let pause = self.dice.pause(SECOND / 10);
            self.after(pause, What::ToNode(index, letter));
        }
        Ok(())
    }

    /// A node's link breaks and comes back by and by.
    pub(crate) fn unlink(&mut self, index: usize) -> Result<(), String> {
        let site = &mut self.sites[index];
        if !site.is_linked {
            return Ok(());
        }
        site.is_linked = false;
        self.broken_off(index);
        let pause = self.dice.pause(5 * SECOND);
        self.after(pause, What::Link(index));
        self.drive(index, Some(In::Unlinked))
    }

    /// What was on its way to a node whose link broke is kept for it, or not.
    pub(crate) fn broken_off(&mut self, index: usize) {
        if self.dice.permille(self.profile.forgets) {
            let site = &mut self.sites[index];
            site.unacknowledged.clear();
            site.kept.clear();
        }
    }
}
