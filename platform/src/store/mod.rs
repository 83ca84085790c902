//! The database: SQLite through sqlx, schema in `migrations/`. Statements keep to what PostgreSQL also understands, so that
//! it can be added beside. Nothing here judges; each file below holds the statements of one noun.

pub(crate) mod alarm;
pub(crate) mod bill;
pub(crate) mod block;
pub(crate) mod contract;
pub(crate) mod list;
pub(crate) mod message;
pub(crate) mod node;
pub(crate) mod notice;
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

    /// Closes every connection.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}
