//! Making and removing an order's place: its own cgroup where cgroups may be written, and the site's own command, which
//! starts, suspends and stops the buyer's workload; or the root helper, which does both. What is said to either is
//! `hufu_provision`. Each job has its own short thread; those of one order run one after the other; results go to the writer.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::SyncSender},
    time::Duration,
};

use hufu_metering::{Plan, Target, counters::Counters, hierarchy::Hierarchies, place::Place};
use hufu_provision::{Answer, Request, Verb};
use hufu_trade::octets::{ContractNo, rfc3339};

use crate::{
    address::{Filling, Template},
    answered,
    boundary::Boundary,
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
    /// The devices that the order was given.
    gpus: Vec<String>,
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
    let gpus = known.devices.iter().map(|device| device.id.clone()).collect();
    Some(Job { contract, quantity: known.quantity(), reserves, service_end: known.in_force?.service_end, gpus })
}

/// Who makes places and runs workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// This process makes the places, and runs the site's own command; an empty one runs nothing.
    Command(Vec<String>),
    /// The root helper behind its socket does both.
    Helper(PathBuf),
}

/// Runs the jobs.
#[derive(Clone, Debug)]
pub(crate) struct Provisioner {
    pub(crate) root: PathBuf,
    pub(crate) parent: String,
    pub(crate) means: Means,
    pub(crate) boundary: Boundary,
    pub(crate) timeout_s: u64,
    /// `{site}/{node}`.
    pub(crate) pool: String,
    /// Where a buyer goes whose order's answer names no address.
    pub(crate) address: Option<Template>,
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
                // Whatever was answered: the devices are those that the ledger gives the order.
                let outcome = outcome.map(|(plan, address)| (Plan { gpus: job.gpus.clone(), ..plan }, address));
                this.writer.send(Input::Place { contract, outcome }).ok();
            }
        });
    }

    /// Suspends the workload; the order's place stays. The final read came first.
    pub(crate) fn pause(&self, contract: ContractNo) {
        self.job("pause", contract, move |this, number| {
            this.until_done(contract, number, || this.tell(Verb::Suspend, contract));
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

    fn start(&self, job: &Job) -> Result<(Plan, Option<String>), String> {
        let reserves = job.reserves.iter().map(|(name, quantity)| (name.clone(), quantity.to_string())).collect();
        let request = |procs_files: &[PathBuf]| Request {
            procs_files: procs_files.to_vec(),
            quantity: job.quantity,
            reserves,
            service_end: rfc3339(job.service_end),
            gpus: job.gpus.clone(),
            ..bare(Verb::Start, job.contract)
        };
        if let Means::Helper(socket) = &self.means {
            let (answer, counters) = self.ask_helper(socket, &request(&[]))?;
            let plan = answered::plan(&answer, Err("the helper named no cgroup".to_owned()), &self.root)?;
            if let (Some(counters), Target::Cgroup { path }) = (counters, &plan.target) {
                // A helper that hands over something else is not to be believed in anything.
                let counters = Counters::map(counters).map_err(|e| e.to_string())?;
                self.writer.send(Input::Counters { path: path.clone(), counters }).ok();
            }
            return self.with_address(job, plan, answer);
        }
        let place = self.place(job.contract);
        let (procs_files, offered) = match place {
            Ok(place) => (place.procs_files, Ok(place.target)),
            Err(why) => (Vec::new(), Err(why)),
        };
        let answer = self.ask(&request(&procs_files))?;
        let plan = answered::plan(&answer, offered, &self.root)?;
        self.with_address(job, plan, answer)
    }

    /// The plan with where the buyer reaches the service: as was answered, else by the configuration's template.
    fn with_address(&self, job: &Job, plan: Plan, answer: Answer) -> Result<(Plan, Option<String>), String> {
        let address = match (answer.address, &self.address) {
            (Some(address), _) => Some(address),
            (None, None) => None,
            (None, Some(template)) => {
                let cgroup = match &plan.target {
                    Target::Cgroup { path } => Some(path.as_str()),
                    Target::Process { .. } => None,
                };
                let (site, node) = self.pool.split_once('/').unwrap_or((&self.pool, ""));
                let filling = Filling { contract_no: job.contract, site, node, pid: answer.pid, cgroup };
                Some(template.fill(filling)?)
            }
        };
        Ok((self.boundary.keep(plan)?, address))
    }

    /// A verb that says nothing but which order.
    fn tell(&self, verb: Verb, contract: ContractNo) -> Result<(), String> {
        self.ask(&bare(verb, contract)).map(|_| ())
    }

    fn stop(&self, contract: ContractNo) -> Result<(), String> {
        self.tell(Verb::Stop, contract)?;
        if let Means::Helper(_) = self.means {
            return Ok(());
        }
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

    fn ask(&self, request: &Request) -> Result<Answer, String> {
        match &self.means {
            Means::Command(command) => {
                hufu_provision::run(command, request, Duration::from_secs(self.timeout_s)).map_err(|e| e.to_string())
            }
            Means::Helper(socket) => self.ask_helper(socket, request).map(|(answer, _)| answer),
        }
    }

    fn ask_helper(&self, socket: &Path, request: &Request) -> Result<(Answer, Option<OwnedFd>), String> {
        hufu_provision::ask(socket, request, Duration::from_secs(self.timeout_s)).map_err(|e| e.to_string())
    }
}

/// A request that says nothing but verb and order.
pub(crate) fn bare(verb: Verb, contract: ContractNo) -> Request {
    Request {
        verb,
        contract_no: contract.to_string(),
        slice: None,
        storage: None,
        procs_files: Vec::new(),
        quantity: 0,
        reserves: BTreeMap::new(),
        service_end: rfc3339(clock::now().real_ns),
        gpus: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        path::Path,
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
            means: Means::Command(vec![command.display().to_string()]),
            boundary: Boundary::Cgroup,
            timeout_s: 10,
            pool: "s1/n1".to_owned(),
            address: None,
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
        provisioner.provide(Job { contract: NO, quantity: 1, reserves: Vec::new(), service_end: 0, gpus: Vec::new() });
        let provided = inputs.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(matches!(provided, Input::Place { contract: NO, .. }), "{provided:?}");
        std::thread::sleep(AGAIN * 2);
        assert_eq!(said(dir.path()), ["suspend", "start"]);
        provisioner.withdraw(NO);
        wait_for(|| said(dir.path()).len() == 3);
    }
}
