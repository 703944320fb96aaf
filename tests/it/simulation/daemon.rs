//! The daemon of the simulation: one thread, no sockets.
//!
//! Real are the commit log, recovery, journals, runs with their engine, leases and all that is
//! decided about effects. Made here is what carries things between them: who has a seat, which
//! answer waits for which record, and a host that executes no JavaScript.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use dormouse::codecs::event::Record;
use dormouse::codecs::json::Json;
use dormouse::codecs::turn::{Feed, FromHost, Output, Request, ToHost, TurnDone};
use dormouse::ground::clock::{Clock, Timestamp};
use dormouse::ground::digest::{Digest, Sum};
use dormouse::ground::id::{EffectId, EffectName, Epoch, RunId, Seq};
use dormouse::machines::effect::attempt::Report;
use dormouse::machines::effect::claim::Claim;
use dormouse::machines::effect::decide::{Choice, Decision};
use dormouse::machines::effect::life::EffectStatus;
use dormouse::machines::lease::{Grant, Leases};
use dormouse::machines::replay::engine::{Input, Rest};
use dormouse::ports::disk::Disk as _;
use dormouse::ports::disk::memory::MemoryDisk;
use dormouse::services::runs::create::{KnownCode, NewRun};
use dormouse::services::runs::drive;
use dormouse::services::runs::hosts::{Host, Hosts, Silence};
use dormouse::services::runs::open::OpenRun;
use dormouse::services::runs::post::Posting;
use dormouse::services::runs::{Error, Runs};
use dormouse::shells::commit_log::log::Step;
use dormouse::shells::commit_log::{Committed, Unit, WriterState};
use dormouse::shells::journal::shared::{Lines, SharedWriter};

use super::Sabotage;
use crate::commit_log_support::{Known, Rig, settings};
use crate::log_by_hand::{own, recover_on};
use crate::play::{main_js, put_source};
use crate::support::NOON;

/// Steps of every run.
pub(super) const STEPS: u32 = 3;
const TTL_MS: u64 = 2_000;
/// Longest time in which nobody looks at leases without being taken for asleep.
const GAP_MS: u64 = 5_000;

/// A wall clock that jumps, and one that never does.
#[derive(Debug)]
pub(super) struct TwoClocks {
    wall: AtomicI64,
    passed: AtomicU64,
}

impl Default for TwoClocks {
    fn default() -> Self {
        Self { wall: AtomicI64::new(NOON), passed: AtomicU64::new(0) }
    }
}

impl TwoClocks {
    pub(super) fn jump(&self, millis: i64) {
        self.wall.fetch_add(millis * 1_000, Ordering::SeqCst);
    }
}

impl Clock for TwoClocks {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.wall.load(Ordering::SeqCst))
    }

    fn sleep_millis(&self, millis: u64) {
        self.jump(i64::try_from(millis).unwrap());
        self.passed.fetch_add(millis, Ordering::SeqCst);
    }

    fn passed_millis(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }
}

/// Hosts whose process does [`STEPS`] tasks in a row and returns the sum of their values.
struct Scripted;

#[derive(Default)]
struct Instance {
    asked: u32,
    sum: u64,
}

impl Hosts for Scripted {
    fn program(&self) -> &Path {
        Path::new("/none")
    }

    fn spawn(&self) -> Result<Box<dyn Host>, Silence> {
        Ok(Box::new(Instance::default()))
    }
}

impl Host for Instance {
    fn call(&mut self, message: &ToHost, _: u64, _: u64) -> Result<FromHost, Silence> {
        let ToHost::Turn(turn) = message else {
            return Ok(FromHost::Started { warnings: Vec::new(), logs: Vec::new() });
        };
        if let Feed::Resolved { value, .. } = &turn.feed {
            let value = value.as_ref().map(Json::to_value).unwrap_or_default();
            self.sum += value["n"].as_u64().unwrap_or(0);
        }
        let output = if self.asked < STEPS {
            self.asked += 1;
            Output::Request(Box::new(request(self.asked)))
        } else {
            Output::Completed { output: Json::of(&self.sum) }
        };
        Ok(FromHost::Turn(TurnDone { outputs: vec![output], ..TurnDone::default() }))
    }
}

fn request(ordinal: u32) -> Request {
    let (def, args) = (Json::of(&serde_json::json!({ "kind": "agent" })), Json::of(&ordinal));
    Request {
        ordinal,
        key: format!("t#{}", ordinal - 1),
        name: "t".into(),
        scope: String::new(),
        kind: "agent".into(),
        task_id: Some("t".into()),
        title: None,
        label: None,
        labels: Vec::new(),
        def_digest: Digest::of(def.as_str().as_bytes()).to_string(),
        def,
        args_digest: Digest::of(args.as_str().as_bytes()).to_string(),
        args: Some(args),
        options: None,
        cleanup: false,
        site: None,
    }
}

