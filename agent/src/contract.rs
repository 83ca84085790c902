//! One contract of this node and its bills, as their entries tell them. Taking entries into account is `book.rs`.

use std::cell::OnceCell;

use hufu_gm::{sm2::PublicKey, sm3::Hash};
use hufu_trade::{
    bill::Bill,
    correction::Due,
    entry::{Deal, EntryName},
    money::Money,
    notice::InForce,
    octets::{ContractNo, Digest},
    rating::rate_quantities,
    statement::Offer,
    usage::{Reading, UsageRecord},
};

/// A bill of a contract.
#[derive(Clone, Debug)]
pub(crate) struct Billed {
    pub(crate) name: EntryName,
    pub(crate) bill: Bill,
    /// What it asks for, after its corrections.
    pub(crate) due: Due,
    /// What was paid.
    pub(crate) paid: Option<Money>,
    /// What was paid above what is due went back.
    pub(crate) refunded: bool,
    /// The trade log names it back.
    pub(crate) linked: bool,
    /// The platform's receipt covers it.
    pub(crate) receipted: bool,
    /// The platform's receipt refuses it.
    pub(crate) refused: bool,
}

impl Billed {
    /// Entry hash of the last correction, or of the bill where there is none: what the platform judges.
    pub(crate) fn newest(&self) -> Digest {
        self.due.last.unwrap_or(self.name.hash)
    }
}

/// One contract.
#[derive(Clone, Debug)]
pub(crate) struct Contract {
    pub(crate) no: ContractNo,
    /// State of the rule table.
    pub(crate) state: String,
    /// When that state was entered, ns since 1970-01-01Z.
    pub(crate) since: i64,
    /// The buyer's certificate id.
    pub(crate) buyer: Digest,
    /// The buyer's key; `None` once it was erased.
    pub(crate) buyer_key: Option<PublicKey>,
    /// What was personal of it was erased: it answers nobody any more.
    pub(crate) erased: bool,
    pub(crate) browse: EntryName,
    /// SM3 of the browse statement: the same statement again is a retry, another one a conflict.
    pub(crate) browse_hash: Hash,
    /// The offer, its place and the hash of its signed bytes.
    pub(crate) offer: Option<(EntryName, Offer, Digest)>,
    /// The order's place and statement hash.
    pub(crate) order: Option<(EntryName, Hash)>,
    pub(crate) deal: Option<(EntryName, Deal)>,
    /// The deal with its renewals.
    pub(crate) in_force: Option<InForce>,
    /// SM3 of what was signed, and place, of each notice: the same one again is a retry.
    pub(crate) notices: Vec<(Hash, EntryName)>,
    /// The totals at the last resumption: the meter counts from there.
    pub(crate) base: Vec<Reading>,
    /// When that was, ns since 1970-01-01Z.
    pub(crate) resumed: Option<i64>,
    /// [`Self::is_near_ceiling`], rated once a record, and only when it is asked: a replay rates nothing.
    pub(crate) near_ceiling: OnceCell<bool>,
    /// The last usage record or gap.
    pub(crate) last: Option<(EntryName, UsageRecord)>,
    /// The newest trade entry that moved the contract.
    pub(crate) moved: Option<EntryName>,
    pub(crate) bills: Vec<Billed>,
    /// The score's place and statement hash.
    pub(crate) score: Option<(EntryName, Hash)>,
}

impl Contract {
    /// A contract of which only the browse is known.
    pub(crate) fn new(
        no: ContractNo,
        browse: &EntryName,
        (state, since): (String, i64),
        (buyer, buyer_key): (Digest, Option<PublicKey>),
        browse_hash: Hash,
    ) -> Self {
        Self {
            no,
            state,
            since,
            buyer,
            buyer_key,
            erased: false,
            browse: browse.clone(),
            browse_hash,
            offer: None,
            order: None,
            deal: None,
            in_force: None,
            notices: Vec::new(),
            base: Vec::new(),
            resumed: None,
            near_ceiling: OnceCell::new(),
            last: None,
            moved: None,
            bills: Vec::new(),
            score: None,
        }
    }

    /// Units of the product the deal holds.
    pub(crate) fn quantity(&self) -> u32 {
        let items = self.deal.iter().flat_map(|(_, deal)| &deal.requirement.items);
        items.fold(0, |sum: u32, item| sum.saturating_add(item.quantity))
    }

    /// What its bills have left of the ceiling; `None` without one.
    ///
    /// # Errors
    /// [`hufu_trade::Error::Overflow`].
    pub(crate) fn left(&self) -> Result<Option<Money>, hufu_trade::Error> {
        self.in_force.map_or(Ok(None), |in_force| in_force.left(self.bills.iter().map(|billed| billed.bill.total)))
    }

    /// Whether the cost since the deal and twice that of the newest record exceed the ceiling. Costs that cannot be computed are
    /// the bill's matter.
    pub(crate) fn is_near_ceiling(&self) -> bool {
        *self.near_ceiling.get_or_init(|| self.last.as_ref().is_some_and(|(_, record)| self.nears_ceiling(record)))
    }

    fn nears_ceiling(&self, record: &UsageRecord) -> bool {
        // The record's totals are those since the deal, earlier bills included: they are held against the whole ceiling.
        let ceiling = self.in_force.map_or(Ok(None), |in_force| in_force.left([]));
        let (Ok(Some(ceiling)), Some((_, offer, _))) = (ceiling, &self.offer) else { return false };
        let cost = |part: fn(&Reading) -> Option<u128>| -> Option<i128> {
            let readings = record.readings.iter();
            let quantities = readings.filter_map(|reading| Some((reading.resource().ok()?, part(reading)?)));
            rate_quantities(&offer.tariff, &quantities.collect::<Vec<_>>()).ok().map(|rated| rated.total.0)
        };
        let now = cost(|reading| reading.total);
        let before = cost(|reading| reading.total?.checked_sub(reading.delta.unwrap_or(0)));
        now.zip(before).is_some_and(|(now, before)| {
            now.checked_sub(before)
                .and_then(|last| last.checked_mul(2)?.checked_add(now))
                .is_none_or(|sum| sum > ceiling.0)
        })
    }
}
