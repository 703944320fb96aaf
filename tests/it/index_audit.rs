//! The auditor finds every way in which the index can be wrong, mends it, and is silent about runs
//! that merely move; an index is made from journals, damaged ones included.

use crate::index::{lives, open, put};
use crate::index_journals::Life;
use crate::served::Served;
use crate::support::{as_disk, at};
use dormouse::ground::clock::ManualClock;
use dormouse::ground::id::{RunId, Seq};
use dormouse::machines::replay::facts::{Reasons, Update};
use dormouse::machines::replay::state::RunState;
use dormouse::ports::disk::memory::MemoryDisk;
use dormouse::services::audit::{
    Audited, Auditor, Error, Finding, Journals, RootJournals, Rows, What, judge,
};
use dormouse::services::indexer::rebuild::{Journaled, read, rebuild, take_touched};
use dormouse::services::runs::Runs;
use dormouse::services::runs::create::{NewRun, host_limits};
use dormouse::services::runs::hosts::ChildHosts;
use dormouse::shells::store::{Batch, Index};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Whether something is what was looked for.
type Is = Box<dyn Fn(&What) -> bool>;

/// Journals in memory.
struct Kept(BTreeMap<RunId, RunState>);

impl Kept {
    fn of(lives: &[Life]) -> Self {
        Self(lives.iter().map(|life| (life.run.clone(), life.last().clone())).collect())
    }
}

fn journaled(state: &RunState) -> Journaled {
    Journaled { update: Update::whole(state, false), resting: Reasons::of(state, true) }
}

impl Journals for Kept {
    fn after(&mut self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunId>, Error> {
        let later = self.0.keys().filter(|id| after.is_none_or(|after| *id > after));
        Ok(later.take(limit).cloned().collect())
    }

    fn read(&mut self, run: &RunId) -> Result<Option<Journaled>, Error> {
        Ok(self.0.get(run).map(journaled))
    }
}

/// One whole round, a few runs at a time.
fn round(rows: &mut dyn Rows, journals: &mut dyn Journals, ended_too: bool) -> Audited {
    let mut auditor = Auditor::new(ended_too);
    let mut all = Audited::default();
    while !all.round_done {
        let some = auditor.some(rows, journals, 4).unwrap();
        assert!(some.looked <= 4);
        all.looked += some.looked;
        all.findings.extend(some.findings);
        all.mending.extend(some.mending);
        all.round_done = some.round_done;
    }
    all
}

fn filled(dir: &Path, lives: &[Life]) {
    let (mut index, _) = open(dir);
    let whole = lives.iter().enumerate().map(|(n, l)| put(Update::whole(l.last(), n % 2 == 0)));
    index.apply(&Batch { frame: 1, changes: whole.collect() }).unwrap();
    index.set_complete(true).unwrap();
    index.close().unwrap();
}

/// The first open run that has what is wanted.
fn with(lives: &[Life], wanted: impl Fn(&Update) -> bool) -> &RunId {
    let fits = |life: &&Life| life.last().is_open() && wanted(&Update::whole(life.last(), true));
    &lives.iter().find(fits).unwrap().run
}

/// Breaks an index by SQL, and gives what the auditor finds; checks that it is mended.
fn broken(lives: &[Life], sql: &str, ended_too: bool) -> Vec<Finding> {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), lives);
    let db = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
    assert!(db.execute(sql, []).unwrap() > 0, "{sql}");
    drop(db);
    let (mut index, _) = open(dir.path());
    let mut journals = Kept::of(lives);
    let audited = round(&mut &index, &mut journals, ended_too);
    index.apply(&Batch { frame: 0, changes: audited.mending }).unwrap();
    let again = round(&mut &index, &mut journals, true);
    assert_eq!((again.findings, again.looked), (Vec::new(), lives.len()), "{sql}");
    let counts = index.counts().clone();
    drop(index);
    assert_eq!(*open(dir.path()).0.counts(), counts, "{sql}");
    audited.findings
}

