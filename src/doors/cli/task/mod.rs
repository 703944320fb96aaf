//! `dormouse task …`: one file a verb.
//!
//! May not decide anything about an effect. Invariant: a verb parses, calls one service, prints.

mod cancel;
mod list;
pub(super) mod post;
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
}

pub(super) fn dispatch(verb: Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::List(args) => list::run(&args, context),
        Verb::Show(args) => show::run(&args, context),
        Verb::Post(args) => post::run(&args, context),
        Verb::Cancel(args) => cancel::run(&args, context),
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
