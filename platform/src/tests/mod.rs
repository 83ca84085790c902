//! A whole small trade against the platform's own database: a node's real ledger, real keys, a SQLite file in a folder of
//! its own. Nothing is mocked; the parties are `parties.rs`, the trade `world.rs` and `acts.rs`.
#![allow(clippy::indexing_slicing, reason = "a panic is a failed test")]

mod accounts;
pub(crate) mod acts;
mod allocation;
pub(crate) mod base;
mod books;
mod changes;
mod courses;
mod demands;
mod epochs;
pub(crate) mod far;
mod intake;
pub(crate) mod judgement;
mod parents;
pub(crate) mod parties;
mod quality;
mod rotation;
mod seat;
mod session;
mod stamps;
mod witnesses;
mod workers;
pub(crate) mod world;
