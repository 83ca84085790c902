//! Demands of buyers and what nodes answered.

use hufu_trade::if2::Sealed;
use sqlx::AnyConnection;

use crate::error::{Error, count, sql};

/// A demand as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredDemand {
    /// Its place in the platform's count.
    pub(crate) place: u64,
    /// DER of `Signed` over it.
    pub(crate) signed: Vec<u8>,
}

/// What comes with a demand that is kept.
#[derive(Debug)]
pub(crate) struct NewDemand<'a> {
    /// Its number.
    pub(crate) number: &'a [u8],
    /// SM3 of its DER.
    pub(crate) hash: &'a [u8],
    /// The buyer's certificate id.
    pub(crate) buyer: &'a [u8],
    /// When it lapses.
    pub(crate) valid_until: i64,
    /// DER of `Signed` over it.
    pub(crate) signed: &'a [u8],
    /// The buyer's signature.
    pub(crate) signature: &'a [u8],
    /// The buyer's chain.
    pub(crate) certificates: &'a [Sealed],
}

/// Keeps a demand under the next place; one that is here keeps its own.
pub(crate) async fn add(db: &mut AnyConnection, new: &NewDemand<'_>, now_ns: i64) -> Result<(), Error> {
    let (last,): (i64,) = sqlx::query_as("SELECT COALESCE(MAX(place), 0) FROM demands").fetch_one(&mut *db).await?;
    let insert =
        "INSERT INTO demands (place, number, hash, buyer, valid_until, signed, signature, certificates, made_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (hash) DO NOTHING";
    sqlx::query(insert)
        .bind(last.saturating_add(1))
        .bind(new.number)
        .bind(new.hash)
        .bind(new.buyer)
        .bind(new.valid_until)
        .bind(new.signed)
        .bind(new.signature)
        .bind(serde_json::to_string(new.certificates)?)
        .bind(now_ns)
        .execute(db)
        .await?;
    Ok(())
}

/// Demands after a place that have not lapsed, in the platform's count; at most `limit`.
pub(crate) async fn open_after(
    db: &mut AnyConnection,
    after: u64,
    now_ns: i64,
    limit: i64,
) -> Result<Vec<StoredDemand>, Error> {
    let select = "SELECT place, signed FROM demands WHERE place > $1 AND valid_until > $2 ORDER BY place LIMIT $3";
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as(select).bind(sql(after)).bind(now_ns).bind(limit).fetch_all(db).await?;
    rows.into_iter().map(|(place, signed)| Ok(StoredDemand { place: count(place)?, signed })).collect()
}

/// The demand of a number.
pub(crate) async fn by_number(db: &mut AnyConnection, number: &[u8]) -> Result<Option<StoredDemand>, Error> {
    let select = "SELECT place, signed FROM demands WHERE number = $1";
    let row: Option<(i64, Vec<u8>)> = sqlx::query_as(select).bind(number).fetch_optional(db).await?;
    row.map(|(place, signed)| Ok(StoredDemand { place: count(place)?, signed })).transpose()
}

/// The demand whose DER has a hash.
pub(crate) async fn by_hash(db: &mut AnyConnection, hash: &[u8]) -> Result<Option<StoredDemand>, Error> {
    let select = "SELECT place, signed FROM demands WHERE hash = $1";
    let row: Option<(i64, Vec<u8>)> = sqlx::query_as(select).bind(hash).fetch_optional(db).await?;
    row.map(|(place, signed)| Ok(StoredDemand { place: count(place)?, signed })).transpose()
}

/// A node's answer: the entry of its log and the DER of what it signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredProposal {
    /// The node.
    pub(crate) pool: String,
    /// DER of the `Entry`.
    pub(crate) entry: Vec<u8>,
    /// DER of `Response`.
    pub(crate) response: Vec<u8>,
}

/// Keeps a node's answer; the entry of the one that stands, where it is another.
pub(crate) async fn answer(
    db: &mut AnyConnection,
    demand: &[u8],
    new: &StoredProposal,
    now_ns: i64,
) -> Result<Option<Vec<u8>>, Error> {
    let insert = "INSERT INTO proposals (demand, pool, entry, response, received_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (demand, pool) DO NOTHING";
    sqlx::query(insert)
        .bind(demand)
        .bind(&new.pool)
        .bind(&new.entry)
        .bind(&new.response)
        .bind(now_ns)
        .execute(&mut *db)
        .await?;
    let select = "SELECT entry FROM proposals WHERE demand = $1 AND pool = $2";
    let (stands,): (Vec<u8>,) = sqlx::query_as(select).bind(demand).bind(&new.pool).fetch_one(db).await?;
    Ok((stands != new.entry).then_some(stands))
}

/// The answers to a demand, by node.
pub(crate) async fn answers(db: &mut AnyConnection, demand: &[u8]) -> Result<Vec<StoredProposal>, Error> {
    let select = "SELECT pool, entry, response FROM proposals WHERE demand = $1 ORDER BY pool";
    let rows: Vec<(String, Vec<u8>, Vec<u8>)> = sqlx::query_as(select).bind(demand).fetch_all(db).await?;
    Ok(rows.into_iter().map(|(pool, entry, response)| StoredProposal { pool, entry, response }).collect())
}
