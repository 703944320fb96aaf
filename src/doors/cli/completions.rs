//! `completions`: a completion script for a shell, and the answers that it asks for.
//!
//! May not write. Invariant: what is offered is made from the same definitions that parse, and run
//! ids from the root that the command line names.

use std::ffi::{OsStr, OsString};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use serde_json::json;

use super::context::{Context, Global};
use super::failure::{Exit, Failure};
use super::output;

/// Set by the scripts: this process is to complete, not to run.
pub(super) const VARIABLE: &str = "DORMOUSE_COMPLETE";
/// Most ids that are offered.
const IDS_MAX: usize = 200;

/// Print a completion script for a shell; it knows verbs, options and run ids.
///
/// Example:
///   dormouse completions bash > ~/.local/share/bash-completion/completions/dormouse
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let name = args.shell.to_string();
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let shell = shells.completer(&name);
    let written = shell.map(|shell| {
        shell.write_registration(VARIABLE, "dormouse", "dormouse", "dormouse", &mut script)
    });
    if !matches!(written, Some(Ok(()))) {
        return Err(Failure::usage(&format!("there is no script for {name}"), ""));
    }
    let script = String::from_utf8_lossy(&script);
    if context.json {
        output::json(&json!({ "shell": name, "script": script }));
    } else {
        output::line(script.trim_end());
    }
    Ok(Exit::Done)
}

/// Answers a script that asks how a command line may go on; false if this is a command like any.
pub(super) fn answer(args: &[OsString]) -> bool {
    let complete = CompleteEnv::with_factory(|| with_ids(super::command())).var(VARIABLE);
    let here = std::env::current_dir().ok();
    // A shell that asks nonsense gets no candidates.
    complete.try_complete(args.iter().cloned(), here.as_deref()).unwrap_or(true)
}

/// The command tree, with run ids wherever a run is named.
fn with_ids(command: clap::Command) -> clap::Command {
    let names_run = |arg: &clap::Arg| {
        arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == "RUN"))
    };
    let offer = |arg: clap::Arg| {
        if names_run(&arg) { arg.add(ArgValueCompleter::new(run_ids)) } else { arg }
    };
    command.mut_args(offer).mut_subcommands(with_ids)
}

/// The runs whose ids begin with what is typed.
fn run_ids(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let global = Global { runs_root: named_root(), ..Global::default() };
    let root = Context::new(&global, Vec::new()).ok().and_then(|c| c.runs.view_root().ok());
    let ids = root.and_then(|root| root.run_ids().ok()).unwrap_or_default();
    // The newest ids end the list.
    let fits = ids.iter().rev().filter(|id| id.as_str().starts_with(typed));
    fits.take(IDS_MAX).map(|id| CompletionCandidate::new(id.as_str())).collect()
}

/// The root that the line to complete names.
fn named_root() -> Option<std::path::PathBuf> {
    let mut words = std::env::args_os().skip_while(|word| word != "--");
    while let Some(word) = words.next() {
        if word == "--runs-root" {
            return words.next().map(Into::into);
        }
        if let Some(root) = word.to_str().and_then(|word| word.strip_prefix("--runs-root=")) {
            return Some(root.into());
        }
    }
    std::env::var_os("DORMOUSE_RUNS_ROOT").map(Into::into)
}
