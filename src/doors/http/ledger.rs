//! `/v1/ledger`: effects under the keys by which the outside knows them.
//!
//! May not change anything. Invariant: what is shown stands in journals; the index only says where
//! to look.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::body::{Named, Query};
use super::index;
use super::problem::{Answer, Problem};
use super::runs::{bad_token, page_size, read_id, read_time};
use crate::doors::ledger::{Ledger, Row, STATES, Wanted, named};
use crate::ground::id::{EffectId, RunId};
use crate::ground::limits::PAGE_SIZE_MAX;
use crate::machines::effect::life::EffectStatus;
use crate::shells::store::{EffectFilter, EffectPlace};

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// Which rows
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Rows {
    /// Only under this key
    key: Option<String>,
    /// Only of this run
    #[param(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$", max_length = 64)]
    run: Option<String>,
    /// Only last started by this worker
    worker: Option<String>,
    /// `open`, `uncertain`; with a run or key also `ok`, `error`, `cancelled`
    state: Option<String>,
    /// Only asked for at or after this time
    #[param(format = DateTime)]
    since: Option<String>,
    /// Rows of a page
    #[param(minimum = 1, maximum = 1000)]
    page_size: Option<usize>,
    /// Where the page begins, from `nextPageToken`
    #[param(min_length = 1)]
    page_token: Option<String>,
}

/// List effects with their keys
///
/// Of a run or a key all of them; of everything those that are open.
#[utoipa::path(
    get, path = "/v1/ledger", operation_id = "listLedger",
    tag = "work", security(("token" = ["run.read"])), params(Rows),
    responses((status = 200, description = "One page", body = Ledger)),
)]
async fn list(State(door): State<Door>, Query(asked): Query<Rows>) -> Answer<Json<Ledger>> {
    if asked.state.as_ref().is_some_and(|state| !STATES.contains(&state.as_str())) {
        let what = format!("state is one of {}", STATES.join(", "));
        return Err(Problem::bad_request(what));
    }
    let wanted = Wanted {
        key: asked.key,
        worker: asked.worker,
        state: asked.state,
        since: asked.since.as_deref().map(read_time).transpose()?,
    };
    let run = match &asked.run {
        Some(run) => Some(door.handle.find(read_id(run)?.as_str()).await?),
        None => None,
    };
    let size = page_size(asked.page_size, asked.page_token.as_deref())?;
    match (run, &wanted.key) {
        (Some(run), _) => {
            let read = door.handle.read(&run, move |look| Ok(wanted.rows(look))).await;
            let rows = read.map_err(|e| Problem::from(e).of_run(run.as_str()))?;
            Ok(Json(Ledger { rows, next_page_token: None }))
        }
        (None, Some(key)) => {
            let key = key.clone();
            Ok(Json(Ledger { rows: under(&door, &key, &wanted).await?, next_page_token: None }))
        }
        (None, None) => open(&door, wanted, size, asked.page_token.as_deref()).await.map(Json),
    }
}

/// Show all effects under a key
#[utoipa::path(
    get, path = "/v1/ledger/{key}", operation_id = "showLedger",
    tag = "work", security(("token" = ["run.read"])),
    params(("key" = String, Path, description = "The key; `/` in it as `%2F`")),
    responses((status = 200, description = "The effects", body = Ledger)),
)]
async fn show(State(door): State<Door>, Named(key): Named<String>) -> Answer<Json<Ledger>> {
    let rows = under(&door, &key, &Wanted::default()).await?;
    if rows.is_empty() {
        let what = format!("no effect has the key {key}");
        return Err(
            Problem::new("key_not_found", StatusCode::NOT_FOUND, what).next("dormouse ledger list")
        );
    }
    Ok(Json(Ledger { rows, next_page_token: None }))
}

/// All effects under a key that fit.
async fn under(door: &Door, key: &str, wanted: &Wanted) -> Answer<Vec<Row>> {
    let asked = key.to_owned();
    let known =
        index::ask(&door.handle, move |index| index.effects_under(&asked, PAGE_SIZE_MAX)).await?;
    let mut runs: BTreeSet<RunId> = known.into_iter().map(|(run, _)| run).collect();
    runs.extend(named(key).map(|(run, _)| run));
    let wanted = Wanted { key: Some(key.to_owned()), ..wanted.clone() };
    let mut rows = Vec::new();
    for run in runs {
        let wanted = wanted.clone();
        // A run that cannot be read, or that a made-up key names, has no rows.
        let read = door.handle.read(&run, move |look| Ok(wanted.rows(look))).await;
        rows.extend(read.into_iter().flatten());
    }
    rows.sort_by_key(Row::place);
    Ok(rows)
}

/// One page of what is open.
async fn open(door: &Door, wanted: Wanted, size: usize, token: Option<&str>) -> Answer<Ledger> {
    let ended = |state: &String| ["ok", "error", "cancelled"].contains(&state.as_str());
    if wanted.state.as_ref().is_some_and(ended) {
        let what = "what has ended is listed of one run or key: give run or key";
        return Err(Problem::bad_request(what));
    }
    let place = token.map(str::parse::<EffectPlace>).transpose().map_err(|e| bad_token(&e))?;
    let uncertain = wanted.state.as_deref() == Some("uncertain");
    let filter = EffectFilter {
        worker: wanted.worker.clone(),
        status: uncertain.then_some(EffectStatus::Uncertain),
        ..EffectFilter::default()
    };
    let page =
        index::ask(&door.handle, move |index| index.effects(&filter, size, place.as_ref())).await?;
    let mut names: Vec<(RunId, EffectId)> =
        page.rows.into_iter().map(|row| (row.run_id, row.facts.effect_id)).collect();
    names.sort();
    let mut rows = Vec::new();
    for of_run in names.chunk_by(|a, b| a.0 == b.0) {
        let Some((run, _)) = of_run.first() else { continue };
        let effects: BTreeSet<EffectId> = of_run.iter().map(|(_, effect)| *effect).collect();
        let wanted = wanted.clone();
        let read = door.handle.read(run, move |look| {
            let rows = wanted.rows(look).into_iter();
            Ok(rows.filter(|row| effects.contains(&row.place().2)).collect::<Vec<_>>())
        });
        rows.extend(read.await.into_iter().flatten());
    }
    rows.sort_by_key(Row::place);
    Ok(Ledger { rows, next_page_token: page.next.map(|place| place.to_string()) })
}
