//! Bills, their payments and refunds, and scores.

use hufu_trade::{
    bill::Bill,
    decode,
    entry::{EntryName, SignedStatement},
    octets::{ContractNo, Digest},
    statement::Statement,
};
use sqlx::AnyConnection;

use super::rows::Rows;
use crate::error::Error;

/// What judging a bill gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Stored, recomputed, not refused.
    Payable,
    /// Another total follows from the records, and no correction has mended that yet.
    Refused,
    /// Its block is lost, here and at the node; a payment of it stays recorded.
    Lost,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Payable => "payable",
            State::Refused => "refused",
            State::Lost => "lost",
        }
    }

    /// The state of a row. One that was refused stays so in the receipts; with something due it was corrected.
    pub(crate) fn of(judged: &str, due: Option<&String>) -> Self {
        if judged == State::Lost.name() {
            return State::Lost;
        }
        if judged == State::Payable.name() || due.is_some() { State::Payable } else { State::Refused }
    }
}

/// How a bill stands, in one word, as lists show it.
pub(crate) fn shown((state, is_disputed): (State, bool), (is_paid, is_refunded): (bool, bool)) -> &'static str {
    match state {
        State::Refused => "refused",
        State::Lost => "lost",
        State::Payable if is_refunded => "refunded",
        State::Payable if is_disputed => "disputed",
        State::Payable if is_paid => "paid",
        State::Payable => "payable",
    }
}

/// Money that the operator recorded, for a bill or back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Decimal CNY.
    pub(crate) amount: String,
    /// What it is known by.
    pub(crate) reference: String,
    /// When it was recorded first, ns since 1970-01-01Z.
    pub(crate) at_ns: i64,
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
    /// As signed, decimal CNY.
    pub(crate) total: String,
    /// After its corrections, decimal CNY.
    pub(crate) due: String,
    /// Whether it may be paid.
    pub(crate) state: State,
    /// Whether its buyer disputes it.
    pub(crate) is_disputed: bool,
}

/// Who brought a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The node's log.
    Node,
    /// The buyer, directly.
    Buyer,
}

/// What a bill is kept by, before its values and behind them: one that was lost and comes again counts again.
pub(super) const INSERT: &str = "INSERT INTO bills (pool, hash, number, contract, height, total, state)";
pub(super) const CONFLICT: &str =
    "ON CONFLICT (pool, hash) DO UPDATE SET state = excluded.state WHERE bills.state = 'lost'";

/// Keeps a bill.
pub(crate) async fn add(
    db: &mut AnyConnection,
    pool: &str,
    name: &EntryName,
    bill: &Bill,
    state: State,
) -> Result<(), Error> {
    let mut rows = Rows::default();
    rows.bill(pool, name, bill, state);
    rows.write(db, pool).await
}

/// What is due for a bill after a correction.
pub(crate) async fn set_due(db: &mut AnyConnection, pool: &str, bill: Digest, due: &str) -> Result<(), Error> {
    let update = "UPDATE bills SET due = $3 WHERE pool = $1 AND hash = $2";
    sqlx::query(update).bind(pool).bind(bill.0.to_vec()).bind(due).execute(db).await?;
    Ok(())
}

/// Marks the bill that a notice disputes.
pub(crate) async fn dispute(db: &mut AnyConnection, pool: &str, bill: Digest) -> Result<(), Error> {
    let update = "UPDATE bills SET disputed = 1 WHERE pool = $1 AND hash = $2";
    sqlx::query(update).bind(pool).bind(bill.0.to_vec()).execute(db).await?;
    Ok(())
}

/// Nothing of a contract is disputed any more.
pub(crate) async fn settle(db: &mut AnyConnection, pool: &str, no: ContractNo) -> Result<(), Error> {
    let update = "UPDATE bills SET disputed = 0 WHERE contract = $2 AND pool = $1 AND disputed = 1";
    sqlx::query(update).bind(pool).bind(no.0.to_vec()).execute(db).await?;
    Ok(())
}

type BillRow = (String, Vec<u8>, Vec<u8>, String, Option<String>, String, i64);

fn stored((pool, hash, contract, total, due, state, disputed): BillRow) -> StoredBill {
    let state = State::of(&state, due.as_ref());
    let due = due.unwrap_or_else(|| total.clone());
    StoredBill { pool, hash, contract, total, due, state, is_disputed: disputed == 1 }
}

/// The bill of a number: the payable one, if there is one. A payable number holds its contract's, which is its node's alone.
pub(crate) async fn find(db: &mut AnyConnection, number: &str) -> Result<Option<StoredBill>, Error> {
    let select = "SELECT pool, hash, contract, total, due, state, disputed FROM bills WHERE number = $1
        ORDER BY CASE WHEN state = 'lost' THEN 2 WHEN state = 'refused' AND due IS NULL THEN 1 ELSE 0 END, pool, height LIMIT 1";
    let row: Option<BillRow> = sqlx::query_as(select).bind(number).fetch_optional(db).await?;
    Ok(row.map(stored))
}

