//! The fold: what a run is, as the sum of its events.
//!
//! May not know where events come from nor what should happen next. Invariant: an event that is not
//! legal in the present state is refused and changes nothing; there is no other way to change a
//! run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::codecs::event::{
    Accepted, DecisionAction, EffectRequested, Event, ForkedFrom, Head, IdempotencyRef, Lost,
    ParentRef, ProcessRef, Record, RunHeld, RunPaused, ScheduleRef,
};
use crate::codecs::json::Json;
use crate::codecs::trace::{RunTrace, TraceContext};
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Epoch, RunId, Seq};
use crate::ground::limits::CLEANUP_TIMEOUT_MS;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::effect::refusal::Hold;
use crate::machines::effect::standing::Standing;

/// An event that the present state does not allow (J24): a bug, or a journal that was forged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq}: {event_type} is not legal here: {why}")]
pub struct IllegalEvent {
    /// The record.
    pub seq: Seq,
    /// Its type.
    pub event_type: &'static str,
    /// What stands against it.
    pub why: String,
}

/// How a run ended. Final: only audit entries follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The process returned, or an operator closed it as completed.
    Completed,
    /// The process threw, or an operator closed it as failed.
    Failed,
    /// `ctx.halt`, or an operator.
    Halted,
    /// A cancel request was carried out.
    Cancelled,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Completed, Self::Failed, Self::Halted, Self::Cancelled];

    /// Their names.
    pub const NAMES: &[&str] = &["completed", "failed", "halted", "cancelled"];

    /// The state of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.name() == name)
    }

    /// The state's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Halted => "halted",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A cancel request that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// Its record.
    pub seq: Seq,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: Option<String>,
    /// No time for clean-up.
    pub now: bool,
}

impl CancelRequest {
    /// Whether the time for clean-up has passed.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.now || self.at.plus_millis(CLEANUP_TIMEOUT_MS) <= now
    }
}

/// A signal that no wait has consumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Its record.
    pub seq: Seq,
    /// Its name.
    pub name: String,
    /// Its correlation key.
    pub correlation_key: Option<String>,
}

/// The last change of code that was accepted in this generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptPoint {
    /// Its record.
    pub seq: Seq,
    /// What was decided.
    pub accepted: Accepted,
    /// Patch ids that were marked before it: the new code finds them answered. Later ones are
    /// outputs of its own turns.
    pub marks: BTreeSet<String>,
}

/// What a fork has from other runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The run that it was made of.
    pub from: ForkedFrom,
    /// The first of its ancestors: the run that its process takes it for.
    pub ancestor: RunId,
}

/// A run, folded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Its id.
    pub run_id: RunId,
    /// Set in a fork.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Its program; none in a bare run.
    pub process: Option<ProcessRef>,
    /// Generation, from 1.
    pub generation: u32,
    /// The input that started this generation's process.
    pub generation_start: Seq,
    /// Set in a child run.
    pub parent: Option<ParentRef>,
    /// Set in a run that a schedule made.
    pub schedule: Option<ScheduleRef>,
    /// Key it was created under.
    pub idempotency: Option<IdempotencyRef>,
    /// Words for finding it.
    pub tags: Vec<String>,
    /// Where the command was given.
    pub cwd: Option<String>,
    /// Breakpoints are answered at once.
    pub non_interactive: bool,
    /// The system and the processor that a workflow document sees.
    #[serde(default)]
    pub system: Option<String>,
    /// Where in a trace whoever asked for it stood.
    pub traceparent: Option<TraceContext>,
    /// Stopped by the engine.
    pub held: Option<RunHeld>,
    /// Stopped by an operator.
    pub paused: Option<RunPaused>,
    /// Cancellation asked for.
    pub cancel: Option<CancelRequest>,
    /// How it ended, with the record.
    pub end: Option<(End, Seq)>,
    /// All effects by number.
    pub effects: BTreeMap<EffectId, Effect>,
    /// Those without an outcome.
    pub open: BTreeSet<EffectId>,
    /// Those of them that the runtime must look at, by due time.
    pub timers: BTreeSet<(Timestamp, EffectId)>,
    /// Those of them whose next attempt has to wait, by the end of that delay.
    pub delayed: BTreeSet<(Timestamp, EffectId)>,
    /// Those of them that the runtime answers at once.
    pub immediate: BTreeSet<EffectId>,
    /// Those of them that may have been executed in records which a repair lost, and that must not
    /// be executed again before somebody has looked.
    pub suspects: BTreeSet<EffectId>,
    /// Highest effect number that a repair found anywhere.
    pub suspect_upto: u32,
    /// Signals that nobody consumed, oldest first.
    pub signals: Vec<Signal>,
    /// Every signal id with its record and payload digest.
    pub signal_ids: HashMap<String, (Seq, Digest)>,
    /// Patch ids that were marked in this generation.
    pub marks: BTreeSet<String>,
    /// Values that an operator put in place of recorded ones.
    pub patches: BTreeMap<EffectId, Json>,
    /// The last accepted change of code.
    pub accept: Option<AcceptPoint>,
    /// Records that a repair lost, and what must not be given out again.
    pub lost: Vec<Lost>,
    /// Lowest epoch that may be given.
    pub epoch_floor: Epoch,
    /// Outputs so far: 0 means that no turn was ever journaled.
    pub outputs_count: u64,
    /// The last record.
    pub head: Head,
    /// Its time, never stepping back.
    pub last_at: Timestamp,
    /// Records since the generation began.
    pub generation_events: u64,
    /// Generations in a row that did nothing but begin the next one.
    pub idle_generations: u32,
}

