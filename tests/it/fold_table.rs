//! The fold as a table: which event is legal in which state, and that what is not legal changes
//! nothing; sequences at random never panic, fold the same twice, and survive the state cache.

use dormouse::codecs::event::{
    CancelOutcome, Edit, EffectAttemptFailed, EffectCancelled, EffectRequested, EffectResolved,
    EffectStarted, EffectUncertain, Event, FailureClass, ForkedFrom, ObservedOp, Patch, Policy,
    ProcessAssigned, Record, RunCancelRequested, RunCancelled, RunCompleted, RunContinued,
    RunFailed, RunForkedFrom, RunHalted, RunHeld, RunPaused, RunResumed, Seal, SignalReceived,
    Status, ValueObserved,
};
use dormouse::codecs::json::Json;
use dormouse::ground::digest::Digest;
use dormouse::ground::id::{EffectId, Epoch, Seq};
use dormouse::machines::effect::plain_error;
use dormouse::machines::replay::facts::Update;
use dormouse::machines::replay::state::{RunState, fold};
use serde_json::json;

use crate::support::{at, created_with, note, process, run_id};

fn created(bare: bool) -> Event {
    created_with(&run_id(), (!bare).then(process))
}

fn requested(n: u32, kind: &str, cause: u64) -> Event {
    let def = json!({ "kind": kind, "sleep": { "targetEpochMs": 5 }, "signal": { "name": "s" } });
    EffectRequested {
        effect_id: EffectId::new(n),
        key: format!("k{n}"),
        name: "k".into(),
        scope: String::new(),
        cause: Seq(cause),
        kind: kind.into(),
        task_id: None,
        title: None,
        label: None,
        labels: Vec::new(),
        def: Some(Json::of(&def)),
        def_blob: None,
        def_digest: Digest::of(b""),
        args: None,
        args_blob: None,
        args_digest: Digest::of(b""),
        policy: Policy::default(),
        cleanup: false,
    }
    .into()
}

fn started(epoch: u64) -> Event {
    EffectStarted {
        effect_id: EffectId::new(1),
        epoch: Epoch(epoch),
        attempt: 1,
        worker: "w".into(),
        ttl_ms: 1,
        idempotency_key: "k".into(),
        target: None,
        claim: None,
        slots: Vec::new(),
    }
    .into()
}

fn attempt_failed(epoch: u64, class: FailureClass) -> Event {
    EffectAttemptFailed {
        effect_id: EffectId::new(1),
        epoch: Epoch(epoch),
        attempt: 1,
        class,
        cause: "x".into(),
        error: None,
        counted: true,
        post_digest: None,
        stdout: None,
        stderr: None,
        decision: None,
        next_attempt_at: at(9),
        by: "w".into(),
    }
    .into()
}

fn uncertain(epoch: u64, cause: &str) -> Event {
    let (effect_id, epoch) = (EffectId::new(1), Epoch(epoch));
    EffectUncertain { effect_id, epoch, cause: cause.into(), evidence: None }.into()
}

fn resolved(epoch: u64, status: Status, signal: Option<u64>) -> Event {
    let bare = EffectResolved::bare(EffectId::new(1), Epoch(epoch), status, "w");
    EffectResolved { signal_seq: signal.map(Seq), ..bare }.into()
}

fn gone(epoch: u64, outcome: CancelOutcome) -> Event {
    let (effect_id, epoch) = (EffectId::new(1), Epoch(epoch));
    EffectCancelled { effect_id, epoch, outcome, reason: "r".into(), by: "w".into() }.into()
}

fn signal(id: &str) -> Event {
    SignalReceived {
        signal_id: id.into(),
        name: "s".into(),
        correlation_key: None,
        payload: None,
        payload_blob: None,
        digest: Digest::of(b""),
        by: "w".into(),
    }
    .into()
}

fn assigned(force: bool) -> Event {
    ProcessAssigned {
        process: process(),
        previous: None,
        force,
        accepted: None,
        inputs: None,
        inputs_blob: None,
        reason: None,
        by: "w".into(),
    }
    .into()
}

