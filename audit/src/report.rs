//! The page a person reads: one HTML file of a pack, complete in itself, with what was used and what it costs over time, the
//! lines of the bill, the four verdicts and who signed what. Nothing on it is evidence; judging is `verdict.rs`.

mod after;
mod chart;
mod page;
mod quality;
mod series;
mod shown;
mod signers;

use std::io::{Read, Seek};

use hufu_gm::{Certificate, sm3::sm3};
use hufu_trade::{
    bill::{Bill, Line},
    money::Money,
    notice::InForce,
    octets::Octets,
    resource::Resource,
    usage::UsageRecord,
};

use crate::{
    Error, Lang, Outcome, Verdicts,
    evidence::Evidence,
    findings::{Findings, Verdict},
    layout,
    open::Members,
    records,
    text::Text,
    verdict::{Options, judge},
};
use chart::{Chart, minute};
use page::Page;
use series::{Series, series};
use shown::{decimal, named_quantity, shown_rate};

/// From the end of the language to the title.
const HEAD: &str = include_str!("report/head.html");
const STYLE: &str = include_str!("report/style.css");
/// Most problems of a verdict and most gaps that are listed; the rest is counted.
const ROWS_MAX: usize = 40;

/// Judges a pack and writes the page in `lang`.
///
/// # Errors
/// Those of [`crate::verify`]. A pack whose bill cannot be read has a page too: its verdicts say why.
pub fn report(pack: impl Read + Seek, anchors: &[Certificate], lang: Lang) -> Result<(Verdicts, String), Error> {
    let members = Members::open(pack)?;
    let verdicts = judge(&members, anchors, Options::default())?;
    let mut findings = Findings::default();
    let pieces = records::pieces(&members, &mut findings.completeness)?;
    let evidence = Evidence::read(&members, &pieces, &mut findings);
    let mut sheet = Sheet { page: Page::default(), lang, members: &members, evidence: &evidence, verdicts: &verdicts };
    sheet.write(anchors);
    let html = sheet.page.finish();
    Ok((verdicts, html))
}

struct Sheet<'a> {
    page: Page,
    lang: Lang,
    members: &'a Members,
    evidence: &'a Evidence<'a>,
    verdicts: &'a Verdicts,
}

