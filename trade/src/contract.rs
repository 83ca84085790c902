//! The contract's interpreter: a rule table, a state and an act give the next state and what to write, or a refusal with its
//! reason. The same function replays a log in the agent, on the platform and in `hufu verify`.

use crate::{
    Error,
    entry::EntryKind,
    resource::KINDS,
    rules::{Guard, Party, RuleTable, Write},
    statement::ScoreItem,
};

/// What the caller knows about an act: who really signed, and which guards hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The buyer's signature is valid.
    pub buyer_signed: bool,
    /// The node's signature is there (it is about to sign, or did).
    pub node_signed: bool,
    /// The platform's signature is valid.
    pub platform_signed: bool,
    /// The requirement fits the free capacity.
    pub capacity_free: bool,
    /// Offer, tariff, quantity, term and time are those of the offer.
    pub within_offer: bool,
    /// The service window is still open: there is no deal yet, or its service ends after the act's time.
    pub window_open: bool,
    /// The amount is what is due for the bill, or what was paid above it.
    pub amount_matches: bool,
}

impl Facts {
    fn signed(self, party: Party) -> bool {
        match party {
            Party::Buyer => self.buyer_signed,
            Party::Node => self.node_signed,
            Party::Platform => self.platform_signed,
        }
    }

    fn holds(self, guard: Guard) -> bool {
        match guard {
            Guard::None => true,
            Guard::CapacityFree => self.capacity_free,
            Guard::WithinOffer => self.within_offer,
            Guard::WindowOpen => self.window_open,
            Guard::AmountMatches => self.amount_matches,
        }
    }
}

/// An act that is allowed: the state after it and what it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// State after.
    pub next: &'a str,
    /// Entries to write.
    pub writes: &'a [Write],
}

/// Why an act is not allowed; `code` travels in IF2 answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The table has no rule for the act in this state.
    #[error("act {act} is not allowed in state {state}")]
    NotAllowed {
        /// The contract's state.
        state: String,
        /// The act.
        act: String,
    },
    /// A signature the rule asks for is missing or wrong.
    #[error("act {act} lacks the signature of the {party:?}")]
    Unsigned {
        /// The act.
        act: String,
        /// Whose signature.
        party: Party,
    },
    /// A guard does not hold.
    #[error("act {act}: {guard:?} does not hold")]
    Guarded {
        /// The act.
        act: String,
        /// Which guard.
        guard: Guard,
    },
}

impl Refusal {
    /// The code of the IF2 error table.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::NotAllowed { .. } => "state",
            Refusal::Unsigned { .. } => "signature",
            Refusal::Guarded { guard: Guard::CapacityFree, .. } => "stock",
            Refusal::Guarded { guard: Guard::AmountMatches, .. } => "amount",
            Refusal::Guarded { .. } => "offer",
        }
    }
}

/// One step of a contract.
///
/// # Errors
/// The [`Refusal`] that names the missing rule, signature or guard.
pub fn next<'a>(table: &'a RuleTable, state: &str, act: &str, facts: Facts) -> Result<Step<'a>, Refusal> {
    let not_allowed = || Refusal::NotAllowed { state: state.to_owned(), act: act.to_owned() };
    let row = table.row(state, act).ok_or_else(not_allowed)?;
    if let Some(party) = row.signers.iter().copied().find(|party| !facts.signed(*party)) {
        return Err(Refusal::Unsigned { act: act.to_owned(), party });
    }
    if !facts.holds(row.guard) {
        return Err(Refusal::Guarded { act: act.to_owned(), guard: row.guard });
    }
    Ok(Step { next: &row.next, writes: &row.writes })
}

/// One step of a contract as an entry of its log shows it: [`next`], and the rule must write an entry of that kind. So no notice
/// and no status ever does what takes a bill, a payment or a score.
///
/// # Errors
/// The [`Refusal`]; an entry of another kind is an act that is not allowed.
pub fn replay<'a>(
    table: &'a RuleTable,
    state: &str,
    act: &str,
    kind: EntryKind,
    facts: Facts,
) -> Result<Step<'a>, Refusal> {
    let step = next(table, state, act, facts)?;
    if step.writes.iter().any(|write| write.kind() == kind) {
        return Ok(step);
    }
    Err(Refusal::NotAllowed { state: state.to_owned(), act: act.to_owned() })
}

/// The overall score in hundredths (paper formula 10): weights of the scored kinds scaled to 10,000, half-even.
///
/// # Errors
/// [`Error::Field`] when a score is above 100, a kind has no weight or all weights are zero.
pub fn overall_score(table: &RuleTable, items: &[ScoreItem]) -> Result<u16, Error> {
    let wrong = |why: String| Error::Field { what: "ScoreCard", field: "items", why };
    let (mut sum, mut weights) = (0_u64, 0_u64);
    for item in items {
        if item.score > 100 {
            return Err(wrong(format!("score {} is above 100", item.score)));
        }
        let kind = KINDS.get(usize::from(item.code)).ok_or_else(|| wrong(format!("code {} is unknown", item.code)))?;
        let weight = table.parameters.score_weights.get(kind.name()).copied();
        let weight = u64::from(weight.ok_or_else(|| wrong(format!("{} has no weight", kind.name())))?);
        weights = weights.checked_add(weight).ok_or(Error::Overflow { what: "sum of score weights" })?;
        let part = weight * u64::from(item.score) * 100;
        sum = sum.checked_add(part).ok_or(Error::Overflow { what: "overall score" })?;
    }
    if weights == 0 {
        return Err(wrong("the weights add up to zero".to_owned()));
    }
    let (quotient, twice) = (sum / weights, (sum % weights) * 2);
    let up = twice > weights || (twice == weights && quotient % 2 == 1);
    u16::try_from(quotient + u64::from(up)).map_err(|_| wrong("out of range".to_owned()))
}
