//! The command line: nouns and verbs, one file a verb.
//!
//! May not decide anything about a run. Invariant: standard output is data, everything else goes to
//! standard error; the exit code says what became of the command.

mod breakpoint;
mod completions;
mod context;
mod demo;
mod explain;
mod failure;
mod input;
mod journal;
mod output;
mod run;
mod serve;
mod task;
mod version;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use context::{Context, Global};
use failure::{Exit, Failure};

/// Durable execution for agent and automation processes: one binary, plain run directories.
#[derive(Debug, Parser)]
#[command(name = "dormouse", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    noun: Noun,
}

const AFTER_HELP: &str = "\
Exit codes:
  0 done · 1 the answer is no · 2 usage or configuration · 3 not found · 4 conflict
  5 damaged data · 6 refused by policy, schema or limit · 7 divergence · 70 bug
  74 storage failed, outcome unknown · 130 interrupted

`run:create` means the same as `run create`, for every noun and verb.
`dormouse explain CODE` says what the code of an error means and what to do.";

/// The nouns.
#[derive(Debug, Subcommand)]
enum Noun {
    #[command(about = "Create, drive, steer and look at runs")]
    #[command(subcommand)]
    Run(run::Verb),
    #[command(about = "Look at the effects of a run and post their outcomes")]
    #[command(subcommand)]
    Task(task::Verb),
    #[command(about = "Look at the journal of a run")]
    #[command(subcommand)]
    Journal(journal::Verb),
    #[command(about = "Answer what waits for a person")]
    #[command(subcommand)]
    Breakpoint(breakpoint::Verb),
    #[command(about = "Own a runs root and let its runs go on")]
    Serve(serve::Args),
    #[command(about = "Watch a real run live through a kill -9, in a temporary root")]
    Demo(demo::Args),
    #[command(about = "Say what an error code or a label means")]
    Explain(explain::Args),
    #[command(about = "Print a completion script for a shell")]
    Completions(completions::Args),
    #[command(about = "Print the version, formats and features")]
    Version(version::Args),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // A process host is this same program; see `shells::host`.
    if args.get(1).is_some_and(|word| word == "host") {
        return host();
    }
    let args = spell_out(args);
    let wants_json = args.iter().any(|a| a == "--json");
    let cli = match parse(&args) {
        Ok(cli) => cli,
        Err(e) => return failure::usage(&e, wants_json),
    };
    let json = cli.global.json;
    let exit = guarded(|| Context::new(&cli.global).and_then(|c| dispatch(cli.noun, &c)));
    match (exit, output::failure()) {
        (Err(failure), _) => failure.report(json),
        (Ok(_), Some(why)) => Failure::output(&why).report(json),
        (Ok(exit), None) => exit.code(),
    }
}

/// A panic is a bug, and is said like every other failure.
fn guarded(deed: impl FnOnce() -> Result<Exit, Failure>) -> Result<Exit, Failure> {
    let said = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&said);
    std::panic::set_hook(Box::new(move |panic| {
        if let Ok(mut said) = heard.lock() {
            *said = panic.to_string().replace('\n', " ");
        }
    }));
    std::panic::catch_unwind(AssertUnwindSafe(deed)).unwrap_or_else(|_| {
        let what = said.lock().map(|said| said.clone()).unwrap_or_default();
        Err(Failure { exit: Exit::Bug, code: "bug".into(), what, next: Vec::new() })
    })
}

/// The command tree, for completions and tests.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

fn parse(args: &[OsString]) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    Cli::from_arg_matches(&matches)
}

fn dispatch(noun: Noun, context: &Context) -> Result<Exit, Failure> {
    match noun {
        Noun::Run(verb) => run::dispatch(verb, context),
        Noun::Task(verb) => task::dispatch(verb, context),
        Noun::Journal(verb) => journal::dispatch(verb, context),
        Noun::Breakpoint(verb) => breakpoint::dispatch(verb, context),
        Noun::Serve(args) => serve::run(&args, context),
        Noun::Demo(args) => demo::run(&args, context),
        Noun::Explain(args) => explain::run(&args, context),
        Noun::Completions(args) => completions::run(&args, context),
        Noun::Version(args) => version::run(&args, context),
    }
}

fn host() -> ExitCode {
    let done = crate::shells::host::child::run_host_on_stdio();
    done.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// `run:create` → `run create`: the first word that is no flag, when its noun is one of ours.
fn spell_out(args: Vec<OsString>) -> Vec<OsString> {
    const NOUNS: &[&str] = &["run", "task", "journal", "breakpoint"];
    let mut out = Vec::with_capacity(args.len() + 1);
    let mut done = false;
    for (place, arg) in args.into_iter().enumerate() {
        let split = arg.to_str().and_then(|word| word.split_once(':'));
        if let Some((noun, verb)) =
            split.filter(|(noun, _)| place > 0 && !done && NOUNS.contains(noun))
        {
            out.extend([noun.into(), verb.into()]);
            done = true;
        } else {
            done |= arg.to_str().is_some_and(|word| NOUNS.contains(&word));
            out.push(arg);
        }
    }
    out
}
