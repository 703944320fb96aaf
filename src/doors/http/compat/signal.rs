//! `/api/jobs/{run}/signal` and `/message`: answering what a job waits for, and telling it more.
//!
//! May not approve what was not approved. Invariant: an answer goes to a wait that its key names,
//! or to the only one; a breakpoint is decided by a boolean `approved` and nothing else.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Door;
use super::super::auth::{Caller, Scope};
use super::super::body::{Run, Strict, present};
use super::super::guard::lacks;
use super::super::problem::{Answer, Problem};
use super::super::runs::one_key;
use super::standing::Status;
use super::waits;
use crate::codecs::json::{Json as Text, Numbers, canonical};
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, RunId};
use crate::machines::effect::Wait;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::replay::state::RunState;
use crate::services::manager::Flow;
use crate::services::runs::open::OpenRun;
use crate::services::runs::post::Posting;
use crate::services::runs::steer::Signal;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::view::Outcome;
use crate::services::runs::{Error, Result};

/// An answer to a wait.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    correlation_key: Option<String>,
    #[serde(default, deserialize_with = "present")]
    payload: Option<Text>,
}

/// What became of an answer.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    job_id: RunId,
    pub(super) status: Status,
    message: &'static str,
}

/// An answer and who gives it.
pub(super) struct Given {
    /// The wait that it names.
    pub(super) key: Option<String>,
    /// What it says.
    pub(super) payload: Text,
    /// The same id is accepted once.
    pub(super) signal_id: Option<String>,
    /// The name of who answers.
    pub(super) name: String,
}

/// Answers what a job waits for.
pub(super) async fn signal(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    headers: HeaderMap,
    Strict(asked): Strict<Asked>,
) -> Answer<Json<Told>> {
    let given = Given {
        key: asked.correlation_key.filter(|key| !key.is_empty()),
        payload: asked.payload.unwrap_or_else(Text::null),
        signal_id: one_key(&headers, None)?,
        name: caller.name().to_owned(),
    };
    give(&door, &caller, &run, given).await.map(Json)
}

/// Gives an answer to a run.
pub(super) async fn give(door: &Door, caller: &Caller, run: &RunId, given: Given) -> Answer<Told> {
    let (may_decide, now) = (caller.may(Scope::Decide), door.handle.runs().clock.now());
    let act = move |open: &mut OpenRun| -> Result<Option<Told>> {
        let Some(message) = given.to(open, may_decide)? else { return Ok(None) };
        let status = Status::of(open.state(), now);
        Ok(Some(Told { job_id: open.dir.id().clone(), status, message }))
    };
    let told = door.handle.deed(run, &caller.by, Flow::Outcome, act).await;
    let told = told.map_err(|e| Problem::from(e).of_run(run.as_str()))?;
    told.ok_or_else(|| lacks(caller, Scope::Decide))
}

/// Where an answer goes.
enum Place {
    /// To a wait that is open.
    Open(EffectId),
    /// To one that has it already.
    Fed,
}

