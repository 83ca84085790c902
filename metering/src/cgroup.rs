//! One cgroup's counters, through files kept open. Which hierarchies exist is `hierarchy.rs`; making cgroups is `place.rs`.
//!
//! CPU is exact and hierarchical in both generations. Memory includes page cache first touched here. Block IO is read
//! from version 2 only: version 1 counts nothing until a throttle rule was once set, and charges late writeback to the root.

use std::path::PathBuf;

use hufu_trade::resource::Kind;

use crate::{
    Error,
    disk::{Disks, Io},
    file::{self, Kept, Text},
    hierarchy::Hierarchies,
    sample::{Raw, Sample},
};

const NO_V2_IO: &str = "no io.stat for this cgroup (io controller off or version 2 absent)";
const V1_IO: &str =
    "block IO of cgroup version 1 is not trusted: it reads zero until a throttle rule is set and misses late writeback";

/// How CPU time is read.
#[derive(Debug)]
enum Cpu {
    /// `cpuacct.usage`: ns.
    Cpuacct(Kept),
    /// `cpu.stat`: `usage_usec`.
    Stat(Kept),
}

/// A cgroup whose files are open.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
    cpu: Option<Cpu>,
    memory: Option<Kept>,
    io: Option<Kept>,
    no_io: &'static str,
    instance: u64,
}

impl Cgroup {
    /// Opens the cgroup at `path` below its mounts.
    ///
    /// # Errors
    /// [`Error::UnknownCgroup`] when no hierarchy has it; [`Error::Unreadable`] when its files may not be read.
    pub fn open(hierarchies: &Hierarchies, path: &str) -> Result<Self, Error> {
        let path = path.trim_matches('/');
        if path.split('/').any(|part| part == "..") {
            return Err(Error::BadName { name: path.to_owned() });
        }
        let v1 = |controller: &str| hierarchies.v1(controller).map(|mount| mount.join(path));
        let v2 = hierarchies.v2().map(|mount| mount.join(path));
        let open = |directory: Option<&PathBuf>, name: &str| match directory {
            Some(directory) => Kept::open(&directory.join(name)),
            None => Ok(None),
        };
        let (cpuacct, memory) = (v1("cpuacct"), v1("memory"));
        let mut home = None;
        let cpu = match open(cpuacct.as_ref(), "cpuacct.usage")? {
            Some(kept) => {
                home = cpuacct;
                Some(Cpu::Cpuacct(kept))
            }
            None => open(v2.as_ref(), "cpu.stat")?.map(Cpu::Stat),
        };
        let in_v1 = open(memory.as_ref(), "memory.usage_in_bytes")?;
        let in_v1_memory = in_v1.is_some();
        let memory_now = match in_v1 {
            Some(kept) => Some(kept),
            None => open(v2.as_ref(), "memory.current")?,
        };
        let io = open(v2.as_ref(), "io.stat")?;
        if home.is_none() && cpu.is_some() {
            home = v2;
        }
        if home.is_none() && in_v1_memory {
            home = memory;
        }
        let instance = home.as_deref().and_then(file::inode);
        let Some(instance) = instance.filter(|_| cpu.is_some() || memory_now.is_some()) else {
            return Err(Error::UnknownCgroup { path: path.to_owned() });
        };
        let no_io = if hierarchies.v1("blkio").is_some() { V1_IO } else { NO_V2_IO };
        Ok(Self { path: path.to_owned(), cpu, memory: memory_now, io, no_io, instance })
    }

    /// Inode of the directory whose CPU (or, lacking that, memory) is read.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// Reads all counters; no allocation.
    ///
    /// # Errors
    /// [`Error::Gone`] when the cgroup was removed, also if another of the same name stands in its place.
    pub(crate) fn read(&self, buffer: &mut [u8], disks: &mut Disks) -> Result<Sample, Error> {
        let mut sample = Sample::default();
        let gone = || Error::Gone { what: self.path.clone() };
        match &self.cpu {
            Some(Cpu::Cpuacct(kept)) => sample.set(Kind::Cpu, value(kept, buffer, file::single).ok_or_else(gone)?),
            Some(Cpu::Stat(kept)) => sample.set(Kind::Cpu, value(kept, buffer, usage_usec).ok_or_else(gone)?),
            None => {}
        }
        if let Some(kept) = &self.memory {
            sample.set(Kind::Memory, value(kept, buffer, file::single).ok_or_else(gone)?);
        }
        let io = match &self.io {
            None => Err(self.no_io),
            Some(kept) => match kept.read(buffer) {
                Text::Bytes(text) => disks.io_stat(text).ok_or("io.stat holds unexpected text"),
                Text::Gone => return Err(gone()),
                Text::Missing(why) => Err(why),
            },
        };
        set_io(&mut sample, io);
        Ok(sample)
    }
}

/// Puts block IO, or the reason for its absence, into a sample.
pub(crate) fn set_io(sample: &mut Sample, io: Result<Io, &'static str>) {
    let of = |pick: fn(&Io) -> u64| match &io {
        Ok(io) => Raw::Value(pick(io)),
        Err(why) => Raw::Missing(why),
    };
    sample.set(Kind::DiskRead, of(|io| io.rbytes));
    sample.set(Kind::DiskWrite, of(|io| io.wbytes));
    sample.set(Kind::DiskReadOps, of(|io| io.rios));
    sample.set(Kind::DiskWriteOps, of(|io| io.wios));
}

/// `usage_usec` of `cpu.stat`, in ns.
pub(crate) fn usage_usec(text: &[u8]) -> Option<u64> {
    file::keyed(text, b"usage_usec")?.checked_mul(1000)
}

/// What a kept file says; `None` when it is gone.
pub(crate) fn value(kept: &Kept, buffer: &mut [u8], parse: fn(&[u8]) -> Option<u64>) -> Option<Raw> {
    match kept.read(buffer) {
        Text::Bytes(text) => Some(file::raw(parse(text))),
        Text::Gone => None,
        Text::Missing(why) => Some(Raw::Missing(why)),
    }
}
