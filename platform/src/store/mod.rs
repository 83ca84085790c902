//! The database: SQLite through sqlx, schema in `migrations/`. Statements keep to what PostgreSQL also understands, so that
//! it can be added beside. Nothing here judges; each file below holds the statements of one noun.

pub(crate) mod alarm;
pub(crate) mod bill;
pub(crate) mod block;
pub(crate) mod contract;
pub(crate) mod demand;
pub(crate) mod held;
pub(crate) mod list;
pub(crate) mod lost;
pub(crate) mod message;
pub(crate) mod node;
pub(crate) mod notice;
pub(crate) mod parent;
pub(crate) mod public;
pub(crate) mod receipt;
pub(crate) mod tree;

use std::{path::Path, time::Duration};

use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::error::Error;

/// Name of the database in the platform's directory.
pub(crate) const FILE: &str = "platform.db";

/// Whether a missing database is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Create {
    /// `serve`.
    IfMissing,
    /// Commands that only look.
    Never,
}

/// The open database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens the database of a directory and brings its schema up to date; makes it when `create` says so. Every commit is
    /// on disk when it returns.
    ///
    /// # Errors
    /// [`Error::Sql`], [`Error::Migrate`].
    pub(crate) async fn open(dir: &Path, create: Create) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(dir.join(FILE))
            .create_if_missing(create == Create::IfMissing)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        sqlx::migrate!("./migrations").run(&pool).await?;
        Ok(Self { pool })
    }

    /// Starts a transaction that will write: it takes the write lock at once, so that it cannot fail halfway over it.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, Error> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Starts a transaction that only reads: one state of the database throughout.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn read(&self) -> Result<Transaction<'static, Sqlite>, Error> {
        Ok(self.pool.begin().await?)
    }

    /// Writes a copy of the database into a file that is not there.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn copy(&self, to: &Path) -> Result<(), Error> {
        sqlx::query("VACUUM INTO $1").bind(to.display().to_string()).execute(&self.pool).await?;
        Ok(())
    }

    /// Closes every connection.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::parties::Folder;

    #[tokio::test]
    async fn a_database_of_the_first_schema_is_brought_up_to_date() {
        let folder = Folder::new();
        let path = folder.path().join(FILE);
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let old = SqlitePoolOptions::new().connect_with(options).await.expect("a database");
        let mut first = sqlx::migrate!("./migrations");
        first.migrations.to_mut().truncate(1);
        first.run(&old).await.expect("the first schema");
        let insert = "INSERT INTO bills (pool, hash, number, contract, height, total, state)
            VALUES ('s1/n1', x'01', 'ab-1', x'02', 0, '1.00', 'payable')";
        sqlx::query(insert).execute(&old).await.expect("a bill");
        old.close().await;
        let store = Store::open(folder.path(), Create::Never).await.expect("the database");
        let mut tx = store.read().await.expect("a transaction");
        let found = bill::find(&mut tx, "ab-1").await.expect("a query").expect("the bill");
        assert_eq!((found.due.as_str(), found.state, found.is_disputed), ("1.00", bill::State::Payable, false));
    }
}
