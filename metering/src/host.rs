//! The host's own totals: what all orders together cannot exceed. Files stay open; no allocation once devices are known.

use std::path::{Path, PathBuf};

use crate::{
    Error,
    cgroup::usage_usec,
    disk::{Disks, Io},
    file::{self, Kept, Text},
    hierarchy::Hierarchies,
    order::Stolen,
    sample::Raw,
    window::KEPT_ORDERS,
};

/// Host totals at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSample {
    /// CPU time of everything, ns.
    pub cpu_ns: Raw,
    /// Memory in use, page cache included, bytes.
    pub memory_used: Raw,
    /// Bytes read from real block devices.
    pub disk_read: Raw,
    /// Bytes written to real block devices.
    pub disk_write: Raw,
    /// Read operations on real block devices.
    pub disk_read_ops: Raw,
    /// Write operations on real block devices.
    pub disk_write_ops: Raw,
    /// Bytes received by real network interfaces.
    pub net_rx: Raw,
    /// Bytes sent by real network interfaces.
    pub net_tx: Raw,
}

#[derive(Debug)]
enum Cpu {
    /// The root cgroup's `cpuacct.usage`: the same clock as the orders', in ns.
    Cpuacct(Kept),
    /// The root cgroup's `cpu.stat`.
    Stat(Kept),
    /// `/proc/stat`, ticks.
    Proc(Kept),
}

/// The host's files, open.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    cpu: Option<Cpu>,
    stat: Option<Kept>,
    online: Option<Kept>,
    meminfo: Option<Kept>,
    diskstats: Option<Kept>,
    netdev: Option<Kept>,
    interfaces: Vec<(Vec<u8>, bool)>,
    tick_ns: u64,
    kept_orders: usize,
}

impl Host {
    /// Opens what there is.
    ///
    /// # Errors
    /// [`Error::Unreadable`] for a file that exists and cannot be opened.
    pub fn open(hierarchies: &Hierarchies) -> Result<Self, Error> {
        let root = hierarchies.root();
        let open = |directory: Option<PathBuf>, name: &str| match directory {
            Some(directory) => Kept::open(&directory.join(name)),
            None => Ok(None),
        };
        let cpu = match open(hierarchies.v1("cpuacct"), "cpuacct.usage")?.map(Cpu::Cpuacct) {
            Some(cpu) => Some(cpu),
            None => match open(hierarchies.v2(), "cpu.stat")?.map(Cpu::Stat) {
                Some(cpu) => Some(cpu),
                None => Kept::open(&root.join("proc/stat"))?.map(Cpu::Proc),
            },
        };
        Ok(Self {
            root: root.to_owned(),
            cpu,
            stat: Kept::open(&root.join("proc/stat"))?,
            online: Kept::open(&root.join("sys/devices/system/cpu/online"))?,
            meminfo: Kept::open(&root.join("proc/meminfo"))?,
            diskstats: Kept::open(&root.join("proc/diskstats"))?,
            netdev: Kept::open(&root.join("proc/net/dev"))?,
            interfaces: Vec::new(),
            kept_orders: kept_orders(root),
            tick_ns: 1_000_000_000_u64.checked_div(rustix::param::clock_ticks_per_second()).unwrap_or(10_000_000),
        })
    }

