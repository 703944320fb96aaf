//! An independent look at a root after the storm: files and the clients' own logs, nothing else.
//!
//! Shares no code with the program: the chain, the life of an effect and the index are judged from
//! their published formats.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::client::Ack;
use dormouse::ports::disk::std::StdDisk;
use dormouse::services::torture::book;

/// One run, read from its journal.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Records.
    pub(super) records: u64,
    /// Outcomes by effect.
    pub(super) outcomes: BTreeMap<String, Vec<Value>>,
    /// How it ended.
    pub(super) end: Option<String>,
}

/// Reads a journal and verifies its chain.
pub(super) fn read(run: &Path) -> Journal {
    let mut journal = Journal::default();
    for record in book::records(&StdDisk, run).unwrap_or_else(|e| panic!("{e}")) {
        journal.records += 1;
        journal.take(&record);
    }
    journal
}

impl Journal {
    fn take(&mut self, record: &Value) {
        let data = &record["data"];
        assert!(self.end.is_none(), "a record after the end: {record}");
        match record["type"].as_str().unwrap() {
            "EFFECT_RESOLVED" => {
                let effect = data["effectId"].as_str().unwrap().to_owned();
                self.outcomes.entry(effect).or_default().push(data["value"].clone());
            }
            end @ ("RUN_COMPLETED" | "RUN_FAILED" | "RUN_HALTED" | "RUN_CANCELLED") => {
                self.end = Some(end.to_owned());
            }
            _ => {}
        }
    }
}

/// Everything that was promised stands, everything that stands stands once.
pub(super) fn check(root: &Path, runs: &[String], steps: u64, acks: &[Ack]) {
    let journals: BTreeMap<&String, Journal> =
        runs.iter().map(|run| (run, read(&root.join(run)))).collect();
    for (run, journal) in &journals {
        assert_eq!(journal.end.as_deref(), Some("RUN_COMPLETED"), "run {run}");
        assert_eq!(journal.outcomes.len() as u64, steps, "run {run}");
        for (effect, outcomes) in &journal.outcomes {
            assert_eq!(outcomes.len(), 1, "run {run}, effect {effect}: {outcomes:?}");
        }
    }
    for ack in acks {
        match ack {
            Ack::Created { run } => assert!(journals.contains_key(run), "run {run} is lost"),
            Ack::Posted { run, effect, value } => {
                let stands = journals[run].outcomes.get(effect).and_then(|o| o.first());
                assert_eq!(stands, Some(value), "run {run}, effect {effect}: a promise is broken");
            }
        }
    }
    index(root, &journals);
    let left = segments(root);
    assert!(left.is_empty(), "the commit log is not empty after a clean stop: {left:?}");
}

/// The index says what the journals say.
fn index(root: &Path, journals: &BTreeMap<&String, Journal>) {
    let db = rusqlite::Connection::open(root.join(".dormouse/index.db")).unwrap();
    let mut query = db.prepare("SELECT run_id, state, head_seq FROM runs ORDER BY run_id").unwrap();
    let rows = query.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
    });
    let rows: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
    let expected: Vec<_> = journals
        .iter()
        .map(|(run, j)| ((*run).clone(), "completed".to_owned(), j.records.cast_signed()))
        .collect();
    assert_eq!(rows, expected);
    let open: i64 = db.query_row("SELECT count(*) FROM effects", [], |row| row.get(0)).unwrap();
    assert_eq!(open, 0, "effects that the index believes to be open");
}

/// Segments of the commit log that were left.
fn segments(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join(".dormouse/commit-log")) else { return Vec::new() };
    let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.strip_suffix(".dlog").is_some()).collect()
}
