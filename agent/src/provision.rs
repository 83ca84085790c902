//! Making and removing an order's place: its own cgroup where cgroups may be written, and the site's own command, which
//! starts, suspends and stops the buyer's workload (JSON on stdin, answer on stdout, time limit, retried safely). Each job has
//! its own short thread; those of one order run one after the other; results go to the writer.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::SyncSender},
    time::Duration,
};

use hufu_metering::{Target, hierarchy::Hierarchies, place::Place};
use hufu_trade::octets::{ContractNo, rfc3339};
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    node::{Core, Event},
    writer::Input,
};

/// Pause before a failed suspension or stop is tried again; doubles to [`AGAIN_MAX`].
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// An order to provide for.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    contract: ContractNo,
    quantity: u32,
    reserves: Vec<(String, u64)>,
    service_end: i64,
}

impl Job {
    /// Whose order.
    pub(crate) fn contract(&self) -> ContractNo {
        self.contract
    }
}

/// What a deal asks for; `None` for a contract without one.
pub(crate) fn job(core: &Core, contract: ContractNo) -> Option<Job> {
    let known = core.book.contracts.get(&contract)?;
    let (_, offer, _) = known.offer.as_ref()?;
    let reserves = offer.reserves.iter().map(|r| (r.resource.clone(), r.quantity)).collect();
    Some(Job { contract, quantity: known.quantity(), reserves, service_end: known.in_force?.service_end })
}

/// What the site's command reads.
#[derive(Serialize)]
struct Request<'a> {
    /// `start` (also what was suspended), `suspend` or `stop`; the same request may come again and must give the same answer.
    verb: &'a str,
    contract_no: String,
    /// Write `0` to each of these from the workload's first process, before it execs.
    procs_files: &'a [PathBuf],
    quantity: u32,
    /// What one unit holds, decimal strings.
    reserves: BTreeMap<&'a str, String>,
    /// RFC 3339 UTC.
    service_end: String,
}

/// What it answers.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    /// Root process of the workload, where it is not in a cgroup of its own.
    pid: Option<u32>,
    /// A cgroup made by the site itself, instead of the one offered.
    cgroup: Option<String>,
    /// Where the buyer reaches the service.
    address: Option<String>,
}

/// Runs the jobs.
#[derive(Clone, Debug)]
pub(crate) struct Provisioner {
    pub(crate) root: PathBuf,
    pub(crate) parent: String,
    pub(crate) command: Vec<String>,
    pub(crate) timeout_s: u64,
    pub(crate) writer: SyncSender<Input>,
    pub(crate) turns: Turns,
}

/// The newest job of each order, and the lock that its jobs take in turn: what a newer one has overtaken is not done late.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Arc<Mutex<BTreeMap<ContractNo, Turn>>>);

#[derive(Clone, Debug, Default)]
struct Turn {
    newest: u64,
    running: Arc<Mutex<()>>,
}

/// The state behind a lock holds no invariant that a panicking thread could have broken.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    /// Announces a job.
    fn next(&self, contract: ContractNo) -> u64 {
        let mut turns = locked(&self.0);
        let turn = turns.entry(contract).or_default();
        turn.newest += 1;
        turn.newest
    }

    /// Does the job when the one before is done; `None` when a newer one was announced.
    fn take<T>(&self, contract: ContractNo, number: u64, work: impl FnOnce() -> T) -> Option<T> {
        let running = locked(&self.0).entry(contract).or_default().running.clone();
        let _running = locked(&running);
        let is_newest = locked(&self.0).get(&contract).is_some_and(|turn| turn.newest == number);
        is_newest.then(work)
    }

    /// Forgets an order that has no place any more.
    fn done(&self, contract: ContractNo, number: u64) {
        let mut turns = locked(&self.0);
        if turns.get(&contract).is_some_and(|turn| turn.newest == number) {
            turns.remove(&contract);
        }
    }
}

impl Provisioner {
    /// Makes the order's place and starts its workload, in a thread of its own.
    pub(crate) fn provide(&self, job: Job) {
        let contract = job.contract;
        self.job("provide", contract, move |this, number| {
            if let Some(outcome) = this.turns.take(contract, number, || this.start(&job)) {
                this.writer.send(Input::Place { contract, outcome }).ok();
            }
        });
    }

