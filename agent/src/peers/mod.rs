//! Nodes that keep each other honest: this one follows the logs of others, keeps copies of their headers, cosigns checkpoints that continue
//! what it holds, turns two pasts into a fork proof, and lets others do the same to it (docs/witnesses.md). No network and no clock here:
//! messages in, messages out, and files through the ledger's storage. `thread.rs` runs it.

mod config;
mod follow;
mod forks;
mod own;
mod public;
mod queue;
mod search;
mod served;
mod shown;
pub(crate) mod thread;
mod word;

use std::{collections::BTreeMap, sync::Arc};

use hufu_gm::{Certificate, Hash, PublicKey, Signed, Usage, verify_chain};
use hufu_ledger::{Error, Log, LogCopy, WitnessedCheckpoint, storage::Storage};
use hufu_trade::{
    if2::{
        MESSAGE_BYTES_MAX, Said, Told, Topic,
        peers::{Headers, Witnessing},
        public::PublicRecord,
    },
    party::is_named,
};

use crate::{clock::Now, signer::NodeKey};
pub(crate) use config::Raw;
use follow::{Followed, read as read_header};
use forks::Forks;
use own::Own;
pub(crate) use own::{certificates_of, file_of};
use public::Records;
pub(crate) use public::{read as public_records, record as public_record, scored};
pub(crate) use queue::{Inbox, ToPeers, queue};
pub(crate) use shown::{Cosigned, PeerShown, Shown};
use word::Hearing;
pub(crate) use word::{Word, Words};

/// Certificates of one node's chain at most.
const CHAIN_MAX: usize = 8;
/// Messages of one node that are looked at in a second; the others are dropped: what matters comes again.
const MESSAGES_A_SECOND: u32 = 64;
/// In the time of so many checkpoints the certificates, the newest checkpoints, and one fork proof of each node that forked are told again:
/// a follower that missed them can do nothing with the rest.
const INTRODUCTION_CHECKPOINTS: u64 = 10;
const SECOND_NS: u64 = 1_000_000_000;

/// How this node takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Nodes whose logs are followed, `{site}/{node}`.
    pub(crate) follow: Vec<String>,
    /// Between two checkpoints of a log that grew, ns.
    pub(crate) checkpoint_ns: u64,
    /// Headers kept of each log.
    pub(crate) headers: u64,
    /// Witnesses that must have cosigned before an entry is confirmed; the platform's receipt counts as one.
    pub(crate) confirm: u32,
    /// How long the first signature after a start waits for the word of the followed nodes, ns.
    pub(crate) hear_ns: u64,
}

/// Who this node is among its peers.
#[derive(Clone, Debug)]
pub(crate) struct Me {
    /// `{site}/{node}`.
    pub(crate) pool: String,
    /// Who signs.
    pub(crate) key: NodeKey,
    /// Id of the certificate.
    pub(crate) cert_id: Hash,
    /// The chain, DER, leaf first.
    pub(crate) certificates: Vec<Vec<u8>>,
    /// Who vouches for nodes.
    pub(crate) anchors: Vec<Certificate>,
}

/// What reaches the peers.
#[derive(Debug)]
pub(crate) enum Event {
    /// The broker took our subscriptions.
    Linked,
    /// The link is gone.
    Unlinked,
    /// Time passed.
    Tick,
    /// Blocks were appended to this node's ledger: their signed headers, and what everybody may know of their entries.
    Written { headers: Vec<Signed>, public: Vec<PublicRecord> },
    /// Blocks came back into this node's ledger, or an epoch took the place of some.
    Restored,
    /// This node signs with another key from now on.
    Rotated { key: NodeKey, cert_id: Hash, certificates: Vec<Vec<u8>> },
    /// A message of the broker.
    Message { topic: Topic, payload: Vec<u8> },
}

