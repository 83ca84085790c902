//! National cryptography for Hufu: SM3, SM4, SM2, X.509 with SM2, key files, a small CA, messages, seals, the directory.
//!
//! **What**: everything a party of the trade needs to sign evidence and to check it. Hashes ([`sm3`]), encryption at rest
//! ([`sm4`]), signatures ([`sm2`], [`signed`]), key files ([`keyfile`]), certificates ([`cert`], [`csr`], [`crl`]), trust
//! ([`chain`]), and a CA for sites and tests that have none ([`ca`]). Messages of GM/T 0010 ([`message`]) and electronic seals
//! ([`seal`]) with one way to judge both ([`judgement`]), time-stamps of RFC 3161 ([`time_stamp`]), and certificates from an
//! LDAP [`directory`].
//!
//! **Why**: the facts that decide whether others accept our bytes stand here once: the user id `1234567812345678` is always
//! given, signatures are strict DER and never raw `r || s`, SM2-with-SM3 is written without parameters, end entities carry
//! no basicConstraints, and bytes are verified as they were received, never re-encoded. `openssl` 3.0 agrees in both
//! directions; the tests ask it.
//!
//! **What not**: no clock and no randomness of its own (both are arguments; [`random::fill`] is there to be passed), no
//! network but for [`directory`], no logging, no meaning of what is signed. `libsm` appears only behind the feature `cross-check`, as a second
//! opinion on public values.
//!
//! ```
//! use hufu_gm::{ca, chain, sm2::SecretKey};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let root_key = SecretKey::generate(hufu_gm::random::fill)?;
//! let node_key = SecretKey::generate(hufu_gm::random::fill)?;
//! let mut serial = [0; 16];
//! hufu_gm::random::fill(&mut serial)?;
//! let now_s = 1_790_000_000;
//! let terms = ca::Terms { serial: &serial, not_before_s: now_s, not_after_s: now_s + 86_400, dns_names: &[] };
//!
//! let root = ca::root(&root_key, "CN=Site Root,O=Site,C=CN", None, &terms)?;
//! let node = ca::issue(&root, &root_key, ca::Role::Signer, "CN=node-1", &node_key.public_key(), &terms)?;
//!
//! let signature = node_key.sign(b"evidence")?;
//! let path = chain::verify_chain(&node, &[], &[root], &[], now_s * 1_000_000_000, chain::Usage::Signing)?;
//! assert!(path[0].public_key().verify(b"evidence", &signature).is_valid());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod asn1;
mod error;
mod fields;
mod name;

pub mod sm3;

pub mod sm4;

mod feedback;

pub mod mode;

mod algorithm;

pub mod sm2;

pub mod known;

pub mod claims;

pub mod sm2_cipher;

pub mod enveloped_key;

pub mod sign;

pub mod signed;

pub mod random;

pub mod pbes2;

pub mod keyfile;

pub mod cert;

pub mod csr;

pub mod crl;

pub mod chain;

pub mod ca;

pub mod judgement;

pub mod message;

pub mod seal;

pub mod time_stamp;

pub mod directory;

#[cfg(feature = "cross-check")]
pub mod second_opinion;

pub use cert::Certificate;
pub use chain::{Usage, verify_chain};
pub use crl::Crl;
pub use csr::Csr;
pub use error::{ChainError, ChainFault, Error};
pub use fields::Malformed;
pub use judgement::{Fault, Judgement, Refusal, Trust};
pub use mode::Mode;
pub use sign::Sign;
pub use signed::Signed;
pub use sm2::{PublicKey, SecretKey, Verdict};
pub use sm3::Hash;
pub use zeroize::Zeroizing;
