//! What the operator took off sale (上下架): products of nodes, and whole shops.

use hufu_trade::octets::rfc3339;
use serde::Serialize;
use sqlx::AnyConnection;

use super::list::ROWS_MAX;
use crate::error::Error;

/// Stands for a node's whole shop.
pub(crate) const SHOP: &str = "";

/// A row as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DelistingRow {
    /// The node.
    pub(crate) node: String,
    /// The product; `null` for the shop.
    pub(crate) product: Option<String>,
    /// Why, for the site.
    pub(crate) why: String,
    /// Since when.
    pub(crate) at: String,
}

/// Takes a product, or with [`SHOP`] all of them, off sale; the newest reason stands.
pub(crate) async fn add(
    db: &mut AnyConnection,
    (pool, product): (&str, &str),
    why: &str,
    now_ns: i64,
) -> Result<(), Error> {
    let upsert = "INSERT INTO delistings (pool, product, why, at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (pool, product) DO UPDATE SET why = excluded.why, at = excluded.at";
    sqlx::query(upsert).bind(pool).bind(product).bind(why).bind(now_ns).execute(db).await?;
    Ok(())
}

/// Puts it on sale again; false where it was.
pub(crate) async fn remove(db: &mut AnyConnection, (pool, product): (&str, &str)) -> Result<bool, Error> {
    let delete = "DELETE FROM delistings WHERE pool = $1 AND product = $2";
    let done = sqlx::query(delete).bind(pool).bind(product).execute(db).await?;
    Ok(done.rows_affected() > 0)
}

/// Why a product of a node is not on sale, if it is not.
pub(crate) async fn of(db: &mut AnyConnection, pool: &str, product: &str) -> Result<Option<String>, Error> {
    let select = "SELECT why FROM delistings WHERE pool = $1 AND product IN ($2, $3) ORDER BY product LIMIT 1";
    let row: Option<(String,)> = sqlx::query_as(select).bind(pool).bind(product).bind(SHOP).fetch_optional(db).await?;
    Ok(row.map(|(why,)| why))
}

/// All of them, by node and product.
pub(crate) async fn all(db: &mut AnyConnection) -> Result<Vec<DelistingRow>, Error> {
    let select = "SELECT pool, product, why, at FROM delistings ORDER BY pool, product LIMIT $1";
    let rows: Vec<(String, String, String, i64)> = sqlx::query_as(select).bind(ROWS_MAX).fetch_all(db).await?;
    let row = |(node, product, why, at): (String, String, String, i64)| DelistingRow {
        node,
        product: (product != SHOP).then_some(product),
        why,
        at: rfc3339(at),
    };
    Ok(rows.into_iter().map(row).collect())
}
