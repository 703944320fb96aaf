//! The run manager: the one owner of every run of a root while a daemon serves it.
//!
//! One thread owns the runs; doors talk to it through a [`Handle`], which can be cloned and sent
//! anywhere. May not know doors. Invariant: an answer leaves only after everything that it rests on
//! is durable.

mod asks;
mod code;
mod handle;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::ground::id::{RunId, Seq};

use super::runs::{Error, Result, Runs};

pub use asks::Made;
pub use code::Assignment;
pub use handle::{Flow, Handle};

/// What arrives at the manager.
enum Message {
    /// Something to do, for somebody who waits for the answer.
    Ask(Box<dyn FnOnce(&mut Manager) + Send>),
    /// Finish what was begun and end.
    Stop,
}

/// Followers of runs by run: each sees the newest durable record.
type Followers = Arc<Mutex<HashMap<RunId, watch::Sender<Seq>>>>;

/// The thread's own state.
struct Manager {
    runs: Runs,
    followers: Followers,
}

/// A manager that runs. Dropped without [`Running::stop`] it goes on until the process ends.
pub struct Running {
    handle: Handle,
    thread: JoinHandle<()>,
    inbox: mpsc::Sender<Message>,
}

/// Starts the manager of a root.
pub fn start(runs: Runs) -> Result<Running> {
    let (inbox, messages) = mpsc::channel();
    let followers = Followers::default();
    let handle = Handle::new(inbox.clone(), Arc::clone(&followers), runs.clone());
    let mut manager = Manager { runs, followers };
    let thread = std::thread::Builder::new()
        .name("manager".into())
        .spawn(move || {
            while let Ok(Message::Ask(ask)) = messages.recv() {
                ask(&mut manager);
            }
        })
        .map_err(|e| Error::Bug(super::runs::trouble::Trouble::new("bug", e.to_string())))?;
    Ok(Running { handle, thread, inbox })
}

impl Running {
    /// For doors.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Finishes what was begun, makes every run directory complete, and ends.
    pub fn stop(self) -> Result<()> {
        // A manager that has ended already has nothing left to finish.
        let _ = self.inbox.send(Message::Stop);
        self.thread.join().map_err(|_| {
            Error::Bug(super::runs::trouble::Trouble::new("bug", "the manager panicked"))
        })
    }
}

impl Manager {
    /// Tells followers how far a run's durable journal goes.
    fn publish(&self, run: &RunId, head: Seq) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(follower) = followers.get(run) {
            // Nobody listens any more: forget it.
            if follower.send(head).is_err() {
                followers.remove(run);
            }
        }
    }
}
