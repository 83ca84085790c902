//! A whole market in one thread, from one seed: nodes with the daemon's own writer, core, sampler and ledger; the platform with
//! its inbox, judgement and database; buyers who sign. Network, disk, clocks and counters are simulated, and everything that can
//! go wrong with them does. After every event the invariants are looked at, at the end the network heals and everything must
//! arrive. The same seed is the same course, event by event. How nodes and platform work is not here: that is tested.
//!
//! [`run`] is one seed. `tests/seeds.rs` runs many, and shows that planted bugs are found.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "this crate serves tests only; a panic is a failed test")]

pub mod dice;

pub mod clocks;
pub mod disk;
pub mod host;
pub mod parties;

mod audit;
mod broker;
mod buyer;
mod checks;
mod faults;
mod operator;
mod site;
mod world;

pub use world::{Failure, Plant, Summary, run};
