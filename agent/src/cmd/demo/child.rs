//! The demo's child processes: logs, deadlines, Ctrl-C, and an end for all of them. What they do is `mod.rs`'s business.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use hufu_audit::{Exit, Failure};
use serde_json::Value;

use crate::{
    clock,
    cmd::{bug, file},
    text::Text,
};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a child may take to end by itself.
const END_LIMIT: Duration = Duration::from_secs(15);

/// Set by Ctrl-C, or a request to end.
#[derive(Clone, Debug)]
pub(super) struct Interrupt {
    flag: Arc<AtomicBool>,
}

impl Interrupt {
    /// Starts to listen.
    pub(super) fn listen() -> Result<Self, Failure<Text>> {
        use tokio::signal::unix::{SignalKind, signal};
        let flag = Arc::new(AtomicBool::new(false));
        let raised = flag.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| bug(&e))?;
        let (ready, listening) = sync_channel(1);
        std::thread::spawn(move || {
            runtime.block_on(async {
                let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
                let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else { return };
                ready.send(()).ok();
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                    raised.store(true, Ordering::SeqCst);
                }
            });
        });
        listening.recv().map_err(|_| bug(&"no signal handlers"))?;
        Ok(Self { flag })
    }

    /// Fails once it was raised.
    pub(super) fn check(&self) -> Result<(), Failure<Text>> {
        if self.flag.load(Ordering::SeqCst) {
            return Err(Failure::new(Exit::Interrupted, Text::Interrupted {}));
        }
        Ok(())
    }
}

/// A child that runs beside the demo and ends when the demo does, however that ends: it watches its standard input.
pub(super) struct Child {
    name: &'static str,
    log: PathBuf,
    process: std::process::Child,
    /// Dropping it tells the child to end.
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

/// A log file that runs are appended to.
pub(super) fn log_file(log: &Path) -> Result<File, Failure<Text>> {
    OpenOptions::new().create(true).append(true).open(log).map_err(|e| file::unwritable(log, &e))
}

impl Child {
    /// Starts `program`; stderr goes to `log`, stdout is read line by line.
    pub(super) fn start(
        name: &'static str,
        program: &Path,
        arguments: &[&str],
        log: PathBuf,
    ) -> Result<Self, Failure<Text>> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log_file(&log)?);
        // A group of its own: Ctrl-C reaches the demo, which then ends its children in order.
        command.process_group(0);
        let mut process = command.spawn().map_err(|e| {
            let command = program.display().to_string();
            Failure::new(Exit::Io, Text::CommandNotRun { command, why: e.to_string() })
        })?;
        let (sender, lines) = sync_channel(64);
        if let Some(stdout) = process.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    // Nobody reads after the first line; a full queue must not stop the child.
                    sender.try_send(line).ok();
                }
            });
        }
        let stdin = process.stdin.take();
        Ok(Self { name, log, process, stdin, lines })
    }

    /// Fails if the child has ended.
    pub(super) fn check(&mut self) -> Result<(), Failure<Text>> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(self.ended()),
        }
    }

    fn ended(&self) -> Failure<Text> {
        let (name, log) = (self.name.to_owned(), self.log.display().to_string());
        Failure::new(Exit::Software, Text::ChildEnded { name, log })
    }

    /// The first JSON object the child prints.
    pub(super) fn first_object(&mut self, limit: Duration, interrupt: &Interrupt) -> Result<Value, Failure<Text>> {
        let deadline = Deadline::after(limit);
        loop {
            match self.lines.recv_timeout(PAUSE) {
                Ok(line) => {
                    if let Ok(value @ Value::Object(_)) = serde_json::from_str(&line) {
                        return Ok(value);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.check()?,
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
            interrupt.check()?;
            deadline.check(self.name, &self.log)?;
        }
    }

    /// Asks the child to end, and makes it.
    pub(super) fn stop(&mut self) {
        drop(self.stdin.take());
        let deadline = Deadline::after(END_LIMIT);
        while !deadline.is_over() {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An instant that a wait must not pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    mono_ns: u64,
}

impl Deadline {
    pub(super) fn after(limit: Duration) -> Self {
        let limit_ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Self { mono_ns: clock::now().mono_ns.saturating_add(limit_ns) }
    }

    fn is_over(self) -> bool {
        clock::now().mono_ns > self.mono_ns
    }

    /// Fails when it has passed.
    pub(super) fn check(self, what: &str, log: &Path) -> Result<(), Failure<Text>> {
        if self.is_over() {
            let (what, log) = (what.to_owned(), log.display().to_string());
            return Err(Failure::new(Exit::Software, Text::WaitedTooLong { what, log }));
        }
        Ok(())
    }
}

/// A short pause between two looks.
pub(super) fn pause() {
    std::thread::sleep(PAUSE);
}

/// What a command said: its JSON object, or its exit status with the line on stderr.
pub(super) type Said = Result<Value, (i32, String)>;

/// Runs a command to its end in `dir`; Ctrl-C ends it early.
pub(super) fn ask(
    program: &Path,
    arguments: &[&str],
    dir: &Path,
    log: &Path,
    interrupt: &Interrupt,
) -> Result<Said, Failure<Text>> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir).process_group(0);
    let mut process =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|e| {
            let command = program.display().to_string();
            Failure::new(Exit::Io, Text::CommandNotRun { command, why: e.to_string() })
        })?;
    let out = collect(process.stdout.take());
    let err = collect(process.stderr.take());
    let status = loop {
        match process.try_wait() {
            Ok(Some(status)) => break status.code().unwrap_or(-1),
            Ok(None) => {}
            Err(error) => return Err(bug(&error)),
        }
        if let Err(interrupted) = interrupt.check() {
            process.kill().ok();
            process.wait().ok();
            return Err(interrupted);
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    let mut log = log_file(log)?;
    writeln!(log, "$ {} {}\n{out}{err}", program.display(), arguments.join(" ")).ok();
    match serde_json::from_str::<Value>(&out) {
        // Status 1 with an object: checked, and the answer is no.
        Ok(value) if matches!(status, 0 | 1) => Ok(Ok(value)),
        _ => Ok(Err((status, err.trim().to_owned()))),
    }
}

/// Reads a pipe to its end beside the wait, so that a full pipe stops nobody.
fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).ok();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
