//! The programs under test, run as a user runs them: found once, started with arguments, judged by exit status and output.

use std::{
    ffi::OsStr,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use serde_json::Value;

use crate::wait;

/// Where the programs lie: `HUFU_BIN_DIR`, otherwise beside the folder of this test's own program.
pub fn bin_dir() -> PathBuf {
    let found = std::env::var_os("HUFU_BIN_DIR").map(PathBuf::from).or_else(|| {
        let own = std::env::current_exe().ok()?;
        Some(own.parent()?.parent()?.to_owned())
    });
    found.expect("a folder of programs")
}

/// The path of one of our programs; it must have been built.
pub fn ours(name: &str) -> PathBuf {
    let path = bin_dir().join(name);
    assert!(path.is_file(), "{} is not there; run `make build` first", path.display());
    path
}

/// A finished program.
#[derive(Debug)]
pub struct Ran {
    /// The command line, for messages.
    pub line: String,
    /// Exit status; 128 and the signal's number for a program that was killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Asserts the exit status.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\nstdout: {}\nstderr: {}", self.line, self.stdout, self.stderr);
        self
    }

    /// Standard output as one JSON object and nothing else.
    pub fn json(&self) -> Value {
        let value = serde_json::from_str::<Value>(&self.stdout);
        let value = value.unwrap_or_else(|error| panic!("{}: {error} in {:?}", self.line, self.stdout));
        assert!(value.is_object(), "{}: not an object: {}", self.line, self.stdout);
        value
    }
}

/// A command with a locale that does not depend on the machine.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C.UTF-8").env_remove("LANG");
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let line = shown(command);
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{line}: {error}"));
    Ran {
        line,
        code: code(out.status),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// Runs `hufu` with these arguments.
pub fn hufu<S: AsRef<OsStr>>(arguments: &[S]) -> Ran {
    run(command(ours("hufu")).args(arguments))
}

/// Runs `hufu-platform` with these arguments.
pub fn platform<S: AsRef<OsStr>>(arguments: &[S]) -> Ran {
    run(command(ours("hufu-platform")).args(arguments))
}

/// Runs a text with `sh` in a folder.
pub fn shell(text: &str, folder: &Path) -> Ran {
    run(command("sh").arg("-c").arg(text).current_dir(folder))
}

/// Exit status as a number.
pub fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A program that goes on running; killed when it is dropped, its output in a file.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    line: String,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program with both outputs appended to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let line = shown(command);
        let mut file = File::options().create(true).append(true).open(log).expect("a log file");
        writeln!(file, "+ {line}").expect("a log file");
        let also = file.try_clone().expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(also).spawn();
        let child = child.unwrap_or_else(|error| panic!("{line}: {error}"));
        Self { child, line, log: log.to_owned() }
    }

    /// What it wrote so far, earlier runs with the same log included.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails the test when the program has ended by itself.
    pub fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child's status") {
            panic!("{} ended with {status}:\n{}", self.line, self.said());
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9, and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Sends a signal by name and waits for the end; returns the exit status.
    pub fn signal(&mut self, name: &str) -> i32 {
        let pid = self.pid().to_string();
        run(command("kill").args(["-s", name, &pid])).expect(0);
        let line = self.line.clone();
        code(wait::until(&format!("{line} ends after {name}"), 30, || self.child.try_wait().expect("a child's status")))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