impl Given {
    /// Gives the answer; nothing if whoever gives it may not.
    fn to(self, open: &mut OpenRun, may_decide: bool) -> Result<Option<&'static str>> {
        let Place::Open(id) = self.place(open)? else {
            return Ok(Some("it was answered so already"));
        };
        let Some(effect) = open.state().effect(id) else { return Ok(None) };
        match &effect.wait {
            Wait::Signal(facts) => {
                let (name, correlation_key) = (facts.name.clone(), facts.correlation_key.clone());
                let Self { payload, signal_id, .. } = self;
                open.signal(Signal { name, correlation_key, signal_id, payload })?;
                Ok(Some("the signal was delivered"))
            }
            _ if !may_decide => Ok(None),
            _ => {
                let value = decision(&self.payload.to_value(), &self.name)?;
                open.post(Posting::ok(id, Text::of(&value)))?;
                Ok(Some("the decision stands"))
            }
        }
    }

    fn place(&self, open: &OpenRun) -> Result<Place> {
        if let Some((_, digest)) =
            self.signal_id.as_ref().and_then(|id| open.state().signal_ids.get(id))
        {
            let ours = canonical(&self.payload, Numbers::AsWritten, None);
            if *digest == Digest::of(ours.as_bytes()) {
                return Ok(Place::Fed);
            }
            let what = "an answer under this idempotency key was another one";
            return Err(Error::Conflict(Trouble::new("signal_id_taken", what)));
        }
        let named = |e: &&Effect| self.key.as_ref().is_none_or(|key| waits::is_named(e, key));
        let mut waiting = waits::open(open.state()).filter(named);
        if let Some(first) = waiting.next() {
            // Of several with one key the oldest has it; without a key nobody knows.
            if self.key.is_none() && waiting.next().is_some() {
                return Err(several(open.state()));
            }
            return Ok(Place::Open(first.id));
        }
        let fed = open.state().effects.values().rev().filter(named);
        let mut fed = fed.filter(|e| waits::key_of(e).is_some() && e.status == EffectStatus::Ok);
        if fed.next().is_some_and(|effect| self.is_outcome(open, effect)) {
            return Ok(Place::Fed);
        }
        let id = open.dir.id();
        let what = match &self.key {
            Some(key) => format!("nothing of {id} waits for {key:?}"),
            None => format!("{id} waits for no answer"),
        };
        Err(Error::Invalid(Trouble::new("not_waiting", what).next(format!("dormouse why {id}"))))
    }

    /// Whether an effect that has ended was answered by just this.
    fn is_outcome(&self, open: &OpenRun, effect: &Effect) -> bool {
        let Some(Outcome::Resolved { value: Some(value), .. }) = open.look().outcome(effect) else {
            return false;
        };
        match effect.wait {
            Wait::Breakpoint(_) => {
                let approved = &self.payload.to_value()["approved"];
                approved.is_boolean() && *approved == value.to_value()["approved"]
            }
            _ => value == self.payload,
        }
    }
}

fn several(state: &RunState) -> Error {
    let keys: Vec<String> = waits::open(state).filter_map(waits::key_of).collect();
    let what = format!("several answers are waited for: {}", keys.join(", "));
    Error::Invalid(Trouble::new("wait_ambiguous", what).next("name one as correlation_key"))
}

/// The value of a breakpoint that was answered so.
fn decision(payload: &Value, name: &str) -> Result<Value> {
    let Some(approved) = payload["approved"].as_bool() else {
        let what = "a person decides here: the payload has a boolean member approved";
        let next = "send {\"payload\": {\"approved\": true}}, or false";
        return Err(Error::Invalid(Trouble::new("approval_required", what).next(next)));
    };
    let mut value = json!({ "approved": approved });
    for member in ["response", "feedback", "option"] {
        if payload[member].is_string() {
            value[member] = payload[member].clone();
        }
    }
    value["respondedBy"] = json!(name);
    Ok(value)
}

/// Something to tell a job.
#[derive(Debug, Deserialize)]
pub(super) struct Channelled {
    message_id: Option<String>,
    channel: String,
    correlation_key: Option<String>,
    #[serde(default, deserialize_with = "present")]
    payload: Option<Text>,
}

/// Tells a job something; it is kept until the process waits for it.
pub(super) async fn message(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    headers: HeaderMap,
    Strict(asked): Strict<Channelled>,
) -> Answer<Json<Told>> {
    if asked.channel.is_empty() {
        return Err(Problem::bad_request("channel is empty"));
    }
    let signal = Signal {
        name: asked.channel,
        correlation_key: asked.correlation_key.filter(|key| !key.is_empty()),
        signal_id: one_key(&headers, asked.message_id)?,
        payload: asked.payload.unwrap_or_else(Text::null),
    };
    let now = door.handle.runs().clock.now();
    let act = move |open: &mut OpenRun| {
        let done = open.signal(signal)?;
        let message = if done.repeat { "it was received already" } else { "it was received" };
        let status = Status::of(open.state(), now);
        Ok(Told { job_id: open.dir.id().clone(), status, message })
    };
    let told = door.handle.deed(&run, &caller.by, Flow::Inflow, act).await;
    told.map(Json).map_err(|e| Problem::from(e).of_run(run.as_str()))
}
