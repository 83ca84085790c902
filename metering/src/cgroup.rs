//! One cgroup's counters. Which hierarchies exist is `hierarchy.rs`; making cgroups is `place.rs`; the texts are `disk.rs` and
//! `file.rs`.
//!
//! CPU is exact and hierarchical in both generations. Memory includes page cache first touched here. Block IO is read
//! from version 2 only: version 1 counts nothing until a throttle rule was once set, charges late writeback to the root, and
//! falls back to zero when a child is removed, so that no check at the start makes it a meter. Time throttled and stalled and
//! the number of processes are read with every tenth sample, and whenever a window or the order ends.

use std::{os::fd::OwnedFd, path::PathBuf, sync::Arc};

use hufu_trade::{quality::Quality, resource::Kind};

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

/// How much of a source is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What is billed.
    Usage,
    /// The quality delivered, too.
    All,
}

/// What a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// `cpuacct.usage`: ns.
    Cpuacct,
    /// `cpu.stat` of version 2: `usage_usec`, and `throttled_usec` where the cpu controller is on.
    CpuStat,
    /// `cpu.stat` of version 2 where CPU is read from version 1: `throttled_usec` alone.
    ThrottledUsec,
    /// `cpu.stat` of version 1: `throttled_time`, ns.
    Throttled,
    /// Bytes charged now.
    Memory,
    /// `io.stat`.
    Io,
    /// `*.pressure`.
    Pressure(Quality),
    /// `pids.current`.
    Processes,
}

/// A file of the cgroup and what is read from it.
#[derive(Debug)]
struct Source {
    content: Content,
    kept: Kept,
}

/// A cgroup whose files are open, or whose directories are.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
    usage: Vec<Source>,
    quality: Vec<Source>,
    no_io: &'static str,
    instance: u64,
    keeps_files: bool,
}

/// A directory of the cgroup in one hierarchy.
struct Directory {
    path: PathBuf,
    open: Option<Arc<OwnedFd>>,
}

impl Directory {
    fn find(path: PathBuf, keep_files: bool) -> Result<Option<Self>, Error> {
        if keep_files {
            return Ok(path.is_dir().then_some(Self { path, open: None }));
        }
        Ok(file::open_directory(&path)?.map(|open| Self { path, open: Some(open) }))
    }

    fn source(&self, name: &'static str, content: Content) -> Result<Option<Source>, Error> {
        let path = self.path.join(name);
        let kept = match &self.open {
            None => Kept::open(&path)?,
            Some(open) => {
                let is_there = file::is_below(open, name).map_err(Error::unreadable(&path))?;
                is_there.then(|| Kept::Below(Arc::clone(open), name))
            }
        };
        Ok(kept.map(|kept| Source { content, kept }))
    }
}

impl Cgroup {
    /// Opens the cgroup at `path` below its mounts. With `keep_files` its files stay open: the fastest to read, and the
    /// heaviest for the kernel; else only its directories do.
    ///
    /// # Errors
    /// [`Error::UnknownCgroup`] when no hierarchy has it; [`Error::Unreadable`] when its files may not be read.
    pub fn open(hierarchies: &Hierarchies, path: &str, keep_files: bool) -> Result<Self, Error> {
        let path = path.trim_matches('/');
        if path.split('/').any(|part| part == "..") {
            return Err(Error::BadName { name: path.to_owned() });
        }
        let below = |mount: Option<PathBuf>| match mount {
            Some(mount) => Directory::find(mount.join(path), keep_files),
            None => Ok(None),
        };
        let v2 = below(hierarchies.v2())?;
        let source = |directory: Option<&Directory>, name, content| match directory {
            Some(directory) => directory.source(name, content),
            None => Ok(None),
        };
        let either = |v1: Option<&Directory>, old, now, content| match source(v1, old, content)? {
            Some(source) => Ok(Some(source)),
            None => source(v2.as_ref(), now, content),
        };
        let (cpuacct, memory) = (below(hierarchies.v1("cpuacct"))?, below(hierarchies.v1("memory"))?);
        let in_v1 = source(cpuacct.as_ref(), "cpuacct.usage", Content::Cpuacct)?;
        let cpu_in_v1 = in_v1.is_some();
        let cpu = match in_v1 {
            Some(cpu) => Some(cpu),
            None => source(v2.as_ref(), "cpu.stat", Content::CpuStat)?,
        };
        let memory_now = either(memory.as_ref(), "memory.usage_in_bytes", "memory.current", Content::Memory)?;
        let home = match (cpu_in_v1, &cpu) {
            (true, _) => cpuacct.as_ref(),
            (false, Some(_)) => v2.as_ref(),
            (false, None) => memory.as_ref().or(v2.as_ref()),
        };
        let instance = home.and_then(|home| file::inode(&home.path));
        let Some(instance) = instance.filter(|_| cpu.is_some() || memory_now.is_some()) else {
            return Err(Error::UnknownCgroup { path: path.to_owned() });
        };
        let io = source(v2.as_ref(), "io.stat", Content::Io)?;
        let (limits, pids) = (below(hierarchies.v1("cpu"))?, below(hierarchies.v1("pids"))?);
        let throttled = match (source(limits.as_ref(), "cpu.stat", Content::Throttled)?, cpu_in_v1) {
            (None, true) => source(v2.as_ref(), "cpu.stat", Content::ThrottledUsec)?,
            (found, _) => found,
        };
        let processes = either(pids.as_ref(), "pids.current", "pids.current", Content::Processes)?;
        let pressure = |name, quality| source(v2.as_ref(), name, Content::Pressure(quality));
        let quality = [
            throttled,
            processes,
            pressure("cpu.pressure", Quality::CpuStalled)?,
            pressure("memory.pressure", Quality::MemoryStalled)?,
            pressure("io.pressure", Quality::IoStalled)?,
        ];
        Ok(Self {
            path: path.to_owned(),
            no_io: if hierarchies.v1("blkio").is_some() { V1_IO } else { NO_V2_IO },
            usage: [cpu, memory_now, io].into_iter().flatten().collect(),
            quality: quality.into_iter().flatten().collect(),
            instance,
            keeps_files: keep_files,
        })
    }

