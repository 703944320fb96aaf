//! What can go wrong with a deed, grouped by what the caller can do about it.
//!
//! May not know exit codes or HTTP. Invariant: every error has a stable code that a page explains,
//! says what and why, and names the next command where there is one.

use serde_json::{Map, Value};

use crate::machines::effect::refusal::{Hold, Refusal};
use crate::machines::replay::state::IllegalEvent;
use crate::ports::disk;
use crate::shells::commit_log::{recover, scan};
use crate::shells::journal::scan::{Case, Scan};
use crate::shells::journal::writer;
use crate::shells::pin::{E_CROWDED, PinError, VerifyError};
use crate::shells::run_dir::former::Former;
use crate::shells::run_dir::{blob, lock, root};

/// The result of a deed.
pub type Result<T> = std::result::Result<T, Error>;

/// What to tell about an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Stable code: the name of its page.
    pub code: &'static str,
    /// What is wrong, and why.
    pub what: String,
    /// Commands and remarks that help.
    pub next: Vec<String>,
    /// What a program needs to know of it, by name.
    pub facts: Option<Box<Map<String, Value>>>,
}

/// An error of a deed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The caller's words make no sense: mend them.
    #[error("{}", .0.what)]
    Invalid(Trouble),
    /// What was named does not exist.
    #[error("{}", .0.what)]
    NotFound(Trouble),
    /// Something else stands already, or somebody else is at it.
    #[error("{}", .0.what)]
    Conflict(Trouble),
    /// Data is damaged; an operator decides.
    #[error("{}", .0.what)]
    Damaged(Trouble),
    /// Refused by a policy, a schema or a limit.
    #[error("{}", .0.what)]
    Refused(Trouble),
    /// Storage failed. Nothing was written, or nobody knows (`unknown`).
    #[error("{}", .trouble.what)]
    Storage {
        /// What to tell.
        trouble: Trouble,
        /// Whether the last record may be there.
        unknown: bool,
    },
    /// A bug in dormouse.
    #[error("{}", .0.what)]
    Bug(Trouble),
}

impl Trouble {
    /// An error text under its code.
    #[must_use]
    pub fn new(code: &'static str, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), next: Vec::new(), facts: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(mut self, hint: impl Into<String>) -> Self {
        self.next.push(hint.into());
        self
    }

    /// Adds something for programs.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.get_or_insert_default().insert(name.to_owned(), value.into());
        self
    }
}

impl Error {
    /// What to tell.
    #[must_use]
    pub const fn trouble(&self) -> &Trouble {
        match self {
            Self::Invalid(t)
            | Self::NotFound(t)
            | Self::Conflict(t)
            | Self::Damaged(t)
            | Self::Refused(t)
            | Self::Bug(t)
            | Self::Storage { trouble: t, .. } => t,
        }
    }

    /// The same error with one more thing to do.
    #[must_use]
    pub fn and_next(mut self, hint: impl Into<String>) -> Self {
        self.trouble_mut().next.push(hint.into());
        self
    }

    /// The same error with one more thing for programs.
    #[must_use]
    pub fn and_fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.trouble_mut().facts.get_or_insert_default().insert(name.to_owned(), value.into());
        self
    }

    /// The same error with the names of a run and an effect in the commands that help.
    #[must_use]
    pub fn named(mut self, run: &str, effect: &str) -> Self {
        for next in &mut self.trouble_mut().next {
            *next = next.replace("EFFECT", effect).replace("RUN", run);
        }
        self
    }

    fn trouble_mut(&mut self) -> &mut Trouble {
        let (Self::Invalid(t)
        | Self::NotFound(t)
        | Self::Conflict(t)
        | Self::Damaged(t)
        | Self::Refused(t)
        | Self::Bug(t)
        | Self::Storage { trouble: t, .. }) = self;
        t
    }
}

/// A text with its causes, outermost first.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// The refusal of what needs a file while too many are open. It passes.
#[must_use]
pub fn too_many_open(what: &str) -> Error {
    let trouble = Trouble::new("overloaded", format!("too many open files: {what}"));
    let next = "raise `ulimit -n` for whoever opens them; asking again in a second may do";
    Error::Storage { trouble: trouble.next(next), unknown: false }
}

