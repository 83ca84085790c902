//! Nodes, their certificates, catalogues and presence; loading the facts that a judgement needs.

use hufu_gm::{Certificate, Signed};
use hufu_ledger::{BlockHeader, Entry};
use hufu_trade::{
    entry::{EntryKind, EntryName},
    octets::{Digest, Octets},
};
use sqlx::AnyConnection;

use crate::{
    error::{Error, count, hash, sql},
    identity::Identity,
    judge::{Facts, demand_of, facts::LogFacts},
};

/// Makes the node known.
pub(crate) async fn see(db: &mut AnyConnection, pool: &str, now_ns: i64) -> Result<(), Error> {
    let insert = "INSERT INTO nodes (pool, first_seen) VALUES ($1, $2) ON CONFLICT (pool) DO NOTHING";
    sqlx::query(insert).bind(pool).bind(now_ns).execute(db).await?;
    Ok(())
}

/// Keeps a chain, leaf first, whose leaf was verified to be the node's.
pub(crate) async fn add_certificates(
    db: &mut AnyConnection,
    pool: &str,
    chain: &[Certificate],
    now_ns: i64,
) -> Result<(), Error> {
    for (index, certificate) in chain.iter().enumerate() {
        let insert = "INSERT INTO certificates (pool, id, leaf, der, added_at) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (pool, id) DO NOTHING";
        sqlx::query(insert)
            .bind(pool)
            .bind(certificate.id().to_vec())
            .bind(i64::from(index == 0))
            .bind(certificate.der().to_vec())
            .bind(now_ns)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// Certificates kept for a node, leaves first; true marks a leaf.
pub(crate) async fn certificates(db: &mut AnyConnection, pool: &str) -> Result<Vec<(bool, Certificate)>, Error> {
    let select = "SELECT leaf, der FROM certificates WHERE pool = $1 ORDER BY leaf DESC, added_at, id";
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(select).bind(pool).fetch_all(db).await?;
    rows.into_iter().map(|(leaf, der)| Ok((leaf == 1, Certificate::from_der(&der)?))).collect()
}

/// What is known about a node before any contract is looked at.
pub(crate) async fn facts(
    db: &mut AnyConnection,
    pool: &str,
    identity: &Identity,
    now_ns: i64,
) -> Result<Facts, Error> {
    let leaves = certificates(&mut *db, pool).await?.into_iter().filter(|(is_leaf, _)| *is_leaf);
    let mut facts = Facts {
        pool: pool.to_owned(),
        // Every buyer's browse is verified up to one of them.
        anchors: identity.anchors.iter().map(|anchor| identity.known.equip(anchor.clone())).collect(),
        platform: Some((identity.cert_id, identity.key.public_key())),
        certificates: leaves.map(|(_, found)| (found.id(), identity.known.equip(found))).collect(),
        now_ns,
        ..Facts::default()
    };
    for (log, slot) in (0_u8..).zip(facts.logs.iter_mut()) {
        *slot = self::log(&mut *db, pool, log).await?;
    }
    standing(&mut *db, &mut facts).await?;
    Ok(facts)
}

/// Takes the node's rule tables, certificates and rotations into the facts, in the order of its log.
pub(crate) async fn standing(db: &mut AnyConnection, facts: &mut Facts) -> Result<(), Error> {
    let select = "SELECT e.height, e.idx, e.kind, e.hash, e.bytes, b.header FROM entries e
        JOIN blocks b ON b.pool = e.pool AND b.log = e.log AND b.height = e.height
        WHERE e.pool = $1 AND e.log = 0 AND e.kind IN ($2, $3, $4) AND e.refused IS NULL ORDER BY e.height, e.idx";
    let [rules, certificates, rotation] =
        [EntryKind::Rules, EntryKind::Certificates, EntryKind::KeyRotation].map(|kind| i64::from(kind.number()));
    type Row = (i64, i64, i64, Vec<u8>, Vec<u8>, Vec<u8>);
    let rows: Vec<Row> =
        sqlx::query_as(select).bind(&facts.pool).bind(rules).bind(certificates).bind(rotation).fetch_all(db).await?;
    for (height, index, kind, digest, bytes, header) in rows {
        let damaged = |_| Error::Damaged("entry number");
        let index = u32::try_from(index).map_err(damaged)?;
        let name = EntryName { log: 0, height: count(height)?, index, hash: Octets(hash(&digest)?) };
        let kind = u16::try_from(kind).map_err(damaged)?;
        let Some(kind) = EntryKind::from_number(kind) else { continue };
        let signer = Signed::from_bytes(&header)?.cert_id();
        facts.absorb(kind, (&name, signer), &Entry::from_bytes(&bytes)?.body);
    }
    Ok(())
}

/// Size and head of one log.
pub(crate) async fn log(db: &mut AnyConnection, pool: &str, log: u8) -> Result<LogFacts, Error> {
    let select = "SELECT height, hash, header FROM blocks WHERE pool = $1 AND log = $2 ORDER BY height DESC LIMIT 1";
    let head: Option<(i64, Vec<u8>, Vec<u8>)> =
        sqlx::query_as(select).bind(pool).bind(i64::from(log)).fetch_optional(&mut *db).await?;
    let select = "SELECT COALESCE(MAX(size), 0) FROM receipts WHERE pool = $1 AND log = $2";
    let (receipted,): (i64,) = sqlx::query_as(select).bind(pool).bind(i64::from(log)).fetch_one(&mut *db).await?;
    let receipted = count(receipted)?;
    let Some((height, head, header)) = head else { return Ok(LogFacts { receipted, ..LogFacts::default() }) };
    let header = BlockHeader::from_bytes(Signed::from_bytes(&header)?.tbs())?;
    Ok(LogFacts { size: count(height)?.saturating_add(1), head: hash(&head)?, epoch: header.epoch, receipted })
}

/// Keeps a catalogue unless a newer one is there.
pub(crate) async fn set_catalogue(
    db: &mut AnyConnection,
    pool: &str,
    revision: u64,
    body: &str,
    now_ns: i64,
) -> Result<(), Error> {
    let upsert = "INSERT INTO catalogues (pool, revision, body, received_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (pool) DO UPDATE SET revision = excluded.revision, body = excluded.body,
        received_at = excluded.received_at WHERE excluded.revision >= catalogues.revision";
    sqlx::query(upsert).bind(pool).bind(sql(revision)).bind(body).bind(now_ns).execute(db).await?;
    Ok(())
}

/// Keeps a node's presence; a will of an older session of the same boot changes nothing, nor does a node nobody knows.
pub(crate) async fn set_presence(
    db: &mut AnyConnection,
    pool: &str,
    (state, boot, session): (&str, &str, u64),
    now_ns: i64,
) -> Result<(), Error> {
    let update = "UPDATE nodes SET presence = $2, boot = $3, session = $4, presence_at = $5
        WHERE pool = $1 AND (session IS NULL OR boot IS NULL OR boot <> $3 OR session <= $4)";
    sqlx::query(update).bind(pool).bind(state).bind(boot).bind(sql(session)).bind(now_ns).execute(db).await?;
    Ok(())
}

/// Takes the stored entries that others name into the facts.
pub(crate) async fn named(db: &mut AnyConnection, facts: &mut Facts, wanted: &[Digest]) -> Result<(), Error> {
    for digest in wanted {
        let select = "SELECT log, height, idx, kind, refused, bytes FROM entries WHERE pool = $1 AND hash = $2 LIMIT 1";
        type Row = (i64, i64, i64, i64, Option<String>, Vec<u8>);
        let row: Option<Row> =
            sqlx::query_as(select).bind(&facts.pool).bind(digest.0.to_vec()).fetch_optional(&mut *db).await?;
        if let Some((log, height, index, kind, refused, bytes)) = row {
            let damaged = |_| Error::Damaged("entry number");
            let name = EntryName {
                log: u8::try_from(log).map_err(damaged)?,
                height: count(height)?,
                index: u32::try_from(index).map_err(damaged)?,
                hash: Octets(digest.0),
            };
            if kind == i64::from(EntryKind::Demand.number()) && refused.is_none() {
                let demand = demand_of(&Entry::from_bytes(&bytes)?.body);
                facts.demands.extend(demand.map(|demand| (*digest, demand)));
            }
            facts.named.insert(*digest, (name, u16::try_from(kind).map_err(damaged)?));
        }
    }
    Ok(())
}

/// Whether the node was ever introduced by a certificate that is trusted.
pub(crate) async fn is_known(db: &mut AnyConnection, pool: &str) -> Result<bool, Error> {
    let found: Option<(i64,)> =
        sqlx::query_as("SELECT 1 FROM nodes WHERE pool = $1").bind(pool).fetch_optional(db).await?;
    Ok(found.is_some())
}
