//! Posting the outcome of an effect.
//!
//! May not know who may post. Invariant: an accepted post is durable when it is answered; a refused
//! one is kept as evidence and changes nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::codecs::event::clip::clip_error;
use crate::codecs::event::{
    EffectCancelled, ErrorInfo, Event, FailureClass, Payload, Profile, Status,
};
use crate::codecs::json::{Json, Surrogates, gate};
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, Epoch, Seq};
use crate::ground::limits::{JSON_DEPTH_MAX, VALUE_BYTES_MAX};
use crate::machines::effect::Wait;
use crate::machines::effect::ask;
use crate::machines::effect::breakpoint::Answers;
use crate::machines::effect::life::EffectStatus;
use crate::machines::effect::post::{Post, PostStatus, Verdict, judge};
use crate::machines::effect::refusal::Refusal;
use crate::machines::effect::standing::Standing;
use crate::machines::effect::task;
use crate::machines::replay::drafts;
use crate::ports::disk::Kind;

use super::open::{OpenRun, record_at};
use super::trouble::Trouble;
use super::{Error, Result, Runs};

/// What someone posts.
#[derive(Debug, Clone)]
pub struct Posting {
    /// The effect.
    pub effect: EffectId,
    /// How it ended.
    pub status: PostStatus,
    /// The value; for `ok` without one the task's output file is read.
    pub value: Option<Json>,
    /// The error, for `error`.
    pub error: Option<ErrorInfo>,
    /// Whether another attempt may help; nothing: the policy knows.
    pub retryable: Option<bool>,
    /// The start it answers.
    pub epoch: Option<Epoch>,
    /// The call the poster believes to answer.
    pub invocation_key: Option<String>,
    /// Text that it printed.
    pub stdout: Option<Output>,
    /// Text that it printed as errors.
    pub stderr: Option<Output>,
    /// When the work began, in the poster's words.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// Whatever goes along.
    pub metadata: Option<Json>,
}

impl Posting {
    /// A value and nothing else.
    #[must_use]
    pub const fn ok(effect: EffectId, value: Json) -> Self {
        Self {
            effect,
            status: PostStatus::Ok,
            value: Some(value),
            error: None,
            retryable: None,
            epoch: None,
            invocation_key: None,
            stdout: None,
            stderr: None,
            started_at: None,
            finished_at: None,
            metadata: None,
        }
    }
}

/// What a task printed.
#[derive(Debug, Clone)]
pub enum Output {
    /// The bytes, to be stored as the task's log.
    Content(Vec<u8>),
    /// A file of the run directory that holds them already.
    Reference(String),
}

/// What became of a post.
#[derive(Debug, Clone)]
pub struct Posted {
    /// The record that holds the outcome.
    pub seq: Seq,
    /// It stood there already.
    pub repeat: bool,
    /// How the attempt ended.
    pub status: PostStatus,
    /// Where the effect stands now: it may be tried again, or nobody knows.
    pub state: EffectStatus,
    /// Where its run stands now.
    pub run_state: &'static str,
    /// A shell task's error was turned into a value.
    pub normalised_shell_failure: bool,
    /// Things the poster should know.
    pub warnings: Vec<String>,
    /// Run-relative file of the outcome.
    pub result_ref: String,
    /// Run-relative file of what it printed.
    pub stdout_ref: Option<String>,
    /// Run-relative file of what it printed as errors.
    pub stderr_ref: Option<String>,
    /// When the work began.
    pub started_at: String,
    /// When it ended.
    pub finished_at: String,
}

impl Runs {
    /// Posts an outcome.
    pub fn post(&self, reference: &str, posting: Posting) -> Result<Posted> {
        let mut run = self.open(reference)?;
        let posted = run.post(posting);
        run.close_after(posted)
    }

    /// Gives up one effect.
    pub fn cancel_effect(
        &self,
        reference: &str,
        id: EffectId,
        reason: Option<String>,
        abandon: bool,
    ) -> Result<Seq> {
        let mut run = self.open(reference)?;
        let cancelled = run.cancel_effect(id, reason, abandon);
        run.close_after(cancelled)
    }
}

