//! `schedule list`: all schedules.
//!
//! May not change one. Invariant: a schedule that cannot be read is listed, too.

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// List all schedules and when they are due.
///
/// Exit 5: the files of one of them are damaged.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<Exit, Failure> {
    let listed = super::all(context)?;
    let list = |name: &str| listed[name].as_array().cloned().unwrap_or_default();
    let damaged = list("damaged");
    let exit = if damaged.is_empty() { Exit::Done } else { Exit::Damaged };
    if context.json {
        output::json(&listed);
        return Ok(exit);
    }
    let rows = list("schedules").into_iter().map(|schedule| {
        let of = |name: &str| super::text(&schedule[name]).to_owned();
        let open = schedule["open"].as_array().map_or(0, Vec::len).to_string();
        let next = super::time(&schedule["next"][0]);
        vec![super::full_name(&schedule), of("state"), of("schedule"), of("timezone"), next, open]
    });
    let broken = damaged.iter().map(|schedule| {
        let why = super::text(&schedule["problem"]["what"]).to_owned();
        vec![super::full_name(schedule), "damaged".to_owned(), why]
    });
    let rows: Vec<Vec<String>> = rows.chain(broken).collect();
    if rows.is_empty() {
        output::remark("no schedules");
    } else {
        output::table(&["NAME", "STATE", "SCHEDULE", "TIMEZONE", "NEXT", "OPEN RUNS"], &rows);
    }
    Ok(exit)
}
