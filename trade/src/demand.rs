//! What a buyer is looking for and what a node proposes for it: 需求定制, standard 6.5, 7.5 and table 1. Neither binds a buyer: an
//! order does, with its own offer. Who may see a demand and whether there is capacity is not decided here.

use der::Sequence;
use hufu_gm::sm3::sm3;
use serde::Serialize;

use crate::{
    Error,
    if2::{PLATFORM, segment_ok},
    money::Money,
    octets::{self, Digest, Octets},
    resource::Resource,
    statement::{Reservation, TERM_NS_MAX},
};

/// Number of a demand or a proposal: first 16 bytes of SM3 over its own DER with 16 zero bytes in the number's place. The same
/// content has the same number, and another content never has it.
pub type ContentNo = Octets<16>;

/// Most nodes a demand is directed to.
pub const POOLS_MAX: usize = 64;
/// Most items of a demand.
pub const ITEMS_MAX: usize = 64;
/// Most resource minima of an item.
pub const MINIMA_MAX: usize = 16;
/// Most attributes of a demand.
pub const ATTRIBUTES_MAX: usize = 32;
/// Longest value of an attribute and longest reason of a refusal, characters.
pub const TEXT_CHARS_MAX: usize = 400;
/// The classes of products there are (standard 4).
pub const CLASSES: [&str; 3] = ["IaaS", "PaaS", "SaaS"];

/// One line of what is looked for: 特定规格的虚拟机及数量 (6.5, 1).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct DemandItem {
    /// One of [`CLASSES`].
    pub class: String,
    /// The least each unit must have; by resource name, each once; empty where only the class counts.
    pub minima: Vec<Reservation>,
    /// Units, at least 1.
    pub quantity: u32,
}

/// A technical or other wish in the words of the template: 技术指标需求, 使用场景 (6.5). Never who or where the buyer is.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct DemandAttribute {
    /// 1 to 64 of `a-z 0-9 _ -`; what it means the template says (`region`, `qos`, `scene`).
    pub name: String,
    /// 1 to [`TEXT_CHARS_MAX`] characters, none of them a control character.
    pub value: String,
}

/// What a buyer looks for, as the platform passes it on (travels and is stored as `Signed` over its DER, by the platform).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Demand {
    /// Format version, 1.
    pub version: u8,
    /// Its number, from its content.
    pub demand_no: ContentNo,
    /// Who asks: the buyer's certificate id.
    pub buyer: Digest,
    /// Who passes it on and signs: `{site}/platform`.
    pub relay: String,
    /// When it was published, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// Until when answers are taken, not included.
    #[serde(with = "octets::time")]
    pub valid_until: i64,
    /// The nodes it is directed to, `{site}/{node}`, rising; absent: public.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<String>>,
    /// The template its attributes belong to, 1 to 64 of `a-z 0-9 _ -`.
    pub template: String,
    /// What is looked for.
    pub items: Vec<DemandItem>,
    /// Wishes in the template's words; names rising.
    pub attributes: Vec<DemandAttribute>,
    /// Service term, ns.
    #[serde(with = "octets::text")]
    pub term_ns: u64,
    /// Service may start from here on, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub start_from: i64,
    /// And before this.
    #[serde(with = "octets::time")]
    pub start_until: i64,
    /// The most that all of it may cost; absent: not told.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Money>,
}

fn number(der: &[u8]) -> ContentNo {
    let hash = sm3(&[der]);
    let mut number = [0; 16];
    number.copy_from_slice(&hash[..16]);
    Octets(number)
}

/// A site or node name, an id.
pub(crate) fn is_pool(pool: &str) -> bool {
    pool.split_once('/').is_some_and(|(site, node)| segment_ok(site) && segment_ok(node) && node != PLATFORM)
}

