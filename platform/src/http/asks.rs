//! `POST` to a node: a buyer's signed browse, order, score or notice, checked as far as the platform can and relayed. What a node
//! answers goes back as it is. A score is kept here first, so that a site cannot swallow a bad one.

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
use hufu_gm::{Certificate, sm2::PublicKey};
use hufu_trade::{
    account::BUYER,
    entry::SignedStatement,
    if2::{Answer, Browse, Interface, OrderChange, PLATFORM, SendOrder, segment_ok},
    octets::Digest,
    statement::{Statement, con_type},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    Api,
    answer::{Wrong, read},
};
use crate::{
    account, courier,
    error::Error,
    judge::{Code, Refusal, certificate, entry::check_score, notice},
    store::{
        account as accounts,
        bill::{self, Source},
        contract, delisting, node,
    },
};

/// `{site}/{node}` of a path.
type Place = Result<Path<(String, String)>, PathRejection>;
/// A body, if it arrived.
type Body = Result<Bytes, BytesRejection>;

/// `{site}/{node}`, if a node can be called so.
///
/// # Errors
/// 404.
pub(super) fn pool_name(site: &str, node: &str) -> Result<String, Wrong> {
    if segment_ok(site) && segment_ok(node) && node != PLATFORM {
        Ok(format!("{site}/{node}"))
    } else {
        Err(Wrong::no_such("node of that name"))
    }
}