#[test]
fn every_way_to_be_wrong_is_found_and_mended() {
    let lives = lives(31, 30, 40);
    let timed = with(&lives, |u| u.run.wake_at.is_some());
    let asking = with(&lives, |u| u.open.iter().any(|e| e.signal.is_some()));
    let waiting = with(&lives, |u| !u.open.is_empty());
    let ended = &lives.iter().find(|life| !life.last().is_open()).unwrap().run;
    let differs = |field: &str| {
        let field = field.to_owned();
        move |what: &What| matches!(what, What::Differs { field: f, .. } if *f == field)
    };
    let is = |wanted: fn(&What) -> bool| -> Is { Box::new(wanted) };
    let row = |set: &str, run: &RunId| format!("UPDATE runs SET {set} WHERE run_id = '{run}'");
    let lost_wait = |what: &What| matches!(what, What::LostEffect(_));
    let cases: Vec<(String, &RunId, Is)> = vec![
        (
            format!("DELETE FROM runs WHERE run_id = '{waiting}'"),
            waiting,
            is(|w| *w == What::MissingRow),
        ),
        (row("wake_at = NULL", timed), timed, is(|w| *w == What::LostTimer)),
        (row("wake_at = wake_at + 1", timed), timed, is(|w| *w == What::LostTimer)),
        (row("wake_at = wake_at - 1", timed), timed, Box::new(differs("wake_at"))),
        (row("reasons = 0", waiting), waiting, is(|w| *w == What::EmptyReasons)),
        (row("reasons = 127", waiting), waiting, Box::new(differs("reasons"))),
        (row("head_seq = head_seq + 1", waiting), waiting, Box::new(differs("head"))),
        (row("head_seq = head_seq - 1", waiting), waiting, Box::new(differs("head"))),
        (row("head_sum = zeroblob(16)", waiting), waiting, Box::new(differs("head"))),
        (row("pending = '{}'", waiting), waiting, Box::new(differs("pending"))),
        (
            format!("DELETE FROM effects WHERE run_id = '{asking}' AND signal_name IS NOT NULL"),
            asking,
            is(lost_wait),
        ),
        (
            format!(
                "UPDATE effects SET signal_name = 'x' WHERE run_id = '{asking}' \
                 AND signal_name IS NOT NULL"
            ),
            asking,
            is(lost_wait),
        ),
        (
            format!(
                "INSERT INTO effects (run_id, effect, kind, status, key, requested_at, epoch, \
                 limit_keys, since) SELECT run_id, 9999, kind, status, key, requested_at, epoch, \
                 limit_keys, since FROM effects WHERE run_id = '{waiting}' LIMIT 1"
            ),
            waiting,
            is(|w| matches!(w, What::ExtraEffect(_))),
        ),
        (
            format!("UPDATE effects SET epoch = epoch + 7 WHERE run_id = '{waiting}'"),
            waiting,
            Box::new(differs("effect")),
        ),
    ];
    for (sql, run, is) in cases {
        let findings = broken(&lives, &sql, false);
        assert!(findings.iter().any(|f| is(&f.what)), "{sql}\n{findings:#?}");
        assert!(findings.iter().all(|f| f.run == *run), "{sql}\n{findings:#?}");
        let said: Vec<String> = findings.iter().map(|f| f.what.to_string()).collect();
        assert!(!said.iter().any(|text| text.contains(['(', '{', '['])), "{said:?}");
    }
    // Runs that are over are looked at only when asked for.
    let tagged = format!("UPDATE runs SET native_state = 'parked' WHERE run_id = '{ended}'");
    assert_eq!(broken(&lives, &tagged, true).len(), 1);
}

#[test]
fn a_row_of_no_run_is_found_and_removed() {
    let all = lives(33, 12, 30);
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), &all);
    let (mut index, _) = open(dir.path());
    let gone = all.iter().position(|life| life.last().is_open()).unwrap();
    let mut rest = all.clone();
    let gone = rest.remove(gone).run;
    let mut journals = Kept::of(&rest);
    let audited = round(&mut &index, &mut journals, false);
    assert_eq!(audited.findings, [Finding { run: gone.clone(), what: What::ExtraRow }]);
    index.apply(&Batch { frame: 0, changes: audited.mending }).unwrap();
    assert_eq!(index.whole(&gone).unwrap(), None);
    assert_eq!(round(&mut &index, &mut journals, true).findings, []);
}

#[test]
fn a_run_that_moves_is_not_wrong() {
    let life = &lives(35, 1, 60)[0];
    let count = life.states.len();
    assert!(count > 8);
    let row = |n: usize| Update::whole(&life.states[n], true);
    let journal = journaled(&life.states[4]);
    // Read before the journal, and after it: the row may be older first and newer then.
    let fine = |a: Option<usize>, b: Option<usize>| {
        judge(a.map(row).as_ref(), Some(&journal), b.map(row).as_ref()).is_empty()
    };
    assert!(fine(Some(4), Some(4)) && fine(Some(2), Some(4)) && fine(Some(2), Some(7)));
    assert!(fine(None, Some(4)) && fine(None, Some(6)));
    assert!(!fine(None, None) && !fine(Some(2), Some(2)), "it lags, and does not move");
    assert!(!fine(Some(6), Some(6)), "it is ahead of its journal");
    assert!(!fine(Some(1), Some(3)), "what was on its way has arrived, and is not enough");
    assert!(judge(Some(&row(4)), None, None).is_empty());
}

/// The service over a root on a memory disk; its runs are bare and need no host.
fn service() -> (MemoryDisk, Runs) {
    let disk = MemoryDisk::new(1);
    let runs = Runs {
        disk: as_disk(&disk),
        clock: Arc::new(ManualClock::at(at(0))),
        hosts: Arc::new(ChildHosts { exe: "/nowhere".into() }),
        root: "/runs".into(),
        lock_wait_ms: 0,
        allow_fs: None,
        limits: host_limits(),
        turn_wall_max_ms: 1,
        kinds: dormouse::services::runs::kinds::KnownKinds::default(),
        by: "operator:test".into(),
        telemetry: dormouse::services::telemetry::Telemetry::default(),
    };
    (disk, runs)
}

