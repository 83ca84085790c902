//! `hufu-platform`: the reference operations platform, the other end of IF2. Here is only the command line; `serve.rs` runs
//! the platform, `cmd/` are the commands that look into its database.

mod blocks;
mod broker;
mod cli;
mod clock;
mod cmd;
mod courier;
mod envelope;
mod error;
mod fetch;
mod file;
mod help;
mod http;
mod identity;
mod inbox;
mod judge;
mod limit;
mod link;
mod pack;
mod parent;
mod quick;
mod receipt;
mod relay;
mod serve;
mod store;
#[cfg(test)]
mod tests;
mod text;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let lang = hufu_audit::wanted_lang(&arguments, |name| std::env::var(name).ok());
    let exit = match cli::run(&arguments, lang) {
        Ok(exit) => exit,
        Err(failure) => {
            cli::complain(&failure.text.render(lang));
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}
