//! 撮合 (7.5, 7.6): which proposals a buyer chose for its demand, and among which candidates. The buyer signs the selection, the platform
//! what it selected from; a node keeps it as an entry and frees what was not chosen. It binds nobody: each part is ordered by itself.

use der::Sequence;
use hufu_gm::Signed;
use serde::Serialize;

use crate::{
    Error,
    demand::{ContentNo, Response, TEXT_CHARS_MAX, is_pool, is_text, rises},
    if2::{PLATFORM, segment_ok},
    money::Money,
    octets::{self, Digest},
};

/// Most candidates told: the best, and every one that was chosen.
pub const CANDIDATES_MAX: usize = 128;
/// Most proposals that one selection chooses.
pub const CHOSEN_MAX: usize = 64;
/// The score of the cheapest candidate.
pub const SCORE_MAX: u16 = 10_000;

/// What a buyer chose (travels as `Signed` over its DER, by the buyer).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Selection {
    /// Format version, 1.
    pub version: u8,
    /// SM3 of the DER of the demand.
    pub demand: Digest,
    /// When, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// The proposals, rising, 1 to [`CHOSEN_MAX`].
    pub chosen: Vec<ContentNo>,
    /// Why, for a person; at most [`TEXT_CHARS_MAX`] characters, may be empty.
    pub why: String,
}

impl Selection {
    /// Whether its fields are in range.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first violation.
    pub fn check(&self) -> Result<(), Error> {
        let wrong =
            |field: &'static str, why: &str| Err(Error::Field { what: "Selection", field, why: why.to_owned() });
        if self.version != 1 {
            return wrong("version", "unknown, 1 expected");
        }
        if !(1..=CHOSEN_MAX).contains(&self.chosen.len()) || !rises(self.chosen.iter()) {
            return wrong("chosen", "1 to 64 proposals, rising, each once");
        }
        if !is_text(&self.why, 0) {
            return Err(Error::Field {
                what: "Selection",
                field: "why",
                why: format!("at most {TEXT_CHARS_MAX} characters without control ones"),
            });
        }
        Ok(())
    }
}

/// One answer to the demand.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Candidate {
    /// `{site}/{node}`.
    pub computing_pool_id: String,
    /// Number of its response.
    pub proposal_no: ContentNo,
    /// SM3 of the DER of its `Response`.
    pub response: Digest,
    /// Estimate of the proposal; absent: the node refused.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub estimate: Option<Money>,
    /// [`SCORE_MAX`] times the lowest estimate of all, divided by its own and cut down; 0 for a refusal.
    pub score: u16,
}

/// The whole choice (travels and is stored as `Signed` over its DER, by the platform).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Matching {
    /// Format version, 1.
    pub version: u8,
    /// SM3 of the DER of the demand.
    pub demand: Digest,
    /// Who passed it on and signs: `{site}/platform`.
    pub relay: String,
    /// When, ns since 1970-01-01Z.
    pub time: i64,
    /// By score falling, then by node; at least those that were chosen.
    pub candidates: Vec<Candidate>,
    /// `Signed` over [`Selection`], by the demand's buyer.
    pub selection: Signed,
}

/// What a candidate scores among others.
fn score(estimate: Option<Money>, lowest: Money) -> u16 {
    match estimate {
        None => 0,
        Some(own) if own <= lowest || own.0 <= 0 => SCORE_MAX,
        // Both are above zero, and the quotient below the greatest score.
        Some(own) => u16::try_from(lowest.0.max(0).saturating_mul(i128::from(SCORE_MAX)) / own.0).unwrap_or(0),
    }
}

/// The candidates of these answers (node, SM3 of the DER of the response, the response), as [`Matching`] has them. Of more than
/// [`CANDIDATES_MAX`] the chosen ones come first, then the best.
pub fn candidates<'a>(
    answers: impl IntoIterator<Item = (Digest, &'a Response)>,
    selection: &Selection,
) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = answers
        .into_iter()
        .map(|(response, answer)| Candidate {
            computing_pool_id: answer.computing_pool_id.clone(),
            proposal_no: answer.proposal_no,
            response,
            estimate: answer.proposal.as_ref().map(|proposal| proposal.estimate),
            score: 0,
        })
        .collect();
    let lowest = found.iter().filter_map(|one| one.estimate).min().unwrap_or_default();
    for one in &mut found {
        one.score = score(one.estimate, lowest);
    }
    let is_chosen = |one: &Candidate| selection.chosen.contains(&one.proposal_no);
    // The cheapest stays, by which the others are scored.
    let place = |one: &Candidate| (!(is_chosen(one) || one.score == SCORE_MAX), std::cmp::Reverse(one.score));
    found.sort_by(|a, b| (place(a), &a.computing_pool_id).cmp(&(place(b), &b.computing_pool_id)));
    found.truncate(CANDIDATES_MAX);
    found.sort_by(|a, b| order(a).cmp(&order(b)));
    found
}

fn order(one: &Candidate) -> (std::cmp::Reverse<u16>, &str) {
    (std::cmp::Reverse(one.score), &one.computing_pool_id)
}

impl Matching {
    /// The selection inside.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn selected(&self) -> Result<Selection, Error> {
        crate::decode(self.selection.tbs(), "Selection")
    }

    /// Whether a node's proposal was chosen.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn chose(&self, proposal: &ContentNo) -> Result<bool, Error> {
        Ok(self.selected()?.chosen.contains(proposal))
    }

    /// Whether its fields are in range, the scores follow from the estimates, and the selection is one of this demand and of these
    /// candidates. The two signatures are the reader's question.
    ///
    /// # Errors
    /// [`Error::Field`] or [`Error::Malformed`] naming the first violation.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field: &'static str, why: &str| Err(Error::Field { what: "Matching", field, why: why.to_owned() });
        if self.version != 1 {
            return wrong("version", "unknown, 1 expected");
        }
        if self.relay.split_once('/').is_none_or(|(site, name)| !segment_ok(site) || name != PLATFORM) {
            return wrong("relay", "{site}/platform expected");
        }
        let told = &self.candidates;
        if !(1..=CANDIDATES_MAX).contains(&told.len()) || !told.iter().all(|one| is_pool(&one.computing_pool_id)) {
            return wrong("candidates", "1 to 128 candidates with their nodes expected");
        }
        if !told.is_sorted_by(|a, b| order(a) < order(b)) {
            return wrong("candidates", "not by score falling, then by node");
        }
        let mut pools: Vec<&str> = told.iter().map(|one| one.computing_pool_id.as_str()).collect();
        pools.sort_unstable();
        pools.dedup();
        if pools.len() != told.len() {
            return wrong("candidates", "a node twice");
        }
        let lowest = told.iter().filter_map(|one| one.estimate).min().unwrap_or_default();
        if lowest < Money(0) || told.iter().any(|one| one.score != score(one.estimate, lowest)) {
            return wrong("candidates", "a score does not follow from the estimates");
        }
        let selection = self.selected()?;
        selection.check()?;
        if selection.demand != self.demand {
            return wrong("selection", "of another demand");
        }
        let offered = |no: &ContentNo| told.iter().any(|one| one.proposal_no == *no && one.estimate.is_some());
        if !selection.chosen.iter().all(offered) {
            return wrong("selection", "it chooses what is no proposal of a candidate");
        }
        Ok(())
    }
}
