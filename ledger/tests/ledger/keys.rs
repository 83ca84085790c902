//! Every input/output call of a life with sealed entries and erasures fails once in each flavour; after each, every kind of
//! power cut. Never a frame without its key, and never an erased key that comes back.

use std::sync::Arc;

use hufu_ledger::{AppendedBlock, Block, CheckOptions, Error, Ledger, check::check_with_keys_on};

use crate::{
    common::{ID, QUALITY, key_of, options, signer},
    faulty::{Cut, FaultyStorage, Flavour},
    sealing::story,
};

const FLAVOURS: [Flavour; 3] = [Flavour::NotPersisted, Flavour::PersistedAnyway, Flavour::Torn];

/// What the world was told.
#[derive(Default)]
struct Told {
    blocks: Vec<AppendedBlock>,
    /// Keys that are destroyed.
    erased: Vec<[u8; 32]>,
    /// The one whose erasure failed: destroyed or not, but nothing between.
    doubtful: Option<[u8; 32]>,
}

/// Ledger and keys on one disk, so that one count of calls and one power cut meets both.
fn open(disk: &FaultyStorage) -> Result<Ledger, Error> {
    let (ledger, _) = Ledger::open_on(Arc::new(disk.clone()), &options())?;
    Ok(ledger.with_keys(Arc::new(disk.clone()), hufu_gm::random::fill))
}

fn tell(ledger: &mut Ledger, contract: u64, number: u64, told: &mut Told) -> Result<(), Error> {
    told.blocks.extend(ledger.append(&story(contract, number), &signer(), 0, 0, QUALITY)?);
    Ok(())
}

fn erase(ledger: &mut Ledger, contract: u64, told: &mut Told) -> Result<(), Error> {
    let key = key_of(contract);
    told.doubtful = Some(key);
    ledger.erase(&key)?;
    told.doubtful = None;
    told.erased.push(key);
    Ok(())
}

/// Seals, erases what is sealed and what never was, goes on, and does it again after a start.
fn life(disk: &FaultyStorage, told: &mut Told) -> Result<(), Error> {
    Ledger::create_on(disk, &options(), ID)?;
    let mut ledger = open(disk)?;
    tell(&mut ledger, 10, 0, told)?;
    tell(&mut ledger, 10, 1, told)?;
    erase(&mut ledger, 10, told)?;
    tell(&mut ledger, 20, 2, told)?;
    drop(ledger);
    let mut ledger = open(disk)?;
    tell(&mut ledger, 20, 3, told)?;
    erase(&mut ledger, 70, told)?;
    erase(&mut ledger, 20, told)?;
    tell(&mut ledger, 30, 4, told)
}

fn expect_told(ledger: &Ledger, told: &Told, what: &str) {
    for block in &told.blocks {
        let plain = Block::from_bytes(&block.bytes).unwrap();
        for (index, (entry, new)) in (0_u32..).zip(plain.entries().iter().zip(keys_of(block))) {
            let erased = new.is_some_and(|key| told.erased.contains(&key));
            let doubtful = new.is_some() && new == told.doubtful;
            match ledger.entry(block.log, block.height, index) {
                Ok(read) => assert!(read == *entry && !erased, "{what}: {} {} came back", block.log, block.height),
                Err(Error::Erased { .. }) => assert!(erased || doubtful, "{what}: erased unasked"),
                Err(error) => panic!("{what}: {} {} {index}: {error}", block.log, block.height),
            }
        }
    }
}

/// The key of each sealed entry of a block; its body names the contract.
fn keys_of(block: &AppendedBlock) -> Vec<Option<[u8; 32]>> {
    let plain = Block::from_bytes(&block.bytes).unwrap();
    let key = |bytes: &Vec<u8>| {
        let entry = hufu_ledger::Entry::from_bytes(bytes).unwrap();
        let text = String::from_utf8(entry.body).unwrap();
        let contract = text.strip_prefix("a buyer's own words ")?.split(' ').next()?.parse().ok()?;
        Some(key_of(contract))
    };
    plain.entries().iter().map(key).collect()
}

/// Opens, compares everything, checks every byte with the keys; then erases what was in doubt, goes on, and loses power.
fn verify(disk: &FaultyStorage, told: &mut Told, what: &str) {
    let mut ledger = match open(disk) {
        Err(Error::Missing { .. }) if told.blocks.is_empty() => return,
        opened => opened.unwrap_or_else(|error| panic!("{what}: {error}")),
    };
    expect_told(&ledger, told, what);
    let report = |disk: &FaultyStorage| {
        check_with_keys_on(disk, Some(Arc::new(disk.clone())), &CheckOptions::default()).unwrap().problems
    };
    assert_eq!(report(disk), [], "{what}");
    if let Some(key) = told.doubtful.take() {
        ledger.erase(&key).unwrap_or_else(|error| panic!("{what}: erase again: {error}"));
        told.erased.push(key);
    }
    for key in &told.erased {
        assert!(ledger.is_erased(key).unwrap(), "{what}");
    }
    tell(&mut ledger, 40, 900, told).unwrap_or_else(|error| panic!("{what}: goes on: {error}"));
    drop(ledger);
    let after = disk.after(Cut::LoseAll);
    expect_told(&open(&after).unwrap(), told, &format!("{what}, then the power was cut"));
    assert_eq!(report(&after), [], "{what}, then the power was cut");
}

fn calls() -> usize {
    let disk = FaultyStorage::default();
    let mut told = Told::default();
    life(&disk, &mut told).unwrap();
    let count = disk.calls();
    verify(&disk, &mut told, "without any fault");
    count
}

fn fail_at(at: usize, flavour: Flavour) -> (FaultyStorage, impl Fn() -> Told) {
    let (disk, mut told) = (FaultyStorage::default(), Told::default());
    disk.fail(at, flavour);
    let result = life(&disk, &mut told);
    assert!(result.is_err(), "call {at} {flavour:?} failed and nobody noticed");
    let again = move || Told { blocks: told.blocks.clone(), erased: told.erased.clone(), doubtful: told.doubtful };
    (disk, again)
}

#[test]
fn no_fault_leaves_a_frame_without_its_key_or_brings_an_erased_one_back() {
    let count = calls();
    assert!(count > 100, "only {count} calls: the workload is too small");
    for at in 1..=count {
        for flavour in FLAVOURS {
            let (disk, told) = fail_at(at, flavour);
            for cut in Cut::ALL {
                verify(&disk.after(cut), &mut told(), &format!("call {at} {flavour:?} {cut:?}"));
            }
        }
    }
}

#[test]
fn no_subset_of_what_was_not_confirmed_does_either() {
    for at in 1..=calls() {
        let (disk, told) = fail_at(at, Flavour::PersistedAnyway);
        let waiting = disk.waiting();
        // All subsets of a few, and as many of more, in the order of their bits.
        for sample in 0..1_u64 << waiting.min(6) {
            let mut bits = sample | sample << 6 | sample << 12;
            let keep = || {
                bits = bits.rotate_right(1);
                bits >> 63 == 1
            };
            let what = format!("call {at}, subset {sample} of {waiting} sectors and names");
            verify(&disk.after_any(keep), &mut told(), &what);
        }
    }
}
