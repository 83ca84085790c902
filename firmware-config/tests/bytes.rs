//! The reader against bytes nobody meant: random ones, and good slots that were changed and then given a right checksum, so
//! that the change gets past it.

#[cfg(test)]
mod tests {
    use hufu_firmware_config::{
        Endpoint, Host, KeyPurpose, KeyReference, KeySlot, Record, SLOT_BYTES, Segment, SerialNumber, Signature,
        SlotFault, build, parse, select,
    };

    /// xorshift64*: the same course everywhere.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
            usize::try_from(number).unwrap() % sides
        }

        fn byte(&mut self) -> u8 {
            // Lengths, counts and blanks are what a parser trips over.
            match self.roll(4) {
                0 => [0, 1, 2, 8, 9, 0x7f, 0x80, 0xff][self.roll(8)],
                _ => u8::try_from(self.roll(256)).unwrap(),
            }
        }
    }

    const SIGNATURE: [u8; 4] = [0x30, 0x02, 0x05, 0x00];

    fn body() -> Vec<u8> {
        let text = |length: usize| "x".repeat(length);
        let names = (SerialNumber::new(&text(9)).unwrap(), Segment::new(&text(3)).unwrap());
        let mut record = Record::new(names.0, names.1.clone(), names.1);
        for index in [0, 3] {
            let (purpose, key_reference) = (KeyPurpose::Transport, KeyReference::new(&text(5)).unwrap());
            record.add_key_slot(KeySlot { index, purpose, certificate_id: [7; 32], key_reference }).unwrap();
        }
        for port in [1883, 8883] {
            let host = Host::new(&text(11)).unwrap();
            record.add_endpoint(Endpoint { host, port, tls: port > 2000, platform_certificate_id: [8; 32] }).unwrap();
        }
        let slot = build(&record, 5, |_| Signature::new(&SIGNATURE).ok()).unwrap();
        let length = usize::from(u16::from_be_bytes([slot[6], slot[7]]));
        slot[16..16 + length].to_vec()
    }

    /// A slot with a right checksum around any bytes: header and record as given, as many as fit.
    fn wrap(revision: u64, body: &[u8]) -> Vec<u8> {
        let body = &body[..body.len().min(SLOT_BYTES - 25)];
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        let mut slot = [b"HUFU".as_slice(), &[0, 1], &length, &revision.to_be_bytes(), body, &[4], &SIGNATURE].concat();
        let crc = slot.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
        });
        slot.extend((!crc).to_be_bytes());
        slot.resize(SLOT_BYTES, 0xff);
        slot
    }

    #[test]
    fn changed_records_with_a_right_checksum_are_refused_or_have_one_encoding() {
        let (good, mut dice) = (body(), Dice(0x5eed));
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..1 + dice.roll(3) {
                let at = dice.roll(bytes.len().max(1));
                match dice.roll(4) {
                    0 => bytes.insert(at, dice.byte()),
                    1 if at < bytes.len() => drop(bytes.remove(at)),
                    2 => bytes.truncate(at),
                    _ => bytes.splice(at..bytes.len().min(at + 1), [dice.byte()]).for_each(drop),
                }
            }
            let slot = wrap(5, &bytes);
            match parse(&slot, |_, signature| signature == SIGNATURE) {
                Ok((record, revision)) => {
                    let again = build(&record, revision, |_| Signature::new(&SIGNATURE).ok()).unwrap();
                    assert_eq!(again.as_slice(), slot, "{record:?}");
                    taken += 1;
                }
                Err(SlotFault::Record(_)) => refused += 1,
                Err(other) => panic!("{other:?} for a slot that is whole"),
            }
        }
        assert!(taken > 1000 && refused > 1000, "{taken} taken, {refused} refused");
    }

    #[test]
    fn random_bytes_of_any_length_never_panic_and_never_count() {
        let mut dice = Dice(0xb17e5);
        for round in 0..4_000 {
            let length = [SLOT_BYTES, 2 * SLOT_BYTES, dice.roll(3 * SLOT_BYTES)][round % 3];
            let mut bytes: Vec<u8> = (0..length).map(|_| dice.byte()).collect();
            // Past the first checks half of the time.
            let head = [b"HUFU".as_slice(), &[0, 1, 0, dice.byte()]].concat();
            if round % 2 == 0 && length > head.len() {
                bytes[..head.len()].copy_from_slice(&head);
            }
            assert!(parse(&bytes, |_, _| true).is_err() && select(&bytes, |_, _| true).is_err(), "{bytes:?}");
        }
    }
}
