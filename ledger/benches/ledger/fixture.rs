//! The ledger that is measured: a node's key and blocks of one entry of 300 bytes, the records of the store comparison.

use std::path::Path;

use hufu_gm::sm2::{PublicKey, SecretKey};
use hufu_ledger::{Batch, Error, Ledger, Log, NewBlock, NewEntry, Options, Plan, Signer, TimeQuality, TimeState};

use crate::Outcome;

pub(crate) const BODY_BYTES: usize = 300;
const BATCH: u64 = 100;
const TIME_NS: i64 = 1_700_000_000_000_000_000;
const QUALITY: TimeQuality = TimeQuality { state: TimeState::Synchronised, max_error_ns: Some(500) };

/// The node's key.
pub(crate) struct Node {
    pub(crate) key: SecretKey,
}

impl Node {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self { key: SecretKey::from_scalar(&[1; 32])? })
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    /// Appends blocks of numbers `from..to` as one batch.
    pub(crate) fn append(&self, ledger: &mut Ledger, from: u64, to: u64) -> Outcome<()> {
        let blocks: Vec<NewBlock> = (from..to).map(block).collect();
        self.append_blocks(ledger, &blocks)
    }

    pub(crate) fn append_blocks(&self, ledger: &mut Ledger, blocks: &[NewBlock]) -> Outcome<()> {
        ledger.append(blocks, &self.signer(), 0, TIME_NS, QUALITY)?;
        Ok(())
    }

    /// Appends the blocks `batches` times; the next ones are signed while one goes to the disk.
    pub(crate) fn append_ahead(&self, ledger: &mut Ledger, blocks: &[NewBlock], batches: u64) -> Outcome<()> {
        let mut plan = ledger.plan();
        let (ready, queue) = std::sync::mpsc::sync_channel(2);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut signed = (0..batches).map(|_| self.sign(&mut plan, blocks));
                signed.try_for_each(|batch| ready.send(batch))
            });
            for batch in queue {
                ledger.commit(batch?)?;
            }
            Ok(())
        })
    }

    pub(crate) fn sign(&self, plan: &mut Plan, blocks: &[NewBlock]) -> Result<Batch, Error> {
        plan.sign(blocks, &self.signer(), 0, TIME_NS, QUALITY)
    }

    fn signer(&self) -> Signer<'_> {
        Signer { key: &self.key, cert_id: [2; 32], salt_key: &[3; 32] }
    }
}

/// A block of one entry. Every tenth belongs to the finance log; a contract's key comes back every thousand blocks.
pub(crate) fn block(number: u64) -> NewBlock {
    let mut body = vec![0; BODY_BYTES];
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for byte in &mut body {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        [*byte, ..] = random.to_be_bytes();
    }
    let log = if number % 10 == 9 { Log::Finance } else { Log::Trade };
    NewBlock { log, entries: vec![NewEntry { kind: 7, body, key: key(number % 1000), sealed: false }] }
}

pub(crate) fn key(number: u64) -> [u8; 32] {
    let mut key = [0xa5; 32];
    key.iter_mut().zip(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).for_each(|(to, from)| *to = from);
    key
}

pub(crate) fn options() -> Options {
    Options::new("site-1/node-1")
}

/// A ledger of `size` blocks in `dir`.
pub(crate) fn make(dir: &Path, size: u64) -> Outcome<()> {
    Ledger::create(dir, &options(), [9; 16])?;
    let (mut ledger, _) = Ledger::open(dir, &options())?;
    let node = Node::new()?;
    for from in (0..size).step_by(usize::try_from(BATCH)?) {
        node.append(&mut ledger, from, size.min(from + BATCH))?;
    }
    Ok(())
}
