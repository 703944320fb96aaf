//! The root itself: its own files, its commit log, what stands beside its runs.
//!
//! May not lock or write. Invariant: a root that a daemon serves is judged by what cannot move
//! while it does.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ground::id::RunId;
use crate::ports::disk::{self, Dir, FileKind, Open};
use crate::services::export::archive::Archive;
use crate::shells::commit_log::label::Label;
use crate::shells::commit_log::scan::{self, Error, Scanned};
use crate::shells::commit_log::{LOG_DIR, segment_file};
use crate::shells::run_dir::code;
use crate::shells::run_dir::former::{self, ARCHIVE, Former, REMOVED};
use crate::shells::run_dir::root::{self, META, Options, ROOT_LOCK, RootView};
use crate::shells::run_dir::root_file::{self, ROOT_JSON, RootJson, RootState};

use super::defect::{Defect, Flaw};
use crate::services::runs::trouble::Trouble;
use crate::services::schedules::book::{Book, FOLDER, folder};

/// Files of a root that nobody but its owner may read.
const SECRETS: &[&str] = &["tokens.json", "task-key"];
/// Files of a root that hold JSON, and what they are good for.
const STATE_FILES: &[&str] = &["limits.json", "tokens.json"];
/// Longest of them.
const STATE_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What is known of a root after its own files were looked at.
pub(super) struct Known {
    /// What `root.json` says, if it can be believed.
    pub(super) json: Option<RootJson>,
    /// No daemon has it, and none died with it.
    pub(super) is_at_rest: bool,
}

/// Checks everything of a root but its runs and its index.
pub(super) fn check(
    view: &RootView,
    options: &Options,
    is_served: bool,
    ids: &[RunId],
    defects: &mut Vec<Defect>,
) -> Known {
    place(view, options, defects);
    strangers(view, ids, defects);
    let Some(meta) = view.meta() else { return Known { json: None, is_at_rest: !is_served } };
    let json = own_json(&**meta, ids, defects);
    let is_open = json.as_ref().is_some_and(|json| json.state == RootState::Open);
    lock_file(&**meta, defects);
    if let (Some(json), true) = (&json, is_open) {
        if !is_served {
            let why = "the next daemon or writing command completes every run directory first";
            defects.push(Defect::of(Flaw::D23, ROOT_JSON, why).next("dormouse serve"));
        }
        log(&**meta, json, is_served, defects);
    }
    own_files(meta, view, is_served, defects);
    archives(view, ids, defects);
    marks(view, ids, defects);
    Known { json, is_at_rest: !is_served && !is_open }
}

/// R4, R5.
fn place(view: &RootView, options: &Options, defects: &mut Vec<Defect>) {
    match view.check_place(options) {
        Err(root::Error::Refused { label, why, .. }) => {
            let (flaw, next) = match label {
                "R4" => (Flaw::R4, "use a local disk, or give --allow-fs with that type"),
                _ => (Flaw::R5, "`chmod go-w` the directory, or run as its owner"),
            };
            defects.push(Defect::of(flaw, "", why).next(next));
        }
        Err(e) => defects.push(Defect::of(Flaw::R5, "", e.to_string())),
        Ok(()) => {}
    }
}

/// D13.
fn strangers(view: &RootView, ids: &[RunId], defects: &mut Vec<Defect>) {
    let known: BTreeSet<&str> = ids.iter().map(RunId::as_str).collect();
    for name in view.dir().list().unwrap_or_default() {
        if name != META && !known.contains(name.as_str()) {
            defects.push(Defect::of(Flaw::D13, name, "dormouse passes over it"));
        }
    }
}

/// R1.
fn own_json(meta: &dyn Dir, ids: &[RunId], defects: &mut Vec<Defect>) -> Option<RootJson> {
    let file = format!("{META}/{ROOT_JSON}");
    let next = "put root.json back from a copy of the root";
    match root_file::read(meta) {
        Ok(Some(json)) => return Some(json),
        Ok(None) if ids.is_empty() => {}
        Ok(None) => {
            let why = "it is missing although runs exist";
            defects.push(Defect::of(Flaw::R1, file, why).next(next));
        }
        Err(e) => defects.push(Defect::of(Flaw::R1, file, e.to_string()).next(next)),
    }
    None
}

