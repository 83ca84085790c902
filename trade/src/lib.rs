//! The vocabulary of the trade: what buyer, node and platform say and sign, as DER of `docs/evidence.asn1`; the contract's
//! rule table and its interpreter; rating, from usage to a bill; the messages of IF2. Pure: no clock, no disk, no network,
//! no keys kept. Where entries are stored is `ledger`, how usage is read `metering`, whether a pack holds `audit`.
//!
//! ```
//! use hufu_trade::{rating::rate_quantities, resource::Resource, tariff::Tariff};
//!
//! let tariff = Tariff::from_toml("[[price]]\nresource = \"cpu\"\nprice = \"0.12\"")?;
//! let cpu: Resource = "cpu".parse()?;
//! let rated = rate_quantities(&tariff, &[(cpu, 5_400_000_000_000)])?; // one and a half core-hours, in ns
//! assert_eq!(rated.total.to_string(), "0.18");
//! # Ok::<(), hufu_trade::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod account;
pub mod allocation;
mod belongs;
pub mod bill;
pub mod confirm;
pub mod contract;
pub mod correction;
pub mod demand;
pub mod entry;
mod error;
pub mod estimate;
pub mod if2;
pub mod matching;
pub mod money;
pub mod notice;
pub mod octets;
pub mod parent;
pub mod party;
pub mod period;
pub mod prepaid;
pub mod quality;
pub mod rating;
pub mod reconciliation;
pub mod refund;
pub mod resource;
pub mod rotation;
pub mod rules;
pub mod score;
pub mod statement;
pub mod tariff;
pub mod token;
pub mod usage;
mod version;

pub use belongs::contract_of;
pub use error::Error;

/// DER of a structure of the evidence; `what` is its name in `docs/evidence.asn1`.
///
/// # Errors
/// [`Error::Malformed`] when it does not fit DER.
pub fn encode<T: der::Encode>(value: &T, what: &'static str) -> Result<Vec<u8>, Error> {
    value.to_der().map_err(|source| Error::Malformed { what, source: source.into() })
}

/// Reads a structure of the evidence; bytes that are not its only encoding are refused, and so is a version other than 1 of a
/// structure that has one. `what` is its name in `docs/evidence.asn1`.
///
/// # Errors
/// [`Error::Malformed`]; [`Error::Field`] for the version.
pub fn decode<T>(bytes: &[u8], what: &'static str) -> Result<T, Error>
where
    T: for<'a> der::Decode<'a, Error = der::Error> + der::Encode,
{
    let value = hufu_gm::signed::strict(bytes).map_err(|source| Error::Malformed { what, source })?;
    version::check(bytes, what)?;
    Ok(value)
}
