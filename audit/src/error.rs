//! What can go wrong in `audit`. What is wrong *inside* a readable pack is never an error: it is a problem of a verdict.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not a zip that can be listed; whoever sent the file must send it again.
    #[error("not a readable zip: {why}")]
    Unreadable {
        /// What the reader saw.
        why: String,
    },
    /// The container holds more than any pack does; it is not unpacked.
    #[error("{what} is beyond the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// There is no `bill.der` in the container: it is not an evidence pack.
    #[error("no bill.der inside: not an evidence pack")]
    NoBill,
    /// Two packs that are to be held against each other are not of one contract; whoever chose them must choose again.
    #[error("not of one contract: {first} and {second}")]
    OtherContract {
        /// Contract number of the first.
        first: String,
        /// Contract number of the second.
        second: String,
    },
    /// Something a pack needs was not given, or is not what it should be; the caller's fault.
    #[error("cannot make the pack: {what}: {why}")]
    Input {
        /// Which piece.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The ledger has no bill of this number.
    #[error("no bill {number} in this ledger")]
    UnknownBill {
        /// As it was asked for.
        number: String,
    },
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] hufu_ledger::Error),
    /// A structure of the trade could not be read or written.
    #[error(transparent)]
    Trade(#[from] hufu_trade::Error),
    /// A certificate or signed structure could not be read or written.
    #[error(transparent)]
    Gm(#[from] hufu_gm::Error),
    /// The pack could not be written.
    #[error("cannot write the pack: {0}")]
    Write(#[from] std::io::Error),
}
