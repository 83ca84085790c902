//! Evidence packs as a stranger sees them: a zip with members. Unpacked, changed and zipped again; never judged here.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write},
    path::Path,
};

use crate::program::{self, Ran};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

/// The members of a pack by name.
pub type Members = BTreeMap<String, Vec<u8>>;

/// Reads every member.
pub fn read(path: &Path) -> Members {
    let mut archive = ZipArchive::new(File::open(path).expect("a pack")).expect("a zip");
    let mut members = Members::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).expect("a member");
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).expect("a member's bytes");
        let name = member.name().expect("a name in UTF-8").into_owned();
        members.insert(name, bytes);
    }
    members
}

/// Zips members in another order than ours, as somebody would who unpacked and zipped again.
pub fn write(path: &Path, members: &Members) {
    let mut zip = ZipWriter::new(File::create(path).expect("a file"));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in members.iter().rev() {
        zip.start_file(name.as_str(), options).expect("a member");
        zip.write_all(bytes).expect("a member's bytes");
    }
    zip.finish().expect("a zip");
}

/// Writes every member as a file below `folder`.
pub fn unpack(members: &Members, folder: &Path) {
    for (name, bytes) in members {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a member is in a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    }
}

/// What the pack's own README tells a person with openssl to paste, run in a folder of its members.
pub fn checked_by_openssl(members: &Members, trust: &str) -> Ran {
    let folder = tempfile::tempdir().expect("a temporary folder");
    unpack(members, folder.path());
    std::fs::copy(trust, folder.path().join("trust.pem")).expect("a copy of the anchors");
    let readme = String::from_utf8(members["README.txt"].clone()).expect("README.txt is text");
    let (_, rest) = readme.split_once("paste from here").expect("a line to paste from");
    let (_, script) = rest.split_once('\n').expect("lines to paste");
    program::shell(script, folder.path())
}
