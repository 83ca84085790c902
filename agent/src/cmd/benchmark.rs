//! `hufu capacity --benchmark`: short measurements of this server beside what the products need, in the shape of `hufu doctor`.
//! How it is measured is `hufu_metering::benchmark`; this file has the clock and the hash.

use std::{hint::black_box, path::PathBuf};

use hufu_audit::{Exit, Failure};
use hufu_gm::sm3::sm3;
use hufu_metering::benchmark::{self, FILE_BYTES_MAX, Measured, Probe};
use serde_json::json;

use crate::{
    clock,
    cmd::{
        Context, Outcome,
        doctor::{self, Check, State},
    },
    config::Config,
    text::Text,
};

/// Bytes hashed between two looks at the clock.
const HASHED_BYTES: usize = 1 << 20;

#[derive(clap::Args)]
pub(super) struct BenchmarkArgs {
    /// Measure disk, memory and one core for some seconds each, against what the products of --config need
    #[arg(long)]
    benchmark: bool,
    /// Seconds that each measurement takes
    #[arg(long, value_name = "N", default_value_t = 2, requires = "benchmark", value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Directory whose disk is measured, with a file of at most 1 GiB that is removed again
    #[arg(long, value_name = "D", default_value = ".", requires = "benchmark")]
    dir: PathBuf,
}

impl BenchmarkArgs {
    pub(super) fn is_asked(&self) -> bool {
        self.benchmark
    }
}

/// Measures, compares, shows: 1 when something that a product needs is not there.
pub(super) fn run(args: &BenchmarkArgs, config: Option<&Config>, context: &Context) -> Outcome {
    let limit_ns = args.seconds.saturating_mul(1_000_000_000);
    let mut now_ns = || clock::now().mono_ns;
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Io, Text::FileUnwritable { path: args.dir.display().to_string(), why: error.to_string() })
    };
    let mut probe = Probe::make(&args.dir, std::process::id()).map_err(failed)?;
    let written = probe.write((limit_ns, FILE_BYTES_MAX), &mut now_ns).map_err(failed)?;
    let read = probe.read(limit_ns, &mut now_ns).map_err(failed)?;
    drop(probe);
    let copied = benchmark::memory(limit_ns, &mut now_ns);
    let text = vec![0x5a_u8; HASHED_BYTES];
    let hashed = benchmark::repeat(limit_ns, &mut now_ns, &mut || {
        black_box(sm3(&[black_box(&text)]));
        HASHED_BYTES as u64
    });
    let found = [
        ("disk_write_bytes_s", written, Text::BenchmarkDiskWrite {}),
        ("disk_read_ops_s", read, Text::BenchmarkDiskRead {}),
        ("memory_bytes_s", copied, Text::BenchmarkMemory {}),
        ("sm3_bytes_s", hashed, Text::BenchmarkSm3 {}),
    ];
    let checks: Vec<Check> = found
        .into_iter()
        .map(|(id, measured, text)| compared(id, measured, required(config, id), &text, context))
        .collect();
    let worst = checks.iter().map(|check| check.state).max().unwrap_or(State::Ok);
    let shown = json!({ "dir": args.dir.display().to_string(), "state": worst, "checks": checks });
    context.show(&shown, || doctor::table(&checks, context))?;
    Ok(if worst == State::Fail { Exit::No } else { Exit::Done })
}

/// What the neediest product asks.
fn required(config: Option<&Config>, id: &str) -> Option<u64> {
    let products = config.into_iter().flat_map(|config| &config.products);
    products
        .flat_map(|product| product.requires.each())
        .filter(|(key, _)| *key == id)
        .filter_map(|(_, value)| value)
        .max()
}

fn compared(id: &'static str, measured: Measured, required: Option<u64>, text: &Text, context: &Context) -> Check {
    let actual = measured.per_second();
    let state = match (actual, required) {
        (_, None) => State::Ok,
        (Some(actual), Some(required)) if actual >= required => State::Ok,
        _ => State::Fail,
    };
    let actual = actual.map_or_else(|| "?".to_owned(), |rate| rate.to_string());
    let unit = if id == "disk_read_ops_s" { "operations/s" } else { "bytes/s" };
    let required = required.map_or_else(|| "-".to_owned(), |required| required.to_string());
    Check { required, unit: Some(unit), ..doctor::check(context.lang, id, (state, actual), text) }
}

#[cfg(test)]
mod tests {
    use hufu_audit::Lang;

    use super::*;

    #[test]
    fn a_requirement_that_is_missed_by_one_is_missed() {
        let context = Context { json: false, lang: Lang::En };
        let measured = Measured { done: 1000, took_ns: 1_000_000_000 };
        for (required, state, shown) in
            [(None, State::Ok, "-"), (Some(1000), State::Ok, "1000"), (Some(1001), State::Fail, "1001")]
        {
            let check = compared("sm3_bytes_s", measured, required, &Text::BenchmarkSm3 {}, &context);
            assert_eq!((check.state, check.required.as_str(), check.actual.as_deref()), (state, shown, Some("1000")));
            assert!(!check.purpose.is_empty() && !check.remedy.is_empty());
        }
        let unknown = Measured { done: 1, took_ns: 0 };
        assert_eq!(compared("sm3_bytes_s", unknown, Some(1), &Text::BenchmarkSm3 {}, &context).state, State::Fail);
    }
}
