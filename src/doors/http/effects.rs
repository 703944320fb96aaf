//! `/v1/tasks` and `/v1/runs/{run}/tasks`: what runs ask of the outside, and what became of it.
//! `/v1/effects` and `/v1/runs/{run}/effects` are the same under another name.
//!
//! May not decide whether a post is accepted. Invariant: an answered post is durable.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::{Caller, Scope};
use super::blobs::{self, Blob};
use super::body::{self, EffectPath, InParts, Query, Run, RunPath, Strict, present};
use super::index;
use super::problem::{Answer, Problem};
use super::runs::{bad_token, page_size, read_id, read_time};
use crate::codecs::event::ErrorInfo;
use crate::codecs::json::{Json as Text, Surrogates, gate};
use crate::doors::answers::{GivenUp, PostDone, ShownTask, effect_of};
use crate::doors::shapes;
use crate::ground::id::{EffectId, EffectName, RunId};
use crate::ground::limits::JSON_DEPTH_MAX;
use crate::machines::effect::Wait;
use crate::machines::effect::life::EffectStatus;
use crate::machines::effect::post::PostStatus as Said;
use crate::machines::effect::refusal::Refusal;
use crate::services::manager::{Flow, Handle};
use crate::services::runs::open::OpenRun;
use crate::services::runs::post::{Output, Posted, Posting};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::view::Look;
use crate::services::runs::{Error, Result};
use crate::shells::store::{EffectFilter, EffectPlace, EffectRow};

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new()
        .routes(routes!(pending))
        .routes(routes!(pending_effects))
        .routes(routes!(of_run))
        .routes(routes!(show))
        .routes(routes!(result))
        .routes(routes!(effect_result))
        .routes(routes!(cancel))
}

/// Which effects of a run
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfRun {
    /// Only effects without an outcome
    #[serde(default)]
    pending: bool,
    /// Only effects of this kind
    kind: Option<String>,
}

/// Effects
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Tasks {
    /// The effects, in order of request
    #[schema(value_type = Vec<shapes::ListedTask>)]
    tasks: Vec<Value>,
    /// Where the next page begins, if there is one
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_page_token: Option<String>,
}

fn tasks_of(look: Look<'_>, pending: bool, kind: Option<&str>) -> Vec<Value> {
    let effects = look.state.effects.values().filter(|e| {
        (!pending || e.status.is_open()) && kind.is_none_or(|k| k.eq_ignore_ascii_case(&e.kind))
    });
    effects.map(|e| look.task(e)).collect()
}

/// List the effects of a run
#[utoipa::path(
    get, path = "/v1/runs/{run}/tasks", operation_id = "listTasks",
    tag = "tasks", security(("token" = ["run.read"])),
    params(
        RunPath, OfRun,
    ),
    responses((status = 200, description = "Its effects", body = Tasks)),
)]
async fn of_run(
    State(door): State<Door>,
    Run(run): Run,
    Query(wanted): Query<OfRun>,
) -> Answer<Json<Tasks>> {
    let look = move |look: Look<'_>| Ok(tasks_of(look, wanted.pending, wanted.kind.as_deref()));
    let tasks = door.handle.read(&run, look).await;
    let tasks = tasks.map_err(|e| Problem::from(e).of_run(run.as_str()))?;
    Ok(Json(Tasks { tasks, next_page_token: None }))
}

/// Which pending effects, and which page of them
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Pending {
    /// Only effects of this run
    #[param(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$", max_length = 64)]
    run: Option<String>,
    /// Only effects of this kind
    kind: Option<String>,
    /// Only effects that stand there: `requested`, `started`, `uncertain`
    state: Option<String>,
    /// Only effects that this worker started last
    worker: Option<String>,
    /// Only effects with this invocation key
    key: Option<String>,
    /// Only effects whose time has passed, or whose lease was not renewed in time
    #[serde(default)]
    overdue: bool,
    /// Only effects that were asked for longer ago
    older_than_ms: Option<u64>,
    /// Effects of a page
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<usize>,
    /// Where the page begins, from `nextPageToken`
    #[param(min_length = 1)]
    page_token: Option<String>,
}

