//! The full check: finds every changed byte, names the block, and goes on.

use std::sync::Arc;

use hufu_gm::Hash;
use hufu_ledger::{
    AppendedBlock, CheckOptions, Checkpoint, Fault, Ledger, Log, PerLog, Problem, Report, check, check::check_on,
};

use crate::{
    common::{CERT_ID, ID, SALT_KEY, append, make, options, public_key},
    faulty::{Cut, FaultyStorage},
};

fn filled(batches: u64) -> (FaultyStorage, Vec<AppendedBlock>) {
    let disk = FaultyStorage::default();
    Ledger::create_on(&disk, &options(), ID).unwrap();
    let (mut ledger, _) = Ledger::open_on(Arc::new(disk.clone()), &options()).unwrap();
    let acked = (0..batches).flat_map(|number| append(&mut ledger, number).unwrap()).collect();
    (disk, acked)
}

fn checked(disk: &FaultyStorage) -> Report {
    check_on(disk, &CheckOptions { rereads: 0, ..CheckOptions::default() }).unwrap()
}

#[test]
fn a_good_ledger_has_no_problems_and_every_signature_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, appended) = make(dir.path(), 12);
    let signed = ledger.checkpoint(Log::Trade, &crate::common::signer(), 5).unwrap();
    let kept = Checkpoint::from_bytes(signed.tbs()).unwrap();
    let key_of = |id: &Hash| (*id == CERT_ID).then(public_key);
    let options = CheckOptions {
        keys: None,
        key_of: Some(&key_of),
        may_sign: None,
        opens: None,
        salt_key: Some(&SALT_KEY),
        checkpoints: std::slice::from_ref(&kept),
        rereads: 0,
        threads: 2,
    };
    let report = check(dir.path(), &options).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.signatures, appended.len() as u64);
    assert_eq!((report.node.as_str(), report.entries), ("node-1", 12 + 6 * 3));
    assert_eq!(report.logs.trade.root, Some(ledger.root(Log::Trade)));
    assert_eq!(report.logs.trade.head_time, Some(1_700_000_000_000_000_011));

    let strangers = |_: &Hash| None;
    let report = check(dir.path(), &CheckOptions { key_of: Some(&strangers), ..CheckOptions::default() }).unwrap();
    assert!(report.problems.iter().all(|problem| problem.fault == Fault::UnknownCertificate));
    assert_eq!(report.problems.len(), appended.len());
    // The key was changed: from height 9 of the trade log and 4 of the finance log on another one signs.
    let until = |log: Log, height: u64, id: &Hash| *id == CERT_ID && height < if log == Log::Trade { 9 } else { 4 };
    let report = check(dir.path(), &CheckOptions { may_sign: Some(&until), ..CheckOptions::default() }).unwrap();
    assert!(report.problems.iter().all(|problem| problem.fault == Fault::KeyNotInForce));
    let mut late: Vec<_> = appended.iter().map(|block| (block.log, block.height)).collect();
    late.retain(|(log, height)| !until(*log, *height, &CERT_ID));
    let found: Vec<_> = report.problems.iter().map(|p| (p.log.unwrap(), p.height.unwrap())).collect();
    assert_eq!(found, late);
    assert!(late.len() > 2 && late.len() < appended.len());
    let report = check(dir.path(), &CheckOptions { salt_key: Some(&[0; 32]), ..CheckOptions::default() }).unwrap();
    assert_eq!(report.problems.len(), 30);
    let other = Checkpoint { root: [1; 32], ..kept.clone() };
    let later = Checkpoint { size: 13, ..kept };
    let report = check(dir.path(), &CheckOptions { checkpoints: &[other, later], ..CheckOptions::default() }).unwrap();
    let faults: Vec<Fault> = report.problems.into_iter().map(|problem| problem.fault).collect();
    assert_eq!(faults, [Fault::WrongCheckpoint(12), Fault::MissingBlocks(13)]);
}

#[test]
fn every_changed_byte_is_found_and_opening_never_gives_other_bytes() {
    let (disk, acked) = filled(6);
    let names = ["LEDGER", "seg-00000000", "seg-00000001", "seg-00000002"];
    let last_frame: Vec<&AppendedBlock> = acked.iter().rev().take(2).collect();
    for name in names {
        let mut length = 0;
        disk.damage(name, |bytes| length = bytes.len());
        for at in 0..length {
            let bad = disk.after(Cut::KeepAll);
            bad.damage(name, |bytes| bytes[at] ^= 1 << (at % 8));
            let report = checked(&bad);
            assert!(!report.problems.is_empty(), "{name} byte {at}: not found");
            let Ok((ledger, recovery)) = Ledger::open_on(Arc::new(bad), &options()) else { continue };
            for block in &acked {
                match ledger.block(block.log, block.height) {
                    Ok(bytes) => assert_eq!(bytes, block.bytes, "{name} byte {at}: other bytes"),
                    Err(hufu_ledger::Error::Damaged { .. }) => {}
                    Err(error) => {
                        let set_aside = last_frame.contains(&block) && recovery.set_aside.len() == 1;
                        assert!(set_aside, "{name} byte {at}: {error}");
                    }
                }
            }
        }
    }
}

