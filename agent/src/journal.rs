//! Where the log goes: to systemd's journal with its fields, when standard error is that journal; else to standard error, one line
//! an event. Fields are the same either way: in the journal they are called `HUFU_ALARM`, `HUFU_CONTRACT` and so on.

use std::path::Path;

use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging, once for a process.
pub(crate) fn begin() {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    if is_journal(&stream, Path::new("/proc/self/fd/2"))
        && let Ok(layer) = tracing_journald::layer()
    {
        let layer = layer.with_field_prefix(Some("HUFU".to_owned())).with_syslog_identifier("hufu".to_owned());
        let level = tracing_subscriber::filter::LevelFilter::INFO;
        tracing_subscriber::registry().with(level).with(layer).try_init().ok();
        return;
    }
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    log.try_init().ok();
}

/// Whether `JOURNAL_STREAM` (systemd.exec(5)) names this file by device and inode: only then did systemd connect it. A child whose
/// output goes elsewhere inherits the variable, and must be heard there.
fn is_journal(stream: &str, file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let named = stream.split_once(':').and_then(|(dev, ino)| Some((dev.parse().ok()?, ino.parse().ok()?)));
    let found = std::fs::metadata(file).ok().map(|found| (found.dev(), found.ino()));
    named.is_some() && named == found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn only_the_very_file_that_systemd_connected_is_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stderr");
        std::fs::write(&path, "").unwrap();
        let found = std::fs::metadata(&path).unwrap();
        let (dev, ino) = (found.dev(), found.ino());
        for (stream, want) in [
            (format!("{dev}:{ino}"), true),
            (format!("{dev}:{}", ino + 1), false),
            (format!("{}:{ino}", dev + 1), false),
            (format!("{dev}"), false),
            (String::new(), false),
            ("a:b".to_owned(), false),
        ] {
            assert_eq!(is_journal(&stream, &path), want, "{stream}");
        }
        assert!(!is_journal(&format!("{dev}:{ino}"), &dir.path().join("absent")));
    }
}
