//! The judge of a storm: journals, the counter's book and what clients were promised, as data.
//!
//! Shares no code with the program and opens no file. Invariant: it never asks the daemon.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Who does the work of a run, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// A: requests that the daemon sends.
    Http,
    /// B: workers outside.
    Chore,
    /// C: workers outside; doing it twice does no harm.
    Again,
    /// D: commands under a runner.
    Shell,
    /// E: workers outside, and the run is cancelled.
    Cancel,
    /// F: an orchestrator posts, without claims.
    Plain,
}

/// One thing that was done outside.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// `run/effect`.
    pub(super) key: String,
    /// Under which start; 0 where that is not told.
    pub(super) epoch: u64,
    /// When, written as in journals: such times compare as texts.
    pub(super) at: String,
    /// What was answered.
    pub(super) serial: u64,
}

/// What a client was answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Promise {
    Created { run: String },
    Posted { run: String, effect: String, value: Value },
    Refused { run: String, effect: String, epoch: u64, current: u64, value: Value },
    Signalled { run: String, id: String },
    Decided { run: String, effect: String, epoch: u64 },
    Cancelled { run: String },
}

/// A run, as its folder tells it.
#[derive(Debug, Clone)]
pub(super) struct Story {
    pub(super) variant: Variant,
    pub(super) records: Vec<Value>,
    /// Refused posts that were kept.
    pub(super) stale: Vec<Value>,
    /// Its row in the index: state and head.
    pub(super) row: Option<(String, u64)>,
}

impl Story {
    /// What the daemon found out by asking.
    pub(super) fn probed(&self) -> usize {
        self.records.iter().filter(|record| record["data"]["by"] == "probe").count()
    }

    /// Outcomes that a worker posted when its effect was uncertain already.
    pub(super) fn late_outcomes(&self) -> usize {
        let mut uncertain = BTreeSet::new();
        let mut late = 0;
        for record in &self.records {
            let effect = text(&record["data"], "effectId");
            match kind(record) {
                "EFFECT_UNCERTAIN" => drop(uncertain.insert(effect)),
                "EFFECT_RESOLVED" if record["data"]["decision"].is_null() => {
                    late += usize::from(uncertain.contains(effect));
                }
                "EFFECT_ATTEMPT_FAILED" => drop(uncertain.remove(effect)),
                _ => {}
            }
        }
        late
    }
}

/// Everything there is to judge.
#[derive(Debug, Clone, Default)]
pub(super) struct Scene {
    pub(super) runs: BTreeMap<String, Story>,
    pub(super) lines: Vec<Line>,
    pub(super) promises: Vec<Promise>,
    /// Journals that cannot be read.
    pub(super) unreadable: Vec<(String, String)>,
    /// Heads and records that a journal had when it was looked at.
    pub(super) glimpses: Vec<(String, Vec<Value>)>,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// Which invariant.
    pub(super) rule: &'static str,
    pub(super) run: String,
    pub(super) what: String,
}

/// One effect of a run, from its records.
#[derive(Debug, Default)]
struct Life {
    /// Sequence numbers of its starts, with epoch and time.
    starts: Vec<(u64, u64, String)>,
    is_task: bool,
    requested_at: String,
    open: bool,
    outcome: Option<(u64, Value)>,
}

/// All that is wrong.
pub(super) fn judge(scene: &Scene) -> Vec<Finding> {
    let mut court = Court::default();
    for (run, why) in &scene.unreadable {
        court.find("I08", run, why);
    }
    for (run, story) in &scene.runs {
        let lives = court.read(run, story);
        court.outside(run, story, &lives, scene);
        court.row(run, story);
    }
    for line in &scene.lines {
        let run = line.key.split('/').next().unwrap_or_default();
        if !scene.runs.contains_key(run) {
            court.find("I03", run, &format!("work for a run that is not there: {line:?}"));
        }
    }
    for promise in &scene.promises {
        court.promise(promise, scene);
    }
    for (run, seen) in &scene.glimpses {
        let now = scene.runs.get(run).map_or(&[][..], |story| &story.records);
        if !now.starts_with(seen) {
            court.find("I08", run, "what was seen of the journal is not its beginning");
        }
    }
    court.findings
}

#[derive(Default)]
struct Court {
    findings: Vec<Finding>,
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

pub(super) fn kind(record: &Value) -> &str {
    text(record, "type")
}

/// How a run ended.
pub(super) fn end(story: &Story) -> Option<&Value> {
    let is_end = |r: &&Value| {
        matches!(kind(r), "RUN_COMPLETED" | "RUN_FAILED" | "RUN_HALTED" | "RUN_CANCELLED")
    };
    story.records.iter().find(is_end)
}

impl Court {
    fn find(&mut self, rule: &'static str, run: &str, what: &str) {
        self.findings.push(Finding { rule, run: run.to_owned(), what: what.to_owned() });
    }

