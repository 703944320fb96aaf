//! `dormouse task …`: one file a verb.
//!
//! May not decide anything about an effect. Invariant: a verb parses, calls one service, prints.

mod cancel;
pub(super) mod claim;
pub(super) mod decide;
mod heartbeat;
mod list;
pub(super) mod post;
mod release;
mod retry_now;
mod show;

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};
use crate::ground::id::{self, EffectId};
use crate::services::runs::open::SeenRun;

/// What can be done with the effects of a run.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "List the effects of a run")]
    List(list::Args),
    #[command(about = "Show one effect with its definition, arguments and outcome")]
    Show(show::Args),
    #[command(about = "Post the outcome of an effect")]
    Post(Box<post::Args>),
    #[command(about = "Give up an effect")]
    Cancel(cancel::Args),
    #[command(about = "Get something to do, started in a worker's name")]
    Claim(Box<claim::Args>),
    #[command(about = "Say that an effect is being worked on")]
    Heartbeat(heartbeat::Args),
    #[command(about = "Give an effect back without an outcome")]
    Release(release::Args),
    #[command(about = "Say what became of an effect whose outcome nobody knows")]
    Decide(Box<decide::Args>),
    #[command(about = "Do not wait for the time of the next attempt")]
    RetryNow(retry_now::Args),
}

pub(super) fn dispatch(verb: Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::List(args) => list::run(&args, context),
        Verb::Show(args) => show::run(&args, context),
        Verb::Post(args) => post::run(&args, context),
        Verb::Cancel(args) => cancel::run(&args, context),
        Verb::Claim(args) => claim::run(&args, context),
        Verb::Heartbeat(args) => heartbeat::run(&args, context),
        Verb::Release(args) => release::run(&args, context),
        Verb::Decide(args) => decide::run(&args, context),
        Verb::RetryNow(args) => retry_now::run(&args, context),
    }
}

/// An effect of a run.
#[derive(Debug, clap::Args)]
pub(crate) struct EffectArg {
    /// Id of the run, a unique beginning of it, or the path of its directory
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// Id of the effect, such as e0001
    #[arg(value_name = "EFFECT")]
    pub(crate) effect: String,
}

impl EffectArg {
    /// The effect's id.
    pub(super) fn id(&self) -> Result<EffectId, Failure> {
        self.effect
            .parse()
            .map_err(|e: id::Error| Failure::usage(&e.to_string(), "dormouse task list RUN"))
    }
}

/// Prints where an effect stands after something was done to it.
fn print_stands(context: &Context, done: &serde_json::Value) {
    if context.json {
        return super::output::json(done);
    }
    let text = |name: &str| done[name].as_str().unwrap_or("-");
    super::output::line(&format!("effect {} is {}", text("effectId"), text("state")));
}

/// The failure for an effect that a run does not have, with the nearest one that it has.
pub(super) fn unknown_effect(seen: &SeenRun, id: EffectId) -> Failure {
    let refusal = crate::machines::effect::refusal::Refusal::UnknownEffect(id);
    let mut error = crate::services::runs::Error::from(refusal);
    let last = seen.state.effects.keys().next_back();
    error = error.named(seen.dir.id().as_str(), &id.to_string());
    if let Some(last) = last.filter(|last| **last < id) {
        error = error.and_next(format!("the last effect of this run is {last}"));
    }
    error.into()
}
