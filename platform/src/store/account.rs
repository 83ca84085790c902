//! Users' accounts, and the nodes that are told of them.

use hufu_trade::{
    account::Account,
    octets::{Digest, Octets, rfc3339},
};
use serde::Serialize;
use sqlx::AnyConnection;

use super::list::ROWS_MAX;
use crate::error::{Error, count, hash, sql};

/// An account as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Counts its changes.
    pub(crate) revision: u64,
    /// Rising.
    pub(crate) roles: Vec<String>,
    /// `active`, `suspended` or `closed`.
    pub(crate) state: String,
}

/// An account that a node has not answered for good yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Untold {
    /// Whose.
    pub(crate) subject: Digest,
    /// The node.
    pub(crate) pool: String,
    /// Which revision it is told.
    pub(crate) revision: u64,
    /// DER of `Signed` over it.
    pub(crate) signed: Vec<u8>,
}

/// A row as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AccountRow {
    /// Certificate id.
    pub(crate) user: String,
    /// Counts its changes.
    pub(crate) revision: u64,
    /// What it may do.
    pub(crate) roles: Vec<String>,
    /// Whether it may.
    pub(crate) state: String,
    /// When it changed last.
    pub(crate) changed_at: String,
    /// Nodes that are told of it.
    pub(crate) nodes: u64,
    /// Nodes that hold this revision.
    pub(crate) told: u64,
}

