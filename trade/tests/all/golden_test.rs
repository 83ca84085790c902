//! The golden files against what the code makes today. A difference means that evidence signed yesterday would not be made
//! again byte for byte: think before you write them anew with the example `golden`.

use std::path::{Path, PathBuf};

use hufu_trade::entry::EntryKind;

use crate::golden::{files, hashes};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden")
}

pub(crate) fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn golden_files_are_made_again_byte_for_byte() {
    let files = files().unwrap();
    for (name, bytes) in &files.0 {
        assert!(read(name) == *bytes, "{name} differs from what the code makes");
    }
    assert_eq!(String::from_utf8(read("hashes.txt")).unwrap(), hashes(&files));
    let count = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(count, files.0.len() + 1, "a file in the folder that nothing makes");
}

#[test]
fn there_is_a_golden_entry_of_each_kind() {
    let mut names: Vec<String> =
        std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("Entry-"));
    let found: Vec<u16> =
        names.iter().map(|name| hufu_trade::decode::<crate::wire::Entry>(&read(name), "Entry").unwrap().kind).collect();
    for kind in (0..=u16::MAX).filter_map(EntryKind::from_number) {
        assert!(found.contains(&kind.number()), "no golden entry of kind {} {}", kind.number(), kind.name());
    }
}

#[test]
fn the_golden_bill_is_what_the_documents_work_out_by_hand() {
    let bill: hufu_trade::bill::Bill = hufu_trade::decode(&read("Bill.der"), "Bill").unwrap();
    let lines: Vec<_> = bill.lines.iter().map(|l| (&*l.resource, l.quantity, l.tier, l.amount.to_string())).collect();
    let want = [
        ("cpu", 7_200_000_000_000, 1, "0.24"),
        ("cpu", 1_800_123_456_790, 2, "0.05000343"),
        ("memory", 6_442_450_944_001, 1, "0.03333333"),
        ("net_tx", 1_610_612_736, 2, "0.75"),
    ];
    assert_eq!(lines, want.map(|(name, quantity, tier, amount)| (name, quantity, tier, amount.to_owned())));
    assert_eq!((bill.rounding.to_string(), bill.total.to_string()), ("-0.00333676".to_owned(), "1.07".to_owned()));
    assert_eq!(bill.gaps.len(), 1);
}
