//! Threads for what takes time: opening and closing runs, reading journals.
//!
//! May not know what the work is. Invariant: work that was taken in is done, in no order.

use std::sync::{Arc, Mutex, PoisonError, mpsc};

use crate::services::runs::Result;

use super::bug;

/// Journals that are read at once: more would only wait for the same disk.
pub(super) const WORKERS: usize = 4;

/// Something that takes time.
type Work = Box<dyn FnOnce() + Send>;

/// The threads.
#[derive(Clone)]
pub(super) struct Workers(mpsc::Sender<Work>);

impl Workers {
    pub(super) fn start() -> Result<Self> {
        let (sender, receiver) = mpsc::channel::<Work>();
        let receiver = Arc::new(Mutex::new(receiver));
        for n in 0..WORKERS {
            let receiver = Arc::clone(&receiver);
            let run = move || {
                loop {
                    let work = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(work) = work else { return };
                    work();
                }
            };
            let spawned = std::thread::Builder::new().name(format!("worker-{n}")).spawn(run);
            spawned.map_err(|e| bug(&format!("a worker could not be started: {e}")))?;
        }
        Ok(Self(sender))
    }

    /// Has something done.
    pub(super) fn run(&self, work: impl FnOnce() + Send + 'static) {
        // The threads end only with this sender.
        let _ = self.0.send(Box::new(work));
    }
}
