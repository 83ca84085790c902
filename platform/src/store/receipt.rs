//! Receipts given, and what one lists.

use hufu_trade::{
    entry::{ReceivedBill, Refused},
    octets::Octets,
};
use sqlx::AnyConnection;

use crate::error::{Error, count, hash, sql};

/// Most refusals, and most bills, that one receipt lists, so that it stays one message.
pub(crate) const LISTED_MAX: i64 = 400;

/// What one receipt lists.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Height of the first entry listed; `None` when none is.
    pub(crate) first: Option<u64>,
    /// Entries refused, in order.
    pub(crate) refused: Vec<Refused>,
    /// Bills taken, in order.
    pub(crate) bills: Vec<ReceivedBill>,
}

/// Entries of a log from height `since` on that are refused, and bills that are not; the newest when there are too many.
pub(crate) async fn listed(db: &mut AnyConnection, (pool, log): (&str, u8), since: u64) -> Result<Listed, Error> {
    let select = "SELECT height, hash, refused FROM entries
        WHERE pool = $1 AND log = $2 AND height >= $3 AND refused IS NOT NULL ORDER BY height DESC, idx DESC LIMIT $4";
    let refused: Vec<(i64, Vec<u8>, String)> = sqlx::query_as(select)
        .bind(pool)
        .bind(i64::from(log))
        .bind(sql(since))
        .bind(LISTED_MAX)
        .fetch_all(&mut *db)
        .await?;
    let mut listed = Listed { first: None, refused: Vec::new(), bills: Vec::new() };
    let mut heights = Vec::new();
    for (height, found, code) in refused.into_iter().rev() {
        heights.push(count(height)?);
        listed.refused.push(Refused { entry: Octets(hash(&found)?), code });
    }
    if log == 1 {
        let select = "SELECT height, hash, number FROM bills
            WHERE pool = $1 AND height >= $2 AND state = 'payable' ORDER BY height DESC LIMIT $3";
        let found: Vec<(i64, Vec<u8>, String)> =
            sqlx::query_as(select).bind(pool).bind(sql(since)).bind(LISTED_MAX).fetch_all(&mut *db).await?;
        for (height, found, number) in found.into_iter().rev() {
            heights.push(count(height)?);
            listed.bills.push(ReceivedBill { entry: Octets(hash(&found)?), number });
        }
    }
    listed.first = heights.into_iter().min();
    Ok(listed)
}

/// The receipt given before for the same size and start.
pub(crate) async fn find(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    (size, since): (u64, u64),
) -> Result<Option<Vec<u8>>, Error> {
    let select = "SELECT bytes FROM receipts WHERE pool = $1 AND log = $2 AND size = $3 AND since = $4";
    let row: Option<(Vec<u8>,)> = sqlx::query_as(select)
        .bind(pool)
        .bind(i64::from(log))
        .bind(sql(size))
        .bind(sql(since))
        .fetch_optional(db)
        .await?;
    Ok(row.map(|(bytes,)| bytes))
}

/// Keeps a receipt.
pub(crate) async fn add(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    (size, since): (u64, u64),
    bytes: &[u8],
    now_ns: i64,
) -> Result<(), Error> {
    let insert = "INSERT INTO receipts (pool, log, size, since, bytes, stored_at) VALUES ($1, $2, $3, $4, $5, $6)";
    sqlx::query(insert)
        .bind(pool)
        .bind(i64::from(log))
        .bind(sql(size))
        .bind(sql(since))
        .bind(bytes)
        .bind(now_ns)
        .execute(db)
        .await?;
    Ok(())
}

/// The oldest receipt that covers a height, with its size: what fixes that block in the past.
pub(crate) async fn covering(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    height: u64,
) -> Result<Option<(u64, Vec<u8>)>, Error> {
    let select = "SELECT size, bytes FROM receipts WHERE pool = $1 AND log = $2 AND size > $3
        ORDER BY size, stored_at, since LIMIT 1";
    let row: Option<(i64, Vec<u8>)> =
        sqlx::query_as(select).bind(pool).bind(i64::from(log)).bind(sql(height)).fetch_optional(db).await?;
    row.map(|(size, bytes)| Ok((count(size)?, bytes))).transpose()
}
