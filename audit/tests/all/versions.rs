//! A structure of a version that nobody knows is refused wherever a pack holds one, and by both verifiers. Its bytes are
//! changed in place, so its signature fails too; what counts here is that the structure itself is not read.

use hufu_audit::{Exit, pack::ENTRY_FILES_MAX};
use hufu_ledger::Entry;
use hufu_trade::entry::EntryKind;

use crate::{Files, judge, only, pack_with, said, stored, synthetic::Plan, unzip};

const WINDOW: &[u8] = include_bytes!("../../../trade/testdata/golden/Window.der");
const PAYMENT: &[u8] = include_bytes!("../../../trade/testdata/golden/Payment.der");
const REFUND: &[u8] = include_bytes!("../../../trade/testdata/golden/RefundPaid.der");
const CORRECTION: &[u8] = include_bytes!("../../../trade/testdata/golden/Correction.der");
const NOTICE: &[u8] = include_bytes!("../../../trade/testdata/golden/Signed-notice-dispute.der");
const SCORE: &[u8] = include_bytes!("../../../trade/testdata/golden/SignedStatement-score.der");
const CHECKPOINT: &[u8] = include_bytes!("../../../trade/testdata/golden/Checkpoint.der");

/// The same bytes with 2 in the place of the first version: a SEQUENCE that begins with INTEGER 1.
fn later(bytes: &[u8]) -> Vec<u8> {
    let headed = |at: usize| match bytes.get(at..) {
        Some([0x30, 0x82, _, _, 2, 1, 1, ..]) => Some(at + 6),
        Some([0x30, 0x81, _, 2, 1, 1, ..]) => Some(at + 5),
        Some([0x30, _, 2, 1, 1, ..]) => Some(at + 4),
        _ => None,
    };
    let at = (0..bytes.len()).find_map(headed).unwrap();
    let mut later = bytes.to_vec();
    later[at] = 2;
    later
}

fn change(files: &mut Files, member: &str) {
    let content = later(&files[member]);
    files.insert(member.to_owned(), content);
}

fn add(files: &mut Files, place: &str, kind: EntryKind, body: &[u8]) {
    let entry = Entry { salt: [4; 16], kind: kind.number(), body: later(body) };
    files.insert(format!("entries/{place}-{}.der", kind.name()), entry.to_bytes().unwrap());
}

/// Packs with one structure of version 2: which one, the pack, and what is said of it.
pub(crate) fn packs() -> Vec<(String, Vec<u8>, &'static str)> {
    let (_, pack) = pack_with(&Plan { records: 1, ..Plan::default() }, ENTRY_FILES_MAX);
    let files = unzip(&pack);
    let mut packs = Vec::new();
    let mut make = |name: &str, says: &'static str, edit: &dyn Fn(&mut Files)| {
        let mut files = files.clone();
        edit(&mut files);
        packs.push((name.to_owned(), stored(&files), says));
    };
    for kind in ["browse", "offer", "order", "deal", "rules", "order_status", "usage", "bill"] {
        make(kind, ".version: 2 is unknown", &|files| {
            let folder = if kind == "bill" { "entries/1-" } else { "entries/0-" };
            change(files, &only(files, folder, &format!("-{kind}.der")));
        });
    }
    make("bill.der", "not a Bill", &|files| change(files, "bill.der"));
    make("tariff.der", "Tariff.version: 2 is unknown", &|files| change(files, "tariff.der"));
    for (kind, says) in [
        ("browse", "not a browse"),
        ("offer", "not a offer"),
        ("order", "not a order"),
        ("receipt", "not a receipt"),
        ("block", "not a block"),
    ] {
        make(&format!("signed {kind}"), says, &|files| {
            let name = files.keys().find(|name| name.starts_with(&format!("signed/{kind}")) && name.ends_with(".tbs"));
            change(files, &name.unwrap().clone());
        });
    }
    for (kind, body) in [
        (EntryKind::Window, WINDOW),
        (EntryKind::Payment, PAYMENT),
        (EntryKind::RefundPaid, REFUND),
        (EntryKind::Correction, CORRECTION),
        (EntryKind::Notice, NOTICE),
        (EntryKind::Score, SCORE),
    ] {
        make(kind.name(), ".version: 2 is unknown", &|files| add(files, "0-99-0", kind, body));
    }
    make("checkpoint", "not a checkpoint", &|files| {
        let index = String::from_utf8(files["signed/index.tsv"].clone()).unwrap();
        let block = index.lines().find(|line| line.ends_with("\tblock")).unwrap();
        let columns: Vec<&str> = block.split('\t').collect();
        let line = format!("signed/last.tbs\t{}\t{}\tnode\t{}\tcheckpoint\n", columns[1], columns[2], columns[4]);
        files.insert("signed/last.tbs".into(), later(CHECKPOINT));
        files.insert("signed/index.tsv".into(), [index, line].concat().into_bytes());
    });
    packs
}

#[test]
fn no_structure_of_a_later_version_is_read() {
    let (parties, _) = pack_with(&Plan { records: 1, ..Plan::default() }, ENTRY_FILES_MAX);
    for (name, pack, says) in packs() {
        let verdicts = judge(&pack, &parties);
        assert_eq!(verdicts.exit(), Exit::No, "{name}");
        assert!(said(&verdicts).contains(says), "{name}: {} lacks {says:?}", said(&verdicts));
    }
}
