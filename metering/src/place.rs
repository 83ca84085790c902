//! An order's own cgroup directories, in every hierarchy that meters. The only thing this crate ever writes.
//!
//! A process enters by writing `0` to each of [`Place::procs_files`] and then executing its program: its first page and its
//! first nanosecond are then already counted. A process is never moved later, since its memory would stay behind.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Error, file, hierarchy::Hierarchies, sample::Target};

/// An order's place: its directories and how to enter them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Write `0` to each of these to enter.
    pub procs_files: Vec<PathBuf>,
    /// What to meter.
    pub target: Target,
    directories: Vec<PathBuf>,
    /// The directories above, and whether this value made them.
    parents: Vec<(PathBuf, bool)>,
}

/// Controllers of version 1 in which an order gets a directory; CPU and memory are needed, where they exist.
const V1: [&str; 4] = ["cpuacct", "memory", "blkio", "cpu"];

impl Place {
    /// Makes `<parent>/<name>` in all hierarchies that meter. The parent is made too if it is not there, and stays.
    ///
    /// # Errors
    /// [`Error::NoCgroups`] when nothing can count CPU; [`Error::Unwritable`] when a directory may not be made (then meter
    /// the process tree); [`Error::BadName`].
    pub fn make(hierarchies: &Hierarchies, parent: &str, name: &str) -> Result<Self, Error> {
        for part in parent.split('/').chain([name]) {
            check_name(part)?;
        }
        let v2 = hierarchies.v2();
        let cpuacct = hierarchies.v1("cpuacct");
        if cpuacct.is_none() && v2.is_none() {
            return Err(Error::NoCgroups { why: "neither cpuacct nor version 2 is mounted".to_owned() });
        }
        // Without these nothing is counted; blkio, cpu and a version 2 beside version 1 are welcome.
        let needed: Vec<PathBuf> = match (&cpuacct, &v2) {
            (None, Some(v2)) => vec![v2.clone()],
            _ => cpuacct.iter().cloned().chain(hierarchies.v1("memory")).collect(),
        };
        let welcome = V1.into_iter().filter_map(|controller| hierarchies.v1(controller)).chain(v2.clone());
        let mut mounts: Vec<PathBuf> = Vec::new();
        for mount in needed.iter().cloned().chain(welcome) {
            let real = |path: &PathBuf| fs::canonicalize(path).ok();
            if !mounts.iter().any(|known| real(known) == real(&mount)) {
                mounts.push(mount);
            }
        }
        let path = format!("{parent}/{name}");
        let mut place = Self {
            procs_files: Vec::new(),
            target: Target::Cgroup { path },
            directories: Vec::new(),
            parents: Vec::new(),
        };
        for mount in &mounts {
            let is_v2 = v2.as_ref() == Some(mount);
            let mut made = place.make_in(mount, parent, name, is_v2);
            if matches!(&made, Err(Error::Unwritable { source, .. }) if source.kind() == io::ErrorKind::NotFound) {
                // Another order that ended just now took the empty parent away.
                made = place.make_in(mount, parent, name, is_v2);
            }
            match made {
                Err(error) if needed.contains(mount) => {
                    place.undo();
                    return Err(error);
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(place)
    }

    fn make_in(&mut self, mount: &Path, parent: &str, name: &str, v2: bool) -> Result<(), Error> {
        let mut above = mount.to_owned();
        for part in parent.split('/') {
            if v2 {
                enable_controllers(&above);
            }
            above.push(part);
            match fs::create_dir(&above) {
                Ok(()) => self.parents.push((above.clone(), true)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.parents.push((above.clone(), false)),
                Err(error) => return Err(Error::unwritable(&above)(error)),
            }
        }
        if v2 {
            enable_controllers(&above);
        }
        let own = above.join(name);
        fs::create_dir(&own).map_err(Error::unwritable(&own))?;
        let procs = own.join("cgroup.procs");
        self.directories.push(own);
        fs::OpenOptions::new().write(true).open(&procs).map_err(Error::unwritable(&procs))?;
        self.procs_files.push(procs);
        Ok(())
    }

    /// Finds the place of an order again after a restart of the agent.
    ///
    /// # Errors
    /// [`Error::UnknownCgroup`] when no hierarchy has it; [`Error::BadName`].
    pub fn find(hierarchies: &Hierarchies, parent: &str, name: &str) -> Result<Self, Error> {
        for part in parent.split('/').chain([name]) {
            check_name(part)?;
        }
        let path = format!("{parent}/{name}");
        let mounts = V1.into_iter().filter_map(|controller| hierarchies.v1(controller)).chain(hierarchies.v2());
        let mut directories: Vec<PathBuf> =
            mounts.map(|mount| mount.join(&path)).filter(|directory| directory.is_dir()).collect();
        directories.sort();
        directories.dedup();
        if directories.is_empty() {
            return Err(Error::UnknownCgroup { path });
        }
        let procs_files = directories.iter().map(|directory| directory.join("cgroup.procs")).collect();
        Ok(Self { procs_files, target: Target::Cgroup { path }, directories, parents: Vec::new() })
    }

    /// Processes in the place.
    pub fn processes(&self) -> Vec<u32> {
        let mut pids: Vec<u32> =
            self.procs_files.iter().filter_map(|file| fs::read(file).ok()).flat_map(|text| numbers(&text)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Removes the directories; only empty ones can be. A directory that is already gone is removed.
    ///
    /// # Errors
    /// [`Error::Unwritable`] while processes are left in it: try again when they have ended.
    pub fn remove(&self) -> Result<(), Error> {
        for directory in &self.directories {
            match fs::remove_dir(directory) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::unwritable(directory)(error)),
            }
        }
        Ok(())
    }

    /// Removes the parents too, if no other order is in them.
    pub fn remove_parents(&self) {
        self.parents.iter().rev().for_each(|(parent, _)| drop(fs::remove_dir(parent)));
    }

    /// Removes the directories of `parent` in every hierarchy, the deepest first, as far as no order is in them: for whoever made
    /// them and has no place left to ask. A parent that the site made is not ours to remove.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn remove_parent(hierarchies: &Hierarchies, parent: &str) -> Result<(), Error> {
        parent.split('/').try_for_each(check_name)?;
        for mount in V1.into_iter().filter_map(|controller| hierarchies.v1(controller)).chain(hierarchies.v2()) {
            let mut path = parent;
            while fs::remove_dir(mount.join(path)).is_ok() {
                let Some((above, _)) = path.rsplit_once('/') else { break };
                path = above;
            }
        }
        Ok(())
    }

    /// Takes back a half-made place.
    fn undo(&self) {
        self.directories.iter().for_each(|directory| drop(fs::remove_dir(directory)));
        let made = self.parents.iter().rev().filter(|(_, made)| *made);
        made.for_each(|(parent, _)| drop(fs::remove_dir(parent)));
    }
}

/// Asks version 2 for the controllers that meter; a refusal (processes in the parent, not delegated) leaves CPU alone.
fn enable_controllers(directory: &Path) {
    for controller in ["+cpu", "+memory", "+io", "+pids"] {
        drop(fs::write(directory.join("cgroup.subtree_control"), controller));
    }
}

fn numbers(text: &[u8]) -> Vec<u32> {
    file::lines(text).filter_map(file::number).filter_map(|pid| u32::try_from(pid).ok()).collect()
}

fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(allowed) {
        return Err(Error::BadName { name: name.chars().take(80).collect() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_climb_out() {
        for (name, good) in [
            ("hufu-orders", true),
            ("a.b_C-9", true),
            ("", false),
            ("..", false),
            (".hidden", false),
            ("a/b", false),
            ("a b", false),
            ("\u{4e2d}", false),
        ] {
            assert_eq!(check_name(name).is_ok(), good, "{name:?}");
        }
    }

    #[test]
    fn where_nothing_is_mounted_there_is_no_place() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(root.path().join("proc/self/mountinfo"), "24 29 0:23 / /proc rw - proc proc rw\n").unwrap();
        let hierarchies = Hierarchies::detect(root.path()).unwrap();
        assert!(matches!(Place::make(&hierarchies, "hufu-orders", "a"), Err(Error::NoCgroups { .. })));
        assert!(matches!(Place::find(&hierarchies, "hufu-orders", "a"), Err(Error::UnknownCgroup { .. })));
    }
}
