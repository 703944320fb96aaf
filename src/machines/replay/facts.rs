//! What the index knows of a run, as a function of the folded run.
//!
//! May not know how facts are stored or who asks for them. Invariant: an open run has a reason to
//! wake, whatever its journal says.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::automatic::automatic;
use super::state::{CancelRequest, RunState};
use crate::codecs::event::{Event, Head, IdempotencyRef, ParentRef, Record};
use crate::ground::clock::Timestamp;
use crate::ground::digest::{Digest, Sum};
use crate::ground::id::{EffectId, Epoch, RunId, Seq};
use crate::ground::limits::{CANCEL_GRACE_MS, CLEANUP_TIMEOUT_MS};
use crate::machines::effect::Wait;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::ledger::Row;
use crate::machines::limits::Demand;
use crate::machines::ready::{PRIORITY_DEFAULT, Ready};

/// The state of a run that cannot be read.
pub const DAMAGED: &str = "damaged";

/// Every name that [`state_name`] and [`native_state`] give.
const NAMES: [&str; 11] = [
    "created",
    "running",
    "waiting",
    "parked",
    "paused",
    "held",
    "completed",
    "failed",
    "halted",
    "cancelled",
    DAMAGED,
];

/// The states that a run does not leave.
pub const END_STATES: [&str; 4] = ["completed", "failed", "halted", "cancelled"];

/// The name itself, if it is one of a state.
#[must_use]
pub fn known_state(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

/// `created`, `waiting`, `held`, `completed`, `failed`, `halted`, `cancelled`.
#[must_use]
pub fn state_name(state: &RunState) -> &'static str {
    match (&state.end, &state.held) {
        (Some((end, _)), _) => end.name(),
        (None, Some(_)) => "held",
        (None, None) if state.outputs_count == 0 && state.generation == 1 => "created",
        (None, None) => "waiting",
    }
}

/// The state of process API: also `paused`, `parked`, `running`.
#[must_use]
pub fn native_state(state: &RunState) -> &'static str {
    match state_name(state) {
        "waiting" | "created" if state.paused.is_some() => "paused",
        "waiting" if state.open.is_empty() => "running",
        "waiting" => "parked",
        name => name,
    }
}

/// When time alone will make something happen: a sleep ends, a limit passes, an attempt may be
/// made, clean-up is over. An attempt that waits for somebody else than time may lie in the past.
#[must_use]
pub fn wake_at(state: &RunState) -> Option<Timestamp> {
    wake_after(state, Timestamp::from_micros(i64::MIN))
}

/// The same, without attempts that could be made by `now`.
#[must_use]
pub fn wake_after(state: &RunState, now: Timestamp) -> Option<Timestamp> {
    if !state.is_open() || state.held.is_some() {
        return None;
    }
    let timer = state.timers.first().map(|(due, _)| *due);
    let after = (now, EffectId::new(u32::MAX));
    let attempt = state.delayed.range((Excluded(after), Unbounded)).next().map(|(at, _)| *at);
    let cancel = state.cancel.as_ref().filter(|_| !state.open.is_empty());
    let cleanup = cancel.map(|cancel| cancel.at.plus_millis(CLEANUP_TIMEOUT_MS));
    let stop = cancel.and_then(|cancel| {
        let grace = cancel.at.later_by(CANCEL_GRACE_MS);
        let waits = |e: &Effect| !e.cleanup && may_still_stop(cancel, e, cancel.at);
        state.open_effects().any(waits).then_some(grace)
    });
    timer.into_iter().chain(attempt).chain(cleanup).chain(stop).min()
}

/// Whether whoever executes the effect of a run that is being cancelled has time left to say what
/// became of it.
#[must_use]
pub fn may_still_stop(cancel: &CancelRequest, effect: &Effect, now: Timestamp) -> bool {
    let held = effect.status == EffectStatus::Started && matches!(effect.wait, Wait::Outside);
    held && !cancel.now && now < cancel.at.later_by(CANCEL_GRACE_MS)
}

/// Something that will wake a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It can go on now: never started, or there is something that it has not answered.
    Runnable = 1,
    /// A moment.
    Timer = 2,
    /// Whoever executes its effects.
    Outside = 4,
    /// A person who decides a breakpoint.
    Person = 8,
    /// A signal.
    Signal = 16,
    /// A child run.
    Child = 32,
    /// An operator: it is paused, held or bare, an outcome is unknown, or it waits for nothing.
    Operator = 64,
}

