//! `audit`: whether the index says of every run what its journal says.
//!
//! May not judge. Invariant: what is found is mended, and exit 1 says that something was.

use serde_json::Value;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;
use crate::daemon::alone::Alone;
use crate::doors::answers::AuditDone;

/// Compare the index with the journal of every run, and mend it. Exit 1 if something was wrong.
///
/// Example:
///   dormouse audit
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<Exit, Failure> {
    let direct = || {
        let mut alone = Alone::open(&context.runs)?;
        let audited = alone.audit()?;
        alone.close()?;
        Ok(serde_json::to_value(AuditDone::of(&audited)).unwrap_or_default())
    };
    let done =
        context.root_deed(direct, |client| client.post("/v1/audit", &serde_json::json!({})))?;
    let findings = done["findings"].as_array().cloned().unwrap_or_default();
    if context.json {
        output::json(&done);
    } else {
        print(&done, &findings);
    }
    Ok(if findings.is_empty() { Exit::Done } else { Exit::No })
}

fn print(done: &Value, findings: &[Value]) {
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or("-").to_owned();
    let rows: Vec<Vec<String>> = findings
        .iter()
        .map(|finding| ["runId", "what", "detail"].map(|name| text(finding, name)).to_vec())
        .collect();
    if !rows.is_empty() {
        output::table(&["RUN", "WHAT", "DETAIL"], &rows);
    }
    let found = match rows.len() {
        0 => "nothing to mend".to_owned(),
        1 => "1 finding, mended".to_owned(),
        count => format!("{count} findings, all mended"),
    };
    output::line(&format!("{} runs looked at, {found}", done["looked"]));
}
