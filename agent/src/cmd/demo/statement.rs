//! What a demo ends with: the JSON of the command contract, the statement a person reads, and whether the bill agrees with
//! what the workload measured itself. Integers only.

use std::path::PathBuf;

use hufu_audit::Lang;
use serde_json::{Value, json};

use super::workload::OwnMeasure;
use crate::text::Text;

/// The bill's CPU time must agree with the workload's own measure to this part, or to [`CPU_SLACK_NS`], whichever is larger.
const CPU_SLACK_PERCENT: u64 = 2;
/// Absolute tolerance, ns.
const CPU_SLACK_NS: u64 = 50_000_000;

const VERDICTS: [&str; 4] = ["signatures", "completeness", "data_quality", "arithmetic"];

/// A demo that ran to its end.
pub(super) struct Finished {
    pub(super) node: String,
    pub(super) contract_no: String,
    pub(super) bill_no: String,
    pub(super) total_cny: String,
    pub(super) seconds: u64,
    pub(super) pack: PathBuf,
    pub(super) trust: PathBuf,
    pub(super) agent_dir: PathBuf,
    pub(super) platform_dir: PathBuf,
    /// The offer's list of sources.
    pub(super) metered: Value,
    /// The offer's price terms.
    pub(super) tariff: Value,
    /// The last record's totals.
    pub(super) usage: Value,
    /// What `hufu verify` said.
    pub(super) verified: Value,
    /// What the workload said.
    pub(super) measure: Option<OwnMeasure>,
}

/// How bill and workload compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Agreement {
    billed_ns: u64,
    own_ns: u64,
    difference_ns: u64,
    allowed_ns: u64,
}

impl Agreement {
    fn of(billed_ns: u64, own_ns: u64) -> Self {
        let allowed_ns = (own_ns / 100).saturating_mul(CPU_SLACK_PERCENT).max(CPU_SLACK_NS);
        Self { billed_ns, own_ns, difference_ns: billed_ns.abs_diff(own_ns), allowed_ns }
    }

    fn holds(self) -> bool {
        self.difference_ns <= self.allowed_ns
    }
}

impl Finished {
    fn quantity_of(&self, resource: &str) -> Option<u64> {
        let readings = self.usage.as_array()?;
        readings.iter().find(|reading| reading["resource"] == resource)?["quantity"].as_str()?.parse().ok()
    }

    fn agreement(&self) -> Option<Agreement> {
        Some(Agreement::of(self.quantity_of("cpu")?, self.measure.as_ref()?.cpu_ns))
    }

    fn verdict(&self, name: &str) -> &str {
        self.verified["verdicts"][name]["result"].as_str().unwrap_or("fail")
    }

    /// Every verdict holds and the bill agrees with the workload.
    pub(super) fn is_good(&self) -> bool {
        VERDICTS.iter().all(|name| self.verdict(name) != "fail") && self.agreement().is_some_and(Agreement::holds)
    }

    /// What is wrong, if the verdicts do not say it.
    pub(super) fn complaint(&self) -> Option<Text> {
        match self.agreement() {
            None => Some(Text::NoOwnMeasure {}),
            Some(agreement) if !agreement.holds() => Some(Text::CpuDisagrees {
                billed: agreement.billed_ns.to_string(),
                own: agreement.own_ns.to_string(),
                allowed: agreement.allowed_ns.to_string(),
            }),
            Some(_) => None,
        }
    }

    fn usage_json(&self) -> Vec<Value> {
        let why_not = |resource: &Value| {
            let listed = self.metered.as_array()?.iter().find(|metered| metered["resource"] == *resource)?;
            listed["why_not"].as_str().map(str::to_owned)
        };
        let readings = self.usage.as_array().into_iter().flatten();
        readings
            .map(|reading| {
                let (resource, unit, quantity) = (&reading["resource"], &reading["unit"], &reading["quantity"]);
                if quantity.is_null() {
                    let reason = why_not(resource).unwrap_or_else(|| "not read".to_owned());
                    return json!({ "resource": resource, "unit": unit, "quantity": null, "status": "missing", "reason": reason });
                }
                json!({ "resource": resource, "unit": unit, "quantity": quantity })
            })
            .collect()
    }

