//! Notices that this platform makes itself: kept by a command, signed and sent by `serve`, answered by the node.

use hufu_gm::sm3::sm3;
use hufu_trade::{notice::Notice, octets::ContractNo};
use sqlx::AnyConnection;

use crate::error::Error;

/// A notice that the node has not answered for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// SM3 of `tbs`.
    pub(crate) id: Vec<u8>,
    /// The node.
    pub(crate) pool: String,
    /// DER of the notice.
    pub(crate) tbs: Vec<u8>,
    /// `Signed` over it, once it was sent.
    pub(crate) signed: Option<Vec<u8>>,
}

/// Keeps a notice that is to be sent.
pub(crate) async fn add(db: &mut AnyConnection, notice: &Notice) -> Result<(), Error> {
    let tbs = hufu_trade::encode(notice, "Notice")?;
    let insert = "INSERT INTO notices (id, pool, contract, act, why, made_at, tbs) VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (id) DO NOTHING";
    sqlx::query(insert)
        .bind(sm3(&[&tbs]).to_vec())
        .bind(&notice.computing_pool_id)
        .bind(notice.contract_no.0.to_vec())
        .bind(&notice.act)
        .bind(&notice.why)
        .bind(notice.time)
        .bind(tbs)
        .execute(db)
        .await?;
    Ok(())
}

/// DER of the notice of a contract that still waits for its answer.
pub(crate) async fn waiting(db: &mut AnyConnection, no: ContractNo) -> Result<Option<Vec<u8>>, Error> {
    let select = "SELECT tbs FROM notices WHERE contract = $1 AND answer IS NULL ORDER BY made_at LIMIT 1";
    let row: Option<(Vec<u8>,)> = sqlx::query_as(select).bind(no.0.to_vec()).fetch_optional(db).await?;
    Ok(row.map(|(tbs,)| tbs))
}

/// The notices that wait for their answers, oldest first.
pub(crate) async fn pending(db: &mut AnyConnection) -> Result<Vec<Pending>, Error> {
    let select = "SELECT id, pool, tbs, signed FROM notices WHERE answer IS NULL ORDER BY made_at, id";
    type Row = (Vec<u8>, String, Vec<u8>, Option<Vec<u8>>);
    let rows: Vec<Row> = sqlx::query_as(select).fetch_all(db).await?;
    Ok(rows.into_iter().map(|(id, pool, tbs, signed)| Pending { id, pool, tbs, signed }).collect())
}

/// Keeps the signature: sent again, it is the same message.
pub(crate) async fn sign(db: &mut AnyConnection, id: &[u8], signed: &[u8]) -> Result<(), Error> {
    let update = "UPDATE notices SET signed = $2 WHERE id = $1 AND signed IS NULL";
    sqlx::query(update).bind(id).bind(signed).execute(db).await?;
    Ok(())
}

/// Keeps the node's answer.
pub(crate) async fn answer(db: &mut AnyConnection, id: &[u8], answer: &str) -> Result<(), Error> {
    let update = "UPDATE notices SET answer = $2 WHERE id = $1 AND answer IS NULL";
    sqlx::query(update).bind(id).bind(answer).execute(db).await?;
    Ok(())
}
