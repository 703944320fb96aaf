//! `config show`: the values in force and where each comes from.
//!
//! May not change anything. Invariant: every key is shown once.

use serde_json::json;

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::Exit;
use crate::doors::cli::output;

/// Print the configuration in force and where each value comes from.
///
/// Example:
///   dormouse config show
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Exit {
    let rows = context.settings.rows();
    if context.json {
        let keys: Vec<_> = rows
            .iter()
            .map(|(key, value, from)| {
                json!({ "key": key, "value": value, "from": from.to_string() })
            })
            .collect();
        output::json(&json!({ "runsRoot": context.runs.root, "keys": keys }));
        return Exit::Done;
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(key, value, from)| vec![key.to_owned(), value, from.to_string()])
        .collect();
    output::table(&["KEY", "VALUE", "FROM"], &rows);
    output::remark(&format!("runs are in {}", context.runs.root.display()));
    Exit::Done
}
