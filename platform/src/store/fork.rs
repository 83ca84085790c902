//! Fork proofs, and headers that nodes published before their blocks came.

use hufu_ledger::ForkProof;
use hufu_trade::octets::rfc3339;
use serde::Serialize;
use sqlx::AnyConnection;

use super::list::ROWS_MAX;
use crate::error::{Error, count, sql};

/// A proof as lists show it.
#[derive(Debug, Serialize)]
pub(crate) struct ForkRow {
    /// The first octets of SM3 of the file.
    pub(crate) number: String,
    /// Whom it convicts.
    pub(crate) node: String,
    /// `trade` or `finance`.
    pub(crate) log: &'static str,
    /// When it came here.
    pub(crate) at: String,
    /// The file, hexadecimal.
    pub(crate) proof: String,
}

/// Keeps a proof under its number; false where it is here.
pub(crate) async fn add(
    db: &mut AnyConnection,
    (number, proof): (&str, &ForkProof),
    bytes: &[u8],
    now_ns: i64,
) -> Result<bool, Error> {
    let insert = "INSERT INTO fork_proofs (number, pool, log, bytes, is_told, at) VALUES ($1, $2, $3, $4, 0, $5)
        ON CONFLICT (number) DO NOTHING";
    let done = sqlx::query(insert)
        .bind(number)
        .bind(&proof.node)
        .bind(i64::from(proof.log.number()))
        .bind(bytes)
        .bind(now_ns)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Proofs that were not published yet; they are from now on.
pub(crate) async fn tell(db: &mut AnyConnection) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let select = "SELECT number, bytes FROM fork_proofs WHERE is_told = 0 ORDER BY number LIMIT 16";
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(select).fetch_all(&mut *db).await?;
    for (number, _) in &rows {
        sqlx::query("UPDATE fork_proofs SET is_told = 1 WHERE number = $1").bind(number).execute(&mut *db).await?;
    }
    Ok(rows)
}

/// All of them, newest first.
pub(crate) async fn all(db: &mut AnyConnection) -> Result<Vec<ForkRow>, Error> {
    let select = "SELECT number, pool, log, bytes, at FROM fork_proofs ORDER BY at DESC, number LIMIT $1";
    let rows: Vec<(String, String, i64, Vec<u8>, i64)> = sqlx::query_as(select).bind(ROWS_MAX).fetch_all(db).await?;
    let row = |(number, node, log, bytes, at): (String, String, i64, Vec<u8>, i64)| ForkRow {
        number,
        node,
        log: if log == 1 { "finance" } else { "trade" },
        at: rfc3339(at),
        proof: hex::encode(bytes),
    };
    Ok(rows.into_iter().map(row).collect())
}

/// The signed header of a block that is stored.
pub(crate) async fn stored(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    height: u64,
) -> Result<Option<Vec<u8>>, Error> {
    let select = "SELECT header FROM blocks WHERE pool = $1 AND log = $2 AND height = $3";
    let row: Option<(Vec<u8>,)> =
        sqlx::query_as(select).bind(pool).bind(i64::from(log)).bind(sql(height)).fetch_optional(db).await?;
    Ok(row.map(|(header,)| header))
}

/// Keeps a header whose block is not here yet; of two the first stays, which is given.
pub(crate) async fn see(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    (height, header): (u64, &[u8]),
) -> Result<Vec<u8>, Error> {
    let insert = "INSERT INTO seen_headers (pool, log, height, header) VALUES ($1, $2, $3, $4)
        ON CONFLICT (pool, log, height) DO NOTHING";
    sqlx::query(insert).bind(pool).bind(i64::from(log)).bind(sql(height)).bind(header).execute(&mut *db).await?;
    let select = "SELECT header FROM seen_headers WHERE pool = $1 AND log = $2 AND height = $3";
    let (stands,): (Vec<u8>,) =
        sqlx::query_as(select).bind(pool).bind(i64::from(log)).bind(sql(height)).fetch_one(db).await?;
    Ok(stands)
}

/// Another header takes the place of the one that was seen.
pub(crate) async fn see_anew(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    (height, header): (u64, &[u8]),
) -> Result<(), Error> {
    let update = "UPDATE seen_headers SET header = $4 WHERE pool = $1 AND log = $2 AND height = $3";
    sqlx::query(update).bind(pool).bind(i64::from(log)).bind(sql(height)).bind(header).execute(db).await?;
    Ok(())
}

/// The highest header that was seen of a block from a height on, which is not here.
pub(crate) async fn highest(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    from: u64,
) -> Result<Option<Vec<u8>>, Error> {
    let select = "SELECT header FROM seen_headers WHERE pool = $1 AND log = $2 AND height >= $3
        ORDER BY height DESC LIMIT 1";
    let row: Option<(Vec<u8>,)> =
        sqlx::query_as(select).bind(pool).bind(i64::from(log)).bind(sql(from)).fetch_optional(db).await?;
    Ok(row.map(|(header,)| header))
}

/// Headers that were seen of blocks below a size, which are here now; they are forgotten.
pub(crate) async fn overtaken(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    size: u64,
) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let select = "SELECT height, header FROM seen_headers WHERE pool = $1 AND log = $2 AND height < $3 ORDER BY height";
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as(select).bind(pool).bind(i64::from(log)).bind(sql(size)).fetch_all(&mut *db).await?;
    let delete = "DELETE FROM seen_headers WHERE pool = $1 AND log = $2 AND height < $3";
    sqlx::query(delete).bind(pool).bind(i64::from(log)).bind(sql(size)).execute(db).await?;
    rows.into_iter().map(|(height, header)| Ok((count(height)?, header))).collect()
}
