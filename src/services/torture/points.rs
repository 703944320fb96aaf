//! A scripted life on a disk that fails at its n-th operation: dies there, or is refused.
//!
//! The life is that of three runs: one whose effects the daemon does, one whose effects a worker
//! claims, one that is posted to without claims. May not know how the daemon writes. Invariant: a
//! point at which nothing happened ends the search, and is not counted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::client::{Client, pause};
use super::counter::Counter;
use super::judge::{self, Scene, Variant};
use super::walker::{Habits, Round, Walker};
use super::yard::{START_MS_MAX, Yard, stands};
use super::{Broken, Options, Outcome, PROCESS, Scenario, Size, locked, scene};
use crate::ground::clock::Stopwatch;
use crate::ports::disk::Open;

/// The life.
const RUNS: &[(&str, Variant)] =
    &[("a-0", Variant::Http), ("b-0", Variant::Chore), ("f-0", Variant::Plain)];

/// Frames of the log that each life writes, or more.
const FRAMES: u64 = 20;
/// A life that is not over by then hangs.
const LIFE_SECONDS_MAX: f64 = 30.0;
/// Refusals in a row after which a daemon without room is stopped.
const REFUSALS_MAX: u32 = 60;
/// Lives that are led at the same time.
const AT_ONCE: usize = 4;
/// Exit codes of a daemon whose disk failed: it says so and ends, or was killed by the disk.
const ENDS: &[i32] = &[74, 128 + 9];
/// Where the fault disk writes down how often it hit.
const WITNESS: &str = "witness";

/// A fault, and when a daemon meets it.
#[derive(Debug, Clone)]
struct Point {
    /// As [`crate::ports::disk::fault::Plan`] reads it, without its witness.
    plan: String,
    /// The daemon after the one that met it meets this one.
    then: Option<String>,
    /// The daemon must not go on after it.
    is_fatal: bool,
}

/// What a life came to.
#[derive(Debug, Default)]
struct Led {
    /// The first fault hit.
    hit: bool,
    starts: usize,
    promises: usize,
    found: Vec<String>,
    kept: Option<String>,
}

/// Dies at each operation of a life, and while it recovers from that.
pub(super) fn crash(options: &Options) -> Result<Outcome, Broken> {
    let points = |n: u64| {
        // Before a frame of the log is written there is time: what was answered too early leaves,
        // and what was begun too early is done.
        let frame = || format!("nth={},do=abort:40,op=write,path=.dlog", 1 + n / 2 % FRAMES);
        let plan = if n.is_multiple_of(2) { frame() } else { format!("nth={n},do=abort:0") };
        let then = n.is_multiple_of(3).then(|| format!("nth={},do=abort:0", 1 + n % 29));
        Point { plan, then, is_fatal: false }
    };
    search(Scenario::Crash, options, &points)
}

/// Is refused at each operation, by each error, once or for ever, also while it recovers.
pub(super) fn faults(options: &Options) -> Result<Outcome, Broken> {
    const ERRORS: &[&str] = &["EIO", "ENOSPC", "short:100", "EROFS", "EMFILE", "EDQUOT"];
    let points = |n: u64| {
        let index = usize::try_from(n).unwrap_or(0);
        if n.is_multiple_of(5) {
            // A frame of the log that is not written.
            let plan = format!("nth={},do=EIO,op=write,path=.dlog", 1 + n / 5 % FRAMES);
            return Point { plan, then: None, is_fatal: true };
        }
        let error = ERRORS[index % ERRORS.len()];
        let times = if n.is_multiple_of(4) { ",times=forever" } else { "" };
        let then = n.is_multiple_of(3).then(|| format!("nth={},do={error}", 1 + n % 29));
        Point { plan: format!("nth={n},do={error}{times}"), then, is_fatal: false }
    };
    search(Scenario::Faults, options, &points)
}

/// Leads a life for each point, spread over all operations, until the budget is used up.
fn search(
    scenario: Scenario,
    options: &Options,
    point: &(dyn Fn(u64) -> Point + Sync),
) -> Result<Outcome, Broken> {
    let began = Stopwatch::start();
    let all = operations(options)?;
    let wanted = match options.size {
        Size::Quick => 24,
        Size::Full => all,
    };
    // Every operation once, in an order that is spread evenly however early it ends.
    let stride = (all * 618 / 1000).max(1) | 1;
    let next = AtomicU64::new(0);
    let (lives, broken) = (Mutex::new(Vec::new()), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let k = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = began.seconds() > options.budget_seconds;
                    if k >= wanted || (is_over && k > 0) || locked(&broken).is_some() {
                        break;
                    }
                    let n = 1 + (options.seed + k * stride) % all;
                    match life(options, &point(n)) {
                        Ok(led) => locked(&lives).push((n, led)),
                        Err(e) => *locked(&broken) = Some(e),
                    }
                }
            });
        }
    });
    if let Some(broken) = locked(&broken).take() {
        return Err(broken);
    }
    let mut outcome = Outcome::of(scenario, options);
    let mut lives = std::mem::take(&mut *locked(&lives));
    lives.sort_by_key(|(n, _)| *n);
    let hits = lives.iter().filter(|(_, led)| led.hit).count();
    outcome.did("operations that change something in a life", usize::try_from(all).unwrap_or(0));
    outcome.did("lives", lives.len());
    outcome.did("faults that hit", hits);
    outcome.did("starts of a daemon", lives.iter().map(|(_, led)| led.starts).sum());
    outcome.did("promises", lives.iter().map(|(_, led)| led.promises).sum());
    (outcome.hits, outcome.wanted) = (hits as u64, (lives.len() / 2) as u64);
    for (n, led) in lives {
        outcome.kept = outcome.kept.or(led.kept);
        let plan = point(n).plan;
        outcome.findings.extend(led.found.iter().map(|what| format!("at {plan}: {what}")));
    }
    Ok(outcome)
}

