//! The executor that answers with what it was given: for measuring everything but the work.
//!
//! May not touch the outside. Invariant: it never fails.

use serde_json::Value;

use crate::codecs::json::Json;

use super::{Attempt, Bar, Executor, Outcome, Stop, Working};

/// Answers effects of one kind with their arguments.
pub struct Echo {
    kind: String,
}

impl Echo {
    /// For effects of `kind`.
    #[must_use]
    pub const fn new(kind: String) -> Self {
        Self { kind }
    }
}

impl Executor for Echo {
    fn kind(&self) -> &str {
        &self.kind
    }

    fn may_run(&self, _definition: &Value, _cwd: Option<&str>) -> Result<(), Bar> {
        Ok(())
    }

    fn run(&self, attempt: Attempt, _stop: Stop) -> Working {
        let value = attempt.args.unwrap_or(Value::Null);
        Box::pin(async move { Outcome::ok(Json::of(&value)) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_kind_has_one_executor() {
        let echoes = ["a", "b", "a"].map(|kind| Arc::new(Echo::new(kind.to_owned())) as Arc<_>);
        let registry = Registry::of(echoes.to_vec());
        assert_eq!(registry.get("a").map(|found| found.kind()), Some("a"));
        assert!(registry.get("c").is_none() && !registry.is_empty());
    }
}
