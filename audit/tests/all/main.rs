//! The tests of the evidence pack, in one program: building, judging, damage, and a stock OpenSSL.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop there")]

mod changes;
mod damage;
mod dispute;
mod hostile;
mod interop;
mod money;
mod openssl;
mod parties;
mod periods;
mod prepaid;
mod report;
mod story;
mod suggestion;
mod synthetic;
mod versions;
mod witnesses;

use std::{
    collections::BTreeMap,
    io::{Cursor, Read, Write},
};

use hufu_audit::{Lang, Options, Outcome, Verdicts, pack::build, verify};
use parties::{Parties, parties};
use synthetic::{Plan, play};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

/// Plays `plan` and gives its pack, long enough for its usage records to lie together.
fn pack_of(plan: &Plan) -> (Parties, Vec<u8>) {
    pack_with(plan, 0)
}

/// The pack of `plan` with at most so many files of entries.
fn pack_with(plan: &Plan, entry_files_max: usize) -> (Parties, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let parties = parties(plan.names).unwrap();
    let mut input = play(dir.path(), &parties, plan).unwrap();
    input.entry_files_max = entry_files_max;
    let mut pack = Cursor::new(Vec::new());
    build(&input, &mut pack).unwrap();
    (parties, pack.into_inner())
}

fn judge(pack: &[u8], parties: &Parties) -> Verdicts {
    verify(Cursor::new(pack), std::slice::from_ref(&parties.root), Options::default()).unwrap()
}

/// The results in the order signatures, completeness, data quality, arithmetic: `p`, `w` or `f` each.
fn results(verdicts: &Verdicts) -> String {
    let letter = |outcome: Outcome| match outcome {
        Outcome::Pass => 'p',
        Outcome::Warn => 'w',
        Outcome::Fail => 'f',
    };
    verdicts.each().iter().map(|(_, verdict)| letter(verdict.result)).collect()
}

fn said(verdicts: &Verdicts) -> String {
    verdicts.to_text(Lang::En)
}

type Files = BTreeMap<String, Vec<u8>>;

fn unzip(pack: &[u8]) -> Files {
    let mut archive = ZipArchive::new(Cursor::new(pack)).unwrap();
    let mut files = Files::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        files.insert(file.name().unwrap().into_owned(), content);
    }
    files
}

/// Zips again, in the order of names or backwards, stored or deflated.
fn zip(files: &Files, method: CompressionMethod, backwards: bool) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let mut names: Vec<&String> = files.keys().collect();
    if backwards {
        names.reverse();
    }
    for name in names {
        writer.start_file(name.as_str(), SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(&files[name]).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn stored(files: &Files) -> Vec<u8> {
    zip(files, CompressionMethod::Stored, false)
}

const RECORDS: &str = "entries/records-1.der";
const LIST: &str = "entries/records-1.tsv";

/// The usage records that lie together: where each stands, and its bytes.
fn records(files: &Files) -> Vec<(String, Vec<u8>)> {
    let (mut bytes, list) = (files[RECORDS].as_slice(), String::from_utf8(files[LIST].clone()).unwrap());
    let lines = list.lines().filter_map(|line| line.split_once('\t')).filter(|(stem, _)| *stem != "sm3");
    let pieces = lines.map(|(stem, length)| {
        let (piece, rest) = bytes.split_at(length.parse().unwrap());
        bytes = rest;
        (stem.to_owned(), piece.to_vec())
    });
    pieces.collect()
}

/// Puts records together, with a list that is right.
fn join(files: &mut Files, records: &[(String, Vec<u8>)]) {
    let list: String = records.iter().map(|(stem, bytes)| format!("{stem}\t{}\n", bytes.len())).collect();
    let sum = hex::encode(hufu_gm::sm3::sm3(&[list.as_bytes()]));
    files.insert(LIST.into(), format!("{list}sm3\t{sum}\n").into_bytes());
    files.insert(RECORDS.into(), records.iter().flat_map(|(_, bytes)| bytes.clone()).collect());
}

/// The only member whose name begins and ends so.
fn only(files: &Files, begins: &str, ends: &str) -> String {
    let mut found = files.keys().filter(|name| name.starts_with(begins) && name.ends_with(ends));
    let name = found.next().unwrap_or_else(|| panic!("no {begins}*{ends}"));
    assert_eq!(found.next(), None, "several {begins}*{ends}");
    name.clone()
}
