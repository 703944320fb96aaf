//! The index of a root at rest, compared with the journals.
//!
//! May not write: the file is opened for looking. Invariant: a run whose journal is damaged, or
//! that the index was not told of yet, is not held against the index.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::ground::id::RunId;
use crate::machines::replay::facts::{Reasons, Update};
use crate::machines::replay::state::RunState;
use crate::services::audit::{What, compare};
use crate::services::indexer::rebuild::Journaled;
use crate::shells::run_dir::root::{META, RootView};
use crate::shells::run_dir::root_file::RootJson;
use crate::shells::store::{INDEX_FILE, Index, LogSpan, Verdict, Why, judge};

use super::defect::{Defect, Flaw};

/// Rows that are listed at a time.
const PAGE: usize = 1_000;

/// The rows of an index that nobody else uses.
pub(super) struct Rows {
    index: Mutex<Index>,
    /// Runs that were written since the index was told.
    touched: BTreeSet<RunId>,
    seen: Mutex<BTreeSet<RunId>>,
}

fn file() -> String {
    format!("{META}/{INDEX_FILE}")
}

impl Rows {
    /// Opens the index for looking; says what is wrong with it as a whole (X1, X2, X4).
    pub(super) fn open(
        view: &RootView,
        json: &RootJson,
        defects: &mut Vec<Defect>,
    ) -> Option<Self> {
        let meta = view.meta()?;
        let mut wrong = |flaw, why: String| {
            defects.push(Defect::of(flaw, file(), why).next("dormouse index rebuild"));
            None
        };
        let index = match Index::look(&**view.disk(), meta.path()) {
            Ok(None) => return None,
            Ok(Some(Ok(index))) => index,
            Ok(Some(Err(Why::Unreadable))) => {
                return wrong(Flaw::X4, "its pages do not fit".into());
            }
            Ok(Some(Err(Why::Foreign))) => return wrong(Flaw::X4, "it is somebody else's".into()),
            Ok(Some(Err(Why::OtherVersion))) => {
                return wrong(Flaw::X4, "another version of dormouse made it".into());
            }
            Ok(Some(Err(Why::Incomplete))) => {
                return wrong(Flaw::X4, "it was not finished".into());
            }
            Err(e) => return wrong(Flaw::X4, e.to_string()),
        };
        let last = json.last_seq;
        match judge(index.applied(), LogSpan { first: None, last }) {
            Verdict::Witness => {
                let why = format!("it has batch {}, the log ends with {last}", index.applied());
                defects.push(Defect::of(Flaw::X2, file(), why).next("dormouse explain L8"));
                return None;
            }
            Verdict::Current => {}
            _ => return wrong(Flaw::X1, format!("it ends with batch {}", index.applied())),
        }
        let touched = view.touched().unwrap_or_default().into_iter().collect();
        Some(Self { index: Mutex::new(index), touched, seen: Mutex::default() })
    }

    /// X6, X8: what the index says of one run.
    pub(super) fn compare(&self, run: &RunId, state: Option<&RunState>) -> Vec<Defect> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone());
        let Some(state) = state.filter(|_| !self.touched.contains(run)) else { return Vec::new() };
        let row = self.index.lock().unwrap_or_else(PoisonError::into_inner).whole(run);
        let of =
            |flaw, why: String| Defect::of(flaw, file(), why).next("dormouse audit").in_run(run);
        match row {
            Err(e) => vec![of(Flaw::X4, e.to_string())],
            Ok(None) => vec![of(Flaw::X6, String::new())],
            Ok(Some(row)) => {
                let update = Update::whole(state, false);
                let journaled = Journaled { update, resting: Reasons::of(state, true) };
                let what: Vec<What> = compare(&row, &journaled);
                what.into_iter().map(|what| of(Flaw::X8, what.to_string())).collect()
            }
        }
    }

    /// X7: rows of runs that are not there.
    pub(super) fn extra(&self) -> Vec<Defect> {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut after, mut extra) = (None, Vec::new());
        while let Ok(page) = index.runs_after(after.as_ref(), true, PAGE) {
            let Some(last) = page.last() else { break };
            after = Some(last.run_id.clone());
            let strange = page
                .iter()
                .filter(|row| !seen.contains(&row.run_id) && !self.touched.contains(&row.run_id));
            extra.extend(strange.map(|row| {
                Defect::of(Flaw::X7, file(), "").next("dormouse audit").in_run(&row.run_id)
            }));
        }
        extra
    }
}
