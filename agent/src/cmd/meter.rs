//! `hufu meter`: meter one workload and say what it used, like time(1) for billing. Measuring is `metering`'s business,
//! prices are `trade`'s; what is said at the end is `report.rs`.

mod report;

use std::{
    ffi::OsString,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use hufu_audit::{Exit, Failure};
use hufu_metering::{
    At, Error, Network, Place, Plan, Sampler, Storage, Target, hierarchy::Hierarchies, resolve, storage::held_by,
};
use hufu_trade::{
    resource::{Kind, Resource},
    tariff::Tariff,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{signal::unix::SignalKind, sync::oneshot, time::MissedTickBehavior};

use crate::{
    clock,
    cmd::{Context, Outcome, bug, file},
    text::Text,
};
use report::Report;

/// What a report lists, missing ones included.
const KINDS: [Kind; 8] = [
    Kind::Cpu,
    Kind::Memory,
    Kind::DiskRead,
    Kind::DiskWrite,
    Kind::DiskReadOps,
    Kind::DiskWriteOps,
    Kind::NetRx,
    Kind::NetTx,
];
const ORDER: [u8; 16] = [0; 16];
/// The parent of the cgroups this command makes.
const PARENT: &str = "hufu-meter";
/// The hidden command that enters cgroups and becomes the workload.
pub(crate) const ENTER: &str = "__enter";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Time between samples, for example 1s or 200ms
    #[arg(long, value_name = "T", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Tariff (TOML) to rate the usage with
    #[arg(long, value_name = "F")]
    tariff: Option<PathBuf>,
    /// Meter a running process and its descendants, until it ends
    #[arg(long, value_name = "P", conflicts_with_all = ["cgroup", "workload"], value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Meter a cgroup, by its directory or its path below the mount
    #[arg(long, value_name = "PATH", conflicts_with = "workload", requires = "seconds")]
    cgroup: Option<String>,
    /// Meter a systemd unit or slice, as systemctl names it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["cgroup", "pid", "workload"], requires = "seconds")]
    unit: Option<String>,
    /// Meter a container of docker, podman, containerd or CRI-O, by its id or the first 12 characters of it
    #[arg(long, value_name = "ID", conflicts_with_all = ["unit", "cgroup", "pid", "workload"], requires = "seconds")]
    container: Option<String>,
    /// Meter a Kubernetes pod, by its UID
    #[arg(long, value_name = "UID", conflicts_with_all = ["container", "unit", "cgroup", "pid", "workload"], requires = "seconds")]
    pod: Option<String>,
    /// Meter a virtual machine, as virsh or machinectl names it
    #[arg(long, value_name = "NAME", conflicts_with_all = ["pod", "container", "unit", "cgroup", "pid", "workload"], requires = "seconds")]
    machine: Option<String>,
    /// Meter the files in this directory, too
    #[arg(long, value_name = "DIR")]
    storage: Option<PathBuf>,
    /// Stop after so many seconds
    #[arg(long, value_name = "N", conflicts_with = "workload", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    seconds: Option<u64>,
    /// The command to run and meter
    #[arg(last = true, value_name = "CMD")]
    workload: Vec<OsString>,
}

#[derive(clap::Args)]
pub(super) struct EnterArgs {
    /// The cgroup.procs files to enter by
    procs_files: Vec<PathBuf>,
    /// The command to become
    #[arg(last = true, required = true)]
    workload: Vec<OsString>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let (digits, unit_ms) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s').unwrap_or(text), 1000),
    };
    let ms = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit_ms));
    let within = ms.filter(|ms| (10..=3_600_000).contains(ms));
    within.map(Duration::from_millis).ok_or_else(|| "10ms to 3600s".to_owned())
}

impl Args {
    /// What is named by its engine or manager, in the words of `hufu_metering::resolve`.
    fn named(&self) -> Option<String> {
        let forms =
            [("unit", &self.unit), ("container", &self.container), ("pod", &self.pod), ("machine", &self.machine)];
        forms.into_iter().find_map(|(form, name)| name.as_ref().map(|name| format!("{form}:{name}")))
    }
}

fn at() -> At {
    let now = clock::now();
    At { real_ns: now.real_ns, boot_ns: now.boot_ns, mono_ns: now.mono_ns }
}

/// Enters the cgroups and becomes the workload; returns only if that failed.
pub(super) fn enter(args: &EnterArgs) -> Outcome {
    for path in &args.procs_files {
        std::fs::write(path, "0").map_err(|e| file::unwritable(path, &e))?;
    }
    let Some((program, words)) = args.workload.split_first() else {
        return Err(Failure::new(Exit::Usage, Text::MeterTarget {}));
    };
    let why = Command::new(program).args(words).exec();
    Err(not_run(program, &why))
}

fn not_run(program: &OsString, why: &dyn std::fmt::Display) -> Failure<Text> {
    let command = program.to_string_lossy().into_owned();
    Failure::new(Exit::Io, Text::CommandNotRun { command, why: why.to_string() })
}

