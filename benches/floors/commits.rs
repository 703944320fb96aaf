//! Group commit: many producers through the commit log against the bare loop that writes frames.
//!
//! May not settle less than a daemon does. Invariant: a commit counts when it was called durable,
//! and each producer waits for its own before it goes on.

use crate::figures::Bench;
use dormouse::codecs::event::{Event, OperatorNote, RunCreated};
use dormouse::codecs::format::line;
use dormouse::codecs::format::log_entry::Append;
use dormouse::ground::clock::{SystemClock, Timestamp};
use dormouse::ground::digest::Sum;
use dormouse::ground::id::{RunId, Seq};
use dormouse::ports::disk::Disk;
use dormouse::ports::disk::aligned::AlignedBuffer;
use dormouse::ports::disk::std::StdDisk;
use dormouse::ports::disk::{Dir, Open};
use dormouse::services::commit::{Committer, Options};
use dormouse::shells::commit_log::log::Home;
use dormouse::shells::commit_log::{Committed, Unit};
use dormouse::shells::run_dir::owned::OwnedRoot;
use dormouse::shells::run_dir::root;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

const PRODUCERS: usize = 64;
const FRAME: usize = 16 * 1024;
const SEGMENT: u64 = 16 << 20;

/// One run's owner: each record builds on the last.
struct Producer {
    run: RunId,
    seq: Seq,
    sum: Sum,
    off: u64,
    durable: Receiver<()>,
}

impl Producer {
    fn unit(&mut self) -> Unit {
        let note: Event = OperatorNote { text: "x".repeat(100), by: "bench".into() }.into();
        let event = if self.seq == Seq(0) { created(&self.run) } else { note };
        let (seq, prev, off) = (self.seq.next(), self.sum, self.off);
        let (lines, last) = line::encode(seq, Timestamp::default(), &event, prev);
        (self.seq, self.sum, self.off) = (seq, last, off + lines.len() as u64);
        let (run, file) = (self.run.clone(), Seq(1));
        Unit::append(Append { run, file, off, seq, n: 1, prev, last, lines }, true)
    }
}

fn created(run: &RunId) -> Event {
    RunCreated {
        run_id: run.clone(),
        process: None,
        inputs: None,
        inputs_blob: None,
        parent: None,
        schedule: None,
        idempotency: None,
        generation: 1,
        tags: Vec::new(),
        cwd: None,
        system: None,
        non_interactive: false,
        traceparent: None,
        by: "operator:bench".into(),
    }
    .into()
}

fn producers() -> (Vec<Producer>, HashMap<RunId, Sender<()>>) {
    let mut waiting = HashMap::new();
    let all = (0..PRODUCERS).map(|n| {
        let run: RunId = format!("producer-{n}").parse().unwrap();
        let (told, durable) = channel();
        waiting.insert(run.clone(), told);
        Producer { sum: line::genesis(&run), run, seq: Seq(0), off: 0, durable }
    });
    let all = all.collect();
    (all, waiting)
}

/// Frames of the size that 64 small commits take, one after the other, on zero-written bytes.
fn bare_frames(dir: &dyn Dir, count: u64) -> f64 {
    let file = dir.create_excl("frames").unwrap();
    file.write_at(0, &vec![0; usize::try_from(SEGMENT).unwrap()]).unwrap();
    file.sync_file().unwrap();
    let direct = file.dio_alignment().unwrap().is_some();
    let file = if direct { dir.open("frames", Open::Direct).unwrap() } else { file };
    let mut frame = AlignedBuffer::new(FRAME, 4096);
    frame.fill(1);
    let began = Instant::now();
    for n in 0..count {
        file.write_at(n * FRAME as u64 % SEGMENT, &frame).unwrap();
        if !direct {
            file.sync_data().unwrap();
        }
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = count as f64 / began.elapsed().as_secs_f64();
    rate
}

/// The group-commit ceiling of this machine, and what the service makes of it: bare frames and
/// commits a second.
pub(crate) fn group(bench: &mut Bench) -> (f64, f64) {
    let path = bench.dir().join("group-commit");
    let disk: Arc<dyn Disk> = Arc::new(StdDisk);
    let how = root::Options { create: true, wait_ms: 0, allow_fs: None };
    let root = OwnedRoot::open(&disk, &path, &how, &SystemClock).unwrap();
    let frames = bare_frames(&**root.meta(), bench.pick(1_000, 5_000) as u64);
    let home = Home {
        root: root.view().clone(),
        meta: Arc::clone(root.meta()),
        file: Arc::clone(root.file()),
        clock: Arc::new(SystemClock),
    };
    let (mut all, waiting) = producers();
    let tell = Box::new(move |events: Vec<Committed>| {
        for event in events {
            if let Committed::Durable { run, .. } = event {
                // A producer that is done no longer listens.
                let _ = waiting[&run].send(());
            }
        }
    });
    let committer = Committer::start(home, Options::default(), tell).unwrap();
    committer.applied(u64::MAX);
    let each = bench.pick(300, 3_000);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for producer in &mut all {
            let committer = committer.clone();
            scope.spawn(move || {
                for _ in 0..each {
                    committer.submit(producer.unit()).unwrap();
                    producer.durable.recv().unwrap();
                }
            });
        }
    });
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = (PRODUCERS * each) as f64 / began.elapsed().as_secs_f64();
    let figures = committer.figures();
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let batch = figures.batch_units.sum as f64 / figures.frames.max(1) as f64;
    committer.stop().unwrap();
    #[allow(clippy::cast_precision_loss, reason = "a small constant")]
    let ceiling = frames * PRODUCERS as f64;
    bench.rate("floor: bare 16 KiB frames, one after the other", frames, None);
    let what = "commit log: 64 producers, one record each";
    bench.rate(what, rate, Some(("64 commits per bare frame", ceiling)));
    bench.ratio("commit log: commits per frame", batch);
    (frames, rate)
}
