//! Why a run does not go on: a table of hand-made runs, one for each code; every prefix of every
//! recorded run; and the commands that are printed, executed.

#![allow(clippy::disallowed_methods, reason = "these tests start the program and read its files")]

use dormouse::codecs::event::{
    EffectAttemptFailed, EffectRequested, EffectResolved, EffectStarted, EffectUncertain,
    ErrorInfo, Event, FailureClass, Policy, Record, RunCancelRequested, RunHeld, RunPaused,
    SignalReceived, Status,
};
use dormouse::codecs::format::line::decode;
use dormouse::codecs::json::Json;
use dormouse::ground::clock::Timestamp;
use dormouse::ground::digest::Digest;
use dormouse::ground::id::{EffectId, EffectName, Epoch, Seq};
use dormouse::machines::limits::{Bucket, Scope};
use dormouse::machines::replay::state::{RunState, fold};
use dormouse::services::why::brief::{Brief, Safe};
use dormouse::services::why::code::Code;
use dormouse::services::why::found::{Found, Seen};
use dormouse::services::why::memory::{Hold, Memory};
use dormouse::services::why::walk::{Child, Walk};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::cli::{Cli, Ran};
use crate::daemon_cli::Daemon;
use crate::support::{at, created_with, process, run_id};

/// A run made by hand: its records are a second apart.
struct Made {
    records: Vec<Arc<Record>>,
    state: RunState,
}

impl Made {
    fn of(events: Vec<Event>) -> Self {
        let record = |(i, event): (usize, Event)| {
            let seq = Seq(i as u64 + 1);
            Record {
                seq,
                at: at(seq.0),
                event,
                sum: dormouse::ground::digest::Sum::from_bytes([0; 16]),
            }
        };
        let records: Vec<Record> = events.into_iter().enumerate().map(record).collect();
        let state = fold(&records).unwrap().unwrap();
        Self { records: records.into_iter().map(Arc::new).collect(), state }
    }

    fn seen<'a>(&'a self, now: Timestamp, memory: Option<&'a Memory>) -> Seen<'a> {
        Seen { name: "demo-run", state: &self.state, records: &self.records, now, memory }
    }
}

fn begun(bare: bool) -> Event {
    created_with(&run_id(), (!bare).then(process))
}

fn asked(kind: &str, def: &Value) -> EffectRequested {
    EffectRequested {
        effect_id: EffectId::new(1),
        key: "k".into(),
        name: "k".into(),
        scope: String::new(),
        cause: Seq(1),
        kind: kind.into(),
        task_id: None,
        title: Some("It".into()),
        label: None,
        labels: Vec::new(),
        def: Some(Json::of(def)),
        def_blob: None,
        def_digest: Digest::of(b""),
        args: None,
        args_blob: None,
        args_digest: Digest::of(b""),
        policy: Policy::default(),
        cleanup: false,
    }
}

fn started(target: Option<&str>) -> Event {
    EffectStarted {
        effect_id: EffectId::new(1),
        epoch: Epoch(1),
        attempt: 1,
        worker: "w".into(),
        ttl_ms: 60_000,
        idempotency_key: "k".into(),
        claim: None,
        target: target.map(str::to_owned),
        slots: Vec::new(),
    }
    .into()
}

fn failed(next: u64) -> Event {
    EffectAttemptFailed {
        effect_id: EffectId::new(1),
        epoch: Epoch(1),
        attempt: 1,
        class: FailureClass::Reported,
        cause: "reported".into(),
        error: Some(ErrorInfo {
            name: "E".into(),
            message: "no route".into(),
            stack: None,
            data: None,
        }),
        counted: true,
        next_attempt_at: at(next),
        stdout: None,
        stderr: None,
        post_digest: None,
        decision: None,
        by: "w".into(),
    }
    .into()
}

/// The next attempt is due in the year 2100.
fn failed_for_long() -> Event {
    let Event::EffectAttemptFailed(failed) = failed(0) else { panic!("another event") };
    let next_attempt_at = Timestamp::from_millis(4_102_444_800_000);
    EffectAttemptFailed { next_attempt_at, ..failed }.into()
}

fn uncertain() -> Event {
    let (effect_id, epoch) = (EffectId::new(1), Epoch(1));
    EffectUncertain { effect_id, epoch, cause: "lease_expired".into(), evidence: None }.into()
}

fn held(reason: &str) -> Event {
    RunHeld {
        reason: reason.into(),
        class: None,
        turn: None,
        report_digest: None,
        error: None,
        by: "engine".into(),
    }
    .into()
}

