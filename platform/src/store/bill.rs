//! Bills, payments and scores.

use hufu_trade::{
    bill::Bill,
    decode,
    entry::{EntryName, SignedStatement},
    octets::ContractNo,
    statement::Statement,
};
use sqlx::SqliteConnection;

use crate::error::{Error, sql};

/// Whether a bill may be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Stored, recomputed, not refused.
    Payable,
    /// In dispute.
    Refused,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Payable => "payable",
            State::Refused => "refused",
        }
    }
}

/// A bill as stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredBill {
    /// The node.
    pub(crate) pool: String,
    /// Entry hash.
    pub(crate) hash: Vec<u8>,
    /// Contract number.
    pub(crate) contract: Vec<u8>,
    /// Decimal CNY.
    pub(crate) total: String,
    /// Whether it may be paid.
    pub(crate) state: State,
}

/// Who brought a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The node's log.
    Node,
    /// The buyer, directly.
    Buyer,
}

/// Keeps a bill.
pub(crate) async fn add(
    db: &mut SqliteConnection,
    pool: &str,
    name: &EntryName,
    bill: &Bill,
    state: State,
) -> Result<(), Error> {
    let insert = "INSERT INTO bills (pool, hash, number, contract, height, total, state)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (pool, hash) DO NOTHING";
    sqlx::query(insert)
        .bind(pool)
        .bind(name.hash.0.to_vec())
        .bind(&bill.number)
        .bind(bill.contract_no.0.to_vec())
        .bind(sql(name.height))
        .bind(bill.total.to_string())
        .bind(state.name())
        .execute(db)
        .await?;
    Ok(())
}

/// The bill of a number: the payable one, if there is one. A payable number holds its contract's, which is its node's alone.
pub(crate) async fn find(db: &mut SqliteConnection, number: &str) -> Result<Option<StoredBill>, Error> {
    let select = "SELECT pool, hash, contract, total, state FROM bills WHERE number = $1 ORDER BY state LIMIT 1";
    type Row = (String, Vec<u8>, Vec<u8>, String, String);
    let row: Option<Row> = sqlx::query_as(select).bind(number).fetch_optional(db).await?;
    Ok(row.map(|(pool, hash, contract, total, state)| {
        let state = if state == State::Payable.name() { State::Payable } else { State::Refused };
        StoredBill { pool, hash, contract, total, state }
    }))
}

/// Amount, reference and time of a payment.
pub(crate) async fn payment(db: &mut SqliteConnection, number: &str) -> Result<Option<(String, String, i64)>, Error> {
    let select = "SELECT amount, reference, paid_at FROM payments WHERE number = $1";
    Ok(sqlx::query_as(select).bind(number).fetch_optional(db).await?)
}

/// Records a payment.
pub(crate) async fn pay(
    db: &mut SqliteConnection,
    number: &str,
    amount: &str,
    reference: &str,
    now_ns: i64,
) -> Result<(), Error> {
    let insert = "INSERT INTO payments (number, amount, reference, paid_at) VALUES ($1, $2, $3, $4)";
    sqlx::query(insert).bind(number).bind(amount).bind(reference).bind(now_ns).execute(db).await?;
    Ok(())
}

/// Keeps a verified score; the first one stands, and is marked once the node's log holds it too.
pub(crate) async fn add_score(
    db: &mut SqliteConnection,
    pool: &str,
    signed: &SignedStatement,
    source: Source,
    now_ns: i64,
) -> Result<(), Error> {
    let statement: Statement = decode(signed.statement.as_bytes(), "Statement")?;
    let Some(card) = &statement.score else { return Ok(()) };
    let upsert = "INSERT INTO scores (contract, pool, overall, statement, signature, from_node, at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (contract) DO UPDATE SET from_node = excluded.from_node
        WHERE scores.statement = excluded.statement AND scores.from_node = 0";
    sqlx::query(upsert)
        .bind(statement.contract_no.0.to_vec())
        .bind(pool)
        .bind(i64::from(card.overall))
        .bind(signed.statement.as_bytes())
        .bind(signed.signature.as_bytes())
        .bind(i64::from(source == Source::Node))
        .bind(now_ns)
        .execute(db)
        .await?;
    Ok(())
}

/// The statement of a contract's score, if there is one.
pub(crate) async fn score(db: &mut SqliteConnection, no: ContractNo) -> Result<Option<Vec<u8>>, Error> {
    let select = "SELECT statement FROM scores WHERE contract = $1";
    let row: Option<(Vec<u8>,)> = sqlx::query_as(select).bind(no.0.to_vec()).fetch_optional(db).await?;
    Ok(row.map(|(statement,)| statement))
}
