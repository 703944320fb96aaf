//! `fsck`: check every byte of a root, or of single runs.
//!
//! May not write. Invariant: exit 0 when nothing has to be done, 1 when a command mends it, 5 when
//! something is damaged.

use std::path::Path;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;
use crate::services::fsck::Report;
use crate::services::fsck::defect::{Defect, Severity};
use crate::services::runs::Runs;
use crate::shells::run_dir::root::{META, RootView};

/// Check everything: root, commit log, index, and every byte of every run. Nothing is written, with
/// or without a daemon. Exit 1 if something is to be mended, 5 if something is damaged.
///
/// Example:
///   dormouse fsck
///   dormouse fsck RUN --json
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs to check, or one directory that holds runs [default: the whole runs root]
    #[arg(value_name = "RUN|DIR")]
    what: Vec<String>,
    /// Leave out what needs nothing to be done
    #[arg(long)]
    quiet: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut report = match args.what.as_slice() {
        [] => context.runs.fsck(context.daemon_now()?.is_some(), &output::watch())?,
        [dir] if is_root(context, Path::new(dir)) => {
            let root = super::input::absolute(Path::new(dir))?;
            let is_served = context.is_held(&root.join(META));
            Runs { root, ..context.runs.clone() }.fsck(is_served, &output::watch())?
        }
        runs => context.runs.fsck_runs(runs, context.daemon_now()?.is_some())?,
    };
    if args.quiet {
        report.defects.retain(|defect| defect.severity > Severity::Note);
    }
    if context.json {
        output::json(&serde_json::to_value(&report).unwrap_or_default());
    } else {
        print(&report);
    }
    Ok(match report.worst {
        None | Some(Severity::Note) => Exit::Done,
        Some(Severity::Mendable) => Exit::No,
        Some(Severity::Damage) => Exit::Damaged,
    })
}

/// Whether a directory holds runs.
fn is_root(context: &Context, path: &Path) -> bool {
    RootView::open(&context.runs.disk, path).is_ok_and(|view| view.meta().is_some())
}

fn print(report: &Report) {
    let mut last: Option<&Defect> = None;
    for defect in &report.defects {
        // One line about the place, then what is wrong there.
        if last.is_none_or(|last| last.run_id != defect.run_id || last.severity != defect.severity)
        {
            let place = defect.run_id.as_ref().map_or("root".to_owned(), |id| format!("run {id}"));
            output::line(&format!("{}  {place}", defect.severity.name()));
        }
        output::line(&format!("  {defect}"));
        for next in &defect.next {
            output::line(&format!("    next: {next}"));
        }
        last = Some(defect);
    }
    if report.omitted > 0 {
        output::line(&format!("… and {} more", report.omitted));
    }
    let verdict = match report.worst {
        None => "clean".to_owned(),
        Some(Severity::Note) => "clean, with notes".to_owned(),
        Some(Severity::Mendable) => "to be mended; nothing acknowledged is lost".to_owned(),
        Some(Severity::Damage) => "damaged".to_owned(),
    };
    let (runs, records, bytes) = (report.runs, report.records, report.bytes);
    output::line(&format!("{verdict}: {runs} runs, {records} records, {bytes} bytes read"));
    if report.worst > Some(Severity::Note) {
        output::remark("`dormouse explain LABEL` says what a label means");
    }
}
