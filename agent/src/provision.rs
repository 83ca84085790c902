//! Making and removing an order's place: its own cgroup where cgroups may be written, and the site's own command, which
//! starts the buyer's workload (JSON on stdin, answer on stdout, time limit, retried safely). Each job has its own short
//! thread; results go to the writer.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::SyncSender,
    time::Duration,
};

use hufu_metering::{Target, hierarchy::Hierarchies, place::Place};
use hufu_trade::octets::{ContractNo, rfc3339};
use serde::{Deserialize, Serialize};

use crate::{clock, node::Core, writer::Input};

/// An order to provide for.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    contract: ContractNo,
    quantity: u32,
    reserves: Vec<(String, u64)>,
    service_end: i64,
}

/// What a deal asks for; `None` for a contract without one.
pub(crate) fn job(core: &Core, contract: ContractNo) -> Option<Job> {
    let known = core.book.contracts.get(&contract)?;
    let (_, offer, _) = known.offer.as_ref()?;
    let reserves = offer.reserves.iter().map(|r| (r.resource.clone(), r.quantity)).collect();
    Some(Job { contract, quantity: known.quantity(), reserves, service_end: known.deal.as_ref()?.1.service_end })
}

/// What the site's command reads.
#[derive(Serialize)]
struct Request<'a> {
    /// `start` or `stop`; the same request may come again and must give the same answer.
    verb: &'a str,
    contract_no: String,
    /// Write `0` to each of these from the workload's first process, before it execs.
    procs_files: &'a [PathBuf],
    quantity: u32,
    /// What one unit holds, decimal strings.
    reserves: std::collections::BTreeMap<&'a str, String>,
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
}

impl Provisioner {
    /// Makes the order's place and starts its workload, in a thread of its own.
    pub(crate) fn provide(&self, job: Job) {
        let this = self.clone();
        let contract = job.contract;
        let spawned = std::thread::Builder::new().name("provide".to_owned()).spawn(move || {
            let outcome = this.start(&job);
            this.writer.send(Input::Place { contract, outcome }).ok();
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for provisioning");
        }
    }

    /// Stops the workload and removes the order's place, in a thread of its own. The final read came first.
    pub(crate) fn withdraw(&self, contract: ContractNo) {
        let this = self.clone();
        let spawned = std::thread::Builder::new().name("withdraw".to_owned()).spawn(move || this.stop(contract));
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for withdrawing");
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

    fn stop(&self, contract: ContractNo) {
        if !self.command.is_empty() {
            let request = Request {
                verb: "stop",
                contract_no: contract.to_string(),
                procs_files: &[],
                quantity: 0,
                reserves: Default::default(),
                service_end: rfc3339(clock::now().real_ns),
            };
            if let Err(error) = self.ask(&request) {
                tracing::error!(error, "the site's stop command failed");
            }
        }
        let Ok(hierarchies) = Hierarchies::detect(&self.root) else { return };
        let Ok(place) = Place::find(&hierarchies, &self.parent, &contract.to_string()) else { return };
        // Only empty places are removed; the workload gets a while to end.
        for _ in 0..100 {
            if place.remove().is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        tracing::error!(contract = %contract, "the order's place still holds processes and was left");
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
