//! Judges one block a node sent: signature, place, then each entry. Pure; `blocks` stores what comes out.

use std::collections::BTreeMap;

use hufu_gm::{Hash, Signed};
use hufu_ledger::{Block, Entry, Expected, Log};
use hufu_trade::{
    contract_of, decode,
    demand::Response,
    entry::{EntryKind, EntryName, Epoch, FinanceLink},
    octets::{ContractNo, Digest, Octets},
    usage::UsageRecord,
};

use super::{
    code::{Code, Refusal},
    entry::{self, Judged, Place},
    facts::{Facts, LogFacts},
    payment::rests_on,
};

/// What happens to a block.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It continues the log: store it with what was found.
    Next(Box<NextBlock>),
    /// The other log must come first; ask the node to send it again.
    Waits,
    /// Signed by the node, and contradicts what it signed before: evidence.
    Fork(Refusal),
    /// Not to be stored.
    Refused(Refusal),
}

/// A block to be stored.
#[derive(Debug)]
pub(crate) struct NextBlock {
    /// Its hash.
    pub(crate) hash: Hash,
    /// DER of the signed header.
    pub(crate) header: Vec<u8>,
    /// Its entries with their judgement.
    pub(crate) entries: Vec<JudgedEntry>,
    /// The epoch that it opens, and the largest size that a receipt was given for before.
    pub(crate) opens: Option<(Epoch, u64)>,
}

/// An entry to be stored.
#[derive(Clone, Debug)]
pub(crate) struct JudgedEntry {
    /// Where it is and what it hashes to.
    pub(crate) name: EntryName,
    /// Kind number; may be unknown here.
    pub(crate) kind: u16,
    /// The contract it belongs to.
    pub(crate) contract: Option<ContractNo>,
    /// `order_seq` of usage records and gaps.
    pub(crate) seq: Option<u64>,
    /// DER.
    pub(crate) bytes: Vec<u8>,
    /// Why it is refused.
    pub(crate) refused: Option<Refusal>,
    /// State of its contract after it, where it moved it.
    pub(crate) state: Option<String>,
}

/// A block whose entries were taken apart: once, whoever asks for them.
#[derive(Debug)]
pub(crate) struct Opened {
    block: Block,
    entries: Vec<OpenedEntry>,
}

/// An entry taken apart.
#[derive(Debug)]
struct OpenedEntry {
    entry: Entry,
    /// What it is, where its kind is known here.
    kind: Option<EntryKind>,
    /// The contract it belongs to.
    contract: Option<ContractNo>,
    /// Of usage records and gaps.
    record: Option<UsageRecord>,
}

impl Opened {
    /// Reads a block.
    ///
    /// # Errors
    /// [`Code::Malformed`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let malformed = |error| Refusal::new(Code::Malformed, error);
        let block = Block::from_bytes(bytes).map_err(malformed)?;
        let opened = block.entries().iter().map(|bytes| Ok(OpenedEntry::of(Entry::from_bytes(bytes)?)));
        let entries = opened.collect::<Result<_, hufu_ledger::Error>>().map_err(malformed)?;
        Ok(Self { block, entries })
    }

    /// The block.
    pub(crate) fn block(&self) -> &Block {
        &self.block
    }

    /// Kinds of its entries; `None` is one that is unknown here.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Option<EntryKind>> {
        self.entries.iter().map(|opened| opened.kind)
    }

    /// The bodies of its entries of a kind.
    pub(crate) fn bodies(&self, kind: EntryKind) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().filter(move |opened| opened.kind == Some(kind)).map(|opened| opened.entry.body.as_slice())
    }
}

impl OpenedEntry {
    fn of(entry: Entry) -> Self {
        let kind = EntryKind::from_number(entry.kind);
        let record = kind
            .filter(|kind| matches!(kind, EntryKind::Usage | EntryKind::Gap))
            .and_then(|_| decode::<UsageRecord>(&entry.body, "UsageRecord").ok());
        let contract = match &record {
            Some(record) => Some(record.contract_no),
            None => kind.and_then(|kind| contract_of(kind, &entry.body)),
        };
        Self { entry, kind, contract, record }
    }
}

/// What must be loaded to judge a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Contracts its entries belong to; true: with all usage records since the last bill.
    pub(crate) contracts: BTreeMap<ContractNo, bool>,
    /// Entries its entries name.
    pub(crate) named: Vec<Digest>,
}

