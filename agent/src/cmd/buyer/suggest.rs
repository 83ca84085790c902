//! `hufu buyer score --suggest`: what the quality lines of a bill suggest for each resource that the contract prices. It reads a
//! pack and prints; nothing is signed, kept or sent. The rule is `trade/src/score.rs`.

use std::{io::Cursor, path::Path};

use hufu_audit::{Exit, Failure, SuggestedScore, suggest};
use hufu_trade::quality::Quality;
use serde_json::{Value, json};

use super::Common;
use crate::{
    cmd::{Context, Outcome, verify},
    text::Text,
};

/// Exit status 1 for a pack that fails one of the four verdicts: what it says of quality is worth nothing.
pub(super) fn run(common: &Common, path: &Path, context: &Context) -> Outcome {
    let anchors = common.anchors()?;
    let pack = verify::read_pack(path)?;
    let (verdicts, suggestion) = suggest(Cursor::new(pack), &anchors).map_err(|e| verify::failure(path, &e))?;
    let suggestion = suggestion.filter(|_| verdicts.exit() == Exit::Done);
    let pack = path.display().to_string();
    let found = suggestion.ok_or_else(|| Failure::new(Exit::No, Text::SuggestFails { pack }))?;
    let items: Vec<Value> = found.items.iter().map(|item| view(item, context)).collect();
    let shown = json!({ "contract_no": found.contract_no, "bill_no": found.bill_no, "suggested": items });
    context.show(&shown, || {
        let rows: String = found.items.iter().map(|item| row(item, context)).collect();
        let score = |item: &SuggestedScore| {
            let score = item.score.map_or_else(|| "?".to_owned(), |score| score.to_string());
            format!(" {}={score}", item.kind.name())
        };
        let scores: String = found.items.iter().map(score).collect();
        Text::Suggested { contract: found.contract_no.to_string(), rows, scores }.render(context.lang)
    })?;
    Ok(Exit::Done)
}

fn view(item: &SuggestedScore, context: &Context) -> Value {
    let why = item.score.is_none().then(|| Text::SuggestNothing {}.render(context.lang));
    json!({ "resource": item.kind.name(), "score": item.score, "quality": item.told, "reason": why })
}

fn row(item: &SuggestedScore, context: &Context) -> String {
    let name = |code: u8| Quality::from_code(code).map_or("?", Quality::name);
    let told = item.told.iter().filter_map(|line| {
        let share = line.share()?;
        Some(format!("{} {}.{:02} %", name(line.code), share / 100, share % 100))
    });
    let told = told.collect::<Vec<_>>().join(", ");
    let (score, why) = match item.score {
        Some(score) => (score.to_string(), told),
        None => ("?".to_owned(), Text::SuggestNothing {}.render(context.lang)),
    };
    format!("\n  {:<14} {score:>3}  {why}", item.kind.name())
}
