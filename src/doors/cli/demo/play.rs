//! The story of the demo: a canary release that is killed while it sleeps and while it computes.
//!
//! May not start processes itself. Invariant: what it claims about the run it has read from the
//! journal, with the same verification as any other reader.

use std::process::Child;

use serde::Serialize;
use serde_json::Value;

use super::stage::{RUN, Stage, broken};
use crate::doors::cli::failure::Failure;
use crate::ground::clock::monotonic_micros;
use crate::ground::id::Seq;
use crate::machines::replay::state::{End, RunState};
use crate::shells::run_dir::lock::{self, State};

/// How long to wait for a moment that has to come.
const PATIENCE_MS: u64 = 30_000;

/// One kill -9.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kill {
    /// Who was killed.
    pub(super) pid: u32,
    signal: u8,
    moment: &'static str,
    head_before: Seq,
    head_after: Seq,
}

/// The play.
pub(super) struct Play {
    stage: Stage,
    kills: Vec<Kill>,
    verdict: Option<&'static str>,
    outcome: Option<Value>,
}

impl Play {
    pub(super) fn new(stage: Stage) -> Self {
        Self { stage, kills: Vec::new(), verdict: None, outcome: None }
    }

    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    pub(super) fn kills(&self) -> &[Kill] {
        &self.kills
    }

