//! The table `[peers]` of the configuration.

use hufu_trade::if2::{PLATFORM, segment_ok};
use serde::Deserialize;

use super::Terms;

/// Most nodes that are followed.
const FOLLOW_MAX: usize = 1000;

/// As it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    follow: Vec<String>,
    checkpoint_s: u64,
    headers: u64,
    confirm: u32,
    hear_s: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self { follow: Vec::new(), checkpoint_s: 60, headers: 65_536, confirm: 2, hear_s: 5 }
    }
}

impl Raw {
    /// The terms.
    ///
    /// # Errors
    /// A line that names the key and what would be right.
    pub(crate) fn checked(self) -> Result<Terms, String> {
        let is_node = |name: &String| {
            name.split_once('/').is_some_and(|(site, node)| segment_ok(site) && segment_ok(node) && node != PLATFORM)
        };
        if let Some(wrong) = self.follow.iter().find(|name| !is_node(name)) {
            return Err(format!("peers.follow: {wrong:?}: SITE/NODE expected"));
        }
        let mut follow = self.follow;
        follow.sort_unstable();
        follow.dedup();
        if follow.len() > FOLLOW_MAX {
            return Err(format!("peers.follow: at most {FOLLOW_MAX} nodes"));
        }
        if !(1..=86_400).contains(&self.checkpoint_s) || !(64..=1 << 24).contains(&self.headers) {
            return Err("peers.checkpoint_s: 1 to 86400, peers.headers: 64 to 16777216 expected".to_owned());
        }
        if !(1..=64).contains(&self.confirm) {
            return Err("peers.confirm: 1 to 64 witnesses expected".to_owned());
        }
        if self.hear_s > 86_400 {
            return Err("peers.hear_s: 0 to 86400 expected".to_owned());
        }
        let [checkpoint_ns, hear_ns] = [self.checkpoint_s, self.hear_s].map(|seconds| seconds * 1_000_000_000);
        Ok(Terms { follow, checkpoint_ns, headers: self.headers, confirm: self.confirm, hear_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_strictly() {
        let read = |text: &str| toml::from_str::<Raw>(text).map_err(|e| e.to_string()).and_then(Raw::checked);
        let terms = read("follow = [\"s1/b\", \"s1/a\", \"s1/b\"]").unwrap();
        assert_eq!((terms.follow, terms.confirm), (vec!["s1/a".to_owned(), "s1/b".to_owned()], 2));
        for (text, named) in [
            ("follow = [\"s1\"]", "SITE/NODE"),
            ("follow = [\"s1/platform\"]", "SITE/NODE"),
            ("checkpoint_s = 0", "checkpoint_s"),
            ("headers = 63", "headers"),
            ("confirm = 0", "confirm"),
            ("hear_s = 86401", "hear_s"),
            ("colour = 1", "colour"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(named), "{text}: {why}");
        }
    }
}