/// What somebody wants of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    Create,
    Claim { worker: usize, id: String },
    Beat { effect: EffectId, epoch: u64 },
    Post { worker: usize, effect: EffectId, epoch: u64, value: u64 },
    Release { worker: usize, effect: EffectId, epoch: u64 },
    Decide { effect: EffectId, epoch: u64 },
    Note { text: String },
    Read,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Made,
    Started {
        effect: EffectId,
        epoch: u64,
    },
    Taken,
    Noted,
    /// Where the run stands durably, and the effect that is open then.
    Seen {
        seq: Seq,
        sum: Sum,
        open: Option<(EffectId, EffectStatus, u64)>,
        ended: bool,
    },
    Done,
    Refused(String),
    NotWritten,
}

/// A question on its way, and its answer.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) number: u64,
    pub(super) run: RunId,
    pub(super) ask: Ask,
}

/// A run that is open, or is being made.
#[allow(clippy::large_enum_variant, reason = "there are four of them")]
enum Seat {
    Here(Box<Here>),
    Fresh { record: Record, writer: SharedWriter, durable: bool, made: bool },
}

struct Here {
    run: OpenRun,
    host: Option<Box<dyn Host>>,
    durable: Seq,
}

/// The daemon, as long as it lives.
pub(super) struct Daemon {
    rig: Rig,
    runs: Runs,
    clock: Arc<TwoClocks>,
    known: Known,
    code: KnownCode,
    seats: BTreeMap<RunId, Seat>,
    leases: Leases,
    looked_ms: u64,
    /// Answers that wait for a record.
    waiting: VecDeque<(RunId, Seq, u64, Told)>,
    /// Answers that may go out.
    pub(super) answers: Vec<(u64, Told)>,
    sabotage: Option<Sabotage>,
    /// Epochs as a daemon would count them that keeps them in memory.
    forgetful: BTreeMap<(RunId, EffectId), u64>,
}

fn runs(disk: &MemoryDisk, clock: &Arc<TwoClocks>) -> Runs {
    Runs {
        disk: Arc::new(disk.clone()),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        hosts: Arc::new(Scripted),
        root: "/runs".into(),
        lock_wait_ms: 0,
        allow_fs: None,
        limits: dormouse::services::runs::create::host_limits(),
        turn_wall_max_ms: 1_000,
        by: "operator:sim".into(),
        telemetry: dormouse::services::telemetry::Telemetry::default(),
        kinds: dormouse::services::runs::kinds::KnownKinds::default(),
    }
}

/// Puts the only process that there is where runs are made from.
pub(super) fn put_code(disk: &MemoryDisk) {
    put_source(disk, "export const process = () => 1;");
    for place in ["/src", "/"] {
        disk.open_dir(Path::new(place)).unwrap().sync().unwrap();
    }
}

impl Daemon {
    /// Recovers the root and takes its runs up. Says why it cannot.
    pub(super) fn start(
        disk: &MemoryDisk,
        clock: &Arc<TwoClocks>,
        sabotage: Option<Sabotage>,
    ) -> Result<Self, String> {
        let root = own(disk).map_err(|e| e.to_string())?;
        let recovered = recover_on(&root).map_err(|e| e.to_string())?;
        if !recovered.set_aside.is_empty() {
            return Err(format!("{:?}", recovered.set_aside));
        }
        let rig = Rig::over(root, settings(), Arc::clone(clock) as Arc<dyn Clock>)?;
        let mut daemon = Self {
            rig,
            runs: runs(disk, clock),
            clock: Arc::clone(clock),
            known: Known::default(),
            code: KnownCode::default(),
            seats: BTreeMap::new(),
            leases: Leases::default(),
            looked_ms: clock.passed_millis(),
            waiting: VecDeque::new(),
            answers: Vec::new(),
            sabotage,
            forgetful: BTreeMap::new(),
        };
        for run in daemon.rig.root.view().run_ids().map_err(|e| e.to_string())? {
            daemon.sit(&run)?;
        }
        Ok(daemon)
    }

    /// Whether it cannot go on.
    pub(super) fn has_failed(&self) -> bool {
        self.rig.log.state() == WriterState::Failed
    }