/// Looks the program up as the child will, so that a wrong name is said before anything is metered.
fn check_program(program: &OsString) -> Result<(), Failure<Text>> {
    let path = Path::new(program);
    let direct = path.components().count() > 1;
    let candidates: Vec<PathBuf> = if direct {
        vec![path.to_owned()]
    } else {
        let search = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
        std::env::split_paths(&search).map(|directory| directory.join(path)).collect()
    };
    let found: Vec<_> =
        candidates.iter().filter_map(|file| std::fs::metadata(file).ok()).filter(|data| data.is_file()).collect();
    if found.iter().any(|data| data.permissions().mode() & 0o111 != 0) {
        return Ok(());
    }
    Err(not_run(program, if found.is_empty() { &"no such command" } else { &"it is not executable" }))
}

fn failure(error: &Error) -> Failure<Text> {
    let text = match error {
        Error::UnknownProcess { pid } => Text::NoProcess { pid: pid.to_string() },
        Error::UnknownCgroup { path } | Error::BadName { name: path } => Text::NoCgroup { path: path.clone() },
        other => Text::NoMeter { why: other.to_string() },
    };
    Failure::new(Exit::Io, text)
}

/// A started workload, or the outside process or cgroup being metered.
struct Workload {
    plan: Plan,
    child: Option<Child>,
    pidfd: Option<OwnedFd>,
    place: Option<Place>,
    seconds: Option<u64>,
}

impl Workload {
    fn outside(args: &Args, hierarchies: &Hierarchies) -> Result<Self, Failure<Text>> {
        if let Some(named) = args.named() {
            let found = resolve(hierarchies, &named).map_err(|e| failure(&e))?;
            let plan = Plan { resolved: Some(found.text), ..Plan::from(found.target) };
            return Ok(Self { plan, child: None, pidfd: None, place: None, seconds: args.seconds });
        }
        let (target, pidfd) = match (args.pid, &args.cgroup) {
            (Some(pid), _) => {
                let gone = || failure(&Error::UnknownProcess { pid });
                let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
                (Target::Process { pid }, Some(pidfd_open(id, PidfdFlags::empty()).map_err(|_| gone())?))
            }
            (None, Some(path)) => (Target::Cgroup { path: hierarchies.relative(path) }, None),
            (None, None) => return Err(Failure::new(Exit::Usage, Text::MeterTarget {})),
        };
        Ok(Self { plan: target.into(), child: None, pidfd, place: None, seconds: args.seconds })
    }

    /// Makes a place for a command if one can be made.
    fn make(hierarchies: &Hierarchies, context: &Context) -> Self {
        let name = format!("run-{}-{}", std::process::id(), at().mono_ns);
        let place = match Place::make(hierarchies, PARENT, &name) {
            Ok(place) => Some(place),
            Err(error) => {
                context.say(&Text::MeterTree { why: error.to_string() });
                None
            }
        };
        let target = place.as_ref().map_or(Target::Process { pid: 0 }, |place| place.target.clone());
        // Counters are put on a cgroup of our own alone: it takes them along when it is removed.
        let network = place.as_ref().map(|_| Network::Cgroup);
        Self { plan: Plan { network, ..target.into() }, child: None, pidfd: None, place, seconds: None }
    }

    /// Starts the command: it enters its cgroups before it is itself, so that nothing of it is missed.
    fn spawn(&mut self, words: &[OsString], json: bool) -> Result<(), Failure<Text>> {
        let program = words.first().ok_or_else(|| bug(&"no command"))?;
        let procs_files = self.place.as_ref().map(|place| place.procs_files.as_slice()).unwrap_or_default();
        let mut command = Command::new("/proc/self/exe");
        command.arg(ENTER).args(procs_files).arg("--").args(words);
        if json {
            command.stdout(Stdio::from(std::io::stderr()));
        }
        let child = command.spawn().map_err(|e| not_run(program, &e))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| bug(&"a child without id"))?;
        if self.place.is_none() {
            self.plan = Target::Process { pid: child.id() }.into();
        }
        self.child = Some(child);
        self.pidfd = Some(pidfd_open(pid, PidfdFlags::empty()).map_err(|e| bug(&e))?);
        Ok(())
    }
}

/// What holds the files of a directory.
fn storage(root: &Path, dir: &Path) -> Result<Storage, Failure<Text>> {
    let full = dir.canonicalize().map_err(|e| file::unreadable(dir, &e))?;
    held_by(root, &full).map_err(|e| failure(&e))
}

