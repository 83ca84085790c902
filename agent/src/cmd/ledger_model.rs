//! `hufu ledger risk` and `hufu ledger cost`: the paper's formulas (1) to (5) as a calculator. The arithmetic is
//! `hufu_ledger::model`, the blocks that are measured `sample.rs`; here are the flags and what is shown.

use std::time::Duration;

use clap::Args;
use hufu_audit::{Exit, Failure};
use hufu_ledger::model::{BLOCKS_MAX, Chance, Race, at_least, production_s, total_s, validation_s};
use serde_json::{Value, json};

use crate::{
    cmd::{
        Context, Outcome,
        sample::{Cost, KINDS, Sample},
    },
    text::Text,
};

/// What formulas (1) and (2) take.
#[derive(Args)]
pub(super) struct RiskArgs {
    /// Share of the block-making power that the attacker has, 0 to 1
    #[arg(long, value_name = "SHARE")]
    attacker: f64,
    /// Blocks of one trade
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(..=BLOCKS_MAX))]
    blocks: u64,
    /// Blocks that the attacker needs; without it one more than the trade has
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u64).range(..=BLOCKS_MAX))]
    attacker_blocks: Option<u64>,
    /// Witnesses of each checkpoint; without it nothing is said of them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    witnesses: Option<u32>,
    /// Witnesses that make an entry confirmed
    #[arg(long, value_name = "K", default_value_t = 2, requires = "witnesses", value_parser = clap::value_parser!(u32).range(1..=64))]
    need: u32,
    /// Share of the witnesses that collude with the node, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, requires = "witnesses")]
    collude: f64,
    /// Share of the time that a witness is away, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, requires = "witnesses")]
    away: f64,
}

/// What formulas (3) to (5) take besides what is measured.
#[derive(Args)]
pub(super) struct CostArgs {
    /// Bandwidth of the line, bits per second; without it no time on the line
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u64).range(1..))]
    bandwidth: Option<u64>,
    /// Nodes that each block is sent to and that validate it, side by side
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    nodes: u32,
    /// Blocks of each type to make and verify; the median counts
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,
}

const PRINTED: [&str; 2] =
    ["Σ(i=1..m) (nβ/α)^i / (i!·e^(nβ/α)) · (β/α)^(n−i), m > n", "Σ(i=1..m) (nβ/α)^i / (i!·e^(nβ/α)), m ≤ n"];
const READING: &str = "Σ(i=0..n) (nβ/α)^i / (i!·e^(nβ/α)) · (β/α)^(n−i) + Σ(i>n) (nβ/α)^i / (i!·e^(nβ/α))";

/// The chance to replace the blocks of a trade, as printed and as we read it.
pub(super) fn risk(args: &RiskArgs, context: &Context) -> Outcome {
    let share = args.attacker.to_string();
    let race = Race::new(args.attacker, args.blocks).ok_or_else(|| {
        let (argument, expected) = ("--attacker <SHARE>".to_owned(), "0..=1".to_owned());
        Failure::new(Exit::Usage, Text::ArgumentValue { argument, value: share.clone(), expected })
    })?;
    let needed = args.attacker_blocks.unwrap_or_else(|| args.blocks.saturating_add(1));
    let (printed, reading) = (race.printed(needed), race.overtaken());
    let witnessed = args.witnesses.map(|count| witnesses(count, args)).transpose()?;
    let formula = |number: u8| PRINTED.get(usize::from(number.saturating_sub(1))).copied().unwrap_or_default();
    let (reason, defence) = (Text::RiskWhy {}.render(context.lang), Text::RiskDefence {}.render(context.lang));
    let value = json!({
        "attacker_share": share,
        "blocks": args.blocks.to_string(),
        "attacker_blocks": needed.to_string(),
        "printed": printed.map(|(number, chance)| {
            let mut value = chance_json(formula(number), chance);
            value["formula"] = number.into();
            value
        }),
        "reading": chance_json(READING, reading),
        "reason": reason,
        "defence": defence,
        "witnesses": witnessed.as_ref().map(|(value, _)| value),
    });
    context.show(&value, || {
        let (blocks, needed) = (args.blocks.to_string(), needed.to_string());
        let printed = printed.map_or(Text::RiskUndefined {}, |(number, chance)| Text::RiskPrinted {
            number: number.to_string(),
            formula: formula(number).to_owned(),
            value: shown(chance),
        });
        let lines = [
            Text::RiskGiven { share: share.clone(), blocks, needed },
            printed,
            Text::RiskReading { formula: READING.to_owned(), value: shown(reading) },
        ];
        let lines = lines.map(|text| text.render(context.lang));
        let mut lines = [&lines[..], &[reason.clone(), defence.clone()]].concat();
        lines.extend(witnessed.iter().flat_map(|(_, texts)| texts).map(|text| text.render(context.lang)));
        lines.join("\n")
    })?;
    Ok(Exit::Done)
}