/// List what open runs wait for
#[utoipa::path(
    get, path = "/v1/tasks", operation_id = "listPendingTasks",
    tag = "tasks", security(("token" = ["run.read"])), params(Pending),
    responses((status = 200, description = "One page", body = Tasks)),
)]
async fn pending(State(door): State<Door>, Query(wanted): Query<Pending>) -> Answer<Json<Tasks>> {
    list_pending(&door.handle, wanted).await.map(Json)
}

/// List what open runs wait for, under another name
#[utoipa::path(
    get, path = "/v1/effects", operation_id = "listPendingEffects",
    tag = "tasks", security(("token" = ["run.read"])), params(Pending),
    responses((status = 200, description = "One page", body = Tasks)),
)]
async fn pending_effects(
    State(door): State<Door>,
    Query(wanted): Query<Pending>,
) -> Answer<Json<Tasks>> {
    list_pending(&door.handle, wanted).await.map(Json)
}

/// One page of what open runs wait for.
async fn list_pending(handle: &Handle, wanted: Pending) -> Answer<Tasks> {
    let size = page_size(wanted.page_size, wanted.page_token.as_deref())?;
    let place = wanted.page_token.as_deref().map(str::parse::<EffectPlace>);
    let place = place.transpose().map_err(|e| bad_token(&e))?;
    let run = match &wanted.run {
        Some(run) => Some(handle.find(read_id(run)?.as_str()).await?),
        None => None,
    };
    let now = handle.runs().clock.now();
    let filter = EffectFilter {
        run,
        kind: wanted.kind,
        status: wanted.state.as_deref().map(open_status).transpose()?,
        worker: wanted.worker,
        key: wanted.key,
        requested_until: wanted.older_than_ms.map(|ms| now.earlier_by(ms)),
        due_until: None,
    };
    let mut page =
        index::ask(handle, move |index| index.effects(&filter, size, place.as_ref())).await?;
    if wanted.overdue {
        let name = |row: &EffectRow| EffectName::of(&row.run_id, row.facts.effect_id);
        let late = handle.late(page.rows.iter().map(name).collect()).await?;
        let mut late = late.into_iter();
        page.rows.retain(|row| {
            late.next() == Some(true) || row.facts.due_at.is_some_and(|due| due < now)
        });
    }
    let mut wanted: BTreeMap<RunId, BTreeSet<EffectId>> = BTreeMap::new();
    for row in &page.rows {
        wanted.entry(row.run_id.clone()).or_default().insert(row.facts.effect_id);
    }
    let mut tasks = BTreeMap::new();
    for (run, effects) in wanted {
        // A run that moved on since, or that cannot be read, is left out.
        tasks.extend(
            handle
                .read(&run, move |look| Ok(open_tasks(look, &effects)))
                .await
                .into_iter()
                .flatten(),
        );
    }
    let mut of = |row: &EffectRow| tasks.remove(&(row.run_id.clone(), row.facts.effect_id));
    Ok(Tasks {
        tasks: page.rows.iter().filter_map(&mut of).collect(),
        next_page_token: page.next.map(|place| place.to_string()),
    })
}

/// The state of an open effect that a text names.
fn open_status(text: &str) -> Answer<EffectStatus> {
    let status = EffectStatus::named(text).filter(|status| status.is_open());
    status.ok_or_else(|| Problem::bad_request("state is requested, started or uncertain"))
}

/// Those of some effects of a run that are open, by name.
fn open_tasks(look: Look<'_>, wanted: &BTreeSet<EffectId>) -> BTreeMap<(RunId, EffectId), Value> {
    let id = look.dir.id();
    let open = look.state.is_open();
    let effects = look.state.open_effects().filter(|e| open && wanted.contains(&e.id));
    effects.map(|e| ((id.clone(), e.id), named(id, look.task(e)))).collect()
}

/// A task of a list over several runs: the run's id stands first.
fn named(run: &RunId, task: Value) -> Value {
    let mut whole = json!({ "runId": run });
    if let (Value::Object(whole), Value::Object(task)) = (&mut whole, task) {
        whole.extend(task);
    }
    whole
}

