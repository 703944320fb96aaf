//! Small processes made at random, their effects answered in a random order: a run whose host and
//! engine are lost again and again asks for the same and ends the same as one that was left alone.
//!
//! The seed of a failing case is in its message; `REPLAY_SEED=<seed>` plays that case alone.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use crate::host::{NOON_MICROS, spawn, start};
use dormouse::codecs::event::{
    Event, Payload, ProcessRef, Profile, Record, RunCancelRequested, RunCreated, SignalReceived,
    Status,
};
use dormouse::codecs::format::line::genesis;
use dormouse::codecs::json::Json;
use dormouse::codecs::turn::{Feed, FromHost, Start, ToHost, TurnInput};
use dormouse::ground::clock::Timestamp;
use dormouse::ground::digest::Digest;
use dormouse::ground::id::Seq;
use dormouse::machines::effect::life::Effect;
use dormouse::machines::effect::{Wait, plain_error, resolution};
use dormouse::machines::replay::engine::TurnPlan;
use dormouse::machines::replay::engine::{Action, Engine, FeedPlan, Input, Rest, StartPlan};
use dormouse::shells::host::parent::Host;
use serde_json::json;
use std::sync::Arc;

const CASES: u64 = 120;
const STEPS_MAX: usize = 60;

/// A generator of its own, so that a seed says everything.
#[derive(Clone)]
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// Statements that push what they learn to `r`; calls go through `c`.
fn statements(chance: &mut Chance, depth: u64) -> String {
    let count = 1 + chance.below(3);
    (0..count).map(|_| statement(chance, depth)).collect::<Vec<_>>().join("\n")
}

fn statement(chance: &mut Chance, depth: u64) -> String {
    let n = chance.below(9);
    let task = format!("c.task({}, {{ n: {n}, r: r.length }})", ["t", "u"][(n % 2) as usize]);
    let caught = "catch (e) { r.push(e.name + ':' + e.message); }";
    match chance.below(if depth == 0 { 8 } else { 13 }) {
        0 | 1 => format!("r.push(await {task});"),
        2 | 3 => format!("try {{ r.push(await {task}); }} {caught}"),
        4 => format!("await c.sleep({}); r.push(ctx.now().getTime() - start);", n * 40),
        5 => format!("r.push(await c.signal('s{}'));", n % 2),
        6 => format!("{task}.catch(() => {{}}); r.push(c.random());"),
        7 => format!(
            "{{ const p = {task}; const s = c.sleep({}); r.push(await Promise.race([
                p.then((v) => ['p', v], (e) => e.name), s.then(() => 's')]));
                ctx.cancel(p, 'lost'); ctx.cancel(s); p.catch(() => {{}}); s.catch(() => {{}}); }}",
            n * 30 + 1
        ),
        8 => format!(
            "if (JSON.stringify(r).length % 2) {{ {} }} else {{ {} }}",
            statements(chance, depth - 1),
            statements(chance, depth - 1)
        ),
        9 => format!(
            "if (ctx.patched('p{n}')) {{ {} }} r.push(c.uuid());",
            statements(chance, depth - 1)
        ),
        10 => format!("r.push(await c.checkpoint({{ title: '{n}' }}));"),
        _ => {
            let on_error = ["cancel", "settle", "leave"][chance.below(3) as usize];
            let branches: Vec<String> = (0..2 + chance.below(2))
                .map(|_| {
                    let inner = statements(chance, depth - 1);
                    format!("async (c) => {{ const r = []; {inner} return r; }}")
                })
                .collect();
            let max = 1 + chance.below(3);
            format!(
                "try {{ r.push(await c.parallel.all([{}],
                    {{ onError: '{on_error}', maxConcurrency: {max} }})); }} {caught}",
                branches.join(", ")
            )
        }
    }
}

fn program(seed: u64) -> String {
    let body = statements(&mut Chance::new(seed), 3);
    format!(
        "import {{ defineTask }} from 'dormouse';
        const task = (id) => defineTask(id, () => ({{ kind: 'agent' }}));
        const t = task('t'), u = task('u');
        export async function process(inputs, ctx) {{
            const c = ctx, r = [], start = ctx.now().getTime();
            try {{ {body} }} finally {{
                if (ctx.cancellation.requested) await ctx.cancellation.shield((c) =>
                    c.task(u, 'undo')).catch(() => {{}});
            }}
            return r;
        }}"
    )
}

/// One run in memory: records, an engine, a host.
struct Run {
    source: String,
    records: Vec<Arc<Record>>,
    engine: Engine,
    host: Option<Host>,
    now: Timestamp,
    /// Decides where it is killed; nothing: it is left alone.
    killer: Option<Chance>,
    kills: u32,
}

