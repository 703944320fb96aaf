//! Chaos: everybody who does effects, an outside that counts what was done, and a killer.
//!
//! `DORMOUSE_STORM=full` plays it at full size: 500 kills, 2,000 runs. `DORMOUSE_STORM_SEED=n`
//! chooses what happens.

pub(crate) mod book;
mod counter;
pub(crate) mod dice;
mod judge;
mod people;
mod planted;
mod proxy;
mod weather;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::Cli;
use crate::storm::client::Client;
use crate::storm::full_size;
use counter::Counter;
use dice::Dice;
use judge::{Promise, Scene, Story, Variant};
use people::{Town, Wanted};
use weather::Weather;

/// Three effects in a row; a wide one also two at once, and a signal.
const PROCESS: &str = r#"
import { defineTask } from "dormouse";
const hit = defineTask("hit", ({ def }) => ({ title: "Once, please", ...def }));
const serial = (value) => (value.body ?? value.json ?? value).serial;
export async function process({ def, options, wide }, ctx) {
  const ask = (n) => ctx.task(hit, { def, n }, options).then(serial);
  const serials = [await ask(1), await ask(2), await ask(3)];
  if (wide) {
    serials.push(...await ctx.parallel.all([() => ask(4), () => ask(5)]));
    await ctx.waitForSignal("go");
  }
  return { serials };
}
"#;

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
const REST: Duration = Duration::from_mins(2);

struct Size {
    runs: usize,
    kills: usize,
    /// Longest time between two strikes.
    calm_millis: u64,
    /// Kills between two lulls, in which leases lapse.
    lulls: usize,
}

fn size() -> Size {
    if full_size() {
        return Size { runs: 2_000, kills: 500, calm_millis: 1_600, lulls: 50 };
    }
    Size { runs: 120, kills: 30, calm_millis: 700, lulls: 18 }
}

/// What happened, from the outside.
struct Aftermath {
    scene: Scene,
    toll: weather::Toll,
}

#[test]
fn nothing_is_done_twice_and_nothing_is_forgotten_in_a_storm() {
    let seed = std::env::var("DORMOUSE_STORM_SEED").ok().and_then(|text| text.parse().ok());
    let (size, seed, cli) = (size(), seed.unwrap_or(1), Cli::new());
    let began = Instant::now();
    let after = storm(&cli, &size, seed);
    let findings = judge::judge(&after.scene);
    let count = |test: &dyn Fn(&Promise) -> bool| {
        after.scene.promises.iter().filter(|promise| test(promise)).count()
    };
    println!(
        "seed {seed}: {:?}; {} runs, {} effects done; {} promises, {} decisions, {} answers \
         to probes, {} late posts refused, {} accepted; {:?}",
        after.toll,
        after.scene.runs.len(),
        after.scene.lines.len(),
        after.scene.promises.len(),
        count(&|p| matches!(p, Promise::Decided { .. })),
        after.scene.runs.values().map(Story::probed).sum::<usize>(),
        count(&|p| matches!(p, Promise::Refused { .. })),
        after.scene.runs.values().map(Story::late_outcomes).sum::<usize>(),
        began.elapsed(),
    );
    assert!(after.toll.kills() >= size.kills, "{:?}", after.toll);
    let told = judge::told(&findings, &after.scene);
    assert!(findings.is_empty(), "seed {seed}: {} findings\n{told}", findings.len());
    replayed(&cli, &after.scene);
}

