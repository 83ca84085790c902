//! Electronic seals of GB/T 38540-2020 (version 4): a seal that its maker signed (`SESeal`), and what comes of using it on a
//! document (`SES_Signature`). Seals of GM/T 0031-2014 (version 1, which sign other bytes) and of GM/T 0031-2025 (version 5) are
//! told apart and refused. Pictures are carried, never drawn; documents are known by their SM3 only.

mod design;
mod imprint;

pub use design::{Design, Listed, Picture, Seal, make, verify as verify_seal};
pub use imprint::{Imprint, read_seal, sign, verify};

use crate::fields::{BOOLEAN, Fields, Malformed, OCTETS, SEQUENCE};

/// The version that is written and read.
const VERSION: u32 = 4;
/// Longest seal or signature that is read, bytes.
pub const SEAL_BYTES_MAX: usize = 4 << 20;
/// Most certificates that one seal lists.
pub const LISTED_MAX: usize = 256;
const EXTENSIONS_MAX: usize = 32;
/// Longest name or id in a seal, bytes.
pub const TEXT_BYTES_MAX: usize = 512;

/// Reads `ExtensionDatas`; nothing is known of any of them, so a critical one is refused. Others write `critical` even when it
/// is FALSE, which DER would leave out.
fn read_extensions(content: &[u8]) -> Result<(), Malformed> {
    const PART: &str = "extDatas";
    for one in Fields::of(content).all(SEQUENCE, EXTENSIONS_MAX, PART)? {
        let mut extension = Fields::of(one.content);
        let oid = extension.oid(PART)?;
        match extension.optional(BOOLEAN, PART)?.map(|value| value.content) {
            None | Some([0]) => {}
            Some([0xff]) => return Err(Malformed::new(PART, format!("unknown critical extension {oid}"))),
            Some(_) => return Err(Malformed::new(PART, "not a BOOLEAN")),
        }
        extension.take(OCTETS, PART)?;
        extension.finish(PART)?;
    }
    Ok(())
}

/// The algorithm of a seal is a bare object identifier: SM2-with-SM3.
fn read_algorithm(fields: &mut Fields<'_>, part: &'static str) -> Result<(), Malformed> {
    let found = fields.oid(part)?;
    if found == crate::asn1::SM2_WITH_SM3 {
        Ok(())
    } else {
        Err(Malformed::new(part, format!("{found} is not SM2-with-SM3")))
    }
}
