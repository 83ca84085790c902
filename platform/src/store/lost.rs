//! What was acknowledged and whose block is gone: what followed from it is set aside, never dropped, and contracts, bills and the
//! tree stand again as the blocks that are left say. Which epoch may go on is `judge/block.rs`'s question (ADR 0012).

use std::collections::BTreeSet;

use hufu_gm::{Hash, Signed};
use hufu_ledger::merkle;
use hufu_trade::{
    decode,
    entry::{EntryKind, Epoch, Receipt},
    octets::ContractNo,
    rules::CORRECT,
};
use sqlx::AnyConnection;

use super::{alarm, bill, contract, list::contract_no, tree};
use crate::error::{Error, count, hash, sql};

/// State of a contract of which nothing is left.
pub(crate) const LOST: &str = "lost";
/// Most contracts that get an alarm of their own at once; the others are counted in one more.
const ALARMS_MAX: usize = 100;

/// A log of a node.
type At<'a> = (&'a str, u8);

/// The largest size that a receipt was given for, in the epoch at hand, and its root.
pub(crate) async fn receipted(db: &mut AnyConnection, (pool, log): At<'_>) -> Result<Option<(u64, Hash)>, Error> {
    let select = "SELECT size, bytes FROM receipts WHERE pool = $1 AND log = $2 ORDER BY size DESC LIMIT 1";
    let row: Option<(i64, Vec<u8>)> = sqlx::query_as(select).bind(pool).bind(i64::from(log)).fetch_optional(db).await?;
    row.map(|(size, bytes)| Ok((count(size)?, root_of(&bytes)?))).transpose()
}

fn root_of(receipt: &[u8]) -> Result<Hash, Error> {
    let receipt: Receipt = decode(Signed::from_bytes(receipt)?.tbs(), "Receipt")?;
    Ok(receipt.root.0)
}

/// Whether the block that would stand at `height` gives the log another root than a receipt over it says: it is not the one that
/// was acknowledged.
pub(crate) async fn contradicts(
    db: &mut AnyConnection,
    (pool, log): At<'_>,
    height: u64,
    block: &Hash,
) -> Result<bool, Error> {
    let select = "SELECT bytes FROM receipts WHERE pool = $1 AND log = $2 AND size = $3 LIMIT 1";
    let size = sql(height.saturating_add(1));
    let row: Option<(Vec<u8>,)> =
        sqlx::query_as(select).bind(pool).bind(i64::from(log)).bind(size).fetch_optional(&mut *db).await?;
    let Some((receipt,)) = row else { return Ok(false) };
    let mut frontier = tree::frontier(db, pool, log, height).await?;
    frontier.push(merkle::leaf(block));
    Ok(frontier.root() != root_of(&receipt)?)
}

/// The hash that the tree has of the block at a height, whether or not the block itself is held.
pub(crate) async fn leaf(db: &mut AnyConnection, (pool, log): At<'_>, height: u64) -> Result<Option<Hash>, Error> {
    let select = "SELECT hash FROM tree WHERE pool = $1 AND log = $2 AND level = 0 AND place = $3";
    let row: Option<(Vec<u8>,)> =
        sqlx::query_as(select).bind(pool).bind(i64::from(log)).bind(sql(height)).fetch_optional(db).await?;
    row.map(|(found,)| hash(&found)).transpose()
}

/// Sets aside what follows from blocks of both logs from these heights on, none of which is held.
pub(crate) async fn set_aside(db: &mut AnyConnection, pool: &str, sizes: [u64; 2], now_ns: i64) -> Result<(), Error> {
    let mut concerned = BTreeSet::new();
    for (number, size) in (0_i64..).zip(sizes) {
        let select = "SELECT DISTINCT contract FROM entries
            WHERE pool = $1 AND log = $2 AND height >= $3 AND contract IS NOT NULL";
        let found: Vec<(Vec<u8>,)> =
            sqlx::query_as(select).bind(pool).bind(number).bind(sql(size)).fetch_all(&mut *db).await?;
        concerned.extend(found.into_iter().map(|(no,)| no));
        for statement in [
            "INSERT INTO lost_entries (pool, log, height, idx, kind, hash, contract, refused, bytes, lost_at)
                SELECT pool, log, height, idx, kind, hash, contract, refused, bytes, $4 FROM entries
                WHERE pool = $1 AND log = $2 AND height >= $3
                ON CONFLICT (pool, log, height, idx, hash) DO NOTHING",
            "DELETE FROM entries WHERE pool = $1 AND log = $2 AND height >= $3 AND $4 IS NOT NULL",
            "DELETE FROM tree WHERE pool = $1 AND log = $2 AND ((place + 1) << CAST(level AS INTEGER)) > $3 AND $4 IS NOT NULL",
            "DELETE FROM waits WHERE pool = $1 AND log = $2 AND height >= $3 AND $4 IS NOT NULL",
            "UPDATE bills SET state = 'lost', disputed = 0
                WHERE pool = $1 AND $2 = 1 AND height >= $3 AND $4 IS NOT NULL",
        ] {
            sqlx::query(statement).bind(pool).bind(number).bind(sql(size)).bind(now_ns).execute(&mut *db).await?;
        }
    }
    let mut gone_back = Vec::new();
    for no in concerned {
        gone_back.extend(go_back(&mut *db, pool, contract_no(&no)?).await?);
    }
    let more = gone_back.len().saturating_sub(ALARMS_MAX);
    for detail in gone_back.iter().take(ALARMS_MAX) {
        alarm::raise(&mut *db, pool, LOST, detail, now_ns).await?;
    }
    if more > 0 {
        alarm::raise(&mut *db, pool, LOST, &format!("{more} more contracts went back; see orders"), now_ns).await?;
    }
    Ok(())
}

