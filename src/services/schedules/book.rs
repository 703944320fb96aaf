//! The files of schedules: one folder each, below the root's own directory.
//!
//! `document.yaml` or `document.json` is what somebody applied, byte by byte; `workflow.json` is
//! the document of its runs; `schedule.json` says who applied it when; `state.json` is replaced
//! with each decision. May not decide anything. Invariant: a folder that shows its name is whole.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codecs::format::sealed;
use crate::codecs::outline::Notation;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::limits::{SCHEDULE_STATE_BYTES_MAX, WORKFLOW_DOCUMENT_BYTES_MAX};
use crate::machines::schedule::Name;
use crate::machines::schedule::state::State;
use crate::machines::workflow::cron::{self, Described};
use crate::machines::workflow::finding::Finding;
use crate::ports::disk::{Atomic, Dir, Open, Rename, optional, write_atomic};
use crate::shells::run_dir::dir::pretty;

use super::{damaged, invalid};
use crate::services::runs::Result;

/// Where schedules are, below the root's own directory.
pub const FOLDER: &str = "schedules";
/// The document of the runs.
const WORKFLOW: &str = "workflow.json";
/// Who applied what.
const CARD: &str = "schedule.json";
/// What was decided.
const STATE: &str = "state.json";
/// A folder that is being made.
const NEW: &str = ".new";
/// A folder that is being removed.
const OLD: &str = ".old";
/// What the seal of a card begins with.
const CARD_SEAL: &str = "dormouse-schedule/1";
/// What the seal of a state begins with.
const STATE_SEAL: &str = "dormouse-schedule-state/1";

/// Who applied a document, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Card {
    /// The schedule.
    pub name: Name,
    /// Told apart from others that had its name.
    pub uid: String,
    /// When it was applied.
    pub applied_at: Timestamp,
    /// By whom.
    pub by: String,
    /// The file of its document.
    pub document: String,
    /// The digest of that file.
    pub digest: Digest,
}

/// A schedule as it stands in its files.
#[derive(Debug)]
pub struct Kept {
    /// Its folder.
    pub dir: Arc<dyn Dir>,
    /// Who applied it.
    pub card: Card,
    /// What it says.
    pub described: Described,
    /// What was decided.
    pub state: State,
}

impl Kept {
    /// Makes its state durable.
    pub fn save(&self) -> Result<()> {
        let bytes = sealed::seal(STATE_SEAL, &self.state);
        Ok(write_atomic(&*self.dir, STATE, &bytes, Atomic::DURABLE)?)
    }

    /// The document of its runs.
    #[must_use]
    pub fn workflow(&self) -> PathBuf {
        self.dir.path().join(WORKFLOW)
    }

    /// The document that was applied.
    pub fn document(&self) -> Result<Vec<u8>> {
        let most = WORKFLOW_DOCUMENT_BYTES_MAX as u64;
        Ok(self.dir.read_file(&self.card.document, Open::Read, most)?)
    }
}

/// All schedules of a root.
#[derive(Debug)]
pub struct Book {
    dir: Arc<dyn Dir>,
}

impl Book {
    /// Opens the book of a root for writing, and removes what somebody left half done.
    pub fn open(meta: &Arc<dyn Dir>) -> Result<Self> {
        let book = Self { dir: meta.ensure_durable_dir(FOLDER)? };
        for left in [NEW, OLD] {
            book.clear(left)?;
        }
        Ok(book)
    }

    /// Opens it for looking; nothing if there never was a schedule.
    pub fn look(meta: &dyn Dir) -> Result<Option<Self>> {
        Ok(optional(meta.open_dir(FOLDER))?.map(|dir| Self { dir }))
    }

