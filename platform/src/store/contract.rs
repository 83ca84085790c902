//! Contracts: loading what is known about one, and its state.

use std::ops::Range;

use hufu_ledger::Entry;
use hufu_trade::{
    entry::{EntryKind, EntryName},
    octets::{ContractNo, Digest, Octets},
    rules::RuleTable,
};
use sqlx::AnyConnection;

use crate::{
    error::{Error, count, hash, sql},
    judge::{Facts, facts::Contract},
    store::{bill, node},
};

/// One entry as stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredEntry {
    /// Where it is and what it hashes to.
    pub(crate) name: EntryName,
    /// Kind number.
    pub(crate) kind: u16,
    /// DER.
    pub(crate) bytes: Vec<u8>,
    /// Code, where it is refused.
    pub(crate) refused: Option<String>,
}

type EntryRow = (i64, i64, i64, i64, Vec<u8>, Vec<u8>, Option<String>);

fn entry_of((log, height, index, kind, found, bytes, refused): EntryRow) -> Result<StoredEntry, Error> {
    let damaged = |_| Error::Damaged("entry number");
    let name = EntryName {
        log: u8::try_from(log).map_err(damaged)?,
        height: count(height)?,
        index: u32::try_from(index).map_err(damaged)?,
        hash: Octets(hash(&found)?),
    };
    Ok(StoredEntry { name, kind: u16::try_from(kind).map_err(damaged)?, bytes, refused })
}

/// All entries of a contract but its usage records and gaps, in the order of the logs.
pub(crate) async fn entries(db: &mut AnyConnection, pool: &str, no: ContractNo) -> Result<Vec<StoredEntry>, Error> {
    let select = "SELECT log, height, idx, kind, hash, bytes, refused FROM entries
        WHERE contract = $2 AND pool = $1 AND kind NOT IN (12, 13) ORDER BY log, height, idx";
    let rows: Vec<EntryRow> = sqlx::query_as(select).bind(pool).bind(no.0.to_vec()).fetch_all(db).await?;
    rows.into_iter().map(entry_of).collect()
}

/// Accepted usage records and gaps of a contract whose `order_seq` is in `range`, in order.
pub(crate) async fn records(
    db: &mut AnyConnection,
    pool: &str,
    no: ContractNo,
    range: Range<u64>,
) -> Result<Vec<StoredEntry>, Error> {
    let select = "SELECT log, height, idx, kind, hash, bytes, refused FROM entries
        WHERE contract = $2 AND seq >= $3 AND seq < $4 AND pool = $1 AND kind IN (12, 13) AND refused IS NULL ORDER BY seq";
    let (first, below) = (sql(range.start), sql(range.end));
    let rows: Vec<EntryRow> =
        sqlx::query_as(select).bind(pool).bind(no.0.to_vec()).bind(first).bind(below).fetch_all(db).await?;
    rows.into_iter().map(entry_of).collect()
}

/// The rule tables and certificates of a node's log: what a pack needs that belongs to no contract.
pub(crate) async fn of_kind(db: &mut AnyConnection, pool: &str, kind: EntryKind) -> Result<Vec<StoredEntry>, Error> {
    let select = "SELECT log, height, idx, kind, hash, bytes, refused FROM entries
        WHERE pool = $1 AND log = 0 AND kind = $2 ORDER BY height, idx";
    let rows: Vec<EntryRow> = sqlx::query_as(select).bind(pool).bind(i64::from(kind.number())).fetch_all(db).await?;
    rows.into_iter().map(entry_of).collect()
}

/// Everything known about a contract; its usage records since the last bill only when `with_records`.
pub(crate) async fn load(
    db: &mut AnyConnection,
    pool: &str,
    no: ContractNo,
    with_records: bool,
) -> Result<Option<Contract>, Error> {
    let select = "SELECT state FROM contracts WHERE contract = $1 AND pool = $2";
    let state: Option<(String,)> =
        sqlx::query_as(select).bind(no.0.to_vec()).bind(pool).fetch_optional(&mut *db).await?;
    let Some((state,)) = state else { return Ok(None) };
    let mut contract = Contract { state, ..Contract::default() };
    for entry in entries(&mut *db, pool, no).await? {
        absorb(&mut contract, &entry)?;
    }
    let newest = newest_seq(&mut *db, pool, no).await?;
    for entry in records(&mut *db, pool, no, newest..u64::MAX).await? {
        absorb(&mut contract, &entry)?;
    }
    if with_records {
        complete(&mut *db, pool, no, &mut contract).await?;
    }
    let [paid, refunded] = bill::moved(&mut *db, no).await?;
    for (to, found) in [(&mut contract.payments, paid), (&mut contract.refunds, refunded)] {
        for (number, amount) in found {
            if contract.bills.iter().any(|billed| !billed.refused && billed.bill.number == number) {
                to.push((number, amount.parse()?));
            }
        }
    }
    Ok(Some(contract))
}

