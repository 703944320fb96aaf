//! Attending an attempt: runs its executor, watches its time, and brings what came of it.
//!
//! May not touch a run. Invariant: an attempt has exactly one outcome, also when its executor
//! panics or never ends.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::codecs::event::Payload;
use crate::codecs::json::Json;
use crate::ground::digest::hex;
use crate::ground::limits::EXECUTOR_STOP_MS;
use crate::services::executor::{Attempt, Executor, Outcome, Stop, StopWhy, Stopper, Working};
use crate::services::runs::open::value_of;

/// An attempt that is about to be attended.
pub(super) struct Attended {
    pub(super) executor: Arc<dyn Executor>,
    pub(super) attempt: Attempt,
    /// The arguments, where they have to be read from a file first.
    pub(super) args: Option<Payload>,
    pub(super) stopper: Arc<Stopper>,
    pub(super) stop: Stop,
    /// It was begun by an earlier daemon.
    pub(super) resumed: Option<Working>,
}

impl Attended {
    /// Executes the attempt to its end.
    pub(super) async fn attend(self) -> Outcome {
        let (outlives, time) = (self.executor.outlives(), self.attempt.timeout_ms);
        let (stopper, stop) = (Arc::clone(&self.stopper), self.stop.clone());
        // A panic in there is an outcome like any other.
        let mut work = tokio::spawn(self.execute());
        tokio::select! {
            done = &mut work => return outcome(done),
            () = limit(time) => stopper.stop(StopWhy::TimedOut),
            () = asked(stop.clone()) => {}
        }
        if outlives {
            return outcome(work.await);
        }
        let grace = Duration::from_millis(EXECUTOR_STOP_MS);
        if let Ok(done) = timeout(grace, &mut work).await {
            return outcome(done);
        }
        work.abort();
        lost("it did not end when it was told to")
    }

    /// The same as a question about an effect, by an executor of `kind`.
    pub(super) fn asking(mut self, kind: &str) -> Self {
        kind.clone_into(&mut self.attempt.kind);
        self.attempt.is_last = true;
        self
    }

    /// Executes a question in a directory of its own below that of the effect it is about, so that
    /// its files are not taken for those of an attempt.
    pub(super) async fn attend_in_a_room(mut self) -> Result<Outcome, String> {
        let (dir, effect) = (self.attempt.dir.clone(), self.attempt.effect_id);
        let name = format!("asking-{}", hex(&dir.disk().random()[..8]));
        let (of, called) = (dir.clone(), name.clone());
        let room = spawn_blocking(move || of.probe_room(effect, &called)).await;
        let room = room.map_err(|e| e.to_string())?;
        self.attempt.dir = room.map_err(|e| e.to_string())?;
        let outcome = self.attend().await;
        // What cannot be cleared away is in nobody's way.
        let _ = spawn_blocking(move || dir.clear_probe_room(effect, &name)).await;
        Ok(outcome)
    }

    fn execute(self) -> impl Future<Output = Outcome> + Send + 'static {
        let Self { executor, mut attempt, args, stop, resumed, .. } = self;
        async move {
            if let Some(resumed) = resumed {
                return resumed.await;
            }
            if let Some(args) = args {
                let dir = attempt.dir.clone();
                let read = spawn_blocking(move || value_of(&dir, &args)).await;
                match read {
                    Ok(Ok(args)) => attempt.args = Some(args.to_value()),
                    Ok(Err(e)) => return lost(&e.to_string()),
                    Err(e) => return lost(&e.to_string()),
                }
            }
            executor.run(attempt, stop).await
        }
    }
}

async fn limit(time_ms: Option<u64>) {
    match time_ms {
        Some(ms) => sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

async fn asked(mut stop: Stop) {
    stop.asked().await;
}

fn outcome(done: Result<Outcome, JoinError>) -> Outcome {
    done.unwrap_or_else(|e| lost(&e.to_string()))
}

fn lost(why: &str) -> Outcome {
    Outcome::Unknown { cause: "executor_lost", evidence: Some(Json::of(why)) }
}
