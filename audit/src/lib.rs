//! The evidence pack of a bill and its four verdicts.
#![forbid(unsafe_code)]

mod error;
pub mod exit;
pub mod lang;
mod layout;
pub mod pack;
mod signed;

pub use error::Error;
pub use exit::{Exit, Failure};
pub use lang::Lang;
