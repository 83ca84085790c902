//! Two packs of one story with one thing changed: the point is named, and who is wrong where signatures tell.

use std::io::Cursor;

use hufu_audit::{Dispute, Error, Exit, Lang, dispute, pack::ENTRY_FILES_MAX};
use hufu_trade::money::Money;

use crate::{
    Files, damage, join, only, pack_of, pack_with,
    parties::Parties,
    records, stored,
    synthetic::{By, Plan, correct, notice, pay, refund},
    unzip,
};

fn compare(one: &[u8], two: &[u8], parties: &Parties) -> Dispute {
    dispute(Cursor::new(one), Cursor::new(two), std::slice::from_ref(&parties.root)).unwrap()
}

/// Where they part: log, height, index, kind, field; whether each side's signatures hold.
fn check(name: &str, (one, two): (&[u8], &[u8]), parties: &Parties, want: (&str, &str), holds: [bool; 2], says: &str) {
    for (first, second, holds) in [(one, two, holds), (two, one, [holds[1], holds[0]])] {
        let found = compare(first, second, parties);
        let shown = found.to_text(Lang::En);
        let point = found.first.as_ref().unwrap_or_else(|| panic!("{name}: {shown}"));
        let entry = point.entry.as_ref().map_or("-".to_owned(), |(index, kind)| format!("{index}-{kind}"));
        let at = format!("{}-{}-{entry}", point.block.0, point.block.1);
        assert_eq!((at.as_str(), point.field.as_str()), want, "{name}: {shown}");
        let json = found.to_json(Lang::En);
        let results = [0, 1].map(|side| json["packs"][side]["verdicts"]["signatures"]["result"] != "fail");
        assert_eq!(results, holds, "{name}: {shown}");
        assert!(shown.contains(says), "{name}: {shown}");
        assert_ne!(point.values[0], point.values[1], "{name}");
        assert_eq!((found.exit(), &json["same"]), (Exit::No, &false.into()), "{name}");
        let chinese = found.to_text(Lang::Zh);
        assert!(chinese.contains("分歧") && !chinese.contains(says), "{name}: {chinese}");
    }
}

#[test]
fn packs_that_agree_are_the_same() {
    let (parties, together) = pack_of(&Plan::default());
    let (_, apart) = pack_with(&Plan::default(), ENTRY_FILES_MAX);
    let mut stripped = unzip(&together);
    stripped.remove("README.txt");
    for (name, other) in [("itself", &together), ("entries in files", &apart), ("no view", &stored(&stripped))] {
        let found = compare(&together, other, &parties);
        assert_eq!((found.first.as_ref(), found.exit()), (None, Exit::Done), "{name}: {}", found.to_text(Lang::En));
    }
}

#[test]
fn a_later_pack_of_the_same_bill_says_more_and_contradicts_nothing() {
    let story = |after| pack_of(&Plan { after, ..Plan::default() });
    let (parties, early) = story(Vec::new());
    let (_, later) = story(vec![pay(), notice("dispute", By::Buyer), correct(1), refund()]);
    let found = compare(&early, &later, &parties);
    assert_eq!((found.first.as_ref(), found.exit()), (None, Exit::Done), "{}", found.to_text(Lang::En));
    // Two corrections in one place are a fork, which the trade log's name for it shows first.
    let (_, other) = story(vec![pay(), notice("dispute", By::Buyer), correct(2), refund()]);
    let at = ("0-17-0-finance_link", "finance.hash");
    check("corrections", (&later, &other), &parties, at, [true, true], "forked");
}

#[test]
fn without_trust_signatures_are_checked_all_the_same() {
    let (_, pack) = pack_of(&Plan::default());
    let found = dispute(Cursor::new(&pack), Cursor::new(&pack), &[]).unwrap();
    assert!(!found.trusted && found.to_text(Lang::En).contains("no --trust"), "{}", found.to_text(Lang::En));
    let mut files = unzip(&pack);
    files.insert("signed/order.sig".into(), files["signed/browse.sig"].clone());
    let found = dispute(Cursor::new(&pack), Cursor::new(stored(&files)), &[]).unwrap();
    let text = found.to_text(Lang::En);
    assert!(text.contains("A: its signatures hold, under") && text.contains("B: its signatures do NOT hold"), "{text}");
}

