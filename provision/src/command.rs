//! Asking: a command of the site with a time limit, or the helper behind its socket.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::sync_channel,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{Answer, Error, Request};

/// Longest answer, bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// How long the output of a command that ended may take to come.
const OUTPUT: Duration = Duration::from_secs(2);

/// Runs a command with the request on its standard input and reads its answer; kills it after `limit`. An answer of blanks is
/// the empty answer.
///
/// # Errors
/// [`Error::Spawn`], [`Error::Late`], [`Error::Ended`], [`Error::HoldsStdout`], [`Error::Answer`].
pub fn run(command: &[String], request: &Request, limit: Duration) -> Result<Answer, Error> {
    let Some((program, arguments)) = command.split_first() else { return Ok(Answer::default()) };
    let spawned = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
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
            stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut out).ok();
        }
        sender.send(out).ok();
    });
    let late = || Error::Late { program: program.clone(), limit_s: limit.as_secs() };
    let status = wait(&mut child, limit).ok_or_else(late)?;
    let out = receiver.recv_timeout(OUTPUT).map_err(|_| Error::HoldsStdout { program: program.clone() })?;
    if !status.success() {
        return Err(Error::Ended { program: program.clone(), status });
    }
    if out.iter().all(u8::is_ascii_whitespace) {
        return Ok(Answer::default());
    }
    Ok(serde_json::from_slice(&out)?)
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
        child.kill().ok();
    }
    let status = child.wait().ok();
    status.filter(|_| ended)
}

/// Asks the helper behind `socket`: one line of JSON there, one line back.
///
/// # Errors
/// [`Error::Socket`] when it is not there or does not answer within `limit`; [`Error::Answer`]; [`Error::Refused`] with its
/// reason.
pub fn ask(socket: &Path, request: &Request, limit: Duration) -> Result<Answer, Error> {
    let failed = |source| Error::Socket { path: socket.to_owned(), source };
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(limit)).map_err(failed)?;
    stream.set_write_timeout(Some(limit)).map_err(failed)?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut line).map_err(failed)?;
    let answer: Answer = serde_json::from_str(&line)?;
    match answer.error {
        Some(why) => Err(Error::Refused(why)),
        None => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verb;

    fn request() -> Request {
        Request {
            verb: Verb::Stop,
            contract_no: "0123456789abcdef0123456789abcdef".to_owned(),
            slice: None,
            procs_files: Vec::new(),
            quantity: 0,
            reserves: std::collections::BTreeMap::new(),
            service_end: String::new(),
            gpus: Vec::new(),
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
        let none = run(&["/nowhere/program".to_owned()], &request(), Duration::from_secs(1));
        assert!(matches!(none, Err(Error::Spawn { .. })));
        assert_eq!(run(&[], &request(), Duration::from_secs(1)).unwrap(), Answer::default());
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
        assert_eq!(ask(&socket, &request(), limit).unwrap().cgroup.as_deref(), Some("a/b"));
        assert!(matches!(ask(&socket, &request(), limit), Err(Error::Refused(why)) if why == "no"));
        assert!(matches!(ask(&socket, &request(), limit), Err(Error::Answer(_))));
        assert!(matches!(ask(&socket, &request(), limit), Err(Error::Socket { .. })));
        helper.join().unwrap();
    }
}
