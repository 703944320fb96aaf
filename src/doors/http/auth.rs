//! Who asks, and what they may do.
//!
//! May not know routes. Invariant: a caller exists only after the guard let the request in.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use crate::ground::id::Epoch;

/// A right. Tokens hold some of them; who comes over the Unix socket holds all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Look at runs.
    #[serde(rename = "run.read")]
    Read,
    /// Create, steer and signal runs.
    #[serde(rename = "run.write")]
    Write,
    /// Post what became of tasks.
    #[serde(rename = "task.work")]
    Work,
    /// Decide what nobody else may: halt, recover, other code.
    #[serde(rename = "run.operate")]
    Operate,
    /// Answer breakpoints.
    #[serde(rename = "approval.decide")]
    Decide,
}

impl Scope {
    /// All rights.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Work, Self::Operate, Self::Decide];

    /// The right as it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "run.read",
            Self::Write => "run.write",
            Self::Work => "task.work",
            Self::Operate => "run.operate",
            Self::Decide => "approval.decide",
        }
    }

    /// The right of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// As it will stand in journals: `operator:<name>` or `client:<token name>`.
    pub(super) by: String,
    /// What they may do.
    pub(super) scopes: Vec<Scope>,
    /// The one attempt that they may speak for, if they came with its token.
    pub(super) attempt: Option<Epoch>,
}

impl Caller {
    /// Whether they have a right.
    pub(super) fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// The attempt that a request is about. Whoever came with the token of one may name no other,
    /// and need not name theirs.
    pub(super) fn attempt(&self, named: Option<u64>) -> Result<Option<Epoch>, Problem> {
        let named = named.map(Epoch);
        match (self.attempt, named) {
            (Some(own), Some(other)) if own != other => {
                let what = format!("the task token is for epoch {own}, not {other}");
                Err(Problem::new("forbidden", StatusCode::FORBIDDEN, what))
            }
            (own, named) => Ok(named.or(own)),
        }
    }

    /// Their name alone.
    pub(super) fn name(&self) -> &str {
        self.by.split_once(':').map_or(self.by.as_str(), |(_, name)| name)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Problem::new("bug", status, "a request came in past the guard")
        })
    }
}