impl Run {
    fn new(source: &str, killer: Option<Chance>) -> Self {
        let now = Timestamp::from_micros(NOON_MICROS);
        let engine = Engine::new();
        let (source, records) = (source.to_owned(), Vec::new());
        let mut run = Self { source, records, engine, host: None, now, killer, kills: 0 };
        let process = ProcessRef {
            process_id: "main".into(),
            entry: "main.js".into(),
            export_name: None,
            api: Profile::Dormouse,
            digest: Digest::of(run.source.as_bytes()),
        };
        run.append(
            RunCreated {
                run_id: "r1".parse().unwrap(),
                process: Some(process),
                inputs: None,
                inputs_blob: None,
                parent: None,
                schedule: None,
                idempotency: None,
                generation: 1,
                tags: Vec::new(),
                cwd: None,
                non_interactive: false,
                system: None,
                traceparent: None,
                by: "test".into(),
            }
            .into(),
        );
        run
    }

    fn append(&mut self, event: Event) {
        let seq = Seq(self.records.len() as u64 + 1);
        let sum = genesis(&"r1".parse().unwrap());
        let record = Arc::new(Record { seq, at: self.now, event, sum });
        self.engine.handle(self.now, Input::Loaded(Arc::clone(&record))).unwrap();
        self.records.push(record);
    }

    /// Loses everything but the records, when chance says so.
    fn may_die(&mut self) -> bool {
        let dies = self.killer.as_mut().is_some_and(|chance| chance.below(7) == 0);
        if dies {
            self.kills += 1;
            self.reload(Engine::new(), self.records.len());
        }
        dies
    }

    fn reload(&mut self, engine: Engine, count: usize) {
        self.host = None;
        self.engine = engine;
        for record in &self.records[..count] {
            self.engine.handle(record.at, Input::Loaded(Arc::clone(record))).unwrap();
        }
    }

    /// Performs what the engine asks for until it rests.
    fn drive(&mut self) -> Rest {
        let mut input = Input::Poll;
        for _ in 0..5_000 {
            let action = self.engine.handle(self.now, std::mem::replace(&mut input, Input::Poll));
            let Some(action) = action.unwrap() else { continue };
            match action {
                Action::Append(batch) => {
                    for draft in batch {
                        self.append(draft.event);
                        if self.may_die() {
                            break;
                        }
                    }
                }
                Action::Start(plan) => input = self.start(*plan),
                Action::Turn(plan) => {
                    let done = self.turn(&plan);
                    if !self.may_die() {
                        input = done;
                    }
                }
                Action::Rest(rest) => return rest,
            }
        }
        panic!("it never rests");
    }

    fn say(&mut self, message: &ToHost) -> FromHost {
        self.host.as_mut().unwrap().call(message, 2_000, 30_000).unwrap()
    }

    fn start(&mut self, plan: StartPlan) -> Input {
        self.host = Some(spawn());
        let message = Start {
            generation: plan.generation,
            clock_micros: plan.clock.micros(),
            next_ordinal: plan.next_ordinal,
            is_shown: false,
            system: plan.system,
            known: plan.known,
            known_marks: plan.known_marks,
            ..start(Profile::Dormouse, &self.source)
        };
        match self.say(&ToHost::Start(Box::new(message))) {
            FromHost::Started { .. } => Input::Started,
            other => panic!("{other:?}\n{}", self.source),
        }
    }

    fn turn(&mut self, plan: &TurnPlan) -> Input {
        let feed = match plan.feed.clone() {
            FeedPlan::RunStarted => Feed::RunStarted,
            FeedPlan::Resolved { ordinal, value, error, attempts } => {
                let value = value.map(|payload| match payload {
                    Payload::Inline(json) => json,
                    Payload::Blob(blob) => panic!("{blob:?}"),
                });
                Feed::Resolved { ordinal, value, error, attempts }
            }
            FeedPlan::Cancelled { ordinal, reason } => Feed::Cancelled { ordinal, reason },
            FeedPlan::CancelRequested { reason } => Feed::CancelRequested { reason },
        };
        let input = TurnInput {
            seq: plan.seq.0,
            clock_micros: plan.clock.micros(),
            feed,
            journaled_outputs: plan.journaled_outputs,
            journaled_marks: plan.journaled_marks.clone(),
            live_after: plan.live_after,
            by_key: plan.by_key,
            quiet: true,
        };
        match self.say(&ToHost::Turn(input)) {
            FromHost::Turn(done) => Input::Turned(done),
            other => panic!("{other:?}\n{}", self.source),
        }
    }

