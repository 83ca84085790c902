//! What is held of a node, as a simulation compares it with the node's own log.

use sqlx::AnyConnection;

use crate::error::{Error, count};

/// Where entries of a node are that were refused, with the code: log, height, kind, code.
pub(crate) async fn refused(db: &mut AnyConnection, pool: &str) -> Result<Vec<(i64, u64, i64, String)>, Error> {
    let select = "SELECT log, height, kind, refused FROM entries WHERE pool = $1 AND refused IS NOT NULL
        ORDER BY log, height, idx";
    let rows: Vec<(i64, i64, i64, String)> = sqlx::query_as(select).bind(pool).fetch_all(db).await?;
    rows.into_iter().map(|(log, height, kind, code)| Ok((log, count(height)?, kind, code))).collect()
}

/// Heights of which a node signed a second block.
pub(crate) async fn forks(db: &mut AnyConnection, pool: &str) -> Result<Vec<(i64, u64)>, Error> {
    let select = "SELECT log, height FROM forks WHERE pool = $1 ORDER BY log, height";
    let rows: Vec<(i64, i64)> = sqlx::query_as(select).bind(pool).fetch_all(db).await?;
    rows.into_iter().map(|(log, height)| Ok((log, count(height)?))).collect()
}

/// States of a node's contracts by their numbers.
pub(crate) async fn states(db: &mut AnyConnection, pool: &str) -> Result<Vec<(Vec<u8>, String)>, Error> {
    let select = "SELECT contract, state FROM contracts WHERE pool = $1 ORDER BY contract";
    Ok(sqlx::query_as(select).bind(pool).fetch_all(db).await?)
}

/// Bills of a node in the order of its log: entry hash, number, total, what is due, judged as.
pub(crate) async fn bills(
    db: &mut AnyConnection,
    pool: &str,
) -> Result<Vec<(Vec<u8>, String, String, Option<String>, String)>, Error> {
    let select = "SELECT hash, number, total, due, state FROM bills WHERE pool = $1 ORDER BY height, hash";
    Ok(sqlx::query_as(select).bind(pool).fetch_all(db).await?)
}
