//! The versions of the signed structures. A reader that does not know one refuses it: what it would read there is a guess. What
//! a version means is `docs/evidence.asn1`; blocks and checkpoints have theirs in the ledger.

use der::{Decode, Reader, Tag, Tagged, asn1::AnyRef};

use crate::Error;

/// The structures of `docs/evidence.asn1` whose first field is `version`, apart from the ledger's own.
const VERSIONED: [&str; 31] = [
    "Account",
    "Allocation",
    "Ask",
    "Bill",
    "Blocks",
    "Correction",
    "Deal",
    "Demand",
    "Headers",
    "KeyRotation",
    "Matching",
    "Notice",
    "Offer",
    "Operation",
    "OrderStatus",
    "ParentBill",
    "Payment",
    "Public",
    "Receipt",
    "Reconciliation",
    "RefundPaid",
    "Response",
    "Rules",
    "Selection",
    "Statement",
    "Tariff",
    "Token",
    "UsageRecord",
    "UserOperation",
    "Window",
    "Witnessing",
];

/// The one version there is of each.
const KNOWN: u8 = 1;

/// Refuses strict DER of the structure `what` when it, or the price terms inside it, is of an unknown version.
///
/// # Errors
/// [`Error::Field`] naming the version.
pub(crate) fn check(bytes: &[u8], what: &'static str) -> Result<(), Error> {
    if !VERSIONED.contains(&what) {
        return Ok(());
    }
    let told = AnyRef::from_der(bytes).and_then(|whole| told(whole, what == "Offer"));
    let (field, version) = told.map_err(|source| Error::Malformed { what, source: source.into() })?;
    if version == KNOWN {
        return Ok(());
    }
    Err(Error::Field { what, field, why: format!("{version} is unknown, {KNOWN} expected") })
}

/// The version a structure tells; that of the first SEQUENCE in it when only that one is unknown.
fn told(whole: AnyRef<'_>, with_inner: bool) -> der::Result<(&'static str, u8)> {
    whole.sequence(|reader| {
        let version = u8::decode(reader)?;
        let mut inner = KNOWN;
        let mut looking = with_inner;
        while !reader.is_finished() {
            let field = AnyRef::decode(reader)?;
            if looking && field.tag() == Tag::Sequence {
                (inner, looking) = (told(field, false)?.1, false);
            }
        }
        Ok(if version == KNOWN && inner != KNOWN { ("tariff.version", inner) } else { ("version", version) })
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const MODULE: &str = include_str!("../../docs/evidence.asn1");

    /// Golden DER of a structure; of several the first by name.
    fn golden(name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden");
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|file| file.ends_with(".der") && file.split(['-', '.']).next() == Some(name))
            .collect();
        names.sort();
        std::fs::read(folder.join(&names[0])).unwrap()
    }

    /// The same bytes with version 2 in the place of the first 1.
    fn aged(mut bytes: Vec<u8>) -> Vec<u8> {
        let at = bytes.windows(3).position(|found| found == [2, 1, 1]).unwrap();
        bytes[at + 2] = 2;
        bytes
    }

    #[test]
    fn every_structure_of_the_module_with_a_version_is_in_the_list() {
        let mut found = Vec::new();
        let mut name = "";
        for line in MODULE.lines() {
            match line.split_once("::=") {
                Some((head, _)) => name = head.trim(),
                None if line.trim_start().starts_with("version ") => found.push(name),
                None => {}
            }
        }
        found.retain(|name| !["BlockHeader", "Checkpoint", "ForkProof", "Witnessed"].contains(name));
        found.sort_unstable();
        assert_eq!(found, VERSIONED);
    }

    #[test]
    fn each_is_read_in_version_1_and_in_no_other() {
        macro_rules! each {
            ($($kind:ty = $what:literal),* $(,)?) => {
                $(
                    let good = golden($what);
                    crate::decode::<$kind>(&good, $what).unwrap();
                    let refused = crate::decode::<$kind>(&aged(good), $what).unwrap_err();
                    assert!(matches!(refused, Error::Field { what: $what, field: "version", .. }), "{refused}");
                )*
                assert_eq!([$($what),*], VERSIONED);
            };
        }
        each!(
            crate::account::Account = "Account",
            crate::allocation::Allocation = "Allocation",
            crate::if2::peers::Ask = "Ask",
            crate::bill::Bill = "Bill",
            crate::if2::Blocks = "Blocks",
            crate::correction::Correction = "Correction",
            crate::entry::Deal = "Deal",
            crate::demand::Demand = "Demand",
            crate::if2::peers::Headers = "Headers",
            crate::rotation::KeyRotation = "KeyRotation",
            crate::matching::Matching = "Matching",
            crate::notice::Notice = "Notice",
            crate::statement::Offer = "Offer",
            crate::account::Operation = "Operation",
            crate::entry::OrderStatus = "OrderStatus",
            crate::parent::ParentBill = "ParentBill",
            crate::entry::Payment = "Payment",
            crate::if2::public::Public = "Public",
            crate::entry::Receipt = "Receipt",
            crate::reconciliation::Reconciliation = "Reconciliation",
            crate::correction::RefundPaid = "RefundPaid",
            crate::demand::Response = "Response",
            crate::entry::Rules = "Rules",
            crate::matching::Selection = "Selection",
            crate::statement::Statement = "Statement",
            crate::tariff::Tariff = "Tariff",
            crate::token::Token = "Token",
            crate::usage::UsageRecord = "UsageRecord",
            crate::entry::UserOperation = "UserOperation",
            crate::usage::Window = "Window",
            crate::if2::peers::Witnessing = "Witnessing",
        );
    }

    #[test]
    fn an_offer_is_not_read_with_price_terms_of_another_version() {
        let offer: crate::statement::Offer = crate::decode(&golden("Offer"), "Offer").unwrap();
        let mut later = offer.clone();
        later.tariff.version = 2;
        let bytes = crate::encode(&later, "Offer").unwrap();
        let refused = crate::decode::<crate::statement::Offer>(&bytes, "Offer").unwrap_err();
        assert!(matches!(refused, Error::Field { field: "tariff.version", .. }), "{refused}");
    }
}
