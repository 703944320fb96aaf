//! Runs in a test: the whole service over a memory disk, a clock that the test moves and real
//! hosts. What is done to a run from outside is remembered by record, so that it can be done again
//! to any prefix of the run's journal.

#![allow(clippy::needless_pass_by_value, reason = "literals read best by value")]

use crate::host::fixture;
use dormouse::codecs::event::{Event, Payload, Record};
use dormouse::codecs::json::Json;
use dormouse::ground::clock::{Clock, ManualClock, Timestamp};
use dormouse::ground::id::{EffectId, RunId, Seq};
use dormouse::machines::effect::post::PostStatus;
use dormouse::machines::replay::engine::Rest;
use dormouse::ports::disk::memory::MemoryDisk;
use dormouse::ports::disk::{Dir, Disk, FileKind, Open};
use dormouse::services::runs::accept::{OnChange, OnRemoved};
use dormouse::services::runs::children::Progress;
use dormouse::services::runs::create::{NewRun, Source, host_limits};
use dormouse::services::runs::hosts::ChildHosts;
use dormouse::services::runs::open::SeenRun;
use dormouse::services::runs::post::Posting;
use dormouse::services::runs::steer::{FinalStatus, Signal};
use dormouse::services::runs::{Error, Runs};
use dormouse::services::telemetry::Telemetry;
use dormouse::shells::pin::EntrySpec;
use dormouse::shells::run_dir::root::{Options, Root};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::support::{as_disk, at};

/// Something done to a run from outside.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    Post(Posting),
    CancelEffect(EffectId),
    Signal(Signal),
    Cancel { now: bool },
    Pause,
    Resume,
    Recover(EffectId, String, Json),
    Halt(FinalStatus),
    Note,
    Accept(String, OnChange, Option<OnRemoved>),
    Assign(String),
}

/// One run with everything it needs.
pub(crate) struct Play {
    pub disk: MemoryDisk,
    pub clock: Arc<ManualClock>,
    pub runs: Runs,
    pub id: String,
    pub deeds: RefCell<BTreeMap<u64, Deed>>,
}

/// How a run is to be created.
#[derive(Default)]
pub(crate) struct Plan {
    pub inputs: Option<Value>,
    pub non_interactive: bool,
}

pub(crate) fn json(value: &Value) -> Json {
    Json::of(value)
}

/// A value posted for an effect.
pub(crate) fn posting(effect: EffectId, status: PostStatus, value: Value) -> Posting {
    let error = |value: &Value| dormouse::codecs::event::ErrorInfo {
        name: value["name"].as_str().unwrap_or("TaskError").to_owned(),
        message: value["message"].as_str().unwrap_or("no").to_owned(),
        stack: None,
        data: value.get("data").map(Json::of),
    };
    let failed = status == PostStatus::Error;
    let ok = Posting::ok(effect, Json::of(&value));
    if failed { Posting { status, value: None, error: Some(error(&value)), ..ok } } else { ok }
}

/// The service over a disk of its own.
fn service(clock: &Arc<ManualClock>) -> (MemoryDisk, Runs) {
    let disk = MemoryDisk::new(1);
    let runs = Runs {
        disk: as_disk(&disk),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        hosts: Arc::new(ChildHosts { exe: env!("CARGO_BIN_EXE_dormouse").into() }),
        root: "/runs".into(),
        lock_wait_ms: 0,
        allow_fs: None,
        limits: host_limits(),
        turn_wall_max_ms: 30_000,
        kinds: dormouse::services::runs::kinds::KnownKinds::default(),
        by: "operator:test".into(),
        telemetry: Telemetry::default(),
    };
    (disk, runs)
}

/// Makes a source text the entry that the next pin reads.
pub(crate) fn put_source(disk: &MemoryDisk, source: &str) {
    disk.create_dirs(Path::new("/src")).unwrap();
    disk.tamper(Path::new("/src/main.js"), |bytes| *bytes = source.as_bytes().to_vec());
}

/// That entry.
pub(crate) fn main_js() -> Source {
    Source {
        entry: EntrySpec { path: "/src/main.js".into(), export_name: None },
        root: Some("/src".into()),
        library_root: None,
        extra: Vec::new(),
        process_id: None,
    }
}

