//! The highest revision of a burnt-in record that this node ever accepted, in a file of its own beside the ledger: an old
//! image that is put back, with its good signature, is below it. What it cannot stop stands in ADR 0017.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use hufu_audit::{Exit, Failure};
use hufu_firmware_config::InstallError;

use crate::text::Text;

/// Name of the file in the ledger's directory: the revision in decimal and a line feed.
const NAME: &str = "firmware.revision";
/// Digits of the largest revision, and the line feed.
const BYTES_MAX: u64 = 21;

/// The highest revision accepted; 0 where none was.
///
/// # Errors
/// Status 74 when the file cannot be read, 78 when it does not hold a revision: it is not guessed at.
pub(crate) fn highest(dir: &Path) -> Result<u64, Failure<Text>> {
    let path = dir.join(NAME);
    let shown = path.display().to_string();
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => {
            return Err(Failure::new(Exit::Io, Text::FileUnreadable { path: shown, why: error.to_string() }));
        }
    };
    let mut text = String::new();
    let read = file.take(BYTES_MAX + 1).read_to_string(&mut text);
    let digits = text.strip_suffix('\n').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match (read, digits.and_then(|digits| digits.parse().ok())) {
        (Ok(_), Some(revision)) => Ok(revision),
        _ => Err(Failure::new(Exit::Config, Text::FirmwareFloorWrong { path: shown })),
    }
}

/// Accepts the revision of the image at `image`, and remembers it when it is the highest so far. The caller holds the ledger's
/// lock, so nobody else writes here.
///
/// # Errors
/// As [`highest`]; status 78 for a revision below it; 74 when it cannot be written.
pub(crate) fn accept(dir: &Path, image: &Path, revision: u64) -> Result<(), Failure<Text>> {
    let floor = highest(dir)?;
    if revision < floor {
        let refused = super::failure(image, &InstallError::RolledBack { revision, floor });
        return Err(Failure::new(Exit::Config, refused.text));
    }
    if revision == floor {
        return Ok(());
    }
    if floor == 0 {
        tracing::info!(revision, "first burnt-in record accepted; from now on none below it is");
    }
    remember(dir, revision).map_err(|error| {
        let path = dir.join(NAME).display().to_string();
        Failure::new(Exit::Io, Text::FileUnwritable { path, why: error.to_string() })
    })
}

/// Durable before it returns: whoever accepted a revision has not forgotten it after a power cut.
fn remember(dir: &Path, revision: u64) -> std::io::Result<()> {
    let beside: PathBuf = dir.join(format!("{NAME}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    writeln!(file, "{revision}")?;
    file.sync_all()?;
    std::fs::rename(&beside, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_below_one_that_was_accepted_is_refused_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let image = Path::new("node.img");
        let status = |revision| accept(dir.path(), image, revision).map_err(|failure| failure.exit);
        assert_eq!(highest(dir.path()).unwrap(), 0);
        for (revision, want) in [(3, Ok(())), (3, Ok(())), (2, Err(Exit::Config)), (7, Ok(())), (6, Err(Exit::Config))]
        {
            assert_eq!(status(revision), want, "revision {revision}");
        }
        assert_eq!(highest(dir.path()).unwrap(), 7);
        assert_eq!(std::fs::read_to_string(dir.path().join(NAME)).unwrap(), "7\n");
        // A half-written file beside it, as a power cut leaves one, is nobody's business.
        std::fs::write(dir.path().join("firmware.revision.new"), "9").unwrap();
        assert_eq!((status(7), status(8), highest(dir.path()).unwrap()), (Ok(()), Ok(()), 8));
        assert_eq!((status(u64::MAX), highest(dir.path()).unwrap()), (Ok(()), u64::MAX));
    }

    #[test]
    fn what_is_no_revision_is_not_guessed_at() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "\n", "7", "-1\n", "+1\n", "0x7\n", "7\n\n", "99999999999999999999\n", "7 \n", &"1".repeat(40)]
        {
            std::fs::write(dir.path().join(NAME), text).unwrap();
            let refused = accept(dir.path(), Path::new("node.img"), 9).unwrap_err();
            assert_eq!(refused.exit, Exit::Config, "{text:?}");
            assert_eq!(std::fs::read_to_string(dir.path().join(NAME)).unwrap(), text);
        }
    }
}
