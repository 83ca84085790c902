//! The ledger as its users meet it: creating, opening, finding, proving, reading beside the writer.

use std::sync::Arc;

use hufu_ledger::{
    CheckOptions, Error, Fault, KeptBlock, Ledger, Log, Options, check, entry_hash, merkle, storage::Access,
    storage::Storage, verify_checkpoint,
};

use crate::{
    common::{ID, QUALITY, append, batch, key_of, make, new_block, options, public_key, signer},
    faulty::{Cut, FaultyStorage, Flavour},
};

#[test]
fn a_missing_ledger_is_an_error_and_stays_missing() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("gone");
    for path in [dir.path(), place.as_path()] {
        assert!(matches!(Ledger::open(path, &options()), Err(Error::Missing { .. })));
        assert!(matches!(Ledger::open_read_only(path), Err(Error::Missing { .. })));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "opening made something");
}

#[test]
fn a_ledger_is_created_once_and_never_over_another() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = make(dir.path(), 1);
    drop(ledger);
    assert!(matches!(Ledger::create(dir.path(), &options(), ID), Err(Error::Exists { .. })));
    // A ledger whose identity was lost is not an empty place either.
    std::fs::remove_file(dir.path().join("LEDGER")).unwrap();
    assert!(matches!(Ledger::create(dir.path(), &options(), ID), Err(Error::Exists { .. })));
}

#[test]
fn a_second_writer_is_refused_and_a_reader_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = make(dir.path(), 3);
    match Ledger::open(dir.path(), &options()) {
        Err(Error::InUse { path }) => assert_eq!(path, dir.path().join("LOCK")),
        other => panic!("{other:?}"),
    }
    let mut reader = Ledger::open_read_only(dir.path()).unwrap();
    assert_eq!(reader.stamp(), ledger.stamp());
    assert!(matches!(append(&mut reader, 9), Err(Error::ReadOnly)));
    append(&mut ledger, 3).unwrap();
    assert_eq!(Ledger::open_read_only(dir.path()).unwrap().stamp(), ledger.stamp());
    drop(ledger);
    assert!(Ledger::open(dir.path(), &options()).is_ok());
}

#[test]
fn another_node_s_ledger_and_a_bad_name_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(make(dir.path(), 1));
    let error = Ledger::open(dir.path(), &Options::new("node-2")).unwrap_err();
    assert!(matches!(error, Error::OtherNode { found, .. } if found == "node-1"));
    for name in ["", "Node", "a.b", "a b", "a/b/c", "/b", "a/", "ü", &"x".repeat(65)] {
        let result = Ledger::create(&dir.path().join("other"), &Options::new(name), ID);
        assert!(matches!(result, Err(Error::NodeName(found)) if found == name), "{name:?}");
    }
}

#[test]
fn everything_is_found_again_across_segments_and_openings() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, appended) = make(dir.path(), 40);
    let stamp = ledger.stamp();
    drop(ledger);
    let (ledger, recovery) = Ledger::open(dir.path(), &options()).unwrap();
    assert_eq!((ledger.stamp(), recovery.sizes), (stamp, stamp.size));
    assert!(recovery.segments > 5 && recovery.set_aside.is_empty(), "{recovery:?}");
    assert!(ledger.holds(&stamp).unwrap());
    for block in &appended {
        assert_eq!(ledger.block(block.log, block.height).unwrap(), block.bytes);
        for entry in &block.entries {
            let bytes = ledger.entry(entry.log, entry.height, entry.index).unwrap();
            assert_eq!(entry_hash(&bytes), entry.hash);
        }
    }
    for number in 0..40 {
        let wanted: Vec<_> = appended.iter().filter(|b| b.log == Log::Trade && b.height == number).collect();
        assert_eq!(ledger.find(&key_of(number * 100)).unwrap(), wanted[0].entries);
    }
    assert_eq!(ledger.find(&[0xee; 32]).unwrap(), []);
    let from_30: Vec<u64> = ledger.blocks(Log::Trade, 30).map(|block| block.unwrap().0).collect();
    assert_eq!(from_30, (30..40).collect::<Vec<_>>());
    assert!(matches!(ledger.block(Log::Trade, 40), Err(Error::Beyond { wanted: 40, size: 40, .. })));
    assert!(matches!(ledger.entry(Log::Trade, 0, 1), Err(Error::Beyond { .. })));
}

