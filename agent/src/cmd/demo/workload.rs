//! The demo's workload and the site's command that starts and stops it: `hufu __provision`, `hufu __workload`. The workload
//! really works (two threads, short-lived children, memory, durable disk writes) and measures itself by means of its own, so
//! that the bill can be held against it. The agent knows nothing of what is here.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use hufu_audit::{Exit, Failure};
use rustix::{
    process::{Pid, Signal, kill_process},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    clock,
    cmd::{Context, Outcome, bug, file},
    text::Text,
};

const SECOND_NS: i64 = 1_000_000_000;
/// The workload stops working and says what it used this long before its service ends.
const QUIET_NS: i64 = 2 * SECOND_NS;
/// A workload that nobody stops ends by itself this long after its service.
const LINGER_NS: i64 = 120 * SECOND_NS;
/// Memory it holds.
const MEMORY_BYTES: usize = 48 << 20;
/// One durable write.
const WRITE_BYTES: usize = 256 << 10;
/// The file it writes starts over at this size.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// The file that names the demo whose workloads these are.
const OWNER: &str = "owner";
/// Kernel clock ticks a second, as /proc counts them on every Linux.
const TICK_NS: u64 = 10_000_000;

/// Arguments of `__provision`.
#[derive(clap::Args)]
pub(in crate::cmd) struct ProvisionArgs {
    /// Directory of the workloads
    #[arg(long)]
    dir: PathBuf,
}

/// Arguments of `__workload`.
#[derive(clap::Args)]
pub(in crate::cmd) struct WorkloadArgs {
    /// Directory of the workloads
    #[arg(long, required_unless_present = "burst_ms")]
    dir: Option<PathBuf>,
    /// Contract number
    #[arg(long, default_value = "")]
    contract: String,
    /// End of service, ns since 1970
    #[arg(long, default_value_t = 0)]
    until_ns: i64,
    /// `cgroup.procs` files to enter by
    #[arg(long)]
    procs: Vec<PathBuf>,
    /// Only burn so many milliseconds: the short-lived children
    #[arg(long)]
    burst_ms: Option<u64>,
}

/// What the agent asks of the site's command.
#[derive(Deserialize)]
struct Request {
    verb: String,
    contract_no: String,
    #[serde(default)]
    procs_files: Vec<PathBuf>,
    service_end: String,
}

/// What the workload says it used.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OwnMeasure {
    /// CPU time of all threads and children, ns.
    pub(super) cpu_ns: u64,
    /// Bytes it wrote durably.
    pub(super) disk_write_bytes: u64,
    /// Bytes of memory it held.
    pub(super) memory_bytes: u64,
    /// Children it started and saw end.
    pub(super) children: u64,
}

/// Where a workload's papers are.
pub(super) struct Papers {
    dir: PathBuf,
    contract: String,
}

impl Papers {
    pub(super) fn new(dir: &Path, contract: &str) -> Self {
        Self { dir: dir.to_owned(), contract: contract.to_owned() }
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.dir.join(format!("{}.{ending}", self.contract))
    }

    /// The workload's own measure, once it is there.
    pub(super) fn measure(&self) -> Option<OwnMeasure> {
        serde_json::from_slice(&std::fs::read(self.path("json")).ok()?).ok()
    }

    /// The workload, if it still lives.
    fn alive(&self) -> Option<Pid> {
        alive(&std::fs::read_to_string(self.path("pid")).ok()?)
    }

