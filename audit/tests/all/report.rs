//! The page a person reads: complete in itself, in both languages, nothing from outside is markup, gaps are gaps.

use std::io::Cursor;

use hufu_audit::{Lang, Outcome, report};
use hufu_trade::{
    money::Money,
    usage::{Reason, Status},
};

use crate::{
    Files, pack_of, stored,
    synthetic::{By, Plan, Step, correct, notice, pay, refund},
    unzip,
};

const HOSTILE: &str = "</td><script src=//evil.example/x.js></script>\"' onload=alert(1) \u{202e}";

fn page(pack: &[u8], anchors: &[hufu_gm::Certificate], lang: Lang) -> String {
    report(Cursor::new(pack), anchors, lang).unwrap().1
}

/// A day with an hour's outage and a resource that was never read.
fn gappy() -> Plan {
    Plan {
        records: 9,
        record: |record| {
            if (4..7).contains(&record.order_seq) {
                record.reason = Reason::Gap;
                record.why = Some(HOSTILE.to_owned());
            }
            for reading in &mut record.readings {
                if record.reason.is_gap() || record.order_seq > 6 || reading.code == 3 {
                    (reading.status, reading.delta, reading.total) = (Status::Missing, None, None);
                    reading.why = Some(HOSTILE.to_owned());
                }
            }
            if record.reason.is_gap() || record.order_seq > 6 {
                record.readings.retain(|reading| reading.code == 3);
            }
        },
        ..Plan::default()
    }
}

/// Tags are opened and closed in order; nothing is fetched and nothing runs.
fn well_formed(name: &str, html: &str) {
    let mut open: Vec<&str> = Vec::new();
    for part in html.split('<').skip(1) {
        let (tag, _) = part.split_once('>').unwrap_or_else(|| panic!("{name}: {part}"));
        let word = tag.split([' ', '\n']).next().unwrap().trim_end_matches('/');
        match word.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed), "{name}: {tag}"),
            None if word == "!doctype" || word == "meta" || tag.ends_with('/') => {}
            None => open.push(word),
        }
        assert!(word != "script" && word != "link" && word != "img" && word != "iframe", "{name}: {tag}");
        assert!(!tag.contains(" on") && !tag.contains("href") && !tag.contains("src=\""), "{name}: {tag}");
    }
    assert!(open.is_empty(), "{name}: {open:?}");
    assert!(!html.contains("://") && !html.contains('\u{202e}') && !html.contains("@import"), "{name}");
}

#[test]
fn the_page_shows_the_bill_its_verdicts_and_its_signers_in_both_languages() {
    let (parties, pack) = pack_of(&Plan::default());
    let anchors = std::slice::from_ref(&parties.root);
    for (lang, words) in [
        (
            Lang::En,
            ["<html lang=\"en\">", "Statement of usage", "Lines of the bill", "four verdicts", "Who signed what"],
        ),
        (Lang::Zh, ["<html lang=\"zh-CN\">", "用量与费用报告", "账单明细", "四项裁定", "谁签署了什么"]),
    ] {
        let (verdicts, html) = report(Cursor::new(&pack), anchors, lang).unwrap();
        well_formed("right", &html);
        let total = verdicts.billed_total.unwrap().to_string();
        let shown = [total.as_str(), "CN=buyer-1", "CN=site-1/platform", "net_tx", "core-hour", "line-half-even-8"];
        for word in words.iter().chain(&shown) {
            assert!(html.contains(word), "{word}");
        }
        // Five resources: usage of each, cost of the three that have a price.
        assert_eq!((html.matches("class=\"use\"").count(), html.matches("class=\"cost\"").count()), (5, 3));
        assert!(!html.contains("class=\"gap\" y="), "nothing was missing");
    }
}

#[test]
fn gaps_are_bands_without_a_line_and_what_is_from_outside_is_text() {
    let (parties, pack) = pack_of(&gappy());
    let (verdicts, html) = report(Cursor::new(&pack), std::slice::from_ref(&parties.root), Lang::En).unwrap();
    assert_eq!(verdicts.data_quality.result, Outcome::Warn);
    well_formed("gappy", &html);
    assert!(html.contains("&lt;script src=//evil.example/x.js&gt;"), "{html}");
    // Three gaps that touch are one row and one band on each of the five resources, whose last two records say nothing.
    assert_eq!(html.matches("<td>free</td>").count(), 1);
    assert!(html.matches("class=\"gap\" y=").count() >= 5, "{html}");
    let paths: Vec<&str> =
        html.split("class=\"value\" d=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(paths.iter().any(|path| path.is_empty()), "a resource that was never read has no line");
    assert!(paths.iter().all(|path| !path.contains("H1200")), "{paths:?}");
}

#[test]
fn suspensions_corrections_refunds_and_notices_are_told() {
    let plan = Plan {
        records: 2,
        minutes: Some(9),
        service: vec![
            notice("suspend", By::Buyer),
            Step::Status(["pause", "suspending", "suspended"]),
            Step::Suspended(3),
            notice("resume", By::Buyer),
            Step::Records(2),
        ],
        ceiling: Money(3_000_000),
        after: vec![pay(), notice("dispute", By::Buyer), correct(1), refund()],
        ..Plan::default()
    };
    let (parties, pack) = pack_of(&plan);
    let anchors = std::slice::from_ref(&parties.root);
    for (lang, words) in [
        (
            Lang::En,
            ["Suspended by the contract: 1", "After the bill", "due after corrections: 0.02 CNY", "not charged"],
        ),
        (Lang::Zh, ["按合约暂停：1 次", "出账之后", "更正后应付：0.02 元", "不收取"]),
    ] {
        let html = page(&pack, anchors, lang);
        well_formed("corrected", &html);
        let shown = ["notice: suspend", "notice: dispute", "confirmation", "counted twice", "class=\"pause\" y="];
        for word in words.iter().chain(&shown) {
            assert!(html.contains(word), "{word}");
        }
        assert!(!html.contains("class=\"gap\" y="), "a suspension is no gap");
    }
}

#[test]
fn a_pack_that_fails_has_a_page_too() {
    let (_, pack) = pack_of(&Plan::default());
    let untrusted = page(&pack, &[], Lang::En);
    assert!(untrusted.contains("badge fail") && untrusted.contains("--trust"));
    for change in [
        |files: &mut Files| drop(files.insert("bill.der".into(), vec![0; 40])),
        |files: &mut Files| drop(files.insert("signed/index.tsv".into(), b"<b>\t<i>\n".to_vec())),
        |files: &mut Files| files.retain(|name, _| name == "bill.der"),
        |files: &mut Files| files.retain(|name, _| !name.starts_with("entries/")),
    ] {
        let mut files = unzip(&pack);
        change(&mut files);
        let html = page(&stored(&files), &[], Lang::Zh);
        well_formed("damaged", &html);
        assert!(html.contains("badge fail"));
    }
}

#[test]
fn many_records_make_a_small_page() {
    let (parties, pack) = pack_of(&Plan { records: 3_000, ..Plan::default() });
    let html = page(&pack, std::slice::from_ref(&parties.root), Lang::En);
    well_formed("many", &html);
    assert!(html.len() < 60_000, "{}", html.len());
    let points = html.split("class=\"value\" d=\"").skip(1).filter_map(|rest| rest.split('"').next());
    for path in points {
        assert!((200..=241).contains(&path.matches('H').count()), "{path}");
    }
}
