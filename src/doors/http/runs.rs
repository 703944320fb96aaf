//! `/v1/runs`: creating, listing and showing runs.
//!
//! May not run a turn. Invariant: a run that was answered exists, durably.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::Caller;
use super::body::{Query, Run, RunPath, Strict, present};
use super::index;
use super::problem::{Answer, Problem};
use crate::codecs::json::Json as Text;
use crate::codecs::trace::TraceContext;
use crate::doors::answers::{Created, Shown};
use crate::doors::shapes;
use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;
use crate::ground::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
use crate::services::manager::Handle;
use crate::services::runs::Error;
use crate::services::runs::create::{NewRun, Source};
use crate::services::runs::list::Entry;
use crate::shells::pin::EntrySpec;
use crate::shells::run_dir::root;
use crate::shells::store::{BadCursor, Order, RunFilter, RunPlace};

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(show))
}

/// Where process code comes from. Paths are absolute: the daemon stands nowhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CodeSource {
    /// Process module, with the export to call if it is not `process`: `/path/file.js#export`
    #[schema(pattern = "^/", max_length = 4096)]
    entry: String,
    /// Name of the process; the stem of the entry file if left out
    #[schema(min_length = 1)]
    process_id: Option<String>,
    /// Directory below which all modules must lie
    #[schema(pattern = "^/")]
    process_root: Option<String>,
    /// Directory of the process library
    #[schema(pattern = "^/")]
    library_root: Option<String>,
    /// Further modules to pin, by pattern below the process root
    #[serde(default)]
    pins: Vec<String>,
}

/// A path that means the same wherever the daemon stands.
pub(super) fn absolute(path: PathBuf) -> Answer<PathBuf> {
    if path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0) {
        return Ok(path);
    }
    let what = format!("{} is not an absolute path", path.display());
    Err(Problem::new("path_not_absolute", StatusCode::BAD_REQUEST, what))
}

impl CodeSource {
    /// The source that is meant.
    pub(super) fn read(self) -> Answer<Source> {
        let spec = EntrySpec::parse(&self.entry).map_err(Error::from)?;
        if self.process_id.as_ref().is_some_and(String::is_empty) {
            return Err(Problem::bad_request("processId is empty"));
        }
        Ok(Source {
            entry: EntrySpec { path: absolute(spec.path)?, ..spec },
            root: self.process_root.map(PathBuf::from).map(absolute).transpose()?,
            library_root: self.library_root.map(PathBuf::from).map(absolute).transpose()?,
            extra: self.pins,
            process_id: self.process_id,
        })
    }
}

/// A run to be created
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Create {
    /// Its process; without one the run is bare
    source: Option<CodeSource>,
    /// Its inputs, kept byte for byte
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Value, required = false)]
    inputs: Option<Text>,
    /// Its id; a new ULID if left out
    #[schema(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$", max_length = 64)]
    run_id: Option<String>,
    /// Asked again with the same key and request, the same run is returned
    #[schema(min_length = 1)]
    idempotency_key: Option<String>,
    /// Words for finding it
    #[serde(default)]
    tags: Vec<String>,
    /// Where it was asked for
    cwd: Option<String>,
    /// Answer every breakpoint at once
    #[serde(default)]
    non_interactive: bool,
}

/// Create a run and let it go on
///
/// The process is pinned: later edits of its files do not change the run.
#[utoipa::path(
    post, path = "/v1/runs", operation_id = "createRun",
    tag = "runs", security(("token" = ["run.write"])),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "As `idempotencyKey`"),
        ("traceparent" = Option<String>, Header, description = "The run's spans go on from there"),
    ),
    request_body = Create,
    responses(
        (status = 201, description = "The run exists", body = Created),
        (status = 200, description = "It existed, from the same request", body = Created),
    ),
)]
async fn create(
    State(door): State<Door>,
    caller: Caller,
    headers: HeaderMap,
    Strict(asked): Strict<Create>,
) -> Answer<(StatusCode, Json<Created>)> {
    let run_id = asked.run_id.map(|id| id.parse::<RunId>()).transpose();
    let run_id = run_id.map_err(|e| Error::from(root::Error::Name(e)))?;
    let new = NewRun {
        run_id,
        source: asked.source.map(CodeSource::read).transpose()?,
        inputs: asked.inputs,
        idempotency_key: one_key(&headers, asked.idempotency_key)?,
        tags: asked.tags,
        cwd: asked.cwd,
        non_interactive: asked.non_interactive,
        traceparent: traceparent(&headers),
        schedule: None,
    };
    if new.tags.iter().any(String::is_empty) {
        return Err(Problem::bad_request("a tag is empty"));
    }
    let created = Created::from(door.handle.create(new, &caller.by).await?);
    let status = if created.existed { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(created)))
}

/// Where in a trace the caller stands. What is unreadable is left out, as its specification says.
fn traceparent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut given = headers.get_all("traceparent").iter();
    let text = given.next().filter(|_| given.next().is_none())?;
    text.to_str().ok()?.parse().ok()
}