    /// Suspends the workload; the order's place stays. The final read came first.
    pub(crate) fn pause(&self, contract: ContractNo) {
        self.job("pause", contract, move |this, number| {
            this.until_done(contract, number, || this.tell("suspend", contract));
        });
    }

    /// Stops the workload and removes the order's place. The final read came first.
    pub(crate) fn withdraw(&self, contract: ContractNo) {
        self.job("withdraw", contract, move |this, number| {
            this.until_done(contract, number, || this.stop(contract));
            this.turns.done(contract, number);
        });
    }

    /// Runs a job in a thread of its own.
    fn job(&self, name: &str, contract: ContractNo, work: impl FnOnce(&Self, u64) + Send + 'static) {
        let (this, number) = (self.clone(), self.turns.next(contract));
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&this, number));
        if let Err(error) = spawned {
            tracing::error!(%error, name, "no thread for provisioning");
        }
    }

    /// Tries until it is done or overtaken by a newer job of the order; the writer is told of each failure.
    fn until_done(&self, contract: ContractNo, number: u64, work: impl Fn() -> Result<(), String>) {
        let mut pause = AGAIN;
        while let Some(Err(why)) = self.turns.take(contract, number, &work) {
            if self.writer.send(Input::Event(Event::Unstopped { contract, why })).is_err() {
                return;
            }
            std::thread::sleep(pause);
            pause = pause.saturating_mul(2).min(AGAIN_MAX);
        }
    }

    fn place(&self, contract: ContractNo) -> Result<Place, String> {
        let hierarchies = Hierarchies::detect(&self.root).map_err(|e| e.to_string())?;
        let name = contract.to_string();
        // After a restart of the agent the place is still there, with the workload in it.
        match Place::find(&hierarchies, &self.parent, &name) {
            Ok(place) => Ok(place),
            Err(_) => Place::make(&hierarchies, &self.parent, &name).map_err(|e| e.to_string()),
        }
    }

    fn start(&self, job: &Job) -> Result<(Target, Option<String>), String> {
        let place = self.place(job.contract);
        if self.command.is_empty() {
            return place.map(|place| (place.target, None));
        }
        let procs_files = place.as_ref().map_or(&[][..], |place| &place.procs_files);
        let request = Request {
            verb: "start",
            contract_no: job.contract.to_string(),
            procs_files,
            quantity: job.quantity,
            reserves: job.reserves.iter().map(|(name, quantity)| (name.as_str(), quantity.to_string())).collect(),
            service_end: rfc3339(job.service_end),
        };
        let answer = self.ask(&request)?;
        let target = match (answer.cgroup, &place, answer.pid) {
            (Some(path), ..) => Target::Cgroup { path },
            (None, Ok(place), _) => place.target.clone(),
            (None, Err(_), Some(pid)) => Target::Process { pid },
            (None, Err(why), None) => return Err(format!("{why}, and the command named no process")),
        };
        Ok((target, answer.address))
    }

    /// A verb that says nothing but which order.
    fn tell(&self, verb: &str, contract: ContractNo) -> Result<(), String> {
        if self.command.is_empty() {
            return Ok(());
        }
        let request = Request {
            verb,
            contract_no: contract.to_string(),
            procs_files: &[],
            quantity: 0,
            reserves: BTreeMap::default(),
            service_end: rfc3339(clock::now().real_ns),
        };
        self.ask(&request).map(|_| ())
    }

    fn stop(&self, contract: ContractNo) -> Result<(), String> {
        self.tell("stop", contract)?;
        // Where there are no cgroups, or none of this order, there is no place to remove.
        let Ok(hierarchies) = Hierarchies::detect(&self.root) else { return Ok(()) };
        let Ok(place) = Place::find(&hierarchies, &self.parent, &contract.to_string()) else { return Ok(()) };
        // Only empty places are removed; the workload gets a while to end.
        for _ in 0..100 {
            if place.remove().is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err("the order's place still holds processes".to_owned())
    }

    fn ask(&self, request: &Request<'_>) -> Result<Answer, String> {
        let text = serde_json::to_vec(request).map_err(|e| e.to_string())?;
        let out = call(&self.command, &text, Duration::from_secs(self.timeout_s))?;
        if out.iter().all(u8::is_ascii_whitespace) {
            return Ok(Answer::default());
        }
        serde_json::from_slice(&out).map_err(|e| format!("the command's answer is not the JSON expected: {e}"))
    }
}

