//! A site of nodes that follow each other, in one thread, with a broker that drops, doubles and reorders. The tests are `peers.rs` and
//! `word.rs`.

use hufu_gm::Signed;
use hufu_ledger::{
    BlockHeader, Log, TimeQuality, TimeState,
    block::{NO_PARENT, VERSION},
};
use hufu_trade::if2::Topic;

use super::{
    market::{Party, SECOND, START_NS, party},
    memory::{Disks, storages},
};
use crate::{
    clock::Now,
    peers::{Effect, Event, Me, Peers, Terms, Words},
    signer::NodeKey,
};

/// A node: who it is, its log, its peers.
pub(super) struct Node {
    pub(super) pool: String,
    pub(super) party: Party,
    pub(super) follow: Vec<String>,
    pub(super) disks: Disks,
    pub(super) peers: Peers,
    /// Hash of the newest block, blocks, epoch: of its trade log.
    pub(super) head: [u8; 32],
    pub(super) size: u64,
    pub(super) epoch: u64,
    pub(super) alarms: Vec<(&'static str, String)>,
    /// What it heard of its own logs last.
    pub(super) words: Option<Words>,
}

pub(super) fn terms(follow: &[String]) -> Terms {
    Terms { follow: follow.to_vec(), checkpoint_ns: 10 * SECOND, headers: 4096, confirm: 2, hear_ns: 5 * SECOND }
}

pub(super) fn me(pool: &str, party: &Party, root: &Party) -> Me {
    Me {
        pool: pool.to_owned(),
        key: NodeKey::File(party.key.clone()),
        cert_id: party.certificate.id(),
        certificates: vec![party.certificate.der().to_vec()],
        anchors: vec![root.certificate.clone()],
    }
}

impl Node {
    pub(super) fn open(pool: &str, scalar: u8, follow: &[&str], root: &Party) -> Self {
        let party = party(Some(root), pool, scalar);
        let follow: Vec<String> = follow.iter().map(|&name| name.to_owned()).collect();
        let disks = Disks::default();
        let peers = Peers::open(me(pool, &party, root), terms(&follow), &storages(&disks)).unwrap();
        let (pool, alarms) = (pool.to_owned(), Vec::new());
        Self { pool, party, follow, disks, peers, head: NO_PARENT, size: 0, epoch: 0, alarms, words: None }
    }

    pub(super) fn again(&mut self, root: &Party) {
        let disks = storages(&self.disks);
        self.peers = Peers::open(me(&self.pool, &self.party, root), terms(&self.follow), &disks).unwrap();
    }

    /// The header of the next block with this content.
    pub(super) fn header(&mut self, content: u8) -> Signed {
        self.header_over([content; 32], 1)
    }

    /// The same over the root of so many entries.
    pub(super) fn header_over(&mut self, root: [u8; 32], count: u32) -> Signed {
        let header = BlockHeader {
            version: VERSION,
            log: Log::Trade,
            node: self.pool.clone(),
            epoch: self.epoch,
            height: self.size,
            previous: self.head,
            time: START_NS + i64::try_from(self.size).unwrap(),
            quality: TimeQuality { state: TimeState::Relative, max_error_ns: None },
            root,
            count,
        };
        let signed = Signed::seal(header.to_bytes().unwrap(), &self.party.certificate.id(), &self.party.key).unwrap();
        (self.head, self.size) = (hufu_ledger::block_hash(signed.tbs()), self.size + 1);
        signed
    }

