//! Sealed entries: nothing of them is on the disk in plain, everything is found and proven as before, and what is erased is
//! said to be erased and nothing else. What a fault or a power cut makes of keys is in `keys.rs`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use hufu_ledger::{
    AppendedBlock, Block, CheckOptions, Closed, Error, Fault, HeldEntry, KeptBlock, Ledger, Log, NewBlock, NewEntry,
    PerLog, Report, check, keys_beside, merkle,
};

use crate::common::{ID, QUALITY, SALT_KEY, append, key_of, options, public_key, signer};

/// What no file of the ledger may show.
const SECRET: &str = "a buyer's own words";

pub(crate) fn entry(contract: u64, number: u64, sealed: bool) -> NewEntry {
    let body = format!("{} {contract} {number}", if sealed { SECRET } else { "open" }).into_bytes();
    NewEntry { kind: 42, body, key: key_of(contract), sealed }
}

/// A trade block with a sealed entry, and a finance block of an open, a sealed and another contract's sealed one.
pub(crate) fn story(contract: u64, number: u64) -> Vec<NewBlock> {
    let finance =
        vec![entry(contract, number, false), entry(contract, number, true), entry(contract + 1, number, true)];
    vec![
        NewBlock { log: Log::Trade, entries: vec![entry(contract, number, true)] },
        NewBlock { log: Log::Finance, entries: finance },
    ]
}

fn tell(ledger: &mut Ledger, contract: u64, number: u64) -> Result<Vec<AppendedBlock>, Error> {
    ledger.append(&story(contract, number), &signer(), 0, 1_700_000_000_000_000_000, QUALITY)
}

/// A ledger of its own place, so that what stands beside it is its own too.
fn make(count: u64) -> (tempfile::TempDir, PathBuf, Ledger, Vec<AppendedBlock>) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("ledger");
    Ledger::create(&dir, &options(), ID).unwrap();
    let (mut ledger, _) = Ledger::open(&dir, &options()).unwrap();
    let appended = (0..count).flat_map(|number| tell(&mut ledger, number % 4 * 10, number).unwrap()).collect();
    (home, dir, ledger, appended)
}

fn checked(dir: &Path) -> Report {
    let key_of = |_: &hufu_gm::Hash| Some(public_key());
    let options = CheckOptions { key_of: Some(&key_of), salt_key: Some(&SALT_KEY), ..CheckOptions::default() };
    check(dir, &options).unwrap()
}

/// The key file of a contract.
fn key_file(dir: &Path, contract: u64) -> PathBuf {
    let name: String = key_of(contract).iter().map(|byte| format!("{byte:02x}")).collect();
    keys_beside(dir).unwrap().join(format!("{name}.key"))
}

fn holds_secret(dir: &Path) -> bool {
    let words = SECRET.as_bytes();
    let files = fs::read_dir(dir).unwrap().map(|item| fs::read(item.unwrap().path()).unwrap());
    files.into_iter().any(|bytes| bytes.windows(words.len()).any(|part| part == words))
}

/// Every entry and block is proven by the roots, whether it can be read or not.
fn expect_proven(ledger: &Ledger, appended: &[AppendedBlock]) {
    for block in appended {
        let (log, height) = (block.log, block.height);
        let held = ledger.held(log, height).unwrap();
        assert_eq!((held.hash(), held.entry_refs()), (block.block_hash, block.entries.clone()));
        for (index, entry) in (0..).zip(&block.entries) {
            let path = held.entry_path(index).unwrap();
            assert_eq!(merkle::walk(&entry.hash, &path), held.header().root);
        }
        let path = ledger.prove(log, height, ledger.size(log)).unwrap();
        assert_eq!(merkle::walk(&merkle::leaf(&block.block_hash), &path), ledger.root(log));
    }
}