    /// The schedules that have a folder.
    pub fn names(&self) -> Result<Vec<Name>> {
        let folders = self.dir.list()?;
        let mut names: Vec<Name> =
            folders.iter().filter_map(|folder| folder.replace('.', "/").parse().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Reads a schedule.
    pub fn load(&self, name: &Name) -> Result<Kept> {
        let dir = self.dir.open_dir(&folder(name))?;
        let wrong = |file: &str, why: String| damaged(name, &format!("{file}: {why}"));
        let read = |file: &str| dir.read_file(file, Open::Read, SCHEDULE_STATE_BYTES_MAX);
        let card: Card =
            sealed::open(CARD_SEAL, &read(CARD)?).map_err(|e| wrong(CARD, e.to_string()))?;
        let state: State =
            sealed::open(STATE_SEAL, &read(STATE)?).map_err(|e| wrong(STATE, e.to_string()))?;
        let file = card.document.clone();
        let bytes = dir.read_file(&file, Open::Read, WORKFLOW_DOCUMENT_BYTES_MAX as u64)?;
        if Digest::of(&bytes) != card.digest || card.name != *name {
            return Err(wrong(&file, "it is not the one that was applied".to_owned()));
        }
        let notation = Notation::of(&file).unwrap_or(Notation::Yaml);
        let reading = cron::read(&String::from_utf8_lossy(&bytes), notation);
        let first = reading.findings.iter().find(|finding| finding.is_error());
        let why = || first.map_or(String::new(), |finding| finding.message.clone());
        let described = reading.schedule.ok_or_else(|| wrong(&file, why()))?;
        Ok(Kept { dir, card, described, state })
    }

    /// Adds a schedule, whole and durable.
    pub fn add(&self, document: &Document, by: &str, uid: String, now: Timestamp) -> Result<Kept> {
        let Document { described, text, notation } = document.clone();
        let file = match notation {
            Notation::Json => "document.json",
            Notation::Yaml => "document.yaml",
        };
        let name = described.name.clone();
        let card = Card {
            name: name.clone(),
            uid,
            applied_at: now,
            by: by.to_owned(),
            document: file.to_owned(),
            digest: Digest::of(text.as_bytes()),
        };
        let state = State::new(now, described.plan.is_suspended);
        self.clear(NEW)?;
        self.dir.mkdir(NEW)?;
        let new = self.dir.open_dir(NEW)?;
        for (name, bytes) in [
            (file, text.into_bytes()),
            (WORKFLOW, pretty(&described.workflow)),
            (CARD, sealed::seal(CARD_SEAL, &card)),
            (STATE, sealed::seal(STATE_SEAL, &state)),
        ] {
            write_atomic(&*new, name, &bytes, Atomic::DURABLE)?;
        }
        self.dir.rename(NEW, &*self.dir, &folder(&name), Rename::NoReplace)?;
        self.dir.sync()?;
        let dir = self.dir.open_dir(&folder(&name))?;
        Ok(Kept { dir, card, described, state })
    }

    /// Removes a schedule. Its runs stay.
    pub fn remove(&self, name: &Name) -> Result<()> {
        self.clear(OLD)?;
        self.dir.rename(&folder(name), &*self.dir, OLD, Rename::NoReplace)?;
        self.dir.sync()?;
        self.clear(OLD)
    }

    /// Removes a folder that is no schedule.
    fn clear(&self, left: &str) -> Result<()> {
        let Some(dir) = optional(self.dir.open_dir(left))? else { return Ok(()) };
        for file in dir.list()? {
            dir.unlink(&file)?;
        }
        self.dir.rmdir(left)?;
        Ok(())
    }

    /// Whether a schedule has a folder, be it readable or not.
    pub fn has(&self, name: &Name) -> Result<bool> {
        Ok(optional(self.dir.stat(&folder(name)))?.is_some())
    }
}

/// The folder of a schedule, below [`FOLDER`].
#[must_use]
pub fn folder(name: &Name) -> String {
    format!("{}.{}", name.namespace, name.name)
}

/// A document that somebody wants to apply.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it says.
    pub described: Described,
    /// Byte by byte.
    pub text: String,
    /// How it is written.
    pub notation: Notation,
}

impl Document {
    /// Reads one, and gives what its author may be surprised by.
    pub fn read(text: &str, notation: Notation) -> Result<(Self, Vec<Finding>)> {
        let cron::Reading { schedule, findings } = cron::read(text, notation);
        let Some(described) = schedule else { return Err(invalid(&findings, text)) };
        Ok((Self { described, text: text.to_owned(), notation }, findings))
    }
}
