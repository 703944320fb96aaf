//! `token list`: tokens and what they let do.
//!
//! May not show a token. Invariant: every token that is kept is listed, expired ones as well.

use serde_json::{Value, json};

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::doors::http::tokens::{self, Tokens};
use crate::ground::clock::Timestamp;

/// List tokens and what they let do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<Exit, Failure> {
    let runs = &context.runs;
    let kept = match tokens::load(&*runs.disk, &context.tokens_file()) {
        Err(crate::services::runs::Error::NotFound(_)) => Tokens::default(),
        kept => kept?,
    };
    let tokens: Vec<Value> = kept
        .all()
        .iter()
        .map(|token| {
            json!({
                "name": token.name, "scopes": token.scopes, "createdAt": token.created_at,
                "expiresAt": token.expires_at,
            })
        })
        .collect();
    if context.json {
        output::json(&json!({ "tokens": tokens }));
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = kept
        .all()
        .iter()
        .map(|token| {
            let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.name()).collect();
            let ends = token.expires_at.map_or("never".to_owned(), Timestamp::iso_millis);
            vec![token.name.clone(), scopes.join(" "), token.created_at.iso_millis(), ends]
        })
        .collect();
    if rows.is_empty() {
        output::remark("no tokens");
    } else {
        output::table(&["NAME", "SCOPES", "CREATED", "EXPIRES"], &rows);
    }
    Ok(Exit::Done)
}
