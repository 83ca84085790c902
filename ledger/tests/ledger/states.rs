//! State files: the newest whole state that the ledger vouches for, or none.

use hufu_ledger::{Error, State, StateFile};

use crate::common::{append, make};

#[test]
fn the_newest_state_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = make(&dir.path().join("ledger"), 1);
    let path = dir.path().join("core.state");
    let mut file = StateFile::open(&path, 100).unwrap();
    assert_eq!(file.read(&ledger).unwrap(), None);
    for number in 1..6_u8 {
        append(&mut ledger, number.into()).unwrap();
        let state = State { valid_for: ledger.stamp(), bytes: vec![number; usize::from(number) * 20] };
        file.write(&state.valid_for, &state.bytes).unwrap();
        assert_eq!(file.read(&ledger).unwrap(), Some(state.clone()));
        assert_eq!(StateFile::open(&path, 100).unwrap().read(&ledger).unwrap(), Some(state));
    }
    assert!(matches!(file.write(&ledger.stamp(), &[0; 101]), Err(Error::StateSize { bytes: 101, bytes_max: 100 })));
}

#[test]
fn a_torn_or_changed_state_gives_the_one_before_and_two_give_none() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = make(&dir.path().join("ledger"), 2);
    let path = dir.path().join("meter.state");
    let stamp = ledger.stamp();
    let mut file = StateFile::open(&path, 50).unwrap();
    file.write(&stamp, b"older").unwrap();
    file.write(&stamp, b"newer").unwrap();
    let good = std::fs::read(&path).unwrap();
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        StateFile::open(&path, 50).unwrap().read(&ledger).unwrap().map(|state| state.bytes)
    };
    assert_eq!(read(&good).as_deref(), Some(&b"newer"[..]));
    let newer = good.windows(5).position(|window| window == b"newer").unwrap();
    let older = good.windows(5).position(|window| window == b"older").unwrap();
    let head = newer.min(older);
    // The slot that was written second lies first: its bytes end before the other slot begins.
    for bit in 0..(newer + 5) * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read(&bytes).as_deref(), Some(&b"older"[..]), "bit {bit}");
        bytes[older] ^= 1;
        assert_eq!(read(&bytes), None, "bit {bit}");
    }
    assert!(head > 0);
    for length in 0..good.len() {
        let found = read(&good[..length]);
        assert!(found.is_none() || found.as_deref() == Some(b"newer"), "cut to {length}: {found:?}");
    }
}

#[test]
fn a_state_of_another_past_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = make(&dir.path().join("ledger"), 2);
    let (older_ledger, _) = make(&dir.path().join("restored"), 1);
    let mut file = StateFile::open(&dir.path().join("core.state"), 50).unwrap();
    file.write(&ledger.stamp(), b"state").unwrap();
    assert_eq!(file.read(&older_ledger).unwrap(), None, "the ledger is behind the state");
    append(&mut ledger, 2).unwrap();
    assert!(file.read(&ledger).unwrap().is_some(), "the ledger went on: replay the rest");
    let mut other = ledger.stamp();
    other.root.trade[0] ^= 1;
    file.write(&other, b"of another root").unwrap();
    assert_eq!(file.read(&ledger).unwrap().unwrap().bytes, b"state");
}
