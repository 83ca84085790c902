//! What the agent itself costs: its processor time, memory, threads and writes, from `/proc/self` and its own cgroup. Read at
//! the edges of windows, from files that stay open; never a part of an order's figures, for orders do not live where the agent
//! does: [`holds_self`] is asked before one is metered.

use std::path::{Path, PathBuf};

use crate::{
    Error,
    file::{self, Kept, Text},
    hierarchy::Hierarchies,
    sample::Raw,
};

/// The agent's cost at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnSample {
    /// Processor time of all its threads since it began, ns; to the clock tick.
    pub cpu_ns: Raw,
    /// Resident memory, bytes.
    pub resident_bytes: Raw,
    /// Memory that the kernel holds for its cgroup: open files, sockets, page tables; bytes.
    pub kernel_bytes: Raw,
    /// Bytes it had written to disks: itself, where it may look, else its cgroup.
    pub written_bytes: Raw,
    /// Threads.
    pub threads: Raw,
}

/// The agent's files, open.
#[derive(Debug)]
pub struct Own {
    stat: Option<Kept>,
    io: Option<Kept>,
    kernel: Result<Kernel, &'static str>,
    cgroup_io: Option<Kept>,
    page_bytes: u64,
    tick_ns: u64,
}

#[derive(Debug)]
enum Kernel {
    /// `memory.stat` of version 2.
    Stat(Kept),
    /// `memory.kmem.usage_in_bytes` of version 1.
    Usage(Kept),
}

const NO_GROUP: &str = "the agent has no cgroup of its own";
const NO_KERNEL: &str = "its cgroup does not count what the kernel holds for it";

impl Own {
    /// Opens what there is of the calling process, below `root`.
    ///
    /// # Errors
    /// [`Error::Unreadable`] for a file that exists and cannot be opened, but for those that a process without a dump may not
    /// look into.
    pub fn open(hierarchies: &Hierarchies) -> Result<Self, Error> {
        let process = hierarchies.root().join("proc/self");
        let paths = own_paths(hierarchies.root());
        let group = |mount: Option<PathBuf>, controller: &str| {
            let path = paths.iter().find(|(names, _)| names.split(',').any(|name| name == controller))?.1.clone();
            // The root cgroup is everybody's.
            if path.is_empty() { None } else { Some(mount?.join(path)) }
        };
        let (v2, memory) = (group(hierarchies.v2(), ""), group(hierarchies.v1("memory"), "memory"));
        let open = |directory: &Option<PathBuf>, name: &str| {
            directory.as_ref().and_then(|directory| Kept::open(&directory.join(name)).ok().flatten())
        };
        let kernel = match (open(&v2, "memory.stat"), open(&memory, "memory.kmem.usage_in_bytes")) {
            (_, Some(usage)) => Ok(Kernel::Usage(usage)),
            (Some(stat), None) => Ok(Kernel::Stat(stat)),
            (None, None) if v2.is_none() && memory.is_none() => Err(NO_GROUP),
            (None, None) => Err(NO_KERNEL),
        };
        Ok(Self {
            stat: Kept::open(&process.join("stat"))?,
            // Not the process's own where it leaves no core files.
            io: Kept::open(&process.join("io")).unwrap_or_default(),
            kernel,
            cgroup_io: open(&v2, "io.stat"),
            page_bytes: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
            tick_ns: 1_000_000_000_u64.checked_div(rustix::param::clock_ticks_per_second()).unwrap_or(10_000_000),
        })
    }

