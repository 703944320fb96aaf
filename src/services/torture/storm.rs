//! The storm: everybody who does effects, an outside that counts what was done, and a killer.
//!
//! May not judge. Invariant: whatever was begun here has ended when its outcome is given.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use serde_json::Value;

use super::client::{Client, pause};
use super::counter::Counter;
use super::dice::Dice;
use super::judge::{self, Promise, Story, Variant};
use super::people::{Town, Wanted};
use super::scene::{self, Glimpses};
use super::weather::{Toll, Weather};
use super::yard::Yard;
use super::{Broken, Options, Outcome, PROCESS, Scenario, Size, book, locked, proxy};
use crate::ground::clock::Stopwatch;

/// Does the task of its variables: one request, the answer is the value. What is not done any more
/// is an answer that nobody can read.
const HIT: &str = r#"exec 3<>/dev/tcp/127.0.0.1/PORT || exit 75
place=/hit/$DORMOUSE_RUN_ID/$DORMOUSE_EFFECT_ID/$DORMOUSE_EPOCH
printf 'POST %s HTTP/1.1\r\nhost: counter\r\ncontent-length: 0\r\n\r\n' "$place" >&3
while IFS= read -r line; do last=$line; done <&3
printf '%s' "$last" >"$DORMOUSE_OUTPUTS"
"#;

const VARIANTS: &[(Variant, &str)] = &[
    (Variant::Http, "a"),
    (Variant::Chore, "b"),
    (Variant::Again, "c"),
    (Variant::Shell, "d"),
    (Variant::Cancel, "e"),
    (Variant::Plain, "f"),
];

/// How long the runs may take to come to their ends once nothing more happens.
const REST_SECONDS: f64 = 120.0;
/// How long a lull is.
const LULL_SECONDS: f64 = 8.0;
/// How long the outside takes over a request at most.
const SLOW_MILLIS: u64 = 500;

/// How hard it blows.
struct Force {
    runs: usize,
    kills: usize,
    /// Longest time between two strikes.
    calm_millis: u64,
    /// Kills between two lulls, in which leases lapse.
    lulls: usize,
}

impl Force {
    const fn of(size: Size) -> Self {
        match size {
            Size::Full => Self { runs: 2_000, kills: 500, calm_millis: 1_600, lulls: 50 },
            Size::Quick => Self { runs: 120, kills: 30, calm_millis: 700, lulls: 18 },
        }
    }
}

/// What happened, from the outside.
struct Aftermath {
    scene: judge::Scene,
    toll: Toll,
    more: Vec<String>,
}

/// Lets it blow, and has everything judged that is left.
pub(super) fn run(options: &Options) -> Result<Outcome, Broken> {
    let (force, seed) = (Force::of(options.size), options.seed);
    let mut yard = Yard::new(&options.ground)?;
    let after = storm(&yard, &force, seed)?;
    let mut findings = after.more;
    findings.extend(judge::told(&judge::judge(&after.scene), &after.scene));
    findings.extend(replayed(&yard, &after.scene, options.size)?);
    let mut outcome = Outcome::of(Scenario::Storm, options);
    let scene = &after.scene;
    let promised =
        |test: &dyn Fn(&Promise) -> bool| scene.promises.iter().filter(|p| test(p)).count();
    for (what, count) in [
        ("runs", scene.runs.len()),
        ("things done outside", scene.lines.len()),
        ("kills of daemons", after.toll.daemons),
        ("of these before they were ready", after.toll.recovering),
        ("kills of hosts", after.toll.hosts),
        ("kills of workers", after.toll.workers),
        ("workers stopped for a while", after.toll.stopped),
        ("promises", scene.promises.len()),
        ("decisions", promised(&|p| matches!(p, Promise::Decided { .. }))),
        ("answers to probes", scene.runs.values().map(Story::probed).sum()),
        ("late posts refused", promised(&|p| matches!(p, Promise::Refused { .. }))),
        ("late posts that counted", scene.runs.values().map(Story::late_outcomes).sum()),
    ] {
        outcome.did(what, count);
    }
    outcome.hits = after.toll.kills() as u64;
    outcome.wanted = force.kills as u64;
    outcome.found(&mut yard, findings);
    Ok(outcome)
}

fn storm(yard: &Yard, force: &Force, seed: u64) -> Result<Aftermath, Broken> {
    let counter = Counter::start(seed, SLOW_MILLIS)?;
    let entry = yard.file("process.js", PROCESS)?.display().to_string();
    let script = yard.file("hit.sh", &HIT.replace("PORT", &counter.port().to_string()))?;
    let config = format!(
        "[executors.shell]\nenabled = true\nallow = \"any\"\n\
         [executors.http]\nallow_origins = [\"{}\"]\n",
        counter.origin()
    );
    yard.file("config.toml", &config)?;
    let door = yard.top.join("door");
    proxy::start(&door, yard.socket(), seed)?;
    let town = Town {
        client: Client { socket: door },
        counter,
        entry,
        wanted: wanted(force.runs),
        seed,
        created: AtomicUsize::new(0),
        due: AtomicUsize::new(0),
        promises: Mutex::default(),
        ended: Mutex::default(),
        over: AtomicBool::new(false),
        surprises: Mutex::default(),
    };
    let script = script.display().to_string();
    let mut weather = Weather::new(yard, &script, seed)?;
    let (glimpses, mut more) = live(yard, force, &town, &mut weather)?;
    more.append(&mut locked(&town.surprises));
    if more.is_empty() {
        more = scene::at_rest(yard, town.wanted.iter().map(|w| w.run.as_str()), &weather.since)?;
    }
    let toll = std::mem::take(&mut weather.toll);
    let code = weather.end();
    if code != 0 {
        more.push(format!("the daemon ended with {code} when it was asked to stop"));
    }
    let (lines, promises) = (town.counter.lines(), locked(&town.promises).clone());
    let mut scene = judge::Scene { lines, promises, glimpses, ..judge::Scene::default() };
    scene::fill(yard, town.wanted.iter().map(|w| (w.run.as_str(), w.variant)), &mut scene)?;
    Ok(Aftermath { scene, toll, more })
}

