//! Orders and bills whose change the operator's own system has not been told. The database marks them itself (triggers), so that nothing
//! that changes them can forget to.

use sqlx::AnyConnection;

use crate::error::Error;

/// A change that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// `order` or `bill`.
    pub(crate) kind: String,
    /// Number of the contract or bill.
    pub(crate) name: String,
    /// Rises while it waits.
    pub(crate) turn: i64,
}

/// Says who is told from now on; with nobody what waits is forgotten.
pub(crate) async fn tell(db: &mut AnyConnection, url: Option<&str>) -> Result<(), Error> {
    sqlx::query("DELETE FROM callbacks").execute(&mut *db).await?;
    match url {
        Some(url) => sqlx::query("INSERT INTO callbacks (url) VALUES ($1)").bind(url).execute(db).await?,
        None => sqlx::query("DELETE FROM changes").execute(db).await?,
    };
    Ok(())
}

/// Some changes that wait, after a place in their order.
pub(crate) async fn waiting(db: &mut AnyConnection, after: (&str, &str), limit: i64) -> Result<Vec<Change>, Error> {
    let select = "SELECT kind, name, turn FROM changes WHERE kind > $1 OR (kind = $1 AND name > $2)
        ORDER BY kind, name LIMIT $3";
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as(select).bind(after.0).bind(after.1).bind(limit).fetch_all(db).await?;
    Ok(rows.into_iter().map(|(kind, name, turn)| Change { kind, name, turn }).collect())
}

/// A change was told; one that changed meanwhile waits on.
pub(crate) async fn told(db: &mut AnyConnection, change: &Change) -> Result<(), Error> {
    let delete = "DELETE FROM changes WHERE kind = $1 AND name = $2 AND turn = $3";
    sqlx::query(delete).bind(&change.kind).bind(&change.name).bind(change.turn).execute(db).await?;
    Ok(())
}
