//! The tree over a log's block hashes, as complete subtrees: appending touches the right edge, paths read a few nodes.

use std::collections::BTreeMap;

use hufu_gm::Hash;
use hufu_ledger::{
    PathStep,
    merkle::{self, Frontier},
};
use sqlx::AnyConnection;

use crate::error::{Error, hash, sql};

/// A subtree by level and place.
type Node = (u32, u64);

async fn node(db: &mut AnyConnection, pool: &str, log: u8, (level, place): Node) -> Result<Hash, Error> {
    let select = "SELECT hash FROM tree WHERE pool = $1 AND log = $2 AND level = $3 AND place = $4";
    let row: Option<(Vec<u8>,)> = sqlx::query_as(select)
        .bind(pool)
        .bind(i64::from(log))
        .bind(i64::from(level))
        .bind(sql(place))
        .fetch_optional(db)
        .await?;
    hash(&row.ok_or(Error::Damaged("subtree missing"))?.0)
}

/// Runs a function that reads subtrees, fetching each one it asks for; such functions ask for at most some hundred.
async fn with_nodes<T>(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    compute: impl Fn(&dyn Fn(u32, u64) -> Result<Hash, Node>) -> Result<T, Node>,
) -> Result<T, Error> {
    let mut fetched: BTreeMap<Node, Hash> = BTreeMap::new();
    loop {
        let found = compute(&|level, place| fetched.get(&(level, place)).copied().ok_or((level, place)));
        match found {
            Ok(value) => return Ok(value),
            Err(missing) => {
                let hash = node(&mut *db, pool, log, missing).await?;
                fetched.insert(missing, hash);
            }
        }
    }
}

/// Root over the first `size` blocks.
pub(crate) async fn root(db: &mut AnyConnection, pool: &str, log: u8, size: u64) -> Result<Hash, Error> {
    with_nodes(db, (pool, log), |read| merkle::root_by(size, &mut |level, place| read(level, place))).await
}

/// Path from `merkle::leaf(block hash)` of the block at `height` to the root at `size`.
pub(crate) async fn path(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    height: u64,
    size: u64,
) -> Result<Vec<PathStep>, Error> {
    if height >= size {
        return Err(Error::Damaged("path beyond the log"));
    }
    with_nodes(db, (pool, log), |read| merkle::path_by(height, size, &mut |level, place| read(level, place))).await
}

/// The complete subtrees over the first `size` blocks.
pub(crate) async fn frontier(db: &mut AnyConnection, pool: &str, log: u8, size: u64) -> Result<Frontier, Error> {
    with_nodes(db, (pool, log), |read| Frontier::read(size, &mut |level, place| read(level, place))).await
}

/// Appends a block's hash at `size`.
pub(crate) async fn append(
    db: &mut AnyConnection,
    (pool, log): (&str, u8),
    size: u64,
    block: &Hash,
) -> Result<(), Error> {
    let mut frontier = frontier(&mut *db, pool, log, size).await?;
    for (level, completed) in (0_u32..).zip(frontier.push(merkle::leaf(block))) {
        let insert = "INSERT INTO tree (pool, log, level, place, hash) VALUES ($1, $2, $3, $4, $5)";
        sqlx::query(insert)
            .bind(pool)
            .bind(i64::from(log))
            .bind(i64::from(level))
            .bind(sql(size >> level))
            .bind(completed.to_vec())
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}
