//! What a server has and what each order used.
//!
//! Readers look at cgroups, process trees and the host under a root path; `usage` integrates samples; [`Sampler`] cuts
//! usage into windows. Time is an argument everywhere, a reading that fails is a missing reading, and nothing is written
//! except an order's own cgroup directories (`place`). Pricing and signing are elsewhere.
#![forbid(unsafe_code)]

pub mod capacity;
pub mod cgroup;
mod disk;
mod error;
mod file;
pub mod hierarchy;
pub mod host;
mod order;
pub mod place;
pub mod process;
pub mod sample;
pub mod state;
pub mod usage;
pub mod window;

pub use error::Error;
pub use order::OrderDraft;
pub use place::Place;
pub use sample::{At, Target};
pub use state::OrderState;
pub use usage::Total;
pub use window::{Sampler, WindowDraft};
