//! What everybody may know of a node's trade (paper 2.2: histories and ratings are open to all): of each deal what was sold and for how
//! long, of each offer its hash, of each score the entry itself, each with its proof in a block whose header followers hold. Who bought
//! and at what price is no part of it. A node tells its newest on `ledger/public`; DER of `Signed` over [`Public`], by the node.

use der::{Sequence, asn1::OctetString};

use crate::{
    Error,
    demand::is_pool,
    encode,
    entry::EntryKind,
    octets::{ContractNo, Digest},
    statement::RequirementItem,
};

/// Most records of one message.
pub const RECORDS_MAX: usize = 64;
/// Octets that the records of one message may take.
pub const BYTES_MAX: usize = 48 * 1024;
/// Most steps of a path: blocks are far smaller.
const PATH_MAX: usize = 32;

/// The public part of a deal.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct PublicDeal {
    /// ContractNo.
    pub contract_no: ContractNo,
    /// What was sold.
    pub items: Vec<RequirementItem>,
    /// Start of service, ns since 1970-01-01Z.
    pub contract_time: i64,
    /// End of service, not included, as it was agreed at first.
    pub service_end: i64,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct PublicRecord {
    /// Of its block in the trade log.
    pub height: u64,
    /// In its block.
    pub index: u32,
    /// EntryKind: deal, score or offer.
    pub kind: u16,
    /// SM3(00 || entry).
    pub hash: Digest,
    /// Inclusion path from `hash` to the root in the block's header (RFC 6962 2.1.1), from the leaf up; sides follow from the place.
    pub path: Vec<Digest>,
    /// Of a deal.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub deal: Option<PublicDeal>,
    /// Of an offer: SM3 of what the node signed, as order and deal name it.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub offer: Option<Digest>,
    /// Of a score: DER of the entry.
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    pub score: Option<OctetString>,
}

/// A node's newest public records.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub struct Public {
    /// Format version, 1.
    pub version: u8,
    /// `{site}/{node}`.
    pub node: String,
    /// Records at this height and above are all here; what stood there before and is not is withdrawn.
    pub from: u64,
    /// Rising by height, then by index; at most [`RECORDS_MAX`].
    pub records: Vec<PublicRecord>,
}

fn wrong<T>(field: &'static str, why: &str) -> Result<T, Error> {
    Err(Error::Field { what: "Public", field, why: why.to_owned() })
}

impl PublicRecord {
    fn check(&self) -> Result<(), Error> {
        let of = match EntryKind::from_number(self.kind) {
            Some(EntryKind::Deal) => (true, false, false),
            Some(EntryKind::Offer) => (false, true, false),
            Some(EntryKind::Score) => (false, false, true),
            _ => return wrong("kind", "deal, offer or score expected"),
        };
        if of != (self.deal.is_some(), self.offer.is_some(), self.score.is_some()) {
            return wrong("kind", "exactly the part of its kind expected");
        }
        if self.path.len() > PATH_MAX {
            return wrong("path", "at most 32 steps");
        }
        Ok(())
    }
}

impl Public {
    /// The newest records that fit into a message; `records` rise.
    pub fn newest(node: &str, records: &[PublicRecord]) -> Self {
        let mut bytes = 0;
        let fits = records.iter().rev().take(RECORDS_MAX).take_while(|record| {
            bytes += encode(*record, "PublicRecord").map_or(BYTES_MAX, |der| der.len());
            bytes <= BYTES_MAX
        });
        let count = fits.count();
        let kept = records.get(records.len().saturating_sub(count)..).unwrap_or_default().to_vec();
        // With all of them here there is nothing before; otherwise of the first height there may be more.
        let from = if count == records.len() { 0 } else { kept.first().map_or(0, |first| first.height + 1) };
        let records = kept.into_iter().filter(|record| record.height >= from).collect();
        Self { version: 1, node: node.to_owned(), from, records }
    }

    /// Whether its fields are in range. Signature, paths and what is in a score are the reader's question.
    ///
    /// # Errors
    /// [`Error::Field`] naming the first violation.
    pub fn check(&self) -> Result<(), Error> {
        if self.version != 1 {
            return wrong("version", "unknown, 1 expected");
        }
        if !is_pool(&self.node) {
            return wrong("node", "{site}/{node} expected");
        }
        let place = |record: &PublicRecord| (record.height, record.index);
        if self.records.len() > RECORDS_MAX
            || !self.records.is_sorted_by(|a, b| place(a) < place(b))
            || self.records.first().is_some_and(|first| first.height < self.from)
        {
            return wrong("records", "at most 64, rising, none below from");
        }
        self.records.iter().try_for_each(PublicRecord::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octets::Octets;

    fn offer(height: u64, index: u32) -> PublicRecord {
        let (hash, kind) = (Octets([1; 32]), EntryKind::Offer.number());
        PublicRecord { height, index, kind, hash, path: Vec::new(), deal: None, offer: Some(hash), score: None }
    }

    #[test]
    fn the_newest_fit_and_say_from_where_they_are_all_of_them() {
        let all: Vec<PublicRecord> =
            (0..100).map(|number| offer(number / 2, u32::try_from(number % 2).unwrap())).collect();
        let few = Public::newest("s1/n1", &all[..10]);
        assert_eq!((few.from, few.records.len()), (0, 10));
        few.check().unwrap();
        let many = Public::newest("s1/n1", &all[..99]);
        // Sixty-four from the end begin in the middle of a block: that block is not wholly here.
        assert_eq!((many.from, many.records.len()), (18, 63));
        many.check().unwrap();
        let entry = OctetString::new(vec![0; 20_000]).unwrap();
        let score = |height| PublicRecord {
            kind: EntryKind::Score.number(),
            offer: None,
            score: Some(entry.clone()),
            ..offer(height, 0)
        };
        let long = Public::newest("s1/n1", &[score(1), score(2), score(3)]);
        assert_eq!((long.from, long.records.len()), (3, 1));
        assert!(encode(&long, "Public").unwrap().len() < BYTES_MAX);
        assert_eq!(Public::newest("s1/n1", &[]).from, 0);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let good = Public { version: 1, node: "s1/n1".to_owned(), from: 2, records: vec![offer(2, 0), offer(2, 1)] };
        good.check().unwrap();
        let with = |records: Vec<PublicRecord>| Public { records, ..good.clone() };
        for (field, bad) in [
            ("version", Public { version: 2, ..good.clone() }),
            ("node", Public { node: "s1/platform".to_owned(), ..good.clone() }),
            ("records", with(vec![offer(1, 0)])),
            ("records", with(vec![offer(3, 0), offer(2, 0)])),
            ("records", with((0..65).map(|index| offer(2, index)).collect())),
            ("kind", with(vec![PublicRecord { kind: 2, ..offer(2, 0) }])),
            ("kind", with(vec![PublicRecord { kind: 3, ..offer(2, 0) }])),
            ("path", with(vec![PublicRecord { path: vec![Octets([0; 32]); 33], ..offer(2, 0) }])),
        ] {
            let found = bad.check().unwrap_err();
            assert!(matches!(found, Error::Field { field: named, .. } if named == field), "{field}: {found}");
        }
    }
}