/// A ledger of an archive with a tail that was set aside, a sealed segment, and one that is being written.
fn with_a_tail() -> FaultyStorage {
    let disk = FaultyStorage::default();
    let small = hufu_ledger::Options { segment_size: 1000, ..options() };
    Ledger::create_on(&disk, &small, ID).unwrap();
    let (mut ledger, _) = Ledger::open_on(Arc::new(disk.clone()), &small).unwrap();
    append(&mut ledger, 0).unwrap();
    disk.fail(1, crate::faulty::Flavour::Torn);
    append(&mut ledger, 2).unwrap_err();
    drop(ledger);
    let disk = disk.after(Cut::KeepAll);
    let (mut ledger, recovery) = Ledger::open_on(Arc::new(disk.clone()), &small).unwrap();
    assert_eq!(recovery.set_aside.len(), 1);
    append(&mut ledger, 2).unwrap();
    append(&mut ledger, 4).unwrap();
    append(&mut ledger, 6).unwrap();
    let archived = ledger.archive(PerLog { trade: 1, finance: 0 }).unwrap();
    assert_eq!(archived.map(|archived| archived.segment), Some(0));
    drop(ledger);
    disk.after(Cut::KeepAll)
}

#[test]
fn every_changed_bit_of_every_file_is_found() {
    let disk = with_a_tail();
    assert_eq!(checked(&disk).problems, []);
    let names = disk.names();
    let wanted = ["LEDGER", "LOCK", "arc-00000000", "seg-00000001", "seg-00000002"];
    assert!(wanted.iter().all(|name| names.iter().any(|found| found == name)) && names.len() == 6, "{names:?}");
    for name in &names {
        let mut bytes = Vec::new();
        disk.damage(name, |found| bytes.clone_from(found));
        for (at, byte) in bytes.iter().enumerate() {
            // Of what is still empty one bit is enough.
            let bits = if *byte == 0 { at % 8..at % 8 + 1 } else { 0..8 };
            for bit in bits {
                disk.damage(name, |bytes| bytes[at] ^= 1 << bit);
                assert!(!checked(&disk).problems.is_empty(), "{name} byte {at} bit {bit}: not found");
                disk.damage(name, |bytes| bytes[at] ^= 1 << bit);
            }
        }
    }
    assert_eq!(checked(&disk).problems, []);
}

#[test]
fn every_truncated_file_is_found() {
    let (disk, _) = filled(6);
    for name in ["LEDGER", "seg-00000000", "seg-00000002"] {
        let mut length = 0;
        disk.damage(name, |bytes| length = bytes.len());
        for to in (0..length).step_by(13) {
            let bad = disk.after(Cut::KeepAll);
            bad.damage(name, |bytes| bytes.truncate(to));
            assert!(!checked(&bad).problems.is_empty(), "{name} cut to {to}: not found");
            // Opening reads the last two segments only; what is in an older one is missed when it is asked for.
            let Ok((ledger, _)) = Ledger::open_on(Arc::new(bad), &options()) else { continue };
            let damaged = |block| matches!(block, Err(hufu_ledger::Error::Damaged { segment: 0, .. }));
            assert!(name == "seg-00000000" && damaged(ledger.block(Log::Trade, 0)), "{name} cut to {to}: opened");
        }
    }
}

#[test]
fn a_changed_entry_is_named_and_the_check_goes_on() {
    let (disk, acked) = filled(8);
    let victims: Vec<&AppendedBlock> = [1, 6].map(|at| &acked[at]).to_vec();
    for segment in 0..4 {
        for victim in &victims {
            let name = format!("seg-{segment:08}");
            disk.damage(&name, |bytes| {
                let place = bytes.windows(victim.bytes.len()).position(|window| window == victim.bytes);
                if let Some(place) = place {
                    // The last byte of a block is the last byte of its last entry's body.
                    bytes[place + victim.bytes.len() - 1] ^= 1;
                }
            });
        }
    }
    let report = checked(&disk);
    for victim in &victims {
        let named = report.problems.iter().any(|problem| {
            (problem.log, problem.height, &problem.fault) == (Some(victim.log), Some(victim.height), &Fault::WrongRoot)
        });
        assert!(named, "{} height {} is not named in {:?}", victim.log, victim.height, report.problems);
    }
    for log in Log::ALL {
        let first = victims.iter().filter(|victim| victim.log == log).map(|victim| victim.height).min();
        assert!(first.is_none() || report.first_bad(log) == first, "{log}: {:?}", report.first_bad(log));
    }
    assert_eq!((report.logs.trade.size, report.logs.finance.size), (8, 4));
    let text = report.problems[1].to_string();
    assert!(text.starts_with("seg-0000000") && text.contains("height"), "{text}");
}