impl OpenRun {
    /// Gives up one effect. One that a worker executes is given up only if `abandon` says that what
    /// it does outside does not matter.
    pub fn cancel_effect(
        &mut self,
        id: EffectId,
        reason: Option<String>,
        abandon: bool,
    ) -> Result<Seq> {
        let Some(effect) = self.state().effect(id).cloned() else {
            return Err(self.name_them(id, Refusal::UnknownEffect(id).into()));
        };
        if effect.status == EffectStatus::Cancelled {
            return Ok(effect.ended.map_or(Seq(0), |e| e.seq));
        }
        if let Some(ended) = &effect.ended {
            let status = effect.status.name();
            let refusal = Refusal::Ended { id, status, seq: ended.seq };
            return Err(self.name_them(id, refusal.into()));
        }
        self.must_be_open()?;
        let held = effect.status == EffectStatus::Started && matches!(effect.wait, Wait::Outside);
        if held && !abandon {
            let (epoch, worker) = (effect.epoch, effect.worker.unwrap_or_default());
            return Err(self.name_them(id, Refusal::Leased { id, worker, epoch }.into()));
        }
        let reason = reason.unwrap_or_else(|| "cancelled by operator".into());
        let event = match drafts::effect_cancelled(&effect, &reason, &self.runs.by) {
            Event::EffectCancelled(e) => EffectCancelled { reason, ..e },
            _ => return Err(Error::Bug(Trouble::new("bug", "not a cancellation"))),
        };
        Ok(self.append(event.into())?.seq)
    }

    /// Puts the names of this run and effect into the commands that an error recommends.
    pub(super) fn name_them(&self, id: EffectId, error: Error) -> Error {
        error.named(self.dir.id().as_str(), &id.to_string())
    }

    /// Posts an outcome.
    pub fn post(&mut self, mut posting: Posting) -> Result<Posted> {
        let id = posting.effect;
        let def = self.definition(id)?;
        if posting.status == PostStatus::Ok && posting.value.is_none() {
            posting.value = Some(self.output_file(id, &def)?);
        }
        if let Some(value) = &posting.value {
            value_fits(value)?;
        }
        let post = Post {
            epoch: posting.epoch,
            status: posting.status,
            value: posting.value.clone(),
            error: posting.error.clone(),
            retryable: posting.retryable,
            invocation_key: posting.invocation_key.clone(),
            by: self.runs.by.clone(),
        };
        let now = self.runs.clock.now();
        let effect = self.state().effect(id);
        let schema = output_schema(&def, effect.map_or("", |e| e.kind.as_str()));
        let strict = self.is_strict(id);
        let enforced = schema.as_ref().filter(|_| strict);
        let is_inside =
            posting.epoch.is_none() && effect.is_some_and(|effect| self.is_inside(effect, &def));
        let standing = Standing { is_inside, ..self.standing(id, now) };
        let verdict = judge(&standing, effect, id, &post, enforced, now)
            .and_then(|verdict| answers_suffice(effect.map(|e| &e.wait), id, &post, verdict));
        self.runs.telemetry.metrics.posts.with([word(&verdict)]).one();
        match verdict {
            Err(refusal) => Err(self.refused(&posting, refusal)),
            Ok(Verdict::Repeat { seq }) => Ok(self.repeat(id, seq)),
            Ok(Verdict::Close(events)) => self.close_attempt(&posting, events),
            Ok(Verdict::Accept { resolved, mut warnings, normalised_shell_failure }) => {
                if let (Some(schema), Some(value), false) = (&schema, &resolved.value, strict) {
                    let found = task::schema_errors(schema, &value.to_value());
                    warnings.extend(found.into_iter().map(|e| format!("schema: {e}")));
                }
                let mut resolved = *resolved;
                let whole = resolved.error.clone();
                resolved.error = resolved.error.map(clip_error);
                if resolved.error != whole {
                    warnings.push("the error is too large for a record and was cut".to_owned());
                }
                let event = self.with_outputs(resolved.into(), &posting)?;
                let seq = self.append(event)?.seq;
                let posted = self.repeat(id, seq);
                Ok(Posted { repeat: false, warnings, normalised_shell_failure, ..posted })
            }
        }
    }

