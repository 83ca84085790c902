//! The messages of 需求定制 (table 1): the node fetches demands, and answers each once. What a demand and an answer are is
//! `crate::demand`; both stand in the node's log.

use serde::{Deserialize, Serialize};

use crate::if2::Sealed;

/// Most demands in one answer.
pub const DEMANDS_MAX: usize = 16;

/// Body of `demands`, a question: those that the platform took in after a place in its own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demands {
    /// The last place that the node was told of; 0: from the first.
    pub after: u64,
}

/// Answer to [`Demands`]: what the node may see and what has not lapsed, and what was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemandList {
    /// DER of `Signed` over `Demand`, by the platform, in its count; at most [`DEMANDS_MAX`].
    pub demands: Vec<Sealed>,
    /// DER of `Signed` over `Matching`, by the platform: what was chosen of the answers to demands that the node may see; in the same
    /// count, together with the demands at most [`DEMANDS_MAX`]. A platform that passes on no choices leaves it out.
    #[serde(default)]
    pub matchings: Vec<Sealed>,
    /// The place of the last of them, or `after` where there is none.
    pub last: u64,
    /// More follow at once.
    pub more: bool,
}

/// Body of `demand-response`: the node's answer as it stands in its trade log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemandResponse {
    /// Number of the demand, 32 hexadecimal digits.
    pub demand_no: String,
    /// DER of the `Entry` that holds `Signed` over `Response`.
    pub entry: Sealed,
    /// Height of its block in the trade log.
    pub height: u64,
}
