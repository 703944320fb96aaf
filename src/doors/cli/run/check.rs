//! `run check`: replay a run against its own or other code.
//!
//! May not write. Invariant: exit 0 exactly when the journal is reproduced strictly.

use serde_json::{Value, json};

use super::RunArg;
use super::source::SourceArgs;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::machines::replay::check::{ArgsDiff, Side};
use crate::services::runs::check::Checked;

/// Replay a run against its own code, or against --entry, and say how every recorded call fares.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    #[command(flatten)]
    source: SourceArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let source = args.source.source()?;
    let checked = context.runs.check(&args.run.run, source.as_ref())?;
    if context.json {
        output::json(&value(&checked));
    } else {
        print(&checked);
    }
    let exit = match (checked.strict, checked.held.as_deref()) {
        (true, _) => Exit::Done,
        (false, Some(reason)) if reason.starts_with("limit:") => Exit::Refused,
        (false, Some(_)) => Exit::No,
        (false, None) => Exit::Diverged,
    };
    Ok(exit)
}

/// The JSON of a check.
pub(super) fn value(checked: &Checked) -> Value {
    json!({
        "strict": checked.strict, "held": checked.held, "process": checked.process,
        "divergence": checked.divergence, "calls": checked.lines, "next": checked.next,
        "warnings": checked.warnings,
    })
}

/// The text of a check.
pub(super) fn print(checked: &Checked) {
    if checked.strict {
        output::line(&format!("the journal is reproduced: {} calls kept", checked.lines.len()));
        return;
    }
    if let Some(reason) = &checked.held {
        return output::line(&format!("the journal could not be replayed: {reason}"));
    }
    if let Some(d) = &checked.divergence {
        output::line(&format!("the journal is not reproduced: {} at record {}", d.class, d.cause));
        sides(d.expected.as_ref(), d.observed.as_ref(), d.args_diff.as_deref());
    }
    let rows: Vec<Vec<String>> = checked
        .lines
        .iter()
        .map(|line| {
            let effect = line.effect_id.map_or("-".to_owned(), |id| id.to_string());
            let status = line.status.unwrap_or("-").to_owned();
            vec![line.change.to_owned(), effect, line.kind.clone(), line.key.clone(), status]
        })
        .collect();
    if !rows.is_empty() {
        output::table(&["CHANGE", "EFFECT", "KIND", "KEY", "STATUS"], &rows);
    }
}

/// Both sides of a divergence, one above the other, and how the arguments differ.
pub(super) fn sides(
    expected: Option<&Side>,
    observed: Option<&Side>,
    args_diff: Option<&[ArgsDiff]>,
) {
    output::line(&format!("  expected  {}", side(expected)));
    output::line(&format!("  observed  {}", side(observed)));
    for diff in args_diff.into_iter().flatten() {
        let cut = |v: &Option<String>| v.clone().unwrap_or_else(|| "(absent)".into());
        output::line(&format!("  {}: {} → {}", diff.path, cut(&diff.old), cut(&diff.new)));
    }
}

/// One side of a divergence, with its place in the code where that is known.
pub(in crate::doors::cli) fn side(side: Option<&Side>) -> String {
    let Some(Side { mark, site, .. }) = side else { return "nothing".to_owned() };
    let words = [mark.output_type, mark.key.as_str(), mark.kind.as_str()];
    let words = words.into_iter().filter(|w| !w.is_empty()).map(str::to_owned);
    let place = site.as_ref().map(|site| format!("at {site}"));
    words.chain(place).collect::<Vec<_>>().join(" ")
}
