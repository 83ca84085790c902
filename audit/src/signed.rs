//! The kinds of signatures in a pack: who makes one, and when it says it was made. Checking them is `verdict/signatures.rs`.

use hufu_ledger::{BlockHeader, Checkpoint};
use hufu_trade::{
    entry::{Countersignature, Receipt},
    statement::{Offer, Statement},
};

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    Buyer,
    Node,
    Platform,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Buyer => "buyer",
            Role::Node => "node",
            Role::Platform => "platform",
        }
    }
}

/// What is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Browse,
    Offer,
    Order,
    Deal,
    Score,
    Block,
    Checkpoint,
    Receipt,
}

impl Kind {
    const ALL: [Kind; 8] =
        [Kind::Browse, Kind::Offer, Kind::Order, Kind::Deal, Kind::Score, Kind::Block, Kind::Checkpoint, Kind::Receipt];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Browse => "browse",
            Kind::Offer => "offer",
            Kind::Order => "order",
            Kind::Deal => "deal",
            Kind::Score => "score",
            Kind::Block => "block",
            Kind::Checkpoint => "checkpoint",
            Kind::Receipt => "receipt",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn role(self) -> Role {
        match self {
            Kind::Browse | Kind::Order | Kind::Score => Role::Buyer,
            Kind::Offer | Kind::Deal | Kind::Block | Kind::Checkpoint => Role::Node,
            Kind::Receipt => Role::Platform,
        }
    }

    /// When the signed bytes say they were signed, ns since 1970; `None` when they are not of this kind.
    pub(crate) fn time(self, tbs: &[u8]) -> Option<i64> {
        match self {
            Kind::Browse | Kind::Order | Kind::Score => {
                let statement: Statement = hufu_trade::decode(tbs, "Statement").ok()?;
                let due = match self {
                    Kind::Browse => 1,
                    Kind::Order => 2,
                    _ => 4,
                };
                (statement.con_type == due).then_some(statement.contract_time)
            }
            Kind::Offer => Some(hufu_trade::decode::<Offer>(tbs, "Offer").ok()?.valid_from),
            Kind::Deal => Some(hufu_trade::decode::<Countersignature>(tbs, "Countersignature").ok()?.time),
            Kind::Block => Some(BlockHeader::from_bytes(tbs).ok()?.time),
            Kind::Checkpoint => Some(Checkpoint::from_bytes(tbs).ok()?.time),
            Kind::Receipt => Some(hufu_trade::decode::<Receipt>(tbs, "Receipt").ok()?.stored_at),
        }
    }
}
