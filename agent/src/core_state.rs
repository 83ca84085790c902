//! `core.state`: the contracts as they stand, kept beside the ledger so that a start reads the entries since, and not all of them.
//! A cache and nothing else: it is valid for two sizes and roots that the ledger vouches for, what it names is read from the ledger,
//! and whoever cannot use it replays. Nothing personal is in it (ADR 0011): of a browse, notice or payment it holds place, hash and
//! amount.

use std::cell::OnceCell;

use der::Sequence;
use hufu_gm::cert::Certificate;
use hufu_ledger::{Ledger, Log};
use hufu_trade::{
    Error,
    allocation::Device,
    correction::Due,
    decode, encode,
    entry::{EntryName, Receipt, Rules, SignedStatement},
    money::Money,
    notice::InForce,
    octets::{ContractNo, Digest, Octets},
    quality::Delivered,
    statement::{ContractValue, Offer},
    usage::Reading,
};

use crate::{
    book::Book,
    contract::{Billed, Contract, Span},
    demand::Demanded,
};

/// Room for a state: some thousand contracts, at about a kilobyte each.
pub(crate) const BYTES_MAX: usize = 16 << 20;
/// A state is written after so many blocks: reading them again takes some milliseconds.
pub(crate) const BLOCKS: u64 = 1024;
const VERSION: u8 = 5;

/// An entry and a hash of what was signed in it.
#[derive(Clone, Debug, Sequence)]
struct Named {
    name: EntryName,
    hash: Digest,
}

/// A finance entry that is named back.
#[derive(Clone, Debug, Sequence)]
struct LinkState {
    trade: u64,
    finance: u64,
}

/// The deal with its renewals.
#[derive(Clone, Debug, Sequence)]
struct InForceState {
    service_end: i64,
    value: ContractValue,
}

#[derive(Clone, Debug, Sequence)]
struct SpanState {
    first: u64,
    last: u64,
    boundary: i64,
    readings: Vec<Reading>,
}

#[derive(Clone, Debug, Sequence)]
struct BilledState {
    name: EntryName,
    corrections: u32,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    last_correction: Option<Digest>,
    due: Money,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    paid: Option<Money>,
    refunded: bool,
    linked: bool,
    receipted: bool,
    refused: bool,
    contested: bool,
    disputed: bool,
}

#[derive(Clone, Debug, Sequence)]
struct ContractState {
    no: ContractNo,
    state: String,
    since: i64,
    buyer: Digest,
    erased: bool,
    browse: Named,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    offer: Option<Named>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    order: Option<Named>,
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    deal: Option<EntryName>,
    #[asn1(context_specific = "3", tag_mode = "IMPLICIT", optional = "true")]
    in_force: Option<InForceState>,
    #[asn1(context_specific = "4", tag_mode = "IMPLICIT", optional = "true")]
    resumed: Option<i64>,
    #[asn1(context_specific = "5", tag_mode = "IMPLICIT", optional = "true")]
    last: Option<EntryName>,
    #[asn1(context_specific = "6", tag_mode = "IMPLICIT", optional = "true")]
    moved: Option<EntryName>,
    #[asn1(context_specific = "7", tag_mode = "IMPLICIT", optional = "true")]
    until: Option<i64>,
    #[asn1(context_specific = "8", tag_mode = "IMPLICIT", optional = "true")]
    score: Option<Named>,
    notices: Vec<Named>,
    base: Vec<Reading>,
    bills: Vec<BilledState>,
    spans: Vec<SpanState>,
    billed: Vec<Reading>,
    devices: Vec<Device>,
    #[asn1(context_specific = "9", tag_mode = "IMPLICIT", optional = "true")]
    base_delivered: Option<Vec<Delivered>>,
}

/// A demand that has not lapsed or whose proposal holds capacity; both are read from the ledger.
#[derive(Clone, Debug, Sequence)]
struct DemandState {
    demand: EntryName,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    response: Option<EntryName>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    matching: Option<EntryName>,
    released: bool,
}

/// Everything of [`Book`].
#[derive(Clone, Debug, Sequence)]
struct CoreState {
    version: u8,
    tables: Vec<String>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    window_end: Option<i64>,
    receipts: Vec<Receipt>,
    trade_obligation: u64,
    finance_obligation: u64,
    revision: u64,
    links: Vec<LinkState>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    last_erased: Option<ContractNo>,
    has_lost: bool,
    contracts: Vec<ContractState>,
    demands: Vec<DemandState>,
    accounts: Vec<EntryName>,
}

