//! A node's host: the `/proc` that the real readers read, with one process an order, whose true use of CPU is known here.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use hufu_trade::octets::ContractNo;

/// A clock tick of `/proc/PID/stat`, ns.
pub const TICK_NS: u64 = 10_000_000;

/// The workload of an order.
#[derive(Clone, Debug)]
struct Process {
    pid: u32,
    starttime: u64,
    /// CPU it uses, thousandths of a core.
    millicores: u64,
    is_paused: bool,
    /// Used so far: ticks, and what is left of one in ns x millicores.
    ticks: u64,
    rest: u64,
}

/// A simulated host.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    boot: u64,
    starttime: u64,
    processes: BTreeMap<ContractNo, Process>,
    /// Ticks of everything since the boot.
    all_ticks: u64,
    /// Until when use is counted, simulated time.
    counted: u64,
    /// Ticks that an order's workload has truly used, over all its processes and boots.
    truth: BTreeMap<ContractNo, u64>,
    next_pid: u32,
    is_written: bool,
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the simulated /proc");
}

impl Host {
    /// A host whose files lie below `root`.
    pub fn new(root: &Path, time: u64) -> Self {
        for folder in ["proc/self", "proc/sys/kernel/random", "sys/devices/system/cpu"] {
            fs::create_dir_all(root.join(folder)).expect("the simulated /proc");
        }
        write(&root.join("proc/self/mountinfo"), "24 29 0:23 / /proc rw - proc proc rw\n");
        write(&root.join("sys/devices/system/cpu/online"), "0-7\n");
        write(&root.join("proc/meminfo"), "MemTotal: 8388608 kB\nMemFree: 4194304 kB\n");
        let (processes, truth) = (BTreeMap::new(), BTreeMap::new());
        let mut host = Self {
            root: root.to_owned(),
            boot: 0,
            starttime: 1000,
            processes,
            all_ticks: 1000,
            counted: time,
            truth,
            next_pid: 100,
            is_written: false,
        };
        host.reboot(time);
        host
    }

    /// Where its files lie.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Begins anew: no process, other counters, another boot id.
    pub fn reboot(&mut self, time: u64) {
        self.count(time);
        for process in std::mem::take(&mut self.processes).into_values() {
            self.remove_files(process.pid);
        }
        (self.boot, self.all_ticks, self.is_written) = (self.boot + 1, 100, false);
        let id = format!("0f4d1c86-6f0b-4b57-9df0-{:012x}\n", self.boot);
        write(&self.root.join("proc/sys/kernel/random/boot_id"), &id);
        self.write();
    }

    /// Counts what was used until now.
    pub fn count(&mut self, time: u64) {
        let elapsed = time.saturating_sub(self.counted);
        self.counted = self.counted.max(time);
        for (no, process) in self.processes.iter_mut().filter(|(_, process)| !process.is_paused) {
            let used = elapsed.saturating_mul(process.millicores).saturating_add(process.rest);
            let (ticks, rest) = (used / (TICK_NS * 1000), used % (TICK_NS * 1000));
            process.rest = rest;
            process.ticks += ticks;
            self.all_ticks += ticks;
            *self.truth.entry(*no).or_default() += ticks;
            self.is_written &= ticks == 0;
        }
    }

    /// Lets time pass in which nothing runs: the host sleeps.
    pub fn sleep(&mut self, time: u64) {
        self.counted = self.counted.max(time);
    }

    /// Writes what has changed, for the readers.
    pub fn write(&mut self) {
        if std::mem::replace(&mut self.is_written, true) {
            return;
        }
        write(&self.root.join("proc/stat"), &format!("cpu  {} 0 0 1 0 0 0 0 0 0\n", self.all_ticks));
        for process in self.processes.values() {
            let Process { pid, starttime, ticks, .. } = process;
            let stat =
                format!("{pid} (work) S 1 1 1 0 -1 4194304 1 2 3 4 {ticks} 0 0 0 20 0 1 0 {starttime} 1000 100 1\n");
            write(&self.root.join(format!("proc/{pid}/stat")), &stat);
        }
    }

    /// Starts an order's workload, or lets it go on; its root process.
    pub fn start(&mut self, no: ContractNo, millicores: u64) -> u32 {
        self.is_written = false;
        if let Some(process) = self.processes.get_mut(&no) {
            process.is_paused = false;
            return process.pid;
        }
        self.next_pid += 1;
        self.starttime += 10;
        let (pid, starttime) = (self.next_pid, self.starttime);
        let folder = self.root.join(format!("proc/{pid}"));
        fs::create_dir_all(&folder).expect("the simulated /proc");
        write(&folder.join("smaps_rollup"), "1-2 ---p 0 00:00 0 [rollup]\nRss: 900 kB\nPss: 300 kB\n");
        let process = Process { pid, starttime, millicores, is_paused: false, ticks: 0, rest: 0 };
        self.processes.insert(no, process);
        self.write();
        pid
    }

    /// Suspends an order's workload.
    pub fn pause(&mut self, no: ContractNo) {
        if let Some(process) = self.processes.get_mut(&no) {
            process.is_paused = true;
        }
    }

    /// Ends an order's workload.
    pub fn end(&mut self, no: ContractNo) {
        if let Some(process) = self.processes.remove(&no) {
            self.remove_files(process.pid);
        }
    }

    /// The process of an order dies and another one takes its place, with counters that begin anew.
    pub fn replace(&mut self, choice: usize) {
        self.starttime += 10;
        let (starttime, count) = (self.starttime, self.processes.len().max(1));
        if let Some(process) = self.processes.values_mut().nth(choice % count) {
            (process.starttime, process.ticks, process.rest) = (starttime, 0, 0);
            self.is_written = false;
        }
    }

    /// What an order has truly used, ns of CPU.
    pub fn truth_ns(&self, no: ContractNo) -> u128 {
        u128::from(self.truth.get(&no).copied().unwrap_or(0)) * u128::from(TICK_NS)
    }

    fn remove_files(&self, pid: u32) {
        fs::remove_dir_all(self.root.join(format!("proc/{pid}"))).ok();
    }
}