#[test]
fn a_key_used_often_is_found_everywhere_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = make(dir.path(), 0);
    let mut wanted = Vec::new();
    for number in 0..30 {
        let mut block = new_block(if number % 3 == 0 { Log::Finance } else { Log::Trade }, number, 2);
        block.entries[1].key = [0xa5; 32];
        wanted.push(ledger.append(&[block], &signer(), 0, 0, QUALITY).unwrap()[0].entries[1]);
    }
    wanted.sort_by_key(|entry| (entry.log, entry.height));
    assert_eq!(ledger.find(&[0xa5; 32]).unwrap(), wanted);
}

#[test]
fn every_block_is_proven_in_every_later_size_and_every_size_in_every_other() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = make(dir.path(), 24);
    let log = Log::Trade;
    for size in 0..=24 {
        let root = ledger.root_at(log, size).unwrap();
        for height in 0..size {
            let block = hufu_ledger::Block::from_bytes(&ledger.block(log, height).unwrap()).unwrap();
            let path = ledger.prove(log, height, size).unwrap();
            assert!(merkle::verify_path(&merkle::leaf(&block.hash()), height, size, &path, &root));
        }
        for before in 0..=size {
            let proof = ledger.consistency(log, before, size).unwrap();
            assert!(merkle::verify_consistency(before, size, &proof, &ledger.root_at(log, before).unwrap(), &root));
        }
    }
    assert!(matches!(ledger.prove(log, 24, 25), Err(Error::Beyond { .. })));
    assert!(matches!(ledger.prove(log, 5, 5), Err(Error::Beyond { .. })));
    assert!(matches!(ledger.consistency(log, 7, 6), Err(Error::Beyond { .. })));
    let signed = ledger.checkpoint(log, &signer(), 77).unwrap();
    let checkpoint = verify_checkpoint(&signed, &public_key()).unwrap();
    assert_eq!((checkpoint.size, checkpoint.root, checkpoint.time), (24, ledger.root(log), 77));
}

#[test]
fn a_batch_is_one_frame_and_may_outgrow_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = make(dir.path(), 0);
    let logs = Log::ALL.into_iter().cycle();
    let blocks: Vec<_> = logs.zip(0..20).map(|(log, number)| new_block(log, number, 64)).collect();
    let appended = ledger.append(&blocks, &signer(), 0, 0, QUALITY).unwrap();
    assert_eq!(appended.iter().map(|block| block.height).max(), Some(9));
    drop(ledger);
    let (mut ledger, _) = Ledger::open(dir.path(), &options()).unwrap();
    assert_eq!(ledger.block(Log::Finance, 9).unwrap(), appended[19].bytes);
    for count in [0, 257] {
        let blocks: Vec<_> = (0..count).map(|number| new_block(Log::Trade, number, 1)).collect();
        assert!(matches!(ledger.append(&blocks, &signer(), 0, 0, QUALITY), Err(Error::BatchSize { .. })), "{count}");
    }
    append(&mut ledger, 1).unwrap();
}

fn torn() -> FaultyStorage {
    let disk = FaultyStorage::default();
    Ledger::create_on(&disk, &options(), ID).unwrap();
    let (mut ledger, _) = Ledger::open_on(Arc::new(disk.clone()), &options()).unwrap();
    append(&mut ledger, 0).unwrap();
    disk.fail(1, Flavour::Torn);
    append(&mut ledger, 1).unwrap_err();
    disk.after(Cut::KeepAll)
}

