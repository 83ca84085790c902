//! `hufu correct`: the site takes something off a bill in dispute. The running agent judges and writes; here are only words.

use std::path::PathBuf;

use hufu_audit::{Exit, Failure};
use hufu_trade::{if2::Problem, money::Money, notice::WHY_CHARS_MAX, resource::Resource};
use serde_json::Value;

use super::{Context, Outcome, buyer, node};
use crate::{
    config::Config,
    local::{Less, Question},
    text::Text,
};

/// The line that names the bill as a whole.
const WHOLE: &str = "bill";

/// Which bill, and what is taken off it.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The bill's number
    bill_no: String,
    /// RESOURCE=CNY taken off, or bill=CNY; may be given several times
    #[arg(long, value_name = "RESOURCE=CNY", required = true, value_parser = less)]
    less: Vec<Less>,
    /// Why, in a sentence the buyer will read
    #[arg(long, value_name = "TEXT", value_parser = why)]
    why: String,
    /// The configuration file
    #[arg(long, value_name = "F", default_value = "/etc/hufu/hufu.toml")]
    config: PathBuf,
}

fn less(text: &str) -> Result<Less, String> {
    let expected = || "RESOURCE=CNY or bill=CNY, an amount above zero".to_owned();
    let (name, amount) = text.split_once('=').ok_or_else(expected)?;
    let resource = match name {
        WHOLE => String::new(),
        name => name.parse::<Resource>().map_err(|_| expected())?.to_string(),
    };
    let amount = amount.parse::<Money>().ok().filter(|amount| amount.0 > 0).ok_or_else(expected)?;
    Ok(Less { resource, amount })
}

/// A sentence for a person that fits a notice and a correction.
pub(super) fn why(text: &str) -> Result<String, String> {
    let count = text.trim().chars().count();
    if (1..=WHY_CHARS_MAX).contains(&count) && !text.chars().any(char::is_control) {
        Ok(text.trim().to_owned())
    } else {
        Err(format!("1 to {WHY_CHARS_MAX} printable characters"))
    }
}

/// Exit status 0 when the correction stands in the ledger, 1 when the contract refuses it, 69 without an agent.
pub(super) fn run(args: &Args, context: &Context) -> Outcome {
    let config = Config::load(&args.config)?;
    let (bill_no, less, why) = (args.bill_no.clone(), args.less.clone(), args.why.clone());
    let mut said = node::ask(&config.socket, &Question::Correct { bill_no, less, why })?;
    if let Ok(problem) = serde_json::from_value::<Problem>(said["error"].take()) {
        return Err(buyer::refusal(&problem, context.lang));
    }
    let correction = said["ok"].take();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if correction["number"].is_null() {
        let (socket, why) = (config.socket.display().to_string(), "no answer".to_owned());
        return Err(Failure::new(Exit::Unavailable, Text::AgentAway { socket, why }));
    }
    context.show(&correction, || {
        let (number, before, total) =
            (text(&correction["number"]), text(&correction["before"]), text(&correction["total"]));
        Text::Corrected { number, before, total }.render(context.lang)
    })?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_off_is_read_strictly() {
        for (text, want) in [
            ("cpu=1.00", Some(("cpu", "1.00"))),
            ("gpu:A100-80G=0.01", Some(("gpu:A100-80G", "0.01"))),
            ("bill=2", Some(("", "2.00"))),
            ("cpu=0", None),
            ("cpu=-1", None),
            ("cpus=1", None),
            ("=1", None),
            ("cpu", None),
        ] {
            let read = less(text).ok().map(|less| (less.resource, less.amount.to_string()));
            assert_eq!(read, want.map(|(name, amount)| (name.to_owned(), amount.to_owned())), "{text}");
        }
        assert_eq!(why("  the disk was slow ").as_deref(), Ok("the disk was slow"));
        assert!(why(" ").is_err() && why("a\nb").is_err() && why(&"x".repeat(401)).is_err());
    }
}
