//! Giving an effect to a worker: started, with everything that its worker needs.
//!
//! May not know leases. Invariant: what cannot be told is not begun.

use crate::codecs::event::Payload;
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::id::EffectId;
use crate::machines::effect::claim::Claim;
use crate::machines::effect::refusal::Refusal;

use super::attempt::TaskClaim;
use super::open::OpenRun;
use super::{Result, Runs};

/// A task that was given to a worker.
#[derive(Debug, Clone)]
pub struct Given {
    /// What there is to do, and under which number.
    pub task: TaskClaim,
    /// Its definition.
    pub definition: Option<Json>,
    /// Its arguments; those that are too long for a record are told by their blob.
    pub args: Option<Payload>,
    /// Until when it is the worker's without a heartbeat.
    pub lease_until: Timestamp,
}

impl Runs {
    /// Starts an effect for a worker without a daemon: nothing lapses until there is one.
    pub fn give(&self, reference: &str, id: EffectId, claim: &Claim) -> Result<Given> {
        let mut run = self.open(reference)?;
        // Nobody serves blobs: arguments are told whole, however long.
        let args = run.task(id).and_then(|task| {
            task.args.map(|payload| run.value(&payload).map(Payload::Inline)).transpose()
        });
        let given = args.and_then(|args| Ok(Given { args, ..run.give(id, claim)? }));
        run.close_after(given)
    }
}

impl OpenRun {
    /// Refuses what whoever serves the run executes itself: it is not given away.
    pub fn must_be_outside(&self, id: EffectId) -> Result<()> {
        let effect = self.known(id)?;
        if !self.is_inside(&effect, &self.definition(id)?) {
            return Ok(());
        }
        let refusal = Refusal::NotClaimable { id, kind: effect.kind };
        Err(self.name_them(id, refusal.into()))
    }

    /// Starts an effect for a worker; it may begin when the record is durable.
    pub fn give(&mut self, id: EffectId, claim: &Claim) -> Result<Given> {
        let seen = self.task(id)?;
        let definition = seen.definition.as_ref().map(|payload| self.value(payload)).transpose()?;
        if let Some(args @ Payload::Blob(blob)) = &seen.args
            && self.dir.open_blob(&blob.digest)?.is_none()
        {
            // Says what is missing.
            self.value(args)?;
        }
        let task = self.claim(id, claim)?;
        let ttl_ms = i64::try_from(task.ttl_ms).unwrap_or(i64::MAX);
        let lease_until = task.started_at.unwrap_or_default().plus_millis(ttl_ms);
        Ok(Given { task, definition, args: seen.args, lease_until })
    }
}
