//! What is known when something is judged: the node's certificates and logs, its rule tables, the contracts concerned.
//! Plain data that `store` fills; nothing here decides or reads a database.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use hufu_gm::{Certificate, Hash, Signed, sm2::PublicKey, sm3::sm3};
use hufu_ledger::Block;
use hufu_trade::{
    bill::Bill,
    correction::{Correction, Due},
    decode,
    demand::Demand,
    entry::{Certificates, Deal, EntryKind, EntryName, Payment, Rules, SignedStatement},
    if2::PLATFORM,
    money::Money,
    notice::{InForce, Notice},
    octets::{ContractNo, Digest, Octets},
    rating::Recorded,
    rotation::{SignedRotation, Signers},
    rules::RuleTable,
    statement::{Offer, Statement},
    usage::UsageRecord,
};

use super::{code::Code, kinds::demand_of};

/// One log of one node as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogFacts {
    /// Blocks held.
    pub(crate) size: u64,
    /// Hash of the newest block; zeros when there is none.
    pub(crate) head: Hash,
    /// Epoch of the newest block.
    pub(crate) epoch: u64,
    /// The largest size that a receipt was given for; above `size` what lies between is lost.
    pub(crate) receipted: u64,
}

/// A bill of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Billed {
    /// Hash of its entry.
    pub(crate) hash: Digest,
    /// As it was signed.
    pub(crate) bill: Bill,
    /// What it asks for now.
    pub(crate) due: Due,
    /// Another total follows from the records, and no correction has mended that.
    pub(crate) refused: bool,
    /// The log holds its payment.
    pub(crate) paid: bool,
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
    /// The newest trade entry that moved the contract: what a finance entry rests on.
    pub(crate) moved: Option<EntryName>,
    /// What renewals have made of the deal.
    pub(crate) in_force: Option<InForce>,
    /// The newest accepted usage record.
    pub(crate) last: Option<Recorded>,
    /// Accepted records from the last one billed on; filled only where a bill is judged.
    pub(crate) records: Vec<Recorded>,
    /// Bills in the order of the log; of the refused ones those that a correction may mend.
    pub(crate) bills: Vec<Billed>,
    /// SM3 of what was signed, of each notice: none counts twice.
    pub(crate) notices: Vec<Digest>,
    /// Payments the operator recorded: bill number and amount.
    pub(crate) payments: Vec<(String, Money)>,
    /// Refunds the operator recorded: bill number and amount.
    pub(crate) refunds: Vec<(String, Money)>,
}

impl Contract {
    /// The bill of an entry.
    pub(crate) fn billed(&self, hash: Digest) -> Option<&Billed> {
        self.bills.iter().find(|billed| billed.hash == hash)
    }

    /// The bills that count before the one of an entry, `previous` being the one that it names; all of them where that one is not
    /// here yet. One that was refused counts where the next goes on from it.
    pub(crate) fn before(&self, hash: Digest, previous: Option<Digest>) -> Vec<&Billed> {
        let mut named = previous;
        let mut before: Vec<&Billed> = Vec::new();
        let bills: Vec<&Billed> = self.bills.iter().take_while(|billed| billed.hash != hash).collect();
        for billed in bills.into_iter().rev() {
            let is_named = named == Some(billed.hash);
            if is_named {
                named = billed.bill.previous_bill;
            }
            if is_named || !billed.refused {
                before.push(billed);
            }
        }
        before.reverse();
        before
    }

    /// Whether another bill than this one is still to be paid.
    pub(crate) fn others_open(&self, bill: Digest) -> bool {
        self.bills.iter().any(|billed| billed.hash != bill && billed.due.is_open(billed.paid))
    }

