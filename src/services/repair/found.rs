//! What can be put back into a run, and where it was found: its own lines out of place, what
//! recoveries kept of it, a copy that the operator names, the stored code of the root.
//!
//! May not write. Invariant: a record is put back only where its sum follows and the fold takes
//! it; where two of them would fit, none is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::codecs::event::{BlobRef, ProcessRef, Record};
use crate::codecs::format::line;
use crate::ground::digest::Digest;
use crate::ground::id::Seq;
use crate::ground::limits::{MODULE_BYTES_MAX, RUN_JOURNAL_BYTES_MAX};
use crate::machines::replay::state::RunState;
use crate::ports::disk::{self, Dir, Open};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};
use crate::shells::journal::reader;
use crate::shells::journal::scan::Finding;
use crate::shells::pin::{LOCK_FILE, PinLock, PinnedGraph};
use crate::shells::run_dir::code::{CodeStore, places};
use crate::shells::run_dir::dir::RunDir;

use super::judge::Judged;

/// Where the own lines of a journal come from: nobody needs to be told.
const OWN: &str = "";

/// A copy of a run that an operator names.
pub(super) struct Copy {
    dir: RunDir,
    name: String,
}

impl Runs {
    /// The copy of `run` at `path`: its directory, or a directory that holds it by its id.
    pub(super) fn copy_of(&self, run: &RunDir, path: &Path) -> Result<Copy> {
        let top = self.disk.open_dir(path)?;
        let inner = disk::optional(top.open_dir(run.id().as_str())).ok().flatten();
        let dir = inner.filter(|dir| is_run(&**dir)).or_else(|| is_run(&*top).then_some(top));
        let unfit = |what: String| {
            let next = "give the directory of a copy of this run, or one that holds it by its id";
            Err(Error::Invalid(Trouble::new("copy_unfit", what).next(next)))
        };
        let Some(dir) = dir else {
            return unfit(format!("{} holds no copy of run {}", path.display(), run.id()));
        };
        let name = dir.path().display().to_string();
        let dir = RunDir::new(Arc::clone(&self.disk), dir, run.id().clone(), None);
        match dir.run_json() {
            Some(json) if json.run_id != *run.id() => {
                unfit(format!("{name} is a copy of run {}", json.run_id))
            }
            _ => Ok(Copy { dir, name }),
        }
    }
}

fn is_run(dir: &dyn Dir) -> bool {
    ["journal", "run.json", "blobs", "process"].iter().any(|name| dir.stat(name).is_ok())
}

/// Lines that may be records of a run, by the place that they claim.
#[derive(Default)]
pub(super) struct Lines {
    /// Up to here nothing is looked for.
    head: Seq,
    lines: BTreeMap<Seq, Vec<(Vec<u8>, String)>>,
}

impl Lines {
    /// All lines of a run that claim a place after `head`, wherever it is known to have lines.
    pub(super) fn of(run: &RunDir, head: Seq, copy: Option<&Copy>) -> Result<Self> {
        let mut lines = Self { head, ..Self::default() };
        lines.take(OWN, reader::lines_of(&**run.dir())?);
        let is_tail = |name: &str| name.starts_with("tail-g");
        lines.kept("quarantine", run.dir(), is_tail)?;
        if let Some(meta) = run.root() {
            let orphan = format!("orphan-{}-g", run.id());
            lines.kept(".dormouse/quarantine", meta, |name| name.starts_with(&orphan))?;
        }
        if let Some(copy) = copy {
            lines.take(&copy.name, reader::lines_of(&**copy.dir.dir())?);
        }
        Ok(lines)
    }

