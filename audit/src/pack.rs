//! What an evidence pack is made from, as plain data: the agent fills it from its ledger, the platform from its tables.
//! Judging a pack is `verdict.rs`.

mod build;
mod certs;
mod collect;
mod readme;
mod write;

pub use build::build;
pub use collect::{from_ledger, witness};
pub use hufu_ledger::PathStep;
use hufu_ledger::WitnessedCheckpoint;

/// An entry with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// 0 trade, 1 finance.
    pub log: u8,
    /// Height of its block.
    pub height: u64,
    /// Index in the block.
    pub index: u32,
    /// DER of the entry, salt included.
    pub entry: Vec<u8>,
    /// How it hangs on a signed header; needed for the bill and the last usage record, welcome for any other.
    pub proof: Option<Proof>,
}

/// Entry -> block -> log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// DER of `Signed` over the block's header.
    pub header: Vec<u8>,
    /// From the entry's hash to the header's root.
    pub entry_path: Vec<PathStep>,
    /// Size of the log whose root `log_path` leads to: that of a checkpoint or receipt given with it. 0: none covers it yet.
    pub log_size: u64,
    /// From `merkle::leaf(block hash)` to that root.
    pub log_path: Vec<PathStep>,
    /// Sizes and paths to further roots: that of a receipt with a time-stamp, that of a checkpoint with witnesses.
    pub more: Vec<(u64, Vec<PathStep>)>,
}

/// A receipt and a time-stamp over its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// DER of `Signed` over `Receipt`.
    pub receipt: Vec<u8>,
    /// The token (RFC 3161), DER.
    pub token: Vec<u8>,
}

/// A checkpoint with the cosignatures of its witnesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnesses {
    /// What they saw; below its root stand the entries whose [`Proof::more`] leads to its size.
    pub checkpoint: WitnessedCheckpoint,
    /// Certificates of the witnesses and their issuers, DER. A cosignature without its certificate is left out.
    pub certificates: Vec<Vec<u8>>,
}

/// Everything a pack is made from. Certificates are DER, leaves first; anchors need not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackInput {
    /// The bill's entry, with its proof.
    pub bill: Located,
    /// The other entries in any order: rules, browse, offer, order, deal, every usage record and gap of the period, order
    /// status, every other bill of the contract with what followed it; for a later bill also the last record of the one before.
    pub entries: Vec<Located>,
    /// The platform's receipts: DER of `Signed` over `Receipt`.
    pub receipts: Vec<Vec<u8>>,
    /// The node's checkpoints: DER of `Signed` over `Checkpoint`.
    pub checkpoints: Vec<Vec<u8>>,
    /// Receipts with time-stamps.
    pub stamps: Vec<Stamp>,
    /// Checkpoints with witnesses.
    pub witnesses: Vec<Witnesses>,
    /// The node's certificates and their issuers.
    pub node_certificates: Vec<Vec<u8>>,
    /// The platform's certificates and their issuers.
    pub platform_certificates: Vec<Vec<u8>>,
    /// The buyer's certificates and their issuers; those of the browse entry are added.
    pub buyer_certificates: Vec<Vec<u8>>,
    /// Revocation lists, DER.
    pub crls: Vec<Vec<u8>>,
    /// Most entries that each get a file of their own; in a longer pack the usage records lie together.
    pub entry_files_max: usize,
}

/// What [`PackInput::entry_files_max`] is for every pack that is given to anybody: an hour of one-second windows, almost three
/// days of minutes.
pub const ENTRY_FILES_MAX: usize = 4_000;

impl PackInput {
    fn is_long(&self) -> bool {
        self.entries.len() > self.entry_files_max
    }
}
