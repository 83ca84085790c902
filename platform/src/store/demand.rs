//! Demands of buyers, what nodes answered, and what was chosen.

use hufu_gm::Certificate;
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

/// The next place in the count that demands and choices share.
async fn next_place(db: &mut AnyConnection) -> Result<i64, Error> {
    let select =
        "SELECT COALESCE(MAX(place), 0) FROM (SELECT place FROM demands UNION ALL SELECT place FROM matchings) told";
    let (last,): (i64,) = sqlx::query_as(select).fetch_one(db).await?;
    Ok(last.saturating_add(1))
}

/// Keeps a demand under the next place; one that is here keeps its own.
pub(crate) async fn add(db: &mut AnyConnection, new: &NewDemand<'_>, now_ns: i64) -> Result<(), Error> {
    let place = next_place(&mut *db).await?;
    let insert =
        "INSERT INTO demands (place, number, hash, buyer, valid_until, signed, signature, certificates, made_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (hash) DO NOTHING";
    sqlx::query(insert)
        .bind(place)
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

/// Demands after a place that have not lapsed and for which nothing was chosen, in the platform's count; at most `limit`.
pub(crate) async fn open_after(
    db: &mut AnyConnection,
    after: u64,
    now_ns: i64,
    limit: i64,
) -> Result<Vec<StoredDemand>, Error> {
    let select = "SELECT place, signed FROM demands d WHERE place > $1 AND valid_until > $2
        AND NOT EXISTS (SELECT 1 FROM matchings m WHERE m.demand = d.hash) ORDER BY place LIMIT $3";
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as(select).bind(sql(after)).bind(now_ns).bind(limit).fetch_all(db).await?;
    rows.into_iter().map(|(place, signed)| Ok(StoredDemand { place: count(place)?, signed })).collect()
}

/// Choices after a place, made since a time, of demands that the node answered; at most `limit`.
pub(crate) async fn chosen_after(
    db: &mut AnyConnection,
    (pool, after): (&str, u64),
    since_ns: i64,
    limit: i64,
) -> Result<Vec<StoredDemand>, Error> {
    let select = "SELECT m.place, m.signed FROM matchings m JOIN proposals p ON p.demand = m.demand AND p.pool = $1
        WHERE m.place > $2 AND m.at > $3 ORDER BY m.place LIMIT $4";
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as(select).bind(pool).bind(sql(after)).bind(since_ns).bind(limit).fetch_all(db).await?;
    rows.into_iter().map(|(place, signed)| Ok(StoredDemand { place: count(place)?, signed })).collect()
}

/// What was chosen for a demand: the buyer's selection, and the whole choice as this platform signed it.
pub(crate) async fn matching(db: &mut AnyConnection, demand: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, Error> {
    let select = "SELECT selection, signed FROM matchings WHERE demand = $1";
    Ok(sqlx::query_as(select).bind(demand).fetch_optional(db).await?)
}

/// Keeps what was chosen for a demand.
pub(crate) async fn add_matching(
    db: &mut AnyConnection,
    demand: &[u8],
    (selection, signed): (&[u8], &[u8]),
    now_ns: i64,
) -> Result<(), Error> {
    let place = next_place(&mut *db).await?;
    let insert = "INSERT INTO matchings (place, demand, selection, signed, at) VALUES ($1, $2, $3, $4, $5)";
    sqlx::query(insert).bind(place).bind(demand).bind(selection).bind(signed).bind(now_ns).execute(db).await?;
    Ok(())
}

/// The chain with which a demand's buyer came, leaf first.
pub(crate) async fn certificates(db: &mut AnyConnection, demand: &[u8]) -> Result<Vec<Certificate>, Error> {
    let select = "SELECT certificates FROM demands WHERE hash = $1";
    let (text,): (String,) = sqlx::query_as(select).bind(demand).fetch_one(db).await?;
    let ders: Vec<Sealed> = serde_json::from_str(&text)?;
    ders.iter().map(|der| Ok(Certificate::from_der(&der.0)?)).collect()
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
