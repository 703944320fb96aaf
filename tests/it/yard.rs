//! A runs root on the real disk with a manager in this process, for what is about files and
//! threads.

#![allow(clippy::disallowed_methods, reason = "tests put files where the program finds them")]

use dormouse::codecs::event::Record;
use dormouse::codecs::json::Json;
use dormouse::daemon::Daemon;
use dormouse::daemon::config::Config;
use dormouse::ground::clock::{Clock, SystemClock, Timestamp};
use dormouse::ground::id::RunId;
use dormouse::ports::disk::std::StdDisk;
use dormouse::services::manager::{Flow, Handle};
use dormouse::services::runs::Runs;
use dormouse::services::runs::create::{NewRun, Source, host_limits};
use dormouse::services::runs::hosts::ChildHosts;
use dormouse::services::runs::post::Posting;
use dormouse::services::telemetry::Telemetry;
use dormouse::shells::pin::EntrySpec;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;

/// The machine's clock, ahead of time by what the test says. Waiting for a lock really waits: a
/// process that another test is about to start holds our locks for a moment.
#[derive(Default)]
pub(crate) struct Ahead {
    millis: AtomicI64,
    /// By how much the wall clock was set back; time that passes knows nothing of it.
    back: AtomicI64,
}

impl Ahead {
    pub(crate) fn by_millis(&self, millis: i64) {
        self.millis.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn set_back(&self, millis: i64) {
        self.back.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        let ahead = self.millis.load(Ordering::Relaxed) - self.back.load(Ordering::Relaxed);
        SystemClock.now().plus_millis(ahead)
    }

    fn sleep_millis(&self, millis: u64) {
        SystemClock.sleep_millis(millis);
    }

    fn passed_millis(&self) -> u64 {
        SystemClock.passed_millis().saturating_add_signed(self.millis.load(Ordering::Relaxed))
    }
}

/// The service over a temporary directory, and a runtime for asking its manager.
pub(crate) struct Yard {
    dir: TempDir,
    pub(crate) clock: Arc<Ahead>,
    pub(crate) runs: Runs,
    runtime: tokio::runtime::Runtime,
}

impl Yard {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Ahead::default());
        let runs = Runs {
            disk: Arc::new(StdDisk),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            hosts: Arc::new(ChildHosts { exe: env!("CARGO_BIN_EXE_dormouse").into() }),
            root: dir.path().join("runs"),
            lock_wait_ms: 30_000,
            allow_fs: None,
            limits: host_limits(),
            turn_wall_max_ms: 30_000,
            kinds: dormouse::services::runs::kinds::KnownKinds::default(),
            by: "operator:test".into(),
            telemetry: Telemetry::default(),
        };
        drop(runs.open_root(true).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        Self { dir, clock, runs, runtime }
    }

    /// A daemon that looks after no inbox.
    pub(crate) fn manager(&self) -> Daemon {
        let mut config = Config::default();
        config.inbox.enabled = false;
        Daemon::start(&self.runs, &config).unwrap()
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A run whose process has this body, in which `t(args)` is a task of kind agent; it went on
    /// until it waits.
    pub(crate) fn run(&self, handle: &Handle, id: &str, body: &str, inputs: &Value) -> RunId {
        let source = format!(
            "import {{ defineTask }} from \"dormouse\";\n\
             const t = defineTask(\"t\", () => ({{ kind: \"agent\" }}));\n\
             export async function process(inputs, ctx) {{ {body} }}\n"
        );
        let path = self.dir.path().join("process.js");
        fs::write(&path, source).unwrap();
        let source = Source {
            entry: EntrySpec { path, export_name: None },
            root: None,
            library_root: None,
            extra: Vec::new(),
            process_id: None,
        };
        let new = NewRun {
            run_id: Some(id.parse().unwrap()),
            source: Some(source),
            inputs: Some(Json::of(inputs)),
            ..NewRun::default()
        };
        let made = self.wait(handle.create(new, "client:test"));
        let run = made.unwrap_or_else(|e| panic!("{e}")).run_id;
        self.rests(handle, &run);
        run
    }

    /// Waits until a run can do nothing more by itself.
    pub(crate) fn rests(&self, handle: &Handle, run: &RunId) {
        self.wait(handle.iterate(run)).unwrap_or_else(|e| panic!("{e}"));
    }

    pub(crate) fn post(&self, handle: &Handle, run: &RunId, effect: u32, value: &Value) {
        let id = dormouse::ground::id::EffectId::new(effect);
        let posting = Posting::ok(id, Json::of(value));
        let act = handle.deed(run, "client:test", Flow::Outcome, |run| run.post(posting));
        self.wait(act).unwrap_or_else(|e| panic!("{e}"));
    }

    pub(crate) fn records(&self, run: &RunId) -> Vec<Arc<Record>> {
        self.runs.look(run.as_str()).unwrap_or_else(|e| panic!("{e}")).records
    }

    pub(crate) fn inbox(&self) -> PathBuf {
        self.runs.root.join(".dormouse/inbox")
    }

    /// Renames a file into the inbox, as the page tells people to.
    pub(crate) fn drop_in(&self, name: &str, content: impl AsRef<[u8]>) {
        let written = self.dir.path().join("being-written");
        fs::write(&written, content).unwrap();
        fs::rename(written, self.inbox().join(name)).unwrap();
    }

    /// Names in a folder of the inbox, sorted; none if it is not there.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.inbox().join(folder)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