fn paused() -> Event {
    RunPaused { reason: "operator".into(), effect_id: None, by: "operator:eve".into() }.into()
}

fn cancel() -> Event {
    RunCancelRequested { reason: None, now: false, by: "w".into() }.into()
}

fn hasty() -> Event {
    RunCancelRequested { reason: None, now: true, by: "w".into() }.into()
}

fn resolved(value: &str) -> Event {
    let value = Json::of(&value);
    EffectResolved {
        value_digest: Some(Digest::of(value.as_str().as_bytes())),
        value: Some(value),
        ..EffectResolved::bare(EffectId::new(1), Epoch(0), Status::Ok, "w")
    }
    .into()
}

fn signal() -> Event {
    SignalReceived {
        signal_id: "s1".into(),
        name: "go".into(),
        correlation_key: None,
        payload: None,
        payload_blob: None,
        digest: Digest::of(b"null"),
        by: "w".into(),
    }
    .into()
}

#[allow(clippy::needless_pass_by_value, reason = "it is made by `json!`")]
fn ask(kind: &str, def: Value) -> Vec<Event> {
    vec![begun(false), asked(kind, &def).into()]
}

fn with(mut events: Vec<Event>, more: Vec<Event>) -> Vec<Event> {
    events.extend(more);
    events
}

fn task() -> Vec<Event> {
    ask("agent", json!({}))
}

fn holds(hold: Hold) -> Memory {
    Memory { holds: [(EffectId::new(1), hold)].into(), ..Memory::default() }
}

fn holder() -> EffectName {
    EffectName { run: "other".parse().unwrap(), effect: EffectId::new(7) }
}

/// A limit of a kind that is used up.
fn full(holder: Option<EffectName>, until: Option<Timestamp>) -> Hold {
    let limit = Bucket::limited(Scope::Kind, "shell").unwrap();
    Hold::Limit { bucket: limit.clone(), limit, holder, until }
}

/// Runs that wait, with what a daemon knows of them if one is there, and why they do.
fn table() -> Vec<(Code, Vec<Event>, Option<Memory>)> {
    let idle = || Some(Memory::default());
    let moving = Memory { is_moving: true, ..Memory::default() };
    let draining = Memory { is_draining: true, ..Memory::default() };
    let aside = Memory { damage: Some("J52".into()), ..Memory::default() };
    let slot = full(Some(holder()), None);
    let key = Hold::Key { key: "deploy".into(), holder: holder() };
    let policy = Hold::Policy {
        why: "programs are off".into(),
        allow: "executors.shell.enabled = true".into(),
    };
    let sleep = |until: u64| ask("sleep", json!({ "targetEpochMs": at(until).millis() }));
    let wait = || ask("signal", json!({ "name": "go" }));
    let child = || ask("run", json!({ "process": "./c.js" }));
    let soon = at(60).millis();
    vec![
        (Code::NoProcess, vec![begun(true)], None),
        (Code::Diverged, with(task(), vec![held("diverged")]), None),
        (Code::ProcessError, with(task(), vec![held("process_error")]), None),
        (Code::HostFailed, with(task(), vec![held("host_failed")]), None),
        (Code::Limit, with(task(), vec![held("limit:cpu")]), None),
        (Code::Limit, with(task(), vec![held("limit:memory")]), idle()),
        (Code::Limit, with(task(), vec![held("limit:journal")]), None),
        (Code::Paused, with(task(), vec![paused()]), None),
        (Code::Cancelling, with(task(), vec![cancel()]), None),
        (Code::Cancelling, vec![begun(true), cancel()], None),
        (Code::Cancelling, with(task(), vec![held("diverged"), cancel()]), idle()),
        (Code::Draining, task(), Some(draining)),
        (Code::Damaged, task(), Some(aside)),
        (Code::Runnable, task(), Some(moving)),
        (Code::Runnable, vec![begun(false)], None),
        (Code::Runnable, with(task(), vec![resolved("x")]), None),
        (Code::Runnable, sleep(1), None),
        (Code::Runnable, with(wait(), vec![signal()]), None),
        (Code::Runnable, ask("hook", json!({ "hookType": "h" })), None),
        (Code::Runnable, child(), None),
        (Code::LostWake, vec![begun(false)], idle()),
        (Code::LostWake, with(task(), vec![resolved("x")]), idle()),
        (Code::LostWake, sleep(1), idle()),
        (Code::LostWake, with(wait(), vec![signal()]), idle()),
        (Code::LostWake, with(task(), vec![hasty()]), idle()),
        (Code::Uncertain, with(task(), vec![started(None), uncertain()]), None),
        (Code::WaitingPerson, ask("breakpoint", json!({ "question": "?" })), None),
        (Code::WaitingSignal, wait(), idle()),
        (
            Code::WaitingSignal,
            ask("signal", json!({ "name": "it's", "correlationKey": "-k" })),
            None,
        ),
        (Code::WaitingWorker, task(), None),
        (Code::WaitingWorker, task(), idle()),
        (Code::WaitingWorker, with(task(), vec![started(None), failed(9)]), None),
        (Code::HeldPolicy, ask("shell", json!({})), Some(holds(policy))),
        (Code::HeldLimit, ask("shell", json!({})), Some(holds(slot))),
        (Code::HeldKey, task(), Some(holds(key))),
        (Code::Backoff, with(task(), vec![started(None), failed(90)]), None),
        (Code::Executing, with(task(), vec![started(None)]), idle()),
        (Code::WaitingChild, with(child(), vec![started(Some("other"))]), None),
        (Code::WaitingTimer, ask("sleep", json!({ "targetEpochMs": soon })), idle()),
        (Code::WaitingTimer, ask("sleep", json!({ "targetEpochMs": soon })), None),
    ]
}

