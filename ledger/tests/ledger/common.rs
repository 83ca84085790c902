//! A node's keys, its entries, and appending them: what the other tests are told with. No assertions but "it works".

use std::{path::Path, sync::LazyLock};

use hufu_gm::sm2::{PublicKey, SecretKey};
use hufu_ledger::{AppendedBlock, Error, Ledger, Log, NewBlock, NewEntry, Options, Signer, TimeQuality, TimeState};

pub(crate) const NODE: &str = "node-1";
pub(crate) const ID: [u8; 16] = [9; 16];
pub(crate) const SALT_KEY: [u8; 32] = [3; 32];
pub(crate) const CERT_ID: [u8; 32] = [2; 32];
pub(crate) const QUALITY: TimeQuality = TimeQuality { state: TimeState::Synchronised, max_error_ns: Some(500) };

static KEY: LazyLock<SecretKey> = LazyLock::new(|| SecretKey::from_scalar(&[1; 32]).unwrap());

pub(crate) fn signer() -> Signer<'static> {
    Signer { key: &*KEY, cert_id: CERT_ID, salt_key: &SALT_KEY }
}

pub(crate) fn public_key() -> PublicKey {
    KEY.public_key()
}

/// Small segments, so that a few batches seal several.
pub(crate) fn options() -> Options {
    Options { segment_size: 2048, ..Options::new(NODE) }
}

pub(crate) fn key_of(number: u64) -> [u8; 32] {
    let mut key = [0xa5; 32];
    key[..8].copy_from_slice(&(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes());
    key
}

pub(crate) fn new_block(log: Log, number: u64, entries: u64) -> NewBlock {
    let entry = |index: u64| NewEntry {
        kind: 7,
        body: format!("{log} {number} {index}").into_bytes(),
        key: key_of(number * 100 + index),
        sealed: false,
    };
    NewBlock { log, entries: (0..entries).map(entry).collect() }
}

/// One batch: a trade block of one entry, and with every second number a finance block of three.
pub(crate) fn batch(number: u64) -> Vec<NewBlock> {
    let mut blocks = vec![new_block(Log::Trade, number, 1)];
    if number % 2 == 1 {
        blocks.push(new_block(Log::Finance, number + 1_000_000, 3));
    }
    blocks
}

pub(crate) fn append(ledger: &mut Ledger, number: u64) -> Result<Vec<AppendedBlock>, Error> {
    let time = 1_700_000_000_000_000_000 + i64::try_from(number).unwrap();
    ledger.append(&batch(number), &signer(), 0, time, QUALITY)
}

/// A ledger on the real disk with batches 0 to `count`.
pub(crate) fn make(dir: &Path, count: u64) -> (Ledger, Vec<AppendedBlock>) {
    Ledger::create(dir, &options(), ID).unwrap();
    let (mut ledger, _) = Ledger::open(dir, &options()).unwrap();
    let blocks = (0..count).flat_map(|number| append(&mut ledger, number).unwrap()).collect();
    (ledger, blocks)
}
