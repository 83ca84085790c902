//! Asking: a command of the site with a time limit, or the helper behind its socket.

use std::{
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::sync_channel,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};

use crate::{Answer, Error, Request, descriptor::receive_line};

/// Longest answer, bytes; what nftables counted of an order takes 60.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long the output of a command that ended may take to come.
const OUTPUT: Duration = Duration::from_secs(2);

/// Runs a command with the request on its standard input and reads its answer. After `limit` it is killed with all that it
/// started and that is still in its process group. An answer of blanks is the empty answer.
///
/// # Errors
/// [`Error::Spawn`], [`Error::Late`], [`Error::Long`], [`Error::Ended`], [`Error::HoldsStdout`], [`Error::Answer`],
/// [`Error::Request`].
pub fn run(command: &[String], request: &Request, limit: Duration) -> Result<Answer, Error> {
    let Some((program, arguments)) = command.split_first() else { return Ok(Answer::default()) };
    let spawned =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn();
    let mut child = spawned.map_err(|source| Error::Spawn { program: program.clone(), source })?;
    let text = serde_json::to_vec(request)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input is its own choice; a request fits the pipe.
        stdin.write_all(&text).ok();
    }
    let stdout = child.stdout.take();
    // The reader ends at EOF; a workload that inherited stdout would hold it open, so the wait is for the child.
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        let mut out = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(ANSWER_BYTES_MAX as u64 + 1).read_to_end(&mut out).ok();
        }
        sender.send(out).ok();
    });
    let late = || Error::Late { program: program.clone(), limit_s: limit.as_secs() };
    let status = wait(&mut child, limit).ok_or_else(late)?;
    let out = receiver.recv_timeout(OUTPUT).map_err(|_| Error::HoldsStdout { program: program.clone() })?;
    // One that writes on gets SIGPIPE, which is not what went wrong.
    if out.len() > ANSWER_BYTES_MAX {
        return Err(Error::Long { program: program.clone(), bytes_max: ANSWER_BYTES_MAX as u64 });
    }
    if !status.success() {
        return Err(Error::Ended { program: program.clone(), status });
    }
    Answer::from_json(&out)
}

/// How the child ended, or `None` when it was killed after `limit`.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let ended = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()).is_some_and(|pidfd| {
        let limit = Timespec::try_from(limit).ok();
        // Interrupted: the whole limit once more, at most for each signal that this process handles.
        loop {
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], limit.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                found => return found.is_ok_and(|ready| ready > 0),
            }
        }
    });
    if !ended {
        pid.map(|pid| kill_process_group(pid, Signal::KILL));
        child.kill().ok();
    }
    let status = child.wait().ok();
    status.filter(|_| ended)
}