/// Runs a command with `input`, gives its output; kills it after `limit`.
fn call(command: &[String], input: &[u8], limit: Duration) -> Result<Vec<u8>, String> {
    let Some((program, arguments)) = command.split_first() else { return Ok(Vec::new()) };
    let shown = Path::new(program).display().to_string();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run {shown}: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input is its own choice.
        stdin.write_all(input).ok();
    }
    let stdout = child.stdout.take();
    // The reader ends at EOF; a workload that inherited stdout would hold it open, so the wait is for the child.
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut out = Vec::new();
        if let Some(mut stdout) = stdout {
            stdout.by_ref().take(64 * 1024).read_to_end(&mut out).ok();
        }
        sender.send(out).ok();
    });
    let status = wait(&mut child, limit).ok_or_else(|| format!("{shown} did not end within {} s", limit.as_secs()))?;
    let out = receiver.recv_timeout(Duration::from_secs(2));
    let out = out.map_err(|_| format!("{shown} ended but something it started holds its stdout open"))?;
    if status.success() { Ok(out) } else { Err(format!("{shown} ended with {status}")) }
}

fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let deadline = clock::now().mono_ns.saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
    while clock::now().mono_ns < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().ok();
    child.wait().ok();
    None
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        sync::mpsc::{Receiver, sync_channel},
    };

    use hufu_trade::octets::Octets;

    use super::*;

    const NO: ContractNo = Octets([7; 16]);

    /// A site's command that writes the verb into `log`, and fails while `broken` is there.
    fn site(dir: &Path) -> (Provisioner, Receiver<Input>) {
        let command = dir.join("command.sh");
        let script = r#"#!/bin/sh
d=$(dirname "$0")
echo "$(sed 's/.*"verb":"\([a-z]*\)".*/\1/')" >> "$d/log"
[ ! -e "$d/broken" ]
"#;
        std::fs::write(&command, script).unwrap();
        std::fs::set_permissions(&command, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (writer, inputs) = sync_channel(16);
        let provisioner = Provisioner {
            root: dir.to_owned(),
            parent: "none".to_owned(),
            command: vec![command.display().to_string()],
            timeout_s: 10,
            writer,
            turns: Turns::default(),
        };
        (provisioner, inputs)
    }

    fn said(dir: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The next failure that the writer is told of.
    fn failure(inputs: &Receiver<Input>) -> String {
        match inputs.recv_timeout(Duration::from_secs(20)).unwrap() {
            Input::Event(Event::Unstopped { contract: NO, why }) => why,
            other => panic!("{other:?}"),
        }
    }

    fn wait_for(what: impl Fn() -> bool) {
        for _ in 0..1000 {
            if what() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("waited too long");
    }

    #[test]
    fn a_stop_that_fails_is_said_and_tried_until_it_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let (provisioner, inputs) = site(dir.path());
        std::fs::write(dir.path().join("broken"), "").unwrap();
        provisioner.withdraw(NO);
        for _ in 0..2 {
            assert!(failure(&inputs).contains("command.sh ended with"));
        }
        std::fs::remove_file(dir.path().join("broken")).unwrap();
        wait_for(|| locked(&provisioner.turns.0).is_empty());
        assert_eq!(said(dir.path()), ["stop", "stop", "stop"]);
    }

    #[test]
    fn a_suspension_that_failed_is_not_tried_again_after_the_order_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (provisioner, inputs) = site(dir.path());
        std::fs::write(dir.path().join("broken"), "").unwrap();
        provisioner.pause(NO);
        failure(&inputs);
        std::fs::remove_file(dir.path().join("broken")).unwrap();
        provisioner.provide(Job { contract: NO, quantity: 1, reserves: Vec::new(), service_end: 0 });
        let provided = inputs.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(matches!(provided, Input::Place { contract: NO, .. }), "{provided:?}");
        std::thread::sleep(AGAIN * 2);
        assert_eq!(said(dir.path()), ["suspend", "start"]);
        provisioner.withdraw(NO);
        wait_for(|| said(dir.path()).len() == 3);
    }
}
