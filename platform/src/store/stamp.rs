//! Time-stamps over receipts. Asking for them is `stamper.rs`.

use sqlx::AnyConnection;

use crate::error::{Error, count, sql};

/// Most receipts that are looked at in one round.
const ROUND_MAX: i64 = 256;

/// A receipt that may be stamped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unstamped {
    /// The node.
    pub(crate) pool: String,
    /// 0 trade, 1 finance.
    pub(crate) log: u8,
    /// Blocks that the receipt covers.
    pub(crate) size: u64,
    /// From which height on it lists.
    pub(crate) since: u64,
    /// DER of `Signed` over it.
    pub(crate) bytes: Vec<u8>,
}

/// The newest receipt of each log that is neither stamped nor one whose log was stamped after `before_ns`.
pub(crate) async fn due(db: &mut AnyConnection, before_ns: i64) -> Result<Vec<Unstamped>, Error> {
    // Each log's newest receipt is found in the index, for there are more receipts than anybody should read every few seconds;
    // SQLite keeps to the order of a CROSS JOIN.
    let select = "SELECT r.pool, r.log, r.size, r.since, r.bytes
        FROM (SELECT n.pool, l.log, (SELECT MAX(size) FROM receipts AS x WHERE x.pool = n.pool AND x.log = l.log) AS size
              FROM nodes AS n CROSS JOIN (SELECT 0 AS log UNION ALL SELECT 1) AS l) AS newest
        CROSS JOIN receipts AS r
        WHERE r.pool = newest.pool AND r.log = newest.log AND r.size = newest.size AND newest.size > 0
          AND NOT EXISTS (SELECT 1 FROM time_stamps AS t WHERE t.pool = r.pool AND t.log = r.log
                          AND (t.size = r.size OR t.at > $1))
        ORDER BY r.pool, r.log, r.stored_at, r.since LIMIT $2";
    let rows: Vec<(String, i64, i64, i64, Vec<u8>)> =
        sqlx::query_as(select).bind(before_ns).bind(ROUND_MAX).fetch_all(db).await?;
    let mut found: Vec<Unstamped> = Vec::with_capacity(rows.len());
    for (pool, log, size, since, bytes) in rows {
        let log = u8::try_from(log).map_err(|_| Error::Damaged("log number"))?;
        if found.last().is_none_or(|last| (&last.pool, last.log) != (&pool, log)) {
            found.push(Unstamped { pool, log, size: count(size)?, since: count(since)?, bytes });
        }
    }
    Ok(found)
}

/// Keeps a token; one that is there already stays.
pub(crate) async fn add(db: &mut AnyConnection, of: &Unstamped, token: &[u8], now_ns: i64) -> Result<(), Error> {
    let insert = "INSERT INTO time_stamps (pool, log, size, since, token, at) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT DO NOTHING";
    sqlx::query(insert)
        .bind(&of.pool)
        .bind(i64::from(of.log))
        .bind(sql(of.size))
        .bind(sql(of.since))
        .bind(token)
        .bind(now_ns)
        .execute(db)
        .await?;
    Ok(())
}

/// The oldest stamped receipt that covers a height: its size, its bytes, the token.
pub(crate) async fn covering(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    height: u64,
) -> Result<Option<(u64, Vec<u8>, Vec<u8>)>, Error> {
    let select = "SELECT t.size, r.bytes, t.token FROM time_stamps AS t
        JOIN receipts AS r ON r.pool = t.pool AND r.log = t.log AND r.size = t.size AND r.since = t.since
        WHERE t.pool = $1 AND t.log = $2 AND t.size > $3 ORDER BY t.size LIMIT 1";
    let row: Option<(i64, Vec<u8>, Vec<u8>)> =
        sqlx::query_as(select).bind(pool).bind(i64::from(log)).bind(sql(height)).fetch_optional(db).await?;
    row.map(|(size, bytes, token)| Ok((count(size)?, bytes, token))).transpose()
}