fn storm(cli: &Cli, size: &Size, seed: u64) -> Aftermath {
    let counter = Counter::start(seed);
    let entry = cli.file("process.js", PROCESS).display().to_string();
    let script = cli.file("hit.sh", HIT.replace("PORT", &counter.port().to_string()));
    let config = format!(
        "[executors.shell]\nenabled = true\nallow = \"any\"\n\
         [executors.http]\nallow_origins = [\"{}\"]\n",
        counter.origin()
    );
    let config = format!("DORMOUSE_CONFIG={}", cli.file("config.toml", config).display());
    fs::create_dir_all(cli.root()).unwrap();
    let door = cli.path("door");
    proxy::start(&door, cli.root().join(".dormouse/socket"), seed);
    let town = Town {
        client: Client { socket: door },
        counter,
        entry,
        wanted: wanted(size.runs),
        seed,
        created: AtomicUsize::new(0),
        due: AtomicUsize::new(0),
        promises: Mutex::default(),
        ended: Mutex::default(),
        over: AtomicBool::new(false),
    };
    let script = script.display().to_string();
    let mut weather = Weather::new(cli, vec!["env", &config], &script, seed);
    let glimpses = std::thread::scope(|scope| {
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
        let people = people.map(|person| {
            let town = &town;
            scope.spawn(move || person(town))
        });
        let glimpses = blow(cli, size, seed, &town, &mut weather);
        rest(cli, &town, &mut weather, &people);
        town.over.store(true, Ordering::Relaxed);
        for person in people {
            person.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        glimpses
    });
    at_rest(cli, &town, &weather.since);
    let toll = std::mem::take(&mut weather.toll);
    assert_eq!(weather.end(), Some(0));
    let mut scene = scene(cli, &town);
    scene.glimpses = glimpses;
    Aftermath { scene, toll }
}

/// Ends the others when one of them panics.
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
    cli: &Cli,
    size: &Size,
    seed: u64,
    town: &Town,
    weather: &mut Weather<'_>,
) -> Vec<(String, Vec<Value>)> {
    let (mut dice, mut glimpses) = (Dice::of(seed, "blows"), Vec::new());
    let (mut lull, mut lulls) = (None, 0);
    while weather.toll.kills() < size.kills && !town.is_over() {
        let kills = weather.toll.kills();
        // Work comes in as long as it blows.
        town.due.store(size.runs * (kills + 2) / size.kills, Ordering::Relaxed);
        if kills / size.lulls > lulls {
            lulls += 1;
            lull = Some(Instant::now());
        }
        let is_lull = lull.is_some_and(|since| since.elapsed() < Duration::from_secs(8));
        std::thread::sleep(Duration::from_millis(200));
        dice.pause(size.calm_millis);
        weather.strike(is_lull);
        weather.tend();
        if let Some(seen) = glimpse(cli, town, &mut dice) {
            glimpses.push(seen);
        }
    }
    town.due.store(size.runs, Ordering::Relaxed);
    weather.calm();
    glimpses
}

/// Whole lines of a journal as they stand now.
fn glimpse(cli: &Cli, town: &Town, dice: &mut Dice) -> Option<(String, Vec<Value>)> {
    let made = town.created.load(Ordering::Relaxed) as u64;
    let run = &town.wanted[usize::try_from(dice.below(made.max(1))).unwrap()].run;
    let text = book::bytes(&cli.root().join(run)).ok()?;
    let whole = text.rfind('\n').map_or("", |at| &text[..=at]);
    let records = book::verified(run, whole).unwrap_or_else(|e| panic!("seen in the storm: {e}"));
    Some((run.clone(), records))
}

