//! The kinds of entries and their bodies, as `docs/evidence.asn1` has them. The ledger stores them as opaque octets.
//! Usage records and windows are in `usage.rs`, bills in `bill.rs`.

use der::{Sequence, asn1::OctetString};
use hufu_gm::Signed;
use serde::Serialize;

use crate::{
    Error,
    money::Money,
    octets::{self, ContractNo, Digest, Octets},
    statement::{ContractValue, Requirement, Statement},
};

/// Declares the entry kinds with number and name in one table.
macro_rules! kinds {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What an entry is: `EntryKind` of `docs/evidence.asn1`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum EntryKind { $($(#[$meta])* $name = $number),* }
        impl EntryKind {
            /// The kind of a number, if this version knows it.
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(EntryKind::$name),)* _ => None }
            }
            /// Its name in file names and messages.
            pub fn name(self) -> &'static str {
                match self { $(EntryKind::$name => $text),* }
            }
            /// Its number.
            pub fn number(self) -> u16 { self as u16 }
        }
    };
}
kinds! {
    /// Browse (paper figure 3): [`SignedStatement`] with the buyer's certificates.
    Browse = 1, "browse";
    /// Order (figure 4): [`SignedStatement`].
    Order = 2, "order";
    /// Deal (figure 5): [`Deal`].
    Deal = 3, "deal";
    /// Score (figure 6): [`SignedStatement`].
    Score = 4, "score";
    /// Rule table: [`Rules`].
    Rules = 10, "rules";
    /// Window: [`crate::usage::Window`].
    Window = 11, "window";
    /// Usage record: [`crate::usage::UsageRecord`].
    Usage = 12, "usage";
    /// Gap: a [`crate::usage::UsageRecord`] whose reason is a gap.
    Gap = 13, "gap";
    /// Order status: [`OrderStatus`].
    OrderStatus = 14, "order_status";
    /// A party asks for an act of the contract: `Signed` over [`crate::notice::Notice`].
    Notice = 15, "notice";
    /// What a user of the site did with a contract's data: [`UserOperation`].
    UserOperation = 17, "user_operation";
    /// What a buyer looks for: `Signed` over [`crate::demand::Demand`], by the platform.
    Demand = 18, "demand";
    /// The node's answer to it: `Signed` over [`crate::demand::Response`].
    Response = 19, "response";
    /// The node changes its key: [`crate::rotation::SignedRotation`].
    KeyRotation = 20, "key_rotation";
    /// Receipt of the platform: `Signed` over [`Receipt`].
    Receipt = 21, "receipt";
    /// Offer: `Signed` over [`crate::statement::Offer`].
    Offer = 22, "offer";
    /// Certificates of the node and the platform: [`Certificates`].
    Certificates = 23, "certificates";
    /// The trade log names a finance entry back: [`FinanceLink`].
    FinanceLink = 24, "finance_link";
    /// A bad tail found at open: [`SetAside`].
    SetAside = 25, "set_aside";
    /// A new epoch after a restore: [`Epoch`].
    Epoch = 26, "epoch";
    /// Which devices an order holds: [`crate::allocation::Allocation`].
    Allocation = 27, "allocation";
    /// What a buyer chose of the answers to its demand: `Signed` over [`crate::matching::Matching`], by the platform.
    Matching = 28, "matching";
    /// An account of the platform: `Signed` over [`crate::account::Account`], by the platform.
    Account = 29, "account";
    /// Bill: [`crate::bill::Bill`] (finance log).
    Bill = 40, "bill";
    /// Correction of a bill: [`crate::correction::Correction`] (finance log).
    Correction = 41, "correction";
    /// Payment: [`Payment`] (finance log).
    Payment = 42, "payment";
    /// Refund paid: [`crate::correction::RefundPaid`] (finance log).
    RefundPaid = 43, "refund_paid";
}

/// A buyer's statement with its signature; the body of browse, order and score entries.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct SignedStatement {
    /// DER of [`Statement`], as signed.
    pub statement: OctetString,
    /// DER `SM2Signature` by the buyer.
    pub signature: OctetString,
    /// Browse only: the buyer's certificate and its issuers up to, not including, the anchor (DER, leaf first).
    pub certificates: Vec<OctetString>,
}