#[test]
fn sealed_entries_read_as_they_were_signed_and_stand_nowhere_in_plain() {
    let (_home, dir, mut ledger, appended) = make(12);
    assert!(!holds_secret(&dir) && !holds_secret(&keys_beside(&dir).unwrap()));
    let all = PerLog { trade: u64::MAX, finance: u64::MAX };
    let mut archives = 0;
    while ledger.archive(all).unwrap().is_some() {
        archives += 1;
    }
    assert!(archives > 2 && !holds_secret(&dir));
    drop(ledger);
    for reader in [Ledger::open_read_only(&dir).unwrap(), Ledger::open(&dir, &options()).unwrap().0] {
        for block in &appended {
            assert_eq!(reader.block(block.log, block.height).unwrap(), block.bytes);
            let plain = Block::from_bytes(&block.bytes).unwrap();
            for (index, entry) in (0..).zip(plain.entries()) {
                assert_eq!(reader.entry(block.log, block.height, index).as_ref().unwrap(), entry);
            }
        }
        expect_proven(&reader, &appended);
        assert_eq!(reader.blocks(Log::Finance, 0).filter(Result::is_ok).count(), 12);
        assert!(matches!(reader.entry(Log::Finance, 0, 3), Err(Error::Beyond { wanted: 3, size: 3, .. })));
        assert!(!reader.is_erased(&key_of(0)).unwrap());
    }
    let report = checked(&dir);
    assert_eq!((report.problems, report.entries, report.sealed, report.erased), (vec![], 48, 36, 0));
}

#[test]
fn keys_lie_beside_the_ledger_for_its_owner_only() {
    let (_home, dir, ledger, _) = make(1);
    let keys = keys_beside(&dir).unwrap();
    assert_eq!(keys, dir.canonicalize().unwrap().with_file_name("ledger.keys"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&keys), 0o700);
    let files: Vec<_> = fs::read_dir(&keys).unwrap().map(|item| item.unwrap().path()).collect();
    assert_eq!(files.len(), 2);
    assert!(files.iter().all(|file| mode(file) == 0o600 && fs::metadata(file).unwrap().len() == 85));
    drop(ledger);
    fs::set_permissions(key_file(&dir, 0), fs::Permissions::from_mode(0o640)).unwrap();
    let error = Ledger::open_read_only(&dir).unwrap().block(Log::Trade, 0).unwrap_err();
    assert!(error.to_string().contains("mode 0640 gives group or others access"), "{error}");
    // A ledger that seals nothing needs no folder.
    let plain = tempfile::tempdir().unwrap();
    let dir = plain.path().join("ledger");
    Ledger::create(&dir, &options(), ID).unwrap();
    append(&mut Ledger::open(&dir, &options()).unwrap().0, 0).unwrap();
    assert!(!keys_beside(&dir).unwrap().exists());
    assert!(matches!(Ledger::open_read_only(&plain.path().join("none")), Err(Error::Missing { .. })));
}

