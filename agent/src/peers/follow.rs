//! One log of a followed node: headers are taken in their order, a checkpoint is cosigned when the copy here continues to it, and what is
//! missing is asked for. Two pasts are `search.rs`.

use hufu_gm::Signed;
use hufu_ledger::{
    BlockHeader, Checkpoint, Cosignature, Error, Fault, LogCopy, WitnessedCheckpoint, verify_checkpoint,
};
use hufu_trade::if2::{
    Said, Told,
    peers::{ASKED_MAX, Ask, Headers, Witnessing},
};

use super::{Effect, Peers, refused, search::Differs};
use crate::{clock::Now, pause::Pause};

/// A node of which so many blocks are missing, and none is held, is followed from its checkpoint on.
const LATE_BLOCKS: u64 = 1024;
/// A checkpoint that waits for its signer's certificate is no longer, octets.
const WAITING_BYTES_MAX: usize = 16 * 1024;
/// After so many questions all who may hold copies are asked in turn, the node itself among them.
const TRIES_ALONE: u32 = 3;
/// After so many whoever spoke of another past and does not show it is not asked any more.
const TRIES_SEARCH: u32 = 6;
/// After so many it is an alarm that a node does not serve what its checkpoint covers.
const TRIES_ALARM: u32 = 8;
/// A checkpoint may be ahead of this node's clock by so much, ns.
const AHEAD_NS: i64 = 3_600_000_000_000;
/// The same checkpoint is cosigned again so often, ns: the word may have been lost.
const AGAIN_NS: u64 = 10_000_000_000;

/// A question that is out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) from: u64,
    pub(super) until: u64,
    pub(super) whom: String,
}

/// Another past than the copy's is looked for, beside what is missing: who speaks of it and does not show it keeps nothing from coming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Search {
    from: u64,
    until: u64,
    whom: String,
    tries: u32,
    pause: Pause,
}

impl Search {
    /// Whether it asks the same as another.
    fn is_same(&self, other: &Self) -> bool {
        (self.from, self.until, &self.whom) == (other.from, other.until, &other.whom)
    }
}

/// A log that is followed.
pub(super) struct Followed {
    pub(super) copy: LogCopy,
    /// The newest checkpoint that the copy has not reached.
    pub(super) target: Option<(Checkpoint, Signed)>,
    pub(super) asked: Option<Asked>,
    tries: u32,
    pause: Pause,
    said_ns: u64,
    is_unserved: bool,
    pub(super) search: Option<Search>,
}

impl Followed {
    pub(super) fn new(copy: LogCopy) -> Self {
        let pause = Pause::default();
        Self { copy, target: None, asked: None, tries: 0, pause, said_ns: 0, is_unserved: false, search: None }
    }

    /// Size of the checkpoint that was cosigned last and still stands.
    pub(super) fn cosigned(&self) -> u64 {
        self.copy.standing().map_or(0, |checkpoint| checkpoint.size)
    }

    /// Headers from `from` to `until` are asked for, of whoever shows another past.
    pub(super) fn search(&mut self, from: u64, until: u64, source: &str) {
        let search = Search { from, until, whom: source.to_owned(), tries: 0, pause: Pause::default() };
        // The question that is out is not asked again for every header that leads to it.
        if !self.search.as_ref().is_some_and(|out| out.is_same(&search)) {
            self.search = Some(search);
        }
    }

    /// The question for another past that is due: whom, from and until.
    fn search_due(&mut self, now: Now) -> Option<(String, u64, u64)> {
        let search = self.search.as_mut().filter(|search| search.pause.is_over(now.mono_ns))?;
        if search.tries >= TRIES_SEARCH {
            self.search = None;
            return None;
        }
        search.tries = search.tries.saturating_add(1);
        search.pause.begin(now.mono_ns);
        Some((search.whom.clone(), search.from, search.until))
    }

    /// How far the copy goes.
    fn place(&self) -> (u64, u64) {
        (self.copy.epoch(), self.copy.size())
    }

    /// An answer moved something: what is still missing is asked for at once.
    pub(super) fn moved(&mut self) {
        (self.asked, self.tries, self.pause, self.is_unserved) = (None, 0, Pause::default(), false);
    }

    /// A checkpoint of an epoch that was left will never be reached.
    fn forget_left(&mut self) {
        let epoch = self.copy.epoch();
        self.target.take_if(|(target, _)| target.epoch < epoch);
    }
}

