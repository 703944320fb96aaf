//! Commands through a real daemon: what they get and give, how they are ended, and that neither a
//! daemon nor a runner that is killed makes one run twice.

#![allow(clippy::disallowed_methods, reason = "these tests start programs and read their files")]

use crate::cli::Cli;
use crate::daemon_cli::Daemon;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its inputs are the definition.
const PROCESS: &str = r#"
import { defineTask } from "dormouse";
const command = defineTask("command", (def) => ({ kind: "shell", title: "A command", ...def }));
export async function process(inputs, ctx) {
  return await ctx.task(command, inputs.def, inputs.options);
}
"#;

/// A root with a configuration of its own.
pub(crate) struct Place {
    pub(crate) cli: Cli,
}

impl Place {
    pub(crate) fn new(process: &str) -> Self {
        let cli = Cli::new();
        cli.file("process.js", process);
        Self { cli }
    }

    /// A daemon with these lines below `[executors.shell]`.
    fn shell(&self, lines: &str) -> Daemon {
        self.serve(&format!("[executors.shell]\nenabled = true\n{lines}\n"))
    }

    pub(crate) fn serve(&self, config: &str) -> Daemon {
        let path = self.cli.file("config.toml", config);
        Daemon::start(&self.cli, &["--config", path.to_str().unwrap()])
    }

    /// Creates a run; a daemon lets it go on.
    pub(crate) fn create(&self, id: &str, inputs: &Value) {
        self.cli.file("inputs.json", inputs.to_string());
        let words = "run create --entry process.js --inputs inputs.json --run-id";
        self.cli.run(&format!("{words} {id}")).ok();
    }

    /// Waits for the end of a run and gives its events.
    pub(crate) fn ended(&self, id: &str) -> Vec<Value> {
        self.cli.run(&format!("run watch {id} --timeout 60s"));
        self.events(id)
    }

    pub(crate) fn events(&self, id: &str) -> Vec<Value> {
        let journal = self.cli.root().join(id).join("journal/0000000001.jsonl");
        let text = fs::read_to_string(journal).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Executes one command and gives the events of its run.
    fn command(&self, id: &str, def: &Value) -> Vec<Value> {
        self.create(id, &json!({ "def": def }));
        self.ended(id)
    }

    fn task(&self, id: &str) -> PathBuf {
        self.cli.root().join(id).join("tasks/e0001")
    }

    /// The runner of a run's first attempt, once it has said what it started.
    pub(crate) fn runner(&self, id: &str) -> Pid {
        loop {
            let lock = fs::read(self.task(id).join("runner-1.lock")).unwrap_or_default();
            let holder: Value = serde_json::from_slice(&lock).unwrap_or_default();
            if holder["child"]["pid"].is_u64() {
                let pid = i32::try_from(holder["pid"].as_i64().unwrap()).unwrap();
                return Pid::from_raw(pid).unwrap();
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.cli.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }
}

/// The data of the only event of a type.
#[track_caller]
pub(crate) fn only<'e>(events: &'e [Value], kind: &str) -> &'e Value {
    let found = all(events, kind);
    assert_eq!(found.len(), 1, "{kind}: {events:#?}");
    found[0]
}

pub(crate) fn all<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events.iter().filter(|e| e["type"] == kind).map(|e| &e["data"]).collect()
}

/// Waits until a process has ended.
fn is_gone(pid: &str) -> bool {
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let most = Timespec { tv_sec: 60, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&most)).unwrap() == 1
}

fn sh(script: &str) -> Value {
    json!({ "argv": ["sh", "-c", script] })
}

