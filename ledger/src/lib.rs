//! Append-only signed logs of opaque entries: blocks, Merkle proofs, checkpoints, and the journal that keeps them.
//!
//! A node has two logs. Each is a chain of blocks; a block is a signed header over up to 64 entries; an entry is bytes with
//! a kind. The ledger does not know what an entry means. An entry may be sealed: then it is encrypted on the disk, under a key
//! of its own kind that can be destroyed, and everything else stays as it is. Time, keys, salts, randomness and the directory
//! are arguments: nothing here reads a clock or logs, and only the full check has threads, which end with it.
//!
//! ```
//! use hufu_gm::sm2::SecretKey;
//! use hufu_ledger::{
//!     Block, Expected, Ledger, Log, NewBlock, NewEntry, Options, Signer, TimeQuality, TimeState, block::NO_PARENT, merkle,
//!     verify_block,
//! };
//!
//! let dir = tempfile::tempdir()?;
//! let options = Options::new("node-1");
//! Ledger::create(dir.path(), &options, [7; 16])?;
//! let (mut ledger, recovery) = Ledger::open(dir.path(), &options)?;
//! assert!(recovery.set_aside.is_empty());
//!
//! let key = SecretKey::from_scalar(&[1; 32])?;
//! let signer = Signer { key: &key, cert_id: [2; 32], salt_key: &[3; 32] };
//! let entry = NewEntry { kind: 4, body: b"an entry".to_vec(), key: [5; 32], sealed: false };
//! let quality = TimeQuality { state: TimeState::Synchronised, max_error_ns: Some(1_000_000) };
//! let block = NewBlock { log: Log::Trade, entries: vec![entry] };
//! let appended = ledger.append(&[block], &signer, 0, 1_700_000_000_000_000_000, quality)?;
//! let entry = appended[0].entries[0];
//! assert_eq!(ledger.find(&[5; 32])?, [entry]);
//!
//! // Whoever holds the block and the key can check it, and the way from the entry to the log's root.
//! let expected = Expected { log: Log::Trade, node: "node-1", height: 0, previous: NO_PARENT };
//! let block: Block = verify_block(&ledger.block(Log::Trade, 0)?, &key.public_key(), &expected)?;
//! let path = block.entry_path(0).unwrap_or_default();
//! assert_eq!(merkle::walk(&entry.hash, &path), block.header().root);
//! let path = ledger.prove(Log::Trade, 0, 1)?;
//! assert_eq!(merkle::walk(&merkle::leaf(&block.hash()), &path), ledger.root(Log::Trade));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod entry;
pub mod merkle;

pub mod block;
pub mod checkpoint;
pub mod fork;
pub mod witness;

mod archive;
mod copy;
mod held;
mod identity;
mod index;
mod journal;
mod keys;
mod pack;
mod recover;
mod seal;
mod sealed;
mod sealed_entry;
mod segment;
pub mod storage;

mod log;
mod options;
mod plan;

pub mod check;
pub mod model;
mod report;
pub mod state;
mod verifier;

mod error;

pub use block::{
    Block, BlockHeader, Expected, Signer, TimeQuality, TimeState, block_hash, entry_path, sample_block, verify_block,
    verify_header,
};
pub use check::check;
pub use checkpoint::{Checkpoint, verify_checkpoint};
pub use copy::LogCopy;
pub use entry::{Entry, EntryRef, Log, PerLog, entry_hash, foresee};
pub use error::{Error, Fault};
pub use fork::{ForkProof, Parted};
pub use held::{Closed, HeldBlock, HeldEntry};
pub use index::NO_KEY;
pub use journal::Head;
pub use keys::Random;
pub use log::{AppendedBlock, KeptBlock, Ledger, NewBlock, NewEntry, Stamp};
pub use merkle::PathStep;
pub use options::{Options, keys_beside};
pub use pack::Archived;
pub use plan::{Batch, Plan};
pub use recover::{Recovery, SetAside};
pub use report::{CheckOptions, KeyOf, LogReport, MaySign, Opens, Problem, Report};
pub use state::{State, StateFile};
pub use witness::{Cosignature, WitnessedCheckpoint};