impl Sheet<'_> {
    fn say(&self, text: Text) -> String {
        text.render(self.lang)
    }

    fn heading(&mut self, text: Text) {
        let text = self.say(text);
        self.page.raw("<h2>").text(text).raw("</h2>\n");
    }

    fn term(&mut self, name: Text, value: impl std::fmt::Display) {
        let name = self.say(name);
        self.page.raw("<dt>").text(name).raw("</dt><dd>").text(value).raw("</dd>\n");
    }

    fn write(&mut self, anchors: &[Certificate]) {
        self.page.raw("<!doctype html>\n<html lang=\"").raw(match self.lang {
            Lang::En => "en",
            Lang::Zh => "zh-CN",
        });
        // Nothing is fetched, nothing runs, whatever a browser would allow.
        self.page.raw(HEAD);
        let number = self.evidence.bill.as_ref().map_or_else(|| "-".to_owned(), |bill| bill.number.clone());
        let title = self.say(Text::ReportTitle {});
        self.page
            .text(&title)
            .raw(" ")
            .text(&number)
            .raw("</title>\n<style>\n")
            .raw(STYLE)
            .raw("</style>\n</head>\n<body>\n");
        // One pattern for every chart of the page.
        self.page.raw(
            "<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs><pattern id=\"hatch\" \
             width=\"12\" height=\"12\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect width=\"12\" \
             height=\"12\" fill=\"#fdf1f0\"/><rect width=\"4\" height=\"12\" fill=\"#e2a6a2\"/></pattern></defs></svg>\n",
        );
        self.top(&title, &number);
        self.parties();
        if let Some(bill) = &self.evidence.bill {
            self.lines(bill);
            self.quality(bill);
            self.after();
            self.gaps(bill);
            self.suspensions(bill);
            self.charts(bill);
        }
        self.findings();
        self.signers(anchors);
        let (how, sum) = (self.say(Text::ReportHow {}), sm3(&[self.members.bytes(layout::BILL).unwrap_or_default()]));
        self.page.raw("<footer><p>").text(how).raw("</p><p class=\"mono\">bill.der SM3 ").text(Octets(sum));
        self.page.raw("</p></footer>\n</body>\n</html>\n");
    }

    fn top(&mut self, title: &str, number: &str) {
        self.page.raw("<header><div><h1>").text(title).raw("</h1><p class=\"mono soft\">").text(number).raw("</p>");
        if let Some(bill) = &self.evidence.bill {
            let (from, to) = (minute(bill.period_start), minute(bill.period_end));
            let period = self.say(Text::ReportPeriod { from, to });
            self.page.raw("<p>").text(period).raw("</p>");
        }
        let total = self.verdicts.billed_total.map_or_else(|| "-".to_owned(), |money| money.to_string());
        let recomputed = self.verdicts.recomputed_total.map_or_else(|| "-".to_owned(), |money| money.to_string());
        let (due, again) = (self.say(Text::ReportDue {}), self.say(Text::ReportRecomputed { amount: recomputed }));
        self.page
            .raw("</div><div class=\"sum\"><p class=\"soft\">")
            .text(due)
            .raw("</p><p class=\"total\">")
            .text(total);
        self.page.raw(" CNY</p><p class=\"soft\">").text(again).raw("</p>");
        if let Some(due) = self.verdicts.due_total.filter(|due| Some(*due) != self.verdicts.billed_total) {
            let due = self.say(Text::ReportCorrected { amount: due.to_string() });
            self.page.raw("<p><b>").text(due).raw("</b></p>");
        }
        self.page.raw("</div></header>\n<div class=\"badges\">\n");
        for (name, verdict) in heads(self.verdicts) {
            let (name, result) = (self.say(name), self.say(result_text(verdict.result)));
            self.page.raw("<div class=\"badge ").raw(verdict.result.name()).raw("\"><b>").text(name).raw("</b><span>");
            self.page.text(result).raw("</span></div>\n");
        }
        self.page.raw("</div>\n");
    }

    fn parties(&mut self) {
        self.heading(Text::ReportParties {});
        self.page.raw("<dl>\n");
        for (role, subject) in &self.verdicts.parties {
            self.term(role_text(role), subject);
        }
        if let Some(bill) = &self.evidence.bill {
            self.term(Text::ReportContract {}, bill.contract_no);
            self.term(Text::ReportPool {}, &bill.computing_pool_id);
            self.term(Text::ReportBuyerCertificate {}, bill.buyer);
        }
        let requirement = self.evidence.order.as_ref().and_then(|order| order.value.statement.requirement.as_ref());
        for item in requirement.iter().flat_map(|requirement| &requirement.items) {
            self.term(Text::ReportProduct {}, format!("{} × {}", item.product_id, item.quantity));
        }
        if let Some(deal) = &self.evidence.deal {
            let renewals = self.evidence.notices.iter().filter_map(|found| found.value.notice.renewal.as_ref());
            let last = renewals.fold(InForce::of(&deal.value), |now, renewal| now.renewed(renewal).unwrap_or(now));
            let service = format!("{} – {}", minute(deal.value.contract_time), minute(last.service_end));
            self.term(Text::ReportService {}, service);
            self.term(Text::ReportCeiling {}, format!("{} CNY", last.value.amount));
        }
        self.page.raw("</dl>\n");
    }

    fn lines(&mut self, bill: &Bill) {
        self.heading(Text::ReportLines {});
        self.page.raw("<table class=\"num\">\n");
        let head = [
            Text::ReportResource {},
            Text::ReportTier {},
            Text::ReportBase {},
            Text::ReportQuantity {},
            Text::ReportPrice {},
            Text::ReportAmount {},
        ];
        let head = head.map(|text| self.say(text));
        self.page.head(&head).raw("<tbody>\n");
        for line in &bill.lines {
            let named = named_quantity(line);
            let (base, price) =
                (format!("{} {}", line.quantity, line.unit), format!("{} / {}", line.unit_price, line.per));
            self.page.row(&[&line.resource, &self.tier(line), &base, &named, &price, &line.amount]);
        }
        let sum = bill.lines.iter().try_fold(Money(0), |sum, line| sum.plus(line.amount));
        let sum = sum.map_or_else(|_| "-".to_owned(), |sum| sum.to_string());
        let (sum_text, rounding) = (self.say(Text::ReportSum {}), self.say(Text::ReportRounding {}));
        let total = self.say(Text::ReportTotal {});
        self.page.row(&[&sum_text, &"", &"", &"", &"", &sum]);
        self.page.row(&[&rounding, &"", &"", &"", &bill.rounding_rule, &bill.rounding]);
        if let Some(over) = &bill.over_ceiling {
            let above = self.say(Text::ReportOver {});
            self.page.row(&[&above, &"", &"", &"", &"", over]);
        }
        self.page.raw("<tr class=\"last\"><td>").text(total).raw("</td><td></td><td></td><td></td><td>");
        self.page.text(&bill.currency).raw("</td><td>").text(bill.total).raw("</td></tr>\n</tbody></table>\n");
    }

    /// What the tier covers, as the price terms tell it.
    fn tier(&self, line: &Line) -> String {
        let prices = self.evidence.terms().map_or(&[][..], |tariff| &tariff.prices);
        let tiers = prices.iter().find(|price| price.resource == line.resource).map_or(&[][..], |price| &price.tiers);
        if tiers.len() < 2 {
            return "–".to_owned();
        }
        let at = usize::from(line.tier);
        let upper = at.checked_sub(1).and_then(|at| tiers.get(at)).and_then(|tier| tier.up_to);
        let lower = at.checked_sub(2).and_then(|at| tiers.get(at)).and_then(|tier| tier.up_to);
        let units = line.resource.parse::<Resource>().map_or(1, |resource| resource.kind.priced_per().1);
        let shown = |bound: u128| decimal(bound.saturating_mul(1_000).checked_div(units).unwrap_or(0), 3);
        match (lower, upper) {
            (None, Some(upper)) => format!("{}: ≤ {} {}", line.tier, shown(upper), line.per),
            (Some(lower), None) => format!("{}: > {} {}", line.tier, shown(lower), line.per),
            (Some(lower), Some(upper)) => format!("{}: {} – {} {}", line.tier, shown(lower), shown(upper), line.per),
            (None, None) => line.tier.to_string(),
        }
    }

    fn more(&mut self, count: usize) {
        if let Some(rest) = count.checked_sub(ROWS_MAX).filter(|rest| *rest > 0) {
            let text = self.say(Text::ReportMore { count: rest.to_string() });
            self.page.raw("<p class=\"soft\">").text(text).raw("</p>\n");
        }
    }

    fn charts(&mut self, bill: &Bill) {
        let period = bill.first_seq..=bill.last_seq;
        let records = self.evidence.records.iter().map(|found| &found.value);
        let records: Vec<&UsageRecord> = records.filter(|record| period.contains(&record.order_seq)).collect();
        let all = series(bill, self.evidence.terms(), &records);
        if all.is_empty() {
            return;
        }
        self.heading(Text::ReportCharts {});
        let (key, zone) = (self.say(Text::ReportKey {}), self.say(Text::ReportZone {}));
        self.page.raw("<p class=\"soft\"><svg class=\"key\" viewBox=\"0 0 26 14\"><rect class=\"gap\" width=\"26\" height=\"14\"/></svg>");
        self.page.text(key);
        if all.iter().any(|one| !one.paused.is_empty()) {
            let paused = self.say(Text::ReportPausedKey {});
            self.page.raw(
                " <svg class=\"key\" viewBox=\"0 0 26 14\"><rect class=\"pause\" width=\"26\" height=\"14\"/></svg>",
            );
            self.page.text(paused);
        }
        self.page.raw(" ").text(zone).raw("</p>\n");
        for one in &all {
            self.chart(bill, one);
        }
    }

    fn chart(&mut self, bill: &Bill, one: &Series) {
        let whole = (bill.period_start, bill.period_end);
        let (absent_label, paused_label) = (self.say(Text::ReportAbsent {}), self.say(Text::ReportPaused {}));
        let used: Vec<_> = one.points.iter().map(|point| (point.at, point.rate)).collect();
        let highest = used
            .iter()
            .map(|(_, rate)| *rate)
            .max()
            .map_or_else(|| "–".to_owned(), |rate| shown_rate(&one.resource, rate));
        let used = Chart {
            title: self.say(Text::ReportUsage {}),
            highest: self.say(Text::ReportHighest { value: highest }),
            whole,
            values: &used,
            absent: &one.absent,
            absent_label: absent_label.clone(),
            paused: &one.paused,
            paused_label: paused_label.clone(),
            class: "use",
        };
        self.page.raw("<div class=\"panel\"><h3>").text(&one.resource).raw("</h3><div class=\"pair\">\n<div>");
        used.draw(&mut self.page);
        self.page.raw("</div><div>");
        if one.has_price {
            let cost: Vec<_> = one.points.iter().map(|point| (point.at, point.cost)).collect();
            let last = one.points.last().map_or(0, |point| point.cost);
            let last = i128::try_from(last).map_or_else(|_| "–".to_owned(), |cost| Money(cost).to_string());
            let cost = Chart {
                title: self.say(Text::ReportCost {}),
                highest: format!("{last} CNY"),
                whole,
                values: &cost,
                absent: &one.absent,
                absent_label,
                paused: &one.paused,
                paused_label,
                class: "cost",
            };
            cost.draw(&mut self.page);
        } else {
            let none = self.say(Text::ReportNoPrice {});
            self.page.raw("<p class=\"soft\">").text(none).raw("</p>");
        }
        self.page.raw("</div></div></div>\n");
    }

    fn findings(&mut self) {
        self.heading(Text::ReportVerdicts {});
        for (name, verdict) in heads(self.verdicts) {
            let head = Text::Line {
                name: self.say(name),
                result: self.say(result_text(verdict.result)),
                checked: verdict.checked.to_string(),
                problems: verdict.problems.len().to_string(),
            };
            let head = self.say(head);
            self.page.raw("<h3 class=\"").raw(verdict.result.name()).raw("\"><span>").text(head).raw("</span></h3>\n");
            if verdict.problems.is_empty() {
                continue;
            }
            self.page.raw("<ul>\n");
            // What fails comes before remarks.
            let fails = verdict.problems.iter().filter(|problem| problem.outcome == Outcome::Fail);
            let remarks = verdict.problems.iter().filter(|problem| problem.outcome != Outcome::Fail);
            // What is said of many places is said once, of the first.
            let mut said: Vec<(&str, String, usize)> = Vec::new();
            for problem in fails.chain(remarks) {
                let what = self.say(problem.what.clone());
                match said.iter_mut().find(|(_, known, _)| *known == what) {
                    Some((_, _, count)) => *count += 1,
                    None => said.push((&problem.place, what, 1)),
                }
            }
            for (place, what, count) in said.iter().take(ROWS_MAX) {
                self.page.raw("<li><span class=\"mono soft\">").text(place).raw("</span> ").text(what);
                if *count > 1 {
                    self.page.raw(" <b>× ").text(count).raw("</b>");
                }
                self.page.raw("</li>\n");
            }
            self.page.raw("</ul>\n");
            self.more(said.len());
        }
    }
}

fn heads(verdicts: &Verdicts) -> impl Iterator<Item = (Text, &Verdict)> {
    let heads = [Text::HeadSignatures {}, Text::HeadCompleteness {}, Text::HeadDataQuality {}, Text::HeadArithmetic {}];
    heads.into_iter().zip(verdicts.each().into_iter().map(|(_, verdict)| verdict))
}

fn result_text(outcome: Outcome) -> Text {
    match outcome {
        Outcome::Pass => Text::Pass {},
        Outcome::Warn => Text::Warn {},
        Outcome::Fail => Text::Fail {},
    }
}

fn role_text(role: &str) -> Text {
    match role {
        "buyer" => Text::ReportBuyer {},
        "node" => Text::ReportNode {},
        _ => Text::ReportPlatform {},
    }
}
