//! Ledger blocks on the wire: DER, because every block is already signed and base64 twice over would not fit a message.
//! What a block is, `ledger` knows; here it is opaque octets.

use der::{Sequence, asn1::OctetString};

use crate::{Error, entry::octet_string, if2::envelope::MESSAGE_BYTES_MAX};

/// `Blocks` of `docs/evidence.asn1`: consecutive blocks of one log from `first` on. An empty list asks only for the receipt.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Blocks {
    /// Format version, 1.
    pub version: u8,
    /// 0 trade, 1 finance.
    pub log: u8,
    /// Height of the first block.
    pub first: u64,
    /// The blocks' DER.
    pub blocks: Vec<OctetString>,
}

impl Blocks {
    /// Takes as many of `blocks` as fit one message; at least one, if there is any.
    ///
    /// # Errors
    /// [`Error::Malformed`] when a block does not fit DER.
    pub fn pack(log: u8, first: u64, blocks: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, Error> {
        // Room for the outer lengths: one SEQUENCE header a block and the fixed fields.
        const OVERHEAD: usize = 64;
        let mut taken = Vec::new();
        let mut bytes = OVERHEAD;
        for block in blocks {
            bytes += block.len() + 8;
            if !taken.is_empty() && bytes > MESSAGE_BYTES_MAX {
                break;
            }
            taken.push(octet_string(&block, "Blocks")?);
        }
        Ok(Self { version: 1, log, first, blocks: taken })
    }
}
