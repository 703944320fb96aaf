//! `token create`: a token for requests over TCP.
//!
//! May not keep the token's text. Invariant: it is printed once.

use serde_json::json;

use super::remark_about_daemon;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::doors::http::Scope;
use crate::doors::http::tokens::{self, NewToken};

/// Make a token for requests over TCP, and print it once: only a digest of it is kept.
///
/// Example:
///   dormouse token create ci --scope run.read --scope task.work --expires-in 30days
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Who gets it, as it will stand in journals
    #[arg(value_name = "NAME")]
    name: String,
    /// What it lets do; may be repeated [default: run.read, run.write, task.work]
    #[arg(long = "scope", value_name = "SCOPE")]
    #[arg(value_parser = ["run.read", "run.write", "task.work", "run.operate", "approval.decide"])]
    scopes: Vec<String>,
    /// After how long it is worth nothing [default: never]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<humantime::Duration>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let runs = &context.runs;
    if runs.disk.open_dir(&context.meta()).is_err() {
        runs.open_root(true)?;
    }
    let mut scopes: Vec<Scope> = args.scopes.iter().filter_map(|name| Scope::named(name)).collect();
    if scopes.is_empty() {
        scopes = vec![Scope::Read, Scope::Write, Scope::Work];
    }
    let now = runs.clock.now();
    let millis = args.expires_in.map(|span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
    let expires_at = millis.map(|millis| now.plus_millis(millis));
    let new = NewToken { name: args.name.clone(), scopes: scopes.clone(), expires_at };
    let text = tokens::create(&*runs.disk, &context.tokens_file(), new, now)?;
    if context.json {
        output::json(&json!({
            "name": args.name, "token": text, "scopes": scopes, "expiresAt": expires_at,
        }));
    } else {
        output::line(&text);
    }
    remark_about_daemon(context)?;
    Ok(Exit::Done)
}
