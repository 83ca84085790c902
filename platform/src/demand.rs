//! 需求定制 at the platform: a buyer's demand is checked, signed and kept; nodes fetch what they may see, and their answers are
//! checked and kept. What they are is `trade::demand`; composing plans from catalogues is `plan.rs`, what the buyer chooses `matching.rs`.

use hufu_gm::{Certificate, Signed, sm3::sm3};
use hufu_trade::{
    decode,
    demand::{Demand, Response},
    if2::{DEMANDS_MAX, DemandList, DemandResponse, Sealed},
    octets::Octets,
    party::is_named,
};
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use crate::{
    error::Error,
    identity::Identity,
    judge::{Code, Refusal, certificate},
    store::{
        demand::{self, NewDemand, StoredProposal},
        node,
    },
};

/// How far the time of a new demand may be off.
const FRESH_NS: i64 = 300_000_000_000;
/// For so long a choice is told.
const CHOSEN_NS: i64 = 86_400_000_000_000;
/// Octets of demands in one answer: with base64 twice and the signature it stays below what a message may have.
const DEMANDS_BYTES_MAX: usize = 24 * 1024;

/// What a buyer publishes: the signature is over the DER.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Publish {
    /// DER of `Demand`.
    pub(crate) demand: Sealed,
    /// The buyer's signature over it, DER.
    pub(crate) signature: Sealed,
    /// The buyer's chain, DER, leaf first.
    pub(crate) certificates: Vec<Sealed>,
}

/// The answer to [`DemandResponse`].
#[derive(Debug, Serialize)]
pub(crate) struct Taken {
    demand_no: String,
    state: &'static str,
}

fn malformed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Malformed, error)
}

