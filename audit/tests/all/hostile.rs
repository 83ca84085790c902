//! Containers made to hurt: bombs, claims, floods, names that climb or come twice, zips of others. None panics, none is
//! unpacked beyond the limits, none takes long.

use std::io::{Cursor, Write};

use hufu_audit::{Error, Exit, Options, limits, verify};
use hufu_gm::sm3::sm3;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::{Files, LIST, RECORDS, judge, pack_of, parties::Parties, said, stored, synthetic::Plan, unzip, zip};

fn small() -> (Parties, Files) {
    let (parties, pack) = pack_of(&Plan { records: 2, ..Plan::default() });
    (parties, unzip(&pack))
}

fn answer(pack: &[u8]) -> Result<Exit, Error> {
    verify(Cursor::new(pack), &[], Options::default()).map(|verdicts| verdicts.exit())
}

fn numbered(files: &mut Files, count: usize, name: impl Fn(usize) -> String, content: &[u8]) {
    files.extend((0..count).map(|number| (name(number), content.to_vec())));
}

/// A pack that is too large in one way: what it is called, what is too large, and how it comes about.
type Excess = (&'static str, &'static str, fn(&mut Files));

fn excesses() -> [Excess; 10] {
    [
        ("a member that expands", "a member", |files| {
            files.insert("entries/records-9.der".into(), vec![0; 9 << 20]);
        }),
        ("an entry larger than a block", "a member", |files| {
            files.insert("entries/0-0-9-usage.der".into(), vec![0; 65 << 10]);
        }),
        ("a path that never ends", "a member", |files| {
            files.insert("proofs/x.path".into(), b"L 00\n".repeat(2_000));
        }),
        ("a little that expands more than sixteenfold", "what the pack unpacks to", |files| {
            files.insert("entries/records-9.der".into(), vec![0; 3 << 20]);
        }),
        ("members that expand together", "what the pack unpacks to", |files| {
            numbered(files, 30, |number| format!("entries/records-{number}.der"), &vec![0; 8 << 20]);
        }),
        ("certificates by the hundred", "the number of certificates, revocation lists or time-stamps", |files| {
            let one = files.iter().find(|(name, _)| name.starts_with("certs/")).map(|(_, pem)| pem.clone());
            numbered(files, 100, |number| format!("certs/x-{number}.pem"), &one.unwrap());
        }),
        ("revocation lists by the dozen", "the number of certificates, revocation lists or time-stamps", |files| {
            let one = files.iter().find(|(name, _)| name.starts_with("crls/")).map(|(_, pem)| pem.clone());
            numbered(files, 12, |number| format!("crls/x-{number}.pem"), &one.unwrap());
        }),
        ("lines of the index by the thousand", "an index", |files| {
            let index = files["signed/index.tsv"].clone();
            files.insert("signed/index.tsv".into(), index.repeat(500));
        }),
        ("proofs by the thousand", "an index", |files| {
            let index = files["proofs/index.tsv"].clone();
            files.insert("proofs/index.tsv".into(), index.repeat(1_000));
        }),
        ("more entries than any pack has", "the number of entries", |files| {
            let list = b"0-1-0-usage\t1\n".repeat(limits::ENTRIES_MAX / 2 + 1);
            let sum = hex::encode(sm3(&[&list]));
            for number in [1, 2] {
                let content = [list.as_slice(), b"sm3\t", sum.as_bytes(), b"\n"].concat();
                files.insert(format!("entries/records-{number}.tsv"), content);
                files.insert(format!("entries/records-{number}.der"), vec![0; limits::ENTRIES_MAX / 2 + 1]);
            }
        }),
    ]
}

/// The packs beyond a limit: name, what is beyond it, bytes.
pub(crate) fn beyond() -> impl Iterator<Item = (&'static str, &'static str, Vec<u8>)> {
    let (_, files) = small();
    excesses().into_iter().map(move |(name, want, change)| {
        let mut files = files.clone();
        change(&mut files);
        // What is beyond a limit of its own is so however it was packed.
        let bomb = want == "what the pack unpacks to" || want == "a member";
        let method = if bomb { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        (name, want, zip(&files, method, false))
    })
}

#[test]
fn what_is_beyond_the_limits_is_not_unpacked() {
    for (name, want, pack) in beyond() {
        let got = answer(&pack);
        assert!(matches!(got, Err(Error::TooLarge { what, .. }) if what == want), "{name}: {got:?}");
    }
}

#[test]
fn a_flood_of_members_is_not_read() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for number in 0..=limits::MEMBERS_MAX {
        writer.start_file(format!("entries/{number}"), SimpleFileOptions::default()).unwrap();
    }
    let flood = writer.finish().unwrap().into_inner();
    let got = answer(&flood);
    assert!(matches!(got, Err(Error::TooLarge { .. })), "{got:?}");
}

