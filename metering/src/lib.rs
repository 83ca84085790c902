//! What a server has and what each order used.
//!
//! Readers look at cgroups, process trees and the host under a root path; `usage` integrates samples; [`Sampler`] cuts
//! usage into windows. Time is an argument everywhere, a reading that fails is a missing reading, and nothing is written
//! except an order's own cgroup directories (`place`). Pricing and signing are elsewhere.
//!
//! ```no_run
//! use hufu_metering::{At, Place, Sampler, hierarchy::Hierarchies};
//! use hufu_trade::resource::{Kind, Resource};
//!
//! # fn now() -> At { At::default() }
//! let root = std::path::Path::new("/");
//! let place = Place::make(&Hierarchies::detect(root)?, "hufu-orders", "a1")?;
//! let mut sampler = Sampler::new(root, 1_000_000_000, now())?;
//! let metered = [Resource::used(Kind::Cpu), Resource::used(Kind::Memory)];
//! sampler.start([1; 16], place.target.clone(), &metered, &[], None, now())?;
//! // Each second: sampler.tick(now()). At each window's edge: sampler.close(now(), edge). When the order ends:
//! let pieces = sampler.stop([1; 16], now())?;
//! place.remove()?;
//! # let _ = pieces;
//! # Ok::<(), hufu_metering::Error>(())
//! ```
#![deny(unsafe_code)]

mod attached;
pub mod benchmark;
mod bpf;
pub mod capacity;
pub mod cgroup;
mod conservation;
pub mod counters;
mod delivered;
mod disk;
mod draft;
pub mod ends;
mod error;
mod file;
pub mod fingerprint;
pub mod gpu;
pub mod gpu_meter;
pub mod gpu_table;
pub mod gpu_watch;
pub mod hierarchy;
pub mod host;
pub mod inventory;
pub mod net;
mod nfnetlink;
pub mod nft;
mod order;
pub mod own;
pub mod place;
pub mod plan;
pub mod process;
pub mod resolve;
pub mod sample;
pub mod state;
pub mod storage;
pub mod usage;
mod walk;
pub mod window;

pub use delivered::{StoredTime, Time};
pub use draft::OrderDraft;
pub use error::Error;
pub use order::Known;
pub use place::Place;
pub use plan::{Network, Plan, Storage};
pub use resolve::{Resolved, resolve};
pub use sample::{At, Target};
pub use state::OrderState;
pub use usage::Total;
pub use window::{Sampler, WindowDraft};
