//! `hufu-platform`: the reference operations platform, the other end of IF2. Here is only the start; everything else is the
//! library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    hufu_platform::run(&std::env::args_os().collect::<Vec<_>>())
}
