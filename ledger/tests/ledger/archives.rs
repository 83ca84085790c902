//! Archives: everything is found as before, what may not be packed is not, and no damaged or foreign archive is taken for a
//! good one. What a power cut makes of them is in `faults.rs` and `kill.rs`.

use std::{path::Path, sync::Arc};

use flate2::{Compress, Compression, FlushCompress};
use hufu_ledger::{
    AppendedBlock, Archived, CheckOptions, Error, Fault, Ledger, Log, NewBlock, NewEntry, Options, PerLog, check,
    check::check_on, merkle,
};

use crate::{
    common::{ID, NODE, QUALITY, append, key_of, make, options, public_key, signer},
    faulty::{Cut, FaultyStorage},
};

const ALL: PerLog<u64> = PerLog { trade: u64::MAX, finance: u64::MAX };

fn archive_all(ledger: &mut Ledger) -> Vec<Archived> {
    std::iter::from_fn(|| ledger.archive(ALL).unwrap()).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("seg-") || name.starts_with("arc-")).collect();
    names.sort();
    names
}

/// Bytes that look random and are the same in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Segments of several chunks; `body` is what the entry of a block says.
fn make_wide(dir: &Path, count: u64, body: impl Fn(u64) -> Vec<u8>) -> (Ledger, Vec<AppendedBlock>) {
    let options = Options { segment_size: 200 * 1024, ..Options::new(NODE) };
    Ledger::create(dir, &options, ID).unwrap();
    let (mut ledger, _) = Ledger::open(dir, &options).unwrap();
    let mut appended = Vec::new();
    for number in 0..count {
        let log = if number % 3 == 2 { Log::Finance } else { Log::Trade };
        let entries = vec![NewEntry { kind: 7, body: body(number), key: key_of(number), sealed: false }];
        appended.extend(ledger.append(&[NewBlock { log, entries }], &signer(), 0, 0, QUALITY).unwrap());
    }
    (ledger, appended)
}

/// Half of it is noise, so that a chunk shrinks to a half.
fn half_noise(number: u64) -> Vec<u8> {
    let mut body = noise(number, 1000);
    body.resize(2000, 0x5a);
    body
}

/// Everything that was appended is found and proven, and a full check finds no problem.
fn expect_whole(dir: &Path, ledger: &Ledger, appended: &[AppendedBlock]) {
    for block in appended {
        assert_eq!(ledger.block(block.log, block.height).unwrap(), block.bytes);
        let size = ledger.size(block.log);
        let path = ledger.prove(block.log, block.height, size).unwrap();
        let leaf = merkle::leaf(&block.block_hash);
        assert!(merkle::verify_path(&leaf, block.height, size, &path, &ledger.root(block.log)));
    }
    let key_of = |_: &hufu_gm::Hash| Some(public_key());
    let report = check(dir, &CheckOptions { key_of: Some(&key_of), ..CheckOptions::default() }).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.signatures, appended.len() as u64);
    assert_eq!(report.logs.trade.root, Some(ledger.root(Log::Trade)));
}

#[test]
fn what_is_archived_is_found_proven_and_checked_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, mut appended) = make(dir.path(), 40);
    let (stamp, before) = (ledger.stamp(), names(dir.path()));
    let keys: Vec<_> = (0..40).map(|number| ledger.find(&key_of(number * 100)).unwrap()).collect();
    let archived = archive_all(&mut ledger);
    assert_eq!(archived.len(), before.len() - 2);
    assert!(archived.iter().all(|one| one.packed.is_some_and(|packed| packed * 10 < one.bytes * 9)), "{archived:?}");
    let wanted: Vec<String> = (0..before.len())
        .map(|number| {
            let kind = if number + 2 < before.len() { "arc" } else { "seg" };
            format!("{kind}-{number:08}")
        })
        .collect();
    let mut found = names(dir.path());
    found.sort_by_key(|name| name[4..].to_owned());
    assert_eq!(found, wanted);
    for round in 0..2 {
        expect_whole(dir.path(), &ledger, &appended);
        let found: Vec<_> = (0..40).map(|number| ledger.find(&key_of(number * 100)).unwrap()).collect();
        assert_eq!(found, keys);
        assert!(ledger.holds(&stamp).unwrap());
        for size in 0..=40 {
            let proof = ledger.consistency(Log::Trade, size, 40).unwrap();
            let (old, new) = (ledger.root_at(Log::Trade, size).unwrap(), ledger.root_at(Log::Trade, 40).unwrap());
            assert!(merkle::verify_consistency(size, 40, &proof, &old, &new));
        }
        assert_eq!(Ledger::open_read_only(dir.path()).unwrap().stamp(), ledger.stamp());
        appended.extend(append(&mut ledger, 40 + round).unwrap());
        drop(ledger);
        let recovery;
        (ledger, recovery) = Ledger::open(dir.path(), &options()).unwrap();
        assert!(recovery.segments as usize >= before.len());
    }
}

