//! A daemon, its clients, its disk and its clocks on one thread, from one seed: kills, power cuts,
//! failing disks, lost and doubled messages, workers that come late.
//!
//! Not in it: the threads and channels of the manager, the index, HTTP, JavaScript. Invariant: a
//! seed says everything: played twice it gives the same trace.
//! `DORMOUSE_SIM_SEED=<seed>` plays one, `DORMOUSE_STORM=full` plays many.

mod daemon;
mod history;
mod judge;
mod people;

use std::sync::Arc;

use dormouse::ports::disk::memory::{Fault, MemoryDisk};

use crate::storm::full_size;
use daemon::{Call, Daemon, TwoClocks};
use dormouse::services::torture::dice::Dice;
use judge::Judge;
use people::People;

/// A guard of the daemon that is taken away, to see that the judge misses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    /// Answers leave before what they say is durable.
    AckEarly,
    /// A post's epoch is not compared.
    NoFence,
    /// Epochs are counted in memory.
    VolatileEpochs,
    /// What nobody knows the outcome of is done again.
    RetryUnknown,
    /// What was written is called not written.
    LieAboutWrites,
    /// What is shown is not durable yet.
    DirtyRead,
}

/// What the weather of a seed is made of.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "independent kinds of weather")]
struct Weather {
    kills: bool,
    power: bool,
    faults: bool,
    full: bool,
    clock: bool,
}

impl Weather {
    fn of(seed: u64) -> Self {
        let (kills, power) = (seed % 6 != 0, seed % 3 == 1);
        Self { kills, power, faults: seed % 6 > 2, full: seed % 6 == 5, clock: seed % 2 == 0 }
    }
}

/// What came of a seed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Outcome {
    trace: String,
    crashes: u64,
    faults: u64,
    calls: u64,
    starts: u64,
    stale: u64,
    histories: u64,
    wrongs: Vec<String>,
}

struct World {
    disk: MemoryDisk,
    clock: Arc<TwoClocks>,
    dice: Dice,
    daemon: Option<Daemon>,
    people: People,
    judge: Judge,
    /// Questions on their way.
    net: Vec<Call>,
    weather: Weather,
    sabotage: Option<Sabotage>,
    trace: blake3::Hasher,
    outcome: Outcome,
    /// Nothing goes wrong any more.
    calm: bool,
    /// Why the last daemon did not come up.
    last_failure: String,
}

