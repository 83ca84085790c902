//! Alarms: what a person must look at. The table is bounded; forks have their own, which is not.

use sqlx::AnyConnection;

use crate::error::Error;

/// Alarms kept; older ones make room.
const KEPT: i64 = 10_000;
/// Longest detail kept, characters: senders write part of it.
const DETAIL_CHARS: usize = 300;

/// Records an alarm unless the same stands already: for what a node makes the platform notice again and again.
pub(crate) async fn raise_once(
    db: &mut AnyConnection,
    pool: &str,
    code: &str,
    detail: &str,
    now_ns: i64,
) -> Result<(), Error> {
    let select = "SELECT 1 FROM alarms WHERE pool = $1 AND code = $2 AND detail = $3 LIMIT 1";
    let found: Option<(i64,)> =
        sqlx::query_as(select).bind(pool).bind(code).bind(detail).fetch_optional(&mut *db).await?;
    if found.is_some() { Ok(()) } else { raise(db, pool, code, detail, now_ns).await }
}

/// Records an alarm.
pub(crate) async fn raise(
    db: &mut AnyConnection,
    pool: &str,
    code: &str,
    detail: &str,
    now_ns: i64,
) -> Result<(), Error> {
    // PostgreSQL has no place for a NUL.
    let detail: String = detail.chars().take(DETAIL_CHARS).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect();
    let insert = "INSERT INTO alarms (at, pool, code, detail) VALUES ($1, $2, $3, $4)";
    sqlx::query(insert).bind(now_ns).bind(pool).bind(code).bind(detail).execute(&mut *db).await?;
    let delete = "DELETE FROM alarms WHERE id <= (SELECT MAX(id) FROM alarms) - $1";
    sqlx::query(delete).bind(KEPT).execute(db).await?;
    Ok(())
}
