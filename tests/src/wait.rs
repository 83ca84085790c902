//! Waiting for a condition with a deadline: the tests know no other pause. The only clock of this crate is here.

use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks again and again until there is a result; fails the test with `what` after `limit_s` seconds.
pub fn until<T>(what: &str, limit_s: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + Duration::from_secs(limit_s);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < deadline, "waited {limit_s} s for: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// As [`until`], for a plain condition.
pub fn until_true(what: &str, limit_s: u64, mut look: impl FnMut() -> bool) {
    until(what, limit_s, || look().then_some(()));
}

#[allow(clippy::disallowed_methods, reason = "deadlines of tests; nothing that is tested reads this")]
fn now() -> Instant {
    Instant::now()
}
