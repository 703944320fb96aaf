//! What verbs do to runs: each deed once for the files, once for a daemon, with one answer.
//!
//! May not print. Invariant: the answer and the failure of a deed are the same on both ways.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::context::Context;
use super::failure::Failure;
use super::output;
use super::requests::{
    Accepting, Assigning, Creating, Patching, Posting, Recovering, Repairing, Signalling,
};
use crate::codecs::format::signature::{PublicKey, SecretKey};
use crate::codecs::json::Json;
use crate::doors::answers::{
    AcceptDone, AssignDone, Created, Did, GivenUp, HaltDone, PostDone, Rebuilt, RepairDone,
    UndoDone,
};
use crate::doors::retention::{ArchiveDone, DeleteDone, GcDone, ImportDone};
use crate::ground::id::EffectId;
use crate::services::manager::Made;
use crate::services::repair::Order;
use crate::services::retention::Policy;
use crate::services::runs::accept::{OnChange, OnRemoved, Plan};
use crate::services::runs::create::{NewRun, Source};
use crate::services::runs::delete::Deletion;
use crate::services::runs::steer::{Done, FinalStatus, Signal};
use crate::services::runs::{self, post};

impl Context {
    /// Creates a run.
    pub(super) fn create(&self, new: &NewRun) -> Result<Value, Failure> {
        let direct = || {
            let created = self.runs.create(new)?;
            Ok(value(&Created::from(Made {
                run_id: created.dir.id().clone(),
                path: created.dir.path().to_owned(),
                process: created.process,
                existed: created.existed,
                warnings: created.warnings,
            })))
        };
        self.root_deed(direct, |client| client.post("/v1/runs", &Creating::of(new)))
    }

    /// Gives a run its process.
    pub(super) fn assign(
        &self,
        run: &str,
        source: &Source,
        inputs: Option<&Json>,
        force: bool,
        reason: Option<&str>,
    ) -> Result<Value, Failure> {
        let direct = || {
            let (inputs, why) = (inputs.cloned(), reason.map(str::to_owned));
            let (dir, process, previous) = self.runs.assign(run, source, inputs, force, why)?;
            Ok(value(&AssignDone {
                run_id: dir.id().clone(),
                run_dir: dir.path().display().to_string(),
                entry: source.entry.path.display().to_string(),
                process_id: process.process_id,
                previous_entrypoint: previous.map(Into::into),
                assigned: true,
                digest: process.digest,
            }))
        };
        let body = Assigning::of(source, inputs, force, reason);
        self.deed(run, direct, |client, run| client.post(&path(run, "assign-process"), &body))
    }

    /// Takes other code over, as it was planned.
    pub(super) fn accept(
        &self,
        run: &str,
        source: &Source,
        plan: Plan,
        on_change: OnChange,
        on_removed: Option<OnRemoved>,
        reason: Option<&str>,
    ) -> Result<Value, Failure> {
        let direct = || {
            let done = self.runs.accept(run, source, &plan, reason.map(str::to_owned))?;
            Ok(value(&AcceptDone::of(plan, Some(done))))
        };
        let body = Accepting::of(source, on_change, on_removed, reason);
        self.deed(run, direct, |client, run| client.post(&path(run, "accept"), &body))
    }

    /// Asks a run to stop.
    pub(super) fn cancel(
        &self,
        run: &str,
        reason: Option<&str>,
        now: bool,
    ) -> Result<Value, Failure> {
        let direct = || self.runs.cancel(run, reason.map(str::to_owned), now);
        self.steer(
            run,
            ("cancelling", "cancel"),
            &with_reason(json!({ "now": now }), reason),
            direct,
        )
    }

    /// Ends a run from outside.
    pub(super) fn halt(&self, run: &str, reason: &str, as_: FinalStatus) -> Result<Value, Failure> {
        let final_status = if as_ == FinalStatus::Failed { "failed" } else { "completed" };
        let direct = || {
            let done = self.runs.halt(run, reason, as_)?;
            let seen = self.runs.look(run)?;
            let ended = seen.record(done.seq);
            Ok(value(&HaltDone {
                run_dir: seen.dir.path().display().to_string(),
                halted: true,
                final_status,
                reason: reason.to_owned(),
                completion_proof: None,
                already_terminal: ended.filter(|_| done.repeat).map(|r| r.event.name()),
                event: ended.map(|r| (&**r).into()),
            }))
        };
        let body = json!({ "reason": reason, "finalStatus": final_status });
        self.deed(run, direct, |client, run| client.post(&path(run, "halt"), &body))
    }

