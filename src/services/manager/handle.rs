//! The manager as doors see it: asks that are answered when what they rest on is durable.
//!
//! May not touch a run itself. Invariant: an ask that was not taken in changes nothing.

use std::sync::{PoisonError, mpsc};

use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::ground::id::{RunId, Seq};
use crate::services::runs::create::NewRun;
use crate::services::runs::open::OpenRun;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::view::Look;
use crate::services::runs::{Error, Result, Runs};

use super::{Followers, Made, Manager, Message};

/// Whether an ask brings new work in, or brings work to its end: when room on the disk runs out,
/// outcomes are still taken and inflow is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// New work: create, signal, assign.
    Inflow,
    /// Outcomes: results, decisions, cancel, pause, resume.
    Outcome,
}

/// Asks the manager. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Message>,
    followers: Followers,
    runs: Runs,
}

impl Handle {
    pub(super) fn new(inbox: mpsc::Sender<Message>, followers: Followers, runs: Runs) -> Self {
        Self { inbox, followers, runs }
    }

    /// Creates a run for `by`, such as `client:ci`; it exists durably when this answers.
    pub async fn create(&self, new: NewRun, by: &str) -> Result<Made> {
        let by = by.to_owned();
        self.ask(move |manager| manager.create(&new, &by)).await
    }

    /// Does something to a run for `by`, such as `client:ci`: whatever `act` appended is durable
    /// when this answers, and the run goes on afterwards. `act` must not wait for anything.
    pub async fn deed<T: Send + 'static>(
        &self,
        run: &RunId,
        by: &str,
        _flow: Flow,
        act: impl FnOnce(&mut OpenRun) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (run, by) = (run.clone(), by.to_owned());
        self.ask(move |manager| manager.deed(&run, &by, act)).await
    }

    /// Looks at a run: what `look` sees is durable when this answers.
    pub async fn read<T: Send + 'static>(
        &self,
        run: &RunId,
        look: impl FnOnce(Look<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (runs, run) = (self.runs.clone(), run.clone());
        let seen = tokio::task::spawn_blocking(move || {
            let seen = runs.look(run.as_str())?;
            look(seen.look())
        });
        seen.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Lets a run go on, waits until it rests, and gives its report.
    pub async fn iterate(&self, run: &RunId) -> Result<Value> {
        let run = run.clone();
        self.ask(move |manager| manager.iterate(&run)).await
    }

    /// The run that `reference` means: its id, or the beginning of one id only.
    pub async fn find(&self, reference: &str) -> Result<RunId> {
        let (runs, reference) = (self.runs.clone(), reference.to_owned());
        let found = tokio::task::spawn_blocking(move || Ok(runs.find(&reference)?.id().clone()));
        found.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Shows how far the durable journal of a run goes, from now on.
    #[must_use]
    pub fn follow(&self, run: &RunId) -> watch::Receiver<Seq> {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.entry(run.clone()).or_insert_with(|| watch::Sender::new(Seq(0))).subscribe()
    }

    /// The runs service, for what only looks: its root, its clock, lists.
    #[must_use]
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    async fn ask<T: Send + 'static>(
        &self,
        deed: impl FnOnce(&mut Manager) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let ask = move |manager: &mut Manager| {
            // Whoever asked may be gone; what was done stays done.
            let _ = reply.send(deed(manager));
        };
        self.inbox.send(Message::Ask(Box::new(ask))).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> Error {
    let trouble = Trouble::new("shutting_down", "the daemon is stopping; nothing was written");
    Error::Storage { trouble: trouble.next("ask again when it runs"), unknown: false }
}
