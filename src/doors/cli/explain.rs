//! `explain`: what an error code or a label means.
//!
//! May not know runs. Invariant: every code that a failure can carry has a page.

use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// The pages, compiled in: each begins with `## CODE`.
const PAGES: &str = include_str!("../../../docs/errors.md");

/// Say what an error code or a label means and what to do.
///
/// Example:
///   dormouse explain J11
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The code, such as `run_exists` or `J11`; all codes if left out
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let Some(wanted) = &args.code else {
        let codes: Vec<&str> = pages().map(|(code, _)| code).collect();
        if context.json {
            output::json(&json!({ "codes": codes }));
        } else {
            output::line(&codes.join("\n"));
        }
        return Ok(Exit::Done);
    };
    if let Some((code, text)) = pages().find(|(code, _)| code.eq_ignore_ascii_case(wanted)) {
        if context.json {
            output::json(&json!({ "code": code, "text": text.trim() }));
        } else {
            output::line(&format!("{code}\n\n{}", text.trim()));
        }
        return Ok(Exit::Done);
    }
    let near = pages()
        .map(|(code, _)| (strsim::osa_distance(&code.to_lowercase(), &wanted.to_lowercase()), code))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    let mut next = vec!["dormouse explain".to_owned()];
    next.extend(near.map(|(_, code)| format!("did you mean {code}?")));
    let what = format!("no code {wanted:?} is known");
    Err(Failure { exit: Exit::NotFound, code: "code_not_found".into(), what, next })
}

fn pages() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGES.split("\n## ").skip(1).filter_map(|page| page.split_once('\n'))
}
