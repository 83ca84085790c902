//! A process and its descendants, metered through `/proc/PID` where no cgroup may be written.
//!
//! CPU: every living member's own time plus the time of the children it has waited for, so that a child that lived and
//! died between two samples still counts, exactly once, in its parent. Own time is the greater of `stat` (ticks, with
//! ended threads) and the sum of its threads' `schedstat` (ns, without them): both are lower bounds. A member that left the
//! tree (its parent ended first) is followed until it ends, and what it had used then stays counted. What nobody
//! waited for and nobody sampled is not counted: the sum is a lower bound, never too high. Parents are read before their
//! children, so a race can only make one sum too small, and the counter never falls.
//!
//! Memory: proportional set size (`smaps_rollup`), in which a page shared by n processes counts 1/n in each. Resident
//! set sizes would count it n times. It costs the kernel a walk of the page tables, about 10 ms per GiB.
//!
//! Disk: none. `/proc/PID/io` counts what was asked for, up to hundreds of times what reached the device.

use std::path::{Path, PathBuf};

use hufu_trade::resource::Kind;

use crate::{
    Error,
    cgroup::set_io,
    file,
    sample::{Raw, Sample},
};

const NO_IO: &str =
    "the write counters of processes are not what reached the device; block IO needs an own cgroup of version 2";
/// A race with an ending child makes one sum too small; as many in a row are a loss.
const FALLS: u8 = 3;
const NO_PSS: &str = "smaps_rollup of the order's processes cannot be read";

/// What `/proc/PID/stat` says of one process, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    ppid: u32,
    /// utime + stime.
    own: u64,
    /// cutime + cstime.
    waited: u64,
    starttime: u64,
}

/// A process that belongs to the tree.
#[derive(Clone, Copy, Debug)]
struct Member {
    pid: u32,
    starttime: u64,
    /// The parent was outside the tree when last seen: nobody in the tree will inherit its time.
    orphan: bool,
    /// Own time, ns, never falling.
    own_ns: u64,
    /// Own and inherited time when last seen, ns.
    last_ns: u64,
    /// Ticks of children it had waited for when last seen.
    waited: u64,
    seen: bool,
}

/// A process tree.
#[derive(Debug)]
pub struct ProcessTree {
    proc: PathBuf,
    pid: u32,
    starttime: u64,
    tick_ns: u64,
    members: Vec<Member>,
    all: Vec<Stat>,
    /// Time of orphans that have ended, and of members whose time fell out of the tree, ns.
    carried_ns: u64,
    /// The last value given out, ns.
    given_ns: u64,
    /// How many samples in a row the sum was below the value given out.
    falls: u8,
    /// A process of it has ended since that was asked last.
    ended: bool,
}

impl ProcessTree {
    /// Finds the process.
    ///
    /// # Errors
    /// [`Error::UnknownProcess`].
    pub fn open(root: &Path, pid: u32) -> Result<Self, Error> {
        let proc = root.join("proc");
        let stat = read_stat(&proc, pid).ok_or(Error::UnknownProcess { pid })?;
        let tick_ns = 1_000_000_000_u64.checked_div(rustix::param::clock_ticks_per_second()).unwrap_or(10_000_000);
        let member = Member {
            pid,
            starttime: stat.starttime,
            orphan: false,
            own_ns: 0,
            last_ns: 0,
            waited: stat.waited,
            seen: true,
        };
        Ok(Self {
            proc,
            pid,
            starttime: stat.starttime,
            tick_ns,
            members: vec![member],
            all: Vec::new(),
            carried_ns: 0,
            given_ns: 0,
            falls: 0,
            ended: false,
        })
    }

    /// Start time of the root process in clock ticks since boot: with boot id and pid its identity.
    pub fn instance(&self) -> u64 {
        self.starttime
    }

    /// Goes on from the value given out before a restart of the agent: what members that have ended had used is not in
    /// `/proc` any more, and must neither make the counter fall nor be counted again.
    pub(crate) fn resume(&mut self, given_ns: u64) {
        self.given_ns = given_ns;
    }

    /// Whether one of its processes has ended since the last call: what it had used is a lower bound then.
    pub(crate) fn has_ended(&mut self) -> bool {
        std::mem::take(&mut self.ended)
    }

    /// Reads the tree.
    ///
    /// # Errors
    /// [`Error::Gone`] when the root process has ended or its id belongs to another process.
    pub(crate) fn read(&mut self) -> Result<Sample, Error> {
        let gone = || Error::Gone { what: format!("process {}", self.pid) };
        let root = read_stat(&self.proc, self.pid).filter(|stat| stat.starttime == self.starttime).ok_or_else(gone)?;
        self.list();
        self.find_members(root.pid);
        let cpu_ns = self.cpu();
        let mut sample = Sample::default().with(Kind::Cpu, file::raw(cpu_ns)).with(Kind::Memory, self.memory());
        set_io(&mut sample, Err(NO_IO));
        Ok(sample)
    }