#[test]
fn what_is_erased_is_gone_and_everything_around_it_is_as_before() {
    let (_home, dir, mut ledger, appended) = make(12);
    let secret = fs::read(key_file(&dir, 10)).unwrap()[65..81].to_vec();
    let (stamp, found) = (ledger.stamp(), ledger.find(&key_of(10)).unwrap());
    assert_eq!(found.len(), 3 * 3);
    for _ in 0..2 {
        ledger.erase(&key_of(10)).unwrap();
    }
    let tombstone = fs::read(key_file(&dir, 10)).unwrap();
    assert!(!tombstone.windows(16).any(|part| part == secret) && tombstone[65..].iter().all(|byte| *byte == 0));
    for round in 0..2 {
        assert_eq!((ledger.stamp(), ledger.find(&key_of(10)).unwrap()), (stamp, found.clone()));
        assert!(ledger.is_erased(&key_of(10)).unwrap() && !ledger.is_erased(&key_of(11)).unwrap());
        expect_proven(&ledger, &appended);
        for block in &appended {
            // Every fourth story is of the contract that was erased; its neighbour in the finance block is not.
            let read = ledger.block(block.log, block.height);
            if block.height % 4 != 1 {
                assert_eq!(read.unwrap(), block.bytes);
                continue;
            }
            assert!(matches!(read, Err(Error::Erased { .. })));
            let plain = Block::from_bytes(&block.bytes).unwrap();
            let held = ledger.held(block.log, block.height).unwrap();
            for (index, (entry, held)) in (0..).zip(plain.entries().iter().zip(held.entries())) {
                let erased = block.log == Log::Trade || index == 1;
                match ledger.entry(block.log, block.height, index) {
                    Err(Error::Erased { log, height }) => {
                        assert!(erased && (log, height) == (block.log, block.height));
                        assert_eq!(*held, HeldEntry::Sealed { key: key_of(10), closed: Closed::Erased });
                    }
                    read => {
                        assert!(!erased);
                        assert_eq!((&read.unwrap(), held), (entry, &HeldEntry::Plain(entry.clone())));
                    }
                }
            }
        }
        let report = checked(&dir);
        assert_eq!((report.problems, report.sealed, report.erased), (vec![], 36, 6), "round {round}");
        while ledger.archive(PerLog { trade: u64::MAX, finance: u64::MAX }).unwrap().is_some() {}
        drop(ledger);
        ledger = Ledger::open(&dir, &options()).unwrap().0;
    }
    // Nothing can be sealed under it again, and refusing that costs nothing.
    assert!(matches!(tell(&mut ledger, 10, 99), Err(Error::ErasedKey)));
    tell(&mut ledger, 20, 99).unwrap();
    let unsealed = NewBlock { log: Log::Trade, entries: vec![entry(10, 100, false)] };
    ledger.append(&[unsealed], &signer(), 0, 0, QUALITY).unwrap();
    assert!(matches!(Ledger::open_read_only(&dir).unwrap().erase(&key_of(20)), Err(Error::ReadOnly)));
    assert!(matches!(ledger.without_keys().erase(&key_of(20)), Err(Error::NoKeys { .. })));
}

#[test]
fn a_missing_a_damaged_and_a_foreign_key_are_told_from_an_erased_one() {
    let (_home, dir, ledger, _) = make(4);
    drop(ledger);
    let read = || Ledger::open_read_only(&dir).unwrap().block(Log::Trade, 1);
    let faults = || checked(&dir).problems.into_iter().map(|problem| problem.fault).collect::<Vec<_>>();
    let file = key_file(&dir, 10);
    let whole = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    assert!(matches!(read(), Err(Error::KeyMissing { path, log: Log::Trade, height: 1 }) if path == file));
    let held = Ledger::open_read_only(&dir).unwrap().held(Log::Trade, 1).unwrap();
    assert!(matches!(held.entries(), [HeldEntry::Sealed { closed: Closed::KeyMissing, .. }]));
    assert_eq!(faults(), [Fault::KeyMissing(0), Fault::KeyMissing(1)]);
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bad = whole.clone();
            bad[at] ^= 1 << bit;
            fs::write(&file, bad).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(read(), Err(Error::KeyFile { .. })), "byte {at} bit {bit}");
        }
    }
    assert_eq!(faults(), [Fault::KeyFile(0), Fault::KeyFile(1)]);
    // A key file that says it is this one and holds another secret.
    let mut other = whole.clone();
    other[65] ^= 1;
    let crc = crc32c::crc32c(&other[65..81]);
    other[81..].copy_from_slice(&crc.to_be_bytes());
    fs::write(&file, other).unwrap();
    assert!(matches!(read(), Err(Error::Refused { fault: Fault::WrongDecryption(0), .. })));
    assert_eq!(faults(), [Fault::WrongDecryption(0), Fault::WrongDecryption(1)]);
    // The file of another contract, and of another ledger.
    fs::copy(key_file(&dir, 20), &file).unwrap();
    assert!(matches!(read(), Err(Error::KeyFile { .. })));
    fs::write(&file, &whole).unwrap();
    assert!(read().is_ok());
    let home = tempfile::tempdir().unwrap();
    let foreign = home.path().join("ledger");
    Ledger::create(&foreign, &options(), [8; 16]).unwrap();
    tell(&mut Ledger::open(&foreign, &options()).unwrap().0, 10, 0).unwrap();
    fs::copy(key_file(&foreign, 10), &file).unwrap();
    assert!(matches!(read(), Err(Error::KeyFile { .. })));
    // Even a damaged file can be erased; a shorter or longer one too.
    for bytes in [&b""[..], &whole[..70], &[whole.as_slice(), b"more"].concat()] {
        fs::write(&file, bytes).unwrap();
        let mut ledger = Ledger::open(&dir, &options()).unwrap().0;
        ledger.erase(&key_of(10)).unwrap();
        assert!(matches!(read(), Err(Error::Erased { .. })));
        // And one that was lost is erased for good.
        drop(ledger);
        fs::remove_file(&file).unwrap();
        Ledger::open(&dir, &options()).unwrap().0.erase(&key_of(10)).unwrap();
        assert!(matches!(read(), Err(Error::Erased { .. })));
    }
}

