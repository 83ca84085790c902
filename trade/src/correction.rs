//! What comes after a bill that was wrong: a correction that lowers what is due, and the refund of what was paid above it. A
//! bill is never edited. Whether the act is allowed is `contract.rs`.

use der::{Sequence, asn1::OctetString};
use serde::Serialize;

use crate::{
    Error,
    entry::EntryName,
    money::Money,
    octets::{self, ContractNo, Digest},
};

/// One reason for a lower amount.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Adjustment {
    /// Resource name of the line it lowers; empty for the bill as a whole.
    pub resource: String,
    /// Why, for a person.
    pub why: String,
    /// What it takes off: negative.
    pub amount: Money,
}

/// A correction of one bill (finance log). It only ever lowers: what is above the bill, the buyer never agreed to.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Correction {
    /// Format version, 1.
    pub version: u8,
    /// `{bill number}-c{n}`, n from 1.
    pub number: String,
    /// The contract.
    pub contract_no: ContractNo,
    /// `{site}/{node}`.
    pub computing_pool_id: String,
    /// Entry hash of the bill.
    pub bill: Digest,
    /// Entry hash of that bill's correction before this one.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub previous: Option<Digest>,
    /// The newest trade entry that moved the contract: the dispute it answers.
    pub rests_on: EntryName,
    /// When, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// What was due.
    pub before: Money,
    /// What it takes off, at least one.
    pub adjustments: Vec<Adjustment>,
    /// What is due: `before` and the adjustments, whole fen, not below zero.
    pub total: Money,
}

/// What a bill asks for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The bill's number.
    pub number: String,
    /// Entry hash of the bill.
    pub bill: Digest,
    /// Corrections so far.
    pub count: u32,
    /// Entry hash of the last of them.
    pub last: Option<Digest>,
    /// The amount.
    pub total: Money,
}

impl Due {
    /// As the bill has it.
    pub fn of(number: &str, bill: Digest, total: Money) -> Self {
        Self { number: number.to_owned(), bill, count: 0, last: None, total }
    }

    /// Whether the bill is still to be paid: one that asks for nothing is not.
    pub fn is_open(&self, is_paid: bool) -> bool {
        !is_paid && self.total > Money(0)
    }

    /// After a correction that stands in the log under `hash`.
    ///
    /// # Errors
    /// [`Error::Field`] naming what does not follow from the bill and its corrections before.
    pub fn corrected(&self, hash: Digest, correction: &Correction) -> Result<Self, Error> {
        let wrong = |field: &'static str, why: String| Err(Error::Field { what: "Correction", field, why });
        let count = self.count.checked_add(1).ok_or(Error::Overflow { what: "number of corrections" })?;
        let number = format!("{}-c{count}", self.number);
        if correction.version != 1 {
            return wrong("version", "unknown, 1 expected".to_owned());
        }
        if correction.number != number {
            return wrong("number", format!("{} where {number} is due", correction.number));
        }
        if correction.bill != self.bill || correction.previous != self.last {
            return wrong("previous", "it does not follow the bill and the correction before".to_owned());
        }
        if correction.before != self.total {
            return wrong("before", format!("{} where {} is due", correction.before, self.total));
        }
        if correction.adjustments.is_empty() || correction.adjustments.iter().any(|line| line.amount >= Money(0)) {
            return wrong("adjustments", "at least one, each negative: a correction only lowers a bill".to_owned());
        }
        let total = correction.adjustments.iter().map(|line| line.amount).try_fold(self.total, Money::plus)?;
        if correction.total != total || total < Money(0) || total != total.cut_to_fen() {
            let why = format!("{} where {total} follows; whole fen, not below zero", correction.total);
            return wrong("total", why);
        }
        Ok(Self { count, last: Some(hash), total, ..self.clone() })
    }
}

/// What was paid above a corrected bill went back, as the platform confirmed (finance log).
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct RefundPaid {
    /// Format version, 1.
    pub version: u8,
    /// The contract.
    pub contract_no: ContractNo,
    /// The bill's number.
    pub number: String,
    /// Entry hash of the bill.
    pub bill: Digest,
    /// Entry hash of the bill's last correction.
    pub correction: Digest,
    /// What went back: what was paid, less what is due.
    pub amount: Money,
    /// When, by the platform, ns since 1970-01-01Z.
    pub paid_at: i64,
    /// The trade entry it rests on.
    pub rests_on: EntryName,
    /// The platform's envelope, byte for byte.
    pub confirmation: OctetString,
}
