//! `/v1/tasks/claim`, `…/heartbeat`, `…/release`, `/v1/workers`: for whoever does tasks.
//!
//! May not decide who gets what. Invariant: a task that was answered is durably started; a
//! heartbeat writes nothing.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::Caller;
use super::body::{self, EffectPath, Strict};
use super::problem::{Answer, Details, Problem};
use super::runs::read_id;
use crate::doors::work::{BeatDone, ClaimDone, Stands, TaskGiven, Workers};
use crate::ground::id::{EffectId, Epoch, RunId};
use crate::ground::limits::{
    CLAIM_MAX, CLAIM_NAME_BYTES_MAX, CLAIM_NAMES_MAX, CLAIM_WAIT_MS_DEFAULT, CLAIM_WAIT_MS_MAX,
    HEARTBEAT_TASKS_MAX, LEASE_TTL_MS_DEFAULT, LEASE_TTL_MS_MAX, LEASE_TTL_MS_MIN,
    PROGRESS_LABEL_BYTES_MAX,
};
use crate::machines::effect::attempt::Report;
use crate::machines::effect::claim::is_the_daemons_name;
use crate::machines::lease::Progress;
use crate::machines::workflow::signatures;
use crate::services::manager::{Flow, Sign, Wanted};
use crate::services::runs::Error;

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new()
        .routes(routes!(claim))
        .routes(routes!(claim_one))
        .routes(routes!(heartbeat))
        .routes(routes!(heartbeats))
        .routes(routes!(release))
        .routes(routes!(workers))
}

/// What a worker wants to do
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClaimMany {
    /// Its name; a name that begins with `@` is the daemon's own
    #[schema(min_length = 1, max_length = 255)]
    worker: String,
    /// Effects of these kinds
    #[schema(min_items = 1, max_items = 64)]
    kinds: Vec<String>,
    /// Of kind `agent`, only tasks of agents with these names
    #[serde(default)]
    #[schema(max_items = 64)]
    agents: Vec<String>,
    /// What it offers, for effects that require something
    #[serde(default)]
    #[schema(max_items = 64)]
    offers: Vec<String>,
    /// What kinds of work take and bring, for workflow documents: `{"KIND": {"inputs": {"NAME":
    /// "TYPE"}, "outputs": {…}}}`
    #[schema(value_type = Object, nullable = false)]
    signatures: Option<serde_json::Value>,
    /// Effects of these runs only
    #[serde(default)]
    #[schema(max_items = 64)]
    runs: Vec<String>,
    /// How many at most
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 64, default = 1)]
    max: usize,
    /// How long to wait for something to do
    #[schema(maximum = 60_000, default = 20_000)]
    wait_ms: Option<u64>,
    /// How long its silence is taken for life
    #[schema(minimum = 5_000, maximum = 86_400_000, default = 60_000)]
    ttl_ms: Option<u64>,
    /// Asked again under the same id, the same tasks are given, and never others
    #[schema(min_length = 1, max_length = 255)]
    claim_id: Option<String>,
}

/// Who wants one certain effect
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClaimOne {
    /// Its name; a name that begins with `@` is the daemon's own
    #[schema(min_length = 1, max_length = 255)]
    worker: String,
    /// How long its silence is taken for life
    #[schema(minimum = 5_000, maximum = 86_400_000, default = 60_000)]
    ttl_ms: Option<u64>,
    /// Asked again under the same id, the same start is given
    #[schema(min_length = 1, max_length = 255)]
    claim_id: Option<String>,
}

const fn one() -> usize {
    1
}

/// A name that stands in journals or is compared: text of a bounded length.
fn name(what: &str, text: String) -> Answer<String> {
    let fits = !text.is_empty() && text.len() <= CLAIM_NAME_BYTES_MAX;
    if fits && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    let max = CLAIM_NAME_BYTES_MAX;
    Err(Problem::bad_request(format!("{what} has 1 to {max} bytes of plain text")))
}

fn worker(text: String) -> Answer<String> {
    if is_the_daemons_name(&text) {
        return Err(Problem::bad_request("a name that begins with @ is the daemon's own"));
    }
    name("worker", text)
}

