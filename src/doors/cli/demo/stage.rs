//! Where the demo plays: a temporary directory, this program as a child process, a narrator.
//!
//! May not know the story. Invariant: a command is printed before it runs, as it could be typed,
//! and every child that was started is waited for.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use owo_colors::{OwoColorize as _, Stream};
use serde::Serialize;

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::ports::disk::{self, Dir, FileKind};
use crate::services::runs::{Error, Runs};

/// Id of the run.
pub(super) const RUN: &str = "canary";

/// The process, its inputs and what an agent answers, as they stand in the examples.
const FILES: &[(&str, &str)] = &[
    ("process.js", include_str!("../../../../runs-example/canary/process.js")),
    ("inputs.json", include_str!("../../../../runs-example/canary/inputs.json")),
    ("samples.json", include_str!("../../../../runs-example/canary/samples.json")),
];

/// One command that was run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    command: String,
    /// Nothing for one that was killed.
    exit_code: Option<i32>,
}

/// The stage.
pub(super) struct Stage {
    /// The runs of the demo.
    pub(super) runs: Runs,
    top: PathBuf,
    exe: PathBuf,
    silent: bool,
    paced: bool,
    steps: RefCell<Vec<Step>>,
}

impl Stage {
    /// Makes the directory and puts the process there.
    pub(super) fn build(context: &Context, fast: bool) -> Result<Self, Failure> {
        let exe = std::env::current_exe()
            .map_err(|e| Failure::usage(&format!("this program cannot be found: {e}"), ""))?;
        let disk = Arc::clone(&context.runs.disk);
        let number = u64::from_le_bytes(disk.random()[..8].try_into().unwrap_or_default());
        let top = std::env::temp_dir().join(format!("dormouse-demo-{number:016x}"));
        disk.create_dirs(&top).map_err(failed)?;
        let top = disk.canonicalize(&top).map_err(failed)?;
        let dir = disk.open_dir(&top).map_err(failed)?;
        for (name, text) in FILES {
            let file = dir.create_excl(name).map_err(failed)?;
            file.write_at(0, text.as_bytes()).map_err(failed)?;
        }
        let runs = Runs { root: top.join("runs"), ..context.runs.clone() };
        let watched = std::io::stdout().is_terminal();
        let silent = context.json;
        let paced = watched && !silent && !fast;
        Ok(Self { runs, top, exe, silent, paced, steps: RefCell::default() })
    }

    /// The runs root.
    pub(super) fn runs_root(&self) -> &Path {
        &self.runs.root
    }

    /// The directory of the run.
    pub(super) fn run_dir(&self) -> PathBuf {
        self.runs.root.join(RUN)
    }

    /// The directory of everything.
    pub(super) fn top(&self) -> &Path {
        &self.top
    }

    /// This program.
    pub(super) fn exe(&self) -> &Path {
        &self.exe
    }

    /// What was run.
    pub(super) fn steps(&self) -> Vec<Step> {
        self.steps.borrow().clone()
    }

    /// Whether a person sits there who can be asked.
    pub(super) fn has_audience(&self) -> bool {
        !self.silent && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
    }

    /// Narrates.
    pub(super) fn say(&self, text: &str) {
        if !self.silent {
            output::line(text);
        }
    }

    /// A heading.
    pub(super) fn head(&self, text: &str) {
        self.breathe(900);
        self.say("");
        self.say(&format!("{}", text.if_supports_color(Stream::Stdout, |t| t.bold())));
    }

    /// Something that went well.
    pub(super) fn good(&self, text: &str) {
        self.say(&format!("  {}", text.if_supports_color(Stream::Stdout, |t| t.green())));
    }

    /// Something that did not.
    pub(super) fn bad(&self, text: &str) {
        self.say(&format!("  {}", text.if_supports_color(Stream::Stdout, |t| t.red())));
    }

    /// A command, before it runs.
    pub(super) fn command(&self, line: &str) {
        let line = format!("$ {line}");
        self.say(&format!("  {}", line.if_supports_color(Stream::Stdout, |t| t.cyan())));
        self.breathe(400);
    }

    /// Asks; nothing at the end of the input.
    pub(super) fn ask(&self, question: &str) -> Option<String> {
        self.breathe(400);
        let mut stdout = std::io::stdout().lock();
        let _ = write!(stdout, "  {question} ");
        let _ = stdout.flush();
        let mut line = String::new();
        match std::io::stdin().read_line(&mut line) {
            Ok(1..) => Some(line.trim().to_lowercase()),
            _ => None,
        }
    }