/// The present of the table.
fn now() -> Timestamp {
    at(30)
}

#[test]
fn e26_every_code_has_a_run_and_every_run_its_code() {
    let mut told = BTreeSet::new();
    for (code, events, memory) in table() {
        let types: Vec<&str> = events.iter().map(Event::name).collect();
        let made = Made::of(events);
        let found = Found::of(made.seen(now(), memory.as_ref()));
        let why = Walk::from(found, memory.is_some(), now()).why(Vec::new());
        let main = &why.reasons[0];
        assert_eq!(main.code, code, "{types:?} {memory:?}: {:?}", why.reasons);
        assert!(why.headline.starts_with(&main.what), "{why:?}");
        assert!(!main.unblock.is_empty() && why.since.is_some(), "{why:?}");
        assert_eq!(why.wake.as_ref().unwrap().kind, code.waker().name());
        told.insert(code);
    }
    assert_eq!(told.len(), Code::ALL.len(), "{told:?}");
}

#[test]
fn e26_every_prefix_of_every_recorded_run_has_a_reason_and_a_command() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/runs/v1");
    let mut looked = 0;
    for entry in std::fs::read_dir(fixtures).unwrap() {
        let place = entry.unwrap().path();
        let text = std::fs::read(place.join("journal.jsonl")).unwrap();
        let mut sum = dormouse::codecs::format::line::genesis(&"run-1".parse().unwrap());
        let mut events = Vec::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let record = decode(line, sum).unwrap();
            sum = record.sum;
            events.push(record.event);
        }
        for count in 1..=events.len() {
            let made = Made::of(events[..count].to_vec());
            for memory in [None, Some(false), Some(true)] {
                let memory = memory.map(|is_moving| Memory { is_moving, ..Memory::default() });
                let found = Found::of(made.seen(at(100_000), memory.as_ref()));
                assert_eq!(found.reasons.is_empty(), !made.state.is_open(), "{place:?} {count}");
                for reason in &found.reasons {
                    let is_whole = !reason.unblock.is_empty() && !reason.what.is_empty();
                    assert!(is_whole && reason.since.is_some(), "{place:?} {count}: {reason:?}");
                    looked += 1;
                }
            }
        }
    }
    assert!(looked > 50, "{looked}");
}

#[test]
fn every_command_is_one_that_the_program_takes() {
    let cli = Cli::new();
    cli.file("FILE", crate::cli::PROCESS);
    cli.run("run create --run-id another").ok();
    let mut commands: BTreeSet<String> = BTreeSet::new();
    for (_, events, memory) in table() {
        let made = Made::of(events);
        let seen = made.seen(now(), memory.as_ref());
        let found = Found::of(seen);
        commands.extend(found.reasons.into_iter().flat_map(|reason| reason.unblock));
        for worker in [None, Some("w")] {
            let open = Brief::of(seen, worker).open;
            let is_command = |safe| matches!(safe, Safe::ClaimAndExecute | Safe::PostOnly);
            let told = open.into_iter().filter(|open| is_command(open.safe));
            commands.extend(told.map(|open| open.how));
        }
    }
    assert!(commands.len() > 25, "{commands:#?}");
    for command in commands {
        let ran = shell(&cli, &command, "null");
        // None of these runs exists, nor a daemon; what cannot be parsed is exit 2.
        let of_nothing = ["demo-run", "other", "limits"].iter().any(|name| command.contains(name));
        assert_eq!(ran.code, if of_nothing { 3 } else { 0 }, "{command}: {ran:?}");
    }
}

