//! `doctor`: whether this machine, this disk and this root can keep the promises.
//!
//! May not judge runs: `fsck` does. Invariant: exit 0 when nothing is ill.

use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;
use crate::daemon::doctor::{self, Health};

/// Look at the machine, the disk and the root: clocks, limits, ports, process hosts; whether a sync
/// reaches the disk, names last and locks exclude. Exit 1 if something is ill.
///
/// Example:
///   dormouse doctor
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<Exit, Failure> {
    let is_served = context.daemon_now()?.is_some();
    let signs = doctor::examine(&context.runs, &context.config, is_served);
    let worst = signs.iter().map(|sign| sign.health).max().unwrap_or(Health::Well);
    if context.json {
        output::json(&json!({ "runsRoot": context.runs.root, "worst": worst, "signs": signs }));
    } else {
        for sign in &signs {
            output::line(&format!("{:5} {:12} {}", sign.health.name(), sign.name, sign.seen));
            if let Some(next) = &sign.next {
                output::line(&format!("{:18} next: {next}", ""));
            }
        }
        if worst < Health::Ill {
            output::remark("next: dormouse fsck checks every byte of the runs");
        }
    }
    Ok(if worst == Health::Ill { Exit::No } else { Exit::Done })
}