impl SignedStatement {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`Error::Malformed`] when a part is larger than DER lengths allow.
    pub fn new(statement: &[u8], signature: &[u8], certificates: &[Vec<u8>]) -> Result<Self, Error> {
        let octets = |bytes: &[u8]| octet_string(bytes, "SignedStatement");
        Ok(Self {
            statement: octets(statement)?,
            signature: octets(signature)?,
            certificates: certificates.iter().map(|c| octets(c)).collect::<Result<_, _>>()?,
        })
    }

    /// The statement inside, checked for form.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Field`].
    pub fn open(&self) -> Result<Statement, Error> {
        let statement: Statement = crate::decode(self.statement.as_bytes(), "Statement")?;
        statement.check()?;
        Ok(statement)
    }
}

/// `OCTET STRING` of some bytes.
///
/// # Errors
/// [`Error::Malformed`] when they are longer than DER lengths allow.
pub fn octet_string(bytes: &[u8], what: &'static str) -> Result<OctetString, Error> {
    OctetString::new(bytes).map_err(|source| Error::Malformed { what, source: source.into() })
}

/// An entry named from another: where it is and what it hashes to.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct EntryName {
    /// 0 trade, 1 finance.
    pub log: u8,
    /// Block height.
    pub height: u64,
    /// Index in the block.
    pub index: u32,
    /// SM3(00 || entry).
    pub hash: Digest,
}

/// What the node countersigns in a deal (formula 8, with the statement's hash, node and time added).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Countersignature {
    /// SM3 of the order statement's DER.
    pub statement: Digest,
    /// SM3 of the buyer's signature's DER.
    pub buyer_signature: Digest,
    /// `{site}/{node}`.
    pub computing_pool_id: String,
    /// When the node accepted, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
}

/// Deal: the order accepted.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Deal {
    /// Format version, 1.
    pub version: u8,
    /// ConType, 3.
    pub con_type: u8,
    /// ContractNo.
    pub contract_no: ContractNo,
    /// ContractTime: start of service, ns since 1970-01-01Z.
    pub contract_time: i64,
    /// `{site}/{node}`.
    pub computing_pool_id: String,
    /// The buyer's certificate id.
    pub buyer: Digest,
    /// The order entry it accepts.
    pub order: EntryName,
    /// SM3 of the offer's signed bytes.
    pub offer: Digest,
    /// RequirementList, as ordered.
    pub requirement: Requirement,
    /// ContractValue, as ordered.
    pub contract_value: ContractValue,
    /// The buyer's order signature.
    pub buyer_signature: OctetString,
    /// `Signed` over [`Countersignature`], by the node.
    pub countersignature: Signed,
    /// End of service, not included, ns since 1970-01-01Z.
    pub service_end: i64,
}

/// First entry of the trade log, and later amendments: the contract's rule table.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Rules {
    /// Format version, 1.
    pub version: u8,
    /// The table's TOML text.
    pub text: String,
}

/// Certificates a reader of the log needs, leaf first, without anchors.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Certificates {
    /// `node` or `platform`.
    pub role: String,
    /// DER certificates.
    pub certificates: Vec<OctetString>,
}

/// A state change of a contract that no other entry shows.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct OrderStatus {
    /// Format version, 1.
    pub version: u8,
    /// The contract.
    pub contract_no: ContractNo,
    /// Act of the rule table.
    pub act: String,
    /// State before.
    pub from: String,
    /// State after.
    pub to: String,
    /// When, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// Why, for a person.
    pub why: String,
}

/// The site read, wrote out or erased what is personal of a contract. It moves no contract and is no part of a pack: it is there
/// for whoever asks who saw what.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct UserOperation {
    /// Format version, 1.
    pub version: u8,
    /// The contract.
    pub contract_no: ContractNo,
    /// Who: the user's name on the site's own machine, as the system told it.
    pub operator: String,
    /// [`READ`], [`EXPORT`] or [`ERASE`].
    pub act: String,
    /// State of the contract then.
    pub state: String,
    /// When, ns since 1970-01-01Z.
    #[serde(with = "octets::time")]
    pub time: i64,
    /// Why, for a person.
    pub why: String,
}