impl From<disk::Error> for Error {
    fn from(error: disk::Error) -> Self {
        if error.kind == disk::Kind::TooManyOpen {
            return too_many_open(&error.to_string());
        }
        let code = match error.kind {
            disk::Kind::NoSpace => "disk_full",
            disk::Kind::NotFound => "file_not_found",
            _ => "storage_failed",
        };
        let mut trouble = Trouble::new(code, chain(&error));
        if error.kind == disk::Kind::Denied {
            trouble = trouble.next("look at its owner and permissions with `ls -ld`");
        }
        match error.kind {
            disk::Kind::NotFound => Self::NotFound(trouble.next("check the path with `ls -l`")),
            disk::Kind::WrongKind | disk::Kind::BadName => {
                let refused = Trouble { code: "file_refused", ..trouble };
                Self::Refused(refused.next("give the path of a regular file, not of a link"))
            }
            disk::Kind::NoSpace => Self::Storage {
                trouble: trouble.next("free some space, then try again"),
                unknown: false,
            },
            _ => Self::Storage {
                trouble: trouble.next("look at the disk (`df`, `dmesg`), then try again"),
                unknown: false,
            },
        }
    }
}

impl From<lock::Error> for Error {
    fn from(error: lock::Error) -> Self {
        match error {
            lock::Error::Busy { .. } => Self::Conflict(
                Trouble::new("lock_busy", error.to_string())
                    .next("wait for it, or give --lock-timeout a longer time"),
            ),
            lock::Error::NotALock { .. } => Self::Refused(Trouble::new("R3", error.to_string())),
            lock::Error::Disk(e) => e.into(),
        }
    }
}

impl From<root::Error> for Error {
    fn from(error: root::Error) -> Self {
        let text = error.to_string();
        match error {
            root::Error::NotFound(_) => Self::NotFound(Trouble::new("run_not_found", text)),
            root::Error::Ambiguous { .. } => Self::Invalid(
                Trouble::new("run_ambiguous", text).next("give more characters of the id"),
            ),
            root::Error::Exists(_) => Self::Conflict(Trouble::new("run_exists", text)),
            root::Error::Former { run, former } => Self::Conflict(match former {
                Former::Deleted(_) => Trouble::new("run_deleted", text)
                    .next("its id is not used again: choose another --run-id, or another key"),
                Former::Archived(_) => {
                    Trouble::new("run_archived", text).next(format!("dormouse run unarchive {run}"))
                }
            }),
            root::Error::Refused { label, .. } => {
                let mut trouble = Trouble::new(label, text);
                trouble.next.extend(rule_next(label).map(str::to_owned));
                Self::Refused(trouble)
            }
            root::Error::NeedsRecovery(_) => {
                Self::Conflict(Trouble::new("root_needs_recovery", text))
            }
            root::Error::Name(_) => Self::Invalid(Trouble::new("run_id_invalid", text)),
            root::Error::TooLong(_) => Self::Refused(Trouble::new("record_too_long", text)),
            root::Error::Unknown(e) => Self::Storage {
                trouble: Trouble::new("unknown_outcome", format!("{text}: {}", chain(&e)))
                    .next("look again: the run may or may not be there"),
                unknown: true,
            },
            root::Error::Lock(e) => e.into(),
            root::Error::Disk(e) => e.into(),
        }
    }
}

impl From<recover::Failure> for Error {
    fn from(failure: recover::Failure) -> Self {
        match failure {
            recover::Failure::Log(scan::Error::Corrupt(found)) => {
                let label = found.label.as_str();
                let mut trouble =
                    Trouble::new(label, scan::Error::Corrupt(found.clone()).to_string());
                trouble.next.extend(found.facts());
                Self::Damaged(trouble.next(format!("dormouse explain {label}")))
            }
            recover::Failure::Log(scan::Error::OtherRoot(path)) => {
                let text = scan::Error::OtherRoot(path).to_string();
                Self::Refused(Trouble::new("R2", text))
            }
            recover::Failure::Log(scan::Error::Unreadable(e)) => {
                let text = format!("the commit log cannot be read: {} [L10]", chain(&e));
                Self::Storage { trouble: Trouble::new("L10", text), unknown: false }
            }
            recover::Failure::Disk(e) => Self::from(e).and_next("try again: nothing was removed"),
        }
    }
}

impl From<writer::Error> for Error {
    fn from(error: writer::Error) -> Self {
        let text = chain(&error);
        match error {
            writer::Error::Conflict { .. } => Self::Conflict(Trouble::new("head_moved", text)),
            writer::Error::TooLong(_) => Self::Refused(Trouble::new("record_too_long", text)),
            writer::Error::SetAside(scan) => damaged(&scan),
            writer::Error::NotWritten(e) if e.kind == disk::Kind::TooManyOpen => e.into(),
            writer::Error::NotWritten(e) => {
                let code = if e.kind == disk::Kind::NoSpace { "disk_full" } else { "not_written" };
                Self::Storage { trouble: Trouble::new(code, text), unknown: false }
            }
            writer::Error::Unknown(_) => Self::Storage {
                trouble: Trouble::new("unknown_outcome", text)
                    .next("look again: the record may or may not be in the journal"),
                unknown: true,
            },
            writer::Error::Latched => {
                Self::Storage { trouble: Trouble::new("not_written", text), unknown: false }
            }
        }
    }
}