#[test]
fn only_what_lies_below_is_packed_one_segment_a_call_and_never_by_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = make(dir.path(), 40);
    let mut reader = Ledger::open_read_only(dir.path()).unwrap();
    assert!(matches!(reader.archive(ALL), Err(Error::ReadOnly)));
    for below in [PerLog::default(), PerLog { trade: 40, finance: 0 }, PerLog { trade: 1, finance: 20 }] {
        assert_eq!(ledger.archive(below).unwrap(), None, "{below:?}");
    }
    assert_eq!(ledger.archive(PerLog { trade: 4, finance: 2 }).unwrap().map(|one| one.segment), Some(0));
    assert_eq!(names(dir.path())[..2], ["arc-00000000", "seg-00000001"]);
    // Who opened it before reads on, from the file that has lost its name or from the archive.
    for height in 0..40 {
        assert_eq!(reader.block(Log::Trade, height).unwrap(), ledger.block(Log::Trade, height).unwrap());
    }
}

#[test]
fn segments_of_many_chunks_are_packed_and_read_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, appended) = make_wide(dir.path(), 400, half_noise);
    let archived = archive_all(&mut ledger);
    assert!(archived.len() >= 2 && archived[0].bytes > 3 * 64 * 1024, "{archived:?}");
    expect_whole(dir.path(), &ledger, &appended);
    let mut order: Vec<&AppendedBlock> = appended.iter().collect();
    order.sort_by_key(|block| (block.height * 7919) % 401);
    for block in order {
        assert_eq!(ledger.block(block.log, block.height).unwrap(), block.bytes);
    }
    for (number, block) in (0..).zip(&appended) {
        assert_eq!(ledger.find(&key_of(number)).unwrap(), block.entries);
    }
}

#[test]
fn a_segment_that_would_not_shrink_stays_and_is_tried_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, appended) = make_wide(dir.path(), 40, |number| noise(number, 20_000));
    let before = names(dir.path());
    let archived = archive_all(&mut ledger);
    assert!(!archived.is_empty() && archived.iter().all(|one| one.packed.is_none()), "{archived:?}");
    assert_eq!((names(dir.path()), ledger.archive(ALL).unwrap()), (before, None));
    expect_whole(dir.path(), &ledger, &appended);
}