    /// Answers one open effect, as chance says; false when the run has ended.
    fn outside(&mut self, chance: &mut Chance) -> bool {
        if !matches!(self.drive(), Rest::Waiting { .. }) {
            return false;
        }
        self.now = self.now.plus_millis(1);
        if chance.below(25) == 0 && self.engine.state().unwrap().cancel.is_none() {
            let (reason, by) = (Some("enough".into()), "test".into());
            self.append(RunCancelRequested { reason, now: false, by }.into());
            return true;
        }
        // Sometimes two arrive before anything goes on.
        for _ in 0..=chance.below(3) / 2 {
            let open: Vec<Effect> = self.engine.state().unwrap().open_effects().cloned().collect();
            if open.is_empty() {
                break;
            }
            let chosen = &open[usize::try_from(chance.below(open.len() as u64)).unwrap()];
            self.answer(chosen, chance);
        }
        true
    }

    fn answer(&mut self, effect: &Effect, chance: &mut Chance) {
        let n = chance.below(100);
        match &effect.wait {
            Wait::Sleep { target } => self.now = self.now.max(target.plus_millis(1)),
            Wait::Signal(facts) => {
                let count = self.engine.state().unwrap().signal_ids.len();
                let event = SignalReceived {
                    signal_id: format!("s{count}"),
                    name: facts.name.clone(),
                    correlation_key: None,
                    payload: Some(Json::of(&n)),
                    payload_blob: None,
                    digest: Digest::of(b""),
                    by: "test".into(),
                };
                self.append(event.into());
            }
            _ if n < 25 => {
                let error = Some(plain_error("Oops", format!("no {n}")));
                let resolved = resolution(effect, Status::Error, "test");
                self.append(dormouse::codecs::event::EffectResolved { error, ..resolved }.into());
            }
            _ => {
                let value = Some(Json::of(&json!({ "n": n })));
                let resolved = resolution(effect, Status::Ok, "test");
                self.append(dormouse::codecs::event::EffectResolved { value, ..resolved }.into());
            }
        }
    }

    /// What it asked for and how it ended, without the places in its journal.
    fn trace(&self) -> (Vec<String>, String) {
        let mut asked: Vec<String> = Vec::new();
        for record in &self.records {
            if let Event::EffectRequested(e) = &record.event {
                asked.push(format!("{} {} {} {}", e.effect_id, e.key, e.kind, e.args_digest));
            }
        }
        let end = match &self.records.last().unwrap().event {
            Event::RunCompleted(done) => done.output.as_ref().unwrap().as_str().to_owned(),
            Event::RunFailed(failed) => failed.error.message.clone(),
            other => other.name().to_owned(),
        };
        (asked, end)
    }

    /// Replays the first `count` records strictly.
    fn assert_reproduced(&mut self, count: usize, what: &str) {
        self.killer = None;
        self.reload(Engine::dry(), count);
        let rest = self.drive();
        let fine = matches!(rest, Rest::Reproduced | Rest::WouldAppend(_));
        assert!(fine, "{what}: {count}: {rest:?} {:#?}", self.engine.divergence());
    }
}

fn played(seed: u64, killer: Option<Chance>) -> Run {
    let mut run = Run::new(&program(seed), killer);
    let mut outside = Chance::new(seed ^ 0x5eed);
    for _ in 0..STEPS_MAX {
        if !run.outside(&mut outside) {
            break;
        }
    }
    run
}

fn check(seed: u64) -> u32 {
    let what = format!("REPLAY_SEED={seed}");
    let alone = played(seed, None);
    let mut killed = played(seed, Some(Chance::new(seed ^ 0xdead)));
    assert_eq!(killed.trace(), alone.trace(), "{what}\n{}", alone.source);
    let (kills, whole) = (killed.kills, killed.records.len());
    killed.assert_reproduced(whole, &what);
    let part = 1 + usize::try_from(Chance::new(seed).below(whole as u64)).unwrap();
    killed.assert_reproduced(part, &what);
    kills
}

#[test]
fn a_run_that_is_killed_again_and_again_asks_for_the_same() {
    if let Ok(seed) = std::env::var("REPLAY_SEED") {
        println!("{}", program(seed.parse().unwrap()));
        check(seed.parse().unwrap());
        return;
    }
    let kills: u32 = (0..CASES).map(check).sum();
    println!("{CASES} processes, {kills} kills");
    assert!(u64::from(kills) > CASES, "chance kills");
}
