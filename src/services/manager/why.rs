//! Why a run does not go on, as a daemon answers it: from the durable view, with what its memory
//! knows besides.
//!
//! May not judge: that is `services/why`. Invariant: what memory says is asked before the journal
//! is read, so that a run which began to move in between is not taken for forgotten.

use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;
use crate::ground::limits::WHY_WORKERS_SEEN_MS;
use crate::machines::replay::engine::Rest;
use crate::services::runs::view::Look;
use crate::services::runs::{Error, Result};
use crate::services::why::brief::Brief;
use crate::services::why::found::Found;
use crate::services::why::memory::Memory;
use crate::services::why::walk::{Child, Walk};
use crate::services::why::{self, Why};

use super::seat::Seat;
use super::{Handle, Manager};

impl Handle {
    /// Why a run does not go on.
    pub async fn why(&self, run: &RunId) -> Result<Why> {
        let top = match self.found(run).await {
            Err(Error::Damaged(trouble)) => {
                let run = run.clone();
                self.aside(move |runs| runs.found_damaged(run.as_str(), &trouble)).await?
            }
            found => found?,
        };
        let parent = top.parent.clone();
        let parents = self.aside(move |runs| Ok(runs.above(parent))).await?;
        let mut walk = Walk::from(top, true, self.now());
        while let Some(child) = walk.next_run() {
            let seen = match self.found(&child).await {
                Ok(found) => Child::Found(Box::new(found)),
                Err(why) => {
                    let run = child.clone();
                    self.aside(move |runs| Ok(runs.child_unread(&run, &why))).await?
                }
            };
            walk.heard(&child, seen);
        }
        Ok(walk.why(parents))
    }

    /// A run in brief, for `worker` if it says who it is.
    pub async fn brief(&self, run: &RunId, worker: Option<String>) -> Result<Brief> {
        let (name, now) = (run.to_string(), self.now());
        self.see_through(run, move |look, memory| {
            why::brief(&name, look, now, Some(memory), worker.as_deref())
        })
        .await
    }

    /// A run of a workflow document, task run by task run.
    pub async fn snapshot(&self, run: &RunId) -> Result<serde_json::Value> {
        let run = run.clone();
        self.aside(move |runs| runs.snapshot(&runs.look_owned(run.as_str())?)).await
    }

    async fn found(&self, run: &RunId) -> Result<Found> {
        let (name, now) = (run.to_string(), self.now());
        self.see_through(run, move |look, memory| why::found(&name, look, now, Some(memory))).await
    }

    fn now(&self) -> Timestamp {
        self.runs().clock.now()
    }

    /// Looks at a run together with what is known of it in memory. One that is being worked for is
    /// looked at where it stands: its turn may be what the question is about.
    async fn see_through<T: Send + 'static>(
        &self,
        run: &RunId,
        see: impl FnOnce(Look<'_>, &Memory) -> T + Send + 'static,
    ) -> Result<T> {
        let id = run.clone();
        let known = self.look(move |manager| (manager.memory(&id), manager.gate.slots.clone()));
        let ((memory, slots), now) = (known.await?, self.now());
        let is_moving = memory.is_moving;
        let see = move |look: Look<'_>| {
            // A key or a rule that keeps an effect is asked before limits are.
            let mut holds = slots.holds_of(look.state, now);
            holds.extend(memory.holds.clone());
            see(look, &Memory { holds, ..memory })
        };
        if !is_moving {
            return self.read(run, move |look| Ok(see(look))).await;
        }
        let id = run.clone();
        self.aside(move |runs| Ok(see(runs.look_owned(id.as_str())?.look()))).await
    }
}

impl Manager {
    /// What this thread knows of a run besides its journal.
    fn memory(&self, run: &RunId) -> Memory {
        let (is_moving, rest) = match self.seats.get(run) {
            Some(Seat::Here(here)) => {
                (here.is_in_turn() || here.rest.is_none(), here.rest.as_ref())
            }
            Some(Seat::Coming(_)) => (true, None),
            Some(Seat::Leaving(leaving)) => (leaving.returns, None),
            None => (self.queue.contains(run), None),
        };
        let lately = self.now().plus_millis(-WHY_WORKERS_SEEN_MS);
        let leases = || self.leases.all().filter(|(key, _)| key.run == *run);
        let said = leases().filter_map(|(key, lease)| {
            lease.progress.as_ref().map(|progress| (key.effect, progress.to_string()))
        });
        Memory {
            progress: said.collect(),
            is_moving,
            damage: self.aside.get(run).cloned(),
            is_draining: matches!(rest, Some(Rest::Waiting { draining: true })),
            leases: leases()
                .filter_map(|(key, _)| Some((key.effect, self.lease_until(key)?)))
                .collect(),
            workers: self.crew.by_kind(lately),
            hurried: self.claims.book.hurried_of(run).collect(),
            holds: self.gate.holds_of(run).into_iter().chain(self.desk.holds_of(run)).collect(),
            probes: self.probes.shown(run),
        }
    }
}
