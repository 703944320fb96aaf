//! Commands over whole roots: the check of every byte, and new code on all open runs.
//!
//! May not look inside them: they are timed as people run them. Invariant: every run was made by
//! the service, or is the same run under another name.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use dormouse::codecs::event::{Event, RunCreated};
use dormouse::ground::id::RunId;
use dormouse::services::runs::Runs;
use dormouse::services::runs::derived::run_json;
use dormouse::shells::run_dir::dir::{RunJson, pretty};

use crate::figures::{Bench, EXE, Samples, child_hosts};

/// 49 steps, then somebody outside is waited for: 100 records.
const PARKS: &str = "import { defineTask } from 'dormouse';
const ask = defineTask('ask', (n) => ({ kind: 'agent', title: `step ${n}` }));
export async function process(inputs, ctx) {
  for (let n = 0; n < 49; n++) await ctx.breakpoint({ title: 'go on', question: `step ${n}?` });
  await ctx.task(ask, 49);
}";

/// A root with `count` runs of that process, and how many records they have.
fn root(bench: &Bench, name: &str, count: usize) -> (Runs, usize) {
    let runs = bench.runs(name, Arc::new(child_hosts()));
    runs.create(&bench.new_run("first", PARKS, "null", true)).unwrap();
    let mut run = runs.open("first").unwrap();
    run.go_on().unwrap();
    run.close().unwrap();
    let (seen, root) = (runs.look("first").unwrap(), runs.open_root(false).unwrap());
    let code = files(&seen.dir.path().join("process"));
    for n in 1..count {
        let run_id: RunId = format!("run-{n:06}").parse().unwrap();
        let mut staged = root.stage(&run_id).unwrap();
        for file in &code {
            let below = file.strip_prefix(seen.dir.path()).unwrap().to_str().unwrap();
            staged.file(below, &std::fs::read(file).unwrap()).unwrap();
        }
        let events: Vec<_> =
            seen.records.iter().map(|r| (r.at, renamed(r.event.clone(), &run_id))).collect();
        staged.journal(&events).unwrap();
        let json = RunJson { run_id, ..run_json(&seen.state) };
        staged.file("run.json", &pretty(&json)).unwrap();
        staged.publish().unwrap();
    }
    let records = seen.records.len();
    drop(root);
    (runs, records * count)
}

fn renamed(event: Event, run_id: &RunId) -> Event {
    match event {
        Event::RunCreated(created) => RunCreated { run_id: run_id.clone(), ..created }.into(),
        other => other,
    }
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// Seconds that a command takes, the best of a few: whatever else runs only adds to it.
fn seconds(command: &mut Command, times: usize) -> f64 {
    command.stdout(Stdio::null());
    let samples = Samples::take(times, |_| assert!(command.status().unwrap().success()));
    samples.at(0) / 1e6
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn fsck(bench: &mut Bench) {
    let count = bench.pick(500, 10_000);
    let began = Instant::now();
    let (runs, records) = root(bench, "checked", count);
    println!("({count} runs with {records} events made in {:.0} s)", began.elapsed().as_secs_f64());
    let all = format!("find {} -type f -print0 | xargs -0 cat", runs.root.display());
    let cat = seconds(Command::new("sh").args(["-c", &all]), 3);
    let mut fsck = Command::new(EXE);
    let fsck = seconds(fsck.args(["fsck", "--quiet", "--runs-root"]).arg(&runs.root), 3);
    let (events, what) = (records as f64, "cat of the same files");
    bench.rate(&format!("fsck of {count} runs: events"), events / fsck, Some((what, events / cat)));
    bench.rate("fsck: runs", count as f64 / fsck, None);
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn deploy(bench: &mut Bench) {
    let count = bench.pick(100, 1_000);
    let (runs, records) = root(bench, "deployed", count);
    let entry = bench.file("new.js", &format!("{PARKS}\n// Other code that does the same."));
    let mut check = Command::new(EXE);
    check.args(["deploy", "check", "--process-id", "first", "--entry"]).arg(entry);
    let check = seconds(check.arg("--runs-root").arg(&runs.root), 1);
    bench.rate(&format!("deploy check of {count} parked runs"), count as f64 / check, None);
    bench.rate("deploy check: events replayed", records as f64 / check, None);
}
