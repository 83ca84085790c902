//! What can go wrong in `gm`; each variant says whose fault it is. Errors about secrets carry no detail on purpose.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system gave no randomness; the caller should stop.
    #[error("no randomness from the operating system")]
    Randomness,
    /// A secret key outside 1..=n-2.
    #[error("secret key out of range")]
    SecretKeyRange,
    /// Not an uncompressed point on the SM2 curve.
    #[error("not an SM2 public key (uncompressed point on the curve expected)")]
    PublicKey,
    /// The signing arithmetic hit one of the standard's forbidden values.
    #[error("signing failed")]
    Sign,
    /// Bytes that are not the DER expected here; the sender's fault.
    #[error("not the DER expected here: {0}")]
    Der(#[from] der::Error),
    /// DER that has a second, shorter or ordered form; the sender's fault.
    #[error("not canonical DER")]
    NotCanonical,
    /// A certificate id that is not 32 bytes.
    #[error("certificate id is not 32 bytes")]
    CertIdLength,
}
