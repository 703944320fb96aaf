//! Accepting other code for an open run.
//!
//! May not guess: what differs needs a decision. Invariant: nothing is pinned or appended before
//! every difference has one.

use crate::codecs::event::{Accepted, Decision, DecisionAction, ProcessAssigned, ProcessRef};
use crate::codecs::json::Json;
use crate::ground::digest::Digest;
use crate::ground::id::Seq;
use crate::machines::effect::life::EffectStatus;

use super::check::{Checked, Line};
use super::create::{Source, TriedCode, store_process};
use super::open::{OpenRun, SeenRun};
use super::trouble::Trouble;
use super::{Error, Result, Runs};

/// What to do with calls whose arguments or kind changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnChange {
    /// The recorded outcome stands.
    Keep,
    /// Asked for anew.
    Redo,
    /// Refuse.
    Fail,
}

/// What to do with pending calls that the new code does not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRemoved {
    /// Wait for their outcome.
    Keep,
    /// Give them up.
    Cancel,
}

/// A change of code that was worked out, not yet applied.
#[derive(Debug)]
pub struct Plan {
    /// The reconciliation.
    pub checked: Checked,
    /// What is decided.
    pub decisions: Vec<Decision>,
    /// Digest of both.
    pub digest: Digest,
    /// Outputs of the run when it was looked at.
    outputs: u64,
}

impl Runs {
    /// Works out what accepting `source` would mean. Nothing is written.
    pub fn plan_accept(
        &self,
        reference: &str,
        source: &Source,
        on_change: OnChange,
        on_removed: Option<OnRemoved>,
    ) -> Result<Plan> {
        let seen = self.look(reference)?;
        if let Some((end, _)) = seen.state.end {
            let what = format!("run {} has ended as {}", seen.dir.id(), end.name());
            return Err(Error::Conflict(Trouble::new("run_ended", what)));
        }
        let (graph, _) = self.pin(source)?;
        let checked = self.check_seen(&seen, Some(&graph), source.process_id.clone())?;
        if let Some(reason) = &checked.held {
            let what = format!("the new code cannot replay the journal: {reason}");
            return Err(Error::Refused(Trouble::new("accept_failed", what)));
        }
        let decisions = decide(&seen, &checked.lines, on_change, on_removed)?;
        let whole = Json::of(&(&checked.lines, &decisions, &checked.process));
        let digest = Digest::of(whole.as_str().as_bytes());
        let outputs = seen.state.outputs_count;
        Ok(Plan { checked, decisions, digest, outputs })
    }

    /// Accepts: pins the new code beside the old and appends the decision.
    pub fn accept(
        &self,
        reference: &str,
        source: &Source,
        plan: &Plan,
        reason: Option<String>,
    ) -> Result<(Seq, ProcessRef)> {
        let (graph, _) = self.pin(source)?;
        let mut run = self.open(reference)?;
        let code = self.try_code(graph, plan.checked.process.clone(), run.dir.id());
        let accepted = run.accept(&code, plan, reason);
        run.close_after(accepted)
    }
}

impl OpenRun {
    /// Takes other code over, by a plan.
    pub fn accept(
        &mut self,
        code: &TriedCode,
        plan: &Plan,
        reason: Option<String>,
    ) -> Result<(Seq, ProcessRef)> {
        self.must_be_open()?;
        let stale = |what: &str| Err(Error::Conflict(Trouble::new("plan_stale", what)));
        if code.graph.digest != plan.checked.process.digest {
            return stale("the source changed after the plan was made");
        }
        // Outcomes may have arrived meanwhile; calls that nobody decided about may not.
        if self.state().outputs_count != plan.outputs {
            return stale("the run asked for more after the plan was made");
        }
        let previous = self.state().process.clone();
        let process = plan.checked.process.clone();
        code.loaded.clone()?;
        store_process(&self.dir, &code.graph)?;
        let accepted = Accepted {
            old_digest: previous.as_ref().map_or(process.digest, |p| p.digest),
            new_digest: process.digest,
            plan_digest: plan.digest,
            decisions: plan.decisions.clone(),
        };
        let assigned = ProcessAssigned {
            process: process.clone(),
            previous,
            force: false,
            accepted: Some(accepted),
            inputs: None,
            inputs_blob: None,
            reason,
            by: self.runs.by.clone(),
        };
        let seq = self.append(assigned.into())?.seq;
        while let Some(event) = self.engine.given_up() {
            self.append(event)?;
        }
        Ok((seq, process))
    }
}

/// What becomes of each call that fares otherwise.
pub(super) fn decide(
    seen: &SeenRun,
    lines: &[Line],
    on_change: OnChange,
    on_removed: Option<OnRemoved>,
) -> Result<Vec<Decision>> {
    let mut decisions = Vec::new();
    for line in lines {
        let Some(effect) = line.effect_id.and_then(|id| seen.state.effect(id)) else { continue };
        let action = match line.change {
            "args-changed" | "kind-changed" => match on_change {
                OnChange::Keep => DecisionAction::Keep,
                OnChange::Redo => DecisionAction::Redo,
                OnChange::Fail => {
                    let what = format!("{} of {} ({})", line.change, line.key, effect.id);
                    let hint = "give --on-args-change keep, or --on-args-change redo";
                    return Err(Error::Refused(Trouble::new("args_changed", what).next(hint)));
                }
            },
            "removed" if effect.status.is_open() => match (on_removed, effect.status) {
                (Some(OnRemoved::Cancel), _) | (None, EffectStatus::Requested) => {
                    DecisionAction::Cancel
                }
                _ => DecisionAction::Drain,
            },
            _ => continue,
        };
        decisions.push(Decision { key: line.key.clone(), effect_id: effect.id, action });
    }
    Ok(decisions)
}
