//! What nodes cosigned of each other's logs, for the packs that this platform makes: checkpoints as they are published, with the
//! cosignatures of nodes that it knows. What it holds of a log itself is its own receipt's matter; nothing here is judged by.

use hufu_audit::pack::{PackInput, Witnesses};
use hufu_ledger::{WitnessedCheckpoint, verify_checkpoint};
use sqlx::AnyConnection;

use crate::{
    error::Error,
    judge::{Code, Refusal},
    store::{node, tree, witness},
};

/// Certificates of witnesses in one pack.
const CERTIFICATES_MAX: usize = 64;

/// A node publishes a checkpoint with what witnesses said of it: kept with the cosignatures that hold.
///
/// # Errors
/// [`Error`] from the database; inside, the [`Refusal`].
pub(crate) async fn checkpoint(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    payload: &[u8],
) -> Result<Result<(), Refusal>, Error> {
    if payload.is_empty() {
        return Ok(Ok(()));
    }
    let malformed = |why: &dyn std::fmt::Display| Ok(Err(Refusal::new(Code::Malformed, why)));
    let mut whole = match WitnessedCheckpoint::from_bytes(payload) {
        Ok(whole) => whole,
        Err(error) => return malformed(&error),
    };
    let said = match whole.read() {
        Ok(said) if said.node == pool && said.log.number() == log => said,
        Ok(_) => return malformed(&"a checkpoint of another log"),
        Err(error) => return malformed(&error),
    };
    // What nobody cosigned says nothing that receipts do not say, and what is here with as many is here.
    let here = witness::of_size(&mut *db, (pool, log), said.size).await?.unwrap_or(0);
    if u64::try_from(whole.cosignatures.len()).unwrap_or(0) <= here {
        return Ok(Ok(()));
    }
    let known = node::certificates(&mut *db, pool).await?;
    let signer = known.iter().find(|(is_leaf, leaf)| *is_leaf && leaf.id() == whole.checkpoint.cert_id());
    let Some((_, signer)) = signer else { return Ok(Ok(())) };
    if let Err(error) = verify_checkpoint(&whole.checkpoint, signer.public_key()) {
        return Ok(Err(Refusal::new(Code::Signature, error)));
    }
    let mut good = Vec::new();
    for one in whole.cosignatures {
        // One of a node that is not this platform's has no certificate here that a pack could show.
        if let Some((witness, leaf)) = witness::named(&mut *db, &one.witness).await?
            && witness != pool
            && one.is_by(whole.checkpoint.tbs(), (&leaf.id(), leaf.public_key()))
        {
            good.push(one);
        }
    }
    whole.cosignatures = good;
    let count = u64::try_from(whole.cosignatures.len()).unwrap_or(0);
    if count > here {
        let bytes = whole.to_bytes()?;
        witness::put(db, (pool, log), (said.size, said.epoch, count), &bytes).await?;
    }
    Ok(Ok(()))
}

/// Adds to a pack what witnesses signed of both logs, and the way to the root that they saw from every entry that is proven.
///
/// # Errors
/// [`Error`] from the database.
pub(crate) async fn add(db: &mut AnyConnection, pool: &str, input: &mut PackInput) -> Result<(), Error> {
    for log in [0, 1] {
        // The bill and what it rests on; a payment after it may wait for a later checkpoint.
        let due = if log == 1 { Some(input.bill.height) } else { last_record(input) };
        let Some(due) = due else { continue };
        let held = node::log(&mut *db, pool, log).await?.size;
        for bytes in witness::covering(&mut *db, (pool, log), (due, held)).await? {
            let checkpoint = WitnessedCheckpoint::from_bytes(&bytes)?;
            let said = checkpoint.read()?;
            // An epoch took the place of what they saw, or the logs have parted.
            if tree::root(&mut *db, pool, log, said.size).await? != said.root {
                continue;
            }
            for one in input.entries.iter_mut().chain([&mut input.bill]) {
                let is_below = one.log == log && one.height < said.size;
                if let Some(proof) = one.proof.as_mut().filter(|_| is_below) {
                    proof.more.push((said.size, tree::path(&mut *db, (pool, log), one.height, said.size).await?));
                }
            }
            let certificates = certificates(&mut *db, &checkpoint).await?;
            input.witnesses.push(Witnesses { checkpoint, certificates });
            break;
        }
    }
    Ok(())
}

/// Height of the newest usage record whose place is shown.
fn last_record(input: &PackInput) -> Option<u64> {
    use hufu_trade::entry::EntryKind::{Gap, Usage};
    let is_record = |bytes: &[u8]| {
        let kind = hufu_ledger::Entry::from_bytes(bytes).map(|entry| entry.kind);
        kind.is_ok_and(|kind| [Usage.number(), Gap.number()].contains(&kind))
    };
    let records = input.entries.iter().filter(|one| one.log == 0 && one.proof.is_some() && is_record(&one.entry));
    records.map(|one| one.height).max()
}

/// The witnesses' certificates, each with the issuers that its node showed.
async fn certificates(db: &mut AnyConnection, whole: &WitnessedCheckpoint) -> Result<Vec<Vec<u8>>, Error> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    for one in &whole.cosignatures {
        let Some((witness, leaf)) = witness::named(&mut *db, &one.witness).await? else { continue };
        let issuers = node::certificates(&mut *db, &witness).await?.into_iter().filter(|(is_leaf, _)| !is_leaf);
        for der in [leaf.der().to_vec()].into_iter().chain(issuers.map(|(_, issuer)| issuer.der().to_vec())) {
            if !found.contains(&der) && found.len() < CERTIFICATES_MAX {
                found.push(der);
            }
        }
    }
    Ok(found)
}
