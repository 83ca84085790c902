//! Reconciliation of a node and its platform over a period: 支付对账 (7.4). Each side signs what its own books hold; the second names the
//! first, so both signatures stand for one comparison, whose differences anybody computes again. Where the books are is not known here.

use std::collections::BTreeMap;

use der::Sequence;
use hufu_gm::sm3::sm3;
use serde::Serialize;

use crate::{
    Error,
    entry::{EntryKind, EntryName},
    if2::{PLATFORM, segment_ok},
    money::Money,
    octets::{self, ContractNo, Digest, Octets},
};

/// Most lines of one statement; a node with more in a month reconciles by days.
pub const LINES_MAX: usize = 20_000;
/// Most octets of one signed statement.
pub const BYTES_MAX: usize = 4 << 20;

/// Whose books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Side {
    /// The node's: its ledger.
    Node = 0,
    /// The platform's: what it holds of that ledger, and the money it recorded.
    Platform = 1,
}

/// One order, bill, correction, payment or refund.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct ReconciliationLine {
    /// Number of an entry kind: deal (3), bill (40), correction (41), payment (42), refund_paid (43).
    pub kind: u16,
    /// The contract's number for an order; the correction's; otherwise the bill's.
    pub number: String,
    /// The contract.
    pub contract_no: ContractNo,
    /// What it tells of itself: start of service, end of the billed period, time of the correction, when the money moved; ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// Price or ceiling of an order, total of a bill, what is due after a correction, what was paid or went back. Absent where it
    /// was erased.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub amount: Option<Money>,
    /// Its entry in the node's ledger; absent for money of which the node's log tells nothing yet.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub entry: Option<EntryName>,
    /// Code under which the platform refuses it.
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    pub refused: Option<String>,
}

/// One side's books of one node over one period (travels as `Signed` over its DER, by that side).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Reconciliation {
    /// Format version, 1.
    pub version: u8,
    /// `{site}/{node}`.
    pub computing_pool_id: String,
    /// 0 the node's, 1 the platform's.
    pub side: u8,
    /// Start of the period, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub from: i64,
    /// Its end, not included.
    #[serde(with = "octets::time")]
    pub until: i64,
    /// When this was made, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// Blocks of the node's trade log that it rests on.
    pub trade_size: u64,
    /// Root over them.
    pub trade_root: Digest,
    /// Blocks of its finance log.
    pub finance_size: u64,
    /// Root over them.
    pub finance_root: Digest,
    /// SM3 of the DER of the other side's statement, which this one answers.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub other: Option<Digest>,
    /// What the books hold, by kind, number and time.
    pub lines: Vec<ReconciliationLine>,
}

/// Why the two sides differ in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The node's ledger holds it and the platform has not received that block yet.
    NotSent,
    /// The platform holds a block that is not in the node's ledger: it was restored from an older copy.
    Lost,
    /// The platform recorded money that the node's ledger does not tell of yet: the node has not asked since, or the amount is not the one due.
    NotConfirmed,
    /// The node's ledger tells of money that the platform has no record of.
    NotRecorded,
    /// The platform refuses the entry.
    Refused,
    /// Both have it, with other amounts.
    Amount,
    /// Both have it with the same amount, at other times.
    Time,
    /// Both have it, and it is another entry.
    Entry,
    /// One side does not list what its own statement says it holds: its books are wrong.
    Missing,
}

impl Cause {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Cause::NotSent => "not_sent",
            Cause::Lost => "lost",
            Cause::NotConfirmed => "not_confirmed",
            Cause::NotRecorded => "not_recorded",
            Cause::Refused => "refused",
            Cause::Amount => "amount",
            Cause::Time => "time",
            Cause::Entry => "entry",
            Cause::Missing => "missing",
        }
    }
}

/// One line in which the sides differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<'a> {
    /// The node's line, if it has one.
    pub node: Option<&'a ReconciliationLine>,
    /// The platform's.
    pub platform: Option<&'a ReconciliationLine>,
    /// Why.
    pub cause: Cause,
}

/// What a line is found by.
type Key<'a> = (u16, &'a str);

impl ReconciliationLine {
    fn key(&self) -> Key<'_> {
        (self.kind, &self.number)
    }

    /// Its kind of entry, if it is one that reconciliation knows.
    pub fn entry_kind(&self) -> Option<EntryKind> {
        let kind = EntryKind::from_number(self.kind)?;
        KINDS.contains(&kind).then_some(kind)
    }

    fn is_money(&self) -> bool {
        matches!(self.entry_kind(), Some(EntryKind::Payment | EntryKind::RefundPaid))
    }
}

/// What is reconciled.
pub const KINDS: [EntryKind; 5] =
    [EntryKind::Deal, EntryKind::Bill, EntryKind::Correction, EntryKind::Payment, EntryKind::RefundPaid];

impl Reconciliation {
    /// Puts the lines of a period into their order.
    pub fn sorted(mut lines: Vec<ReconciliationLine>) -> Vec<ReconciliationLine> {
        lines.sort_by(|a, b| (a.key(), a.time).cmp(&(b.key(), b.time)));
        lines
    }

    /// Whose books these are.
    ///
    /// # Errors
    /// [`Error::Field`] for a side that is neither.
    pub fn side(&self) -> Result<Side, Error> {
        match self.side {
            0 => Ok(Side::Node),
            1 => Ok(Side::Platform),
            other => {
                let why = format!("{other}: 0 for the node or 1 for the platform expected");
                Err(Error::Field { what: "Reconciliation", field: "side", why })
            }
        }
    }