    /// Opens a run, gives anew what somebody is at, and lets it go on.
    fn sit(&mut self, id: &RunId) -> Result<(), String> {
        self.rig.log.settle(id);
        self.rig.jobs(&mut self.known);
        let run = self.runs.open_shared(self.rig.root.view(), id, None);
        let run = run.map_err(|e| e.to_string())?;
        let durable = run.state().head.seq;
        let now_ms = self.clock.passed_millis();
        for effect in run.state().open_effects().filter(|e| e.status == EffectStatus::Started) {
            let key = EffectName::of(id, effect.id);
            let worker = effect.worker.clone().unwrap_or_default();
            let grant =
                Grant { epoch: effect.epoch, worker, ttl_ms: TTL_MS, attempt_deadline_ms: None };
            self.leases.grant(key, grant, now_ms);
        }
        let here = Here { run, host: None, durable };
        self.seats.insert(id.clone(), Seat::Here(Box::new(here)));
        self.play(id);
        Ok(())
    }

    /// Lets a run go on as far as it can, and hands its lines to the log.
    fn play(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return };
        let played = play(here);
        let lines = here.run.take_lines();
        self.hand_over(id, lines);
        if played.is_err() {
            self.lose(id);
        }
    }

    fn hand_over(&mut self, id: &RunId, lines: Vec<Lines>) {
        for lines in lines {
            let unit = Unit::append(lines.into_append(id), true);
            let words = format!("{id}/{}", unit.last_seq());
            self.rig.give(&mut self.known, &words, unit);
        }
    }

    /// A run is not as it was thought: nothing that waits for it was written, as far as is known.
    fn lose(&mut self, id: &RunId) {
        self.seats.remove(id);
        self.rig.queue.retain(|unit| unit.entry.run() != id);
        let lost = self.waiting.iter().filter(|(run, ..)| run == id);
        self.answers.extend(lost.map(|(_, _, number, _)| (*number, Told::NotWritten)));
        self.waiting.retain(|(run, ..)| run != id);
    }

    /// Takes a question; its answer comes when what it rests upon is durable.
    pub(super) fn ask(&mut self, call: &Call) {
        if call.ask == Ask::Create {
            return self.create(call);
        }
        if !self.seats.contains_key(&call.run) && self.sit(&call.run).is_err() {
            return self.answers.push((call.number, Told::Refused("not_found".into())));
        }
        let Some(Seat::Here(here)) = self.seats.get_mut(&call.run) else {
            return self.answers.push((call.number, Told::Refused("not_made".into())));
        };
        let told = deed(here, &call.ask, self.sabotage);
        let rests_on = match &told {
            Ok(Told::Seen { .. }) => here.durable,
            _ => here.run.written().seq,
        };
        let durable = here.durable;
        let told = match told {
            Ok(told) => self.remember(call, told),
            // What it has made so far is not handed over.
            Err(Error::Storage { .. }) => return self.lose(&call.run),
            Err(e) => Told::Refused(e.trouble().code.to_owned()),
        };
        let is_early = self.sabotage == Some(Sabotage::AckEarly);
        if rests_on <= durable || is_early {
            self.answers.push((call.number, told));
        } else {
            self.waiting.push_back((call.run.clone(), rests_on, call.number, told));
        }
        self.play(&call.run);
    }

    /// Leases follow what was decided.
    fn remember(&mut self, call: &Call, told: Told) -> Told {
        let now_ms = self.clock.passed_millis();
        match (&call.ask, &told) {
            (Ask::Claim { worker, .. }, Told::Started { effect, epoch }) => {
                let key = EffectName::of(&call.run, *effect);
                let worker = format!("w{worker}");
                let grant = Grant {
                    epoch: Epoch(*epoch),
                    worker,
                    ttl_ms: TTL_MS,
                    attempt_deadline_ms: None,
                };
                self.leases.grant(key, grant, now_ms);
                if self.sabotage == Some(Sabotage::VolatileEpochs) {
                    let count = self.forgetful.entry((call.run.clone(), *effect)).or_default();
                    *count += 1;
                    return Told::Started { effect: *effect, epoch: *count };
                }
            }
            (Ask::Beat { effect, epoch }, Told::Done) => {
                let key = EffectName::of(&call.run, *effect);
                let _ = self.leases.renew(&key, Epoch(*epoch), now_ms, None);
            }
            (Ask::Post { effect, .. } | Ask::Release { effect, .. }, Told::Taken | Told::Done) => {
                let _ = self.leases.remove(&EffectName::of(&call.run, *effect));
            }
            _ => {}
        }
        told
    }

    fn create(&mut self, call: &Call) {
        let id = call.run.clone();
        let exists = self.seats.contains_key(&id) || self.rig.root.view().run(&id).is_ok();
        if exists {
            return self.answers.push((call.number, Told::Refused("run_exists".into())));
        }
        let new = NewRun { run_id: Some(id.clone()), source: Some(main_js()), ..NewRun::default() };
        let Ok(prepared) = self.runs.prepare(&new, &self.code) else {
            return self.answers.push((call.number, Told::Refused("not_prepared".into())));
        };
        let mut writer = SharedWriter::begin_run(&id);
        let Ok(record) = writer.append(Seq(0), self.clock.now(), &prepared.event) else {
            return self.answers.push((call.number, Told::Refused("not_prepared".into())));
        };
        let lines = writer.take_lines();
        self.hand_over(&id, lines);
        let fresh = Seat::Fresh { record, writer, durable: false, made: false };
        self.seats.insert(id.clone(), fresh);
        self.waiting.push_back((id, Seq(1), call.number, Told::Made));
    }

    /// Writes what waits for the log.
    pub(super) fn commit(&mut self) {
        // Without room for another segment the rest waits.
        for _ in 0..100 {
            let step = self.rig.log.commit(&mut self.rig.queue, self.rig.now_ms);
            self.rig.note(&mut self.known);
            match step {
                Step::Empty => break,
                Step::Written => {}
                Step::NeedsSpare | Step::Crowded => self.rig.jobs(&mut self.known),
            }
        }
        self.hear();
    }

    /// Lets time pass, and what it brings.
    pub(super) fn pass(&mut self, millis: u64) {
        self.clock.sleep_millis(millis);
        self.rig.pass(&mut self.known, millis);
        self.hear();
        let now_ms = self.clock.passed_millis();
        let gap_ms = now_ms - std::mem::replace(&mut self.looked_ms, now_ms);
        if gap_ms > GAP_MS {
            self.leases.slept(now_ms, gap_ms);
        }
        while let Some((key, epoch, _)) = self.leases.lapsed(now_ms) {
            self.lapse(&key, epoch);
        }
        let ids: Vec<RunId> = self.seats.keys().cloned().collect();
        for id in ids {
            self.play(&id);
        }
    }

    fn lapse(&mut self, key: &EffectName, epoch: Epoch) {
        let Some(Seat::Here(here)) = self.seats.get_mut(&key.run) else { return };
        let report = match self.sabotage {
            Some(Sabotage::RetryUnknown) => Report::Released { began: false, reason: None },
            _ => Report::Lapsed,
        };
        let lapse = |run: &mut OpenRun| run.end_attempt(key.effect, epoch, &report);
        let _ = here.run.acting_as("timer", lapse);
        self.play(&key.run);
    }

    /// What the log has to say.
    fn hear(&mut self) {
        for event in std::mem::take(&mut self.known.events) {
            match event {
                Committed::Durable { run, seq, .. } => self.durable(&run, seq),
                Committed::NotWritten { run, .. } => self.lose(&run),
                Committed::Made { run } => {
                    if let Some(Seat::Fresh { made, .. }) = self.seats.get_mut(&run) {
                        *made = true;
                    }
                    self.take_in(&run);
                }
                // Whoever asked is told nothing any more: the daemon ends.
                Committed::Unknown { run, .. } => {
                    self.waiting.retain(|(waits, ..)| *waits != run);
                }
                _ => {}
            }
        }
    }

    fn durable(&mut self, id: &RunId, seq: Seq) {
        match self.seats.get_mut(id) {
            Some(Seat::Here(here)) => here.durable = seq,
            Some(Seat::Fresh { durable, .. }) => *durable = true,
            None => {}
        }
        let lies = self.sabotage == Some(Sabotage::LieAboutWrites);
        let (out, still): (VecDeque<_>, VecDeque<_>) =
            self.waiting.drain(..).partition(|(run, needed, ..)| run == id && *needed <= seq);
        self.waiting = still;
        let out = out.into_iter().map(|(_, _, number, told)| match told {
            Told::Noted if lies => (number, Told::NotWritten),
            told => (number, told),
        });
        self.answers.extend(out);
        self.take_in(id);
    }

    /// A run that was made is opened once its record is durable and its directory there.
    fn take_in(&mut self, id: &RunId) {
        let ready =
            matches!(self.seats.get(id), Some(Seat::Fresh { durable: true, made: true, .. }));
        if !ready {
            return;
        }
        let Some(Seat::Fresh { record, writer, .. }) = self.seats.remove(id) else { return };
        let Ok(run) = self.runs.open_made(self.rig.root.view(), record, writer) else { return };
        let here = Here { run, host: None, durable: Seq(1) };
        self.seats.insert(id.clone(), Seat::Here(Box::new(here)));
        self.play(id);
    }

    /// Stops cleanly: every run directory is complete afterwards.
    pub(super) fn stop(mut self) {
        self.commit();
        for (_, seat) in std::mem::take(&mut self.seats) {
            if let Seat::Here(here) = seat {
                here.run.close().unwrap();
            }
        }
        self.rig.stop(&mut self.known).unwrap();
    }
}