fn held() -> Event {
    RunHeld {
        reason: "limit:cpu".into(),
        class: None,
        turn: None,
        report_digest: None,
        error: None,
        by: "engine".into(),
    }
    .into()
}

fn paused() -> Event {
    RunPaused { reason: "operator".into(), effect_id: None, by: "w".into() }.into()
}

fn resumed(patch: bool) -> Event {
    let patch =
        patch.then(|| Patch { effect_id: EffectId::new(1), path: "a".into(), value: Json::null() });
    RunResumed { reason: None, patch, by: "w".into() }.into()
}

fn cancel_requested() -> Event {
    RunCancelRequested { reason: None, now: false, by: "w".into() }.into()
}

fn cancelled() -> Event {
    RunCancelled { reason: None, error: None, by: "engine".into() }.into()
}

fn completed(sealed: bool) -> Event {
    RunCompleted {
        output: Some(Json::null()),
        output_blob: None,
        output_digest: Digest::of(b"null"),
        warnings: Vec::new(),
        seal: sealed.then(|| Seal { reason: "r".into(), by: "w".into() }),
        cause: (!sealed).then_some(Seq(1)),
    }
    .into()
}

fn failed() -> Event {
    RunFailed {
        error: plain_error("Error", String::new()),
        last_effect: None,
        warnings: Vec::new(),
        seal: None,
        cause: Some(Seq(1)),
    }
    .into()
}

fn halted() -> Event {
    RunHalted { reason: "r".into(), payload: None, cause: Some(Seq(1)), by: "process".into() }
        .into()
}

fn continued(generation: u32) -> Event {
    RunContinued {
        generation,
        process: process(),
        inputs: None,
        inputs_blob: None,
        carry: None,
        cause: Seq(1),
    }
    .into()
}

fn marked() -> Event {
    let (key, op) = ("@patch:p#0".to_owned(), ObservedOp::Patch);
    ValueObserved { key, op, value: Json::of("p"), cause: Seq(1) }.into()
}

/// A fork after record `seq` that edits, or executes again, the first effect.
fn forked(seq: u64, edits: bool, reruns: bool) -> Event {
    let first = EffectId::new(1);
    let sum = dormouse::codecs::format::line::genesis(&run_id());
    RunForkedFrom {
        run_id: "fork".parse().unwrap(),
        forked_from: ForkedFrom { run_id: run_id(), seq: Seq(seq), sum },
        rerun: if reruns { vec![first] } else { Vec::new() },
        edits: if edits { vec![Edit { effect_id: first, value: Json::of("v") }] } else { vec![] },
        by: "w".into(),
    }
    .into()
}

/// States by name, as the events that lead there.
fn states() -> Vec<(&'static str, Vec<Event>)> {
    let asked = || vec![created(false), requested(1, "agent", 1)];
    let with = |mut before: Vec<Event>, more: Vec<Event>| {
        before.extend(more);
        before
    };
    let ok = || resolved(0, Status::Ok, None);
    vec![
        ("bare", vec![created(true)]),
        ("created", vec![created(false)]),
        ("requested", asked()),
        ("sleeping", vec![created(false), requested(1, "sleep", 1)]),
        ("started", with(asked(), vec![started(1)])),
        ("uncertain", with(asked(), vec![started(1), uncertain(1, "lease_expired")])),
        ("reported", with(asked(), vec![started(1), attempt_failed(1, FailureClass::Reported)])),
        ("unknown", with(asked(), vec![started(1), attempt_failed(1, FailureClass::Unknown)])),
        ("ok", with(asked(), vec![ok()])),
        ("error", with(asked(), vec![resolved(0, Status::Error, None)])),
        ("gone", with(asked(), vec![gone(0, CancelOutcome::NotBegun)])),
        ("signalled", vec![created(false), requested(1, "signal", 1), signal("a")]),
        ("paused", vec![created(false), paused()]),
        ("held", vec![created(false), held()]),
        ("held, ok", with(asked(), vec![ok(), held()])),
        ("cancelling", vec![created(false), cancel_requested()]),
        ("completed", vec![created(false), completed(false)]),
        ("cancelled", vec![created(false), cancel_requested(), cancelled()]),
        ("second", vec![created(false), continued(2)]),
    ]
}

