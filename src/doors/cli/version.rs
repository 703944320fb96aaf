//! `version`: the version, the formats it reads and writes, its features.
//!
//! May not know runs. Invariant: the first line is `dormouse <semver>`.

use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;
use crate::shells::run_dir::dir::FORMAT_VERSION;

/// Print the version, the formats it reads and writes, and its features.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[expect(clippy::unnecessary_wraps, reason = "every verb has this shape")]
pub(super) fn run(_: &Args, context: &Context) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if context.json {
        output::json(&json!({
            "name": "dormouse", "version": version,
            "formats": {
                "journal": 1, "runDirectory": FORMAT_VERSION, "root": 1, "processLock": 1,
            },
            "engine": { "name": "quickjs-ng", "binding": "rquickjs" },
            "features": ["direct"],
        }));
    } else {
        output::line(&format!("dormouse {version}"));
    }
    Ok(Exit::Done)
}
