//! Judges one block a node sent: signature, place, then each entry. Pure; `blocks` stores what comes out.

use std::collections::BTreeMap;

use hufu_gm::{Hash, Signed};
use hufu_ledger::{Block, Entry, Expected, Log, verify_block};
use hufu_trade::{
    decode,
    demand::Response,
    entry::{EntryKind, EntryName, FinanceLink},
    octets::{ContractNo, Digest, Octets},
    usage::UsageRecord,
};

use super::{
    code::{Code, Refusal},
    entry::{self, Judged, Place, contract_of},
    facts::Facts,
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

/// What must be loaded to judge a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Contracts its entries belong to; true: with all usage records since the last bill.
    pub(crate) contracts: BTreeMap<ContractNo, bool>,
    /// Entries its entries name.
    pub(crate) named: Vec<Digest>,
}

/// Collects what judging `block` will ask of the facts.
pub(crate) fn needs(block: &Block) -> Needs {
    let mut needs = Needs::default();
    for entry in block.entries().iter().filter_map(|bytes| Entry::from_bytes(bytes).ok()) {
        let Some(kind) = EntryKind::from_number(entry.kind) else { continue };
        if let Some(no) = contract_of(kind, &entry.body) {
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
pub(crate) fn judge(facts: &mut Facts, log: Log, bytes: &[u8]) -> Outcome {
    let Some(stored) = facts.logs.get(usize::from(log.number())).cloned() else { return Outcome::Waits };
    let pool = facts.pool.clone();
    let expected = Expected { log, node: &pool, height: stored.size, previous: stored.head };
    let read = match Block::from_bytes(bytes) {
        Ok(block) => block,
        Err(error) => return Outcome::Refused(Refusal::new(Code::Malformed, error)),
    };
    let Some(key) = facts.node_key(&read.signed().cert_id()).cloned() else {
        return Outcome::Refused(Refusal::new(Code::Certificate, "the block is signed under an unknown certificate"));
    };
    let block = match verify_block(bytes, &key, &expected) {
        Ok(block) => block,
        Err(error) => return misplaced(&read, read.signed().verify(&key).is_valid(), &expected, &error),
    };
    if !facts.signers.may_sign(log.number(), stored.size, &key) {
        let why = "the block is signed by a key that is not in force at this height";
        return Outcome::Refused(Refusal::new(Code::Certificate, why));
    }
    if block.header().epoch < stored.epoch {
        return Outcome::Fork(Refusal::new(Code::Duplicate, "the epoch fell"));
    }
    judge_entries(facts, &block)
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

fn judge_entries(facts: &mut Facts, block: &Block) -> Outcome {
    let (mut entries, signer) = (Vec::new(), block.signed().cert_id());
    for (bytes, found) in block.entries().iter().zip(block.entry_refs()) {
        let Ok(entry) = Entry::from_bytes(bytes) else {
            return Outcome::Refused(Refusal::new(Code::Malformed, "an entry does not decode"));
        };
        let hash = Octets(found.hash);
        let mut judged = JudgedEntry {
            name: EntryName { log: found.log.number(), height: found.height, index: found.index, hash },
            kind: entry.kind,
            contract: None,
            seq: None,
            bytes: bytes.clone(),
            refused: None,
            state: None,
        };
        // A kind of a later version is stored and not judged.
        if let Some(kind) = EntryKind::from_number(entry.kind) {
            judged.contract = contract_of(kind, &entry.body);
            judged.seq = seq_of(kind, &entry.body);
            let place = Place { name: &judged.name, kind, body: &entry.body, block_ns: block.header().time, signer };
            match entry::judge(facts, &place) {
                Judged::Waits => return Outcome::Waits,
                Judged::Refused(refusal) => judged.refused = Some(refusal),
                Judged::Disputed(refusal, state) => (judged.refused, judged.state) = (Some(refusal), state),
                Judged::Accepted(state) => judged.state = state,
            }
            absorb(facts, &judged, (kind, signer), &entry.body);
        }
        entries.push(judged);
    }
    let Ok(header) = block.signed().to_bytes() else {
        return Outcome::Refused(Refusal::new(Code::Malformed, "the header does not encode"));
    };
    if let Some(stored) = facts.logs.get_mut(usize::from(block.header().log.number())) {
        stored.size = block.header().height.saturating_add(1);
        stored.head = block.hash();
        stored.epoch = block.header().epoch;
    }
    Outcome::Next(Box::new(NextBlock { hash: block.hash(), header, entries }))
}

/// Lets the facts go on with an entry.
fn absorb(facts: &mut Facts, judged: &JudgedEntry, (kind, signer): (EntryKind, Hash), body: &[u8]) {
    facts.named.insert(judged.name.hash, (judged.name.clone(), judged.kind));
    let is_accepted = judged.refused.is_none();
    if is_accepted {
        facts.absorb(kind, (&judged.name, signer), body);
    }
    if let Some(no) = judged.contract.filter(|_| is_accepted || judged.state.is_some()) {
        let contract = facts.contracts.entry(no).or_default();
        match &judged.refused {
            None => contract.absorb(kind, &judged.name, body),
            Some(refusal) => contract.absorb_refused(kind, refusal.code.name(), &judged.name, body),
        }
        if let Some(state) = &judged.state {
            contract.state.clone_from(state);
        }
    }
}

fn seq_of(kind: EntryKind, body: &[u8]) -> Option<u64> {
    let is_usage = matches!(kind, EntryKind::Usage | EntryKind::Gap);
    is_usage.then(|| decode::<UsageRecord>(body, "UsageRecord").ok().map(|record| record.order_seq))?
}
