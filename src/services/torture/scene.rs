//! What is left of a scenario, read from files and from what the daemon says at rest.
//!
//! Shares no code with what wrote the files. Invariant: nothing is changed by looking.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::Broken;
use super::book;
use super::client::Client;
use super::judge::{self, Scene, Story, Variant};
use super::yard::Yard;
use crate::ports::disk::{Disk, Open};

/// Runs with the records that a journal had when it was looked at.
pub(super) type Glimpses = Vec<(String, Vec<Value>)>;

/// Longest kept post that is read.
const KEPT_BYTES_MAX: u64 = 1 << 20;

/// Reads the runs of a root: journals, refused posts that were kept, rows of the index.
pub(super) fn fill<'r>(
    yard: &Yard,
    runs: impl Iterator<Item = (&'r str, Variant)>,
    scene: &mut Scene,
) -> Result<(), Broken> {
    let db = rusqlite::Connection::open(yard.root().join(".dormouse/index.db"))?;
    let mut query = db.prepare("SELECT state, head_seq FROM runs WHERE run_id = ?1")?;
    for (run, variant) in runs {
        let place = yard.root().join(run);
        match book::records(yard.disk(), &place) {
            Ok(records) => {
                let row = query.query_row([run], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
                });
                let stale = kept(yard.disk(), &place);
                scene.runs.insert(run.to_owned(), Story { variant, records, stale, row: row.ok() });
            }
            Err(why) => scene.unreadable.push((run.to_owned(), why)),
        }
    }
    Ok(())
}

/// Refused posts that stand below the tasks of a run.
fn kept(disk: &dyn Disk, run: &Path) -> Vec<Value> {
    let mut all = Vec::new();
    let Ok(tasks) = disk.open_dir(run).and_then(|dir| dir.open_dir("tasks")) else { return all };
    for task in tasks.list().unwrap_or_default() {
        let Ok(stale) = tasks.open_dir(&task).and_then(|dir| dir.open_dir("stale")) else {
            continue;
        };
        for name in stale.list().unwrap_or_default() {
            let bytes = stale.read_file(&name, Open::Read, KEPT_BYTES_MAX).unwrap_or_default();
            all.extend(serde_json::from_slice(&bytes).ok());
        }
    }
    all
}

/// I11 and I12: what the daemon itself says when all is done.
pub(super) fn at_rest<'r>(
    yard: &Yard,
    runs: impl Iterator<Item = &'r str>,
    since: &str,
) -> Result<Vec<String>, Broken> {
    let (client, mut found) = (Client { socket: yard.socket() }, Vec::new());
    let (status, audit) = client.call("POST", "/v1/audit", &json!({}))?;
    if (status, &audit["findings"]) != (200, &json!([])) {
        found.push(format!("I11: the auditor finds {audit}"));
    }
    let (_, metrics) = client.exchange("GET", "/metrics", &Value::Null)?;
    let figure = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().parse::<u64>().ok())
    };
    let leases = figure("dormouse_leases ");
    if leases != Some(0) {
        found.push(format!("I11: nobody is at anything, and there are leases: {leases:?}"));
    }
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for run in runs {
        count_outcomes(yard, run, since, &mut expected);
    }
    for (labels, count) in expected {
        let said = figure(&format!("dormouse_effect_outcomes_total{{{labels}}} "));
        if said != Some(count) {
            found.push(format!("I12: {labels}: {said:?} counted, {count} in journals"));
        }
    }
    Ok(found)
}

/// Outcomes of effects since the last daemon began, by the labels of their metric.
fn count_outcomes(yard: &Yard, run: &str, since: &str, into: &mut BTreeMap<String, u64>) {
    let mut kinds: BTreeMap<String, String> = BTreeMap::new();
    // A journal that cannot be read is a finding of its own.
    for record in book::records(yard.disk(), &yard.root().join(run)).unwrap_or_default() {
        let data = &record["data"];
        let effect = data["effectId"].as_str().unwrap_or_default().to_owned();
        let outcome = match judge::kind(&record) {
            "EFFECT_REQUESTED" => {
                kinds.insert(effect, data["kind"].as_str().unwrap_or_default().to_owned());
                continue;
            }
            "EFFECT_RESOLVED" => data["status"].as_str().unwrap_or_default(),
            "EFFECT_CANCELLED" => "cancelled",
            _ => continue,
        };
        if record["at"].as_str() > Some(since)
            && let Some(kind) = kinds.get(&effect)
        {
            let labels = format!("kind=\"{kind}\",outcome=\"{outcome}\"");
            *into.entry(labels).or_default() += 1;
        }
    }
}
