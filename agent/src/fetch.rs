//! A node compared with what the platform acknowledged of it, before it signs anything (ADR 0012): what to ask, what an answer means,
//! and which blocks are its own and may come back. Storing them is `whole.rs`.

use std::collections::BTreeMap;

use hufu_gm::{Hash, Usage, cert::Certificate, sm2::PublicKey, verify_chain};
use hufu_ledger::{
    Block, Entry, Expected, KeptBlock, Ledger, Log,
    block::NO_PARENT,
    merkle::{self, Frontier},
    verify_block,
};
use hufu_trade::{
    contract_of, decode,
    entry::{Certificates, EntryKind, SetAside, key_of},
    if2::{Answer, Blocks, Held, PLATFORM},
    party::is_named,
    rotation::{self, SignedRotation},
};

use crate::{pause::Pause, personal::is_personal};

/// What is known of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The platform has not answered.
    #[default]
    Unknown,
    /// Everything that the platform acknowledged is here; the largest size that it gave a receipt for.
    Whole(u64),
    /// The platform holds this many blocks, more than there are here.
    Missing(u64),
    /// The platform gave a receipt over this many blocks and holds no more of them than this disk: its answer, byte for byte.
    Lost(u64, Vec<u8>),
}

/// One log.
#[derive(Debug, Default)]
struct Side {
    standing: Standing,
    /// Id of the question that waits for its answer.
    asked: Option<String>,
    /// The answer that announced blocks.
    announced: Option<Held>,
    /// When to ask; begins anew with every step forward.
    pause: Pause,
}

/// The comparison of both logs: first trade, then finance.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    sides: [Side; 2],
}

/// Why what came was not used, for an alarm.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{0}")]
    Wrong(String),
    #[error(transparent)]
    Ledger(#[from] hufu_ledger::Error),
}

fn wrong<T>(why: impl Into<String>) -> Result<T, Unusable> {
    Err(Unusable::Wrong(why.into()))
}

impl Comparison {
    /// How a log stands.
    pub(crate) fn standing(&self, log: Log) -> &Standing {
        &self.side(log).standing
    }

    fn side(&self, log: Log) -> &Side {
        let [trade, finance] = &self.sides;
        if log == Log::Trade { trade } else { finance }
    }

    fn side_mut(&mut self, log: Log) -> &mut Side {
        let [trade, finance] = &mut self.sides;
        if log == Log::Trade { trade } else { finance }
    }

    /// The log that is still to be compared or fetched.
    pub(crate) fn open(&self) -> Option<Log> {
        let is_open = |log: &Log| matches!(self.standing(*log), Standing::Unknown | Standing::Missing(_));
        Log::ALL.into_iter().find(is_open)
    }

    /// Whether this disk is known to lack something that was acknowledged.
    pub(crate) fn is_behind(&self) -> bool {
        self.sides.iter().any(|side| matches!(side.standing, Standing::Missing(_) | Standing::Lost(..)))
    }

    /// A new link: what was asked may be lost.
    pub(crate) fn relinked(&mut self) {
        for side in &mut self.sides {
            (side.asked, side.announced, side.pause) = (None, None, Pause::default());
        }
    }

    /// The log to ask about at `mono_ns`; the caller asks at once and says under which id.
    pub(crate) fn due(&mut self, mono_ns: u64) -> Option<Log> {
        let log = self.open()?;
        let side = self.side_mut(log);
        if !side.pause.is_over(mono_ns) {
            return None;
        }
        side.pause.begin(mono_ns);
        (side.asked, side.announced) = (None, None);
        Some(log)
    }

    /// Under which id it was asked.
    pub(crate) fn asked(&mut self, log: Log, id: String) {
        self.side_mut(log).asked = Some(id);
    }