/// Asks the helper behind `socket`: one line of JSON there, one line back, with which the counters of the order's traffic may come.
///
/// # Errors
/// [`Error::Socket`] when it is not there or does not answer within `limit`; [`Error::Answer`]; [`Error::Refused`] with its
/// reason.
pub fn ask(socket: &Path, request: &Request, limit: Duration) -> Result<(Answer, Option<OwnedFd>), Error> {
    let failed = |source| Error::Socket { path: socket.to_owned(), source };
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(limit)).map_err(failed)?;
    stream.set_write_timeout(Some(limit)).map_err(failed)?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text).map_err(failed)?;
    let (line, counters) = receive_line(&stream, ANSWER_BYTES_MAX).map_err(failed)?;
    if line.is_empty() {
        let source = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "closed without an answer");
        return Err(Error::Socket { path: socket.to_owned(), source });
    }
    let answer = Answer::from_json(&line)?;
    match answer.error {
        Some(why) => Err(Error::Refused(why)),
        None => Ok((answer, counters)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;
    use crate::Verb;

    fn request() -> Request {
        Request {
            verb: Verb::Stop,
            contract_no: "0123456789abcdef0123456789abcdef".to_owned(),
            slice: None,
            storage: None,
            gpus: Vec::new(),
            procs_files: Vec::new(),
            quantity: 0,
            reserves: std::collections::BTreeMap::new(),
            service_end: String::new(),
        }
    }

    fn sh(script: &str, limit_ms: u64) -> Result<Answer, Error> {
        let command = ["sh", "-c", script].map(str::to_owned);
        run(&command, &request(), Duration::from_millis(limit_ms))
    }

    #[test]
    fn every_way_a_command_can_end_has_its_name() {
        assert_eq!(sh("cat > /dev/null; echo '{\"pid\":7}'", 10_000).unwrap().pid, Some(7));
        assert_eq!(sh("echo", 10_000).unwrap(), Answer::default());
        assert!(matches!(sh("exit 3", 10_000), Err(Error::Ended { .. })));
        assert!(matches!(sh("echo nonsense", 10_000), Err(Error::Answer(_))));
        assert!(matches!(sh("exec sleep 60", 100), Err(Error::Late { .. })));
        assert!(matches!(sh("sleep 6 & exit 0", 10_000), Err(Error::HoldsStdout { .. })));
        assert!(matches!(sh("kill -9 $$", 10_000), Err(Error::Ended { .. })));
        assert!(matches!(sh("printf '{\"pid\":7'", 10_000), Err(Error::Answer(_))));
        assert!(matches!(sh("echo '{\"cgroup\":\"../x\"}'", 10_000), Err(Error::Request { field: "cgroup", .. })));
        let none = run(&["/nowhere/program".to_owned()], &request(), Duration::from_secs(1));
        assert!(matches!(none, Err(Error::Spawn { .. })));
        assert_eq!(run(&[], &request(), Duration::from_secs(1)).unwrap(), Answer::default());
    }

    #[test]
    fn a_command_that_does_not_read_is_heard_all_the_same() {
        assert_eq!(sh("exec 0<&-; sleep 0.1; echo '{\"pid\":7}'", 10_000).unwrap().pid, Some(7));
    }

    #[test]
    fn a_command_that_floods_is_cut_off() {
        assert!(matches!(sh("exec cat /dev/zero", 10_000), Err(Error::Long { .. })));
        assert!(matches!(sh("head -c 70000 /dev/zero | tr '\\0' ' '", 10_000), Err(Error::Long { .. })));
        assert_eq!(sh("head -c 60000 /dev/zero | tr '\\0' ' '", 10_000).unwrap(), Answer::default());
        assert!(matches!(
            sh("trap '' PIPE; while :; do echo flood 2> /dev/null; done", 2_000),
            Err(Error::Late { .. })
        ));
    }

    #[test]
    fn a_command_that_hangs_takes_its_children_along() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("sleep 60 & echo $! > {0}/pid; wait", dir.path().display());
        assert!(matches!(sh(&script, 500), Err(Error::Late { .. })));
        let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
        let gone = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            // Whoever adopted it may not have waited for it yet.
            stat.map_or(true, |text| text.contains(") Z "))
        });
        assert!(gone, "the child of a killed command lives on");
    }

    #[test]
    fn the_helper_answers_refuses_or_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let limit = Duration::from_millis(300);
        assert!(matches!(ask(&socket, &request(), limit), Err(Error::Socket { .. })));
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let helper = std::thread::spawn(move || {
            for say in ["{\"cgroup\":\"a/b\"}\n", "{\"error\":\"no\"}\n", "nonsense\n", ""] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
                assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request());
                stream.write_all(say.as_bytes()).unwrap();
                if say.is_empty() {
                    std::thread::sleep(Duration::from_millis(600));
                }
            }
        });
        assert_eq!(ask(&socket, &request(), limit).unwrap().0.cgroup.as_deref(), Some("a/b"));
        assert!(matches!(ask(&socket, &request(), limit), Err(Error::Refused(why)) if why == "no"));
        assert!(matches!(ask(&socket, &request(), limit), Err(Error::Answer(_))));
        assert!(matches!(ask(&socket, &request(), limit), Err(Error::Socket { .. })));
        helper.join().unwrap();
    }
}