/// Checks, signs and keeps a buyer's demand; the same again changes nothing.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn publish(
    db: &mut AnyConnection,
    identity: &Identity,
    now_ns: i64,
    asked: &Publish,
) -> Result<Result<Demand, Refusal>, Error> {
    let der = &asked.demand.0;
    let demand = match checked(identity, now_ns, asked) {
        Ok(demand) => demand,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let hash = sm3(&[der]);
    if demand::by_hash(&mut *db, &hash).await?.is_none() {
        if now_ns.abs_diff(demand.time) > FRESH_NS.unsigned_abs() || demand.valid_until <= now_ns {
            return Ok(Err(Refusal::new(
                Code::Offer,
                "time: more than five minutes from the platform's clock, or lapsed",
            )));
        }
        let signed = Signed::seal(der.clone(), &identity.cert_id, &identity.key)?.to_bytes()?;
        let new = NewDemand {
            number: &demand.demand_no.0,
            hash: &hash,
            buyer: &demand.buyer.0,
            valid_until: demand.valid_until,
            signed: &signed,
            signature: &asked.signature.0,
            certificates: &asked.certificates,
        };
        demand::add(&mut *db, &new, now_ns).await?;
    }
    Ok(Ok(demand))
}

/// The demand, if its buyer signed it for this platform.
fn checked(identity: &Identity, now_ns: i64, asked: &Publish) -> Result<Demand, Refusal> {
    let demand: Demand = decode(&asked.demand.0, "Demand").map_err(malformed)?;
    demand.check().map_err(malformed)?;
    if !identity.chain.first().is_some_and(|own| is_named(own, &demand.relay)) {
        return Err(malformed("relay is not this platform"));
    }
    let ders: Vec<Vec<u8>> = asked.certificates.iter().map(|der| der.0.clone()).collect();
    let chain = certificate::trusted(&ders, &identity.anchors, now_ns)?;
    let leaf = chain.first().filter(|leaf| leaf.id() == demand.buyer.0);
    let leaf = leaf.ok_or_else(|| Refusal::new(Code::Certificate, "not the certificate that the demand names"))?;
    if Certificate::public_key(leaf).verify(&asked.demand.0, &asked.signature.0).is_valid() {
        Ok(demand)
    } else {
        Err(Refusal::new(Code::Signature, "the demand is not signed by its buyer"))
    }
}

/// What a signed demand says.
///
/// # Errors
/// [`Error`] for a row that is none.
pub(crate) fn read(signed: &[u8]) -> Result<Demand, Error> {
    Ok(decode(Signed::from_bytes(signed)?.tbs(), "Demand")?)
}

/// The demands that a node may see and what was chosen of those it answered, after a place.
///
/// # Errors
/// [`Error`] from the database.
pub(crate) async fn list(db: &mut AnyConnection, now_ns: i64, pool: &str, after: u64) -> Result<DemandList, Error> {
    let page = i64::try_from(DEMANDS_MAX).unwrap_or(i64::MAX);
    let mut told = DemandList { demands: Vec::new(), matchings: Vec::new(), last: after, more: false };
    let demands = demand::open_after(&mut *db, after, now_ns, page).await?;
    let since_ns = now_ns.saturating_sub(CHOSEN_NS);
    let chosen = demand::chosen_after(&mut *db, (pool, after), since_ns, page).await?;
    // A full page may have another behind it, whoever the demands of this one are for; what the other list holds from there on waits.
    let ends = [&demands, &chosen].map(|rows| rows.last().filter(|_| rows.len() == DEMANDS_MAX).map(|row| row.place));
    let end = ends.into_iter().flatten().min();
    told.more = end.is_some();
    let mut rows: Vec<_> =
        demands.into_iter().map(|row| (row, false)).chain(chosen.into_iter().map(|row| (row, true))).collect();
    rows.sort_by_key(|(row, _)| row.place);
    rows.retain(|(row, _)| end.is_none_or(|end| row.place <= end));
    let (mut bytes, mut count) = (0, 0);
    for (row, is_choice) in rows {
        if is_choice || read(&row.signed)?.is_for(pool) {
            bytes += row.signed.len();
            if count == DEMANDS_MAX || count > 0 && bytes > DEMANDS_BYTES_MAX {
                told.more = true;
                break;
            }
            count += 1;
            let list = if is_choice { &mut told.matchings } else { &mut told.demands };
            list.push(Sealed(row.signed));
        }
        told.last = row.place;
    }
    Ok(told)
}

/// Keeps a node's answer to a demand.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn answered(
    db: &mut AnyConnection,
    (pool, now_ns): (&str, i64),
    told: &DemandResponse,
) -> Result<Result<Taken, Refusal>, Error> {
    let (signed, response) = match opened(pool, told) {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let known = node::certificates(&mut *db, pool).await?;
    let signer = known.iter().find(|(is_leaf, found)| *is_leaf && found.id() == signed.cert_id());
    if !signer.is_some_and(|(_, found)| signed.verify(found.public_key()).is_valid()) {
        return Ok(Err(Refusal::new(Code::Signature, "the answer is not signed by this node")));
    }
    let Some(stored) = demand::by_hash(&mut *db, &response.demand.0).await? else {
        return Ok(Err(Refusal::new(Code::Unknown, format!("no demand {} here", told.demand_no))));
    };
    let asked = read(&stored.signed)?;
    if asked.demand_no.to_string() != told.demand_no {
        return Ok(Err(malformed("demand_no is not that of the answer")));
    }
    if let Err(error) = response.answers(response.follows, (response.demand, &asked)) {
        return Ok(Err(Refusal::new(Code::Offer, error)));
    }
    let entry = told.entry.0.clone();
    let new = StoredProposal { pool: pool.to_owned(), entry, response: signed.tbs().to_vec() };
    Ok(match demand::answer(&mut *db, &response.demand.0, &new, now_ns).await? {
        None => Ok(Taken { demand_no: told.demand_no.clone(), state: "stored" }),
        Some(_) => Err(Refusal::new(Code::Duplicate, "this node has answered this demand otherwise")),
    })
}

/// The answer in an entry, checked for form.
fn opened(pool: &str, told: &DemandResponse) -> Result<(Signed, Response), Refusal> {
    let entry = hufu_ledger::Entry::from_bytes(&told.entry.0).map_err(malformed)?;
    if entry.kind != hufu_trade::entry::EntryKind::Response.number() {
        return Err(malformed("the entry is of another kind than response"));
    }
    let signed = Signed::from_bytes(&entry.body).map_err(malformed)?;
    let response: Response = decode(signed.tbs(), "Response").map_err(malformed)?;
    response.check().map_err(malformed)?;
    if response.computing_pool_id != pool {
        return Err(malformed("computingPoolId is not that of this node"));
    }
    Ok((signed, response))
}

/// The number of a demand in a path.
pub(crate) fn number(text: &str) -> Option<Octets<16>> {
    Octets::from_hex(text)
}