impl Play {
    /// A run of a fixture.
    pub(crate) fn fixture(name: &str, inputs: Value) -> Self {
        Self::of(&fixture(name), Plan { inputs: Some(inputs), ..Plan::default() })
    }

    /// A run of a source text.
    pub(crate) fn source(source: &str) -> Self {
        Self::of(source, Plan::default())
    }

    /// A run whose process is this body, in the dormouse profile; `t` is a task of kind agent.
    pub(crate) fn body(body: &str) -> Self {
        Self::source(&wrap(body))
    }

    pub(crate) fn of(source: &str, how: Plan) -> Self {
        let clock = Arc::new(ManualClock::at(at(0)));
        let (disk, runs) = service(&clock);
        let play =
            Self { disk, clock, runs, id: "run-1".into(), deeds: RefCell::new(BTreeMap::new()) };
        let source = play.code(source);
        play.runs
            .create(&NewRun {
                run_id: Some(play.id.parse().unwrap()),
                source: Some(source),
                inputs: how.inputs.as_ref().map(Json::of),
                non_interactive: how.non_interactive,
                ..NewRun::default()
            })
            .unwrap_or_else(|e| panic!("{e}"));
        play
    }

    /// A run without a process.
    pub(crate) fn bare() -> Self {
        let clock = Arc::new(ManualClock::at(at(0)));
        let (disk, runs) = service(&clock);
        let play =
            Self { disk, clock, runs, id: "run-1".into(), deeds: RefCell::new(BTreeMap::new()) };
        let id = Some(play.id.parse().unwrap());
        play.runs.create(&NewRun { run_id: id, ..NewRun::default() }).unwrap();
        play
    }

    /// Makes a source text the entry that the next pin reads.
    pub(crate) fn code(&self, source: &str) -> Source {
        put_source(&self.disk, source);
        main_js()
    }

    /// The run directory that only the first `count` records of `trace` would have left behind.
    pub(crate) fn prefix(whole: &Self, trace: &[Arc<Record>], count: usize) -> Self {
        let last = &trace[count - 1];
        let clock = Arc::new(ManualClock::at(last.at));
        let (disk, runs) = service(&clock);
        let options = Options { create: true, wait_ms: 0, allow_fs: None };
        let root = Root::open(&as_disk(&disk), Path::new("/runs"), &options, &*clock).unwrap();
        let id: RunId = whole.id.parse().unwrap();
        let mut staged = root.stage(&id).unwrap();
        let from: Arc<dyn Disk> = as_disk(&whole.disk);
        let top = from.open_dir(&Path::new("/runs").join(&whole.id)).unwrap();
        for (path, bytes) in files(&*top, "") {
            let kept = ["process", "blobs/"].iter().any(|p| path.starts_with(p));
            if kept || path == "run.json" {
                staged.file(&path, &bytes).unwrap();
            }
        }
        let events: Vec<(Timestamp, Event)> =
            trace[..count].iter().map(|r| (r.at, r.event.clone())).collect();
        let records = staged.journal(&events).unwrap();
        assert_eq!(records.last().unwrap().sum, last.sum, "a prefix has the same sums");
        staged.publish().unwrap();
        let deeds = RefCell::new(whole.deeds.borrow().clone());
        Self { disk, clock, runs, id: whole.id.clone(), deeds }
    }

    pub(crate) fn seen(&self) -> SeenRun {
        self.runs.look(&self.id).unwrap_or_else(|e| panic!("{e}"))
    }

    pub(crate) fn records(&self) -> Vec<Arc<Record>> {
        self.seen().records
    }