/// How many operations a life has: counted in one to which nothing happens.
fn operations(options: &Options) -> Result<u64, Broken> {
    let plan = "nth=1,do=delay:0,times=forever".to_owned();
    let mut yard = Yard::new(&options.ground)?;
    let mut led = Led::default();
    lead(&mut yard, options, &Point { plan, then: None, is_fatal: false }, &mut led)?;
    let dir = yard.disk().open_dir(&yard.top)?;
    let text = dir.read_file(WITNESS, Open::Read, 100)?;
    let count = String::from_utf8_lossy(&text).trim().parse().unwrap_or(0);
    if count == 0 {
        return Err(Broken("nothing was counted in a life without faults".to_owned()));
    }
    Ok(count)
}

/// One life with one fault, judged.
fn life(options: &Options, point: &Point) -> Result<Led, Broken> {
    let mut yard = Yard::new(&options.ground)?;
    let mut led = Led::default();
    lead(&mut yard, options, point, &mut led)?;
    led.hit = stands(yard.disk(), &yard.top.join(WITNESS));
    if !led.found.is_empty() {
        yard.keep();
        led.kept = Some(yard.top.display().to_string());
    }
    Ok(led)
}

fn lead(yard: &mut Yard, options: &Options, point: &Point, led: &mut Led) -> Result<(), Broken> {
    let counter = Counter::start(options.seed, 0)?;
    let entry = yard.file("process.js", PROCESS)?.display().to_string();
    let allow = format!("[executors.http]\nallow_origins = [\"{}\"]\n", counter.origin());
    yard.file("config.toml", &allow)?;
    let client = Client { socket: yard.socket() };
    let mut walker = Walker::new(client, counter, entry, RUNS, options.seed, Habits::default());
    let witness = yard.top.join(WITNESS);
    let mut plans = vec![format!("{},witness={}", point.plan, witness.display())];
    plans.extend(point.then.clone());
    plans.reverse();
    let began = Stopwatch::start();
    let last = loop {
        let plan = plans.pop();
        let mut daemon = yard.launch(plan.as_deref())?;
        led.starts += 1;
        if !daemon.is_ready(START_MS_MAX) {
            let code = daemon.ended();
            if plan.is_none() {
                led.found.push(format!("no daemon comes up ({code:?}): {}", daemon.said()));
                return Ok(());
            }
            daemon.kill();
            resume(yard)?;
            continue;
        }
        let end = drive(&mut walker, &mut daemon, began);
        if end == Round::Done || !walker.surprises.is_empty() {
            break daemon;
        }
        if began.seconds() > LIFE_SECONDS_MAX {
            led.found.push(format!("its runs do not end: {}", daemon.said()));
            return Ok(());
        }
        let had_fault = plan.is_some();
        let code = if end == Round::Refused { daemon.stop() } else { wait(&mut daemon) };
        if !had_fault || (end == Round::Silence && !ENDS.contains(&code)) {
            led.found.push(format!("a daemon ended with {code}"));
            return Ok(());
        }
        resume(yard)?;
    };
    let is_hit = stands(yard.disk(), &witness);
    if point.is_fatal && is_hit && led.starts == 1 {
        led.found.push("it went on after its log could not be written".to_owned());
    }
    finish(yard, walker, last, led)
}

/// Three failures in a row, and somebody has to look at the disk and say so.
fn resume(yard: &Yard) -> Result<(), Broken> {
    yard.command(&["root", "resume"]).map(drop)
}

/// Lets the client go on until it is done, or the daemon takes nothing more.
fn drive(walker: &mut Walker, daemon: &mut crate::shells::trial::Trial, began: Stopwatch) -> Round {
    let mut refusals = 0;
    loop {
        let round = walker.round();
        refusals = if round == Round::Refused { refusals + 1 } else { 0 };
        let is_over = began.seconds() > LIFE_SECONDS_MAX || !walker.surprises.is_empty();
        match round {
            Round::Done => return round,
            Round::Silence if daemon.ended().is_some() || is_over => return round,
            Round::Refused if refusals > REFUSALS_MAX => return round,
            _ if is_over => return round,
            _ => pause(),
        }
    }
}

/// The exit code of a daemon that has ended or is about to.
fn wait(daemon: &mut crate::shells::trial::Trial) -> i32 {
    let began = Stopwatch::start();
    while began.seconds() < LIFE_SECONDS_MAX {
        if let Some(code) = daemon.ended() {
            return code;
        }
        pause();
    }
    -1
}

/// Stops the last daemon and has everything judged.
fn finish(
    yard: &mut Yard,
    mut walker: Walker,
    last: crate::shells::trial::Trial,
    led: &mut Led,
) -> Result<(), Broken> {
    led.found.append(&mut walker.surprises);
    // A daemon that still has its fault before it may meet it now.
    let code = last.stop();
    if code != 0 {
        resume(yard)?;
        match yard.serve()? {
            Ok(daemon) if ENDS.contains(&code) => drop(daemon.stop()),
            Ok(_) => led.found.push(format!("the daemon ended with {code}")),
            Err(said) => {
                led.found.push(format!("no daemon comes up: {said}"));
                return Ok(());
            }
        }
    }
    led.promises = walker.promises.len();
    let (lines, promises) = (walker.counter.lines(), std::mem::take(&mut walker.promises));
    let mut scene = Scene { lines, promises, ..Scene::default() };
    scene::fill(yard, walker.runs(), &mut scene)?;
    led.found.extend(judge::told(&judge::judge(&scene), &scene));
    Ok(())
}