/// Show one effect with its definition, arguments and outcome
#[utoipa::path(
    get, path = "/v1/runs/{run}/tasks/{effect}", operation_id = "showTask",
    tag = "tasks",
    security(("token" = ["run.read"])),
    params(EffectPath),
    responses((status = 200, description = "The effect", body = ShownTask)),
)]
async fn show(
    State(door): State<Door>,
    body::Effect(run, effect): body::Effect,
) -> Answer<Json<ShownTask>> {
    let lease = door.handle.lease(&run, effect).await?;
    let shown = door.handle.read(&run, move |look| ShownTask::of(look, effect)).await;
    let shown = shown.map_err(|e| about(e, &run, effect))?;
    Ok(Json(shown.held(lease)))
}

pub(super) fn about(error: Error, run: &RunId, effect: EffectId) -> Problem {
    Problem::from(error).of_run(run.as_str()).of_effect(&effect.to_string())
}

/// How a task ended
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TaskResult {
    /// How
    status: PostStatus,
    /// The value, for `ok`, kept byte for byte; if left out the task's output file is read
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Value, required = false)]
    value: Option<Text>,
    /// The value where it was uploaded
    #[schema(nullable = false)]
    value_blob: Option<Blob>,
    /// The error, for `error`
    error: Option<PostError>,
    /// The start that is answered, by whoever claimed it
    epoch: Option<u64>,
    /// Refuse unless the effect has this invocation key
    invocation_key: Option<String>,
    /// What the task printed
    stdout: Option<String>,
    /// Run-relative file that holds it already
    #[schema(nullable = false)]
    stdout_ref: Option<String>,
    /// What it printed, where that was uploaded
    #[schema(nullable = false)]
    stdout_blob: Option<Blob>,
    /// What it printed as errors
    stderr: Option<String>,
    /// Run-relative file that holds it already
    #[schema(nullable = false)]
    stderr_ref: Option<String>,
    /// What it printed as errors, where that was uploaded
    #[schema(nullable = false)]
    stderr_blob: Option<Blob>,
    /// Who did it: refused if somebody else holds that start
    #[schema(nullable = false)]
    worker: Option<String>,
    /// When the work began
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// When it ended
    #[schema(format = DateTime)]
    finished_at: Option<String>,
    /// Anything to keep beside the outcome
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Value, required = false)]
    metadata: Option<Text>,
}

/// How a task ended
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum PostStatus {
    /// Well
    Ok,
    /// Badly
    Error,
    /// Nobody knows: it began, and may have happened
    Unknown,
}

impl From<PostStatus> for Said {
    fn from(status: PostStatus) -> Self {
        match status {
            PostStatus::Ok => Self::Ok,
            PostStatus::Error => Self::Error,
            PostStatus::Unknown => Self::Unknown,
        }
    }
}

/// The error of a task
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PostError {
    /// Its name
    #[serde(default = "task_error")]
    #[schema(default = "TaskError")]
    name: String,
    /// What went wrong
    #[serde(default = "task_failed")]
    #[schema(default = "Task failed")]
    message: String,
    /// Where
    stack: Option<String>,
    /// Anything else
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Value, required = false)]
    data: Option<Text>,
    /// Whether another attempt may help; if left out, the policy knows
    retryable: Option<bool>,
}

impl From<PostError> for ErrorInfo {
    fn from(error: PostError) -> Self {
        let PostError { name, message, stack, data, .. } = error;
        Self { name, message, stack, data }
    }
}

fn task_error() -> String {
    "TaskError".into()
}

fn task_failed() -> String {
    "Task failed".into()
}

/// How a task ended, in parts
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the contract alone")]
struct ResultParts {
    /// The object that is the body otherwise
    outcome: TaskResult,
    /// The value, as JSON
    #[schema(value_type = Value, required = false)]
    value: Option<Text>,
    /// What the task printed
    #[schema(nullable = false)]
    stdout: Option<String>,
    /// What it printed as errors
    #[schema(nullable = false)]
    stderr: Option<String>,
}

