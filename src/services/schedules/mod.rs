//! Schedules: documents that make runs begin by themselves, in time.
//!
//! A thread of its own looks at the clock and asks the manager for runs, as any client does. May
//! not know doors. Invariant: what was decided is durable before anybody hears of it.

pub mod book;
pub mod hands;
pub mod keeper;
pub mod seen;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use super::manager::Handle;
use super::runs::trouble::Trouble;
use super::runs::{Error, Result};
use crate::ground::clock::{Clock, Timestamp};
use crate::ground::limits::SCHEDULE_LOOK_EVERY_MS;
use crate::machines::schedule::Name;
use crate::machines::workflow::finding::Finding;
use hands::Managed;
use keeper::Keeper;

/// Something to do with all schedules.
enum Message {
    Deed(Box<dyn FnOnce(&mut Keeper) + Send>),
    Stop,
}

/// All schedules at a glance.
#[derive(Debug, Clone, Copy, Default)]
pub struct Glance {
    /// How many there are.
    pub count: usize,
    /// The next time at which one of them makes a run.
    pub next: Option<Timestamp>,
}

/// The schedules of a daemon, for doors.
#[derive(Clone)]
pub struct Schedules {
    sender: Sender<Message>,
    glance: Arc<Mutex<Glance>>,
}

/// Schedules that are looked after.
pub struct Running {
    schedules: Schedules,
    thread: JoinHandle<()>,
}

impl Schedules {
    /// Looks after the schedules of the root that `handle` works on, in a thread of its own.
    pub fn start(handle: Handle) -> Result<Running> {
        let runs = handle.runs().clone();
        let hands = Managed::new(handle).map_err(|e| cannot_start(&e))?;
        let keeper = Keeper::open(&runs, Box::new(hands))?;
        let (sender, messages) = mpsc::channel();
        let (clock, glance) = (runs.clock, Arc::<Mutex<Glance>>::default());
        let seen = Arc::clone(&glance);
        let work = move || serve(keeper, &messages, &*clock, &seen);
        let thread = std::thread::Builder::new().name("schedules".into()).spawn(work);
        let thread = thread.map_err(|e| cannot_start(&e))?;
        Ok(Running { schedules: Self { sender, glance }, thread })
    }

    /// All schedules, as they were at the last look; nobody waits for it.
    #[must_use]
    pub fn glance(&self) -> Glance {
        *self.glance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the schedules, and waits for it.
    pub async fn ask<T: Send + 'static>(
        &self,
        deed: impl FnOnce(&mut Keeper) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let deed = Message::Deed(Box::new(move |keeper: &mut Keeper| {
            // Whoever asked may be gone; what was done stays done.
            let _ = reply.send(deed(keeper));
        }));
        self.sender.send(deed).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Running {
    /// For doors.
    #[must_use]
    pub fn schedules(&self) -> Schedules {
        self.schedules.clone()
    }

    /// Finishes what was begun and ends.
    pub fn stop(self) {
        // A thread that is gone has nothing left to finish.
        let _ = self.schedules.sender.send(Message::Stop);
        let _ = self.thread.join();
    }
}

fn serve(
    mut keeper: Keeper,
    messages: &Receiver<Message>,
    clock: &dyn Clock,
    seen: &Mutex<Glance>,
) {
    loop {
        let glance = keeper.pass();
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = glance;
        match messages.recv_timeout(nap(glance.next, clock.now())) {
            Ok(Message::Deed(deed)) => {
                // Whoever looks sees what the clock says.
                keeper.pass();
                deed(&mut keeper);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// How long nothing has to be looked at. The clock may be set meanwhile.
fn nap(next: Option<Timestamp>, now: Timestamp) -> Duration {
    let left = next.map(|next| next.micros().saturating_sub(now.micros()).div_euclid(1000) + 1);
    let left = left.and_then(|left| u64::try_from(left).ok()).unwrap_or(SCHEDULE_LOOK_EVERY_MS);
    Duration::from_millis(left.clamp(1, SCHEDULE_LOOK_EVERY_MS))
}

fn gone() -> Error {
    let trouble = Trouble::new("shutting_down", "the daemon is stopping");
    Error::Storage { trouble: trouble.next("ask again when it runs"), unknown: true }
}

fn cannot_start(error: &std::io::Error) -> Error {
    let what = format!("schedules cannot be looked after: {error}");
    Error::Storage { trouble: Trouble::new("storage_failed", what), unknown: false }
}

pub(crate) fn not_found(name: &Name) -> Error {
    let trouble = Trouble::new("schedule_not_found", format!("there is no schedule {name}"));
    Error::NotFound(trouble.next("dormouse schedule list"))
}

fn exists(name: &Name) -> Error {
    let what = format!("schedule {name} exists with another document [E-IMMUTABLE]");
    let trouble = Trouble::new("schedule_exists", what);
    Error::Conflict(trouble.next(format!("dormouse schedule delete {name}, then apply it again")))
}

fn damaged(name: &Name, why: &str) -> Error {
    let what = format!("schedule {name} cannot be read: {why}");
    let trouble = Trouble::new("schedule_damaged", what);
    let next = "put its folder back from a copy of the root, or delete it and apply it again";
    Error::Refused(trouble.next(next))
}

fn invalid(findings: &[Finding], text: &str) -> Error {
    let errors = findings.iter().filter(|finding| finding.is_error());
    let told: Vec<String> = errors.map(|finding| finding.print("document", text)).collect();
    let what = format!("the document describes no schedule\n{}", told.join("\n\n"));
    let trouble = Trouble::new("workflow_invalid", what).fact("findings", json!(findings));
    Error::Refused(trouble.next("dormouse workflow validate FILE"))
}
