//! Places as plain cgroups, on a machine without systemd. Making and removing the directories is `hufu_metering::place`; here
//! are the limits, and processes that must rest or end.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use hufu_metering::{hierarchy::Hierarchies, place::Place};
use rustix::process::{Pid, Signal, kill_process};

use crate::place::Limits;

/// The period of a CPU quota, us: the kernel's own default.
const PERIOD_US: u64 = 100_000;
/// How often, and how many times, an ended workload is looked for.
const PAUSE: Duration = Duration::from_millis(100);
const LOOKS: usize = 100;

/// The machine's hierarchies and the parent of all places.
pub(crate) struct Cgroupfs {
    hierarchies: Hierarchies,
    parent: String,
}

impl Cgroupfs {
    /// Finds the hierarchies below `root`.
    ///
    /// # Errors
    /// Why there are none.
    pub(crate) fn detect(root: &Path, parent: &str) -> Result<Self, String> {
        let hierarchies = Hierarchies::detect(root).map_err(|e| e.to_string())?;
        Ok(Self { hierarchies, parent: parent.to_owned() })
    }

    fn find(&self, order: &str) -> Option<Place> {
        Place::find(&self.hierarchies, &self.parent, order).ok()
    }

    /// Makes the place with its limits, or sets them anew, and lets it go on. Gives its cgroup, and the files by which a process
    /// enters.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn start(&self, order: &str, limits: &Limits) -> Result<(String, Vec<PathBuf>), String> {
        let place = match self.find(order) {
            Some(place) => place,
            None => Place::make(&self.hierarchies, &self.parent, order).map_err(|e| e.to_string())?,
        };
        let mut limits_io = false;
        for directory in directories(&place) {
            limit(directory, limits).map_err(|e| format!("{}: {e}", directory.display()))?;
            limits_io |= limit_io(&directory.join("io.max"), limits)?;
        }
        if limits.io.is_set() && !limits_io {
            eprintln!("hufu-provision: {order}: no io controller of version 2: rates of block IO are not limited here");
        }
        self.freeze(order, false)?;
        Ok((format!("{}/{order}", self.parent), place.procs_files))
    }

    /// Freezes or thaws: by the kernel's freezer on version 2, by signals on version 1.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn freeze(&self, order: &str, frozen: bool) -> Result<(), String> {
        let Some(place) = self.find(order) else { return Ok(()) };
        let files = directories(&place).map(|directory| directory.join("cgroup.freeze"));
        let mut has_freezer = false;
        for file in files.filter(|file| file.exists()) {
            fs::write(&file, if frozen { "1" } else { "0" }).map_err(|e| format!("{}: {e}", file.display()))?;
            has_freezer = true;
        }
        if !has_freezer {
            signal(&place, if frozen { Signal::STOP } else { Signal::CONT });
        }
        Ok(())
    }

    /// Ends what is in the place and removes it.
    ///
    /// # Errors
    /// What the kernel says; processes that do not end.
    pub(crate) fn stop(&self, order: &str) -> Result<(), String> {
        let Some(place) = self.find(order) else { return Ok(()) };
        for _ in 0..LOOKS {
            // New children may come while the old ones are killed.
            signal(&place, Signal::KILL);
            self.freeze(order, false)?;
            if place.remove().is_ok() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        Err("the order's place still holds processes".to_owned())
    }
}

fn directories(place: &Place) -> impl Iterator<Item = &Path> {
    place.procs_files.iter().filter_map(|file| file.parent())
}

fn signal(place: &Place, signal: Signal) {
    for pid in place.processes() {
        // One that ended meanwhile needs no signal.
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        pid.map(|pid| kill_process(pid, signal));
    }
}

/// Writes the rates of block IO, where version 2 has its io controller here; whether it has.
fn limit_io(file: &Path, limits: &Limits) -> Result<bool, String> {
    if !limits.io.is_set() || !file.exists() {
        return Ok(false);
    }
    for line in limits.io.lines(Path::new("/"))? {
        fs::write(file, &line).map_err(|e| format!("{}: {line}: {e}", file.display()))?;
    }
    Ok(true)
}

/// Writes the limits that this directory's controllers know, under their names of version 2 and version 1.
fn limit(directory: &Path, limits: &Limits) -> io::Result<()> {
    let quota = limits.cpu_millicores.map(|millicores| millicores.saturating_mul(PERIOD_US) / 1_000);
    let memory = limits.memory_bytes.map(|bytes| bytes.to_string());
    let tasks = Some(limits.tasks_max.to_string());
    let values = [
        ("cpu.max", quota.map(|quota| format!("{quota} {PERIOD_US}"))),
        ("cpu.cfs_period_us", quota.map(|_| PERIOD_US.to_string())),
        ("cpu.cfs_quota_us", quota.map(|quota| quota.to_string())),
        ("memory.max", memory.clone()),
        ("memory.limit_in_bytes", memory),
        ("pids.max", tasks),
    ];
    for (name, value) in values {
        let file = directory.join(name);
        if let Some(value) = value
            && file.exists()
        {
            fs::write(&file, value)?;
        }
    }
    Ok(())
}
