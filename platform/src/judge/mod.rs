//! Judgement: what a node sends against what is known, without I/O. `inbox` loads the facts and stores the outcome in one
//! transaction.

pub(crate) mod bill;
pub(crate) mod block;
pub(crate) mod certificate;
pub(crate) mod code;
pub(crate) mod deal;
pub(crate) mod entry;
pub(crate) mod facts;
mod kinds;
pub(crate) mod notice;
pub(crate) mod payment;

pub(crate) use code::{Code, Refusal};
pub(crate) use facts::Facts;
pub(crate) use kinds::demand_of;
