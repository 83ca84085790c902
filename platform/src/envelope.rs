//! Opening what nodes sign and sealing what the platform answers. What messages mean is `quick.rs` and `relay.rs`.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hufu_gm::{Certificate, sm3::sm3};
use hufu_trade::if2::{Answer, Envelope, Interface, PLATFORM, Payload, Problem};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::AnyConnection;

use crate::{
    error::Error,
    identity::Identity,
    judge::{Code, Refusal},
    store::node,
};

/// An envelope of a node, verified.
#[derive(Debug)]
pub(crate) struct Opened<T> {
    /// What it says.
    pub(crate) payload: Payload<T>,
    /// SM3 of the body's JSON.
    pub(crate) content: Vec<u8>,
}

/// A signed answer to a node.
///
/// # Errors
/// [`Error::Trade`] when it cannot be signed or is too large.
pub(crate) fn seal<T: Serialize>(
    identity: &Identity,
    now_ns: i64,
    (pool, interface): (&str, Interface),
    re: Option<&str>,
    body: &T,
) -> Result<Vec<u8>, Error> {
    let (key, cert_id) = (&identity.key, identity.digest());
    Ok(Envelope::seal(interface, PLATFORM, pool, now_ns, re, None, body, key, cert_id)?.1)
}

/// The refusal of a message; it names the message's id where that can be read at all.
///
/// # Errors
/// [`Error::Trade`] when it cannot be signed.
pub(crate) fn refuse(
    identity: &Identity,
    now_ns: i64,
    (pool, interface): (&str, Interface),
    received: &[u8],
    problem: Problem,
) -> Result<Vec<u8>, Error> {
    let id = Envelope::parse(received).ok().and_then(|envelope| claimed_id(&envelope));
    seal(identity, now_ns, (pool, interface), id.as_deref(), &Answer::<()>::Error(problem))
}

/// The id an envelope claims, before anything is verified; only a short plain one is repeated back.
fn claimed_id(envelope: &Envelope) -> Option<String> {
    let json = URL_SAFE_NO_PAD.decode(&envelope.payload).ok()?;
    let payload: Payload<serde::de::IgnoredAny> = serde_json::from_slice(&json).ok()?;
    let is_plain = payload.id.len() <= 64 && payload.id.bytes().all(|b| b.is_ascii_alphanumeric());
    is_plain.then_some(payload.id)
}

/// Verifies an envelope of a known node and reads its body.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn open<T: DeserializeOwned>(
    db: &mut AnyConnection,
    (pool, interface): (&str, Interface),
    received: &[u8],
) -> Result<Result<Opened<T>, Refusal>, Error> {
    let parsed = Envelope::parse(received).and_then(|envelope| Ok((envelope.signer()?, envelope)));
    let (signer, envelope) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return Ok(Err(Refusal::new(Code::Malformed, error))),
    };
    let known = node::certificates(&mut *db, pool).await?;
    let Some((_, certificate)) = known.iter().find(|(is_leaf, found)| *is_leaf && found.id() == signer.0) else {
        return Ok(Err(Refusal::new(Code::Certificate, "the signer's certificate is not known for this node")));
    };
    Ok(read(&envelope, certificate, (pool, interface), received))
}

/// Verifies an envelope under a certificate and reads its body.
///
/// # Errors
/// The [`Refusal`].
pub(crate) fn read<T: DeserializeOwned>(
    envelope: &Envelope,
    certificate: &Certificate,
    (pool, interface): (&str, Interface),
    received: &[u8],
) -> Result<Opened<T>, Refusal> {
    let opened = envelope.open::<serde_json::Value>(certificate.public_key(), interface, PLATFORM, received);
    let payload = opened
        .map_err(|error| match error {
            hufu_trade::Error::Field { field: "sig", .. } => Refusal::new(Code::Signature, error),
            _ => Refusal::new(Code::Malformed, error),
        })?
        .payload;
    if payload.from != pool {
        return Err(Refusal::new(Code::Malformed, format!("from {} on the topic of {pool}", payload.from)));
    }
    if payload.id.is_empty() || payload.id.len() > 64 {
        return Err(Refusal::new(Code::Malformed, "an id of 1 to 64 characters is expected"));
    }
    let content = sm3(&[payload.body.to_string().as_bytes()]).to_vec();
    let body = serde_json::from_value(payload.body).map_err(|error| Refusal::new(Code::Malformed, error))?;
    let Payload { id, iface, from, to, at, re, expires, token, .. } = payload;
    Ok(Opened { payload: Payload { id, iface, from, to, at, re, expires, token, body }, content })
}
