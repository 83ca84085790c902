//! What `hufu meter` says at the end: one JSON object, or a table for a person.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use hufu_audit::Failure;
use hufu_metering::OrderDraft;
use hufu_trade::{octets::rfc3339, rating, resource::Resource, tariff::Tariff, usage::Status};
use serde_json::{Value, json};

use crate::{
    cmd::{Context, bug},
    text::Text,
};

/// What is said at the end.
pub(super) struct Report {
    pub(super) json: Value,
    rows: Vec<[String; 6]>,
    gaps: Vec<(String, String, String)>,
    source: String,
    duration_ns: u64,
    cost: Option<String>,
    exit_status: Option<i32>,
}

impl Report {
    pub(super) fn new(
        pieces: &[OrderDraft],
        status: Option<ExitStatus>,
        tariff: Option<&Tariff>,
    ) -> Result<Self, Failure<Text>> {
        let last = pieces.last().ok_or_else(|| bug(&"no record of the workload"))?;
        let duration_ns = pieces.iter().fold(0_u64, |sum, piece| sum.saturating_add(piece.elapsed_ns));
        let quantities: Vec<(Resource, u128)> =
            last.totals.iter().filter_map(|total| Some((total.resource.clone(), total.total?))).collect();
        let cost = match tariff {
            Some(tariff) => Some(rating::rate_quantities(tariff, &quantities).map_err(|e| bug(&e))?.total.to_string()),
            None => None,
        };
        let exit_status = status.map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
        let mut usage = Vec::new();
        let mut rows = Vec::new();
        for total in &last.totals {
            let (name, unit) = (total.resource.to_string(), total.resource.unit());
            let quantity = total.total.map(|quantity| quantity.to_string());
            let status = status_name(total.status);
            let mut line = json!({ "resource": name, "unit": unit, "quantity": quantity, "status": status });
            if let (Some(why), Some(line)) = (&total.why, line.as_object_mut()) {
                line.insert("reason".to_owned(), json!(why));
            }
            usage.push(line);
            let about = total.total.map(|quantity| about(unit, quantity)).unwrap_or_default();
            let why = total.why.clone().unwrap_or_default();
            rows.push([name, quantity.unwrap_or_default(), unit.to_owned(), about, status.to_owned(), why]);
        }
        let gaps = pieces.iter().filter(|piece| piece.reason.is_gap());
        let gaps: Vec<_> = gaps
            .map(|gap| (rfc3339(gap.start_real_ns), rfc3339(gap.end_real_ns), gap.why.clone().unwrap_or_default()))
            .collect();
        let shown: Vec<Value> =
            gaps.iter().map(|(start, end, why)| json!({ "start": start, "end": end, "reason": why })).collect();
        let resolved = last.identity.resolved.clone();
        let source = match &resolved {
            Some(resolved) => format!("{} ({resolved})", last.identity.source),
            None => last.identity.source.clone(),
        };
        let json = json!({
            "source": last.identity.source,
            "resolved": resolved,
            "duration_ns": duration_ns.to_string(),
            "usage": usage,
            "gaps": shown,
            "cost_cny": cost,
            "exit_status": exit_status,
        });
        Ok(Self { json, rows, gaps, source, duration_ns, cost, exit_status })
    }

    pub(super) fn text(&self, context: &Context) -> String {
        let say = |text: Text| text.render(context.lang);
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(say(Text::MeterColumns {}).split('|'));
        table.add_rows(&self.rows);
        let mut lines = vec![table.trim_fmt()];
        lines.push(say(Text::MeterSummary {
            source: self.source.clone(),
            duration: about("ns", self.duration_ns.into()),
        }));
        for (start, end, why) in self.gaps.iter().cloned() {
            lines.push(say(Text::MeterGap { start, end, why }));
        }
        if let Some(cost) = self.cost.clone() {
            lines.push(say(Text::MeterCost { cost }));
        }
        if let Some(status) = self.exit_status {
            lines.push(say(Text::MeterExit { status: status.to_string() }));
        }
        lines.join("\n")
    }
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Measured => "measured",
        Status::Estimated => "estimated",
        Status::Missing => "missing",
    }
}

/// A quantity for the eye, cut to three places.
fn about(unit: &str, quantity: u128) -> String {
    let (scale, name) = match unit {
        "ns" => (1_000_000_000, "s"),
        "bytes" => (1 << 20, "MiB"),
        "byte-seconds" => (1 << 20, "MiB s"),
        _ => return String::new(),
    };
    format!("{}.{:03} {name}", quantity / scale, quantity % scale * 1000 / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_shown_for_the_eye() {
        for (unit, quantity, want) in
            [("ns", 5_001_754_489, "5.001 s"), ("bytes", 1 << 20, "1.000 MiB"), ("operations", 5, "")]
        {
            assert_eq!(about(unit, quantity), want);
        }
    }
}
