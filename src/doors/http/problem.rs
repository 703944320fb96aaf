//! Problems: how a request fails, after RFC 9457, with the same codes as the command line.
//!
//! May not know routes. Invariant: every problem names what, why and the next step, under a code
//! that `dormouse explain` knows; a code has one status.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Door;
use super::body::drain;
use crate::services::runs::Error;

/// How long to wait before asking again, where asking again helps.
const RETRY_AFTER_S: u32 = 1;

/// What every failed request answers, as `application/problem+json`.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub(super) struct Details {
    /// `urn:dormouse:problem:<code>`
    #[serde(rename = "type")]
    kind: String,
    /// The code in words
    title: String,
    /// The HTTP status
    status: u16,
    /// Stable code; `dormouse explain CODE` says what it means
    code: String,
    /// What is wrong, and why
    detail: String,
    /// The case that a damaged journal was judged to be
    #[serde(skip_serializing_if = "Option::is_none")]
    case: Option<String>,
    /// The run
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    /// The effect
    #[serde(skip_serializing_if = "Option::is_none")]
    effect_id: Option<String>,
    /// The same request may succeed later
    retryable: bool,
    /// The first thing to do
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Everything that may help
    next: Vec<String>,
    /// What a program needs to know besides, by name: which epoch is current, who holds it
    #[serde(flatten)]
    #[schema(ignore)]
    facts: Option<Box<Map<String, Value>>>,
}

/// A failed request.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Problem(Box<Details>);

/// What a handler gives.
pub(super) type Answer<T> = Result<T, Problem>;

impl Problem {
    /// A problem of this door.
    pub(super) fn new(code: &str, status: StatusCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind: format!("urn:dormouse:problem:{code}"),
            title: code.replace('_', " "),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: detail.into(),
            case: None,
            run_id: None,
            effect_id: None,
            retryable: is_retryable(code, status),
            hint: None,
            next: Vec::new(),
            facts: None,
        }))
    }

    /// The same with one more thing to do.
    pub(super) fn next(mut self, step: impl Into<String>) -> Self {
        self.0.next.push(step.into());
        self.0.hint = self.0.next.first().cloned();
        self
    }

    /// What is wrong, why, and what may help.
    pub(super) fn details(&self) -> (&str, &[String]) {
        (&self.0.detail, &self.0.next)
    }

    /// Its code.
    pub(super) fn code(&self) -> &str {
        &self.0.code
    }

    /// A request that makes no sense.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new("bad_request", StatusCode::BAD_REQUEST, detail)
    }

    /// The same about a run, if it is not said yet.
    pub(super) fn of_run(mut self, run: &str) -> Self {
        self.0.run_id.get_or_insert_with(|| run.to_owned());
        self
    }

    /// The same about an effect.
    pub(super) fn of_effect(mut self, effect: &str) -> Self {
        self.0.effect_id.get_or_insert_with(|| effect.to_owned());
        self
    }
}

fn is_retryable(code: &str, status: StatusCode) -> bool {
    use StatusCode as Status;
    let later =
        [Status::TOO_MANY_REQUESTS, Status::SERVICE_UNAVAILABLE, Status::INSUFFICIENT_STORAGE];
    later.contains(&status) || matches!(code, "lock_busy" | "head_moved" | "body_timeout")
}

