//! `POST /api/jobs/{run}/answer`: what somebody wrote on the page of a job.
//!
//! May not be reached from another page. Invariant: a form is taken only with the token that this
//! daemon put into it for this effect.

use std::str::FromStr;
use std::time::Duration;

use axum::Form;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::json;

use super::super::Door;
use super::super::auth::Caller;
use super::super::body::Run;
use super::super::problem::{Answer, Problem};
use super::page::{may_answer, place_of};
use super::signal::{Given, give};
use crate::codecs::json::{Json as Text, Surrogates, gate};
use crate::ground::id::EffectId;
use crate::ground::limits::JSON_DEPTH_MAX;
use crate::machines::effect::Wait;
use crate::services::manager::Flow;
use crate::services::runs::open::OpenRun;
use crate::services::runs::post::Posting;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result};

/// A form that was filled in.
#[derive(Debug, Deserialize)]
struct Filled {
    effect: String,
    token: String,
    action: String,
    #[serde(default)]
    response: String,
}

/// What the effect of a form waits for.
enum Waits {
    Decision,
    Signal,
    Task,
}

/// Takes a form, and leads back to the page.
pub(super) async fn answer(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    request: Request,
) -> Answer<Response> {
    let wait = Duration::from_millis(door.bounds.body_wait_ms);
    let form = tokio::time::timeout(wait, Form::<Filled>::from_request(request, &())).await;
    let late =
        |_| Problem::new("body_timeout", StatusCode::REQUEST_TIMEOUT, "the form did not come");
    let form = form.map_err(late)?;
    let Form(filled) = form.map_err(|e| Problem::bad_request(e.body_text()))?;
    let effect = EffectId::from_str(&filled.effect);
    let effect = effect.map_err(|e| Problem::bad_request(e.to_string()))?;
    if filled.token != door.compat.form_token(&run, effect) {
        let what = "the form is not one of this daemon, or of an earlier one";
        return Err(Problem::new("form_refused", StatusCode::FORBIDDEN, what)
            .next(format!("open {} again", place_of(&run))));
    }
    let asker = caller.clone();
    let look = door.handle.read(&run, move |look| {
        let found = look.state.effect(effect).filter(|effect| may_answer(&asker, effect));
        let found = found.ok_or_else(|| {
            let what = format!("{effect} waits for no answer any more");
            Error::Invalid(Trouble::new("not_waiting", what))
        })?;
        Ok(match found.wait {
            Wait::Breakpoint(_) => Waits::Decision,
            Wait::Signal(_) => Waits::Signal,
            _ => Waits::Task,
        })
    });
    let of_run = |e| Problem::from(e).of_run(run.as_str());
    let words = filled.response.trim();
    let payload = match look.await.map_err(of_run)? {
        Waits::Task => {
            let value = Text::of(&json!({ "answer": words }));
            let act = move |open: &mut OpenRun| -> Result<()> {
                open.post(Posting::ok(effect, value)).map(|_| ())
            };
            door.handle.deed(&run, &caller.by, Flow::Outcome, act).await.map_err(of_run)?;
            return Ok(Redirect::to(&place_of(&run)).into_response());
        }
        Waits::Signal => json_or_text(words),
        Waits::Decision => match filled.action.as_str() {
            "approve" => Text::of(&json!({ "approved": true, "response": words })),
            "reject" => Text::of(&json!({ "approved": false, "response": words })),
            _ => return Err(Problem::bad_request("action is approve or reject")),
        },
    };
    let name = caller.name().to_owned();
    let given = Given { key: Some(effect.to_string()), payload, signal_id: None, name };
    give(&door, &caller, &run, given).await?;
    Ok(Redirect::to(&place_of(&run)).into_response())
}

/// JSON if it is some, else the text itself.
fn json_or_text(words: &str) -> Text {
    let read = gate(words.as_bytes(), JSON_DEPTH_MAX, Surrogates::Paired);
    read.unwrap_or_else(|_| Text::of(words))
}
