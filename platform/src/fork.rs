//! Forks at the platform: headers that a node publishes are held against its blocks, two of one height become a fork proof, and proofs that
//! others found are judged, kept and told. What a proof is, is the ledger's.

use hufu_audit::fork::{number, signers};
use hufu_gm::{Certificate, Hash, PublicKey, Signed};
use hufu_ledger::{BlockHeader, ForkProof};
use hufu_trade::{
    if2::{Told, Topic, peers::Headers},
    party::platform_of,
};
use sqlx::AnyConnection;

use crate::{
    error::Error,
    identity::Identity,
    inbox::Outgoing,
    judge::{Code, Refusal},
    store::{alarm, fork, node},
};

/// Headers of blocks that are so far ahead of what is here are not kept.
const AHEAD_MAX: u64 = 4096;

/// The certificates of a node: every one, and the keys of those that may sign for it.
struct Known {
    leaves: Vec<Certificate>,
    issuers: Vec<Certificate>,
}

impl Known {
    async fn read(db: &mut AnyConnection, pool: &str) -> Result<Self, Error> {
        let (leaves, issuers) =
            node::certificates(db, pool).await?.into_iter().partition::<Vec<_>, _>(|(leaf, _)| *leaf);
        let plain = |found: Vec<(bool, Certificate)>| found.into_iter().map(|(_, found)| found).collect();
        Ok(Self { leaves: plain(leaves), issuers: plain(issuers) })
    }

    fn key(&self, id: &Hash) -> Option<PublicKey> {
        self.leaves.iter().find(|leaf| leaf.id() == *id).map(|leaf| leaf.public_key().clone())
    }

    /// What a proof needs of them: who signed, and all issuers.
    fn of(&self, signed: [&Signed; 2]) -> Vec<Vec<u8>> {
        let signers = self.leaves.iter().filter(|leaf| signed.iter().any(|one| one.cert_id() == leaf.id()));
        signers.chain(&self.issuers).map(|found| found.der().to_vec()).collect()
    }
}

/// Headers as a node publishes them: nothing is answered; two of one height convict it.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn headers(
    db: &mut AnyConnection,
    now_ns: i64,
    pool: &str,
    payload: &[u8],
) -> Result<Result<Vec<Outgoing>, Refusal>, Error> {
    let told = match Headers::from_bytes(payload) {
        Ok(told) if told.node == pool => told,
        Ok(_) => return Ok(Err(Refusal::new(Code::Malformed, "headers of another node"))),
        Err(error) => return Ok(Err(Refusal::new(Code::Malformed, error))),
    };
    let known = Known::read(&mut *db, pool).await?;
    let place = (pool, told.log);
    let size = node::log(&mut *db, pool, told.log).await?.size;
    for (height, signed) in (told.first..).zip(&told.headers) {
        let standing = if height < size {
            fork::stored(&mut *db, place, height).await?
        } else {
            let is_own = known.key(&signed.cert_id()).is_some_and(|key| signed.verify(&key).is_valid());
            let header = read(signed).filter(|header| is_at(header, place, height));
            let Some(header) = header.filter(|_| is_own && height - size <= AHEAD_MAX) else { continue };
            let bytes = signed.to_bytes()?;
            let standing = fork::see(&mut *db, place, (height, &bytes)).await?;
            // An epoch took the place of what was seen.
            if read(&Signed::from_bytes(&standing)?).is_some_and(|seen| seen.epoch < header.epoch) {
                fork::see_anew(&mut *db, place, (height, &bytes)).await?;
            }
            Some(standing)
        };
        if let Some(standing) = standing {
            compare(&mut *db, &known, (&standing, signed), now_ns).await?;
        }
    }
    for (height, header) in fork::overtaken(&mut *db, place, size).await? {
        if let Some(standing) = fork::stored(&mut *db, place, height).await? {
            compare(&mut *db, &known, (&standing, &Signed::from_bytes(&header)?), now_ns).await?;
        }
    }
    told_now(db, pool).await.map(Ok)
}

fn read(signed: &Signed) -> Option<BlockHeader> {
    BlockHeader::from_bytes(signed.tbs()).ok()
}

fn is_at(header: &BlockHeader, (pool, log): (&str, u8), height: u64) -> bool {
    header.node == pool && header.log.number() == log && header.height == height
}

/// Two signed headers of one place: one and the same, or a fork. Whether that is proven.
async fn compare(
    db: &mut AnyConnection,
    known: &Known,
    (standing, other): (&[u8], &Signed),
    now_ns: i64,
) -> Result<bool, Error> {
    let standing = Signed::from_bytes(standing)?;
    if standing.tbs() == other.tbs() {
        return Ok(false);
    }
    let proof = ForkProof::of_headers(&standing, other, &known.of([&standing, other]))?;
    // What does not hold proves nothing, whoever sent it.
    let is_proven = matches!(proof.judge(&|id| known.key(id)), Ok(Some(_)));
    if is_proven {
        keep(db, &proof, &proof.to_bytes()?, now_ns).await?;
    }
    Ok(is_proven)
}

/// A block for a height that is taken, found by the blocks themselves. Whether that is proven.
///
/// # Errors
/// [`Error`] from the database.
pub(crate) async fn of_block(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    (height, other): (u64, &Signed),
    now_ns: i64,
) -> Result<bool, Error> {
    let known = Known::read(&mut *db, pool).await?;
    match fork::stored(&mut *db, (pool, log), height).await? {
        Some(standing) => compare(db, &known, (&standing, other), now_ns).await,
        None => Ok(false),
    }
}

/// A proof that somebody shows: whoever it convicts is judged by its own signatures under this platform's anchors.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn shown(
    db: &mut AnyConnection,
    identity: &Identity,
    now_ns: i64,
    (pool, payload): (&str, &[u8]),
) -> Result<Result<Vec<Outgoing>, Refusal>, Error> {
    let proof = match ForkProof::from_bytes(payload) {
        Ok(proof) => proof,
        Err(error) => return Ok(Err(Refusal::new(Code::Malformed, error))),
    };
    let keys = signers(&proof, &identity.anchors);
    let key_of = |id: &Hash| keys.iter().find(|(known, _)| known == id).map(|(_, key)| key.clone());
    match proof.judge(&key_of) {
        Ok(Some(_)) => keep(&mut *db, &proof, payload, now_ns).await?,
        Ok(None) => return Ok(Err(Refusal::new(Code::Malformed, "a pair that proves nothing"))),
        Err(error) => return Ok(Err(Refusal::new(Code::Signature, error))),
    }
    told_now(db, pool).await.map(Ok)
}

async fn keep(db: &mut AnyConnection, proof: &ForkProof, bytes: &[u8], now_ns: i64) -> Result<(), Error> {
    let number = number(bytes);
    if fork::add(&mut *db, (&number, proof), bytes, now_ns).await? {
        tracing::warn!(pool = proof.node, log = %proof.log, number, "fork proof");
        let detail = format!("{} log: fork proof {number}; hufu-platform forks shows it", proof.log);
        alarm::raise(db, &proof.node, "fork", &detail, now_ns).await?;
    }
    Ok(())
}

/// What was found and not told yet, on the platform's own topics of the site.
async fn told_now(db: &mut AnyConnection, pool: &str) -> Result<Vec<Outgoing>, Error> {
    let own = platform_of(pool);
    let outgoing = |(number, payload): (String, Vec<u8>)| Outgoing {
        topic: Topic::Ledger { pool: own.clone(), told: Told::Fork(number) },
        payload,
    };
    Ok(fork::tell(db).await?.into_iter().map(outgoing).collect())
}