#[test]
fn a_missing_segment_and_its_blocks_are_named_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = make(dir.path(), 12);
    std::fs::remove_file(dir.path().join("seg-00000001")).unwrap();
    let report = check(dir.path(), &CheckOptions::default()).unwrap();
    let found = |problem: &Problem| (problem.log, problem.height, problem.fault.clone());
    let found: Vec<_> = report.problems.iter().map(found).collect();
    let lost = |log, first, last| (Some(log), Some(first), Fault::BlocksMissing(last));
    let wanted = [(None, None, Fault::SegmentMissing), lost(Log::Trade, 3, 4), lost(Log::Finance, 1, 1)];
    assert_eq!(found, wanted);
    assert_eq!(report.logs.trade.size, ledger.size(Log::Trade));
    assert_eq!(report.logs.trade.root, None);
}

#[test]
fn a_check_beside_an_appending_writer_finds_no_problem() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = make(dir.path(), 1);
    let (done, stop) = std::sync::mpsc::sync_channel::<()>(1);
    let place = dir.path().to_owned();
    let reader = std::thread::spawn(move || {
        let mut checks = 0;
        while stop.try_recv().is_err() {
            let report = check(&place, &CheckOptions::default()).unwrap();
            assert_eq!(report.problems, []);
            let reader = Ledger::open_read_only(&place).unwrap();
            assert!(reader.size(Log::Trade) >= report.logs.trade.size);
            checks += 1;
        }
        checks
    });
    for number in 1..150 {
        append(&mut ledger, number).unwrap();
        ledger.archive(PerLog { trade: number, finance: number }).unwrap();
    }
    done.send(()).unwrap();
    assert!(reader.join().unwrap() > 0);
}

#[test]
fn a_frame_whose_blocks_cannot_be_read_or_show_nothing_is_named_by_its_block() {
    let (disk, acked) = filled(2);
    let second = acked.iter().find(|block| (block.log, block.height) == (Log::Trade, 1)).unwrap();
    for (name, at) in [("its CRC", 4_usize), ("its length", 1), ("its chain hash", 20), ("its count of blocks", 42)] {
        let bad = disk.after(Cut::KeepAll);
        bad.damage("seg-00000000", |bytes| {
            let place = bytes.windows(second.bytes.len()).position(|window| window == second.bytes).unwrap();
            // 40 bytes of the frame and 8 of its payload stand before the block.
            bytes[place - 48 + at] ^= 1;
        });
        let report = checked(&bad);
        assert_eq!(report.first_bad_block(), Some((Log::Trade, 1)), "{name}: {:?}", report.problems);
    }
    assert_eq!(checked(&disk).first_bad_block(), None);
}

/// An entry of kind 26 says in its body, in three numbers, which log it opens at which height with which epoch.
fn opens(kind: u16, body: &[u8]) -> Option<(u8, u64, u64)> {
    match (kind, body) {
        (26, [log, height, epoch]) => Some((*log, (*height).into(), (*epoch).into())),
        _ => None,
    }
}

#[test]
fn an_epoch_begins_with_the_entry_that_opens_it_and_only_so() {
    type Case = (u64, Vec<&'static [u8]>, Vec<Fault>);
    const OTHER: &[u8] = b"another";
    let block = |bodies: &[&[u8]]| {
        let entry = |body: &&[u8]| hufu_ledger::NewEntry {
            kind: if *body == OTHER { 7 } else { 26 },
            body: body.to_vec(),
            key: hufu_ledger::NO_KEY,
            sealed: false,
        };
        hufu_ledger::NewBlock { log: Log::Trade, entries: bodies.iter().map(entry).collect() }
    };
    let unopened = || Fault::EpochUnopened { from: 0, to: 1 };
    let cases: Vec<Case> = vec![
        (1, vec![&[0, 1, 1]], vec![]),
        (1, vec![&[0, 1, 1], &[1, 9, 1]], vec![]),
        (0, vec![OTHER], vec![]),
        (1, vec![OTHER], vec![unopened()]),
        (1, vec![OTHER, &[0, 1, 1]], vec![unopened(), Fault::EpochAstray(1)]),
        (1, vec![&[0, 2, 1]], vec![unopened()]),
        (1, vec![&[1, 1, 1]], vec![unopened()]),
        (1, vec![&[0, 1, 2]], vec![unopened(), Fault::EpochAstray(0)]),
        (0, vec![&[0, 1, 0]], vec![Fault::EpochAstray(0)]),
    ];
    for (epoch, bodies, wanted) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, _) = make(dir.path(), 1);
        let signer = crate::common::signer();
        ledger.append(&[block(&bodies)], &signer, epoch, 0, crate::common::QUALITY).unwrap();
        ledger.append(&[block(&[OTHER])], &signer, epoch, 0, crate::common::QUALITY).unwrap();
        let report = check(dir.path(), &CheckOptions { opens: Some(&opens), ..CheckOptions::default() }).unwrap();
        let faults: Vec<Fault> = report.problems.into_iter().map(|problem| problem.fault).collect();
        assert_eq!(faults, wanted, "{epoch} {bodies:?}");
        assert_eq!(check(dir.path(), &CheckOptions::default()).unwrap().problems, [], "nobody asked");
    }
}
