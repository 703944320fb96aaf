//! The run directories among the examples: made by the service with a clock that stands still, so
//! that they are the same byte for byte wherever they are made. `UPDATE_GOLDEN=1` writes them anew.

use dormouse::ground::clock::ManualClock;
use dormouse::ports::disk::std::StdDisk;
use dormouse::services::runs::Runs;
use dormouse::services::runs::create::{NewRun, Source, host_limits};
use dormouse::services::runs::hosts::ChildHosts;
use dormouse::services::runs::post::Posting;
use dormouse::services::telemetry::Telemetry;
use dormouse::shells::pin::EntrySpec;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use crate::host::json;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("runs-example")
}

/// A person or an agent who acts a while after the one before.
struct Actor {
    runs: Runs,
    run: &'static str,
}

impl Actor {
    /// Creates a run of an example in a root of its own.
    fn create(root: &Path, run: &'static str, example: &str) -> Self {
        let runs = Runs {
            disk: Arc::new(StdDisk),
            clock: Arc::new(ManualClock::at(crate::support::at(0))),
            hosts: Arc::new(ChildHosts { exe: env!("CARGO_BIN_EXE_dormouse").into() }),
            root: root.to_owned(),
            lock_wait_ms: 1000,
            allow_fs: None,
            limits: host_limits(),
            turn_wall_max_ms: 60_000,
            kinds: dormouse::services::runs::kinds::KnownKinds::default(),
            by: "operator:ann".into(),
            telemetry: Telemetry::default(),
        };
        let from = top().join(example);
        let inputs = fs::read_to_string(from.join("inputs.json")).unwrap();
        let entry = EntrySpec { path: from.join("process.js"), export_name: None };
        let source = Source {
            entry,
            root: Some(from),
            library_root: None,
            extra: Vec::new(),
            process_id: Some(example.into()),
        };
        let new = NewRun {
            run_id: Some(run.parse().unwrap()),
            source: Some(source),
            inputs: Some(json(&inputs)),
            ..NewRun::default()
        };
        runs.create(&new).unwrap();
        let actor = Self { runs, run };
        actor.drive();
        actor
    }

    fn drive(&self) {
        self.runs.clock.sleep_millis(250);
        let mut run = self.runs.open(self.run).unwrap();
        run.go_on().unwrap();
        run.close().unwrap();
    }

    /// Answers an effect after some minutes, and lets the run go on.
    fn answer(&self, effect: u64, minutes: u64, by: &str, value: &str) {
        self.runs.clock.sleep_millis(minutes * 60_000);
        let mut runs = self.runs.clone();
        by.clone_into(&mut runs.by);
        let posting = Posting::ok(format!("e{effect:04}").parse().unwrap(), json(value));
        runs.post(self.run, posting).unwrap();
        self.drive();
    }
}

