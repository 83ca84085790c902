//! `hufu-platform completions` for a shell, and what a package ships made from the same table of commands: one manual page for each
//! command, one completion file for each shell.

use std::path::PathBuf;

use clap::Command;
use clap_complete::{Shell, generate, generate_to};
use hufu_audit::{Exit, Failure};

use crate::{cli::Context, text::Text};

#[derive(clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Arguments of `__manual`, which only the packaging calls.
#[derive(clap::Args)]
pub(crate) struct ManualArgs {
    #[arg(long)]
    man: PathBuf,
    #[arg(long)]
    completions: PathBuf,
}

/// Writes the completions of one shell to standard output.
pub(crate) fn completions(
    args: &CompletionsArgs,
    mut table: Command,
    context: &Context,
) -> Result<Exit, Failure<Text>> {
    let mut out = Vec::new();
    generate(args.shell, &mut table, "hufu-platform", &mut out);
    let text = String::from_utf8_lossy(&out).into_owned();
    context.show(&serde_json::json!({ "shell": args.shell.to_string(), "completions": text }), || text.clone())?;
    Ok(Exit::Done)
}

/// Writes all pages and completions into two directories.
pub(crate) fn manual(args: &ManualArgs, mut table: Command) -> Result<Exit, Failure<Text>> {
    let failed = |path: &PathBuf, error: &std::io::Error| {
        Failure::new(Exit::Io, Text::FileUnwritable { path: path.display().to_string(), why: error.to_string() })
    };
    for dir in [&args.man, &args.completions] {
        std::fs::create_dir_all(dir).map_err(|e| failed(dir, &e))?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let made = generate_to(shell, &mut table, "hufu-platform", &args.completions);
        made.map_err(|e| failed(&args.completions, &e))?;
    }
    clap_mangen::generate_to(table, &args.man).map_err(|e| failed(&args.man, &e))?;
    Ok(Exit::Done)
}