    /// The lives of a run's effects, each move of which has to be legal.
    fn read(&mut self, run: &str, story: &Story) -> BTreeMap<String, Life> {
        let mut lives: BTreeMap<String, Life> = BTreeMap::new();
        let (mut cancelled, mut ended) = (false, false);
        for record in &story.records {
            let data = &record["data"];
            let effect = text(data, "effectId").to_owned();
            if ended && !matches!(kind(record), "OPERATOR_NOTE" | "JOURNAL_REPAIRED") {
                self.find("I01", run, &format!("a record after the end: {record}"));
            }
            match kind(record) {
                "RUN_CANCEL_REQUESTED" => cancelled = true,
                "RUN_COMPLETED" | "RUN_FAILED" | "RUN_HALTED" | "RUN_CANCELLED" => ended = true,
                "EFFECT_REQUESTED" => {
                    let is_task = !matches!(text(data, "kind"), "signal" | "sleep" | "breakpoint");
                    let requested_at = text(record, "at").to_owned();
                    lives.insert(effect, Life { is_task, requested_at, ..Life::default() });
                }
                kind if kind.starts_with("EFFECT_") => {
                    let Some(life) = lives.get_mut(&effect) else {
                        self.find("I03", run, &format!("nobody asked for it: {record}"));
                        continue;
                    };
                    let wrong = life.take(kind, record, story.variant, cancelled);
                    for (rule, what) in wrong {
                        self.find(rule, run, &format!("{what}: {record}"));
                    }
                }
                _ => {}
            }
        }
        if cancelled && end(story).is_none_or(|end| kind(end) != "RUN_CANCELLED") {
            self.find("I10", run, "it was cancelled and has not ended so");
        }
        lives
    }

    /// What was done outside against what the journal says of it.
    fn outside(&mut self, run: &str, story: &Story, lives: &BTreeMap<String, Life>, scene: &Scene) {
        let mut done: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
        for line in &scene.lines {
            if let Some((its, effect)) = line.key.split_once('/')
                && its == run
            {
                done.entry(effect).or_default().push(line);
            }
        }
        for (effect, lines) in &done {
            let Some(life) = lives.get(*effect) else {
                self.find("I03", run, &format!("{effect} was done and never asked for"));
                continue;
            };
            let most = if story.variant == Variant::Again { life.starts.len() } else { 1 };
            if lines.len() > most {
                self.find("I02", run, &format!("{effect} was done more often: {lines:?}"));
            }
            for line in lines {
                if !life.allowed(line, story.variant) {
                    self.find("I03", run, &format!("{effect} had not been started: {line:?}"));
                }
            }
        }
        let Some(end) = end(story).filter(|end| kind(end) == "RUN_COMPLETED") else { return };
        let tasks = lives.iter().filter(|(_, life)| life.is_task);
        let counted: Vec<Option<u64>> = tasks
            .map(|(effect, _)| done.get(effect.as_str()).map(|lines| lines[0].serial))
            .collect();
        if counted.contains(&None) {
            self.find("I02", run, &format!("it completed, and not all was done: {counted:?}"));
        }
        let told: Vec<Option<u64>> = end["data"]["output"]["serials"]
            .as_array()
            .map(|all| all.iter().map(Value::as_u64).collect())
            .unwrap_or_default();
        if told != counted {
            self.find("I07", run, &format!("its output says {told:?}, the counter {counted:?}"));
        }
    }

    fn row(&mut self, run: &str, story: &Story) {
        let Some((state, head)) = &story.row else {
            return self.find("I09", run, "the index does not know it");
        };
        let stands = match end(story).map(kind) {
            Some("RUN_COMPLETED") => "completed",
            Some("RUN_CANCELLED") => "cancelled",
            Some(_) => "failed",
            None => "open",
        };
        if stands == "open" {
            self.find("I01", run, "it has not ended");
        } else if state != stands || *head != story.records.len() as u64 {
            let what = format!("the index says {state} at {head}, the journal {stands}");
            self.find("I09", run, &what);
        }
    }

    /// What was answered must stand.
    fn promise(&mut self, promise: &Promise, scene: &Scene) {
        let (Promise::Created { run }
        | Promise::Posted { run, .. }
        | Promise::Refused { run, .. }
        | Promise::Signalled { run, .. }
        | Promise::Decided { run, .. }
        | Promise::Cancelled { run }) = promise;
        let Some(story) = scene.runs.get(run) else {
            return self.find("I01", run, &format!("it is lost: {promise:?}"));
        };
        let stands = |want: &str, test: &dyn Fn(&Value) -> bool| {
            story.records.iter().any(|r| kind(r) == want && test(&r["data"]))
        };
        let kept = match promise {
            Promise::Created { .. } => !story.records.is_empty(),
            Promise::Posted { effect, value, .. } => {
                stands("EFFECT_RESOLVED", &|d| d["effectId"] == **effect && d["value"] == *value)
            }
            Promise::Signalled { id, .. } => stands("SIGNAL_RECEIVED", &|d| d["signalId"] == **id),
            Promise::Cancelled { .. } => stands("RUN_CANCEL_REQUESTED", &|_| true),
            Promise::Decided { effect, epoch, .. } => {
                let ours = |d: &Value| {
                    d["effectId"] == **effect && d["epoch"] == *epoch && d["decision"].is_object()
                };
                stands("EFFECT_RESOLVED", &ours) || stands("EFFECT_ATTEMPT_FAILED", &ours)
            }
            Promise::Refused { .. } => return self.refused(promise, story),
        };
        if !kept {
            self.find("I01", run, &format!("a promise is broken: {promise:?}"));
        }
    }

