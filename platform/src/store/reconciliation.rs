//! What the books of the platform hold of a node over a period, and the reconciliations that were signed.

use std::collections::BTreeMap;

use hufu_ledger::Entry;
use hufu_trade::{
    bill::Bill,
    correction::{Correction, RefundPaid},
    decode,
    entry::{Deal, EntryKind, EntryName, Payment},
    money::Money,
    octets::{ContractNo, Octets},
    reconciliation::ReconciliationLine,
};
use sqlx::AnyConnection;

use super::list::contract_no;
use crate::error::{Error, count, hash};

/// A pair of statements as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// DER of `Signed`, by the node.
    pub(crate) node: Vec<u8>,
    /// DER of `Signed`, by this platform.
    pub(crate) platform: Vec<u8>,
}

/// Money recorded for the bills of a node. A number is its node's alone; a refused bill of the same number does not make it twice.
const PAYMENTS: &str = "SELECT DISTINCT m.number, m.amount, m.paid_at, b.contract FROM payments m
    JOIN bills b ON b.number = m.number AND b.pool = $1 WHERE m.paid_at >= $2 AND m.paid_at < $3";
const REFUNDS: &str = "SELECT DISTINCT m.number, m.amount, m.paid_at, b.contract FROM refunds m
    JOIN bills b ON b.number = m.number AND b.pool = $1 WHERE m.paid_at >= $2 AND m.paid_at < $3";

/// Every order, bill and correction of a node's log, and the money recorded for its bills, whose time is in the period.
///
/// # Errors
/// [`Error`] from the database, or for rows that are not what this program wrote.
pub(crate) async fn lines(
    db: &mut AnyConnection,
    pool: &str,
    (from, until): (i64, i64),
) -> Result<Vec<ReconciliationLine>, Error> {
    let mut lines = Vec::new();
    let mut told: BTreeMap<(u16, String), EntryName> = BTreeMap::new();
    let select = "SELECT log, height, idx, kind, hash, bytes, refused FROM entries
        WHERE pool = $1 AND kind IN ($2, $3, $4, $5, $6) ORDER BY log, height, idx";
    let [deal, bill, correction, payment, refund] = hufu_trade::reconciliation::KINDS.map(|k| i64::from(k.number()));
    type Row = (i64, i64, i64, i64, Vec<u8>, Vec<u8>, Option<String>);
    let rows: Vec<Row> = sqlx::query_as(select)
        .bind(pool)
        .bind(deal)
        .bind(bill)
        .bind(correction)
        .bind(payment)
        .bind(refund)
        .fetch_all(&mut *db)
        .await?;
    for (log, height, index, kind, digest, bytes, refused) in rows {
        let damaged = |_| Error::Damaged("entry number");
        let name = EntryName {
            log: u8::try_from(log).map_err(damaged)?,
            height: count(height)?,
            index: u32::try_from(index).map_err(damaged)?,
            hash: Octets(hash(&digest)?),
        };
        let kind = u16::try_from(kind).map_err(damaged)?;
        let body = Entry::from_bytes(&bytes)?.body;
        match line(kind, &body) {
            Some(Told::Line(number, no, time, amount)) => lines.push(ReconciliationLine {
                kind,
                number,
                contract_no: no,
                time,
                amount: Some(amount),
                entry: Some(name),
                refused,
            }),
            Some(Told::Money(number)) if refused.is_none() => {
                told.insert((kind, number), name);
            }
            _ => {}
        }
    }
    for (kind, select) in [(EntryKind::Payment, PAYMENTS), (EntryKind::RefundPaid, REFUNDS)] {
        let rows: Vec<(String, String, i64, Vec<u8>)> =
            sqlx::query_as(select).bind(pool).bind(from).bind(until).fetch_all(&mut *db).await?;
        for (number, amount, time, no) in rows {
            lines.push(ReconciliationLine {
                kind: kind.number(),
                entry: told.remove(&(kind.number(), number.clone())),
                number,
                contract_no: contract_no(&no)?,
                time,
                amount: Some(amount.parse()?),
                refused: None,
            });
        }
    }
    lines.retain(|line| (from..until).contains(&line.time));
    Ok(newest(lines))
}

/// Of several lines of one kind and number (one that was refused and came again) the one that stands.
fn newest(lines: Vec<ReconciliationLine>) -> Vec<ReconciliationLine> {
    let mut found: BTreeMap<(u16, String), ReconciliationLine> = BTreeMap::new();
    for line in lines {
        let key = (line.kind, line.number.clone());
        if found.get(&key).is_none_or(|before| before.refused.is_some()) {
            found.insert(key, line);
        }
    }
    found.into_values().collect()
}

/// What an entry tells.
enum Told {
    /// Number, contract, time, amount.
    Line(String, ContractNo, i64, Money),
    /// The number of the bill whose money moved; how much, the platform's own tables say.
    Money(String),
}

fn line(kind: u16, body: &[u8]) -> Option<Told> {
    match EntryKind::from_number(kind)? {
        EntryKind::Deal => {
            let deal: Deal = decode(body, "Deal").ok()?;
            let number = deal.contract_no.to_string();
            Some(Told::Line(number, deal.contract_no, deal.contract_time, deal.contract_value.amount))
        }
        EntryKind::Bill => {
            let bill: Bill = decode(body, "Bill").ok()?;
            Some(Told::Line(bill.number, bill.contract_no, bill.period_end, bill.total))
        }
        EntryKind::Correction => {
            let made: Correction = decode(body, "Correction").ok()?;
            Some(Told::Line(made.number, made.contract_no, made.time, made.total))
        }
        EntryKind::Payment => Some(Told::Money(decode::<Payment>(body, "Payment").ok()?.number)),
        EntryKind::RefundPaid => Some(Told::Money(decode::<RefundPaid>(body, "RefundPaid").ok()?.number)),
        _ => None,
    }
}

/// Keeps a pair of statements; the same pair again changes nothing.
pub(crate) async fn add(
    db: &mut AnyConnection,
    (pool, from, until): (&str, i64, i64),
    (kept, differences): (&Kept, usize),
    now_ns: i64,
) -> Result<(), Error> {
    let insert = "INSERT INTO reconciliations (pool, from_ns, until_ns, turn, node, platform, differences, at)
        VALUES ($1, $2, $3, (SELECT COALESCE(MAX(turn), 0) + 1 FROM reconciliations
            WHERE pool = $1 AND from_ns = $2 AND until_ns = $3), $4, $5, $6, $7)";
    sqlx::query(insert)
        .bind(pool)
        .bind(from)
        .bind(until)
        .bind(&kept.node)
        .bind(&kept.platform)
        .bind(i64::try_from(differences).unwrap_or(i64::MAX))
        .bind(now_ns)
        .execute(db)
        .await?;
    Ok(())
}

/// The newest pair of a node and period.
pub(crate) async fn last(db: &mut AnyConnection, (pool, from, until): (&str, i64, i64)) -> Result<Option<Kept>, Error> {
    let select = "SELECT node, platform FROM reconciliations WHERE pool = $1 AND from_ns = $2 AND until_ns = $3
        ORDER BY turn DESC LIMIT 1";
    let row: Option<(Vec<u8>, Vec<u8>)> =
        sqlx::query_as(select).bind(pool).bind(from).bind(until).fetch_optional(db).await?;
    Ok(row.map(|(node, platform)| Kept { node, platform }))
}
