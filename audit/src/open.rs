//! Opens the container of a pack from anybody: lists it, reads the members that belong, within limits. Content is judged
//! elsewhere: how members were packed, ordered or compressed, and their checksums, say nothing about evidence.

use std::{
    collections::BTreeMap,
    io::{Read, Seek},
};

use zip::{ZipArchive, read::ZipReadOptions};

use crate::{Error, layout};

/// Most members of a container: a year of one-minute records, and room.
pub const MEMBERS_MAX: u64 = 600_000;
/// Most bytes of one member.
pub const MEMBER_BYTES_MAX: u64 = 8 << 20;
/// Most bytes of all members that belong to a pack.
pub const PACK_BYTES_MAX: u64 = 512 << 20;

/// The members of a pack.
#[derive(Debug, Default)]
pub(crate) struct Members {
    files: BTreeMap<String, Vec<u8>>,
    /// Members that could not be read to their end, with the reason; what came is in `files`.
    pub(crate) unreadable: Vec<(String, String)>,
    /// The container lists a name twice: what one reader shows another may not.
    pub(crate) doubled: bool,
}

impl Members {
    /// Reads the container.
    ///
    /// # Errors
    /// [`Error::Unreadable`], [`Error::TooLarge`].
    pub(crate) fn open(reader: impl Read + Seek) -> Result<Self, Error> {
        let mut archive = ZipArchive::new(reader).map_err(|e| Error::Unreadable { why: e.to_string() })?;
        let count = u64::try_from(archive.len()).unwrap_or(u64::MAX);
        if count > MEMBERS_MAX {
            return Err(Error::TooLarge { what: "the number of members", limit: MEMBERS_MAX });
        }
        let mut members = Self { doubled: archive.has_duplicate_names(), ..Self::default() };
        let mut room = PACK_BYTES_MAX;
        for index in 0..archive.len() {
            let Some(Ok(name)) = archive.name_for_index(index) else { continue };
            if !layout::belongs(&name) {
                continue;
            }
            let name = name.into_owned();
            let mut content = Vec::new();
            // A checksum that does not fit is no verdict: a changed byte must be found by what it breaks.
            match archive.by_index_with_options(index, ZipReadOptions::new().ignore_crc32(true)) {
                Ok(mut file) => {
                    let size = file.size().min(MEMBER_BYTES_MAX);
                    content.reserve_exact(usize::try_from(size.min(64 << 10)).unwrap_or(0));
                    let read = (&mut file).take(MEMBER_BYTES_MAX.saturating_add(1)).read_to_end(&mut content);
                    if let Err(error) = read {
                        members.unreadable.push((name.clone(), error.to_string()));
                    }
                }
                Err(error) => {
                    members.unreadable.push((name, error.to_string()));
                    continue;
                }
            }
            let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
            if length > MEMBER_BYTES_MAX {
                return Err(Error::TooLarge { what: "a member", limit: MEMBER_BYTES_MAX });
            }
            room = room.checked_sub(length).ok_or(Error::TooLarge { what: "the pack", limit: PACK_BYTES_MAX })?;
            members.files.insert(name, content);
        }
        if members.files.contains_key(layout::BILL) { Ok(members) } else { Err(Error::NoBill) }
    }

    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    /// Names and contents below a folder, in order of name.
    pub(crate) fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let range = self.files.range(folder.to_owned()..);
        range
            .take_while(move |(name, _)| name.starts_with(folder))
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }
}