    /// All processes of the host.
    fn list(&mut self) {
        self.all.clear();
        let Ok(entries) = std::fs::read_dir(&self.proc) else { return };
        for entry in entries.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(stat) = pid.and_then(|pid| read_stat(&self.proc, pid)) {
                self.all.push(stat);
            }
        }
    }

    /// Adds new descendants behind their parents and marks members whose parent is outside.
    fn find_members(&mut self, root: u32) {
        let mut index = 0;
        while let Some(parent) = self.members.get(index).map(|member| member.pid) {
            for stat in self.all.iter().filter(|stat| stat.ppid == parent) {
                if !self.members.iter().any(|member| (member.pid, member.starttime) == (stat.pid, stat.starttime)) {
                    let (pid, starttime) = (stat.pid, stat.starttime);
                    self.members.push(Member {
                        pid,
                        starttime,
                        orphan: false,
                        own_ns: 0,
                        last_ns: 0,
                        waited: stat.waited,
                        seen: true,
                    });
                }
            }
            index += 1;
        }
        let pids: Vec<u32> = self.members.iter().map(|member| member.pid).collect();
        for member in &mut self.members {
            if let Some(stat) =
                self.all.iter().find(|stat| (stat.pid, stat.starttime) == (member.pid, member.starttime))
            {
                member.orphan = member.pid != root && !pids.contains(&stat.ppid);
            }
        }
    }

    /// The tree's CPU counter, ns; parents are read before their children.
    fn cpu(&mut self) -> Option<u64> {
        let mut sum = 0_u64;
        for member in &mut self.members {
            let stat = read_stat(&self.proc, member.pid).filter(|stat| stat.starttime == member.starttime);
            member.seen = stat.is_some();
            let Some(stat) = stat else {
                self.ended = true;
                continue;
            };
            self.ended |= stat.waited != member.waited;
            member.waited = stat.waited;
            let threads_ns = threads_ns(&self.proc, member.pid);
            member.own_ns = member.own_ns.max(threads_ns).max(stat.own.checked_mul(self.tick_ns)?);
            member.last_ns = member.own_ns.checked_add(stat.waited.checked_mul(self.tick_ns)?)?;
            sum = sum.checked_add(member.last_ns)?;
        }
        for member in self.members.iter().filter(|member| !member.seen && member.orphan) {
            self.carried_ns = self.carried_ns.checked_add(member.last_ns)?;
        }
        self.members.retain(|member| member.seen);
        let mut now = sum.checked_add(self.carried_ns)?;
        // Ended children come back in their parent's waited time, floored to ticks: a small fall heals by itself.
        let slack_ns = self.tick_ns.saturating_mul(4);
        let fell = self.given_ns.saturating_sub(now) > slack_ns;
        self.falls = if fell { self.falls.saturating_add(1) } else { 0 };
        if self.falls >= FALLS {
            // Not a race: time nobody waited for has left the tree. It was used, so it stays counted.
            let lost = self.given_ns.saturating_sub(now);
            self.carried_ns = self.carried_ns.checked_add(lost)?;
            now = self.given_ns;
            self.falls = 0;
        }
        self.given_ns = self.given_ns.max(now);
        Some(self.given_ns)
    }

    /// Proportional set size of the tree, bytes.
    fn memory(&self) -> Raw {
        let mut sum = 0_u64;
        for member in &self.members {
            let directory = self.proc.join(member.pid.to_string());
            match std::fs::read(directory.join("smaps_rollup")) {
                Ok(text) => {
                    let bytes = file::keyed(&text, b"Pss").and_then(|kib| kib.checked_mul(1024));
                    let Some(total) = bytes.and_then(|bytes| sum.checked_add(bytes)) else {
                        return file::raw(None);
                    };
                    sum = total;
                }
                // Ended since the list was made, or a zombie or kernel thread, which has no memory.
                Err(error) if file::is_gone(&error) => {}
                Err(_) => return Raw::Missing(NO_PSS),
            }
        }
        Raw::Value(sum)
    }
}

/// Sum of the living threads' running time, ns; 0 where the kernel does not count it.
fn threads_ns(proc: &Path, pid: u32) -> u64 {
    let Ok(threads) = std::fs::read_dir(proc.join(pid.to_string()).join("task")) else { return 0 };
    let times = threads.flatten().filter_map(|thread| {
        let text = std::fs::read(thread.path().join("schedstat")).ok()?;
        file::number(file::words(&text).next()?)
    });
    times.fold(0, u64::saturating_add)
}

/// When a process was started, clock ticks since boot: with its id and the boot id its identity.
pub(crate) fn starttime(proc: &Path, pid: u32) -> Option<u64> {
    read_stat(proc, pid).map(|stat| stat.starttime)
}

fn read_stat(proc: &Path, pid: u32) -> Option<Stat> {
    parse_stat(&std::fs::read(proc.join(pid.to_string()).join("stat")).ok()?)
}

/// `pid (name) state ppid ...`: the name may hold blanks and parentheses, so fields are counted from the last `)`.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let pid = file::number(file::words(text.get(..open)?).next()?)?;
    let mut fields = file::words(text.get(close + 1..)?);
    // The first field after the name is number 3 (state) of proc(5).
    let ppid = file::number(fields.nth(1)?)?;
    let mut times = [0_u64; 4];
    let mut rest = fields.skip(9);
    for time in &mut times {
        *time = file::number(rest.next()?)?;
    }
    let starttime = file::number(rest.nth(4)?)?;
    let [utime, stime, cutime, cstime] = times;
    Some(Stat {
        pid: u32::try_from(pid).ok()?,
        ppid: u32::try_from(ppid).ok()?,
        own: utime.checked_add(stime)?,
        waited: cutime.checked_add(cstime)?,
        starttime,
    })
}