    /// Reads all of them; no allocation.
    pub fn read(&self, buffer: &mut [u8]) -> OwnSample {
        let stat = text(self.stat.as_ref(), buffer, |text| Stat::read(text, self.tick_ns, self.page_bytes));
        let of = |pick: fn(&Stat) -> u64| match &stat {
            Ok(stat) => Raw::Value(pick(stat)),
            Err(why) => Raw::Missing(why),
        };
        let kernel = match &self.kernel {
            Ok(Kernel::Usage(kept)) => text(Some(kept), buffer, file::single),
            Ok(Kernel::Stat(kept)) => text(Some(kept), buffer, kernel_of),
            Err(why) => Err(*why),
        };
        let written = text(self.io.as_ref(), buffer, |text| file::keyed(text, b"write_bytes"));
        let written = written.or_else(|_| text(self.cgroup_io.as_ref(), buffer, written_of));
        OwnSample {
            cpu_ns: of(|stat| stat.cpu_ns),
            resident_bytes: of(|stat| stat.resident_bytes),
            kernel_bytes: raw(kernel),
            written_bytes: raw(written),
            threads: of(|stat| stat.threads),
        }
    }
}

fn raw(read: Result<u64, &'static str>) -> Raw {
    read.map_or_else(Raw::Missing, Raw::Value)
}

fn text<T>(kept: Option<&Kept>, buffer: &mut [u8], parse: impl Fn(&[u8]) -> Option<T>) -> Result<T, &'static str> {
    match kept.map(|kept| kept.read(buffer)) {
        None => Err("its file is not there, or nobody may look"),
        Some(Text::Bytes(text)) => parse(text).ok_or("its file holds unexpected text"),
        Some(Text::Gone) => Err("its file is gone"),
        Some(Text::Missing(why)) => Err(why),
    }
}

/// Of `/proc/self/stat`.
struct Stat {
    cpu_ns: u64,
    resident_bytes: u64,
    threads: u64,
}

impl Stat {
    /// Fields by number, proc_pid_stat(5); the name in field 2 may hold blanks and brackets.
    fn read(text: &[u8], tick_ns: u64, page_bytes: u64) -> Option<Self> {
        let name_end = text.iter().rposition(|byte| *byte == b')')?;
        let fields = text.get(name_end + 1..)?;
        let field = |number: usize| file::number(file::words(fields).nth(number.checked_sub(3)?)?);
        Some(Self {
            cpu_ns: field(14)?.checked_add(field(15)?)?.checked_mul(tick_ns)?,
            threads: field(20)?,
            resident_bytes: field(24)?.checked_mul(page_bytes)?,
        })
    }
}

/// What the kernel holds for a cgroup of version 2: one sum since Linux 5.18, its parts before.
fn kernel_of(text: &[u8]) -> Option<u64> {
    let parts = [&b"slab"[..], b"kernel_stack", b"pagetables", b"percpu", b"sock"];
    file::keyed(text, b"kernel").or_else(|| {
        let mut known = parts.into_iter().filter_map(|key| file::keyed(text, key));
        file::keyed(text, b"slab")?;
        known.try_fold(0_u64, u64::checked_add)
    })
}

/// `wbytes` over all devices of a cgroup's `io.stat`; stacked devices count what lies below them again.
fn written_of(text: &[u8]) -> Option<u64> {
    let words = file::lines(text).flat_map(file::words).filter_map(|word| word.strip_prefix(b"wbytes="));
    words.map(file::number).try_fold(0_u64, |sum, bytes| sum.checked_add(bytes?))
}

/// Controllers and path of each cgroup of the calling process; those of version 2 have no controllers.
fn own_paths(root: &Path) -> Vec<(String, String)> {
    let text = file::read_once(&root.join("proc/self/cgroup")).unwrap_or_default();
    let path = |line: &[u8]| {
        let line = str::from_utf8(line).ok()?;
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some((controllers.to_owned(), path.trim_matches('/').to_owned()))
    };
    file::lines(&text).filter_map(path).collect()
}