#[test]
fn a_damaged_segment_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = make(dir.path(), 20);
    for (name, at, wanted) in [("seg-00000000", 300, Fault::FrameCrc), ("seg-00000001", 2100, Fault::IndexMismatch)] {
        let path = dir.path().join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        match ledger.archive(ALL) {
            Err(Error::Damaged { fault, .. }) => assert_eq!(fault, wanted, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    assert_eq!(ledger.archive(ALL).unwrap().map(|one| one.segment), Some(2));
    append(&mut ledger, 20).unwrap();
}

#[test]
fn a_full_disk_costs_an_archive_and_nothing_else() {
    let disk = FaultyStorage::default();
    Ledger::create_on(&disk, &options(), ID).unwrap();
    let (mut ledger, _) = Ledger::open_on(Arc::new(disk.clone()), &options()).unwrap();
    (0..9).for_each(|number| drop(append(&mut ledger, number).unwrap()));
    let (names, used) = (disk.names(), disk.used());
    disk.room(Some(used + 500));
    assert!(matches!(ledger.archive(ALL), Err(Error::NoSpace { .. })));
    assert_eq!((disk.names(), disk.used()), (names, used), "nothing is left of it");
    disk.room(None);
    append(&mut ledger, 9).unwrap();
    assert_eq!(ledger.archive(ALL).unwrap().map(|one| one.segment), Some(0));
    assert!(disk.used() < used + 2 * 4096);
}

/// A small ledger in memory whose first segments are archives.
fn with_archives() -> (FaultyStorage, Vec<AppendedBlock>) {
    let disk = FaultyStorage::default();
    let small = Options { segment_size: 1000, ..options() };
    Ledger::create_on(&disk, &small, ID).unwrap();
    let (mut ledger, _) = Ledger::open_on(Arc::new(disk.clone()), &small).unwrap();
    let appended = (0..5).flat_map(|number| append(&mut ledger, number).unwrap()).collect();
    assert!(archive_all(&mut ledger).len() >= 2);
    drop(ledger);
    (disk.after(Cut::KeepAll), appended)
}

fn faults(disk: &FaultyStorage) -> Vec<Fault> {
    let report = check_on(disk, &CheckOptions { rereads: 0, ..CheckOptions::default() }).unwrap();
    report.problems.into_iter().map(|problem| problem.fault).collect()
}

#[test]
fn every_changed_bit_of_an_archive_is_found_and_gives_no_other_bytes() {
    let (disk, appended) = with_archives();
    assert_eq!(faults(&disk), []);
    for name in disk.names().iter().filter(|name| name.starts_with("arc-")) {
        let mut length = 0;
        disk.damage(name, |bytes| length = bytes.len());
        for bit in 0..length * 8 {
            let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
            disk.damage(name, flip);
            assert!(!faults(&disk).is_empty(), "{name} bit {bit}: not found");
            let ledger = Ledger::open_read_only_on(Arc::new(disk.clone())).unwrap();
            for block in &appended {
                match ledger.block(block.log, block.height) {
                    Ok(bytes) => assert_eq!(bytes, block.bytes, "{name} bit {bit}"),
                    Err(Error::Damaged { .. }) => {}
                    Err(error) => panic!("{name} bit {bit}: {error}"),
                }
            }
            disk.damage(name, flip);
        }
        for to in 0..length {
            let cut = disk.after(Cut::KeepAll);
            cut.damage(name, |bytes| bytes.truncate(to));
            let found = faults(&cut);
            assert!(matches!(found[0], Fault::ArchiveLength { .. }), "{name} cut to {to}: {found:?}");
        }
    }
    assert_eq!(faults(&disk), []);
}

/// What opening the archive of segment 0 says when its bytes are `bytes`, as a reader and a check see it.
fn refusal(disk: &FaultyStorage, bytes: &[u8]) -> Fault {
    disk.damage("arc-00000000", |archive| *archive = bytes.to_vec());
    let checked = faults(disk).into_iter().next().expect("a check finds it");
    let ledger = Ledger::open_read_only_on(Arc::new(disk.clone())).unwrap();
    match ledger.block(Log::Trade, 0) {
        Err(Error::Damaged { segment: 0, fault, .. }) => assert_eq!(fault, checked),
        other => panic!("{other:?}"),
    }
    assert!(matches!(ledger.find(&[1; 32]), Err(Error::Damaged { segment: 0, .. })));
    checked
}

/// An archive of one chunk with a good CRC everywhere, so that only what it unpacks to can be wrong.
fn forge(good: &[u8], packed: &[u8]) -> Vec<u8> {
    let mut bytes = good[..64].to_vec();
    let mut table = u32::try_from(packed.len()).unwrap().to_be_bytes().to_vec();
    table.extend(crc32c::crc32c(packed).to_be_bytes());
    bytes[48..52].copy_from_slice(&crc32c::crc32c(&table).to_be_bytes());
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_be_bytes());
    bytes.extend(table);
    bytes.extend(packed);
    bytes.extend(&good[good.len() - 32..]);
    bytes
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(64 * 1024);
    Compress::new(Compression::best(), false).compress_vec(bytes, &mut packed, FlushCompress::Finish).unwrap();
    packed
}

#[test]
fn every_archive_that_is_not_the_one_is_refused_for_its_own_reason() {
    let (disk, _) = with_archives();
    let (mut good, mut second) = (Vec::new(), Vec::new());
    disk.damage("arc-00000000", |bytes| good.clone_from(bytes));
    disk.damage("arc-00000001", |bytes| second.clone_from(bytes));
    let mut other = forge(&good, &good[72..good.len() - 32]);
    other[16] ^= 1;
    let crc = crc32c::crc32c(&other[..60]);
    other[60..64].copy_from_slice(&crc.to_be_bytes());
    let longer = [&good[..], &[0]].concat();
    let (wanted, found) = (good.len() as u64, good.len() as u64 + 1);
    assert_eq!(refusal(&disk, &second), Fault::ArchiveNumber(1));
    assert_eq!(refusal(&disk, &other), Fault::ArchiveLedger);
    assert_eq!(refusal(&disk, &longer), Fault::ArchiveLength { wanted, found });
    assert_eq!(refusal(&disk, &[]), Fault::ArchiveLength { wanted: 96, found: 0 });
    assert_eq!(refusal(&disk, &vec![0; good.len()]), Fault::ArchiveHeader);
    let segment_len = usize::try_from(u64::from_be_bytes(good[32..40].try_into().unwrap())).unwrap();
    // Ten million bytes in ten thousand, one byte too many, one too few, and bytes behind the end.
    let bomb = deflated(&vec![0; 10_000_000]);
    assert!(bomb.len() < 12_000, "{}", bomb.len());
    let behind = [deflated(&vec![0; segment_len]), vec![0]].concat();
    for packed in [bomb, deflated(&vec![0; segment_len + 1]), deflated(&vec![0; segment_len - 1]), behind, vec![]] {
        assert_eq!(refusal(&disk, &forge(&good, &packed)), Fault::ArchiveChunk(0), "{} bytes", packed.len());
    }
    let zeros = forge(&good, &deflated(&vec![0; segment_len]));
    disk.damage("arc-00000000", |bytes| *bytes = zeros);
    assert_eq!(faults(&disk)[..2], [Fault::ArchiveHash, Fault::SegmentHeader]);
    assert_eq!(refusal(&disk, &forge(&good, &vec![0; 64 * 1024 + 1])), Fault::ArchiveTable);
    disk.damage("arc-00000000", |bytes| *bytes = good);
    assert_eq!(faults(&disk), []);
}

#[test]
fn a_damaged_chunk_hides_its_blocks_only_and_the_first_of_them_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, appended) = make_wide(dir.path(), 400, half_noise);
    archive_all(&mut ledger);
    drop(ledger);
    let path = dir.path().join("arc-00000001");
    let mut bytes = std::fs::read(&path).unwrap();
    let chunks = u32::from_be_bytes(bytes[44..48].try_into().unwrap()) as usize;
    let first = u32::from_be_bytes(bytes[64..68].try_into().unwrap()) as usize;
    // In the second chunk, whose blocks are none of the segment's first or last.
    bytes[64 + 8 * chunks + first + 1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let ledger = Ledger::open_read_only(dir.path()).unwrap();
    let lost: Vec<&AppendedBlock> = appended
        .iter()
        .filter(|block| match ledger.block(block.log, block.height) {
            Ok(bytes) => bytes != block.bytes,
            Err(Error::Damaged { segment: 1, fault: Fault::ArchiveChunk(1), .. }) => true,
            Err(error) => panic!("{error}"),
        })
        .collect();
    assert!((10..60).contains(&lost.len()), "{} lost", lost.len());
    let report = check(dir.path(), &CheckOptions::default()).unwrap();
    assert_eq!(report.problems[0].fault, Fault::ArchiveChunk(1));
    for log in Log::ALL {
        let first = lost.iter().filter(|block| block.log == log).map(|block| block.height).min();
        assert_eq!(report.first_bad(log), first, "{:?}", report.problems);
    }
    assert_eq!(report.logs.trade.size, ledger.size(Log::Trade));
    assert!(report.problems.len() <= 4, "{:?}", report.problems);
}
