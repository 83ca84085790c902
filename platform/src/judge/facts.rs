//! What is known when something is judged: the node's certificates and logs, its rule tables, the contracts concerned.
//! Plain data that `store` fills; nothing here decides or reads a database.

use std::collections::BTreeMap;

use hufu_gm::{Certificate, Hash, sm2::PublicKey, sm3::sm3};
use hufu_trade::{
    bill::Bill,
    decode,
    entry::{Certificates, Deal, EntryKind, EntryName, Rules, SignedStatement},
    if2::PLATFORM,
    money::Money,
    notice::InForce,
    octets::{ContractNo, Digest, Octets},
    rating::Recorded,
    rules::RuleTable,
    statement::{Offer, Statement},
    usage::UsageRecord,
};

/// One log of one node as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogFacts {
    /// Blocks held.
    pub(crate) size: u64,
    /// Hash of the newest block; zeros when there is none.
    pub(crate) head: Hash,
    /// Epoch of the newest block.
    pub(crate) epoch: u64,
}

/// What the platform knows about one contract.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contract {
    /// State of the rule table; empty before the first browse.
    pub(crate) state: String,
    /// Rule table named by the offer.
    pub(crate) rules: Option<Digest>,
    /// The buyer's certificate id and key.
    pub(crate) buyer: Option<(Digest, PublicKey)>,
    /// Entry hash of the browse.
    pub(crate) browse: Option<Digest>,
    /// Hash of the offer's signed bytes, and the offer.
    pub(crate) offer: Option<(Digest, Offer)>,
    /// The order's entry, its statement, the bytes signed.
    pub(crate) order: Option<(EntryName, Statement, SignedStatement)>,
    /// Entry hash of the deal, and the deal.
    pub(crate) deal: Option<(Digest, Deal)>,
    /// What renewals have made of the deal.
    pub(crate) in_force: Option<InForce>,
    /// The newest accepted usage record.
    pub(crate) last: Option<Recorded>,
    /// Accepted records from the last one billed on; filled only where a bill is judged.
    pub(crate) records: Vec<Recorded>,
    /// Accepted bills with their entry hashes.
    pub(crate) bills: Vec<(Digest, Bill)>,
    /// Payments the operator recorded: bill number and amount.
    pub(crate) payments: Vec<(String, Money)>,
}

impl Contract {
    /// What its bills have left of the ceiling.
    ///
    /// # Errors
    /// [`hufu_trade::Error::Overflow`].
    pub(crate) fn left(&self) -> Result<Option<Money>, hufu_trade::Error> {
        let billed = self.bills.iter().map(|(_, bill)| bill.total);
        self.in_force.map_or(Ok(None), |in_force| in_force.left(billed))
    }

    /// Takes over an accepted entry. Bytes that do not decode were never accepted, so they change nothing.
    pub(crate) fn absorb(&mut self, kind: EntryKind, name: &EntryName, body: &[u8]) {
        match kind {
            EntryKind::Browse => {
                let Ok(signed) = decode::<SignedStatement>(body, "SignedStatement") else { return };
                let leaf = signed.certificates.first().and_then(|der| Certificate::from_der(der.as_bytes()).ok());
                self.buyer = leaf.map(|leaf| (Octets(leaf.id()), leaf.public_key().clone()));
                self.browse = Some(name.hash);
            }
            EntryKind::Offer => {
                let Ok(signed) = hufu_gm::Signed::from_bytes(body) else { return };
                let Ok(offer) = decode::<Offer>(signed.tbs(), "Offer") else { return };
                self.rules = Some(offer.rules);
                self.offer = Some((Octets(sm3(&[signed.tbs()])), offer));
            }
            EntryKind::Order => {
                let Ok(signed) = decode::<SignedStatement>(body, "SignedStatement") else { return };
                let Ok(statement) = signed.open() else { return };
                self.order = Some((name.clone(), statement, signed));
            }
            EntryKind::Deal => {
                let Ok(deal) = decode::<Deal>(body, "Deal") else { return };
                self.in_force = Some(InForce::of(&deal));
                self.deal = Some((name.hash, deal));
            }
            EntryKind::Usage | EntryKind::Gap => {
                let Ok(record) = decode::<UsageRecord>(body, "UsageRecord") else { return };
                self.last = Some((name.clone(), record.clone()));
                self.records.push((name.clone(), record));
            }
            EntryKind::Bill => {
                let Ok(bill) = decode::<Bill>(body, "Bill") else { return };
                self.bills.push((name.hash, bill));
            }
            _ => {}
        }
    }
}

/// Everything known about one node that judging one message needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// `{site}/{node}`.
    pub(crate) pool: String,
    /// The platform's trust anchors.
    pub(crate) anchors: Vec<Certificate>,
    /// The platform's certificate id and key.
    pub(crate) platform: Option<(Hash, PublicKey)>,
    /// Node certificates that were verified, by id.
    pub(crate) certificates: BTreeMap<Hash, Certificate>,
    /// Trade and finance.
    pub(crate) logs: [LogFacts; 2],
    /// The node's rule tables by the hash of their text.
    pub(crate) rules: BTreeMap<Digest, RuleTable>,
    /// The newest of them.
    pub(crate) rules_now: Option<Digest>,
    /// The contracts concerned.
    pub(crate) contracts: BTreeMap<ContractNo, Contract>,
    /// Stored entries that are named: hash to place and kind.
    pub(crate) named: BTreeMap<Digest, (EntryName, u16)>,
    /// The platform's clock, ns since 1970-01-01Z.
    pub(crate) now_ns: i64,
    /// The block at hand has waited for the other log long enough: judge it with what is there.
    pub(crate) waited: bool,
}

impl Facts {
    /// The rule table of a contract, or the newest one before its offer named one.
    pub(crate) fn table(&self, contract: Option<&Contract>) -> Option<&RuleTable> {
        let named = contract.and_then(|contract| contract.rules).or(self.rules_now)?;
        self.rules.get(&named)
    }

    /// The key of a verified node certificate.
    pub(crate) fn node_key(&self, id: &Hash) -> Option<&PublicKey> {
        self.certificates.get(id).map(Certificate::public_key)
    }

    /// Takes over an accepted entry that belongs to the node rather than a contract.
    pub(crate) fn absorb(&mut self, kind: EntryKind, body: &[u8]) {
        if kind == EntryKind::Rules
            && let Ok(rules) = decode::<Rules>(body, "Rules")
            && let Ok(table) = RuleTable::from_toml(&rules.text)
        {
            let hash = Octets(sm3(&[rules.text.as_bytes()]));
            self.rules.insert(hash, table);
            self.rules_now = Some(hash);
        }
    }
}

/// The certificates a `certificates` entry gives for the node; `None` for the platform's or for bytes of another shape.
pub(crate) fn node_certificates(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let listed: Certificates = decode(body, "Certificates").ok()?;
    let ders = listed.certificates.iter().map(|der| der.as_bytes().to_vec()).collect();
    (listed.role != PLATFORM).then_some(ders)
}