pub(crate) fn is_text(text: &str, least: usize) -> bool {
    (least..=TEXT_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

pub(crate) fn rises<T: Ord>(values: impl Iterator<Item = T>) -> bool {
    let values: Vec<T> = values.collect();
    values.is_sorted_by(|a, b| a < b)
}

impl DemandItem {
    /// The first of the minima that a unit with these reservations does not have. `gpu` without a kind is met by any; a name that
    /// is no resource by none.
    pub fn lacking(&self, unit: &[Reservation]) -> Option<&Reservation> {
        self.minima.iter().find(|least| {
            let Ok(wanted) = least.resource.parse::<Resource>() else { return true };
            !unit.iter().any(|one| {
                let same = one.resource.parse::<Resource>().is_ok_and(|own| {
                    own.kind == wanted.kind
                        && own.reserved == wanted.reserved
                        && (wanted.qualifier.is_none() || own.qualifier == wanted.qualifier)
                });
                same && one.quantity >= least.quantity
            })
        })
    }
}

impl Demand {
    /// The number that its content gives.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it does not fit DER.
    pub fn number(&self) -> Result<ContentNo, Error> {
        Ok(number(&crate::encode(&Self { demand_no: Octets([0; 16]), ..self.clone() }, "Demand")?))
    }

    /// Whether its fields are in range and its number is that of its content. Signature and clock are the reader's questions.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first violation.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field: &'static str, why: &str| Err(Error::Field { what: "Demand", field, why: why.to_owned() });
        if self.version != 1 {
            return wrong("version", "unknown, 1 expected");
        }
        if self.relay.split_once('/').is_none_or(|(site, name)| !segment_ok(site) || name != PLATFORM) {
            return wrong("relay", "{site}/platform expected");
        }
        if self.time >= self.valid_until {
            return wrong("validUntil", "not after its own time");
        }
        if let Some(pools) = &self.pools
            && (!(1..=POOLS_MAX).contains(&pools.len()) || !pools.iter().all(|p| is_pool(p)) || !rises(pools.iter()))
        {
            return wrong("pools", "1 to 64 nodes, rising, each once");
        }
        if !segment_ok(&self.template) {
            return wrong("template", "1 to 64 of a-z 0-9 _ - expected");
        }
        if !(1..=ITEMS_MAX).contains(&self.items.len()) {
            return wrong("items", "1 to 64 items expected");
        }
        for item in &self.items {
            let least = &item.minima;
            if !CLASSES.contains(&item.class.as_str()) || item.quantity == 0 {
                return wrong("items", "a class is unknown or a quantity zero");
            }
            let known = |least: &Reservation| least.resource.parse::<crate::resource::Resource>().is_ok();
            let names = least.iter().map(|least| &least.resource);
            if least.len() > MINIMA_MAX || !least.iter().all(known) || !rises(names) {
                return wrong("items", "at most 16 minima, of known resources, rising, each once");
            }
        }
        let named = |one: &DemandAttribute| segment_ok(&one.name) && is_text(&one.value, 1);
        if self.attributes.len() > ATTRIBUTES_MAX
            || !self.attributes.iter().all(named)
            || !rises(self.attributes.iter().map(|one| &one.name))
        {
            return wrong(
                "attributes",
                "at most 32, names rising, each value 1 to 400 characters without control ones",
            );
        }
        if self.term_ns == 0 || self.term_ns > TERM_NS_MAX {
            return wrong("termNs", "above zero and at most ten years");
        }
        if self.start_from >= self.start_until {
            return wrong("startUntil", "not after startFrom");
        }
        if self.ceiling.is_some_and(|ceiling| ceiling < Money(0)) {
            return wrong("ceiling", "negative");
        }
        if self.number()? != self.demand_no {
            return wrong("demandNo", "not that of the content");
        }
        Ok(())
    }

    /// Whether a node may see it.
    pub fn is_for(&self, pool: &str) -> bool {
        self.pools.as_ref().is_none_or(|pools| pools.iter().any(|other| other == pool))
    }
}

/// What a node proposes, and the capacity it holds for it.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Proposal {
    /// Product of its catalogue.
    pub product_id: String,
    /// Revision of the catalogue.
    pub catalogue_revision: u64,
    /// Units held, at least 1.
    pub quantity: u32,
    /// Service term, ns.
    #[serde(with = "octets::text")]
    pub term_ns: u64,
    /// SM3 of the DER of `Tariff`: the price terms that an offer will have.
    pub tariff: Digest,
    /// What the whole is likely to cost; whole fen, not negative. It binds nobody.
    pub estimate: Money,
    /// Until when the capacity is held, not included.
    #[serde(with = "octets::time")]
    pub hold_until: i64,
}