/// Bills by node and in the order of its log, those behind one of them; at most `limit`.
pub(crate) async fn behind(
    db: &mut AnyConnection,
    last: Option<&StoredBill>,
    limit: i64,
) -> Result<Vec<StoredBill>, Error> {
    let select = "SELECT pool, hash, contract, total, due, state, disputed FROM bills b
        WHERE $1 = 0 OR pool > $2 OR (pool = $2 AND (height > (SELECT height FROM bills l WHERE l.pool = $2 AND l.hash = $3)
        OR (height = (SELECT height FROM bills l WHERE l.pool = $2 AND l.hash = $3) AND hash > $3)))
        ORDER BY pool, height, hash LIMIT $4";
    let rows: Vec<BillRow> = sqlx::query_as(select)
        .bind(i64::from(last.is_some()))
        .bind(last.map_or("", |last| last.pool.as_str()))
        .bind(last.map_or_else(Vec::new, |last| last.hash.clone()))
        .bind(limit)
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(stored).collect())
}

/// The payment recorded for a bill.
pub(crate) async fn payment(db: &mut AnyConnection, number: &str) -> Result<Option<Moved>, Error> {
    let select = "SELECT amount, reference, paid_at FROM payments WHERE number = $1";
    let row: Option<(String, String, i64)> = sqlx::query_as(select).bind(number).fetch_optional(db).await?;
    Ok(row.map(|(amount, reference, at_ns)| Moved { amount, reference, at_ns }))
}

/// Payments and refunds that are recorded for the bills of a contract: number and amount.
pub(crate) async fn moved(db: &mut AnyConnection, no: ContractNo) -> Result<[Vec<(String, String)>; 2], Error> {
    let paid = "SELECT p.number, p.amount FROM bills b JOIN payments p ON p.number = b.number WHERE b.contract = $1
        ORDER BY b.height";
    let paid = sqlx::query_as(paid).bind(no.0.to_vec()).fetch_all(&mut *db).await?;
    let refunded = "SELECT r.number, r.amount FROM bills b JOIN refunds r ON r.number = b.number WHERE b.contract = $1
        ORDER BY b.height";
    Ok([paid, sqlx::query_as(refunded).bind(no.0.to_vec()).fetch_all(db).await?])
}

/// Records a payment, in place of one that was recorded before.
pub(crate) async fn pay(db: &mut AnyConnection, number: &str, paid: &Moved) -> Result<(), Error> {
    let upsert = "INSERT INTO payments (number, amount, reference, paid_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (number) DO UPDATE SET amount = excluded.amount, reference = excluded.reference,
        paid_at = excluded.paid_at";
    sqlx::query(upsert).bind(number).bind(&paid.amount).bind(&paid.reference).bind(paid.at_ns).execute(db).await?;
    Ok(())
}

/// Keeps a payment unless one is recorded.
pub(crate) async fn keep_payment(db: &mut AnyConnection, number: &str, paid: &Moved) -> Result<(), Error> {
    let insert = "INSERT INTO payments (number, amount, reference, paid_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (number) DO NOTHING";
    sqlx::query(insert).bind(number).bind(&paid.amount).bind(&paid.reference).bind(paid.at_ns).execute(db).await?;
    Ok(())
}

/// Keeps a refund unless one is recorded.
pub(crate) async fn keep_refund(db: &mut AnyConnection, number: &str, back: &Moved) -> Result<(), Error> {
    let insert = "INSERT INTO refunds (number, amount, reference, paid_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (number) DO NOTHING";
    sqlx::query(insert).bind(number).bind(&back.amount).bind(&back.reference).bind(back.at_ns).execute(db).await?;
    Ok(())
}

/// The refund recorded for a bill.
pub(crate) async fn refund(db: &mut AnyConnection, number: &str) -> Result<Option<Moved>, Error> {
    let select = "SELECT amount, reference, paid_at FROM refunds WHERE number = $1";
    let row: Option<(String, String, i64)> = sqlx::query_as(select).bind(number).fetch_optional(db).await?;
    Ok(row.map(|(amount, reference, at_ns)| Moved { amount, reference, at_ns }))
}

/// Records a refund.
pub(crate) async fn pay_back(db: &mut AnyConnection, number: &str, back: &Moved) -> Result<(), Error> {
    let insert = "INSERT INTO refunds (number, amount, reference, paid_at) VALUES ($1, $2, $3, $4)";
    sqlx::query(insert).bind(number).bind(&back.amount).bind(&back.reference).bind(back.at_ns).execute(db).await?;
    Ok(())
}

/// Keeps a verified score; the first one stands, and is marked once the node's log holds it too.
pub(crate) async fn add_score(
    db: &mut AnyConnection,
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
pub(crate) async fn score(db: &mut AnyConnection, no: ContractNo) -> Result<Option<Vec<u8>>, Error> {
    let select = "SELECT statement FROM scores WHERE contract = $1";
    let row: Option<(Vec<u8>,)> = sqlx::query_as(select).bind(no.0.to_vec()).fetch_optional(db).await?;
    Ok(row.map(|(statement,)| statement))
}