/// A feature that goes through two rounds and is taken.
fn make_finished(root: &Path) {
    let run = Actor::create(root, "finished", "feature");
    let agent = "operator:agents";
    run.answer(1, 2, agent, r#"{"steps":["write src/csv.js","add a button to the report"]}"#);
    let built = r#"{"summary":"CSV export with a button","files":["src/csv.js","src/report.js"]}"#;
    run.answer(2, 14, agent, built);
    let findings = r#"["a comma inside a field breaks the line: quote it"]"#;
    run.answer(3, 3, agent, &format!(r#"{{"verdict":"rework","findings":{findings}}}"#));
    run.answer(4, 6, agent, built);
    run.answer(5, 3, agent, r#"{"verdict":"approve","findings":[]}"#);
    let yes = r#"{"approved":true,"response":"take it","respondedBy":"ann"}"#;
    run.answer(6, 95, "operator:ann", yes);
}

/// A canary release that has soaked and been measured, and waits for a person.
fn make_parked(root: &Path) {
    let run = Actor::create(root, "parked", "canary");
    run.answer(1, 1, "operator:agents", r#"{"share":5,"healthy":true}"#);
    run.runs.clock.sleep_millis(2_000);
    run.drive();
    let samples = fs::read_to_string(top().join("canary/samples.json")).unwrap();
    run.answer(3, 4, "operator:agents", &samples);
}

/// Where the process came from is a hint for people; here it is said relative to the project.
fn without_place(bytes: Vec<u8>) -> Vec<u8> {
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    String::from_utf8(bytes).map_or_else(std::string::FromUtf8Error::into_bytes, |text| {
        text.replace(place, "").into_bytes()
    })
}

/// Files of a run by path. What names this machine (`run.lock`) or is for programs alone
/// (`state/cache.mpk`) is no part of an example, nor is what explains it.
fn files(run: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(top: &Path, dir: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                walk(top, &path, into);
            } else if !["run.lock", "state/cache.mpk", "README.md"].contains(&name.as_str()) {
                let bytes = fs::read(&path).unwrap();
                into.insert(name, without_place(bytes));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(run, run, &mut found);
    found
}

fn check(name: &str, make: fn(&Path)) {
    let root = tempfile::tempdir().unwrap();
    make(root.path());
    let fresh = files(&root.path().join(name));
    let stands = top().join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        for old in fs::read_dir(&stands).into_iter().flatten().map(|e| e.unwrap().path()) {
            match old.is_dir() {
                true => fs::remove_dir_all(&old).unwrap(),
                false if old.ends_with("README.md") => {}
                false => fs::remove_file(&old).unwrap(),
            }
        }
        for (path, bytes) in &fresh {
            let path = stands.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
    let found = files(&stands);
    assert_eq!(found.keys().collect::<Vec<_>>(), fresh.keys().collect::<Vec<_>>());
    for (path, bytes) in &fresh {
        let text = String::from_utf8_lossy;
        assert_eq!(text(&found[path]), text(bytes), "{name}/{path}; UPDATE_GOLDEN=1 rewrites it");
    }
}

#[test]
fn the_finished_run_is_what_the_service_makes() {
    check("finished", make_finished);
}

#[test]
fn the_parked_run_is_what_the_service_makes() {
    check("parked", make_parked);
}

fn dormouse(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dormouse"));
    command.args(args).env_remove("DORMOUSE_RUNS_ROOT").current_dir(env!("CARGO_MANIFEST_DIR"));
    command.output().unwrap()
}

fn says(args: &[&str]) -> String {
    let done = dormouse(args);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{args:?}: {errors}");
    String::from_utf8(done.stdout).unwrap()
}

/// Copies a run with the permissions a checkout gives: with a umask of 002, groups may write.
fn copy(name: &str, to: &Path, mode: u32) {
    for (path, bytes) in files(&top().join(name)) {
        let path = to.join(name).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        for dir in path.ancestors().skip(1).take_while(|dir| *dir != to) {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode | 0o111)).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn looking_at_an_example_by_its_path_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for (name, mode) in [("finished", 0o644), ("parked", 0o664)] {
        copy(name, dir.path(), mode);
        let run = dir.path().join(name);
        let before = files(&run);
        let path = run.to_str().unwrap();
        assert!(says(&["journal", "verify", path]).starts_with("clean"), "{name} {mode:o}");
        says(&["run", "status", path]);
        says(&["run", "show", path]);
        says(&["run", "events", path]);
        says(&["journal", "show", path]);
        says(&["task", "list", path]);
        assert!(says(&["run", "check", path]).starts_with("the journal is reproduced"));
        assert_eq!(files(&run), before);
        assert!(!run.join("run.lock").exists());
        assert!(!run.join("state/cache.mpk").exists());
    }
}

#[test]
fn the_parked_run_goes_on_in_another_root() {
    let root = tempfile::tempdir().unwrap();
    copy("parked", root.path(), 0o644);
    let at = ["--runs-root", root.path().to_str().unwrap()];
    let run = |args: &[&str]| says(&[args, &at[..]].concat());
    assert!(run(&["run", "list"]).contains("parked"));
    run(&["breakpoint", "approve", "parked", "e0004"]);
    assert!(run(&["run", "drive", "parked"]).contains("e0005"));
    run(&["task", "post", "parked", "e0005", "--status", "ok", "--value-inline", "{}"]);
    assert!(run(&["run", "drive", "parked"]).contains(r#""outcome":"promoted""#));
    assert!(run(&["journal", "verify", "parked"]).starts_with("clean"));
}
