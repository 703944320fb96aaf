//! The index: changes through its thread, and opening one of many parked runs.
//!
//! May not flatter: the changes are those of a run that goes on, one step each. Invariant: what was
//! given is in the file when the clock stops.

use dormouse::codecs::event::{Event, Record};
use dormouse::codecs::format::line::genesis;
use dormouse::ground::clock::Timestamp;
use dormouse::ground::id::{EffectId, RunId, Seq};
use dormouse::machines::replay::facts::Update;
use dormouse::machines::replay::state::RunState;
use dormouse::ports::disk::std::StdDisk;
use dormouse::services::indexer::{Indexer, Need};
use dormouse::shells::store::{Batch, Change, Index};
use std::path::PathBuf;
use std::time::Instant;

use crate::figures::{Bench, Samples};

/// Changes that come with one frame of the log under load.
const FRAME_CHANGES: usize = 64;

const CREATED: &str = r#"{"runId":"RUN","process":{"processId":"loop","entry":"main.js",
"api":"dormouse","digest":"DIGEST"},"generation":1,"tags":["nightly"],"by":"operator:bench"}"#;
const REQUESTED: &str = r#"{"effectId":"EFFECT","key":"ask#N","name":"ask","scope":"","cause":1,
"kind":"KIND","taskId":"ask","title":"step of many","def":{"sleep":{"targetEpochMs":1795176000000}},
"defDigest":"DIGEST","argsDigest":"DIGEST","policy":{"idempotent":false}}"#;
const RESOLVED: &str =
    r#"{"effectId":"EFFECT","epoch":0,"status":"ok","value":{"done":true},"by":"operator:bench"}"#;

/// A run that is told to the index record by record.
struct Told {
    run: RunId,
    state: Option<RunState>,
}

impl Told {
    fn new(n: usize) -> Self {
        Self { run: format!("01K9V3B7Q8ZX4T6M2N{n:08}").parse().unwrap(), state: None }
    }

    /// One record more, as the change of the index that it is.
    fn step(&mut self, kind: &str) -> Change {
        let seq = self.state.as_ref().map_or(1, |state| state.head.seq.0 + 1);
        let effect = EffectId::new(u32::try_from(seq / 2).unwrap());
        let (name, text) = match seq {
            1 => ("RUN_CREATED", CREATED),
            _ if seq.is_multiple_of(2) => ("EFFECT_REQUESTED", REQUESTED),
            _ => ("EFFECT_RESOLVED", RESOLVED),
        };
        let digest = dormouse::ground::digest::Digest::of(b"").to_string();
        let text = text.replace("RUN", self.run.as_str()).replace("EFFECT", &effect.to_string());
        let text = text.replace("KIND", kind).replace("DIGEST", &digest);
        let event = Event::decode(name, &text).unwrap();
        let at = Timestamp::from_millis(1_795_176_000_000 + i64::try_from(seq).unwrap());
        let touched = event.effect_id().into_iter().collect();
        let record = Record { seq: Seq(seq), at, event, sum: genesis(&self.run) };
        match &mut self.state {
            None => self.state = Some(RunState::first(&record).unwrap()),
            Some(state) => state.apply(&record).unwrap(),
        }
        let state = self.state.as_ref().unwrap();
        Change::Put(Box::new(Update::since(state, true, Seq(seq - 1), &touched)))
    }
}

