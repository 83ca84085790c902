//! Small files and directories of the kernel, read whole with a bound: one line, one number, sorted names. Whatever is not
//! that, is too long, is not UTF-8 or cannot be read is absent.

use std::{fs::File, io::Read, path::Path};

use crate::file;

/// Longest file that is read, bytes: `/proc/cpuinfo` of a thousand CPUs.
const BYTES_MAX: u64 = 4 << 20;
/// Longest line that is told, characters.
const LINE_CHARS_MAX: usize = 200;
/// Most names of a directory that are looked at.
const NAMES_MAX: usize = 16 * 1024;

/// A whole file, cut at the bound.
pub(super) fn bytes(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The first line of a text without its blanks at both ends; runs of blanks become one.
pub(super) fn line(path: &Path) -> Option<String> {
    tidy(bytes(path)?.split(|byte| matches!(byte, b'\n' | 0)).next()?)
}

/// Text as one line that a terminal and a canonical form can hold.
pub(super) fn tidy(text: &[u8]) -> Option<String> {
    let text = str::from_utf8(text).ok()?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    let is_line = !line.is_empty() && line.chars().count() <= LINE_CHARS_MAX && !line.contains(char::is_control);
    is_line.then_some(line)
}

/// The one number of a file, at most `max`.
pub(super) fn number(path: &Path, max: u64) -> Option<u64> {
    file::single(&bytes(path)?).filter(|number| *number <= max)
}

/// Names in a directory, sorted.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().take(NAMES_MAX);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The last part of what a link points to: a driver's or a bus's name.
pub(super) fn target(link: &Path) -> Option<String> {
    tidy(std::fs::read_link(link).ok()?.file_name()?.as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_one_line_of_text_is_no_reading() {
        for (text, want) in [
            (&b"  Intel(R)   Xeon \n"[..], Some("Intel(R) Xeon")),
            (b"", None),
            (b" \t ", None),
            (b"\xff\xfe", None),
            (b"a\x1b[31mb", None),
            (&[b'x'; 201], None),
        ] {
            assert_eq!(tidy(text).as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn numbers_beyond_sense_are_no_readings() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        for (text, want) in [
            ("7\n", Some(7)),
            ("10", Some(10)),
            ("11", None),
            ("-1\n", None),
            ("9223372036854775808", None),
            ("7 8", None),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(number(&path, 10), want, "{text:?}");
        }
        assert_eq!((number(dir.path(), 10), line(&dir.path().join("absent"))), (None, None));
    }
}