/// Whether the calling process lives in a cgroup or below it, in any hierarchy: metered, it would bill the agent's work to
/// whoever bought the cgroup.
#[must_use]
pub fn holds_self(root: &Path, path: &str) -> bool {
    let path = path.trim_matches('/');
    own_paths(root).iter().any(|(_, own)| {
        let below = own.strip_prefix(path);
        path.is_empty() || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(cgroup: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("proc/self/mountinfo", "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        put("proc/self/cgroup", cgroup);
        put("proc/self/stat", "7 (a) b) S 1 7 7 0 -1 0 1 2 3 4 120 30 8 9 20 0 5 0 99 1000 250 1\n");
        put("sys/fs/cgroup/system.slice/hufu.service/memory.stat", "anon 1\nslab 4096\nkernel 12288\n");
        put("sys/fs/cgroup/system.slice/hufu.service/io.stat", "254:0 rbytes=1 wbytes=4096 rios=1\n8:0 wbytes=512\n");
        root
    }

    #[test]
    fn the_agents_cost_is_read_from_its_process_and_its_cgroup() {
        let root = tree("0::/system.slice/hufu.service\n");
        let own = Own::open(&Hierarchies::detect(root.path()).unwrap()).unwrap();
        let mut buffer = vec![0; file::BUFFER_BYTES];
        let page = u64::try_from(rustix::param::page_size()).unwrap();
        let want = OwnSample {
            cpu_ns: Raw::Value(1_500_000_000),
            resident_bytes: Raw::Value(250 * page),
            kernel_bytes: Raw::Value(12_288),
            written_bytes: Raw::Value(4608),
            threads: Raw::Value(5),
        };
        assert_eq!(own.read(&mut buffer), want);
        std::fs::write(root.path().join("proc/self/io"), "rchar: 1\nwrite_bytes: 77\n").unwrap();
        std::fs::write(root.path().join("proc/self/stat"), "garbage").unwrap();
        let own = Own::open(&Hierarchies::detect(root.path()).unwrap()).unwrap();
        let found = own.read(&mut buffer);
        assert_eq!(
            (found.written_bytes, found.cpu_ns),
            (Raw::Value(77), Raw::Missing("its file holds unexpected text"))
        );
    }

    #[test]
    fn in_the_root_cgroup_the_kernels_memory_is_nobodys() {
        let root = tree("0::/\n");
        let own = Own::open(&Hierarchies::detect(root.path()).unwrap()).unwrap();
        let found = own.read(&mut vec![0; file::BUFFER_BYTES]);
        assert_eq!(found.kernel_bytes, Raw::Missing(NO_GROUP));
        assert!(matches!(found.written_bytes, Raw::Missing(_)));
    }

    #[test]
    fn sums_of_the_kernels_memory_before_linux_5_18() {
        for (text, want) in [
            (&b"kernel 10\nslab 3\n"[..], Some(10)),
            (b"slab 3\nkernel_stack 4\npagetables 5\n", Some(12)),
            (b"anon 3\n", None),
            (b"slab 18446744073709551615\nsock 1\n", None),
        ] {
            assert_eq!(kernel_of(text), want, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_cgroup_around_the_agent_is_known_in_every_hierarchy() {
        let root = tree("5:cpu,cpuacct:/user\n0::/system.slice/hufu.service\n");
        for (path, want) in [
            ("system.slice/hufu.service", true),
            ("/system.slice/", true),
            ("user", true),
            ("", true),
            ("/", true),
            ("system.slice/hufu", false),
            ("system", false),
            ("system.slice/hufu.service/below", false),
            ("hufu-orders/a", false),
        ] {
            assert_eq!(holds_self(root.path(), path), want, "{path:?}");
        }
        assert!(!holds_self(&root.path().join("absent"), "a"));
    }

    #[test]
    fn the_real_process_is_read_without_a_gap() {
        let hierarchies = Hierarchies::detect(Path::new("/")).unwrap();
        let found = Own::open(&hierarchies).unwrap().read(&mut vec![0; file::BUFFER_BYTES]);
        assert!(matches!(found.resident_bytes, Raw::Value(bytes) if bytes > 100_000), "{found:?}");
        assert!(matches!(found.threads, Raw::Value(1..)), "{found:?}");
    }
}