/// Everybody lives while it blows, and for as long as it takes afterwards.
fn live(
    yard: &Yard,
    force: &Force,
    town: &Town,
    weather: &mut Weather<'_>,
) -> Result<(Glimpses, Vec<String>), Broken> {
    std::thread::scope(|scope| {
        let _over = Over(&town.over);
        let people: [fn(&Town); 7] = [
            Town::submit,
            Town::shout,
            Town::orchestrate,
            Town::operate,
            Town::look_around,
            |town| town.come_back_late("late-1"),
            |town| town.come_back_late("late-2"),
        ];
        let people = people.map(|person| scope.spawn(move || person(town)));
        let mut found = Vec::new();
        let glimpses = blow(yard, force, town, weather, &mut found)?;
        found.extend(rest(yard, town, weather, &people)?);
        town.over.store(true, Ordering::Relaxed);
        Ok((glimpses, found))
    })
}

/// Ends the others when one of them gives up.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn wanted(runs: usize) -> Vec<Wanted> {
    let one = |n: usize| {
        let (variant, letter) = VARIANTS[n % VARIANTS.len()];
        let round = n / VARIANTS.len();
        Wanted { run: format!("{letter}-{round:04}"), variant, wide: round.is_multiple_of(5) }
    };
    (0..runs).map(one).collect()
}

/// The storm itself. Gives what was seen of journals meanwhile.
fn blow(
    yard: &Yard,
    force: &Force,
    town: &Town,
    weather: &mut Weather<'_>,
    found: &mut Vec<String>,
) -> Result<Glimpses, Broken> {
    let (mut dice, mut glimpses) = (Dice::of(town.seed, "blows"), Glimpses::new());
    let (mut lull, mut lulls): (Option<Stopwatch>, usize) = (None, 0);
    while weather.toll.kills() < force.kills && !town.is_over() {
        let kills = weather.toll.kills();
        // Work comes in as long as it blows.
        town.due.store(force.runs * (kills + 2) / force.kills, Ordering::Relaxed);
        if kills / force.lulls > lulls {
            lulls += 1;
            lull = Some(Stopwatch::start());
        }
        let is_lull = lull.is_some_and(|since| since.seconds() < LULL_SECONDS);
        std::thread::sleep(std::time::Duration::from_millis(200));
        dice.pause(force.calm_millis);
        weather.strike(is_lull)?;
        weather.tend()?;
        let made = &town.wanted[..town.created.load(Ordering::Relaxed)];
        if let Some(seen) = dice.one_of(made).and_then(|wanted| glimpse(yard, &wanted.run)) {
            match seen {
                Ok(records) => glimpses.push(records),
                Err(why) => found.push(format!("I08: seen in the storm: {why}")),
            }
        }
    }
    town.due.store(force.runs, Ordering::Relaxed);
    weather.calm()?;
    Ok(glimpses)
}

/// Whole lines of a journal as they stand now.
fn glimpse(yard: &Yard, run: &str) -> Option<Result<(String, Vec<Value>), String>> {
    let text = book::bytes(yard.disk(), &yard.root().join(run)).ok()?;
    let whole = text.rfind('\n').map_or("", |at| &text[..=at]);
    Some(book::verified(run, whole).map(|records| (run.to_owned(), records)))
}

/// Waits until every run has ended. What is wrong if they do not.
fn rest(
    yard: &Yard,
    town: &Town,
    weather: &mut Weather<'_>,
    people: &[ScopedJoinHandle<'_, ()>],
) -> Result<Vec<String>, Broken> {
    let began = Stopwatch::start();
    loop {
        if locked(&town.ended).len() == town.wanted.len() || town.is_over() {
            return Ok(Vec::new());
        }
        let is_short = town.created.load(Ordering::Relaxed) < town.wanted.len();
        let others = &people[usize::from(!is_short)..];
        if others.iter().any(ScopedJoinHandle::is_finished) || began.seconds() > REST_SECONDS {
            let ended = locked(&town.ended).clone();
            let left = town.wanted.iter().filter(|w| !ended.contains(&w.run)).take(3);
            let why = left.map(|w| yard.command(&["run", "why", &w.run]).map(|told| told.out));
            let why: Vec<String> = why.collect::<Result<_, Broken>>()?;
            return Ok(vec![format!("runs do not end: {}", why.join("\n"))]);
        }
        weather.tend()?;
        pause();
    }
}

/// I09: the process run again arrives at what the journal says, for some of the runs.
fn replayed(yard: &Yard, scene: &judge::Scene, size: Size) -> Result<Vec<String>, Broken> {
    let each = if size == Size::Full { 10 } else { 7 };
    let mut found = Vec::new();
    for run in scene.runs.keys().step_by(each) {
        let checked = yard.command(&["run", "check", run])?;
        if checked.code != 0 {
            found.push(format!("I09: run check {run} ends with {}: {}", checked.code, checked.err));
        }
    }
    Ok(found)
}

/// Where the command is that does one thing outside: beside the process.
pub(super) fn hit_script(entry: &str) -> String {
    Path::new(entry).with_file_name("hit.sh").display().to_string()
}
