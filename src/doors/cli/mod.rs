//! The command line: nouns and verbs, one file a verb.
//!
//! May not decide anything about a run. Invariant: standard output is data, everything else goes to
//! standard error; the exit code says what became of the command.

mod agent;
mod audit;
mod breakpoint;
mod completions;
mod config;
mod context;
mod deeds;
mod demo;
mod deploy;
mod doctor;
mod du;
mod explain;
mod failure;
mod fsck;
mod gc;
mod index;
mod input;
mod journal;
mod key;
mod labour;
mod ledger;
mod limits;
mod output;
mod remote;
mod repair;
mod requests;
mod root;
mod run;
mod runner;
mod schedule;
mod serve;
mod status;
mod task;
mod token;
mod top;
mod torture;
mod variables;
mod version;
mod way;
mod worker;
mod workflow;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::ground::sabotage;
use crate::shells::runner::keeper;
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
    #[command(about = "Say why a run does not go on, and what to do about it")]
    Why(run::why::Args),
    #[command(about = "Play what is recorded of a run again, offline, and compare")]
    Replay(run::replay::ByJob),
    #[command(about = "Check new code over all open runs of a process")]
    #[command(subcommand)]
    Deploy(deploy::Verb),
    #[command(about = "Look at the effects of a run and post their outcomes")]
    #[command(subcommand)]
    Task(task::Verb),
    #[command(about = "Look at the journal of a run")]
    #[command(subcommand)]
    Journal(journal::Verb),
    #[command(about = "Answer what waits for a person")]
    #[command(subcommand)]
    Breakpoint(breakpoint::Verb),
    #[command(about = "Look up effects by the keys that the outside knows")]
    #[command(subcommand)]
    Ledger(ledger::Verb),
    #[command(about = "Show and set how many effects may be at work, and start")]
    #[command(subcommand)]
    Limits(limits::Verb),
    #[command(about = "Do tasks, and see who does")]
    #[command(subcommand)]
    Worker(worker::Verb),
    #[command(about = "Check, plan and draw workflow documents")]
    #[command(subcommand)]
    Workflow(workflow::Verb),
    #[command(about = "Let runs begin by themselves, in time")]
    #[command(subcommand)]
    Schedule(schedule::Verb),
    #[command(about = "See whom effects may name")]
    #[command(subcommand)]
    Agent(agent::Verb),
    #[command(about = "Own a runs root and let its runs go on")]
    Serve(serve::Args),
    #[command(about = "Show whether a daemon runs, and how the root stands")]
    Status(status::Args),
    #[command(about = "Watch a daemon and its runs")]
    Top(top::Args),
    #[command(about = "Compare the index with the journals of all runs")]
    Audit(audit::Args),
    #[command(about = "Show what a root takes on disk, by run and by what it is for")]
    Du(du::Args),
    #[command(about = "Let ended runs go that are old, and what nothing names")]
    Gc(gc::Args),
    #[command(about = "Look whether machine, disk and root can keep the promises")]
    Doctor(doctor::Args),
    #[command(about = "Check every byte of a runs root or of single runs")]
    Fsck(fsck::Args),
    #[command(about = "Look after the index of a runs root")]
    #[command(subcommand)]
    Index(index::Verb),
    #[command(about = "List repairs of a run, and take one back")]
    #[command(subcommand)]
    Repair(repair::Verb),
    #[command(about = "Look after a whole runs root")]
    #[command(subcommand)]
    Root(root::Verb),
    #[command(about = "Make keys that sign exports")]
    #[command(subcommand)]
    Key(key::Verb),
    #[command(about = "Make, list and revoke tokens for requests over TCP")]
    #[command(subcommand)]
    Token(token::Verb),
    #[command(about = "Show the configuration and where it comes from")]
    #[command(subcommand)]
    Config(config::Verb),
    #[command(about = "Watch a real run live through a kill -9, in a temporary root")]
    Demo(demo::Args),
    #[command(about = "Do harm to daemons of a temporary root, and look whether promises hold")]
    Torture(torture::Args),
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
    // So is whoever supervises a command; see `shells::runner`.
    if args.get(1).is_some_and(|word| word == keeper::VERB) {
        return runner::main();
    }
    if completions::answer(&args) {
        return Exit::Done.code();
    }
    let args = spell_out(args);
    let wants_json = args.iter().any(|a| a == "--json");
    let cli = match parse(&args) {
        Ok(cli) => cli,
        Err(e) => return failure::usage(&e, wants_json),
    };
    let json = cli.global.json;
    if let Err(refused) = sabotage::check() {
        let next = "unset it: it is for tests of a build with debug assertions";
        return Failure::usage(&refused.to_string(), next).report(json);
    }
    let exit = guarded(|| context(&cli).and_then(|context| dispatch(cli.noun, &context)));
    match (exit, output::failure()) {
        (Err(failure), _) => failure.report(json),
        (Ok(_), Some(why)) => Failure::output(&why).report(json),
        (Ok(exit), None) => exit.code(),
    }
}