    /// Takes over an accepted entry. Bytes that do not decode were never accepted, so they change nothing.
    pub(crate) fn absorb(&mut self, kind: EntryKind, name: &EntryName, body: &[u8]) {
        let moves = matches!(kind, EntryKind::Deal | EntryKind::OrderStatus | EntryKind::Notice | EntryKind::Score);
        if moves && self.moved.as_ref().is_none_or(|moved| (moved.height, moved.index) < (name.height, name.index)) {
            self.moved = Some(name.clone());
        }
        match kind {
            EntryKind::Browse => {
                let Ok(signed) = decode::<SignedStatement>(body, "SignedStatement") else { return };
                let leaf = signed.certificates.first().and_then(|der| Certificate::from_der(der.as_bytes()).ok());
                self.buyer = leaf.map(|leaf| (Octets(leaf.id()), leaf.public_key().clone()));
                self.browse = Some(name.hash);
            }
            EntryKind::Offer => {
                let Ok(signed) = Signed::from_bytes(body) else { return };
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
                let Ok(record) = decode(body, "UsageRecord") else { return };
                self.used(name, record);
            }
            EntryKind::Bill => {
                self.add_bill(name.hash, body, false);
            }
            EntryKind::Notice => {
                let Ok(signed) = Signed::from_bytes(body) else { return };
                let Ok(notice) = decode::<Notice>(signed.tbs(), "Notice") else { return };
                self.notices.push(Octets(sm3(&[signed.tbs()])));
                let renewed = notice.renewal.zip(self.in_force).and_then(|(longer, now)| now.renewed(&longer).ok());
                self.in_force = renewed.or(self.in_force);
            }
            EntryKind::Correction => {
                if let Some(billed) = self.corrected(name.hash, body) {
                    billed.refused = false;
                }
            }
            EntryKind::Payment => {
                let Ok(payment) = decode::<Payment>(body, "Payment") else { return };
                let paid = self.bills.iter_mut().filter(|billed| billed.hash == payment.bill);
                paid.for_each(|billed| billed.paid = true);
            }
            _ => {}
        }
    }

    /// Takes over an accepted usage record or gap.
    pub(crate) fn used(&mut self, name: &EntryName, record: UsageRecord) {
        self.last = Some((name.clone(), record.clone()));
        self.records.push((name.clone(), record));
    }

    /// The `order_seq` of the first usage record that bills to come may ask for: the last one of the newest bill that counts, behind
    /// which none is refused. A refused bill that is to be corrected is computed again, too.
    pub(crate) fn unbilled(&self) -> u64 {
        let counted = self.bills.iter().take_while(|billed| !billed.refused).last();
        counted.map_or(0, |billed| billed.bill.last_seq)
    }

    /// Takes over a refused entry: a bill whose amount is wrong stands in dispute until it is corrected far enough, every
    /// other entry changes nothing.
    pub(crate) fn absorb_refused(&mut self, kind: EntryKind, code: &str, name: &EntryName, body: &[u8]) {
        match kind {
            EntryKind::Bill if code == Code::Amount.name() => self.add_bill(name.hash, body, true),
            EntryKind::Correction if code == Code::Amount.name() => {
                self.corrected(name.hash, body);
            }
            _ => {}
        }
    }

    /// The bill that a correction follows, with what is due after it.
    fn corrected(&mut self, hash: Digest, body: &[u8]) -> Option<&mut Billed> {
        let correction: Correction = decode(body, "Correction").ok()?;
        let billed = self.bills.iter_mut().find(|billed| billed.hash == correction.bill)?;
        billed.due = billed.due.corrected(hash, &correction).ok()?;
        Some(billed)
    }

    fn add_bill(&mut self, hash: Digest, body: &[u8], refused: bool) {
        let Ok(bill) = decode::<Bill>(body, "Bill") else { return };
        let due = Due::of(&bill.number, hash, bill.total);
        self.bills.push(Billed { hash, bill, due, refused, paid: false });
    }
}

/// Rule tables that are kept once they were read.
const TABLES_MAX: usize = 64;

