//! The engine: drives one process instance through its journal and beyond.
//!
//! Sans-IO: [`Engine::handle`] takes what happened and answers with what is to be done; it has no
//! clock, no file, no host, no randomness. Invariant: an output reaches the journal only after
//! every journaled output before it was reproduced by the instance; on the first difference nothing
//! is appended but the note that the run is held.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::automatic::automatic;
use super::check::{self, Divergence, Mark};
use super::drafts::{self, Draft};
use super::facts;
use super::script::{Script, ended_effect};
use super::state::{End, IllegalEvent, RunState};
use crate::codecs::event::clip::clip_error;
use crate::codecs::event::{
    CancelOutcome, Decision, DecisionAction, ErrorInfo, Event, Payload, ProcessRef, Profile,
    Record, RunHeld, Status,
};
use crate::codecs::json::Json;
use crate::codecs::turn::{KnownEffect, Output, Request, TurnDone};
use crate::ground::clock::Timestamp;
use crate::ground::digest::{Digest, Sum};
use crate::ground::id::{EffectId, RunId, Seq};
use crate::ground::limits;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::effect::{self, Wait};

/// Outputs remembered for the report of a divergence.
const LAST_MATCHED: usize = 5;

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A record of the journal: at opening, and each one that was appended since.
    Loaded(Arc<Record>),
    /// The host has loaded the code.
    Started,
    /// The host could not load the code.
    LoadFailed(ErrorInfo),
    /// The host has run the turn it was given.
    Turned(TurnDone),
    /// The instance hit a limit (`memory`, `cpu`) and is gone; its turn is discarded.
    Limit {
        /// Which.
        name: String,
        /// For people.
        detail: String,
    },
    /// Hosts died under this run as often as is allowed.
    HostFailed(String),
    /// Time has passed, or the caller wants to know what to do.
    Poll,
}

/// What is to be done. One at a time; the next [`Engine::handle`] tells what came of it.
#[derive(Debug)]
pub enum Action {
    /// Append these, in order, and hand each back as [`Input::Loaded`].
    Append(Vec<Draft>),
    /// Start an instance.
    Start(Box<StartPlan>),
    /// Give it a turn.
    Turn(Box<TurnPlan>),
    /// Nothing, until something outside happens.
    Rest(Rest),
}

/// Why there is nothing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Rest {
    /// No process was assigned.
    Bare,
    /// Every branch of the process waits for something outside.
    Waiting {
        /// The process has returned; only its open tasks are waited for.
        draining: bool,
    },
    /// An operator paused it.
    Paused,
    /// It needs an operator.
    Held,
    /// It is over.
    Ended(End),
    /// The code or a recorded outcome was changed: open the run anew.
    Restart,
    /// Dry run: the journal is reproduced, and nothing new would be put out.
    Reproduced,
    /// Dry run: the journal is reproduced; this would come next.
    WouldAppend(Vec<Output>),
    /// Dry run: process and journal disagree.
    Diverged,
}

/// How an instance is to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct StartPlan {
    /// The run, as its process knows it.
    pub run_id: RunId,
    /// The pinned code.
    pub process: ProcessRef,
    /// Generation, from 1.
    pub generation: u32,
    /// Inputs; none: `{}`.
    pub inputs: Option<Payload>,
    /// `ctx.carried`.
    pub carried: Option<Json>,
    /// The system and the processor that a workflow document sees.
    pub system: Option<String>,
    /// The time that a schedule made the run for.
    pub scheduled_at: Option<Timestamp>,
    /// Run clock while top-level code runs.
    pub clock: Timestamp,
    /// Number of the first effect.
    pub next_ordinal: u32,
    /// Effects that calls bind to by key.
    pub known: Vec<KnownEffect>,
    /// Patch marks from before an accepted change of code.
    pub known_marks: Vec<String>,
}

/// What a turn is to apply.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedPlan {
    /// Call the process function.
    RunStarted,
    /// Settle one promise.
    Resolved {
        /// The effect.
        ordinal: u32,
        /// Its value, to be loaded if it is a blob.
        value: Option<Payload>,
        /// Its error.
        error: Option<ErrorInfo>,
        /// Attempts made.
        attempts: u32,
    },
    /// Reject one promise.
    Cancelled {
        /// The effect.
        ordinal: u32,
        /// Why.
        reason: String,
    },
    /// Raise the cancellation flag.
    CancelRequested {
        /// Why.
        reason: Option<String>,
    },
}