/// What the verb gets. Whoever only reads about dormouse needs no configuration for it.
fn context(cli: &Cli) -> Result<Context, Failure> {
    match &cli.noun {
        // The configuration says what kinds of work take.
        Noun::Workflow(workflow::Verb::Validate(_)) => Context::new(&cli.global, Vec::new()),
        Noun::Explain(_) | Noun::Completions(_) | Noun::Version(_) | Noun::Workflow(_) => {
            Context::unconfigured(&cli.global)
        }
        Noun::Config(config::Verb::Default(_)) => Context::unconfigured(&cli.global),
        Noun::Serve(args) => Context::new(&cli.global, args.settings()),
        _ => Context::new(&cli.global, Vec::new()),
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
        Noun::Why(args) => run::why::run(&args, context),
        Noun::Replay(args) => run::replay::by_job(&args, context),
        Noun::Deploy(verb) => deploy::dispatch(&verb, context),
        Noun::Task(verb) => task::dispatch(verb, context),
        Noun::Journal(verb) => journal::dispatch(verb, context),
        Noun::Breakpoint(verb) => breakpoint::dispatch(verb, context),
        Noun::Ledger(verb) => ledger::dispatch(&verb, context),
        Noun::Limits(verb) => limits::dispatch(&verb, context),
        Noun::Schedule(verb) => schedule::dispatch(&verb, context),
        Noun::Worker(verb) => worker::dispatch(&verb, context),
        Noun::Workflow(verb) => workflow::dispatch(&verb, context),
        Noun::Agent(verb) => agent::dispatch(&verb, context),
        Noun::Serve(args) => serve::run(&args, context),
        Noun::Status(args) => status::run(&args, context),
        Noun::Top(args) => top::run(&args, context),
        Noun::Audit(args) => audit::run(&args, context),
        Noun::Du(args) => du::run(&args, context),
        Noun::Gc(args) => gc::run(&args, context),
        Noun::Doctor(args) => doctor::run(&args, context),
        Noun::Fsck(args) => fsck::run(&args, context),
        Noun::Repair(verb) => repair::dispatch(&verb, context),
        Noun::Index(verb) => index::dispatch(&verb, context),
        Noun::Root(verb) => root::dispatch(&verb, context),
        Noun::Key(verb) => key::dispatch(verb, context),
        Noun::Token(verb) => token::dispatch(verb, context),
        Noun::Config(verb) => config::dispatch(verb, context),
        Noun::Demo(args) => demo::run(&args, context),
        Noun::Torture(args) => torture::run(&args, context),
        Noun::Explain(args) => explain::run(&args, context),
        Noun::Completions(args) => completions::run(&args, context),
        Noun::Version(args) => version::run(&args, context),
    }
}

fn host() -> ExitCode {
    let done = crate::shells::host::child::run_host_on_stdio();
    done.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

/// `run:create` → `run create`: the first word that is neither an option nor the value of one, when
/// its noun is one of ours.
fn spell_out(args: Vec<OsString>) -> Vec<OsString> {
    let command = command();
    let is_noun = |word: &str| command.find_subcommand(word).is_some();
    let mut out = Vec::with_capacity(args.len() + 1);
    let mut args = args.into_iter();
    out.extend(args.next());
    while let Some(arg) = args.next() {
        let word = arg.to_str().unwrap_or("");
        if word.starts_with('-') {
            let takes_value = takes_value(&command, word);
            out.push(arg);
            out.extend(takes_value.then(|| args.next()).flatten());
            continue;
        }
        match word.split_once(':').filter(|(noun, _)| is_noun(noun)) {
            Some((noun, verb)) => out.extend([noun.into(), verb.into()]),
            None => out.push(arg),
        }
        break;
    }
    out.extend(args);
    out
}

/// Whether the word after this option belongs to it.
fn takes_value(command: &clap::Command, word: &str) -> bool {
    let Some(name) = word.strip_prefix("--").filter(|name| !name.contains('=')) else {
        return false;
    };
    let named = |arg: &&clap::Arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long() == Some(name) || aliases.contains(&name)
    };
    command.get_arguments().find(named).is_some_and(|arg| arg.get_action().takes_values())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_alone_is_spelled_out() {
        for (line, spelled) in [
            ("run:create --run-id task:x", "run create --run-id task:x"),
            ("--operator run:bob task:post r", "--operator run:bob task post r"),
            ("--operator=run:bob run:list", "--operator=run:bob run list"),
            ("--runs-dir run:x --json run:list", "--runs-dir run:x --json run list"),
            ("--json run:list", "--json run list"),
            ("explain run:create", "explain run:create"),
            ("task post run:x e1", "task post run:x e1"),
            ("nothing:x run:create", "nothing:x run:create"),
            ("--operator", "--operator"),
            ("", ""),
        ] {
            let words = |line: &str| -> Vec<OsString> {
                ["dormouse"].into_iter().chain(line.split_whitespace()).map(Into::into).collect()
            };
            assert_eq!(spell_out(words(line)), words(spelled), "{line}");
        }
    }
}