/// Carries messages between a run and its host until it rests.
fn play(here: &mut Here) -> Result<(), Error> {
    let mut input = Input::Poll;
    loop {
        let stage = here.run.stage();
        let host = &mut here.host;
        input = match here.run.step(input)? {
            drive::Step::Start(_) => {
                *host = Some(Box::new(Instance::default()));
                Input::Started
            }
            drive::Step::Turn(plan) => {
                let turn = stage.turn(&plan)?;
                let Some(host) = host else { return here.run.reload() };
                let said = host.call(&ToHost::Turn(turn.clone()), 0, 0);
                let said = said.unwrap_or_else(|e| panic!("{e:?}"));
                stage.heard(Some(&turn), said)?
            }
            drive::Step::Asked => Input::Poll,
            drive::Step::Rest(Rest::Restart) => {
                here.run.reload()?;
                Input::Poll
            }
            drive::Step::Rest(_) => return Ok(()),
        };
    }
}

fn claim(run: &mut OpenRun, worker: usize, id: &str) -> Result<Told, Error> {
    let open = run.state().open_effects().next().map(|effect| effect.id);
    let Some(effect) = open else { return Ok(Told::Refused("nothing_open".into())) };
    let asked = Claim {
        worker: format!("w{worker}"),
        ttl_ms: TTL_MS,
        claim_id: Some(id.to_owned()),
        target: None,
        slots: Vec::new(),
    };
    let task = run.claim(effect, &asked)?;
    Ok(Told::Started { effect, epoch: task.epoch.0 })
}