#[test]
fn a_bad_tail_is_kept_reported_every_time_and_the_next_segment_names_its_end() {
    let disk = torn();
    let reader = Ledger::open_read_only_on(Arc::new(disk.clone())).unwrap();
    assert_eq!((reader.size(Log::Trade), reader.size(Log::Finance)), (1, 0));
    let mut reports = Vec::new();
    for number in 1..4 {
        let (mut ledger, recovery) = Ledger::open_on(Arc::new(disk.clone()), &options()).unwrap();
        reports.push(recovery.set_aside);
        append(&mut ledger, number).unwrap();
    }
    assert_eq!(reports[0].len(), 1);
    assert!(reports.iter().all(|report| *report == reports[0]));
    let tail = &reports[0][0];
    let name = format!("tail-00000000-{}.bad", tail.offset);
    assert_eq!((tail.segment, tail.path.clone()), (0, disk.path(&name)));
    let kept = disk.open(&name, Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(tail.length).unwrap()];
    kept.read_at(&mut bytes, 0).unwrap();
    assert_eq!(hufu_gm::sm3::sm3(&[&bytes]), tail.sm3);
    let (ledger, _) = Ledger::open_on(Arc::new(disk), &options()).unwrap();
    assert_eq!(ledger.size(Log::Trade), 4);
}

