//! The HTTP API for buyers, on loopback: lists, relayed requests to nodes, evidence packs. JSON both ways; every refusal is a
//! `Problem`. TLS and rate limits belong to whatever stands in front; nothing here is believed that is not signed.

mod answer;
mod asks;
mod demands;
mod lists;
mod operations;
mod packs;
mod questions;
mod reconciliations;
#[cfg(test)]
mod tests;
mod tokens;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Method, Uri},
    routing::{get, post},
};

use crate::{identity::Identity, relay::Relay, store::Store};
use answer::Wrong;

/// Largest request, bytes: it is relayed in one IF2 message of at most 64 KiB, whose base64 takes four bytes for three.
const BODY_BYTES_MAX: usize = 44 * 1024;

/// What the API works on.
pub(crate) struct Api {
    /// The database.
    pub(crate) store: Store,
    /// The platform's certificates and trust anchors.
    pub(crate) identity: Arc<Identity>,
    /// The way to the nodes.
    pub(crate) relay: Relay,
    /// The wall clock, ns since 1970-01-01Z.
    pub(crate) now: fn() -> i64,
}

/// The API's routes.
pub(crate) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/nodes", get(lists::nodes))
        .route("/v1/products", get(lists::products))
        .route("/v1/shops", get(lists::shops))
        .route("/v1/scores", get(lists::scores))
        .route("/v1/deals", get(lists::deals))
        .route("/v1/alarms", get(lists::alarms))
        .route("/v1/contracts/{no}", get(lists::contract))
        .route("/v1/contracts/{no}/refund", get(questions::refund))
        .route("/v1/contracts/{no}/bills", get(questions::bills))
        .route("/v1/bills/{no}", get(lists::bill))
        .route("/v1/bills/{no}/pack", post(packs::pack))
        .route("/v1/operations", post(operations::show))
        .route("/v1/tokens", post(tokens::give))
        .route("/v1/demands", post(demands::publish))
        .route("/v1/demands/{no}", get(demands::show))
        .route("/v1/demands/{no}/selection", post(demands::choose))
        .route("/v1/nodes/{site}/{node}/browse", post(asks::browse))
        .route("/v1/nodes/{site}/{node}/order", post(asks::order))
        .route("/v1/nodes/{site}/{node}/score", post(asks::score))
        .route("/v1/nodes/{site}/{node}/order-change", post(asks::order_change))
        .route("/v1/nodes/{site}/{node}/reconciliation", post(reconciliations::answer).layer(reconciliations::limit()))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}

async fn no_such_path(uri: Uri) -> Wrong {
    Wrong::no_such(&format!("path {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Wrong {
    Wrong::method(&method, uri.path())
}
