//! Every order in which two workers, a daemon that forgets its leases, and an operator can act upon
//! an effect: the product's own functions, driven by a model checker.
//!
//! Without time: whatever may happen at some time may happen now. Invariant: with one guard taken
//! away the checker finds a way to do harm; with all of them it finds none.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use dormouse::codecs::event::{
    CancelOutcome, EffectCancelled, EffectResolved, EffectUncertain, Event, Policy, Record, Retry,
    Status,
};
use dormouse::codecs::format::line::genesis;
use dormouse::codecs::json::Json;
use dormouse::ground::id::{EffectId, EffectName, Epoch, RunId, Seq};
use dormouse::machines::effect::attempt::{Report, close, fence};
use dormouse::machines::effect::claim::{Claim, Claimed, claim};
use dormouse::machines::effect::decide::{Choice, Decision, Outcome, decide};
use dormouse::machines::effect::life::{Effect, EffectStatus};
use dormouse::machines::effect::post::{Post, PostStatus, Verdict, judge, post_digest};
use dormouse::machines::lease::{Grant, Leases};
use dormouse::machines::ledger::{Answer, Ledger, Settled};
use dormouse::machines::replay::state::{IllegalEvent, RunState};
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::effect_story::{created, harmless, requested, retries, said};
use crate::support::{at, run_id};

/// What keeps harm away. Each can be taken away, to see that it is needed.
#[derive(Clone, Copy, PartialEq)]
enum Guard {
    /// A post's epoch is compared with the present one.
    Fence,
    /// Each start gets an epoch of its own.
    Epochs,
    /// An attempt whose outcome nobody knows is not followed by another.
    Unknown,
    /// The ledger is asked before a start.
    Ledger,
    /// What somebody holds is nobody else's.
    Lease,
}

/// What is explored.
struct Yard {
    without: Option<Guard>,
    policy: Policy,
    /// Runs with one effect each, all with the same idempotency key if the policy has one.
    runs: usize,
    /// Most starts of one effect.
    starts_max: u32,
}

/// One run, with its journal in words: what the checker compares.
#[derive(Clone, Debug)]
struct Told {
    state: RunState,
    journal: Vec<String>,
}

/// One start that a worker knows of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Hand {
    run: usize,
    epoch: u64,
    /// The truth about which start it is, whatever its epoch says.
    attempt: u32,
    /// The outside has seen it.
    executed: bool,
}

#[derive(Clone, Debug)]
struct World {
    runs: Vec<Told>,
    /// The daemon's memory: which epochs have a lease.
    leases: BTreeMap<usize, u64>,
    workers: [Vec<Hand>; 2],
    /// How often the outside saw the work.
    executed: u32,
    /// How often somebody decided that it may happen again.
    decisions: u32,
    crashes: u32,
    /// Posts whose poster heard that they stand.
    acknowledged: BTreeMap<usize, u32>,
    /// An older start than the last gave the outcome.
    stale_outcome: bool,
    /// The fold refused what the machines decided.
    refused_by_fold: bool,
}

impl World {
    fn seen(&self) -> impl Hash + PartialEq + '_ {
        let journals: Vec<&[String]> = self.runs.iter().map(|r| r.journal.as_slice()).collect();
        let counts = (self.executed, self.decisions, self.crashes);
        let harm = (self.stale_outcome, self.refused_by_fold);
        (journals, &self.leases, &self.workers, counts, &self.acknowledged, harm)
    }

    fn effect(&self, run: usize) -> &Effect {
        self.runs[run].state.effect(EffectId::new(1)).unwrap()
    }

    fn append(&mut self, run: usize, event: Event) {
        let words = said(&event);
        let told = &mut self.runs[run];
        match fold(&mut told.state, event) {
            Ok(()) => told.journal.push(words),
            Err(_) => self.refused_by_fold = true,
        }
        if self.effect(run).status != EffectStatus::Started {
            self.leases.remove(&run);
        }
    }

    /// The book of keys, as the journals give it.
    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(u64::MAX);
        for (n, _) in self.runs.iter().enumerate() {
            ledger.note(&name(n), self.effect(n));
        }
        ledger
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.seen().hash(hasher);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.seen() == other.seen()
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// A worker claims; its answer may be lost.
    Claim { worker: usize, run: usize, heard: bool },
    /// A worker does the work, where it can be counted.
    Execute { worker: usize, hand: usize },
    /// A worker posts, however late; its answer may be lost.
    Post { worker: usize, hand: usize, heard: bool },
    /// A worker gives back what it has not begun.
    Release { worker: usize, hand: usize },
    /// A worker is not heard for too long.
    Lapse { run: usize },
    /// The daemon dies and is started: it knows what stands in journals.
    Crash,
    /// An operator accepts that it may happen twice.
    Decide { run: usize },
    /// An operator gives it up.
    Abandon { run: usize },
}