fn names(what: &str, all: Vec<String>) -> Answer<Vec<String>> {
    if all.len() > CLAIM_NAMES_MAX {
        let max = CLAIM_NAMES_MAX;
        return Err(Problem::bad_request(format!("{what} has at most {max} names")));
    }
    all.into_iter().map(|text| name(what, text)).collect()
}

fn ttl(ms: Option<u64>) -> Answer<u64> {
    let ms = ms.unwrap_or(LEASE_TTL_MS_DEFAULT);
    if (LEASE_TTL_MS_MIN..=LEASE_TTL_MS_MAX).contains(&ms) {
        return Ok(ms);
    }
    let what = format!("ttlMs is {LEASE_TTL_MS_MIN} to {LEASE_TTL_MS_MAX} (lease_ttl)");
    Err(Problem::bad_request(what))
}

impl ClaimMany {
    fn read(self, by: String) -> Answer<(Wanted, Duration)> {
        if self.kinds.is_empty() {
            return Err(Problem::bad_request("kinds is empty: name what can be done"));
        }
        if self.kinds.len() * self.runs.len() > CLAIM_NAMES_MAX * 4 {
            return Err(Problem::bad_request("too many kinds of too many runs; ask in parts"));
        }
        if !(1..=CLAIM_MAX).contains(&self.max) {
            return Err(Problem::bad_request(format!("max is 1 to {CLAIM_MAX} (claim_max)")));
        }
        let wait_ms = self.wait_ms.unwrap_or(CLAIM_WAIT_MS_DEFAULT);
        if wait_ms > CLAIM_WAIT_MS_MAX {
            let what = format!("waitMs is at most {CLAIM_WAIT_MS_MAX} (wait_max)");
            return Err(Problem::bad_request(what));
        }
        if self.runs.len() > CLAIM_NAMES_MAX {
            let what = format!("runs has at most {CLAIM_NAMES_MAX} names");
            return Err(Problem::bad_request(what));
        }
        let runs = self.runs.iter().map(|run| read_id(run)).collect::<Answer<Vec<RunId>>>()?;
        let wanted = Wanted {
            worker: worker(self.worker)?,
            kinds: names("kinds", self.kinds)?,
            agents: names("agents", self.agents)?,
            offers: names("offers", self.offers)?,
            runs,
            max: self.max,
            ttl_ms: ttl(self.ttl_ms)?,
            claim_id: self.claim_id.map(|text| name("claimId", text)).transpose()?,
            by,
        };
        Ok((wanted, Duration::from_millis(wait_ms)))
    }
}

impl ClaimOne {
    fn read(self, by: String) -> Answer<Wanted> {
        Ok(Wanted {
            worker: worker(self.worker)?,
            kinds: Vec::new(),
            agents: Vec::new(),
            offers: Vec::new(),
            runs: Vec::new(),
            max: 1,
            ttl_ms: ttl(self.ttl_ms)?,
            claim_id: self.claim_id.map(|text| name("claimId", text)).transpose()?,
            by,
        })
    }
}

/// Get something to do
///
/// Waits until there is something, or `waitMs` have passed. What is answered is started, in the
/// caller's name: whoever holds it sends heartbeats and posts what became of it, with its epoch.
#[utoipa::path(
    post, path = "/v1/tasks/claim", operation_id = "claimTasks",
    tag = "work", security(("token" = ["task.work"])),
    request_body = ClaimMany,
    responses((status = 200, description = "What there is to do, if anything", body = ClaimDone)),
)]
async fn claim(
    State(door): State<Door>,
    caller: Caller,
    Strict(asked): Strict<ClaimMany>,
) -> Answer<Json<ClaimDone>> {
    if let Some(said) = &asked.signatures {
        let said = signatures::read(said).map_err(Problem::bad_request)?;
        door.handle.runs().kinds.publish(said).map_err(Problem::bad_request)?;
    }
    let (wanted, wait) = asked.read(caller.by)?;
    let key = door.handle.task_key().await?;
    let (given, spent) = door.handle.claim(wanted, wait).await?;
    let tasks = given.into_iter().map(|given| TaskGiven::by(given, &key)).collect();
    Ok(Json(ClaimDone { tasks, spent }))
}

