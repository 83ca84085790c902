//! Counters of a cgroup's traffic: attached once, found again by whoever comes later, taken off. Works in every process that has
//! the right to; the system calls themselves are `bpf.rs`, reading is [`Counters`].
//!
//! The programs live in the kernel as long as their cgroup, whoever attached them may die. They are found by asking the cgroup for
//! its programs, and never attached twice.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

pub use crate::bpf::{Counters, Traffic};
use crate::{
    Error,
    bpf::{self, Hook},
    hierarchy::Hierarchies,
};

/// Two who attach at once agree after two rounds; more says that somebody works against us.
const ROUNDS_MAX: usize = 8;

/// A program of ours on a hook, and the map it counts in.
struct Found {
    program: OwnedFd,
    map: u32,
}

/// Our programs on a hook of a cgroup: those of our name, whose instructions are ours, too.
fn ours(cgroup: BorrowedFd<'_>, hook: Hook) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for id in bpf::programs(cgroup, hook)? {
        let program = match bpf::open_program(id) {
            Ok(program) => program,
            // Detached and gone since it was listed.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOENT.raw_os_error()) => continue,
            Err(error) => return Err(error),
        };
        let (info, map) = bpf::inspect(program.as_fd())?;
        if info.name != hook.name() {
            continue;
        }
        let stranger = || io::Error::other("a program of our name with other instructions or another map is attached");
        let map = map.ok_or_else(stranger)?;
        let (fd, is_ours) = bpf::open_map(map)?;
        if !is_ours || bpf::inspect(bpf::load(fd.as_fd(), hook)?.as_fd())?.0.tag != info.tag {
            return Err(stranger());
        }
        found.push(Found { program, map });
    }
    Ok(found)
}

fn refused(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Counters { doing, path, source }
}

fn open_directory(cgroup: &Path) -> Result<OwnedFd, Error> {
    File::open(cgroup).map(OwnedFd::from).map_err(refused("open", cgroup))
}

/// Attaches the counters to a cgroup of version 2, named by its full directory, or finds those that are there, and gives their
/// map: a descriptor to map it by. The map is frozen, nobody who holds it can write it. Needs `CAP_SYS_ADMIN` (to find) and `CAP_NET_ADMIN`.
///
/// # Errors
/// [`Error::Counters`] with what the kernel said: no right, no such support (`CONFIG_CGROUP_BPF`), a program above that
/// allows none below, or a stranger under our name.
pub fn attach(cgroup: &Path) -> Result<OwnedFd, Error> {
    let directory = open_directory(cgroup)?;
    let directory = directory.as_fd();
    for _ in 0..ROUNDS_MAX {
        let found = [ours(directory, Hook::Rx), ours(directory, Hook::Tx)];
        let [rx, tx] = found.map(|found| found.map_err(refused("look for", cgroup)));
        let found = [rx?, tx?];
        // Who attached at the same time as another one: the older map stays.
        let oldest = found.iter().flatten().map(|found| found.map).min();
        let map = match oldest {
            Some(id) => bpf::open_map(id).map_err(refused("open", cgroup))?.0,
            None => bpf::create_map().map_err(refused("make", cgroup))?,
        };
        let mut changed = false;
        for (hook, programs) in Hook::BOTH.into_iter().zip(&found) {
            for other in programs.iter().filter(|program| Some(program.map) != oldest) {
                bpf::detach_program(directory, other.program.as_fd(), hook).map_err(refused("detach", cgroup))?;
                changed = true;
            }
            if !programs.iter().any(|program| Some(program.map) == oldest) {
                let program = bpf::load(map.as_fd(), hook).map_err(refused("load", cgroup))?;
                bpf::attach_program(directory, program.as_fd(), hook).map_err(refused("attach", cgroup))?;
                changed = true;
            }
        }
        if !changed {
            return Ok(map);
        }
    }
    Err(refused("agree on", cgroup)(io::Error::other("somebody attaches and detaches them all the time")))
}

/// Takes our counters off a cgroup that stays; one that is gone took them along.
///
/// # Errors
/// [`Error::Counters`].
pub fn detach(cgroup: &Path) -> Result<(), Error> {
    let directory = match open_directory(cgroup) {
        Err(Error::Counters { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    for hook in Hook::BOTH {
        for found in ours(directory.as_fd(), hook).map_err(refused("look for", cgroup))? {
            bpf::detach_program(directory.as_fd(), found.program.as_fd(), hook).map_err(refused("detach", cgroup))?;
        }
    }
    Ok(())
}

/// Whether this process can attach counters to cgroups of version 2 here.
///
/// # Errors
/// [`Error::NoCgroups`] without version 2; [`Error::Counters`] as [`probe`].
pub fn available(hierarchies: &Hierarchies) -> Result<(), Error> {
    let none = || Error::NoCgroups { why: "cgroup version 2 is not mounted, beside version 1 neither".to_owned() };
    probe(&hierarchies.unified("/").ok_or_else(none)?)
}

/// Whether this process could attach counters below `mount`, a hierarchy of version 2: makes the map, loads the program, looks
/// at the hook. Nothing is attached, nothing stays.
///
/// # Errors
/// [`Error::Counters`] with what the kernel said.
pub fn probe(mount: &Path) -> Result<(), Error> {
    let directory = open_directory(mount)?;
    bpf::programs(directory.as_fd(), Hook::Tx).map_err(refused("look for", mount))?;
    let map = bpf::create_map().map_err(refused("make", mount))?;
    Hook::BOTH.into_iter().try_for_each(|hook| bpf::load(map.as_fd(), hook).map(drop).map_err(refused("load", mount)))
}