/// The status of an error, by its kind and, inside a kind, by its code.
fn status_of(error: &Error) -> StatusCode {
    let code = error.trouble().code;
    match error {
        Error::Invalid(_) => StatusCode::BAD_REQUEST,
        Error::NotFound(_) => StatusCode::NOT_FOUND,
        Error::Conflict(_) | Error::Damaged(_) => StatusCode::CONFLICT,
        Error::Bug(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Error::Storage { .. } | Error::Refused(_) => match code {
            "disk_full" => StatusCode::INSUFFICIENT_STORAGE,
            "overloaded" | "signal_backlog_max" => StatusCode::TOO_MANY_REQUESTS,
            "value_too_large" | "record_too_long" => StatusCode::PAYLOAD_TOO_LARGE,
            "forbidden" | "file_refused" | "R1" | "R3" | "R4" | "R5" => StatusCode::FORBIDDEN,
            _ if matches!(error, Error::Storage { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        },
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let trouble = error.trouble();
        let damaged = matches!(error, Error::Damaged(_));
        let code = if damaged { "run_damaged" } else { trouble.code };
        let mut problem = Self::new(code, status_of(&error), trouble.what.clone());
        problem.0.case = damaged.then(|| trouble.code.to_owned());
        problem.0.hint = trouble.next.first().cloned();
        problem.0.next.clone_from(&trouble.next);
        problem.0.facts.clone_from(&trouble.facts);
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, kind, body).into_response();
        response.extensions_mut().insert(self);
        let headers = response.headers_mut();
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The answer to a path that no route has.
pub(super) async fn no_route(State(door): State<Door>, request: Request) -> Problem {
    drain(request, &door.bounds).await;
    let detail = "no route has this path";
    Problem::new("route_not_found", StatusCode::NOT_FOUND, detail).next("GET /v1/openapi.json")
}

/// The answer to a method that a route does not take.
pub(super) async fn no_method(State(door): State<Door>, request: Request) -> Problem {
    drain(request, &door.bounds).await;
    let detail = "this path does not take this method";
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Problem::new("method_not_allowed", status, detail).next("GET /v1/openapi.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::runs::trouble::Trouble;

    #[test]
    fn the_status_says_what_the_caller_can_do() {
        let t = |code| Trouble::new(code, "why").next("do");
        let storage = |code, unknown| Error::Storage { trouble: t(code), unknown };
        for (error, status, retryable) in [
            (Error::Invalid(t("run_ambiguous")), 400, false),
            (Error::NotFound(t("run_not_found")), 404, false),
            (Error::Conflict(t("stale_lease")), 409, false),
            (Error::Conflict(t("lock_busy")), 409, true),
            (Error::Refused(t("value_invalid")), 422, false),
            (Error::Refused(t("R5")), 403, false),
            (Error::Refused(t("value_too_large")), 413, false),
            (Error::Refused(t("overloaded")), 429, true),
            (storage("overloaded", false), 429, true),
            (storage("disk_full", false), 507, true),
            (storage("unknown_outcome", true), 503, true),
            (storage("not_written", false), 503, true),
            (Error::Bug(t("bug")), 500, false),
        ] {
            let code = error.trouble().code;
            let Details { status: s, retryable: r, hint, .. } = *Problem::from(error).0;
            assert_eq!((s, r, hint.as_deref()), (status, retryable, Some("do")), "{code}");
        }
    }

    /// What keeps an effect from somebody is a conflict; a value that it does not take is not.
    #[test]
    fn refusals_about_an_effect_are_conflicts_but_for_its_value() {
        use crate::ground::id::{EffectId, Epoch, Seq};
        use crate::machines::effect::refusal::{Hold, Refusal};
        let (id, kind, seq) = (EffectId::new(1), "http".to_owned(), Seq(2));
        let (given, current, epoch) = (Epoch(1), Epoch(2), Epoch(1));
        let status = "ok";
        for (refusal, status, code) in [
            (Refusal::StaleLease { id, given, current }, 409, "stale_lease"),
            (Refusal::UnknownEpoch { id, given, current }, 409, "unknown_epoch"),
            (Refusal::AttemptClosed { id, epoch }, 409, "attempt_closed"),
            (Refusal::AlreadyPosted { id, epoch, seq }, 409, "already_posted"),
            (Refusal::Ended { id, status, seq }, 409, "effect_ended"),
            (Refusal::Leased { id, worker: "w".into(), epoch }, 409, "leased"),
            (Refusal::Held { id, by: Hold::Pause, until: None }, 409, "held"),
            (Refusal::Uncertain { id, epoch }, 409, "effect_uncertain"),
            (Refusal::NotClaimable { id, kind: kind.clone() }, 409, "not_claimable"),
            (Refusal::NotPostable { id, kind, instead: "wait" }, 409, "not_postable"),
            (Refusal::WrongState { id, status, why: "no" }, 409, "wrong_state"),
            (Refusal::RunEnded("completed"), 409, "run_ended"),
            (Refusal::ValueInvalid { id, why: Vec::new() }, 422, "value_invalid"),
            (Refusal::UnknownEffect(id), 404, "effect_not_found"),
        ] {
            let Details { status: found, code: named, .. } = *Problem::from(Error::from(refusal)).0;
            assert_eq!((found, named.as_str()), (status, code));
        }
    }

    #[test]
    fn damage_has_one_code_and_keeps_its_case() {
        let problem = Problem::from(Error::Damaged(Trouble::new("J20", "rot")));
        assert_eq!(problem.0.code, "run_damaged");
        assert_eq!(problem.0.case.as_deref(), Some("J20"));
        assert_eq!(problem.0.status, 409);
    }
}