/// Start one certain effect
#[utoipa::path(
    post, path = "/v1/runs/{run}/tasks/{effect}/claim", operation_id = "claimTask",
    tag = "work", security(("token" = ["task.work"])),
    params(EffectPath),
    request_body = ClaimOne,
    responses((status = 200, description = "It is the caller's", body = TaskGiven)),
)]
async fn claim_one(
    State(door): State<Door>,
    caller: Caller,
    body::Effect(run, effect): body::Effect,
    Strict(asked): Strict<ClaimOne>,
) -> Answer<Json<TaskGiven>> {
    let wanted = asked.read(caller.by)?;
    let key = door.handle.task_key().await?;
    let given = door.handle.claim_one(&run, effect, wanted).await;
    let given = given.map_err(|e| super::effects::about(e, &run, effect))?;
    Ok(Json(TaskGiven::by(given, &key)))
}

/// A sign of life
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Heartbeat {
    /// The number of the start; may be left out by who comes with its task token
    #[schema(nullable = false)]
    epoch: Option<u64>,
    /// Who gives it
    worker: Option<String>,
    /// How long silence is to be taken for life from now on
    #[schema(minimum = 5_000, maximum = 86_400_000)]
    ttl_ms: Option<u64>,
    /// How far it is
    #[schema(nullable = false)]
    progress: Option<ProgressSaid>,
}

/// How far a worker says that it is
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProgressSaid {
    /// Of a hundred
    #[schema(minimum = 0, maximum = 100, nullable = false)]
    percent: Option<f64>,
    /// In a few words
    #[schema(max_length = 256, nullable = false)]
    label: Option<String>,
}

impl ProgressSaid {
    fn read(self) -> Answer<Progress> {
        if self.percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            return Err(Problem::bad_request("percent is 0 to 100"));
        }
        if self.label.as_ref().is_some_and(|label| label.len() > PROGRESS_LABEL_BYTES_MAX) {
            let max = PROGRESS_LABEL_BYTES_MAX;
            return Err(Problem::bad_request(format!("label has at most {max} bytes")));
        }
        Ok(Progress { percent: self.percent, label: self.label })
    }
}

/// Say that an effect is being worked on
///
/// Nothing is written. The answer says whether to go on.
#[utoipa::path(
    post, path = "/v1/runs/{run}/tasks/{effect}/heartbeat", operation_id = "heartbeat",
    tag = "work", security(("token" = ["task.work"])),
    params(EffectPath),
    request_body = Heartbeat,
    responses((status = 200, description = "The lease goes on", body = BeatDone)),
)]
async fn heartbeat(
    State(door): State<Door>,
    caller: Caller,
    body::Effect(run, effect): body::Effect,
    Strict(asked): Strict<Heartbeat>,
) -> Answer<Json<BeatDone>> {
    let ttl_ms = asked.ttl_ms.map(|ms| ttl(Some(ms))).transpose()?;
    let epoch = caller.attempt(asked.epoch)?;
    let epoch = epoch.ok_or_else(|| Problem::bad_request("a heartbeat names its epoch"))?;
    let progress = asked.progress.map(ProgressSaid::read).transpose()?;
    let worker = asked.worker.map(worker).transpose()?;
    let sign = Sign { run: run.clone(), effect, epoch, ttl_ms, worker, progress };
    let renewed = door.handle.renew(vec![sign]).await?;
    let about = |e| super::effects::about(e, &run, effect);
    let renewed = renewed.into_iter().next().ok_or_else(body::gave_up)?;
    Ok(Json(renewed.map_err(about)?.into()))
}

/// Signs of life of one worker
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Heartbeats {
    /// Whose
    worker: String,
    /// What it is at
    #[schema(max_items = 256)]
    tasks: Vec<HeartbeatOf>,
}

/// What one sign of life is about
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HeartbeatOf {
    /// The run
    run_id: String,
    /// The effect
    effect_id: String,
    /// The number of the start
    epoch: u64,
}

/// Answers to heartbeats
#[derive(Debug, Serialize, ToSchema)]
struct BeatsDone {
    /// In the order in which they were asked
    tasks: Vec<BeatOf>,
}

