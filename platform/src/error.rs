//! What can go wrong inside the platform while it serves. A sender's mistakes are not errors: they are outcomes (`judge`).

/// Errors of storing and answering.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The database failed; the message is not answered and the node sends it again.
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    /// The database's schema could not be brought up to date; the operator must act.
    #[error("database schema: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// Stored bytes do not read back; the database is damaged.
    #[error("database damaged: {0}")]
    Damaged(&'static str),
    /// A structure of our own could not be encoded or signed.
    #[error(transparent)]
    Trade(#[from] hufu_trade::Error),
    /// A structure of our own could not be signed.
    #[error(transparent)]
    Gm(#[from] hufu_gm::Error),
    /// Ledger bytes that were accepted before do not read back.
    #[error(transparent)]
    Ledger(#[from] hufu_ledger::Error),
    /// A pack cannot be made from what is stored.
    #[error(transparent)]
    Audit(#[from] hufu_audit::Error),
    /// JSON of our own could not be written or read back.
    #[error("json: {0}")]
    Json(#[from] serde_json::Error),
}

/// The SQL integer of a count, height or size; the database has no unsigned ones.
pub(crate) fn sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A count, height or size read back.
///
/// # Errors
/// [`Error::Damaged`] for a negative number.
pub(crate) fn count(value: i64) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| Error::Damaged("negative count"))
}

/// A hash read back.
///
/// # Errors
/// [`Error::Damaged`] when it is not 32 bytes.
pub(crate) fn hash(bytes: &[u8]) -> Result<hufu_gm::Hash, Error> {
    bytes.try_into().map_err(|_| Error::Damaged("hash length"))
}