#[test]
fn without_keys_a_ledger_is_checked_and_nothing_sealed_is_shown() {
    let (_home, dir, ledger, appended) = make(4);
    let ledger = ledger.without_keys();
    assert!(matches!(ledger.block(Log::Trade, 0), Err(Error::NoKeys { log: Some(Log::Trade), height: Some(0) })));
    let held = ledger.held(Log::Finance, 0).unwrap();
    assert!(matches!(held.entries(), [HeldEntry::Plain(_), HeldEntry::Sealed { closed: Closed::NoKeys, .. }, _]));
    expect_proven(&ledger, &appended);
    drop(ledger);
    fs::remove_dir_all(keys_beside(&dir).unwrap()).unwrap();
    let report = checked(&dir);
    assert_eq!((report.problems, report.sealed, report.erased), (vec![], 12, 0));
    let (ledger, _) = Ledger::open(&dir, &options()).unwrap();
    let mut ledger = ledger.without_keys();
    assert!(matches!(tell(&mut ledger, 50, 0), Err(Error::NoKeys { .. })));
    append(&mut ledger, 7).unwrap();
    // Nothing is sealed that could never be erased.
    drop(ledger);
    let nameless = NewEntry { key: hufu_ledger::NO_KEY, ..entry(0, 0, true) };
    let block = NewBlock { log: Log::Trade, entries: vec![nameless] };
    let (mut ledger, _) = Ledger::open(&dir, &options()).unwrap();
    let error = ledger.append(&[block], &signer(), 0, 0, QUALITY).unwrap_err();
    assert!(matches!(error, Error::Refused { fault: Fault::SealedKey(0), .. }), "{error}");
}

#[test]
fn blocks_that_come_back_are_sealed_again_and_what_was_erased_stays_so() {
    let (_home, _, ledger, appended) = make(4);
    let kept = |block: &AppendedBlock| {
        let new = &story(block.height % 4 * 10, block.height)[usize::from(block.log == Log::Finance)];
        let keys = new.entries.iter().map(|entry| entry.key).collect();
        KeptBlock { bytes: block.bytes.clone(), keys, sealed: new.entries.iter().map(|entry| entry.sealed).collect() }
    };
    let kept: Vec<KeptBlock> = appended.iter().map(kept).collect();
    let (_other, dir, mut copy, _) = make(0);
    copy.erase(&key_of(10)).unwrap();
    copy.restore(&kept).unwrap();
    assert_eq!(copy.stamp(), ledger.stamp());
    assert_eq!(copy.block(Log::Trade, 0).unwrap(), appended[0].bytes);
    assert!(matches!(copy.block(Log::Trade, 1), Err(Error::Erased { .. })));
    assert!(!holds_secret(&dir));
    let report = checked(&dir);
    assert_eq!((report.problems, report.sealed, report.erased), (vec![], 12, 2));
    let fewer = KeptBlock { sealed: vec![true], ..kept[1].clone() };
    let (_third, _, mut empty, _) = make(0);
    assert!(matches!(empty.restore(&[fewer]), Err(Error::Refused { fault: Fault::FramePayload, .. })));
}