/// Why a node proposes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct DemandRefusal {
    /// Code of the IF2 error table.
    pub code: String,
    /// Why, for a person; at most [`TEXT_CHARS_MAX`] characters.
    pub why: String,
}

/// A node's answer to a demand (travels and is stored as `Signed` over its DER, by the node).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Response {
    /// Format version, 1.
    pub version: u8,
    /// SM3 of the DER of [`Demand`]: the same at every node.
    pub demand: Digest,
    /// Entry hash of the demand in this node's log.
    pub follows: Digest,
    /// Its number, from its content.
    pub proposal_no: ContentNo,
    /// `{site}/{node}`.
    pub computing_pool_id: String,
    /// When, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// Exactly one of this and `refusal`.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposal: Option<Proposal>,
    /// Exactly one of this and `proposal`.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<DemandRefusal>,
}

impl Response {
    /// The number that its content gives.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it does not fit DER.
    pub fn number(&self) -> Result<ContentNo, Error> {
        Ok(number(&crate::encode(&Self { proposal_no: Octets([0; 16]), ..self.clone() }, "Response")?))
    }

    /// Whether its fields are in range and its number is that of its content.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first violation.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field: &'static str, why: &str| Err(Error::Field { what: "Response", field, why: why.to_owned() });
        if self.version != 1 {
            return wrong("version", "unknown, 1 expected");
        }
        if !is_pool(&self.computing_pool_id) {
            return wrong("computingPoolId", "{site}/{node} expected");
        }
        match (&self.proposal, &self.refusal) {
            (Some(proposal), None) => {
                if !segment_ok(&proposal.product_id) || proposal.quantity == 0 {
                    return wrong("proposal", "no product, or a quantity of zero");
                }
                if proposal.term_ns == 0 || proposal.term_ns > TERM_NS_MAX {
                    return wrong("proposal", "the term must be above zero and at most ten years");
                }
                if proposal.estimate < Money(0) || proposal.estimate != proposal.estimate.cut_to_fen() {
                    return wrong("proposal", "the estimate must be whole fen, not below zero");
                }
                if proposal.hold_until <= self.time {
                    return wrong("proposal", "the capacity is held until a time before this answer");
                }
            }
            (None, Some(refusal)) => {
                let known = |b: u8| b.is_ascii_lowercase() || b == b'_';
                let coded = (1..=32).contains(&refusal.code.len()) && refusal.code.bytes().all(known);
                if !coded || !is_text(&refusal.why, 0) {
                    return wrong("refusal", "a code of a-z and _, and at most 400 characters why");
                }
            }
            _ => return wrong("proposal", "exactly one of proposal and refusal expected"),
        }
        if self.number()? != self.proposal_no {
            return wrong("proposalNo", "not that of the content");
        }
        Ok(())
    }

    /// Whether it answers a demand whose entry in the node's log has the hash `entry`, and whose DER the hash `hash`: the same
    /// demand, one that the node may see, before it lapsed. What is proposed need not be what was looked for: 主动的方案定制 (6.5, 3), the buyer chooses.
    ///
    /// # Errors
    /// [`Error::Field`] naming what does not fit.
    pub fn answers(&self, entry: Digest, (hash, demand): (Digest, &Demand)) -> Result<(), Error> {
        let wrong = |field: &'static str, why: &str| Err(Error::Field { what: "Response", field, why: why.to_owned() });
        if self.follows != entry || self.demand != hash {
            return wrong("demand", "it answers another demand");
        }
        if !demand.is_for(&self.computing_pool_id) {
            return wrong("computingPoolId", "the demand is directed to other nodes");
        }
        if self.time >= demand.valid_until {
            return wrong("time", "the demand has lapsed");
        }
        Ok(())
    }
}
