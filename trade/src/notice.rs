//! What a party asks of a running contract: suspend, resume, terminate, renew, dispute and whatever else the rule table lets a
//! buyer or the platform do with a signature of its own. Whether the act is allowed is `contract.rs`; money is `correction.rs`.

use der::Sequence;
use serde::Serialize;

use crate::{
    Error,
    entry::Deal,
    money::Money,
    octets::{self, ContractNo, Digest},
    prepaid,
    rules::{DISPUTE, RENEW},
    statement::{ContractValue, Offer, Payment, TERM_NS_MAX},
};

/// Longest `why`, characters.
pub const WHY_CHARS_MAX: usize = 400;

/// A longer term at the prices of the deal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Renewal {
    /// How much longer, ns, counted from the end of service in force.
    #[serde(with = "octets::text")]
    pub term_ns: u64,
    /// The ceiling of all bills from now on; not below the one in force.
    pub contract_value: ContractValue,
}

/// What buyer or platform signs to move a contract (travels and is stored as `Signed` over its DER).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Notice {
    /// Format version, 1.
    pub version: u8,
    /// The contract.
    pub contract_no: ContractNo,
    /// `{site}/{node}`.
    pub computing_pool_id: String,
    /// Entry hash of the deal.
    pub deal: Digest,
    /// Act of the rule table.
    pub act: String,
    /// When it was signed, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// Entry hash of the bill it is about; a dispute names one.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bill: Option<Digest>,
    /// Exactly when the act is `renew`.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Renewal>,
    /// Why, for a person; at most [`WHY_CHARS_MAX`] characters.
    pub why: String,
}

impl Notice {
    /// Whether the fields belong to the act and are in range. Signature and state are the contract's questions.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first violation.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field: &'static str, why: &str| Err(Error::Field { what: "Notice", field, why: why.to_owned() });
        if self.version != 1 {
            return wrong("version", "unknown, 1 expected");
        }
        let known = |b: u8| b.is_ascii_lowercase() || b == b'_';
        if !(1..=32).contains(&self.act.len()) || !self.act.bytes().all(known) {
            return wrong("act", "1 to 32 of a-z and _ expected");
        }
        if self.renewal.is_some() != (self.act == RENEW) {
            return wrong("renewal", "expected exactly when the act is renew");
        }
        if self.renewal.is_some_and(|renewal| renewal.term_ns == 0 || renewal.term_ns > TERM_NS_MAX) {
            return wrong("renewal", "the term must be above zero and at most ten years");
        }
        if self.act == DISPUTE && self.bill.is_none() {
            return wrong("bill", "a dispute names the bill");
        }
        if self.why.chars().count() > WHY_CHARS_MAX || self.why.chars().any(char::is_control) {
            return wrong("why", "at most 400 characters, none of them a control character");
        }
        Ok(())
    }
}

/// What of a deal its renewals have moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// End of service, not included, ns since 1970-01-01Z.
    pub service_end: i64,
    /// What all bills together may not exceed, or the price.
    pub value: ContractValue,
}

impl InForce {
    /// As the deal has it.
    pub fn of(deal: &Deal) -> Self {
        Self { service_end: deal.service_end, value: deal.contract_value }
    }

    /// Whether a renewal stays within the offer: the same kind of payment, a term that is offered, no lower ceiling, and
    /// asked before service ends. Of a prepaid contract the amount is the price of the whole longer term.
    pub fn takes(&self, renewal: &Renewal, (offer, deal): (&Offer, &Deal), time: i64) -> bool {
        let value = renewal.contract_value;
        renewal.term_ns <= offer.term_ns_max
            && value.payment == self.value.payment
            && time < self.service_end
            && self.renewed(renewal).is_ok_and(|longer| match value.payment {
                Payment::Postpaid => value.amount >= self.value.amount,
                Payment::Prepaid => {
                    let term_ns = longer.service_end.checked_sub(deal.contract_time);
                    let term_ns = term_ns.and_then(|ns| u64::try_from(ns).ok());
                    term_ns.is_some_and(|term_ns| prepaid::fits(offer, &deal.requirement, term_ns, &value))
                }
            })
    }

    /// What is in force after a renewal.
    ///
    /// # Errors
    /// [`Error::Overflow`] when service would end beyond the range of times.
    pub fn renewed(&self, renewal: &Renewal) -> Result<Self, Error> {
        let overflow = || Error::Overflow { what: "end of service" };
        let term_ns = i64::try_from(renewal.term_ns).map_err(|_| overflow())?;
        let service_end = self.service_end.checked_add(term_ns).ok_or_else(overflow)?;
        Ok(Self { service_end, value: renewal.contract_value })
    }

    /// What of the ceiling bills have left, whole fen; nothing is left below zero. `None`: the value is not a ceiling.
    ///
    /// # Errors
    /// [`Error::Overflow`].
    pub fn left(&self, billed: impl IntoIterator<Item = Money>) -> Result<Option<Money>, Error> {
        if self.value.payment != Payment::Postpaid {
            return Ok(None);
        }
        let left = billed.into_iter().try_fold(self.value.amount, Money::minus)?;
        Ok(Some(left.max(Money(0)).cut_to_fen()))
    }
}