/// Puts a contract, its bills and its score where the entries that are left have them; what changed, for the alarm.
async fn go_back(db: &mut AnyConnection, pool: &str, no: ContractNo) -> Result<Option<String>, Error> {
    let select = "SELECT state FROM contracts WHERE contract = $1 AND pool = $2";
    let before: Option<(String,)> =
        sqlx::query_as(select).bind(no.0.to_vec()).bind(pool).fetch_optional(&mut *db).await?;
    let Some((before,)) = before else { return Ok(None) };
    // In the order in which they were taken, which is the one that both logs were judged in.
    let select = "SELECT COUNT(*), (SELECT state FROM entries WHERE contract = $1 AND pool = $2 AND state IS NOT NULL
        ORDER BY turn DESC LIMIT 1) FROM entries WHERE contract = $1 AND pool = $2";
    let (left, state): (i64, Option<String>) =
        sqlx::query_as(select).bind(no.0.to_vec()).bind(pool).fetch_one(&mut *db).await?;
    let after = match state {
        Some(state) => state,
        None if left == 0 => LOST.to_owned(),
        // Taken before states were kept: nobody can say it here any more.
        None => {
            return Ok(Some(format!("contract {no} is {before} here, which part of its lost entries may have made")));
        }
    };
    contract::set_state(&mut *db, pool, no, &after, None).await?;
    let update = "UPDATE scores SET from_node = 0 WHERE contract = $1 AND pool = $2 AND NOT EXISTS
        (SELECT 1 FROM entries WHERE contract = $1 AND pool = $2 AND kind = $3 AND refused IS NULL)";
    let score = i64::from(EntryKind::Score.number());
    sqlx::query(update).bind(no.0.to_vec()).bind(pool).bind(score).execute(&mut *db).await?;
    if let Some((known, table)) = contract::course(&mut *db, pool, no).await? {
        for billed in &known.bills {
            let is_corrected = billed.due.total != billed.bill.total;
            let due = is_corrected.then(|| billed.due.total.to_string());
            let update = "UPDATE bills SET due = $3 WHERE pool = $1 AND hash = $2";
            sqlx::query(update).bind(pool).bind(billed.hash.0.to_vec()).bind(due).execute(&mut *db).await?;
        }
        if table.row(&after, CORRECT).is_none() {
            bill::settle(&mut *db, pool, no).await?;
        }
    }
    Ok((before != after).then(|| format!("contract {no} goes back from {before} to {after}")))
}

/// The number of the entry of a node that moved its contract last.
pub(crate) async fn last_turn(db: &mut AnyConnection, pool: &str) -> Result<i64, Error> {
    let select = "SELECT COALESCE(MAX(turn), 0) FROM entries WHERE pool = $1";
    let (turn,): (i64,) = sqlx::query_as(select).bind(pool).fetch_one(db).await?;
    Ok(turn)
}

/// An entry is here again as it was: it is not lost.
pub(crate) async fn found_again(
    db: &mut AnyConnection,
    pool: &str,
    (log, height, index): (u8, u64, u32),
    entry: &Hash,
) -> Result<(), Error> {
    let delete = "DELETE FROM lost_entries WHERE pool = $1 AND log = $2 AND height = $3 AND idx = $4 AND hash = $5";
    sqlx::query(delete)
        .bind(pool)
        .bind(i64::from(log))
        .bind(sql(height))
        .bind(i64::from(index))
        .bind(entry.to_vec())
        .execute(db)
        .await?;
    Ok(())
}

/// Notes the epoch that begins at a height, and sets the receipts aside that were given over what it replaces.
pub(crate) async fn open_epoch(
    db: &mut AnyConnection,
    (pool, log): At<'_>,
    (height, receipted): (u64, u64),
    epoch: &Epoch,
    now_ns: i64,
) -> Result<(), Error> {
    let insert =
        "INSERT INTO epochs (pool, log, height, epoch, receipted, why, at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sqlx::query(insert)
        .bind(pool)
        .bind(i64::from(log))
        .bind(sql(height))
        .bind(sql(epoch.epoch))
        .bind(sql(receipted))
        .bind(&epoch.why)
        .bind(now_ns)
        .execute(&mut *db)
        .await?;
    for statement in [
        "INSERT INTO lost_receipts (pool, log, size, since, epoch, bytes, stored_at)
            SELECT pool, log, size, since, $4, bytes, stored_at FROM receipts
            WHERE pool = $1 AND log = $2 AND size > $3",
        "DELETE FROM receipts WHERE pool = $1 AND log = $2 AND size > $3 AND $4 IS NOT NULL",
    ] {
        let query = sqlx::query(statement).bind(pool).bind(i64::from(log)).bind(sql(height)).bind(sql(epoch.epoch));
        query.execute(&mut *db).await?;
    }
    let place = if log == 1 { "finance" } else { "trade" };
    let detail = if receipted > height {
        let last = receipted.saturating_sub(1);
        format!(
            "{place} epoch {} from height {height}: heights {height} to {last} were acknowledged and are lost",
            epoch.epoch
        )
    } else {
        format!("{place} epoch {} from height {height}; nothing that this platform acknowledged is lost", epoch.epoch)
    };
    tracing::warn!(pool, detail, why = epoch.why, "new epoch");
    alarm::raise(db, pool, "epoch", &detail, now_ns).await
}
