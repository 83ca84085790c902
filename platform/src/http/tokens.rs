//! `POST /v1/tokens`: a user's token for the node of a contract, for nobody but its buyer, who proves by a fresh signature that it
//! asks. With it the user comes to the service without a second login (6.1).

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::HeaderMap,
};
use hufu_trade::{
    account::BUYER,
    if2::{Sealed, TokenGiven},
    octets::{ContractNo, Octets},
};
use serde::Deserialize;

use super::{
    Api,
    answer::{Wrong, read},
    packs::is_signed,
};
use crate::{
    account,
    judge::{Code, Refusal},
    session,
    store::{contract, operation::Done},
};

/// The request. Signed is `hufu-token-v1`, the contract's number and `at`, one a line, without a line end at the end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenAsked {
    /// The contract, 32 hexadecimal digits.
    contract_no: String,
    /// The buyer's certificate chain, DER, leaf first.
    certificates: Vec<Sealed>,
    /// When it was asked, RFC 3339.
    at: String,
    /// DER of the buyer's signature.
    signature: Sealed,
}

pub(super) async fn give(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<TokenGiven>, Wrong> {
    let asked: TokenAsked = read(&headers, body)?;
    let no_such = || Wrong::no_such(&format!("contract {}", asked.contract_no));
    let no = ContractNo::from_hex(&asked.contract_no).ok_or_else(no_such)?;
    let mut tx = api.store.write().await?;
    let pool = contract::node_of(&mut tx, no).await?.ok_or_else(no_such)?;
    let buyer = contract::load(&mut tx, &pool, no, false).await?.and_then(|contract| contract.buyer);
    let (id, key) = buyer.ok_or_else(|| Refusal::new(Code::Certificate, "the contract has no buyer"))?;
    let now_ns = (api.now)();
    let said = format!("hufu-token-v1\n{no}\n{}", asked.at);
    is_signed(&said, (&asked.certificates, &asked.at, &asked.signature), (&id.0, &key), now_ns)?;
    let user = Octets(id.0);
    account::allowed(&mut tx, user, BUYER).await??;
    let (who, about) = (user.to_string(), no.to_string());
    let done = Done { operator: &who, act: "token", about: &about, concerns: Some(user), why: &pool };
    account::note(&mut tx, &done, now_ns).await?;
    account::seal(&mut tx, &api.identity).await?;
    let given = session::for_user(&mut tx, &api.identity, (Octets(id.0), &no.to_string(), &pool), now_ns).await?;
    tx.commit().await?;
    Ok(Json(given))
}