    /// Takes what a person says who was asked what became of an effect.
    pub fn answer(&mut self, id: EffectId, words: &ask::Words) -> Result<Posted> {
        let decision = ask::decision(words).map_err(|why| {
            let show = format!("dormouse breakpoint list {}", self.dir.id());
            Error::Invalid(Trouble::new("answer_invalid", why).next(show))
        })?;
        let decided = self.decide(id, &decision)?;
        Ok(Posted { repeat: decided.repeat, ..self.repeat(id, decided.seq) })
    }

    /// Records a failure that its holder posted, and what follows from it.
    fn close_attempt(&mut self, posting: &Posting, events: Vec<Event>) -> Result<Posted> {
        let id = posting.effect;
        let is_value =
            |e: &Event| matches!(e, Event::EffectResolved(done) if done.status == Status::Ok);
        let normalised_shell_failure = events.iter().any(is_value);
        let mut seq = None;
        for event in events {
            let event = self.with_outputs(event, posting)?;
            let about_effect = event.effect_id().is_some();
            let record = self.append(event)?;
            // What stands for the post is about its effect, also when the run pauses for it.
            seq = if about_effect { Some(record.seq) } else { seq };
        }
        let posted = self.repeat(id, seq.unwrap_or_default());
        Ok(Posted { repeat: false, normalised_shell_failure, ..posted })
    }

    /// Whether a value that does not fit the definition's schema is refused.
    fn is_strict(&self, id: EffectId) -> bool {
        let state = self.state();
        let is_shell = state.effect(id).is_some_and(|e| e.kind == "shell");
        is_shell || state.process.as_ref().is_some_and(|p| p.api == Profile::Dormouse)
    }

    /// What is wrong with a value, where that is enforced.
    pub(super) fn schema_errors(&self, id: EffectId, value: &Json) -> Result<Vec<String>> {
        let def = self.definition(id)?;
        let kind = self.state().effect(id).map_or("", |e| e.kind.as_str());
        let schema = output_schema(&def, kind).filter(|_| self.is_strict(id));
        Ok(schema.map_or_else(Vec::new, |s| task::schema_errors(&s, &value.to_value())))
    }

    /// The definition of an effect as a tree; `null` for an effect that does not exist.
    pub(super) fn definition(&self, id: EffectId) -> Result<Value> {
        let Some(effect) = self.state().effect(id) else { return Ok(Value::Null) };
        let record = record_at(self.records(), effect.requested_seq);
        let Some(Event::EffectRequested(asked)) = record.map(|r| &r.event) else {
            return Ok(Value::Null);
        };
        let payload = Payload::join(asked.def.as_ref(), asked.def_blob.as_ref());
        Ok(payload.map(|p| self.value(&p)).transpose()?.map_or(Value::Null, |d| d.to_value()))
    }

    /// The value of a post that brings none: the file the definition names, else `output.json`.
    fn output_file(&self, id: EffectId, def: &Value) -> Result<Json> {
        let named = def.pointer("/io/outputJsonPath").and_then(Value::as_str).map(str::to_owned);
        let default = format!("tasks/{id}/output.json");
        let ours = format!("tasks/{id}/result.json");
        let ended = self.state().effect(id).is_some_and(|e| e.ended.is_some());
        // Once the effect has ended, `result.json` is what we wrote; the worker's words are kept.
        let named = named.filter(|path| !(ended && *path == ours));
        for path in named.into_iter().chain([default.clone()]) {
            let Ok(bytes) = self.dir.read_relative(&path, VALUE_BYTES_MAX as u64) else { continue };
            if path == ours {
                self.dir.put_relative(&default, &bytes)?;
            }
            let json = gate(&bytes, JSON_DEPTH_MAX, Surrogates::Paired).map_err(|e| {
                Error::Invalid(Trouble::new("value_not_json", format!("{path}: {e}")))
            })?;
            return Ok(unwrap_envelope(&json, id));
        }
        let what = format!("status ok needs a value, and tasks/{id} has no output file");
        let hint = "give --value FILE, --value - or --value-inline JSON";
        Err(Error::Invalid(Trouble::new("value_missing", what).next(hint)))
    }

