//! Images against an independent writer, every cut, every flipped bit, and everything that must be refused.

#[cfg(test)]
mod tests {
    use hufu_firmware_config::{
        Endpoint, Error, Field, Host, IMAGE_BYTES, KeyPurpose, KeyReference, KeySlot, Record, SLOT_BYTES, Segment,
        SerialNumber, Signature, Slot, SlotFault, build, parse, select,
    };
    use proptest::prelude::*;

    /// A stand-in for a signature: sums and length of the bytes. Real signatures are the callers' tests.
    fn mac(signed: &[u8]) -> Vec<u8> {
        let weigh = |sum: u64, byte: &u8| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte);
        signed.iter().fold(0xcbf2_9ce4_8422_2325, weigh).to_be_bytes().to_vec()
    }
    fn sign(signed: &[u8]) -> Option<Signature> {
        Signature::new(&mac(signed)).ok()
    }
    fn verify(signed: &[u8], signature: &[u8]) -> bool {
        mac(signed) == signature
    }

    fn record(node: &str) -> Record {
        let mut record = Record::new(
            SerialNumber::new("SN-0001").unwrap(),
            Segment::new("site-a").unwrap(),
            Segment::new(node).unwrap(),
        );
        let key_reference = KeyReference::new("/etc/hufu/node.pem").unwrap();
        let key = KeySlot { index: 0, purpose: KeyPurpose::NodeSigning, certificate_id: [0xa1; 32], key_reference };
        let tls = KeyReference::new("tls").unwrap();
        // Added out of order: the record keeps them rising.
        let other =
            KeySlot { index: 5, purpose: KeyPurpose::Transport, certificate_id: [0xa2; 32], key_reference: tls };
        record.add_key_slot(other).unwrap();
        record.add_key_slot(key).unwrap();
        let host = Host::new("mqtt.example.org").unwrap();
        record.add_endpoint(Endpoint { host, port: 8883, tls: true, platform_certificate_id: [0xb1; 32] }).unwrap();
        record
    }

    fn slot(node: &str, revision: u64) -> [u8; SLOT_BYTES] {
        build(&record(node), revision, sign).unwrap()
    }

    fn image(a: &[u8], b: &[u8]) -> Vec<u8> {
        [a, b].concat()
    }

    #[test]
    fn the_bytes_are_those_of_the_independent_writer() {
        let golden = hex::decode(include_str!("../testdata/slot-v1.hex").trim()).unwrap();
        let signature = [0x30, 3, 2, 1, 5];
        let built = build(&record("node_1"), 7, |_| Signature::new(&signature).ok()).unwrap();
        assert_eq!(hex::encode(&built[..golden.len()]), hex::encode(&golden));
        assert!(built[golden.len()..].iter().all(|byte| *byte == 0xff));
        let (read, revision) = parse(&built, |_, found| found == signature).unwrap();
        assert_eq!((read, revision), (record("node_1"), 7));
    }

    #[test]
    fn purposes_keep_their_numbers() {
        let table = [(1, KeyPurpose::NodeSigning), (2, KeyPurpose::NodeEncryption), (3, KeyPurpose::Transport)];
        for (number, purpose) in table {
            assert_eq!((purpose.number(), KeyPurpose::from_number(number)), (number, Some(purpose)));
        }
        let known = (0..=255).filter(|number| KeyPurpose::from_number(*number).is_some()).count();
        assert_eq!(known, table.len());
    }

    #[test]
    fn every_flipped_bit_of_a_slot_is_refused() {
        let good = slot("node-1", 3);
        for index in 0..SLOT_BYTES {
            for bit in 0..8 {
                let mut bytes = good;
                bytes[index] ^= 1 << bit;
                let found = parse(&bytes, verify);
                assert!(found.is_err(), "byte {index} bit {bit}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_refused_by_the_record_or_the_signature_even_with_a_right_checksum() {
        let good = slot("node-1", 3);
        let used = SLOT_BYTES - good.iter().rev().take_while(|byte| **byte == 0xff).count();
        for index in 0..used - 4 {
            let mut bytes = good;
            bytes[index] ^= 1;
            let crc = crc32(&bytes[..used - 4]);
            bytes[used - 4..used].copy_from_slice(&crc.to_be_bytes());
            assert!(parse(&bytes, verify).is_err(), "byte {index}");
            // Whoever holds the key may write anything; the reader still takes only the one encoding.
            if let Ok((read, revision)) = parse(&bytes, |_, _| true) {
                let again = build(&read, revision, |_| Signature::new(&bytes[used - 12..used - 4]).ok()).unwrap();
                assert_eq!(again, bytes, "byte {index}");
            }
        }
    }

    #[test]
    fn every_cut_of_an_image_is_refused_by_its_size() {
        let whole = image(&slot("node-1", 1), &slot("node-1", 2));
        for length in 0..IMAGE_BYTES {
            assert_eq!(select(&whole[..length], verify), Err(Error::ImageSize { bytes: length }));
        }
        let longer = [whole.as_slice(), &[0xff]].concat();
        assert_eq!(select(&longer, verify), Err(Error::ImageSize { bytes: IMAGE_BYTES + 1 }));
        assert_eq!(parse(&whole, verify), Err(SlotFault::Size));
    }

    #[test]
    fn a_write_torn_at_any_byte_leaves_the_other_slot_in_charge() {
        let (old, new) = (slot("node-1", 1), slot("node-2", 2));
        let used = SLOT_BYTES - new.iter().rev().take_while(|byte| **byte == 0xff).count();
        for written in 0..used {
            for before in [[0xff; SLOT_BYTES], slot("node-0", 0x7fff_ffff_ffff)] {
                let mut torn = before;
                torn[..written].copy_from_slice(&new[..written]);
                let Ok(found) = select(&image(&old, &torn), verify) else { panic!("cut at {written}") };
                let untouched = torn == before && before[0] != 0xff;
                assert_eq!(found.slot, if untouched { Slot::B } else { Slot::A }, "cut at {written}");
            }
        }
    }

    #[test]
    fn the_higher_valid_revision_counts_wherever_it_stands() {
        let (one, two, empty) = (slot("node-1", 1), slot("node-2", 2), [0xff; SLOT_BYTES]);
        let mut rotten = two;
        rotten[40] ^= 4;
        let cases = [
            ("newer in B", image(&one, &two), Slot::B, 2, Ok(1)),
            ("newer in A", image(&two, &one), Slot::A, 2, Ok(1)),
            ("only A", image(&one, &empty), Slot::A, 1, Err(SlotFault::Empty)),
            ("only B", image(&empty, &one), Slot::B, 1, Err(SlotFault::Empty)),
            ("newer one rotten in B", image(&one, &rotten), Slot::A, 1, Err(SlotFault::Crc)),
            ("newer one rotten in A", image(&rotten, &one), Slot::B, 1, Err(SlotFault::Crc)),
            ("twice the same", image(&one, &one), Slot::A, 1, Ok(1)),
        ];
        for (name, bytes, slot, revision, other) in cases {
            let found = select(&bytes, verify).unwrap();
            assert_eq!((found.slot, found.revision, found.other), (slot, revision, other), "{name}");
            assert_eq!(found.record.node.as_str(), format!("node-{revision}"), "{name}");
        }
        let two_minds = image(&slot("node-1", 1), &slot("node-2", 1));
        assert_eq!(select(&two_minds, verify), Err(Error::Ambiguous { revision: 1 }));
        let nothing = Error::NoValidSlot { a: SlotFault::Empty, b: SlotFault::Crc };
        assert_eq!(select(&image(&empty, &rotten), verify), Err(nothing));
    }

    #[test]
    fn each_fault_of_a_slot_has_its_name() {
        let good = slot("node-1", 1);
        let used = SLOT_BYTES - good.iter().rev().take_while(|byte| **byte == 0xff).count();
        let with = |offset: usize, bytes: &[u8]| {
            let mut slot = good;
            slot[offset..offset + bytes.len()].copy_from_slice(bytes);
            slot
        };
        for (name, bytes, want) in [
            ("something else", with(0, b"EFI "), SlotFault::Magic),
            ("a later format", with(4, &[0, 2]), SlotFault::FormatVersion(2)),
            ("a record beyond the slot", with(6, &[0xff, 0xff]), SlotFault::Length),
            ("no signature", with(used - 13, &[0]), SlotFault::Length),
            ("a long signature", with(used - 13, &[73]), SlotFault::Length),
            ("a wrong checksum", with(used - 1, &[good[used - 1] ^ 1]), SlotFault::Crc),
            ("something after it", with(SLOT_BYTES - 1, &[0]), SlotFault::Fill),
        ] {
            assert_eq!(parse(&bytes, verify), Err(want), "{name}");
        }
        assert_eq!(parse(&good, |_, _| false), Err(SlotFault::Signature));
        assert_eq!(parse(&[0xff; SLOT_BYTES], verify), Err(SlotFault::Empty));
        assert_eq!(parse(&[0; SLOT_BYTES], verify), Err(SlotFault::Empty));
        assert_eq!(build(&record("n"), 0, sign), Err(Error::Slot(SlotFault::Revision)));
        assert_eq!(build(&record("n"), 1, |_| None), Err(Error::NotSigned));
    }

    #[test]
    fn a_signed_but_malformed_record_names_the_field() {
        let text = |value: &str| [&[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
        let head = [text("SN"), text("s"), text("n")].concat();
        let key = |index: u8, purpose: u8| [vec![index, purpose], vec![0xa1; 32], text("k")].concat();
        let endpoint = |port: [u8; 2], tls: u8| [text("h"), port.to_vec(), vec![tls], vec![0xb1; 32]].concat();
        let cases: [(&str, Vec<u8>, Field); 17] = [
            ("nothing", vec![], Field::SerialNumber),
            ("empty serial number", text(""), Field::SerialNumber),
            ("control characters", text("a\nb"), Field::SerialNumber),
            ("not UTF-8", vec![1, 0xff], Field::SerialNumber),
            ("capital letters in a segment", [text("SN"), text("Site")].concat(), Field::Segment),
            ("no key count", head.clone(), Field::KeySlots),
            (
                "nine keys",
                [head.clone(), vec![9], (0..9).flat_map(|index| key(index, 1)).collect()].concat(),
                Field::KeySlots,
            ),
            ("unknown purpose", [head.clone(), vec![1], key(0, 4)].concat(), Field::KeyPurpose),
            ("same index twice", [head.clone(), vec![2], key(3, 1), key(3, 1)].concat(), Field::KeyIndex),
            ("falling index", [head.clone(), vec![2], key(3, 1), key(2, 1)].concat(), Field::KeyIndex),
            ("cut certificate id", [head.clone(), vec![1, 0, 1, 7, 7]].concat(), Field::CertificateId),
            ("no endpoint count", [head.clone(), vec![0]].concat(), Field::Endpoints),
            ("five endpoints", [head.clone(), vec![0, 5], endpoint([0, 1], 0).repeat(5)].concat(), Field::Endpoints),
            ("port 0", [head.clone(), vec![0, 1], endpoint([0, 0], 0)].concat(), Field::Port),
            ("TLS flag 2", [head.clone(), vec![0, 1], endpoint([0, 1], 2)].concat(), Field::Tls),
            ("space in a host", [head.clone(), vec![0, 1], text("a b")].concat(), Field::Host),
            ("something after it", [head, vec![0, 0, 0]].concat(), Field::Trailing),
        ];
        for (name, body, want) in cases {
            assert_eq!(parse(&wrap(&body), |_, _| true), Err(SlotFault::Record(want)), "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_when_made() {
        let long = "x".repeat(254);
        let too_long = |field, max| Error::TooLong { field, max };
        assert_eq!(Segment::new(&long[..65]), Err(too_long(Field::Segment, 64)));
        assert_eq!(SerialNumber::new(&long[..65]), Err(too_long(Field::SerialNumber, 64)));
        assert_eq!(KeyReference::new(&long[..129]), Err(too_long(Field::KeyReference, 128)));
        assert_eq!(Host::new(&long), Err(too_long(Field::Host, 253)));
        for text in ["", "A", "a.b", "a b", "é", "a/b"] {
            assert_eq!(Segment::new(text), Err(Error::Invalid { field: Field::Segment }), "{text}");
        }
        assert_eq!(Signature::new(&[]), Err(Error::SignatureLength));
        assert_eq!(Signature::new(&[1; 73]), Err(Error::SignatureLength));
        let mut full = fullest();
        let key_reference = KeyReference::new("k").unwrap();
        let key = |index| KeySlot {
            index,
            purpose: KeyPurpose::NodeSigning,
            certificate_id: [0; 32],
            key_reference: key_reference.clone(),
        };
        assert_eq!(full.add_key_slot(key(9)), Err(too_long(Field::KeySlots, 8)));
        assert_eq!(full.add_key_slot(key(0)), Err(Error::Invalid { field: Field::KeyIndex }));
        let endpoint =
            |port| Endpoint { host: Host::new("h").unwrap(), port, tls: false, platform_certificate_id: [0; 32] };
        assert_eq!(full.add_endpoint(endpoint(1)), Err(too_long(Field::Endpoints, 4)));
        assert_eq!(full.add_endpoint(endpoint(0)), Err(Error::Invalid { field: Field::Port }));
    }

    #[test]
    fn the_fullest_record_fits_and_comes_back() {
        let slot = build(&fullest(), u64::MAX, |_| Signature::new(&[7; 72]).ok()).unwrap();
        assert_eq!(parse(&slot, |_, signature| signature == [7; 72]).unwrap(), (fullest(), u64::MAX));
    }

    /// Every list full, every text as long as it may be.
    fn fullest() -> Record {
        let text = "x".repeat(253);
        let mut record = Record::new(
            SerialNumber::new(&text[..64]).unwrap(),
            Segment::new(&text[..64]).unwrap(),
            Segment::new(&text[..64]).unwrap(),
        );
        for index in 0..8 {
            let key_reference = KeyReference::new(&text[..128]).unwrap();
            let purpose = KeyPurpose::NodeEncryption;
            record.add_key_slot(KeySlot { index, purpose, certificate_id: [index; 32], key_reference }).unwrap();
        }
        for port in 1..=4 {
            let host = Host::new(&text).unwrap();
            record.add_endpoint(Endpoint { host, port, tls: true, platform_certificate_id: [3; 32] }).unwrap();
        }
        record
    }

    /// A slot around any record bytes, written by hand.
    fn wrap(body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        let mut slot = [b"HUFU".as_slice(), &[0, 1], &length, &1_u64.to_be_bytes(), body, &[1, 0x30]].concat();
        slot.extend(crc32(&slot).to_be_bytes());
        slot.resize(SLOT_BYTES, 0xff);
        slot
    }

    /// CRC-32 once more, written with a polynomial division instead of masks.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
        })
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let key = (any::<u8>(), 1_u8..=3, any::<[u8; 32]>(), "[ -~]{1,128}");
        let endpoint = ("[A-Za-z0-9.:_-]{1,253}", 1_u16.., any::<bool>(), any::<[u8; 32]>());
        let names = ("[ -~]{1,64}", "[a-z0-9_-]{1,64}", "[a-z0-9_-]{1,64}");
        (names, prop::collection::vec(key, 0..=8), prop::collection::vec(endpoint, 0..=4)).prop_map(
            |((serial, site, node), keys, endpoints)| {
                let serial = SerialNumber::new(&serial).unwrap();
                let mut record = Record::new(serial, Segment::new(&site).unwrap(), Segment::new(&node).unwrap());
                for (index, purpose, certificate_id, reference) in keys {
                    let purpose = KeyPurpose::from_number(purpose).unwrap();
                    let key_reference = KeyReference::new(&reference).unwrap();
                    // An index drawn twice is refused; the record goes on without it.
                    let _ = record.add_key_slot(KeySlot { index, purpose, certificate_id, key_reference });
                }
                for (host, port, tls, platform_certificate_id) in endpoints {
                    let host = Host::new(&host).unwrap();
                    record.add_endpoint(Endpoint { host, port, tls, platform_certificate_id }).unwrap();
                }
                record
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_record_comes_back_from_its_slot(record in any_record(), revision in 1_u64..) {
            let slot = build(&record, revision, sign).unwrap();
            prop_assert_eq!(parse(&slot, verify).unwrap(), (record, revision));
        }

        #[test]
        fn different_records_are_different_bytes(one in any_record(), two in any_record()) {
            let same_bytes = build(&one, 1, sign).unwrap() == build(&two, 1, sign).unwrap();
            prop_assert_eq!(one == two, same_bytes);
        }

        #[test]
        fn no_record_bytes_panic_and_what_is_read_has_one_encoding(body in prop::collection::vec(any::<u8>(), 0..400)) {
            let slot = wrap(&body);
            if let Ok((record, revision)) = parse(&slot, |_, _| true) {
                let again = build(&record, revision, |_| Signature::new(&[0x30]).ok()).unwrap();
                prop_assert_eq!(again.as_slice(), slot.as_slice());
            }
        }

        #[test]
        fn no_image_panics(bytes in prop::collection::vec(any::<u8>(), IMAGE_BYTES), keep in 0_usize..64) {
            let mut bytes = bytes;
            bytes[..keep].copy_from_slice(&slot("node-1", 1)[..keep]);
            prop_assert!(select(&bytes, |_, _| true).is_err());
        }
    }
}