impl Peers {
    fn followed(&mut self, pool: &str, log: usize) -> Option<&mut Followed> {
        self.peers.get_mut(pool).and_then(|peer| peer.logs.get_mut(log))
    }

    /// Headers as a followed node publishes them.
    pub(super) fn headers_told(&mut self, now: Now, pool: &str, payload: &[u8]) -> Result<Vec<Effect>, Error> {
        let Ok(told) = Headers::from_bytes(payload) else { return Ok(refused(pool, "headers do not decode")) };
        if told.node != pool || told.beginning.is_some() {
            return Ok(refused(pool, "headers of another node"));
        }
        self.take(now, (pool, pool), &told)
    }

    /// The answer to a question; one that was not asked is nothing.
    pub(super) fn answered(&mut self, now: Now, source: &str, payload: &[u8]) -> Result<Vec<Effect>, Error> {
        let Ok(answer) = Headers::from_bytes(payload) else { return Ok(refused(source, "headers do not decode")) };
        if answer.node == self.me.pool {
            return self.own_answered(source, &answer);
        }
        let (pool, log) = (answer.node.clone(), usize::from(answer.log));
        let Some(followed) = self.followed(&pool, log) else { return Ok(Vec::new()) };
        let is_searched =
            followed.search.as_ref().is_some_and(|search| search.whom == source && answer.first == search.from);
        let is_asked = followed
            .asked
            .as_ref()
            .is_some_and(|asked| asked.whom == source && (answer.first == asked.from || answer.beginning.is_some()));
        if !is_asked && !is_searched {
            return Ok(Vec::new());
        }
        if let Some(beginning) = answer.beginning.as_ref().filter(|_| is_asked) {
            return self.begin(now, (&pool, log), beginning);
        }
        if answer.headers.is_empty() {
            // It does not hold them: the next one is asked after the pause.
            return Ok(Vec::new());
        }
        let before = followed.place();
        // What was looked for is in this answer, or is not there. An answer may lead to another search.
        let searched = followed.search.take_if(|_| is_searched);
        let effects = self.take(now, (&pool, source), &answer)?;
        if let Some(followed) = self.followed(&pool, log) {
            if followed.place() > before {
                followed.moved();
            }
            // An answer that leads nowhere is no reason to ask the same at once: two nodes would do nothing else, and the question that
            // leads further would be lost among those that do not.
            if let Some(searched) = searched
                && followed.search.as_ref().is_some_and(|search| search.is_same(&searched))
            {
                followed.search = Some(searched);
            }
        }
        Ok([effects, self.ask_due(now, &pool, log)?].concat())
    }

    /// Begins at a checkpoint of the node itself.
    fn begin(
        &mut self,
        now: Now,
        (pool, log): (&str, usize),
        beginning: &hufu_trade::if2::peers::Beginning,
    ) -> Result<Vec<Effect>, Error> {
        let Some(key) = self.key_of(pool, &beginning.checkpoint) else {
            return Ok(refused(pool, "unknown certificate"));
        };
        let Ok(checkpoint) = verify_checkpoint(&beginning.checkpoint, &key) else {
            return Ok(refused(pool, "the checkpoint of a beginning is not signed by it"));
        };
        let peaks: Option<Vec<_>> = beginning.peaks.iter().map(|peak| peak.as_bytes().try_into().ok()).collect();
        let Some(followed) = self.followed(pool, log) else { return Ok(Vec::new()) };
        let fits = checkpoint.node == pool && usize::from(checkpoint.log.number()) == log && followed.copy.size() == 0;
        if !fits || !followed.copy.begin(&checkpoint, &peaks.unwrap_or_default(), beginning.head.0) {
            return Ok(refused(pool, "the beginning is not that of its checkpoint"));
        }
        followed.moved();
        followed.target = Some((checkpoint, beginning.checkpoint.clone()));
        self.reached(now, pool, log)
    }

    /// The key of a followed node that signed something, if its certificate is known.
    pub(super) fn key_of(&self, pool: &str, signed: &Signed) -> Option<hufu_gm::PublicKey> {
        self.peers.get(pool).and_then(|peer| peer.keys.get(&signed.cert_id())).cloned()
    }

