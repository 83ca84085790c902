//! Blocks and their entries, forks, waiting blocks.

use hufu_gm::{Certificate, Hash, Signed, sm3::sm3};
use hufu_ledger::{Block, Entry};
use hufu_trade::{
    bill::Bill,
    correction::{Correction, RefundPaid},
    decode,
    entry::{EntryKind, Payment, SignedStatement},
    money::Money,
    notice::Notice,
    rotation::SignedRotation,
    rules::{CORRECT, DISPUTE},
};
use sqlx::AnyConnection;

use crate::{
    error::{Error, sql},
    judge::{
        block::{JudgedEntry, NextBlock},
        facts::Facts,
    },
    store::{bill, contract, lost, node, parent, tree},
};

/// Longest time a block waits for the other log, ns; then it is judged with what is there.
pub(crate) const WAIT_NS_MAX: i64 = 600_000_000_000;

/// The bytes of a stored block.
pub(crate) async fn bytes(db: &mut AnyConnection, pool: &str, (log, height): (u8, u64)) -> Result<Vec<u8>, Error> {
    let select = "SELECT bytes FROM blocks WHERE pool = $1 AND log = $2 AND height = $3";
    let row: Option<(Vec<u8>,)> =
        sqlx::query_as(select).bind(pool).bind(i64::from(log)).bind(sql(height)).fetch_optional(db).await?;
    row.map(|(bytes,)| bytes).ok_or(Error::Damaged("block missing"))
}

/// Stores a judged block at the end of its log, with everything that follows from its entries.
pub(crate) async fn append(
    db: &mut AnyConnection,
    facts: &Facts,
    (log, height): (u8, u64),
    bytes: &[u8],
    block: &NextBlock,
) -> Result<(), Error> {
    insert(&mut *db, facts, (log, height), bytes, (&block.hash, &block.header)).await?;
    tree::append(&mut *db, (&facts.pool, log), height, &block.hash).await?;
    for entry in &block.entries {
        append_entry(&mut *db, facts, entry).await?;
    }
    let delete = "DELETE FROM waits WHERE pool = $1 AND log = $2";
    sqlx::query(delete).bind(&facts.pool).bind(i64::from(log)).execute(&mut *db).await?;
    Ok(())
}

/// Stores a block again of which everything else is there.
pub(crate) async fn put(
    db: &mut AnyConnection,
    facts: &Facts,
    place: (u8, u64),
    bytes: &[u8],
    block: &Block,
) -> Result<(), Error> {
    insert(db, facts, place, bytes, (&block.hash(), &block.signed().to_bytes()?)).await
}

async fn insert(
    db: &mut AnyConnection,
    facts: &Facts,
    (log, height): (u8, u64),
    bytes: &[u8],
    (hash, header): (&Hash, &[u8]),
) -> Result<(), Error> {
    let insert = "INSERT INTO blocks (pool, log, height, hash, header, bytes, received_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sqlx::query(insert)
        .bind(&facts.pool)
        .bind(i64::from(log))
        .bind(sql(height))
        .bind(hash.to_vec())
        .bind(header)
        .bind(bytes)
        .bind(facts.now_ns)
        .execute(db)
        .await?;
    Ok(())
}

async fn append_entry(db: &mut AnyConnection, facts: &Facts, entry: &JudgedEntry) -> Result<(), Error> {
    let insert = "INSERT INTO entries (pool, log, height, idx, kind, hash, contract, seq, refused, bytes, state, turn)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, CASE WHEN $11 IS NOT NULL
        THEN (SELECT COALESCE(MAX(turn), 0) + 1 FROM entries WHERE pool = $1) END)";
    let refused = entry.refused.as_ref().map(|refusal| refusal.code.name());
    sqlx::query(insert)
        .bind(&facts.pool)
        .bind(i64::from(entry.name.log))
        .bind(sql(entry.name.height))
        .bind(i64::from(entry.name.index))
        .bind(i64::from(entry.kind))
        .bind(entry.name.hash.0.to_vec())
        .bind(entry.contract.map(|no| no.0.to_vec()))
        .bind(entry.seq.map(sql))
        .bind(refused)
        .bind(&entry.bytes)
        .bind(&entry.state)
        .execute(&mut *db)
        .await?;
    let (log, height) = (entry.name.log, entry.name.height);
    if facts.logs.get(usize::from(log)).is_some_and(|held| held.receipted > height) {
        lost::found_again(&mut *db, &facts.pool, (log, height, entry.name.index), &entry.name.hash.0).await?;
    }
    if let (Some(no), Some(state)) = (entry.contract, &entry.state) {
        let buyer = facts.contracts.get(&no).and_then(|contract| contract.buyer.as_ref()).map(|(id, _)| *id);
        contract::set_state(&mut *db, &facts.pool, no, state, buyer).await?;
    }
    follow(&mut *db, facts, entry).await?;
    // What ends a dispute is the state that it leads to.
    if let (Some(no), Some(state)) = (entry.contract, &entry.state)
        && facts.table(facts.contracts.get(&no)).is_none_or(|table| table.row(state, CORRECT).is_none())
    {
        bill::settle(&mut *db, &facts.pool, no).await?;
    }
    Ok(())
}

