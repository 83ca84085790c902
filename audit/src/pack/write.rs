//! Members into a zip: stored, no extra fields, one fixed time, so that equal members give equal bytes.

use std::io::{Seek, Write};

use zip::{CompressionMethod, DateTime, ZipWriter, result::ZipError, write::SimpleFileOptions};

use crate::{Error, pack::build::Member};

pub(crate) fn zip(members: &[Member], out: impl Write + Seek) -> Result<(), Error> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    let mut writer = ZipWriter::new(out);
    for (name, content) in members {
        writer.start_file(name.as_str(), options).map_err(failed)?;
        writer.write_all(content)?;
    }
    writer.finish().map_err(failed)?.flush()?;
    Ok(())
}

fn failed(error: ZipError) -> Error {
    match error {
        ZipError::Io(source) => Error::Write(source),
        other => Error::Write(std::io::Error::other(other)),
    }
}
