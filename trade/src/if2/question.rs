//! What the platform asks of a node about an order at any moment: what of its money goes back (退款金额确认) and its bills (后付费账单查询).
//! Both are computed from the node's ledger and leave no entry; how they are computed is `refund.rs` and the agent's.

use serde::{Deserialize, Serialize};

use crate::if2::Sealed;

/// Body of `refund-amount`, a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundAmount {
    /// Contract number, 32 hexadecimal digits.
    pub contract_no: String,
    /// For service that ends at this moment, RFC 3339 UTC, within the term; absent: when the node reads this. Once the last
    /// bill stands it changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// Answer to [`RefundAmount`]. Amounts are decimal CNY.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundState {
    /// Contract number.
    pub contract_no: String,
    /// State of the contract in its rule table.
    pub state: String,
    /// `prepaid` or `postpaid`.
    pub payment: String,
    /// What the amounts hold for, RFC 3339 UTC.
    pub at: String,
    /// True once no further bill comes: the amounts follow from bills and corrections. False: an estimate, as if everything
    /// that is reserved had been held until `at`.
    pub is_final: bool,
    /// What was paid: the price of a prepaid order, the sum of the paid bills of a postpaid one.
    pub paid_cny: String,
    /// What of it the node is owed.
    pub charged_cny: String,
    /// What of it goes back in all.
    pub refund_cny: String,
    /// What of that has gone back already, by the node's own log.
    pub refunded_cny: String,
}

/// Body of `bill-query`, a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BillQuery {
    /// Contract number, 32 hexadecimal digits.
    pub contract_no: String,
    /// Bills after the one of this number; absent: from the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Answer to [`BillQuery`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BillList {
    /// Contract number.
    pub contract_no: String,
    /// State of the contract in its rule table.
    pub state: String,
    /// The bills in the order of the node's finance log, as many as fit.
    pub bills: Vec<BillView>,
    /// More follow after the last of these.
    pub more: bool,
}

/// A bill as the node holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BillView {
    /// Bill number.
    pub bill_no: String,
    /// Height in the node's finance log.
    pub height: u64,
    /// DER of the bill's `Entry`.
    pub entry: Sealed,
    /// As signed, decimal CNY.
    pub total_cny: String,
    /// After its corrections, decimal CNY.
    pub due_cny: String,
    /// `payable`, `disputed`, `paid`, `refunded` or `refused`.
    pub state: String,
    /// Whether a receipt of the platform covers it.
    pub is_receipted: bool,
}
