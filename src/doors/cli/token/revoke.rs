//! `token revoke`: take a token back.
//!
//! May not touch another token. Invariant: exit 0 means that no file knows the token any more.

use serde_json::json;

use super::remark_about_daemon;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::doors::http::tokens;

/// Take a token back.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose it is
    #[arg(value_name = "NAME")]
    name: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let revoked = tokens::revoke(&*context.runs.disk, &context.tokens_file(), &args.name)?;
    if context.json {
        output::json(&json!({ "name": revoked.name, "revoked": true }));
    } else {
        output::line(&format!("token {} is revoked", revoked.name));
    }
    remark_about_daemon(context)?;
    Ok(Exit::Done)
}