    /// Takes the platform's answer, its signature already verified; `re` is the question that it names. An answer to another
    /// question is an old one, and says nothing.
    ///
    /// # Errors
    /// [`Unusable`]: the question is asked again after its pause.
    pub(crate) fn answered(
        &mut self,
        ledger: &Ledger,
        (re, answer): (Option<&str>, Answer<Held>),
        received: &[u8],
    ) -> Result<(), Unusable> {
        let asked = Log::ALL.into_iter().find(|log| re.is_some() && self.side(*log).asked.as_deref() == re);
        let Some(log) = asked else { return Ok(()) };
        let side = self.side_mut(log);
        side.asked = None;
        let held = match answer {
            Answer::Ok(held) => held,
            Answer::Error(problem) => return wrong(format!("{log}: {}: {}", problem.code, problem.remedy.en)),
        };
        let own = ledger.size(log);
        if held.log != log.number() || held.from != own {
            return wrong(format!("{log}: asked from height {own}, answered log {} from {}", held.log, held.from));
        }
        if held.size <= own {
            if ledger.root_at(log, held.size)? != held.root.0 {
                if held.receipted <= own {
                    // No height that it holds is signed again here; that the logs have parted it says with every receipt.
                    side.standing = Standing::Whole(held.receipted);
                }
                return wrong(format!("{log}: the platform has another root over its {} blocks", held.size));
            }
            side.standing = if held.receipted > own {
                Standing::Lost(held.receipted, received.to_vec())
            } else {
                Standing::Whole(held.receipted)
            };
            return Ok(());
        }
        side.standing = Standing::Missing(held.size);
        match (held.next, held.next_root) {
            (Some(next), Some(_)) if (own.saturating_add(1)..=held.size).contains(&next) => {
                side.announced = Some(held);
                Ok(())
            }
            _ => wrong(format!("{log}: it holds {} blocks and gives none from {own} on", held.size)),
        }
    }

    /// Takes the blocks that an answer announced: those that may be stored, all or none. Blocks that nobody announced are late
    /// ones, and give nothing.
    ///
    /// # Errors
    /// [`Unusable`]: they are asked for again after a pause.
    pub(crate) fn arrived(
        &mut self,
        ledger: &Ledger,
        trust: &mut Trust,
        message: &Blocks,
    ) -> Result<Vec<KeptBlock>, Unusable> {
        let Some(log) = Log::from_number(message.log) else { return wrong(format!("log {}", message.log)) };
        let Some(held) = self.side_mut(log).announced.take() else { return Ok(Vec::new()) };
        let (next, root) = (held.next.unwrap_or(0), held.next_root.map(|root| root.0));
        let own = ledger.size(log);
        let count = u64::try_from(message.blocks.len()).unwrap_or(u64::MAX);
        if message.version != 1 || message.first != own || count != next.saturating_sub(own) {
            let first = message.first;
            return wrong(format!("{log}: {count} blocks from {first}, announced were those from {own} to {next}"));
        }
        let blocks: Vec<&[u8]> = message.blocks.iter().map(|bytes| bytes.as_bytes()).collect();
        let (kept, frontier) = continued(ledger, trust, log, &blocks)?;
        if Some(frontier.root()) != root {
            return wrong(format!("{log}: the blocks up to {next} have another root than the platform signed"));
        }
        let side = self.side_mut(log);
        // A step forward: the next question goes out at once.
        side.pause = Pause::default();
        Ok(kept)
    }
}

/// These blocks of a log as they may be stored behind what the ledger holds, each verified, and the tree with them.
///
/// # Errors
/// [`Unusable`] for the first that is not this node's, or does not continue the log.
pub(crate) fn continued(
    ledger: &Ledger,
    trust: &mut Trust,
    log: Log,
    blocks: &[&[u8]],
) -> Result<(Vec<KeptBlock>, Frontier), Unusable> {
    let head = ledger.head(log);
    let (mut previous, mut epoch) = head.map_or((NO_PARENT, 0), |head| (head.hash, head.header.epoch));
    let (mut frontier, mut kept) = (ledger.frontier(log), Vec::new());
    // The certificate under which a block is signed may stand in a later one: that of the first key of a node that has changed
    // it since. An anchor vouches for each, and the platform's root for all blocks together.
    for bytes in blocks {
        trust.learn(&Block::from_bytes(bytes)?);
    }
    for (height, bytes) in (ledger.size(log)..).zip(blocks) {
        let block = Block::from_bytes(bytes)?;
        let id = block.signed().cert_id();
        let Some(key) = trust.keys.get(&id) else {
            return wrong(format!("{log} height {height} is signed under a certificate that is not this node's"));
        };
        let expected = Expected { log, node: ledger.node(), height, previous };
        let block = verify_block(bytes, key, &expected)?;
        if block.header().epoch < epoch {
            return wrong(format!("{log} height {height}: the epoch falls"));
        }
        (previous, epoch) = (block.hash(), block.header().epoch);
        frontier.push(merkle::leaf(&previous));
        kept.push(kept_block(&block, bytes)?);
    }
    Ok((kept, frontier))
}