    /// A post that was refused as too old never counts, and is kept.
    fn refused(&mut self, promise: &Promise, story: &Story) {
        let Promise::Refused { run, effect, epoch, current, value } = promise else { return };
        if epoch >= current {
            self.find("I05", run, &format!("refused for no reason: {promise:?}"));
        }
        let is_it = |r: &&Value| r["data"]["effectId"] == **effect && r["data"]["value"] == *value;
        if story.records.iter().any(|r| kind(r) == "EFFECT_RESOLVED" && is_it(&r)) {
            self.find("I05", run, &format!("refused, and it stands: {promise:?}"));
        }
        let kept = |file: &Value| file["value"] == *value && file["epoch"] == *epoch;
        if !story.stale.iter().any(kept) {
            self.find("I05", run, &format!("refused, and not kept: {promise:?}"));
        }
    }
}

impl Life {
    /// Takes a record of this effect. What is wrong with it.
    fn take(
        &mut self,
        kind: &str,
        record: &Value,
        variant: Variant,
        cancelled: bool,
    ) -> Vec<(&'static str, &'static str)> {
        let (data, mut wrong) = (&record["data"], Vec::new());
        let epoch = data["epoch"].as_u64().unwrap_or(0);
        let last = self.starts.last().map_or(0, |(_, epoch, _)| *epoch);
        if self.outcome.is_some() {
            wrong.push(("I05", "its effect has ended"));
        }
        match kind {
            "EFFECT_STARTED" => {
                if epoch != last + 1 {
                    wrong.push(("I04", "epochs are 1, 2, 3, …"));
                }
                if self.open {
                    wrong.push(("I02", "it was started while another start was open"));
                }
                if cancelled {
                    wrong.push(("I10", "its run was cancelled"));
                }
                let seq = record["seq"].as_u64().unwrap_or(0);
                self.starts.push((seq, epoch, text(record, "at").to_owned()));
                self.open = true;
            }
            "EFFECT_UNCERTAIN" => {
                if !self.open {
                    wrong.push(("I06", "no start is open"));
                }
                if variant == Variant::Shell {
                    wrong.push(("I06", "its runner lived"));
                }
            }
            "EFFECT_ATTEMPT_FAILED" => {
                if epoch != last {
                    wrong.push(("I05", "another start is the current one"));
                }
                let unknown = text(data, "class") == "unknown";
                let may = variant == Variant::Again || data["decision"].is_object();
                let asked = text(data, "cause").starts_with("probe");
                if unknown && !may && !asked {
                    wrong.push(("I02", "the outcome is unknown, and it is open again"));
                }
                self.open = false;
            }
            "EFFECT_RESOLVED" | "EFFECT_CANCELLED" => {
                if epoch != last && (self.open || epoch != 0) {
                    wrong.push(("I05", "another start is the current one"));
                }
                self.open = false;
                self.outcome = Some((epoch, data["value"].clone()));
            }
            _ => {}
        }
        wrong
    }

    /// Whether somebody was let in to do this.
    fn allowed(&self, line: &Line, variant: Variant) -> bool {
        let before = |at: &str| *at <= *line.at;
        if variant == Variant::Plain {
            return before(&self.requested_at);
        }
        let fits = |epoch: u64| line.epoch == 0 || line.epoch == epoch;
        self.starts.iter().any(|(_, epoch, at)| fits(*epoch) && before(at))
    }
}

/// Findings in words, with the records of the first run that they are about.
pub(super) fn told(findings: &[Finding], scene: &Scene) -> Vec<String> {
    let tell = |f: &Finding| format!("{}: run {}: {}", f.rule, f.run, f.what);
    let mut out: Vec<String> = findings.iter().map(tell).collect();
    if let Some(Finding { run, .. }) = findings.first() {
        let story = scene.runs.get(run).map_or(&[][..], |story| &story.records);
        let records: Vec<String> = story.iter().map(Value::to_string).collect();
        if let Some(first) = out.first_mut() {
            *first = format!("{first}\n{}", records.join("\n"));
        }
    }
    out
}