/// The idempotency key of a request, from its header or its body; raw or as a quoted string.
pub(super) fn one_key(headers: &HeaderMap, field: Option<String>) -> Answer<Option<String>> {
    let unreadable = || Problem::bad_request("Idempotency-Key is not readable");
    let header = match headers.get("idempotency-key") {
        None => None,
        Some(value) => {
            let raw = std::str::from_utf8(value.as_bytes()).map_err(|_| unreadable())?.trim();
            let quoted = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            Some(quoted.unwrap_or(raw).to_owned())
        }
    };
    let key = match (header, field) {
        (Some(a), Some(b)) if a != b => {
            return Err(Problem::bad_request("the header and the body give two keys"));
        }
        (header, field) => header.or(field),
    };
    if key.as_ref().is_some_and(String::is_empty) {
        return Err(Problem::bad_request("the idempotency key is empty"));
    }
    Ok(key)
}

/// Which runs, and which page of them
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Only runs in this state: `created`, `waiting`, `held`, `completed`, `failed`, `halted`,
    /// `cancelled`, `damaged`, or a finer one
    state: Option<String>,
    /// Only runs of this process
    process: Option<String>,
    /// Only runs with this tag
    tag: Option<String>,
    /// Only child runs of this run
    parent: Option<String>,
    /// Only runs created at this time or later
    #[param(format = DateTime)]
    created_after: Option<String>,
    /// Only runs created before this time
    #[param(format = DateTime)]
    created_before: Option<String>,
    /// Runs of a page
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<usize>,
    /// Where the page begins, from `nextPageToken`
    #[param(min_length = 1)]
    page_token: Option<String>,
}

/// One page of runs, oldest first
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RunPage {
    /// The runs
    #[schema(value_type = Vec<shapes::ListedRun>)]
    runs: Vec<Entry>,
    /// Where the next page begins, if there is one
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_page_token: Option<String>,
}

/// List runs, oldest first
#[utoipa::path(
    get, path = "/v1/runs", operation_id = "listRuns",
    tag = "runs", security(("token" = ["run.read"])), params(Wanted),
    responses((status = 200, description = "One page", body = RunPage)),
)]
async fn list(State(door): State<Door>, Query(wanted): Query<Wanted>) -> Answer<Json<RunPage>> {
    list_runs(&door.handle, wanted).await.map(Json)
}

/// The size of a page that a request asks for, and where it begins.
pub(super) fn page_size(asked: Option<usize>, token: Option<&str>) -> Answer<usize> {
    if token == Some("") {
        return Err(Problem::bad_request("pageToken is empty"));
    }
    let size = asked.unwrap_or(PAGE_SIZE_DEFAULT);
    if (1..=PAGE_SIZE_MAX).contains(&size) {
        return Ok(size);
    }
    Err(Problem::bad_request(format!("pageSize is 1 to {PAGE_SIZE_MAX}")))
}

/// A time that a request gives.
pub(super) fn read_time(text: &str) -> Answer<Timestamp> {
    Timestamp::read(text).ok_or_else(|| {
        Problem::bad_request(format!("{text:?} is not a time such as 2026-11-20T12:00:00Z"))
    })
}

/// A page token that is not one of this list.
pub(super) fn bad_token(error: &BadCursor) -> Problem {
    Problem::bad_request(error.to_string()).next("leave pageToken out to begin anew")
}

/// One page of the runs that are asked for.
async fn list_runs(handle: &Handle, wanted: Wanted) -> Answer<RunPage> {
    let order = Order::Oldest;
    let size = page_size(wanted.page_size, wanted.page_token.as_deref())?;
    let place = wanted.page_token.as_deref().map(|token| RunPlace::parse(token, order));
    let place = place.transpose().map_err(|e| bad_token(&e))?;
    let parent = wanted.parent.as_deref().map(read_id).transpose()?;
    let (states, native_state) = states(wanted.state);
    let filter = RunFilter {
        states,
        native_state,
        process: wanted.process,
        tags: wanted.tag.into_iter().collect(),
        parent,
        created_from: wanted.created_after.as_deref().map(read_time).transpose()?,
        created_until: wanted.created_before.as_deref().map(read_time).transpose()?,
        ..RunFilter::default()
    };
    let page =
        index::ask(handle, move |index| index.runs(&filter, order, size, place.as_ref())).await?;
    Ok(RunPage {
        runs: page.rows.into_iter().map(Entry::from).collect(),
        next_page_token: page.next.map(|place| place.to_string()),
    })
}

/// The states that a name means, and the finer one: both are names of the same list.
fn states(name: Option<String>) -> (Vec<String>, Option<String>) {
    let Some(name) = name.map(|name| name.to_ascii_lowercase()) else { return (Vec::new(), None) };
    match name.as_str() {
        "running" | "parked" => (vec!["waiting".to_owned()], Some(name)),
        "paused" => (vec!["created".to_owned(), "waiting".to_owned()], Some(name)),
        _ => (vec![name], None),
    }
}

/// The id of a run that a request gives.
pub(super) fn read_id(text: &str) -> Answer<RunId> {
    text.parse().map_err(|e: crate::ground::id::Error| {
        Problem::new("run_id_invalid", StatusCode::BAD_REQUEST, e.to_string())
    })
}

/// Show a run with everything that is pending
#[utoipa::path(
    get, path = "/v1/runs/{run}", operation_id = "showRun",
    tag = "runs", security(("token" = ["run.read"])),
    params(RunPath),
    responses((status = 200, description = "The run", body = Shown)),
)]
async fn show(State(door): State<Door>, Run(run): Run) -> Answer<Json<Shown>> {
    let now = door.handle.runs().clock.now();
    let shown = door.handle.read(&run, move |look| Ok(Shown::of(look, now))).await;
    shown.map(Json).map_err(|e| Problem::from(e).of_run(run.as_str()))
}
