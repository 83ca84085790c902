//! The only place in the platform that reads a clock. Everything else takes time as an argument.
#![allow(clippy::disallowed_methods, reason = "this is clock.rs")]

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall clock, ns since 1970-01-01Z; 0 before it.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    i64::try_from(since).unwrap_or(i64::MAX)
}
