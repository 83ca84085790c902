//! Every input/output call of a workload fails once in each flavour; after each, every kind of power cut. Nothing
//! acknowledged may be lost, no height may come twice, and the ledger must go on.

use std::sync::Arc;

use hufu_ledger::{AppendedBlock, CheckOptions, Error, KeptBlock, Ledger, Log, PerLog, check::check_on};

use crate::{
    common::{ID, append, options},
    faulty::{Cut, FaultyStorage, Flavour},
};

const FLAVOURS: [Flavour; 3] = [Flavour::NotPersisted, Flavour::PersistedAnyway, Flavour::Torn];

fn open(disk: &FaultyStorage) -> Result<Ledger, Error> {
    Ledger::open_on(Arc::new(disk.clone()), &options()).map(|(ledger, _)| ledger)
}

/// Packs every segment that may be packed.
fn archive_all(ledger: &mut Ledger) -> Result<u32, Error> {
    let all = PerLog { trade: u64::MAX, finance: u64::MAX };
    let mut count = 0;
    while ledger.archive(all)?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Creates, appends, archives, opens again, appends; stops at the first error. What was acknowledged is in `acked`.
fn whole_life(disk: &FaultyStorage, acked: &mut Vec<AppendedBlock>) -> Result<(), Error> {
    Ledger::create_on(disk, &options(), ID)?;
    for numbers in [0..5, 5..8] {
        let mut ledger = open(disk)?;
        append_all(&mut ledger, numbers, acked)?;
        archive_all(&mut ledger)?;
    }
    Ok(())
}

/// Opens a ledger that has a bad tail and appends.
fn recovery(disk: &FaultyStorage, acked: &mut Vec<AppendedBlock>) -> Result<(), Error> {
    let mut ledger = open(disk)?;
    append_all(&mut ledger, 100..103, acked)
}

fn append_all(ledger: &mut Ledger, numbers: std::ops::Range<u64>, acked: &mut Vec<AppendedBlock>) -> Result<(), Error> {
    for number in numbers {
        match append(ledger, number) {
            Ok(blocks) => acked.extend(blocks),
            Err(error) => {
                expect_poisoned(ledger);
                return Err(error);
            }
        }
    }
    Ok(())
}

fn expect_poisoned(ledger: &mut Ledger) {
    assert!(matches!(append(ledger, 999), Err(Error::Poisoned)), "a failed ledger goes on");
}

/// Opens, compares everything acknowledged, checks every byte; then appends, loses power, and does it again.
fn verify(disk: &FaultyStorage, acked: &[AppendedBlock], what: &str) {
    let mut all = acked.to_vec();
    let disk = match open(disk) {
        Err(Error::Missing { .. }) if acked.is_empty() => {
            Ledger::create_on(disk, &options(), ID).unwrap_or_else(|error| panic!("{what}: create again: {error}"));
            disk.clone()
        }
        Ok(_) => disk.clone(),
        Err(error) => panic!("{what}: {error}"),
    };
    compare(&disk, &all, what);
    {
        let mut ledger = open(&disk).unwrap();
        all.extend(append(&mut ledger, 500).unwrap_or_else(|error| panic!("{what}: append: {error}")));
        all.extend(append(&mut ledger, 501).unwrap());
        archive_all(&mut ledger).unwrap_or_else(|error| panic!("{what}: archive: {error}"));
    }
    let after = disk.after(Cut::LoseAll);
    compare(&after, &all, &format!("{what}, then the power was cut"));
}

fn compare(disk: &FaultyStorage, acked: &[AppendedBlock], what: &str) {
    let ledger = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    for block in acked {
        let stored = ledger.block(block.log, block.height).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(stored, block.bytes, "{what}: {} height {}", block.log, block.height);
    }
    let report = check_on(disk, &CheckOptions::default()).unwrap();
    assert_eq!(report.problems, [], "{what}");
    for log in Log::ALL {
        assert_eq!(report.logs.of(log).root, Some(ledger.root(log)), "{what}");
        assert_eq!(report.logs.of(log).size, ledger.size(log), "{what}");
    }
}

/// Counts the calls of `work` on `disk` once, then fails each.
fn fail_each_call(
    disk: &FaultyStorage,
    before: &[AppendedBlock],
    work: fn(&FaultyStorage, &mut Vec<AppendedBlock>) -> Result<(), Error>,
) -> usize {
    let count = {
        let disk = disk.after(Cut::KeepAll);
        work(&disk, &mut before.to_vec()).unwrap();
        disk.calls()
    };
    for at in 1..=count {
        for flavour in FLAVOURS {
            let faulty = disk.after(Cut::KeepAll);
            faulty.fail(at, flavour);
            let mut acked = before.to_vec();
            let result = work(&faulty, &mut acked);
            assert!(result.is_err(), "call {at} {flavour:?} failed and nobody noticed");
            for cut in Cut::ALL {
                verify(&faulty.after(cut), &acked, &format!("call {at} {flavour:?} {cut:?}"));
            }
        }
    }
    count
}

#[test]
fn no_fault_of_a_whole_life_loses_anything_acknowledged() {
    let count = fail_each_call(&FaultyStorage::default(), &[], whole_life);
    assert!(count > 100, "only {count} calls: the workload is too small");
}

#[test]
fn no_fault_while_a_bad_tail_is_set_aside_loses_anything_acknowledged() {
    let disk = FaultyStorage::default();
    let mut acked = Vec::new();
    Ledger::create_on(&disk, &options(), ID).unwrap();
    let mut ledger = open(&disk).unwrap();
    append_all(&mut ledger, 0..2, &mut acked).unwrap();
    // The next append's write is torn and its sync never comes.
    disk.fail(1, Flavour::Torn);
    assert!(matches!(append(&mut ledger, 2), Err(Error::Io { .. })));
    drop(ledger);
    let torn = disk.after(Cut::KeepAll);
    let (_, recovery_found) = Ledger::open_on(Arc::new(torn.after(Cut::KeepAll)), &options()).unwrap();
    assert_eq!(recovery_found.set_aside.len(), 1, "the tail is bad");
    let count = fail_each_call(&torn, &acked, recovery);
    assert!(count > 30, "only {count} calls: the workload is too small");
}

/// What a peer kept of a ledger of ten batches, restored three blocks at a time by whoever opens this disk: a start that finds a
/// part of it goes on behind that part.
fn restoration(disk: &FaultyStorage, acked: &mut Vec<AppendedBlock>) -> Result<(), Error> {
    let whole = FaultyStorage::default();
    Ledger::create_on(&whole, &options(), ID).unwrap();
    let mut peer = open(&whole).unwrap();
    let blocks: Vec<AppendedBlock> = (0..10).flat_map(|number| append(&mut peer, number).unwrap()).collect();
    let mut ledger = open(disk)?;
    let (trade, finance) = (ledger.size(Log::Trade), ledger.size(Log::Finance));
    let missing: Vec<&AppendedBlock> =
        blocks.iter().filter(|block| block.height >= if block.log == Log::Trade { trade } else { finance }).collect();
    for lacking in missing.chunks(3) {
        let kept = |block: &&AppendedBlock| KeptBlock {
            bytes: block.bytes.clone(),
            keys: vec![hufu_ledger::NO_KEY; block.entries.len()],
            sealed: Vec::new(),
        };
        if let Err(error) = ledger.restore(&lacking.iter().map(kept).collect::<Vec<_>>()) {
            expect_poisoned(&mut ledger);
            return Err(error);
        }
        acked.extend(lacking.iter().map(|block| (*block).clone()));
    }
    same_roots(&ledger, &peer);
    Ok(())
}

fn same_roots(ledger: &Ledger, peer: &Ledger) {
    assert_eq!(ledger.stamp(), peer.stamp(), "the same roots as the peer's");
}

#[test]
fn no_fault_of_a_restoration_loses_anything_and_the_next_start_ends_it() {
    let disk = FaultyStorage::default();
    let mut acked = Vec::new();
    Ledger::create_on(&disk, &options(), ID).unwrap();
    append_all(&mut open(&disk).unwrap(), 0..2, &mut acked).unwrap();
    let count = fail_each_call(&disk, &acked, restoration);
    assert!(count > 20, "only {count} calls: the workload is too small");
    for at in 1..=count {
        for flavour in FLAVOURS {
            let faulty = disk.after(Cut::KeepAll);
            faulty.fail(at, flavour);
            assert!(restoration(&faulty, &mut Vec::new()).is_err());
            for cut in Cut::ALL {
                let what = format!("call {at} {flavour:?} {cut:?}");
                restoration(&faulty.after(cut), &mut Vec::new()).unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        }
    }
}

#[test]
fn a_full_disk_is_named_and_costs_nothing_acknowledged() {
    let disk = FaultyStorage::default();
    Ledger::create_on(&disk, &options(), ID).unwrap();
    let mut ledger = open(&disk).unwrap();
    let mut acked = Vec::new();
    disk.room(Some(disk.used() + 100));
    let error = append_all(&mut ledger, 0..100, &mut acked).unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    drop(ledger);
    let ledger = open(&disk).expect("opens while the disk is full");
    assert!(!acked.is_empty() && ledger.block(Log::Trade, 0).unwrap() == acked[0].bytes);
    drop(ledger);
    disk.room(None);
    verify(&disk, &acked, "after space was freed");
}

/// Bits that look random and are the same in every run.
struct Coin(u64);

impl Coin {
    fn toss(&mut self) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 & 0x10 != 0
    }
}

/// Power cuts tried at each call when they are too many to try all.
const SAMPLES: u64 = 256;

#[test]
fn no_subset_of_what_was_not_confirmed_costs_anything_acknowledged() {
    let count = {
        let disk = FaultyStorage::default();
        whole_life(&disk, &mut Vec::new()).unwrap();
        let archives = disk.names().into_iter().filter(|name| name.starts_with("arc-")).count();
        assert!(archives > 1, "only {archives} archives: the workload is too small");
        disk.calls()
    };
    let (mut tried, mut widest) = (0, 0);
    for at in 1..=count {
        let (disk, mut acked) = (FaultyStorage::default(), Vec::new());
        // The call that fails persists nothing at once; what it and the ones before it left waiting, the cut decides.
        disk.fail(at, Flavour::PersistedAnyway);
        whole_life(&disk, &mut acked).unwrap_err();
        let waiting = disk.waiting();
        widest = widest.max(waiting);
        let all = 1_u64.checked_shl(waiting.try_into().unwrap()).filter(|all| *all <= SAMPLES);
        for sample in 0..all.unwrap_or(SAMPLES) {
            let (mut coin, mut bits) = (Coin((at as u64) << 32 | sample << 1 | 1), sample);
            let keep = || {
                let bit = if all.is_some() { bits & 1 == 1 } else { coin.toss() };
                bits >>= 1;
                bit
            };
            verify(
                &disk.after_any(keep),
                &acked,
                &format!("call {at}, subset {sample} of {waiting} sectors and names"),
            );
            tried += 1;
        }
    }
    assert!(tried > 500 && widest > 6, "only {tried} cuts of at most {widest} sectors and names");
}
