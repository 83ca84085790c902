//! The inbox's own connection to a database that is a file. While nobody else writes, what was known of nodes at the end of one batch
//! holds at the beginning of the next; SQLite says whether somebody did.

use sqlx::AnyConnection;

use crate::{desk::Desks, error::Error, store::Store};

/// A connection, and what was known when its last transaction was committed.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The connection.
    pub(crate) db: AnyConnection,
    /// What was known.
    pub(crate) known: Known,
}

/// What was known as of a version of the database.
#[derive(Debug, Default)]
pub(crate) struct Known {
    version: i64,
    desks: Desks,
}

impl Seat {
    /// Takes a connection; nothing is known yet.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(crate) async fn take(store: &Store) -> Result<Self, Error> {
        Ok(Self { db: store.connection().await?, known: Known::default() })
    }
}

impl Known {
    /// What is known, if nobody else has written since; given back by [`Self::keep`] after the commit, and without one to nobody.
    pub(crate) fn take(&mut self, version: i64) -> Desks {
        let Self { version: then, desks } = std::mem::take(self);
        if then == version { desks } else { Desks::default() }
    }

    /// Keeps what is known after a transaction that began with this version was committed.
    pub(crate) fn keep(&mut self, version: i64, desks: Desks) {
        *self = Self { version, desks: desks.kept() };
    }
}

/// A number that is another one once somebody else has written (SQLite, `PRAGMA data_version`); asked in a transaction that writes it
/// holds until that ends.
///
/// # Errors
/// [`Error::Sql`].
pub(crate) async fn version(db: &mut AnyConnection) -> Result<i64, Error> {
    let (version,): (i64,) = sqlx::query_as("PRAGMA data_version").fetch_one(db).await?;
    Ok(version)
}