/// A block with the keys under which this node indexes and seals its entries.
fn kept_block(block: &Block, bytes: &[u8]) -> Result<KeptBlock, Unusable> {
    let (mut keys, mut sealed) = (Vec::new(), Vec::new());
    for bytes in block.entries() {
        let entry = Entry::from_bytes(bytes)?;
        let kind = EntryKind::from_number(entry.kind);
        let contract = kind.and_then(|kind| contract_of(kind, &entry.body));
        let tail = || decode::<SetAside>(&entry.body, "SetAside").ok().map(|tail| tail.sm3.0);
        let own = match kind {
            Some(EntryKind::SetAside) => tail(),
            Some(EntryKind::KeyRotation) => Some(rotation::KEY),
            _ => None,
        };
        keys.push(own.unwrap_or_else(|| key_of(contract)));
        sealed.push(contract.is_some() && kind.is_some_and(is_personal));
    }
    Ok(KeptBlock { bytes: bytes.to_vec(), keys, sealed })
}

/// The certificates of this node whose signatures are its own: the one it signs with, and those its log introduces, verified up
/// to an anchor at the time of the block that they stand in.
#[derive(Debug)]
pub(crate) struct Trust {
    pool: String,
    anchors: Vec<Certificate>,
    keys: BTreeMap<Hash, PublicKey>,
}

impl Trust {
    /// Trust in the certificate that this node signs with.
    pub(crate) fn new(identity: &crate::node::Identity) -> Self {
        let own = (identity.cert_id.0, identity.key.public_key());
        Self { pool: identity.pool.clone(), anchors: identity.anchors.clone(), keys: BTreeMap::from([own]) }
    }

    /// Takes over what the ledger introduces. Certificates are never sealed.
    ///
    /// # Errors
    /// The ledger's.
    pub(crate) fn learn_all(&mut self, ledger: &Ledger) -> Result<(), hufu_ledger::Error> {
        for height in 0..ledger.size(Log::Trade) {
            let block = ledger.held(Log::Trade, height)?;
            for entry in block.entries().iter().filter_map(hufu_ledger::HeldEntry::plain) {
                self.introduce(entry, block.header().time);
            }
        }
        Ok(())
    }

    fn learn(&mut self, block: &Block) {
        for entry in block.entries() {
            self.introduce(entry, block.header().time);
        }
    }

    /// A `certificates` entry introduces a certificate for a key, a rotation one for the next key.
    fn introduce(&mut self, entry: &[u8], time_ns: i64) {
        let Ok(entry) = Entry::from_bytes(entry) else { return };
        let ders = match EntryKind::from_number(entry.kind) {
            Some(EntryKind::Certificates) => {
                let listed = decode::<Certificates>(&entry.body, "Certificates").ok();
                listed.filter(|listed| listed.role != PLATFORM).map(|listed| listed.certificates)
            }
            Some(EntryKind::KeyRotation) => {
                decode::<SignedRotation>(&entry.body, "SignedRotation").ok().map(|signed| signed.certificates)
            }
            _ => None,
        };
        let ders = ders.unwrap_or_default();
        let chain: Vec<Certificate> =
            ders.iter().filter_map(|der| Certificate::from_der(der.as_bytes()).ok()).collect();
        let Some((leaf, rest)) = chain.split_first() else { return };
        let is_ours = is_named(leaf, &self.pool);
        if is_ours && verify_chain(leaf, rest, &self.anchors, &[], time_ns, Usage::Signing).is_ok() {
            self.keys.insert(leaf.id(), leaf.public_key().clone());
        }
    }
}