/// Runs the command.
pub(super) fn run(args: &Args, context: &Context) -> Outcome {
    let tariff = args.tariff.as_deref().map(read_tariff).transpose()?;
    let root = Path::new("/");
    let hierarchies = Hierarchies::detect(root).map_err(|e| failure(&e))?;
    let interval_ns = u64::try_from(args.interval.as_nanos()).unwrap_or(u64::MAX);
    let mut sampler = Sampler::new(root, interval_ns, at()).map_err(|e| failure(&e))?;
    let storage = args.storage.as_deref().map(|dir| storage(root, dir)).transpose()?;
    let metered: Vec<_> =
        KINDS.into_iter().chain(storage.as_ref().map(|_| Kind::Storage)).map(Resource::used).collect();
    let mut start = |plan: &Plan| {
        let plan = Plan { storage: storage.clone(), ..plan.clone() };
        let begun = sampler.start(ORDER, plan, &metered, &[], None, at());
        begun.map(drop).map_err(|e| failure(&e))
    };
    let workload = match args.workload.first() {
        None => {
            let outside = Workload::outside(args, &hierarchies)?;
            start(&outside.plan).map(|()| outside)?
        }
        Some(program) => {
            check_program(program)?;
            let mut own = Workload::make(&hierarchies, context);
            // In a cgroup the meter runs before the child; a process tree begins with it.
            let started = match own.place {
                Some(_) => start(&own.plan).and_then(|()| own.spawn(&args.workload, context.json)),
                None => own.spawn(&args.workload, context.json).and_then(|()| start(&own.plan)),
            };
            if let Err(error) = started {
                leave(&own, context);
                return Err(error);
            }
            own
        }
    };
    let mut workload = workload;
    let interrupted = watch(&mut sampler, &workload, args.interval)?;
    // The final read comes before the child is waited for and before its cgroup is removed.
    let pieces = sampler.stop(ORDER, at()).map_err(|e| bug(&e))?;
    let status = match &mut workload.child {
        Some(child) => Some(child.wait().map_err(|e| bug(&e))?),
        None => None,
    };
    leave(&workload, context);
    let report = Report::new(&pieces, status, tariff.as_ref())?;
    context.show(&report.json, || report.text(context))?;
    Ok(if interrupted { Exit::Interrupted } else { Exit::Done })
}

/// Removes the place that was made.
fn leave(workload: &Workload, context: &Context) {
    if let Some(place) = &workload.place {
        match place.remove() {
            Ok(()) => place.remove_parents(),
            Err(error) => context.say(&Text::PlaceStays { why: error.to_string() }),
        }
    }
}

/// Ticks until the process ends, the time is over or, without a child of ours, a signal comes; true after a signal.
fn watch(sampler: &mut Sampler, workload: &Workload, interval: Duration) -> Result<bool, Failure<Text>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| bug(&e))?;
    runtime.block_on(async {
        let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt()).map_err(|e| bug(&e))?;
        let mut terminate = tokio::signal::unix::signal(SignalKind::terminate()).map_err(|e| bug(&e))?;
        let watched = workload.pidfd.as_ref().map(OwnedFd::try_clone).transpose().map_err(|e| bug(&e))?;
        let watches = watched.is_some();
        let mut ended = exit_of(watched)?;
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let over = tokio::time::sleep(Duration::from_secs(workload.seconds.unwrap_or(u64::MAX >> 32)));
        tokio::pin!(over);
        let mut interrupted = false;
        loop {
            let signal = tokio::select! {
                _ = ticks.tick() => { sampler.tick(at()); continue }
                () = &mut over, if workload.seconds.is_some() => return Ok(interrupted),
                _ = &mut ended, if watches => return Ok(interrupted),
                _ = interrupt.recv() => Signal::INT,
                _ = terminate.recv() => Signal::TERM,
            };
            interrupted = true;
            match (&workload.child, &workload.pidfd) {
                (Some(_), Some(pidfd)) => drop(pidfd_send_signal(pidfd, signal)),
                _ => return Ok(true),
            }
        }
    })
}

/// Resolves when the process of a pidfd has ended. A thread waits for it: tokio's own wrapper of a foreign descriptor is unsafe.
fn exit_of(pidfd: Option<OwnedFd>) -> Result<oneshot::Receiver<()>, Failure<Text>> {
    let (ended, exit) = oneshot::channel();
    if let Some(pidfd) = pidfd {
        let wait = move || {
            while poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None) == Err(Errno::INTR) {}
            ended.send(()).ok();
        };
        std::thread::Builder::new().name("exit".to_owned()).spawn(wait).map_err(|e| bug(&e))?;
    }
    Ok(exit)
}

fn read_tariff(path: &Path) -> Result<Tariff, Failure<Text>> {
    let tariff = Tariff::from_toml(&file::read_text(path)?).map_err(|e| file::malformed(path, &e))?;
    // It would price everything at nothing, which nobody asks for by naming a tariff.
    if tariff.prices.is_empty() { Err(file::malformed(path, &"no [[price]] in it")) } else { Ok(tariff) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_and_bounded() {
        for (text, want) in [
            ("1s", Some(1000)),
            ("200ms", Some(200)),
            ("2", Some(2000)),
            ("5ms", None),
            ("", None),
            ("1h", None),
            ("-1s", None),
        ] {
            assert_eq!(interval(text).ok(), want.map(Duration::from_millis), "{text:?}");
        }
    }
}