    /// Stores what the task printed and adds it to the record.
    fn with_outputs(&self, mut event: Event, posting: &Posting) -> Result<Event> {
        match &mut event {
            Event::EffectResolved(done) => {
                done.stdout = self.keep(posting, posting.stdout.as_ref(), "stdout")?;
                done.stderr = self.keep(posting, posting.stderr.as_ref(), "stderr")?;
                done.started_at.clone_from(&posting.started_at);
                done.finished_at.clone_from(&posting.finished_at);
                done.metadata.clone_from(&posting.metadata);
            }
            // The next attempt prints anew.
            Event::EffectAttemptFailed(failed) => {
                let name = |stream: &str| format!("{stream}-{}", failed.epoch);
                failed.stdout = self.keep(posting, posting.stdout.as_ref(), &name("stdout"))?;
                failed.stderr = self.keep(posting, posting.stderr.as_ref(), &name("stderr"))?;
            }
            _ => {}
        }
        Ok(event)
    }

    /// Keeps one stream and gives its run-relative file.
    fn keep(
        &self,
        posting: &Posting,
        output: Option<&Output>,
        name: &str,
    ) -> Result<Option<String>> {
        match output {
            None => Ok(None),
            Some(Output::Reference(path)) => {
                // Only whether it is there counts: a file that is longer than nothing is.
                match self.dir.read_relative(path, 0) {
                    Err(e) if e.kind != Kind::TooLarge => {
                        Err(Error::from(e).and_next("name a file inside the run directory"))
                    }
                    _ => Ok(Some(path.clone())),
                }
            }
            Some(Output::Content(bytes)) => {
                let path = format!("tasks/{}/{name}.log", posting.effect);
                self.dir.put_relative(&path, bytes)?;
                Ok(Some(path))
            }
        }
    }

    /// Keeps a refused post as evidence and gives the refusal.
    fn refused(&self, posting: &Posting, refusal: Refusal) -> Error {
        let error = self.name_them(posting.effect, refusal.into());
        let known = self.state().effect(posting.effect);
        let Some(effect) = known else { return error };
        let mut error = error.and_fact("state", effect.status.name());
        if let Some(worker) =
            effect.worker.as_ref().filter(|_| effect.status == EffectStatus::Started)
        {
            error = error.and_fact("heldBy", worker.clone());
        }
        let evidence = json!({
            "receivedAt": self.runs.clock.now(), "epoch": posting.epoch,
            "currentEpoch": effect.epoch, "code": error.trouble().code, "by": self.runs.by,
            "status": posting.status, "value": posting.value, "error": posting.error,
        });
        let bytes = crate::shells::run_dir::dir::pretty(&evidence);
        match self.dir.keep_stale(posting.effect, posting.epoch, &bytes) {
            Ok(Some(path)) => error
                .and_fact("evidence", path.clone())
                .and_next(format!("the post is kept in {path}")),
            _ => error,
        }
    }

    fn repeat(&self, id: EffectId, seq: Seq) -> Posted {
        let record = record_at(self.records(), seq);
        let at = record.map_or_else(Timestamp::default, |r| r.at);
        let event = record.map(|r| &r.event);
        let resolved = match event {
            Some(Event::EffectResolved(resolved)) => Some(resolved),
            _ => None,
        };
        let printed = match event {
            Some(Event::EffectAttemptFailed(failed)) => (&failed.stdout, &failed.stderr),
            _ => resolved.map_or((&None, &None), |done| (&done.stdout, &done.stderr)),
        };
        let text = |given: Option<&String>| given.cloned().unwrap_or_else(|| at.iso_millis());
        Posted {
            seq,
            repeat: true,
            status: posted_as(event),
            state: self.state().effect(id).map_or(EffectStatus::Requested, |e| e.status),
            run_state: super::view::state_name(self.state()),
            normalised_shell_failure: false,
            warnings: Vec::new(),
            result_ref: format!("tasks/{id}/result.json"),
            stdout_ref: printed.0.clone(),
            stderr_ref: printed.1.clone(),
            started_at: text(resolved.and_then(|r| r.started_at.as_ref())),
            finished_at: text(resolved.and_then(|r| r.finished_at.as_ref())),
        }
    }
}