impl World {
    fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let disk = MemoryDisk::new(seed);
        if seed % 4 == 3 {
            disk.forbid_direct();
        }
        daemon::put_code(&disk);
        let mut world = Self {
            disk,
            clock: Arc::default(),
            dice: Dice::of(seed, "world"),
            daemon: None,
            people: People::new(seed),
            judge: Judge::default(),
            net: Vec::new(),
            weather: Weather::of(seed),
            sabotage,
            trace: blake3::Hasher::new(),
            outcome: Outcome::default(),
            calm: false,
            last_failure: String::new(),
        };
        world.start();
        world
    }

    fn mark(&mut self, what: &str) {
        let operations = self.disk.operations();
        self.trace.update(format!("{operations} {what}\n").as_bytes());
    }

    /// Starts a daemon; it may die while it recovers, and is started again.
    fn start(&mut self) {
        for attempt in 0..20 {
            let hostile = attempt < 3 && !self.calm && self.weather.kills && self.dice.one_in(2);
            if hostile {
                self.disk.fail_at(1 + self.dice.below(60), Fault::Die);
            }
            if attempt > 3 {
                self.disk.set_capacity(usize::MAX);
            }
            let started = Daemon::start(&self.disk, &self.clock, self.sabotage);
            match started {
                Ok(daemon) if !self.disk.is_dead() => {
                    self.judge.look(&self.disk);
                    self.mark("started");
                    return self.daemon = Some(daemon);
                }
                Err(why) => self.last_failure = why,
                Ok(_) => {}
            }
            self.crash();
        }
        panic!("no daemon comes up: {}", self.last_failure);
    }

    /// The daemon is gone, and perhaps the power with it.
    fn crash(&mut self) {
        self.daemon = None;
        self.outcome.crashes += 1;
        let cut = self.weather.power && self.dice.one_in(2);
        if self.dice.one_in(3) {
            self.disk.write_back_some();
        }
        if cut {
            self.disk.power_cut()
        } else {
            self.disk.kill()
        }
        // What was on its way is lost with the connection.
        self.net.clear();
        self.people.hang_up();
        self.mark(if cut { "power" } else { "kill" });
    }

    fn trouble(&mut self) {
        let weather = self.weather;
        match self.dice.below(70) {
            0 if weather.kills => {
                self.crash();
                self.start();
            }
            1 | 2 if weather.kills => self.disk.fail_at(1 + self.dice.below(30), Fault::Die),
            3 if weather.faults => {
                let faults = [Fault::Broken, Fault::NoSpace, Fault::Short(100), Fault::TooManyOpen];
                let fault = faults[usize::try_from(self.dice.below(4)).unwrap()];
                self.outcome.faults += 1;
                self.disk.fail_at(1 + self.dice.below(30), fault);
            }
            4 if weather.full => {
                self.outcome.faults += 1;
                self.disk.set_capacity(usize::try_from(self.dice.below(600_000)).unwrap());
            }
            5..=8 if weather.full => self.disk.set_capacity(usize::MAX),
            9 if weather.clock => {
                let back = i64::try_from(self.dice.below(7_200_000)).unwrap() - 3_600_000;
                self.clock.jump(back);
            }
            10 if weather.faults => self.disk.fail_write_back(),
            _ => {}
        }
    }

    fn step(&mut self) {
        if !self.calm {
            self.trouble();
        }
        let Some(daemon) = &mut self.daemon else { return self.start() };
        match self.dice.below(10) {
            0..=3 => {
                let calls = self.people.act(&mut self.judge);
                self.judge.asked(&calls);
                self.outcome.calls += calls.len() as u64;
                self.net.extend(calls);
            }
            4..=6 if !self.net.is_empty() => {
                let at = usize::try_from(self.dice.below(self.net.len() as u64)).unwrap();
                let call = self.net.remove(at);
                if self.calm || !self.dice.one_in(12) {
                    daemon.ask(&call);
                }
                // A doubled note is two notes: nobody could tell which of them was not written.
                let is_note = matches!(call.ask, daemon::Ask::Note { .. });
                if !self.calm && self.dice.one_in(8) && !is_note {
                    self.net.push(call);
                }
            }
            7 | 8 => daemon.commit(),
            _ => {
                let millis = 1 + self.dice.below(1_500);
                daemon.pass(millis);
            }
        }
        let answers = std::mem::take(&mut daemon.answers);
        let has_failed = daemon.has_failed();
        self.mark(&format!("{answers:?}"));
        for (number, told) in answers {
            // Whoever is not told does not know.
            if self.calm || !self.dice.one_in(10) {
                self.people.hear(number, &told, &mut self.judge);
            }
        }
        if self.disk.is_dead() || has_failed {
            self.crash();
            self.start();
        }
    }

    /// Everything works from now on, until all runs have ended.
    fn calm_down(&mut self) {
        self.calm = true;
        self.disk.set_capacity(usize::MAX);
        self.crash();
        self.start();
        self.people.create_all();
        for _ in 0..STEPS_CALM_MAX {
            if self.people.is_done() {
                break;
            }
            self.step();
        }
        if !self.people.is_done() {
            self.judge.wrong(format!("K8: {} never ends", self.people.unfinished()));
        }
    }
}

const STEPS: u64 = 300;
const STEPS_CALM_MAX: u64 = 40_000;

