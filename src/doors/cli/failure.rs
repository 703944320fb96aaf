//! How a command fails: text or JSON on standard error, and the exit code.
//!
//! May not know verbs. Invariant: every failure names what, why and the next command, and has a
//! code that `dormouse explain` knows.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;

use crate::daemon::config;
use crate::services::runs::Error;

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The answer is no.
    No = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Not found.
    NotFound = 3,
    /// Conflict.
    Conflict = 4,
    /// Damaged data.
    Damaged = 5,
    /// Refused by policy, schema or limit.
    Refused = 6,
    /// Process and journal disagree.
    Diverged = 7,
    /// A bug in dormouse.
    Bug = 70,
    /// Storage failed.
    Storage = 74,
}

impl Exit {
    pub(super) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(super) exit: Exit,
    /// Stable code.
    pub(super) code: String,
    /// What is wrong.
    pub(super) what: String,
    /// What to do.
    pub(super) next: Vec<String>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Invalid(_) => Exit::Usage,
            Error::NotFound(_) => Exit::NotFound,
            Error::Conflict(_) => Exit::Conflict,
            Error::Damaged(_) => Exit::Damaged,
            Error::Refused(t) if t.code == "run_is_bare" => Exit::No,
            Error::Refused(t) if t.code == "fork_diverges" => Exit::Diverged,
            Error::Refused(_) => Exit::Refused,
            Error::Storage { trouble, .. } if trouble.code == "overloaded" => Exit::Refused,
            Error::Storage { .. } => Exit::Storage,
            Error::Bug(_) => Exit::Bug,
        };
        let trouble = error.trouble();
        Self {
            exit,
            code: trouble.code.to_owned(),
            what: trouble.what.clone(),
            next: trouble.next.clone(),
        }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        let mut next = vec!["dormouse config default".to_owned()];
        if let config::Error::UnknownKey { near: Some(near), .. } = &error {
            next.insert(0, format!("did you mean {near}?"));
        }
        Self { exit: Exit::Usage, code: "config_invalid".into(), what: error.to_string(), next }
    }
}

impl Failure {
    /// The caller's words make no sense.
    pub(super) fn usage(what: &str, next: &str) -> Self {
        let next = Some(next).filter(|n| !n.is_empty()).map(str::to_owned).into_iter().collect();
        Self { exit: Exit::Usage, code: "usage".into(), what: what.to_owned(), next }
    }

    /// What was to be printed could not be.
    pub(super) fn output(why: &str) -> Self {
        let what = format!("standard output cannot be written: {why}");
        let next = vec!["what the command did is done; look again with `run status`".to_owned()];
        Self { exit: Exit::Storage, code: "output_failed".into(), what, next }
    }

    fn category(&self) -> &'static str {
        match self.exit {
            Exit::Usage => "VALIDATION",
            Exit::NotFound => "CONFIGURATION",
            Exit::Bug => "INTERNAL",
            Exit::Storage => "EXTERNAL",
            _ => "RUNTIME",
        }
    }

    /// Prints it and gives the exit code.
    pub(super) fn report(&self, json: bool) -> ExitCode {
        let mut stderr = std::io::stderr().lock();
        // Nobody may be listening; the exit code still tells.
        let _ = if json {
            let object = json!({
                "name": "DormouseError", "code": self.code, "message": self.what,
                "category": self.category(), "exitCode": self.exit as u8,
                "nextSteps": self.next,
            });
            writeln!(stderr, "{object}")
        } else {
            self.print(&mut stderr)
        };
        self.exit.code()
    }

    fn print(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        let heading = if self.exit == Exit::Bug { "internal error" } else { "error" };
        let code = format!("[{}]", self.code);
        // The text of a damaged file names its case already.
        let what = self.what.trim_end().trim_end_matches(&code).trim_end();
        writeln!(out, "{heading}: {what} {code}")?;
        for step in &self.next {
            writeln!(out, "  → {step}")?;
        }
        if self.exit == Exit::Bug {
            writeln!(out, "  → this is a bug in dormouse; please report it with the lines above")?;
        }
        Ok(())
    }
}

/// A command line that cannot be parsed; also help and version, which are no failures.
pub(super) fn usage(error: &clap::Error, json: bool) -> ExitCode {
    use clap::error::ErrorKind;
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return Exit::Done.code();
    }
    if !json {
        let _ = error.print();
        return Exit::Usage.code();
    }
    let text = error.render().to_string();
    let (what, next) = in_parts(&text);
    Failure { exit: Exit::Usage, code: "usage".into(), what, next }.report(true)
}

/// What clap says, as one line, and its tips and usage as things to do.
fn in_parts(text: &str) -> (String, Vec<String>) {
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().unwrap_or("").trim_start_matches("error: ");
    let what = first.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let mut next: Vec<String> = Vec::new();
    for line in paragraphs.flat_map(str::lines).map(str::trim) {
        let useful = line.strip_prefix("tip: ").or_else(|| line.strip_prefix("Usage: "));
        next.extend(useful.map(str::to_owned));
    }
    next.push("dormouse --help".to_owned());
    (what, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::runs::trouble::too_many_open;

    #[test]
    fn what_passes_by_itself_is_a_refusal() {
        assert_eq!(Failure::from(too_many_open("x")).exit, Exit::Refused);
    }
}
