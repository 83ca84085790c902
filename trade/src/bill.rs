//! The bill as it is signed: lines, gaps, rounding, total, quality. Computing one is `rating.rs`.

use der::Sequence;
use serde::Serialize;

use crate::{
    entry::EntryName,
    money::{Money, UnitPrice},
    octets::{self, ContractNo, Digest},
    quality::QualityLine,
    rules::{BILL, BILL_PERIOD},
};

/// One line: a quantity of one resource in one tier at one price.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Line {
    /// Resource name.
    pub resource: String,
    /// Base unit of the quantity.
    pub unit: String,
    /// Quantity in base units.
    #[serde(with = "octets::text")]
    pub quantity: u128,
    /// Tier of the price, from 1.
    pub tier: u16,
    /// Price per named unit.
    pub unit_price: UnitPrice,
    /// The named unit.
    pub per: String,
    /// quantity x unit price, one half-even division to 10^-8 CNY.
    pub amount: Money,
}

/// A stretch that was not measured and how it was rated.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct RatedGap {
    /// `order_seq` of the gap record.
    pub order_seq: u64,
    /// Start, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub start: i64,
    /// End, not included.
    #[serde(with = "octets::time")]
    pub end: i64,
    /// The rule that rated it: `free`.
    pub rule: String,
    /// What it costs.
    pub amount: Money,
}

/// A bill.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Bill {
    /// Format version, 1.
    pub version: u8,
    /// `{contract number}-{n}`, n from 1.
    pub number: String,
    /// The contract.
    pub contract_no: ContractNo,
    /// `{site}/{node}`.
    pub computing_pool_id: String,
    /// The buyer's certificate id.
    pub buyer: Digest,
    /// Entry hash of the deal.
    pub deal: Digest,
    /// SM3 of the offer's signed bytes.
    pub offer: Digest,
    /// Start of the period, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub period_start: i64,
    /// End of the period, not included.
    #[serde(with = "octets::time")]
    pub period_end: i64,
    /// First usage record of the period.
    pub first_seq: u64,
    /// Last usage record of the period.
    pub last_seq: u64,
    /// The last usage record: the trade entry this bill rests on. The earlier ones hang on it by hash.
    pub last_record: EntryName,
    /// Exactly in a bill by period, made while service runs: the newest trade entry that moved the contract before it.
    #[asn1(context_specific = "3", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rests_on: Option<EntryName>,
    /// Entry hash of the order's previous bill.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub previous_bill: Option<Digest>,
    /// ISO 4217.
    pub currency: String,
    /// The rounding rule.
    pub rounding_rule: String,
    /// Line items in resource and tier order.
    pub lines: Vec<Line>,
    /// What was not measured.
    pub gaps: Vec<RatedGap>,
    /// The rounding line (抹零), zero or negative: cuts lines and gaps down to the fen.
    pub rounding: Money,
    /// What of that exceeds the ceiling the buyer signed and is not charged: negative; absent below the ceiling.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_ceiling: Option<Money>,
    /// What is due: lines, gaps, rounding and what is over the ceiling together.
    pub total: Money,
    /// Exactly under a prepaid contract: the price in force less the total, which goes back to the buyer.
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refund: Option<Money>,
    /// The quality delivered, in code order; absent where no record of the period read any.
    #[asn1(context_specific = "4", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Vec<QualityLine>>,
}

impl Bill {
    /// The act that it is of.
    pub fn act(&self) -> &'static str {
        if self.rests_on.is_some() { BILL_PERIOD } else { BILL }
    }
}
