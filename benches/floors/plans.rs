//! Planning workflow documents: reading a large one, and what each resolution costs in it.
//!
//! May not execute anything. Invariant: the floor of a resolution in a large dag is the same in a
//! small one: what it costs must not grow with the document.

use dormouse::codecs::outline::Notation;
use dormouse::codecs::turn::{Feed, Output, TurnDone, TurnInput};
use dormouse::machines::workflow::plan::{Begin, Planner};
use dormouse::machines::workflow::read::read;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use crate::figures::{Bench, Samples, json};

/// Tasks of the large dag, and of the small one.
const LARGE: usize = 10_000;
const SMALL: usize = 100;
/// Tasks that go on side by side.
const LANES: usize = 50;

/// Each task needs the one `LANES` before it and gets its output.
fn document(tasks: usize) -> String {
    let mut nodes = String::new();
    for i in 0..tasks {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(nodes, "{comma}{{\"name\":\"t{i}\",\"template\":\"work\"");
        if let Some(before) = i.checked_sub(LANES) {
            let _ = write!(
                nodes,
                ",\"dependencies\":[\"t{before}\"],\"arguments\":{{\"parameters\":[{{\"name\":\
                 \"n\",\"valueFrom\":{{\"parameter\":\"tasks.t{before}.outputs.parameters.n\"\
                 }}}}]}}"
            );
        }
        nodes.push('}');
    }
    format!(
        "{{\"apiVersion\":\"aether/v1\",\"kind\":\"Workflow\",\"metadata\":{{\"name\":\"many\"}},\
         \"spec\":{{\"entrypoint\":\"main\",\"timeout\":\"0s\",\"templates\":[{{\"dag\":{{\"name\":\
         \"main\",\"tasks\":[{nodes}]}}}},{{\"task\":{{\"name\":\"work\",\"executor\":{{\"type\":\
         \"work\"}},\"outputs\":{{\"parameters\":[{{\"name\":\"n\"}}]}}}}}}]}}}}"
    )
}

fn turn(planner: &mut Planner, feed: Feed) -> TurnDone {
    planner.turn(&TurnInput::live(1, 0, feed))
}

fn requested(done: TurnDone, open: &mut Vec<u32>) {
    open.extend(done.outputs.into_iter().filter_map(|output| match output {
        Output::Request(request) => Some(request.ordinal),
        _ => None,
    }));
}

/// Plays a dag to its end: what each resolution took.
fn played(planner: &mut Planner) -> Samples {
    let mut open = Vec::new();
    requested(turn(planner, Feed::RunStarted), &mut open);
    let mut micros = Vec::new();
    while let Some(ordinal) = open.pop() {
        let value = Some(json("{\"n\":1}"));
        let began = Instant::now();
        let done = turn(planner, Feed::Resolved { ordinal, value, error: None, attempts: 1 });
        micros.push(began.elapsed().as_secs_f64() * 1e6);
        requested(done, &mut open);
    }
    assert!(planner.end().is_some());
    Samples::of(micros)
}

fn planner(tasks: usize) -> Planner {
    let reading = read(&document(tasks), Notation::Json);
    assert!(reading.is_valid(), "{:?}", reading.findings);
    let flow = Arc::new(reading.workflow);
    Planner::new(Begin { keeps: false, ..Begin::rehearsal(flow, None) }).unwrap()
}

fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0
}

/// A dag of 10,000 tasks: read, planned to its end, and what it takes in memory.
pub(crate) fn plans(bench: &mut Bench) {
    let reads = Samples::take(bench.pick(3, 10), |_| drop(planner(LARGE)));
    bench.time("read a document of 10,000 tasks", &reads, None);
    let small = (0..20).map(|_| played(&mut planner(SMALL)).p50()).fold(f64::MAX, f64::min);
    let before = resident_bytes();
    let mut large = planner(LARGE);
    let began = Instant::now();
    let samples = played(&mut large);
    let whole = Samples::of(vec![began.elapsed().as_secs_f64() * 1e6]);
    bench.time("a resolution among 10,000 tasks", &samples, Some(("among 100", small)));
    bench.time("plan 10,000 tasks to their end", &whole, None);
    bench.kilobytes("memory of 10,000 planned tasks", (resident_bytes() - before).max(0.0));
}
