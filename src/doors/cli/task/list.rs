//! `task list`: the effects of a run, or what all open runs wait for.
//!
//! May not lock or write. Invariant: a run that does not exist is an error, not an empty list.

use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::ground::clock::Timestamp;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::services::runs::Error;
use crate::services::runs::view::{self, Look};

/// List the effects of a run. Without RUN, what all open runs wait for.
///
/// Example:
///   dormouse task list RUN --pending
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the run, a unique beginning of it, or the path of its directory
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// The same
    #[arg(long = "run", value_name = "RUN", conflicts_with = "run")]
    of: Option<String>,
    /// Only effects without an outcome
    #[arg(long)]
    pending: bool,
    /// Only effects of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only effects that stand there: requested, started, uncertain, ok, error, cancelled
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<EffectStatus>,
    /// Only effects that this worker started last
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
    /// Only effects whose time has passed, or, as a daemon knows, whose lease was not renewed
    #[arg(long)]
    overdue: bool,
    /// Exit with 1 if there are none
    #[arg(long)]
    fail_empty: bool,
}

fn state(text: &str) -> Result<EffectStatus, String> {
    EffectStatus::named(text).ok_or_else(|| "there is no such state".to_owned())
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let run = args.run.as_ref().or(args.of.as_ref());
    let tasks = match run {
        Some(run) if !args.overdue => {
            let seen = context.runs.look(run)?;
            args.of_run(seen.look(), context.runs.clock.now())
        }
        _ => args.of_all(run, context)?,
    };
    if context.json {
        output::json(&json!({ "tasks": tasks }));
    } else {
        print(&tasks, run.is_none());
    }
    Ok(if tasks.is_empty() && args.fail_empty { Exit::No } else { Exit::Done })
}

impl Args {
    fn fits(&self, effect: &Effect, now: Timestamp) -> bool {
        (!self.pending || effect.status.is_open())
            && self.kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case(&effect.kind))
            && self.state.is_none_or(|state| state == effect.status)
            && (self.worker.is_none() || self.worker == effect.worker)
            && (!self.overdue || effect.due_at().is_some_and(|due| due < now))
    }

    fn of_run(&self, look: Look<'_>, now: Timestamp) -> Vec<Value> {
        let effects = look.state.effects.values().filter(|effect| self.fits(effect, now));
        effects.map(|effect| look.task(effect)).collect()
    }

    /// What open runs wait for: asked of a daemon, or read run by run.
    fn of_all(&self, run: Option<&String>, context: &Context) -> Result<Vec<Value>, Failure> {
        if let Some(run) = run {
            // One that is not there is an error.
            context.runs.find(run)?;
        }
        if let Some(client) = context.daemon_now()? {
            return self.asked(run, &client);
        }
        let ids = match run {
            Some(run) => vec![context.runs.find(run)?.id().clone()],
            None => context.runs.view_root()?.run_ids().map_err(Error::from)?,
        };
        let mut tasks = Vec::new();
        for id in ids {
            // A run that cannot be read hides no other.
            let Ok(seen) = context.runs.look(id.as_str()) else { continue };
            if !seen.state.is_open() {
                continue;
            }
            for mut task in self.of_run(seen.look(), context.runs.clock.now()) {
                task["runId"] = json!(id);
                tasks.push(task);
            }
        }
        tasks.retain(|task| task["resolvedAt"].is_null());
        Ok(tasks)
    }

    fn asked(
        &self,
        run: Option<&String>,
        client: &crate::doors::cli::remote::Client,
    ) -> Result<Vec<Value>, Failure> {
        let (mut tasks, mut token) = (Vec::new(), None::<String>);
        loop {
            let mut query = Serializer::new(String::new());
            query.append_pair("pageSize", "1000");
            let state = self.state.map(|state| state.name().to_owned());
            for (name, value) in [
                ("run", run),
                ("kind", self.kind.as_ref()),
                ("state", state.as_ref()),
                ("worker", self.worker.as_ref()),
                ("pageToken", token.as_ref()),
            ] {
                value.map(|value| query.append_pair(name, value));
            }
            if self.overdue {
                query.append_pair("overdue", "true");
            }
            let page = client.get(&format!("/v1/tasks?{}", query.finish()))?;
            tasks.extend(page["tasks"].as_array().into_iter().flatten().cloned());
            token = page["nextPageToken"].as_str().map(str::to_owned);
            if token.is_none() {
                return Ok(tasks);
            }
        }
    }
}

fn print(tasks: &[Value], with_run: bool) {
    if tasks.is_empty() {
        return output::remark("no effects");
    }
    let row = |task: &Value| {
        let text = |name: &str| task[name].as_str().unwrap_or("").to_owned();
        let run = with_run.then(|| text("runId"));
        let names = ["effectId", "kind", "status", "taskId"].map(text);
        let label = view::display_name(task).to_owned();
        run.into_iter().chain(names).chain([label]).collect()
    };
    let rows: Vec<Vec<String>> = tasks.iter().map(row).collect();
    let names = ["RUN", "EFFECT", "KIND", "STATUS", "TASK", "LABEL"];
    output::table(if with_run { &names } else { &names[1..] }, &rows);
}