/// Plays one seed.
fn play(seed: u64, sabotage: Option<Sabotage>) -> Outcome {
    let mut world = World::new(seed, sabotage);
    for _ in 0..STEPS {
        world.step();
    }
    world.calm_down();
    if let Some(daemon) = world.daemon.take() {
        daemon.stop();
    }
    world.judge.look(&world.disk);
    world.judge.finish(&world.disk);
    let mut outcome = world.outcome;
    outcome.trace = world.trace.finalize().to_hex().to_string();
    outcome.starts = world.judge.starts();
    outcome.stale = world.people.stale();
    outcome.histories = world.judge.linear();
    outcome.wrongs = world.judge.into_wrongs();
    outcome
}

/// The same; a panic is a wrong as well.
fn caught(seed: u64, sabotage: Option<Sabotage>) -> Outcome {
    std::panic::catch_unwind(|| play(seed, sabotage)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        Outcome { wrongs: vec![format!("panic: {text}")], ..Outcome::default() }
    })
}

/// Plays seeds on two threads.
fn play_all(seeds: impl Iterator<Item = u64>, sabotage: Option<Sabotage>) -> Vec<(u64, Outcome)> {
    let seeds = std::sync::Mutex::new(seeds.collect::<Vec<_>>().into_iter());
    let next = || seeds.lock().unwrap().next();
    let work = || std::iter::from_fn(next).map(|s| (s, caught(s, sabotage))).collect::<Vec<_>>();
    let mut all: Vec<_> = std::thread::scope(|scope| {
        let two = [scope.spawn(work), scope.spawn(work)];
        two.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_by_key(|(seed, _)| *seed);
    all
}

#[test]
fn s13_no_seed_breaks_a_promise() {
    if let Ok(seed) = std::env::var("DORMOUSE_SIM_SEED") {
        return println!("{:#?}", play(seed.parse().unwrap(), None));
    }
    let all = play_all(0..if full_size() { 5_000 } else { 100 }, None);
    let sum = |of: &dyn Fn(&Outcome) -> u64| all.iter().map(|(_, o)| of(o)).sum::<u64>();
    println!(
        "{} seeds: {} calls, {} crashes, {} faults, {} starts, {} posts refused, \
         {} histories",
        all.len(),
        sum(&|o| o.calls),
        sum(&|o| o.crashes),
        sum(&|o| o.faults),
        sum(&|o| o.starts),
        sum(&|o| o.stale),
        sum(&|o| o.histories),
    );
    let wrong: Vec<_> = all.iter().filter(|(_, o)| !o.wrongs.is_empty()).collect();
    assert!(wrong.is_empty(), "{:#?}", &wrong[..wrong.len().min(3)]);
    assert!(sum(&|o| o.crashes) > 1_000 && sum(&|o| o.faults) > 100);
}

#[test]
fn s13_a_seed_played_twice_leaves_the_same_trace() {
    let seeds = (0..if full_size() { 200 } else { 12 }).map(|n| n * 7);
    let first = play_all(seeds.clone(), None);
    assert_eq!(first, play_all(seeds, None));
    assert_ne!(first[0].1.trace, first[1].1.trace);
}

#[test]
fn s13_each_guard_that_is_taken_away_is_missed() {
    for (sabotage, law) in [
        (Sabotage::AckEarly, "K1"),
        (Sabotage::NoFence, "K5"),
        (Sabotage::VolatileEpochs, "K4"),
        (Sabotage::RetryUnknown, "K2"),
        (Sabotage::LieAboutWrites, "K11"),
        (Sabotage::DirtyRead, "K10"),
    ] {
        let found = (0..60).find(|seed| {
            let outcome = caught(*seed, Some(sabotage));
            outcome.wrongs.iter().any(|wrong| wrong.starts_with(law))
        });
        println!("{sabotage:?}: {law} at seed {found:?}");
        assert!(found.is_some(), "{sabotage:?} is not missed");
    }
}
