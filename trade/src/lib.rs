//! placeholder facade
#![forbid(unsafe_code)]

pub mod bill;
pub mod contract;
pub mod entry;
mod error;
pub mod if2;
pub mod money;
pub mod octets;
pub mod rating;
pub mod resource;
pub mod rules;
pub mod statement;
pub mod tariff;
pub mod usage;

pub use error::Error;

/// DER of a structure of the evidence; `what` is its name in `docs/evidence.asn1`.
///
/// # Errors
/// [`Error::Malformed`] when it does not fit DER.
pub fn encode<T: der::Encode>(value: &T, what: &'static str) -> Result<Vec<u8>, Error> {
    value.to_der().map_err(|source| Error::Malformed { what, source: source.into() })
}

/// Reads a structure of the evidence; bytes that are not its only encoding are refused.
///
/// # Errors
/// [`Error::Malformed`].
pub fn decode<T>(bytes: &[u8], what: &'static str) -> Result<T, Error>
where
    T: for<'a> der::Decode<'a, Error = der::Error> + der::Encode,
{
    hufu_gm::signed::strict(bytes).map_err(|source| Error::Malformed { what, source })
}