/// Puts the usage records that a bill may ask for before those of them that are at hand.
///
/// # Errors
/// [`Error`].
pub(crate) async fn complete(
    db: &mut AnyConnection,
    pool: &str,
    no: ContractNo,
    contract: &mut Contract,
) -> Result<(), Error> {
    let (last, at_hand) = (contract.last.take(), std::mem::take(&mut contract.records));
    let below = at_hand.first().map_or(u64::MAX, |(_, record)| record.order_seq);
    for entry in records(&mut *db, pool, no, contract.unbilled()..below).await? {
        absorb(contract, &entry)?;
    }
    contract.records.extend(at_hand);
    contract.last = last;
    Ok(())
}

async fn newest_seq(db: &mut AnyConnection, pool: &str, no: ContractNo) -> Result<u64, Error> {
    let select = "SELECT MAX(seq) FROM entries
        WHERE contract = $1 AND pool = $2 AND kind IN (12, 13) AND refused IS NULL";
    let newest: (Option<i64>,) = sqlx::query_as(select).bind(no.0.to_vec()).bind(pool).fetch_one(db).await?;
    count(newest.0.unwrap_or(0))
}

fn absorb(contract: &mut Contract, entry: &StoredEntry) -> Result<(), Error> {
    let Some(kind) = EntryKind::from_number(entry.kind) else { return Ok(()) };
    let body = Entry::from_bytes(&entry.bytes)?.body;
    match &entry.refused {
        None => contract.absorb(kind, &entry.name, &body),
        Some(code) => contract.absorb_refused(kind, code, &entry.name, &body),
    }
    Ok(())
}

/// Everything known about a contract but its usage records, and the rule table it runs by.
pub(crate) async fn course(
    db: &mut AnyConnection,
    pool: &str,
    no: ContractNo,
) -> Result<Option<(Contract, RuleTable)>, Error> {
    let mut facts = Facts { pool: pool.to_owned(), ..Facts::default() };
    node::standing(&mut *db, &mut facts).await?;
    let Some(contract) = load(db, pool, no, false).await? else { return Ok(None) };
    let table = facts.table(Some(&contract)).cloned();
    Ok(table.map(|table| (contract, table)))
}

/// The node of a contract.
pub(crate) async fn node_of(db: &mut AnyConnection, no: ContractNo) -> Result<Option<String>, Error> {
    let select = "SELECT pool FROM contracts WHERE contract = $1";
    let row: Option<(String,)> = sqlx::query_as(select).bind(no.0.to_vec()).fetch_optional(db).await?;
    Ok(row.map(|(pool,)| pool))
}

/// The buyer of a contract.
pub(crate) async fn buyer_of(db: &mut AnyConnection, no: ContractNo) -> Result<Option<Digest>, Error> {
    let select = "SELECT buyer FROM contracts WHERE contract = $1";
    let row: Option<(Vec<u8>,)> = sqlx::query_as(select).bind(no.0.to_vec()).fetch_optional(db).await?;
    row.map(|(buyer,)| Ok(Octets(hash(&buyer)?))).transpose()
}

/// Keeps the state of a contract.
pub(crate) async fn set_state(
    db: &mut AnyConnection,
    pool: &str,
    no: ContractNo,
    state: &str,
    buyer: Option<Digest>,
) -> Result<(), Error> {
    let upsert = "INSERT INTO contracts (contract, pool, state, buyer) VALUES ($1, $2, $3, $4)
        ON CONFLICT (contract) DO UPDATE SET state = excluded.state";
    let buyer = buyer.map(|buyer| buyer.0.to_vec()).unwrap_or_default();
    sqlx::query(upsert).bind(no.0.to_vec()).bind(pool).bind(state).bind(buyer).execute(db).await?;
    Ok(())
}
