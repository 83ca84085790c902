//! Demands of buyers: published, shown with what nodes proposed and what can be composed from catalogues, and chosen from. Who knows a
//! demand's number may see it; it holds nobody's name.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::HeaderMap,
};
use hufu_gm::sm3::sm3;
use hufu_trade::{
    decode,
    demand::{Demand, Response},
    if2::Sealed,
    matching::{Candidate, Matching},
    octets::{Octets, rfc3339},
};
use serde::Serialize;

use super::{
    Api,
    answer::{Wrong, read},
};
use crate::{
    demand::{self, Publish},
    matching::{self, Choose},
    plan::{Plan, compose},
    store::{demand as stored, list, node},
};

/// What became of a demand.
#[derive(Debug, Serialize)]
pub(super) struct Published {
    demand_no: String,
    valid_until: String,
}

/// A node's answer.
#[derive(Debug, Serialize)]
pub(super) struct ProposalView {
    node: String,
    #[serde(flatten)]
    response: Response,
    /// DER of its entry in the node's trade log.
    entry: Sealed,
    /// The node's certificates, leaf first.
    certificates: Vec<Sealed>,
}

/// A demand with what was proposed for it.
#[derive(Debug, Serialize)]
pub(super) struct DemandView {
    demand: Demand,
    /// DER of `Signed` over it, by the platform.
    signed: Sealed,
    is_open: bool,
    responses: Vec<ProposalView>,
    plans: Vec<Plan>,
    /// What the buyer chose, if it has.
    matching: Option<MatchingView>,
}

/// What a buyer chose.
#[derive(Debug, Serialize)]
pub(super) struct MatchingView {
    demand_no: String,
    at: String,
    /// Numbers of the proposals.
    chosen: Vec<Octets<16>>,
    why: String,
    candidates: Vec<Candidate>,
    /// DER of `Signed` over `Matching`, by the platform.
    signed: Sealed,
}

impl MatchingView {
    fn of(demand_no: &str, signed: Vec<u8>) -> Result<Self, crate::error::Error> {
        let matching: Matching = decode(hufu_gm::Signed::from_bytes(&signed)?.tbs(), "Matching")?;
        let selection = matching.selected()?;
        Ok(Self {
            demand_no: demand_no.to_owned(),
            at: rfc3339(matching.time),
            chosen: selection.chosen,
            why: selection.why,
            candidates: matching.candidates,
            signed: Sealed(signed),
        })
    }
}

pub(super) async fn publish(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Published>, Wrong> {
    let asked: Publish = read(&headers, body)?;
    let mut tx = api.store.write().await?;
    let demand = demand::publish(&mut tx, &api.identity, (api.now)(), &asked).await??;
    tx.commit().await?;
    let (demand_no, valid_until) = (demand.demand_no.to_string(), rfc3339(demand.valid_until));
    Ok(Json(Published { demand_no, valid_until }))
}

pub(super) async fn choose(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<MatchingView>, Wrong> {
    let Path(text) = path.map_err(|_| Wrong::no_such("demand"))?;
    let number = demand::number(&text).ok_or_else(|| Wrong::no_such(&format!("demand {text}")))?;
    let asked: Choose = read(&headers, body)?;
    let mut tx = api.store.write().await?;
    let signed = matching::choose(&mut tx, &api.identity, (api.now)(), (&number.0, &asked)).await??;
    tx.commit().await?;
    Ok(Json(MatchingView::of(&text, signed)?))
}

pub(super) async fn show(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<DemandView>, Wrong> {
    let Path(text) = path.map_err(|_| Wrong::no_such("demand"))?;
    let no_such = || Wrong::no_such(&format!("demand {text}"));
    let number = demand::number(&text).ok_or_else(no_such)?;
    let mut tx = api.store.read().await?;
    let found = stored::by_number(&mut tx, &number.0).await?.ok_or_else(no_such)?;
    let asked = demand::read(&found.signed)?;
    let der = hufu_trade::encode(&asked, "Demand").map_err(crate::error::Error::from)?;
    let mut responses = Vec::new();
    for row in stored::answers(&mut tx, &sm3(&[&der])).await? {
        let known = node::certificates(&mut tx, &row.pool).await?;
        responses.push(ProposalView {
            response: decode(&row.response, "Response").map_err(crate::error::Error::from)?,
            node: row.pool,
            entry: Sealed(row.entry),
            certificates: known.into_iter().map(|(_, found)| Sealed(found.der().to_vec())).collect(),
        });
    }
    let catalogues = list::on_sale(&mut tx).await?.into_iter();
    let sold: Vec<_> = catalogues
        .filter(|(_, presence, _)| !["offline", "lost"].contains(&presence.as_str()))
        .map(|(node, _, sold)| (node, sold))
        .collect();
    let plans = compose(&asked, &sold);
    let chosen = stored::matching(&mut tx, &sm3(&[&der])).await?;
    let is_open = chosen.is_none() && asked.valid_until > (api.now)();
    let matching = chosen.map(|(_, signed)| MatchingView::of(&text, signed)).transpose()?;
    Ok(Json(DemandView { demand: asked, signed: Sealed(found.signed), is_open, responses, plans, matching }))
}