impl Reason {
    /// All of them, in the order of their names in lists.
    pub const ALL: [Self; 7] = [
        Self::Runnable,
        Self::Timer,
        Self::Outside,
        Self::Person,
        Self::Signal,
        Self::Child,
        Self::Operator,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Runnable => "runnable",
            Self::Timer => "timer",
            Self::Outside => "outside",
            Self::Person => "person",
            Self::Signal => "signal",
            Self::Child => "child",
            Self::Operator => "operator",
        }
    }
}

/// The set of reasons for which a run will wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reasons(u8);

impl Reasons {
    /// The set behind the number that [`Reasons::bits`] gave.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x7f)
    }

    /// The set as a number.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether nothing will wake it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `reason` is among them.
    #[must_use]
    pub const fn has(self, reason: Reason) -> bool {
        self.0 & reason as u8 != 0
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Reason::ALL.into_iter().filter(move |reason| self.has(*reason)).map(Reason::name)
    }

    fn add(&mut self, reason: Reason) {
        self.0 |= reason as u8;
    }

    /// What will wake a run. Whether its process has answered every input is not in the journal: a
    /// turn may put out nothing. `resting` says that it has.
    #[must_use]
    pub fn of(state: &RunState, resting: bool) -> Self {
        let mut reasons = Self::default();
        if !state.is_open() {
            return reasons;
        }
        if state.process.is_none() || state.held.is_some() {
            // Nothing is executed, but a cancellation is carried out.
            let cancelling = state.cancel.is_some();
            reasons.add(if cancelling { Reason::Runnable } else { Reason::Operator });
            return reasons;
        }
        if state.paused.is_some() {
            reasons.add(Reason::Operator);
        } else if !resting {
            reasons.add(Reason::Runnable);
        }
        if wake_at(state).is_some() {
            reasons.add(Reason::Timer);
        }
        let long_ago = Timestamp::from_micros(i64::MIN);
        let doomed = |effect: &Effect| state.cancel.is_some() && !effect.cleanup;
        if automatic(state, long_ago).is_some() || state.open_effects().any(doomed) {
            reasons.add(Reason::Runnable);
        }
        state.open_effects().for_each(|effect| reasons.add(waker(effect)));
        if reasons.is_empty() {
            reasons.add(Reason::Operator);
        }
        reasons
    }
}

/// Who ends one open effect.
fn waker(effect: &Effect) -> Reason {
    match (&effect.wait, effect.status) {
        (_, EffectStatus::Uncertain) if effect.asks_a_person() => Reason::Person,
        (_, EffectStatus::Uncertain) => Reason::Operator,
        (Wait::Breakpoint(_), _) => Reason::Person,
        (Wait::Sleep { .. }, _) => Reason::Timer,
        (Wait::Signal(_), _) => Reason::Signal,
        (Wait::Run(_), _) => Reason::Child,
        (Wait::Hook(_) | Wait::Echo(_), _) => Reason::Runnable,
        (Wait::Outside, _) => Reason::Outside,
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFacts {
    /// Its id.
    pub run_id: RunId,
    /// Its state, as [`state_name`] says; [`DAMAGED`] if it cannot be read.
    pub state: &'static str,
    /// Its finer state, as [`native_state`] says.
    pub native_state: &'static str,
    /// The name of its process.
    pub process_id: Option<String>,
    /// The digest of its code.
    pub process_digest: Option<Digest>,
    /// Set in a child run.
    pub parent: Option<ParentRef>,
    /// Words for finding it.
    pub tags: Vec<String>,
    /// When it was created; 1970 for a run that cannot be read.
    pub created_at: Timestamp,
    /// Its last record.
    pub last_at: Timestamp,
    /// Where its journal ends.
    pub head: Head,
    /// How many effects of each kind have no outcome.
    pub pending: BTreeMap<String, u32>,
    /// The key under which it was created.
    pub idempotency: Option<IdempotencyRef>,
    /// What will wake it.
    pub reasons: Reasons,
    /// When time will.
    pub wake_at: Option<Timestamp>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

impl RunFacts {
    /// The facts of a folded run; `resting` as in [`Reasons::of`].
    #[must_use]
    pub fn of(state: &RunState, resting: bool) -> Self {
        let mut pending = BTreeMap::new();
        for effect in state.open_effects() {
            match pending.get_mut(&effect.kind) {
                Some(count) => *count += 1,
                None => {
                    pending.insert(effect.kind.clone(), 1);
                }
            }
        }
        Self {
            run_id: state.run_id.clone(),
            state: state_name(state),
            native_state: native_state(state),
            process_id: state.process.as_ref().map(|p| p.process_id.clone()),
            process_digest: state.process.as_ref().map(|p| p.digest),
            parent: state.parent.clone(),
            tags: state.tags.clone(),
            created_at: state.created_at,
            last_at: state.last_at,
            head: state.head,
            pending,
            idempotency: state.idempotency.clone(),
            reasons: Reasons::of(state, resting),
            wake_at: wake_at(state),
            problem: None,
        }
    }

    /// Whether it has not ended. A run that cannot be read counts as open: somebody has to look.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !END_STATES.contains(&self.state)
    }
}

/// One effect without an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectFacts {
    /// Its name in the run.
    pub effect_id: EffectId,
    /// `agent`, `shell`, `breakpoint`…
    pub kind: String,
    /// Where it stands.
    pub status: EffectStatus,
    /// Invocation key.
    pub key: String,
    /// For display.
    pub title: Option<String>,
    /// The task's id.
    pub task_id: Option<String>,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// Last start; 0: none.
    pub epoch: Epoch,
    /// Who started it last.
    pub worker: Option<String>,
    /// When the runtime must look at it.
    pub due_at: Option<Timestamp>,
    /// The signal that it waits for.
    pub signal: Option<SignalWait>,
    /// The limits, besides its kind's, under which it is started.
    pub limit_keys: Vec<String>,
    /// Whoever works outside may start it.
    pub ready: Option<ReadyFacts>,
    /// The last start, of an effect that has one.
    pub start: Option<StartFacts>,
}

impl EffectFacts {
    /// When it became ready, or will be; of what nobody may start now, when it was asked for.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.ready.as_ref().map_or(self.requested_at, |ready| ready.at)
    }
}

