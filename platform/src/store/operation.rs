//! What users did here: the chain of operations.

use hufu_trade::octets::{Digest, rfc3339};
use serde::Serialize;
use sqlx::AnyConnection;

use super::list::ROWS_MAX;
use crate::error::{Error, count, sql};

/// What somebody does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done<'a> {
    /// Who: a certificate id, hexadecimal, or `os:` and a name on this machine.
    pub(crate) operator: &'a str,
    /// What.
    pub(crate) act: &'a str,
    /// Upon what.
    pub(crate) about: &'a str,
    /// The user whom it concerns, where that is known.
    pub(crate) concerns: Option<Digest>,
    /// Particulars.
    pub(crate) why: &'a str,
}

/// One that is not signed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsigned {
    /// Its place.
    pub(crate) number: u64,
    /// As in [`Done`].
    pub(crate) operator: String,
    /// As in [`Done`].
    pub(crate) act: String,
    /// As in [`Done`].
    pub(crate) about: String,
    /// As in [`Done`].
    pub(crate) why: String,
    /// When, ns since 1970-01-01Z.
    pub(crate) at: i64,
}

/// A row as lists and users see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct OperationRow {
    /// Its place in the chain.
    pub(crate) number: u64,
    /// When.
    pub(crate) at: String,
    /// Who.
    pub(crate) operator: String,
    /// What.
    pub(crate) act: String,
    /// Upon what.
    pub(crate) about: String,
    /// Particulars.
    pub(crate) why: String,
    /// `Signed` over `Operation`, base64url; `null` until `serve` has signed it.
    pub(crate) signed: Option<hufu_trade::if2::Sealed>,
}

/// Adds an operation at the end; its number. Inside [`super::Store::write`] alone, so that numbers have no gaps.
pub(crate) async fn add(db: &mut AnyConnection, done: &Done<'_>, now_ns: i64) -> Result<u64, Error> {
    let (last,): (i64,) = sqlx::query_as("SELECT COALESCE(MAX(number), 0) FROM operations").fetch_one(&mut *db).await?;
    let number = count(last)?.saturating_add(1);
    let insert = "INSERT INTO operations (number, operator, act, about, concerns, why, at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sqlx::query(insert)
        .bind(sql(number))
        .bind(done.operator)
        .bind(done.act)
        .bind(done.about)
        .bind(done.concerns.map(|user| user.0.to_vec()))
        .bind(done.why)
        .bind(now_ns)
        .execute(db)
        .await?;
    Ok(number)
}

/// DER of the newest one that is signed.
pub(crate) async fn last_signed(db: &mut AnyConnection) -> Result<Option<Vec<u8>>, Error> {
    let select = "SELECT tbs FROM operations WHERE tbs IS NOT NULL ORDER BY number DESC LIMIT 1";
    let row: Option<(Vec<u8>,)> = sqlx::query_as(select).fetch_optional(db).await?;
    Ok(row.map(|(tbs,)| tbs))
}

/// Those that are not signed yet, in their order; at most `limit`.
pub(crate) async fn unsigned(db: &mut AnyConnection, limit: i64) -> Result<Vec<Unsigned>, Error> {
    let select =
        "SELECT number, operator, act, about, why, at FROM operations WHERE tbs IS NULL ORDER BY number LIMIT $1";
    type Row = (i64, String, String, String, String, i64);
    let rows: Vec<Row> = sqlx::query_as(select).bind(limit).fetch_all(db).await?;
    rows.into_iter()
        .map(|(number, operator, act, about, why, at)| {
            Ok(Unsigned { number: count(number)?, operator, act, about, why, at })
        })
        .collect()
}

/// Keeps the signature over one.
pub(crate) async fn sign(db: &mut AnyConnection, number: u64, (tbs, signed): (&[u8], &[u8])) -> Result<(), Error> {
    let update = "UPDATE operations SET tbs = $2, signed = $3 WHERE number = $1 AND tbs IS NULL";
    sqlx::query(update).bind(sql(number)).bind(tbs).bind(signed).execute(db).await?;
    Ok(())
}

/// `Signed` of those from a number on, in their order; at most `limit`.
pub(crate) async fn chain(db: &mut AnyConnection, from: u64, limit: i64) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let select =
        "SELECT number, signed FROM operations WHERE number >= $1 AND signed IS NOT NULL ORDER BY number LIMIT $2";
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(select).bind(sql(from)).bind(limit).fetch_all(db).await?;
    rows.into_iter().map(|(number, signed)| Ok((count(number)?, signed))).collect()
}

/// The newest that concern a user or that it did; of everybody without one.
pub(crate) async fn newest(db: &mut AnyConnection, user: Option<Digest>) -> Result<Vec<OperationRow>, Error> {
    let select = "SELECT number, at, operator, act, about, why, signed FROM operations
        WHERE $1 = 1 OR concerns = $2 OR operator = $3 ORDER BY number DESC LIMIT $4";
    type Row = (i64, i64, String, String, String, String, Option<Vec<u8>>);
    let rows: Vec<Row> = sqlx::query_as(select)
        .bind(i64::from(user.is_none()))
        .bind(user.map_or_else(Vec::new, |user| user.0.to_vec()))
        .bind(user.map_or_else(String::new, |user| user.to_string()))
        .bind(ROWS_MAX)
        .fetch_all(db)
        .await?;
    let row = |(number, at, operator, act, about, why, signed): Row| {
        let signed = signed.map(hufu_trade::if2::Sealed);
        Ok(OperationRow { number: count(number)?, at: rfc3339(at), operator, act, about, why, signed })
    };
    rows.into_iter().map(row).collect()
}