#[test]
fn damage_before_a_good_frame_is_never_repaired() {
    let disk = FaultyStorage::default();
    Ledger::create_on(&disk, &options(), ID).unwrap();
    let (mut ledger, _) = Ledger::open_on(Arc::new(disk.clone()), &options()).unwrap();
    append(&mut ledger, 0).unwrap();
    append(&mut ledger, 2).unwrap();
    drop(ledger);
    disk.damage("seg-00000000", |bytes| bytes[128 + 100] ^= 1);
    match Ledger::open_on(Arc::new(disk), &options()) {
        Err(Error::Damaged { segment: 0, offset: 128, log: Some(Log::Trade), height: Some(0), fault }) => {
            assert!(matches!(fault, Fault::GoodFrameFollows(_)), "{fault}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_segment_and_one_of_another_ledger_are_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(make(dir.path(), 12));
    let place = |number: u32| dir.path().join(format!("seg-{number:08}"));
    let kept = std::fs::read(place(1)).unwrap();
    std::fs::remove_file(place(1)).unwrap();
    let error = Ledger::open(dir.path(), &options()).unwrap_err();
    assert!(matches!(error, Error::Damaged { segment: 1, fault: Fault::SegmentMissing, .. }), "{error}");
    let other = tempfile::tempdir().unwrap();
    Ledger::create(other.path(), &options(), [1; 16]).unwrap();
    std::fs::copy(other.path().join("seg-00000000"), place(1)).unwrap();
    // Opening reads the last two segments only: an older one is found out by who asks it, and by a check.
    let (ledger, _) = Ledger::open(dir.path(), &options()).unwrap();
    let errors: Vec<Error> = (0..12).filter_map(|height| ledger.block(Log::Trade, height).err()).collect();
    assert!(!errors.is_empty());
    for error in errors {
        assert!(matches!(error, Error::Damaged { segment: 1, fault: Fault::SegmentSeal, .. }), "{error}");
    }
    assert!(matches!(ledger.find(&[1; 32]), Err(Error::Damaged { segment: 1, .. })));
    drop(ledger);
    let report = check(dir.path(), &CheckOptions::default()).unwrap();
    assert_eq!((report.problems[0].segment, &report.problems[0].fault), (1, &Fault::SegmentLink));
    std::fs::copy(other.path().join("seg-00000000"), place(5)).unwrap();
    let error = Ledger::open(dir.path(), &options()).unwrap_err();
    assert!(matches!(error, Error::Damaged { segment: 5, fault: Fault::SegmentLink, .. }), "{error}");
    std::fs::write(place(1), kept).unwrap();
    std::fs::remove_file(place(5)).unwrap();
    // A ledger cut at a segment's end is whole in itself: only a checkpoint or a receipt shows what is missing.
    Ledger::open(dir.path(), &options()).unwrap();
}

#[test]
fn kept_blocks_are_taken_back_in_their_order_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, appended) = make(dir.path(), 20);
    let kept = |block: &hufu_ledger::AppendedBlock| KeptBlock {
        bytes: block.bytes.clone(),
        keys: block.entries.iter().map(|_| key_of(block.height)).collect(),
        sealed: Vec::new(),
    };
    let kept: Vec<KeptBlock> = appended.iter().map(kept).collect();
    let again = tempfile::tempdir().unwrap();
    let (mut copy, _) = make(again.path(), 0);
    for blocks in kept.chunks(7) {
        copy.restore(blocks).unwrap();
    }
    assert_eq!(copy.stamp(), ledger.stamp());
    assert_eq!(copy.find(&key_of(3)).unwrap().len(), 1 + 3);
    assert_eq!(check(again.path(), &CheckOptions::default()).unwrap().problems, []);
    let refused = |copy: &mut Ledger, blocks: &[KeptBlock], wanted: Fault| match copy.restore(blocks) {
        Err(Error::Refused { fault, .. }) => assert_eq!(fault, wanted),
        other => panic!("{other:?}"),
    };
    refused(&mut copy, &kept[..1], Fault::WrongHeight { wanted: 20, found: 0 });
    let fewer = KeptBlock { keys: Vec::new(), ..kept[0].clone() };
    let place = tempfile::tempdir().unwrap();
    let (mut empty, _) = make(place.path(), 0);
    refused(&mut empty, &[fewer], Fault::FramePayload);
    refused(&mut empty, &[kept[0].clone(), kept[0].clone()], Fault::WrongHeight { wanted: 1, found: 0 });
    assert_eq!(empty.size(Log::Trade), 0, "a refused batch left nothing");
    append(&mut copy, 20).unwrap();
}

#[test]
fn batches_signed_ahead_are_appended_in_their_order_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = make(dir.path(), 3);
    let mut plan = ledger.plan();
    let mut sign = |number: u64, epoch: u64| plan.sign(&batch(number), &signer(), epoch, 0, QUALITY);
    let (first, second) = (sign(3, 1).unwrap(), sign(5, 1).unwrap());
    assert!(matches!(sign(7, 0), Err(Error::Refused { fault: Fault::EpochBackwards { from: 1, to: 0 }, .. })));
    let third = sign(9, 1).unwrap();
    let unwanted = ledger.plan().sign(&batch(11), &signer(), 1, 0, QUALITY).unwrap();
    ledger.commit(first).unwrap();
    assert!(matches!(ledger.commit(third), Err(Error::Refused { fault: Fault::WrongHeight { .. }, .. })));
    ledger.commit(second).unwrap();
    assert!(matches!(ledger.commit(unwanted), Err(Error::Refused { fault: Fault::WrongHeight { .. }, .. })));
    append(&mut ledger, 12).unwrap_err();
    assert_eq!((ledger.size(Log::Trade), ledger.size(Log::Finance)), (5, 3));
    assert_eq!(check(dir.path(), &CheckOptions::default()).unwrap().problems, []);
}

#[test]
fn opening_reads_no_more_and_a_batch_syncs_no_more_often_when_the_ledger_is_high() {
    let disk = FaultyStorage::default();
    Ledger::create_on(&disk, &options(), ID).unwrap();
    let opened = || Ledger::open_on(Arc::new(disk.clone()), &options()).unwrap().0;
    let mut number = 0;
    for height in [3, 50, 400, 800] {
        let mut ledger = opened();
        while ledger.size(Log::Trade) < height {
            append(&mut ledger, number).unwrap();
            number += 1;
        }
        // Two segments begin and end at most; each is two more.
        let (_, before) = disk.costs();
        for _ in 0..4 {
            append(&mut ledger, number).unwrap();
            number += 1;
        }
        let syncs = disk.costs().1 - before;
        assert!((4..=4 + 2 * 2).contains(&syncs), "height {height}: {syncs} syncs for 4 batches");
        drop(ledger);
        let (before, _) = disk.costs();
        drop(opened());
        let read = disk.costs().0 - before;
        // The last segment, its last frame once more, and behind the one before it a seal and where the logs stand.
        assert!(read < 3 * 2048 + 64 * 32, "height {height}: {read} bytes read");
    }
    assert!(disk.used() > 100 * 2048);
}
