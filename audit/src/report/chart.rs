//! Charts as inline SVG, drawn with integers. Where nothing was measured there is no line, and a hatched band.

use std::fmt::Write;

use hufu_trade::octets::rfc3339;

use super::{page::Page, series::Stretch};

/// The box of a chart, in its own units; the axis of time lies at `BASE`.
const WIDTH: i128 = 1_200;
const TOP: i128 = 34;
const BASE: i128 = 240;

/// What is drawn: values over stretches of time.
pub(super) struct Chart<'a> {
    pub(super) title: String,
    /// What the greatest value is called.
    pub(super) highest: String,
    pub(super) whole: Stretch,
    pub(super) values: &'a [(Stretch, u128)],
    pub(super) absent: &'a [Stretch],
    /// What a band says when it is pointed at.
    pub(super) absent_label: String,
    /// Where the order was suspended: a band of its own, which is no gap.
    pub(super) paused: &'a [Stretch],
    pub(super) paused_label: String,
    /// `use` or `cost`: how the style sheet colours it.
    pub(super) class: &'static str,
}

impl Chart<'_> {
    fn x(&self, time: i64) -> i128 {
        let (start, end) = (i128::from(self.whole.0), i128::from(self.whole.1));
        ((i128::from(time) - start) * WIDTH / (end - start).max(1)).clamp(0, WIDTH)
    }

    /// The outline of every run of values that touch, as the `d` of a path.
    fn outline(&self) -> String {
        let max = self.values.iter().map(|(_, value)| *value).max().unwrap_or(0).max(1);
        // So that what follows cannot overflow.
        let shift = 100_u32.saturating_sub(max.leading_zeros().saturating_add(20));
        let height = u128::try_from(BASE - TOP).unwrap_or(1);
        let y = |value: u128| {
            let up = (value >> shift).saturating_mul(height).checked_div((max >> shift).max(1)).unwrap_or(0);
            BASE - i128::try_from(up).unwrap_or(0)
        };
        let mut path = String::new();
        let mut before: Option<i64> = None;
        for ((from, to), value) in self.values {
            let (left, right, top) = (self.x(*from), self.x(*to), y(*value));
            let touches = before.is_some_and(|end| end == *from && !self.is_absent(end));
            if !touches {
                if before.is_some() {
                    let _ = write!(path, "V{BASE}Z");
                }
                let _ = write!(path, "M{left} {BASE}");
            }
            let _ = write!(path, "V{top}H{right}");
            before = Some(*to);
        }
        if before.is_some() {
            let _ = write!(path, "V{BASE}Z");
        }
        path
    }

    fn is_absent(&self, time: i64) -> bool {
        self.absent.iter().any(|(from, _)| *from == time)
    }

    pub(super) fn draw(&self, page: &mut Page) {
        page.raw("<svg viewBox=\"0 0 1200 280\" role=\"img\" class=\"").raw(self.class).raw("\">\n<title>");
        page.text(&self.title).raw("</title>\n<text x=\"0\" y=\"24\">").text(&self.title);
        page.raw("</text><text x=\"1200\" y=\"24\" class=\"end\">").text(&self.highest).raw("</text>\n");
        page.raw("<line class=\"grid\" x1=\"0\" x2=\"1200\" y1=\"34\" y2=\"34\"/>");
        page.raw("<line class=\"grid\" x1=\"0\" x2=\"1200\" y1=\"137\" y2=\"137\"/>\n");
        page.raw("<path class=\"value\" d=\"").text(self.outline()).raw("\"/>\n");
        let band = |page: &mut Page, class: &'static str, label: &str, (from, to): Stretch| {
            let (left, right) = (self.x(from), self.x(to));
            // Short ones too must be seen.
            let width = (right - left).max(3);
            page.raw("<rect class=\"").raw(class).raw("\" y=\"34\" height=\"206\" x=\"").text(left.min(WIDTH - width));
            page.raw("\" width=\"").text(width).raw("\"><title>").text(label).text(" ").text(minute(from)).text(" – ");
            page.text(minute(to)).raw("</title></rect>\n");
        };
        self.absent.iter().for_each(|at| band(page, "gap", &self.absent_label, *at));
        self.paused.iter().for_each(|at| band(page, "pause", &self.paused_label, *at));
        page.raw("<line class=\"axis\" x1=\"0\" x2=\"1200\" y1=\"240\" y2=\"240\"/>\n");
        let middle = self.whole.0.midpoint(self.whole.1);
        page.raw("<text x=\"0\" y=\"270\">")
            .text(minute(self.whole.0))
            .raw("</text><text x=\"600\" y=\"270\" class=\"mid\">");
        page.text(minute(middle)).raw("</text><text x=\"1200\" y=\"270\" class=\"end\">").text(minute(self.whole.1));
        page.raw("</text></svg>\n");
    }
}

/// UTC to the second: `2026-09-21 14:13:20`.
pub(super) fn minute(time: i64) -> String {
    let text = rfc3339(time);
    text.get(..19).map_or_else(|| text.clone(), |text| text.replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(values: &[(Stretch, u128)], absent: &[Stretch]) -> String {
        let (title, highest, absent_label, paused_label) = <_>::default();
        let (whole, paused) = ((0, 1_200), &[][..]);
        let class = "use";
        Chart { title, highest, whole, values, absent, absent_label, paused, paused_label, class }.outline()
    }

    #[test]
    fn a_gap_has_no_line() {
        let values = [((0, 100), 206), ((100, 200), 103), ((400, 500), 206)];
        assert_eq!(outline(&values, &[(200, 400)]), "M0 240V34H100V137H200V240ZM400 240V34H500V240Z");
        assert_eq!(outline(&[((0, 600), 0)], &[]), "M0 240V240H600V240Z");
        assert_eq!(outline(&[], &[(0, 1_200)]), "");
    }

    #[test]
    fn the_greatest_values_stay_inside() {
        assert_eq!(
            outline(&[((0, 600), u128::MAX), ((600, 1_200), u128::MAX / 2)], &[]),
            "M0 240V34H600V138H1200V240Z"
        );
        assert_eq!(outline(&[((i64::MIN, i64::MAX), 1)], &[]), "M0 240V34H1200V240Z");
    }
}