/// R3.
fn lock_file(meta: &dyn Dir, defects: &mut Vec<Defect>) {
    let Ok(Some(stat)) = disk::optional(meta.stat(ROOT_LOCK)) else { return };
    if stat.kind != FileKind::File {
        let file = format!("{META}/{ROOT_LOCK}");
        let defect = Defect::of(Flaw::R3, file, "it is not a plain file");
        defects.push(defect.next("remove it: the next command makes one"));
    }
}

/// What the commit log says; while a daemon writes it, only what was read whole counts.
fn log(meta: &dyn Dir, json: &RootJson, is_served: bool, defects: &mut Vec<Defect>) {
    let look = |json: &RootJson| scan::scan(meta, json, Open::Read);
    let scanned = match look(json) {
        // A batch that is being written, or a segment that is being released, looks bad once.
        Err(_) if is_served => match root_file::read(meta) {
            Ok(Some(json)) => look(&json),
            _ => return,
        },
        other => other,
    };
    let file = |segno| format!("{META}/{LOG_DIR}/{}", segment_file(segno));
    match scanned {
        Ok(Scanned { torn, notes, .. }) => {
            for note in notes {
                let (segment, offset) = (file(note.at.segno), note.at.offset);
                defects.push(Defect::of_log(note.label, segment, offset, note.why));
            }
            if let Some(torn) = torn.filter(|_| !is_served) {
                let why = format!("batch {} fails check {}", torn.seq, torn.check.letter());
                let defect = Defect::of_log(Label::L1, file(torn.at.segno), torn.at.offset, why);
                defects.push(defect.next("dormouse serve"));
            }
        }
        Err(Error::Corrupt(found)) => {
            let runs: Vec<&str> = found.runs.iter().map(RunId::as_str).collect();
            let mut why = format!("{}, at batch {}", found.why, found.seq);
            if !runs.is_empty() {
                why = format!("{why}; it has something of {}", runs.join(", "));
            }
            let defect = Defect::of_log(found.label, file(found.at.segno), found.at.offset, why);
            defects.push(defect.next(format!("dormouse explain {}", found.label)));
        }
        Err(Error::OtherRoot(path)) => {
            let why = path.display().to_string();
            defects.push(Defect::of(Flaw::R2, format!("{META}/{LOG_DIR}"), why));
        }
        Err(Error::Unreadable(e)) => {
            let why = format!("{e}: {}", e.source);
            defects.push(Defect::of_log(Label::L10, format!("{META}/{LOG_DIR}"), 0, why));
        }
    }
}

/// D14, D17, D19 to D22, D24: the root's own directory.
fn own_files(meta: &Arc<dyn Dir>, view: &RootView, is_served: bool, defects: &mut Vec<Defect>) {
    if let Ok(stat) = meta.stat_self()
        && stat.mode & 0o022 != 0
    {
        let fix = format!("chmod go-w {}", meta.path().display());
        defects.push(Defect::of(Flaw::D17, META, "its mode lets others write").next(fix));
    }
    for name in meta.list().unwrap_or_default().iter().filter(|name| disk::is_temporary(name)) {
        if !is_served {
            let why = "somebody died while writing a file; it may be removed";
            defects.push(Defect::of(Flaw::D14, format!("{META}/{name}"), why));
        }
    }
    for name in SECRETS {
        if meta.stat(name).is_ok_and(|stat| stat.mode & 0o077 != 0) {
            let fix = format!("chmod 600 {}", meta.path().join(name).display());
            let file = format!("{META}/{name}");
            defects.push(Defect::of(Flaw::D22, file, "its mode lets others read").next(fix));
        }
    }
    for name in STATE_FILES {
        let read = disk::optional(meta.read_file(name, Open::Read, STATE_FILE_BYTES_MAX));
        let why = match read {
            Err(e) => e.to_string(),
            Ok(Some(bytes)) => match serde_json::from_slice::<serde_json::Value>(&bytes) {
                Err(e) => e.to_string(),
                Ok(_) => continue,
            },
            Ok(None) => continue,
        };
        let defect = Defect::of(Flaw::D24, format!("{META}/{name}"), why);
        defects.push(defect.next("put the file back from a copy, or remove it"));
    }
    schedules(&**meta, defects);
    if is_served {
        return;
    }
    for run in view.touched().unwrap_or_default() {
        let why = "the next daemon reads it again";
        defects.push(Defect::of(Flaw::D20, format!("{META}/touched/{run}"), why).in_run(&run));
    }
    let staging = disk::optional(meta.open_dir("staging")).ok().flatten();
    for name in staging.map_or_else(Vec::new, |dir| dir.list().unwrap_or_default()) {
        let file = format!("{META}/staging/{name}");
        if former::is_gone(&name) {
            let why = "a run left the root, and something of it is still there";
            defects.push(Defect::of(Flaw::D21, file, why).next("dormouse gc"));
        } else if name != "blobs" {
            let why = "it is removed after the next start of the machine";
            defects.push(Defect::of(Flaw::D21, file, why));
        }
    }
    stored_code(meta, view, defects);
}

