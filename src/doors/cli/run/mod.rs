//! `dormouse run …`: one file a verb.
//!
//! May not decide anything about a run. Invariant: a verb parses, calls one service, prints.

mod accept;
mod archive;
mod assign_process;
mod brief;
mod cancel;
pub(super) mod check;
mod create;
mod delete;
mod diff;
mod drive;
mod events;
mod export;
mod fork;
mod halt;
mod import;
mod iterate;
mod list;
mod pause;
mod progress;
mod rebuild_state;
mod recover;
mod repair_journal;
pub(super) mod replay;
mod resume;
mod sealed;
mod show;
mod signal;
pub(super) mod source;
mod status;
mod unarchive;
mod verify_export;
mod watch;
pub(super) mod why;

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};

/// What can be done with runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "Create a run, with a process or bare")]
    Create(create::Args),
    #[command(about = "Let a run go on until it waits or ends")]
    Iterate(iterate::Args),
    #[command(about = "Iterate and fire timers until the run ends or waits for someone outside")]
    Drive(drive::Args),
    #[command(about = "Show where a run stands")]
    Status(status::Args),
    #[command(about = "Show a run with everything that is pending")]
    Show(show::Args),
    #[command(about = "Say why a run does not go on, and what to do about it")]
    Why(why::Args),
    #[command(about = "Say what was done, what is open, and what of that is safe to do")]
    Brief(brief::Args),
    #[command(about = "Print the events of a run")]
    Events(events::Args),
    #[command(about = "Follow a run until it ends")]
    Watch(watch::Args),
    #[command(about = "List the runs of the root")]
    List(list::Args),
    #[command(about = "Send a signal to a run")]
    Signal(signal::Args),
    #[command(about = "Ask a run to stop; its process may clean up")]
    Cancel(cancel::Args),
    #[command(about = "End a run from outside, at once")]
    Halt(halt::Args),
    #[command(about = "Keep a run from going on; posts and signals are still taken")]
    Pause(pause::Args),
    #[command(about = "Let a paused or held run go on")]
    Resume(resume::Args),
    #[command(about = "Let a run go on that an error of its process holds")]
    #[command(alias = "recover-process-error")]
    Recover(recover::Args),
    #[command(about = "Give a bare run its process")]
    AssignProcess(assign_process::Args),
    #[command(about = "Replay a run against its own or other code; nothing is written")]
    Check(check::Args),
    #[command(about = "Play what is recorded of a run again, offline, and compare")]
    Replay(replay::Args),
    #[command(about = "Make a new run that shares the past of another one")]
    Fork(fork::Args),
    #[command(about = "Compare two runs: where they part, and what came of both")]
    Diff(diff::Args),
    #[command(about = "Take other code over for an open run")]
    Accept(accept::Args),
    #[command(about = "Make the derived state of a run anew")]
    RebuildState(rebuild_state::Args),
    #[command(about = "Show what would mend a journal, and do it with --yes")]
    RepairJournal(repair_journal::Args),
    #[command(about = "Put a whole run into one file")]
    Export(export::Args),
    #[command(about = "Check a file with a run; nothing is written")]
    VerifyExport(verify_export::Args),
    #[command(about = "Make a run of such a file; one that has not ended is paused")]
    Import(import::Args),
    #[command(about = "Put a run that has ended into one file of the root")]
    Archive(archive::Args),
    #[command(about = "Bring an archived run back")]
    Unarchive(unarchive::Args),
    #[command(about = "Delete a run for good, with --yes")]
    Delete(delete::Args),
}

pub(super) fn dispatch(verb: Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::Create(args) => create::run(&args, context),
        Verb::Iterate(args) => iterate::run(&args, context),
        Verb::Drive(args) => drive::run(&args, context),
        Verb::Status(args) => status::run(&args, context),
        Verb::Show(args) => show::run(&args, context),
        Verb::Why(args) => why::run(&args, context),
        Verb::Brief(args) => brief::run(&args, context),
        Verb::Events(args) => events::run(&args, context),
        Verb::Watch(args) => watch::run(&args, context),
        Verb::List(args) => list::run(&args, context),
        Verb::Signal(args) => signal::run(&args, context),
        Verb::Cancel(args) => cancel::run(&args, context),
        Verb::Halt(args) => halt::run(&args, context),
        Verb::Pause(args) => pause::run(&args, context),
        Verb::Resume(args) => resume::run(&args, context),
        Verb::Recover(args) => recover::run(&args, context),
        Verb::AssignProcess(args) => assign_process::run(&args, context),
        Verb::Check(args) => check::run(&args, context),
        Verb::Replay(args) => replay::run(&args, context),
        Verb::Fork(args) => fork::run(&args, context),
        Verb::Diff(args) => diff::run(&args, context),
        Verb::Accept(args) => accept::run(&args, context),
        Verb::RebuildState(args) => rebuild_state::run(&args, context),
        Verb::RepairJournal(args) => repair_journal::run(&args, context),
        Verb::Export(args) => export::run(&args, context),
        Verb::VerifyExport(args) => verify_export::run(&args, context),
        Verb::Import(args) => import::run(&args, context),
        Verb::Archive(args) => archive::run(&args, context),
        Verb::Unarchive(args) => unarchive::run(&args, context),
        Verb::Delete(args) => delete::run(&args, context),
    }
}

/// The run that a verb is about.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArg {
    /// Id of the run, a unique beginning of it, or the path of its directory
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
}