fn name(run: usize) -> RunId {
    format!("r{run}").parse().unwrap()
}

fn fold(state: &mut RunState, event: Event) -> Result<(), IllegalEvent> {
    let seq = state.head.seq.next();
    state.apply(&Record { seq, at: at(0), event, sum: genesis(&run_id()) })
}

impl Yard {
    fn lacks(&self, guard: Guard) -> bool {
        self.without == Some(guard)
    }

    fn claim(&self, world: &mut World, worker: usize, run: usize, heard: bool) -> Option<()> {
        let mut effect = world.effect(run).clone();
        if self.lacks(Guard::Lease) {
            effect.status = EffectStatus::Requested;
        }
        if effect.status == EffectStatus::Requested && !self.may_start(world, run, &effect) {
            return Some(());
        }
        let repeats = effect.status == EffectStatus::Started;
        let fresh = Some(format!("{worker}/{}", effect.attempts));
        let asked = Claim {
            worker: format!("w{worker}"),
            ttl_ms: 60_000,
            claim_id: if repeats { effect.claim.clone() } else { fresh },
            target: None,
            slots: Vec::new(),
        };
        let standing = world.runs[run].state.standing(at(0));
        if let Claimed::Start(mut started) = claim(&standing, &effect, &asked, at(0)).ok()? {
            if self.lacks(Guard::Epochs) {
                started.epoch = Epoch(1);
            }
            world.append(run, (*started).into());
            world.leases.insert(run, world.effect(run).epoch.0);
        }
        let effect = world.effect(run);
        let (epoch, attempt) = (effect.epoch.0, effect.attempts);
        let known = world.workers[worker].iter().any(|h| h.run == run && h.attempt == attempt);
        if heard && !known {
            world.workers[worker].push(Hand { run, epoch, attempt, executed: false });
        }
        Some(())
    }

    /// Asks the ledger, and records what it says of an outcome elsewhere.
    fn may_start(&self, world: &mut World, run: usize, effect: &Effect) -> bool {
        let Some(key) =
            effect.policy.idempotency_key.as_ref().filter(|_| !self.lacks(Guard::Ledger))
        else {
            return true;
        };
        let asker = EffectName { run: name(run), effect: effect.id };
        match world.ledger().ask(key, effect.def_digest, &asker) {
            Answer::Free => return true,
            Answer::Held(_) | Answer::Settled(Settled::Conflict { .. }) => {}
            Answer::Settled(Settled::Reuse(reused)) => {
                let bare = EffectResolved::bare(effect.id, Epoch(0), Status::Ok, "ledger");
                world.append(run, EffectResolved { reused_from: Some(reused), ..bare }.into());
            }
            Answer::Settled(Settled::Unknown(_)) => {
                let (effect_id, epoch) = (effect.id, effect.epoch);
                let cause = "key_outcome_unknown".to_owned();
                let evidence = None;
                world.append(run, EffectUncertain { effect_id, epoch, cause, evidence }.into());
            }
        }
        false
    }

    fn post(&self, world: &mut World, worker: usize, hand: usize, heard: bool) {
        let Hand { run, mut epoch, attempt, .. } = world.workers[worker][hand].clone();
        let effect = world.effect(run).clone();
        if self.lacks(Guard::Fence) {
            epoch = effect.epoch.0;
        }
        let post = Post {
            epoch: Some(Epoch(epoch)),
            status: PostStatus::Ok,
            value: Some(Json::of(&attempt)),
            error: None,
            retryable: None,
            invocation_key: None,
            by: format!("worker:w{worker}"),
        };
        let standing = world.runs[run].state.standing(at(0));
        let verdict = judge(&standing, Some(&effect), effect.id, &post, None, at(0));
        let stands = verdict.is_ok();
        if let Ok(Verdict::Accept { resolved, .. }) = verdict {
            world.stale_outcome |= attempt != effect.attempts;
            world.append(run, (*resolved).into());
        }
        if heard {
            world.workers[worker].remove(hand);
            if stands {
                world.acknowledged.insert(run, attempt);
            }
        }
    }