impl RunState {
    /// The state after the first record.
    ///
    /// # Errors
    /// When the first record is not a `RUN_CREATED` of generation 1.
    pub fn first(record: &Record) -> Result<Self, IllegalEvent> {
        let Event::RunCreated(created) = &record.event else {
            return Err(illegal(record, "the first record is RUN_CREATED"));
        };
        if created.generation != 1 || record.seq != Seq(1) {
            return Err(illegal(record, "a run begins at record 1 with generation 1"));
        }
        Ok(Self {
            run_id: created.run_id.clone(),
            origin: None,
            created_at: record.at,
            process: created.process.clone(),
            generation: 1,
            generation_start: record.seq,
            parent: created.parent.clone(),
            schedule: created.schedule.clone(),
            idempotency: created.idempotency.clone(),
            tags: created.tags.clone(),
            cwd: created.cwd.clone(),
            non_interactive: created.non_interactive,
            system: created.system.clone(),
            traceparent: created.traceparent,
            held: None,
            paused: None,
            cancel: None,
            end: None,
            effects: BTreeMap::new(),
            open: BTreeSet::new(),
            timers: BTreeSet::new(),
            delayed: BTreeSet::new(),
            immediate: BTreeSet::new(),
            suspects: BTreeSet::new(),
            suspect_upto: 0,
            signals: Vec::new(),
            signal_ids: HashMap::new(),
            marks: BTreeSet::new(),
            patches: BTreeMap::new(),
            accept: None,
            lost: Vec::new(),
            epoch_floor: Epoch(0),
            outputs_count: 0,
            head: Head { seq: record.seq, sum: record.sum },
            last_at: record.at,
            generation_events: 1,
            idle_generations: 0,
        })
    }

