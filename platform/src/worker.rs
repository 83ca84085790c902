//! This process among the workers of one PostgreSQL: its name, and the task that keeps its lease. What a lease is, is
//! `store/lease.rs`; what a worker does with it, `inbox.rs`.

use std::{collections::BTreeSet, io::Read, path::Path, time::Duration};

use hufu_audit::{Exit, Failure};
use tokio::sync::watch;

use crate::{
    file,
    link::stopped,
    store::{Store, lease},
    text::Text,
};

/// File of the name in the platform's directory, whose lock keeps a second process from it.
const FILE: &str = "worker";

/// A worker.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    /// Its name, 16 hexadecimal digits: that of its directory, so that it has its nodes again when it is started again.
    pub(crate) name: String,
    /// What it held when it looked last; what counts is what the database says.
    pub(crate) held: watch::Receiver<BTreeSet<i64>>,
}

impl Worker {
    /// Whether it held the part of a node when it looked last.
    pub(crate) fn holds(&self, pool: &str) -> bool {
        self.held.borrow().contains(&lease::part_of(pool))
    }

    /// Whether it does what one worker does for all: it held the first part when it looked last.
    pub(crate) fn is_first(&self) -> bool {
        self.held.borrow().contains(&0)
    }
}

/// The name that a directory has, or gets now.
///
/// # Errors
/// 74 when the file cannot be read or written, 78 when it holds something else.
pub(crate) fn name(dir: &Path) -> Result<String, Failure<Text>> {
    let path = dir.join(FILE);
    let shown = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let name = text.trim();
            let is_name = name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
            let why = "16 hexadecimal digits expected; without the file a new name is made".to_owned();
            let wrong = || Failure::new(Exit::Config, Text::ConfigWrong { path: shown, why });
            if is_name { Ok(name.to_owned()) } else { Err(wrong()) }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut random = [0; 8];
            let source = "/dev/urandom";
            std::fs::File::open(source).and_then(|mut source| source.read_exact(&mut random)).map_err(|error| {
                Failure::new(Exit::Io, Text::FileUnreadable { path: source.to_owned(), why: error.to_string() })
            })?;
            let name = hex::encode(random);
            file::replace(&path, name.as_bytes())?;
            Ok(name)
        }
        Err(error) => Err(Failure::new(Exit::Io, Text::FileUnreadable { path: shown, why: error.to_string() })),
    }
}

/// Keeps the lease until `stop` is true, then gives it up. Says through `held` what the worker holds. A database that is away
/// changes nothing here: who cannot renew cannot write either.
pub(crate) async fn keep(
    store: Store,
    name: String,
    lease: Duration,
    held: watch::Sender<BTreeSet<i64>>,
    mut stop: watch::Receiver<bool>,
) {
    let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
    loop {
        match lease::renew(&store, &name, lease_ms).await {
            Ok(found) => {
                held.send_if_modified(|before| {
                    let is_new = *before != found;
                    if is_new {
                        tracing::info!(worker = name, parts = found.len(), "holds its share of the nodes");
                    }
                    *before = found;
                    is_new
                });
            }
            Err(error) => tracing::warn!(%error, "lease not renewed"),
        }
        tokio::select! {
            () = tokio::time::sleep(lease / 4) => {}
            () = stopped(&mut stop) => break,
        }
    }
    if let Err(error) = lease::leave(&store, &name).await {
        tracing::warn!(%error, "lease not given up; it runs out");
    }
}
