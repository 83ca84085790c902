//! `POST /v1/bills/{no}/pack`: the evidence pack, for nobody but the contract's own buyer, who proves by a fresh signature
//! that it asks.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{
        Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{HeaderMap, header::CONTENT_TYPE},
    response::IntoResponse,
};
use hufu_gm::{Hash, sm2::PublicKey, sm3::sm3};
use hufu_trade::{if2::Sealed, octets::Octets};
use serde::Deserialize;

use super::{
    Api,
    answer::{Wrong, read},
};
use crate::{
    account,
    error::Error,
    judge::{Code, Refusal},
    pack::{Lack, collect, zip},
    store::{bill, contract, list, operation::Done},
};

/// How far the buyer's clock may be off; a signature is good for no longer than this.
const FRESH_NS: i64 = 300_000_000_000;

/// The request. Signed is `hufu-pack-v1`, the bill's number and `at`, one a line, without a line end at the end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PackRequest {
    /// The buyer's certificate chain, DER, leaf first.
    certificates: Vec<Sealed>,
    /// When it was asked, RFC 3339.
    at: String,
    /// DER of the buyer's signature.
    signature: Sealed,
}

pub(super) async fn pack(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Wrong> {
    let Path(number) = path.map_err(|_| Wrong::no_such("bill"))?;
    let request: PackRequest = read(&headers, body)?;
    let no_such = || Wrong::no_such(&format!("bill {number}"));
    let mut tx = api.store.read().await?;
    let found = bill::find(&mut tx, &number).await?.ok_or_else(no_such)?;
    let no = list::contract_no(&found.contract)?;
    let buyer = contract::load(&mut tx, &found.pool, no, false).await?.and_then(|contract| contract.buyer);
    let (id, key) = buyer.ok_or_else(|| Refusal::new(Code::Certificate, "the contract has no buyer"))?;
    let said = format!("hufu-pack-v1\n{number}\n{}", request.at);
    let proof = (&request.certificates[..], request.at.as_str(), &request.signature);
    is_signed(&said, proof, (&id.0, &key), (api.now)())?;
    let input = collect(&mut tx, &number, &api.identity.chain).await?;
    drop(tx);
    let user = Octets(id.0);
    let mut tx = api.store.write().await?;
    let who = user.to_string();
    let done = Done { operator: &who, act: "pack", about: &number, concerns: Some(user), why: "" };
    account::note(&mut tx, &done, (api.now)()).await?;
    account::seal(&mut tx, &api.identity).await?;
    tx.commit().await?;
    let lacking = |lack| match lack {
        Lack::Bill => no_such(),
        Lack::Piece(piece) => {
            Refusal::new(Code::Busy, format!("bill {number} has no complete pack yet: {piece}")).into()
        }
    };
    let input = input.map_err(lacking)?;
    // A month of records takes a while to put together, and everything else here shares one thread.
    let made = tokio::task::spawn_blocking(move || zip(&input)).await;
    let bytes = made.map_err(|_| Error::Damaged("a pack cannot be made of it"))??.map_err(lacking)?;
    Ok(([(CONTENT_TYPE, "application/zip")], bytes))
}

/// Whether the contract's buyer says this now: its certificate, the time, its signature.
///
/// # Errors
/// The [`Refusal`].
pub(super) fn is_signed(
    said: &str,
    (certificates, at, signature): (&[Sealed], &str, &Sealed),
    (id, key): (&Hash, &PublicKey),
    now_ns: i64,
) -> Result<(), Refusal> {
    let leaf = certificates.first().map(|der| sm3(&[&der.0]));
    if leaf.as_ref() != Some(id) {
        return Err(Refusal::new(Code::Certificate, "not the certificate of the contract's buyer"));
    }
    let at: jiff::Timestamp =
        at.parse().map_err(|_| Refusal::new(Code::Malformed, "at: a time in RFC 3339 is expected"))?;
    let away_ns = at.as_nanosecond().abs_diff(i128::from(now_ns));
    if away_ns > FRESH_NS.unsigned_abs().into() {
        return Err(Refusal::new(Code::Signature, "at: more than five minutes from the platform's clock"));
    }
    if key.verify(said.as_bytes(), &signature.0).is_valid() {
        Ok(())
    } else {
        Err(Refusal::new(Code::Signature, "the signature of the request does not hold"))
    }
}