/// What decides who starts an effect, and when. Absent while nobody may: its run is paused, held or
/// gives up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyFacts {
    /// Since when, or from when on.
    pub at: Timestamp,
    /// When a delay ends, if there is one: only that makes an effect wait, whatever a clock says.
    pub not_before: Option<Timestamp>,
    /// 0 to 1000; higher first.
    pub priority: u32,
    /// What a worker must offer.
    pub requires: Vec<String>,
    /// The agent that is to do it.
    pub agent: Option<String>,
}

impl ReadyFacts {
    /// Whether it may be started by now.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|until| until <= now)
    }

    fn of(state: &RunState, effect: &Effect) -> Option<Self> {
        let may_start = state.is_open()
            && state.paused.is_none()
            && state.held.is_none()
            && (state.cancel.is_none() || effect.cleanup)
            && effect.status == EffectStatus::Requested
            && matches!(effect.wait, Wait::Outside);
        may_start.then(|| Self {
            at: effect.ready_at().unwrap_or(effect.requested_at),
            not_before: effect.delayed_until(),
            priority: effect.policy.priority.unwrap_or(PRIORITY_DEFAULT),
            requires: effect.policy.requires.clone(),
            agent: effect.agent.clone(),
        })
    }
}

/// Who is at an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFacts {
    /// How long silence is taken for life.
    pub ttl_ms: u64,
    /// The name that the claim was given by whoever claimed.
    pub claim: Option<String>,
    /// When the time for the attempt is over.
    pub overdue_at: Option<Timestamp>,
}

impl StartFacts {
    fn of(effect: &Effect) -> Option<Self> {
        let started_at = effect.started_at.filter(|_| effect.epoch > Epoch(0))?;
        Some(Self {
            ttl_ms: effect.ttl_ms,
            claim: effect.claim.clone(),
            overdue_at: effect.policy.attempt_timeout_ms.map(|ms| started_at.later_by(ms)),
        })
    }
}

/// A signal that an effect waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalWait {
    /// Its name.
    pub name: String,
    /// Its correlation key; a wait without one takes any.
    pub correlation_key: Option<String>,
}

impl EffectFacts {
    /// The facts of an effect of a folded run.
    #[must_use]
    pub fn of(state: &RunState, effect: &Effect) -> Self {
        let signal = match &effect.wait {
            Wait::Signal(facts) => Some(SignalWait {
                name: facts.name.clone(),
                correlation_key: facts.correlation_key.clone(),
            }),
            _ => None,
        };
        Self {
            effect_id: effect.id,
            kind: effect.kind.clone(),
            status: effect.status,
            key: effect.key.clone(),
            title: effect.title.clone().or_else(|| effect.label.clone()),
            task_id: effect.task_id.clone(),
            requested_at: effect.requested_at,
            epoch: effect.epoch,
            worker: effect.worker.clone(),
            due_at: effect.due_at(),
            signal,
            limit_keys: effect.policy.limit_keys.clone(),
            ready: ReadyFacts::of(state, effect),
            start: StartFacts::of(effect),
        }
    }
}

