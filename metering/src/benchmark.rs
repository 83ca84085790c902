//! Short measurements of the server itself, asked for by a person: how fast a directory's disk takes what is written in a row
//! and gives what is read at random, how fast memory is copied, how fast one core does a work it is given. Bounded in time and
//! size; integers only; the caller's clock is passed in. What a product needs is compared by whoever asked.

use std::{
    fs::{File, OpenOptions},
    hint::black_box,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Bytes that are written in one call.
const CHUNK_BYTES: usize = 1 << 20;
/// The file's size at most: beyond the caches of ordinary disks, small beside any that is sold.
pub const FILE_BYTES_MAX: u64 = 1 << 30;
/// A file smaller than this says nothing.
const FILE_BYTES_MIN: u64 = 4 << 20;
/// Bytes that are written before their durability is waited for.
const SYNC_BYTES: u64 = 64 << 20;
/// One random read.
const READ_BYTES: u64 = 4096;
/// Bytes that are copied in memory: more than caches hold.
const COPY_BYTES: usize = 64 << 20;

/// What was done, and in what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Bytes or operations.
    pub done: u64,
    /// ns by the caller's clock.
    pub took_ns: u64,
}

impl Measured {
    /// Per second, rounded down; absent where no time passed.
    #[must_use]
    pub fn per_second(self) -> Option<u64> {
        let product = u128::from(self.done).checked_mul(1_000_000_000)?;
        u64::try_from(product.checked_div(u128::from(self.took_ns))?).ok()
    }
}

/// Does `work`, which says how much it did, again and again for `limit_ns`; at least once.
pub fn repeat(limit_ns: u64, clock: &mut dyn FnMut() -> u64, work: &mut dyn FnMut() -> u64) -> Measured {
    let begun_ns = clock();
    let mut done = 0_u64;
    loop {
        done = done.saturating_add(work());
        let took_ns = clock().saturating_sub(begun_ns);
        if took_ns >= limit_ns {
            return Measured { done, took_ns };
        }
    }
}

/// Bytes copied from one place in memory to another by one thread.
pub fn memory(limit_ns: u64, clock: &mut dyn FnMut() -> u64) -> Measured {
    let (from, mut to) = (vec![0x5a_u8; COPY_BYTES], vec![0_u8; COPY_BYTES]);
    repeat(limit_ns, clock, &mut || {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
        COPY_BYTES as u64
    })
}

/// A file of its own in a directory, removed when it is dropped.
#[derive(Debug)]
pub struct Probe {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Probe {
    /// Makes the file; `number` keeps two of them apart.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn make(directory: &Path, number: u32) -> io::Result<Self> {
        let path = directory.join(format!(".hufu-benchmark-{number}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(Self { path, file, bytes: 0 })
    }

    /// Writes in a row for `limit_ns` or until the file has `bytes_max` bytes, durable at the end.
    ///
    /// # Errors
    /// Those of the file system: a full disk is one.
    pub fn write(&mut self, (limit_ns, bytes_max): (u64, u64), clock: &mut dyn FnMut() -> u64) -> io::Result<Measured> {
        // Bytes that no disk compresses away.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let chunk: Vec<u8> =
            std::iter::repeat_with(|| next(&mut state).to_le_bytes()).flatten().take(CHUNK_BYTES).collect();
        let bytes_max = bytes_max.clamp(FILE_BYTES_MIN, FILE_BYTES_MAX);
        let begun_ns = clock();
        while self.bytes < bytes_max {
            self.file.write_all(&chunk)?;
            self.bytes += CHUNK_BYTES as u64;
            if self.bytes.is_multiple_of(SYNC_BYTES) {
                self.file.sync_data()?;
            }
            if clock().saturating_sub(begun_ns) >= limit_ns && self.bytes >= FILE_BYTES_MIN {
                break;
            }
        }
        self.file.sync_data()?;
        Ok(Measured { done: self.bytes, took_ns: clock().saturating_sub(begun_ns) })
    }

    /// Reads pieces of 4 KiB at random for `limit_ns`, one after the other, from the disk as far as the kernel lets go of what it
    /// holds of the file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(&self, limit_ns: u64, clock: &mut dyn FnMut() -> u64) -> io::Result<Measured> {
        let pieces = (self.bytes / READ_BYTES).max(1);
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)?;
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::Random)?;
        let (mut state, mut piece) = (0x2545_f491_4f6c_dd1d_u64, [0; 4096]);
        let (begun_ns, mut done) = (clock(), 0_u64);
        loop {
            self.file.read_exact_at(&mut piece, next(&mut state) % pieces * READ_BYTES)?;
            done += 1;
            let took_ns = clock().saturating_sub(begun_ns);
            if took_ns >= limit_ns {
                return Ok(Measured { done, took_ns });
            }
            // Once the whole file may have been read the kernel holds it again.
            if done.is_multiple_of(pieces) {
                rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)?;
            }
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

/// The next of a row of numbers without a pattern that a disk knows (xorshift64).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that goes on by `step_ns` at each look.
    fn clock(step_ns: u64) -> impl FnMut() -> u64 {
        let mut now = 0;
        move || {
            now += step_ns;
            now
        }
    }

    #[test]
    fn rates_are_whole_numbers_rounded_down() {
        for (done, took_ns, want) in [
            (3, 1_000_000_000, Some(3)),
            (10, 3_000_000_000, Some(3)),
            (u64::MAX, 1_000_000_000, Some(u64::MAX)),
            (u64::MAX, 1, None),
            (7, 0, None),
        ] {
            assert_eq!(Measured { done, took_ns }.per_second(), want, "{done} in {took_ns}");
        }
    }

    #[test]
    fn work_is_repeated_until_the_time_is_over_and_at_least_once() {
        let mut work = || 5;
        assert_eq!(repeat(10, &mut clock(4), &mut work), Measured { done: 15, took_ns: 12 });
        assert_eq!(repeat(0, &mut clock(4), &mut work), Measured { done: 5, took_ns: 4 });
        assert_eq!(memory(1, &mut clock(9)).done, COPY_BYTES as u64);
    }

    #[test]
    fn a_disk_is_measured_within_its_bounds_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut probe = Probe::make(dir.path(), 1).unwrap();
        assert!(Probe::make(dir.path(), 1).is_err(), "a file that is there is not written over");
        // The time is over at once: the smallest file that says something.
        assert_eq!(probe.write((1, u64::MAX), &mut clock(1)).unwrap().done, FILE_BYTES_MIN);
        assert_eq!(std::fs::metadata(dir.path().join(".hufu-benchmark-1")).unwrap().len(), FILE_BYTES_MIN);
        let read = probe.read(1000, &mut clock(1)).unwrap();
        assert_eq!((read.done, read.took_ns), (1000, 1000));
        drop(probe);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut probe = Probe::make(dir.path(), 2).unwrap();
        assert_eq!(probe.write((u64::MAX, 0), &mut clock(1)).unwrap().done, FILE_BYTES_MIN, "the size is a bound, too");
        assert!(Probe::make(&dir.path().join("absent"), 3).is_err());
    }
}
