//! The command line: flags every command has, dispatch, and how results and failures reach a person or a program.

use std::{
    ffi::OsString,
    io::{ErrorKind, IsTerminal, Write},
};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind as Wrong},
};
use hufu_audit::{Exit, Failure, Lang};
use serde::Serialize;

use crate::{
    cmd::{self, manual},
    help, serve,
    text::Text,
};

/// The reference operations platform: takes products, orders, usage and bills, answers with signed receipts.
#[derive(Parser)]
#[command(name = "hufu-platform", version, disable_help_subcommand = true, arg_required_else_help = false)]
pub(crate) struct Cli {
    /// One JSON object on stdout; messages go to stderr
    #[arg(long, global = true)]
    json: bool,
    /// Language of messages: en or zh; default from the locale
    #[arg(long, global = true, value_name = "LANG", value_parser = ["en", "zh"])]
    lang: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the platform
    Serve(Box<serve::Args>),
    /// Completions for a shell, on standard output
    Completions(manual::CompletionsArgs),
    #[command(name = "__manual", hide = true)]
    Manual(manual::ManualArgs),
    #[command(flatten)]
    Look(cmd::Command),
}

/// What every command is given besides its own flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// JSON on stdout instead of text.
    pub(crate) json: bool,
    /// Language of messages.
    pub(crate) lang: Lang,
}

/// Reads the arguments and does what they say.
///
/// # Errors
/// The statuses of the command contract.
pub(crate) fn run(arguments: &[OsString], lang: Lang) -> Result<Exit, Failure<Text>> {
    let command = match lang {
        Lang::En => Cli::command(),
        Lang::Zh => help::in_chinese(Cli::command()),
    };
    let parsed = command.try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let context = Context { json: cli.json, lang };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| bug(&error))?;
    runtime.block_on(async {
        match &cli.command {
            Command::Serve(args) => serve::run(args, &context).await,
            Command::Completions(args) => manual::completions(args, Cli::command(), &context),
            Command::Manual(args) => manual::manual(args, Cli::command()),
            Command::Look(command) => cmd::run(command, &context).await,
        }
    })
}

/// Writes help to stdout, with its colours where a person reads it. A reader that went away is no failure.
fn show(text: &clap::builder::StyledStr) -> Result<(), Failure<Text>> {
    let mut stdout = std::io::stdout().lock();
    let shown = if stdout.is_terminal() { text.ansi().to_string() } else { text.to_string() };
    match stdout.write_all(shown.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Io, Text::FileUnwritable { path: "stdout".to_owned(), why: error.to_string() }))
        }
        _ => Ok(()),
    }
}

/// What clap says, in one line of our own. Help and version are done; every other parse result is wrong usage.
fn explain(error: &clap::Error) -> Result<Exit, Failure<Text>> {
    let name = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let argument = name(ContextKind::InvalidArg);
    let text = match error.kind() {
        Wrong::DisplayHelp | Wrong::DisplayVersion => {
            show(&error.render())?;
            return Ok(Exit::Done);
        }
        Wrong::UnknownArgument => Text::UnknownArgument { argument },
        Wrong::InvalidSubcommand => Text::UnknownCommand { name: name(ContextKind::InvalidSubcommand) },
        Wrong::MissingSubcommand | Wrong::DisplayHelpOnMissingArgumentOrSubcommand => Text::CommandMissing {},
        Wrong::MissingRequiredArgument => Text::ArgumentMissing { argument },
        Wrong::InvalidValue | Wrong::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            let expected = why.unwrap_or_else(|| name(ContextKind::ValidValue));
            Text::ArgumentValue { argument, value: name(ContextKind::InvalidValue), expected }
        }
        Wrong::ArgumentConflict if name(ContextKind::PriorArg) == argument => Text::ArgumentTwice { argument },
        Wrong::ArgumentConflict => Text::ArgumentConflict { argument, other: name(ContextKind::PriorArg) },
        _ => {
            let shown = error.to_string();
            let first = shown.lines().next().unwrap_or_default();
            Text::Usage { why: first.trim_start_matches("error: ").to_owned() }
        }
    };
    Err(Failure::new(Exit::Usage, text))
}

impl Context {
    /// Shows a result: `value` as one JSON object with `--json`, `text` otherwise. A reader that went away is no failure.
    ///
    /// # Errors
    /// 74 when stdout cannot be written.
    pub(crate) fn show(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure<Text>> {
        let mut shown = if self.json { serde_json::to_string(value).map_err(|error| bug(&error))? } else { text() };
        if !shown.ends_with('\n') {
            shown.push('\n');
        }
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(shown.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::new(Exit::Io, Text::FileUnwritable { path: "stdout".to_owned(), why: error.to_string() }))
            }
            _ => Ok(()),
        }
    }
}

/// One line on stderr; a closed stderr is nobody's business.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "hufu-platform: {}", line.replace('\n', " "));
}

/// A failure that can only be our own fault.
pub(crate) fn bug(why: &dyn std::fmt::Display) -> Failure<Text> {
    Failure::new(Exit::Software, Text::Bug { why: why.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_table_is_well_formed() {
        Cli::command().debug_assert();
        help::in_chinese(Cli::command()).debug_assert();
    }
}
