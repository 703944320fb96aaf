//! `/v1/runs/{run}/events`: the journal of a run, in pages or followed.
//!
//! May not write. Invariant: what is shown is durable.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::body::{Query, Run, RunPath};
use super::follow::{follow, stored_lines};
use super::problem::{Answer, Problem};
use super::runs::page_size;
use crate::doors::answers::Event;
use crate::ground::id::Seq;
use crate::services::runs::view::Look;

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Which records
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Only records after this place
    #[serde(default)]
    after: u64,
    /// Only records of these types, with commas between them; not when following
    types: Option<String>,
    /// Newest first; not when following
    #[serde(default)]
    reverse: bool,
    /// Records of a page
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<usize>,
}

/// Where a follower was cut off, for the contract
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the contract alone")]
struct Resumed {
    /// When following: as `after`
    #[param(rename = "Last-Event-ID")]
    last_event_id: Option<u64>,
}

/// One page of records
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EventPage {
    /// The records
    events: Vec<Event>,
    /// How many there are
    metadata: Counts,
    /// `after` of the next page, if there is one; not with `reverse`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, required = false)]
    next_after: Option<Seq>,
}

/// How many records there are
#[derive(Debug, Serialize, ToSchema)]
struct Counts {
    /// In the journal
    total: usize,
    /// That match
    matching: usize,
}

/// Show the records of a run, or follow them
///
/// With `Accept: text/event-stream` the records are sent as they become durable: `hello`, then one
/// message a record (`id` its place, `event` its type, `data` its line), and `end` after the end.
#[utoipa::path(
    get, path = "/v1/runs/{run}/events", operation_id = "listEvents",
    tag = "events", security(("token" = ["run.read"])),
    params(
        RunPath, Wanted, Resumed
    ),
    responses((
        status = 200, description = "Records",
        content((EventPage = "application/json"), (String = "text/event-stream")),
    )),
)]
async fn events(
    State(door): State<Door>,
    Run(run): Run,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer<Response> {
    let last_seen = last_seen(&headers)?;
    if i64::try_from(wanted.after).is_err() {
        return Err(Problem::bad_request("after is beyond every journal"));
    }
    if names(&headers, "text/event-stream") {
        if wanted.types.is_some() || wanted.reverse {
            return Err(Problem::bad_request("following takes neither types nor reverse"));
        }
        let after = last_seen.unwrap_or(Seq(wanted.after));
        return follow(&door, run, after, stored_lines).await;
    }
    let size = page_size(wanted.page_size, None)?;
    let page = door.handle.read(&run, move |look| Ok(page(look, &wanted, size))).await;
    let page = page.map_err(|e| Problem::from(e).of_run(run.as_str()))?;
    Ok(Json(page).into_response())
}

/// Whether a request names this type among those that it accepts.
pub(super) fn names(headers: &HeaderMap, media_type: &str) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    accepts.split(',').any(|kind| kind.trim().starts_with(media_type))
}

/// Where a follower was cut off.
pub(super) fn last_seen(headers: &HeaderMap) -> Answer<Option<Seq>> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let seq = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
    let seq = seq.filter(|seq| i64::try_from(*seq).is_ok());
    seq.map(|seq| Some(Seq(seq)))
        .ok_or_else(|| Problem::bad_request("Last-Event-ID is not the place of a record"))
}

/// Filters, then reverses, then cuts.
fn page(look: Look<'_>, wanted: &Wanted, size: usize) -> EventPage {
    let types: Option<Vec<&str>> =
        wanted.types.as_deref().map(|types| types.split(',').map(str::trim).collect());
    let fits = |name: &str| {
        types.as_ref().is_none_or(|types| types.iter().any(|t| t.eq_ignore_ascii_case(name)))
    };
    let after = Seq(wanted.after);
    let mut matching: Vec<_> =
        look.records.iter().filter(|r| r.seq > after && fits(r.event.name())).collect();
    let counts = Counts { total: look.records.len(), matching: matching.len() };
    if wanted.reverse {
        matching.reverse();
    }
    let more = matching.len() > size && !wanted.reverse;
    matching.truncate(size);
    EventPage {
        next_after: matching.last().filter(|_| more).map(|r| r.seq),
        events: matching.into_iter().map(|r| (&**r).into()).collect(),
        metadata: counts,
    }
}
