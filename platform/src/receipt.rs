//! The platform's receipt over a log: made from what is stored, signed, kept, and given again for the same question.

use hufu_gm::{Hash, Signed};
use hufu_trade::{entry::Receipt, octets::Octets};
use sqlx::AnyConnection;

use crate::{
    error::Error,
    identity::Identity,
    store::{self, node, tree},
};

/// DER of the receipt over everything stored of a log. It lists what was refused and which bills were taken from height
/// `since` on, so that a node that lost an answer learns it by asking again from its cursor.
///
/// # Errors
/// [`Error`].
pub(crate) async fn receipt(
    db: &mut AnyConnection,
    identity: &Identity,
    (pool, log): (&str, u8),
    since: u64,
    now_ns: i64,
) -> Result<Vec<u8>, Error> {
    let size = node::log(&mut *db, pool, log).await?.size;
    let listed = store::receipt::listed(&mut *db, (pool, log), since.min(size)).await?;
    // Questions that list the same are the same question. Anybody may ask, from any height, and each answer is kept.
    let since = listed.first.unwrap_or(size);
    if let Some(before) = store::receipt::find(&mut *db, (pool, log), (size, since)).await? {
        return Ok(before);
    }
    let root = tree::root(&mut *db, pool, log, size).await?;
    let bytes = sealed(identity, (pool, log), (size, root), listed, now_ns)?;
    // An empty log is asked about by whoever likes; there is nothing to keep about it.
    if size > 0 {
        store::receipt::add(&mut *db, (pool, log), (size, since), &bytes, now_ns).await?;
    }
    Ok(bytes)
}

/// DER of a receipt that says this.
///
/// # Errors
/// [`Error`] when it cannot be signed.
pub(crate) fn sealed(
    identity: &Identity,
    (pool, log): (&str, u8),
    (size, root): (u64, Hash),
    listed: store::receipt::Listed,
    now_ns: i64,
) -> Result<Vec<u8>, Error> {
    let receipt = Receipt {
        version: 1,
        computing_pool_id: pool.to_owned(),
        log,
        size,
        root: Octets(root),
        stored_at: now_ns,
        refused: listed.refused,
        bills: listed.bills,
    };
    let tbs = hufu_trade::encode(&receipt, "Receipt")?;
    Ok(Signed::seal(tbs, &identity.cert_id, &identity.key)?.to_bytes()?)
}
