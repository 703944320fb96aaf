//! Workflow documents of runs: what is wrong with them is said before anything is created.
//!
//! May not run them. Invariant: a document with an error, or inputs that do not fit it, make no
//! run.

use serde_json::{Value, json};

use super::drive::Player;
use super::dry::played;
use super::kinds::KnownKinds;
use super::open::SeenRun;
use super::trouble::Trouble;
use super::{Error, Result, Runs};
use crate::codecs::event::Profile;
use crate::codecs::json::Json;
use crate::codecs::outline::Notation;
use crate::codecs::turn::Standing;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::workflow::finding::Finding;
use crate::machines::workflow::plan::arguments;
use crate::machines::workflow::read::{LENIENT, Reading, read_for};
use crate::shells::pin::PinnedGraph;

/// Checks the document of a process, if it is one, and the inputs for it. Gives its warnings.
pub(super) fn check(
    graph: &PinnedGraph,
    inputs: Option<&Json>,
    kinds: &KnownKinds,
) -> Result<Vec<String>> {
    if graph.api != Profile::Workflow {
        return Ok(Vec::new());
    }
    let (reading, text) = document(graph, kinds)?;
    let entry = &graph.entry;
    let told = |finding: &Finding| finding.print(entry, &text);
    if !reading.is_valid() {
        let errors: Vec<String> =
            reading.findings.iter().filter(|finding| finding.is_error()).map(told).collect();
        let what = format!("the workflow document cannot be run\n{}", errors.join("\n\n"));
        let trouble = Trouble::new("workflow_invalid", what)
            .next(format!("dormouse workflow validate {entry}"))
            .fact("findings", json!(reading.findings));
        return Err(Error::Refused(trouble));
    }
    let given = inputs.map(Json::to_value);
    arguments(&reading.workflow, given.as_ref()).map_err(|errors| {
        let what = format!("the inputs do not fit the workflow document: {}", errors.join("; "));
        let errors: Vec<Value> = errors.into_iter().map(Value::from).collect();
        Error::Refused(Trouble::new("workflow_inputs", what).fact("errors", errors))
    })?;
    Ok(reading.findings.iter().map(told).collect())
}

/// What a document sees of the machine, in the words of other engines: `linux/amd64`.
pub(super) fn system(graph: &PinnedGraph) -> Option<String> {
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let processor = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    (graph.api == Profile::Workflow).then(|| format!("{system}/{processor}"))
}

/// The document of a pinned process, and its text.
fn document(graph: &PinnedGraph, kinds: &KnownKinds) -> Result<(Reading, String)> {
    let file = graph.file(&graph.entry);
    let text = file.map(|file| String::from_utf8_lossy(&file.bytes).into_owned());
    let (Some(text), Some(notation)) = (text, Notation::of(&graph.entry)) else {
        let what = format!("{:?} is no workflow document", graph.entry);
        return Err(Error::Refused(Trouble::new("workflow_invalid", what)));
    };
    let is_lenient = graph.export_name.as_deref() == Some(LENIENT);
    Ok((read_for(&text, notation, &kinds.all(), is_lenient), text))
}

impl Runs {
    /// Where a run of a workflow document stands, task run by task run: a host replays its journal
    /// and forgets nothing, within the limits of any process.
    pub fn snapshot(&self, seen: &SeenRun) -> Result<Value> {
        let process = seen.state.process.as_ref();
        if process.is_none_or(|process| process.api != Profile::Workflow) {
            let what = format!("run {} is not of a workflow document", seen.dir.id());
            let trouble = Trouble::new("not_a_workflow", what);
            return Err(Error::Refused(
                trouble.next(format!("dormouse run show {}", seen.dir.id())),
            ));
        }
        let mut player = Player::showing(self, &seen.dir);
        let dry = played(&mut player, &seen.records)?;
        let known = seen.state.effects.values().map(standing).collect();
        let mut value = player.show(known)?.to_value();
        value["x-dormouse"]["journalHead"] = seen.state.head.seq.0.into();
        value["x-dormouse"]["diverged"] = dry.divergence().is_some().into();
        Ok(value)
    }
}

/// What the journal knows of an effect.
fn standing(effect: &Effect) -> Standing {
    Standing {
        ordinal: effect.id.ordinal(),
        is_started: effect.status == EffectStatus::Started,
        is_uncertain: effect.status == EffectStatus::Uncertain,
        attempts: effect.attempts,
    }
}
