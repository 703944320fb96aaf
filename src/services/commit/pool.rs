//! Threads that run the log's jobs.
//!
//! May not know what a job does. Invariant: the result of every job reaches the writer, or the
//! writer is told that a job ended in a panic.

use super::{Shared, tally};
use crate::ground::clock::Stopwatch;
use crate::shells::commit_log::job::Job;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The threads. Dropped, they finish what they have and end.
pub(super) struct Pool {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(super) fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let threads = (0..shared.options.threads.max(1)).map(|_| {
            let (shared, waiting) = (Arc::clone(shared), Arc::clone(&waiting));
            let name = "settle".to_owned();
            std::thread::Builder::new().name(name).spawn(move || serve(&shared, &waiting))
        });
        Ok(Self { threads: threads.collect::<Result<_, _>>()?, jobs: Some(jobs) })
    }

    pub(super) fn run(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The receiver lives as long as a thread does; if none does, the writer was told.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Tells the writer if the thread ends in a panic.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.inbox().crashed = true;
            self.0.came.notify_one();
        }
    }
}

fn serve(shared: &Shared, waiting: &Mutex<Receiver<Job>>) {
    let _alarm = Alarm(shared);
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let watch = Stopwatch::start();
        let done = job.run();
        tally::settled(&shared.options.metrics, done.journals(), watch.seconds());
        shared.inbox().done.push(done);
        shared.came.notify_one();
    }
}