#[test]
fn one_thing_changed_after_the_pack_was_made_is_the_point() {
    let (parties, pack) = pack_with(&Plan::default(), ENTRY_FILES_MAX);
    let changed = |change: &dyn Fn(&mut Files)| {
        let mut files = unzip(&pack);
        change(&mut files);
        stored(&files)
    };
    let flip = |files: &mut Files, name: &str, at: usize| {
        let content = files.get_mut(name).unwrap();
        let at = content.len() - at;
        content[at] ^= 1;
    };
    let record = changed(&|files| flip(files, "entries/0-8-0-usage.der", 2));
    check(
        "a record",
        (&pack, &record),
        &parties,
        ("0-8-0-usage", "readings.4.total"),
        [true, true],
        "cannot have two contents",
    );
    let bill = changed(&|files| {
        let name = only(files, "entries/1-", "-bill.der");
        flip(files, &name, 1);
        flip(files, "bill.der", 1);
    });
    check("the bill", (&pack, &bill), &parties, ("1-0-0-bill", "total"), [true, false], "cannot have two contents");
    let only_bill = changed(&|files| flip(files, "bill.der", 1));
    check(
        "bill.der alone",
        (&pack, &only_bill),
        &parties,
        ("255-18446744073709551615--", "total"),
        [true, false],
        "beside them",
    );
    let receipt = changed(&|files| {
        let name = only(files, "signed/receipt-0-", ".tbs");
        // The platform's clock stands behind the root, before two empty lists.
        flip(files, &name, 5);
    });
    check("a receipt", (&pack, &receipt), &parties, ("0-11--", "storedAt"), [true, false], "were changed");
    let less = changed(&|files| {
        files.remove("entries/0-7-0-usage.der");
    });
    check("a record left out", (&pack, &less), &parties, ("0-7-0-usage", "-"), [true, true], "both bills rest on it");
    let (parties, together) = pack_of(&Plan::default());
    let mut files = unzip(&together);
    let mut list = records(&files);
    list[2].0 = list[2].0.replacen("0-", "0-1", 1);
    join(&mut files, &list);
    check(
        "a record elsewhere",
        (&together, &stored(&files)),
        &parties,
        ("0-8-0-usage", "-"),
        [true, true],
        "two places",
    );
}

#[test]
fn a_node_that_tells_two_stories_forked_its_log() {
    let (parties, pack) = pack_of(&Plan::default());
    // The same beginning, then a record that says more: every block from there on is another, all of them signed.
    let (_, other) = pack_of(&Plan {
        record: |record| {
            if record.order_seq >= 3 {
                for reading in record.readings.iter_mut().filter(|reading| reading.code == 0) {
                    reading.total = reading.total.map(|total| total + 5);
                    if record.order_seq == 3 {
                        reading.delta = reading.delta.map(|delta| delta + 5);
                    }
                }
            }
        },
        ..Plan::default()
    });
    let found = compare(&pack, &other, &parties);
    let point = found.first.as_ref().unwrap();
    assert_eq!((point.block, point.field.as_str()), ((0, 9), "readings.0.delta"), "{}", found.to_text(Lang::En));
    // The last record's block is in both packs with its header: from there the fork is proven.
    let (_, last) = pack_of(&Plan {
        record: |record| {
            if record.order_seq == 4 {
                record.elapsed_ns += 1;
            }
        },
        ..Plan::default()
    });
    check("a fork", (&pack, &last), &parties, ("0-10-0-usage", "elapsedNs"), [true, true], "forked its log");
    let (_, billed) = pack_of(&Plan { bill: |bill| bill.total = Money(bill.total.0 + 1_000_000), ..Plan::default() });
    check("another bill", (&pack, &billed), &parties, ("0-13-0-finance_link", "finance.hash"), [true, true], "forked");
}

#[test]
fn cheats_are_named_or_are_no_matter_of_two_packs() {
    let (parties, pack) = pack_of(&Plan::default());
    for (name, change, _) in damage::cheats() {
        let mut files = unzip(&pack);
        change(&mut files);
        let found = compare(&pack, &stored(&files), &parties);
        let own = ["twice", "behind the last", "empty", "index left out", "proof", "view", "signature of another"];
        assert_eq!(
            found.first.is_none(),
            own.iter().any(|part| name.contains(part)),
            "{name}: {}",
            found.to_text(Lang::En)
        );
    }
}

#[test]
fn packs_of_two_contracts_or_no_packs_are_refused() {
    let (parties, pack) = pack_of(&Plan::default());
    let mut files = unzip(&pack);
    let bill = files.get_mut("bill.der").unwrap();
    // The contract number stands behind version and number.
    let at = bill.windows(2).position(|window| window == [0x04, 0x10]).unwrap();
    bill[at + 4] ^= 1;
    let anchors = std::slice::from_ref(&parties.root);
    let answer = dispute(Cursor::new(&pack), Cursor::new(stored(&files)), anchors);
    assert!(matches!(answer, Err(Error::OtherContract { .. })), "{answer:?}");
    let answer = dispute(Cursor::new(&pack), Cursor::new(b"no zip"), anchors);
    assert!(matches!(answer, Err(Error::Unreadable { .. })), "{answer:?}");
}