/// What the peers want done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Publish.
    Publish { topic: Topic, payload: Vec<u8>, retain: bool },
    /// Something a person must know.
    Alarm { what: &'static str, detail: String },
    /// How far this node signed its own logs, as peers and copies know: the writer must not sign below.
    Words(Words),
}

/// A directory by the name of what lies in it.
pub(crate) type Storages = Arc<dyn Fn(&str) -> Arc<dyn Storage> + Send + Sync>;

/// The directory of what is held of a node.
pub(crate) fn dir_name(pool: &str) -> String {
    pool.replace('/', ".")
}

/// A node that is followed.
struct Peer {
    /// Keys of its certificates that were found good, by certificate id.
    keys: BTreeMap<Hash, PublicKey>,
    /// Its chain as it told it last, DER, leaf first.
    chain: Vec<Vec<u8>>,
    logs: [Followed; 2],
    has_forked: bool,
    /// What it makes public.
    public: Records,
    /// Checkpoints that came before their signer's certificate: a broker delivers what is retained in any order.
    waiting: [Option<Vec<u8>>; 2],
}

/// A count in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    since_ns: u64,
    count: u32,
}

impl Rate {
    fn allows(&mut self, mono_ns: u64, most: u32) -> bool {
        if mono_ns.saturating_sub(self.since_ns) >= SECOND_NS {
            *self = Self { since_ns: mono_ns, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= most
    }
}

/// The whole of it.
pub(crate) struct Peers {
    me: Me,
    terms: Terms,
    own: Own,
    peers: BTreeMap<String, Peer>,
    forks: Forks,
    is_linked: bool,
    /// When the certificates were told last, CLOCK_MONOTONIC ns.
    introduced_ns: u64,
    rates: BTreeMap<String, Rate>,
    answers: Rate,
    hearing: Hearing,
    /// What this node makes public.
    public: Records,
}

fn log_of(number: u8) -> Log {
    if number == 1 { Log::Finance } else { Log::Trade }
}

impl Peers {
    /// Opens what is held of all logs.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(crate) fn open(me: Me, terms: Terms, storages: &Storages) -> Result<Self, Error> {
        let directory = |pool: &str| storages(&dir_name(pool));
        let copies = |pool: &str, room: u64| -> Result<[LogCopy; 2], Error> {
            let one = |log| LogCopy::open(directory(pool), pool, log, room);
            Ok([one(Log::Trade)?, one(Log::Finance)?])
        };
        let mut peers = BTreeMap::new();
        for pool in terms.follow.iter().filter(|pool| **pool != me.pool) {
            let logs = copies(pool, terms.headers)?.map(Followed::new);
            let waiting = [None, None];
            let public = Records::open(directory(pool));
            let peer = Peer { keys: BTreeMap::new(), chain: Vec::new(), logs, has_forked: false, public, waiting };
            peers.insert(pool.clone(), peer);
        }
        // Of its own log a node gives out all it can.
        let own = Own::open(copies(&me.pool, u64::from(u32::MAX))?, directory(&me.pool))?;
        let forks = Forks::open(storages("forks"))?;
        for (node, ..) in forks.shown() {
            if let Some(peer) = peers.get_mut(&node) {
                peer.has_forked = true;
            }
        }
        let (rates, answers) = (BTreeMap::new(), Rate::default());
        let hearing = Hearing::of(peers.keys());
        let public = Records::open(directory(&me.pool));
        Ok(Self { me, terms, own, peers, forks, is_linked: false, introduced_ns: 0, rates, answers, hearing, public })
    }

    /// This node's own copies: sizes of its logs as they are known here.
    pub(crate) fn own_sizes(&self) -> [u64; 2] {
        self.own.sizes()
    }

    /// How everything stands.
    pub(crate) fn shown(&self) -> Shown {
        let peers = self.peers.iter().map(|(node, peer)| PeerShown {
            node: node.clone(),
            trade: peer.logs[0].copy.size().to_string(),
            finance: peer.logs[1].copy.size().to_string(),
            cosigned: [0, 1].map(|log: usize| peer.logs[log].cosigned().to_string()),
            is_known: !peer.keys.is_empty(),
            has_forked: peer.has_forked,
            deals: peer.public.all().iter().filter(|one| one.deal.is_some()).count(),
            scores: peer.public.all().iter().filter(|one| one.score.is_some()).count(),
        });
        let names = |id: &hufu_ledger::witness::Cosignature| {
            let named = self.peers.iter().find(|(_, peer)| peer.keys.keys().any(|cert_id| id.names(cert_id)));
            named.map(|(name, _)| name.clone())
        };
        let (cosigned, forks) = (self.own.cosigned(&names), self.forks.shown());
        Shown { peers: peers.collect(), cosigned, forks, confirm: self.terms.confirm }
    }

    /// Deals with an event.
    ///
    /// # Errors
    /// [`Error`] of the disk: what is held is not known any more, and nothing more may be cosigned.
    pub(crate) fn handle(&mut self, now: Now, event: Event) -> Result<Vec<Effect>, Error> {
        match event {
            Event::Linked => {
                self.is_linked = true;
                Ok(self.introduce())
            }
            Event::Unlinked => {
                self.is_linked = false;
                Ok(Vec::new())
            }
            Event::Tick => self.tick(now),
            Event::Written { headers, public } => self.written(&headers, &public),
            Event::Restored => {
                self.own.is_behind = true;
                Ok(Vec::new())
            }
            Event::Rotated { key, cert_id, certificates } => {
                (self.me.key, self.me.cert_id, self.me.certificates) = (key, cert_id, certificates);
                Ok(self.certificates_told().into_iter().collect())
            }
            Event::Message { topic, payload } => self.message(now, topic, &payload),
        }
    }

    fn told(&self, told: Told, payload: Vec<u8>, retain: bool) -> Effect {
        Effect::Publish { topic: Topic::Ledger { pool: self.me.pool.clone(), told }, payload, retain }
    }

    fn said(&self, to: &str, said: Said, payload: Vec<u8>) -> Effect {
        let topic = Topic::LedgerTo { pool: self.me.pool.clone(), to: to.to_owned(), said };
        Effect::Publish { topic, payload, retain: false }
    }

    /// What every new link is told: the broker may have forgotten it.
    fn introduce(&self) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.certificates_told().into_iter().collect();
        effects.extend(self.checkpoints_told());
        effects.extend(self.forks_told(self.forks.all()));
        effects
    }