    /// Names of the records' types, from record `from` on.
    pub(crate) fn types(&self, from: usize) -> Vec<&'static str> {
        self.records().iter().skip(from).map(|r| r.event.name()).collect()
    }

    /// Lets the run go on until it rests.
    pub(crate) fn try_go_on(&self) -> Result<Progress, Error> {
        let mut run = self.runs.open(&self.id)?;
        let progress = run.go_on();
        run.close()?;
        progress
    }

    pub(crate) fn go_on(&self) -> Rest {
        self.try_go_on().unwrap_or_else(|e| panic!("{e}: {:?}", e.trouble())).rest
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Moves the clock forward.
    pub(crate) fn wait(&self, millis: u64) {
        self.clock.sleep_millis(millis);
    }

    /// Moves the clock forward and lets the run go on.
    pub(crate) fn later(&self, millis: u64) -> Rest {
        self.wait(millis);
        self.go_on()
    }

    /// The open effect of this key.
    pub(crate) fn effect(&self, key: &str) -> EffectId {
        let state = self.seen().state;
        let found = state.open_effects().find(|e| e.key == key).map(|e| e.id);
        let open: Vec<&str> = state.open_effects().map(|e| e.key.as_str()).collect();
        found.unwrap_or_else(|| panic!("no open effect {key}, but {open:?}"))
    }

    /// Keys of the open effects.
    pub(crate) fn open(&self) -> Vec<String> {
        self.seen().state.open_effects().map(|e| e.key.clone()).collect()
    }

    /// Does something from outside, and remembers it under its first record.
    pub(crate) fn try_deed(&self, deed: Deed) -> Result<(), Error> {
        let before = self.seen().state.head.seq;
        self.perform(&deed)?;
        if self.seen().state.head.seq > before {
            self.deeds.borrow_mut().insert(before.0 + 1, deed);
        }
        Ok(())
    }

    pub(crate) fn deed(&self, deed: Deed) {
        self.try_deed(deed).unwrap_or_else(|e| panic!("{e}: {:?}", e.trouble()));
    }

    fn perform(&self, deed: &Deed) -> Result<(), Error> {
        let (runs, id) = (&self.runs, &self.id);
        match deed.clone() {
            Deed::Post(posting) => runs.post(id, posting).map(drop),
            Deed::CancelEffect(effect) => runs.cancel_effect(id, effect, None, false).map(drop),
            Deed::Signal(signal) => runs.signal(id, signal).map(drop),
            Deed::Cancel { now } => runs.cancel(id, Some("enough".into()), now).map(drop),
            Deed::Pause => runs.pause(id).map(drop),
            Deed::Resume => runs.resume(id, None).map(drop),
            Deed::Recover(effect, path, value) => {
                runs.recover(id, Some((effect, path, value)), None).map(drop)
            }
            Deed::Halt(as_) => runs.halt(id, "closed", as_).map(drop),
            Deed::Note => runs.note(id, "seen").map(drop),
            Deed::Accept(source, on_change, on_removed) => {
                let source = self.code(&source);
                let plan = runs.plan_accept(id, &source, on_change, on_removed)?;
                runs.accept(id, &source, &plan, None).map(drop)
            }
            Deed::Assign(source) => {
                let source = self.code(&source);
                runs.assign(id, &source, None, true, None).map(drop)
            }
        }
    }

    /// Posts a value and lets the run go on.
    pub(crate) fn post(&self, key: &str, value: Value) -> Rest {
        self.put(key, value);
        self.go_on()
    }

    /// Posts a value, no more.
    pub(crate) fn put(&self, key: &str, value: Value) {
        self.deed(Deed::Post(posting(self.effect(key), PostStatus::Ok, value)));
    }

    /// Posts an error and lets the run go on.
    pub(crate) fn fail(&self, key: &str, error: Value) -> Rest {
        self.deed(Deed::Post(posting(self.effect(key), PostStatus::Error, error)));
        self.go_on()
    }

    /// Sends a signal and lets the run go on.
    pub(crate) fn signal(&self, name: &str, correlation: Option<&str>, payload: Value) -> Rest {
        self.send(name, correlation, payload);
        self.go_on()
    }

    /// Sends a signal, no more.
    pub(crate) fn send(&self, name: &str, correlation: Option<&str>, payload: Value) {
        let count = self.seen().state.signal_ids.len();
        self.deed(Deed::Signal(Signal {
            name: name.into(),
            correlation_key: correlation.map(str::to_owned),
            signal_id: Some(format!("s{count}")),
            payload: Json::of(&payload),
        }));
    }

    pub(crate) fn cancel(&self) -> Rest {
        self.deed(Deed::Cancel { now: false });
        self.go_on()
    }

    /// The output of a completed run.
    pub(crate) fn output(&self) -> Value {
        let seen = self.seen();
        let payload = seen.records.iter().rev().find_map(|r| match &r.event {
            Event::RunCompleted(c) => Payload::join(c.output.as_ref(), c.output_blob.as_ref()),
            _ => None,
        });
        match payload {
            Some(payload) => seen.value(&payload).unwrap().to_value(),
            None => panic!("not completed: {:#?}", seen.records.last().map(|r| &r.event)),
        }
    }

    /// Lets a run that stands at a prefix of `trace` go on as the trace did: the same deeds before
    /// the same records, the same times.
    pub(crate) fn follow(&self, trace: &[Arc<Record>]) {
        let mut next = self.records().len();
        let by_itself = |r: &Arc<Record>| !self.deeds.borrow().contains_key(&r.seq.0);
        if trace.get(next).is_some_and(by_itself) {
            // Before time passes: child runs begin when they began.
            self.go_on();
            next = self.records().len();
        }
        while let Some(record) = trace.get(next) {
            let ahead = record.at.micros() - self.now().micros();
            if ahead > 0 {
                self.wait(u64::try_from(ahead / 1000).unwrap());
            }
            let deed = self.deeds.borrow().get(&record.seq.0).cloned();
            if let Some(deed) = deed {
                self.perform(&deed).unwrap_or_else(|e| panic!("record {}: {e}", record.seq));
            } else {
                self.go_on();
            }
            let after = self.records().len();
            assert!(after > next, "nothing leads to record {}: {:?}", record.seq, record.event);
            next = after;
        }
    }

    /// Checks the run strictly against its own code.
    pub(crate) fn assert_checks(&self, what: &str) {
        let checked = self.runs.check(&self.id, None).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(checked.strict, "{what}: {checked:#?}");
    }
}

