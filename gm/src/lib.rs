//! National cryptography for Hufu: SM3, SM2 signatures, X.509 with SM2, key files, a small CA.
#![forbid(unsafe_code)]

mod asn1;
mod error;
pub mod keyfile;
pub mod signed;
pub mod sm2;
pub mod sm3;

pub use error::Error;
pub use signed::Signed;
pub use sm3::Hash;