/// The table of a text, by the text's hash. A node's is the same with every message, and reading it costs more than judging a message by it.
fn table_of(hash: Digest, text: &str) -> Option<Arc<RuleTable>> {
    static TABLES: Mutex<BTreeMap<Hash, Arc<RuleTable>>> = Mutex::new(BTreeMap::new());
    if let Some(table) = TABLES.lock().unwrap_or_else(PoisonError::into_inner).get(&hash.0) {
        return Some(Arc::clone(table));
    }
    let table = Arc::new(RuleTable::from_toml(text).ok()?);
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    if tables.len() >= TABLES_MAX {
        tables.pop_first();
    }
    tables.insert(hash.0, Arc::clone(&table));
    Some(table)
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
    /// Which key signs which block.
    pub(crate) signers: Signers,
    /// Demands that answers name, by entry hash: SM3 of what was signed, and the demand.
    pub(crate) demands: BTreeMap<Digest, (Digest, Demand)>,
    /// Trade and finance.
    pub(crate) logs: [LogFacts; 2],
    /// The node's rule tables by the hash of their text.
    pub(crate) rules: BTreeMap<Digest, Arc<RuleTable>>,
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
        self.rules.get(&named).map(AsRef::as_ref)
    }

    /// A block stands at the end of its log.
    pub(crate) fn go_on(&mut self, block: &Block) {
        if let Some(stored) = self.logs.get_mut(usize::from(block.header().log.number())) {
            stored.size = block.header().height.saturating_add(1);
            stored.head = block.hash();
            stored.epoch = block.header().epoch;
        }
    }

    /// The key of a verified node certificate.
    pub(crate) fn node_key(&self, id: &Hash) -> Option<&PublicKey> {
        self.certificates.get(id).map(Certificate::public_key)
    }

    /// Takes over an accepted entry that belongs to the node rather than a contract.
    /// `signer` is the certificate id of its block's key.
    pub(crate) fn absorb(&mut self, kind: EntryKind, (name, signer): (&EntryName, Hash), body: &[u8]) {
        match kind {
            EntryKind::Certificates => {
                let ders = node_certificates(body).unwrap_or_default();
                let leaf = ders.first().and_then(|der| Certificate::from_der(der).ok());
                if let Some(leaf) = leaf {
                    self.signers.introduce(leaf.public_key());
                }
            }
            EntryKind::KeyRotation => self.rotate(name.height, signer, body),
            EntryKind::Demand => self.demands.extend(demand_of(body).map(|demand| (name.hash, demand))),
            _ => {}
        }
        if kind == EntryKind::Rules
            && let Ok(rules) = decode::<Rules>(body, "Rules")
            && let hash = Octets(sm3(&[rules.text.as_bytes()]))
            && let Some(table) = table_of(hash, &rules.text)
        {
            self.rules.insert(hash, table);
            self.rules_now = Some(hash);
        }
    }
}

impl Facts {
    /// The new key of an accepted rotation signs from here on.
    fn rotate(&mut self, height: u64, signer: Hash, body: &[u8]) {
        let Ok(signed) = decode::<SignedRotation>(body, "SignedRotation") else { return };
        let leaf = signed.certificates.first().and_then(|der| Certificate::from_der(der.as_bytes()).ok());
        let (Ok(rotation), Some(leaf), Some(old)) = (signed.open(), leaf, self.node_key(&signer).cloned()) else {
            return;
        };
        if self.signers.rotate(height, &rotation, (&old, leaf.public_key())).is_ok() {
            self.certificates.insert(leaf.id(), leaf);
        }
    }
}

/// The certificates a `certificates` entry gives for the node; `None` for the platform's or for bytes of another shape.
pub(crate) fn node_certificates(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let listed: Certificates = decode(body, "Certificates").ok()?;
    let ders = listed.certificates.iter().map(|der| der.as_bytes().to_vec()).collect();
    (listed.role != PLATFORM).then_some(ders)
}
