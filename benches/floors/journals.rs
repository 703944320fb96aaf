//! Reading journals: verify, decode, fold; and replaying a process from one.
//!
//! May not write journals that the fold would refuse. Invariant: what is read is what a real run of
//! that many steps has written.

use dormouse::codecs::event::{Event, Record};
use dormouse::codecs::format::line;
use dormouse::ground::id::{RunId, Seq};
use dormouse::machines::replay::state;
use dormouse::shells::journal::scan::{self, Around, File, Verdict};
use std::sync::Arc;
use std::time::Instant;

use crate::figures::{Bench, child_hosts};

/// One agent after another.
const PROCESS: &str = "import { defineTask } from 'dormouse';
const ask = defineTask('ask', (args) => ({ kind: 'agent', title: `step of ${args.of}` }));
export async function process(inputs, ctx) {
  for (;;) await ctx.task(ask, { of: 'many' });
}";

/// The first records of a real run: created, requested, resolved.
fn template(bench: &Bench) -> Vec<Record> {
    let runs = bench.runs("template", Arc::new(child_hosts()));
    runs.create(&bench.new_run("replayed", PROCESS, "null", false)).unwrap();
    let mut run = runs.open("replayed").unwrap();
    run.go_on().unwrap();
    let effect = run.state().open_effects().next().unwrap().clone();
    let resolved = dormouse::codecs::event::EffectResolved {
        value: Some(crate::figures::json(r#"{"done":true,"files":["a.js","b.js"]}"#)),
        ..dormouse::machines::effect::resolution(
            &effect,
            dormouse::codecs::event::Status::Ok,
            "operator:bench",
        )
    };
    run.append(resolved.into()).unwrap();
    let records = run.records().iter().map(|r| Record::clone(r)).collect();
    run.close().unwrap();
    records
}

/// A journal of about `count` records.
fn journal(template: &[Record], run: &RunId, count: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sum = line::genesis(run);
    let mut put = |seq: u64, event: &Event| {
        let (text, next) = line::encode(Seq(seq), template[2].at, event, sum);
        bytes.extend(text);
        sum = next;
    };
    put(1, &template[0].event);
    let (Event::EffectRequested(asked), Event::EffectResolved(done)) =
        (&template[1].event, &template[2].event)
    else {
        panic!("{template:?}")
    };
    for n in 0..(count - 1) / 2 {
        let effect_id = format!("e{:04}", n + 1).parse().unwrap();
        let (key, cause) = (format!("ask#{n}"), Seq(2 * n + 1));
        let (mut asked, mut done) = (asked.clone(), done.clone());
        (asked.effect_id, asked.key, asked.cause) = (effect_id, key, cause);
        done.effect_id = effect_id;
        put(2 * n + 2, &asked.into());
        put(2 * n + 3, &done.into());
    }
    bytes
}

/// The best of three, in seconds.
fn best<T>(mut call: impl FnMut() -> T) -> f64 {
    let once = |_| {
        let began = Instant::now();
        std::hint::black_box(call());
        began.elapsed().as_secs_f64()
    };
    (0..3).map(once).fold(f64::INFINITY, f64::min)
}

/// Verify, decode and fold against reading the same bytes and against parsing the same JSON.
pub(crate) fn replay(bench: &mut Bench) {
    let template = template(bench);
    let run: RunId = "replayed".parse().unwrap();
    for count in if bench.quick { vec![10_000] } else { vec![10_000, 100_000] } {
        let bytes = journal(&template, &run, count);
        let path = bench.dir().join("journal");
        std::fs::write(&path, &bytes).unwrap();
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let rate = |seconds: f64| count as f64 / seconds;
        let cat = rate(best(|| std::fs::read(&path).unwrap()));
        let parse = rate(best(|| {
            let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty());
            lines.for_each(|l| drop(serde_json::from_slice::<serde_json::Value>(l).unwrap()));
        }));
        let files = [File { name: line::segment_name(Seq(1)), bytes }];
        let scanned = || scan::scan(&run, &files, Around::default());
        let records = scanned().records;
        assert!(scanned().verdict() == Verdict::Ok && records.len() as u64 >= count - 1);
        let verify = rate(best(scanned));
        let fold = rate(best(|| state::fold(&records).unwrap()));
        let whole = rate(best(|| state::fold(&scanned().records).unwrap()));
        bench.rate(&format!("floor: read {count} events"), cat, None);
        bench.rate("floor: parse their JSON", parse, None);
        bench.rate("replay: verify + decode", verify, Some(("parsing", parse)));
        bench.rate("replay: fold", fold, None);
        bench.rate("replay: verify + decode + fold", whole, Some(("reading", cat)));
    }
}

/// Replays a whole process, strictly, as `run check` does.
pub(crate) fn check(bench: &mut Bench) {
    let count = if bench.quick { 2_000 } else { 10_000 };
    let template = {
        let runs = bench.runs("template", Arc::new(child_hosts()));
        let seen = runs.look("replayed").unwrap();
        seen.records.iter().map(|r| Record::clone(r)).collect::<Vec<_>>()
    };
    let runs = bench.runs("template", Arc::new(child_hosts()));
    let dir = runs.find("replayed").unwrap();
    let bytes = journal(&template, dir.id(), count);
    for name in ["run.lock", "state/cache.mpk"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("journal").join(line::segment_name(Seq(1))), bytes).unwrap();
    let once = best(|| {
        let checked = runs.check("replayed", None).unwrap();
        assert!(checked.strict, "{:?}", checked.divergence);
    });
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    bench.rate("host replay: look, spawn, run the process again", count as f64 / once, None);
}
