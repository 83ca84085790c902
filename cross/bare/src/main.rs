//! What a boot program does with the burnt-in record, on a Cortex-M4 without an operating system and without an allocator: open an
//! image that `hufu firmware build` made, check its SM2 signature, and install a newer record over memory whose power is
//! cut after every write. Prints what it sees by semihosting; the exit status of qemu is the verdict.
#![no_std]
#![no_main]

// What the printing macros lock with, on the one core there is.
use cortex_m as _;
use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use hufu_firmware_config::{IMAGE_BYTES, InstallError, SLOT_BYTES, Slot, SlotFault, Storage, blank, install, open};
use sm2::dsa::{Signature, VerifyingKey, signature::Verifier};

/// Revisions 1 and 2, made by `hufu firmware build` with the key whose public half is [`SIGNER`].
const GOLDEN: &[u8; IMAGE_BYTES] = include_bytes!("../testdata/two-records.img");
/// The signer's public key, SEC 1 uncompressed.
const SIGNER: &[u8] = include_bytes!("../testdata/signer.sec1");
/// The distinguishing identifier of GB/T 32918.2 where none is agreed upon.
const DISTINGUISHING_ID: &str = "1234567812345678";

#[panic_handler]
fn panicked(info: &core::panic::PanicInfo<'_>) -> ! {
    hprintln!("panic: {}", info);
    stop(debug::EXIT_FAILURE)
}

fn stop(status: debug::ExitStatus) -> ! {
    loop {
        debug::exit(status);
    }
}

/// One of the two integers of a DER `SM2Signature`, as 32 bytes, and what follows it.
fn integer(der: &[u8]) -> Option<([u8; 32], &[u8])> {
    let (&length, rest) = der.strip_prefix(&[2])?.split_first()?;
    let (digits, rest) = rest.split_at_checked(usize::from(length))?;
    let digits = digits.strip_prefix(&[0]).unwrap_or(digits);
    let mut out = [0; 32];
    out.get_mut(32_usize.checked_sub(digits.len())?..)?.copy_from_slice(digits);
    Some((out, rest))
}

fn verify(key: &VerifyingKey, signed: &[u8], der: &[u8]) -> Option<()> {
    let (r, rest) = integer(der.get(2..)?)?;
    let (s, rest) = integer(rest)?;
    let mut both = [0; 64];
    both.get_mut(..32)?.copy_from_slice(&r);
    both.get_mut(32..)?.copy_from_slice(&s);
    let signature = Signature::from_slice(&both).ok().filter(|_| rest.is_empty())?;
    key.verify(signed, &signature).ok()
}

/// Memory whose power goes after so many writes; of the next one only the beginning is written.
struct Memory {
    image: [u8; IMAGE_BYTES],
    writes_left: Option<u32>,
}

impl Storage for Memory {
    type Error = ();

    fn size_bytes(&self) -> u64 {
        self.image.size_bytes()
    }
    fn sector_bytes(&self) -> usize {
        self.image.sector_bytes()
    }
    fn read_at(&mut self, offset: usize, into: &mut [u8]) -> Result<(), ()> {
        self.image.read_at(offset, into).map_err(drop)
    }
    fn write_at(&mut self, offset: usize, bytes: &[u8]) -> Result<(), ()> {
        match self.writes_left {
            None => return self.image.write_at(offset, bytes).map_err(drop),
            Some(0) => {
                let torn = bytes.get(..bytes.len() / 8).ok_or(())?;
                self.image.write_at(offset, torn).map_err(drop)?;
                return Err(());
            }
            Some(left) => self.writes_left = Some(left - 1),
        }
        self.image.write_at(offset, bytes).map_err(drop)
    }
    fn flush(&mut self) -> Result<(), ()> {
        Ok(())
    }
}

#[entry]
fn main() -> ! {
    match all() {
        Ok(()) => {
            hprintln!("ok");
            stop(debug::EXIT_SUCCESS)
        }
        Err(what) => {
            hprintln!("wrong: {}", what);
            stop(debug::EXIT_FAILURE)
        }
    }
}

fn all() -> Result<(), &'static str> {
    let key = VerifyingKey::from_sec1_bytes(DISTINGUISHING_ID, SIGNER).map_err(|_| "the signer's key")?;
    let verify = |signed: &[u8], signature: &[u8]| verify(&key, signed, signature).is_some();

    let found = open(&mut GOLDEN.clone(), 2, verify).map_err(|_| "the golden image does not open")?;
    hprintln!("revision {} in slot {:?}: {}/{}", found.revision, found.slot, found.record.site, found.record.node);
    if (found.revision, found.slot, found.other) != (2, Slot::B, Ok(1)) {
        return Err("not the newer record");
    }

    // A forged record of a higher revision, with a right checksum, is no record; one that rotted gives way to the older one,
    // which the floor refuses.
    let mut rotten = *GOLDEN;
    rotten[SLOT_BYTES + 40] ^= 1;
    let older = open(&mut rotten, 0, verify).map_err(|_| "the older record does not stand in")?;
    if (older.revision, older.other) != (1, Err(SlotFault::Crc)) {
        return Err("not the older record");
    }
    if open(&mut rotten, 2, verify) != Err(InstallError::RolledBack { revision: 1, floor: 2 }) {
        return Err("the floor does not hold");
    }
    if open(&mut GOLDEN.clone(), 0, |_, _| false).is_ok() {
        return Err("counts without a signature");
    }

    let mut new = [0; SLOT_BYTES];
    GOLDEN.clone().read_at(Slot::B.offset(), &mut new).map_err(|_| "slot B")?;
    let mut image = blank();
    image[..SLOT_BYTES].copy_from_slice(&GOLDEN[..SLOT_BYTES]);
    let (mut before, mut after) = (0, 0);
    for cut in 0..=3 {
        let mut memory = Memory { image, writes_left: Some(cut) };
        let done = install(&mut memory, &new, 1, verify);
        // Power is back.
        memory.writes_left = None;
        if memory.image[..SLOT_BYTES] != image[..SLOT_BYTES] {
            return Err("the slot that counted was written");
        }
        let found = open(&mut memory, 1, verify).map_err(|_| "nothing counts after a cut")?;
        match (found.revision, done.is_ok()) {
            (1, false) => before += 1,
            (2, _) => after += 1,
            _ => return Err("an acknowledged record is gone"),
        }
        let found = install(&mut memory, &new, found.revision, verify).map_err(|_| "no update after a cut")?;
        if (found.revision, found.slot) != (2, Slot::B) {
            return Err("the update after a cut does not count");
        }
    }
    hprintln!("cut after every write: {} times the old record, {} times the new one", before, after);
    if (before, after) == (3, 1) { Ok(()) } else { Err("other than the order of writes says") }
}