#[test]
fn what_a_command_gives_is_the_value() {
    let place = Place::new(PROCESS);
    let daemon = place.shell("allow = \"any\"");
    let events = place.command("hello", &json!({ "argv": ["cat"], "stdin": "hello" }));
    let value = &only(&events, "EFFECT_RESOLVED")["value"];
    assert_eq!((&value["exitCode"], &value["stdout"]), (&json!(0), &json!("hello")));
    assert_eq!((&value["success"], &value["truncated"]), (&json!(true), &json!(false)));
    assert_eq!(only(&events, "EFFECT_STARTED")["target"], "cat");
    assert_eq!(fs::read_to_string(place.task("hello").join("stdout.log")).unwrap(), "hello");
    let json = json!({ "argv": ["printf", "{\"a\":1.50}"], "output": "json" });
    let events = place.command("json", &json);
    assert_eq!(only(&events, "EFFECT_RESOLVED")["value"]["json"]["a"], json!(1.5));
    let events = place.command("chosen", &sh("echo '[1.50]' >$DORMOUSE_OUTPUTS"));
    assert_eq!(only(&events, "EFFECT_RESOLVED")["value"].to_string(), "[1.5]");
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn every_end_has_its_meaning() {
    let place = Place::new(PROCESS);
    let daemon = place.shell("allow = \"any\"");
    // The process sees failures of commands as values, whatever they are in the daemon.
    for (id, mut def, more, error) in [
        ("exit", sh("echo no >&2; exit 3"), json!({}), Some("sh exited with code 3")),
        ("expected", sh("exit 3"), json!({ "expectedExitCodes": [0, 3] }), None),
        ("value", sh("exit 3"), json!({ "onExit": "value" }), Some("sh exited with code 3")),
        ("signal", sh("kill -9 $$"), json!({}), Some("sh was ended by signal 9")),
        ("output", sh("echo {"), json!({ "output": "json" }), Some("what it printed is no JSON")),
        ("nonsense", json!({ "argv": [] }), json!({}), Some("argv is empty")),
    ] {
        def.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let events = place.command(id, &def);
        let resolved = only(&events, "EFFECT_RESOLVED");
        let said = resolved["value"]["error"].as_str();
        let fits = error.map_or(said.is_none(), |error| said.is_some_and(|s| s.contains(error)));
        assert!(fits, "{id}: {resolved}");
        assert_eq!(resolved["by"], "executor:shell");
        match id {
            "exit" => assert_eq!(resolved["value"]["stderr"], "no\n"),
            "value" => assert_eq!(resolved["value"]["success"], false),
            "nonsense" => assert_eq!(resolved["epoch"], 0, "it was never started"),
            _ => {}
        }
    }
    drop(daemon);
}

#[test]
fn nobody_else_speaks_for_what_the_daemon_executes() {
    let place = Place::new(PROCESS);
    let daemon = place.shell("allow = \"any\"");
    let (done, go) = (place.cli.path("done"), place.cli.path("go"));
    let script =
        format!("echo x >>{}; until test -e {}; do sleep 0.05; done", done.display(), go.display());
    place.create("r", &json!({ "def": sh(&script) }));
    place.runner("r");
    for line in [
        "task release r e0001 --epoch 1 --began no",
        "task release r e0001 --epoch 1 --began yes",
        "task heartbeat r e0001 --epoch 1",
        "task post r e0001 --epoch 1 --status ok --value-inline 1",
        "task post r e0001 --epoch 1 --status unknown",
    ] {
        place.cli.run(line).exits(4).says("held by @daemon");
    }
    fs::write(&go, "").unwrap();
    let events = place.ended("r");
    assert_eq!(all(&events, "EFFECT_STARTED").len(), 1);
    assert_eq!(only(&events, "EFFECT_RESOLVED")["by"], "executor:shell");
    assert_eq!(fs::read_to_string(&done).unwrap(), "x\n");
    drop(daemon);
}

#[test]
fn a_failure_that_may_pass_is_tried_again() {
    let place = Place::new(PROCESS);
    let daemon = place.shell("allow = \"any\"");
    let count = place.cli.path("count");
    let script = format!("echo x >>{0}; test $(wc -l <{0}) = 3 || exit 75", count.display());
    let retry = json!({ "retry": { "maxAttempts": 3, "initial": 1 } });
    place.create("r", &json!({ "def": sh(&script), "options": retry }));
    let events = place.ended("r");
    let epochs: Vec<_> =
        all(&events, "EFFECT_STARTED").iter().map(|s| s["epoch"].clone()).collect();
    assert_eq!(epochs, [1, 2, 3]);
    assert_eq!(all(&events, "EFFECT_ATTEMPT_FAILED").len(), 2);
    assert_eq!(only(&events, "EFFECT_RESOLVED")["status"], "ok");
    assert!(place.task("r").join("stdout.2.log").exists(), "logs of earlier attempts are kept");
    drop(daemon);
}

#[test]
fn a_command_gets_nothing_of_ours() {
    let place = Place::new(PROCESS);
    let scratch = place.cli.path("work");
    fs::create_dir(&scratch).unwrap();
    let lines = format!(
        "allow = \"any\"\nenv_pass = [\"HOME\"]\nenv_allow = [\"APP_*\"]\ncwd_roots = [{scratch:?}]"
    );
    let daemon = place.shell(&lines);
    let script = "env | sed 's/=.*//' | sort | tr '\\n' ' '; echo; ls /proc/self/fd | tr '\\n' ' ';
        echo; pwd; umask; ps -o sid= -p $$ | grep -qw $$ && echo leads";
    let def = json!({ "argv": ["sh", "-c", script], "env": { "APP_X": "1" }, "cwd": scratch });
    let events = place.command("r", &def);
    let value = &only(&events, "EFFECT_RESOLVED")["value"];
    let said: Vec<&str> = value["stdout"].as_str().unwrap().lines().collect();
    let ours = "DORMOUSE_ATTEMPT DORMOUSE_DEADLINE DORMOUSE_EFFECT_ID DORMOUSE_EPOCH \
        DORMOUSE_IDEMPOTENCY_KEY DORMOUSE_OUTPUTS DORMOUSE_RUN_ID HOME LANG PATH PWD TRACEPARENT";
    let names: Vec<&str> = said[0].split_whitespace().filter(|name| *name != "_").collect();
    let names: Vec<&str> = names.into_iter().filter(|n| !["OLDPWD", "SHLVL"].contains(n)).collect();
    assert_eq!(names.join(" "), format!("APP_X {ours}"));
    assert_eq!(said[1].trim(), "0 1 2 3", "the listing's own is the fourth");
    assert_eq!(Path::new(said[2]), scratch.canonicalize().unwrap());
    assert_eq!(said[3], "0077");
    assert_eq!(said[4], "leads", "{value}");
    drop(daemon);
}

#[test]
fn what_takes_too_long_is_ended_with_all_its_children() {
    let place = Place::new(PROCESS);
    let daemon = place.shell("allow = \"any\"\nkill_grace = \"0s\"");
    let pids = place.cli.path("pids");
    // One of them ignores the order, one leaves the session: both belong to the command.
    let script = format!(
        "echo $$ >>{0}; trap '' TERM
        setsid sh -c 'echo $$ >>{0}; trap \"\" TERM; while :; do sleep 60; done' &
        while :; do sleep 60; done",
        pids.display()
    );
    let mut def = sh(&script);
    def["timeout"] = json!(1500);
    place.create("r", &json!({ "def": def, "options": { "timeout": 1500 } }));
    let events = place.ended("r");
    assert_eq!(only(&events, "EFFECT_RESOLVED")["value"]["error"], "sh took too long");
    let pids = fs::read_to_string(&pids).unwrap();
    assert_eq!(pids.lines().count(), 2, "both were started: {pids}");
    for pid in pids.lines() {
        assert!(is_gone(pid), "{pid} is left");
    }
    drop(daemon);
}

#[test]
fn a_command_outlives_its_daemon_and_is_executed_once() {
    let place = Place::new(PROCESS);
    let (ready, go) = (place.fifo("ready"), place.fifo("go"));
    let count = place.cli.path("count");
    let script =
        format!("echo x >>{}; echo >{}; cat {}", count.display(), ready.display(), go.display());
    for (id, ends_between) in [("between", true), ("after", false)] {
        let daemon = place.shell("allow = \"any\"");
        fs::remove_file(&count).ok();
        place.create(id, &json!({ "def": sh(&script) }));
        // Comes when the command has begun.
        fs::read(&ready).unwrap();
        drop(daemon);
        if ends_between {
            fs::write(&go, "went\n").unwrap();
        }
        let daemon = place.shell(if ends_between { "allow = \"any\"" } else { "allow = []" });
        if !ends_between {
            fs::write(&go, "went\n").unwrap();
        }
        let events = place.ended(id);
        let resolved = only(&events, "EFFECT_RESOLVED");
        assert_eq!(resolved["value"]["stdout"], "went\n", "{id}: {resolved}");
        assert_eq!((&resolved["epoch"], all(&events, "EFFECT_STARTED").len()), (&json!(1), 1));
        assert_eq!(fs::read_to_string(&count).unwrap(), "x\n", "{id}");
        assert_eq!(daemon.stop().0, 0);
    }
}

#[test]
fn a_command_outlives_an_orderly_end_too() {
    let place = Place::new(PROCESS);
    let (ready, go) = (place.fifo("ready"), place.fifo("go"));
    let daemon = place.shell("allow = \"any\"");
    let script = format!("echo >{}; cat {}", ready.display(), go.display());
    place.create("r", &json!({ "def": sh(&script) }));
    fs::read(&ready).unwrap();
    assert_eq!(daemon.stop().0, 0);
    // It is taken up although commands were turned off meanwhile.
    let daemon = place.serve("");
    fs::write(&go, "went\n").unwrap();
    let events = place.ended("r");
    assert_eq!(only(&events, "EFFECT_RESOLVED")["value"]["stdout"], "went\n");
    drop(daemon);
}

#[test]
fn where_the_runner_dies_as_well_nobody_knows() {
    let place = Place::new(PROCESS);
    let (ready, go) = (place.fifo("ready"), place.fifo("go"));
    let mut daemon = place.shell("allow = \"any\"");
    // A child of the command, which does not go with the runner by itself.
    let script = format!("cat {} & echo $! >{}; wait", go.display(), ready.display());
    place.create("r", &json!({ "def": sh(&script) }));
    let pid = fs::read_to_string(&ready).unwrap();
    kill_process(place.runner("r"), Signal::KILL).unwrap();
    daemon.hears("executor_lost");
    let events = place.events("r");
    assert_eq!(only(&events, "EFFECT_UNCERTAIN")["cause"], "executor_lost");
    assert!(is_gone(&pid));
    drop(daemon);
}

#[test]
fn what_is_not_allowed_is_held_until_it_is() {
    let place = Place::new(PROCESS);
    let mut daemon = place.shell("allow = [\"ls\", { program = \"echo\", args = [\"b*\"] }]");
    place.create("r", &json!({ "def": { "argv": ["echo", "a", "b"] } }));
    let said = daemon.hears("held_policy");
    assert!(
        said.contains("executors.shell.allow = [{ program = \"echo\", args = [\"a\", \"b\"] }]")
    );
    assert!(all(&place.events("r"), "EFFECT_STARTED").is_empty(), "it was no attempt");
    assert_eq!(daemon.stop().0, 0);
    let daemon = place.shell("allow = [{ program = \"echo\", args = [\"a\", \"*\"] }]");
    let events = place.ended("r");
    assert_eq!(only(&events, "EFFECT_RESOLVED")["value"]["stdout"], "a b\n");
    drop(daemon);
}

#[test]
fn a_run_that_is_cancelled_ends_its_command() {
    let place = Place::new(PROCESS);
    let (ready, go) = (place.fifo("ready"), place.fifo("go"));
    let daemon = place.shell("allow = \"any\"");
    let script = format!("trap 'exit 9' TERM; echo $$ >{}; cat {}", ready.display(), go.display());
    place.create("r", &json!({ "def": sh(&script) }));
    let pid = fs::read_to_string(&ready).unwrap();
    place.cli.run("run cancel r").ok();
    let events = place.ended("r");
    let resolved = only(&events, "EFFECT_RESOLVED");
    assert_eq!(resolved["value"]["error"], "sh was given up", "{resolved}");
    assert_eq!(events.last().unwrap()["type"], "RUN_CANCELLED");
    assert!(is_gone(&pid));
    drop(daemon);
}

#[test]
fn a_program_that_is_not_found_is_held_with_what_would_have_it_found() {
    let place = Place::new(PROCESS);
    let mut daemon = place.shell("allow = [\"ls\"]");
    for (run, program, what) in [
        ("a", "no-such-program", "or its directory in executors.shell.path"),
        ("b", "/no/such/program", "to install it there"),
        ("c", "./program", "its absolute path in the definition"),
    ] {
        place.create(run, &json!({ "def": { "argv": [program] } }));
        let said = daemon.hears("held_policy");
        assert!(said.contains(what), "{program}: {said}");
    }
}
