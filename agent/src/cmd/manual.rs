//! `hufu completions` for a shell, and what a package ships made from the same table of commands: one manual page for each
//! command, one completion file for each shell.

use std::path::PathBuf;

use clap::Command;
use clap_complete::{Shell, generate, generate_to};
use hufu_audit::Exit;

use crate::cmd::{Context, Outcome, file};

#[derive(clap::Args)]
pub(super) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Arguments of `__manual`, which only the packaging calls.
#[derive(clap::Args)]
pub(super) struct ManualArgs {
    #[arg(long)]
    man: PathBuf,
    #[arg(long)]
    completions: PathBuf,
}

/// Writes the completions of one shell to standard output.
pub(super) fn completions(args: &CompletionsArgs, mut table: Command, context: &Context) -> Outcome {
    let mut out = Vec::new();
    generate(args.shell, &mut table, "hufu", &mut out);
    let text = String::from_utf8_lossy(&out).into_owned();
    context.show(&serde_json::json!({ "shell": args.shell.to_string(), "completions": text }), || text.clone())?;
    Ok(Exit::Done)
}

/// Writes all pages and completions into two directories.
pub(super) fn manual(args: &ManualArgs, mut table: Command) -> Outcome {
    file::make_dir(&args.man)?;
    file::make_dir(&args.completions)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut table, "hufu", &args.completions)
            .map_err(|e| file::unwritable(&args.completions, &e))?;
    }
    clap_mangen::generate_to(table, &args.man).map_err(|e| file::unwritable(&args.man, &e))?;
    Ok(Exit::Done)
}