#[test]
fn a_worker_that_is_missing_is_said_loudly_and_only_by_whoever_knows() {
    let made = Made::of(task());
    let of = |memory: Option<&Memory>| Found::of(made.seen(now(), memory)).reasons.remove(0);
    let nobody = of(Some(&Memory::default()));
    assert_eq!(nobody.workers_seen, Some(0));
    assert!(nobody.what.contains("NOBODY"), "{}", nobody.what);
    let two = Memory { workers: [("agent".into(), 2)].into(), ..Memory::default() };
    assert!(of(Some(&two)).what.contains("2 asked"));
    let alone = of(None);
    assert_eq!(alone.workers_seen, None);
    assert!(alone.what.contains("only a daemon would know"), "{}", alone.what);
}

#[test]
fn e24_the_holder_of_a_slot_is_named() {
    let memory = holds(full(Some(holder()), None));
    let made = Made::of(ask("shell", json!({})));
    let reason = Found::of(made.seen(now(), Some(&memory))).reasons.remove(0);
    assert_eq!(reason.held_by.as_deref(), Some("other/e0007"));
    assert_eq!(
        reason.unblock,
        [
            "dormouse why other",
            "dormouse task cancel other e0007 --abandon",
            "dormouse limits show kind -- shell"
        ]
    );
    let said = "e0001 \"It\" waits for a slot of the limit kind:shell; other/e0007 has one";
    assert_eq!(reason.what, said);
    let of = |hold| {
        let memory = holds(hold);
        Found::of(made.seen(now(), Some(&memory))).reasons.remove(0)
    };
    let brake = of(full(None, None));
    assert!(brake.what.ends_with("the limit kind:shell lets nothing start"), "{}", brake.what);
    assert_eq!(brake.unblock[1], "dormouse limits set --concurrency 1 kind -- shell");
    let rate = of(full(None, Some(at(500))));
    assert_eq!((rate.next_at, rate.held_by.as_deref()), (Some(at(500)), None));
    assert!(rate.what.contains("waits for the rate of the limit kind:shell"), "{}", rate.what);
}

#[test]
fn failures_and_leases_are_shown() {
    let events = with(task(), vec![started(None), failed(90)]);
    let made = Made::of(events.clone());
    let reason = Found::of(made.seen(now(), None)).reasons.remove(0);
    assert_eq!((reason.attempts, reason.next_at), (Some(1), Some(at(90))));
    assert_eq!(reason.last_failures[0].error.as_deref(), Some("E: no route"));
    assert_eq!(reason.since, Some(at(4)));
    let made = Made::of(with(task(), vec![started(None)]));
    let leases = [(EffectId::new(1), at(60))].into();
    let memory = Memory { leases, ..Memory::default() };
    let reason = Found::of(made.seen(now(), Some(&memory))).reasons.remove(0);
    let shown = (reason.held_by.as_deref(), reason.epoch, reason.lease_until, reason.since);
    assert_eq!(shown, (Some("w"), Some(Epoch(1)), Some(at(60)), Some(at(3))));
}

#[test]
fn what_is_not_overdue_for_long_is_not_lost() {
    let idle = Memory::default();
    let made = Made::of(ask("sleep", json!({ "targetEpochMs": at(10).millis() })));
    let code = |now| Found::of(made.seen(now, Some(&idle))).reasons[0].code;
    assert_eq!(code(at(9)), Code::WaitingTimer);
    assert_eq!(code(at(11)), Code::Runnable);
    assert_eq!(code(at(20)), Code::LostWake);
}

#[test]
fn many_reasons_are_cut_and_counted() {
    let mut events = vec![begun(false)];
    for n in 1..=150 {
        let effect_id = EffectId::new(n);
        events.push(EffectRequested { effect_id, ..asked("agent", &json!({})) }.into());
    }
    let made = Made::of(events);
    let why = Walk::from(Found::of(made.seen(now(), None)), false, now()).why(Vec::new());
    assert_eq!((why.reasons.len(), why.omitted), (100, 50));
    assert!(why.headline.ends_with("(and 149 more reasons)"), "{}", why.headline);
}