/// The end of a zip of the 64-bit form, claiming `count` members in a directory of `size` bytes at `offset`.
fn end_64(count: u64, size: u64, offset: u64) -> Vec<u8> {
    let mut bytes = b"PK\x06\x06".to_vec();
    bytes.extend(44_u64.to_le_bytes());
    bytes.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for value in [count, count, size, offset] {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes
}

#[test]
fn what_a_container_claims_is_not_reserved() {
    let (_, files) = small();
    let pack = stored(&files);
    for count in [3, 1 << 20, 1 << 32, 1 << 40, u64::MAX / 400, u64::MAX] {
        for (size, offset) in
            [(u64::MAX, 0), (1 << 60, 1 << 60), (1 << 40, 1 << 41), (46, 0), (0, u64::MAX), (u64::MAX, u64::MAX)]
        {
            let mut bytes = pack.clone();
            let at = u64::try_from(bytes.len()).unwrap();
            bytes.extend(end_64(count, size, offset));
            bytes.extend(at.to_le_bytes());
            bytes.extend(1_u32.to_le_bytes());
            bytes.extend(b"PK\x05\x06\0\0\0\0");
            bytes.extend([0xff; 12]);
            bytes.extend([0, 0]);
            // Whether the reader finds the older end before it or gives up: it must come back, and soon.
            let _ = answer(&bytes);
        }
    }
    // Sizes, offsets and lengths in the directory at their largest.
    let directory = pack.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    for at in (directory..pack.len() - 4).step_by(7) {
        let mut bytes = pack.clone();
        bytes[at..at + 4].fill(0xff);
        let _ = answer(&bytes);
    }
}

#[test]
fn a_name_that_comes_twice_is_not_believed() {
    let (parties, mut files) = small();
    // Two members of one name: written under two, then renamed in the bytes.
    for (alias, name) in [("bill.dex", "bill.der"), ("entries/records-1.dex", RECORDS), ("entries/records-1.tsx", LIST)]
    {
        files.insert(alias.into(), b"other".to_vec());
        let mut bytes = stored(&files);
        while let Some(at) = bytes.windows(alias.len()).position(|window| window == alias.as_bytes()) {
            bytes[at..at + alias.len()].copy_from_slice(name.as_bytes());
        }
        files.remove(alias);
        let verdicts = judge(&bytes, &parties);
        assert_eq!(verdicts.exit(), Exit::No, "{name}: {}", said(&verdicts));
    }
}

#[test]
fn names_that_climb_or_do_not_belong_are_not_looked_at() {
    let (parties, mut files) = small();
    let want = judge(&stored(&files), &parties);
    for name in [
        "../bill.der",
        "../../etc/passwd",
        "/etc/passwd",
        "entries/../bill.json",
        "entries/deeper/0-1-1-usage.der",
        "entries\\0-1-1-usage.der",
        "C:\\bill.der",
        "certs/\u{202e}mep.x",
        "notes.txt",
        "signed/",
        "Bill.der",
    ] {
        files.insert(name.into(), vec![0; 1 << 20]);
    }
    assert_eq!(judge(&stored(&files), &parties), want);
    // A name of the layout that is no part of this pack is a piece that nothing vouches for.
    files.insert("entries/0-9999-0-usage.der".into(), vec![0; 100]);
    assert_eq!(judge(&stored(&files), &parties).exit(), Exit::No);
}

#[test]
fn zips_of_others_are_told_apart() {
    let one = |name: &str, content: &[u8]| {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap().into_inner()
    };
    assert!(matches!(answer(b""), Err(Error::Unreadable { .. })));
    assert!(matches!(answer(b"%PDF-1.7\n"), Err(Error::Unreadable { .. })));
    assert!(matches!(answer(&[0; 4_096]), Err(Error::Unreadable { .. })));
    assert!(matches!(answer(&one("META-INF/MANIFEST.MF", b"x")), Err(Error::NoBill)));
    assert!(matches!(answer(&one("bill.der", b"not a bill")), Ok(Exit::No)));
    assert!(matches!(answer(&one("bill.der", b"")), Ok(Exit::No)));
}