    /// Ends the workload if it lives. Only the process that its own file names is touched.
    pub(super) fn stop(&self) {
        for signal in [Signal::TERM, Signal::KILL] {
            let Some(pid) = self.alive() else { break };
            kill_process(pid, signal).ok();
            for _ in 0..200 {
                if self.alive().is_none() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        std::fs::remove_file(self.path("pid")).ok();
        std::fs::remove_file(self.path("data")).ok();
    }

    /// An order whose demo was interrupted: its workload is not started again.
    pub(super) fn abandon(&self) {
        std::fs::write(self.path("abandoned"), b"").ok();
        self.stop();
    }
}

/// Says which process the workloads of `dir` belong to: a demo's workload does not outlive its demo, although a real
/// order outlives its agent.
pub(super) fn claim(dir: &Path) -> Result<(), Failure<Text>> {
    let own = Stat::read("self").ok_or_else(|| bug(&"/proc/self/stat"))?;
    file::replace(&dir.join(OWNER), format!("{} {}\n", std::process::id(), own.started).as_bytes())
}

/// Ends this process when the demo that owns `dir` has ended.
fn end_with_owner(dir: &Path) {
    let named = std::fs::read_to_string(dir.join(OWNER)).unwrap_or_default();
    while alive(&named).is_some() {
        std::thread::sleep(Duration::from_secs(1));
    }
    std::process::exit(0);
}

/// The process of a line `PID STARTED`, if that very process still lives.
fn alive(line: &str) -> Option<Pid> {
    let (pid, started) = line.trim().split_once(' ')?;
    let pid: i32 = pid.parse().ok()?;
    let stat = Stat::read(&pid.to_string())?;
    // A zombie has ended; its parent is slow to notice.
    (stat.started == started && stat.state != "Z").then(|| Pid::from_raw(pid)).flatten()
}

/// Contracts whose workload was never stopped: an earlier demo was killed.
pub(super) fn left_behind(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.strip_suffix(".pid").map(str::to_owned)).collect()
}

/// `hufu __provision`: one request on stdin, one answer on stdout; asked again, it answers the same.
pub(in crate::cmd) fn provision(args: &ProvisionArgs) -> Outcome {
    let mut text = String::new();
    std::io::stdin().lock().take(1 << 20).read_to_string(&mut text).map_err(|e| bug(&e))?;
    let wrong = |why: &dyn std::fmt::Display| file::malformed(Path::new("stdin"), why);
    let request: Request = serde_json::from_str(&text).map_err(|e| wrong(&e))?;
    if request.contract_no.is_empty() || !request.contract_no.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong(&"contract_no"));
    }
    let papers = Papers::new(&args.dir, &request.contract_no);
    let answer = match request.verb.as_str() {
        "start" if papers.path("abandoned").exists() => json!({}),
        "start" => {
            let end: jiff::Timestamp = request.service_end.parse().map_err(|e: jiff::Error| wrong(&e))?;
            let end_ns = i64::try_from(end.as_nanosecond()).map_err(|e| wrong(&e))?;
            let pid = match papers.alive() {
                Some(pid) => pid,
                None => start(&papers, &request, end_ns)?,
            };
            json!({ "pid": pid.as_raw_nonzero().get() })
        }
        "stop" => {
            papers.stop();
            json!({})
        }
        other => return Err(wrong(&format!("verb {other}"))),
    };
    let context = Context { json: true, lang: hufu_audit::Lang::En };
    context.show(&answer, String::new)?;
    Ok(Exit::Done)
}

