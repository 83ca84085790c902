//! Two pasts of a followed node: which block is the first that was signed twice, and what proves it. A new epoch after an honest loss is
//! none.

use hufu_gm::{Hash, PublicKey, Signed};
use hufu_ledger::{Checkpoint, Error, ForkProof};
use hufu_trade::if2::{Told, peers::Witnessing};

use super::{Effect, Peers, follow::read, refused};
use crate::clock::Now;

/// How many headers are asked for below a height at which two pasts have already parted.
const STEP: u64 = 64;

/// A header beside the one that is held at its height.
#[derive(Debug)]
pub(super) enum Differs {
    /// It is the same, or says nothing.
    No,
    /// The copy goes on with it, in a new epoch.
    NewEpoch(Vec<Effect>),
    /// It is of another past; what follows from that.
    Parted(Vec<Effect>),
}

impl Peers {
    /// A header below the end of the copy.
    pub(super) fn differs(
        &mut self,
        (pool, source, log): (&str, &str, usize),
        (height, signed): (u64, &Signed),
        key: &PublicKey,
    ) -> Result<Differs, Error> {
        let followed = self.peers.get_mut(pool).and_then(|peer| peer.logs.get_mut(log));
        let Some(followed) = followed else { return Ok(Differs::No) };
        let held = followed.copy.headers(height, 1)?;
        let Some(held) = held.first().cloned() else {
            // Nothing is there to compare it with.
            let is_later = read(signed).is_some_and(|header| {
                let is_here = header.height == height && header.node == pool && usize::from(header.log.number()) == log;
                is_here && header.epoch > followed.copy.epoch()
            });
            let is_its_own = is_later && signed.verify(key).is_valid();
            return Ok(if is_its_own { Differs::Parted(self.anew((pool, log))) } else { Differs::No });
        };
        if held.tbs() == signed.tbs() {
            return Ok(Differs::No);
        }
        let (Some(own), Some(other)) = (read(&held), read(signed)) else {
            return Ok(Differs::Parted(refused(pool, "not a header")));
        };
        let is_here = other.height == height && other.node == pool && other.log == own.log;
        if !is_here || !signed.verify(key).is_valid() {
            return Ok(Differs::Parted(refused(pool, "a header that is not its own, or of another place")));
        }
        if other.epoch < own.epoch || (other.epoch > own.epoch && other.epoch <= followed.copy.epoch()) {
            // What an epoch took the place of: known to be lost.
            return Ok(Differs::No);
        }
        let is_lowest = height == 0 || followed.copy.headers(height - 1, 1)?.is_empty();
        if other.previous != own.previous && (other.epoch > own.epoch || !is_lowest) {
            // They parted, or the epoch began, further below.
            return Ok(Differs::Parted(self.search_below((pool, source, log), height, other.epoch)));
        }
        if other.epoch > own.epoch {
            return self.new_epoch((pool, log), (height, signed), key);
        }
        followed.search = None;
        let chain = self.peers.get(pool).map(|peer| peer.chain.clone()).unwrap_or_default();
        self.convict(&ForkProof::of_headers(&held, signed, &chain)?).map(Differs::Parted)
    }

    /// A node opened an epoch at a height that is held here: what stood there it has lost. The copy goes on with the new one; where
    /// that had been cosigned, somebody must look at it.
    fn new_epoch(
        &mut self,
        (pool, log): (&str, usize),
        (height, signed): (u64, &Signed),
        key: &PublicKey,
    ) -> Result<Differs, Error> {
        let no = |why: &str| Ok(Differs::Parted(refused(pool, why)));
        let Some(followed) = self.peers.get_mut(pool).and_then(|peer| peer.logs.get_mut(log)) else {
            return Ok(Differs::No);
        };
        let below = followed.cosigned();
        let previous = read(signed).map(|header| header.previous).unwrap_or_default();
        if !followed.copy.go_back(height, previous) {
            return no("a new epoch further back than the copy reaches");
        }
        match followed.copy.extend(signed, key) {
            Ok(_) => {}
            Err(Error::Refused { fault, .. }) => return no(&format!("header {height}: {fault}")),
            Err(error) => return Err(error),
        }
        followed.search = None;
        let detail =
            format!("{pool}: log {log} goes on from block {height} in a new epoch; {below} blocks had been cosigned");
        Ok(Differs::NewEpoch(vec![Effect::Alarm { what: "peer opened an epoch", detail }]))
    }

    /// Asks for headers below a height, of whoever shows the other past, which is of this epoch.
    pub(super) fn search_below(
        &mut self,
        (pool, source, log): (&str, &str, usize),
        height: u64,
        epoch: u64,
    ) -> Vec<Effect> {
        let Some(followed) = self.peers.get_mut(pool).and_then(|peer| peer.logs.get_mut(log)) else {
            return Vec::new();
        };
        let from = height.saturating_sub(STEP).max(followed.copy.oldest());
        if from < height {
            followed.search(from, height, source);
            return Vec::new();
        }
        if epoch > followed.copy.epoch() {
            return self.anew((pool, log));
        }
        refused(pool, "another past than the one held, further back than the copy reaches")
    }

