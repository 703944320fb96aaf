//! Taking over the outcome of another effect with the same idempotency key.
//!
//! May not decide whether: that is the ledger's. Invariant: what is taken over is what the other
//! run's verified journal says, byte for byte.

use crate::codecs::event::{Event, Payload, ReusedFrom};
use crate::codecs::json::Json;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, EffectName};
use crate::machines::effect::life::EffectStatus;
use crate::machines::ledger::settled;
use crate::shells::run_dir::dir::RunDir;

use super::open::OpenRun;
use super::trouble::Trouble;
use super::{Error, Result, Runs};

impl Runs {
    /// Reads the value that an effect is to take over, and stores it in its run `dir` if it is too
    /// large for a record. `lags` says that the log may hold what journals do not.
    pub fn outcome_for(&self, dir: &RunDir, from: &ReusedFrom, lags: bool) -> Result<Option<Json>> {
        let holder = from.run_id.as_str();
        let seen = if lags { self.look(holder)? } else { self.look_owned(holder)? };
        let done = match seen.record(from.seq).map(|record| &record.event) {
            Some(Event::EffectResolved(done)) if done.effect_id == from.effect_id => done,
            _ => return Err(other(from, "there is no outcome of it")),
        };
        let payload = Payload::join(done.value.as_ref(), done.value_blob.as_ref());
        let value = payload.as_ref().map(|payload| seen.value(payload)).transpose()?;
        let digest = value.as_ref().map(|value| Digest::of(value.as_str().as_bytes()));
        if digest != from.value_digest {
            return Err(other(from, "it is another value"));
        }
        if let (Some(Payload::Blob(_)), Some(value)) = (payload, &value) {
            dir.put_blob(value.as_str().as_bytes())?;
        }
        Ok(value)
    }
}

fn other(from: &ReusedFrom, why: &str) -> Error {
    let what = format!("record {} of run {}: {why}", from.seq, from.run_id);
    Error::Damaged(Trouble::new("J51", what))
}

impl OpenRun {
    /// T09: records that an effect has the outcome of another one. If that could not be read,
    /// nobody knows the outcome: T10. False when somebody else ended or started it meanwhile.
    pub fn take_over(
        &mut self,
        id: EffectId,
        from: &ReusedFrom,
        value: Result<Option<Json>>,
    ) -> Result<bool> {
        let effect = self.known(id)?;
        if effect.status != EffectStatus::Requested || !self.state().is_open() {
            return Ok(false);
        }
        let events = match value {
            Ok(value) => vec![settled::reuse(&effect, from, value)],
            Err(why) => {
                let holder = EffectName::of(&from.run_id, from.effect_id);
                let now = self.runs.clock.now();
                settled::unknown(&effect, &holder, Some(&why.to_string()), now)
            }
        };
        let is_reused = matches!(events.first(), Some(Event::EffectResolved(_)));
        for event in events {
            self.append(event)?;
        }
        Ok(is_reused)
    }
}