/// A process around a body; `t`, `u` are tasks of kind agent, `sh` is one of kind shell.
pub(crate) fn wrap(body: &str) -> String {
    format!(
        "import {{ defineTask }} from \"dormouse\";\n\
         const task = (id, kind) => defineTask(id, (args) => ({{ kind, title: id, args }}));\n\
         const [t, u] = [\"t\", \"u\"].map((id) => task(id, \"agent\"));\n\
         const sh = task(\"sh\", \"shell\");\n\
         export async function process(inputs, ctx) {{\n{body}\n}}\n"
    )
}

/// The same in the babysitter profile.
pub(crate) fn wrap_compatible(body: &str) -> String {
    wrap(body).replace("\"dormouse\"", "\"@a5c-ai/babysitter-sdk\"")
}

/// All files below a directory.
fn files(dir: &dyn Dir, above: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for name in dir.list().unwrap() {
        let path = format!("{above}{name}");
        if dir.stat(&name).unwrap().kind == FileKind::Dir {
            found.extend(files(&*dir.open_dir(&name).unwrap(), &format!("{path}/")));
        } else {
            found.push((path, dir.read_file(&name, Open::Read, 1 << 30).unwrap()));
        }
    }
    found
}

/// A record without what depends on its place: `TYPE key-or-id`.
pub(crate) fn lines(records: &[Arc<Record>]) -> Vec<String> {
    records.iter().map(|r| format!("{} {} {}", r.seq, r.event.name(), brief(&r.event))).collect()
}

fn brief(event: &Event) -> String {
    let data = event.data().to_value();
    let text = |name: &str| data[name].as_str().map(|s| format!("{s} ")).unwrap_or_default();
    ["effectId", "key", "kind", "status", "reason", "class", "by"].map(text).concat()
}

pub(crate) fn seqs(records: &[Arc<Record>], name: &str) -> Vec<Seq> {
    records.iter().filter(|r| r.event.name() == name).map(|r| r.seq).collect()
}

#[test]
fn a_run_is_played_from_its_creation_to_its_end() {
    let play = Play::fixture("two_by_two.js", json!({}));
    assert_eq!(play.go_on(), Rest::Waiting { draining: false });
    assert_eq!(play.open(), ["p0[0]/build#0", "p0[1]/build#0"]);
    play.assert_checks("parked");
}
