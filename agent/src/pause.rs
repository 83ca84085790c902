//! When something that got no answer is asked again: after a pause that doubles.

/// First pause, ns; doubles to [`LONGEST_NS`].
const FIRST_NS: u64 = 2_000_000_000;
/// Longest pause, ns.
const LONGEST_NS: u64 = 60_000_000_000;

/// A question, and when it is due again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pause {
    again_ns: u64,
    pause_ns: u64,
}

impl Pause {
    /// Whether it may be asked, at a time of CLOCK_MONOTONIC, ns.
    pub(crate) fn is_over(&self, mono_ns: u64) -> bool {
        mono_ns >= self.again_ns
    }

    /// It is asked now: the next time after a pause twice as long as the last one.
    pub(crate) fn begin(&mut self, mono_ns: u64) {
        self.pause_ns = self.pause_ns.saturating_mul(2).clamp(FIRST_NS, LONGEST_NS);
        self.again_ns = mono_ns.saturating_add(self.pause_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_to_the_longest() {
        let mut pause = Pause::default();
        assert!(pause.is_over(0));
        let mut at = 7;
        for expected in [2, 4, 8, 16, 32, 60, 60] {
            pause.begin(at);
            let end = at + expected * 1_000_000_000;
            assert!(!pause.is_over(end - 1) && pause.is_over(end), "{expected} s");
            at = end;
        }
        pause.begin(u64::MAX);
        assert!(!pause.is_over(u64::MAX - 1));
    }
}
