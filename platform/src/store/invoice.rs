//! Invoices of bills, as acts on the bill's hash.

use hufu_trade::octets::rfc3339;
use serde::Serialize;
use sqlx::AnyConnection;

use super::list::ROWS_MAX;
use crate::error::Error;

/// What was done about an invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The buyer wants one.
    Request,
    /// It was made out.
    Issue,
    /// It was taken back, by one of the opposite amount.
    Reverse,
}

impl Act {
    /// Its word in the database and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Act::Request => "request",
            Act::Issue => "issue",
            Act::Reverse => "reverse",
        }
    }

    /// Its word in the chain of operations.
    pub(crate) fn operation(self) -> &'static str {
        match self {
            Act::Request => "invoice-request",
            Act::Issue => "invoice-issue",
            Act::Reverse => "invoice-reverse",
        }
    }

    /// The state that it leads to.
    pub(crate) fn state(self) -> &'static str {
        match self {
            Act::Request => "requested",
            Act::Issue => "issued",
            Act::Reverse => "reversed",
        }
    }

    fn of(name: &str) -> Result<Self, Error> {
        let mut acts = [Act::Request, Act::Issue, Act::Reverse].into_iter();
        acts.rfind(|act| act.name() == name).ok_or(Error::Damaged("act of an invoice"))
    }

    /// Whether it may follow what was done last.
    pub(crate) fn may_follow(self, last: Option<Act>) -> bool {
        match self {
            Act::Request => matches!(last, None | Some(Act::Reverse)),
            Act::Issue => last == Some(Act::Request),
            Act::Reverse => last == Some(Act::Issue),
        }
    }
}

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// What.
    pub(crate) act: Act,
    /// The invoice's number, from issue on.
    pub(crate) invoice: Option<String>,
    /// What was due for the bill, decimal CNY.
    pub(crate) amount: String,
    /// Whom it is made out to, or why it is reversed.
    pub(crate) note: String,
    /// When, ns since 1970-01-01Z.
    pub(crate) at_ns: i64,
}

/// An act as lists show it.
#[derive(Debug, Serialize)]
pub(crate) struct InvoiceRow {
    bill_no: String,
    bill: String,
    state: &'static str,
    invoice: Option<String>,
    amount_cny: String,
    note: String,
    at: String,
}

/// What was done last about a bill's invoice.
pub(crate) async fn last(db: &mut AnyConnection, bill: &[u8]) -> Result<Option<Done>, Error> {
    let select = "SELECT act, invoice, amount, note, at FROM invoices WHERE bill = $1 ORDER BY turn DESC LIMIT 1";
    type Row = (String, Option<String>, String, String, i64);
    let row: Option<Row> = sqlx::query_as(select).bind(bill).fetch_optional(db).await?;
    row.map(|(act, invoice, amount, note, at_ns)| Ok(Done { act: Act::of(&act)?, invoice, amount, note, at_ns }))
        .transpose()
}

/// Whether an invoice of this number was issued for any bill.
pub(crate) async fn is_taken(db: &mut AnyConnection, invoice: &str) -> Result<bool, Error> {
    let select = "SELECT turn FROM invoices WHERE invoice = $1 LIMIT 1";
    let found: Option<(i64,)> = sqlx::query_as(select).bind(invoice).fetch_optional(db).await?;
    Ok(found.is_some())
}

/// Keeps an act.
pub(crate) async fn add(db: &mut AnyConnection, (bill, number): (&[u8], &str), done: &Done) -> Result<(), Error> {
    let insert = "INSERT INTO invoices (bill, turn, number, act, invoice, amount, note, at)
        VALUES ($1, (SELECT COALESCE(MAX(turn), 0) + 1 FROM invoices WHERE bill = $1), $2, $3, $4, $5, $6, $7)";
    sqlx::query(insert)
        .bind(bill)
        .bind(number)
        .bind(done.act.name())
        .bind(done.invoice.as_deref())
        .bind(&done.amount)
        .bind(&done.note)
        .bind(done.at_ns)
        .execute(db)
        .await?;
    Ok(())
}

/// Every act, newest first.
pub(crate) async fn all(db: &mut AnyConnection) -> Result<Vec<InvoiceRow>, Error> {
    let select = "SELECT number, bill, act, invoice, amount, note, at FROM invoices
        ORDER BY at DESC, number, turn DESC LIMIT $1";
    type Row = (String, Vec<u8>, String, Option<String>, String, String, i64);
    let rows: Vec<Row> = sqlx::query_as(select).bind(ROWS_MAX).fetch_all(db).await?;
    let row = |(bill_no, bill, act, invoice, amount_cny, note, at): Row| {
        let state = Act::of(&act)?.state();
        Ok(InvoiceRow { bill_no, bill: hex::encode(bill), state, invoice, amount_cny, note, at: rfc3339(at) })
    };
    rows.into_iter().map(row).collect()
}