    /// Number of CPUs online; at least 1.
    pub(crate) fn cpus(&self, buffer: &mut [u8]) -> u32 {
        let online = self.online.as_ref().and_then(|kept| match kept.read(buffer) {
            Text::Bytes(text) => cpu_list(text),
            _ => None,
        });
        online.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
        })
    }

    /// CPU time of everything since boot, ns.
    pub(crate) fn cpu_ns(&self, buffer: &mut [u8]) -> Raw {
        match &self.cpu {
            None => Raw::Missing("no host CPU counter"),
            Some(Cpu::Cpuacct(kept)) => parse(kept, buffer, file::single),
            Some(Cpu::Stat(kept)) => parse(kept, buffer, usage_usec),
            Some(Cpu::Proc(kept)) => {
                let tick_ns = self.tick_ns;
                parse(kept, buffer, |text| proc_stat(text)?.checked_mul(tick_ns))
            }
        }
    }

    /// So many orders may keep their files open.
    pub(crate) fn kept_orders(&self) -> usize {
        self.kept_orders
    }

    /// Memory there is, bytes: no order holds more.
    pub(crate) fn memory_bytes(&self, buffer: &mut [u8]) -> Option<u64> {
        let total = |text: &[u8]| file::keyed(text, b"MemTotal")?.checked_mul(1024);
        self.meminfo.as_ref().and_then(|kept| parse(kept, buffer, total).value())
    }

    /// CPU time that the hypervisor took from this host since boot, ns.
    fn stolen_ns(&self, buffer: &mut [u8]) -> Raw {
        let tick_ns = self.tick_ns;
        self.stat.as_ref().map_or(Raw::Missing("no /proc/stat"), |kept| {
            parse(kept, buffer, |text| proc_stat_steal(text)?.checked_mul(tick_ns))
        })
    }

    /// What was stolen, with the CPU time it is to be compared with.
    pub(crate) fn stolen(&self, buffer: &mut [u8]) -> Result<Stolen, &'static str> {
        match (self.stolen_ns(buffer), self.cpu_ns(buffer)) {
            (Raw::Value(stolen_ns), Raw::Value(used_ns)) => Ok(Stolen { stolen_ns, used_ns }),
            (Raw::Missing(why), _) | (_, Raw::Missing(why)) => Err(why),
        }
    }

    /// Reads all of them.
    pub(crate) fn read(&mut self, buffer: &mut [u8], disks: &mut Disks) -> HostSample {
        let cpu_ns = self.cpu_ns(buffer);
        let memory_used =
            self.meminfo.as_ref().map_or(Raw::Missing("no meminfo"), |kept| parse(kept, buffer, memory_used));
        let io = match self.diskstats.as_ref().map(|kept| kept.read_lines(buffer)) {
            Some(Text::Bytes(text)) => disks.diskstats(text),
            _ => None,
        };
        let net = match self.netdev.as_ref().map(|kept| kept.read_lines(buffer)) {
            Some(Text::Bytes(text)) => net_dev(&self.root, &mut self.interfaces, text),
            _ => None,
        };
        let disk = |pick: fn(Io) -> u64| io.map_or(Raw::Missing("no diskstats"), |io| Raw::Value(pick(io)));
        let network =
            |pick: fn((u64, u64)) -> u64| net.map_or(Raw::Missing("no network counters"), |net| Raw::Value(pick(net)));
        HostSample {
            cpu_ns,
            memory_used,
            disk_read: disk(|io| io.rbytes),
            disk_write: disk(|io| io.wbytes),
            disk_read_ops: disk(|io| io.rios),
            disk_write_ops: disk(|io| io.wios),
            net_rx: network(|net| net.0),
            net_tx: network(|net| net.1),
        }
    }
}

/// [`KEPT_ORDERS`], or what half of this process's descriptors are enough for: the other half is for directories, and for the agent.
fn kept_orders(root: &Path) -> usize {
    const FILES_AN_ORDER: u64 = 8;
    let limits = file::read_once(&root.join("proc/self/limits")).unwrap_or_default();
    let files = file::lines(&limits).find_map(|line| line.strip_prefix(b"Max open files"));
    // Not told, or "unlimited".
    let most = files.and_then(|rest| file::number(file::words(rest).next()?)).unwrap_or(u64::MAX);
    usize::try_from(most / 2 / FILES_AN_ORDER).map_or(KEPT_ORDERS, |orders| orders.min(KEPT_ORDERS))
}

fn parse(kept: &Kept, buffer: &mut [u8], parse: impl Fn(&[u8]) -> Option<u64>) -> Raw {
    match kept.read(buffer) {
        Text::Bytes(text) => file::raw(parse(text)),
        Text::Gone => Raw::Missing("its file is gone"),
        Text::Missing(why) => Raw::Missing(why),
    }
}

/// `0-3,5`: how many.
pub(crate) fn cpu_list(text: &[u8]) -> Option<u32> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut count = 0_u64;
    for range in text.split(|byte| *byte == b',') {
        let mut ends = range.splitn(2, |byte| *byte == b'-');
        let first = file::number(ends.next()?)?;
        let last = ends.next().map_or(Some(first), file::number)?;
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    u32::try_from(count).ok()
}

