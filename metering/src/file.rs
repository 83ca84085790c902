//! Kernel text files kept open and read again from their start into one buffer, and the few shapes of text in them.
//! What the numbers mean is said by the readers.

use std::{
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{Mode, OFlags};

use crate::{Error, sample::Raw};

/// Enough for `io.stat` of a hundred devices.
pub(crate) const BUFFER_BYTES: usize = 16 * 1024;

/// A file that is read again and again. An open cgroup file can never read a stranger's counter: after removal it gives ENODEV
/// for ever; and under an open directory that was removed there is no file any more.
#[derive(Debug)]
pub(crate) enum Kept {
    /// It stays open: one call a reading, and about 4.5 KB of the kernel's memory.
    Open(File),
    /// It is opened for each reading, below a directory that stays open: three calls.
    Below(Arc<OwnedFd>, &'static str),
}

/// What a kept file gave.
pub(crate) enum Text<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// Its cgroup or process does not exist any more.
    Gone,
    /// It did not give its text, and why.
    Missing(&'static str),
}

/// No line of these files is longer, and no page is shorter than twice this.
const SURELY_WHOLE_BYTES: usize = 2048;
const TOO_LONG: &str = "its file is longer than expected";

impl Kept {
    /// Opens `path`; an absent file is `None`.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Error> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self::Open(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::unreadable(path)(error)),
        }
    }

    /// Reads a text that the kernel writes in one piece, as those of cgroups: one call gives all of it.
    pub(crate) fn read<'a>(&self, buffer: &'a mut [u8]) -> Text<'a> {
        let once;
        let file = match self {
            Self::Open(file) => file,
            Self::Below(directory, name) => match open_below(directory, name) {
                Ok(file) => {
                    once = file;
                    &once
                }
                Err(error) if is_gone(&error) => return Text::Gone,
                Err(_) => return Text::Missing("its file cannot be opened"),
            },
        };
        loop {
            match file.read_at(buffer, 0) {
                Ok(filled) if filled == buffer.len() => return Text::Missing(TOO_LONG),
                Ok(filled) => return Text::Bytes(buffer.get(..filled).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return unread(&error),
            }
        }
    }

    /// Reads a text that the kernel writes line by line, as those of devices: until there is no more.
    pub(crate) fn read_lines<'a>(&self, buffer: &'a mut [u8]) -> Text<'a> {
        let Self::Open(file) = self else { return self.read(buffer) };
        let mut filled = 0;
        loop {
            let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) else {
                return Text::Missing(TOO_LONG);
            };
            let Ok(offset) = u64::try_from(filled) else { return Text::Missing(TOO_LONG) };
            match file.read_at(rest, offset) {
                Ok(0) => return Text::Bytes(buffer.get(..filled).unwrap_or_default()),
                // The kernel fills a page as far as lines fit into it: half a page is short of one only at the end.
                Ok(count) if filled == 0 && count < SURELY_WHOLE_BYTES => {
                    return Text::Bytes(buffer.get(..count).unwrap_or_default());
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return unread(&error),
            }
        }
    }
}

fn unread(error: &io::Error) -> Text<'static> {
    let is = |errno: rustix::io::Errno| error.raw_os_error() == Some(errno.raw_os_error());
    match error {
        _ if is_gone(error) => Text::Gone,
        _ if is(rustix::io::Errno::OPNOTSUPP) => Text::Missing("the kernel does not count it (switched off)"),
        _ => Text::Missing("its file cannot be read"),
    }
}

/// Opens a directory only to open files below it: it costs the kernel little.
pub(crate) fn open_directory(path: &Path) -> Result<Option<Arc<OwnedFd>>, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(directory) => Ok(Some(Arc::new(directory))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(errno) => Err(Error::unreadable(path)(errno.into())),
    }
}

fn open_below(directory: &OwnedFd, name: &str) -> io::Result<File> {
    Ok(File::from(rustix::fs::openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?))
}

/// Whether there is such a file.
pub(crate) fn is_below(directory: &OwnedFd, name: &str) -> io::Result<bool> {
    match open_below(directory, name) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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
    lines(text).filter(|line| line.starts_with(key)).find_map(|line| {
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
