//! What can go wrong in the vocabulary of the trade; each variant says whose fault it is.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes from outside that are not the signed structure expected; the sender's fault.
    #[error("not a {what}: {source}")]
    Malformed {
        /// The structure's name in `docs/evidence.asn1`.
        what: &'static str,
        /// What the decoder saw.
        source: hufu_gm::Error,
    },
    /// A field of a well-formed structure has a value the standard or the contract forbids; the sender's fault.
    #[error("{what}.{field}: {why}")]
    Field {
        /// The structure's name in `docs/evidence.asn1`.
        what: &'static str,
        /// The field's name there.
        field: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// A resource name or code that is not in the vocabulary.
    #[error("unknown resource {name}")]
    UnknownResource {
        /// As it was written.
        name: String,
    },
    /// An amount of money that is not a decimal number in range.
    #[error("not an amount of money: {text}")]
    Money {
        /// As it was written.
        text: String,
    },
    /// A sum or product left the range of its integer: implausible input, never rounded away.
    #[error("{what} is out of range")]
    Overflow {
        /// The quantity being computed.
        what: &'static str,
    },
    /// The rule table or tariff text is wrong; whoever wrote the file must act.
    #[error("{what}: {why}")]
    Text {
        /// Which text.
        what: &'static str,
        /// What is wrong and where.
        why: String,
    },
    /// A signature could not be made.
    #[error("cannot sign: {0}")]
    Sign(#[source] hufu_gm::Error),
}
