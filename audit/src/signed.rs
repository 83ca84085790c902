//! The kinds of signatures in a pack: who makes one, and what the signed bytes say of when and of which node. Checking them is
//! `verdict/signatures.rs`.

use hufu_ledger::{BlockHeader, Checkpoint, witness::Witnessed};
use hufu_trade::{
    confirm,
    entry::{Countersignature, Receipt},
    notice::Notice,
    party::platform_of,
    rotation::KeyRotation,
    statement::{Offer, Statement},
};

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    Buyer,
    Node,
    Platform,
    /// Another node, which saw a checkpoint.
    Witness,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Buyer => "buyer",
            Role::Node => "node",
            Role::Platform => "platform",
            Role::Witness => "witness",
        }
    }
}

/// What signed bytes say about their own signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// When they were signed, ns since 1970.
    pub(crate) at: i64,
    /// The node or platform that the signer's certificate must name; a buyer is named by its certificate id instead.
    pub(crate) signer: Option<String>,
}

/// What is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Browse,
    Offer,
    Order,
    Deal,
    Score,
    /// A notice of the buyer.
    Notice,
    /// A notice of the platform.
    PlatformNotice,
    Block,
    Checkpoint,
    Receipt,
    /// The platform's word inside a payment or refund: the characters of its envelope's payload.
    Confirmation,
    /// The old key's word in a rotation.
    RotationOld,
    /// The new key's.
    RotationNew,
    /// A cosignature of a checkpoint.
    Witnessed,
}

impl Kind {
    const ALL: [Kind; 14] = [
        Kind::Browse,
        Kind::Offer,
        Kind::Order,
        Kind::Deal,
        Kind::Score,
        Kind::Notice,
        Kind::PlatformNotice,
        Kind::Block,
        Kind::Checkpoint,
        Kind::Receipt,
        Kind::Confirmation,
        Kind::RotationOld,
        Kind::RotationNew,
        Kind::Witnessed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Browse => "browse",
            Kind::Offer => "offer",
            Kind::Order => "order",
            Kind::Deal => "deal",
            Kind::Score => "score",
            Kind::Notice => "notice",
            Kind::PlatformNotice => "platform-notice",
            Kind::Block => "block",
            Kind::Checkpoint => "checkpoint",
            Kind::Receipt => "receipt",
            Kind::Confirmation => "confirmation",
            Kind::RotationOld => "rotation-old",
            Kind::RotationNew => "rotation-new",
            Kind::Witnessed => "witnessed",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn role(self) -> Role {
        match self {
            Kind::Browse | Kind::Order | Kind::Score | Kind::Notice => Role::Buyer,
            Kind::Offer | Kind::Deal | Kind::Block | Kind::Checkpoint => Role::Node,
            Kind::RotationOld | Kind::RotationNew => Role::Node,
            Kind::PlatformNotice | Kind::Receipt | Kind::Confirmation => Role::Platform,
            Kind::Witnessed => Role::Witness,
        }
    }

    /// What the signed bytes say; `None` when they are not of this kind.
    pub(crate) fn said(self, tbs: &[u8]) -> Option<Said> {
        let (at, pool) = match self {
            Kind::Browse | Kind::Order | Kind::Score => {
                let statement: Statement = hufu_trade::decode(tbs, "Statement").ok()?;
                let due = match self {
                    Kind::Browse => 1,
                    Kind::Order => 2,
                    _ => 4,
                };
                if statement.con_type != due {
                    return None;
                }
                (statement.contract_time, statement.computing_pool_id)
            }
            Kind::Notice | Kind::PlatformNotice => {
                let notice: Notice = hufu_trade::decode(tbs, "Notice").ok()?;
                (notice.time, notice.computing_pool_id)
            }
            Kind::Offer => {
                let offer: Offer = hufu_trade::decode(tbs, "Offer").ok()?;
                (offer.valid_from, offer.computing_pool_id)
            }
            Kind::Deal => {
                let counter: Countersignature = hufu_trade::decode(tbs, "Countersignature").ok()?;
                (counter.time, counter.computing_pool_id)
            }
            Kind::Block => BlockHeader::from_bytes(tbs).map(|header| (header.time, header.node)).ok()?,
            Kind::Checkpoint => {
                Checkpoint::from_bytes(tbs).map(|checkpoint| (checkpoint.time, checkpoint.node)).ok()?
            }
            Kind::Receipt => {
                let receipt: Receipt = hufu_trade::decode(tbs, "Receipt").ok()?;
                (receipt.stored_at, receipt.computing_pool_id)
            }
            Kind::Confirmation => confirm::made(tbs)?,
            Kind::RotationOld | Kind::RotationNew => {
                let rotation: KeyRotation = hufu_trade::decode(tbs, "KeyRotation").ok()?;
                (rotation.time, rotation.computing_pool_id)
            }
            // Which nodes may witness is the reader's choice: `verdict/witnesses.rs`.
            Kind::Witnessed => (Witnessed::from_bytes(tbs).ok()?.time, String::new()),
        };
        let signer = match self.role() {
            Role::Buyer | Role::Witness => None,
            Role::Node => Some(pool),
            Role::Platform => Some(platform_of(&pool)),
        };
        Some(Said { at, signer })
    }
}
