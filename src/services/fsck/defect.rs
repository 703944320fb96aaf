//! The catalogue: every defect that a check can name, with what it means for whoever reads it.
//!
//! May not look for any. Invariant: a label has one severity and one section in the pages; labels
//! of journals, logs and roots are those of the modules that judge them.

use std::fmt;

use serde::Serialize;

use crate::ground::id::RunId;
use crate::shells::commit_log::label::Label;
use crate::shells::journal::scan::{Case, Verdict};

/// What a defect means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Said; nothing has to be done.
    Note,
    /// Nothing acknowledged is lost; the command beside it mends it.
    Mendable,
    /// Something is lost or cannot be believed: an operator has to look.
    Damage,
}

impl Severity {
    /// The word that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Mendable => "mendable",
            Self::Damage => "damage",
        }
    }
}

macro_rules! flaws {
    ($($flaw:ident $severity:ident $title:literal,)*) => {
        /// Defects around journals, one label each. The labels are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "the title says it")]
        pub enum Flaw { $($flaw,)* }

        /// All of them, in the order of their labels.
        pub const FLAWS: &[Flaw] = &[$(Flaw::$flaw,)*];

        impl Flaw {
            /// The label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$flaw => stringify!($flaw),)* }
            }

            /// What it means.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$flaw => Severity::$severity,)* }
            }

            /// One line for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$flaw => $title,)* }
            }
        }
    };
}

flaws! {
    D01 Mendable "run.json is missing or cannot be read",
    D02 Mendable "run.json does not say what the journal says",
    D03 Mendable "inputs.json is missing or does not say what the journal says",
    D04 Mendable "a file of a task is missing or does not say what the journal says",
    D05 Mendable "the state cache cannot be read",
    D06 Mendable "the state cache is not the state of the journal",
    D07 Mendable "state.json cannot be read",
    D08 Note "the state cache is older than the journal",
    D09 Note "a task folder belongs to no task of the run",
    D10 Note "no record names a blob",
    D11 Note "a file among the blobs has no name of a blob",
    D12 Note "a file of the run is none that dormouse makes",
    D13 Note "something in the runs root is no run",
    D14 Note "a temporary file was left over",
    D15 Note "the last writer of the run did not end cleanly",
    D16 Note "what was set aside takes much room",
    D17 Mendable "others may write what belongs to the run",
    D18 Note "pinned code is there that no record names",
    D19 Mendable "stored code is not the code of its name",
    D20 Note "the index has not been told of a run that was written without a daemon",
    D21 Note "something was begun in staging and not finished",
    D22 Mendable "others may read a secret",
    D23 Note "the daemon that served the root did not end",
    D24 Mendable "a state file of the root cannot be read",
    D25 Damage "the archive of a run is not what was written",
    D26 Note "a run is here although it was archived or deleted",
    D27 Note "the mark of a deleted run cannot be read",
    R1 Damage "root.json is missing or is not one",
    R2 Damage "a segment of the log belongs to another root",
    R3 Damage "a lock file is not one",
    R4 Damage "the filesystem gives no firm promises",
    R5 Damage "the root is not a directory of its owner alone",
    X1 Mendable "the index lacks what only journals have by now",
    X2 Damage "the index has seen more than the log holds",
    X4 Mendable "the index cannot be read",
    X6 Mendable "a run has no row in the index",
    X7 Mendable "the index has a run that is not there",
    X8 Mendable "the index says of a run what its journal does not",
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Defect {
    /// Its name; `dormouse explain` has its page.
    pub label: &'static str,
    /// What it means.
    pub severity: Severity,
    /// One line about all of this name.
    pub title: &'static str,
    /// The run that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Path below the run's directory, or below the root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Where in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What is wrong here, in words.
    pub why: String,
    /// The next commands to try.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<String>,
}

impl Defect {
    /// A defect around journals.
    #[must_use]
    pub fn of(flaw: Flaw, file: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            label: flaw.label(),
            severity: flaw.severity(),
            title: flaw.title(),
            run_id: None,
            file: file.into(),
            offset: None,
            why: why.into(),
            next: Vec::new(),
        }
    }

    /// A defect of a journal, a blob or pinned code.
    #[must_use]
    pub fn of_case(case: Case, file: String, offset: u64, why: String) -> Self {
        let severity = match case.verdict() {
            Verdict::Ok | Verdict::Note => Severity::Note,
            Verdict::Torn => Severity::Mendable,
            Verdict::Damaged | Verdict::Refuse => Severity::Damage,
        };
        let (label, title) = (case.label(), case.title());
        let offset = (offset > 0).then_some(offset);
        Self { label, severity, title, run_id: None, file, offset, why, next: Vec::new() }
    }

    /// A defect of the commit log.
    #[must_use]
    pub fn of_log(label: Label, file: String, offset: u64, why: String) -> Self {
        let severity = match label {
            Label::L0 | Label::L9 => Severity::Note,
            Label::L1 => Severity::Mendable,
            _ => Severity::Damage,
        };
        let (label, title) = (label.as_str(), label.title());
        let offset = (offset > 0).then_some(offset);
        Self { label, severity, title, run_id: None, file, offset, why, next: Vec::new() }
    }

    /// With a command that helps.
    #[must_use]
    pub fn next(mut self, command: impl Into<String>) -> Self {
        self.next.push(command.into());
        self
    }

    /// As one of a run.
    #[must_use]
    pub fn in_run(mut self, run: &RunId) -> Self {
        self.run_id = Some(run.clone());
        self
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.title, self.label)?;
        if !self.file.is_empty() {
            write!(f, " {}", self.file)?;
        }
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        if self.why.is_empty() { Ok(()) } else { write!(f, ": {}", self.why) }
    }
}
