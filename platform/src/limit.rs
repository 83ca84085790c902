//! A bound on how often something happens: so many in a window of time. The time is an argument.

/// At most `most` in any window of `window_ns`.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    most: u32,
    window_ns: i64,
    since_ns: i64,
    count: u32,
}

impl Limit {
    /// A bound that starts empty.
    pub(crate) fn new(most: u32, window_ns: i64) -> Self {
        Self { most, window_ns, since_ns: i64::MIN, count: 0 }
    }

    /// Whether one more is allowed at `now_ns`; counts it.
    pub(crate) fn allow(&mut self, now_ns: i64) -> bool {
        if now_ns.saturating_sub(self.since_ns) >= self.window_ns {
            (self.since_ns, self.count) = (now_ns, 0);
        }
        self.count = self.count.saturating_add(1);
        self.count <= self.most
    }
}
