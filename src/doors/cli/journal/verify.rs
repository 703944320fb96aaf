//! `journal verify`: check every byte of a journal.
//!
//! May not write. Invariant: exit 0 exactly when the journal is clean, else 5.

use serde_json::json;

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Check every byte of a journal: the chain, the form, and that every event is legal.
///
/// Example:
///   dormouse journal verify RUN --json
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the run, a unique beginning of it, or the path of its directory
    #[arg(value_name = "RUN")]
    run: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let verified = context.runs.verify(&args.run)?;
    let scan = &verified.scan;
    let finding = |f: &crate::shells::journal::scan::Finding| {
        json!({
            "case": f.case.label(), "title": f.case.title(), "file": f.file, "offset": f.offset,
            "why": f.why,
        })
    };
    let clean = verified.verdict == "clean";
    if context.json {
        output::json(&json!({
            "verdict": verified.verdict, "case": scan.main.case.label(),
            "head": scan.head, "records": scan.records.len(),
            "finding": if clean { serde_json::Value::Null } else { finding(&scan.main) },
            "notes": scan.notes.iter().map(finding).collect::<Vec<_>>(),
            "segments": scan.segments.iter().map(|s| json!({
                "file": s.name, "bytes": s.bytes, "verified": s.verified,
            })).collect::<Vec<_>>(),
        }));
    } else {
        let (case, title) = (scan.main.case.label(), scan.main.case.title());
        output::line(&format!("{}: {title} [{case}]", verified.verdict));
        if !clean {
            let (file, offset, why) = (&scan.main.file, scan.main.offset, &scan.main.why);
            output::line(&format!("  {file} at byte {offset}: {why}"));
            if let Some(next) = &verified.next {
                output::remark(&format!("next: {next}"));
            }
        }
        output::line(&format!("  {} records, head {}", scan.head.seq, scan.head.sum));
    }
    Ok(if clean { Exit::Done } else { Exit::Damaged })
}
