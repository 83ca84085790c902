//! `POST /v1/nodes/{site}/{node}/reconciliation`: a node's signed statement of a period is answered with the platform's. Nobody else learns
//! a node's books: only its key signs the question.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::HeaderMap,
};
use hufu_trade::{if2::Sealed, reconciliation::BYTES_MAX};
use serde::{Deserialize, Serialize};

use super::{
    Api,
    answer::{Wrong, read},
};
use crate::{error::Error, reconciliation, store::node};

/// The largest statement in base64, and its JSON.
pub(super) fn limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(BYTES_MAX / 3 * 4 + 1024)
}

/// The question.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// DER of `Signed` over `Reconciliation`, by the node.
    reconciliation: Sealed,
}

/// The answer.
#[derive(Serialize)]
pub(super) struct Answered {
    /// DER of `Signed` over `Reconciliation`, by the platform.
    reconciliation: Sealed,
}

pub(super) async fn answer(
    State(api): State<Arc<Api>>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Answered>, Wrong> {
    let Path((site, name)) = path.map_err(|_| Wrong::no_such("node"))?;
    let pool = format!("{site}/{name}");
    let asked: Asked = read(&headers, body)?;
    let mut tx = api.store.write().await?;
    if !node::is_known(&mut tx, &pool).await? {
        return Err(Wrong::no_such(&format!("node {pool}")));
    }
    let said = (pool.as_str(), &asked.reconciliation.0[..]);
    let (_, own) = reconciliation::answer(&mut tx, &api.identity, (api.now)(), said).await??;
    tx.commit().await?;
    Ok(Json(Answered { reconciliation: Sealed(own.signed.to_bytes().map_err(Error::from)?) }))
}