/// One turn to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnPlan {
    /// The input event: outputs get it as their cause.
    pub seq: Seq,
    /// Run clock.
    pub clock: Timestamp,
    /// What happens.
    pub feed: FeedPlan,
    /// How many of its outputs are journaled.
    pub journaled_outputs: u32,
    /// Which of those are patch marks, by index.
    pub journaled_marks: Vec<(u32, String)>,
    /// Whether further outputs are new.
    pub live_after: bool,
    /// Replays what was recorded under other code.
    pub by_key: bool,
}

/// Where the instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instance {
    Absent,
    Loading,
    Idle,
    InTurn,
}

/// How the process settled, with the input of that turn.
#[derive(Debug, Clone)]
struct Settled {
    cause: Seq,
    output: Output,
}

/// An effect that the process gave up.
#[derive(Debug, Clone)]
struct Unwanted {
    reason: String,
    since: Timestamp,
}

/// A turn in flight. After an accepted change of code it may have several parts: outcomes from
/// before are fed to the calls that bind to them.
#[derive(Debug)]
struct Turn {
    seq: Seq,
    outputs: Vec<Output>,
    cancels: Vec<(u32, String)>,
    feeds: BTreeMap<Seq, Arc<Record>>,
    by_key: bool,
}

/// Drives one run. Fed with the whole journal first.
#[derive(Debug)]
pub struct Engine {
    state: Option<RunState>,
    script: Script,
    inputs: Option<Payload>,
    carried: Option<Json>,
    first_ordinal: u32,
    instance: Instance,
    turn: Option<Turn>,
    awaited: BTreeSet<EffectId>,
    unwanted: BTreeMap<EffectId, Unwanted>,
    settled: Option<Settled>,
    appending: usize,
    restart: bool,
    clock: Timestamp,
    now: Timestamp,
    last_matched: VecDeque<String>,
    divergence: Option<Box<Divergence>>,
    warnings: Vec<String>,
    turns: u64,
    compared: u64,
    dry: bool,
    hold_reason: Option<String>,
    bound: BTreeMap<EffectId, Mark>,
    bound_order: Vec<EffectId>,
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    /// An engine for a run whose journal is about to be loaded.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: None,
            script: Script::default(),
            inputs: None,
            carried: None,
            first_ordinal: 1,
            instance: Instance::Absent,
            turn: None,
            awaited: BTreeSet::new(),
            unwanted: BTreeMap::new(),
            settled: None,
            appending: 0,
            restart: false,
            clock: Timestamp::default(),
            now: Timestamp::default(),
            last_matched: VecDeque::new(),
            divergence: None,
            warnings: Vec::new(),
            turns: 0,
            compared: 0,
            dry: false,
            hold_reason: None,
            bound: BTreeMap::new(),
            bound_order: Vec::new(),
        }
    }

    /// An engine that reproduces a journal and appends nothing: for `run check`, replay, audits.
    #[must_use]
    pub fn dry() -> Self {
        Self { dry: true, ..Self::new() }
    }

    /// The folded run; none before the first record.
    #[must_use]
    pub const fn state(&self) -> Option<&RunState> {
        self.state.as_ref()
    }

    /// The disagreement that stopped the replay.
    #[must_use]
    pub fn divergence(&self) -> Option<&Divergence> {
        self.divergence.as_deref()
    }

    /// What hosts and replay remarked so far.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Turns that were run by this engine.
    #[must_use]
    pub const fn turns(&self) -> u64 {
        self.turns
    }

    /// Recorded requests that the process has made again, the same.
    #[must_use]
    pub const fn compared(&self) -> u64 {
        self.compared
    }

    /// Why a dry run could not go on: what a run would be held for.
    #[must_use]
    pub fn hold_reason(&self) -> Option<&str> {
        self.hold_reason.as_deref()
    }

    /// Effects from before an accepted change of code that a call has bound to, with what the call
    /// looked like.
    #[must_use]
    pub const fn bound(&self) -> &BTreeMap<EffectId, Mark> {
        &self.bound
    }

    /// The same effects in the order of their calls.
    #[must_use]
    pub fn bound_order(&self) -> &[EffectId] {
        &self.bound_order
    }

    /// The last record that was loaded is durable with this sum. Whoever appends folds first and
    /// learns the sum when the record was written.
    pub fn sealed(&mut self, sum: Sum) {
        if let Some(state) = &mut self.state {
            state.head.sum = sum;
        }
    }

    /// When time alone will make something happen that has not happened `now`.
    #[must_use]
    pub fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let state = self.state.as_ref()?;
        let stops = self.unwanted.iter().filter_map(|(id, unwanted)| {
            let by = stops_by(state.effect(*id)?, unwanted)?;
            (state.held.is_none() && state.is_open()).then_some(by)
        });
        stops.chain(facts::wake_after(state, now)).min()
    }

    /// Why the process gave up an effect whose holder has not been heard since.
    #[must_use]
    pub fn given_up_for(&self, id: EffectId) -> Option<&str> {
        let is_open = self.state.as_ref()?.effect(id)?.status.is_open();
        self.unwanted.get(&id).filter(|_| is_open).map(|unwanted| unwanted.reason.as_str())
    }

    /// Takes in what happened and says what is to be done next; nothing while records that were
    /// asked for are still to come back.
    ///
    /// # Errors
    /// A record that is not legal; the engine must not be used any further.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Result<Option<Action>, IllegalEvent> {
        self.now = now;
        match input {
            Input::Loaded(record) => {
                self.load(&record)?;
                self.appending = self.appending.saturating_sub(1);
                return Ok(None);
            }
            Input::Started => self.instance = Instance::Idle,
            Input::LoadFailed(error) => return Ok(Some(self.hold("host_failed", Some(error)))),
            Input::HostFailed(detail) => {
                let error = effect::plain_error("HostFailed", detail);
                return Ok(Some(self.hold("host_failed", Some(error))));
            }
            Input::Limit { name, detail } => {
                let error = effect::plain_error("LimitError", detail);
                return Ok(Some(self.hold(&format!("limit:{name}"), Some(error))));
            }
            Input::Turned(done) => {
                self.instance = Instance::Idle;
                if let Some(action) = self.turned(done) {
                    return Ok(Some(action));
                }
            }
            Input::Poll => {}
        }
        if self.appending > 0 {
            return Ok(None);
        }
        Ok(Some(self.decide(now)))
    }

    fn load(&mut self, record: &Arc<Record>) -> Result<(), IllegalEvent> {
        let bare = self.state.as_ref().is_none_or(|s| s.process.is_none());
        let held = self.state.as_ref().is_some_and(|s| s.held.is_some());
        // An instance was fed from the script: only a new engine can begin anew. While a journal
        // is being loaded nothing was, and the changes are simply part of it.
        let played = self.turns > 0 || self.instance != Instance::Absent;
        match &mut self.state {
            None => self.state = Some(RunState::first(record)?),
            Some(state) => state.apply(record)?,
        }
        match &record.event {
            Event::RunCreated(created) => {
                self.inputs = Payload::join(created.inputs.as_ref(), created.inputs_blob.as_ref());
                if created.process.is_some() {
                    self.script.restart(record);
                }
            }
            Event::ProcessAssigned(assigned) => {
                let given = Payload::join(assigned.inputs.as_ref(), assigned.inputs_blob.as_ref());
                self.inputs = given.or_else(|| self.inputs.take());
                self.restart |= played;
                if assigned.accepted.is_some() {
                    self.script.accept(record);
                } else if bare {
                    self.script.restart(record);
                }
            }
            Event::RunContinued(continued) => {
                let given =
                    Payload::join(continued.inputs.as_ref(), continued.inputs_blob.as_ref());
                self.inputs = given.or_else(|| self.inputs.take());
                self.carried.clone_from(&continued.carry);
                self.first_ordinal = self.state.as_ref().map_or(1, RunState::next_ordinal);
                self.restart |= played;
                self.script.restart(record);
            }
            Event::RunResumed(resumed) => {
                self.restart |= played && (held || resumed.patch.is_some());
            }
            _ => self.script.load(record),
        }
        Ok(())
    }

    /// What to do, with nothing in flight.
    fn decide(&mut self, now: Timestamp) -> Action {
        let Some(state) = &self.state else { return Action::Rest(Rest::Bare) };
        if !self.dry {
            if let Some((end, _)) = state.end {
                return Action::Rest(Rest::Ended(end));
            }
            if state.process.is_none() {
                return self.decide_bare();
            }
            if state.held.is_some() {
                return self.decide_held();
            }
            if let Some(event) =
                self.sweep(now).or_else(|| self.given_up()).or_else(|| automatic(state, now))
            {
                return self.append(vec![drafts::plain(event)]);
            }
            if self.is_cut_off(now) {
                let reason = state.cancel.as_ref().and_then(|c| c.reason.clone());
                return self.append(vec![drafts::cancelled(reason, None)]);
            }
            if state.paused.is_some() {
                return Action::Rest(Rest::Paused);
            }
            if self.restart {
                return Action::Rest(Rest::Restart);
            }
        }
        match self.instance {
            Instance::Absent => self.start(),
            Instance::Idle if self.settled.is_some() && !self.dry => self.finish(),
            Instance::Idle => self.advance(),
            // Waiting for the host; asking again changes nothing.
            Instance::Loading | Instance::InTurn => Action::Rest(Rest::Waiting { draining: false }),
        }
    }

    /// A bare run has nothing to execute, but it can be cancelled.
    fn decide_bare(&mut self) -> Action {
        match self.state.as_ref().and_then(|s| s.cancel.clone()) {
            Some(cancel) => self.append(vec![drafts::cancelled(cancel.reason, None)]),
            None => Action::Rest(Rest::Bare),
        }
    }

    /// A held run goes nowhere, but it can be cancelled: its process is not told, for it cannot
    /// run.
    fn decide_held(&mut self) -> Action {
        let Some(state) = &self.state else { return Action::Rest(Rest::Bare) };
        let Some(cancel) = state.cancel.clone() else { return Action::Rest(Rest::Held) };
        let doomed = state.open_effects().next();
        let gone = doomed.map(|e| drafts::effect_cancelled(e, "run cancelled", "engine"));
        let draft = gone.map_or_else(|| drafts::cancelled(cancel.reason, None), drafts::plain);
        self.append(vec![draft])
    }

    /// After a cancel request: the next effect that has to go. Clean-up effects get their time.
    fn sweep(&self, now: Timestamp) -> Option<Event> {
        let state = self.state.as_ref()?;
        let cancel = state.cancel.as_ref()?;
        let standing = state.standing(now);
        let doomed = state
            .open_effects()
            .find(|e| standing.gives_up(e) && !facts::may_still_stop(cancel, e, now))?;
        Some(drafts::effect_cancelled(doomed, "run cancelled", "engine"))
    }

    /// Whether the time for clean-up is over for a process that was told of the cancellation and
    /// has not ended: what it would still ask for has no time left.
    fn is_cut_off(&self, now: Timestamp) -> bool {
        let cancel = self.state.as_ref().and_then(|s| s.cancel.as_ref());
        self.settled.is_none()
            && self.turn.is_none()
            && cancel.is_some_and(|c| c.is_over(now) && self.script.fed >= c.seq)
    }

    /// An open effect that the last accepted change of code gave up. Whoever accepted may have died
    /// before its end was recorded.
    #[must_use]
    pub fn given_up(&self) -> Option<Event> {
        let state = self.state.as_ref()?;
        let accept = state.accept.as_ref()?;
        let gone = |d: &&Decision| {
            matches!(d.action, DecisionAction::Cancel | DecisionAction::Redo)
                && state.open.contains(&d.effect_id)
        };
        let doomed = state.effect(accept.accepted.decisions.iter().find(gone)?.effect_id)?;
        Some(drafts::effect_cancelled(doomed, "superseded by accepted code", "engine"))
    }

    fn start(&mut self) -> Action {
        let Some(state) = &self.state else { return Action::Rest(Rest::Bare) };
        let Some(process) = state.process.clone() else { return Action::Rest(Rest::Bare) };
        let before = state.accept.as_ref().map(|a| a.seq);
        let mut known: BTreeMap<&str, u32> = BTreeMap::new();
        let mut next_ordinal = self.first_ordinal;
        for e in state.effects.values().filter(|e| before.is_some_and(|b| e.requested_seq < b)) {
            next_ordinal = next_ordinal.max(e.id.ordinal() + 1);
            if e.requested_seq > state.generation_start && !e.superseded {
                known.insert(&e.key, e.id.ordinal());
            }
        }
        let known = known.into_iter().map(|(key, ordinal)| (key.to_owned(), ordinal));
        let known = known.map(|(key, ordinal)| KnownEffect { key, ordinal }).collect();
        let marks = state.accept.as_ref().map(|a| a.marks.iter().cloned().collect());
        let clock = self.script.began;
        let plan = StartPlan {
            run_id: state.process_run_id().clone(),
            process,
            generation: state.generation,
            inputs: self.inputs.clone(),
            carried: self.carried.clone(),
            system: state.system.clone(),
            scheduled_at: state.schedule.as_ref().map(|schedule| schedule.scheduled_at),
            clock,
            next_ordinal,
            known,
            known_marks: marks.unwrap_or_default(),
        };
        self.instance = Instance::Loading;
        self.clock = clock;
        Action::Start(Box::new(plan))
    }

    /// The instance is idle: the next part of the turn in flight, the next input, or rest.
    fn advance(&mut self) -> Action {
        if let Some(turn) = &mut self.turn
            && let Some((_, record)) = turn.feeds.pop_first()
        {
            return self.part(&record);
        }
        if let Some(turn) = self.turn.take() {
            return self.conclude(turn);
        }
        if self.settled.is_none() {
            while let Some(record) = self.script.inputs.pop_front() {
                if self.is_awaited(&record) {
                    return self.begin(&record);
                }
                if let Some(id) = ended_effect(&record.event) {
                    self.script.spare.insert(id, record);
                }
            }
        }
        self.rest()
    }

    fn is_awaited(&self, record: &Record) -> bool {
        ended_effect(&record.event).is_none_or(|id| self.awaited.contains(&id))
    }

    /// All inputs are fed.
    fn rest(&mut self) -> Action {
        if let Some(cause) = self.script.outputs.keys().next().copied() {
            return self.missing(cause);
        }
        if self.dry {
            return Action::Rest(Rest::Reproduced);
        }
        let open =
            |state: &RunState, id: &EffectId| state.effect(*id).is_some_and(|e| e.status.is_open());
        let Some(state) = &self.state else { return Action::Rest(Rest::Bare) };
        self.unwanted.retain(|id, _| open(state, id));
        let doomed = self.unwanted.iter().find_map(|(id, unwanted)| {
            let effect = state.effect(*id)?;
            let is_over = stops_by(effect, unwanted).is_none_or(|by| by <= self.now);
            is_over.then(|| drafts::effect_cancelled(effect, &unwanted.reason, "process"))
        });
        if let Some(event) = doomed {
            return self.append(vec![drafts::plain(event)]);
        }
        if let Some(cancel) = state.cancel.clone().filter(|_| state.open.is_empty()) {
            // Nothing can wake it any more: it neither returns nor waits for clean-up.
            return self.append(vec![drafts::cancelled(cancel.reason, None)]);
        }
        Action::Rest(Rest::Waiting { draining: false })
    }

    /// Outputs are journaled that no turn will put out.
    fn missing(&mut self, cause: Seq) -> Action {
        let expected = self.script.outputs.remove(&cause).unwrap_or_default();
        let expected: Vec<&Record> = expected.iter().map(AsRef::as_ref).collect();
        let generation = self.state.as_ref().map_or(1, |s| s.generation);
        match check::compare(generation, cause, &expected, &[], false) {
            Err(divergence) => self.diverged(divergence),
            Ok(()) => Action::Rest(Rest::Waiting { draining: false }),
        }
    }

    /// Begins the turn of an input.
    fn begin(&mut self, record: &Arc<Record>) -> Action {
        let events = self.state.as_ref().map_or(0, |s| s.generation_events);
        let all = self.state.as_ref().map_or(0, |s| s.head.seq.0);
        if !self.dry && all > limits::RUN_EVENTS_MAX {
            let detail =
                format!("run.events_max: {all} records, at most {}", limits::RUN_EVENTS_MAX);
            return self.hold("limit:journal", Some(effect::plain_error("LimitError", detail)));
        }
        // Cancelling adds little, and always fits.
        let bounded = !self.dry && self.state.as_ref().is_some_and(|s| s.cancel.is_none());
        if bounded && events > limits::GENERATION_EVENTS_MAX {
            let most = limits::GENERATION_EVENTS_MAX;
            let detail = format!("generation_events_max: {events} records, at most {most}");
            return self.hold("limit:journal", Some(effect::plain_error("LimitError", detail)));
        }
        let idle = self.state.as_ref().map_or(0, |s| s.idle_generations);
        if bounded && events <= 1 && idle >= limits::IDLE_GENERATIONS_MAX {
            let detail = format!("idle_generations_max: {idle} generations asked for nothing");
            return self.hold("limit:generations", Some(effect::plain_error("LimitError", detail)));
        }
        let by_key = matches!(&record.event, Event::ProcessAssigned(a) if a.accepted.is_some());
        self.turn = Some(Turn {
            seq: record.seq,
            outputs: Vec::new(),
            cancels: Vec::new(),
            feeds: BTreeMap::new(),
            by_key,
        });
        self.script.fed = self.script.fed.max(record.seq);
        self.part(record)
    }

    /// One message to the host inside the turn in flight.
    fn part(&mut self, record: &Arc<Record>) -> Action {
        let Some(turn) = &self.turn else { return Action::Rest(Rest::Held) };
        let (seq, by_key) = (turn.seq, turn.by_key);
        // What was accepted is replayed at the times of what is replayed: a sleep that did not
        // change keeps its target.
        let at = if by_key && record.seq == seq { self.script.began } else { record.at };
        self.clock = self.clock.max(at);
        let expected = self.script.outputs.get(&seq).map_or(&[][..], Vec::as_slice);
        let marks = expected.iter().enumerate().filter_map(|(i, r)| match &r.event {
            Event::ValueObserved(o) => {
                Some((u32::try_from(i).ok()?, o.value.read::<String>().ok()?))
            }
            _ => None,
        });
        let plan = TurnPlan {
            seq,
            clock: self.clock,
            journaled_outputs: u32::try_from(expected.len()).unwrap_or(u32::MAX),
            journaled_marks: marks.collect(),
            live_after: self.script.outputs.keys().all(|cause| *cause == seq),
            by_key,
            feed: self.feed(record),
        };
        self.instance = Instance::InTurn;
        self.turns += 1;
        Action::Turn(Box::new(plan))
    }

    /// What an input does to the instance.
    fn feed(&mut self, record: &Record) -> FeedPlan {
        match &record.event {
            Event::EffectResolved(resolved) => {
                let id = resolved.effect_id;
                self.awaited.remove(&id);
                let state = self.state.as_ref();
                let patch = state.and_then(|s| s.patches.get(&id)).cloned();
                let signal = resolved.signal_seq.and_then(|s| self.script.signals.get(&s).cloned());
                let posted =
                    Payload::join(resolved.value.as_ref(), resolved.value_blob.as_ref()).or(signal);
                let fails = resolved.status == Status::Error && patch.is_none();
                let value = patch.map(Payload::Inline).or(posted);
                let attempts = state.and_then(|s| s.effect(id)).map_or(0, |e| e.attempts);
                let error = resolved.error.clone().filter(|_| fails);
                FeedPlan::Resolved { ordinal: id.ordinal(), value, error, attempts }
            }
            Event::EffectCancelled(gone) => {
                self.awaited.remove(&gone.effect_id);
                let (ordinal, reason) = (gone.effect_id.ordinal(), gone.reason.clone());
                FeedPlan::Cancelled { ordinal, reason }
            }
            Event::RunCancelRequested(request) => {
                let state = self.state.as_ref();
                self.awaited
                    .retain(|id| state.and_then(|s| s.effect(*id)).is_some_and(|e| e.cleanup));
                FeedPlan::CancelRequested { reason: request.reason.clone() }
            }
            _ => FeedPlan::RunStarted,
        }
    }

    /// A part of the turn in flight is done.
    fn turned(&mut self, done: TurnDone) -> Option<Action> {
        self.warnings.extend(done.warnings);
        let state = self.state.as_ref()?;
        let accept = state.accept.as_ref().map(|a| a.seq);
        let turn = self.turn.as_mut()?;
        turn.cancels.extend(done.cancels);
        for output in done.outputs {
            let bound = match &output {
                Output::Request(r) => state
                    .effect(EffectId::new(r.ordinal))
                    .filter(|e| accept.is_some_and(|a| e.requested_seq < a)),
                _ => None,
            };
            let Some(known) = bound else {
                turn.outputs.push(output);
                continue;
            };
            self.bound.insert(known.id, Mark::of_output(&output));
            self.bound_order.push(known.id);
            self.awaited.insert(known.id);
            if let Some(record) = self.script.spare.remove(&known.id) {
                turn.feeds.insert(record.seq, record);
            }
        }
        None
    }

    /// Compares a whole turn with the journal and journals what is new.
    fn conclude(&mut self, turn: Turn) -> Action {
        let expected = self.script.outputs.remove(&turn.seq).unwrap_or_default();
        let open_ended = self.script.outputs.is_empty();
        let generation = self.state.as_ref().map_or(1, |s| s.generation);
        let turn = Turn { outputs: turn.outputs.into_iter().map(drafts::settle).collect(), ..turn };
        let observed: Vec<&Output> = turn.outputs.iter().collect();
        let records: Vec<&Record> = expected.iter().map(AsRef::as_ref).collect();
        if let Err(divergence) =
            check::compare(generation, turn.seq, &records, &observed, open_ended)
        {
            return self.diverged(divergence);
        }
        self.remember(&turn.outputs);
        for (ordinal, reason) in turn.cancels {
            let since = self.clock;
            self.unwanted.insert(EffectId::new(ordinal), Unwanted { reason, since });
        }
        for output in &turn.outputs {
            if let Output::Request(request) = output {
                self.awaited.insert(EffectId::new(request.ordinal));
            }
        }
        let mut fresh = turn.outputs;
        if let Some(output) = fresh.pop_if(|o| is_end(o)) {
            self.settled = Some(Settled { cause: turn.seq, output });
        }
        let new = fresh.split_off(expected.len().min(fresh.len()));
        let (recorded, fresh) = (fresh, new);
        let requests = recorded.iter().filter(|o| matches!(o, Output::Request(_)));
        self.compared += requests.count() as u64;
        if self.dry {
            let end_is_journaled =
                expected.last().is_some_and(|r| Mark::of_event(&r.event).key.is_empty());
            return self.conclude_dry(fresh, end_is_journaled);
        }
        let mut batch = self.refusals(&recorded);
        if batch.is_empty() && fresh.is_empty() {
            return if self.settled.is_some() { self.finish() } else { self.advance() };
        }
        batch.extend(self.journal(turn.seq, &fresh));
        if batch.is_empty() { self.finish() } else { self.append(batch) }
    }

    /// Refusals of recorded requests that are not recorded themselves: whoever wrote the requests
    /// died in between.
    fn refusals(&self, recorded: &[Output]) -> Vec<Draft> {
        let Some(state) = &self.state else { return Vec::new() };
        let refusal = |r: &Request| {
            let id = EffectId::new(r.ordinal);
            let effect = state.effect(id).filter(|_| state.open.contains(&id))?;
            drafts::refusal(r, &effect.policy)
        };
        let refusals = recorded.iter().filter_map(|output| match output {
            Output::Request(request) => refusal(request),
            _ => None,
        });
        refusals.collect()
    }

    /// A dry run stops at the first thing that would be new.
    fn conclude_dry(&mut self, mut fresh: Vec<Output>, end_is_journaled: bool) -> Action {
        let settled = self.settled.as_ref().filter(|_| !end_is_journaled);
        fresh.extend(settled.map(|s| s.output.clone()));
        if fresh.is_empty() {
            return self.advance();
        }
        Action::Rest(Rest::WouldAppend(fresh))
    }

    /// Makes records of new outputs.
    fn journal(&mut self, cause: Seq, fresh: &[Output]) -> Vec<Draft> {
        let mut batch = Vec::new();
        for output in fresh {
            match output {
                Output::Request(request) if request.ordinal > limits::RUN_EFFECTS_MAX => {
                    let most = limits::RUN_EFFECTS_MAX;
                    let detail = format!("run.effects_max: a run has at most {most} effects");
                    let mut error = effect::plain_error("LimitError", detail);
                    error.data = Some(Json::of(&serde_json::json!({ "limit": "effects" })));
                    self.settled = Some(Settled { cause, output: Output::Failed { error } });
                    break;
                }
                Output::Request(request) => batch.extend(drafts::requested(request, cause)),
                Output::Mark { key, id } => batch.push(drafts::mark(key, id, cause)),
                _ => {}
            }
        }
        batch
    }

    /// The process has settled: give up its waits, drain its tasks, then write the end.
    fn finish(&mut self) -> Action {
        let (Some(state), Some(settled)) = (&self.state, &self.settled) else {
            return Action::Rest(Rest::Held);
        };
        if let Some(cancel) = &state.cancel {
            if !state.open.is_empty() {
                return Action::Rest(Rest::Waiting { draining: true });
            }
            let error = match &settled.output {
                Output::Failed { error } if error.name != "RunCancelledError" => {
                    Some(error.clone())
                }
                _ => None,
            };
            let draft = drafts::cancelled(cancel.reason.clone(), error);
            return self.append(vec![draft]);
        }
        let holds = Self::holds_on_error(state);
        match &settled.output {
            Output::Failed { error } if holds => {
                let error = error.clone();
                self.hold("process_error", Some(error))
            }
            Output::Halted { .. } => self.end_halted(),
            _ => self.end_drained(),
        }
    }

    /// Halting drops everything that is open, at once.
    fn end_halted(&mut self) -> Action {
        let (Some(state), Some(settled)) = (&self.state, &self.settled) else {
            return Action::Rest(Rest::Held);
        };
        let mut batch: Vec<Draft> = state
            .open_effects()
            .map(|e| drafts::plain(drafts::effect_cancelled(e, "run halted", "process")))
            .collect();
        batch.push(drafts::end(state, &settled.output, settled.cause, &self.warnings));
        self.append(batch)
    }

    /// Waits go with the process; tasks and child runs are waited for.
    fn end_drained(&mut self) -> Action {
        let (Some(state), Some(settled)) = (&self.state, &self.settled) else {
            return Action::Rest(Rest::Held);
        };
        let waits: Vec<Draft> = state
            .open_effects()
            .filter_map(|e| {
                let unwanted = self.unwanted.get(&e.id);
                let goes = match unwanted {
                    Some(unwanted) => stops_by(e, unwanted).is_none_or(|by| by <= self.now),
                    None => e.wait.ends_with_process(),
                };
                let reason = unwanted.map_or("process-returned", |u| u.reason.as_str());
                goes.then(|| drafts::plain(drafts::effect_cancelled(e, reason, "engine")))
            })
            .collect();
        if !waits.is_empty() {
            return self.append(waits);
        }
        if !state.open.is_empty() {
            return Action::Rest(Rest::Waiting { draining: true });
        }
        let end = drafts::end(state, &settled.output, settled.cause, &self.warnings);
        self.append(vec![end])
    }

    /// Whether an error of the process holds the run instead of ending it.
    fn holds_on_error(state: &RunState) -> bool {
        let babysitter = state.process.as_ref().is_some_and(|p| p.api == Profile::Babysitter);
        babysitter && state.parent.is_none()
    }

    fn diverged(&mut self, mut divergence: Box<Divergence>) -> Action {
        divergence.last_matched = self.last_matched.iter().cloned().collect();
        let class = divergence.class.to_owned();
        let cause = divergence.cause;
        let digest = Digest::of(Json::of(&*divergence).as_str().as_bytes());
        self.divergence = Some(divergence);
        self.instance = Instance::Absent;
        if self.dry {
            return Action::Rest(Rest::Diverged);
        }
        let held = RunHeld {
            reason: "diverged".into(),
            class: Some(class),
            turn: Some(cause),
            report_digest: Some(digest),
            error: None,
            by: "engine".into(),
        };
        self.append(vec![drafts::plain(held.into())])
    }

    fn hold(&mut self, reason: &str, error: Option<ErrorInfo>) -> Action {
        self.instance = Instance::Absent;
        let turn = self.turn.take().map(|t| t.seq).or(self.settled.take().map(|s| s.cause));
        if self.dry {
            self.hold_reason = Some(reason.to_owned());
            return Action::Rest(Rest::Held);
        }
        let held = RunHeld {
            reason: reason.to_owned(),
            class: None,
            turn,
            report_digest: None,
            error: error.map(clip_error),
            by: "engine".into(),
        };
        self.append(vec![drafts::plain(held.into())])
    }

    fn append(&mut self, batch: Vec<Draft>) -> Action {
        self.appending = batch.len();
        Action::Append(batch)
    }

    fn remember(&mut self, outputs: &[Output]) {
        for output in outputs {
            self.last_matched.push_back(Mark::of_output(output).key);
            if self.last_matched.len() > LAST_MATCHED {
                self.last_matched.pop_front();
            }
        }
    }
}

fn is_end(output: &Output) -> bool {
    !matches!(output, Output::Request(_) | Output::Mark { .. })
}

/// When the holder of an effect that the process gave up has had its time to stop. Nothing where
/// nobody has to be heard.
fn stops_by(effect: &Effect, unwanted: &Unwanted) -> Option<Timestamp> {
    let held = effect.status == EffectStatus::Started && matches!(effect.wait, Wait::Outside);
    held.then(|| unwanted.since.later_by(limits::CANCEL_GRACE_MS))
}

/// What is known about an effect that the runtime gives up.
pub(super) fn cancel_outcome(effect: &Effect) -> CancelOutcome {
    if effect.status != EffectStatus::Requested || effect.failures.unknown > 0 {
        CancelOutcome::Unknown
    } else if effect.failures.reported > 0 {
        CancelOutcome::Reported
    } else {
        CancelOutcome::NotBegun
    }
}
