//! Quantities and rates as a person reads them: integers, cut and not rounded.

use hufu_trade::{
    bill::Line,
    resource::{Kind as Measure, Resource},
};

/// A decimal of which `digits` stand behind the point, without zeros at the end.
pub(super) fn decimal(value: u128, digits: u32) -> String {
    let scale = 10_u128.pow(digits);
    let rest = format!("{:0width$}", value % scale, width = usize::try_from(digits).unwrap_or(0));
    let rest = rest.trim_end_matches('0');
    if rest.is_empty() { (value / scale).to_string() } else { format!("{}.{rest}", value / scale) }
}

/// The quantity in the unit that its price is of; cut, not rounded: what counts stands beside it.
pub(super) fn named_quantity(line: &Line) -> String {
    let units = line.resource.parse::<Resource>().map_or(1, |resource| resource.kind.priced_per().1);
    let (whole, rest) = (line.quantity / units, line.quantity % units);
    let parts = whole.saturating_mul(1_000_000).saturating_add(rest.saturating_mul(1_000_000) / units);
    format!("{} {}", decimal(parts, 6), line.per)
}

/// A rate, given in thousandths of the base unit a second, in a unit that a person knows.
pub(super) fn shown_rate(resource: &Resource, rate: u128) -> String {
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
