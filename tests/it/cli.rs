//! The program as people run it: a temporary directory with a runs root, commands with what they
//! print and their exit codes, and a picture of everything on disk to compare.

#![allow(clippy::disallowed_methods, reason = "these tests start the program and read its files")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A process with one task of each sort that matters to the command line.
pub(crate) const PROCESS: &str = r#"
import { defineTask } from "dormouse";
const outputSchema = { type: "object", required: ["n"], properties: { n: { type: "number" } } };
const plan = defineTask("plan", () => ({
  kind: "agent", title: "Plan it", labels: ["first"],
  agent: { name: "a", prompt: "p", outputSchema },
}));
const build = defineTask("build", () => ({
  kind: "shell", title: "Build", shell: { command: "make" },
}));
export async function process(inputs, ctx) {
  const planned = await ctx.task(plan, { goal: inputs.goal });
  const built = await ctx.task(build, {});
  const answer = await ctx.breakpoint({ title: "Ship it?", question: "Is it good?" });
  return { goal: inputs.goal, n: planned.n, built: built.success, approved: answer.approved };
}
export const notAFunction = 1;
"#;

/// What is on disk below a directory: path → what is there.
pub(crate) type Tree = BTreeMap<String, String>;

/// A place to run commands in.
pub(crate) struct Cli {
    pub(crate) dir: TempDir,
}

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) command: String,
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Cli {
    /// An empty directory; the runs root below it does not exist yet.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// The same with `process.js`, `inputs.json` and a run `r` that has not begun.
    pub(crate) fn with_run() -> Self {
        let cli = Self::new();
        cli.file("process.js", PROCESS);
        cli.file("inputs.json", r#"{"goal":"g"}"#);
        cli.run("run create --entry process.js --inputs inputs.json --run-id r").ok();
        cli
    }

    /// The same, gone on until it waits for its first task.
    pub(crate) fn waiting() -> Self {
        let cli = Self::with_run();
        cli.run("run iterate r").ok();
        cli
    }

    /// The same, to its end.
    pub(crate) fn completed() -> Self {
        let cli = Self::waiting();
        cli.run(r#"task post r e0001 --status ok --value-inline {"n":1}"#).ok();
        cli.run("run iterate r").ok();
        cli.run(r#"task post r e0002 --status ok --value-inline {"success":true}"#).ok();
        cli.run("run iterate r").ok();
        cli.run("breakpoint approve r e0003").ok();
        cli.run("run iterate r").ok();
        cli
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("runs")
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A command that has nothing of the environment but what these tests give it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.wrapped(&[], args)
    }

    /// The same behind another program.
    pub(crate) fn wrapped(&self, before: &[&str], args: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_dormouse");
        let mut words = before.iter().copied().chain([program]).chain(args.iter().copied());
        let mut command = Command::new(words.next().unwrap());
        command.args(words).current_dir(self.dir.path());
        command.env_clear().env("HOME", self.dir.path()).env("DORMOUSE_RUNS_ROOT", self.root());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// Runs a command line; words are separated by spaces.
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.args(&line.split_whitespace().collect::<Vec<_>>())
    }

    pub(crate) fn args(&self, args: &[&str]) -> Ran {
        Ran::of(&args.join(" "), &self.command(args).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs a command line that reads standard input.
    pub(crate) fn fed(&self, line: &str, input: &[u8]) -> Ran {
        let args: Vec<&str> = line.split_whitespace().collect();
        let mut child = piped(&mut self.command(&args));
        // The command may refuse before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(input);
        Ran::of(line, &child.wait_with_output().unwrap())
    }

    /// Starts a command line and does not wait for it.
    pub(crate) fn start(&self, line: &str) -> Child {
        piped(&mut self.command(&line.split_whitespace().collect::<Vec<_>>()))
    }

    /// Everything below the directory. Notes in lock files are for people and change with every
    /// command; what refused posts leave as evidence is left out as well.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        collect(self.dir.path(), "", &mut tree);
        tree
    }
}

fn piped(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn collect(dir: &Path, above: &str, tree: &mut Tree) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{above}{}", entry.file_name().to_string_lossy());
        let meta = entry.path().symlink_metadata().unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        if name.ends_with("/stale") {
            continue;
        }
        if meta.is_dir() {
            // An effect has a directory once there is something to keep in it.
            if !above.ends_with("tasks/") {
                tree.insert(name.clone(), format!("directory {mode:o}"));
            }
            collect(&entry.path(), &format!("{name}/"), tree);
        } else if meta.is_symlink() {
            tree.insert(name, format!("-> {}", fs::read_link(entry.path()).unwrap().display()));
        } else if meta.is_file() && meta.len() < 1 << 24 {
            let bytes = fs::read(entry.path()).unwrap();
            let is_lock = entry.path().extension().is_some_and(|e| e == "lock");
            let text = if is_lock { note(&bytes) } else { hex_or_text(&bytes) };
            tree.insert(name, format!("{mode:o} {text}"));
        } else {
            tree.insert(name, format!("{mode:o} {} bytes", meta.len()));
        }
    }
}

/// What a lock's note says about the run, without who said it.
fn note(bytes: &[u8]) -> String {
    let Ok(note) = serde_json::from_slice::<Value>(bytes) else { return hex_or_text(bytes) };
    format!("{} {} {}", note["state"], note["head_seq"], note["head_sum"])
}

fn hex_or_text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| format!("{bytes:02x?}"))
}

/// The exit code as a shell reports it.
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap())
}

impl Ran {
    pub(crate) fn of(command: &str, output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        Self { command: command.to_owned(), code: code(output), out, err }
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "dormouse {}\n{}{}", self.command, self.out, self.err);
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// Standard error has these words.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.err.contains(words), "{words:?} is not in {self:?}");
        self
    }

    /// Standard output, one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let parsed = serde_json::from_str(&self.out);
        parsed.unwrap_or_else(|e| panic!("dormouse {}: {e}: {self:?}", self.command))
    }

    /// Standard error, one JSON object on one line, and nothing on standard output.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        assert_eq!(self.out, "", "dormouse {}", self.command);
        assert_eq!(self.err.matches('\n').count(), 1, "{self:?}");
        let value: Value =
            serde_json::from_str(&self.err).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        let keys = "name code message category exitCode nextSteps";
        assert_eq!(keys_of(&value), keys, "{self:?}");
        assert_eq!(value["exitCode"], self.code, "{self:?}");
        value
    }
}

/// The keys of an object, in order.
pub(crate) fn keys_of(value: &Value) -> String {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    object.keys().cloned().collect::<Vec<_>>().join(" ")
}

/// Compares two pictures of the disk.
#[track_caller]
pub(crate) fn same_tree(before: &Tree, after: &Tree, what: &str) {
    let all = before.keys().chain(after.keys());
    let differs: Vec<String> = all
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| format!("{name}:\n  {:?}\n  {:?}", before.get(name), after.get(name)))
        .collect();
    assert!(differs.is_empty(), "{what} changed the disk:\n{}", differs.join("\n"));
}
