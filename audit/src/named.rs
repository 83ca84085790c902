//! Which bill a pack is about, for who wants to name it: nothing is judged here.

use std::io::{Read, Seek};

use hufu_trade::octets::{ContractNo, Digest, Octets};

use crate::{Error, evidence::Evidence, findings::Findings, open::Members, records};

/// How a bill is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillName {
    /// The contract.
    pub contract_no: ContractNo,
    /// Entry hash of the bill.
    pub entry: Digest,
}

/// The bill of a pack.
///
/// # Errors
/// [`Error::Unreadable`], [`Error::TooLarge`]; [`Error::NoBill`] when its entry is not there.
pub fn bill_of(reader: impl Read + Seek) -> Result<BillName, Error> {
    let members = Members::open(reader)?;
    let mut findings = Findings::default();
    let pieces = records::pieces(&members, &mut findings.completeness)?;
    let evidence = Evidence::read(&members, &pieces, &mut findings);
    let entry = evidence.bill_entry.ok_or(Error::NoBill)?;
    Ok(BillName { contract_no: entry.value.contract_no, entry: Octets(entry.hash) })
}
