//! Blocks by themselves: limits, and that no bit may change.

use hufu_ledger::{
    Block, Error, Expected, Fault, Ledger, Log, NO_KEY, NewBlock, NewEntry, entry_path, merkle, verify_block,
};

use crate::common::{ID, NODE, QUALITY, SALT_KEY, append, make, new_block, options, public_key, signer};

fn open(dir: &std::path::Path) -> Ledger {
    Ledger::create(dir, &options(), ID).unwrap();
    Ledger::open(dir, &options()).unwrap().0
}

#[test]
fn every_truncation_and_every_bit_flip_of_a_block_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, appended) = make(dir.path(), 2);
    let block = appended.iter().find(|block| block.log == Log::Finance).unwrap();
    assert_eq!(ledger.block(Log::Finance, 0).unwrap(), block.bytes);
    let expected = Expected { log: Log::Finance, node: NODE, height: 0, previous: [0; 32] };
    let key = public_key();
    assert!(verify_block(&block.bytes, &key, &expected).is_ok());
    for length in 0..block.bytes.len() {
        assert!(verify_block(&block.bytes[..length], &key, &expected).is_err(), "cut to {length}");
    }
    // The certificate's id is not signed: it only says which key to take, so its caller finds no key or a wrong one.
    let cert_id = block.bytes.windows(32).position(|window| window == [2; 32]).unwrap();
    for bit in 0..block.bytes.len() * 8 {
        let mut bytes = block.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if (cert_id..cert_id + 32).contains(&(bit / 8)) {
            assert_ne!(Block::from_bytes(&bytes).unwrap().signed().cert_id(), [2; 32]);
        } else {
            assert!(verify_block(&bytes, &key, &expected).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn a_block_over_its_limits_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let entry = |length| NewEntry { kind: 1, body: vec![7; length], key: NO_KEY, sealed: false };
    // DER around one body of this size: sequence 4, salt 18, kind 3, octet string 4.
    let fits = 40 * 1024 - 29;
    let cases = [
        ("no entries", vec![], Some(Fault::NoEntries)),
        ("65 entries", vec![entry(1); 65], Some(Fault::TooManyEntries(65))),
        ("one byte more", vec![entry(fits + 1)], Some(Fault::TooManyBytes(40 * 1024 + 1))),
        ("64 entries", vec![entry(1); 64], None),
        ("exactly 40 KiB", vec![entry(fits)], None),
    ];
    for (name, entries, fault) in cases {
        let before = ledger.stamp();
        let result = ledger.append(&[NewBlock { log: Log::Trade, entries }], &signer(), 0, 0, QUALITY);
        match (fault, result) {
            (None, Ok(_)) => {}
            (Some(wanted), Err(Error::Refused { fault, .. })) => {
                assert_eq!(fault, wanted, "{name}");
                assert_eq!(ledger.stamp(), before, "{name}");
            }
            (_, other) => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(ledger.size(Log::Trade), 2);
}

#[test]
fn the_epoch_never_falls() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    ledger.append(&[new_block(Log::Trade, 0, 1)], &signer(), 3, 0, QUALITY).unwrap();
    let error = ledger.append(&[new_block(Log::Trade, 1, 1)], &signer(), 2, 0, QUALITY).unwrap_err();
    let wanted = Fault::EpochBackwards { from: 3, to: 2 };
    assert!(matches!(error, Error::Refused { fault, height: Some(1), .. } if fault == wanted));
    ledger.append(&[new_block(Log::Trade, 1, 1)], &signer(), 4, 0, QUALITY).unwrap();
}

#[test]
fn an_entry_is_known_before_it_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    append(&mut ledger, 0).unwrap();
    let place = (Log::Trade, ledger.size(Log::Trade), 0);
    let (bytes, foreseen) = hufu_ledger::foresee(&SALT_KEY, place, 9, b"body".to_vec()).unwrap();
    let entry = NewEntry { kind: 9, body: b"body".to_vec(), key: NO_KEY, sealed: false };
    let appended =
        ledger.append(&[NewBlock { log: Log::Trade, entries: vec![entry] }], &signer(), 0, 0, QUALITY).unwrap();
    assert_eq!(appended[0].entries, [foreseen]);
    assert_eq!(ledger.entry(Log::Trade, 1, 0).unwrap(), bytes);
}

#[test]
fn every_entry_s_path_leads_to_the_header_s_root() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    for count in [1, 2, 3, 63, 64] {
        let appended = ledger.append(&[new_block(Log::Trade, 0, count)], &signer(), 0, 0, QUALITY).unwrap();
        let block = Block::from_bytes(&appended[0].bytes).unwrap();
        for entry in &appended[0].entries {
            let path = entry_path(&appended[0].bytes, entry.index).unwrap();
            assert_eq!(merkle::walk(&entry.hash, &path), block.header().root, "{} of {count}", entry.index);
        }
        let beyond = u32::try_from(count).unwrap();
        assert!(matches!(entry_path(&appended[0].bytes, beyond), Err(Error::Beyond { .. })));
    }
}
