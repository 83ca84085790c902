//! The page a person reads: one HTML file of a pack, complete in itself, with what was used and what it costs over time, the
//! lines of the bill, the four verdicts and who signed what. Nothing on it is evidence; judging is `verdict.rs`.

mod chart;
mod page;
mod series;

use std::{
    collections::BTreeMap,
    io::{Read, Seek},
};

use hufu_gm::{Certificate, sm3::sm3};
use hufu_trade::{
    bill::{Bill, Line, RatedGap},
    money::Money,
    octets::Octets,
    resource::{Kind as Measure, Resource},
    usage::UsageRecord,
};

use crate::{
    Error, Lang, Outcome, Verdicts,
    evidence::Evidence,
    findings::{Findings, Verdict},
    layout::{self, SignatureRow},
    open::Members,
    records,
    text::Text,
    verdict::{Options, judge, signatures},
};
use chart::{Chart, minute};
use page::Page;
use series::{Series, series};

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
            self.gaps(bill);
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
        self.page.raw(" CNY</p><p class=\"soft\">").text(again).raw("</p></div></header>\n<div class=\"badges\">\n");
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
            let service = format!("{} – {}", minute(deal.value.contract_time), minute(deal.value.service_end));
            self.term(Text::ReportService {}, service);
            self.term(Text::ReportCeiling {}, format!("{} CNY", deal.value.contract_value.amount));
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

    fn gaps(&mut self, bill: &Bill) {
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
        for (gap, end, amount, why) in rows.iter().take(ROWS_MAX) {
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
        self.page.text(key).raw(" ").text(zone).raw("</p>\n");
        for one in &all {
            self.chart(bill, one);
        }
    }

    fn chart(&mut self, bill: &Bill, one: &Series) {
        let whole = (bill.period_start, bill.period_end);
        let absent_label = self.say(Text::ReportAbsent {});
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

    /// Who signed what: one row for each kind of signature and signer.
    fn signers(&mut self, anchors: &[Certificate]) {
        let authentic = signatures::check(self.members, anchors, Options::default(), &mut Verdict::default());
        let mut rows: BTreeMap<(crate::signed::Kind, String), Signings> = BTreeMap::new();
        for line in self.members.text(layout::SIGNATURES).unwrap_or_default().lines() {
            let Some(row) = SignatureRow::read(line) else { continue };
            let Some(tbs) = self.members.bytes(&row.tbs) else { continue };
            let pem = self.members.text(&row.certificate).unwrap_or_default();
            let subject = Certificate::from_pem_many(pem).ok().and_then(|found| Some(found.first()?.subject()));
            let found = rows.entry((row.kind, subject.unwrap_or_else(|| "?".to_owned()))).or_default();
            found.count += 1;
            found.holding += usize::from(authentic.of(row.kind, tbs).is_some());
            let at = row.kind.said(tbs).map(|said| said.at);
            found.first = found.first.into_iter().chain(at).min();
            found.last = found.last.max(at);
        }
        self.heading(Text::ReportSigned {});
        self.page.raw("<table>\n");
        let head = [Text::ReportWhat {}, Text::ReportSigner {}, Text::ReportWhen {}, Text::ReportHolding {}];
        let head = head.map(|text| self.say(text));
        self.page.head(&head).raw("<tbody>\n");
        for ((kind, subject), found) in rows {
            let signer = format!("{} {subject}", self.say(role_text(kind.role().name())));
            let when = match (found.first, found.last) {
                (Some(first), Some(last)) if first == last => minute(first),
                (Some(first), Some(last)) => format!("{} – {}", minute(first), minute(last)),
                _ => "–".to_owned(),
            };
            let holding = format!("{} / {}", found.holding, found.count);
            self.page.row(&[&kind.name(), &signer, &when, &holding]);
        }
        self.page.raw("</tbody></table>\n");
    }
}

/// Signatures of one kind by one signer.
#[derive(Default)]
struct Signings {
    count: usize,
    holding: usize,
    first: Option<i64>,
    last: Option<i64>,
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

/// A decimal of which `digits` stand behind the point, without zeros at the end.
fn decimal(value: u128, digits: u32) -> String {
    let scale = 10_u128.pow(digits);
    let rest = format!("{:0width$}", value % scale, width = usize::try_from(digits).unwrap_or(0));
    let rest = rest.trim_end_matches('0');
    if rest.is_empty() { (value / scale).to_string() } else { format!("{}.{rest}", value / scale) }
}

/// The quantity in the unit that its price is of; cut, not rounded: what counts stands beside it.
fn named_quantity(line: &Line) -> String {
    let units = line.resource.parse::<Resource>().map_or(1, |resource| resource.kind.priced_per().1);
    let (whole, rest) = (line.quantity / units, line.quantity % units);
    let parts = whole.saturating_mul(1_000_000).saturating_add(rest.saturating_mul(1_000_000) / units);
    format!("{} {}", decimal(parts, 6), line.per)
}

/// A rate, given in thousandths of the base unit a second, in a unit that a person knows.
fn shown_rate(resource: &Resource, rate: u128) -> String {
    let bytes = |rate: u128| {
        const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let (mut rate, mut unit) = (rate, 0);
        while rate >= 1_024_000 && unit + 1 < UNITS.len() {
            (rate, unit) = (rate / 1_024, unit + 1);
        }
        format!("{} {}", decimal(rate, 3), UNITS.get(unit).copied().unwrap_or_default())
    };
    match resource.kind {
        Measure::Cpu => format!("{} × CPU", decimal(rate / 1_000_000_000, 3)),
        Measure::Gpu => format!("{} × GPU", decimal(rate / 1_000_000_000, 3)),
        Measure::Memory | Measure::Storage | Measure::GpuMemory => bytes(rate),
        Measure::DiskRead | Measure::DiskWrite | Measure::NetRx | Measure::NetTx => format!("{}/s", bytes(rate)),
        Measure::DiskReadOps | Measure::DiskWriteOps => format!("{} /s", decimal(rate, 3)),
        Measure::GpuEnergy => format!("{} W", decimal(rate / 1_000, 3)),
    }
}
