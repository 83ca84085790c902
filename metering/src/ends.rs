//! When the last process of an order's cgroup ends, told at once: inotify on `cgroup.events` of version 2. An engine removes a cgroup
//! of its own soon after, and with it what was not read. Reading is the sampler's ([`crate::Sampler::emptied`]); who waits for
//! the news is the caller's thread. Version 1 has no such file: there the sample before the removal is the last word.

use std::{io, mem::MaybeUninit, os::fd::OwnedFd, sync::Arc};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

use crate::hierarchy::Hierarchies;

/// Room for the events of one read; they carry no names.
const EVENTS_BYTES: usize = 4096;

/// Cgroups that are listened to. Any thread may add and remove; one waits.
#[derive(Debug)]
pub struct Ends(OwnedFd);

impl Ends {
    /// Listens to nothing yet.
    ///
    /// # Errors
    /// What the system says: no more descriptors, or no more instances for this user.
    pub fn new() -> io::Result<Self> {
        Ok(Self(inotify::init(CreateFlags::CLOEXEC)?))
    }

    /// Waits until something changed in cgroups that are listened to, and calls `changed` with each one's number.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(&self, mut changed: impl FnMut(i32)) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
        let mut reader = Reader::new(&self.0, &mut buffer);
        loop {
            match reader.next() {
                // Of a file that is gone nothing can be read any more.
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {}
                Ok(event) => changed(event.wd()),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            if reader.is_buffer_empty() {
                return Ok(());
            }
        }
    }

    /// The number of a cgroup from now on; `None` where it has no directory of version 2, or no more can be listened to.
    fn add(&self, hierarchies: &Hierarchies, path: &str) -> Option<i32> {
        let file = hierarchies.unified(path)?.join("cgroup.events");
        inotify::add_watch(&self.0, file, WatchFlags::MODIFY).ok()
    }
}

/// Which order is in which cgroup that is listened to.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    ends: Option<Arc<Ends>>,
    orders: Vec<(i32, [u8; 16])>,
}

impl Heard {
    /// Orders that start from now on are listened to.
    pub(crate) fn by(&mut self, ends: Arc<Ends>) {
        self.ends = Some(ends);
    }

    /// Listens to the cgroup at `path` for an order.
    pub(crate) fn start(&mut self, order: [u8; 16], hierarchies: &Hierarchies, path: &str) {
        if let Some(number) = self.ends.as_ref().and_then(|ends| ends.add(hierarchies, path)) {
            self.orders.push((number, order));
        }
    }

    /// Listens for it no more.
    pub(crate) fn stop(&mut self, order: [u8; 16]) {
        let Some(index) = self.orders.iter().position(|(_, of)| *of == order) else { return };
        let (number, _) = self.orders.swap_remove(index);
        let is_shared = self.orders.iter().any(|(other, _)| *other == number);
        if let Some(ends) = self.ends.as_ref().filter(|_| !is_shared) {
            // That of a cgroup that is gone went with it.
            inotify::remove_watch(&ends.0, number).ok();
        }
    }

    /// The orders in the cgroup of this number.
    pub(crate) fn orders(&self, number: i32) -> impl Iterator<Item = [u8; 16]> {
        self.orders.iter().filter(move |(of, _)| *of == number).map(|(_, order)| *order)
    }
}