fn deed(here: &mut Here, ask: &Ask, sabotage: Option<Sabotage>) -> Result<Told, Error> {
    let by = match ask {
        Ask::Post { worker, .. } | Ask::Release { worker, .. } => format!("worker:w{worker}"),
        _ => "operator:sim".into(),
    };
    if matches!(ask, Ask::Read) {
        return Ok(seen(here, sabotage == Some(Sabotage::DirtyRead)));
    }
    here.run.acting_as(&by, |run| match ask {
        Ask::Create | Ask::Read => Ok(Told::Done),
        Ask::Claim { worker, id } => claim(run, *worker, id),
        Ask::Beat { effect, epoch } => run.heartbeat(*effect, Epoch(*epoch)).map(|_| Told::Done),
        Ask::Post { effect, epoch, value, .. } => {
            let present = run.state().effect(*effect).map_or(0, |e| e.epoch.0);
            let no_fence = sabotage == Some(Sabotage::NoFence);
            let epoch = Some(Epoch(if no_fence { present } else { *epoch }));
            let value = Json::of(&serde_json::json!({ "n": value }));
            run.post(Posting { epoch, ..Posting::ok(*effect, value) }).map(|_| Told::Taken)
        }
        Ask::Release { effect, epoch, .. } => {
            let report = Report::Released { began: false, reason: None };
            run.end_attempt(*effect, Epoch(*epoch), &report).map(|_| Told::Done)
        }
        Ask::Decide { effect, epoch } => {
            let decision = Decision {
                what: Choice::Retry,
                epoch: Epoch(*epoch),
                reason: "it may".into(),
                evidence: None,
                force: false,
            };
            run.decide(*effect, &decision).map(|_| Told::Done)
        }
        Ask::Note { text } => run.note(text).map(|_| Told::Noted),
    })
}

/// What is durable of a run, or what is not yet.
fn seen(here: &Here, dirty: bool) -> Told {
    let seq = if dirty { here.run.state().head.seq } else { here.durable };
    let at = usize::try_from(seq.0).unwrap() - 1;
    let open = here.run.state().open_effects().next();
    Told::Seen {
        seq,
        sum: here.run.records()[at].sum,
        open: open.map(|effect| (effect.id, effect.status, effect.epoch.0)),
        ended: here.run.state().end.is_some() && seq == here.run.state().head.seq,
    }
}