    /// Takes headers that came from `source`: the node itself, or somebody with a copy.
    pub(super) fn take(
        &mut self,
        now: Now,
        (pool, source): (&str, &str),
        told: &Headers,
    ) -> Result<Vec<Effect>, Error> {
        let log = usize::from(told.log);
        let mut effects = Vec::new();
        for (height, signed) in (told.first..).zip(&told.headers) {
            let Some(key) = self.key_of(pool, signed) else { return Ok(effects) };
            let Some(followed) = self.followed(pool, log) else { return Ok(effects) };
            let size = followed.copy.size();
            if height > size {
                break;
            }
            if height < size {
                match self.differs((pool, source, log), (height, signed), &key)? {
                    Differs::No => {}
                    Differs::NewEpoch(found) => effects.extend(found),
                    Differs::Parted(found) => return Ok([effects, found].concat()),
                }
                continue;
            }
            // A late one, of what an epoch took the place of.
            if read(signed).is_some_and(|header| header.epoch < followed.copy.epoch()) {
                continue;
            }
            match followed.copy.extend(signed, &key) {
                Ok(_) => {}
                Err(Error::Refused { fault: Fault::WrongParent, .. }) if signed.verify(&key).is_valid() => {
                    let epoch = read(signed).map_or(0, |header| header.epoch);
                    // It follows another block than the one held here.
                    effects.extend(self.search_below((pool, source, log), size, epoch));
                    return Ok(effects);
                }
                Err(Error::Refused { fault, .. }) => {
                    effects.extend(refused(pool, &format!("header {height}: {fault}")));
                    return Ok(effects);
                }
                Err(error) => return Err(error),
            }
        }
        effects.extend(self.reached(now, pool, log)?);
        Ok(effects)
    }

    /// A node's checkpoint, with what witnesses said of it.
    pub(super) fn checkpoint_told(
        &mut self,
        now: Now,
        (pool, number): (&str, u8),
        payload: &[u8],
    ) -> Result<Vec<Effect>, Error> {
        if payload.is_empty() {
            return Ok(Vec::new());
        }
        let Ok(whole) = WitnessedCheckpoint::from_bytes(payload) else {
            return Ok(refused(pool, "a checkpoint does not decode"));
        };
        let signed = whole.checkpoint;
        let Some(key) = self.key_of(pool, &signed) else {
            let slot = self.peers.get_mut(pool).and_then(|peer| peer.waiting.get_mut(usize::from(number)));
            if let Some(slot) = slot.filter(|_| payload.len() <= WAITING_BYTES_MAX) {
                *slot = Some(payload.to_vec());
            }
            return Ok(Vec::new());
        };
        let checkpoint = match verify_checkpoint(&signed, &key) {
            Ok(checkpoint) if checkpoint.node == pool && checkpoint.log.number() == number => checkpoint,
            Ok(_) => return Ok(refused(pool, "a checkpoint of another log")),
            Err(error) => return Ok(refused(pool, &error.to_string())),
        };
        if checkpoint.time.saturating_sub(now.real_ns) > AHEAD_NS {
            return Ok(refused(pool, "a checkpoint from the future"));
        }
        let log = usize::from(number);
        let Some(followed) = self.followed(pool, log) else { return Ok(Vec::new()) };
        if checkpoint.size <= followed.copy.size() {
            return self.compare_checkpoint(now, (pool, log), (&checkpoint, &signed));
        }
        let place = |one: &Checkpoint| (one.epoch, one.size);
        let is_newer = followed.target.as_ref().is_none_or(|(target, _)| place(target) < place(&checkpoint));
        if is_newer && checkpoint.epoch >= followed.copy.epoch() {
            followed.target = Some((checkpoint, signed));
        }
        self.ask_due(now, pool, log)
    }

    /// A checkpoint that lies within the copy.
    fn compare_checkpoint(
        &mut self,
        now: Now,
        (pool, log): (&str, usize),
        (checkpoint, signed): (&Checkpoint, &Signed),
    ) -> Result<Vec<Effect>, Error> {
        let Some(followed) = self.followed(pool, log) else { return Ok(Vec::new()) };
        match followed.copy.root_at(checkpoint.size)? {
            // Older than what is held.
            None => Ok(Vec::new()),
            Some(root) if root != checkpoint.root => self.other_root((pool, log), (checkpoint, signed), root),
            Some(_) if checkpoint.size < followed.cosigned() || checkpoint.epoch < followed.copy.epoch() => {
                Ok(Vec::new())
            }
            Some(_) => self.cosign(now, (pool, log), (checkpoint, signed)),
        }
    }

