//! Workers that say that they do not know, come back later and speak under epochs of the past,
//! while their daemon is killed.
//!
//! May not judge. Invariant: every post under a past epoch is one that must be refused.

use super::client::{Client, pause};
use super::counter::Counter;
use super::dice::Dice;
use super::judge::{self, Scene, Variant};
use super::walker::{Habits, Round, Walker};
use super::yard::Yard;
use super::{Broken, Options, Outcome, PROCESS, Scenario, Size, scene};
use crate::ground::clock::Stopwatch;

/// Half of the posts are unsure, and most of those before them come late.
const HABITS: Habits = Habits { unsure: 2, late: 1 };
/// Rounds between two kills at most.
const CALM_ROUNDS: u64 = 4;
/// Longer than any of it takes.
const SECONDS_MAX: f64 = 600.0;

/// Lets runs come to their ends in this company.
pub(super) fn run(options: &Options) -> Result<Outcome, Broken> {
    let runs = if options.size == Size::Full { 800 } else { 24 };
    let mut yard = Yard::new(&options.ground)?;
    let counter = Counter::start(options.seed, 0)?;
    let entry = yard.file("process.js", PROCESS)?.display().to_string();
    let names: Vec<String> = (0..runs).map(|n| format!("b-{n:04}")).collect();
    let runs: Vec<(&str, Variant)> = names.iter().map(|n| (n.as_str(), Variant::Chore)).collect();
    let client = Client { socket: yard.socket() };
    let mut walker = Walker::new(client, counter, entry, &runs, options.seed, HABITS);
    let mut dice = Dice::of(options.seed, "leases");
    let (mut kills, mut found, began) = (0, Vec::new(), Stopwatch::start());
    let serve =
        |yard: &Yard| yard.serve()?.map_err(|said| Broken(format!("no daemon comes up: {said}")));
    let mut daemon = serve(&yard)?;
    let mut calm = 1 + dice.below(CALM_ROUNDS);
    loop {
        let round = walker.round();
        if round == Round::Done || !walker.surprises.is_empty() {
            break;
        }
        if began.seconds() > options.budget_seconds.clamp(60.0, SECONDS_MAX) {
            found.push("the runs do not come to their ends".to_owned());
            break;
        }
        if round != Round::More {
            pause();
        }
        calm -= 1;
        if calm == 0 {
            daemon.kill();
            (kills, calm) = (kills + 1, 1 + dice.below(CALM_ROUNDS));
            daemon = serve(&yard)?;
        }
    }
    found.append(&mut walker.surprises);
    let code = daemon.stop();
    if code != 0 {
        found.push(format!("the daemon ended with {code}"));
    }
    let late_posts = walker.late_posts;
    let (lines, promises) = (walker.counter.lines(), std::mem::take(&mut walker.promises));
    let mut scene = Scene { lines, promises, ..Scene::default() };
    if found.is_empty() {
        scene::fill(&yard, walker.runs(), &mut scene)?;
        found = judge::told(&judge::judge(&scene), &scene);
    }
    let mut outcome = Outcome::of(Scenario::Leases, options);
    outcome.did("runs", runs.len());
    outcome.did("promises", scene.promises.len());
    outcome.did("posts under past epochs", late_posts);
    outcome.did("kills of daemons", kills);
    (outcome.hits, outcome.wanted) = (late_posts as u64, runs.len() as u64);
    outcome.found(&mut yard, found);
    Ok(outcome)
}
