//! The signatures of a full check, verified on threads of their own while the walk goes on: verifying is all that such a
//! check costs. Memory is bounded by the queue, and what is found comes out in the order of the walk.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Scope, ScopedJoinHandle},
};

use hufu_gm::{Signed, sm2::PublicKey};

use crate::{block::check_signature, report::Problem};

/// Signatures handed over at once, so that the queue costs little beside one verification.
const TASKS_PER_BATCH: usize = 32;

/// One signature, and the problem that it is if it is not good; the fault in it is the verifier's to fill in.
pub(crate) struct Task {
    pub(crate) signed: Signed,
    pub(crate) key: PublicKey,
    /// Number of the block in the walk.
    pub(crate) number: u64,
    pub(crate) problem: Problem,
}

impl Task {
    fn verify(self) -> Option<(u64, Problem)> {
        let fault = check_signature(&self.signed, &self.key).err()?;
        Some((self.number, Problem { fault, ..self.problem }))
    }
}

/// The threads and what they have not been given yet.
pub(crate) struct Verifier<'scope> {
    waiting: Vec<Task>,
    asked: u64,
    queue: SyncSender<Vec<Task>>,
    threads: Vec<ScopedJoinHandle<'scope, Vec<(u64, Problem)>>>,
}

impl<'scope> Verifier<'scope> {
    pub(crate) fn start(scope: &'scope Scope<'scope, '_>, threads: usize) -> Self {
        let (queue, tasks) = sync_channel(2 * threads);
        let tasks = Arc::new(Mutex::new(tasks));
        let work = |tasks: Arc<Mutex<Receiver<Vec<Task>>>>| {
            let mut bad = Vec::new();
            loop {
                let batch = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(batch) = batch else { return bad };
                bad.extend(batch.into_iter().filter_map(Task::verify));
            }
        };
        let threads = (0..threads).map(|_| {
            let tasks = Arc::clone(&tasks);
            scope.spawn(move || work(tasks))
        });
        Self { waiting: Vec::new(), asked: 0, queue, threads: threads.collect() }
    }

    pub(crate) fn verify(&mut self, task: Task) {
        self.asked += 1;
        self.waiting.push(task);
        if self.waiting.len() == TASKS_PER_BATCH {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        // The threads are there until the queue is closed.
        let _ = self.queue.send(std::mem::take(&mut self.waiting));
    }

    /// Waits for all; how many signatures were good, and the problems of the others with their blocks' numbers.
    pub(crate) fn finish(mut self) -> (u64, Vec<(u64, Problem)>) {
        self.hand_over();
        let Self { asked, queue, threads, .. } = self;
        drop(queue);
        let mut bad = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(found) => bad.extend(found),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        bad.sort_by_key(|(number, _)| *number);
        (asked.saturating_sub(bad.len() as u64), bad)
    }
}
