//! The bodies of the IF2 messages: JSON, quantities and money as decimal strings, bytes as base64url, hashes as hexadecimal.
//! Signing them is `envelope.rs`.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::octets::Digest;

/// Octets that travel as base64url without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}
impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        URL_SAFE_NO_PAD.decode(text).map(Sealed).map_err(serde::de::Error::custom)
    }
}

/// What went wrong with a request, for a program and for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Code of the error table: `malformed`, `signature`, `certificate`, `state`, `offer`, `stock`, `amount`, `duplicate`,
    /// `unknown`, `busy`.
    pub code: String,
    /// The field it is about, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do, in both languages.
    pub remedy: Remedy,
}

/// A remedy in both languages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// English.
    pub en: String,
    /// Chinese.
    pub zh: String,
}

/// An answer: exactly one of `ok` and `error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// Done.
    Ok(T),
    /// Refused.
    Error(Problem),
}

/// One price of a product, for readers; the offer's tariff is what counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductPrice {
    /// Resource name.
    pub resource: String,
    /// Named unit.
    pub per: String,
    /// `flat`, `graduated` or `volume`.
    pub scheme: String,
    /// Decimal CNY of the first tier.
    pub price: String,
}

/// A product of the catalogue (standard 7.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Product id, `[a-z0-9_-]{1,64}`.
    pub id: String,
    /// `IaaS`, `PaaS` or `SaaS`.
    pub class: String,
    /// For a person.
    pub name: String,
    /// What one unit holds: resource name to quantity (cores in thousandths, bytes, devices), decimal strings.
    pub spec: std::collections::BTreeMap<String, String>,
    /// Units that can be ordered now.
    pub stock: u32,
    /// Prices.
    pub prices: Vec<ProductPrice>,
    /// What the site promises of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla: Option<ProductSla>,
    /// How the buyer gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<ProductDelivery>,
}

/// What a site promises of a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductSla {
    /// Share of the term in which it serves, basis points, 1 to 10,000.
    pub availability_bp: u32,
    /// Longest wait for a person's answer, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_s: Option<u32>,
}

/// How a buyer gets a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductDelivery {
    /// `address`, `account`, `api` or `result`.
    pub by: String,
    /// For a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// 产品上报: the node's catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    /// Rises with every change.
    pub revision: u64,
    /// Fingerprint of the hardware that is sold from, as in [`crate::statement::Offer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Digest>,
    /// The node's certificate chain, DER, leaf first, without the anchor.
    pub certificates: Vec<Sealed>,
    /// The products.
    pub products: Vec<Product>,
    /// The site's shop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shop: Option<ShopProfile>,
}

/// 算力店铺: how the site presents itself (6.3, 7.3). For people and the operator who admits it; nothing of it is evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShopProfile {
    /// Its name.
    pub name: String,
    /// What it offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Where a person asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// 统一社会信用代码 of who runs it (GB 32100).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit_code: Option<String>,
    /// 资质: what proves that it may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub qualifications: Vec<Qualification>,
}

/// One licence or certificate of a shop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qualification {
    /// What it is called.
    pub name: String,
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// SM3 of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// A buyer's browse statement, relayed by the platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Browse {
    /// DER of the statement.
    pub statement: Sealed,
    /// DER of the buyer's signature over it.
    pub signature: Sealed,
    /// The buyer's certificate chain, DER, leaf first.
    pub certificates: Vec<Sealed>,
    /// The product an offer is asked for.
    pub product_id: String,
}

/// The node's answer to a browse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// DER of `Signed` over the offer.
    pub offer: Sealed,
    /// The node's certificate chain, DER, leaf first, without the anchor.
    pub certificates: Vec<Sealed>,
    /// Text of the rule table whose hash the offer names.
    pub rules: String,
    /// DER of the browse entry.
    pub entry: Sealed,
}

/// 发送订单, and scores: a buyer's statement, relayed by the platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendOrder {
    /// DER of the statement.
    pub statement: Sealed,
    /// DER of the buyer's signature over it.
    pub signature: Sealed,
}