    /// What recoveries kept of the run.
    fn kept(
        &mut self,
        place: &str,
        above: &Arc<dyn Dir>,
        is_ours: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let Some(dir) = disk::optional(above.open_dir("quarantine"))? else { return Ok(()) };
        for name in dir.list()?.iter().filter(|name| is_ours(name)) {
            let bytes = dir.read_file(name, Open::Read, RUN_JOURNAL_BYTES_MAX)?;
            let lines = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec);
            self.take(&format!("{place}/{name}"), lines.collect());
        }
        Ok(())
    }

    fn take(&mut self, source: &str, lines: Vec<Vec<u8>>) {
        for line in lines {
            if let Some(seq) = claimed(&line).filter(|seq| *seq > self.head) {
                self.lines.entry(seq).or_default().push((line, source.to_owned()));
            }
        }
    }

    /// The highest place that a line of the journal itself claims.
    pub(super) fn own_last(&self) -> Option<Seq> {
        let is_own = |lines: &Vec<(Vec<u8>, String)>| lines.iter().any(|(_, from)| from == OWN);
        self.lines.iter().rev().find(|(_, lines)| is_own(lines)).map(|(seq, _)| *seq)
    }

    /// Goes on from what verified as far as exactly one record follows and is legal.
    pub(super) fn go_on(&self, judged: &Judged) -> Continued {
        let (mut records, mut state) = (judged.scan.records.clone(), judged.state.clone());
        let mut sum = judged.scan.head.sum;
        let mut from = BTreeMap::new();
        let mut seq = judged.scan.head.seq.next();
        while let Some(lines) = self.lines.get(&seq) {
            let fits = lines.iter().filter_map(|(line, source)| {
                let record = line::decode(line, sum).ok().filter(|record| record.seq == seq)?;
                Some((record, source))
            });
            let fits: Vec<(Record, &String)> = fits.collect();
            let Some((record, source)) = fits.first() else { break };
            // Two stories: only an operator can know which is true.
            if fits.iter().any(|(other, _)| other.sum != record.sum) || !take(&mut state, record) {
                break;
            }
            from.insert(seq, (*source).clone());
            (sum, seq) = (record.sum, seq.next());
            records.push(record.clone());
        }
        Continued { records, state, from }
    }
}

fn take(state: &mut Option<RunState>, record: &Record) -> bool {
    if let Some(state) = state {
        return state.apply(record).is_ok();
    }
    *state = RunState::first(record).ok();
    state.is_some()
}

fn claimed(line: &[u8]) -> Option<Seq> {
    let (body, _) = line::split(line)?;
    Some(line::envelope(std::str::from_utf8(body).ok()?).ok()?.seq)
}

/// A journal as far as it can be put together.
pub(super) struct Continued {
    /// Its records.
    pub(super) records: Vec<Record>,
    /// Their fold.
    pub(super) state: Option<RunState>,
    /// Where those were found that did not stand where they belong.
    from: BTreeMap<Seq, String>,
}

impl Continued {
    /// Where a record was found; nothing if it is the journal's own.
    pub(super) fn source(&self, seq: Seq) -> Option<&str> {
        self.from.get(&seq).map(String::as_str).filter(|from| *from != OWN)
    }

    /// All places, each once.
    pub(super) fn sources(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.from.values().filter(|from| *from != OWN).collect();
        all.into_iter().cloned().collect()
    }
}

/// A file that is put back beside the journal.
pub(super) struct Put {
    /// Where it belongs, below the run's directory.
    pub(super) path: String,
    /// Of its content.
    pub(super) digest: Digest,
    origin: Origin,
}

enum Origin {
    /// The copy's file of this path.
    Copy(String),
    /// A file of the stored process.
    Store(Digest, String),
}

/// What can be put back of what is `wrong` beside a journal of these records, and what cannot.
pub(super) fn missing(
    run: &RunDir,
    copy: Option<&Copy>,
    wrong: &[Finding],
    records: &[Record],
    state: Option<&RunState>,
) -> (Vec<Put>, Vec<String>) {
    let (mut puts, mut lacking) = (Vec::new(), Vec::new());
    for finding in wrong {
        let of_blob = |blob: &&BlobRef| finding.file.ends_with(&blob.digest.hex());
        let blob = records.iter().flat_map(|record| record.event.blobs()).find(of_blob);
        let found = match (blob, state.and_then(|state| state.process.as_ref())) {
            (Some(blob), _) => copy.and_then(|copy| copy.blob(blob)).map(|put| vec![put]),
            (None, Some(process)) => code(run, copy, process),
            (None, None) => None,
        };
        match found {
            Some(found) => puts.extend(found),
            None => lacking.push(format!("{}: {}", finding.file, finding.why)),
        }
    }
    (puts, lacking)
}