    /// Where the copy has come as far as the newest checkpoint, that is compared.
    fn reached(&mut self, now: Now, pool: &str, log: usize) -> Result<Vec<Effect>, Error> {
        let Some(followed) = self.followed(pool, log) else { return Ok(Vec::new()) };
        let size = followed.copy.size();
        followed.forget_left();
        let Some((checkpoint, signed)) = followed.target.take_if(|(target, _)| target.size <= size) else {
            return Ok(Vec::new());
        };
        // Whether a question was answered or the headers came by themselves: nothing is missing any more.
        followed.moved();
        self.compare_checkpoint(now, (pool, log), (&checkpoint, &signed))
    }

    /// Cosigns: first the promise is durable, then it is given.
    fn cosign(
        &mut self,
        now: Now,
        (pool, log): (&str, usize),
        (checkpoint, signed): (&Checkpoint, &Signed),
    ) -> Result<Vec<Effect>, Error> {
        let me = (self.me.cert_id, self.me.key.clone());
        let Some(peer) = self.peers.get_mut(pool).filter(|peer| !peer.has_forked) else { return Ok(Vec::new()) };
        let Some(followed) = peer.logs.get_mut(log) else { return Ok(Vec::new()) };
        let is_again = followed.copy.promised() == Some(signed);
        if is_again && now.mono_ns.saturating_sub(followed.said_ns) < AGAIN_NS {
            return Ok(Vec::new());
        }
        if !followed.copy.may_promise(checkpoint)? {
            return self.other_promise((pool, log), signed);
        }
        if !is_again {
            followed.copy.keep(Some(signed))?;
        }
        followed.said_ns = now.mono_ns;
        // A signer that is away signs the next one.
        let Ok(made) = Cosignature::make(signed.tbs(), (&me.0, &me.1), now.real_ns) else { return Ok(Vec::new()) };
        let place = (checkpoint.size, checkpoint.root);
        let word =
            Witnessing::new(pool, checkpoint.log.number(), place, made.to_bytes()?).and_then(|word| word.to_bytes());
        Ok(word.ok().map(|bytes| self.told(Told::Cosignature, bytes, false)).into_iter().collect())
    }

    /// Asks for what is missing up to the newest checkpoint, where no question is out or it is due again.
    pub(super) fn ask_due(&mut self, now: Now, pool: &str, log: usize) -> Result<Vec<Effect>, Error> {
        let Some(followed) = self.followed(pool, log) else { return Ok(Vec::new()) };
        followed.forget_left();
        let number = u8::try_from(log).unwrap_or(0);
        let mut effects = Vec::new();
        if let Some((whom, from, until)) = followed.search_due(now) {
            let ask = Ask::new(pool, number, from, until).to_bytes();
            effects.extend(ask.ok().map(|bytes| self.said(&whom, Said::Ask, bytes)));
        }
        let Some(followed) = self.followed(pool, log) else { return Ok(effects) };
        if followed.asked.is_some() && !followed.pause.is_over(now.mono_ns) {
            return Ok(effects);
        }
        let turn = usize::try_from(followed.tries.saturating_sub(TRIES_ALONE)).unwrap_or(0);
        let holder = self.peers.keys().nth(turn % self.peers.len().max(1)).cloned();
        let Some(followed) = self.followed(pool, log) else { return Ok(effects) };
        let size = followed.copy.size();
        let (from, until, whom) = match &followed.target {
            Some((target, _)) if target.size > size => {
                let is_late = size == 0 && target.size > LATE_BLOCKS;
                let until = if is_late { 0 } else { target.size.min(size.saturating_add(ASKED_MAX)) };
                let is_alone = followed.tries < TRIES_ALONE || is_late;
                let whom = holder.filter(|_| !is_alone).unwrap_or_else(|| pool.to_owned());
                (if is_late { 0 } else { size }, until, whom)
            }
            _ => {
                followed.asked = None;
                return Ok(effects);
            }
        };
        followed.tries = followed.tries.saturating_add(1);
        followed.pause.begin(now.mono_ns);
        followed.asked = Some(Asked { from, until, whom: whom.clone() });
        if followed.tries >= TRIES_ALARM && !followed.is_unserved {
            followed.is_unserved = true;
            let detail =
                format!("{pool}: blocks {from} to {until} of log {log} are not served, which its checkpoint covers");
            effects.push(Effect::Alarm { what: "peer does not serve", detail });
        }
        let ask = Ask::new(pool, number, from, until).to_bytes();
        effects.extend(ask.ok().map(|bytes| self.said(&whom, Said::Ask, bytes)));
        Ok(effects)
    }
}

/// What a header says, if it is one.
pub(super) fn read(signed: &Signed) -> Option<BlockHeader> {
    BlockHeader::from_bytes(signed.tbs()).ok()
}
