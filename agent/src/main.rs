//! `hufu`: the daemon and the command line. Here is only the sequence; every command lives in `cmd/`.

mod act;
mod archive;
mod batch;
mod book;
mod books;
mod change;
mod clock;
mod cmd;
mod config;
mod contract;
mod daemon;
mod due;
mod exchange;
mod fetch;
mod firmware;
mod link;
mod local;
mod node;
mod outbox;
mod pay;
mod personal;
mod provision;
mod replay;
mod sampler;
mod setup;
mod status;
mod stock;
mod text;
#[cfg(test)]
mod trial;
mod whole;
mod writer;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let lang = hufu_audit::wanted_lang(&arguments, |name| std::env::var(name).ok());
    let exit = match cmd::run(&arguments, lang) {
        Ok(exit) => exit,
        Err(failure) => {
            cmd::complain(&failure.text.render(lang));
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}