    /// Waits, if somebody reads along.
    fn breathe(&self, millis: u64) {
        if self.paced {
            self.runs.clock.sleep_millis(millis);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the demo shows this program from outside")]
    fn child(&self, args: &[&str]) -> Result<Child, Failure> {
        let mut command = Command::new(&self.exe);
        command.args(args).current_dir(&self.top).env("DORMOUSE_RUNS_ROOT", &self.runs.root);
        command.env_remove("DORMOUSE_TURN_CPU_MAX").env_remove("DORMOUSE_HEAP_MAX");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|e| broken(format!("{}: {e}", self.exe.display())))
    }

    /// Runs a command of this program to its end and shows what it prints. It has to succeed.
    pub(super) fn run(&self, args: &[&str]) -> Result<(), Failure> {
        let line = typed(args);
        self.command(&line);
        let done = self.child(args)?.wait_with_output().map_err(|e| broken(e.to_string()))?;
        for text in [&done.stdout, &done.stderr] {
            for printed in String::from_utf8_lossy(text).lines() {
                self.say(&format!("    {}", cut(printed, 94)));
            }
        }
        self.steps.borrow_mut().push(Step { command: line.clone(), exit_code: done.status.code() });
        if done.status.success() {
            return Ok(());
        }
        Err(broken(format!("`{line}` failed ({}): see {}", done.status, self.top.display())))
    }

    /// Starts a command that is about to be killed.
    pub(super) fn start(&self, args: &[&str]) -> Result<Child, Failure> {
        self.command(&format!("{} &", typed(args)));
        let child = self.child(args)?;
        self.steps.borrow_mut().push(Step { command: typed(args), exit_code: None });
        Ok(child)
    }

    /// kill -9. True if that is what ended it.
    pub(super) fn kill(&self, mut child: Child) -> Result<bool, Failure> {
        use std::os::unix::process::ExitStatusExt as _;
        self.command(&format!("kill -9 {}", child.id()));
        child.kill().map_err(|e| broken(e.to_string()))?;
        let status = child.wait().map_err(|e| broken(e.to_string()))?;
        let killed = status.signal() == Some(rustix::process::Signal::KILL.as_raw());
        if killed {
            self.say(&format!("    process {} is gone: {status}", child.id()));
        }
        Ok(killed)
    }

    /// Names and sizes of the run's files, as a tree.
    pub(super) fn tree(&self) -> Result<Vec<String>, Failure> {
        let dir = self.runs.disk.open_dir(&self.run_dir()).map_err(failed)?;
        let mut lines = Vec::new();
        walk(&*dir, 1, &mut lines).map_err(failed)?;
        Ok(lines)
    }

    /// The lines of the journal, as they stand on disk.
    pub(super) fn journal(&self) -> Result<Vec<String>, Failure> {
        let dir = self.runs.disk.open_dir(&self.run_dir().join("journal")).map_err(failed)?;
        let mut lines = Vec::new();
        for name in dir.list().map_err(failed)?.iter().filter(|n| !disk::is_temporary(n)) {
            let bytes = dir.read_file(name, disk::Open::Read, 1 << 20).map_err(failed)?;
            lines.extend(String::from_utf8_lossy(&bytes).lines().map(str::to_owned));
        }
        Ok(lines)
    }

    /// Removes everything.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        let above = self.top.parent().unwrap_or(Path::new("/"));
        let name = self.top.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let above = self.runs.disk.open_dir(above).map_err(failed)?;
        remove(&*above, name).map_err(failed)
    }
}

fn walk(dir: &dyn Dir, depth: usize, lines: &mut Vec<String>) -> disk::Result<()> {
    for name in dir.list()? {
        let stat = dir.stat(&name)?;
        let place = format!("{}{name}", "  ".repeat(depth));
        if stat.kind == FileKind::Dir {
            lines.push(format!("{place}/"));
            walk(&*dir.open_dir(&name)?, depth + 1, lines)?;
        } else {
            lines.push(format!("{place:<40} {:>6} B", stat.bytes));
        }
    }
    Ok(())
}

fn remove(above: &dyn Dir, name: &str) -> disk::Result<()> {
    let dir = above.open_dir(name)?;
    for inner in dir.list()? {
        match dir.stat(&inner)?.kind {
            FileKind::Dir => remove(&*dir, &inner)?,
            _ => dir.unlink(&inner)?,
        }
    }
    above.rmdir(name)
}

/// At most `columns` characters of a line.
pub(super) fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    let kept: String = line.chars().take(columns.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A command as it would be typed.
fn typed(args: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let word = |arg: &&str| {
        if arg.chars().all(plain) { (*arg).to_owned() } else { format!("'{arg}'") }
    };
    let words: Vec<String> = args.iter().map(word).collect();
    format!("dormouse {}", words.join(" "))
}

fn failed(error: disk::Error) -> Failure {
    Failure::from(Error::from(error))
}

/// The demo itself came to grief.
pub(super) fn broken(what: String) -> Failure {
    let next = vec!["dormouse demo".to_owned()];
    Failure { exit: Exit::No, code: "demo_failed".into(), what, next }
}
