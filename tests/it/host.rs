//! A process host in a test: a child of the real binary, driven turn by turn.

use dormouse::codecs::event::{ErrorInfo, Profile};
use dormouse::codecs::json::{Json, Surrogates, gate};
use dormouse::ground::limits;
use dormouse::shells::host::parent::Host;
use dormouse::shells::host::process::HostError;
use dormouse::shells::host::protocol::{
    Feed, FromHost, HostLimits, LoadFailure, Module, Output, Request, Start, ToHost, TurnDone,
    TurnInput,
};
use std::path::Path;

/// 2026-11-20T12:00:00Z.
pub(crate) const NOON_MICROS: i64 = 1_795_176_000_000_000;

pub(crate) fn json(text: &str) -> Json {
    gate(text.as_bytes(), 100, Surrogates::Lone).unwrap()
}

/// The source of a fixture.
pub(crate) fn fixture(name: &str) -> String {
    let path = format!("{}/fixtures/processes/{name}", env!("CARGO_MANIFEST_DIR"));
    #[allow(clippy::disallowed_methods)] // Reads the test's own data.
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A start with one module.
pub(crate) fn start(profile: Profile, source: &str) -> Start {
    Start {
        run_id: "r1".into(),
        seed_run_id: "r1".into(),
        generation: 1,
        run_dir: "/runs/r1".into(),
        cwd: Some("/repo".into()),
        process_id: "main".into(),
        profile,
        entry: "main.js".into(),
        export_name: None,
        modules: vec![module("main.js", source, &[])],
        inputs: None,
        carried: None,
        scheduled_at: None,
        clock_micros: NOON_MICROS,
        next_ordinal: 1,
        is_shown: false,
        system: None,
        known: Vec::new(),
        known_marks: Vec::new(),
        limits: HostLimits {
            heap_bytes_max: limits::HEAP_BYTES_MAX,
            stack_bytes_max: limits::STACK_BYTES_MAX,
            turn_cpu_max_ms: limits::TURN_CPU_MAX_MS,
            load_cpu_max_ms: limits::LOAD_CPU_MAX_MS,
            turn_outputs_max: limits::TURN_OUTPUTS_MAX,
            open_effects_max: limits::OPEN_EFFECTS_MAX,
            value_bytes_max: limits::VALUE_BYTES_MAX as u64,
        },
    }
}

pub(crate) fn module(path: &str, source: &str, imports: &[(&str, &str)]) -> Module {
    let imports = imports.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned()));
    Module { path: path.into(), source: source.into(), imports: imports.collect() }
}

/// A host with an instance in it.
pub(crate) struct Driver {
    pub host: Host,
    pub warnings: Vec<String>,
    seq: u64,
    pub clock_micros: i64,
    pub next: TurnInput,
}

pub(crate) fn spawn() -> Host {
    Host::spawn(Path::new(env!("CARGO_BIN_EXE_dormouse"))).unwrap()
}

/// A turn that is live and new.
pub(crate) fn turn(feed: Feed) -> TurnInput {
    TurnInput {
        seq: 1,
        clock_micros: NOON_MICROS,
        feed,
        journaled_outputs: 0,
        journaled_marks: Vec::new(),
        live_after: true,
        by_key: false,
        quiet: false,
    }
}

impl Driver {
    pub(crate) fn load(start: Start) -> Result<Self, LoadFailure> {
        let clock_micros = start.clock_micros;
        let mut host = spawn();
        match host.call(&ToHost::Start(Box::new(start)), 10_000, 30_000).unwrap() {
            FromHost::Started { warnings, .. } => {
                let next = turn(Feed::RunStarted);
                Ok(Self { host, warnings, seq: 0, clock_micros, next })
            }
            FromHost::LoadFailed(failure) => Err(failure),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn new(start: Start) -> Self {
        Self::load(start).unwrap_or_else(|failure| panic!("{failure:#?}"))
    }

    pub(crate) fn answer(&mut self, feed: Feed) -> Result<FromHost, HostError> {
        self.seq += 1;
        let mut input = std::mem::replace(&mut self.next, turn(Feed::RunStarted));
        input.seq = self.seq;
        input.clock_micros = self.clock_micros;
        input.feed = feed;
        self.host.call(&ToHost::Turn(input), 2_000, 30_000)
    }

    pub(crate) fn turn(&mut self, feed: Feed) -> TurnDone {
        match self.answer(feed).unwrap() {
            FromHost::Turn(mut done) => {
                done.cpu_micros = 0;
                done
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn begin(&mut self) -> TurnDone {
        self.turn(Feed::RunStarted)
    }

    pub(crate) fn resolve(&mut self, ordinal: u32, value: &str) -> TurnDone {
        self.turn(resolved(ordinal, value))
    }

    pub(crate) fn fail(
        &mut self,
        ordinal: u32,
        name: &str,
        message: &str,
        data: Option<&str>,
    ) -> TurnDone {
        let (name, message, data) = (name.into(), message.into(), data.map(json));
        let error = Some(ErrorInfo { name, message, stack: None, data });
        self.turn(Feed::Resolved { ordinal, value: None, error, attempts: 1 })
    }
}

pub(crate) fn resolved(ordinal: u32, value: &str) -> Feed {
    Feed::Resolved { ordinal, value: Some(json(value)), error: None, attempts: 1 }
}

/// The requests of a turn.
pub(crate) fn requests<'a>(done: &'a TurnDone) -> Vec<&'a Request> {
    let request = |output: &'a Output| match output {
        Output::Request(request) => Some(&**request),
        _ => None,
    };
    done.outputs.iter().filter_map(request).collect()
}

/// The keys of a turn's requests.
pub(crate) fn keys(done: &TurnDone) -> Vec<&str> {
    requests(done).into_iter().map(|request| request.key.as_str()).collect()
}

/// The output of a run that ends in this turn.
pub(crate) fn output(done: &TurnDone) -> &str {
    match done.outputs.last() {
        Some(Output::Completed { output }) => output.as_str(),
        other => panic!("not completed: {other:#?}\n{:#?}", done.warnings),
    }
}

/// The error of a run that fails in this turn.
pub(crate) fn failure(done: &TurnDone) -> &ErrorInfo {
    match done.outputs.last() {
        Some(Output::Failed { error }) => error,
        other => panic!("not failed: {other:#?}"),
    }
}

/// Runs a process that asks for nothing, in the dormouse profile, and gives its output.
pub(crate) fn evaluate(body: &str) -> String {
    evaluate_in(Profile::Dormouse, body)
}

pub(crate) fn evaluate_in(profile: Profile, body: &str) -> String {
    let source = format!("export async function process(inputs, ctx) {{ {body} }}");
    let mut driver = Driver::new(start(profile, &source));
    output(&driver.begin()).to_owned()
}

/// The first answer of a host, whatever it is.
pub(crate) fn load_answer(start: Start) -> FromHost {
    spawn().call(&ToHost::Start(Box::new(start)), 10_000, 30_000).unwrap()
}