/// What a number of witnesses is worth: the chance that enough of them collude, and that too few are up.
fn witnesses(count: u32, args: &RiskArgs) -> Result<(Value, [Text; 2]), Failure<Text>> {
    let of = |need: u32, each: f64, argument: &str| {
        at_least(need, count, each).ok_or_else(|| {
            let (argument, value) = (argument.to_owned(), each.to_string());
            let expected = format!("0..=1, and at most {count} witnesses needed");
            Failure::new(Exit::Usage, Text::ArgumentValue { argument, value, expected })
        })
    };
    let collude = of(args.need, args.collude, "--collude <SHARE>")?;
    // Fewer than `need` are up: at least count - need + 1 are away.
    let down = of((count + 1).saturating_sub(args.need), args.away, "--away <SHARE>")?;
    let (number, need) = (count.to_string(), args.need.to_string());
    let value = json!({
        "count": count,
        "need": args.need,
        "collude": chance_json("Σ(i=k..n) C(n,i) q^i (1−q)^(n−i)", collude),
        "unconfirmed": chance_json("Σ(i=n−k+1..n) C(n,i) p^i (1−p)^(n−i)", down),
    });
    let texts = [
        Text::RiskWitnesses { count: number.clone(), need: need.clone(), chance: shown(collude) },
        Text::RiskDown { count: number, need, chance: shown(down) },
    ];
    Ok((value, texts))
}

fn chance_json(formula: &str, chance: Chance) -> Value {
    let log10 = chance.log10.is_finite().then(|| format!("{:.6}", chance.log10));
    json!({ "text": formula, "probability": shown(chance), "log10": log10 })
}

/// A probability to ten digits; one that is too small for a double from its logarithm, to three.
fn shown(chance: Chance) -> String {
    if chance.probability >= 1e-300 {
        return if chance.probability >= 1.0 { "1".to_owned() } else { format!("{:.9e}", chance.probability) };
    }
    if !chance.log10.is_finite() {
        return "0".to_owned();
    }
    let exponent = chance.log10.floor();
    let mantissa = 10_f64.powf(chance.log10.rem_euclid(1.0));
    format!("{mantissa:.2}e{exponent}")
}

/// What the four blocks of a trade cost on this machine.
pub(super) fn cost(args: &CostArgs, context: &Context) -> Outcome {
    let sample = Sample::new()?;
    let costs: Vec<Cost> = KINDS.into_iter().map(|kind| sample.cost(kind, args.repeat)).collect::<Result<_, _>>()?;
    let seconds = |of: fn(&Cost) -> u64| -> Vec<f64> {
        costs.iter().map(|cost| Duration::from_nanos(of(cost)).as_secs_f64()).collect()
    };
    let sizes: Vec<u64> = costs.iter().map(|cost| cost.bytes).collect();
    let line = |sizes: &[u64]| args.bandwidth.map(|bits| production_s(f64::from(args.nodes), sizes, bits as f64));
    let (production, validation) = (line(&sizes), validation_s(1.0, &seconds(|cost| cost.verify_ns)));
    let making = total_s(&seconds(|cost| cost.make_ns));
    let printed = production.map(|production| total_s(&[production, validation]));
    let reading = total_s(&[making, production.unwrap_or(0.0), validation]);
    let told = |value: f64| format!("{value:.9}");
    let rows = KINDS.iter().zip(&costs).map(|(kind, cost)| {
        json!({
            "kind": kind.name(),
            "bytes": cost.bytes.to_string(),
            "make_ns": cost.make_ns.to_string(),
            "verify_ns": cost.verify_ns.to_string(),
            "line_s": line(&[cost.bytes]).map(told),
        })
    });
    let value = json!({
        "blocks": rows.collect::<Vec<_>>(),
        "repeat": args.repeat,
        "nodes": args.nodes,
        "bandwidth_bits_per_s": args.bandwidth.map(|bits| bits.to_string()),
        "printed": { "production_s": production.map(told), "validation_s": told(validation), "total_s": printed.map(told) },
        "reading": { "making_s": told(making), "line_s": production.map(told), "validation_s": told(validation), "total_s": told(reading) },
    });
    context.show(&value, || {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_header(Text::CostColumns {}.render(context.lang).split('|'));
        for (kind, cost) in KINDS.iter().zip(&costs) {
            let line = line(&[cost.bytes]).map_or_else(|| "-".to_owned(), told);
            let counts = [cost.bytes, cost.make_ns, cost.verify_ns].map(|count| count.to_string());
            table.add_row([&[kind.name().to_owned()][..], &counts, &[line]].concat());
        }
        let dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), told);
        let (production, validation) = (dash(production), told(validation));
        let lines = [
            Text::CostGiven { repeat: args.repeat.to_string(), nodes: args.nodes.to_string() },
            Text::CostPrinted { production: production.clone(), validation: validation.clone(), total: dash(printed) },
            Text::CostReading { making: told(making), production, validation, total: told(reading) },
        ];
        format!("{table}\n{}", lines.map(|text| text.render(context.lang)).join("\n"))
    })?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_is_shown_however_small_it_is() {
        for (probability, log10, want) in [
            (1.0, 0.0, "1"),
            (0.0, f64::NEG_INFINITY, "0"),
            (3.455243466485263e-3, -2.4615, "3.455243466e-3"),
            (0.0, -568.495_413_247_642_5, "3.20e-569"),
        ] {
            assert_eq!(shown(Chance { probability, log10 }), want);
        }
    }
}
