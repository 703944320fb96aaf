//! The index's thread: changes are taken in order, queries see what was given before them, and when
//! the file fails it is made anew while everybody goes on.

use crate::index::{lives, open, put};
use crate::index_journals::Life;
use dormouse::ground::id::Seq;
use dormouse::ground::limits::INDEX_QUEUE_CHANGES_MAX;
use dormouse::machines::replay::facts::Update;
use dormouse::ports::telemetry::Metrics;
use dormouse::services::indexer::{Indexer, Need, Unavailable};
use dormouse::shells::store::{Batch, Change, Condition, Error, Index};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

struct Served {
    indexer: Indexer,
    needs: Receiver<Need>,
    thread: JoinHandle<()>,
}

fn serve(dir: &Path) -> Served {
    let (tell, needs) = mpsc::channel();
    let (index, _) = open(dir);
    let (indexer, thread) =
        Indexer::start(index, Metrics::default().into(), move |need| tell.send(need).unwrap())
            .unwrap();
    Served { indexer, needs, thread }
}

impl Served {
    fn rebuilt(&self) {
        let Need::Rebuild(ticket) = self.needs.recv().unwrap() else { panic!("another need") };
        self.indexer.rebuilt(ticket);
    }

    fn stop(self) {
        self.indexer.stop();
        self.thread.join().unwrap();
    }

    fn heads(&self) -> Result<Vec<Seq>, Unavailable> {
        let read = |index: &Index| index.runs_after(None, true, 100);
        Ok(self.indexer.ask(read)?.iter().map(|run| run.head.seq).collect())
    }
}

fn step(life: &Life, n: usize) -> Change {
    let touched: BTreeSet<_> = life.records[n].event.effect_id().into_iter().collect();
    put(Update::since(&life.states[n], true, Seq(n as u64), &touched))
}

fn whole(life: &Life) -> Change {
    put(Update::whole(life.last(), true))
}

#[test]
fn queries_see_what_was_given_before_them_and_a_flush_waits_for_its_frame() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    assert_eq!(served.heads(), Err(Unavailable::Rebuilding));
    served.rebuilt();
    let life = &lives(1, 1, 200)[0];
    let mut flushed = served.indexer.flush(life.records.len() as u64);
    for n in 0..life.records.len() {
        served.indexer.apply(Batch { frame: n as u64 + 1, changes: vec![step(life, n)] });
        if n % 10 == 0 {
            assert_eq!(served.heads().unwrap(), [Seq(n as u64 + 1)]);
        }
        if n + 1 < life.records.len() {
            assert!(flushed.try_recv().is_err(), "the frame is not there yet");
        }
    }
    assert_eq!(flushed.blocking_recv().unwrap(), Ok(()));
    served.indexer.settled().blocking_recv().unwrap().unwrap();
    assert!(served.indexer.pressure() < f64::EPSILON);
    let never = served.indexer.flush(u64::MAX);
    let indexer = served.indexer.clone();
    served.stop();
    assert_eq!(never.blocking_recv().unwrap(), Err(Unavailable::Stopped));
    assert_eq!(indexer.ask(|index| Ok(index.applied())), Err(Unavailable::Stopped));
    let (index, condition) = open(dir.path());
    assert_eq!(condition, Condition::Usable { applied: life.records.len() as u64 });
    assert_eq!(index.whole(&life.run).unwrap(), Some(Update::whole(life.last(), true)));
}

#[test]
fn a_file_that_fails_is_made_anew_while_changes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    served.rebuilt();
    let lives = lives(2, 6, 80);
    let middle = 9;
    let first = |life: &Life| (0..middle).map(|n| step(life, n)).collect::<Vec<_>>();
    served.indexer.apply(Batch { frame: 1, changes: lives.iter().flat_map(first).collect() });
    assert_eq!(served.heads().unwrap().len(), 6);
    let failed =
        served.indexer.ask(|_| -> Result<(), Error> { Err(rusqlite::Error::InvalidQuery.into()) });
    assert_eq!(failed, Err(Unavailable::Rebuilding));
    let Need::Rebuild(ticket) = served.needs.recv().unwrap() else { panic!("another need") };
    let flushed = served.indexer.flush(2);
    // It goes on while the journals are read: some are read before their last record, some after.
    let early = |life: &Life| put(Update::whole(&life.states[middle - 1], true));
    served.indexer.apply(Batch { frame: 0, changes: lives[..2].iter().map(early).collect() });
    let next = lives.iter().map(|life| step(life, middle)).collect();
    served.indexer.apply(Batch { frame: 2, changes: next });
    served.indexer.apply(Batch { frame: 0, changes: lives[2..4].iter().map(early).collect() });
    assert_eq!(served.heads(), Err(Unavailable::Rebuilding));
    served.indexer.rebuilt(ticket - 1);
    assert_eq!(served.heads(), Err(Unavailable::Rebuilding), "an earlier rebuild does not count");
    served.indexer.rebuilt(ticket);
    let Need::Reread(runs) = served.needs.recv().unwrap() else { panic!("another need") };
    let missed: Vec<_> = lives[2..].iter().map(|life| life.run.clone()).collect();
    assert_eq!(runs, missed, "those whose next change came before what it builds on");
    // Read too early: it is asked for again.
    served.indexer.apply(Batch { frame: 0, changes: lives[2..5].iter().map(early).collect() });
    served.indexer.settled().blocking_recv().unwrap().unwrap();
    assert_eq!(served.needs.recv().unwrap(), Need::Reread(missed));
    served.indexer.apply(Batch { frame: 0, changes: lives.iter().map(whole).collect() });
    assert_eq!(flushed.blocking_recv().unwrap(), Ok(()));
    for life in &lives {
        let run = life.run.clone();
        let row = served.indexer.ask(move |index| index.whole(&run)).unwrap();
        assert_eq!(row, Some(Update::whole(life.last(), true)));
    }
    served.stop();
}

#[test]
fn more_changes_than_fit_make_the_index_anew() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    served.rebuilt();
    let gone = Change::Gone("nobody".parse().unwrap());
    let changes = vec![gone; INDEX_QUEUE_CHANGES_MAX + 1];
    served.indexer.apply(Batch { frame: 7, changes });
    assert!(matches!(served.needs.recv().unwrap(), Need::Rebuild(2)));
    assert_eq!(served.heads(), Err(Unavailable::Rebuilding));
    served.indexer.rebuilt(2);
    assert_eq!(served.heads(), Ok(Vec::new()));
    assert_eq!(served.indexer.ask(|index| Ok(index.applied())), Ok(0));
    served.stop();
}

#[test]
fn a_disk_that_refuses_is_an_alarm_and_the_next_change_tries_again() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    served.rebuilt();
    assert_eq!(served.heads(), Ok(Vec::new()));
    // A directory of the file's name cannot be removed as a file is.
    let file = dir.path().join("index.db");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    served.indexer.renew();
    assert!(matches!(served.needs.recv().unwrap(), Need::Alarm(_)));
    assert_eq!(served.heads(), Err(Unavailable::Rebuilding));
    std::fs::remove_dir(&file).unwrap();
    let life = &lives(4, 1, 5)[0];
    served.indexer.apply(Batch { frame: 1, changes: vec![whole(life)] });
    served.rebuilt();
    assert_eq!(served.heads().unwrap(), [life.last().head.seq]);
    served.stop();
}
