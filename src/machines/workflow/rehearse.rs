//! Rehearsal: a document played through with outcomes that somebody made up.
//!
//! May not ask anybody. Invariant: a rehearsal is a function of the document, the inputs and the
//! outcomes; timers fire only when nothing else can happen.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::model::Workflow;
use super::plan::{Begin, Planner};
use crate::codecs::event::ErrorInfo;
use crate::codecs::json::Json;
use crate::codecs::turn::{Feed, Output, Request, TurnInput};
use crate::machines::effect::plain_error;

/// Turns after which a rehearsal is given up.
const TURNS_MAX: usize = 10_000;
/// The outcome of everything that is not named.
const ANY: &str = "*";
/// The member of an outcome that is an error.
const ERROR: &str = "$error";
/// The member of an outcome that does not come.
const HOLD: &str = "$hold";

/// Outcomes by invocation key.
#[derive(Debug, Clone, Default)]
pub struct Outcomes(Map<String, Value>);

impl Outcomes {
    /// From an object: a value for each key, `*` for all others; `{"$error": {"name", "message",
    /// "data"}}` is an error, `{"$hold": true}` never comes.
    ///
    /// # Errors
    /// When it is no object.
    pub fn read(value: &Value) -> Result<Self, String> {
        let members = value.as_object().ok_or("outcomes are an object: values by key")?;
        Ok(Self(members.clone()))
    }

    /// What comes of an effect; nothing if it stays open. Work that answers by itself does so
    /// unless somebody made up an outcome for its very key.
    fn of(&self, request: &Request) -> Option<Value> {
        let echo = || request.def.to_value().get("echo")?.get("answer").cloned();
        let named = self.0.get(&request.key).cloned();
        let found = named.or_else(echo).or_else(|| self.0.get(ANY).cloned())?;
        (found.get(HOLD) != Some(&Value::Bool(true))).then_some(found)
    }

    /// Whether somebody made up an outcome for this very key.
    fn names(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

/// What happens in one turn.
#[derive(Debug, Clone, Serialize)]
pub struct Act {
    /// What the turn was about.
    pub input: String,
    /// What was asked for.
    pub requests: Vec<Asked>,
    /// Keys of what was given up.
    pub cancels: Vec<String>,
    /// How the run ended, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Value>,
}

/// Something that was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// Its invocation key.
    pub key: String,
    /// Its kind.
    pub kind: String,
    /// What it was called with.
    pub args: Value,
}

/// A document that is played through.
pub struct Rehearsal {
    /// The planner, for looking at.
    pub planner: Planner,
    open: BTreeMap<u32, Request>,
    clock_micros: i64,
    seq: u64,
    /// What happened.
    pub acts: Vec<Act>,
    has_ended: bool,
}

impl Rehearsal {
    /// Begins one: the first turn is played.
    ///
    /// # Errors
    /// All that is wrong with the inputs.
    pub fn begin(flow: Arc<Workflow>, inputs: Option<Value>) -> Result<Self, Vec<String>> {
        let planner = Planner::new(Begin::rehearsal(flow, inputs))?;
        let (open, acts) = (BTreeMap::new(), Vec::new());
        let mut rehearsal = Self { planner, open, clock_micros: 0, seq: 1, acts, has_ended: false };
        rehearsal.turn("the run begins".to_owned(), Feed::RunStarted);
        Ok(rehearsal)
    }

    /// Plays on until nothing more can happen.
    pub fn play(&mut self, outcomes: &Outcomes) {
        while !self.has_ended && self.acts.len() < TURNS_MAX {
            let ready = self.open.values().find(|request| {
                outcomes.of(request).is_some()
                    && (!is_timer(request) || outcomes.names(&request.key))
            });
            let next = ready.map(|request| request.ordinal).or_else(|| self.first_timer(outcomes));
            let Some(ordinal) = next else { return };
            let Some(request) = self.open.get(&ordinal) else { return };
            let made_up =
                outcomes.of(request).filter(|_| !is_timer(request) || outcomes.names(&request.key));
            let (value, error) = match made_up {
                Some(outcome) => match outcome.get(ERROR) {
                    Some(error) => (None, Some(error_of(error))),
                    None => (Some(Json::of(&outcome)), None),
                },
                None => (Some(Json::null()), None),
            };
            self.resolve(ordinal, value, error);
        }
    }

    /// Gives one effect its outcome.
    pub fn resolve(&mut self, ordinal: u32, value: Option<Json>, error: Option<ErrorInfo>) {
        let Some(request) = self.open.remove(&ordinal) else { return };
        if let Some(target) = target_of(&request) {
            self.clock_micros = self.clock_micros.max(target.saturating_mul(1_000));
        }
        let word = if error.is_some() { "fails" } else { "is done" };
        let word = if is_timer(&request) { "fires" } else { word };
        let input = format!("{} {word}", request.key);
        self.turn(input, Feed::Resolved { ordinal, value, error, attempts: 1 });
    }

    /// Asks the run to stop.
    pub fn cancel(&mut self) {
        self.turn("the run is cancelled".to_owned(), Feed::CancelRequested { reason: None });
        self.open.retain(|_, request| request.cleanup);
    }

    /// Effects that are open.
    pub fn open(&self) -> impl Iterator<Item = &Request> {
        self.open.values()
    }

    /// Whether the run has ended.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn first_timer(&self, outcomes: &Outcomes) -> Option<u32> {
        let held =
            |request: &Request| outcomes.names(&request.key) && outcomes.of(request).is_none();
        let timers = self.open.values().filter(|request| !held(request));
        let timers = timers.filter_map(|r| Some((target_of(r)?, r.ordinal)));
        timers.min().map(|(_, ordinal)| ordinal)
    }

    fn turn(&mut self, input: String, feed: Feed) {
        self.seq += 1;
        let done = self.planner.turn(&TurnInput::live(self.seq, self.clock_micros, feed));
        let mut act = Act { input, requests: Vec::new(), cancels: Vec::new(), end: None };
        for (ordinal, _) in done.cancels {
            act.cancels.extend(self.open.remove(&ordinal).map(|request| request.key));
        }
        for output in done.outputs {
            match output {
                Output::Request(request) => {
                    let args = request.args.as_ref().map(Json::to_value).unwrap_or_default();
                    let (key, kind) = (request.key.clone(), request.kind.clone());
                    act.requests.push(Asked { key, kind, args });
                    self.open.insert(request.ordinal, *request);
                }
                Output::Completed { output } => act.end = Some(output.to_value()),
                Output::Failed { error } => {
                    let data = error.data.as_ref().map(Json::to_value).unwrap_or_default();
                    act.end = Some(serde_json::json!({
                        "error": error.name, "message": error.message, "data": data,
                    }));
                }
                Output::Mark { .. } | Output::Halted { .. } | Output::Continued { .. } => {}
            }
        }
        self.has_ended |= act.end.is_some();
        self.acts.push(act);
    }
}

fn is_timer(request: &Request) -> bool {
    request.kind == "sleep"
}

fn target_of(request: &Request) -> Option<i64> {
    request.def.to_value()["sleep"]["targetEpochMs"].as_i64().filter(|_| is_timer(request))
}

fn error_of(error: &Value) -> ErrorInfo {
    let text = |name: &str, usual: &str| {
        error.get(name).and_then(Value::as_str).unwrap_or(usual).to_owned()
    };
    let plain = plain_error(&text("name", "Error"), text("message", ""));
    ErrorInfo { data: error.get("data").map(Json::of), ..plain }
}
