//! What verbs do for whoever does tasks: claiming, signs of life, giving back, deciding.
//!
//! May not print. Invariant: as with other deeds, the answer is the same with a daemon and without;
//! what lives in a daemon's memory alone needs one.

use serde::Serialize;
use serde_json::{Value, json};

use super::context::Context;
use super::deeds::{path, value};
use super::failure::Failure;
use crate::codecs::event::ErrorInfo;
use crate::codecs::json::Json;
use crate::doors::ledger::{Ledger, Row, Wanted};
use crate::doors::work::{Decided, Stands, TaskGiven};
use crate::ground::id::{EffectId, Epoch};
use crate::machines::effect::attempt::Report;
use crate::machines::effect::claim::Claim;
use crate::machines::effect::decide::{Choice, Decision};
use crate::services::runs::Error;

/// `POST /v1/tasks/claim`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Claiming<'a> {
    pub(super) worker: &'a str,
    pub(super) kinds: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) agents: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) offers: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signatures: Option<&'a Json>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) runs: &'a [String],
    pub(super) max: usize,
    pub(super) wait_ms: u64,
    pub(super) ttl_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claim_id: Option<&'a str>,
}

impl Context {
    /// Gets something to do.
    pub(super) fn claim_any(&self, asked: &Claiming<'_>) -> Result<Value, Failure> {
        let client = self.daemon()?;
        let mut claimed = client.post("/v1/tasks/claim", asked)?;
        for task in claimed["tasks"].as_array_mut().into_iter().flatten() {
            if let Some(link) = args_link(task) {
                put_args(task, client.get(&link)?);
            }
        }
        Ok(claimed)
    }

    /// Starts one certain effect.
    pub(super) fn claim_one(
        &self,
        run: &str,
        effect: EffectId,
        claim: &Claim,
    ) -> Result<Value, Failure> {
        let direct = || Ok(value(&TaskGiven::from(self.runs.give(run, effect, claim)?)));
        let mut body = json!({ "worker": claim.worker, "ttlMs": claim.ttl_ms });
        if let Some(id) = &claim.claim_id {
            body["claimId"] = json!(id);
        }
        self.deed(run, direct, |client, run| {
            let mut task = client.post(&path(run, &format!("tasks/{effect}/claim")), &body)?;
            if let Some(link) = args_link(&task) {
                put_args(&mut task, client.get(&link)?);
            }
            Ok(task)
        })
    }

    /// Says that an effect is being worked on.
    pub(super) fn heartbeat(
        &self,
        run: &str,
        effect: EffectId,
        body: &Value,
    ) -> Result<Value, Failure> {
        let target = self.target(run)?;
        self.daemon()?.post(&path(&target.id, &format!("tasks/{effect}/heartbeat")), body)
    }

    /// Gives an effect back.
    pub(super) fn release(
        &self,
        run: &str,
        effect: EffectId,
        epoch: u64,
        began: bool,
        reason: Option<&str>,
    ) -> Result<Value, Failure> {
        let direct = || {
            let report = Report::Released { began, reason: reason.map(str::to_owned) };
            let state = self.runs.end_attempt(run, effect, Epoch(epoch), &report)?;
            Ok(value(&Stands::of(effect, state)))
        };
        let mut body = json!({ "epoch": epoch, "began": began });
        if let Some(reason) = reason {
            body["reason"] = json!(reason);
        }
        self.deed(run, direct, |client, run| {
            client.post(&path(run, &format!("tasks/{effect}/release")), &body)
        })
    }

    /// Decides what became of an effect.
    pub(super) fn decide(
        &self,
        run: &str,
        effect: EffectId,
        decision: &Decision,
    ) -> Result<Value, Failure> {
        let direct = || {
            let done = self.runs.decide(run, effect, decision)?;
            Ok(value(&Decided::of(effect, &done)))
        };
        let body = Deciding::of(decision);
        self.deed(run, direct, |client, run| {
            client.post(&path(run, &format!("tasks/{effect}/decide")), &body)
        })
    }

    /// Has the outside asked what became of an effect: a daemon does that.
    pub(super) fn probe(
        &self,
        run: &str,
        effect: EffectId,
        epoch: u64,
        reason: &str,
    ) -> Result<Value, Failure> {
        let target = self.target(run)?;
        let body = json!({ "decision": "probe", "epoch": epoch, "reason": reason });
        self.daemon()?.post(&path(&target.id, &format!("tasks/{effect}/decide")), &body)
    }

    /// Lets an effect be tried again at once.
    pub(super) fn retry_now(&self, run: &str, effect: EffectId) -> Result<Value, Failure> {
        let target = self.target(run)?;
        let path = path(&target.id, &format!("tasks/{effect}/retry-now"));
        self.daemon()?.post(&path, &json!({}))
    }

    /// Rows of the ledger, of one run or of all. What is looked at is read where it stands, with a
    /// daemon as without one.
    pub(super) fn ledger(&self, run: Option<&str>, wanted: &Wanted) -> Result<Value, Failure> {
        let runs = if let Some(run) = run {
            vec![run.to_owned()]
        } else {
            let ids = self.runs.view_root()?.run_ids().map_err(Error::from)?;
            ids.iter().map(ToString::to_string).collect()
        };
        let mut rows = Vec::new();
        for id in runs {
            match self.runs.look(&id) {
                Ok(seen) => rows.extend(wanted.rows(seen.look())),
                // A run that cannot be read hides no other.
                Err(_) if run.is_none() => {}
                Err(e) => return Err(e.into()),
            }
        }
        rows.sort_by_key(Row::place);
        Ok(value(&Ledger { rows, next_page_token: None }))
    }
}

/// Where the arguments of a task are that were too long for a claim's answer.
pub(super) fn args_link(task: &Value) -> Option<String> {
    task["argsLink"].as_str().map(str::to_owned)
}

/// Puts them where short ones stand.
pub(super) fn put_args(task: &mut Value, args: Value) {
    task["args"] = args;
    if let Some(members) = task.as_object_mut() {
        members.remove("argsLink");
    }
}

/// `POST …/decide`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Deciding<'a> {
    decision: &'static str,
    epoch: u64,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ErrorInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<&'a Json>,
    force: bool,
}

impl<'a> Deciding<'a> {
    fn of(decision: &'a Decision) -> Self {
        let (word, value, error) = match &decision.what {
            Choice::Retry => ("retry", None, None),
            Choice::Done(value) => ("done", Some(value), None),
            Choice::Failed(error) => ("failed", None, Some(error)),
        };
        Self {
            decision: word,
            epoch: decision.epoch.0,
            reason: &decision.reason,
            value,
            error,
            evidence: decision.evidence.as_ref(),
            force: decision.force,
        }
    }
}
