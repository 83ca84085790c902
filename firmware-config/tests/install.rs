//! Power cuts at every call of an installation, with every choice of what reached the medium: whatever happens, the old
//! record or the new one counts, whole, and the next installation works.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hufu_firmware_config::{
        Error, IMAGE_BYTES, InstallError, Record, SLOT_BYTES, Segment, SerialNumber, Signature, Slot, SlotFault,
        Storage, blank, build, install, open, parse,
    };
    use proptest::prelude::*;

    fn sum(signed: &[u8]) -> [u8; 8] {
        let weigh = |sum: u64, byte: &u8| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte);
        signed.iter().fold(0xcbf2_9ce4_8422_2325, weigh).to_be_bytes()
    }
    fn sign(signed: &[u8]) -> Option<Signature> {
        Signature::new(&sum(signed)).ok()
    }
    fn verify(signed: &[u8], signature: &[u8]) -> bool {
        sum(signed) == signature
    }

    /// A record long enough to fill several sectors.
    fn record(revision: u64) -> Record {
        let serial = SerialNumber::new(&"S".repeat(64)).unwrap();
        let node = Segment::new(&format!("node-{revision}")).unwrap();
        let mut record = Record::new(serial, Segment::new("site-a").unwrap(), node);
        for index in 0..8 {
            record
                .add_key_slot(hufu_firmware_config::KeySlot {
                    index,
                    purpose: hufu_firmware_config::KeyPurpose::NodeSigning,
                    certificate_id: [u8::try_from(revision % 251).unwrap(); 32],
                    key_reference: hufu_firmware_config::KeyReference::new(&"k".repeat(128)).unwrap(),
                })
                .unwrap();
        }
        record
    }

    fn slot(revision: u64) -> [u8; SLOT_BYTES] {
        build(&record(revision), revision, sign).unwrap()
    }

    /// What a medium is told to do, in order.
    #[derive(Clone, Debug, PartialEq)]
    enum Call {
        Read,
        Write(usize, Vec<u8>),
        Flush,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fault {
        /// The call fails and did nothing.
        Nothing,
        /// The call fails, and yet it was done.
        Done,
        /// The call says it worked, and wrote something else.
        Lies,
    }

    /// A medium that notes its calls, and fails at the one it is told.
    struct Medium {
        bytes: Vec<u8>,
        sector: usize,
        calls: Vec<Call>,
        fault: Option<(usize, Fault)>,
    }

    impl Medium {
        fn new(bytes: &[u8], sector: usize) -> Self {
            Self { bytes: bytes.to_vec(), sector, calls: Vec::new(), fault: None }
        }

        /// Notes a call; the fault that strikes it.
        fn note(&mut self, call: Call) -> Option<Fault> {
            if let Call::Write(offset, bytes) = &call {
                assert_eq!((offset % self.sector, bytes.len() % self.sector), (0, 0), "whole sectors");
                assert!(!bytes.is_empty());
            }
            self.calls.push(call);
            self.fault.filter(|(at, _)| *at + 1 == self.calls.len()).map(|(_, fault)| fault)
        }
    }

    impl Storage for Medium {
        type Error = &'static str;

        fn size_bytes(&self) -> u64 {
            self.bytes.len() as u64
        }
        fn sector_bytes(&self) -> usize {
            self.sector
        }
        fn read_at(&mut self, offset: usize, into: &mut [u8]) -> Result<(), Self::Error> {
            into.copy_from_slice(&self.bytes[offset..offset + into.len()]);
            match self.note(Call::Read) {
                Some(Fault::Nothing | Fault::Done) => Err("read"),
                Some(Fault::Lies) => {
                    into[0] ^= 1;
                    Ok(())
                }
                None => Ok(()),
            }
        }
        fn write_at(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Self::Error> {
            let fault = self.note(Call::Write(offset, bytes.to_vec()));
            let mut wrong = bytes.to_vec();
            wrong[bytes.len() / 2] ^= 0x10;
            match fault {
                Some(Fault::Nothing) => {}
                Some(Fault::Lies) => self.bytes[offset..offset + bytes.len()].copy_from_slice(&wrong),
                Some(Fault::Done) | None => self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes),
            }
            if matches!(fault, None | Some(Fault::Lies)) { Ok(()) } else { Err("write") }
        }
        fn flush(&mut self) -> Result<(), Self::Error> {
            match self.note(Call::Flush) {
                Some(Fault::Nothing | Fault::Done) => Err("flush"),
                _ => Ok(()),
            }
        }
    }

    /// The sectors that were written and not flushed after `cut` calls, and the medium before them.
    fn unflushed(before: &[u8], calls: &[Call], cut: usize, sector: usize) -> (Vec<u8>, Vec<(usize, Vec<u8>)>) {
        let (mut durable, mut pending) = (before.to_vec(), Vec::new());
        for call in &calls[..cut] {
            match call {
                Call::Read => {}
                Call::Write(offset, bytes) => {
                    let sectors = bytes.chunks(sector).enumerate();
                    pending.extend(sectors.map(|(index, part)| (offset + index * sector, part.to_vec())));
                }
                Call::Flush => pending.drain(..).for_each(|(at, part): (usize, Vec<u8>)| {
                    durable[at..at + part.len()].copy_from_slice(&part);
                }),
            }
        }
        // No sector is written twice between flushes, so every order of a choice of them is the same medium.
        let places: BTreeSet<usize> = pending.iter().map(|(at, _)| *at).collect();
        assert_eq!(places.len(), pending.len());
        (durable, pending)
    }

    /// What an image may hold before an installation, and the revision that counts there.
    fn beginnings() -> Vec<(&'static str, Vec<u8>, Option<u64>)> {
        let (two, three, mut rotten) = (slot(2), slot(3), slot(3));
        rotten[700] ^= 1;
        let unsure = [0xa5; 512];
        let image = |a: &[u8], b: &[u8]| [a, b].concat();
        let longer = [image(&two, &three), unsure.to_vec()].concat();
        vec![
            ("erased flash", blank().to_vec(), None),
            ("a new disk", vec![0; IMAGE_BYTES], None),
            ("one record in A", image(&three, &[0xff; SLOT_BYTES]), Some(3)),
            ("one record in B", image(&[0; SLOT_BYTES], &three), Some(3)),
            ("the newer in B", image(&two, &three), Some(3)),
            ("the newer in A", image(&three, &two), Some(3)),
            ("a rotten slot in B", image(&two, &rotten), Some(2)),
            ("a longer partition", longer, Some(3)),
        ]
    }

    /// Judges a medium after a cut while `new` was installed over what counted as `old`.
    fn holds(name: &str, bytes: &[u8], sector: usize, old: Option<u64>, new: u64) -> Result<u64, String> {
        let wrong = |what: String| Err(format!("{name}: {what}"));
        let mut medium = Medium::new(bytes, sector);
        let counted = match open(&mut medium, old.unwrap_or(0), verify) {
            Ok(found) if found.record != record(found.revision) => return wrong("a mixed record".to_owned()),
            Ok(found) if found.revision == new || Some(found.revision) == old => found.revision,
            Err(InstallError::Target(Error::NoValidSlot { .. })) if old.is_none() => 0,
            other => return wrong(format!("{other:?}")),
        };
        // Both the same call again and a later one work, and what a rolled back image holds is refused.
        for next in [new, new + 1] {
            let mut again = Medium::new(bytes, sector);
            let found = install(&mut again, &slot(next), counted, verify).map_err(|e| format!("{name}: then {e:?}"))?;
            if (found.revision, &found.record) != (next, &record(next)) {
                return wrong(format!("then {found:?}"));
            }
            let back = install(&mut again, &slot(next - 1), next, verify);
            if back != Err(InstallError::RolledBack { revision: next - 1, floor: next }) {
                return wrong(format!("back {back:?}"));
            }
            let reopened = open(&mut again, next + 1, verify);
            if reopened != Err(InstallError::RolledBack { revision: next, floor: next + 1 }) {
                return wrong(format!("below the floor {reopened:?}"));
            }
        }
        Ok(counted)
    }

    #[test]
    fn a_cut_at_any_call_with_any_sectors_written_leaves_the_old_record_or_the_new_one() {
        let mut states = 0;
        for sector in [512, 1024, 4096] {
            for (name, before, old) in beginnings() {
                let mut medium = Medium::new(&before, sector);
                install(&mut medium, &slot(4), old.unwrap_or(0), verify).unwrap();
                assert_eq!(medium.bytes[IMAGE_BYTES..], before[IMAGE_BYTES..], "{name}: beyond the image");
                let mut seen = BTreeSet::new();
                for cut in 0..=medium.calls.len() {
                    let (durable, pending) = unflushed(&before, &medium.calls, cut, sector);
                    for choice in 0..1_usize << pending.len() {
                        let mut bytes = durable.clone();
                        for (_, (at, part)) in pending.iter().enumerate().filter(|(i, _)| choice >> i & 1 == 1) {
                            bytes[*at..*at + part.len()].copy_from_slice(part);
                        }
                        let name = format!("{name}, sectors of {sector}, cut {cut}, choice {choice:b}");
                        seen.insert(holds(&name, &bytes, sector, old, 4).unwrap());
                        // The order of writes: sectors that are whole never make a slot that is not, but for what was
                        // rotten before; so a wrong checksum is a damaged medium.
                        for half in [&bytes[..SLOT_BYTES], &bytes[SLOT_BYTES..IMAGE_BYTES]] {
                            let torn = parse(half, verify).is_err_and(|fault| fault == SlotFault::Crc);
                            assert!(!torn || before.windows(SLOT_BYTES).any(|was| was == half), "{name}: torn");
                        }
                        states += 1;
                    }
                }
                assert_eq!(seen, BTreeSet::from([old.unwrap_or(0), 4]), "{name}: a cut early and a cut late");
            }
        }
        // 128 choices of seven sectors or 8 of three, and the cuts around them.
        assert!(states > 8 * 128, "{states}");
    }

    #[test]
    fn the_slot_that_counts_is_never_written_and_the_first_sector_last() {
        for (name, before, old) in beginnings() {
            let mut medium = Medium::new(&before, 512);
            let found = install(&mut medium, &slot(4), 0, verify).unwrap();
            let offset = found.slot.offset();
            if let Some(old) = old {
                let kept = open(&mut Medium::new(&before, 512), 0, verify).unwrap();
                assert_eq!((kept.revision, kept.slot), (old, found.slot.other()), "{name}");
            }
            let own = |at: &usize| (offset..offset + SLOT_BYTES).contains(at);
            let writes: Vec<(usize, Call, Call)> = medium
                .calls
                .windows(2)
                .filter_map(|pair| match &pair[0] {
                    Call::Write(at, _) => Some((*at, pair[0].clone(), pair[1].clone())),
                    _ => None,
                })
                .collect();
            assert!(writes.iter().all(|(at, _, next)| own(at) && *next == Call::Flush), "{name}");
            let places: Vec<usize> = writes.iter().map(|(at, ..)| *at).collect();
            assert_eq!(places, [offset, offset + 512, offset], "{name}");
            assert_eq!(writes[0].1, Call::Write(offset, vec![0xff; 512]), "{name}");
        }
    }

    #[test]
    fn every_call_that_fails_in_every_way_leaves_the_old_record_or_the_new_one() {
        for (name, before, old) in beginnings() {
            let mut good = Medium::new(&before, 512);
            install(&mut good, &slot(4), 0, verify).unwrap();
            for at in 0..good.calls.len() {
                for fault in [Fault::Nothing, Fault::Done, Fault::Lies] {
                    let name = format!("{name}, call {at} {:?}, {fault:?}", good.calls[at]);
                    let mut medium = Medium::new(&before, 512);
                    medium.fault = Some((at, fault));
                    let said = install(&mut medium, &slot(4), 0, verify);
                    let counted = holds(&name, &medium.bytes, 512, old, 4).unwrap();
                    // Success means that the new one counts, whatever the medium did before.
                    assert!(said.is_err() || counted == 4, "{name}: {said:?}");
                    let lost = matches!((&good.calls[at], fault), (Call::Write(..), Fault::Nothing));
                    assert!(!lost || said.is_err(), "{name}: {said:?}");
                    let wrong = matches!((&good.calls[at], fault), (Call::Write(..), Fault::Lies));
                    let first = good.calls.iter().position(|call| matches!(call, Call::Write(..))) == Some(at);
                    // Whatever stands there after the blanking is written over.
                    assert!(!wrong || first || matches!(said, Err(InstallError::ReadBack { .. })), "{name}: {said:?}");
                    let writes = medium.calls.iter().filter(|call| matches!(call, Call::Write(..))).count();
                    let body = matches!(&good.calls[at], Call::Write(_, bytes) if bytes.len() > 512);
                    assert!(!(wrong && body) || writes == 2, "{name}: it is made to count though it reads back wrong");
                }
            }
        }
    }

    #[test]
    fn what_counts_already_is_flushed_again_and_not_written() {
        let before = [slot(3), slot(4)].concat();
        let mut medium = Medium::new(&before, 512);
        assert_eq!(install(&mut medium, &slot(4), 4, verify).unwrap().slot, Slot::B);
        assert_eq!(medium.bytes, before);
        assert_eq!(medium.calls.last(), Some(&Call::Flush));
        medium.fault = Some((medium.calls.len() + 2, Fault::Nothing));
        assert_eq!(install(&mut medium, &slot(4), 4, verify), Err(InstallError::Storage("flush")));
        // Another record under the same revision is another matter.
        let other = build(&record(9), 4, sign).unwrap();
        let refused = InstallError::RevisionNotAbove { revision: 4, active: 4 };
        assert_eq!(install(&mut medium, &other, 4, verify), Err(refused));
    }

    #[test]
    fn what_must_not_be_installed_has_a_name_and_changes_nothing() {
        let empty = [0xff; SLOT_BYTES];
        let image = |a: &[u8], b: &[u8]| [a, b].concat();
        let foreign = [0x5a; SLOT_BYTES];
        let mut superblock = [0; SLOT_BYTES];
        superblock[1024 + 56..1024 + 58].copy_from_slice(&[0x53, 0xef]);
        let mut rotten = slot(3);
        rotten[700] ^= 1;
        let unsigned = build(&record(3), 3, |_| Signature::new(&[1; 8]).ok()).unwrap();
        let mut later = slot(3);
        later[5] = 2;
        let target = |a, b| InstallError::Target(Error::NoValidSlot { a, b });
        use SlotFault::{Crc, Empty, FormatVersion, Magic, Signature as Unsigned};
        let cases = [
            ("the same revision", image(&slot(4), &empty), 0, None, Some((4, 4))),
            ("a lower one", image(&slot(3), &slot(5)), 0, None, Some((4, 5))),
            ("somebody else's data", image(&foreign, &foreign), 0, Some(target(Magic, Magic)), None),
            ("somebody else's data in front", image(&foreign, &empty), 0, Some(target(Magic, Empty)), None),
            ("somebody else's data behind", image(&empty, &foreign), 0, Some(target(Empty, Magic)), None),
            (
                "a file system that begins with zeros",
                image(&superblock, &[0; SLOT_BYTES]),
                0,
                Some(target(Magic, Empty)),
                None,
            ),
            ("one behind a blank slot", image(&empty, &superblock), 0, Some(target(Empty, Magic)), None),
            ("both slots rotten", image(&rotten, &rotten), 0, Some(target(Crc, Crc)), None),
            ("another signer's", image(&unsigned, &empty), 0, Some(target(Unsigned, Empty)), None),
            ("a later format", image(&later, &empty), 0, Some(target(FormatVersion(2), Empty)), None),
            ("too small", vec![0xff; IMAGE_BYTES - 1], 0, Some(InstallError::TooSmall { bytes: 8191 }), None),
            ("nothing", vec![], 0, Some(InstallError::TooSmall { bytes: 0 }), None),
            (
                "below the floor",
                image(&slot(3), &empty),
                5,
                Some(InstallError::RolledBack { revision: 4, floor: 5 }),
                None,
            ),
        ];
        for (name, before, floor, want, not_above) in cases {
            let mut medium = Medium::new(&before, 512);
            let other = build(&record(9), 4, sign).unwrap();
            let want = want.or(not_above.map(|(revision, active)| InstallError::RevisionNotAbove { revision, active }));
            assert_eq!(install(&mut medium, &other, floor, verify).err(), want, "{name}");
            assert!(
                medium.bytes == before && !medium.calls.iter().any(|call| matches!(call, Call::Write(..))),
                "{name}"
            );
        }
        for (sector, good) in [(0, false), (8, false), (16, true), (500, false), (4096, true), (8192, false)] {
            let said = install(&mut Medium::new(&blank(), sector), &slot(1), 0, verify);
            let refused = Err(InstallError::NotAligned { sector_bytes: sector });
            assert!(if good { said.is_ok() } else { said == refused }, "sectors of {sector}: {said:?}");
        }
        let mut medium = Medium::new(&blank(), 512);
        assert_eq!(install(&mut medium, &rotten, 0, verify), Err(InstallError::New(Crc)));
        assert_eq!(install(&mut medium, &unsigned, 0, verify), Err(InstallError::New(Unsigned)));
        assert_eq!(install(&mut medium, &later, 0, verify), Err(InstallError::New(FormatVersion(2))));
        let two_minds = image(&slot(3), &build(&record(9), 3, sign).unwrap());
        let said = install(&mut Medium::new(&two_minds, 512), &slot(4), 0, verify);
        assert_eq!(said, Err(InstallError::Target(Error::Ambiguous { revision: 3 })));
        assert_eq!(install(&mut Medium::new(&blank(), 512), &slot(u64::MAX), 0, verify).unwrap().revision, u64::MAX);
    }

    /// One update of a course: where it is cut, which unflushed sectors are there afterwards, and how one more is torn.
    #[derive(Clone, Debug)]
    struct Turn {
        cut: usize,
        choice: usize,
        torn: Option<(usize, usize, u8)>,
    }

    fn any_turn() -> impl Strategy<Value = Turn> {
        (0_usize..48, any::<usize>(), prop::option::of((0_usize..8, 0_usize..=512, any::<u8>())))
            .prop_map(|(cut, choice, torn)| Turn { cut, choice, torn })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

        /// Sectors of 512 bytes that a cut may tear at any byte, the rest of the torn one garbage or what was there.
        #[test]
        fn a_course_of_cut_updates_never_loses_what_was_acknowledged(
            turns in prop::collection::vec(any_turn(), 1..8),
            begin in prop::sample::select(vec![0_u8, 0xff]),
        ) {
            let (mut bytes, mut acknowledged, mut revision) = (vec![begin; IMAGE_BYTES], None, 1);
            for turn in turns {
                revision += 1;
                let mut medium = Medium::new(&bytes, 512);
                let floor = acknowledged.unwrap_or(0);
                let said = install(&mut medium, &slot(revision), floor, verify);
                prop_assert!(said.is_ok(), "{said:?}");
                let cut = turn.cut.min(medium.calls.len());
                let (mut durable, pending) = unflushed(&bytes, &medium.calls, cut, 512);
                for (_, (at, part)) in pending.iter().enumerate().filter(|(i, _)| turn.choice >> (i % 60) & 1 == 1) {
                    durable[*at..*at + part.len()].copy_from_slice(part);
                }
                if let (Some((which, length, noise)), false) = (turn.torn, pending.is_empty()) {
                    let (at, part) = &pending[which % pending.len()];
                    durable[*at..*at + length].copy_from_slice(&part[..length]);
                    // Past the magic what was not written may read as anything.
                    if length >= 16 && noise > 0 {
                        durable[*at + length..*at + 512].fill(noise);
                    }
                }
                let name = format!("revision {revision}, {turn:?}");
                let counted = holds(&name, &durable, 512, acknowledged, revision);
                prop_assert!(counted.is_ok(), "{counted:?}");
                bytes = durable;
                let counted = counted.unwrap_or(0);
                prop_assert!(cut < medium.calls.len() || counted == revision, "{name}: acknowledged and lost");
                acknowledged = Some(counted).filter(|counted| *counted > 0);
                if counted < revision {
                    // Never acknowledged: the same revision is tried again.
                    revision = counted.max(1);
                }
            }
        }

        /// Rot anywhere in one slot never makes the other one not count, and never makes a record nobody signed.
        #[test]
        fn rot_in_one_slot_leaves_the_other(flips in prop::collection::vec((0_usize..SLOT_BYTES, 0_u8..8), 1..20), b in any::<bool>()) {
            let mut bytes = [slot(6), slot(7)].concat();
            let (start, left) = if b { (SLOT_BYTES, 6) } else { (0, 7) };
            for (at, bit) in flips {
                bytes[start + at] ^= 1 << bit;
            }
            let found = open(&mut Medium::new(&bytes, 512), 0, verify);
            let found = found.map(|found| (found.record == record(found.revision), found.revision));
            // An even number of flips of one bit is none.
            prop_assert!(found == Ok((true, left)) || bytes == [slot(6), slot(7)].concat(), "{found:?}");
            // Rot of the newer one is a step back, and the floor sees it.
            if found == Ok((true, 6)) {
                let seen = open(&mut Medium::new(&bytes, 512), 7, verify);
                prop_assert_eq!(seen, Err(InstallError::RolledBack { revision: 6, floor: 7 }));
            }
        }
    }
}