/// Refuses a value that is larger than any may be.
pub(super) fn value_fits(value: &Json) -> Result<()> {
    let size = value.as_str().len();
    if size <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let what = format!("the value has {size} bytes, at most {VALUE_BYTES_MAX}");
    Err(Error::Refused(Trouble::new("value_too_large", what)))
}

/// How the attempt ended that a record is about.
fn posted_as(event: Option<&Event>) -> PostStatus {
    match event {
        Some(Event::EffectResolved(done)) if done.status == Status::Error => PostStatus::Error,
        Some(Event::EffectAttemptFailed(failed)) if failed.class != FailureClass::Unknown => {
            PostStatus::Error
        }
        Some(Event::EffectAttemptFailed(_) | Event::EffectUncertain(_)) => PostStatus::Unknown,
        _ => PostStatus::Ok,
    }
}

/// What became of a post, in one word for counting.
fn word(verdict: &std::result::Result<Verdict, Refusal>) -> &'static str {
    match verdict {
        Ok(Verdict::Accept { .. } | Verdict::Close(_)) => "accepted",
        Ok(Verdict::Repeat { .. }) => "repeat",
        Err(Refusal::StaleLease { .. }) => "stale",
        Err(Refusal::AttemptClosed { .. }) => "closed",
        Err(Refusal::ValueInvalid { .. }) => "invalid",
        Err(_) => "conflict",
    }
}

/// The schema that a value of the effect is checked against.
fn output_schema(def: &Value, kind: &str) -> Option<Value> {
    let inner = match kind {
        "shell" => None,
        _ => def.pointer(&format!("/{kind}/outputSchema")),
    };
    def.get("outputSchema").or(inner).filter(|s| s.is_object()).cloned()
}

/// Other runtimes wrap the outcome in an envelope: the value inside is what counts.
fn unwrap_envelope(json: &Json, id: EffectId) -> Json {
    // Members as text, so that the value inside keeps its numbers as written.
    let Ok(map) = json.read::<BTreeMap<String, Json>>() else { return json.clone() };
    let word = |name: &str| map.get(name).and_then(|v| v.read::<String>().ok());
    if word("schemaVersion").as_deref() != Some("2026.01.results-v1")
        || word("effectId") != Some(id.to_string())
    {
        return json.clone();
    }
    map.get("result").or_else(|| map.get("value")).unwrap_or(json).clone()
}

/// Enforces the strategy of a breakpoint that several people decide.
fn answers_suffice(
    wait: Option<&Wait>,
    id: EffectId,
    post: &Post,
    verdict: Verdict,
) -> std::result::Result<Verdict, Refusal> {
    let Some(Wait::Breakpoint(facts)) = wait else { return Ok(verdict) };
    let (Some(needed), Verdict::Accept { .. }, Some(value)) =
        (facts.answers_needed(), &verdict, &post.value)
    else {
        return Ok(verdict);
    };
    let value = value.to_value();
    let all = value.get("allResponses").and_then(Value::as_array).cloned().unwrap_or_default();
    let expert = |r: &Value| r.get("expert").and_then(Value::as_str).map(str::to_owned);
    let approved = |r: &Value| r.get("approved").and_then(Value::as_bool) == Some(true);
    let people: std::collections::BTreeSet<String> = all.iter().filter_map(expert).collect();
    let refuse = |why: String| Err(Refusal::ValueInvalid { id, why: vec![why] });
    match needed {
        Answers::All(_) => {
            let missing: Vec<&String> =
                facts.experts.iter().filter(|e| !people.contains(*e)).collect();
            if missing.is_empty() {
                return Ok(verdict);
            }
            refuse(format!("collect-all: allResponses lacks an answer of {missing:?}"))
        }
        Answers::Quorum(wanted) => {
            let listed = |e: &String| facts.experts.is_empty() || facts.experts.contains(e);
            let yes: std::collections::BTreeSet<String> =
                all.iter().filter(|r| approved(r)).filter_map(expert).filter(listed).collect();
            let yes = u32::try_from(yes.len()).unwrap_or(u32::MAX);
            let claims = value.get("approved").and_then(Value::as_bool) == Some(true);
            if !claims || yes >= wanted.max(1) {
                return Ok(verdict);
            }
            refuse(format!("quorum: {yes} approvals in allResponses, {wanted} are needed"))
        }
    }
}