/// Keeps what lists and payments need of an entry beside its bytes.
pub(crate) async fn follow(db: &mut AnyConnection, facts: &Facts, entry: &JudgedEntry) -> Result<(), Error> {
    let (pool, body) = (facts.pool.as_str(), || Entry::from_bytes(&entry.bytes).map(|entry| entry.body));
    match (EntryKind::from_number(entry.kind), &entry.refused) {
        (Some(EntryKind::Bill), refused) => {
            // A bill that does not decode is refused and stands among the entries; it has no number to list.
            if let Ok(found) = decode::<Bill>(&body()?, "Bill") {
                let state = if refused.is_some() { bill::State::Refused } else { bill::State::Payable };
                bill::add(&mut *db, pool, &entry.name, &found, state).await?;
            }
        }
        (Some(EntryKind::Deal), None) => {
            parent::add_child(&mut *db, pool, &decode(&body()?, "Deal")?).await?;
        }
        (Some(EntryKind::KeyRotation), None) => {
            let signed: SignedRotation = decode(&body()?, "SignedRotation")?;
            let chain = signed.certificates.iter().map(|der| Certificate::from_der(der.as_bytes()));
            let chain: Vec<Certificate> = chain.collect::<Result<_, _>>()?;
            node::add_certificates(&mut *db, pool, &chain, facts.now_ns).await?;
        }
        (Some(EntryKind::Score), None) => {
            let signed: SignedStatement = decode(&body()?, "SignedStatement")?;
            bill::add_score(&mut *db, pool, &signed, bill::Source::Node, facts.now_ns).await?;
        }
        (Some(EntryKind::Notice), None) => {
            let notice: Notice = decode(Signed::from_bytes(&body()?)?.tbs(), "Notice")?;
            if let Some(bill) = notice.bill.filter(|_| notice.act == DISPUTE) {
                bill::dispute(&mut *db, pool, bill).await?;
            }
        }
        (Some(EntryKind::Correction), None) => {
            let correction: Correction = decode(&body()?, "Correction")?;
            bill::set_due(&mut *db, pool, correction.bill, &correction.total.to_string()).await?;
        }
        // What the operator recorded is there already, unless this database was restored from a backup.
        (Some(EntryKind::Payment), None) => {
            let paid: Payment = decode(&body()?, "Payment")?;
            bill::keep_payment(&mut *db, &paid.number, &confirmed(paid.amount, paid.paid_at)).await?;
        }
        (Some(EntryKind::RefundPaid), None) => {
            let back: RefundPaid = decode(&body()?, "RefundPaid")?;
            bill::keep_refund(&mut *db, &back.number, &confirmed(back.amount, back.paid_at)).await?;
        }
        _ => {}
    }
    Ok(())
}

/// Money that this platform confirmed before it was restored from a backup.
fn confirmed(amount: Money, at_ns: i64) -> bill::Moved {
    bill::Moved { amount: amount.to_string(), reference: "as confirmed to the node".to_owned(), at_ns }
}

/// Keeps a second block for a height as evidence; false when it is there already.
pub(crate) async fn add_fork(
    db: &mut AnyConnection,
    pool: &str,
    (log, height): (u8, u64),
    bytes: &[u8],
    now_ns: i64,
) -> Result<bool, Error> {
    let insert = "INSERT INTO forks (pool, log, height, hash, bytes, received_at) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (pool, log, height, hash) DO NOTHING";
    let done = sqlx::query(insert)
        .bind(pool)
        .bind(i64::from(log))
        .bind(sql(height))
        .bind(sm3(&[bytes]).to_vec())
        .bind(bytes)
        .bind(now_ns)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether the block at `height` has waited for the other log long enough.
pub(crate) async fn waited(
    db: &mut AnyConnection,
    pool: &str,
    (log, height): (u8, u64),
    now_ns: i64,
) -> Result<bool, Error> {
    let select = "SELECT since FROM waits WHERE pool = $1 AND log = $2 AND height = $3";
    let since: Option<(i64,)> =
        sqlx::query_as(select).bind(pool).bind(i64::from(log)).bind(sql(height)).fetch_optional(db).await?;
    Ok(since.is_some_and(|(since,)| now_ns.saturating_sub(since) > WAIT_NS_MAX))
}

/// Whether a block of a node waits for the other log.
pub(crate) async fn waits(db: &mut AnyConnection, pool: &str) -> Result<bool, Error> {
    let select = "SELECT height FROM waits WHERE pool = $1 LIMIT 1";
    let found: Option<(i64,)> = sqlx::query_as(select).bind(pool).fetch_optional(db).await?;
    Ok(found.is_some())
}

/// Forgets since when a block of a log waits for the other log.
pub(crate) async fn wait_anew(db: &mut AnyConnection, (pool, log): (&str, u8)) -> Result<(), Error> {
    let delete = "DELETE FROM waits WHERE pool = $1 AND log = $2";
    sqlx::query(delete).bind(pool).bind(i64::from(log)).execute(db).await?;
    Ok(())
}

/// Notes that the block at `height` waits for the other log; the first note counts.
pub(crate) async fn wait(
    db: &mut AnyConnection,
    pool: &str,
    (log, height): (u8, u64),
    now_ns: i64,
) -> Result<(), Error> {
    let upsert = "INSERT INTO waits (pool, log, height, since) VALUES ($1, $2, $3, $4)
        ON CONFLICT (pool, log) DO UPDATE SET height = excluded.height, since = excluded.since
        WHERE waits.height <> excluded.height";
    sqlx::query(upsert).bind(pool).bind(i64::from(log)).bind(sql(height)).bind(now_ns).execute(db).await?;
    Ok(())
}
