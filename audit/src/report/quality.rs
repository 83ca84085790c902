//! What a page tells of the quality that an order was served with: the bill's quality lines, each with its share of the time for
//! which it was read, and what was not read. What follows from them for a score is `score.rs`.

use std::collections::BTreeMap;

use hufu_trade::{
    bill::Bill,
    quality::{Delivered, Quality},
};

use super::{Sheet, shown::decimal};
use crate::text::Text;

/// What a kind of quality is called on the page.
fn name(code: u8) -> Text {
    match Quality::from_code(code) {
        Ok(Quality::CpuThrottled) => Text::QualityCpuThrottled {},
        Ok(Quality::CpuStolen) => Text::QualityCpuStolen {},
        Ok(Quality::CpuStalled) => Text::QualityCpuStalled {},
        Ok(Quality::MemoryStalled) => Text::QualityMemoryStalled {},
        Ok(Quality::IoStalled) => Text::QualityIoStalled {},
        Ok(Quality::GpuThrottled) => Text::QualityGpuThrottled {},
        Err(_) => Text::QualityUnknown { code: code.to_string() },
    }
}

/// Nanoseconds as seconds with three digits, cut.
fn seconds(ns: u64) -> String {
    format!("{} s", decimal(u128::from(ns) / 1_000_000, 3))
}

impl Sheet<'_> {
    /// The quality lines; nothing where neither bill nor records tell of any.
    pub(super) fn quality(&mut self, bill: &Bill) {
        let lines = bill.quality.as_deref().unwrap_or_default();
        let records = self.evidence.records.iter().map(|found| &found.value);
        let upto = records.filter(|record| record.order_seq <= bill.last_seq);
        let told = upto.flat_map(|record| record.delivered.iter().flatten());
        // Of a kind that has no line the newest word counts.
        let unread = told.filter(|one| !lines.iter().any(|line| line.code == one.code));
        let unread: BTreeMap<u8, &Delivered> = unread.map(|one| (one.code, one)).collect();
        if lines.is_empty() && unread.is_empty() {
            return;
        }
        self.heading(Text::ReportQuality {});
        self.page.raw("<table class=\"num\">\n");
        let head =
            [Text::ReportWhat {}, Text::ReportLasted {}, Text::ReportRead {}, Text::ReportShare {}, Text::ReportWhy {}];
        let head = head.map(|text| self.say(text));
        self.page.head(&head).raw("<tbody>\n");
        for line in lines {
            let what = self.say(name(line.code));
            let share = line.share().map_or_else(|| "–".to_owned(), |share| format!("{} %", decimal(share, 2)));
            self.page.row(&[&what, &seconds(line.ns), &seconds(line.elapsed_ns), &share, &""]);
        }
        for one in unread.into_values() {
            let what = self.say(name(one.code));
            self.page.row(&[&what, &"–", &"–", &"–", &one.why.as_deref().unwrap_or("–")]);
        }
        let note = self.say(Text::ReportQualityNote {});
        self.page.raw("</tbody></table>\n<p class=\"soft\">").text(note).raw("</p>\n");
    }
}
