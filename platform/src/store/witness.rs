//! Checkpoints of nodes that other nodes cosigned.

use hufu_gm::Certificate;
use sqlx::AnyConnection;

use crate::error::{Error, count, sql};

/// Checkpoints kept of one log.
const KEPT: i64 = 8;

/// Size and number of cosignatures of the one of a size; `None` where there is none, or a later one has more.
pub(crate) async fn of_size(db: &mut AnyConnection, (pool, log): (&str, u8), size: u64) -> Result<Option<u64>, Error> {
    let select = "SELECT witnesses FROM witnessed WHERE pool = $1 AND log = $2 AND size = $3";
    let row: Option<(i64,)> =
        sqlx::query_as(select).bind(pool).bind(i64::from(log)).bind(sql(size)).fetch_optional(db).await?;
    row.map(|(witnesses,)| count(witnesses)).transpose()
}

/// Keeps one, in the place of that of its size, and forgets the oldest.
pub(crate) async fn put(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    (size, epoch, witnesses): (u64, u64, u64),
    bytes: &[u8],
) -> Result<(), Error> {
    let upsert = "INSERT INTO witnessed (pool, log, size, epoch, witnesses, bytes) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (pool, log, size) DO UPDATE SET epoch = excluded.epoch, witnesses = excluded.witnesses,
        bytes = excluded.bytes";
    sqlx::query(upsert)
        .bind(pool)
        .bind(i64::from(log))
        .bind(sql(size))
        .bind(sql(epoch))
        .bind(sql(witnesses))
        .bind(bytes)
        .execute(&mut *db)
        .await?;
    let delete = "DELETE FROM witnessed WHERE pool = $1 AND log = $2 AND size NOT IN
        (SELECT size FROM witnessed WHERE pool = $1 AND log = $2 ORDER BY epoch DESC, size DESC LIMIT $3)";
    sqlx::query(delete).bind(pool).bind(i64::from(log)).bind(KEPT).execute(db).await?;
    Ok(())
}

/// Those that cover a height and are not above what is held: the one with the most witnesses first, of these the oldest.
pub(crate) async fn covering(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    (height, held): (u64, u64),
) -> Result<Vec<Vec<u8>>, Error> {
    let select = "SELECT bytes FROM witnessed WHERE pool = $1 AND log = $2 AND size > $3 AND size <= $4
        ORDER BY witnesses DESC, size";
    let rows: Vec<(Vec<u8>,)> =
        sqlx::query_as(select).bind(pool).bind(i64::from(log)).bind(sql(height)).bind(sql(held)).fetch_all(db).await?;
    Ok(rows.into_iter().map(|(bytes,)| bytes).collect())
}

/// The certificates of nodes of this platform by the first octets of their ids, each with its node.
pub(crate) async fn named(db: &mut AnyConnection, prefix: &[u8; 16]) -> Result<Option<(String, Certificate)>, Error> {
    let (mut first, mut last) = ([0; 32], [0xff; 32]);
    first[..16].copy_from_slice(prefix);
    last[..16].copy_from_slice(prefix);
    let select = "SELECT pool, der FROM certificates WHERE leaf = 1 AND id >= $1 AND id <= $2 LIMIT 1";
    let row: Option<(String, Vec<u8>)> =
        sqlx::query_as(select).bind(first.to_vec()).bind(last.to_vec()).fetch_optional(db).await?;
    row.map(|(pool, der)| Ok((pool, Certificate::from_der(&der)?))).transpose()
}
