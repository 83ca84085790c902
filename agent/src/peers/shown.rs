//! How this node and those that it follows stand, for whoever asks.

use serde::Serialize;

/// How a followed node stands, for whoever asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct PeerShown {
    pub(crate) node: String,
    /// Blocks of its trade and finance log that are held here.
    pub(crate) trade: String,
    pub(crate) finance: String,
    /// Sizes of its checkpoints that were cosigned here.
    pub(crate) cosigned: [String; 2],
    /// Whether its certificate is known and trusted.
    pub(crate) is_known: bool,
    /// It showed two pasts.
    pub(crate) has_forked: bool,
    /// Of the public records that are held of it.
    pub(crate) deals: usize,
    pub(crate) scores: usize,
}

/// A checkpoint of this node with the witnesses that cosigned it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cosigned {
    /// Its size.
    pub(crate) size: u64,
    /// Who cosigned, by name.
    pub(crate) witnesses: Vec<String>,
}

/// How everything stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The followed nodes.
    pub(crate) peers: Vec<PeerShown>,
    /// For each log the last checkpoints of this node, oldest first.
    pub(crate) cosigned: [Vec<Cosigned>; 2],
    /// Fork proofs held here: node, log, file.
    pub(crate) forks: Vec<(String, String, String)>,
    /// Witnesses that make an entry confirmed.
    pub(crate) confirm: u32,
}

impl Shown {
    /// For status: peers, forks, and for each log the last checkpoints and how much of it is confirmed. `receipted` are the platform's
    /// receipts, each of which is a witness.
    pub(crate) fn to_json(&self, receipted: [u64; 2]) -> serde_json::Value {
        let log = |index: usize| {
            let checkpoints = self.cosigned.get(index).map(Vec::as_slice).unwrap_or_default();
            let receipt = receipted.get(index).copied().unwrap_or(0);
            serde_json::json!({
                "confirmed": confirmed(checkpoints, receipt, self.confirm).to_string(),
                "checkpoints": checkpoints.iter().map(|one| serde_json::json!({
                    "size": one.size.to_string(), "witnesses": one.witnesses, "receipted": one.size <= receipt,
                })).collect::<Vec<_>>(),
            })
        };
        serde_json::json!({
            "confirm": self.confirm,
            "trade": log(0),
            "finance": log(1),
            "peers": self.peers,
            "forks": self.forks.iter().map(|(node, log, file)| serde_json::json!({ "node": node, "log": log, "file": file }))
                .collect::<Vec<_>>(),
        })
    }
}

/// Blocks of a log that enough witnesses vouch for.
fn confirmed(checkpoints: &[Cosigned], receipted: u64, needed: u32) -> u64 {
    let is_enough = |one: &&Cosigned| {
        let count = one.witnesses.len() + usize::from(one.size <= receipted);
        u32::try_from(count).unwrap_or(u32::MAX) >= needed
    };
    let by_witnesses = checkpoints.iter().filter(is_enough).map(|one| one.size).max().unwrap_or(0);
    // A receipt alone is enough where one witness is.
    if needed <= 1 { by_witnesses.max(receipted) } else { by_witnesses }
}