const ENDED: [&str; 2] = ["completed", "cancelled"];

/// Every event with the states in which it is legal; `!` before the list: in all but those.
fn table() -> Vec<(&'static str, Event, &'static str)> {
    let running = "created requested sleeping started uncertain reported unknown ok error gone \
                   signalled cancelling";
    let idle = "created ok error gone";
    vec![
        ("created again", created(false), ""),
        ("note", note(1), "!"),
        ("assigned", assigned(false), "bare"),
        ("forced", assigned(true), "! completed cancelled"),
        ("mark", marked(), running),
        ("signal", signal("b"), "! completed cancelled"),
        ("signal again", signal("a"), "! completed cancelled signalled"),
        ("paused", paused(), "! completed cancelled paused"),
        ("held", held(), "! completed cancelled bare held held,ok"),
        ("resumed", resumed(false), "paused held held,ok"),
        ("patched", resumed(true), "held,ok"),
        ("forked", forked(2, false, false), "requested sleeping paused held cancelling second"),
        ("forked, edited", forked(3, true, false), "ok error"),
        ("forked, executed again", forked(3, false, true), "started signalled"),
        ("cancel", cancel_requested(), "! completed cancelled cancelling"),
        ("cancelled", cancelled(), "cancelling"),
        ("completed", completed(false), idle),
        (
            "sealed",
            completed(true),
            "bare created ok error gone paused held held,ok cancelling second",
        ),
        ("failed", failed(), idle),
        ("halted", halted(), idle),
        ("continued", continued(2), idle),
        ("continued later", continued(3), ""),
        ("second effect", requested(2, "agent", 1), running),
        ("caused by itself", requested(2, "agent", 99), ""),
        ("same effect", requested(1, "agent", 1), "created cancelling"),
        // T04, T22
        ("started", started(2), "requested reported unknown"),
        ("started at 1", started(1), "requested"),
        // T12, T14, T16, T30
        ("attempt failed", attempt_failed(1, FailureClass::Reported), "started uncertain"),
        ("older attempt", attempt_failed(0, FailureClass::Reported), ""),
        // T10, T18
        ("lapsed", uncertain(1, "lease_expired"), "started"),
        ("uncertain in a fork", uncertain(0, "forked"), "requested sleeping signalled"),
        ("key in doubt", uncertain(0, "key_outcome_unknown"), "requested sleeping signalled"),
        ("key in doubt, late", uncertain(1, "key_outcome_unknown"), "reported unknown"),
        ("lost in a repair", uncertain(1, "repaired"), "started reported unknown"),
        ("never started", uncertain(0, "lease_expired"), ""),
        // T05
        ("posted", resolved(0, Status::Ok, None), "requested sleeping reported unknown signalled"),
        // T13, T28
        ("answered", resolved(1, Status::Error, None), "started uncertain"),
        // T06, T11, T28
        ("answered late", resolved(1, Status::Ok, None), "started uncertain unknown"),
        ("newer", resolved(2, Status::Ok, None), ""),
        ("met", resolved(0, Status::Ok, Some(3)), "signalled"),
        // T08, T25, T34
        (
            "given up",
            gone(0, CancelOutcome::NotBegun),
            "requested sleeping reported unknown signalled",
        ),
        (
            "given up, unknown",
            gone(1, CancelOutcome::Unknown),
            "requested sleeping started uncertain reported unknown signalled",
        ),
    ]
}

fn record(seq: u64, event: &Event) -> Record {
    let sum = dormouse::codecs::format::line::genesis(&run_id());
    Record { seq: Seq(seq), at: at(seq), event: event.clone(), sum }
}