    /// A node went on in a new epoch from further back than the headers here reach: they are fetched anew. What was promised stays, and is
    /// held against what comes.
    fn anew(&mut self, (pool, log): (&str, usize)) -> Vec<Effect> {
        let followed = self.peers.get_mut(pool).and_then(|peer| peer.logs.get_mut(log));
        let Some(followed) = followed.filter(|followed| followed.copy.size() > 0) else { return Vec::new() };
        let below = followed.cosigned();
        followed.copy.empty();
        followed.search = None;
        followed.moved();
        let detail = format!(
            "{pool}: log {log} goes on in a new epoch from further back than the headers held here, which are fetched anew; {below} blocks had been cosigned"
        );
        vec![Effect::Alarm { what: "peer opened an epoch", detail }]
    }

    /// A checkpoint says another root than the copy has at its size.
    pub(super) fn other_root(
        &mut self,
        (pool, log): (&str, usize),
        (checkpoint, signed): (&Checkpoint, &Signed),
        root: Hash,
    ) -> Result<Vec<Effect>, Error> {
        let Some(peer) = self.peers.get(pool) else { return Ok(Vec::new()) };
        let Some(followed) = peer.logs.get(log) else { return Ok(Vec::new()) };
        if checkpoint.epoch < followed.copy.epoch() {
            return Ok(Vec::new());
        }
        let standing = followed.copy.standing().zip(followed.copy.promised().cloned());
        if checkpoint.epoch > followed.copy.epoch()
            && let Some(followed) = self.peers.get_mut(pool).and_then(|peer| peer.logs.get_mut(log))
        {
            // Of an epoch whose first block has not come yet; once the copy is there, it is compared again.
            followed.target = Some((checkpoint.clone(), signed.clone()));
        }
        // Of two headers the height is known; they are asked for first, and the checkpoints convict where they do not come.
        let mut effects = self.search_below((pool, pool, log), checkpoint.size, checkpoint.epoch);
        if let Some((standing, other)) = standing.filter(|(standing, _)| standing.size >= checkpoint.size)
            && let Some(peer) = self.peers.get(pool)
            && let Some(followed) = peer.logs.get(log)
            && let Some(proof) = followed.copy.consistency(checkpoint.size, standing.size)?
        {
            let made = ForkProof::of_checkpoints((signed, &other), (root, &proof), &peer.chain)?;
            effects.extend(self.convict(&made)?);
        }
        Ok(effects)
    }

    /// A checkpoint that the copy holds, and that cannot stand beside the one that was promised.
    pub(super) fn other_promise(&mut self, (pool, log): (&str, usize), signed: &Signed) -> Result<Vec<Effect>, Error> {
        let Some(peer) = self.peers.get(pool) else { return Ok(Vec::new()) };
        let Some(followed) = peer.logs.get(log) else { return Ok(Vec::new()) };
        let Some((standing, promised)) = followed.copy.standing().zip(followed.copy.promised()) else {
            return Ok(Vec::new());
        };
        let Ok(checkpoint) = Checkpoint::from_bytes(signed.tbs()) else { return Ok(Vec::new()) };
        let root = followed.copy.root_at(standing.size)?;
        let proof = followed.copy.consistency(standing.size, checkpoint.size)?;
        let Some((root, proof)) = root.zip(proof).filter(|_| checkpoint.epoch == standing.epoch) else {
            return Ok(Vec::new());
        };
        let made = ForkProof::of_checkpoints((promised, signed), (root, &proof), &peer.chain)?;
        self.convict(&made)
    }

    /// What another witness saw of a node: another root than the copy's is looked into with its help.
    pub(super) fn compare(&mut self, now: Now, witness: &str, word: &Witnessing) -> Result<Vec<Effect>, Error> {
        let log = usize::from(word.log);
        let Some(peer) = self.peers.get(&word.node) else { return Ok(Vec::new()) };
        let Some(followed) = peer.logs.get(log) else { return Ok(Vec::new()) };
        match followed.copy.root_at(word.size)? {
            Some(root) if root != word.root.0 && followed.search.is_none() => {
                let (pool, size) = (word.node.clone(), word.size);
                let effects = self.search_below((&pool, witness, log), size, 0);
                Ok([effects, self.ask_due(now, &pool, log)?].concat())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Keeps, says and spreads a proof that holds.
    pub(super) fn convict(&mut self, proof: &ForkProof) -> Result<Vec<Effect>, Error> {
        let key_of = |id: &Hash| self.peers.get(&proof.node).and_then(|peer| peer.keys.get(id).cloned());
        match proof.judge(&key_of) {
            Ok(Some(parted)) => {
                let bytes = proof.to_bytes()?;
                let Some(number) = self.forks.add(proof, &bytes)? else { return Ok(Vec::new()) };
                if let Some(peer) = self.peers.get_mut(&proof.node) {
                    peer.has_forked = true;
                }
                let detail = format!("{}: log {}, {parted:?}; {}", proof.node, proof.log, self.forks.path(&number));
                Ok(vec![Effect::Alarm { what: "peer forked", detail }, self.told(Told::Fork(number), bytes, true)])
            }
            Ok(None) => Ok(Vec::new()),
            Err(error) => Ok(refused(&proof.node, &error.to_string())),
        }
    }
}