fn roles_of(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// A user's account.
pub(crate) async fn find(db: &mut AnyConnection, subject: Digest) -> Result<Option<Stored>, Error> {
    let select = "SELECT revision, roles, state FROM accounts WHERE subject = $1";
    let row: Option<(i64, String, String)> = sqlx::query_as(select).bind(subject.0.to_vec()).fetch_optional(db).await?;
    row.map(|(revision, roles, state)| Ok(Stored { revision: count(revision)?, roles: roles_of(&roles), state }))
        .transpose()
}

/// Keeps what an account is from now on; it is signed with its operation.
pub(crate) async fn put(
    db: &mut AnyConnection,
    subject: Digest,
    account: &Stored,
    (operation, now_ns): (u64, i64),
) -> Result<(), Error> {
    let upsert = "INSERT INTO accounts (subject, revision, roles, state, operation, at) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (subject) DO UPDATE SET revision = excluded.revision, roles = excluded.roles,
        state = excluded.state, operation = excluded.operation, at = excluded.at, signed = NULL";
    sqlx::query(upsert)
        .bind(subject.0.to_vec())
        .bind(sql(account.revision))
        .bind(account.roles.join(" "))
        .bind(&account.state)
        .bind(sql(operation))
        .bind(now_ns)
        .execute(db)
        .await?;
    Ok(())
}

/// The account that an operation changed, if that is still its newest revision.
pub(crate) async fn made_by(
    db: &mut AnyConnection,
    (number, operation): (u64, Digest),
    relay: &str,
) -> Result<Option<Account>, Error> {
    let select = "SELECT subject, revision, roles, state, at FROM accounts WHERE operation = $1";
    type Row = (Vec<u8>, i64, String, String, i64);
    let row: Option<Row> = sqlx::query_as(select).bind(sql(number)).fetch_optional(db).await?;
    row.map(|(subject, revision, roles, state, time)| {
        Ok(Account {
            version: 1,
            relay: relay.to_owned(),
            user: Octets(hash(&subject)?),
            revision: count(revision)?,
            roles: roles_of(&roles),
            state,
            time,
            operation,
        })
    })
    .transpose()
}

/// Keeps the signature over an account.
pub(crate) async fn sign(db: &mut AnyConnection, account: &Account, signed: &[u8]) -> Result<(), Error> {
    let update = "UPDATE accounts SET signed = $3 WHERE subject = $1 AND revision = $2";
    sqlx::query(update).bind(account.user.0.to_vec()).bind(sql(account.revision)).bind(signed).execute(db).await?;
    Ok(())
}

/// From now on a node is told of an account; false when it was before.
pub(crate) async fn tell(db: &mut AnyConnection, subject: Digest, pool: &str) -> Result<bool, Error> {
    let insert = "INSERT INTO account_nodes (subject, pool, revision) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING";
    let done = sqlx::query(insert).bind(subject.0.to_vec()).bind(pool).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// Whether a node is told of an account, and its newest revision is signed.
pub(crate) async fn is_told(db: &mut AnyConnection, subject: Digest, pool: &str) -> Result<bool, Error> {
    let select = "SELECT n.revision FROM account_nodes n JOIN accounts a ON a.subject = n.subject
        WHERE n.subject = $1 AND n.pool = $2 AND a.signed IS NOT NULL";
    let row: Option<(i64,)> = sqlx::query_as(select).bind(subject.0.to_vec()).bind(pool).fetch_optional(db).await?;
    Ok(row.is_some())
}

/// What nodes have not answered for good, of accounts that are signed; at most `limit`.
pub(crate) async fn untold(db: &mut AnyConnection, limit: i64) -> Result<Vec<Untold>, Error> {
    let select = "SELECT n.subject, n.pool, a.revision, a.signed FROM account_nodes n JOIN accounts a
        ON a.subject = n.subject WHERE n.revision < a.revision AND a.signed IS NOT NULL ORDER BY a.at, n.pool LIMIT $1";
    let rows: Vec<(Vec<u8>, String, i64, Vec<u8>)> = sqlx::query_as(select).bind(limit).fetch_all(db).await?;
    rows.into_iter()
        .map(|(subject, pool, revision, signed)| {
            Ok(Untold { subject: Octets(hash(&subject)?), pool, revision: count(revision)?, signed })
        })
        .collect()
}

/// The same of one user and one node.
pub(crate) async fn untold_to(db: &mut AnyConnection, subject: Digest, pool: &str) -> Result<Option<Untold>, Error> {
    let select = "SELECT a.revision, a.signed FROM account_nodes n JOIN accounts a ON a.subject = n.subject
        WHERE n.subject = $1 AND n.pool = $2 AND n.revision < a.revision AND a.signed IS NOT NULL";
    let row: Option<(i64, Vec<u8>)> =
        sqlx::query_as(select).bind(subject.0.to_vec()).bind(pool).fetch_optional(db).await?;
    row.map(|(revision, signed)| Ok(Untold { subject, pool: pool.to_owned(), revision: count(revision)?, signed }))
        .transpose()
}

/// A node answered for good: it holds the revision, or refused it with a code.
pub(crate) async fn told(db: &mut AnyConnection, untold: &Untold, refused: Option<&str>) -> Result<(), Error> {
    let update =
        "UPDATE account_nodes SET revision = $3, refused = $4 WHERE subject = $1 AND pool = $2 AND revision < $3";
    sqlx::query(update)
        .bind(untold.subject.0.to_vec())
        .bind(&untold.pool)
        .bind(sql(untold.revision))
        .bind(refused)
        .execute(db)
        .await?;
    Ok(())
}

/// All accounts, the newest changes first.
pub(crate) async fn all(db: &mut AnyConnection) -> Result<Vec<AccountRow>, Error> {
    let select = "SELECT subject, revision, roles, state, at,
        (SELECT COUNT(*) FROM account_nodes n WHERE n.subject = a.subject),
        (SELECT COUNT(*) FROM account_nodes n WHERE n.subject = a.subject AND n.revision = a.revision AND n.refused IS NULL)
        FROM accounts a ORDER BY at DESC, subject LIMIT $1";
    type Row = (Vec<u8>, i64, String, String, i64, i64, i64);
    let rows: Vec<Row> = sqlx::query_as(select).bind(ROWS_MAX).fetch_all(db).await?;
    let row = |(subject, revision, roles, state, at, nodes, told): Row| {
        Ok(AccountRow {
            user: hex::encode(subject),
            revision: count(revision)?,
            roles: roles_of(&roles),
            state,
            changed_at: rfc3339(at),
            nodes: count(nodes)?,
            told: count(told)?,
        })
    };
    rows.into_iter().map(row).collect()
}
