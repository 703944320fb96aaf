//! `task heartbeat`: say that an effect is being worked on.
//!
//! May not write. Invariant: exit 0 means that the lease goes on and its holder may.

use serde_json::json;

use super::EffectArg;
use super::claim::ttl_ms;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Say that an effect is being worked on. Leases live in a daemon: this needs one.
///
/// Example:
///   dormouse task heartbeat RUN e0001 --epoch 1
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: EffectArg,
    /// The number of the start
    #[arg(long, value_name = "N")]
    epoch: u64,
    /// Who works
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
    /// How long silence is to be taken for life from now on
    #[arg(long, value_name = "DURATION")]
    ttl: Option<humantime::Duration>,
    /// How far it is, of a hundred
    #[arg(long, value_name = "N")]
    percent: Option<f64>,
    /// How far it is, in a few words
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut body = json!({ "epoch": args.epoch });
    if let Some(worker) = &args.worker {
        body["worker"] = json!(worker);
    }
    if args.ttl.is_some() {
        body["ttlMs"] = json!(ttl_ms(args.ttl)?);
    }
    if let Some(percent) = args.percent {
        body["progress"]["percent"] = json!(percent);
    }
    if let Some(label) = &args.label {
        body["progress"]["label"] = json!(label);
    }
    let done = context.heartbeat(&args.target.run, args.target.id()?, &body)?;
    if context.json {
        output::json(&done);
    } else {
        let text = |name: &str| done[name].as_str().unwrap_or("-");
        output::line(&format!("{} until {}", text("directive"), text("leaseUntil")));
    }
    Ok(Exit::Done)
}