/// Collects what judging a block will ask of the facts.
pub(crate) fn needs(block: &Opened) -> Needs {
    let mut needs = Needs::default();
    for OpenedEntry { entry, kind, contract, .. } in &block.entries {
        let Some(kind) = *kind else { continue };
        if let Some(no) = *contract {
            *needs.contracts.entry(no).or_insert(false) |= matches!(kind, EntryKind::Bill | EntryKind::Correction);
        }
        needs.named.extend(rests_on(kind, &entry.body));
        if kind == EntryKind::Response
            && let Ok(signed) = Signed::from_bytes(&entry.body)
            && let Ok(response) = decode::<Response>(signed.tbs(), "Response")
        {
            needs.named.push(response.follows);
        }
        if kind == EntryKind::FinanceLink
            && let Ok(link) = decode::<FinanceLink>(&entry.body, "FinanceLink")
        {
            needs.named.push(link.finance.hash);
        }
    }
    needs
}

/// Judges a block that should stand at the end of its log, and lets the facts go on with it when it does.
pub(crate) fn judge(facts: &mut Facts, log: Log, opened: &Opened) -> Outcome {
    let Some(stored) = facts.logs.get(usize::from(log.number())) else { return Outcome::Waits };
    if let Err(outcome) = verify(facts, log, &opened.block) {
        return outcome;
    }
    match opening(&opened.block, stored) {
        Ok(opens) => judge_entries(facts, opened, opens),
        Err(refusal) => Outcome::Refused(refusal),
    }
}

/// Whether a block is the node's and continues its log.
///
/// # Errors
/// What it is instead.
pub(crate) fn verify(facts: &Facts, log: Log, block: &Block) -> Result<(), Outcome> {
    let Some(stored) = facts.logs.get(usize::from(log.number())) else { return Err(Outcome::Waits) };
    let expected = Expected { log, node: &facts.pool, height: stored.size, previous: stored.head };
    let Some(key) = facts.node_key(&block.signed().cert_id()) else {
        let why = "the block is signed under an unknown certificate";
        return Err(Outcome::Refused(Refusal::new(Code::Certificate, why)));
    };
    if !facts.signers.may_sign(log.number(), stored.size, key) {
        let why = "the block is signed by a key that is not in force at this height";
        return Err(Outcome::Refused(Refusal::new(Code::Certificate, why)));
    }
    block
        .verify(key, &expected)
        .map_err(|error| misplaced(block, block.signed().verify(key).is_valid(), &expected, &error))?;
    if block.header().epoch < stored.epoch {
        return Err(Outcome::Fork(Refusal::new(Code::Duplicate, "the epoch fell")));
    }
    Ok(())
}

/// Whether a block opens an epoch that is taken.
pub(crate) fn opens_epoch(facts: &Facts, log: Log, block: &Block) -> bool {
    let Some(stored) = facts.logs.get(usize::from(log.number())) else { return false };
    // Only what claims to is looked at twice.
    let claims = block.header().epoch > stored.epoch;
    claims && verify(facts, log, block).is_ok() && matches!(opening(block, stored), Ok(Some(_)))
}

/// The epoch that a block opens, `None` when it goes on in the one before. A node goes on in a new one where it has lost what it
/// once signed: it names all of what was acknowledged, so that nothing of that is undone without a word. What is held here
/// cannot be replaced: a block at such a height never comes as far as this.
fn opening(block: &Block, stored: &LogFacts) -> Result<Option<(Epoch, u64)>, Refusal> {
    let header = block.header();
    if header.epoch == stored.epoch {
        return Ok(None);
    }
    let unopened = || {
        let why = format!("epoch {} after {} without the entry that opens it", header.epoch, stored.epoch);
        Refusal::new(Code::Malformed, why)
    };
    let first = block.entries().first().and_then(|bytes| Entry::from_bytes(bytes).ok()).ok_or_else(unopened)?;
    let is_epoch = first.kind == EntryKind::Epoch.number();
    let epoch: Epoch = decode(&first.body, "Epoch").ok().filter(|_| is_epoch).ok_or_else(unopened)?;
    if !epoch.opens(header.log.number(), header.height, header.epoch) {
        return Err(unopened());
    }
    if epoch.receipted < stored.receipted {
        let (named, given) = (epoch.receipted, stored.receipted);
        let why = format!("the epoch names what is lost up to {named}, receipts were given up to {given}");
        return Err(Refusal::new(Code::State, why));
    }
    Ok(Some((epoch, stored.receipted)))
}

/// Whether an entry that opens an epoch may stand in a block: first in the one that begins it, or behind that one for the other
/// log.
fn is_astray(block: &Block, opens: Option<&(Epoch, u64)>, index: u32, body: &[u8]) -> bool {
    let Ok(found) = decode::<Epoch>(body, "Epoch") else { return false };
    let here = block.header();
    let is_others = index > 0 && found.log != here.log.number() && found.epoch == here.epoch;
    opens.is_none() || !(index == 0 || is_others)
}