    /// Whether its fields are in range. Signature and clock are the reader's questions.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first violation.
    pub fn check(&self) -> Result<(), Error> {
        let wrong =
            |field: &'static str, why: &str| Err(Error::Field { what: "Reconciliation", field, why: why.to_owned() });
        if self.version != 1 {
            return wrong("version", "unknown, 1 expected");
        }
        let named = self.computing_pool_id.split_once('/');
        if !named.is_some_and(|(site, node)| segment_ok(site) && segment_ok(node) && node != PLATFORM) {
            return wrong("computingPoolId", "{site}/{node} expected");
        }
        let side = self.side()?;
        if self.from >= self.until {
            return wrong("until", "not after from");
        }
        if self.lines.len() > LINES_MAX {
            return wrong("lines", "more than 20000; reconcile a shorter period");
        }
        if !self.lines.is_sorted_by(|a, b| a.key() < b.key()) {
            return wrong("lines", "not by kind and number, each once");
        }
        for line in &self.lines {
            if line.entry_kind().is_none() {
                return wrong("lines", "a kind that is not reconciled");
            }
            if !(self.from..self.until).contains(&line.time) {
                return wrong("lines", "a line is not of the period");
            }
            if line.number.is_empty() || line.number.len() > 64 || !line.number.is_ascii() {
                return wrong("lines", "a number of 1 to 64 characters expected");
            }
            if side == Side::Node && (line.entry.is_none() || line.refused.is_some()) {
                return wrong("lines", "a node names the entry of each line, and refuses none");
            }
        }
        Ok(())
    }

    /// What the other side names it by: SM3 of its DER as signed.
    pub fn digest(tbs: &[u8]) -> Digest {
        Octets(sm3(&[tbs]))
    }

    /// Whether two statements are of the same node and period, and one of each side.
    ///
    /// # Errors
    /// [`Error::Field`] naming what does not fit.
    pub fn fits(&self, platform: &Reconciliation) -> Result<(), Error> {
        let wrong =
            |field: &'static str, why: &str| Err(Error::Field { what: "Reconciliation", field, why: why.to_owned() });
        if (self.side()?, platform.side()?) != (Side::Node, Side::Platform) {
            return wrong("side", "one statement of the node and one of the platform expected");
        }
        if self.computing_pool_id != platform.computing_pool_id {
            return wrong("computingPoolId", "the statements are of two nodes");
        }
        if (self.from, self.until) != (platform.from, platform.until) {
            return wrong("from", "the statements are of two periods");
        }
        Ok(())
    }

    /// Blocks that it rests on in the log of an entry.
    fn size_of(&self, entry: &EntryName) -> u64 {
        if entry.log == 0 { self.trade_size } else { self.finance_size }
    }
}

/// Every line in which the books differ, by kind and number. Both must fit each other ([`Reconciliation::fits`]).
pub fn differences<'a>(node: &'a Reconciliation, platform: &'a Reconciliation) -> Vec<Difference<'a>> {
    let mut pairs: BTreeMap<Key<'a>, [Option<&'a ReconciliationLine>; 2]> = BTreeMap::new();
    for line in &node.lines {
        pairs.entry(line.key()).or_default()[0] = Some(line);
    }
    for line in &platform.lines {
        pairs.entry(line.key()).or_default()[1] = Some(line);
    }
    let differs = |[own, other]: [Option<&'a ReconciliationLine>; 2]| {
        let cause = match (own, other) {
            (Some(own), Some(other)) => both(own, other)?,
            (Some(own), None) => only_node(own, platform),
            (None, Some(other)) => only_platform(other, node),
            (None, None) => return None,
        };
        Some(Difference { node: own, platform: other, cause })
    };
    pairs.into_values().filter_map(differs).collect()
}

fn both(node: &ReconciliationLine, platform: &ReconciliationLine) -> Option<Cause> {
    let other_entry = match (&node.entry, &platform.entry) {
        (Some(own), Some(other)) => own.hash != other.hash,
        _ => false,
    };
    let other_amount = match (node.amount, platform.amount) {
        (Some(own), Some(other)) => own != other,
        // What was erased at one side is told by its entry.
        _ => false,
    };
    if platform.refused.is_some() {
        Some(Cause::Refused)
    } else if other_amount {
        Some(Cause::Amount)
    } else if other_entry || node.contract_no != platform.contract_no {
        Some(Cause::Entry)
    } else if node.time != platform.time && node.amount.is_some() {
        Some(Cause::Time)
    } else if node.is_money() && platform.entry.is_none() {
        // The confirmation stands at the node and its block is still on the way.
        Some(Cause::NotSent)
    } else {
        None
    }
}

fn only_node(line: &ReconciliationLine, platform: &Reconciliation) -> Cause {
    match &line.entry {
        Some(entry) if entry.height >= platform.size_of(entry) && !line.is_money() => Cause::NotSent,
        _ if line.is_money() => Cause::NotRecorded,
        _ => Cause::Missing,
    }
}

fn only_platform(line: &ReconciliationLine, node: &Reconciliation) -> Cause {
    match &line.entry {
        Some(entry) if entry.height >= node.size_of(entry) => Cause::Lost,
        None if line.is_money() => Cause::NotConfirmed,
        _ => Cause::Missing,
    }
}

/// Sums of one kind: how many lines, and the sum of what is not erased and not refused.
///
/// # Errors
/// [`Error::Overflow`].
pub fn sum(books: &Reconciliation, kind: EntryKind) -> Result<(usize, Money), Error> {
    let lines = books.lines.iter().filter(|line| line.entry_kind() == Some(kind) && line.refused.is_none());
    lines
        .into_iter()
        .try_fold((0, Money(0)), |(count, sum), line| Ok((count + 1, sum.plus(line.amount.unwrap_or(Money(0)))?)))
}
