//! Letting a run go on: performs what its engine asks for until there is nothing to do.
//!
//! May not decide anything about the run: that is the engine's. Invariant: nothing is shown to a
//! host that is not durable in the journal.

use crate::codecs::event::{Event, Payload, ProcessRef};
use crate::codecs::json::Json;
use crate::codecs::turn::{Feed, FromHost, Standing, Start, ToHost, TurnDone, TurnInput};
use crate::ground::clock::Timestamp;
use crate::ground::limits;
use crate::machines::effect::plain_error;
use crate::machines::replay::drafts::Draft;
use crate::machines::replay::engine::{Action, Engine, FeedPlan, Input, Rest, StartPlan, TurnPlan};
use crate::shells::pin::PinnedGraph;
use crate::shells::run_dir::dir::RunDir;

use super::create::{load_process, loaded};
use super::hosts::{Host, Silence};
use super::open::OpenRun;
use super::trouble::Trouble;
use super::{Error, Result, Runs, derived};

/// Where a run stands after a step.
#[derive(Debug)]
pub enum Step {
    /// It needs an instance.
    Start(Box<StartPlan>),
    /// Its instance needs a turn.
    Turn(Box<TurnPlan>),
    /// Nothing yet: effects were requested, which somebody may want to start in the same breath.
    Asked,
    /// Nothing, until something outside happens.
    Rest(Rest),
}

/// What a run's instance is told and what its answers mean, whoever carries the messages.
#[derive(Clone)]
pub struct Stage {
    runs: Runs,
    dir: RunDir,
    cwd: Option<String>,
    /// Log lines and files for tasks are kept.
    keeps: bool,
}

impl Stage {
    pub(super) fn new(runs: &Runs, dir: &RunDir, cwd: Option<String>, keeps: bool) -> Self {
        Self { runs: runs.clone(), dir: dir.clone(), cwd, keeps }
    }

    /// The pinned code that an instance is to run, every byte checked; or what the engine is to be
    /// told instead.
    pub fn code(&self, plan: &StartPlan) -> Result<std::result::Result<PinnedGraph, Input>> {
        match load_process(&self.dir, &plan.process) {
            Err(Error::Refused(why)) => {
                let text = format!("{}: {}", why.code, why.what);
                Ok(Err(Input::LoadFailed(plain_error("LoadError", text))))
            }
            graph => Ok(Ok(graph?)),
        }
    }

    /// The message that starts an instance.
    pub fn start(
        &self,
        plan: &StartPlan,
        graph: &PinnedGraph,
        process: &ProcessRef,
    ) -> Result<Start> {
        let run_id = plan.run_id.to_string();
        let path = self.runs.disk.canonicalize(self.dir.path())?;
        Ok(Start {
            seed_run_id: run_id.clone(),
            run_id,
            generation: plan.generation,
            run_dir: path.display().to_string(),
            cwd: self.cwd.clone(),
            process_id: process.process_id.clone(),
            profile: process.api,
            entry: process.entry.clone(),
            export_name: process.export_name.clone(),
            modules: graph.modules(),
            inputs: loaded(&self.dir, plan.inputs.as_ref())?,
            carried: plan.carried.clone(),
            scheduled_at: plan.scheduled_at,
            clock_micros: plan.clock.micros(),
            next_ordinal: plan.next_ordinal,
            is_shown: false,
            system: plan.system.clone(),
            known: plan.known.clone(),
            known_marks: plan.known_marks.clone(),
            limits: self.runs.limits.clone(),
        })
    }

    /// The message that runs a turn.
    pub fn turn(&self, plan: &TurnPlan) -> Result<TurnInput> {
        Ok(TurnInput {
            seq: plan.seq.0,
            clock_micros: plan.clock.micros(),
            feed: self.feed(&plan.feed)?,
            journaled_outputs: plan.journaled_outputs,
            journaled_marks: plan.journaled_marks.clone(),
            live_after: plan.live_after,
            by_key: plan.by_key,
            quiet: !plan.live_after || !self.keeps,
        })
    }

    fn feed(&self, plan: &FeedPlan) -> Result<Feed> {
        Ok(match plan {
            FeedPlan::RunStarted => Feed::RunStarted,
            FeedPlan::Resolved { ordinal, value, error, attempts } => {
                let value: Option<&Payload> = value.as_ref();
                Feed::Resolved {
                    ordinal: *ordinal,
                    value: loaded(&self.dir, value)?,
                    error: error.clone(),
                    attempts: *attempts,
                }
            }
            FeedPlan::Cancelled { ordinal, reason } => {
                Feed::Cancelled { ordinal: *ordinal, reason: reason.clone() }
            }
            FeedPlan::CancelRequested { reason } => {
                Feed::CancelRequested { reason: reason.clone() }
            }
        })
    }

