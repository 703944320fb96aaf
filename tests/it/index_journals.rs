//! Journals at random for tests of the index: every kind of effect, every way to go on and to end.
//! What the fold refuses is left out, so that each journal is one a run could have.

use dormouse::codecs::event::{
    CancelOutcome, EffectAttemptFailed, EffectCancelled, EffectRequested, EffectResolved,
    EffectStarted, EffectUncertain, Event, FailureClass, IdempotencyRef, ParentRef, Policy,
    ProcessAssigned, ProcessRef, Profile, Record, RunCancelRequested, RunCancelled, RunCompleted,
    RunContinued, RunCreated, RunHeld, RunPaused, RunResumed, Seal, SignalReceived, Status,
};
use dormouse::codecs::json::Json;
use dormouse::ground::digest::{Digest, Sum};
use dormouse::ground::id::{EffectId, Epoch, RunId, Seq};
use dormouse::machines::replay::state::RunState;
use serde_json::json;

use crate::support::{at, note};

/// A generator of its own, so that a seed says everything.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// A journal and its fold after each record.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub run: RunId,
    pub records: Vec<Record>,
    pub states: Vec<RunState>,
}

impl Life {
    /// Up to `steps` records of a run.
    pub(crate) fn at_random(run: &RunId, chance: &mut Chance, steps: usize) -> Self {
        let mut life = Self { run: run.clone(), records: Vec::new(), states: Vec::new() };
        life.append(created(run, chance));
        for _ in 1..steps {
            let event = event(life.last(), chance);
            life.append(event);
        }
        life
    }

    pub(crate) fn last(&self) -> &RunState {
        self.states.last().unwrap()
    }

    /// Appends the event if it is legal.
    pub(crate) fn append(&mut self, event: Event) {
        let seq = Seq(self.records.len() as u64 + 1);
        let mut sum = [0; 16];
        let digest = Digest::of(format!("{}{seq}{}", self.run, event.data().as_str()).as_bytes());
        sum.copy_from_slice(&digest.as_bytes()[..16]);
        let record = Record { seq, at: at(seq.0 * 7), event, sum: Sum::from_bytes(sum) };
        let state = match self.states.last() {
            None => RunState::first(&record).ok(),
            Some(state) => {
                let mut state = state.clone();
                state.apply(&record).ok().map(|()| state)
            }
        };
        if let Some(state) = state {
            self.states.push(state);
            self.records.push(record);
        }
    }
}

fn process(chance: &mut Chance) -> ProcessRef {
    let name = *chance.pick(&["build", "deploy", "review"]);
    ProcessRef {
        process_id: name.into(),
        entry: "main.js".into(),
        export_name: None,
        api: Profile::Dormouse,
        digest: Digest::of(name.as_bytes()),
    }
}

fn created(run: &RunId, chance: &mut Chance) -> Event {
    let tags = ["blue", "green", "red"].into_iter().filter(|_| chance.one_in(3));
    let tags: Vec<String> = tags.map(str::to_owned).collect();
    let parent =
        ParentRef { run_id: "the-parent".parse().unwrap(), effect_id: EffectId::new(3), depth: 1 };
    let key = IdempotencyRef { key: format!("key of {run}"), digest: Digest::of(b"asked") };
    RunCreated {
        run_id: run.clone(),
        process: (!chance.one_in(8)).then(|| process(chance)),
        inputs: None,
        inputs_blob: None,
        parent: chance.one_in(4).then_some(parent),
        idempotency: chance.one_in(3).then_some(key),
        generation: 1,
        tags,
        cwd: None,
        non_interactive: chance.one_in(6),
        system: None,
        schedule: None,
        traceparent: None,
        by: "operator:test".into(),
    }
    .into()
}

fn requested(state: &RunState, chance: &mut Chance) -> Event {
    let kinds = ["agent", "shell", "sleep", "signal", "breakpoint", "run", "hook"];
    let kind = *chance.pick(&kinds);
    let name = *chance.pick(&["paid", "left"]);
    let key = chance.one_in(2).then(|| format!("order-{}", chance.below(3)));
    let def = match kind {
        "sleep" => json!({ "sleep": { "targetEpochMs": at(50 + chance.below(99)).millis() } }),
        "signal" => json!({ "signal": { "name": name, "correlationKey": key } }),
        "run" => json!({ "run": { "process": "./child.js" } }),
        "agent" => json!({ "agent": { "name": name } }),
        _ => json!({}),
    };
    let timeout = |chance: &mut Chance| chance.one_in(3).then(|| chance.below(90) * 1000);
    let policy = Policy {
        start_timeout_ms: timeout(chance),
        total_timeout_ms: timeout(chance),
        idempotency_key: chance.one_in(4).then(|| format!("k{}", chance.below(9))),
        priority: chance.one_in(3).then(|| u32::try_from(chance.below(1001)).unwrap()),
        requires: if chance.one_in(3) { vec!["gpu".into()] } else { Vec::new() },
        ..Policy::default()
    };
    let ordinal = state.next_ordinal();
    EffectRequested {
        effect_id: EffectId::new(ordinal),
        key: format!("ask#{ordinal}"),
        name: "ask".into(),
        scope: String::new(),
        cause: state.generation_start,
        kind: kind.into(),
        task_id: (kind == "agent").then(|| "ask".to_owned()),
        title: chance.one_in(2).then(|| format!("title {ordinal}")),
        label: None,
        labels: Vec::new(),
        def: Some(Json::of(&def)),
        def_blob: None,
        def_digest: Digest::of(b""),
        args: None,
        args_blob: None,
        args_digest: Digest::of(&[u8::try_from(ordinal % 5).unwrap()]),
        policy,
        cleanup: chance.one_in(6),
    }
    .into()
}