#[test]
fn a_parent_tells_what_its_child_waits_for() {
    let parent =
        Made::of(with(ask("run", json!({ "process": "./c.js" })), vec![started(Some("c"))]));
    let mut child = Made::of(ask("breakpoint", json!({ "question": "?" })));
    child.state.run_id = "c".parse().unwrap();
    let idle = Memory::default();
    let walk = |memory: Option<&Memory>, child: Child| {
        let top = Found::of(parent.seen(now(), memory));
        let mut walk = Walk::from(top, memory.is_some(), now());
        let run = walk.next_run().unwrap();
        assert_eq!(run.as_str(), "c");
        walk.heard(&run, child);
        assert!(walk.next_run().is_none());
        walk.why(Vec::new())
    };
    let found = || Found::of(Seen { name: "c", ..child.seen(now(), None) });
    let why = walk(None, Child::Found(Box::new(found())));
    let codes: Vec<Code> = why.reasons.iter().map(|reason| reason.code).collect();
    assert_eq!(codes, [Code::WaitingPerson, Code::WaitingChild]);
    assert_eq!(why.headline, "run c: e0001 \"It\" waits for a person (and one more reason)");
    assert_eq!(why.reasons[0].unblock[0], "dormouse breakpoint approve c e0001");
    let ended = || {
        let mut found = found();
        found.reasons.clear();
        found.ended = Some((dormouse::machines::replay::state::End::Failed, at(5)));
        Child::Found(Box::new(found))
    };
    assert_eq!(walk(None, ended()).reasons[0].code, Code::Runnable);
    assert_eq!(walk(Some(&idle), ended()).reasons[0].code, Code::LostWake);
    assert_eq!(walk(Some(&idle), Child::Missing).reasons[0].code, Code::Runnable);
    assert_eq!(walk(None, Child::Unread).reasons[0].code, Code::WaitingChild);
}

#[test]
fn children_are_looked_at_up_to_a_limit_and_each_once() {
    let kids = |count: u32| {
        let mut events = vec![begun(false)];
        for n in 1..=count {
            let effect_id = EffectId::new(n);
            let def = json!({ "process": "./c.js" });
            events.push(EffectRequested { effect_id, ..asked("run", &def) }.into());
        }
        for n in 1..=count {
            let Event::EffectStarted(mut start) = started(Some(&format!("c{n}"))) else { panic!() };
            start.effect_id = EffectId::new(n);
            events.push(start.into());
        }
        Made::of(events)
    };
    let many = kids(100);
    let mut walk = Walk::from(Found::of(many.seen(now(), None)), false, now());
    let mut looked = 0;
    while let Some(run) = walk.next_run() {
        // A child that waits for all of them again, itself included.
        let mut found = Found::of(many.seen(now(), None));
        found.run_id = run.clone();
        walk.heard(&run, Child::Found(Box::new(found)));
        looked += 1;
    }
    assert_eq!(looked, 64);
    assert_eq!(walk.why(Vec::new()).reasons.len(), 100);
}

#[test]
fn a_brief_says_what_is_safe() {
    let of = |events: Vec<Event>, worker: Option<&str>| {
        let made = Made::of(events);
        Brief::of(made.seen(now(), None), worker)
    };
    let start = || with(task(), vec![started(None)]);
    for (safe, events, worker) in [
        (Safe::ClaimAndExecute, task(), None),
        (Safe::ClaimAndExecute, with(start(), vec![failed(9)]), None),
        (Safe::Wait, with(start(), vec![failed(90)]), None),
        (Safe::PostOnly, start(), Some("w")),
        (Safe::Wait, start(), Some("x")),
        (Safe::Wait, start(), None),
        (Safe::DecideFirst, with(start(), vec![uncertain()]), Some("w")),
        (Safe::Wait, with(task(), vec![paused()]), None),
        (Safe::Wait, with(task(), vec![held("diverged")]), None),
        (Safe::Wait, with(task(), vec![cancel()]), None),
        (Safe::Wait, ask("breakpoint", json!({})), None),
        (Safe::Wait, ask("sleep", json!({ "targetEpochMs": 5 })), None),
        (Safe::Wait, ask("run", json!({ "process": "c.js" })), None),
    ] {
        let types: Vec<&str> = events.iter().map(Event::name).collect();
        let open = of(events, worker).open.remove(0);
        assert_eq!(open.safe, safe, "{types:?} {worker:?}");
        assert!(!open.how.is_empty());
    }
    let done = of(with(task(), vec![resolved(&"x".repeat(5_000))]), None).done.remove(0);
    assert!(done.summary.len() <= 1024 && done.summary.starts_with("\"xxx"));
    assert_eq!((done.title.as_str(), done.status), ("It", "ok"));
    assert!(done.value_digest.is_some());
}

