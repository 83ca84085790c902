//! What clap says, in one line of our own and in both languages; help and version go to stdout as they are.

use std::io::{IsTerminal, Write};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use hufu_audit::{Exit, Failure};

use crate::{cmd::Outcome, text::Text};

/// Writes help to stdout, with its colours where a person reads it. A reader that went away is no failure.
fn show(text: &clap::builder::StyledStr) -> Result<(), Failure<Text>> {
    let mut stdout = std::io::stdout().lock();
    let shown = if stdout.is_terminal() { text.ansi().to_string() } else { text.to_string() };
    match stdout.write_all(shown.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Io, Text::FileUnwritable { path: "stdout".to_owned(), why: error.to_string() }))
        }
        _ => Ok(()),
    }
}

/// Help and version are done; every other parse result is wrong usage.
pub(super) fn explain(error: &clap::Error) -> Outcome {
    let name = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let argument = name(ContextKind::InvalidArg);
    let text = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            show(&error.render())?;
            return Ok(Exit::Done);
        }
        ErrorKind::UnknownArgument => Text::UnknownArgument { argument },
        ErrorKind::InvalidSubcommand => Text::UnknownCommand { name: name(ContextKind::InvalidSubcommand) },
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Text::CommandMissing {},
        ErrorKind::MissingRequiredArgument => Text::ArgumentMissing { argument },
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            let expected = why.unwrap_or_else(|| name(ContextKind::ValidValue).replace(' ', ", "));
            Text::ArgumentValue { argument, value: name(ContextKind::InvalidValue), expected }
        }
        ErrorKind::ArgumentConflict if name(ContextKind::PriorArg) == argument => Text::ArgumentTwice { argument },
        ErrorKind::ArgumentConflict => Text::ArgumentConflict { argument, other: name(ContextKind::PriorArg) },
        _ => {
            let shown = error.to_string();
            let first = shown.lines().next().unwrap_or_default();
            Text::Usage { why: first.trim_start_matches("error: ").to_owned() }
        }
    };
    Err(Failure::new(Exit::Usage, text))
}
