//! `GET`: what a buyer may know. References of payments are the operator's and are not shown.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};
use hufu_trade::{
    if2::{Product, Sealed},
    octets::ContractNo,
};
use serde::{Deserialize, Serialize};

use super::{Api, answer::Wrong, asks::pool_name};
use crate::store::{list, public};

/// One JSON object with one list, as the commands give it.
type Named<T> = Json<BTreeMap<&'static str, Vec<T>>>;

fn named<T>(name: &'static str, rows: Vec<T>) -> Named<T> {
    Json(BTreeMap::from([(name, rows)]))
}

/// A product as its node reported it, with the node.
#[derive(Debug, Serialize)]
pub(super) struct OfferedProduct {
    node: String,
    presence: String,
    revision: String,
    #[serde(flatten)]
    product: Product,
}

/// A bill as its buyer sees it.
#[derive(Debug, Serialize)]
pub(super) struct BillView {
    bill_no: String,
    contract_no: String,
    node: String,
    total_cny: String,
    due_cny: String,
    state: &'static str,
    paid_at: Option<String>,
    refunded_cny: Option<String>,
    refunded_at: Option<String>,
}

/// Scores with their proofs, and who signed the receipts that these lead to.
#[derive(Debug, Serialize)]
pub(super) struct ScoresView {
    scores: Vec<public::ScoreRow>,
    /// The platform's chain, DER, leaf first.
    platform_certificates: Vec<Sealed>,
}

/// Whose scores or deals.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeQuery {
    node: Option<String>,
}

pub(super) async fn nodes(State(api): State<Arc<Api>>) -> Result<Named<list::NodeRow>, Wrong> {
    let mut tx = api.store.read().await?;
    Ok(named("nodes", list::nodes(&mut tx).await?))
}

pub(super) async fn products(State(api): State<Arc<Api>>) -> Result<Named<OfferedProduct>, Wrong> {
    let mut tx = api.store.read().await?;
    let mut rows = Vec::new();
    for (node, presence, catalogue) in list::on_sale(&mut tx).await? {
        rows.extend(catalogue.products.into_iter().map(|product| OfferedProduct {
            node: node.clone(),
            presence: presence.clone(),
            revision: catalogue.revision.to_string(),
            product,
        }));
    }
    Ok(named("products", rows))
}

/// Which shops.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShopQuery {
    word: Option<String>,
}

pub(super) async fn shops(
    State(api): State<Arc<Api>>,
    query: Result<Query<ShopQuery>, QueryRejection>,
) -> Result<Named<list::ShopRow>, Wrong> {
    let Query(query) = query.map_err(|_| Wrong::malformed("word=TEXT, or nothing, is expected"))?;
    let mut tx = api.store.read().await?;
    let mut rows = list::shops(&mut tx).await?;
    rows.retain(|shop| shop.is_listed() && query.word.as_ref().is_none_or(|word| shop.has(word)));
    Ok(named("shops", rows))
}

pub(super) async fn scores(
    State(api): State<Arc<Api>>,
    query: Result<Query<NodeQuery>, QueryRejection>,
) -> Result<Json<ScoresView>, Wrong> {
    let node = asked(query)?;
    let mut tx = api.store.read().await?;
    let scores = public::scores(&mut tx, node.as_deref()).await?;
    let chain = api.identity.chain.iter();
    Ok(Json(ScoresView { scores, platform_certificates: chain.map(|found| Sealed(found.der().to_vec())).collect() }))
}

pub(super) async fn deals(
    State(api): State<Arc<Api>>,
    query: Result<Query<NodeQuery>, QueryRejection>,
) -> Result<Named<public::DealRow>, Wrong> {
    let node = asked(query)?;
    let mut tx = api.store.read().await?;
    Ok(named("deals", public::deals(&mut tx, node.as_deref()).await?))
}

/// The node that a query names, if one.
fn asked(query: Result<Query<NodeQuery>, QueryRejection>) -> Result<Option<String>, Wrong> {
    let Query(query) = query.map_err(|_| Wrong::malformed("node=SITE/NODE, or nothing, is expected"))?;
    if let Some(node) = &query.node {
        let (site, node) = node.split_once('/').ok_or_else(|| Wrong::malformed("node=SITE/NODE is expected"))?;
        pool_name(site, node)?;
    }
    Ok(query.node)
}

pub(super) async fn alarms(State(api): State<Arc<Api>>) -> Result<Named<list::AlarmRow>, Wrong> {
    let mut tx = api.store.read().await?;
    Ok(named("alarms", list::alarms(&mut tx).await?))
}

pub(super) async fn contract(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<list::OrderRow>, Wrong> {
    let Path(text) = path.map_err(|_| Wrong::no_such("contract"))?;
    let no_such = || Wrong::no_such(&format!("contract {text}"));
    let no = ContractNo::from_hex(&text).ok_or_else(no_such)?;
    let mut tx = api.store.read().await?;
    list::order(&mut tx, no).await?.map(Json).ok_or_else(no_such)
}

pub(super) async fn bill(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<BillView>, Wrong> {
    let Path(number) = path.map_err(|_| Wrong::no_such("bill"))?;
    let mut tx = api.store.read().await?;
    let (row, _) = list::bill(&mut tx, &number).await?.ok_or_else(|| Wrong::no_such(&format!("bill {number}")))?;
    // What the operator knows the payment by is nobody else's.
    Ok(Json(BillView {
        bill_no: row.bill_no,
        contract_no: row.contract_no,
        node: row.node,
        total_cny: row.total_cny,
        due_cny: row.due_cny,
        state: row.state,
        paid_at: row.paid_at,
        refunded_cny: row.refunded_cny,
        refunded_at: row.refunded_at,
    }))
}