/// Waits until every run has ended.
fn rest(
    cli: &Cli,
    town: &Town,
    weather: &mut Weather<'_>,
    people: &[std::thread::ScopedJoinHandle<'_, ()>],
) {
    let began = Instant::now();
    loop {
        let ended = town.ended.lock().unwrap().len();
        if ended == town.wanted.len() {
            return;
        }
        let is_short = town.created.load(Ordering::Relaxed) < town.wanted.len();
        let others = &people[usize::from(!is_short)..];
        let fell = others.iter().any(std::thread::ScopedJoinHandle::is_finished);
        if fell || began.elapsed() > REST {
            town.over.store(true, Ordering::Relaxed);
            let ended = town.ended.lock().unwrap();
            let left = town.wanted.iter().filter(|w| !ended.contains(&w.run)).take(5);
            let why = left.map(|w| cli.run(&format!("run why {}", w.run)).out);
            let why: Vec<String> = why.collect();
            let pid = weather.daemon();
            assert!(fell, "runs do not end (daemon {pid:?}):\n{}", why.join("\n"));
            return;
        }
        weather.tend();
        crate::storm::client::pause();
    }
}

/// I11 and I12: what the daemon itself says when all is done.
fn at_rest(cli: &Cli, town: &Town, since: &str) {
    let client = Client { socket: cli.root().join(".dormouse/socket") };
    let (status, audit) = client.call("POST", "/v1/audit", &json!({})).unwrap();
    assert_eq!((status, &audit["findings"]), (200, &json!([])), "I11: {audit}");
    let (_, metrics) = client.exchange("GET", "/metrics", &Value::Null).unwrap();
    let figure = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().parse::<u64>().ok())
    };
    assert_eq!(figure("dormouse_leases "), Some(0), "I11: nobody is at anything");
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for wanted in &town.wanted {
        count_outcomes(&cli.root().join(&wanted.run), since, &mut expected);
    }
    for (labels, count) in expected {
        let name = format!("dormouse_effect_outcomes_total{{{labels}}} ");
        assert_eq!(figure(&name), Some(count), "I12: {labels}");
    }
}

/// Outcomes of effects since the last daemon began, by the labels of their metric.
fn count_outcomes(run: &Path, since: &str, into: &mut BTreeMap<String, u64>) {
    let mut kinds = BTreeMap::new();
    for record in book::records(run).unwrap() {
        let data = &record["data"];
        let effect = data["effectId"].as_str().unwrap_or_default().to_owned();
        let outcome = match judge::kind(&record) {
            "EFFECT_REQUESTED" => {
                kinds.insert(effect, data["kind"].as_str().unwrap_or_default().to_owned());
                continue;
            }
            "EFFECT_RESOLVED" => data["status"].as_str().unwrap_or_default(),
            "EFFECT_CANCELLED" => "cancelled",
            _ => continue,
        };
        if record["at"].as_str() > Some(since) {
            let labels = format!("kind=\"{}\",outcome=\"{outcome}\"", kinds[&effect]);
            *into.entry(labels).or_default() += 1;
        }
    }
}

/// Everything that is left, read from files.
fn scene(cli: &Cli, town: &Town) -> Scene {
    let mut scene = Scene {
        lines: town.counter.lines(),
        promises: town.promises.lock().unwrap().clone(),
        ..Scene::default()
    };
    let db = rusqlite::Connection::open(cli.root().join(".dormouse/index.db")).unwrap();
    let mut query = db.prepare("SELECT state, head_seq FROM runs WHERE run_id = ?1").unwrap();
    for wanted in &town.wanted {
        let run = &wanted.run;
        match book::records(&cli.root().join(run)) {
            Ok(records) => {
                let row = query.query_row([run], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
                });
                let stale = kept(&cli.root().join(run).join("tasks"));
                let story = Story { variant: wanted.variant, records, stale, row: row.ok() };
                scene.runs.insert(run.clone(), story);
            }
            Err(why) => scene.unreadable.push((run.clone(), why)),
        }
    }
    scene
}

/// Refused posts that stand below the tasks of a run.
fn kept(tasks: &Path) -> Vec<Value> {
    let Ok(tasks) = fs::read_dir(tasks) else { return Vec::new() };
    let folders = tasks.filter_map(|task| fs::read_dir(task.ok()?.path().join("stale")).ok());
    let files = folders.flatten().filter_map(|file| fs::read(file.ok()?.path()).ok());
    files.filter_map(|bytes| serde_json::from_slice(&bytes).ok()).collect()
}

/// I09: the process run again arrives at what the journal says. Some of them in the small form.
fn replayed(cli: &Cli, scene: &Scene) {
    let each = if full_size() { 10 } else { 7 };
    for run in scene.runs.keys().step_by(each) {
        cli.run(&format!("run check {run}")).ok();
    }
}
