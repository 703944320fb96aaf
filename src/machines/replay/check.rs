//! The check: what a turn put out against what the journal says it put out.
//!
//! May not repair anything. Invariant: two sequences of outputs are equal exactly when their types,
//! keys, kinds and digests are, one by one.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::codecs::event::{Event, Record};
use crate::codecs::json::{Json, Numbers, canonical};
use crate::codecs::turn::Output;
use crate::ground::digest::Digest;
use crate::ground::id::Seq;

/// Differences shown of one pair of arguments.
const DIFFS_MAX: usize = 50;
/// Characters shown of one value.
const VALUE_CHARS_MAX: usize = 200;

/// What replay compares of one output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// `EFFECT_REQUESTED`, `VALUE_OBSERVED`, or the type of an end.
    #[serde(rename = "type")]
    pub output_type: &'static str,
    /// Invocation key; empty for ends.
    pub key: String,
    /// Kind of the effect; empty for others.
    pub kind: String,
    /// Digest of the arguments, or of the outcome; empty where there is none.
    pub args_digest: String,
}

impl Mark {
    /// The mark of a journaled output.
    #[must_use]
    pub fn of_event(event: &Event) -> Self {
        let end = |digest: Digest| (String::new(), String::new(), digest.to_string());
        let (key, kind, args_digest) = match event {
            Event::EffectRequested(e) => (e.key.clone(), e.kind.clone(), e.args_digest.to_string()),
            Event::ValueObserved(e) => (e.key.clone(), String::new(), String::new()),
            Event::RunCompleted(e) => end(e.output_digest),
            Event::RunFailed(e) => end(error_digest(&e.error.name, &e.error.message)),
            Event::RunHalted(e) => end(halt_digest(&e.reason, e.payload.as_ref())),
            _ => (String::new(), String::new(), String::new()),
        };
        Self { output_type: event.name(), key, kind, args_digest }
    }

    /// The mark of an output that a host reported.
    #[must_use]
    pub fn of_output(output: &Output) -> Self {
        let end = |name: &'static str, digest: Digest| (name, String::new(), digest.to_string());
        let (output_type, key, args_digest) = match output {
            Output::Request(r) => ("EFFECT_REQUESTED", r.key.clone(), r.args_digest.clone()),
            Output::Mark { key, .. } => ("VALUE_OBSERVED", key.clone(), String::new()),
            Output::Completed { output } => end("RUN_COMPLETED", output_digest(output)),
            Output::Failed { error } => {
                end("RUN_FAILED", error_digest(&error.name, &error.message))
            }
            Output::Halted { reason, payload } => {
                end("RUN_HALTED", halt_digest(reason, payload.as_ref()))
            }
            Output::Continued { .. } => ("RUN_CONTINUED", String::new(), String::new()),
        };
        let kind = match output {
            Output::Request(request) => request.kind.clone(),
            _ => String::new(),
        };
        Self { output_type, key, kind, args_digest }
    }
}

/// Digest of what a process returned.
#[must_use]
pub fn output_digest(output: &Json) -> Digest {
    Digest::of(canonical(output, Numbers::EcmaScript, None).as_bytes())
}

fn error_digest(name: &str, message: &str) -> Digest {
    Digest::of(format!("{name}\n{message}").as_bytes())
}

fn halt_digest(reason: &str, payload: Option<&Json>) -> Digest {
    let payload = payload.map_or(String::new(), |p| canonical(p, Numbers::EcmaScript, None));
    Digest::of(format!("{reason}\n{payload}").as_bytes())
}

/// One side of a divergence.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// The effect, on the journal's side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect_id: Option<String>,
    /// What was compared.
    #[serde(flatten)]
    pub mark: Mark,
    /// For display.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Where the call stands in the code, on the process's side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
}

impl Side {
    /// The process's side.
    #[must_use]
    pub fn of_output(output: &Output) -> Self {
        let (label, site) = match output {
            Output::Request(r) => (r.label.clone().or_else(|| r.title.clone()), r.site.clone()),
            _ => (None, None),
        };
        Self { effect_id: None, mark: Mark::of_output(output), label, site }
    }
}

/// One difference between recorded and observed arguments.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArgsDiff {
    /// JSON pointer.
    pub path: String,
    /// Recorded value, cut; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// Observed value, cut; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// Process and journal disagree.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Divergence {
    /// Generation of the run.
    pub generation: u32,
    /// Input of the turn.
    pub cause: Seq,
    /// Place among the turn's outputs, from 0.
    pub position: usize,
    /// `missing`, `extra`, `args-changed`, `kind-changed`, `reordered`, `renamed`,
    /// `outcome-changed`.
    pub class: &'static str,
    /// What the journal says.
    pub expected: Option<Side>,
    /// What the process did.
    pub observed: Option<Side>,
    /// How the arguments differ, where key and kind are the same.
    pub args_diff: Option<Vec<ArgsDiff>>,
    /// Keys of the last outputs that agreed.
    pub last_matched: Vec<String>,
    /// What to do.
    pub suggestions: Vec<String>,
}

