//! What the black-box tests share: the tree under test, the real programs, a real broker, and waiting for conditions. No test
//! is here, and nothing of ours is linked: what is tested is what is shipped.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "this crate serves tests only; a panic is a failed test")]

pub mod tree;
pub mod wait;

pub mod postgres;
pub mod program;
pub mod slapd;

pub mod broker;
pub mod flood;
pub mod house;
pub mod line;
pub mod pack;
pub mod peer;
pub mod trade;
