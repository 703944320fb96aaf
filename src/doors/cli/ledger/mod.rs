//! `dormouse ledger …`: effects under the keys by which the outside knows them.
//!
//! May not lock or write. Invariant: what is listed stands in journals.

mod list;
mod show;

use clap::Subcommand;
use serde_json::Value;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// What can be asked of the ledger.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "List effects with their keys")]
    List(list::Args),
    #[command(about = "Show all effects under a key")]
    Show(show::Args),
}

pub(super) fn dispatch(verb: &Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::List(args) => list::run(args, context),
        Verb::Show(args) => show::run(args, context),
    }
}

fn print(context: &Context, ledger: &Value) {
    if context.json {
        return output::json(ledger);
    }
    let rows = ledger["rows"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = rows
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
            let mut cells =
                ["key", "runId", "effectId", "kind", "state", "worker"].map(text).to_vec();
            cells.push(row["epoch"].to_string());
            cells
        })
        .collect();
    if rows.is_empty() {
        output::remark("no effects");
    } else {
        output::table(&["KEY", "RUN", "EFFECT", "KIND", "STATE", "WORKER", "EPOCH"], &rows);
    }
}