fn start(papers: &Papers, request: &Request, end_ns: i64) -> Result<Pid, Failure<Text>> {
    file::make_dir(&papers.dir)?;
    let log_path = papers.path("log");
    let log = File::create(&log_path).map_err(|e| file::unwritable(&log_path, &e))?;
    let program = std::env::current_exe().map_err(|e| bug(&e))?;
    let mut command = Command::new(program);
    command.arg("__workload").arg("--dir").arg(&papers.dir).arg("--contract").arg(&papers.contract);
    command.arg("--until-ns").arg(end_ns.to_string());
    for path in &request.procs_files {
        command.arg("--procs").arg(path);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
    let mut child = command.spawn().map_err(|e| bug(&e))?;
    for _ in 0..1000 {
        if let Some(pid) = papers.alive() {
            return Ok(pid);
        }
        if let Ok(Some(_)) = child.try_wait() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().ok();
    let (name, log) = ("workload".to_owned(), log_path.display().to_string());
    Err(Failure::new(Exit::Software, Text::ChildEnded { name, log }))
}

/// `hufu __workload`: enters its cgroups, works until shortly before its service ends, says what it used, waits to be stopped.
pub(in crate::cmd) fn workload(args: &WorkloadArgs) -> Outcome {
    let Some(dir) = &args.dir else {
        burn(Duration::from_millis(args.burst_ms.unwrap_or(0)));
        return Ok(Exit::Done);
    };
    rustix::process::setsid().ok();
    for path in &args.procs {
        std::fs::write(path, "0").map_err(|e| file::unwritable(path, &e))?;
    }
    // What the process used before it entered is not the order's.
    let before_ns = self_cpu_ns();
    let papers = Papers::new(dir, &args.contract);
    let own = Stat::read("self").ok_or_else(|| bug(&"/proc/self/stat"))?;
    file::replace(&papers.path("pid"), format!("{} {}\n", std::process::id(), own.started).as_bytes())?;
    let watched = dir.clone();
    std::thread::spawn(move || end_with_owner(&watched));
    let work_end_ns = args.until_ns.saturating_sub(QUIET_NS);
    let memory = vec![0xA5_u8; MEMORY_BYTES];
    let burners: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn(move || {
                while clock::now().real_ns < work_end_ns {
                    burn(Duration::from_millis(30));
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
        })
        .collect();
    let data = papers.path("data");
    let writer = std::thread::spawn(move || write_durably(&data, work_end_ns));
    let program = std::env::current_exe().map_err(|e| bug(&e))?;
    let mut children = 0;
    while clock::now().real_ns < work_end_ns {
        let burst = Command::new(&program).args(["__workload", "--burst-ms", "20"]).stdin(Stdio::null()).status();
        children += u64::from(burst.is_ok_and(|status| status.success()));
        std::thread::sleep(Duration::from_millis(500));
    }
    for burner in burners {
        burner.join().ok();
    }
    let disk_write_bytes = writer.join().unwrap_or(0);
    let children_ns = Stat::read("self").map_or(0, |stat| stat.children_ticks.saturating_mul(TICK_NS));
    let measure = OwnMeasure {
        cpu_ns: self_cpu_ns().saturating_sub(before_ns).saturating_add(children_ns),
        disk_write_bytes,
        memory_bytes: u64::try_from(memory.len()).unwrap_or(0),
        children,
    };
    file::replace(&papers.path("json"), &serde_json::to_vec(&measure).map_err(|e| bug(&e))?)?;
    drop(memory);
    let left_ns = args.until_ns.saturating_add(LINGER_NS).saturating_sub(clock::now().real_ns);
    std::thread::sleep(Duration::from_nanos(u64::try_from(left_ns).unwrap_or(0)));
    Ok(Exit::Done)
}

fn burn(span: Duration) {
    let start_ns = clock::now().mono_ns;
    let span_ns = u64::try_from(span.as_nanos()).unwrap_or(0);
    let mut mixed = 1_u64;
    while clock::now().mono_ns.saturating_sub(start_ns) < span_ns {
        for round in 0..1000_u64 {
            mixed = std::hint::black_box(mixed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round));
        }
    }
}

fn write_durably(path: &Path, end_ns: i64) -> u64 {
    let block = vec![0x5A_u8; WRITE_BYTES];
    let (mut written, mut size) = (0_u64, 0_u64);
    let Ok(mut file) = File::create(path) else { return 0 };
    while clock::now().real_ns < end_ns {
        if file.write_all(&block).and_then(|()| file.sync_data()).is_err() {
            break;
        }
        let bytes = u64::try_from(block.len()).unwrap_or(0);
        (written, size) = (written + bytes, size + bytes);
        if size >= FILE_BYTES_MAX {
            size = 0;
            let restarted = File::create(path);
            let Ok(new) = restarted else { break };
            file = new;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    written
}

/// CPU time of all threads of this process, ns.
fn self_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec.saturating_mul(SECOND_NS).saturating_add(time.tv_nsec)).unwrap_or(0)
}

/// The few fields of `/proc/PID/stat` that are needed here.
struct Stat {
    state: String,
    /// cutime + cstime.
    children_ticks: u64,
    started: String,
}

impl Stat {
    fn read(pid: &str) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The command's name may hold anything, so the fields start after the last parenthesis.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        Some(Self {
            state: (*fields.first()?).to_owned(),
            children_ticks: ticks(13)?.checked_add(ticks(14)?)?,
            started: (*fields.get(19)?).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 70 80 20 0 1 0 12345 1 2 3";
        let stat = Stat::parse(line);
        assert!(stat.is_some_and(|s| s.state == "S" && s.children_ticks == 150 && s.started == "12345"));
        assert!(Stat::parse("7 (x").is_none());
    }

    #[test]
    fn a_pid_file_of_another_process_names_nobody() {
        let dir = std::env::temp_dir().join(format!("hufu-papers-{}", std::process::id()));
        std::fs::create_dir_all(&dir).ok();
        let papers = Papers::new(&dir, "ab");
        std::fs::write(papers.path("pid"), "1 0\n").ok();
        assert!(papers.alive().is_none());
        assert_eq!(left_behind(&dir), ["ab"]);
        std::fs::remove_dir_all(&dir).ok();
    }
}