/// What helps where nothing in the run itself does: COPY is the directory of a copy of the run.
const FROM_COPY: &str = "dormouse run repair-journal RUN --from COPY";

/// What helps in a case that no plan mends.
#[must_use]
pub const fn case_next(case: Case) -> &'static str {
    match case {
        Case::J01 => "see that this is the directory of a run; there is nothing to mend",
        Case::J60 => "look at the disk first (`dmesg`); nothing is mended over read errors",
        Case::J61 => "make the run plain files of one owner: `ls -lR`, then `chmod -R go-w`",
        Case::J62 => "use the version of dormouse that wrote it, or a newer one",
        _ => FROM_COPY,
    }
}

/// What helps where a root or a run is refused by a rule.
fn rule_next(label: &str) -> Option<&'static str> {
    Some(match label {
        "R1" => "put root.json back from a copy, or give another --runs-root",
        "R4" => "use a local disk, or give --allow-fs with that type",
        "R5" => "`chmod go-w` the directory, or run as its owner",
        "J61" => case_next(Case::J61),
        _ => return None,
    })
}

/// The error of a journal that must not be executed as it is.
#[must_use]
pub fn damaged(scan: &Scan) -> Error {
    let case = scan.main.case;
    if scan.may_pass {
        return too_many_open(&scan.main.why);
    }
    let place = if scan.main.file.is_empty() {
        String::new()
    } else {
        format!(" ({} at byte {})", scan.main.file, scan.main.offset)
    };
    let what = format!("{}: {}{place} [{}]", case.title(), scan.main.why, case.label());
    let mut trouble = Trouble::new(case.label(), what);
    if case == Case::J61 {
        trouble.next.push(case_next(case).to_owned());
    }
    Error::Damaged(trouble)
}

impl From<blob::Error> for Error {
    fn from(error: blob::Error) -> Self {
        let text = error.to_string();
        match error {
            blob::Error::Missing(_) => Self::Damaged(Trouble::new("J50", text).next(FROM_COPY)),
            blob::Error::Differs(_) => Self::Damaged(Trouble::new("J51", text).next(FROM_COPY)),
            blob::Error::Disk(e) => e.into(),
        }
    }
}

impl From<PinError> for Error {
    fn from(error: PinError) -> Self {
        if error.code == E_CROWDED {
            return too_many_open(&error.message);
        }
        let place = error.site.as_ref().map_or(String::new(), |site| format!("{site}: "));
        let what = format!("{place}{}", error.message);
        let missing = matches!(error.code, "E_MODULE_NOT_FOUND");
        let mut trouble = Trouble::new(error.code, what);
        if !error.hint.is_empty() {
            trouble.next.push(error.hint);
        }
        if missing { Self::NotFound(trouble) } else { Self::Refused(trouble) }
    }
}

impl From<VerifyError> for Error {
    fn from(error: VerifyError) -> Self {
        if let VerifyError::Unreadable { path, source } = &error
            && disk::Kind::of(source) == disk::Kind::TooManyOpen
        {
            return too_many_open(path);
        }
        let what = format!("{} [J52]", chain(&error));
        let trouble = Trouble::new("J52", what);
        Self::Damaged(trouble.next("put the pinned file back; it is never executed as it is"))
    }
}

