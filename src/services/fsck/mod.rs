//! The check of everything: a root, its commit log, its index and every byte of its runs.
//!
//! May not write, lock or mend anything, nor wait for a daemon: it reads what stands there.
//! Invariant: whatever is wrong has a name of the catalogue and the next command to try; a run
//! that cannot be read hides no other.

pub mod defect;
mod derived;
mod index;
mod root;
mod run;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::ground::id::RunId;
use crate::ground::limits::DEFECTS_LISTED_MAX;
use crate::shells::commit_log::overlay::overlay;
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::root::{Options, RootView};
use crate::shells::run_dir::root_file::{self, RootState};

use super::runs::each::each;
use super::runs::{Error, Result, Runs};
use defect::{Defect, Severity};
use index::Rows;
use run::{Around, Checked};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The root, unless single runs were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs_root: Option<PathBuf>,
    /// Runs that were read.
    pub runs: usize,
    /// Records that verify.
    pub records: u64,
    /// Bytes of journals and blobs that were read.
    pub bytes: u64,
    /// How often each defect was found, by its label.
    pub counts: BTreeMap<&'static str, u64>,
    /// The worst of them.
    pub worst: Option<Severity>,
    /// What is wrong, worst first, then by run.
    pub defects: Vec<Defect>,
    /// Defects beyond those that are listed.
    pub omitted: u64,
}

impl Report {
    fn new(runs_root: Option<PathBuf>) -> Self {
        Self {
            runs_root,
            runs: 0,
            records: 0,
            bytes: 0,
            counts: BTreeMap::new(),
            worst: None,
            defects: Vec::new(),
            omitted: 0,
        }
    }

    fn take(&mut self, defects: Vec<Defect>) {
        for defect in defects {
            *self.counts.entry(defect.label).or_default() += 1;
            self.worst = self.worst.max(Some(defect.severity));
            // Notes must not crowd out what is worse.
            if self.defects.len() < DEFECTS_LISTED_MAX || defect.severity > Severity::Note {
                self.defects.push(defect);
            } else {
                self.omitted += 1;
            }
        }
    }

    fn took(&mut self, checked: Checked) {
        self.runs += 1;
        self.records += checked.records;
        self.bytes += checked.bytes;
        self.take(checked.defects);
    }

    fn finish(mut self) -> Self {
        self.defects.sort_by(|a, b| {
            (b.severity.cmp(&a.severity))
                .then_with(|| (&a.run_id, a.label, &a.file).cmp(&(&b.run_id, b.label, &b.file)))
        });
        let listed = self.defects.len().min(DEFECTS_LISTED_MAX);
        self.omitted += (self.defects.len() - listed) as u64;
        self.defects.truncate(listed);
        self
    }
}

impl Runs {
    /// Checks a whole root. `is_served`: a daemon has it, so that what it writes late is not
    /// missed. `progress` hears of runs done and runs in all.
    pub fn fsck(
        &self,
        is_served: bool,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Report> {
        let view = self.view_root()?;
        let log = view.meta().map(|meta| overlay(&**meta)).unwrap_or_default();
        let mut ids = view.run_ids()?;
        ids.retain(|id| !log.is_gone(id));
        let mut report = Report::new(Some(view.path().to_owned()));
        let mut defects = Vec::new();
        let options = Options { allow_fs: self.allow_fs.clone(), ..Options::default() };
        let known = root::check(&view, &options, is_served, &ids, &mut defects);
        let rows = known.json.as_ref().filter(|_| known.is_at_rest);
        let rows = rows.and_then(|json| Rows::open(&view, json, &mut defects));
        report.take(defects);
        let around = Around { log: &log, is_at_rest: known.is_at_rest };
        let mut report = check_all(&view, ids, around, rows.as_ref(), report, progress);
        if let Some(rows) = rows {
            report.take(rows.extra());
        }
        Ok(report.finish())
    }

    /// Checks single runs, in a root or alone.
    pub fn fsck_runs(&self, references: &[String], is_served: bool) -> Result<Report> {
        let mut report = Report::new(None);
        for reference in references {
            let dir = self.find(reference)?;
            let log = dir.root().map(|meta| overlay(&**meta)).unwrap_or_default();
            let is_open = dir.root().is_some_and(|meta| {
                let json = root_file::read(&**meta).ok().flatten();
                json.is_some_and(|json| json.state == RootState::Open)
            });
            let around = Around { log: &log, is_at_rest: !is_served && !is_open };
            report.took(run::check(&dir, around));
        }
        Ok(report.finish())
    }
}

/// Checks runs on all processors.
fn check_all(
    view: &RootView,
    ids: Vec<RunId>,
    around: Around,
    rows: Option<&Rows>,
    mut report: Report,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Report {
    let looker = || |id: RunId| check_one(view, &id, around, rows);
    each(ids, looker, |checked| report.took(checked), progress);
    report
}

fn check_one(view: &RootView, id: &RunId, around: Around, rows: Option<&Rows>) -> Checked {
    let found: Result<RunDir> = view.run(id).map_err(Error::from);
    let mut checked = match found {
        Ok(dir) => run::check(&dir, around),
        // It was deleted while this ran.
        Err(Error::NotFound(_)) => return Checked::default(),
        Err(error) => run::unread(id, &error),
    };
    if let Some(rows) = rows {
        checked.defects.extend(rows.compare(id, checked.state.as_ref()));
    }
    checked
}