    /// Inode of the directory whose CPU (or, lacking that, memory) is read.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// Whether its files stay open.
    pub(crate) fn keeps_files(&self) -> bool {
        self.keeps_files
    }

    /// Reads all counters; no allocation.
    ///
    /// # Errors
    /// [`Error::Gone`] when the cgroup was removed, also if another of the same name stands in its place.
    pub(crate) fn read(&self, buffer: &mut [u8], disks: &mut Disks, depth: Depth) -> Result<Sample, Error> {
        let mut sample = Sample::default();
        if !self.usage.iter().any(|source| source.content == Content::Io) {
            set_io(&mut sample, Err(self.no_io));
        }
        // Quality first: what is read last is the reading's time, and that is usage.
        let quality = if depth == Depth::All { self.quality.as_slice() } else { &[] };
        for source in quality {
            match source.kept.read(buffer) {
                Text::Bytes(text) => source.content.set(&mut sample, text, disks),
                // A controller may be switched off; whether the cgroup is gone, its usage tells.
                Text::Gone => source.content.miss(&mut sample, "its file is gone"),
                Text::Missing(why) => source.content.miss(&mut sample, why),
            }
        }
        for source in &self.usage {
            match source.kept.read(buffer) {
                Text::Bytes(text) => source.content.set(&mut sample, text, disks),
                Text::Gone => return Err(Error::Gone { what: self.path.clone() }),
                Text::Missing(why) => source.content.miss(&mut sample, why),
            }
        }
        Ok(sample)
    }
}

impl Content {
    /// Puts what a file says into a sample.
    fn set(self, sample: &mut Sample, text: &[u8], disks: &mut Disks) {
        match self {
            Self::Cpuacct => sample.set(Kind::Cpu, file::raw(file::single(text))),
            Self::Memory => sample.set(Kind::Memory, file::raw(file::single(text))),
            Self::Processes => sample.set_processes(file::raw(file::single(text))),
            Self::Io => set_io(sample, disks.io_stat(text).ok_or("io.stat holds unexpected text")),
            Self::Throttled => {
                sample.set_quality(Quality::CpuThrottled, file::raw(file::keyed(text, b"throttled_time")));
            }
            Self::CpuStat => {
                sample.set(Kind::Cpu, file::raw(usage_usec(text)));
                set_throttled_usec(sample, text);
            }
            Self::ThrottledUsec => set_throttled_usec(sample, text),
            Self::Pressure(quality) => sample.set_quality(quality, file::raw(stalled_ns(text))),
        }
    }

    /// Puts the reason for a value's absence into a sample.
    fn miss(self, sample: &mut Sample, why: &'static str) {
        match self {
            Self::Cpuacct | Self::CpuStat => sample.set(Kind::Cpu, Raw::Missing(why)),
            Self::Memory => sample.set(Kind::Memory, Raw::Missing(why)),
            Self::Processes => sample.set_processes(Raw::Missing(why)),
            Self::Io => set_io(sample, Err(why)),
            Self::Throttled | Self::ThrottledUsec => sample.set_quality(Quality::CpuThrottled, Raw::Missing(why)),
            Self::Pressure(quality) => sample.set_quality(quality, Raw::Missing(why)),
        }
    }
}

/// Without the cpu controller `cpu.stat` has no such line.
fn set_throttled_usec(sample: &mut Sample, text: &[u8]) {
    if let Some(usec) = file::keyed(text, b"throttled_usec") {
        sample.set_quality(Quality::CpuThrottled, file::raw(usec.checked_mul(1000)));
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

/// `some avg10=.. avg60=.. avg300=.. total=N` of a pressure file, N in microseconds: in ns.
fn stalled_ns(text: &[u8]) -> Option<u64> {
    let mut words = file::words(file::lines(text).next()?);
    if words.next()? != b"some" {
        return None;
    }
    let total = words.find_map(|word| word.strip_prefix(b"total="))?;
    file::number(total)?.checked_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_the_total_of_some() {
        for (text, want) in [
            ("some avg10=0.00 avg60=0.00 avg300=0.00 total=17\nfull avg10=0.00 total=9\n", Some(17_000)),
            ("some total=0\n", Some(0)),
            ("full avg10=0.00 total=9\n", None),
            ("some avg10=0.00\n", None),
            ("some total=-1\n", None),
            ("some total=18446744073709551615\n", None),
            ("", None),
        ] {
            assert_eq!(stalled_ns(text.as_bytes()), want, "{text:?}");
        }
    }
}