    pub(super) fn forks(&self) -> Vec<Vec<u8>> {
        self.disks.lock().unwrap().get("forks").unwrap().contents()
    }
}

/// A sequence from a seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Nodes at a broker; who hears whom is said by a function over their places.
pub(super) struct Site {
    pub(super) nodes: Vec<Node>,
    pub(super) hears: fn(usize, usize) -> bool,
    pub(super) queue: Vec<(usize, Topic, Vec<u8>)>,
    pub(super) retained: Vec<(usize, Topic, Vec<u8>)>,
    pub(super) now_ns: u64,
    pub(super) random: Random,
    /// In a hundred messages so many are dropped, and as many come twice.
    pub(super) loss: u64,
    pub(super) bytes: usize,
}

impl Site {
    pub(super) fn new(nodes: Vec<Node>, hears: fn(usize, usize) -> bool, (seed, loss): (u64, u64)) -> Self {
        let (queue, retained) = (Vec::new(), Vec::new());
        Self { nodes, hears, queue, retained, now_ns: SECOND, random: Random(seed), loss, bytes: 0 }
    }

    pub(super) fn now(&self) -> Now {
        let real_ns = START_NS + i64::try_from(self.now_ns).unwrap();
        Now { real_ns, boot_ns: self.now_ns, mono_ns: self.now_ns }
    }

    pub(super) fn event(&mut self, place: usize, event: Event) {
        let now = self.now();
        let effects = self.nodes[place].peers.handle(now, event).unwrap();
        for effect in effects {
            match effect {
                Effect::Alarm { what, detail } => self.nodes[place].alarms.push((what, detail)),
                Effect::Words(words) => self.nodes[place].words = Some(words),
                Effect::Publish { topic, payload, retain } => {
                    assert!(payload.len() <= 65_536, "{topic}");
                    self.bytes += payload.len();
                    if retain {
                        self.retained.retain(|(from, other, _)| *from != place || *other != topic);
                        self.retained.push((place, topic.clone(), payload.clone()));
                    }
                    self.queue.push((place, topic, payload));
                }
            }
        }
    }

    pub(super) fn link(&mut self, place: usize) {
        self.event(place, Event::Linked);
        for (from, topic, payload) in self.retained.clone() {
            self.deliver(place, from, &topic, &payload);
        }
    }

    pub(super) fn deliver(&mut self, place: usize, from: usize, topic: &Topic, payload: &[u8]) {
        if place == from || !(self.hears)(from, place) {
            return;
        }
        let node = &self.nodes[place];
        let is_heard = match topic {
            Topic::Ledger { pool, .. } => node.follow.contains(pool),
            Topic::LedgerTo { to, .. } => *to == node.pool,
            _ => false,
        };
        if is_heard {
            self.event(place, Event::Message { topic: topic.clone(), payload: payload.to_vec() });
        }
    }

    pub(super) fn write(&mut self, place: usize, content: u8) {
        let header = self.nodes[place].header(content);
        self.event(place, Event::Written { headers: vec![header], public: Vec::new() });
    }

    /// Time passes: everything that is on the way arrives, or is lost.
    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now_ns += SECOND;
            for place in 0..self.nodes.len() {
                self.event(place, Event::Tick);
            }
            for _ in 0..2000 {
                if self.queue.is_empty() {
                    break;
                }
                let at = usize::try_from(self.random.below(self.queue.len() as u64)).unwrap();
                let (from, topic, payload) = self.queue.swap_remove(at);
                let times = match self.random.below(100) {
                    roll if roll < self.loss => 0,
                    roll if roll < 2 * self.loss => 2,
                    _ => 1,
                };
                for place in 0..self.nodes.len() {
                    for _ in 0..times {
                        self.deliver(place, from, &topic, &payload);
                    }
                }
            }
        }
    }
}

pub(super) const NAMES: [&str; 3] = ["s1/a", "s1/b", "s1/c"];

pub(super) fn three(seed: u64, loss: u64) -> (Site, Party) {
    let root = party(None, "root", 1);
    let nodes = (10..).zip(NAMES).map(|(scalar, name)| Node::open(name, scalar, &NAMES, &root)).collect();
    let mut site = Site::new(nodes, |_, _| true, (seed, loss));
    for place in 0..3 {
        site.link(place);
    }
    (site, root)
}
