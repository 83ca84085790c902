//! Authorisation codes and tokens.

use hufu_trade::{octets::Octets, token::Token};
use sqlx::AnyConnection;

use crate::error::Error;

/// A token as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredToken {
    /// Whose it is.
    pub(crate) subject: String,
    /// Who accepts it.
    pub(crate) audience: String,
    /// What it is for.
    pub(crate) scope: String,
    /// Until when it holds, ns since 1970-01-01Z.
    pub(crate) not_after: i64,
    /// Logged out.
    pub(crate) is_ended: bool,
}

/// Keeps a code, and forgets those that have expired.
pub(crate) async fn add_code(
    db: &mut AnyConnection,
    (code, pool): (&[u8], &str),
    expires_at: i64,
    now_ns: i64,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM auth_codes WHERE expires_at <= $1").bind(now_ns).execute(&mut *db).await?;
    let insert = "INSERT INTO auth_codes (code, pool, expires_at) VALUES ($1, $2, $3)";
    sqlx::query(insert).bind(code).bind(pool).bind(expires_at).execute(db).await?;
    Ok(())
}

/// Uses a code up; whether it was this node's and still good.
pub(crate) async fn use_code(db: &mut AnyConnection, code: &[u8], pool: &str, now_ns: i64) -> Result<bool, Error> {
    let delete = "DELETE FROM auth_codes WHERE code = $1 AND pool = $2 AND expires_at > $3";
    let done = sqlx::query(delete).bind(code).bind(pool).bind(now_ns).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps a token, and forgets those of its subject that have expired.
pub(crate) async fn add(db: &mut AnyConnection, token: &Token) -> Result<(), Error> {
    let delete = "DELETE FROM tokens WHERE subject = $1 AND not_after <= $2";
    sqlx::query(delete).bind(&token.subject).bind(token.not_before).execute(&mut *db).await?;
    let insert = "INSERT INTO tokens (id, subject, audience, scope, not_after) VALUES ($1, $2, $3, $4, $5)";
    sqlx::query(insert)
        .bind(token.token_id.0.to_vec())
        .bind(&token.subject)
        .bind(&token.audience)
        .bind(&token.scope)
        .bind(token.not_after)
        .execute(db)
        .await?;
    Ok(())
}

/// The token of an id.
pub(crate) async fn find(db: &mut AnyConnection, id: Octets<16>) -> Result<Option<StoredToken>, Error> {
    let select = "SELECT subject, audience, scope, not_after, ended_at FROM tokens WHERE id = $1";
    type Row = (String, String, String, i64, Option<i64>);
    let row: Option<Row> = sqlx::query_as(select).bind(id.0.to_vec()).fetch_optional(db).await?;
    Ok(row.map(|(subject, audience, scope, not_after, ended_at)| StoredToken {
        subject,
        audience,
        scope,
        not_after,
        is_ended: ended_at.is_some(),
    }))
}

/// Ends a token of a subject.
pub(crate) async fn end(db: &mut AnyConnection, id: Octets<16>, subject: &str, now_ns: i64) -> Result<bool, Error> {
    let update = "UPDATE tokens SET ended_at = COALESCE(ended_at, $3) WHERE id = $1 AND subject = $2";
    let done = sqlx::query(update).bind(id.0.to_vec()).bind(subject).bind(now_ns).execute(db).await?;
    Ok(done.rows_affected() == 1)
}
