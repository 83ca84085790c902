//! `POST /v1/operations`: a user's account here and what was noted that it did or that concerns it, for nobody but this user, who proves
//! by a fresh signature that it asks (7.6: 支持用户查看相应存证及操作记录). Who has the role of an operator sees all.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::HeaderMap,
};
use hufu_trade::{
    account::OPERATOR,
    if2::Sealed,
    octets::{Digest, Octets},
};
use serde::{Deserialize, Serialize};

use super::{
    Api,
    answer::{Wrong, read},
    packs::is_signed,
};
use crate::{
    account::{self, allowed},
    judge::{Code, Refusal, certificate},
    store::{
        account as accounts,
        operation::{self, OperationRow},
    },
};

/// The request. Signed is `hufu-operations-v1` and `at`, one a line, without a line end at the end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OperationsAsked {
    /// The user's certificate chain, DER, leaf first.
    certificates: Vec<Sealed>,
    /// When it was asked, RFC 3339.
    at: String,
    /// DER of the user's signature.
    signature: Sealed,
}

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Operations {
    /// Certificate id.
    user: Digest,
    /// Its revision, roles and state; absent for whoever has no account.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<Shown>,
    /// Newest first, at most 10 000.
    operations: Vec<OperationRow>,
    /// The platform's chain, DER, leaf first.
    certificates: Vec<Sealed>,
}

#[derive(Debug, Serialize)]
struct Shown {
    revision: u64,
    roles: Vec<String>,
    state: String,
}

pub(super) async fn show(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Operations>, Wrong> {
    let asked: OperationsAsked = read(&headers, body)?;
    let now_ns = (api.now)();
    let ders: Vec<Vec<u8>> = asked.certificates.iter().map(|der| der.0.clone()).collect();
    let chain = certificate::trusted(&ders, &api.identity.anchors, now_ns)?;
    let leaf = chain.first().ok_or_else(|| Refusal::new(Code::Certificate, "no certificate"))?;
    let said = format!("hufu-operations-v1\n{}", asked.at);
    is_signed(&said, (&asked.certificates, &asked.at, &asked.signature), (&leaf.id(), leaf.public_key()), now_ns)?;
    let user = Octets(leaf.id());
    let mut tx = api.store.write().await?;
    account::seal(&mut tx, &api.identity).await?;
    let found = accounts::find(&mut tx, user).await?;
    let whose = if allowed(&mut tx, user, OPERATOR).await?.is_ok() { None } else { Some(user) };
    let operations = operation::newest(&mut tx, whose).await?;
    tx.commit().await?;
    let account = found.map(|account| Shown { revision: account.revision, roles: account.roles, state: account.state });
    let certificates = api.identity.chain.iter().map(|one| Sealed(one.der().to_vec())).collect();
    Ok(Json(Operations { user, account, operations, certificates }))
}