    /// The newest checkpoint of each log.
    fn checkpoints_told(&self) -> Vec<Effect> {
        let newest = (0_u8..).zip(self.own.newest());
        let bytes = newest.filter_map(|(log, whole)| Some((log, whole?.to_bytes().ok()?)));
        bytes.map(|(log, bytes)| self.told(Told::Checkpoint(log), bytes, true)).collect()
    }

    fn forks_told<'a>(&self, proofs: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<Effect> {
        proofs.map(|(number, bytes)| self.told(Told::Fork(number.to_owned()), bytes.to_vec(), true)).collect()
    }

    fn certificates_told(&self) -> Option<Effect> {
        let chain = hufu_trade::if2::peers::chain_to_bytes(&self.me.certificates).ok()?;
        Some(self.told(Told::Certificates, chain, true))
    }

    fn tick(&mut self, now: Now) -> Result<Vec<Effect>, Error> {
        let mut effects = self.hear(now);
        if !self.is_linked {
            return Ok(effects);
        }
        let every_ns = self.terms.checkpoint_ns.saturating_mul(INTRODUCTION_CHECKPOINTS);
        if now.mono_ns.saturating_sub(self.introduced_ns) >= every_ns {
            self.introduced_ns = now.mono_ns;
            effects.extend(self.certificates_told());
            effects.extend(self.checkpoints_told());
            effects.extend(self.forks_told(self.forks.of_each_node()));
            self.public.is_untold = !self.public.all().is_empty();
        }
        for (log, whole) in self.own.checkpoints(now, self.terms.checkpoint_ns, &self.me)? {
            effects.push(self.told(Told::Checkpoint(log), whole.to_bytes()?, true));
        }
        effects.extend(self.public_told(now));
        let pools: Vec<String> = self.peers.keys().cloned().collect();
        for pool in &pools {
            effects.extend(self.settle_public(pool)?);
            for log in [0, 1] {
                effects.extend(self.ask_due(now, pool, log)?);
            }
        }
        Ok(effects)
    }

    fn written(&mut self, headers: &[Signed], public: &[PublicRecord]) -> Result<Vec<Effect>, Error> {
        let mut effects = Vec::new();
        for signed in headers {
            let Some((log, height)) = self.own.take(signed)? else { continue };
            if log == 0 {
                let here: Vec<PublicRecord> = public.iter().filter(|one| one.height == height).cloned().collect();
                self.public.take((height, height + 1), &here)?;
            }
            if self.is_linked {
                let message = Headers::new(&self.me.pool, log, height, vec![signed.clone()]);
                effects.extend(message.to_bytes().ok().map(|bytes| self.told(Told::Headers, bytes, false)));
            }
        }
        Ok(effects)
    }

    /// How far the ledger goes, as its reader found it: what copies hold beyond was lost.
    pub(crate) fn ledger_holds(&mut self, held: [Word; 2]) {
        self.own.ledger_holds(held);
    }

    /// Whether something that was written did not reach the copies of this node's own logs.
    pub(crate) fn is_behind(&self) -> bool {
        self.own.is_behind
    }

    /// Blocks of the trade log that were looked through for what is public.
    pub(crate) fn public_seen(&self) -> u64 {
        self.public.seen()
    }

    /// Takes what is public of the blocks `from` to `until` of this node's trade log, as its ledger holds them.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(crate) fn public_found(&mut self, range: (u64, u64), records: &[PublicRecord]) -> Result<(), Error> {
        self.public.take(range, records)
    }

    /// It was read.
    pub(crate) fn caught_up(&mut self) {
        self.own.is_behind = false;
    }

    /// Whether this block of this node's ledger is known here.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(crate) fn has_own(&self, header: &Signed) -> Result<bool, Error> {
        self.own.has(header)
    }

    /// Takes what this node's ledger holds above what is known of it here.
    ///
    /// # Errors
    /// [`Error`] of the disk.
    pub(crate) fn catch_up(&mut self, header: &Signed) -> Result<(), Error> {
        self.own.take(header).map(|_| ())
    }

    fn message(&mut self, now: Now, topic: Topic, payload: &[u8]) -> Result<Vec<Effect>, Error> {
        let (Topic::Ledger { pool, .. } | Topic::LedgerTo { pool, .. }) = &topic else { return Ok(Vec::new()) };
        let is_known = self.peers.contains_key(pool);
        // Strangers share one account: whoever may write to the broker has as many names as he likes.
        let is_own = *pool == self.me.pool;
        let account = if is_known || is_own { pool.clone() } else { String::new() };
        if payload.len() > MESSAGE_BYTES_MAX
            || !self.rates.entry(account).or_default().allows(now.mono_ns, MESSAGES_A_SECOND)
        {
            return Ok(Vec::new());
        }
        if is_own {
            return Ok(match topic {
                Topic::Ledger { told: Told::Checkpoint(log), .. } => self.own_retained(log, payload),
                _ => Vec::new(),
            });
        }
        match topic {
            Topic::Ledger { pool, told } => match told {
                Told::Fork(_) => self.fork_told(payload),
                _ if !is_known => Ok(Vec::new()),
                Told::Headers => self.headers_told(now, &pool, payload),
                Told::Checkpoint(log) => self.checkpoint_told(now, (&pool, log), payload),
                Told::Certificates => self.introduced(now, &pool, payload),
                Told::Cosignature => self.cosignature_told(now, &pool, payload),
                Told::Public => self.public_heard(&pool, payload),
            },
            Topic::LedgerTo { pool, to, said } if to == self.me.pool => match said {
                Said::Ask => self.asked(now, &pool, payload),
                Said::Answer if is_known => self.answered(now, &pool, payload),
                Said::Answer => Ok(Vec::new()),
            },
            _ => Ok(Vec::new()),
        }
    }

    /// A followed node shows its certificates: the first must be trusted and name it.
    fn introduced(&mut self, now: Now, pool: &str, payload: &[u8]) -> Result<Vec<Effect>, Error> {
        let chain = match hufu_trade::if2::peers::chain_from_bytes(payload) {
            Ok(chain) if chain.len() <= CHAIN_MAX => chain,
            _ => return Ok(refused(pool, "its certificates do not decode")),
        };
        let read: Option<Vec<Certificate>> = chain.iter().map(|der| Certificate::from_der(der).ok()).collect();
        let Some(read) = read else { return Ok(refused(pool, "its certificates do not decode")) };
        let Some((leaf, rest)) = read.split_first() else { return Ok(refused(pool, "no certificate")) };
        if !is_named(leaf, pool) {
            return Ok(refused(pool, "its certificate names another"));
        }
        if let Err(error) = verify_chain(leaf, rest, &self.me.anchors, &[], now.real_ns, Usage::Signing) {
            return Ok(refused(pool, &error.to_string()));
        }
        let Some(peer) = self.peers.get_mut(pool) else { return Ok(Vec::new()) };
        peer.keys.insert(leaf.id(), leaf.public_key().clone());
        peer.chain = chain;
        let waiting = std::mem::take(&mut peer.waiting);
        let mut effects = Vec::new();
        for (log, payload) in (0_u8..).zip(waiting) {
            if let Some(payload) = payload {
                effects.extend(self.checkpoint_told(now, (pool, log), &payload)?);
            }
        }
        Ok(effects)
    }

    /// A witness's word: about a checkpoint of this node, or of another that both follow.
    fn cosignature_told(&mut self, now: Now, pool: &str, payload: &[u8]) -> Result<Vec<Effect>, Error> {
        let Ok(word) = Witnessing::from_bytes(payload) else {
            return Ok(refused(pool, "a cosignature does not decode"));
        };
        if word.node == self.me.pool {
            let Some(peer) = self.peers.get(pool) else { return Ok(Vec::new()) };
            let keys: Vec<(Hash, PublicKey)> = peer.keys.iter().map(|(id, key)| (*id, key.clone())).collect();
            let peers = &self.peers;
            let chains = |whole: &WitnessedCheckpoint| {
                let is_witness =
                    |peer: &&Peer| peer.keys.keys().any(|id| whole.cosignatures.iter().any(|one| one.names(id)));
                peers.values().filter(is_witness).flat_map(|peer| peer.chain.iter().cloned()).collect()
            };
            let added = self.own.cosigned_by(&word, &keys, &chains)?;
            return Ok(match added {
                Ok(Some(whole)) => vec![self.told(Told::Checkpoint(word.log), whole.to_bytes()?, true)],
                Ok(None) => Vec::new(),
                Err(why) => refused(pool, why),
            });
        }
        // What another witness saw of a node must be what is held of it here.
        self.compare(now, pool, &word)
    }
}

/// A followed node said something that is not what it must be.
fn refused(pool: &str, why: &str) -> Vec<Effect> {
    vec![Effect::Alarm { what: "peer refused", detail: format!("{pool}: {why}") }]
}

/// A checkpoint with its cosignatures, by the log's number.
pub(crate) type Numbered = (u8, WitnessedCheckpoint);
