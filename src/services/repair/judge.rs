//! Judging one run: its journal, the legality of its records, the files that they name.
//!
//! May not write. Invariant: whoever verifies, checks or mends a run sees the same verdict.

use std::collections::BTreeSet;

use crate::codecs::event::Record;
use crate::machines::replay::state::{IllegalEvent, RunState, fold};
use crate::services::runs::create::load_process;
use crate::shells::commit_log::overlay::Overlay;
use crate::shells::journal::reader;
use crate::shells::journal::scan::{Case, Finding, Scan, Verdict};
use crate::shells::run_dir::blob;
use crate::shells::run_dir::dir::RunDir;

/// How a journal is read.
pub(in crate::services) enum Reading<'a> {
    /// Others may be writing it.
    Shared,
    /// The same, and what the commit log holds is known already.
    Over(&'a Overlay),
    /// The caller has the run's lock.
    Locked,
}

/// What stands in a run.
pub(in crate::services) struct Judged {
    /// The verdict.
    pub(in crate::services) scan: Scan,
    /// The fold of what verified.
    pub(in crate::services) state: Option<RunState>,
    /// What is wrong beside a sound journal.
    pub(in crate::services) beside: Vec<Finding>,
}

/// Reads and folds; a record that the fold refuses is damage as well (J24).
pub(in crate::services) fn judge(dir: &RunDir, reading: &Reading<'_>) -> Judged {
    let scan = match reading {
        Reading::Shared => reader::read(dir, None),
        Reading::Over(log) => reader::read_over(dir, None, log),
        Reading::Locked => reader::read_locked(dir, None),
    };
    let (scan, state) = match fold(&scan.records) {
        Ok(state) => (scan, state),
        Err(IllegalEvent { seq, event_type, why }) => {
            let scan = scan.refused_by_fold(seq, format!("record {seq}, {event_type}: {why}"));
            let state = fold(&scan.records).ok().flatten();
            (scan, state)
        }
    };
    let is_sound = scan.verdict() <= Verdict::Note;
    let beside = is_sound.then(|| beside(dir, &scan.records, state.as_ref()));
    Judged { scan, state, beside: beside.unwrap_or_default() }
}

impl Judged {
    /// Whether nothing of the journal has to be mended.
    pub(in crate::services) fn is_sound(&self) -> bool {
        self.scan.verdict() <= Verdict::Note
    }

    /// What is wrong, worst first.
    pub(in crate::services) fn main(&self) -> &Finding {
        self.beside.first().unwrap_or(&self.scan.main)
    }
}

/// What is wrong beside a journal of these records: a blob or the pinned code is missing or
/// differs. The run is set aside until it is put back.
pub(super) fn beside(dir: &RunDir, records: &[Record], state: Option<&RunState>) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let blobs = records.iter().flat_map(|record| record.event.blobs());
    let mut found: Vec<Finding> = Vec::new();
    for blob in blobs.filter(|blob| seen.insert(blob.digest)) {
        let Err(error) = dir.get_blob(blob) else { continue };
        let case = if let blob::Error::Differs(_) = error { Case::J51 } else { Case::J50 };
        let file = format!("blobs/{}", blob.digest.hex());
        found.push(Finding { case, file, offset: 0, why: error.to_string() });
    }
    if let Some(error) = state.and_then(|s| load_process(dir, s.process.as_ref()?).err()) {
        let (case, file) = (Case::J52, "process".to_owned());
        found.push(Finding { case, file, offset: 0, why: error.to_string() });
    }
    found
}
