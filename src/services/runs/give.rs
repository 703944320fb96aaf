//! Giving an effect to a worker: started, with everything that its worker needs.
//!
//! May not know leases. Invariant: what cannot be told is not begun.

use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::id::EffectId;
use crate::machines::effect::claim::Claim;

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
    /// Its arguments.
    pub args: Option<Json>,
    /// Until when it is the worker's without a heartbeat.
    pub lease_until: Timestamp,
}

impl Runs {
    /// Starts an effect for a worker without a daemon: nothing lapses until there is one.
    pub fn give(&self, reference: &str, id: EffectId, claim: &Claim) -> Result<Given> {
        let mut run = self.open(reference)?;
        let given = run.give(id, claim);
        run.close_after(given)
    }
}

impl OpenRun {
    /// Starts an effect for a worker; it may begin when the record is durable.
    pub fn give(&mut self, id: EffectId, claim: &Claim) -> Result<Given> {
        let seen = self.task(id)?;
        let definition = seen.definition.as_ref().map(|payload| self.value(payload)).transpose()?;
        let args = seen.args.as_ref().map(|payload| self.value(payload)).transpose()?;
        let task = self.claim(id, claim)?;
        let ttl_ms = i64::try_from(task.ttl_ms).unwrap_or(i64::MAX);
        let lease_until = task.started_at.unwrap_or_default().plus_millis(ttl_ms);
        Ok(Given { task, definition, args, lease_until })
    }
}
