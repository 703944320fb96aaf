//! `dormouse limits …`: how many effects may be at work, and how many may start.
//!
//! May not count anything. Invariant: what is shown and set is a daemon's.

mod list;
mod set;
mod show;

use clap::Subcommand;
use serde_json::Value;

use super::context::Context;
use super::deeds::encoded;
use super::failure::{Exit, Failure};
use super::output;

/// What can be done about limits.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "List the limits that are set, and how much of them is used")]
    List(list::Args),
    #[command(about = "Show a limit, who has its slots and who waits")]
    Show(show::Args),
    #[command(about = "Set a limit while the daemon runs")]
    Set(set::Args),
}

pub(super) fn dispatch(verb: &Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::List(args) => list::run(args, context),
        Verb::Show(args) => show::run(args, context),
        Verb::Set(args) => set::run(args, context),
    }
}

/// Which limit.
#[derive(Debug, clap::Args)]
struct Place {
    /// Of a kind of effects, or of a key that effects name in `limitKeys`
    #[arg(value_name = "SCOPE", value_parser = ["kind", "key"])]
    scope: String,
    /// The kind, the key, or NAME:* for every key that begins with NAME:
    #[arg(value_name = "NAME")]
    name: String,
}

impl Place {
    fn path(&self) -> String {
        format!("/v1/limits/{}/{}", self.scope, encoded(&self.name))
    }
}

/// What is allowed, in a few words.
fn allowed(limit: &Value) -> String {
    let concurrency = limit["concurrency"].as_u64().map(|n| format!("{n} at work"));
    let rate = limit["rate"].as_str().map(|rate| match limit["burst"].as_u64() {
        Some(burst) => format!("{rate}, {burst} at once"),
        None => rate.to_owned(),
    });
    let all: Vec<String> = concurrency.into_iter().chain(rate).collect();
    if all.is_empty() { "-".to_owned() } else { all.join("; ") }
}

fn print(context: &Context, limit: &Value) {
    if context.json {
        return output::json(limit);
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let place = format!("{} {}", text(&limit["scope"]), text(&limit["name"]));
    let origin = if limit["changed"] == true { "set while a daemon ran" } else { "configured" };
    output::line(&format!("{place}: {} ({origin})", allowed(limit)));
    output::line(&format!("{} at work, {} waiting", limit["inUse"], limit["waiting"]));
    let effects = |name: &str| limit[name].as_array().cloned().unwrap_or_default();
    for holder in effects("holders") {
        let name = format!("{}/{}", text(&holder["runId"]), text(&holder["effectId"]));
        output::line(&format!("  has a slot: {name}"));
    }
    for full in effects("full") {
        let until = full["until"].as_str().map_or(String::new(), |at| format!(" until {at}"));
        output::line(&format!("  full: {:?}{until}", text(&full["name"])));
    }
    for waiter in effects("waiters") {
        let name = format!("{}/{}", text(&waiter["runId"]), text(&waiter["effectId"]));
        output::line(&format!("  waits: {name} since {}", text(&waiter["since"])));
    }
}