/// D24 of schedules.
fn schedules(meta: &dyn Dir, defects: &mut Vec<Defect>) {
    let Ok(Some(book)) = Book::look(meta) else { return };
    for name in book.names().unwrap_or_default() {
        if let Err(e) = book.load(&name) {
            let Trouble { what, next, .. } = e.trouble();
            let place = format!("{META}/{FOLDER}/{}", folder(&name));
            let defect = Defect::of(Flaw::D24, place, what.clone());
            defects.push(next.iter().fold(defect, |defect, step| defect.next(step.clone())));
        }
    }
}

/// D19.
fn stored_code(meta: &Arc<dyn Dir>, view: &RootView, defects: &mut Vec<Defect>) {
    let store = code::CodeStore::new(Arc::clone(view.disk()), Arc::clone(meta));
    for (name, why) in store.unsound() {
        let path = meta.path().join("code").join(&name);
        let why = format!("{why}; runs have copies of their own");
        let fix = format!("rm -r {}", path.display());
        defects.push(Defect::of(Flaw::D19, format!("{META}/code/{name}"), why).next(fix));
    }
}

/// D25, D26: every byte of every archive.
fn archives(view: &RootView, ids: &[RunId], defects: &mut Vec<Defect>) {
    for run in view.archived().unwrap_or_default() {
        let Ok(Some(Former::Archived(path))) = view.former(&run) else { continue };
        let file = format!("{META}/{ARCHIVE}/{run}.dormouse");
        if ids.binary_search(&run).is_ok() {
            let why = "its directory counts, and the archive is a copy";
            defects.push(Defect::of(Flaw::D26, file, why).in_run(&run).next("dormouse gc"));
            continue;
        }
        let read = Archive::open(&**view.disk(), &path, None);
        let why = match read.and_then(|archive| archive.verify().map(|_| archive)) {
            Err(e) => e.to_string(),
            Ok(archive) if archive.manifest.run_id != run => {
                format!("it holds run {}", archive.manifest.run_id)
            }
            Ok(_) => continue,
        };
        let defect = Defect::of(Flaw::D25, file, why).in_run(&run);
        defects.push(defect.next("put the archive back from a copy"));
    }
}

/// D26, D27.
fn marks(view: &RootView, ids: &[RunId], defects: &mut Vec<Defect>) {
    for run in view.removed().unwrap_or_default() {
        let file = format!("{META}/{REMOVED}/{run}");
        if ids.binary_search(&run).is_ok() {
            let why = "its directory counts; its deletion was begun, or it was imported again";
            defects.push(Defect::of(Flaw::D26, file, why).in_run(&run).next("dormouse gc"));
        } else if let Ok(Some(Former::Deleted(None))) = view.former(&run) {
            let why = "that the run was deleted is all that is known";
            defects.push(Defect::of(Flaw::D27, file, why).in_run(&run));
        }
    }
}