impl TaskResult {
    /// The outcome with what came beside it.
    fn whole(asked: InParts<Self>) -> Answer<Self> {
        let InParts { mut outcome, parts } = asked;
        let twice = |name: &str| Problem::bad_request(format!("{name} is given twice"));
        for (name, bytes) in parts {
            let place = match name.as_str() {
                "value" if outcome.value.is_some() => return Err(twice(&name)),
                "value" => {
                    let value = gate(&bytes, JSON_DEPTH_MAX, Surrogates::Paired);
                    let why = |e| Problem::bad_request(format!("the value is not JSON: {e}"));
                    outcome.value = Some(value.map_err(why)?);
                    continue;
                }
                "stdout" => &mut outcome.stdout,
                "stderr" => &mut outcome.stderr,
                _ => {
                    let what = format!("the part {name:?} is not value, stdout or stderr");
                    let status = StatusCode::UNPROCESSABLE_ENTITY;
                    return Err(Problem::new("unknown_field", status, what));
                }
            };
            if place.is_some() {
                return Err(twice(&name));
            }
            *place = Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        Ok(outcome)
    }

    /// Puts what was uploaded where it belongs.
    async fn fetch(&mut self, door: &Door, run: &RunId) -> Answer<()> {
        let twice = || Problem::bad_request("give something itself or where it is, not both");
        if let Some(blob) = self.value_blob.take() {
            if self.value.is_some() {
                return Err(twice());
            }
            self.value = Some(blobs::value(door, run, blob.read()?).await?);
        }
        for (blob, text, place) in [
            (self.stdout_blob.take(), &self.stdout, &mut self.stdout_ref),
            (self.stderr_blob.take(), &self.stderr, &mut self.stderr_ref),
        ] {
            let Some(blob) = blob else { continue };
            if text.is_some() || place.is_some() {
                return Err(twice());
            }
            *place = Some(blobs::file(door, run, blob.read()?).await?);
        }
        Ok(())
    }

    fn read(self, effect: EffectId, caller: &Caller) -> Answer<Posting> {
        let ok = self.status == PostStatus::Ok;
        if !ok && self.value.is_some() {
            return Err(Problem::bad_request("value belongs to status ok"));
        }
        if ok && self.error.is_some() {
            return Err(Problem::bad_request("error belongs to status error or unknown"));
        }
        for time in [&self.started_at, &self.finished_at].into_iter().flatten() {
            read_time(time)?;
        }
        let retryable = self.error.as_ref().and_then(|error| error.retryable);
        let error = self.error.map(ErrorInfo::from);
        let plain = || ErrorInfo {
            name: "Error".into(),
            message: "Task reported failure".into(),
            stack: None,
            data: None,
        };
        let printed = |text: Option<String>, file: Option<String>| match (text, file) {
            (Some(_), Some(_)) => Err(Problem::bad_request("give a text or its file, not both")),
            (Some(text), None) => Ok(Some(Output::Content(text.into_bytes()))),
            (None, file) => Ok(file.map(Output::Reference)),
        };
        Ok(Posting {
            effect,
            status: self.status.into(),
            retryable,
            value: self.value,
            error: error.or_else(|| (self.status == PostStatus::Error).then(plain)),
            epoch: caller.attempt(self.epoch)?,
            invocation_key: self.invocation_key,
            stdout: printed(self.stdout, self.stdout_ref)?,
            stderr: printed(self.stderr, self.stderr_ref)?,
            started_at: self.started_at,
            finished_at: self.finished_at,
            metadata: self.metadata,
        })
    }
}

/// Post how a task ended
///
/// The same outcome twice is one outcome: `repeat` says that it stood there already.
#[utoipa::path(
    post, path = "/v1/runs/{run}/tasks/{effect}/result", operation_id = "postResult",
    tag = "tasks",
    security(("token" = ["task.work"])),
    params(EffectPath),
    request_body(content(
        (TaskResult = "application/json"),
        (ResultParts = "multipart/form-data"),
    )),
    responses((status = 200, description = "The outcome stands", body = PostDone)),
)]
async fn result(
    State(door): State<Door>,
    caller: Caller,
    effect: body::Effect,
    asked: InParts<TaskResult>,
) -> Answer<Json<PostDone>> {
    post(&door, caller, effect, TaskResult::whole(asked)?).await
}

