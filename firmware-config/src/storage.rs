//! The one seam to the medium: a few calls over a fixed number of bytes. What is written in which order is `install.rs`'s
//! part; files and devices are the caller's.

use crate::{Error, IMAGE_BYTES};

/// The medium of an image: a file, a partition, flash, memory. Offset 0 must be the beginning of a sector of the medium.
pub trait Storage {
    /// What can go wrong with the medium.
    type Error;

    /// Bytes of the medium; the image is the first [`IMAGE_BYTES`] of them.
    fn size_bytes(&self) -> u64;

    /// The unit that the medium writes: a power cut leaves each such unit old or new where the medium keeps its word, and
    /// damages no other. A power of two.
    fn sector_bytes(&self) -> usize;

    /// Reads exactly `into.len()` bytes from `offset`.
    ///
    /// # Errors
    /// The medium's; fewer bytes than asked for are one.
    fn read_at(&mut self, offset: usize, into: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes all of `bytes` at `offset`; both are multiples of [`Self::sector_bytes`]. Until [`Self::flush`] returns, a
    /// power cut may leave any of the sectors written, in any order.
    ///
    /// # Errors
    /// The medium's. Anything may have been written then.
    fn write_at(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Returns when everything written is on the medium and will survive a power cut. What is read afterwards comes from
    /// the medium, as far as the caller's system can see to it.
    ///
    /// # Errors
    /// The medium's. Nothing is known about what was written then.
    fn flush(&mut self) -> Result<(), Self::Error>;
}

/// An image in memory, in sectors of 512 bytes: for making an image before it is written anywhere.
impl Storage for [u8; IMAGE_BYTES] {
    type Error = Error;

    fn size_bytes(&self) -> u64 {
        IMAGE_BYTES as u64
    }

    fn sector_bytes(&self) -> usize {
        512
    }

    fn read_at(&mut self, offset: usize, into: &mut [u8]) -> Result<(), Error> {
        let from = self.get(offset..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(from.ok_or(Error::ImageSize { bytes: IMAGE_BYTES })?);
        Ok(())
    }

    fn write_at(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let to = self.get_mut(offset..).and_then(|rest| rest.get_mut(..bytes.len()));
        to.ok_or(Error::ImageSize { bytes: IMAGE_BYTES })?.copy_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