    pub(super) fn verdict(&self) -> Option<&'static str> {
        self.verdict
    }

    /// The output of the run, if it completed.
    pub(super) fn outcome(&self) -> Option<&Value> {
        self.outcome.as_ref()
    }

    /// The run completed, verifies, and was really killed.
    pub(super) fn is_good(&self) -> bool {
        self.outcome.is_some() && self.verdict == Some("clean") && !self.kills.is_empty()
    }

    /// All acts.
    pub(super) fn perform(&mut self, yes: bool) -> Result<(), Failure> {
        self.overture();
        self.create()?;
        self.kill_in_sleep()?;
        self.kill_at_work()?;
        self.approve(yes)?;
        self.finish()?;
        self.verify()
    }

    fn overture(&self) {
        let s = &self.stage;
        s.say("A canary release: an agent shifts traffic, the run sleeps, an agent measures, the");
        s.say("process compares, a person decides. Its program is going to be killed, twice.");
        s.say("");
        s.say("Everything happens in a temporary directory. To type along in another terminal:");
        s.command(&format!("alias dormouse={}", s.exe().display()));
        s.command(&format!("export DORMOUSE_RUNS_ROOT={}", s.runs_root().display()));
        s.command(&format!("cd {}", s.top().display()));
    }

    fn create(&self) -> Result<(), Failure> {
        let s = &self.stage;
        s.head("1. Create a run. Its code and inputs are pinned into a directory of its own.");
        let entry = ["--entry", "process.js", "--inputs", "inputs.json", "--run-id", RUN];
        s.run(&[&["run", "create"], &entry[..]].concat())?;
        s.head("2. Drive it: it runs until it needs someone from outside. Here, an agent.");
        s.run(&["run", "drive", RUN])?;
        s.head("3. The demo plays the agent. Exit 0 means that its answer is on the disk.");
        self.post("e0001", r#"{"share":5,"healthy":true}"#)
    }

    fn post(&self, effect: &str, value: &str) -> Result<(), Failure> {
        self.stage.run(&["task", "post", RUN, effect, "--status", "ok", "--value-inline", value])
    }

    fn kill_in_sleep(&mut self) -> Result<(), Failure> {
        self.stage.head("4. Drive on. The process now sleeps for 2 s: kill the program meanwhile.");
        let child = self.stage.start(&["run", "drive", RUN])?;
        let pid = child.id();
        let asleep = |state: &RunState| state.open_effects().any(|e| e.kind == "sleep");
        let child =
            self.wait_for(child, &|play| Ok(asleep(&play.state()?) && play.is_free(pid)))?;
        self.stage.say(&format!("    pid {pid} sleeps on the durable timer {}", self.timer()?));
        self.kill(child, "asleep")?;
        let s = &self.stage;
        s.say(&format!("    the timer still says {}: it is a record, no thread", self.timer()?));
        s.head("5. One command resumes. It waits only for what is left of the sleep.");
        s.run(&["run", "drive", RUN])
    }

    fn kill_at_work(&mut self) -> Result<(), Failure> {
        self.stage.head("6. The second agent answers, and its numbers are in samples.json.");
        let answer = ["task", "post", RUN, "e0003", "--status", "ok", "--value", "samples.json"];
        self.stage.run(&answer)?;
        self.stage.head("7. Kill it right there: it holds the run, and its process computes.");
        let child = self.stage.start(&["run", "drive", RUN])?;
        let pid = child.id();
        let child = self.wait_for(child, &|play| Ok(play.is_owner(pid)))?;
        // The host needs a few milliseconds to start; comparing takes some hundred.
        self.stage.runs.clock.sleep_millis(80);
        self.stage.say(&format!("    pid {pid} owns the run and is in the middle of a turn"));
        self.kill(child, "computing")?;
        let s = &self.stage;
        s.run(&["journal", "verify", RUN])?;
        s.head("8. One command resumes: the journal is replayed, the random numbers are the same.");
        s.run(&["run", "drive", RUN])
    }

    fn approve(&self, yes: bool) -> Result<(), Failure> {
        let s = &self.stage;
        s.head("9. Now it is parked: no process, no memory, for a second or for a month.");
        s.run(&["breakpoint", "list"])?;
        let answer = if s.has_audience() && !yes {
            s.ask("Give it to everybody? [y/n]")
        } else {
            let why = if yes { "As --yes says" } else { "Nobody is there to ask" };
            s.say(&format!("  {why}: the demo approves."));
            Some("yes".to_owned())
        };
        if self.state()?.open_effects().all(|e| e.kind != "breakpoint") {
            s.say("  Somebody else has answered already.");
            return Ok(());
        }
        match answer.as_deref() {
            Some("y" | "yes" | "j" | "ja") => s.run(&["breakpoint", "approve", RUN, "e0004"]),
            _ => s.run(&["breakpoint", "reject", RUN, "e0004", "--response", "not now"]),
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let s = &self.stage;
        s.head("10. Drive it, answer the last task, drive it to its end.");
        s.run(&["run", "drive", RUN])?;
        self.post("e0005", r#"{"healthy":true}"#)?;
        self.stage.run(&["run", "drive", RUN])?;
        let seen = self.stage.runs.look(RUN)?;
        if seen.state.end.map(|(end, _)| end) == Some(End::Completed) {
            let last = seen.records.last().map(|r| r.event.data());
            let output = last.map(|data| serde_json::to_value(data).unwrap_or_default());
            self.outcome = output.map(|data| data["output"].clone());
        }
        Ok(())
    }

    fn verify(&mut self) -> Result<(), Failure> {
        let s = &self.stage;
        s.head("11. Check every byte of the journal, and replay it against the pinned code.");
        s.run(&["journal", "verify", RUN])?;
        s.run(&["run", "check", RUN])?;
        self.verdict = Some(s.runs.verify(RUN)?.verdict);
        if self.is_good() {
            let (kills, head) = (self.kills.len(), self.state()?.head.seq);
            s.good(&format!("completed, {kills} × kill -9, {head} records, nothing lost"));
        } else {
            s.bad("this did not go as it should have; please report it");
        }
        Ok(())
    }

    /// Kills, and makes sure that every record of before is there.
    fn kill(&mut self, child: Child, moment: &'static str) -> Result<(), Failure> {
        let pid = child.id();
        let head_before = self.state()?.head;
        if !self.stage.kill(child)? {
            return Err(broken(format!("process {pid} ended before it could be killed")));
        }
        let seen = self.stage.runs.look(RUN)?;
        let kept = seen.record(head_before.seq).is_some_and(|r| r.sum == head_before.sum);
        if !kept {
            return Err(broken(format!("record {} is lost", head_before.seq)));
        }
        let head_after = seen.state.head.seq;
        self.stage.good(&format!("all {} records from before are there", head_before.seq));
        let signal = 9;
        self.kills.push(Kill { pid, signal, moment, head_before: head_before.seq, head_after });
        Ok(())
    }

    /// Waits until something is true of a run that `child` drives.
    fn wait_for(
        &self,
        mut child: Child,
        is_true: &dyn Fn(&Self) -> Result<bool, Failure>,
    ) -> Result<Child, Failure> {
        let began = monotonic_micros();
        loop {
            let gone = !matches!(child.try_wait(), Ok(None));
            let late = monotonic_micros().saturating_sub(began) / 1000 > PATIENCE_MS;
            if !gone && !late && is_true(self)? {
                return Ok(child);
            }
            if gone || late {
                let _ = child.kill();
                let _ = child.wait();
                return Err(broken(format!("process {} did not do what it should", child.id())));
            }
            self.stage.runs.clock.sleep_millis(2);
        }
    }

    fn state(&self) -> Result<RunState, Failure> {
        Ok(self.stage.runs.look(RUN)?.state)
    }

    fn timer(&self) -> Result<String, Failure> {
        let state = self.state()?;
        Ok(state.timers.first().map_or_else(|| "(none)".into(), |(due, _)| due.to_string()))
    }

    /// What the lock of the run says about `pid`.
    fn note(&self, pid: u32) -> Option<State> {
        let dir = self.stage.runs.find(RUN).ok()?;
        let note = lock::read_note(&**dir.dir(), "run.lock")?;
        (note.pid == pid).then_some(note.state)
    }

    fn is_owner(&self, pid: u32) -> bool {
        self.note(pid) == Some(State::Open)
    }

    fn is_free(&self, pid: u32) -> bool {
        self.note(pid) == Some(State::Closed)
    }
}