/// The answer to one of several heartbeats: what a single one gets, or a problem
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BeatOf {
    /// The run
    run_id: String,
    /// The effect
    effect_id: String,
    #[serde(flatten)]
    #[schema(inline)]
    done: Option<BeatDone>,
    /// Why the lease does not go on
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Details>, nullable = false)]
    problem: Option<Problem>,
}

/// Say that effects are being worked on, all at once
#[utoipa::path(
    post, path = "/v1/tasks/heartbeat", operation_id = "heartbeats",
    tag = "work", security(("token" = ["task.work"])),
    request_body = Heartbeats,
    responses((status = 200, description = "An answer for each", body = BeatsDone)),
)]
async fn heartbeats(
    State(door): State<Door>,
    Strict(asked): Strict<Heartbeats>,
) -> Answer<Json<BeatsDone>> {
    if asked.tasks.len() > HEARTBEAT_TASKS_MAX {
        let what = format!("a heartbeat is about at most {HEARTBEAT_TASKS_MAX} tasks");
        return Err(Problem::bad_request(what));
    }
    let worker = worker(asked.worker)?;
    let sign = |of: &HeartbeatOf| -> Answer<Sign> {
        let effect = of.effect_id.parse::<EffectId>().map_err(|e| {
            Problem::new("effect_id_invalid", StatusCode::BAD_REQUEST, e.to_string())
        })?;
        let (run, epoch) = (read_id(&of.run_id)?, Epoch(of.epoch));
        let worker = Some(worker.clone());
        Ok(Sign { run, effect, epoch, ttl_ms: None, worker, progress: None })
    };
    let signs = asked.tasks.iter().map(sign).collect::<Answer<Vec<_>>>()?;
    let renewed = door.handle.renew(signs.clone()).await?;
    let tasks = signs.into_iter().zip(renewed).map(|(sign, renewed)| {
        let (run_id, effect_id) = (sign.run.to_string(), sign.effect.to_string());
        match renewed {
            Ok(renewed) => BeatOf { run_id, effect_id, done: Some(renewed.into()), problem: None },
            Err(e) => {
                let problem = Some(super::effects::about(e, &sign.run, sign.effect));
                BeatOf { run_id, effect_id, done: None, problem }
            }
        }
    });
    Ok(Json(BeatsDone { tasks: tasks.collect() }))
}

/// Giving an effect back
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Release {
    /// The number of the start
    epoch: u64,
    /// Whether anything may have happened outside
    began: bool,
    /// Why, for the journal
    reason: Option<String>,
}

/// Give an effect back without an outcome
///
/// What had not begun is open for everybody again. What had is uncertain, unless it may be done
/// twice.
#[utoipa::path(
    post, path = "/v1/runs/{run}/tasks/{effect}/release", operation_id = "releaseTask",
    tag = "work", security(("token" = ["task.work"])),
    params(EffectPath),
    request_body = Release,
    responses((status = 200, description = "It is the caller's no more", body = Stands)),
)]
async fn release(
    State(door): State<Door>,
    caller: Caller,
    body::Effect(run, effect): body::Effect,
    Strict(asked): Strict<Release>,
) -> Answer<Json<Stands>> {
    let report = Report::Released { began: asked.began, reason: asked.reason };
    let act = move |open: &mut crate::services::runs::open::OpenRun| {
        open.end_attempt(effect, Epoch(asked.epoch), &report)
    };
    let state = door.handle.deed(&run, &caller.by, Flow::Outcome, act).await;
    let state = state.map_err(|e: Error| super::effects::about(e, &run, effect))?;
    Ok(Json(Stands::of(effect, state)))
}

/// List workers that asked for something lately, or are at something
#[utoipa::path(
    get, path = "/v1/workers", operation_id = "listWorkers",
    tag = "work", security(("token" = ["run.read"])),
    responses((status = 200, description = "By name", body = Workers)),
)]
async fn workers(State(door): State<Door>) -> Answer<Json<Workers>> {
    let seen = door.handle.workers().await?;
    let signatures = signatures::print(&door.handle.runs().kinds.all());
    Ok(Json(Workers { workers: seen.into_iter().map(Into::into).collect(), signatures }))
}