impl EffectFacts {
    /// An effect of a run as somebody who could start it.
    #[must_use]
    pub fn as_ready(&self, run: &RunId, ready: &ReadyFacts) -> Ready {
        Ready {
            run_id: run.clone(),
            effect_id: self.effect_id,
            at: ready.at,
            priority: ready.priority,
            after: self.epoch,
            demand: Arc::new(Demand::new(&self.kind, &self.limit_keys)),
        }
    }
}

/// The effects whose facts some records may have changed: those that they name, or all that are
/// open when a record decides for the whole run who may start.
pub fn touched<'a>(
    state: &RunState,
    news: impl IntoIterator<Item = &'a Record>,
) -> BTreeSet<EffectId> {
    let mut touched = BTreeSet::new();
    for record in news {
        touched.extend(record.event.effect_id());
        let for_all = matches!(
            record.event,
            Event::RunPaused(_)
                | Event::RunHeld(_)
                | Event::RunResumed(_)
                | Event::RunCancelRequested(_)
                | Event::ProcessAssigned(_)
        );
        if for_all {
            touched.extend(state.open.iter().copied());
        }
    }
    touched
}

/// An effect whose author gave it an explicit idempotency key: known beyond its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// The key.
    pub key: String,
    /// The effect.
    pub effect_id: EffectId,
    /// Its kind.
    pub kind: String,
    /// Where it stands.
    pub status: EffectStatus,
    /// What identifies the work.
    pub digest: Digest,
    /// What it says to others with the same key, if anything.
    pub row: Option<Row>,
}

impl KeyFacts {
    fn of(run: &RunId, effect: &Effect) -> Option<Self> {
        Some(Self {
            key: effect.policy.idempotency_key.clone()?,
            effect_id: effect.id,
            kind: effect.kind.clone(),
            status: effect.status,
            digest: effect.def_digest,
            row: Row::of(run, effect),
        })
    }

    fn all<'a>(state: &RunState, effects: impl Iterator<Item = &'a Effect>) -> Vec<Self> {
        // Outcomes of the run that a fork was made of are that run's to give.
        let own = effects.filter(|e| e.status.is_open() || !state.is_inherited(e));
        own.filter_map(|effect| Self::of(&state.run_id, effect)).collect()
    }
}

/// What the index is told of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The run as it is now.
    pub run: RunFacts,
    /// Nothing: the effects below are all there are. A place: they are what changed after it.
    pub base: Option<Seq>,
    /// Effects without an outcome, by number.
    pub open: Vec<EffectFacts>,
    /// Effects that have ended after `base`.
    pub ended: Vec<EffectId>,
    /// Effects with explicit keys, by number.
    pub keys: Vec<KeyFacts>,
}

impl Update {
    /// All there is to know of a run.
    #[must_use]
    pub fn whole(state: &RunState, resting: bool) -> Self {
        Self {
            run: RunFacts::of(state, resting),
            base: None,
            open: state.open_effects().map(|effect| EffectFacts::of(state, effect)).collect(),
            ended: Vec::new(),
            keys: KeyFacts::all(state, state.effects.values()),
        }
    }

    /// What has changed since record `base`, by records about the effects `touched`. After 0 it is
    /// the whole of a new run.
    #[must_use]
    pub fn since(state: &RunState, resting: bool, base: Seq, touched: &BTreeSet<EffectId>) -> Self {
        let effects = || touched.iter().filter_map(|id| state.effect(*id));
        let is_open = |effect: &&Effect| effect.status.is_open();
        Self {
            run: RunFacts::of(state, resting),
            base: Some(base),
            open: effects().filter(is_open).map(|e| EffectFacts::of(state, e)).collect(),
            ended: effects().filter(|e| !is_open(e)).map(|e| e.id).collect(),
            keys: KeyFacts::all(state, effects()),
        }
    }

    /// A run that cannot be read.
    #[must_use]
    pub fn damaged(run_id: RunId, problem: String) -> Self {
        let mut reasons = Reasons::default();
        reasons.add(Reason::Operator);
        let run = RunFacts {
            run_id,
            state: DAMAGED,
            native_state: DAMAGED,
            process_id: None,
            process_digest: None,
            parent: None,
            tags: Vec::new(),
            created_at: Timestamp::default(),
            last_at: Timestamp::default(),
            head: Head { seq: Seq(0), sum: Sum::from_bytes([0; 16]) },
            pending: BTreeMap::new(),
            idempotency: None,
            reasons,
            wake_at: None,
            problem: Some(problem),
        };
        Self { run, base: None, open: Vec::new(), ended: Vec::new(), keys: Vec::new() }
    }
}