    /// Its trace.
    #[must_use]
    pub const fn trace(&self) -> RunTrace<'_> {
        RunTrace::new(&self.run_id, self.traceparent)
    }

    /// Folds one record. Called for every record in order, by replay, by `fsck`, by views.
    ///
    /// # Errors
    /// When the event is not legal here; the state is then unchanged.
    pub fn apply(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        if record.seq != self.head.seq.next() {
            return Err(illegal(record, "it does not follow the record before"));
        }
        self.permit(record)?;
        self.change(record)?;
        self.outputs_count += u64::from(cause_of(&record.event).is_some());
        self.head = Head { seq: record.seq, sum: record.sum };
        self.last_at = self.last_at.max(record.at);
        self.generation_events += 1;
        Ok(())
    }

    /// The id that the process knows, and that seeds its randomness: in a fork that of the first
    /// ancestor, or what is recorded could not be replayed.
    #[must_use]
    pub fn process_run_id(&self) -> &RunId {
        self.origin.as_ref().map_or(&self.run_id, |origin| &origin.ancestor)
    }

    /// Whether the process would see another value for what this effect resolved to.
    #[must_use]
    pub fn may_edit(&self, effect: &Effect) -> bool {
        matches!(effect.status, EffectStatus::Ok | EffectStatus::Error)
            && effect.requested_seq > self.generation_start
            && !effect.superseded
    }

    /// Whether the last record about an effect is of the run that this one was made of.
    #[must_use]
    pub fn is_inherited(&self, effect: &Effect) -> bool {
        self.origin.as_ref().is_some_and(|origin| effect.seq <= origin.from.seq)
    }

    /// Whether the run has not ended.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// The effect, if the run ever asked for it.
    #[must_use]
    pub fn effect(&self, id: EffectId) -> Option<&Effect> {
        self.effects.get(&id)
    }

    /// The open effects, in order of request.
    pub fn open_effects(&self) -> impl Iterator<Item = &Effect> {
        self.open.iter().filter_map(|id| self.effects.get(id))
    }

    /// The run as its effects see it.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing<'_> {
        Standing {
            run: &self.run_id,
            end: self.end.map(|(end, _)| end.name()),
            stopped: match (&self.paused, &self.held) {
                (Some(_), _) => Some(Hold::Pause),
                (None, Some(_)) => Some(Hold::Hold),
                (None, None) => None,
            },
            is_cancelling: self.cancel.is_some(),
            is_cleanup_over: self.cancel.as_ref().is_some_and(|cancel| cancel.is_over(now)),
            is_unwanted: false,
            is_inside: false,
            epoch_floor: self.epoch_floor,
            suspects: &self.suspects,
        }
    }

    /// The number that the next effect gets when none was built in vain.
    #[must_use]
    pub fn next_ordinal(&self) -> u32 {
        self.effects.last_key_value().map_or(1, |(id, _)| id.ordinal() + 1)
    }

    /// What must hold before the event is looked at: only audit entries after an end, outputs only
    /// of a run that may execute.
    fn permit(&self, record: &Record) -> Result<(), IllegalEvent> {
        let audit = matches!(record.event, Event::OperatorNote(_) | Event::JournalRepaired(_));
        if self.end.is_some() && !audit {
            return Err(illegal(record, "the run has ended"));
        }
        let output = cause_of(&record.event).is_some();
        if output && self.process.is_none() {
            return Err(illegal(record, "the run has no process yet"));
        }
        if output && (self.held.is_some() || self.paused.is_some()) {
            return Err(illegal(record, "the run is held or paused"));
        }
        match cause_of(&record.event) {
            Some(cause) if cause < self.generation_start || cause >= record.seq => {
                Err(illegal(record, "its cause is not an input of this generation"))
            }
            _ => Ok(()),
        }
    }

    fn change(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        match &record.event {
            Event::RunCreated(_) => Err(illegal(record, "a run is created once")),
            Event::OperatorNote(_) => Ok(()),
            Event::JournalRepaired(_) => self.repaired(record),
            Event::RunForkedFrom(_) => self.forked(record),
            Event::ProcessAssigned(_) => self.assigned(record),
            Event::ValueObserved(observed) => {
                self.marks.extend(observed.value.read::<String>());
                Ok(())
            }
            Event::SignalReceived(_) => self.signalled(record),
            Event::RunPaused(_)
            | Event::RunHeld(_)
            | Event::RunResumed(_)
            | Event::RunCancelRequested(_) => self.steered(record),
            Event::RunContinued(_) => self.continued(record),
            Event::RunCompleted(_)
            | Event::RunFailed(_)
            | Event::RunHalted(_)
            | Event::RunCancelled(_) => self.ended(record),
            Event::EffectRequested(requested) => self.requested(record, requested),
            Event::EffectStarted(_)
            | Event::EffectAttemptFailed(_)
            | Event::EffectUncertain(_)
            | Event::EffectResolved(_)
            | Event::EffectCancelled(_) => self.moved(record),
        }
    }

    fn repaired(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        let Event::JournalRepaired(repaired) = &record.event else {
            return Err(illegal(record, "not a repair"));
        };
        self.lost.extend(repaired.lost.clone());
        self.epoch_floor = self.epoch_floor.max(repaired.epoch_floor.unwrap_or_default());
        self.suspect_upto = self.suspect_upto.max(repaired.suspect_upto.unwrap_or_default());
        if repaired.lost.is_some() {
            let open = self.open.iter().filter_map(|id| self.effects.get(id));
            self.suspects = open.filter(|e| e.may_be_lost()).map(|e| e.id).collect();
        }
        Ok(())
    }

    fn forked(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        let Event::RunForkedFrom(forked) = &record.event else {
            return Err(illegal(record, "not a fork"));
        };
        let from = &forked.forked_from;
        if from.seq != self.head.seq {
            return Err(illegal(record, "it shares other records than those before it"));
        }
        let is_open = |id: &EffectId| self.open.contains(id);
        let may_edit = |id| self.effect(id).is_some_and(|effect| self.may_edit(effect));
        if !forked.rerun.iter().all(is_open)
            || !forked.edits.iter().all(|edit| may_edit(edit.effect_id))
        {
            return Err(illegal(record, "an effect that it names is not as it has to be"));
        }
        let ancestor = self.process_run_id().clone();
        self.origin = Some(Origin { from: from.clone(), ancestor });
        (self.run_id, self.created_at) = (forked.run_id.clone(), record.at);
        // Those belong to one run each; and whether a hold is still due is found out anew.
        (self.parent, self.idempotency, self.held) = (None, None, None);
        self.patches.extend(forked.edits.iter().map(|edit| (edit.effect_id, edit.value.clone())));
        Ok(())
    }

    fn assigned(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        let Event::ProcessAssigned(assigned) = &record.event else {
            return Err(illegal(record, "not an assignment"));
        };
        let bare = self.process.is_none();
        if !bare && !assigned.force && assigned.accepted.is_none() {
            return Err(illegal(record, "the run has a process; only force or accepted change it"));
        }
        if bare && assigned.accepted.is_some() {
            return Err(illegal(record, "a bare run has no past to accept"));
        }
        self.process = Some(assigned.process.clone());
        if bare {
            self.generation_start = record.seq;
        }
        if let Some(accepted) = &assigned.accepted {
            for decision in &accepted.decisions {
                // A later call of the same key is asked for anew.
                let anew = matches!(decision.action, DecisionAction::Redo | DecisionAction::Cancel);
                if let Some(effect) = self.effects.get_mut(&decision.effect_id).filter(|_| anew) {
                    effect.superseded = true;
                }
            }
            self.accept = Some(AcceptPoint {
                seq: record.seq,
                accepted: accepted.clone(),
                marks: self.marks.clone(),
            });
        }
        self.held = None;
        Ok(())
    }

    fn signalled(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        let Event::SignalReceived(signal) = &record.event else {
            return Err(illegal(record, "not a signal"));
        };
        if self.signal_ids.contains_key(&signal.signal_id) {
            return Err(illegal(record, "a signal of this id was received before"));
        }
        self.signal_ids.insert(signal.signal_id.clone(), (record.seq, signal.digest));
        self.signals.push(Signal {
            seq: record.seq,
            name: signal.name.clone(),
            correlation_key: signal.correlation_key.clone(),
        });
        Ok(())
    }

    /// Pause, hold, resume, cancel request.
    fn steered(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        match &record.event {
            Event::RunPaused(paused) if self.paused.is_none() => self.paused = Some(paused.clone()),
            Event::RunHeld(held) if self.held.is_none() && self.process.is_some() => {
                self.held = Some(held.clone());
            }
            Event::RunResumed(resumed) if self.paused.is_some() || self.held.is_some() => {
                if let Some(patch) = &resumed.patch {
                    let known = self.effects.get(&patch.effect_id);
                    if !known.is_some_and(|e| e.status == EffectStatus::Ok) {
                        return Err(illegal(record, "only the value of an ok effect is patched"));
                    }
                    self.patches.insert(patch.effect_id, patch.value.clone());
                }
                self.paused = None;
                self.held = None;
                for id in &self.open {
                    // Whoever lets the run go on wants what was tried in vain to be tried again.
                    self.effects.entry(*id).and_modify(Effect::grant);
                }
            }
            Event::RunCancelRequested(request) if self.cancel.is_none() => {
                // Cancelling is stronger than pausing: the process must be told.
                self.paused = None;
                self.cancel = Some(CancelRequest {
                    seq: record.seq,
                    at: record.at,
                    reason: request.reason.clone(),
                    now: request.now,
                });
            }
            _ => return Err(illegal(record, "the run is not in a state that allows it")),
        }
        Ok(())
    }

    fn continued(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        let Event::RunContinued(continued) = &record.event else {
            return Err(illegal(record, "not a continuation"));
        };
        if continued.generation != self.generation + 1 {
            return Err(illegal(record, "generations are counted one by one"));
        }
        if !self.open.is_empty() || self.cancel.is_some() {
            return Err(illegal(record, "effects are open, or cancellation was asked for"));
        }
        let idle = self.generation_events <= 1;
        self.idle_generations = if idle { self.idle_generations.saturating_add(1) } else { 0 };
        self.generation = continued.generation;
        self.generation_start = record.seq;
        self.generation_events = 0;
        self.process = Some(continued.process.clone());
        self.marks.clear();
        self.accept = None;
        Ok(())
    }

    fn ended(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        let (end, sealed) = match &record.event {
            Event::RunCompleted(done) => (End::Completed, done.seal.is_some()),
            Event::RunFailed(failed) => (End::Failed, failed.seal.is_some()),
            Event::RunHalted(halted) => (End::Halted, halted.cause.is_none()),
            Event::RunCancelled(_) => (End::Cancelled, true),
            _ => return Err(illegal(record, "not an end")),
        };
        if !self.open.is_empty() {
            return Err(illegal(record, "effects are still open"));
        }
        if (end == End::Cancelled) != self.cancel.is_some() && !sealed {
            return Err(illegal(record, "a cancelling run ends as cancelled, and no other does"));
        }
        if end == End::Cancelled && self.cancel.is_none() {
            return Err(illegal(record, "nobody asked for cancellation"));
        }
        if !sealed && cause_of(&record.event).is_none() {
            return Err(illegal(record, "an end needs a cause or an operator"));
        }
        self.end = Some((end, record.seq));
        Ok(())
    }

    fn requested(&mut self, record: &Record, asked: &EffectRequested) -> Result<(), IllegalEvent> {
        // Numbers are given at the call and recorded when the definition is built: a slow build is
        // requested after calls that were made later.
        if self.effects.contains_key(&asked.effect_id) {
            return Err(illegal(record, "an effect number is given once"));
        }
        let effect = Effect::requested(record, asked);
        self.open.insert(effect.id);
        self.timers.extend(effect.due_at().map(|due| (due, effect.id)));
        if effect.id.ordinal() <= self.suspect_upto && effect.may_be_lost() {
            self.suspects.insert(effect.id);
        }
        if effect.wait.is_immediate(self.non_interactive) {
            self.immediate.insert(effect.id);
        }
        self.effects.insert(effect.id, effect);
        Ok(())
    }

    /// The life of one effect after its request.
    fn moved(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        let Some(id) = record.event.effect_id() else {
            return Err(illegal(record, "not about an effect"));
        };
        if let Event::EffectResolved(resolved) = &record.event
            && let Some(consumed) = resolved.signal_seq
            && !self.signals.iter().any(|s| s.seq == consumed)
        {
            return Err(illegal(record, "the signal it names is not waiting"));
        }
        let floor = self.epoch_floor;
        let Some(effect) = self.effects.get_mut(&id) else {
            return Err(illegal(record, "the effect was never requested"));
        };
        let (due_before, delay_before) = (effect.due_at(), effect.delayed_until());
        effect.apply(record, floor).map_err(|why| illegal(record, &why))?;
        self.suspects.remove(&id);
        reset(&mut self.timers, id, due_before, effect.due_at());
        reset(&mut self.delayed, id, delay_before, effect.delayed_until());
        if !effect.status.is_open() {
            self.open.remove(&id);
            self.immediate.remove(&id);
        }
        if let Event::EffectResolved(resolved) = &record.event {
            self.signals.retain(|s| Some(s.seq) != resolved.signal_seq);
        }
        Ok(())
    }
}

