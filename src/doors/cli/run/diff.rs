//! `run diff`: two runs side by side.
//!
//! May not write. Invariant: exit 0 exactly when the runs are the same.

use serde_json::json;

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::ground::id::{RunId, Seq};
use crate::services::runs::diff::{Compared, Diff, Said, Stand};

/// Characters shown of what a record says.
const DATA_CHARS_MAX: usize = 160;
/// Characters shown of a digest.
const DIGEST_CHARS: usize = 15;

/// Compare two runs record by record. When something was recorded, by whom and in which run is set
/// aside; a fork is compared from where it left the other one. Exit 0 if they are the same, 1 if
/// not.
///
/// Example:
///   dormouse run diff RUN FORK
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of a run, a unique beginning of it, or the path of its directory
    #[arg(value_name = "A")]
    a: String,
    /// The other one
    #[arg(value_name = "B")]
    b: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let diff = context.runs.diff(&args.a, &args.b)?;
    if context.json {
        output::json(&json!(diff));
    } else {
        print(&diff);
    }
    Ok(if diff.equal { Exit::Done } else { Exit::No })
}

fn print(diff: &Diff) {
    let (a, b) = (&diff.a, &diff.b);
    let row = |name: &str, run: &Compared| {
        let code = run.process.as_ref().map(|p| short(&p.digest.to_string()));
        let end = run.end.as_ref().filter(|end| !end.args_digest.is_empty());
        let end = end.map(|end| short(&end.args_digest));
        let dash = || "-".to_owned();
        vec![
            name.to_owned(),
            run.run_id.to_string(),
            run.state.to_owned(),
            run.records.to_string(),
            code.unwrap_or_else(dash),
            end.unwrap_or_else(dash),
        ]
    };
    output::table(&["", "RUN", "STATE", "RECORDS", "CODE", "OUTCOME"], &[row("a", a), row("b", b)]);
    if diff.shared > Seq(0) {
        output::line(&format!("both have records 1 to {}{}", diff.shared, kinship(a, b)));
    }
    if diff.equal {
        return output::line("the runs are the same");
    }
    if let Some(first) = &diff.first_difference {
        output::line("the first difference:");
        said("a", &a.run_id, first.a.as_ref());
        said("b", &b.run_id, first.b.as_ref());
    }
    if !diff.effects.is_empty() {
        let rows = diff.effects.iter().map(|effect| {
            let (a, b) = (stand(effect.a.as_ref()), stand(effect.b.as_ref()));
            vec![effect.key.clone(), effect.kind.clone(), a, b]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        output::table(&["EFFECT", "KIND", "IN A", "IN B"], &rows);
    }
}

/// How one came from the other, if it did.
fn kinship(a: &Compared, b: &Compared) -> String {
    for (name, run, other, its) in [("b", b, "a", a), ("a", a, "b", b)] {
        if let Some(from) = run.forked_from.as_ref().filter(|from| from.run_id == its.run_id) {
            return format!(": {name} was forked from {other} at record {}", from.seq);
        }
    }
    String::new()
}

fn said(name: &str, run: &RunId, said: Option<&Said>) {
    let Some(Said { seq, at, event_type, key, data }) = said else {
        return output::line(&format!("  {name}  {run} has no further record"));
    };
    let key = key.as_deref().unwrap_or("");
    output::line(format!("  {name} {seq:>6}  {at}  {event_type}  {key}").trim_end());
    let data = data.to_string();
    let cut: String = data.chars().take(DATA_CHARS_MAX).collect();
    let more = if cut.len() < data.len() { "…" } else { "" };
    output::line(&format!("            {cut}{more}"));
}

fn stand(stand: Option<&Stand>) -> String {
    let Some(Stand { effect_id, status, value_digest, edited, .. }) = stand else {
        return "-".to_owned();
    };
    let value =
        value_digest.map_or(String::new(), |digest| format!(" {}", short(&digest.to_string())));
    let edited = if *edited { " (edited)" } else { "" };
    format!("{effect_id} {status}{value}{edited}")
}

fn short(digest: &str) -> String {
    digest.chars().take(DIGEST_CHARS).collect()
}
