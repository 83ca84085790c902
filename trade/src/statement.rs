//! What the buyer signs (paper formulas 6, 7 and 11) and the offer it answers. The bytes signed are the DER of `Statement`;
//! ZA and SM3 with the default user id. DER takes the place of the paper's bare `||`.

use der::{Enumerated, Sequence};
use hufu_gm::sm3::sm3;
use serde::Serialize;

use crate::{
    Error,
    money::Money,
    octets::{self, ContractNo, Digest, Octets},
    parent::ParentOrder,
    resource::KINDS,
    tariff::Tariff,
};

/// The paper's ConType of a statement or block.
pub mod con_type {
    /// Browse (paper figure 3).
    pub const BROWSE: u8 = 1;
    /// Order (figure 4).
    pub const ORDER: u8 = 2;
    /// Deal (figure 5).
    pub const DEAL: u8 = 3;
    /// Score (figure 6).
    pub const SCORE: u8 = 4;
}

/// Longest term of service, ns: ten years.
pub const TERM_NS_MAX: u64 = 10 * 365 * 86_400 * 1_000_000_000;

/// What a contract number is computed from; never stored, because the browse statement holds the same four values.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct ContractNoInput {
    /// The buyer's certificate id.
    pub buyer: Digest,
    /// `{site}/{node}`.
    pub pool: String,
    /// The buyer's nonce.
    pub nonce: Octets<16>,
    /// ContractTime of the browse statement, ns since 1970-01-01Z.
    pub time: i64,
}

/// ContractNo: first 16 bytes of SM3 over the DER of {buyer certificate id, pool, buyer's nonce, time}.
///
/// # Errors
/// [`Error::Malformed`] when `pool` does not fit DER.
pub fn contract_no(buyer: Digest, pool: &str, nonce: Octets<16>, time: i64) -> Result<ContractNo, Error> {
    let input = ContractNoInput { buyer, pool: pool.to_owned(), nonce, time };
    let hash = sm3(&[&crate::encode(&input, "ContractNoInput")?]);
    let mut number = [0; 16];
    number.copy_from_slice(&hash[..16]);
    Ok(Octets(number))
}

/// One line of the requirement list (算力需求表).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct RequirementItem {
    /// Product id of the catalogue.
    pub product_id: String,
    /// How many of it, at least 1.
    pub quantity: u32,
}

/// RequirementList.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Requirement {
    /// Revision of the catalogue the buyer saw.
    pub catalogue_revision: u64,
    /// What is ordered.
    pub items: Vec<RequirementItem>,
    /// Service term, ns, from the deal's time.
    #[serde(with = "octets::text")]
    pub term_ns: u64,
    /// Hash of the price terms: so the buyer signs the price.
    pub tariff: Digest,
    /// The parent order it is a child of, if it is one.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentOrder>,
}

/// Whether the contract value is a price or a ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumerated, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Payment {
    /// 包年包月: the value is the price.
    Prepaid = 0,
    /// 按量: the value is the ceiling; a bill above it is wrong.
    Postpaid = 1,
}

/// ContractValue (交易金额).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct ContractValue {
    /// Price or ceiling.
    pub payment: Payment,
    /// The amount.
    pub amount: Money,
}

/// One item of the score list.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct ScoreItem {
    /// `ResourceCode` of the kind scored.
    pub code: u8,
    /// 0..=100.
    pub score: u8,
}

/// OverallScore and ScoreList.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct ScoreCard {
    /// In hundredths, 0..=10,000: sum of weight_i x score_i (formula 10), half-even.
    pub overall: u16,
    /// One item a resource kind of the deal, in code order.
    pub items: Vec<ScoreItem>,
}

/// What a buyer signs.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Statement {
    /// Format version, 1.
    pub version: u8,
    /// 1 browse, 2 order, 3 deal, 4 score.
    pub con_type: u8,
    /// ContractNo: the same in all four.
    pub contract_no: ContractNo,
    /// ContractTime: when the buyer made it, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub contract_time: i64,
    /// ComputingPoolID: `{site}/{node}`.
    pub computing_pool_id: String,
    /// UserCertID: SM3 of the buyer's certificate.
    pub buyer: Digest,
    /// Browse only: the buyer's nonce, so that anybody can recompute the contract number.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Octets<16>>,
    /// Types 2 to 4: SM3 of the offer's signed bytes.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer: Option<Digest>,
    /// Types 2 to 4: entry hash of the entry it follows.
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follows: Option<Digest>,
    /// Types 2 and 3.
    #[asn1(context_specific = "3", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requirement: Option<Requirement>,
    /// Types 2 and 3.
    #[asn1(context_specific = "4", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contract_value: Option<ContractValue>,
    /// Type 4.
    #[asn1(context_specific = "5", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<ScoreCard>,
}

