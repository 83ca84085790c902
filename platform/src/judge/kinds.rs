//! Judges what belongs to the node rather than to a contract: demands, the node's answers to them, a change of its key. Pure.

use hufu_gm::{PublicKey, Signed, sm3::sm3};
use hufu_trade::{
    Error,
    account::Account,
    demand::{Demand, Response},
    matching::Matching,
    octets::{Digest, Octets},
    party::platform_of,
    rotation::{KeyRotation, SignedRotation},
};

use super::{
    certificate::for_node,
    code::{Code, Refusal},
    deal::by_node,
    entry::{Place, read},
    facts::Facts,
};

fn malformed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Malformed, error)
}

/// A demand that a platform passed on: its form, and that it is for this node.
pub(super) fn demand(facts: &Facts, place: &Place<'_>) -> Result<Option<String>, Refusal> {
    let signed = Signed::from_bytes(place.body).map_err(malformed)?;
    let demand: Demand = read(signed.tbs(), "Demand")?;
    demand.check().map_err(malformed)?;
    if demand.relay != platform_of(&facts.pool) {
        return Err(malformed("relay is not the platform of this node's site"));
    }
    if !demand.is_for(&facts.pool) {
        return Err(Refusal::new(Code::Offer, "the demand is directed to other nodes"));
    }
    by_platform(facts, &signed, "demand")
}

/// What was chosen of the answers to a demand: its form, and that this platform told it.
pub(super) fn matching(facts: &Facts, place: &Place<'_>) -> Result<Option<String>, Refusal> {
    let signed = Signed::from_bytes(place.body).map_err(malformed)?;
    let matching: Matching = read(signed.tbs(), "Matching")?;
    matching.check().map_err(malformed)?;
    if matching.relay != platform_of(&facts.pool) {
        return Err(malformed("relay is not the platform of this node's site"));
    }
    by_platform(facts, &signed, "matching")
}

/// An account that the platform told: its form, and that it is this platform's.
pub(super) fn account(facts: &Facts, place: &Place<'_>) -> Result<Option<String>, Refusal> {
    let signed = Signed::from_bytes(place.body).map_err(malformed)?;
    let account: Account = read(signed.tbs(), "Account")?;
    account.check().map_err(malformed)?;
    if account.relay != platform_of(&facts.pool) {
        return Err(malformed("relay is not the platform of this node's site"));
    }
    by_platform(facts, &signed, "account")
}

fn by_platform(facts: &Facts, signed: &Signed, what: &str) -> Result<Option<String>, Refusal> {
    match facts.platform.as_ref().filter(|(id, _)| *id == signed.cert_id()) {
        // Signed under a certificate the platform had before: it cannot be judged here.
        None => Ok(None),
        Some((_, key)) if signed.verify(key).is_valid() => Ok(None),
        Some(_) => Err(Refusal::new(Code::Signature, format!("not a {what} of this platform"))),
    }
}

/// The node's answer to a demand that stands in its log.
pub(super) fn response(facts: &Facts, place: &Place<'_>) -> Result<Option<String>, Refusal> {
    let signed = Signed::from_bytes(place.body).map_err(malformed)?;
    let response: Response = read(signed.tbs(), "Response")?;
    response.check().map_err(malformed)?;
    by_node(facts, (&signed, place), "response")?;
    if response.computing_pool_id != facts.pool {
        return Err(malformed("computingPoolId is not that of this node"));
    }
    let (hash, demand) = facts
        .demands
        .get(&response.follows)
        .ok_or_else(|| Refusal::new(Code::Unknown, "it follows no demand in this log"))?;
    response.answers(response.follows, (*hash, demand)).map_err(|error| Refusal::new(Code::Offer, error))?;
    Ok(None)
}

/// The hash and content of a demand in an entry's body.
pub(crate) fn demand_of(body: &[u8]) -> Option<(Digest, Demand)> {
    let signed = Signed::from_bytes(body).ok()?;
    let demand = hufu_trade::decode(signed.tbs(), "Demand").ok()?;
    Some((Octets(sm3(&[signed.tbs()])), demand))
}

/// The node changes its key: both sign, the old one is that of this very block, the new certificate is trusted and names the node.
pub(super) fn rotation(facts: &Facts, place: &Place<'_>) -> Result<Option<String>, Refusal> {
    let (rotation, old, new) = rotated(facts, place)?;
    facts.signers.clone().rotate(place.name.height, &rotation, (&old, &new)).map_err(|error| {
        // Two courses of keys exclude each other.
        Refusal::new(Code::State, error)
    })?;
    Ok(None)
}

/// A rotation that holds, with the old and the new key.
///
/// # Errors
/// The [`Refusal`] that says what does not.
pub(super) fn rotated(facts: &Facts, place: &Place<'_>) -> Result<(KeyRotation, PublicKey, PublicKey), Refusal> {
    let signed: SignedRotation = read(place.body, "SignedRotation")?;
    let unknown = || Refusal::new(Code::Certificate, "the block is signed under an unknown certificate");
    let old = facts.node_key(&place.signer).ok_or_else(unknown)?;
    let (rotation, leaf) = signed.check(&facts.pool, (Octets(place.signer), old)).map_err(|error| {
        let code = match &error {
            Error::Field { field: "oldSignature" | "newSignature", .. } => Code::Signature,
            Error::Field { field: "old" | "new" | "certificates", .. } => Code::Certificate,
            _ => Code::Malformed,
        };
        Refusal::new(code, error)
    })?;
    let ders: Vec<Vec<u8>> = signed.certificates.iter().map(|der| der.as_bytes().to_vec()).collect();
    for_node(&ders, &facts.anchors, place.block_ns, &facts.pool)?;
    Ok((rotation, old.clone(), leaf.public_key().clone()))
}
