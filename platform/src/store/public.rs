//! What anybody may know of a node's past: how it was scored, with proofs, and which deals it made. Lists for the operator are
//! `list.rs`.

use hufu_ledger::{Entry, merkle::path_to_text};
use hufu_trade::{
    decode,
    entry::{Deal, EntryKind, SignedStatement},
    if2::{EntryProof, Sealed},
    octets::rfc3339,
};
use serde::Serialize;
use sqlx::AnyConnection;

use super::{
    contract::{self, StoredEntry},
    list::{ROWS_MAX, contract_no},
    node,
};
use crate::{error::Error, pack};

/// Scores shown at once: each is proven anew.
const SCORES_MAX: i64 = 200;

/// A verified score; the statement is what the buyer signed.
#[derive(Debug, Serialize)]
pub(crate) struct ScoreRow {
    contract_no: String,
    node: String,
    overall: String,
    items: serde_json::Value,
    statement: Sealed,
    signature: Sealed,
    /// The buyer's chain, leaf first, as its browse entry holds it.
    certificates: Vec<Sealed>,
    in_log: bool,
    /// That it stands in the node's log; absent until it does.
    proof: Option<EntryProof>,
    at: String,
}

/// A deal, as far as it is public.
#[derive(Debug, Serialize)]
pub(crate) struct DealRow {
    contract_no: String,
    node: String,
    product: String,
    at: String,
    state: String,
}

/// The last verified scores of a node, newest first; of all nodes without one.
pub(crate) async fn scores(db: &mut AnyConnection, node: Option<&str>) -> Result<Vec<ScoreRow>, Error> {
    let select = "SELECT contract, pool, statement, signature, from_node, at FROM scores
        WHERE pool = COALESCE($1, pool) ORDER BY at DESC LIMIT $2";
    type Row = (Vec<u8>, String, Vec<u8>, Vec<u8>, i64, i64);
    let rows: Vec<Row> = sqlx::query_as(select).bind(node).bind(SCORES_MAX).fetch_all(&mut *db).await?;
    let mut scores = Vec::new();
    for (contract, node, statement, signature, from_node, at) in rows {
        let read: hufu_trade::statement::Statement = decode(&statement, "Statement")?;
        let Some(card) = read.score else { continue };
        let no = contract_no(&contract)?;
        let entries = contract::entries(&mut *db, &node, no).await?;
        let certificates = buyer_chain(&entries)?;
        let own = entries.iter().find(|entry| entry.kind == EntryKind::Score.number() && entry.refused.is_none());
        let proof = match own {
            Some(entry) => Some(shown(&mut *db, &node, entry).await?),
            None => None,
        };
        scores.push(ScoreRow {
            contract_no: hex::encode(contract),
            node,
            overall: format!("{}.{:02}", card.overall / 100, card.overall % 100),
            items: serde_json::to_value(&card.items)?,
            statement: Sealed(statement),
            signature: Sealed(signature),
            certificates,
            in_log: from_node == 1,
            proof,
            at: rfc3339(at),
        });
    }
    Ok(scores)
}

/// The certificates that came with a contract's browse statement.
fn buyer_chain(entries: &[StoredEntry]) -> Result<Vec<Sealed>, Error> {
    let browse = entries.iter().find(|entry| entry.kind == EntryKind::Browse.number() && entry.refused.is_none());
    let Some(browse) = browse else { return Ok(Vec::new()) };
    let signed: SignedStatement = decode(&Entry::from_bytes(&browse.bytes)?.body, "SignedStatement")?;
    Ok(signed.certificates.iter().map(|der| Sealed(der.as_bytes().to_vec())).collect())
}

/// The proof that an entry stands in its node's log.
async fn shown(db: &mut AnyConnection, pool: &str, entry: &StoredEntry) -> Result<EntryProof, Error> {
    let (proof, receipt) = pack::prove(&mut *db, pool, &entry.name).await?;
    let known = node::certificates(&mut *db, pool).await?;
    Ok(EntryProof {
        entry: Sealed(entry.bytes.clone()),
        index: entry.name.index,
        header: Sealed(proof.header),
        entry_path: path_to_text(&proof.entry_path),
        log_path: path_to_text(&proof.log_path),
        receipt: receipt.map(Sealed),
        certificates: known.into_iter().map(|(_, found)| Sealed(found.der().to_vec())).collect(),
    })
}

/// The deals of a node, newest first; of all nodes without one. Whose they are is nobody else's business.
pub(crate) async fn deals(db: &mut AnyConnection, node: Option<&str>) -> Result<Vec<DealRow>, Error> {
    let select = "SELECT e.pool, e.bytes, c.state FROM contracts c JOIN entries e ON e.contract = c.contract AND e.seq IS NULL AND e.pool = c.pool
        JOIN blocks b ON b.pool = e.pool AND b.log = e.log AND b.height = e.height
        WHERE c.pool = COALESCE($1, c.pool) AND e.kind = 3 AND e.refused IS NULL
        ORDER BY b.received_at DESC, e.pool, e.height DESC LIMIT $2";
    let rows: Vec<(String, Vec<u8>, String)> = sqlx::query_as(select).bind(node).bind(ROWS_MAX).fetch_all(db).await?;
    let row = |(node, bytes, state): (String, Vec<u8>, String)| {
        let deal: Deal = decode(&Entry::from_bytes(&bytes)?.body, "Deal")?;
        let products: Vec<String> = deal.requirement.items.into_iter().map(|item| item.product_id).collect();
        Ok(DealRow {
            contract_no: deal.contract_no.to_string(),
            node,
            product: products.join(", "),
            at: rfc3339(deal.contract_time),
            state,
        })
    };
    rows.into_iter().map(row).collect()
}
