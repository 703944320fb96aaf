//! Making a run's directory from its records, for a run that was created by a line of the log.
//!
//! May not know where the lines come from, and writes none of them. Invariant: whatever stops it,
//! making again completes the directory; what is there already is kept.

use super::blob;
use super::code::{self, CodeStore};
use super::dir::{FORMAT_VERSION, RunDir, RunJson};
use super::root::RootView;
use crate::codecs::event::{BlobRef, Event, ProcessRef, RunCreated};
use crate::codecs::format::line;
use crate::codecs::json::{Json, Surrogates, gate};
use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;
use crate::ground::limits::{JSON_DEPTH_MAX, VALUE_BYTES_MAX};
use crate::ports::disk::{self, Atomic, Dir, Open};
use std::sync::Arc;

const STAGING: &str = "staging";
const BLOBS: &str = "blobs";
const DEPTH_MAX: u32 = 64;

/// Keeps a large value for a run that has no directory yet, durably.
pub fn stage_blob(meta: &dyn Dir, bytes: &[u8]) -> disk::Result<BlobRef> {
    let staging = meta.ensure_durable_dir(STAGING)?;
    blob::put(&*staging.ensure_durable_dir(BLOBS)?, bytes)
}

/// Forgets all values that wait for directories: every run has its own by now.
pub fn forget_staged_blobs(meta: &dyn Dir) -> disk::Result<()> {
    let Some(staging) = disk::optional(meta.open_dir(STAGING))? else { return Ok(()) };
    let Some(blobs) = disk::optional(staging.open_dir(BLOBS))? else { return Ok(()) };
    for name in blobs.list()? {
        disk::optional(blobs.unlink(&name))?;
    }
    Ok(())
}

/// What records say about the files beside a journal.
#[derive(Debug, Default)]
struct Wanted {
    created: Option<(Timestamp, Box<RunCreated>)>,
    processes: Vec<ProcessRef>,
    assigned: Option<ProcessRef>,
    blobs: Vec<BlobRef>,
}

impl Wanted {
    /// Reads lines that were verified. One that this version cannot read asks for nothing: whoever
    /// opens the journal says so.
    fn of(lines: &[u8]) -> Self {
        let mut wanted = Self::default();
        for line in lines.split_inclusive(|b| *b == b'\n') {
            let body = line::split(line).and_then(|(body, _)| std::str::from_utf8(body).ok());
            let Some(Ok(record)) = body.map(line::envelope) else { continue };
            let Ok(event) = Event::decode(record.event_type, record.data) else { continue };
            wanted.blobs.extend(event.blobs().into_iter().cloned());
            match event {
                Event::RunCreated(created) => {
                    wanted.processes.extend(created.process.clone());
                    wanted.created = Some((record.at, Box::new(created)));
                }
                Event::ProcessAssigned(assigned) => {
                    wanted.processes.push(assigned.process.clone());
                    wanted.assigned = Some(assigned.process);
                }
                Event::RunContinued(continued) => wanted.processes.push(continued.process),
                _ => {}
            }
        }
        wanted
    }
}

/// Makes what is missing of a run's directory, journal lines aside: the directory itself,
/// `journal/`, `run.json`, `inputs.json`, pinned code, blobs. `lines` are records of the run; if
/// the one that created it is not among them, the directory must be there. Nothing is synced but
/// what had to be copied.
pub fn make(root: &RootView, run: &RunId, lines: &[u8]) -> disk::Result<RunDir> {
    let wanted = Wanted::of(lines);
    let dir = match wanted.created {
        Some(_) => root.dir().ensure_dir(run.as_str())?,
        None => root.dir().open_dir(run.as_str())?,
    };
    let meta = root.meta().map(Arc::clone);
    let run = RunDir::new(Arc::clone(root.disk()), dir, run.clone(), meta);
    run.dir().ensure_dir("journal")?;
    if let Some(meta) = root.meta() {
        let code = CodeStore::new(Arc::clone(root.disk()), Arc::clone(meta));
        for process in &wanted.processes {
            code.link_into(&run, &process.digest)?;
        }
        link_blobs(&**meta, &run, &wanted.blobs)?;
    }
    write_identity(&run, &wanted)?;
    Ok(run)
}

