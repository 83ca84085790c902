//! The platform as a library: everything of the program `hufu-platform` but its start, which is `main.rs`. `serve.rs` runs the
//! platform, `cmd/` are the commands that look into its database. Beside [`run`] only [`sim`] can be seen from outside: the
//! simulation drives the same inbox, judgement and database as `serve` (ADR 0015).

mod account;
mod blocking;
mod blocks;
mod broker;
mod callback;
mod cli;
mod clock;
mod cmd;
mod courier;
mod demand;
mod desk;
mod envelope;
mod error;
mod fetch;
mod file;
mod focus;
mod fork;
mod help;
mod http;
mod identity;
mod inbox;
mod judge;
mod limit;
mod link;
mod matching;
mod pack;
mod parent;
mod plan;
mod quick;
mod receipt;
mod reconciliation;
mod relay;
mod seat;
mod serve;
mod session;
pub mod sim;
mod stamper;
mod store;
#[cfg(test)]
mod tests;
mod text;
mod tls;
mod witness;
mod worker;

use std::{ffi::OsString, process::ExitCode};

/// The whole program: runs the command that `arguments` name, the program's own name first, and gives its exit status.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let lang = hufu_audit::wanted_lang(arguments, |name| std::env::var(name).ok());
    let exit = match cli::run(arguments, lang) {
        Ok(exit) => exit,
        Err(failure) => {
            cli::complain(&failure.text.render(lang));
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}
