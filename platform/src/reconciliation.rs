//! Reconciliation at the platform: what its books hold of a node over a period, and its signed answer to the statement of a node. What
//! differs and why is `trade::reconciliation`.

use hufu_audit::reconciliation::{Statement, compare};
use hufu_gm::Signed;
use hufu_trade::{
    encode,
    octets::{Digest, Octets},
    reconciliation::{LINES_MAX, Reconciliation, ReconciliationLine, Side},
};
use sqlx::AnyConnection;

use crate::{
    error::Error,
    identity::Identity,
    judge::{Code, Refusal},
    store::{
        node,
        reconciliation::{self, Kept},
        tree,
    },
};

/// The books of one side of a node: the platform's own, or the node's log as far as it is here.
///
/// # Errors
/// [`Error`] from the database.
pub(crate) async fn books(
    db: &mut AnyConnection,
    pool: &str,
    (from, until): (i64, i64),
    (side, other): (Side, Option<Digest>),
    now_ns: i64,
) -> Result<Reconciliation, Error> {
    let mut lines = reconciliation::lines(&mut *db, pool, (from, until)).await?;
    if side == Side::Node {
        lines.retain(|line| line.entry.is_some());
        lines = lines.into_iter().map(|line| ReconciliationLine { refused: None, ..line }).collect();
    }
    let mut logs = [(0, [0; 32]); 2];
    for (log, slot) in (0_u8..).zip(&mut logs) {
        let size = node::log(&mut *db, pool, log).await?.size;
        *slot = (size, tree::root(&mut *db, pool, log, size).await?);
    }
    let [(trade_size, trade_root), (finance_size, finance_root)] = logs;
    Ok(Reconciliation {
        version: 1,
        computing_pool_id: pool.to_owned(),
        side: side as u8,
        from,
        until,
        time: now_ns,
        trade_size,
        trade_root: Octets(trade_root),
        finance_size,
        finance_root: Octets(finance_root),
        other,
        lines: Reconciliation::sorted(lines),
    })
}

/// Answers a node's statement; the same one again is the same answer. Both are kept.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn answer(
    db: &mut AnyConnection,
    identity: &Identity,
    now_ns: i64,
    (pool, signed): (&str, &[u8]),
) -> Result<Result<(Statement, Statement), Refusal>, Error> {
    let malformed = |error: &dyn std::fmt::Display| Refusal::new(Code::Malformed, error);
    let read = Signed::from_bytes(signed).map_err(hufu_audit::Error::from).and_then(Statement::read);
    let theirs = match read {
        Ok(theirs) => theirs,
        Err(error) => return Ok(Err(malformed(&error))),
    };
    if theirs.side != Side::Node || theirs.books.computing_pool_id != pool {
        return Ok(Err(malformed(&"not a statement of this node")));
    }
    let known = node::certificates(&mut *db, pool).await?;
    if !theirs.is_by(known.iter().filter(|(is_leaf, _)| *is_leaf).map(|(_, found)| found)) {
        return Ok(Err(Refusal::new(Code::Signature, "the statement is not signed by this node")));
    }
    let period = (theirs.books.from, theirs.books.until);
    let last = reconciliation::last(&mut *db, (pool, period.0, period.1)).await?;
    if let Some(kept) = last.filter(|kept| kept.node == signed) {
        return Ok(Ok((theirs, Statement::read(Signed::from_bytes(&kept.platform)?)?)));
    }
    let other = Some(Reconciliation::digest(theirs.signed.tbs()));
    let own = books(&mut *db, pool, period, (Side::Platform, other), now_ns).await?;
    if own.lines.len() > LINES_MAX {
        let why = format!("{} lines in this period; reconcile a shorter one", own.lines.len());
        return Ok(Err(malformed(&why)));
    }
    let sealed = Signed::seal(encode(&own, "Reconciliation")?, &identity.cert_id, &identity.key)?;
    let own = Statement::read(sealed)?;
    let count = compare(&theirs, &own)?.differences.len();
    let kept = Kept { node: signed.to_vec(), platform: own.signed.to_bytes()? };
    reconciliation::add(&mut *db, (pool, period.0, period.1), (&kept, count), now_ns).await?;
    Ok(Ok((theirs, own)))
}
