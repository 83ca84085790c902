//! What can go wrong while measuring, and who must act. A reading that fails is not an error: it is a missing reading.

use std::path::{Path, PathBuf};

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the kernel could not be opened or read; the site looks at permissions.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be written; the site looks at permissions.
    #[error("cannot write {path}: {source}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the kernel does not hold what it should; a kernel we do not know.
    #[error("{path} holds unexpected text")]
    UnexpectedText {
        /// The file.
        path: PathBuf,
    },
    /// No cgroup hierarchy is mounted that counts what is asked.
    #[error("no cgroup hierarchy that can be used: {why}")]
    NoCgroups {
        /// What was looked for.
        why: String,
    },
    /// The cgroup does not exist in any hierarchy; the caller named it wrongly or it has ended.
    #[error("no cgroup {path} in any hierarchy that meters")]
    UnknownCgroup {
        /// Path below the mounts.
        path: String,
    },
    /// The process does not exist (any more).
    #[error("no process {pid}")]
    UnknownProcess {
        /// Its id.
        pid: u32,
    },
    /// What was metered is gone: its cgroup was removed or its root process ended. Recorded as a gap.
    #[error("{what} is gone")]
    Gone {
        /// The cgroup path or process.
        what: String,
    },
    /// The plan names what this program does not meter; the site's command named it.
    #[error("{what} cannot be metered here")]
    NotMetered {
        /// What.
        what: &'static str,
    },
    /// The order is already metered.
    #[error("the order is already metered")]
    KnownOrder,
    /// The order is not metered.
    #[error("the order is not metered")]
    UnknownOrder,
    /// The kernel refuses what network counters of a cgroup need; root looks at rights and kernel support, or names an interface.
    #[error("cannot {doing} network counters of {path}: {source}")]
    Counters {
        /// What was tried.
        doing: &'static str,
        /// The cgroup's directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A descriptor that was handed over is not that of network counters; whoever handed it over is at fault.
    #[error("the descriptor is not that of network counters: {why}")]
    NotCounters {
        /// What is wrong with it.
        why: String,
    },
    /// A network interface that is not there or cannot be counted; whoever named it is at fault.
    #[error("network interface {name:?}: {why}")]
    BadInterface {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A cgroup name outside `[A-Za-z0-9._-]`, or one that climbs out of its parent; the caller's mistake.
    #[error("{name:?} is not a name for a cgroup")]
    BadName {
        /// The name.
        name: String,
    },
    /// What a site called a workload leads to nothing, or to more than one; the site names it otherwise.
    #[error("{named:?}: {why}")]
    Unresolved {
        /// The name given.
        named: String,
        /// What is wrong, and what to give.
        why: String,
    },
    /// What holds an order's files cannot be metered; the site names another directory.
    #[error("cannot meter the files in {path}: {why}")]
    NoStorage {
        /// The directory or mount point.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A text that names no GPU; whoever provisioned the order looks at what it answered.
    #[error("{name:?} is not the UUID of a GPU or MIG instance")]
    BadDevice {
        /// The text.
        name: String,
    },
    /// Stored meter state that is not ours; the agent starts the order's counters anew and records a gap.
    #[error("stored meter state is malformed: {what}")]
    BadState {
        /// Which part.
        what: &'static str,
    },
}

impl Error {
    pub(crate) fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| Self::Unreadable { path, source }
    }

    pub(crate) fn unwritable(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| Self::Unwritable { path, source }
    }
}