fn directory(bench: &Bench, name: &str) -> PathBuf {
    let dir = bench.dir().join(name);
    std::fs::create_dir(&dir).unwrap();
    dir
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
fn per_second(count: usize, began: Instant) -> f64 {
    count as f64 / began.elapsed().as_secs_f64()
}

/// Rows of two columns, replaced in transactions of the same size.
fn floor(bench: &Bench, count: usize) -> f64 {
    let mut db = rusqlite::Connection::open(directory(bench, "rows").join("rows.db")).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    db.pragma_update(None, "synchronous", "NORMAL").unwrap();
    db.execute_batch("CREATE TABLE rows (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        .unwrap();
    let began = Instant::now();
    for frame in 0..count / FRAME_CHANGES {
        let transaction = db.transaction().unwrap();
        for n in 0..FRAME_CHANGES {
            let put = "INSERT OR REPLACE INTO rows VALUES (?1, 'a value')";
            let mut put = transaction.prepare_cached(put).unwrap();
            put.execute([format!("01K9V3B7Q8ZX4T6M2N{:08}", frame * FRAME_CHANGES + n)]).unwrap();
        }
        transaction.commit().unwrap();
    }
    per_second(count, began)
}

/// Steps of many runs, given as fast as the thread takes them.
pub(crate) fn changes(bench: &mut Bench) {
    let count = bench.pick(20_000, 100_000) / FRAME_CHANGES * FRAME_CHANGES;
    let floor = floor(bench, count);
    bench.rate("floor: SQLite rows, 64 in a transaction", floor, None);
    let mut runs: Vec<Told> = (0..count / 10).map(Told::new).collect();
    let order = (0..count).map(|n| n % runs.len()).collect::<Vec<_>>();
    let changes: Vec<Change> = order.into_iter().map(|n| runs[n].step("agent")).collect();
    let (index, _) = Index::open(&StdDisk, &directory(bench, "changes")).unwrap();
    let (tell, needs) = std::sync::mpsc::channel();
    let (indexer, thread) =
        Indexer::start(index, std::sync::Arc::default(), move |need| tell.send(need).unwrap())
            .unwrap();
    let Need::Rebuild(ticket) = needs.recv().unwrap() else { panic!("it is empty") };
    indexer.rebuilt(ticket);
    let began = Instant::now();
    let mut frame = 0;
    for changes in changes.chunks(FRAME_CHANGES) {
        frame += 1;
        indexer.apply(Batch { frame, changes: changes.to_vec() });
    }
    indexer.flush(frame).blocking_recv().unwrap().unwrap();
    bench.rate(
        "index: changes through its thread",
        per_second(count, began),
        Some(("rows", floor)),
    );
    indexer.stop();
    thread.join().unwrap();
}

/// What a start needs of an index of many parked runs.
pub(crate) fn parked(bench: &mut Bench) {
    let count = bench.pick(20_000, 100_000);
    let dir = directory(bench, "parked");
    let (mut index, _) = Index::open(&StdDisk, &dir).unwrap();
    let began = Instant::now();
    for from in (0..count).step_by(1000) {
        let steps = (from..from + 1000).flat_map(|n| {
            let mut run = Told::new(n);
            [run.step("sleep"), run.step(if n % 2 == 0 { "sleep" } else { "agent" })]
        });
        index.apply(&Batch { frame: 0, changes: steps.collect() }).unwrap();
    }
    bench.rate("index: rows of new parked runs", per_second(count, began), None);
    index.set_complete(true).unwrap();
    index.close().unwrap();
    let open = Samples::take(3, |_| {
        let (index, _) = Index::open(&StdDisk, &dir).unwrap();
        index.close().unwrap();
    });
    bench.time(&format!("index: open with {count} parked runs, count, close"), &open, None);
    let (index, _) = Index::open(&StdDisk, &dir).unwrap();
    let read = Samples::take(3, |_| {
        let mut after = None;
        let mut timers = 0;
        loop {
            let some = index.timers(after.as_ref(), None, 10_000).unwrap();
            timers += some.len();
            let Some(last) = some.last() else { break };
            after = Some(last.clone());
        }
        assert!(timers == count / 2 && index.runnable(None, 1000).unwrap().is_empty());
    });
    bench.time("index: all their timers, and what is runnable", &read, None);
    drop(index);
    let unclean = Samples::take(1, |_| drop(Index::open(&StdDisk, &dir).unwrap()));
    bench.time("index: open after an unclean stop (every page)", &unclean, None);
}