    /// What an instance's answer means to the engine. `turn` is the turn it answers, nothing for a
    /// start.
    pub fn heard(&self, turn: Option<&TurnInput>, answer: FromHost) -> Result<Input> {
        Ok(match answer {
            FromHost::Started { .. } => Input::Started,
            FromHost::LoadFailed(failure) => {
                let text = format!("{}: {}", failure.code, failure.message);
                Input::LoadFailed(plain_error("LoadError", text))
            }
            FromHost::Limit { name, detail } => Input::Limit { name, detail },
            FromHost::Shown(_) => return Err(out_of_turn()),
            FromHost::Turn(done) => {
                if let Some(turn) = turn {
                    self.keep(turn, &done)?;
                }
                Input::Turned(done)
            }
        })
    }

    /// Keeps what a turn put out besides its outputs: files for tasks, log lines.
    fn keep(&self, turn: &TurnInput, done: &TurnDone) -> Result<()> {
        // A replay repeats what stands there already, and a check writes nothing.
        if !turn.live_after || !self.keeps {
            return Ok(());
        }
        for blob in &done.blobs {
            self.dir.put_relative(&blob.path, &blob.content)?;
        }
        derived::keep_logs(&self.dir, turn, &done.logs);
        Ok(())
    }
}

/// The error of a document that cannot be shown: playing it takes more than a host may use.
fn unplayed(why: &str) -> Error {
    let what = format!("the document could not be played up to where it stands: {why}");
    Error::Refused(Trouble::new("host_failed", what))
}

pub(super) fn out_of_turn() -> Error {
    Error::Bug(Trouble::new("host_protocol", "a host answered out of turn"))
}

/// One instance of a process in a host of its own, as long as it lives.
pub(super) struct Player {
    stage: Stage,
    host: Option<Box<dyn Host>>,
    failures: u32,
    /// It will be shown.
    is_shown: bool,
    /// Code to play instead of what is pinned.
    instead: Option<(Option<PinnedGraph>, ProcessRef)>,
}

/// What a host's silence means for the run.
pub(super) enum Answer {
    /// Tell the engine.
    Input(Input),
    /// The host is gone; replay in another one.
    Again,
}

impl Player {
    pub(super) fn new(runs: &Runs, dir: &RunDir, cwd: Option<String>, keeps: bool) -> Self {
        let stage = Stage::new(runs, dir, cwd, keeps);
        Self { stage, host: None, failures: 0, is_shown: false, instead: None }
    }

    /// One that plays a document to show where it stands, and keeps nothing.
    pub(super) fn showing(runs: &Runs, dir: &RunDir) -> Self {
        Self { is_shown: true, ..Self::new(runs, dir, None, false) }
    }

    /// Plays other code than what is pinned (none: the pinned code under another name).
    pub(super) fn replace_code(&mut self, graph: Option<PinnedGraph>, process: &ProcessRef) {
        self.instead = Some((graph, process.clone()));
    }

    pub(super) fn drop_host(&mut self) {
        self.host = None;
    }

    /// Starts an instance.
    pub(super) fn start(&mut self, plan: &StartPlan) -> Result<Answer> {
        let (graph, process) = match &self.instead {
            Some((Some(graph), process)) => (graph.clone(), process),
            _ => match self.stage.code(plan)? {
                Ok(graph) => (graph, &plan.process),
                Err(input) => return Ok(Answer::Input(input)),
            },
        };
        let mut start = self.stage.start(plan, &graph, process)?;
        start.is_shown = self.is_shown;
        self.host = match self.stage.runs.hosts.spawn() {
            Ok(host) => Some(host),
            Err(Silence::Absent(why)) => return Err(super::hosts::absent(why)),
            Err(silence) => return Ok(self.silent(silence)),
        };
        let cpu_max_ms = self.stage.runs.limits.load_cpu_max_ms;
        self.say(&ToHost::Start(Box::new(start)), cpu_max_ms)
    }

    /// Runs one turn.
    pub(super) fn turn(&mut self, plan: &TurnPlan) -> Result<Answer> {
        let turn = self.stage.turn(plan)?;
        let cpu_max_ms = self.stage.runs.limits.turn_cpu_max_ms;
        self.say(&ToHost::Turn(turn), cpu_max_ms)
    }