/// Compares the outputs of one turn. `open_ended`: the process may have put out more than is
/// journaled, because nothing later is.
///
/// # Errors
/// The first place where they differ.
pub fn compare(
    generation: u32,
    cause: Seq,
    expected: &[&Record],
    observed: &[&Output],
    open_ended: bool,
) -> Result<(), Box<Divergence>> {
    let expected_marks: Vec<Mark> = expected.iter().map(|r| Mark::of_event(&r.event)).collect();
    let observed_marks: Vec<Mark> = observed.iter().map(|o| Mark::of_output(o)).collect();
    let longest = expected.len().max(observed.len());
    let position = (0..longest).find(|i| match (expected_marks.get(*i), observed_marks.get(*i)) {
        (None, Some(_)) => !open_ended,
        (old, new) => old != new,
    });
    let Some(position) = position else { return Ok(()) };
    Err(Box::new(Divergence {
        generation,
        cause,
        position,
        class: classify(&expected_marks, &observed_marks, position),
        expected: expected.get(position).map(|r| journal_side(r)),
        observed: observed.get(position).map(|o| Side::of_output(o)),
        args_diff: args_diff(expected.get(position).copied(), observed.get(position).copied()),
        last_matched: Vec::new(),
        suggestions: suggestions(),
    }))
}

/// The divergence of two ends whose marks are the same and whose records are not.
#[must_use]
pub fn other_outcome(
    generation: u32,
    cause: Seq,
    position: usize,
    expected: &Record,
    observed: &[&Output],
) -> Divergence {
    Divergence {
        generation,
        cause,
        position,
        class: "outcome-changed",
        expected: Some(journal_side(expected)),
        observed: observed.first().map(|o| Side::of_output(o)),
        args_diff: None,
        last_matched: Vec::new(),
        suggestions: suggestions(),
    }
}

fn suggestions() -> Vec<String> {
    vec![
        "restore the code the run was started with".to_owned(),
        "guard the new behaviour with ctx.patched(id)".to_owned(),
        "see what would change: dormouse run check RUN --entry FILE".to_owned(),
        "take the new code over: dormouse run accept RUN --entry FILE".to_owned(),
    ]
}

fn classify(expected: &[Mark], observed: &[Mark], at: usize) -> &'static str {
    let (old, new) = match (expected.get(at), observed.get(at)) {
        (Some(_), None) => return "missing",
        (None, _) => return "extra",
        (Some(old), Some(new)) => (old, new),
    };
    let effects = old.output_type == "EFFECT_REQUESTED" && new.output_type == "EFFECT_REQUESTED";
    if old.key.is_empty() && new.key.is_empty() {
        return "outcome-changed";
    }
    if effects && old.key == new.key {
        return if old.kind == new.kind { "args-changed" } else { "kind-changed" };
    }
    let counted = |marks: &[Mark]| {
        let mut counts: BTreeMap<Mark, usize> = BTreeMap::new();
        for mark in marks {
            *counts.entry(mark.clone()).or_default() += 1;
        }
        counts
    };
    if counted(expected) == counted(observed) {
        return "reordered";
    }
    let later = |marks: &[Mark], wanted: &Mark| marks.iter().skip(at).any(|m| m.key == wanted.key);
    if effects
        && old.kind == new.kind
        && old.args_digest == new.args_digest
        && !later(observed, old)
        && !later(expected, new)
    {
        return "renamed";
    }
    if later(observed, old) { "extra" } else { "missing" }
}

fn journal_side(record: &Record) -> Side {
    let (effect_id, label) = match &record.event {
        Event::EffectRequested(e) => (Some(e.effect_id.to_string()), e.label.clone()),
        _ => (None, None),
    };
    Side { effect_id, mark: Mark::of_event(&record.event), label, site: None }
}

fn args_diff(expected: Option<&Record>, observed: Option<&Output>) -> Option<Vec<ArgsDiff>> {
    let (Some(record), Some(Output::Request(request))) = (expected, observed) else { return None };
    let Event::EffectRequested(asked) = &record.event else { return None };
    if asked.key != request.key {
        return None;
    }
    let tree = |json: Option<&Json>| json.map_or(serde_json::Value::Null, Json::to_value);
    let mut diffs = Vec::new();
    diff(&tree(asked.args.as_ref()), &tree(request.args.as_ref()), String::new(), &mut diffs);
    diffs.truncate(DIFFS_MAX);
    Some(diffs)
}

/// Walks two trees side by side; `path` is a JSON pointer.
fn diff(old: &serde_json::Value, new: &serde_json::Value, path: String, out: &mut Vec<ArgsDiff>) {
    use serde_json::Value::{Array, Object};
    let cut = |v: &serde_json::Value| v.to_string().chars().take(VALUE_CHARS_MAX).collect();
    if old == new || out.len() > DIFFS_MAX {
        return;
    }
    match (old, new) {
        (Object(a), Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
                diff_member(a.get(name), b.get(name), path, out);
            }
        }
        (Array(a), Array(b)) => {
            for i in 0..a.len().max(b.len()) {
                diff_member(a.get(i), b.get(i), format!("{path}/{i}"), out);
            }
        }
        _ => out.push(ArgsDiff { path, old: Some(cut(old)), new: Some(cut(new)) }),
    }
}

fn diff_member(
    old: Option<&serde_json::Value>,
    new: Option<&serde_json::Value>,
    path: String,
    out: &mut Vec<ArgsDiff>,
) {
    if let (Some(old), Some(new)) = (old, new) {
        return diff(old, new, path, out);
    }
    let cut = |v: &serde_json::Value| v.to_string().chars().take(VALUE_CHARS_MAX).collect();
    out.push(ArgsDiff { path, old: old.map(cut), new: new.map(cut) });
}
