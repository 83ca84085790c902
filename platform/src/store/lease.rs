//! Who handles which nodes, where several workers share one PostgreSQL. Nodes fall into [`PARTS`] parts by their names; a worker holds
//! parts. **Whoever changes what a worker holds has locked that worker's row before**, and a transaction that writes for a node holds a
//! share of its worker's row: so a worker that lost a part writes nothing more for it, however late it notices. Time is the
//! database's, one clock for all. On SQLite there is one process, and nothing here is asked.

use std::collections::BTreeSet;

use hufu_gm::sm3::sm3;
use sqlx::AnyConnection;

use super::Store;
use crate::error::Error;

/// Parts that the nodes fall into.
pub(crate) const PARTS: i64 = 64;
const NOW_MS: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";

/// The part that a node falls into.
pub(crate) fn part_of(pool: &str) -> i64 {
    i64::from(sm3(&[pool.as_bytes()])[0]) % PARTS
}

/// What a worker holds, fixed until the transaction `db` ends.
pub(crate) async fn held(db: &mut AnyConnection, worker: &str) -> Result<BTreeSet<i64>, Error> {
    let lock = "SELECT worker FROM workers WHERE worker = $1 FOR KEY SHARE";
    let found: Option<(String,)> = sqlx::query_as(lock).bind(worker).fetch_optional(&mut *db).await?;
    if found.is_none() { Ok(BTreeSet::new()) } else { parts(db, worker).await }
}

async fn parts(db: &mut AnyConnection, worker: &str) -> Result<BTreeSet<i64>, Error> {
    let select = "SELECT part FROM leases WHERE worker = $1";
    let rows: Vec<(i64,)> = sqlx::query_as(select).bind(worker).fetch_all(db).await?;
    Ok(rows.into_iter().map(|(part,)| part).collect())
}

/// Says that a worker is there for another `lease_ms`, takes its share of what nobody holds, gives up what is above it. Gives what it
/// holds from now on.
///
/// # Errors
/// [`Error`] from the database; what was held before may be held no longer.
pub(crate) async fn renew(store: &Store, worker: &str, lease_ms: i64) -> Result<BTreeSet<i64>, Error> {
    let mut tx = store.begin_free().await?;
    let db: &mut AnyConnection = &mut tx;
    let (now_ms,): (i64,) = sqlx::query_as(NOW_MS).fetch_one(&mut *db).await?;
    let upsert =
        "INSERT INTO workers (worker, until) VALUES ($1, $2) ON CONFLICT (worker) DO UPDATE SET until = excluded.until";
    sqlx::query(upsert).bind(worker).bind(now_ms.saturating_add(lease_ms)).execute(&mut *db).await?;
    // One whose transaction is under way is skipped: it lives, or the server ends it soon.
    let late = "SELECT worker FROM workers WHERE until < $1 AND worker <> $2 ORDER BY worker FOR UPDATE SKIP LOCKED";
    let late: Vec<(String,)> = sqlx::query_as(late).bind(now_ms).bind(worker).fetch_all(&mut *db).await?;
    for (gone,) in late {
        tracing::warn!(worker = gone, "a worker did not renew its lease; its nodes are free");
        release(&mut *db, &gone, PARTS).await?;
        sqlx::query("DELETE FROM workers WHERE worker = $1").bind(&gone).execute(&mut *db).await?;
    }
    let (alive,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM workers").fetch_one(&mut *db).await?;
    let alive = alive.max(1);
    let share = PARTS.saturating_add(alive).saturating_sub(1).checked_div(alive).unwrap_or(PARTS);
    let mine = i64::try_from(parts(&mut *db, worker).await?.len()).unwrap_or(PARTS);
    if mine > share {
        // A batch of ours that is under way ends first.
        let lock = "SELECT worker FROM workers WHERE worker = $1 FOR UPDATE";
        sqlx::query(lock).bind(worker).execute(&mut *db).await?;
        release(&mut *db, worker, mine.saturating_sub(share)).await?;
    } else if mine < share {
        let claim = "UPDATE leases SET worker = $1 WHERE part IN
            (SELECT part FROM leases WHERE worker IS NULL ORDER BY part LIMIT $2 FOR UPDATE SKIP LOCKED)";
        sqlx::query(claim).bind(worker).bind(share.saturating_sub(mine)).execute(&mut *db).await?;
    }
    let held = parts(&mut *db, worker).await?;
    tx.commit().await?;
    Ok(held)
}

/// Gives up so many parts of a worker whose row is locked.
async fn release(db: &mut AnyConnection, worker: &str, count: i64) -> Result<(), Error> {
    let update = "UPDATE leases SET worker = NULL WHERE part IN
        (SELECT part FROM leases WHERE worker = $1 ORDER BY part DESC LIMIT $2)";
    sqlx::query(update).bind(worker).bind(count).execute(db).await?;
    Ok(())
}

/// A worker that ends gives up everything: the others need not wait for its lease to run out.
///
/// # Errors
/// [`Error`] from the database.
pub(crate) async fn leave(store: &Store, worker: &str) -> Result<(), Error> {
    let mut tx = store.begin_free().await?;
    let lock = "SELECT worker FROM workers WHERE worker = $1 FOR UPDATE";
    sqlx::query(lock).bind(worker).execute(&mut *tx).await?;
    release(&mut tx, worker, PARTS).await?;
    sqlx::query("DELETE FROM workers WHERE worker = $1").bind(worker).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}
