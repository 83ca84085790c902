//! The agent as a library: everything of the program `hufu` but its start, which is `main.rs`. Beside [`run`] only [`sim`] can be
//! seen from outside: the simulation drives the same core, writer and sampler as the daemon (ADR 0015).

mod account;
mod act;
mod address;
mod answered;
mod archive;
mod asked;
mod batch;
mod book;
mod books;
mod boundary;
mod bounded;
mod catalogue;
mod change;
mod clock;
mod cmd;
mod config;
mod contract;
mod core_state;
mod daemon;
mod demand;
mod devices;
mod directory;
mod disk;
mod due;
mod ends;
mod exchange;
mod fetch;
mod firmware;
mod gpu_config;
mod gpu_shown;
mod gpus;
mod hardware;
mod heard;
mod input;
mod journal;
mod key_place;
mod link;
mod local;
mod metrics;
mod next_key;
mod node;
mod outbox;
mod pause;
mod pay;
mod peers;
mod personal;
mod places;
mod profile;
mod provision;
mod replay;
mod rotation;
mod sampler;
mod scrape;
mod served;
mod session;
mod setup;
mod signer;
pub mod sim;
mod status;
mod stock;
mod text;
mod tls;
#[cfg(test)]
mod trial;
mod unsigned;
mod whole;
mod writer;

use std::{ffi::OsString, process::ExitCode};

/// The whole program: runs the command that `arguments` name, the program's own name first, and gives its exit status.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let lang = hufu_audit::wanted_lang(arguments, |name| std::env::var(name).ok());
    let exit = match cmd::run(arguments, lang) {
        Ok(exit) => exit,
        Err(failure) => {
            cmd::complain(&failure.text.render(lang));
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}
