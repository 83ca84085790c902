//! Headers for whoever asks: of this node's own log, and of those that it follows.

use hufu_gm::Signed;
use hufu_ledger::{Error, LogCopy};
use hufu_trade::if2::{
    MESSAGE_BYTES_MAX, Said,
    peers::{Ask, Headers},
};

use super::{Effect, Peers, own};
use crate::clock::Now;

/// Messages with headers that are given out in a second, to everybody together.
const ANSWERS_A_SECOND: u32 = 64;

impl Peers {
    /// A question for headers: of this node's own log, or of one that it follows.
    pub(super) fn asked(&mut self, now: Now, pool: &str, payload: &[u8]) -> Result<Vec<Effect>, Error> {
        let Ok(ask) = Ask::from_bytes(payload) else { return Ok(Vec::new()) };
        if !self.answers.allows(now.mono_ns, ANSWERS_A_SECOND) {
            return Ok(Vec::new());
        }
        let log = usize::from(ask.log);
        let mut answer = Headers::new(&ask.node, ask.log, ask.from, Vec::new());
        let (copy, newest) = if ask.node == self.me.pool {
            (self.own.copy(log), self.own.newest().get(log).copied().flatten())
        } else {
            let followed = self.peers.get(&ask.node).and_then(|peer| peer.logs.get(log));
            if ask.is_for_beginning() {
                let target = followed.and_then(|followed| followed.target.as_ref()).map(|(_, signed)| signed);
                // A copy that is fetched anew may not have come as far as what was promised.
                let promised = followed.map(|followed| &followed.copy).filter(|copy| copy.is_below_promise());
                answer.newest = target.or(promised.and_then(LogCopy::promised)).cloned();
            }
            (followed.map(|followed| &followed.copy), None)
        };
        let Some(copy) = copy else { return Ok(Vec::new()) };
        if ask.is_for_beginning() {
            answer.beginning = own::beginning(copy, newest)?;
        } else {
            answer.headers = fitting(copy.headers(ask.from, ask.until.saturating_sub(ask.from))?);
            // A power cut may take headers whose place in the tree stayed; of the own log the ledger has them all.
            let is_there = ask.from < ask.until.min(copy.size());
            if answer.headers.is_empty() && is_there && ask.node == self.me.pool {
                self.own.fill_anew(log);
            }
        }
        Ok(answer.to_bytes().ok().map(|bytes| self.said(pool, Said::Answer, bytes)).into_iter().collect())
    }
}

/// As many headers as one message holds.
fn fitting(mut headers: Vec<Signed>) -> Vec<Signed> {
    let mut bytes = 0;
    let fits = headers.iter().take_while(|signed| {
        bytes += signed.to_bytes().map_or(0, |der| der.len() + 8);
        bytes + 1024 < MESSAGE_BYTES_MAX
    });
    let count = fits.count();
    headers.truncate(count);
    headers
}
