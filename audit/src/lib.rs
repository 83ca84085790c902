//! placeholder facade
#![forbid(unsafe_code)]

pub mod exit;
pub mod lang;

pub use exit::{Exit, Failure};
pub use lang::Lang;