impl Copy {
    fn blob(&self, blob: &BlobRef) -> Option<Put> {
        self.dir.get_blob(blob).ok()?;
        let path = format!("blobs/{}", blob.digest.hex());
        Some(Put { path: path.clone(), digest: blob.digest, origin: Origin::Copy(path) })
    }
}

/// The files of the pinned process that the run has not as they should be.
fn code(run: &RunDir, copy: Option<&Copy>, process: &ProcessRef) -> Option<Vec<Put>> {
    let wanted = process.digest;
    let [first, beside] = places(&wanted);
    let of_copy = [&first, &beside].map(|place| {
        move |path: &str| (Origin::Copy(format!("{place}/{path}")), format!("{place}/{path}"))
    });
    for origin in of_copy {
        let Some(copy) = copy else { break };
        let read = |path: &str| copy.dir.read_relative(&origin(path).1, MODULE_BYTES_MAX);
        if let Some(puts) = whole(run, process, &read, &|path| origin(path).0) {
            return Some(puts);
        }
    }
    let store = store(run)?;
    let read = |path: &str| store.read(&wanted, path);
    whole(run, process, &read, &|path| Origin::Store(wanted, path.to_owned()))
}

fn store(run: &RunDir) -> Option<CodeStore> {
    Some(CodeStore::new(Arc::clone(run.disk()), Arc::clone(run.root()?)))
}

/// The same from one place, if it has all of it.
fn whole(
    run: &RunDir,
    process: &ProcessRef,
    read: &dyn Fn(&str) -> disk::Result<Vec<u8>>,
    origin: &dyn Fn(&str) -> Origin,
) -> Option<Vec<Put>> {
    let bytes = read(LOCK_FILE).ok()?;
    let lock = PinLock::read(&bytes).ok()?;
    PinnedGraph::verify(&lock, process, &mut |path| read(path).map_err(|e| e.source)).ok()?;
    let there = |place: &str, path: &str| {
        let read = run.read_relative(&format!("{place}/{path}"), MODULE_BYTES_MAX).ok();
        read.map(|bytes| Digest::of(&bytes))
    };
    let [first, beside] = places(&process.digest);
    let stands = there(&first, LOCK_FILE);
    let place = if stands.is_none_or(|found| found == Digest::of(&bytes)) { first } else { beside };
    // The lock file last: it says that the copy is whole.
    let files = lock.files.iter().map(|file| (file.path.as_str(), file.digest));
    let files = files.chain([(LOCK_FILE, Digest::of(&bytes))]);
    let differs = files.filter(|(path, digest)| there(&place, path) != Some(*digest));
    let put = |(path, digest): (&str, Digest)| Put {
        path: format!("{place}/{path}"),
        digest,
        origin: origin(path),
    };
    Some(differs.map(put).collect())
}

impl Put {
    /// Puts the file where it belongs, durably.
    pub(super) fn put(&self, run: &RunDir, copy: Option<&Copy>) -> Result<()> {
        let bytes = match (&self.origin, copy, store(run)) {
            (Origin::Copy(path), Some(copy), _) => {
                copy.dir.read_relative(path, RUN_JOURNAL_BYTES_MAX)?
            }
            (Origin::Store(process, path), _, Some(store)) => store.read(process, path)?,
            _ => Vec::new(),
        };
        if Digest::of(&bytes) != self.digest {
            let what = format!("what was to be put back as {} has changed meanwhile", self.path);
            return Err(Error::Conflict(Trouble::new("copy_unfit", what)));
        }
        if self.path.starts_with("blobs/") {
            run.put_blob(&bytes)?;
            return Ok(());
        }
        Ok(run.put_relative(&self.path, &bytes)?)
    }

    /// Where it was found.
    pub(super) fn source(&self, copy: Option<&Copy>) -> String {
        match (&self.origin, copy) {
            (Origin::Store(process, _), _) => format!(".dormouse/code/{}", process.hex()),
            (Origin::Copy(_), copy) => copy.map_or(String::new(), |copy| copy.name.clone()),
        }
    }
}