impl From<IllegalEvent> for Error {
    fn from(error: IllegalEvent) -> Self {
        Self::Bug(Trouble::new("illegal_event", error.to_string()))
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        let (code, next): (&'static str, Option<&str>) = match &refusal {
            Refusal::UnknownEffect(_) => ("effect_not_found", Some("dormouse task list RUN")),
            Refusal::Ended { .. } => ("effect_ended", Some("dormouse task show RUN EFFECT")),
            Refusal::Leased { .. } => ("leased", Some("post with --epoch, or wait for the holder")),
            Refusal::Uncertain { .. } => (
                "effect_uncertain",
                Some("find out what happened outside, then `dormouse task decide RUN EFFECT`"),
            ),
            Refusal::StaleLease { .. } => ("stale_lease", None),
            Refusal::UnknownEpoch { .. } => ("unknown_epoch", None),
            Refusal::AttemptClosed { .. } => ("attempt_closed", None),
            Refusal::AlreadyPosted { .. } => ("already_posted", None),
            Refusal::Held { by: Hold::Pause | Hold::Hold, .. } => {
                ("held", Some("dormouse run resume RUN"))
            }
            Refusal::Held { by: Hold::Timeout, .. } => ("held", Some("dormouse run iterate RUN")),
            Refusal::Held { by: Hold::Key | Hold::Limit, .. } => ("held", Some("dormouse why RUN")),
            Refusal::Held { .. } => ("held", None),
            Refusal::NotClaimable { .. } => ("not_claimable", None),
            Refusal::WrongState { .. } => ("wrong_state", Some("dormouse task show RUN EFFECT")),
            Refusal::NotPostable { kind, .. } if kind == "signal" => {
                ("not_postable", Some("dormouse run signal RUN NAME"))
            }
            Refusal::NotPostable { kind, .. } if kind == "run" => {
                ("not_postable", Some("dormouse run show RUN"))
            }
            Refusal::NotPostable { .. } => ("not_postable", Some("dormouse why RUN")),
            Refusal::KeyMismatch { .. } => ("invocation_key_mismatch", None),
            Refusal::ValueInvalid { .. } => ("value_invalid", None),
            Refusal::RunEnded(_) => ("run_ended", None),
        };
        let mut trouble = with_facts(Trouble::new(code, text), &refusal);
        trouble.next.extend(next.map(str::to_owned));
        match refusal {
            Refusal::UnknownEffect(_) => Self::NotFound(trouble),
            Refusal::ValueInvalid { .. } => Self::Refused(trouble),
            _ => Self::Conflict(trouble),
        }
    }
}

/// What a program does about a refusal depends on more than its code.
fn with_facts(trouble: Trouble, refusal: &Refusal) -> Trouble {
    match refusal {
        Refusal::StaleLease { given, current, .. }
        | Refusal::UnknownEpoch { given, current, .. } => {
            let trouble = trouble.fact("yourEpoch", given.0).fact("currentEpoch", current.0);
            trouble.fact("directive", "stop")
        }
        Refusal::Leased { worker, epoch, .. } => {
            trouble.fact("worker", worker.clone()).fact("epoch", epoch.0)
        }
        Refusal::Ended { status, seq, .. } => {
            let trouble = trouble.fact("outcome", *status).fact("seq", seq.0);
            trouble.fact("directive", "stop")
        }
        Refusal::AlreadyPosted { seq, .. } => trouble.fact("seq", seq.0),
        Refusal::Uncertain { epoch, .. } => trouble.fact("epoch", epoch.0),
        Refusal::AttemptClosed { epoch, .. } => {
            trouble.fact("epoch", epoch.0).fact("directive", "stop")
        }
        Refusal::Held { by, until, .. } => {
            let trouble = trouble.fact("by", by.name());
            match until {
                Some(until) => trouble.fact("until", until.to_string()),
                None => trouble,
            }
        }
        _ => trouble,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shells::pin::{EntrySpec, FileKind, PinRequest, SourceReader, pin};
    use std::io;
    use std::path::{Path, PathBuf};

    fn emfile() -> io::Error {
        rustix::io::Errno::MFILE.into()
    }

    /// Nothing can be opened.
    struct Crowded;

    impl SourceReader for Crowded {
        fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
            Err(emfile())
        }

        fn kind(&self, _: &Path) -> io::Result<FileKind> {
            Err(emfile())
        }

        fn canonicalize(&self, _: &Path) -> io::Result<PathBuf> {
            Err(emfile())
        }

        fn list(&self, _: &Path) -> io::Result<Vec<String>> {
            Err(emfile())
        }
    }

    #[test]
    fn too_many_open_files_are_no_damage_and_no_absence() {
        let disk = || disk::Error::new("open", "/x", emfile());
        let unread = VerifyError::Unreadable { path: "x.js".into(), source: emfile() };
        let request = PinRequest::of(EntrySpec { path: "/x.js".into(), export_name: None });
        for error in [
            Error::from(disk()),
            root::Error::Disk(disk()).into(),
            writer::Error::NotWritten(disk()).into(),
            unread.into(),
            pin(&Crowded, &request).unwrap_err().into(),
        ] {
            let trouble = error.trouble();
            assert_eq!(trouble.code, "overloaded", "{trouble:?}");
            assert!(matches!(error, Error::Storage { unknown: false, .. }), "{trouble:?}");
            assert!(trouble.next[0].contains("ulimit -n"), "{trouble:?}");
        }
    }
}