    /// Keeps a run from going on.
    pub(super) fn pause(&self, run: &str) -> Result<Value, Failure> {
        self.steer(run, ("paused", "pause"), &json!({}), || self.runs.pause(run))
    }

    /// Lets a paused or held run go on.
    pub(super) fn resume(&self, run: &str, reason: Option<&str>) -> Result<Value, Failure> {
        let direct = || self.runs.resume(run, reason.map(str::to_owned));
        self.steer(run, ("resumed", "resume"), &with_reason(json!({}), reason), direct)
    }

    /// Lets a run go on that an error of its process holds.
    pub(super) fn recover(
        &self,
        run: &str,
        patch: Option<&(EffectId, String, Json)>,
        reason: Option<&str>,
    ) -> Result<Value, Failure> {
        let direct = || self.runs.recover(run, patch.cloned(), reason.map(str::to_owned));
        let patch = patch.map(|(id, path, value)| Patching { effect_id: *id, path, value });
        self.steer(run, ("recovered", "recover"), &Recovering { patch, reason }, direct)
    }

    /// Sends a signal.
    pub(super) fn signal(&self, run: &str, signal: &Signal) -> Result<Value, Failure> {
        let direct = || self.runs.signal(run, signal.clone());
        self.steer(run, ("signalled", "signals"), &Signalling::of(signal), direct)
    }

    /// Posts the outcome of an effect.
    pub(super) fn post(&self, run: &str, posting: &post::Posting) -> Result<Value, Failure> {
        let effect = posting.effect;
        let direct = || {
            let posted = self.runs.post(run, posting.clone())?;
            Ok(value(&PostDone::of(effect, posted)))
        };
        let asked = |client: &super::remote::Client, run: &str| {
            let body = Posting::of(posting)?;
            client.post(&path(run, &format!("tasks/{effect}/result")), &body)
        };
        self.deed(run, direct, asked)
    }

    /// Gives up an effect.
    pub(super) fn cancel_effect(
        &self,
        run: &str,
        effect: EffectId,
        reason: Option<&str>,
        abandon: bool,
    ) -> Result<Value, Failure> {
        let direct = || {
            let reason = reason.map(str::to_owned);
            let seq = self.runs.cancel_effect(run, effect, reason, abandon)?;
            Ok(value(&GivenUp::of(effect, seq)))
        };
        let abandon = if abandon { json!({ "abandon": true }) } else { json!({}) };
        let body = with_reason(abandon, reason);
        self.deed(run, direct, |client, run| {
            client.post(&path(run, &format!("tasks/{effect}/cancel")), &body)
        })
    }

    /// Says why a run does not go on.
    pub(super) fn why(&self, run: &str) -> Result<Value, Failure> {
        self.view(
            run,
            || Ok(value(&self.runs.why(run)?)),
            |client, run| client.get(&path(run, "why")),
        )
    }

    /// Shows a run of a workflow document, task run by task run.
    pub(super) fn snapshot(&self, run: &str) -> Result<Value, Failure> {
        self.view(
            run,
            || Ok(self.runs.snapshot(&self.runs.look(run)?)?),
            |client, run| client.get(&path(run, "snapshot")),
        )
    }

    /// Says what was done, what is open, and what of that is safe for `worker`.
    pub(super) fn brief(&self, run: &str, worker: Option<&str>) -> Result<Value, Failure> {
        let query = worker.map_or(String::new(), |worker| format!("?worker={}", encoded(worker)));
        self.view(
            run,
            || Ok(value(&self.runs.brief(run, worker)?)),
            |client, run| client.get(&path(run, &format!("brief{query}"))),
        )
    }

    /// Makes everything derived anew.
    pub(super) fn rebuild_state(&self, run: &str) -> Result<Value, Failure> {
        let direct = || Ok(value(&Rebuilt::of(self.runs.rebuild_state(run)?.look())));
        self.deed(run, direct, |client, run| client.post(&path(run, "rebuild-state"), &json!({})))
    }

