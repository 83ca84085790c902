//! The evidence pack of a bill and its four verdicts.
//!
//! **What**: [`pack::build`] writes everything about one bill into one zip; [`verify`] judges such a zip from anybody, given
//! the reader's own trust anchors, and says four things separately: whether it is *signed*, *complete*, what its *data* are
//! worth, and whether the *arithmetic* is right.
//!
//! **What not**: no clock, no network, no file names: packs come and go as bytes. Nothing in a pack is believed because the
//! pack says so.
//!
//! ```
//! use hufu_audit::{Error, Options, verify};
//!
//! let answer = verify(std::io::Cursor::new(b"not a zip"), &[], Options::default());
//! assert!(matches!(answer, Err(Error::Unreadable { .. })));
//! ```
#![forbid(unsafe_code)]

mod dispute;
mod error;
mod evidence;
pub mod exit;
mod fields;
mod findings;
pub mod fork;
pub mod lang;
mod layout;
mod named;
mod open;
pub mod pack;
pub mod reconciliation;
mod records;
mod report;
mod signed;
mod suggestion;
pub mod text;
mod verdict;

/// Limits on containers from outside.
pub mod limits {
    pub use crate::{
        open::{EXPANSION_MAX, MEMBER_BYTES_MAX, MEMBERS_MAX, PACK_BYTES_MAX},
        records::ENTRIES_MAX,
    };
}

pub use dispute::{Dispute, Point, dispute};
pub use error::Error;
pub use exit::{Exit, Failure};
pub use findings::{Outcome, PROBLEMS_MAX, Problem, Verdict};
pub use lang::{Lang, wanted_lang};
pub use named::{BillName, bill_of};
pub use report::report;
pub use suggestion::{SuggestedScore, Suggestion, suggest};
pub use verdict::{Confirmed, Options, Policy, Stamped, Verdicts, verify};