/// Runs a command as it is printed, with `input` on its standard input.
fn shell(cli: &Cli, line: &str, input: &str) -> Ran {
    let program = Path::new(env!("CARGO_BIN_EXE_dormouse")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-c", line]).current_dir(cli.dir.path()).env_clear();
    command.env("HOME", cli.dir.path()).env("DORMOUSE_RUNS_ROOT", cli.root()).env("PATH", path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that reads nothing may be gone already.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
    Ran::of(line, &child.wait_with_output().unwrap())
}

const RETURNS: &str = "export const process = async (i, ctx) => await";

/// A run `r` of a process, gone on until it rests.
fn resting(body: &str) -> Cli {
    let cli = Cli::new();
    cli.file("p.js", format!("{RETURNS} {body};"));
    cli.run("run create --entry p.js --run-id r").ok();
    cli.run("run drive r --max-wait 0s");
    cli
}

/// The same with records that nobody but an executor or the engine appends.
fn appended(events: Vec<Event>) -> Cli {
    let cli = Cli::waiting();
    let mut run = crate::served::runs(cli.root()).open("r").unwrap();
    for event in events {
        run.append(event).unwrap();
    }
    run.close().unwrap();
    cli
}

/// A run whose code was replaced by other code.
fn diverged() -> Cli {
    let cli = Cli::waiting();
    cli.file("other.js", format!("{RETURNS} ctx.sleep('1h');"));
    cli.run("run assign-process r --entry other.js --force").ok();
    cli.run("run drive r").exits(7);
    cli
}

fn damaged() -> Cli {
    let cli = Cli::waiting();
    let journal = cli.root().join("r/journal/0000000001.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, text.replacen("Plan it", "Plan 1t", 1)).unwrap();
    cli
}

/// A process for the other profile that throws.
fn throws() -> Cli {
    let cli = Cli::new();
    let body = "if (!(await ctx.breakpoint({ question: '?' })).ok) throw new Error('not ok');";
    let source = format!(
        "import {{ defineTask }} from '@a5c-ai/babysitter-sdk';
        export const process = async (i, ctx) => {{ {body} }};"
    );
    cli.file("p.js", &source);
    cli.file("mended.js", source.replace("throw new Error('not ok')", "return 'mended'"));
    cli.run("run create --entry p.js --run-id r").ok();
    cli.run("run drive r").ok();
    cli.run("breakpoint reject r e0001").ok();
    cli.run("run drive r").exits(1);
    cli
}

fn spins() -> Cli {
    let cli = Cli::new();
    let body = "let x = 0; for (let i = 0; i < 3e6; i++) x += i; return 1;";
    cli.file("p.js", format!("export function process() {{ {body} }}"));
    cli.run("run create --entry p.js --run-id r").ok();
    cli.run("--turn-cpu-max 10ms run iterate r").exits(6);
    cli
}

fn made(cli: Cli, lines: &[&str]) -> Cli {
    for line in lines {
        cli.run(line).ok();
    }
    cli
}

fn why(cli: &Cli, run: &str) -> Value {
    cli.run(&format!("why {run} --json")).ok().json()
}

/// Reasons of this code, as the command line tells them.
fn told(cli: &Cli, code: &str) -> Vec<Value> {
    let why = why(cli, "r");
    let reasons = why["reasons"].as_array().unwrap();
    reasons.iter().filter(|reason| reason["code"] == code).cloned().collect()
}

/// What becomes of a run: how it came to wait, why it says that it does, which of the commands is
/// executed, and with what on standard input.
type Case = (&'static str, fn() -> Cli, usize, &'static str);

const CASES: &[Case] = &[
    ("waiting_worker", Cli::waiting, 1, "{\"n\":1}"),
    ("runnable", Cli::with_run, 0, ""),
    ("runnable", || made(Cli::waiting(), &[POST]), 0, ""),
    ("waiting_person", || resting("ctx.breakpoint({ question: '?' })"), 0, ""),
    ("waiting_person", || resting("ctx.breakpoint({ question: '?' })"), 1, ""),
    ("waiting_signal", || resting("ctx.signal('go')"), 0, ""),
    ("waiting_signal", || resting(r#"ctx.signal("-it's \n", { correlationKey: '-k $x' })"#), 0, ""),
    ("waiting_timer", || resting("ctx.sleep('1h')"), 1, ""),
    ("paused", || made(Cli::waiting(), &["run pause r"]), 0, ""),
    ("cancelling", || made(Cli::waiting(), &["run cancel r"]), 0, ""),
    ("cancelling", || made(Cli::waiting(), &["run cancel r"]), 1, ""),
    ("cancelling", || made(Cli::new(), &["run create --run-id r", "run cancel r"]), 0, ""),
    ("no_process", || made(Cli::new(), &["run create --run-id r"]), 0, ""),
    ("no_process", || made(Cli::new(), &["run create --run-id r"]), 1, ""),
    ("diverged", diverged, 1, ""),
    ("process_error", throws, 1, ""),
    ("process_error", throws, 2, ""),
    ("limit", || appended(vec![held("limit:journal")]), 0, ""),
    ("limit", || appended(vec![held("limit:journal")]), 1, ""),
    ("host_failed", || appended(vec![held("host_failed")]), 0, ""),
    ("damaged", damaged, 1, ""),
    ("executing", || appended(vec![started(None)]), 1, "{\"n\":1}"),
    ("executing", || appended(vec![started(None)]), 2, "{\"n\":1}"),
    ("executing", || appended(vec![started(None)]), 3, ""),
    ("executing", || appended(vec![started(None)]), 4, ""),
    ("uncertain", || appended(vec![started(None), uncertain()]), 1, "{\"n\":1}"),
    ("uncertain", || appended(vec![started(None), uncertain()]), 2, ""),
    ("uncertain", || appended(vec![started(None), uncertain()]), 3, ""),
    ("backoff", || appended(vec![started(None), failed_for_long()]), 1, "{\"n\":1}"),
];

const POST: &str = "task post r e0001 --status ok --value-inline {\"n\":1}";

/// The file that a command leaves to its reader.
fn filled(cli: &Cli, command: &str) -> String {
    let file = if cli.path("mended.js").exists() { "mended.js" } else { "process.js" };
    cli.file("process.js", crate::cli::PROCESS);
    command.replace("FILE", file)
}

#[test]
fn e26_the_printed_commands_end_what_they_are_printed_for() {
    for (code, make, index, input) in CASES {
        let cli = make();
        let before = told(&cli, code);
        assert_eq!(before.len(), 1, "{code}: {}", why(&cli, "r"));
        let command = filled(&cli, before[0]["unblock"][*index].as_str().unwrap());
        let ran = shell(&cli, &command, input);
        // A run that was cancelled ends with exit 1.
        assert!(ran.code < 2, "{code}: {ran:?}");
        cli.run("run drive r --max-wait 0s");
        let left = told(&cli, code);
        let is_same = |reason: &Value| reason["effectId"] == before[0]["effectId"];
        assert!(!left.iter().any(is_same), "{code}: {command}: {ran:?} {left:?}");
    }
}

#[test]
fn what_only_looks_or_tries_again_is_taken_too() {
    let cli = diverged();
    let commands = told(&cli, "diverged")[0]["unblock"].clone();
    shell(&cli, commands[0].as_str().unwrap(), "").exits(7);
    shell(&cli, commands[2].as_str().unwrap(), "").ok();
    assert!(told(&cli, "diverged").is_empty());
    cli.run("run drive r").exits(7);
    assert_eq!(told(&cli, "diverged").len(), 1, "nothing was mended");
    let cli = throws();
    shell(&cli, told(&cli, "process_error")[0]["unblock"][0].as_str().unwrap(), "").ok();
    assert!(told(&cli, "process_error").is_empty());
    let cli = spins();
    let commands = told(&cli, "limit")[0]["unblock"].clone();
    shell(&cli, commands[0].as_str().unwrap(), "").ok();
    shell(&cli, commands[1].as_str().unwrap(), "").ok();
    assert_eq!(why(&cli, "r")["state"], "completed");
    let cli = damaged();
    let mend = told(&cli, "damaged")[0]["unblock"].clone();
    shell(&cli, mend[0].as_str().unwrap(), "").exits(1);
    assert!(mend[1].as_str().unwrap().contains("--accept-loss"), "{mend}");
}

#[test]
fn a_run_is_named_as_it_was_asked_for() {
    let cli = Cli::waiting();
    let copy = cli.path("a copy");
    let copied = Command::new("cp").arg("-a").arg(cli.root().join("r")).arg(&copy).status();
    assert!(copied.unwrap().success());
    let why = cli.args(&["why", "./a copy", "--json"]).ok().json();
    let command = why["reasons"][0]["unblock"][1].as_str().unwrap();
    assert!(command.contains("'./a copy'"), "{command}");
    shell(&cli, command, "{\"n\":1}").ok();
    assert_eq!(told(&cli, "waiting_worker").len(), 1, "the original still waits");
}

/// A parent whose child waits for a person.
fn family() -> Cli {
    let cli = Cli::new();
    cli.file("c.js", format!("{RETURNS} ctx.breakpoint({{ question: '?', title: 'Deep?' }});"));
    cli.file("p.js", format!("import './c.js';\n{RETURNS} ctx.run('./c.js');"));
    cli.run("run create --entry p.js --run-id r").ok();
    cli.run("run drive r").ok();
    cli
}

#[test]
fn a_parent_is_freed_through_its_child() {
    let cli = family();
    let above = why(&cli, "r");
    let kid = above["reasons"][0]["runId"].as_str().unwrap().to_owned();
    assert_eq!(above["reasons"][0]["code"], "waiting_person");
    assert_ne!(kid, "r");
    assert_eq!(above["reasons"][1]["code"], "waiting_child");
    assert_eq!(above["reasons"][1]["unblock"][0], format!("dormouse why {kid}"));
    let below = why(&cli, &kid);
    assert_eq!(below["parents"][0]["runId"], "r");
    assert_eq!(below["parents"].as_array().unwrap().len(), 1);
    let approve = above["reasons"][0]["unblock"][0].as_str().unwrap();
    shell(&cli, approve, "").ok();
    cli.run("run drive r").ok();
    assert_eq!(why(&cli, "r")["headline"], "it has ended: completed");
}

/// What a daemon's memory adds is left out.
fn without_memory(mut why: Value) -> Value {
    for reason in why["reasons"].as_array_mut().unwrap() {
        let reason = reason.as_object_mut().unwrap();
        reason.remove("workersSeen");
        reason.remove("what");
        reason["unblock"] = json!(reason["unblock"].as_array().unwrap().last());
    }
    why["headline"] = json!("");
    why
}

#[test]
fn e26_a_daemon_says_the_same_and_more() {
    for make in [
        Cli::waiting as fn() -> Cli,
        || resting("ctx.breakpoint({ question: '?' })"),
        || resting("ctx.signal('go')"),
        || made(Cli::waiting(), &["run pause r"]),
        || made(Cli::new(), &["run create --run-id r"]),
        || appended(vec![held("host_failed")]),
        || appended(vec![started(None), uncertain()]),
        diverged,
        throws,
        damaged,
        family,
        Cli::completed,
    ] {
        let cli = make();
        let alone = why(&cli, "r");
        let daemon = Daemon::start(&cli, &[]);
        // From now on the daemon has nothing more to do with it.
        cli.run("run iterate r");
        let asked = why(&cli, "r");
        assert_eq!(without_memory(alone), without_memory(asked.clone()));
        assert_eq!(why(&cli, "r").to_string(), cli.run("run why r --json").ok().out.trim());
        let brief = cli.run("run brief r --worker w --json");
        let offline = cli.run("run brief r --worker w --json --offline");
        assert_eq!((brief.code, brief.code == 0), (offline.code, brief.out.starts_with('{')));
        if brief.code == 0 {
            let (brief, offline) = (brief.json(), offline.json());
            assert_eq!((&brief["done"], &brief["open"]), (&offline["done"], &offline["open"]));
        }
        cli.run("why r").ok();
        if asked["reasons"][0]["code"] == "waiting_worker" {
            assert_eq!(asked["reasons"][0]["workersSeen"], 0);
        }
        assert_eq!(daemon.stop().0, 0);
    }
}

#[test]
fn e26_the_printed_commands_work_beside_a_daemon() {
    for (code, make, index, input) in CASES {
        if matches!(*code, "runnable" | "cancelling" | "damaged") {
            // A daemon goes on by itself, and damage is mended without one.
            continue;
        }
        let cli = make();
        let daemon = Daemon::start(&cli, &[]);
        cli.run("run iterate r");
        let before = told(&cli, code);
        assert_eq!(before.len(), 1, "{code}: {}", why(&cli, "r"));
        let commands = before[0]["unblock"].as_array().unwrap();
        // Waiting for time is no command beside a daemon.
        let index = (*index).min(commands.len() - 1);
        let command = filled(&cli, commands[index].as_str().unwrap());
        shell(&cli, &command, input).ok();
        cli.run("run drive r --max-wait 0s");
        let left = told(&cli, code);
        let is_same = |reason: &Value| reason["effectId"] == before[0]["effectId"];
        assert!(!left.iter().any(is_same), "{code}: {command}: {left:?}");
        assert_eq!(daemon.stop().0, 0);
    }
}