pub(super) async fn browse(
    State(api): State<Arc<Api>>,
    place: Place,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Wrong> {
    let (pool, request) = (known(&api, place).await?, read::<Browse>(&headers, body)?);
    let (statement, signed) = open((&request.statement.0, &request.signature.0), &pool, con_type::BROWSE)?;
    let ders: Vec<Vec<u8>> = request.certificates.iter().map(|der| der.0.clone()).collect();
    let chain = certificate::trusted(&ders, &api.identity.anchors, (api.now)())?;
    let leaf = chain.first().filter(|leaf| leaf.id() == statement.buyer.0);
    let leaf = leaf.ok_or_else(|| Refusal::new(Code::Certificate, "not the certificate that the statement names"))?;
    signed_by(Certificate::public_key(leaf), &signed)?;
    let mut tx = api.store.read().await?;
    let is_met = account::is_met(&mut tx, (statement.buyer, &pool)).await??;
    drop(tx);
    if !is_met {
        // Nobody else writes meanwhile, so only who is new here asks for it.
        let mut tx = api.store.write().await?;
        account::meet(&mut tx, &api.identity, (statement.buyer, &pool), (api.now)()).await??;
        tx.commit().await?;
    }
    tell_account(&api, statement.buyer, &pool).await?;
    let mut tx = api.store.read().await?;
    let delisted = delisting::of(&mut tx, &pool, &request.product_id).await?;
    drop(tx);
    if let Some(why) = delisted {
        return Err(Refusal::new(Code::Unknown, format!("this product is not on sale: {why}")).into());
    }
    relay(&api, &pool, Interface::Browse, &request).await
}

pub(super) async fn order(
    State(api): State<Arc<Api>>,
    place: Place,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Wrong> {
    let (pool, request) = (known(&api, place).await?, read::<SendOrder>(&headers, body)?);
    let (statement, signed) = open((&request.statement.0, &request.signature.0), &pool, con_type::ORDER)?;
    let mut tx = api.store.read().await?;
    // The browse may still be on its way in the node's log; then the node alone judges.
    let contract = contract::load(&mut tx, &pool, statement.contract_no, false).await?;
    drop(tx);
    if let Some((_, key)) = contract.and_then(|contract| contract.buyer) {
        signed_by(&key, &signed)?;
    }
    let mut tx = api.store.read().await?;
    account::allowed(&mut tx, statement.buyer, BUYER).await??;
    drop(tx);
    relay(&api, &pool, Interface::SendOrder, &request).await
}

pub(super) async fn score(
    State(api): State<Arc<Api>>,
    place: Place,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Wrong> {
    let (pool, request) = (known(&api, place).await?, read::<SendOrder>(&headers, body)?);
    let (statement, signed) = open((&request.statement.0, &request.signature.0), &pool, con_type::SCORE)?;
    let is_kept = keep(&api, &pool, &statement, &signed).await??;
    relay(&api, &pool, Interface::Score, &request).await.map_err(|mut wrong| {
        if is_kept && wrong.problem.code == Code::Busy.name() {
            wrong.problem = Refusal::new(Code::Busy, "the score is kept here, the node has not answered").problem();
        }
        wrong
    })
}

pub(super) async fn order_change(
    State(api): State<Arc<Api>>,
    place: Place,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Wrong> {
    let (pool, request) = (known(&api, place).await?, read::<OrderChange>(&headers, body)?);
    let (signed, notice) = notice::open(&request.notice.0, &pool)?;
    let mut tx = api.store.read().await?;
    // The browse may still be on its way in the node's log; then the node alone judges.
    let contract = contract::load(&mut tx, &pool, notice.contract_no, false).await?;
    drop(tx);
    // The platform's own notices do not come this way.
    if let Some((id, key)) = contract.and_then(|contract| contract.buyer)
        && !notice::is_by(&signed, (&id.0, &key))
    {
        return Err(Refusal::new(Code::Signature, "the notice is not signed by the buyer").into());
    }
    relay(&api, &pool, Interface::OrderChange, &request).await
}

/// The node is told of the buyer's account before its browse; where that is lost, the courier tells it again.
async fn tell_account(api: &Api, user: Digest, pool: &str) -> Result<(), Wrong> {
    let mut tx = api.store.read().await?;
    let untold = accounts::untold_to(&mut tx, user, pool).await?;
    drop(tx);
    if let Some(untold) = untold {
        api.relay.tell(pool, Interface::Account, courier::told(&untold)?).await?;
    }
    Ok(())
}

/// The node that a path names, if it ever made itself known: strangers' names leave nothing behind.
async fn known(api: &Api, place: Place) -> Result<String, Wrong> {
    let Path((site, name)) = place.map_err(|_| Wrong::no_such("node of that name"))?;
    let pool = pool_name(&site, &name)?;
    let mut tx = api.store.read().await?;
    if node::is_known(&mut tx, &pool).await? { Ok(pool) } else { Err(Wrong::no_such(&format!("node {pool}"))) }
}

/// A statement of the expected type for this node.
fn open((statement, signature): (&[u8], &[u8]), pool: &str, kind: u8) -> Result<(Statement, SignedStatement), Wrong> {
    let signed = SignedStatement::new(statement, signature, &[]).map_err(Wrong::malformed)?;
    let read = signed.open().map_err(Wrong::malformed)?;
    if read.con_type == kind && read.computing_pool_id == pool {
        Ok((read, signed))
    } else {
        Err(Wrong::malformed("conType or computingPoolId is not that of this request and node"))
    }
}

fn signed_by(key: &PublicKey, signed: &SignedStatement) -> Result<(), Refusal> {
    if key.verify(signed.statement.as_bytes(), signed.signature.as_bytes()).is_valid() {
        Ok(())
    } else {
        Err(Refusal::new(Code::Signature, "the statement is not signed by the buyer"))
    }
}

/// Asks the node and gives its answer.
pub(super) async fn relay<T: Serialize>(
    api: &Api,
    pool: &str,
    interface: Interface,
    request: &T,
) -> Result<Json<Value>, Wrong> {
    let body = serde_json::to_value(request).map_err(Error::from)?;
    match api.relay.ask(pool, interface, body).await?? {
        Answer::Ok(answer) => Ok(Json(answer)),
        Answer::Error(problem) => Err(problem.into()),
    }
}

/// Keeps a score that is right; false where that cannot be known here yet: the deal has not arrived, or service goes on.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`] of a score that is wrong.
async fn keep(
    api: &Api,
    pool: &str,
    statement: &Statement,
    signed: &SignedStatement,
) -> Result<Result<bool, Refusal>, Error> {
    let now_ns = (api.now)();
    let mut tx = api.store.write().await?;
    let Some(contract) = contract::load(&mut tx, pool, statement.contract_no, false).await? else {
        return Ok(Ok(false));
    };
    let facts = node::facts(&mut tx, pool, &api.identity, now_ns).await?;
    let (Some(table), Some((_, deal))) = (facts.table(Some(&contract)), &contract.deal) else {
        return Ok(Ok(false));
    };
    let right = check_score(&contract, table, statement, signed);
    if let Err(refusal) = right {
        return Ok(Err(refusal));
    }
    if deal.service_end > now_ns {
        return Ok(Ok(false));
    }
    let before = bill::score(&mut tx, statement.contract_no).await?;
    if before.is_some_and(|before| before != signed.statement.as_bytes()) {
        return Ok(Err(Refusal::new(Code::Duplicate, "the contract has another score")));
    }
    bill::add_score(&mut tx, pool, signed, Source::Buyer, now_ns).await?;
    tx.commit().await?;
    Ok(Ok(true))
}
