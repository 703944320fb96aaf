//! A run that was brought in from a file: what it did elsewhere is not taken to go on here.
//!
//! May not know the file. Invariant: until an operator resumes it, an imported run starts nothing,
//! and what was being executed elsewhere is never executed here as if nobody had begun it.

use serde_json::json;

use crate::codecs::event::RunPaused;
use crate::codecs::json::Json;
use crate::ground::id::{EffectId, Epoch, RunId};
use crate::machines::effect::attempt::Report;
use crate::machines::effect::life::EffectStatus;

use super::Result;
use super::open::OpenRun;

/// Why an imported run is paused, and what is started in it is uncertain.
pub const IMPORTED: &str = "imported";

impl OpenRun {
    /// Notes where the run comes from, pauses it, and closes what was started elsewhere. A child
    /// run that `is_here` goes on here with its parent. Gives the effects that were closed.
    pub(in crate::services) fn came_from_elsewhere(
        &mut self,
        note: &str,
        is_here: &dyn Fn(&RunId) -> bool,
    ) -> Result<Vec<EffectId>> {
        self.note(note)?;
        if self.state().paused.is_none() {
            let by = self.runs.by.clone();
            let paused = RunPaused { reason: IMPORTED.to_owned(), effect_id: None, by };
            self.append(paused.into())?;
        }
        let started = self.state().open_effects().filter(|e| e.status == EffectStatus::Started);
        let elsewhere: Vec<(EffectId, Epoch)> = started
            .filter(|e| !self.child_of(e.id).is_some_and(|c| is_here(&c)))
            .map(|effect| (effect.id, effect.epoch))
            .collect();
        for (id, epoch) in &elsewhere {
            let evidence = Some(Json::of(&json!({ "note": note })));
            let report = Report::Unknown { cause: IMPORTED, evidence, error: None };
            self.end_attempt(*id, *epoch, &report)?;
        }
        Ok(elsewhere.into_iter().map(|(id, _)| id).collect())
    }
}
