//! Kernel text files kept open and read again from their start into one buffer, and the few shapes of text in them.
//! What the numbers mean is said by the readers.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::{Error, sample::Raw};

/// Enough for `io.stat` of a hundred devices.
pub(crate) const BUFFER_BYTES: usize = 16 * 1024;

/// A file that stays open. An open cgroup file can never read a stranger's counter: after removal it gives ENODEV for ever.
#[derive(Debug)]
pub(crate) struct Kept(File);

/// What a kept file gave.
pub(crate) enum Text<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// Its cgroup or process does not exist any more.
    Gone,
    /// It did not give its text, and why.
    Missing(&'static str),
}

impl Kept {
    /// Opens `path`; an absent file is `None`.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Error> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::unreadable(path)(error)),
        }
    }

    /// Reads it from its start.
    pub(crate) fn read<'a>(&self, buffer: &'a mut [u8]) -> Text<'a> {
        let mut filled = 0;
        loop {
            let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) else {
                return Text::Missing("its file is longer than expected");
            };
            let Ok(offset) = u64::try_from(filled) else { return Text::Missing("its file is longer than expected") };
            match self.0.read_at(rest, offset) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_gone(&error) => return Text::Gone,
                Err(_) => return Text::Missing("its file cannot be read"),
            }
            // Kernel files of one line are whole after one read: save the second call.
            if filled < 64
                && buffer.get(..filled).is_some_and(|text| {
                    text.ends_with(b"\n") && text.iter().filter(|byte| **byte == b'\n').count() == 1
                })
            {
                break;
            }
        }
        Text::Bytes(buffer.get(..filled).unwrap_or_default())
    }
}

/// True for the errors of a file whose cgroup or process was removed.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || [rustix::io::Errno::NODEV, rustix::io::Errno::SRCH]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Decimal digits and nothing else.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The words of a line.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t' | b'\n')).filter(|word| !word.is_empty())
}

/// The lines of a text.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// A file that holds one number.
pub(crate) fn single(text: &[u8]) -> Option<u64> {
    let mut words = words(text);
    let value = number(words.next()?)?;
    words.next().is_none().then_some(value)
}

/// The number after `key` in a file of `key value` lines; the key may end in a colon.
pub(crate) fn keyed(text: &[u8], key: &[u8]) -> Option<u64> {
    lines(text).find_map(|line| {
        let mut words = words(line);
        let name = words.next()?;
        let name = name.strip_suffix(b":").unwrap_or(name);
        if name == key { number(words.next()?) } else { None }
    })
}

/// A value or the reason for its absence.
pub(crate) fn raw(value: Option<u64>) -> Raw {
    value.map_or(Raw::Missing("its file holds unexpected text"), Raw::Value)
}

/// Reads a whole small file once, at start-up.
pub(crate) fn read_once(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(Error::unreadable(path))
}

/// The inode of a directory: with the boot id the identity of a cgroup.
pub(crate) fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|data| data.ino())
}

/// `absolute` below `root`.
pub(crate) fn below(root: &Path, absolute: &Path) -> PathBuf {
    root.join(absolute.strip_prefix("/").unwrap_or(absolute))
}

/// `/proc/sys/kernel/random/boot_id` as 16 octets.
pub(crate) fn boot_id(root: &Path) -> Result<[u8; 16], Error> {
    let path = root.join("proc/sys/kernel/random/boot_id");
    let text = read_once(&path)?;
    let digits: Vec<u8> = text.into_iter().filter(|byte| byte.is_ascii_hexdigit()).collect();
    let hex = str::from_utf8(&digits).ok().and_then(hufu_trade::octets::Octets::<16>::from_hex);
    hex.map(|octets| octets.0).ok_or(Error::UnexpectedText { path })
}