/// Something that happens to an effect of the run, open or not.
fn moved(state: &RunState, chance: &mut Chance) -> Event {
    let open: Vec<EffectId> = state.open.iter().copied().collect();
    let Some(id) = (!open.is_empty()).then(|| *chance.pick(&open)) else { return note(1) };
    let effect = state.effect(id).unwrap();
    let (epoch, effect_id) = (effect.epoch, id);
    match chance.below(9) {
        0..=2 => EffectStarted {
            effect_id,
            epoch: epoch.next(),
            attempt: effect.attempts + 1,
            worker: (*chance.pick(&["ann", "bob", "@daemon"])).into(),
            ttl_ms: 1,
            idempotency_key: "k".into(),
            target: None,
            claim: None,
            slots: Vec::new(),
        }
        .into(),
        3 => EffectAttemptFailed {
            effect_id,
            epoch,
            attempt: effect.attempts,
            class: FailureClass::Reported,
            cause: "x".into(),
            error: None,
            counted: true,
            post_digest: None,
            stdout: None,
            stderr: None,
            decision: None,
            next_attempt_at: at(300 + chance.below(9)),
            by: "w".into(),
        }
        .into(),
        4 => {
            let cause = "lease_expired".into();
            EffectUncertain { effect_id, epoch, cause, evidence: None }.into()
        }
        5 => EffectCancelled {
            effect_id,
            epoch,
            outcome: CancelOutcome::Unknown,
            reason: "r".into(),
            by: "w".into(),
        }
        .into(),
        _ => {
            let status = *chance.pick(&[Status::Ok, Status::Error]);
            let unclaimed = effect.status.name() == "requested";
            let epoch = if unclaimed { Epoch(0) } else { epoch };
            EffectResolved::bare(effect_id, epoch, status, "w").into()
        }
    }
}

fn event(state: &RunState, chance: &mut Chance) -> Event {
    let by = || "operator:test".to_owned();
    match chance.below(32) {
        0 => note(1),
        1 => RunPaused { reason: "operator".into(), effect_id: None, by: by() }.into(),
        2..=4 => RunResumed { reason: None, patch: None, by: by() }.into(),
        5 if chance.one_in(2) => RunHeld {
            reason: "limit:cpu".into(),
            class: None,
            turn: None,
            report_digest: None,
            error: None,
            by: "engine".into(),
        }
        .into(),
        6 => SignalReceived {
            signal_id: format!("s{}", state.head.seq),
            name: (*chance.pick(&["paid", "left"])).into(),
            correlation_key: chance.one_in(2).then(|| format!("order-{}", chance.below(3))),
            payload: None,
            payload_blob: None,
            digest: Digest::of(b""),
            by: by(),
        }
        .into(),
        7 if chance.one_in(4) => {
            RunCancelRequested { reason: None, now: chance.one_in(2), by: by() }.into()
        }
        8 => RunCancelled { reason: None, error: None, by: "engine".into() }.into(),
        9 if chance.one_in(2) => RunCompleted {
            output: Some(Json::null()),
            output_blob: None,
            output_digest: Digest::of(b"null"),
            warnings: Vec::new(),
            seal: Some(Seal { reason: "r".into(), by: by() }),
            cause: None,
        }
        .into(),
        10 => RunContinued {
            generation: state.generation + 1,
            process: process(chance),
            inputs: None,
            inputs_blob: None,
            carry: None,
            cause: state.generation_start,
        }
        .into(),
        11..=13 => ProcessAssigned {
            process: process(chance),
            previous: None,
            force: chance.one_in(3),
            accepted: None,
            inputs: None,
            inputs_blob: None,
            reason: None,
            by: by(),
        }
        .into(),
        14..=21 => requested(state, chance),
        _ => moved(state, chance),
    }
}