/// 订单状态变更: what buyer or platform asks of a running contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderChange {
    /// DER of `Signed` over the notice.
    pub notice: Sealed,
}

/// 用户账户下行同步 (7.1): an account of the platform, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountTold {
    /// DER of `Signed` over the account.
    pub account: Sealed,
}

/// The node's answer to [`AccountTold`]: the account stands in its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountHeld {
    /// The user's certificate id, 64 hexadecimal digits.
    pub user: String,
    /// The revision that stands.
    pub revision: u64,
}

/// The node's answer to an order, a score or a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Contract number, hexadecimal.
    pub contract_no: String,
    /// DER of the deal, score or notice entry.
    pub entry: Sealed,
    /// Where it stands: log, height, index.
    pub height: u64,
    /// Index in its block.
    pub index: u32,
    /// Where the service is reached, if the site gave an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// An entry with the proof that it stands in its node's log: with a score in the answer to `GET /v1/scores`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryProof {
    /// DER of the entry.
    pub entry: Sealed,
    /// Its index in the block.
    pub index: u32,
    /// DER of `Signed` over the block's header, by the node.
    pub header: Sealed,
    /// From the entry's hash to the root in the header, one `L|R hex` a line.
    pub entry_path: String,
    /// From the header's leaf to the root in the receipt; empty without one.
    pub log_path: String,
    /// DER of the platform's signed receipt over it, once there is one.
    pub receipt: Option<Sealed>,
    /// The node's certificates as the platform knows them, DER.
    pub certificates: Vec<Sealed>,
}

/// A node asks how far the platform holds a log, and for what it holds from a height on. A question: its id takes in the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// 0 trade, 1 finance.
    pub log: u8,
    /// The first height that the node lacks: its own size of that log.
    pub from: u64,
    /// The node's certificate chain, DER, leaf first, without the anchor: it introduces a node as a catalogue does.
    pub certificates: Vec<Sealed>,
}

/// The platform's answer to [`Fetch`], by which the node judges what follows: it is signed and names the question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// As asked.
    pub log: u8,
    /// As asked.
    pub from: u64,
    /// Blocks that the platform holds of the log.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
    /// The largest size that the platform ever gave a receipt for; above `size` it has lost what lies between.
    pub receipted: u64,
    /// Root in that receipt; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipted_root: Option<Digest>,
    /// The highest signed header that the platform saw of a block that it does not hold (`Signed` over `BlockHeader`, as the node published
    /// it): the node signed so far. Absent where it saw none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Sealed>,
    /// Behind this answer comes one message of [`super::Blocks`] with the heights from `from` up to, and without, this one; absent
    /// when none comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Root over the first `next` blocks; with `next` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_root: Option<Digest>,
}

/// 后付费账单推送.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillPush {
    /// The bill's number.
    pub bill_no: String,
    /// Contract number, hexadecimal.
    pub contract_no: String,
    /// DER of the bill entry.
    pub entry: Sealed,
    /// Height in the finance log.
    pub height: u64,
    /// Total, decimal CNY.
    pub total_cny: String,
}

/// 后付费账单支付结果确认: the node asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentConfirm {
    /// The bill's number.
    pub bill_no: String,
}

/// The platform's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentState {
    /// The bill's number.
    pub bill_no: String,
    /// `unpaid`, `paid`, or `refunded` when something of it went back after.
    pub state: String,
    /// What was paid, decimal CNY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_cny: Option<String>,
    /// When, RFC 3339 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_at: Option<String>,
    /// What of a prepaid price goes back as the bill is paid, decimal CNY: exactly under a prepaid contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_cny: Option<String>,
    /// What went back, decimal CNY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refunded_cny: Option<String>,
    /// When, RFC 3339 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refunded_at: Option<String>,
    /// Where it was paid through its parent order: SM3 of the DER of `ParentBill`, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_bill: Option<String>,
}