    /// An attempt ended, and brought no value.
    fn close(&self, world: &mut World, run: usize, epoch: u64, report: &Report) -> Option<()> {
        let mut effect = world.effect(run).clone();
        fence(&effect, Epoch(epoch)).ok()?;
        if self.lacks(Guard::Unknown) {
            effect.policy = Policy { idempotency_key: effect.policy.idempotency_key, ..at_once() };
        }
        let standing = world.runs[run].state.standing(at(0));
        for event in close(&standing, &effect, report, at(0), "timer") {
            world.append(run, event);
        }
        Some(())
    }

    /// A lease lapses, by the book that the daemon keeps.
    fn lapse(&self, world: &mut World, run: usize) -> Option<()> {
        let mut book = Leases::default();
        for (run, epoch) in &world.leases {
            let (worker, epoch) = ("w".to_owned(), Epoch(*epoch));
            let grant = Grant { epoch, worker, ttl_ms: 60_000, attempt_deadline_ms: None };
            book.grant(EffectName { run: name(*run), effect: EffectId::new(1) }, grant, 0);
        }
        let lapsed = std::iter::from_fn(|| book.lapsed(90_000)).find(|(k, ..)| k.run == name(run));
        let (_, epoch, _) = lapsed?;
        world.leases.remove(&run);
        self.close(world, run, epoch.0, &Report::Lapsed)
    }

    fn decide(world: &mut World, run: usize) -> Option<()> {
        let effect = world.effect(run).clone();
        let decision = Decision {
            what: Choice::Retry,
            epoch: effect.epoch,
            reason: "r".into(),
            evidence: None,
            force: false,
        };
        let standing = world.runs[run].state.standing(at(0));
        match decide(&standing, &effect, &decision, at(0), "operator:o").ok()? {
            Outcome::Repeat { .. } => return None,
            Outcome::Append(events) => {
                for event in events {
                    world.append(run, event);
                }
            }
        }
        world.decisions += 1;
        Some(())
    }
}

/// Tried again at once, and doing so harms nobody.
fn at_once() -> Policy {
    Policy { retry: Some(Retry { initial_ms: 0, ..retries() }), ..harmless() }
}

impl Model for Yard {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let run = || {
            let record =
                |seq, event| Record { seq: Seq(seq), at: at(0), event, sum: genesis(&run_id()) };
            let mut state = RunState::first(&record(1, created())).unwrap();
            fold(&mut state, requested("agent", self.policy.clone(), false)).unwrap();
            Told { state, journal: Vec::new() }
        };
        vec![World {
            runs: (0..self.runs).map(|_| run()).collect(),
            leases: BTreeMap::new(),
            workers: [Vec::new(), Vec::new()],
            executed: 0,
            decisions: 0,
            crashes: 0,
            acknowledged: BTreeMap::new(),
            stale_outcome: false,
            refused_by_fold: false,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for worker in 0..2 {
            // Where there are two runs, each has its worker: what two do to one is explored alone.
            for run in (0..self.runs).filter(|run| self.runs == 1 || *run == worker) {
                for heard in [true, false] {
                    steps.push(Step::Claim { worker, run, heard });
                }
            }
            for (hand, held) in world.workers[worker].iter().enumerate() {
                if held.executed {
                    steps.push(Step::Post { worker, hand, heard: true });
                    steps.push(Step::Post { worker, hand, heard: false });
                } else {
                    steps.push(Step::Execute { worker, hand });
                    steps.push(Step::Release { worker, hand });
                }
            }
        }
        for run in 0..self.runs {
            steps.extend([Step::Lapse { run }, Step::Decide { run }]);
            if self.runs > 1 {
                steps.push(Step::Abandon { run });
            }
        }
        steps.push(Step::Crash);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut world = world.clone();
        match step {
            Step::Claim { worker, run, heard } => self.claim(&mut world, worker, run, heard)?,
            Step::Execute { worker, hand } => {
                world.workers[worker][hand].executed = true;
                world.executed += 1;
            }
            Step::Post { worker, hand, heard } => self.post(&mut world, worker, hand, heard),
            Step::Release { worker, hand } => {
                let Hand { run, epoch, .. } = world.workers[worker].remove(hand);
                let report = Report::Released { began: false, reason: None };
                // Told that it is too late, a worker lets it go all the same.
                let _ = self.close(&mut world, run, epoch, &report);
            }
            Step::Lapse { run } => self.lapse(&mut world, run)?,
            Step::Crash => {
                world.crashes += 1;
                let open = (0..self.runs).map(|run| (run, world.effect(run)));
                let open = open.filter(|(_, e)| e.status == EffectStatus::Started);
                world.leases = open.map(|(run, e)| (run, e.epoch.0)).collect();
            }
            Step::Decide { run } => Self::decide(&mut world, run)?,
            Step::Abandon { run } => {
                let effect = world.effect(run);
                if !matches!(effect.status, EffectStatus::Started | EffectStatus::Uncertain) {
                    return None;
                }
                let (effect_id, epoch) = (effect.id, effect.epoch);
                let (outcome, by) = (CancelOutcome::Unknown, "operator:o".to_owned());
                let reason = "abandoned".to_owned();
                world.append(run, EffectCancelled { effect_id, epoch, outcome, reason, by }.into());
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one worker holds the present start", |yard, world: &World| {
                (0..yard.runs).all(|run| {
                    let effect = world.effect(run);
                    let present = |h: &Hand| h.run == run && h.attempt == effect.attempts;
                    let holders = world.workers.iter().filter(|hands| hands.iter().any(present));
                    !effect.status.is_open() || holders.count() <= 1
                })
            }),
            Property::always("no outcome of an older start", |_, world: &World| {
                !world.stale_outcome
            }),
            Property::always("the fold takes what was decided", |_, world: &World| {
                !world.refused_by_fold
            }),
            Property::always("executed once, and once more per decision", |yard, world: &World| {
                yard.policy.idempotent || world.executed <= 1 + world.decisions
            }),
            Property::always("what was acknowledged stands", |_, world: &World| {
                world.acknowledged.iter().all(|(run, attempt)| {
                    let digest = post_digest(PostStatus::Ok, Some(&Json::of(attempt)), None);
                    let ended = world.effect(*run).ended.as_ref();
                    ended.is_some_and(|ended| ended.post_digest == Some(digest))
                })
            }),
            Property::sometimes("a start after a crash", |_, world: &World| {
                world.crashes > 0 && world.effect(0).attempts > 1
            }),
            Property::sometimes("a late outcome", |_, world: &World| {
                world.effect(0).status == EffectStatus::Ok && world.effect(0).attempts > 1
            }),
        ]
    }

