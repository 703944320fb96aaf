//! `dormouse schedule …`: documents that make runs begin by themselves.
//!
//! May not decide about a time. Invariant: what is changed is a daemon's; without one, schedules
//! can be looked at.

mod apply;
mod backfill;
mod delete;
mod list;
mod pause;
mod resume;
mod show;
mod trigger;

use clap::Subcommand;
use serde_json::{Value, json};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;
use crate::doors::schedules::SchedulesShown;
use crate::machines::schedule::Name;
use crate::services::schedules::keeper;

/// What can be done with schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "Apply a document of the kind CronWorkflow")]
    Apply(apply::Args),
    #[command(about = "List all schedules and when they are due")]
    List(list::Args),
    #[command(about = "Show a schedule, its next times and its last decisions")]
    Show(show::Args),
    #[command(about = "Let times pass without a run")]
    Pause(pause::Args),
    #[command(about = "Let a schedule make runs again")]
    Resume(resume::Args),
    #[command(about = "Make a run of a schedule now")]
    Trigger(trigger::Args),
    #[command(about = "Make runs for times that have passed without one")]
    Backfill(backfill::Args),
    #[command(about = "Delete a schedule; its runs stay")]
    Delete(delete::Args),
}

pub(super) fn dispatch(verb: &Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::Apply(args) => apply::run(args, context),
        Verb::List(args) => list::run(args, context),
        Verb::Show(args) => show::run(args, context),
        Verb::Pause(args) => pause::run(args, context),
        Verb::Resume(args) => resume::run(args, context),
        Verb::Trigger(args) => trigger::run(args, context),
        Verb::Backfill(args) => backfill::run(args, context),
        Verb::Delete(args) => delete::run(args, context),
    }
}

/// Which schedule.
#[derive(Debug, clap::Args)]
struct Which {
    /// Its name; NAMESPACE/NAME where it is not in the namespace `default`
    #[arg(value_name = "SCHEDULE")]
    name: Name,
}

impl Which {
    /// Asks a daemon to do something with it.
    fn post(&self, context: &Context, verb: &str, body: &Value) -> Result<Value, Failure> {
        let Name { namespace, name } = &self.name;
        context.daemon()?.post(&format!("/v1/schedules/{namespace}/{name}/{verb}"), body)
    }
}

/// All schedules: as a daemon knows them, or as their files say.
fn all(context: &Context) -> Result<Value, Failure> {
    match context.daemon_now()? {
        Some(daemon) => daemon.get("/v1/schedules"),
        None => Ok(json!(SchedulesShown::from(keeper::look(&context.runs)?))),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// A time without the parts of it that are nothing.
fn time(value: &Value) -> String {
    text(value).replace(":00.000000Z", "Z").replace(".000000Z", "Z")
}

fn full_name(schedule: &Value) -> String {
    match text(&schedule["namespace"]) {
        "default" => text(&schedule["name"]).to_owned(),
        namespace => format!("{namespace}/{}", text(&schedule["name"])),
    }
}

/// Prints one schedule for people.
fn print(context: &Context, schedule: &Value) {
    if context.json {
        return output::json(schedule);
    }
    let of = |name: &str| text(&schedule[name]);
    let name = full_name(schedule);
    output::line(&format!("{name}: {} ({}, {})", of("state"), of("schedule"), of("timezone")));
    if let Some(remark) = schedule["remark"].as_str() {
        output::line(&format!("  {remark}"));
    }
    let policy = format!("{}, catch-up {}", of("concurrencyPolicy"), of("catchUp"));
    output::line(&format!("  policy   {policy}"));
    let list = |name: &str| schedule[name].as_array().cloned().unwrap_or_default();
    let next: Vec<String> = list("next").iter().map(time).collect();
    output::line(&format!("  next     {}", if next.is_empty() { "-" } else { &next[0] }));
    for later in next.iter().skip(1) {
        output::line(&format!("           {later}"));
    }
    for run in list("open") {
        output::line(&format!("  open     {}", text(&run)));
    }
    let counts = schedule["counts"].as_object().into_iter().flatten();
    let counts: Vec<String> = counts.map(|(what, count)| format!("{count} {what}")).collect();
    if !counts.is_empty() {
        output::line(&format!("  so far   {}", counts.join(", ")));
    }
    for decided in list("decisions").iter().rev().take(DECISIONS_SHOWN) {
        output::line(&format!("  {}", decision(decided)));
    }
}

/// How many decisions people are shown.
const DECISIONS_SHOWN: usize = 10;

fn decision(decided: &Value) -> String {
    let what = text(&decided["decision"]);
    let when = match decided["count"].as_u64() {
        Some(count) if count > 1 => {
            format!("{} … {}, {count} times", time(&decided["first"]), time(&decided["last"]))
        }
        _ => time(&decided["first"]),
    };
    let run = decided["runId"].as_str().map_or(String::new(), |run| format!(": {run}"));
    let why = decided["why"].as_str().map_or(String::new(), |why| format!(" ({why})"));
    format!("{what} {when}{run}{why}")
}