/// Busy ticks of the `cpu` line: user (which holds guest), nice, system, irq, softirq. Idle, iowait and steal are not use.
fn proc_stat(text: &[u8]) -> Option<u64> {
    let mut words = file::words(file::lines(text).next()?);
    if words.next()? != b"cpu" {
        return None;
    }
    let mut fields = [0_u64; 7];
    for (field, word) in fields.iter_mut().zip(words) {
        *field = file::number(word)?;
    }
    let [user, nice, system, _, _, irq, softirq] = fields;
    [nice, system, irq, softirq].into_iter().try_fold(user, u64::checked_add)
}

/// Ticks of the `cpu` line's eighth field.
fn proc_stat_steal(text: &[u8]) -> Option<u64> {
    let mut words = file::words(file::lines(text).next()?);
    if words.next()? != b"cpu" {
        return None;
    }
    file::number(words.nth(7)?)
}

/// MemTotal - MemFree, bytes.
fn memory_used(text: &[u8]) -> Option<u64> {
    file::keyed(text, b"MemTotal")?.checked_sub(file::keyed(text, b"MemFree")?)?.checked_mul(1024)
}

/// Received and sent bytes over interfaces with a device behind them: bridges, bonds, VLANs and veths count the same packet
/// again.
fn net_dev(root: &Path, known: &mut Vec<(Vec<u8>, bool)>, text: &[u8]) -> Option<(u64, u64)> {
    let mut sum = (0_u64, 0_u64);
    for line in file::lines(text).skip(2) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = file::words(line.get(..colon)?).next()?;
        let mut words = file::words(line.get(colon + 1..)?);
        let (rx, tx) = (file::number(words.next()?)?, file::number(words.nth(7)?)?);
        let counts = match known.iter().find(|interface| interface.0 == name) {
            Some((_, counts)) => *counts,
            None => {
                let directory = root.join("sys/class/net").join(String::from_utf8_lossy(name).as_ref());
                let counts = directory.join("device").exists();
                known.push((name.to_vec(), counts));
                counts
            }
        };
        if counts {
            sum = (sum.0.checked_add(rx)?, sum.1.checked_add(tx)?);
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_counted() {
        for (text, want) in [
            ("0\n", Some(1)),
            ("0-3\n", Some(4)),
            ("0-1,4,6-7", Some(5)),
            ("", None),
            ("3-1", None),
            ("0-", None),
            ("0-99999999999", None),
        ] {
            assert_eq!(cpu_list(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn host_files_are_summed_over_real_devices() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v2");
        let hierarchies = Hierarchies::detect(&root).unwrap();
        let mut host = Host::open(&hierarchies).unwrap();
        let mut buffer = vec![0; file::BUFFER_BYTES];
        let found = host.read(&mut buffer, &mut Disks::new(&root));
        assert_eq!(found.cpu_ns, Raw::Value(90_000_000_000));
        assert_eq!((found.disk_read, found.disk_write), (Raw::Value(40960 * 512), Raw::Value(20480 * 512)));
        assert_eq!((found.disk_read_ops, found.disk_write_ops), (Raw::Value(500), Raw::Value(300)));
        assert_eq!((found.net_rx, found.net_tx), (Raw::Value(7_000_000), Raw::Value(3_000_000)));
    }

    #[test]
    fn where_few_files_may_be_open_fewer_orders_keep_theirs() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
        for (text, want) in [
            (
                "Limit  Soft  Hard  Units\nMax open files            1024                 524288               files     \n",
                64,
            ),
            ("Max open files            4096                 4096                 files     \n", 256),
            ("Max open files            unlimited            unlimited            files     \n", 256),
            ("Max processes             10                   10                   processes \n", 256),
        ] {
            std::fs::write(root.path().join("proc/self/limits"), text).unwrap();
            assert_eq!(kept_orders(root.path()), want, "{text}");
        }
        assert_eq!(kept_orders(Path::new("/nowhere")), 256);
    }

    #[test]
    fn busy_ticks_leave_out_idle_iowait_and_steal() {
        assert_eq!(proc_stat(b"cpu  1 2 4 1000 2000 8 16 4000 0 0\ncpu0 1\n"), Some(31));
        assert_eq!(proc_stat(b"intr 1\n"), None);
        assert_eq!(proc_stat_steal(b"cpu  1 2 4 1000 2000 8 16 4000 0 0\ncpu0 1\n"), Some(4000));
        // Kernels before 2.6.11 had no such field.
        assert_eq!(proc_stat_steal(b"cpu  1 2 4 1000 2000 8 16\n"), None);
    }
}