fn bare(runs: &Runs, id: &str) {
    let new = NewRun { run_id: Some(id.parse().unwrap()), ..NewRun::default() };
    runs.create(&new).unwrap();
}

fn states(index: &Index) -> Vec<(String, &'static str)> {
    let all = index.runs_after(None, true, 100).unwrap();
    all.into_iter().map(|run| (run.run_id.to_string(), run.state)).collect()
}

#[test]
fn an_index_is_made_from_journals() {
    let (disk, runs) = service();
    let dir = tempfile::tempdir().unwrap();
    let (mut index, _) = open(dir.path());
    rebuild(&runs, &mut index, 3, &mut |_, _| panic!("nothing is there")).unwrap();
    assert!(index.is_complete() && index.applied() == 3);
    for id in ["a", "b", "c"] {
        bare(&runs, id);
    }
    let journal = Path::new("/runs/b/journal/0000000001.jsonl");
    disk.tamper(journal, |bytes| bytes[30] ^= 1);
    let mut told = Vec::new();
    rebuild(&runs, &mut index, 4, &mut |done, total| told.push((done, total))).unwrap();
    assert_eq!(told, [(3, 3)]);
    let named = |a, b, c| [("a".to_owned(), a), ("b".to_owned(), b), ("c".to_owned(), c)];
    assert_eq!(states(&index), named("created", "damaged", "created"));
    let damaged = index.run(&"b".parse().unwrap()).unwrap().unwrap();
    assert!(damaged.problem.is_some() && damaged.is_open() && !damaged.reasons.is_empty());
    let mut journals = RootJournals::new(&runs).unwrap();
    let audited = round(&mut &index, &mut journals, false);
    assert_eq!((audited.findings, audited.looked), (Vec::new(), 3));
    // Mended by hand: the audit sees it, and the run counts as what it is.
    disk.tamper(journal, |bytes| bytes[30] ^= 1);
    let audited = round(&mut &index, &mut journals, false);
    assert!(audited.findings.iter().all(|f| f.run.as_str() == "b"));
    index.apply(&Batch { frame: 0, changes: audited.mending }).unwrap();
    assert_eq!(states(&index), named("created", "created", "created"));
    assert_eq!(index.counts().runs, BTreeMap::from([("created".to_owned(), 3)]));
}

#[test]
fn runs_that_were_written_without_a_daemon_are_read_again() {
    let (_, runs) = service();
    let dir = tempfile::tempdir().unwrap();
    let (mut index, _) = open(dir.path());
    for id in ["a", "b"] {
        bare(&runs, id);
    }
    rebuild(&runs, &mut index, 1, &mut |_, _| ()).unwrap();
    take_touched(&runs, &mut index).unwrap();
    bare(&runs, "c");
    runs.pause("a").unwrap();
    assert_eq!(states(&index).len(), 2);
    let touched = take_touched(&runs, &mut index).unwrap();
    assert!(touched >= 1, "the command that wrote has left a mark");
    let root = runs.view_root().unwrap();
    assert_eq!(root.touched().unwrap(), []);
    let right = read(&root, &"a".parse().unwrap()).unwrap().update;
    assert_eq!(right.run.head.seq, Seq(2));
    assert_eq!(index.whole(&"a".parse().unwrap()).unwrap(), Some(right));
    assert_eq!(take_touched(&runs, &mut index).unwrap(), 0);
}

/// Waits for somebody outside, again and again.
const ASKS: &str = "import { defineTask } from 'dormouse';
const ask = defineTask('ask', (args) => ({ kind: 'agent', title: `step ${args.n}` }));
export async function process(inputs, ctx) {
  for (let n = 0; ; n++) await ctx.task(ask, { n });
}";

#[test]
fn g6_an_audit_is_silent_about_runs_that_go_on() {
    let served = Served::new();
    let entry = served.cli.file("asks.js", ASKS).display().to_string();
    let go_on = |run: String| {
        let source = json!({ "runId": run, "source": { "entry": entry } });
        assert_eq!(served.post("/v1/runs", &source).status, 201);
        served.rests(&run);
        for n in 1..=60 {
            let path = format!("/v1/runs/{run}/tasks/e{n:04}/result");
            served.post(&path, &json!({ "status": "ok", "value": n })).ok();
        }
    };
    let audit = || {
        for _ in 0..20 {
            let audited = served.post("/v1/audit", &json!({})).ok();
            assert_eq!(audited["findings"], json!([]), "{audited}");
        }
    };
    std::thread::scope(|scope| {
        for n in 0..6 {
            let go_on = &go_on;
            scope.spawn(move || go_on(format!("run-{n}")));
        }
        (0..3).for_each(|_| _ = scope.spawn(audit));
    });
}