/// Post how a task ended, under another name
#[utoipa::path(
    post, path = "/v1/runs/{run}/effects/{effect}", operation_id = "postEffect",
    tag = "tasks",
    security(("token" = ["task.work"])),
    params(EffectPath),
    request_body(content(
        (TaskResult = "application/json"),
        (ResultParts = "multipart/form-data"),
    )),
    responses((status = 200, description = "The outcome stands", body = PostDone)),
)]
async fn effect_result(
    State(door): State<Door>,
    caller: Caller,
    effect: body::Effect,
    asked: InParts<TaskResult>,
) -> Answer<Json<PostDone>> {
    post(&door, caller, effect, TaskResult::whole(asked)?).await
}

async fn post(
    door: &Door,
    caller: Caller,
    body::Effect(run, effect): body::Effect,
    mut asked: TaskResult,
) -> Answer<Json<PostDone>> {
    asked.fetch(door, &run).await?;
    let worker = asked.worker.take();
    let posting = asked.read(effect, &caller)?;
    let (may_decide, may_wake) = (caller.may(Scope::Decide), caller.may(Scope::Operate));
    let act = move |open: &mut OpenRun| -> Result<Posted> {
        let is_decision = open.state().effect(effect).is_some_and(|e| e.kind == "breakpoint");
        if is_decision && !may_decide {
            let what = "breakpoints are answered with the right approval.decide";
            return Err(Error::Refused(Trouble::new("forbidden", what)));
        }
        may_wake_it(open, effect, may_wake)?;
        if let Some(named) = worker {
            holds(open, &posting, &named)?;
        }
        open.post(posting)
    };
    let posted = door.handle.deed(&run, &caller.by, Flow::Outcome, act).await;
    let posted = match posted {
        Err(refusal) if refusal.trouble().code == "leased" => {
            let lease = door.handle.lease(&run, effect).await?;
            Err(match lease {
                Some(held) => refusal.and_fact("leaseUntil", held.until.to_string()),
                None => refusal,
            })
        }
        other => other,
    };
    Ok(Json(PostDone::of(effect, posted.map_err(|e| about(e, &run, effect))?)))
}

/// A sleep ends early only for an operator.
fn may_wake_it(open: &OpenRun, id: EffectId, is_operator: bool) -> Result<()> {
    let Some(effect) = open.state().effect(id) else { return Ok(()) };
    if is_operator || !effect.status.is_open() || !matches!(effect.wait, Wait::Sleep { .. }) {
        return Ok(());
    }
    let (kind, instead) = (effect.kind.clone(), "its time, or an operator, wakes it");
    Err(Refusal::NotPostable { id, kind, instead }.into())
}

/// Refuses whoever says another name than the holder's: their number is a mix-up.
fn holds(open: &OpenRun, posting: &Posting, named: &str) -> Result<()> {
    let effect = open.state().effect(posting.effect);
    let started = effect.filter(|e| posting.epoch == Some(e.epoch) && e.ended.is_none());
    match started.and_then(|effect| effect.worker.clone()) {
        Some(worker) if worker != named => {
            let (id, epoch) = (posting.effect, posting.epoch.unwrap_or_default());
            Err(Refusal::Leased { id, worker, epoch }.into())
        }
        _ => Ok(()),
    }
}

/// Why an effect is given up
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GiveUp {
    /// Why, for the process and the journal
    reason: Option<String>,
    /// Also if somebody executes it: what it does outside stays unknown
    #[serde(default)]
    abandon: bool,
}

/// Give up an effect: the process sees `EffectCancelledError`
#[utoipa::path(
    post, path = "/v1/runs/{run}/tasks/{effect}/cancel", operation_id = "cancelTask",
    tag = "tasks",
    security(("token" = ["run.write"])),
    params(EffectPath),
    request_body = Option<GiveUp>,
    responses((status = 200, description = "It is given up", body = GivenUp)),
)]
async fn cancel(
    State(door): State<Door>,
    caller: Caller,
    body::Effect(run, effect): body::Effect,
    Strict(asked): Strict<GiveUp>,
) -> Answer<Json<GivenUp>> {
    let act = move |open: &mut OpenRun| {
        // A breakpoint that is given up is not answered; anybody who may steer the run may.
        effect_of(open.look(), effect)?;
        open.cancel_effect(effect, asked.reason, asked.abandon)
    };
    let seq = door.handle.deed(&run, &caller.by, Flow::Outcome, act).await;
    let seq = seq.map_err(|e| about(e, &run, effect))?;
    Ok(Json(GivenUp::of(effect, seq)))
}