    fn within_boundary(&self, world: &World) -> bool {
        let starts = (0..self.runs).all(|run| world.effect(run).attempts <= self.starts_max);
        starts && world.crashes <= 1 && world.decisions <= 1
    }
}

fn once() -> Policy {
    Policy::default()
}

fn keyed() -> Policy {
    Policy { idempotency_key: Some("k".into()), ..Policy::default() }
}

fn alone(without: Option<Guard>, policy: Policy) -> Yard {
    Yard { without, policy, runs: 1, starts_max: 3 }
}

fn together(without: Option<Guard>) -> Yard {
    Yard { without, policy: keyed(), runs: 2, starts_max: 2 }
}

/// Explores everything; gives the number of worlds.
fn no_harm(yard: Yard) -> usize {
    let checker = yard.checker().spawn_bfs().join();
    checker.assert_properties();
    checker.unique_state_count()
}

/// Explores until the property is broken.
fn harm(yard: Yard, property: &'static str) {
    let broken = HasDiscoveries::AnyFailures;
    let checker = yard.checker().finish_when(broken).spawn_bfs().join();
    checker.assert_any_discovery(property);
}

#[test]
fn nothing_is_executed_twice_without_a_decision_and_nothing_is_lost() {
    let worlds = no_harm(alone(None, once()));
    assert!(worlds > 500, "only {worlds} worlds");
}

#[test]
fn what_may_be_repeated_is_fenced_all_the_same() {
    let worlds = no_harm(alone(None, at_once()));
    assert!(worlds > 500, "only {worlds} worlds");
}

#[test]
fn two_effects_with_one_key_are_executed_like_one() {
    let worlds = no_harm(together(None));
    assert!(worlds > 500, "only {worlds} worlds");
}

#[test]
fn without_the_fence_an_older_start_gives_the_outcome() {
    let yard = alone(Some(Guard::Fence), once());
    harm(yard, "no outcome of an older start");
}

#[test]
fn without_epochs_of_their_own_starts_are_refused() {
    let yard = alone(Some(Guard::Epochs), once());
    harm(yard, "the fold takes what was decided");
}

#[test]
fn without_leases_two_workers_hold_it() {
    let yard = alone(Some(Guard::Lease), once());
    harm(yard, "the fold takes what was decided");
}

#[test]
fn without_uncertainty_it_is_executed_twice() {
    let yard = alone(Some(Guard::Unknown), once());
    harm(yard, "executed once, and once more per decision");
}

#[test]
fn without_the_ledger_two_effects_are_executed_both() {
    harm(together(Some(Guard::Ledger)), "executed once, and once more per decision");
}