/// [`UserOperation::act`]: personal entries were shown.
pub const READ: &str = "read";
/// [`UserOperation::act`]: personal entries were written out, into files or a pack.
pub const EXPORT: &str = "export";
/// [`UserOperation::act`]: personal entries were erased on the node.
pub const ERASE: &str = "erase";

impl UserOperation {
    /// The form that its fields alone show.
    ///
    /// # Errors
    /// [`Error::Field`].
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field, why: String| Err(Error::Field { what: "UserOperation", field, why });
        if ![READ, EXPORT, ERASE].contains(&self.act.as_str()) {
            return wrong("act", format!("{:?} is unknown", self.act.chars().take(40).collect::<String>()));
        }
        if self.operator.is_empty() {
            return wrong("operator", "nobody".to_owned());
        }
        Ok(())
    }
}

/// Why an entry was refused by the platform.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Refused {
    /// Entry hash.
    pub entry: Digest,
    /// Code of the IF2 error table.
    pub code: String,
}

/// A bill the platform has stored.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct ReceivedBill {
    /// Entry hash.
    pub entry: Digest,
    /// The bill's number.
    pub number: String,
}

/// The platform's receipt: it holds every block below `size`, and cosigns that checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct Receipt {
    /// Format version, 1.
    pub version: u8,
    /// `{site}/{node}` whose log it is.
    pub computing_pool_id: String,
    /// 0 trade, 1 finance.
    pub log: u8,
    /// Blocks held.
    pub size: u64,
    /// RFC 6962 root over the hashes of those blocks.
    pub root: Digest,
    /// When they were durably stored, ns since 1970-01-01Z, by the platform's clock.
    #[serde(with = "octets::time")]
    pub stored_at: i64,
    /// Entries it refuses; they stay recorded, in dispute.
    pub refused: Vec<Refused>,
    /// Bills among the blocks this receipt is the first to cover.
    pub bills: Vec<ReceivedBill>,
}

/// The trade log names a finance entry back (standard 7.6: two-way tracing).
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct FinanceLink {
    /// The contract.
    pub contract_no: ContractNo,
    /// Kind of the finance entry.
    pub kind: u16,
    /// The finance entry.
    pub finance: EntryName,
}

/// A bill was paid, as the platform confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Payment {
    /// Format version, 1.
    pub version: u8,
    /// The contract.
    pub contract_no: ContractNo,
    /// The bill's number.
    pub number: String,
    /// Entry hash of the bill.
    pub bill: Digest,
    /// What was paid.
    pub amount: Money,
    /// When, by the platform, ns since 1970-01-01Z.
    pub paid_at: i64,
    /// The trade entry it rests on.
    pub rests_on: EntryName,
    /// The platform's envelope, byte for byte.
    pub confirmation: OctetString,
}

/// A damaged tail that open set aside; nothing of it was ever acknowledged by a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Sequence, Serialize)]
pub struct SetAside {
    /// Segment number.
    pub segment: u32,
    /// Where in the segment.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// SM3 of those bytes.
    pub sm3: Digest,
}

/// A new epoch: the node could not fetch back what a receipt says it once signed. The first entry of the block that opens the
/// epoch of a log is the one of that log; the trade log's block holds that of the finance log, too.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Epoch {
    /// The new epoch.
    pub epoch: u64,
    /// 0 trade, 1 finance.
    pub log: u8,
    /// Size this node holds: the height at which the log goes on.
    pub held: u64,
    /// Size that a receipt names; what lies from `held` up to it is lost. Not above `held` where nothing of this log is lost.
    pub receipted: u64,
    /// Why, for a person.
    pub why: String,
    /// The platform's envelope that says that it does not hold the range either, byte for byte; absent where nothing of this log
    /// is lost.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub answer: Option<OctetString>,
}

impl Epoch {
    /// Whether this is the entry that the block at `height` of `log` must begin with to open `epoch` there.
    pub fn opens(&self, log: u8, height: u64, epoch: u64) -> bool {
        (self.log, self.held, self.epoch) == (log, height, epoch)
    }
}

/// The key under which the ledger indexes an entry: the contract number padded with zeros, or zeros for what belongs to none.
pub fn key_of(contract_no: Option<ContractNo>) -> [u8; 32] {
    let mut key = [0; 32];
    if let Some(Octets(number)) = contract_no {
        key[..16].copy_from_slice(&number);
    }
    key
}
