//! `/api`: messages to agents and jobs, for clients of another runtime (docs/compat.md).
//!
//! A job is a run. Its words live in this folder alone. May not decide anything about a run.
//! Invariant: what is said of a job follows from the journal of its run and the time.

mod agents;
mod answer;
mod entry;
pub(super) mod errors;
mod events;
mod health;
mod job;
mod lists;
mod observe;
mod page;
mod proof;
pub(super) mod rules;
mod signal;
mod standing;
mod steer;
mod submit;
mod trace;
mod waits;

use std::net::TcpListener;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use super::Door;
use crate::ground::limits::COMPAT_FORM_BYTES_MAX;
use crate::services::executor::agents::book::Book;
use crate::services::manager::Handle;

/// What messages to agents need.
pub struct Options {
    /// The agents.
    pub agents: Arc<Book>,
    /// Who gets the messages for `default` while no agent of that name is listed.
    pub default_agent: Option<String>,
    /// One more TCP listener, and whether messages need no token there.
    pub place: Option<(TcpListener, bool)>,
}

impl Options {
    /// No agents are listed.
    pub(super) fn without_agents(handle: &Handle) -> Self {
        let agents = Arc::new(Book::new(Arc::clone(&handle.runs().disk), None));
        Self { agents, default_agent: None, place: None }
    }

    /// What routes need, and where to listen besides.
    pub(super) fn split(self, handle: &Handle) -> (Inside, Option<(TcpListener, bool)>) {
        let form_key = handle.runs().disk.random();
        let Self { agents, default_agent, place } = self;
        (Inside { agents, default_agent, form_key }, place)
    }
}

/// What routes about messages need.
pub(super) struct Inside {
    pub(super) agents: Arc<Book>,
    default_agent: Option<String>,
    /// What the forms of this door are known by.
    form_key: [u8; 16],
}

pub(super) fn routes() -> Router<Door> {
    let one = |verb: &str| format!("/api/jobs/{{run}}/{verb}");
    Router::new()
        .route("/api/health", get(health::show))
        .route("/api/agents", get(agents::list))
        .route("/api/agents/{agent}/message", post(submit::submit))
        .route("/agents/{agent}/message", post(submit::submit))
        .route("/api/agents/{agent}/jobs", get(lists::list))
        .route("/api/agents/{agent}/jobs/{run}", get(lists::one))
        .route("/api/agents/{agent}/state", get(lists::state))
        .route("/api/jobs/{run}", get(job::show))
        .route(&one("trace"), get(trace::show))
        .route(&one("trace/page"), get(page::show))
        .route(
            &one("answer"),
            post(answer::answer).layer(DefaultBodyLimit::max(COMPAT_FORM_BYTES_MAX)),
        )
        .route(&one("events"), get(events::list))
        .route(&one("stop"), post(steer::stop))
        .route(&one("pause"), post(steer::pause))
        .route(&one("resume"), post(steer::resume))
        .route(&one("signal"), post(signal::signal))
        .route(&one("message"), post(signal::message))
        .route(&one("replay"), get(proof::replay))
        .route(&one("verify"), get(proof::verify))
        .route("/api/observability/summary", get(observe::summary))
        .route("/api/observability/stuck", get(observe::stuck))
        .route("/api/system/status", get(observe::status))
        .route("/api/system/workers", get(observe::workers))
}
