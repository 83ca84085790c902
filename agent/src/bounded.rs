//! Reading a file of a person's choice whole, up to a limit: a wrong path is an error and never the end of the memory.

use std::{
    fs::File,
    io::{Error, ErrorKind, Read},
    path::Path,
};

/// Configuration, rule table and certificates are texts that somebody wrote.
pub(crate) const TEXT_BYTES_MAX: u64 = 4 << 20;

/// All of a file of at most `bytes_max`.
///
/// # Errors
/// Those of the operating system; `FileTooLarge` beyond the limit.
pub(crate) fn read(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// All of a text of at most [`TEXT_BYTES_MAX`].
///
/// # Errors
/// As [`read`]; `InvalidData` for what is not UTF-8.
pub(crate) fn read_text(path: &Path) -> std::io::Result<String> {
    let bytes = read(path, TEXT_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|_| Error::new(ErrorKind::InvalidData, "not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_not_beyond() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, [b'a'; 10]).unwrap();
        assert_eq!(read(&path, 10).unwrap().len(), 10);
        assert_eq!(read(&path, 9).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(Path::new("/dev/zero"), 1 << 16).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read_text(&path).unwrap(), "aaaaaaaaaa");
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(read_text(&path).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