fn folded(events: &[Event]) -> RunState {
    let records: Vec<Record> = (1..).zip(events).map(|(n, e)| record(n, e)).collect();
    fold(&records).unwrap().unwrap()
}

/// Whether the table says that the event is legal in the state.
fn is_legal(rule: &str, state: &str) -> bool {
    let state = state.replace(", ", ",");
    let named = rule.split_whitespace().any(|word| word == state);
    named != rule.starts_with('!')
}

/// What the fold does otherwise than the table says.
fn check(state: &str, before: &RunState, name: &str, event: &Event, rule: &str) -> Option<String> {
    let mut after = before.clone();
    let result = after.apply(&record(before.head.seq.0 + 1, event));
    let differs = result.is_ok() != is_legal(rule, state);
    if result.is_err() {
        assert_eq!(after, *before, "{name} in {state} was refused and changed something");
    } else if ENDED.contains(&state) {
        assert_eq!((after.end, &after.effects), (before.end, &before.effects), "{name}");
    }
    let mut skipped = before.clone();
    skipped.apply(&record(before.head.seq.0 + 2, event)).unwrap_err();
    assert_eq!(skipped, *before, "{name} in {state} at another place");
    differs.then(|| format!("{name} in {state}: {result:?}"))
}

#[test]
fn every_event_is_legal_exactly_where_the_table_says() {
    let mut wrong = Vec::new();
    for (state, events) in states() {
        let before = folded(&events);
        for (name, event, rule) in table() {
            wrong.extend(check(state, &before, name, &event, rule));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_run_begins_with_its_creation() {
    for (_, event, _) in table() {
        let first = RunState::first(&record(1, &event));
        assert_eq!(first.is_ok(), event.name() == "RUN_CREATED", "{}", event.name());
        assert!(RunState::first(&record(2, &event)).is_err());
    }
}

/// A generator of its own, so that a failing seed is enough to see it again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }
}

fn through_the_cache(state: &RunState) -> RunState {
    let bytes = rmp_serde::to_vec_named(state).unwrap();
    rmp_serde::from_slice(&bytes).unwrap()
}

#[test]
fn events_at_random_fold_the_same_twice_and_survive_the_cache() {
    for seed in 1..400_u64 {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (states, table) = (states(), table());
        let mut events = states[chance.below(states.len())].1.clone();
        let mut state = folded(&events);
        for _ in 0..60 {
            let (_, event, _) = &table[chance.below(table.len())];
            let before = state.clone();
            match state.apply(&record(before.head.seq.0 + 1, event)) {
                Ok(()) => events.push(event.clone()),
                Err(_) => assert_eq!(state, before, "seed {seed}: {}", event.name()),
            }
            let open: Vec<_> =
                state.effects.values().filter(|e| e.status.is_open()).map(|e| e.id).collect();
            assert!(state.open.iter().eq(open.iter()), "seed {seed}: {open:?}");
            assert!(state.timers.iter().all(|(_, id)| state.open.contains(id)), "seed {seed}");
        }
        assert_eq!(folded(&events), state, "seed {seed}");
        assert_eq!(through_the_cache(&state), state, "seed {seed}");
    }
}

#[test]
fn a_fork_does_not_answer_for_what_its_source_did_under_a_key() {
    let keyed = |n| match requested(n, "agent", 1) {
        Event::EffectRequested(mut asked) => {
            asked.policy.idempotency_key = Some(format!("key {n}"));
            asked.into()
        }
        other => other,
    };
    let mut events = vec![created(false), keyed(1), keyed(2), resolved(0, Status::Ok, None)];
    let keys = |events: &[Event]| {
        let known = Update::whole(&folded(events), false).keys.into_iter();
        known.map(|known| known.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(&events), ["key 1", "key 2"]);
    events.push(forked(4, false, false));
    assert_eq!(keys(&events), ["key 2"], "what is open there has to wait for its key");
}
