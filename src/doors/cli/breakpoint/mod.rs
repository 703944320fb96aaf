//! `dormouse breakpoint …`: one file a verb.
//!
//! May not decide for a person. Invariant: an answer is a post like any other.

mod approve;
mod list;
mod reject;

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::task::EffectArg;
use crate::codecs::json::Json;
use crate::ground::id::Epoch;
use crate::machines::effect::ask;
use crate::services::runs::post::Posting;

/// What can be done about decisions.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "List what waits for a person")]
    List(list::Args),
    #[command(about = "Approve")]
    Approve(approve::Args),
    #[command(about = "Reject")]
    Reject(reject::Args),
}

pub(super) fn dispatch(verb: Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::List(args) => list::run(&args, context),
        Verb::Approve(args) => approve::run(&args, context),
        Verb::Reject(args) => reject::run(&args, context),
    }
}

/// What an answer may say besides yes or no.
#[derive(Debug, clap::Args)]
pub(crate) struct AnswerArgs {
    #[command(flatten)]
    target: EffectArg,
    /// Words for the process
    #[arg(long, value_name = "TEXT")]
    response: Option<String>,
    /// What should change
    #[arg(long, value_name = "TEXT")]
    feedback: Option<String>,
    /// One of the options that were offered
    #[arg(long, value_name = "OPTION")]
    option: Option<String>,
    /// The start that the answer is about, where it is asked what became of an effect
    #[arg(long, value_name = "N")]
    epoch: Option<u64>,
}

/// Answers what became of an effect.
fn decide(args: &AnswerArgs, approved: bool, context: &Context) -> Result<Exit, Failure> {
    let (run, id) = (&args.target.run, args.target.id()?);
    let words = ask::Words {
        approved,
        option: args.option.clone(),
        response: args.response.clone(),
        feedback: args.feedback.clone(),
        epoch: args.epoch.map(Epoch),
    };
    let list = format!("dormouse breakpoint list {run}");
    let decision = ask::decision(&words).map_err(|why| Failure::usage(&why, &list))?;
    super::task::decide::report(id, &context.decide(run, id, &decision)?, context);
    Ok(Exit::Done)
}

/// Posts an answer.
fn answer(args: &AnswerArgs, approved: bool, context: &Context) -> Result<Exit, Failure> {
    let id = args.target.id()?;
    let seen = context.runs.look(&args.target.run)?;
    let Some(effect) = seen.state.effect(id) else {
        return Err(super::task::unknown_effect(&seen, id));
    };
    if effect.asks_a_person() {
        return decide(args, approved, context);
    }
    if effect.kind != "breakpoint" {
        let what = format!("effect {id} is of kind {}, not a breakpoint", effect.kind);
        let run = seen.dir.id();
        return Err(Failure::usage(&what, &format!("dormouse task post {run} {id} --status ok")));
    }
    let mut value = json!({ "approved": approved });
    for (name, given) in
        [("response", &args.response), ("feedback", &args.feedback), ("option", &args.option)]
    {
        if let Some(text) = given {
            value[name] = json!(text);
        }
    }
    value["respondedBy"] = json!(context.operator());
    let posting = Posting::ok(id, Json::of(&value));
    let posted = context.post(&args.target.run, &posting)?;
    super::task::post::report(context, &posted);
    if !context.json {
        super::output::remark(&format!("next: dormouse run drive {}", args.target.run));
    }
    Ok(Exit::Done)
}
