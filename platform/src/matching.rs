//! 撮合 at the platform: a buyer chooses among the answers to its demand; the choice, with all candidates and their scores, is signed,
//! kept, and told to every node that answered. What it is, is `trade::matching`.

use hufu_gm::{Certificate, Signed};
use hufu_trade::{
    decode,
    demand::{Demand, Response},
    encode,
    if2::Sealed,
    matching::{Matching, Selection, candidates},
    octets::{Digest, Octets},
};
use serde::Deserialize;
use sqlx::AnyConnection;

use crate::{
    error::Error,
    identity::Identity,
    judge::{Code, Refusal},
    store::demand,
};

/// How far the time of a selection may be off.
const FRESH_NS: i64 = 300_000_000_000;

/// What a buyer chooses.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choose {
    /// DER of `Signed` over `Selection`, by the demand's buyer.
    pub(crate) selection: Sealed,
}

fn malformed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Malformed, error)
}

/// Checks and keeps what a buyer chose; the same again is the same answer. Gives the DER of `Signed` over [`Matching`].
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn choose(
    db: &mut AnyConnection,
    identity: &Identity,
    now_ns: i64,
    (number, asked): (&[u8], &Choose),
) -> Result<Result<Vec<u8>, Refusal>, Error> {
    let Some(stored) = demand::by_number(&mut *db, number).await? else {
        return Ok(Err(Refusal::new(Code::Unknown, "no such demand here")));
    };
    let wanted = crate::demand::read(&stored.signed)?;
    let demand_hash = Octets(hufu_gm::sm3::sm3(&[Signed::from_bytes(&stored.signed)?.tbs()]));
    let chain = demand::certificates(&mut *db, &demand_hash.0).await?;
    let (signed, selection) = match opened(asked, (demand_hash, &wanted), &chain) {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Some((before, matching)) = demand::matching(&mut *db, &demand_hash.0).await? {
        return Ok(if before == asked.selection.0 {
            Ok(matching)
        } else {
            Err(Refusal::new(Code::Duplicate, "the buyer has chosen for this demand otherwise"))
        });
    }
    if now_ns.abs_diff(selection.time) > FRESH_NS.unsigned_abs() {
        return Ok(Err(Refusal::new(Code::Offer, "time: more than five minutes from the platform's clock")));
    }
    let mut answers: Vec<(Digest, Response)> = Vec::new();
    for answer in demand::answers(&mut *db, &demand_hash.0).await? {
        let response: Response = decode(&answer.response, "Response")?;
        answers.push((Octets(hufu_gm::sm3::sm3(&[&answer.response])), response));
    }
    if let Some(refusal) = selection.chosen.iter().find_map(|no| unfit(&answers, no, now_ns)) {
        return Ok(Err(refusal));
    }
    let matching = Matching {
        version: 1,
        demand: demand_hash,
        relay: wanted.relay,
        time: now_ns,
        candidates: candidates(answers.iter().map(|(hash, response)| (*hash, response)), &selection),
        selection: signed,
    };
    matching.check()?;
    let sealed = Signed::seal(encode(&matching, "Matching")?, &identity.cert_id, &identity.key)?.to_bytes()?;
    demand::add_matching(&mut *db, &demand_hash.0, (&asked.selection.0, &sealed), now_ns).await?;
    Ok(Ok(sealed))
}

/// The selection, if the demand's buyer signed it.
fn opened(
    asked: &Choose,
    (hash, wanted): (Digest, &Demand),
    chain: &[Certificate],
) -> Result<(Signed, Selection), Refusal> {
    let signed = Signed::from_bytes(&asked.selection.0).map_err(malformed)?;
    let selection: Selection = decode(signed.tbs(), "Selection").map_err(malformed)?;
    selection.check().map_err(malformed)?;
    if selection.demand != hash {
        return Err(malformed("the selection is of another demand"));
    }
    let buyer = chain.first().filter(|leaf| leaf.id() == wanted.buyer.0 && signed.cert_id() == leaf.id());
    let buyer = buyer.ok_or_else(|| Refusal::new(Code::Certificate, "not the certificate of the demand's buyer"))?;
    if signed.verify(buyer.public_key()).is_valid() {
        Ok((signed, selection))
    } else {
        Err(Refusal::new(Code::Signature, "the selection is not signed by the demand's buyer"))
    }
}

/// Why a proposal cannot be chosen now.
fn unfit(answers: &[(Digest, Response)], no: &Octets<16>, now_ns: i64) -> Option<Refusal> {
    let found = answers.iter().find(|(_, response)| response.proposal_no == *no);
    match found.and_then(|(_, response)| response.proposal.as_ref()) {
        None => Some(Refusal::new(Code::Unknown, format!("no proposal {no} for this demand here"))),
        Some(proposal) if proposal.hold_until <= now_ns => {
            Some(Refusal::new(Code::Offer, format!("what proposal {no} held is held no longer")))
        }
        Some(_) => None,
    }
}