    /// The JSON of the command contract.
    pub(super) fn to_json(&self) -> Value {
        let agreement = self.agreement().map(|agreement| {
            json!({
                "billed_cpu_ns": agreement.billed_ns.to_string(),
                "own_cpu_ns": agreement.own_ns.to_string(),
                "difference_ns": agreement.difference_ns.to_string(),
                "allowed_ns": agreement.allowed_ns.to_string(),
                "agrees": agreement.holds(),
            })
        });
        json!({
            "node": self.node,
            "contract_no": self.contract_no,
            "bill_no": self.bill_no,
            "total_cny": self.total_cny,
            "pack": self.pack.display().to_string(),
            "trust": self.trust.display().to_string(),
            "agent_dir": self.agent_dir.display().to_string(),
            "platform_dir": self.platform_dir.display().to_string(),
            "receipted": true,
            "verdicts": self.verified["verdicts"],
            "usage": self.usage_json(),
            "workload": agreement,
        })
    }

    /// The statement a person reads.
    pub(super) fn to_text(&self, lang: Lang) -> String {
        let heading = |text: Text| text.render(lang);
        let mut usage = table();
        usage.set_header(heading(Text::DemoUsageColumns {}).split('|'));
        for reading in self.usage_json() {
            let resource = reading["resource"].as_str().unwrap_or_default();
            let used = match reading["quantity"].as_str() {
                Some(text) => quantity(resource, text),
                None => reading["reason"].as_str().unwrap_or_default().to_owned(),
            };
            usage.add_row([resource.to_owned(), used, self.price_of(resource)]);
        }
        let mut verdicts = table();
        verdicts.set_header(heading(Text::DemoVerdictColumns {}).split('|'));
        for name in VERDICTS {
            let problems = self.verified["verdicts"][name]["problems"].as_array().map_or(0, Vec::len);
            verdicts.add_row([name.to_owned(), self.verdict(name).to_owned(), problems.to_string()]);
        }
        let ordered = heading(Text::DemoOrdered {
            node: self.node.clone(),
            contract: self.contract_no.clone(),
            seconds: self.seconds.to_string(),
        });
        let charged = heading(Text::DemoCharged { bill: self.bill_no.clone(), total: self.total_cny.clone() });
        let compared = self.agreement().map_or_else(String::new, |agreement| {
            heading(Text::DemoCompared {
                billed: quantity("cpu", &agreement.billed_ns.to_string()),
                own: quantity("cpu", &agreement.own_ns.to_string()),
                allowed: quantity("cpu", &agreement.allowed_ns.to_string()),
            })
        });
        let again =
            heading(Text::DemoAgain { pack: self.pack.display().to_string(), trust: self.trust.display().to_string() });
        format!("{ordered}\n{usage}\n{charged}\n{compared}\n{verdicts}\n{again}\n")
    }

    fn price_of(&self, resource: &str) -> String {
        let prices = self.tariff["prices"].as_array().into_iter().flatten();
        let found = prices.into_iter().find(|price| price["resource"] == resource);
        found.map_or_else(
            || "-".to_owned(),
            |price| {
                let first = price["tiers"][0]["price"].as_str().unwrap_or_default();
                format!("{first} CNY/{}", price["per"].as_str().unwrap_or_default())
            },
        )
    }
}

fn table() -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table
}

/// A quantity of a resource as a person reads it, cut to three digits after the point.
pub(super) fn quantity(resource: &str, text: &str) -> String {
    let Ok(value) = text.parse::<u128>() else { return text.to_owned() };
    let (scale, unit) = match resource.trim_start_matches("reserved_") {
        "cpu" => (1_000_000_000, "core-s"),
        "memory" | "storage" => (1 << 20, "MiB-s"),
        "disk_read" | "disk_write" | "net_rx" | "net_tx" => (1 << 20, "MiB"),
        "disk_read_ops" | "disk_write_ops" => return format!("{value} ops"),
        _ => return text.to_owned(),
    };
    let thousandths = (value % scale) * 1000 / scale;
    format!("{}.{thousandths:03} {unit}", value / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_agrees_within_two_percent_or_fifty_milliseconds() {
        for (billed, own, want) in [
            (1_000_000_000, 1_000_000_000, true),
            (1_050_000_000, 1_000_000_000, true),
            (1_051_000_000, 1_000_000_000, false),
            (0, 50_000_000, true),
            (0, 51_000_000, false),
            (10_200_000_000, 10_000_000_000, true),
            (9_790_000_000, 10_000_000_000, false),
        ] {
            assert_eq!(Agreement::of(billed, own).holds(), want, "{billed} {own}");
        }
    }

    #[test]
    fn quantities_are_read_without_floating_point() {
        for (resource, text, want) in [
            ("cpu", "1234567890", "1.234 core-s"),
            ("memory", "1048576", "1.000 MiB-s"),
            ("disk_write", "1572864", "1.500 MiB"),
            ("disk_write_ops", "7", "7 ops"),
            ("gpu", "9", "9"),
        ] {
            assert_eq!(quantity(resource, text), want);
        }
    }
}
