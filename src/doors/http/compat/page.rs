//! `/api/jobs/{run}/trace/page`: what a job did, for people.
//!
//! May not hold a script. Invariant: whatever comes from a run is escaped, and the page loads
//! nothing from anywhere.

mod html;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;

use super::super::Door;
use super::super::auth::{Caller, Scope};
use super::super::body::{Query, Run};
use super::super::events::names;
use super::super::problem::Answer;
use super::Inside;
use super::job::Job;
use super::trace::{self, Invocation, Trace, Wanted};
use crate::codecs::json::Json as Text;
use crate::ground::clock::Timestamp;
use crate::ground::digest::{Digest, hex};
use crate::ground::id::{EffectId, RunId};
use crate::machines::effect::Wait;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::services::runs::view::Look;

/// Where the page of a job is.
pub(super) fn place_of(run: &RunId) -> String {
    format!("/api/jobs/{run}/trace/page")
}

/// Something that whoever reads the page may answer.
struct Ask {
    effect: EffectId,
    /// Yes or no, with words; otherwise words alone.
    is_decision: bool,
    title: String,
    shown: Option<Text>,
    /// What the form is known by.
    token: String,
}

/// Everything that the page shows.
struct Page {
    job: Job,
    trace: Trace,
    asks: Vec<Ask>,
    now: Timestamp,
}

/// Whether somebody may answer an effect on the page.
pub(super) fn may_answer(caller: &Caller, effect: &Effect) -> bool {
    let is_asked = effect.status == EffectStatus::Requested;
    is_asked
        && match effect.wait {
            Wait::Breakpoint(_) => caller.may(Scope::Decide),
            Wait::Signal(_) => caller.may(Scope::Write),
            // One that failed before is with whoever executes it.
            Wait::Outside => caller.may(Scope::Work) && effect.attempts == 0,
            _ => false,
        }
}

impl Inside {
    /// What the form for an effect is known by: no other page can know it.
    pub(super) fn form_token(&self, run: &RunId, effect: EffectId) -> String {
        let key = hex(&self.form_key);
        Digest::of(format!("answer/{key}/{run}/{effect}").as_bytes()).hex()
    }

    fn asks(&self, look: &Look<'_>, caller: &Caller) -> Vec<Ask> {
        let open = look.state.open_effects().filter(|effect| may_answer(caller, effect));
        open.map(|effect| Ask {
            effect: effect.id,
            is_decision: matches!(effect.wait, Wait::Breakpoint(_)),
            title: trace::name(effect),
            shown: Invocation::of(*look, effect).input,
            token: self.form_token(&look.state.run_id, effect.id),
        })
        .collect()
    }
}

/// Shows what a job did: as a page to browsers, as JSON to others.
pub(super) async fn show(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer<Response> {
    if !names(&headers, "text/html") {
        let read = trace::read(&door, &run, wanted, |_, trace| Ok(trace)).await?;
        return Ok(Json(json!({
            "job_id": read.job_id, "goal": read.goal, "status": read.status,
            "steps": read.steps, "next_cursor": read.next_cursor,
        }))
        .into_response());
    }
    let (inside, now) = (door.clone(), door.handle.runs().clock.now());
    let page = trace::read(&door, &run, wanted, move |look, trace| {
        let asks = inside.compat.asks(&look, &caller);
        Ok(Page { job: Job::of(look, now)?, trace, asks, now })
    });
    let page = page.await?;
    let nonce = hex(&door.handle.runs().disk.random());
    Ok(with_headers(Html(page.html(&nonce)).into_response(), &nonce))
}

/// What browsers are told about the page. Its referrer stays, for their `Origin` would go with it.
fn with_headers(mut response: Response, nonce: &str) -> Response {
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