    /// Shows where the document stands that was played up to here.
    pub(super) fn show(&mut self, known: Vec<Standing>) -> Result<Json> {
        let cpu_max_ms = self.stage.runs.limits.turn_cpu_max_ms;
        let wall_max_ms = self.stage.runs.turn_wall_max_ms;
        let Some(host) = &mut self.host else { return Err(unplayed("its instance is gone")) };
        match host.call(&ToHost::Show(known), cpu_max_ms, wall_max_ms) {
            Ok(FromHost::Shown(shown)) => Ok(shown),
            Ok(FromHost::Limit { name, detail }) => {
                Err(unplayed(&format!("limit:{name}: {detail}")))
            }
            Ok(_) => Err(out_of_turn()),
            Err(Silence::Absent(why)) => Err(super::hosts::absent(why)),
            Err(Silence::Cpu(why) | Silence::Died(why)) => Err(unplayed(&why)),
        }
    }

    fn say(&mut self, message: &ToHost, cpu_max_ms: u64) -> Result<Answer> {
        let Some(host) = &mut self.host else {
            return Ok(self.silent(Silence::Died("the host is gone".into())));
        };
        let answer = match host.call(message, cpu_max_ms, self.stage.runs.turn_wall_max_ms) {
            Ok(answer) => answer,
            Err(silence) => return Ok(self.silent(silence)),
        };
        if matches!(answer, FromHost::Limit { .. }) {
            self.host = None;
        }
        let turn = if let ToHost::Turn(turn) = message { Some(turn) } else { None };
        Ok(Answer::Input(self.stage.heard(turn, answer)?))
    }

    fn silent(&mut self, silence: Silence) -> Answer {
        self.host = None;
        match silence {
            Silence::Cpu(detail) => Answer::Input(Input::Limit { name: "cpu".into(), detail }),
            Silence::Absent(detail) | Silence::Died(detail) => {
                self.failures += 1;
                if self.failures >= limits::HOST_FAILURES_MAX {
                    return Answer::Input(Input::HostFailed(detail));
                }
                Answer::Again
            }
        }
    }
}

impl OpenRun {
    /// Performs what the engine asks for until it rests. Child runs are not looked at.
    pub(super) fn play(&mut self) -> Result<Rest> {
        let mut player = Player::new(&self.runs, &self.dir, self.state().cwd.clone(), true);
        let mut input = Input::Poll;
        loop {
            let answer = match self.step(input)? {
                Step::Start(plan) => player.start(&plan)?,
                Step::Turn(plan) => player.turn(&plan)?,
                Step::Asked => Answer::Input(Input::Poll),
                Step::Rest(Rest::Restart) => Answer::Again,
                Step::Rest(rest) => return Ok(rest),
            };
            match answer {
                Answer::Input(next) => input = next,
                Answer::Again => {
                    player.drop_host();
                    self.reload()?;
                    input = Input::Poll;
                }
            }
        }
    }

    /// For whoever carries messages between this run and its instance.
    #[must_use]
    pub fn stage(&self) -> Stage {
        Stage::new(&self.runs, &self.dir, self.state().cwd.clone(), true)
    }

    /// Takes in what happened and appends what follows from it, until a host is needed or there is
    /// nothing to do.
    pub fn step(&mut self, mut input: Input) -> Result<Step> {
        loop {
            let now = self.runs.clock.now();
            let action = self.engine.handle(now, std::mem::replace(&mut input, Input::Poll))?;
            match action {
                None => {}
                Some(Action::Append(batch)) => {
                    let asks = |draft: &Draft| matches!(draft.event, Event::EffectRequested(_));
                    let asked = batch.iter().any(asks);
                    for mut draft in batch {
                        self.limit(&mut draft);
                        self.append_draft(draft)?;
                    }
                    if asked {
                        return Ok(Step::Asked);
                    }
                }
                Some(Action::Start(plan)) => return Ok(Step::Start(plan)),
                Some(Action::Turn(_)) if self.journal_bytes() > limits::RUN_JOURNAL_BYTES_MAX => {
                    let most = limits::RUN_JOURNAL_BYTES_MAX;
                    let detail = format!("run.journal_bytes_max: at most {most} bytes");
                    input = Input::Limit { name: "journal".into(), detail };
                }
                Some(Action::Turn(plan)) => return Ok(Step::Turn(plan)),
                Some(Action::Rest(rest)) => {
                    derived::divergence(self);
                    return Ok(Step::Rest(rest));
                }
            }
        }
    }

    /// When time alone will make something happen in this run.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.engine.wake_at(self.runs.clock.now())
    }

    /// The engine's remarks of this command.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        self.engine.warnings()
    }

    /// Turns that this command ran.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.engine.turns()
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The output of a completed run.
    pub fn output(&self) -> Result<Option<Json>> {
        self.look().output()
    }

    /// Refuses when the run has ended.
    pub(super) fn must_be_open(&self) -> Result<()> {
        match self.state().end {
            None => Ok(()),
            Some((end, _)) => {
                let what = format!("run {} has ended as {}", self.dir.id(), end.name());
                Err(Error::Conflict(super::trouble::Trouble::new("run_ended", what)))
            }
        }
    }
}