/// Why a state is of no use; the ledger is replayed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error(transparent)]
    Trade(#[from] Error),
    #[error(transparent)]
    Ledger(#[from] hufu_ledger::Error),
    #[error("{0}")]
    Wrong(String),
}

fn named((name, hash): &(EntryName, [u8; 32])) -> Named {
    Named { name: name.clone(), hash: Octets(*hash) }
}

/// The bytes of a state.
///
/// # Errors
/// [`Error::Malformed`] when it does not fit DER.
pub(crate) fn write(book: &Book) -> Result<Vec<u8>, Error> {
    let [trade_obligation, finance_obligation] = book.obligation;
    let state = CoreState {
        version: VERSION,
        tables: book.tables.iter().map(|(_, text, _)| text.clone()).collect(),
        window_end: book.window_end,
        receipts: book.receipted.iter().flatten().cloned().collect(),
        trade_obligation,
        finance_obligation,
        revision: book.revision,
        links: book.links.iter().map(|(trade, finance)| LinkState { trade: *trade, finance: *finance }).collect(),
        last_erased: book.last_erased,
        has_lost: book.has_lost,
        contracts: book.contracts.values().map(contract_state).collect(),
        demands: book.demands.values().map(demand_state).collect(),
        accounts: book.accounts.values().map(|known| known.entry.clone()).collect(),
    };
    encode(&state, "CoreState")
}

fn demand_state(known: &Demanded) -> DemandState {
    let response = known.answer.as_ref().map(|(name, ..)| name.clone());
    DemandState { demand: known.entry.clone(), response, matching: known.matching.clone(), released: known.is_released }
}

fn contract_state(contract: &Contract) -> ContractState {
    let bills = contract.bills.iter().map(|billed| BilledState {
        name: billed.name.clone(),
        corrections: billed.due.count,
        last_correction: billed.due.last,
        due: billed.due.total,
        paid: billed.paid,
        refunded: billed.refunded,
        linked: billed.linked,
        receipted: billed.receipted,
        refused: billed.refused,
        contested: billed.contested,
        disputed: billed.disputed,
    });
    let spans = contract.spans.iter().map(|span| SpanState {
        first: span.seqs.0,
        last: span.seqs.1,
        boundary: span.boundary,
        readings: span.readings.clone(),
    });
    ContractState {
        no: contract.no,
        state: contract.state.clone(),
        since: contract.since,
        buyer: contract.buyer,
        erased: contract.erased,
        browse: Named { name: contract.browse.clone(), hash: Octets(contract.browse_hash) },
        offer: contract.offer.as_ref().map(|(name, _, hash)| Named { name: name.clone(), hash: *hash }),
        order: contract.order.as_ref().map(named),
        deal: contract.deal.as_ref().map(|(name, _)| name.clone()),
        in_force: contract.in_force.map(|now| InForceState { service_end: now.service_end, value: now.value }),
        resumed: contract.resumed,
        last: contract.last.as_ref().map(|(name, _)| name.clone()),
        moved: contract.moved.clone(),
        until: contract.until,
        score: contract.score.as_ref().map(named),
        notices: contract
            .notices
            .iter()
            .map(|(hash, name)| Named { name: name.clone(), hash: Octets(*hash) })
            .collect(),
        base: contract.base.clone(),
        bills: bills.collect(),
        spans: spans.collect(),
        billed: contract.billed.clone(),
        devices: contract.devices.clone(),
        base_delivered: Some(contract.base_delivered.clone()),
    }
}

/// The book as a state tells it.
///
/// # Errors
/// [`Unusable`].
pub(crate) fn read(bytes: &[u8], ledger: &Ledger) -> Result<Book, Unusable> {
    let state: CoreState = decode(bytes, "CoreState")?;
    let mut book = Book {
        window_end: state.window_end,
        obligation: [state.trade_obligation, state.finance_obligation],
        revision: state.revision,
        links: state.links.iter().map(|link| (link.trade, link.finance)).collect(),
        last_erased: state.last_erased,
        has_lost: state.has_lost,
        ..Book::default()
    };
    for text in state.tables {
        book.rules(&Rules { version: 1, text }).map_err(Unusable::Wrong)?;
    }
    for receipt in state.receipts {
        if let Some(slot) = book.receipted.get_mut(usize::from(receipt.log)) {
            *slot = Some(receipt);
        }
    }
    for state in state.contracts {
        let no = state.no;
        book.contracts.insert(no, contract(state, ledger)?);
        book.begin_periods(no).map_err(Unusable::Wrong)?;
    }
    let revision = book.revision;
    for state in state.demands {
        book.demand(&state.demand, &kept(ledger, &state.demand)?).map_err(Unusable::Wrong)?;
        if let Some(name) = &state.response {
            book.response(name, &kept(ledger, name)?).map_err(Unusable::Wrong)?;
        }
        for known in book.demands.values_mut().filter(|known| known.entry == state.demand) {
            (known.matching, known.is_released) = (state.matching.clone(), state.released);
        }
    }
    book.revision = revision;
    for name in &state.accounts {
        book.account(name, &kept(ledger, name)?).map_err(Unusable::Wrong)?;
    }
    Ok(book)
}

/// The body of an entry of the ledger; `None` when it was erased.
fn body(ledger: &Ledger, name: &EntryName) -> Result<Option<Vec<u8>>, Unusable> {
    let log = if name.log == 1 { Log::Finance } else { Log::Trade };
    match ledger.entry(log, name.height, name.index) {
        Ok(bytes) => Ok(Some(hufu_ledger::Entry::from_bytes(&bytes)?.body)),
        Err(hufu_ledger::Error::Erased { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The same, of an entry that is never erased.
fn kept(ledger: &Ledger, name: &EntryName) -> Result<Vec<u8>, Unusable> {
    body(ledger, name)?.ok_or_else(|| Unusable::Wrong(format!("entry {}-{} was erased", name.log, name.height)))
}

fn contract(state: ContractState, ledger: &Ledger) -> Result<Contract, Unusable> {
    let pair = |named: Named| (named.name, named.hash.0);
    let buyer_key = match body(ledger, &state.browse.name)?.filter(|_| !state.erased) {
        Some(body) => {
            let signed: SignedStatement = decode(&body, "SignedStatement")?;
            let leaf = signed.certificates.first().map(|leaf| Certificate::from_der(leaf.as_bytes()));
            let leaf = leaf.ok_or_else(|| Unusable::Wrong("no certificate".to_owned()))?;
            Some(leaf.map_err(|e| Unusable::Wrong(e.to_string()))?.public_key().clone())
        }
        None => None,
    };
    let mut contract = Contract::new(
        state.no,
        &state.browse.name,
        (state.state, state.since),
        (state.buyer, buyer_key),
        state.browse.hash.0,
    );
    if let Some(offer) = state.offer {
        let signed = hufu_gm::Signed::from_bytes(&kept(ledger, &offer.name)?);
        let signed = signed.map_err(|e| Unusable::Wrong(e.to_string()))?;
        contract.offer = Some((offer.name, decode::<Offer>(signed.tbs(), "Offer")?, offer.hash));
    }
    if let Some(name) = state.deal {
        let deal = decode(&kept(ledger, &name)?, "Deal")?;
        contract.deal = Some((name, deal));
    }
    if let Some(name) = state.last {
        let record = decode(&kept(ledger, &name)?, "UsageRecord")?;
        contract.last = Some((name, record));
    }
    for billed in state.bills {
        let bill = decode(&kept(ledger, &billed.name)?, "Bill")?;
        let mut known = Billed::new(billed.name, bill);
        known.due = Due { count: billed.corrections, last: billed.last_correction, total: billed.due, ..known.due };
        known.paid = billed.paid;
        (known.refunded, known.linked, known.receipted) = (billed.refunded, billed.linked, billed.receipted);
        (known.refused, known.contested, known.disputed) = (billed.refused, billed.contested, billed.disputed);
        contract.bills.push(known);
    }
    let spans = state.spans.into_iter();
    contract.spans = spans
        .map(|span| Span { seqs: (span.first, span.last), boundary: span.boundary, readings: span.readings })
        .collect();
    contract.erased = state.erased;
    contract.order = state.order.map(pair);
    contract.in_force = state.in_force.map(|now| InForce { service_end: now.service_end, value: now.value });
    contract.notices = state.notices.into_iter().map(|named| (named.hash.0, named.name)).collect();
    (contract.base, contract.resumed) = (state.base, state.resumed);
    contract.near_ceiling = OnceCell::new();
    (contract.moved, contract.until) = (state.moved, state.until);
    (contract.billed, contract.devices) = (state.billed, state.devices);
    contract.base_delivered = state.base_delivered.unwrap_or_default();
    contract.score = state.score.map(pair);
    Ok(contract)
}
