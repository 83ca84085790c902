//! `GET` of what only the node knows about a contract now: what of its money goes back, and its bills. Asked of the node, each
//! time anew. What this platform holds itself is `lists.rs`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};
use hufu_trade::{
    if2::{BillQuery, Interface, RefundAmount},
    octets::ContractNo,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Api, answer::Wrong, asks::relay};
use crate::store::contract;

type Numbered = Result<Path<String>, PathRejection>;

/// For service that ends then.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moment {
    at: Option<String>,
}

/// Bills after this one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    after: Option<String>,
}

pub(super) async fn refund(
    State(api): State<Arc<Api>>,
    path: Numbered,
    query: Result<Query<Moment>, QueryRejection>,
) -> Result<Json<Value>, Wrong> {
    let at = read(query)?.at;
    let (pool, contract_no) = of(&api, path).await?;
    relay(&api, &pool, Interface::RefundAmount, &RefundAmount { contract_no, at }).await
}

pub(super) async fn bills(
    State(api): State<Arc<Api>>,
    path: Numbered,
    query: Result<Query<After>, QueryRejection>,
) -> Result<Json<Value>, Wrong> {
    let after = read(query)?.after;
    let (pool, contract_no) = of(&api, path).await?;
    relay(&api, &pool, Interface::BillQuery, &BillQuery { contract_no, after }).await
}

fn read<T: DeserializeOwned>(query: Result<Query<T>, QueryRejection>) -> Result<T, Wrong> {
    query.map(|Query(query)| query).map_err(Wrong::malformed)
}

/// The node of a contract, and its number as it travels.
async fn of(api: &Api, path: Numbered) -> Result<(String, String), Wrong> {
    let Path(text) = path.map_err(|_| Wrong::no_such("contract"))?;
    let no_such = || Wrong::no_such(&format!("contract {text}"));
    let no = ContractNo::from_hex(&text).ok_or_else(no_such)?;
    let mut tx = api.store.read().await?;
    let pool = contract::node_of(&mut tx, no).await?.ok_or_else(no_such)?;
    Ok((pool, no.to_string()))
}