/// Moves the place of an effect in an order of times.
fn reset(
    times: &mut BTreeSet<(Timestamp, EffectId)>,
    id: EffectId,
    before: Option<Timestamp>,
    after: Option<Timestamp>,
) {
    if let Some(before) = before.filter(|before| Some(*before) != after) {
        times.remove(&(before, id));
    }
    times.extend(after.map(|at| (at, id)));
}

/// The input that an output was put out for; nothing for events that are no outputs.
#[must_use]
pub fn cause_of(event: &Event) -> Option<Seq> {
    match event {
        Event::EffectRequested(e) => Some(e.cause),
        Event::ValueObserved(e) => Some(e.cause),
        Event::RunContinued(e) => Some(e.cause),
        Event::RunCompleted(e) => e.cause,
        Event::RunFailed(e) => e.cause,
        Event::RunHalted(e) => e.cause,
        _ => None,
    }
}

fn illegal(record: &Record, why: &str) -> IllegalEvent {
    IllegalEvent { seq: record.seq, event_type: record.event.name(), why: why.to_owned() }
}

/// Folds a whole journal.
///
/// # Errors
/// The first record that is not legal; an empty journal has no state.
pub fn fold(records: &[Record]) -> Result<Option<RunState>, IllegalEvent> {
    let Some((first, rest)) = records.split_first() else { return Ok(None) };
    let mut state = RunState::first(first)?;
    for record in rest {
        state.apply(record)?;
    }
    Ok(Some(state))
}
