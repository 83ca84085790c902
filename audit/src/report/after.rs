//! What a page tells of a contract besides its use: gaps, suspensions, and what came after the bill: disputes answered with
//! corrections, payment, refund.

use std::collections::BTreeMap;

use hufu_trade::{
    bill::{Bill, RatedGap},
    money::Money,
    usage::Reason,
};

use super::{Sheet, chart::minute};
use crate::{layout::Place, text::Text};

/// One row: where it stands in the finance log, when, what, why, amount.
type Row = (Place, String, String, String, Money);

impl Sheet<'_> {
    /// Corrections, payments and refunds of the bill, in the order of the finance log, and what is due then.
    pub(super) fn after(&mut self) {
        let Some(bill) = self.evidence.bill_entry.as_ref().map(|found| found.hash) else { return };
        let mut rows: Vec<Row> = Vec::new();
        for found in self.evidence.corrections.iter().filter(|found| found.value.bill.0 == bill) {
            for line in &found.value.adjustments {
                let corrected = self.say(Text::ReportCorrection {});
                let what = if line.resource.is_empty() { corrected } else { format!("{corrected}: {}", line.resource) };
                rows.push((found.place, minute(found.value.time), what, line.why.clone(), line.amount));
            }
        }
        for found in self.evidence.payments.iter().filter(|found| found.value.bill.0 == bill) {
            let (what, number) = (self.say(Text::ReportPaid {}), found.value.number.clone());
            rows.push((found.place, minute(found.value.paid_at), what, number, found.value.amount));
        }
        for found in self.evidence.refunds.iter().filter(|found| found.value.bill.0 == bill) {
            let (what, number) = (self.say(Text::ReportRefunded {}), found.value.number.clone());
            rows.push((found.place, minute(found.value.paid_at), what, number, found.value.amount));
        }
        if rows.is_empty() {
            return;
        }
        rows.sort_by_key(|(place, ..)| *place);
        self.heading(Text::ReportAfter {});
        self.page.raw("<table class=\"when money\">\n");
        let head = [Text::ReportWhen {}, Text::ReportWhat {}, Text::ReportWhy {}, Text::ReportAmount {}];
        let head = head.map(|text| self.say(text));
        self.page.head(&head).raw("<tbody>\n");
        for (_, when, what, why, amount) in rows.iter().take(super::ROWS_MAX) {
            self.page.row(&[when, what, why, amount]);
        }
        if let Some(due) = self.verdicts.due_total {
            let text = self.say(Text::ReportDueNow {});
            self.page.raw("<tr class=\"last\"><td>").text(text).raw("</td><td></td><td></td><td>").text(due);
            self.page.raw("</td></tr>\n");
        }
        self.page.raw("</tbody></table>\n");
        self.more(rows.len());
    }

    /// What was not measured though it should have been, and how that was rated.
    pub(super) fn gaps(&mut self, bill: &Bill) {
        if bill.gaps.is_empty() {
            return;
        }
        self.heading(Text::ReportGaps { count: bill.gaps.len().to_string() });
        self.page.raw("<table class=\"when\">\n");
        let head =
            [Text::ReportFrom {}, Text::ReportTo {}, Text::ReportWhy {}, Text::ReportRule {}, Text::ReportAmount {}];
        let head = head.map(|text| self.say(text));
        self.page.head(&head).raw("<tbody>\n");
        let rows = self.joined(bill);
        for (gap, end, amount, why) in rows.iter().take(super::ROWS_MAX) {
            self.page.row(&[&minute(gap.start), &minute(*end), why, &gap.rule, amount]);
        }
        self.page.raw("</tbody></table>\n");
        self.more(rows.len());
    }

    /// Gaps that touch and have one reason are one row: the first, the end of the last, what they cost, why.
    fn joined<'b>(&self, bill: &'b Bill) -> Vec<(&'b RatedGap, i64, Money, String)> {
        let records = self.evidence.records.iter().map(|found| &found.value);
        let whys: BTreeMap<u64, &str> =
            records.filter_map(|record| Some((record.order_seq, record.why.as_deref()?))).collect();
        let mut rows: Vec<(&RatedGap, i64, Money, String)> = Vec::new();
        for gap in &bill.gaps {
            let why = whys.get(&gap.order_seq).copied().unwrap_or("–");
            match rows.last_mut() {
                Some((first, end, amount, known)) if *end == gap.start && known == why && first.rule == gap.rule => {
                    *end = gap.end;
                    *amount = amount.plus(gap.amount).unwrap_or(*amount);
                }
                _ => rows.push((gap, gap.end, gap.amount, why.to_owned())),
            }
        }
        rows
    }

    /// Suspensions: nothing was measured then, and nothing was to be.
    pub(super) fn suspensions(&mut self, bill: &Bill) {
        let records = self.evidence.records.iter().map(|found| &found.value);
        let period = records.filter(|record| (bill.first_seq..=bill.last_seq).contains(&record.order_seq));
        let paused = period.filter(|record| record.reason == Reason::Suspended && record.end > record.start);
        let rows: Vec<(String, String)> = paused.map(|record| (minute(record.start), minute(record.end))).collect();
        if rows.is_empty() {
            return;
        }
        self.heading(Text::ReportSuspensions { count: rows.len().to_string() });
        self.page.raw("<table class=\"when\">\n");
        let head = [Text::ReportFrom {}, Text::ReportTo {}].map(|text| self.say(text));
        self.page.head(&head).raw("<tbody>\n");
        for (from, to) in rows.iter().take(super::ROWS_MAX) {
            self.page.row(&[from, to]);
        }
        self.page.raw("</tbody></table>\n");
        self.more(rows.len());
    }
}
