//! `/v1/breakpoints`: what waits for a person, and their answers.
//!
//! May not decide for a person. Invariant: an answer is a post like any other, and names who gave
//! it.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::Caller;
use super::body::{self, EffectPath, Query, Strict};
use super::index;
use super::problem::{Answer, Problem};
use super::runs::read_id;
use crate::codecs::json::Json as Text;
use crate::doors::answers::{Breakpoint, PostDone, breakpoints, effect_of};
use crate::ground::id::{Epoch, RunId};
use crate::ground::limits::PAGE_SIZE_MAX;
use crate::machines::effect::ask;
use crate::machines::effect::life::EffectStatus;
use crate::services::manager::{Flow, Handle};
use crate::services::runs::open::OpenRun;
use crate::services::runs::post::{Posted, Posting};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result};
use crate::shells::store::EffectFilter;

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(approve)).routes(routes!(reject))
}

/// Which breakpoints
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Only of this run
    #[param(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$", max_length = 64)]
    run: Option<String>,
}

/// Breakpoints that wait
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Breakpoints {
    /// The breakpoints, by run
    breakpoints: Vec<Breakpoint>,
}

/// List what waits for a person
#[utoipa::path(
    get, path = "/v1/breakpoints", operation_id = "listBreakpoints",
    tag = "breakpoints", security(("token" = ["run.read"])),
    params(Wanted),
    responses((status = 200, description = "What waits", body = Breakpoints)),
)]
async fn list(State(door): State<Door>, Query(wanted): Query<Wanted>) -> Answer<Json<Breakpoints>> {
    let run = match &wanted.run {
        Some(run) => Some(door.handle.find(read_id(run)?.as_str()).await?),
        None => None,
    };
    let mut found = Vec::new();
    for run in waiting(&door.handle, run).await? {
        // A run that cannot be read any more waits for nobody.
        let seen = door.handle.read(&run, |look| Ok(breakpoints(look))).await;
        found.extend(seen.into_iter().flatten());
    }
    Ok(Json(Breakpoints { breakpoints: found }))
}

/// The runs that wait for a person, or the one that is named if it does.
async fn waiting(handle: &Handle, run: Option<RunId>) -> Answer<BTreeSet<RunId>> {
    let any = EffectFilter { run, ..EffectFilter::default() };
    let kind = Some("breakpoint".to_owned());
    let mut runs = having(handle, EffectFilter { kind, ..any.clone() }).await?;
    // A person may be asked what became of these.
    let status = Some(EffectStatus::Uncertain);
    runs.extend(having(handle, EffectFilter { status, ..any }).await?);
    Ok(runs)
}

/// The runs that have such effects.
async fn having(handle: &Handle, filter: EffectFilter) -> Answer<BTreeSet<RunId>> {
    let (mut runs, mut place) = (BTreeSet::new(), None);
    loop {
        let filter = filter.clone();
        let page =
            index::ask(handle, move |index| index.effects(&filter, PAGE_SIZE_MAX, place.as_ref()));
        let page = page.await?;
        runs.extend(page.rows.into_iter().map(|row| row.run_id));
        if page.next.is_none() {
            return Ok(runs);
        }
        place = page.next;
    }
}

/// What an answer says besides yes or no
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Words {
    /// Words for the process
    response: Option<String>,
    /// What should change
    feedback: Option<String>,
    /// One of the options that were offered
    option: Option<String>,
    /// The start that the answer is about, where it is asked what became of an effect
    epoch: Option<u64>,
}

/// Approve
#[utoipa::path(
    post, path = "/v1/runs/{run}/breakpoints/{effect}/approve", operation_id = "approveBreakpoint",
    tag = "breakpoints",
    security(("token" = ["approval.decide"])),
    params(EffectPath),
    request_body = Option<Words>,
    responses((status = 200, description = "The answer stands", body = PostDone)),
)]
async fn approve(
    State(door): State<Door>,
    caller: Caller,
    effect: body::Effect,
    Strict(words): Strict<Words>,
) -> Answer<Json<PostDone>> {
    answer(&door, caller, effect, words, true).await
}

/// Reject
#[utoipa::path(
    post, path = "/v1/runs/{run}/breakpoints/{effect}/reject", operation_id = "rejectBreakpoint",
    tag = "breakpoints",
    security(("token" = ["approval.decide"])),
    params(EffectPath),
    request_body = Option<Words>,
    responses((status = 200, description = "The answer stands", body = PostDone)),
)]
async fn reject(
    State(door): State<Door>,
    caller: Caller,
    effect: body::Effect,
    Strict(words): Strict<Words>,
) -> Answer<Json<PostDone>> {
    answer(&door, caller, effect, words, false).await
}

async fn answer(
    door: &Door,
    caller: Caller,
    body::Effect(run, effect): body::Effect,
    words: Words,
    approved: bool,
) -> Answer<Json<PostDone>> {
    let about_effect = ask::Words {
        approved,
        option: words.option.clone(),
        response: words.response.clone(),
        feedback: words.feedback.clone(),
        epoch: words.epoch.map(Epoch),
    };
    let mut value = json!({ "approved": approved });
    for (name, given) in
        [("response", words.response), ("feedback", words.feedback), ("option", words.option)]
    {
        if let Some(text) = given {
            value[name] = json!(text);
        }
    }
    value["respondedBy"] = json!(caller.name());
    let act = move |open: &mut OpenRun| -> Result<Posted> {
        let asked = effect_of(open.look(), effect)?;
        let (kind, asks_about_it) = (asked.kind.clone(), asked.asks_a_person());
        if asks_about_it {
            return open.answer(effect, &about_effect);
        }
        if kind != "breakpoint" {
            let what = format!("effect {effect} is of kind {kind}, not a breakpoint");
            let next = format!("dormouse task post {} {effect} --status ok", open.dir.id());
            return Err(Error::Invalid(Trouble::new("not_a_breakpoint", what).next(next)));
        }
        open.post(Posting::ok(effect, Text::of(&value)))
    };
    let posted = door.handle.deed(&run, &caller.by, Flow::Outcome, act).await;
    let of_effect = |e| Problem::from(e).of_run(run.as_str()).of_effect(&effect.to_string());
    let posted = posted.map_err(of_effect)?;
    Ok(Json(PostDone::of(effect, posted)))
}
