//! What a page and a suggestion tell of the quality delivered: lines with their share, what was not read with its reason, scores
//! only for what was measured.

use std::io::Cursor;

use hufu_audit::{Exit, Lang, report, suggest};
use hufu_trade::resource::Kind;

use crate::{
    pack_of,
    story::{line, served},
    synthetic::Plan,
};

#[test]
fn the_page_shows_each_quality_with_its_share_and_why_one_is_missing() {
    let (parties, pack) = pack_of(&served());
    let anchors = std::slice::from_ref(&parties.root);
    for (lang, words) in [
        (Lang::En, ["Quality delivered", "waited for a CPU", "CPU taken by the hypervisor", "share of that time"]),
        (Lang::Zh, ["服务质量", "等待 CPU", "CPU 被虚拟机监控器占用", "占比"]),
    ] {
        let html = report(Cursor::new(&pack), anchors, lang).unwrap().1;
        // A second of each minute, all of it, and what nobody told; five minutes.
        for word in words.iter().chain(&["<td>5 s</td><td>300 s</td><td>1.66 %", "300 s</td><td>100 %", "no such file"])
        {
            assert!(html.contains(word), "{word}");
        }
    }
    let (_, plain) = pack_of(&Plan::default());
    let html = report(Cursor::new(&plain), anchors, Lang::En).unwrap().1;
    assert!(!html.contains("Quality delivered"), "nothing was told");
}

#[test]
fn scores_are_suggested_for_what_was_measured_and_for_nothing_else() {
    let (parties, pack) = pack_of(&served());
    let anchors = std::slice::from_ref(&parties.root);
    let (verdicts, found) = suggest(Cursor::new(&pack), anchors).unwrap();
    let found = found.unwrap();
    assert_eq!((verdicts.exit(), found.bill_no.ends_with("-1")), (Exit::Done, true));
    let items: Vec<_> = found.items.iter().map(|item| (item.kind, item.score, item.told.len())).collect();
    assert_eq!(items, [(Kind::Cpu, Some(99), 1), (Kind::Memory, None, 0), (Kind::NetTx, None, 0)]);
    let (_, pack) = pack_of(&Plan::default());
    let (_, found) = suggest(Cursor::new(&pack), anchors).unwrap();
    assert!(found.unwrap().items.iter().all(|item| item.score.is_none()), "not measured is not good");
    let (_, pack) = pack_of(&Plan { bill: |bill| line(bill).ns = 0, ..served() });
    assert_eq!(suggest(Cursor::new(&pack), anchors).unwrap().0.exit(), Exit::No, "a node that tells itself better");
    assert!(suggest(Cursor::new(b"not a zip"), anchors).is_err());
}