fn link_blobs(meta: &dyn Dir, run: &RunDir, blobs: &[BlobRef]) -> disk::Result<()> {
    let Some(staging) = disk::optional(meta.open_dir(STAGING))? else { return Ok(()) };
    let Some(staged) = disk::optional(staging.open_dir(BLOBS))? else { return Ok(()) };
    for blob in blobs {
        let name = blob.digest.hex();
        if disk::optional(staged.stat(&name))?.is_some() {
            let into = run.dir().ensure_dir(BLOBS)?;
            code::link_or_copy(&*staged, &name, &*into, &name, blob.bytes)?;
        }
    }
    Ok(())
}

fn write_identity(run: &RunDir, wanted: &Wanted) -> disk::Result<()> {
    let Some((at, created)) = &wanted.created else {
        return match (run.run_json(), &wanted.assigned) {
            (Some(json), Some(process)) if json.process.as_ref() != Some(process) => {
                run.write_run_json(&RunJson { process: Some(process.clone()), ..json })
            }
            _ => Ok(()),
        };
    };
    let json = RunJson {
        run_id: created.run_id.clone(),
        format_version: FORMAT_VERSION,
        created_at: *at,
        process: wanted.assigned.clone().or_else(|| created.process.clone()),
        parent: created.parent.clone(),
        cwd: created.cwd.clone(),
        tags: created.tags.clone(),
        non_interactive: created.non_interactive,
        forked_from: None,
    };
    if run.run_json().as_ref() != Some(&json) {
        run.write_run_json(&json)?;
    }
    if let Some(inputs) = inputs(run, created) {
        let text = format!("{}\n", inputs.as_str());
        let max = VALUE_BYTES_MAX as u64 + 1;
        let there = run.dir().read_file("inputs.json", Open::Read, max);
        if there.ok().as_deref() != Some(text.as_bytes()) {
            run.write_inputs(&inputs)?;
        }
    }
    Ok(())
}

/// The inputs, if they can be had: the file is derived, so a blob that is missing is the journal's
/// affair.
fn inputs(run: &RunDir, created: &RunCreated) -> Option<Json> {
    match (&created.inputs_blob, &created.inputs) {
        (Some(blob), _) => gate(&run.get_blob(blob).ok()?, JSON_DEPTH_MAX, Surrogates::Lone).ok(),
        (None, inputs) => inputs.clone(),
    }
}