    /// Mends a run.
    pub(super) fn repair(&self, run: &str, order: &Order) -> Result<Value, Failure> {
        let direct = || Ok(value(&RepairDone::from(self.runs.repair(run, order)?)));
        let body = Repairing::of(order);
        self.deed(run, direct, |client, run| client.post(&path(run, "repair"), &body))
    }

    /// Takes the latest repair of a run back.
    pub(super) fn undo_repair(&self, run: &str) -> Result<Value, Failure> {
        let direct = || Ok(value(&UndoDone::from(self.runs.undo_repair(run)?)));
        self.deed(run, direct, |client, run| client.post(&path(run, "repair/undo"), &json!({})))
    }

    /// Deletes a run.
    pub(super) fn delete(&self, run: &str, force: bool, dry_run: bool) -> Result<Value, Failure> {
        let keys_kept_ms = self.config.ledger_key_ttl_ms;
        let direct = || {
            let done =
                self.runs.delete(&self.runs, run, Deletion { force, keys_kept_ms, dry_run })?;
            Ok(value(&DeleteDone::of(&done, !dry_run)))
        };
        let body = json!({ "force": force, "dryRun": dry_run });
        self.deed(run, direct, |client, run| client.post(&path(run, "delete"), &body))
    }

    /// Archives a run. The key that signs stays with the command.
    pub(super) fn archive(&self, run: &str, key: Option<&SecretKey>) -> Result<Value, Failure> {
        if key.is_some() {
            self.needs_no_daemon(run)?;
        }
        let direct = || {
            let kept_ms = self.config.ledger_key_ttl_ms;
            Ok(value(&ArchiveDone::from(self.runs.archive(&self.runs, run, kept_ms, key)?)))
        };
        self.deed(run, direct, |client, run| client.post(&path(run, "archive"), &json!({})))
    }

    /// Brings an archived run back.
    pub(super) fn unarchive(&self, run: &str) -> Result<Value, Failure> {
        let direct = || Ok(value(&ImportDone::of(self.runs.unarchive(&self.runs, run)?, None)));
        let path = format!("/v1/archives/{}/unarchive", encoded(run));
        self.root_deed(direct, |client| client.post(&path, &json!({})))
    }

    /// Makes a run of an export.
    pub(super) fn import(&self, file: &Path, key: Option<PublicKey>) -> Result<Value, Failure> {
        let direct = || {
            let (done, signer) = self.runs.import_file(&self.runs, file, key)?;
            Ok(value(&ImportDone::of(done, signer)))
        };
        let body = json!({ "file": file, "key": key.map(|key| key.to_string()) });
        self.root_deed(direct, |client| client.post("/v1/import", &body))
    }

    /// Lets ended runs go.
    pub(super) fn gc(&self, policy: &Policy, dry_run: bool) -> Result<Value, Failure> {
        let direct =
            || Ok(value(&GcDone(self.runs.gc(&self.runs, policy, dry_run, &output::progress)?)));
        let status: Vec<&str> = policy.ends.iter().map(|end| end.name()).collect();
        let body = json!({
            "olderThanMs": policy.older_than_ms, "status": status, "keep": policy.keep,
            "archive": policy.archive, "leftOverMs": policy.left_over_ms,
            "setAsideMs": policy.set_aside_ms, "dryRun": dry_run,
        });
        self.root_deed(direct, |client| client.post("/v1/gc", &body))
    }

    /// A deed that appends one record.
    fn steer(
        &self,
        run: &str,
        (word, verb): (&'static str, &str),
        body: &impl Serialize,
        direct: impl FnOnce() -> runs::Result<Done>,
    ) -> Result<Value, Failure> {
        let direct = || {
            let done = direct()?;
            Ok(value(&Did::of(self.runs.find(run)?.id(), word, &done)))
        };
        self.deed(run, direct, |client, run| client.post(&path(run, verb), body))
    }
}

/// The path of a run's deed.
pub(super) fn path(run: &str, verb: &str) -> String {
    format!("/v1/runs/{run}/{verb}")
}

/// A text as the value of a query.
pub(super) fn encoded(text: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let encode = |byte: u8| match byte {
        byte if is_plain(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().flat_map(|byte| encode(byte).into_bytes()).map(char::from).collect()
}

fn with_reason(mut body: Value, reason: Option<&str>) -> Value {
    if let Some(reason) = reason {
        body["reason"] = json!(reason);
    }
    body
}

/// An answer as it is printed.
pub(super) fn value(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).unwrap_or_default()
}
