//! The database: SQLite in the platform's directory, or PostgreSQL by a URL; schemas in `migrations/`, one folder for each with the
//! same tables. Statements keep to what both understand. Nothing here judges; each file below holds the statements of one noun, and
//! `place.rs` says where the database is.

pub(crate) mod account;
pub(crate) mod alarm;
pub(crate) mod bill;
pub(crate) mod block;
pub(crate) mod change;
pub(crate) mod contract;
pub(crate) mod delisting;
pub(crate) mod demand;
pub(crate) mod fork;
pub(crate) mod held;
pub(crate) mod invoice;
pub(crate) mod lease;
pub(crate) mod list;
pub(crate) mod lost;
pub(crate) mod message;
pub(crate) mod node;
pub(crate) mod notice;
pub(crate) mod operation;
pub(crate) mod parent;
pub(crate) mod place;
pub(crate) mod public;
pub(crate) mod receipt;
pub(crate) mod reconciliation;
pub(crate) mod rows;
pub(crate) mod stamp;
pub(crate) mod token;
pub(crate) mod tree;
pub(crate) mod witness;

use std::{path::Path, time::Duration};

use sqlx::{
    Any, AnyConnection, AnyPool, ConnectOptions, Executor, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::Migrator,
    sqlite::SqliteConnectOptions,
};

use crate::error::Error;
pub(crate) use place::Place;

/// Name of the SQLite database in the platform's directory.
pub(crate) const FILE: &str = "platform.db";
/// Connections at a time.
const CONNECTIONS_MAX: u32 = 8;
/// How long somebody waits for a connection: the server may be down, or its connections in use.
const CONNECT: Duration = Duration::from_secs(10);
/// Every commit is on disk when it returns; who finds the file locked waits.
const SQLITE: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL";
/// A transaction with the write lock at once, so that it cannot fail halfway over it.
pub(crate) const SQLITE_BEGIN: &str = "BEGIN IMMEDIATE";
/// The same, whatever the server's configuration says. What a worker that vanished left open ends, so that others can go on.
const POSTGRES: &str =
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
    SET idle_in_transaction_session_timeout = '30s'; SET lock_timeout = '60s'; SET client_min_messages = warning";
/// Whoever changes what a judgement goes by, and is no worker with a lease, holds this alone; workers hold it together. On SQLite the
/// write lock of the file does the same.
const WRITERS: i64 = 0x4855_4655;

/// Whether a missing database is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Create {
    /// `serve`.
    IfMissing,
    /// Commands that only look.
    Never,
}

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file, and one process.
    Sqlite,
    /// A server, and any number of workers.
    Postgres,
}

/// The open database.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: AnyPool,
    kind: Kind,
}

impl Store {
    /// Opens the SQLite database of a directory and brings its schema up to date; makes it when `create` says so.
    ///
    /// # Errors
    /// [`Error::Sql`], [`Error::Migrate`].
    pub(crate) async fn open(dir: &Path, create: Create) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new().filename(dir.join(FILE));
        let url = options.create_if_missing(create == Create::IfMissing).to_url_lossy();
        let schema = sqlx::migrate!("./migrations/sqlite");
        Self::with(AnyConnectOptions::from_url(&url)?, Kind::Sqlite, &schema).await
    }

    /// Opens a PostgreSQL database that is there, and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::Sql`], [`Error::Migrate`].
    pub(crate) async fn connect(server: &place::Server) -> Result<Self, Error> {
        Self::with(server.options()?, Kind::Postgres, &sqlx::migrate!("./migrations/postgres")).await
    }

    async fn with(options: AnyConnectOptions, kind: Kind, schema: &Migrator) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let setting = match kind {
            Kind::Sqlite => SQLITE,
            Kind::Postgres => POSTGRES,
        };
        let pool = AnyPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(CONNECT);
        let pool = pool.after_connect(move |db, _| {
            Box::pin(async move {
                db.execute(setting).await?;
                Ok(())
            })
        });
        let pool = pool.connect_with(options).await?;
        schema.run(&pool).await?;
        Ok(Self { pool, kind })
    }

    /// Which database it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// A connection of its own for whoever works on for long; [`Self::close`] knows nothing of it.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn connection(&self) -> Result<AnyConnection, Error> {
        Ok(self.pool.acquire().await?.detach())
    }

    /// Starts a transaction that will write, while nobody else does: nothing that it has read changes before it commits.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Any>, Error> {
        self.begin("SELECT pg_advisory_xact_lock($1)").await
    }

    /// Starts the transaction of a worker over the nodes that it holds. Others do the same over theirs; what is not theirs to change
    /// waits, as in [`Self::write`]. What it holds is [`lease::held`]'s question, asked inside.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn write_beside(&self) -> Result<Transaction<'static, Any>, Error> {
        self.begin("SELECT pg_advisory_xact_lock_shared($1)").await
    }

    async fn begin(&self, lock: &'static str) -> Result<Transaction<'static, Any>, Error> {
        match self.kind {
            Kind::Sqlite => Ok(self.pool.begin_with(SQLITE_BEGIN).await?),
            Kind::Postgres => {
                let mut tx = self.pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
                sqlx::query(lock).bind(WRITERS).execute(&mut *tx).await?;
                Ok(tx)
            }
        }
    }

    /// Starts a transaction that only reads: one state of the database throughout.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn read(&self) -> Result<Transaction<'static, Any>, Error> {
        Ok(match self.kind {
            Kind::Sqlite => self.pool.begin().await?,
            Kind::Postgres => self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?,
        })
    }

    /// Starts a transaction that writes nothing that a judgement goes by.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn begin_free(&self) -> Result<Transaction<'static, Any>, Error> {
        Ok(self.pool.begin().await?)
    }

    /// Writes a copy of a SQLite database into a file that is not there. A server has its own means for that.
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

/// Whether a statement failed for text that PostgreSQL cannot hold: a NUL. SQLite takes it.
pub(crate) fn is_unstorable(error: &Error) -> bool {
    matches!(error, Error::Sql(sqlx::Error::Database(found)) if found.code().as_deref() == Some("22021"))
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
        let old = sqlx::SqlitePool::connect_with(options).await.expect("a database");
        let mut first = sqlx::migrate!("./migrations/sqlite");
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
