//! `task claim`: get something to do, started in the worker's name.
//!
//! May not do it. Invariant: exit 0 means that what is printed is durably started.

use std::path::{Path, PathBuf};

use super::EffectArg;
use crate::codecs::json::Json;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::labour::Claiming;
use crate::doors::cli::{input, output};
use crate::ground::limits::{LEASE_TTL_MS_DEFAULT, LEASE_TTL_MS_MAX, LEASE_TTL_MS_MIN};
use crate::machines::effect::claim::{Claim, is_the_daemons_name};
use serde_json::{Value, json};

/// Get something to do, started in the worker's name. Without RUN and EFFECT, a daemon gives what
/// comes first of some kinds.
///
/// Example:
///   dormouse task claim --kind agent --worker w1 --wait 20s
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the run, a unique beginning of it, or the path of its directory
    #[arg(value_name = "RUN", requires = "effect")]
    run: Option<String>,
    /// Id of the effect, such as e0001
    #[arg(value_name = "EFFECT")]
    effect: Option<String>,
    /// What can be done: the kind of effects; may be given several times
    #[arg(long = "kind", value_name = "KIND", required_unless_present = "run")]
    #[arg(conflicts_with = "run")]
    kinds: Vec<String>,
    /// Who works
    #[arg(long, value_name = "NAME")]
    worker: String,
    /// Of kind agent, only tasks of the agent of this name
    #[arg(long = "agent", value_name = "NAME", conflicts_with = "run")]
    agents: Vec<String>,
    /// What the worker offers, for effects that require it
    #[arg(long = "offers", value_name = "NAME", conflicts_with = "run")]
    offers: Vec<String>,
    /// What its kinds take and bring, for workflow documents: a JSON file
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    signatures: Option<PathBuf>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "run")]
    max: usize,
    /// How long silence is taken for life, such as 60s
    #[arg(long, value_name = "DURATION")]
    ttl: Option<humantime::Duration>,
    /// How long to wait for something to do
    #[arg(long, value_name = "DURATION", conflicts_with = "run")]
    wait: Option<humantime::Duration>,
    /// Asked again under the same id, the same is given, and never anything else
    #[arg(long, value_name = "ID")]
    claim_id: Option<String>,
}

/// A ttl in milliseconds.
pub(in crate::doors::cli) fn ttl_ms(ttl: Option<humantime::Duration>) -> Result<u64, Failure> {
    let ms =
        ttl.map_or(LEASE_TTL_MS_DEFAULT, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    if (LEASE_TTL_MS_MIN..=LEASE_TTL_MS_MAX).contains(&ms) {
        return Ok(ms);
    }
    Err(Failure::usage("--ttl is 5s to 24h", "give a time in between"))
}

/// The name of a worker, which is not one of the daemon's own.
pub(in crate::doors::cli) fn worker(name: &str) -> Result<&str, Failure> {
    if name.is_empty() || is_the_daemons_name(name) {
        let next = "give a name that does not begin with @";
        return Err(Failure::usage("that name is not for workers", next));
    }
    Ok(name)
}

/// What a worker says of its kinds.
pub(in crate::doors::cli) fn signatures(
    file: Option<&Path>,
    context: &Context,
) -> Result<Option<Json>, Failure> {
    file.map(|file| input::json_file(&context.runs, "--signatures", file)).transpose()
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let ttl_ms = ttl_ms(args.ttl)?;
    let worker = worker(&args.worker)?;
    let signatures = signatures(args.signatures.as_deref(), context)?;
    let done = if let (Some(run), Some(effect)) = (&args.run, &args.effect) {
        let target = EffectArg { run: run.clone(), effect: effect.clone() };
        let claim = Claim {
            worker: worker.to_owned(),
            ttl_ms,
            claim_id: args.claim_id.clone(),
            target: None,
            slots: Vec::new(),
        };
        json!({ "tasks": [context.claim_one(run, target.id()?, &claim)?] })
    } else {
        context.claim_any(&Claiming {
            worker,
            kinds: &args.kinds,
            agents: &args.agents,
            offers: &args.offers,
            signatures: signatures.as_ref(),
            runs: &[],
            max: args.max,
            wait_ms: args.wait.map_or(0, |w| u64::try_from(w.as_millis()).unwrap_or(u64::MAX)),
            ttl_ms,
            claim_id: args.claim_id.as_deref(),
        })?
    };
    let tasks = done["tasks"].as_array().map_or(&[][..], Vec::as_slice);
    if context.json {
        output::json(&done);
    } else {
        tasks.iter().for_each(print);
    }
    if !tasks.is_empty() {
        return Ok(Exit::Done);
    }
    if !context.json {
        let spent = done["spent"] == true;
        output::remark(if spent { "what this claim got has ended" } else { "nothing to do" });
    }
    Ok(Exit::No)
}

fn print(task: &Value) {
    let text = |name: &str| task[name].as_str().unwrap_or("-");
    let (run, effect, epoch) = (text("runId"), text("effectId"), &task["epoch"]);
    output::line(&format!(
        "{run} {effect} epoch {epoch}: {} until {}",
        text("title"),
        text("leaseUntil")
    ));
    output::remark(&format!("next: dormouse task post {run} {effect} --epoch {epoch} --status ok"));
}