/// What a block is that does not continue the log.
fn misplaced(block: &Block, is_signed: bool, expected: &Expected<'_>, error: &hufu_ledger::Error) -> Outcome {
    let header = block.header();
    let is_here = header.log == expected.log && header.node == expected.node && header.height == expected.height;
    if !is_signed {
        Outcome::Refused(Refusal::new(Code::Signature, error))
    } else if is_here {
        // Another parent at this height: the node signed two pasts.
        Outcome::Fork(Refusal::new(Code::Duplicate, error))
    } else {
        Outcome::Refused(Refusal::new(Code::Malformed, error))
    }
}

/// A block for a height that is taken: `None` when it is the same, otherwise what a second one is.
pub(crate) fn again(facts: &Facts, log: Log, height: u64, stored: &[u8], bytes: &[u8]) -> Option<Outcome> {
    if stored == bytes {
        return None;
    }
    let block = match Block::from_bytes(bytes) {
        Ok(block) => block,
        Err(error) => return Some(Outcome::Refused(Refusal::new(Code::Malformed, error))),
    };
    let header = block.header();
    let is_here = header.log == log && header.node == facts.pool && header.height == height;
    let signed = block.signed();
    let by_node = facts.node_key(&signed.cert_id()).is_some_and(|key| signed.verify(key).is_valid());
    Some(match (by_node, is_here) {
        (false, _) => Outcome::Refused(Refusal::new(Code::Signature, "not a block of this node")),
        (true, false) => Outcome::Refused(Refusal::new(Code::Malformed, "not the block of this height")),
        (true, true) => Outcome::Fork(Refusal::new(Code::Duplicate, format!("{log} height {height} a second time"))),
    })
}

fn judge_entries(facts: &mut Facts, opened: &Opened, opens: Option<(Epoch, u64)>) -> Outcome {
    let block = &opened.block;
    let (mut entries, signer) = (Vec::with_capacity(opened.entries.len()), block.signed().cert_id());
    for ((bytes, opened), found) in block.entries().iter().zip(&opened.entries).zip(block.entry_refs()) {
        let OpenedEntry { entry, kind, contract, record } = opened;
        let hash = Octets(found.hash);
        let mut judged = JudgedEntry {
            name: EntryName { log: found.log.number(), height: found.height, index: found.index, hash },
            kind: entry.kind,
            contract: *contract,
            seq: record.as_ref().map(|record| record.order_seq),
            bytes: bytes.clone(),
            refused: None,
            state: None,
        };
        // A kind of a later version is stored and not judged.
        if let Some(kind) = *kind {
            let (body, record, block_ns) = (entry.body.as_slice(), record.as_ref(), block.header().time);
            let place = Place { name: &judged.name, kind, body, record, block_ns, signer };
            let judged_as = if kind == EntryKind::Epoch && is_astray(block, opens.as_ref(), found.index, body) {
                Judged::Refused(Refusal::new(Code::Malformed, "an epoch does not begin here"))
            } else {
                entry::judge(facts, &place)
            };
            match judged_as {
                Judged::Waits => return Outcome::Waits,
                Judged::Refused(refusal) => judged.refused = Some(refusal),
                Judged::Disputed(refusal, state) => (judged.refused, judged.state) = (Some(refusal), state),
                Judged::Accepted(state) => judged.state = state,
            }
            absorb(facts, &judged, (kind, signer), (body, record));
        }
        entries.push(judged);
    }
    let Ok(header) = block.signed().to_bytes() else {
        return Outcome::Refused(Refusal::new(Code::Malformed, "the header does not encode"));
    };
    facts.go_on(block);
    Outcome::Next(Box::new(NextBlock { hash: block.hash(), header, entries, opens }))
}

/// Lets the facts go on with an entry.
fn absorb(
    facts: &mut Facts,
    judged: &JudgedEntry,
    (kind, signer): (EntryKind, Hash),
    (body, record): (&[u8], Option<&UsageRecord>),
) {
    facts.named.insert(judged.name.hash, (judged.name.clone(), judged.kind));
    let is_accepted = judged.refused.is_none();
    if is_accepted {
        facts.absorb(kind, (&judged.name, signer), body);
    }
    if let Some(no) = judged.contract.filter(|_| is_accepted || judged.state.is_some()) {
        let contract = facts.contracts.entry(no).or_default();
        match (&judged.refused, record) {
            (None, Some(record)) => contract.used(&judged.name, record.clone()),
            (None, None) => contract.absorb(kind, &judged.name, body),
            (Some(refusal), _) => contract.absorb_refused(kind, refusal.code.name(), &judged.name, body),
        }
        if let Some(state) = &judged.state {
            contract.state.clone_from(state);
        }
    }
}
