//! `hufu`: the daemon and the command line. Here is only the start; everything else is the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    hufu_agent::run(&std::env::args_os().collect::<Vec<_>>())
}