impl Statement {
    /// Whether the fields belong to the type and are in range. Signature, offer and stock are the contract's questions.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first violation.
    pub fn check(&self) -> Result<(), Error> {
        let wrong =
            |field: &'static str, why: &str| Err(Error::Field { what: "Statement", field, why: why.to_owned() });
        if self.version != 1 {
            return wrong("version", "unknown, 1 expected");
        }
        if !(1..=4).contains(&self.con_type) {
            return wrong("conType", "1 to 4 expected");
        }
        let (browse, order, score) = (self.con_type == 1, matches!(self.con_type, 2 | 3), self.con_type == 4);
        for (field, present, expected) in [
            ("nonce", self.nonce.is_some(), browse),
            ("offer", self.offer.is_some(), !browse),
            ("follows", self.follows.is_some(), !browse),
            ("requirement", self.requirement.is_some(), order),
            ("contractValue", self.contract_value.is_some(), order),
            ("score", self.score.is_some(), score),
        ] {
            if present != expected {
                return wrong(field, if expected { "required for this type" } else { "not allowed for this type" });
            }
        }
        if let Some(nonce) = self.nonce
            && contract_no(self.buyer, &self.computing_pool_id, nonce, self.contract_time)? != self.contract_no
        {
            return wrong("contractNo", "not computed from buyer, pool, nonce and time");
        }
        if let Some(requirement) = &self.requirement {
            if requirement.items.is_empty() || requirement.items.len() > 64 {
                return wrong("requirement", "1 to 64 items expected");
            }
            if requirement.items.iter().any(|item| item.quantity == 0) {
                return wrong("requirement", "a quantity is zero");
            }
            if requirement.term_ns == 0 || requirement.term_ns > TERM_NS_MAX {
                return wrong("requirement", "the term must be above zero and at most ten years");
            }
            requirement.parent.map_or(Ok(()), |parent| parent.check())?;
        }
        if self.contract_value.is_some_and(|value| value.amount.0 < 0) {
            return wrong("contractValue", "negative");
        }
        if let Some(card) = &self.score {
            let known = |item: &ScoreItem| usize::from(item.code) < KINDS.len() && item.score <= 100;
            let ordered = card.items.windows(2).all(|pair| pair[0].code < pair[1].code);
            if card.items.is_empty() || !ordered || !card.items.iter().all(known) || card.overall > 10_000 {
                return wrong("score", "one item 0..100 a resource kind in code order, overall 0..10000");
            }
        }
        Ok(())
    }
}

/// A resource the deal meters, with the source it is read from (named so that a buyer knows what is trusted).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Metered {
    /// Resource name.
    pub resource: String,
    /// Source, for example `cgroup-hybrid:cpuacct.usage`; empty when this node cannot meter it.
    pub source: String,
    /// Why it is not metered, where it is not.
    pub why_not: Option<String>,
}

/// The node's signed answer to a browse request (travels and is stored as `Signed` over its DER).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Offer {
    /// Format version, 1.
    pub version: u8,
    /// The browse statement's number.
    pub contract_no: ContractNo,
    /// `{site}/{node}`.
    pub computing_pool_id: String,
    /// The buyer's certificate id.
    pub buyer: Digest,
    /// Entry hash of the browse entry.
    pub browse: Digest,
    /// Product id.
    pub product_id: String,
    /// Revision of the catalogue.
    pub catalogue_revision: u64,
    /// How many can be ordered now.
    pub stock: u32,
    /// Longest term, ns.
    #[serde(with = "octets::text")]
    pub term_ns_max: u64,
    /// Start of validity, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub valid_from: i64,
    /// End of validity, not included.
    #[serde(with = "octets::time")]
    pub valid_until: i64,
    /// The price terms.
    pub tariff: Tariff,
    /// What is metered, and how.
    pub metered: Vec<Metered>,
    /// Length of a usage window, ns; windows are UTC multiples of it.
    #[serde(with = "octets::text")]
    pub window_ns: u64,
    /// What one unit reserves, as `reserved_*` resource names with quantity.
    pub reserves: Vec<Reservation>,
    /// SM3 of the rule table's text.
    pub rules: Digest,
    /// Fingerprint of the hardware that the node sells from; its own salted hash, so that it says nothing but "the same".
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Digest>,
}

/// Capacity one unit of a product holds while a deal is served.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Reservation {
    /// Resource name without prefix, for example `cpu`.
    pub resource: String,
    /// Cores in thousandths for `cpu`, bytes for `memory` and `storage`, devices for `gpu`.
    #[serde(with = "octets::text")]
    pub quantity: u64,
}
