//! Opens the container of a pack from anybody: lists it, reads the members that belong, within limits. Content is judged
//! elsewhere: how members were packed, ordered or compressed, and their checksums, say nothing about evidence.

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
};

use zip::{ZipArchive, read::ZipReadOptions};

use crate::{Error, layout};

/// Most members of a container, those that do not belong to a pack included.
pub const MEMBERS_MAX: u64 = 65_535;
/// Most bytes of one member; most kinds of members have less (`layout::bytes_max`).
pub const MEMBER_BYTES_MAX: u64 = 8 << 20;
/// Most bytes of all members that belong to a pack: a year of one-minute records takes about 150 MB.
pub const PACK_BYTES_MAX: u64 = 192 << 20;
/// How many times its size a container may unpack to, above the first MiB. Salts and hashes do not compress: what does is
/// no pack, but made to fill memory.
pub const EXPANSION_MAX: u64 = 16;
/// Most lines of an index: each costs a signature's verification, or two paths.
const LINES_MAX: usize = 4_096;

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
        let unreadable = |why: &dyn std::fmt::Display| Error::Unreadable { why: why.to_string() };
        let mut reader = reader;
        let size = reader.seek(SeekFrom::End(0)).map_err(|e| unreadable(&e))?;
        let mut archive = ZipArchive::new(reader).map_err(|e| unreadable(&e))?;
        let count = u64::try_from(archive.len()).unwrap_or(u64::MAX);
        if count > MEMBERS_MAX {
            return Err(Error::TooLarge { what: "the number of members", limit: MEMBERS_MAX });
        }
        let mut members = Self { doubled: archive.has_duplicate_names(), ..Self::default() };
        let room_max = size.saturating_mul(EXPANSION_MAX).saturating_add(1 << 20).min(PACK_BYTES_MAX);
        let mut room = room_max;
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for index in 0..archive.len() {
            let Some(Ok(name)) = archive.name_for_index(index) else { continue };
            if !layout::belongs(&name) {
                continue;
            }
            let name = name.into_owned();
            if let Some((folder, limit)) = layout::count_max(&name) {
                let count = counts.entry(folder).or_default();
                *count = count.saturating_add(1);
                if *count > limit {
                    return Err(Error::TooLarge {
                        what: "the number of certificates, revocation lists or time-stamps",
                        limit,
                    });
                }
            }
            let limit = layout::bytes_max(&name);
            let mut content = Vec::new();
            // A checksum that does not fit is no verdict: a changed byte must be found by what it breaks.
            match archive.by_index_with_options(index, ZipReadOptions::new().ignore_crc32(true)) {
                Ok(mut file) => {
                    // What a container claims is a hint, and only within the limit.
                    content.reserve_exact(usize::try_from(file.size().min(limit)).unwrap_or(0));
                    let read = (&mut file).take(limit.saturating_add(1)).read_to_end(&mut content);
                    content.shrink_to_fit();
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
            if length > limit {
                return Err(Error::TooLarge { what: "a member", limit });
            }
            room = room
                .checked_sub(length)
                .ok_or(Error::TooLarge { what: "what the pack unpacks to", limit: room_max })?;
            members.files.insert(name, content);
        }
        for index in [layout::SIGNATURES, layout::PROOFS] {
            let lines = members.bytes(index).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count();
            if lines > LINES_MAX {
                return Err(Error::TooLarge { what: "an index", limit: LINES_MAX as u64 });
            }
        }
        if members.files.contains_key(layout::BILL) { Ok(members) } else { Err(Error::NoBill) }
    }

    /// Members from memory.
    #[cfg(test)]
    pub(crate) fn of(files: impl Iterator<Item = (String, Vec<u8>)>) -> Self {
        Self { files: files.collect(), ..Self::default() }
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