/// Syncs what [`make`] made, innermost first: identity, code, blobs, `journal/`, then the run's
/// directory. The name of the directory in the root is the caller's, who may sync many at once;
/// so are the journal's lines.
pub fn sync(run: &RunDir) -> disk::Result<()> {
    for name in ["run.json", "inputs.json"] {
        let Some(file) = disk::optional(run.dir().open(name, Open::Read))? else { continue };
        if file.sync_file().is_err() {
            // A failed write-back is reported once, and maybe to somebody who died: a new file.
            let bytes = file.read_all(VALUE_BYTES_MAX as u64 + 1)?;
            disk::write_atomic(&**run.dir(), name, &bytes, Atomic::DURABLE)?;
        }
    }
    for name in run.dir().list()? {
        if name == BLOBS || name == "journal" {
            run.dir().open_dir(&name)?.sync()?;
        } else if name == "process" || name.starts_with("process-") {
            code::sync_tree(&run.dir().open_dir(&name)?, DEPTH_MAX)?;
        }
    }
    run.dir().sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codecs::event::{Profile, SignalReceived};
    use crate::ground::digest::Digest;
    use crate::ground::id::Seq;
    use crate::ports::disk::Disk;
    use crate::ports::disk::memory::{Fault, MemoryDisk};
    use crate::shells::pin::LOCK_FILE;
    use std::path::Path;

    fn lines(blob: &BlobRef, process: &Digest) -> Vec<u8> {
        let id: RunId = "r".parse().unwrap();
        let process = ProcessRef {
            process_id: "p".into(),
            entry: "main.js".into(),
            export_name: None,
            api: Profile::Dormouse,
            digest: *process,
        };
        let created = RunCreated {
            run_id: id.clone(),
            process: Some(process),
            inputs: None,
            inputs_blob: Some(blob.clone()),
            parent: None,
            schedule: None,
            idempotency: None,
            generation: 1,
            tags: vec!["t".into()],
            cwd: None,
            non_interactive: false,
            system: None,
            traceparent: None,
            by: "operator:test".into(),
        };
        let signal = SignalReceived {
            signal_id: "s".into(),
            name: "n".into(),
            correlation_key: None,
            payload: None,
            payload_blob: Some(blob.clone()),
            digest: blob.digest,
            by: "operator:test".into(),
        };
        let at = Timestamp::default();
        let (mut bytes, sum) = line::encode(Seq(1), at, &created.into(), line::genesis(&id));
        bytes.extend(line::encode(Seq(2), at, &signal.into(), sum).0);
        bytes
    }

    /// A root with code and a staged blob.
    fn prepared(disk: &MemoryDisk) -> Vec<u8> {
        disk.create_dirs(Path::new("/runs/.dormouse")).unwrap();
        let meta = disk.open_dir(Path::new("/runs/.dormouse")).unwrap();
        let digest = Digest::of(b"code");
        let files = [("main.js", "x"), (LOCK_FILE, "{}")].map(|(p, t)| (p.to_owned(), t.into()));
        let store = CodeStore::new(Arc::new(disk.clone()), Arc::clone(&meta));
        store.put(&digest, &files).unwrap();
        let blob = stage_blob(&*meta, b"[1, 2]").unwrap();
        lines(&blob, &digest)
    }

    fn make_synced(disk: &MemoryDisk, lines: &[u8]) -> disk::Result<()> {
        let arc: Arc<dyn Disk> = Arc::new(disk.clone());
        let root = RootView::open(&arc, Path::new("/runs"))
            .map_err(|_| disk::Error::of_kind("open", "/runs", disk::Kind::Broken, "no root"))?;
        let run = make(&root, &"r".parse().unwrap(), lines)?;
        sync(&run)?;
        root.dir().sync()
    }

    #[test]
    fn a_directory_that_is_made_is_complete_wherever_making_died_before() {
        for nth in 1.. {
            let disk = MemoryDisk::new(nth);
            let lines = prepared(&disk);
            disk.fail_at(nth, Fault::Die);
            let died = make_synced(&disk, &lines).is_err();
            if nth % 2 == 0 {
                disk.kill();
            } else {
                disk.power_cut();
            }
            make_synced(&disk, &lines).unwrap();
            disk.power_cut();
            let arc: Arc<dyn Disk> = Arc::new(disk.clone());
            let root = RootView::open(&arc, Path::new("/runs")).unwrap();
            let run = root.run(&"r".parse().unwrap()).unwrap();
            assert_eq!(run.run_json().unwrap().tags, ["t"]);
            assert_eq!(run.read_relative("inputs.json", 9).unwrap(), b"[1,2]\n");
            assert_eq!(run.read_relative("process/main.js", 9).unwrap(), b"x");
            assert_eq!(run.list_relative("journal").unwrap(), [""; 0]);
            let name = Digest::of(b"[1, 2]").hex();
            assert_eq!(run.list_relative("blobs").unwrap(), [name]);
            forget_staged_blobs(&**root.meta().unwrap()).unwrap();
            assert_eq!(run.read_relative("inputs.json", 9).unwrap(), b"[1,2]\n");
            if !died {
                break;
            }
        }
    }
}
