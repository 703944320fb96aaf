//! Probes at work: which questions about unknown outcomes are asked when, and what became of them.
//!
//! May not know what an answer means: that is the run's. Invariant: nobody is asked while a holder
//! gives signs of life, and an answer that is not recorded changes nothing, so that losing all of
//! this costs another question.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::codecs::event::Probe;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, EffectName, Epoch, RunId, Seq};
use crate::ground::limits::{PROBE_MS_MAX, PROBES_CONCURRENT_MAX};
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::effect::probe::{self, Answer};
use crate::services::executor::probe::{answer, definition};
use crate::services::executor::{Bar, StopWhy, Stopper};
use crate::services::runs::open::OpenRun;
use crate::services::runs::probe::Concluded;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result};
use crate::services::why::memory::{self, Asks};
use crate::shells::run_dir::dir::{RunDir, pretty};

use super::attend::Attended;
use super::dispatch::attended;
use super::handle::{self, Flow, Handle};
use super::seat::{Answer as Reply, Ask, Seat};
use super::{Manager, Message};

/// How long a question waits when as many as may be are under way.
const BUSY_MS: i64 = 1_000;
/// How long until the next one when an answer could not be written.
const UNWRITTEN_MS: u64 = 10_000;
/// Why an answer counts for nothing.
const HOLDER_LIVES: &str = "whoever holds it gave a sign of life";

/// What somebody is told who had the outside asked.
#[derive(Debug, Clone)]
pub struct Probed {
    /// Where the effect stands now.
    pub status: EffectStatus,
    /// The last record about it.
    pub seq: Seq,
    /// `done`, `not_done`, `failed` or `unsure`.
    pub answer: &'static str,
    /// Why it is not known.
    pub why: Option<String>,
    /// Run-relative file with the answer.
    pub file: Option<String>,
}

type Waiter = oneshot::Sender<Result<Probed>>;

/// All questions, as far as they are not parked for good in a run outside.
#[derive(Default)]
pub(super) struct Probes {
    by_run: BTreeMap<RunId, BTreeMap<EffectId, Probing>>,
    under_way: usize,
}

/// The questions about one effect.
struct Probing {
    epoch: Epoch,
    /// How often it was asked in vain.
    asked: u32,
    next: Next,
    waiters: Vec<Waiter>,
}

/// When the next question is asked.
enum Next {
    /// Then.
    At(Timestamp),
    /// It is.
    UnderWay(Arc<Stopper>),
    /// Never by itself.
    Parked,
}

/// A question, with all that asking takes.
struct Question {
    run: RunId,
    effect: EffectId,
    epoch: Epoch,
    probe: Probe,
    dir: RunDir,
    /// Who asks; or why nobody can.
    by: std::result::Result<Attended, String>,
    asked_at: Timestamp,
    /// Who wants it asked now, and why; nobody if its time has come.
    wish: Option<Wish>,
}

/// Why somebody has the outside asked.
#[derive(Debug, Clone, Serialize)]
pub struct Wish {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What came of a question.
struct Heard {
    run: RunId,
    effect: EffectId,
    epoch: Epoch,
    answer: Answer,
    file: Option<String>,
    /// Which answer it is; nothing if it does not count.
    asked: Option<u32>,
    /// Who wants to know.
    waiters: Vec<Waiter>,
}

impl Probes {
    /// When the next question about an effect of a run is asked.
    pub(super) fn next(&self, run: &RunId) -> Option<Timestamp> {
        let all = self.by_run.get(run)?.values();
        all.filter_map(|probing| match probing.next {
            Next::At(at) => Some(at),
            _ => None,
        })
        .min()
    }

    /// The same for each of them, for people.
    pub(super) fn shown(&self, run: &RunId) -> BTreeMap<EffectId, memory::Probing> {
        let all = self.by_run.get(run).into_iter().flatten();
        let shown = |(effect, probing): (&EffectId, &Probing)| {
            let next = match probing.next {
                Next::At(at) => Asks::At(at),
                Next::UnderWay(_) => Asks::Now,
                Next::Parked => Asks::Never,
            };
            (*effect, memory::Probing { asked: probing.asked, next })
        };
        all.map(shown).collect()
    }

    /// A run is gone: it will be asked about anew when it is back.
    pub(super) fn forget(&mut self, run: &RunId) {
        for probing in self.by_run.remove(run).into_iter().flat_map(BTreeMap::into_values) {
            self.end(probing);
        }
    }

    fn get(&mut self, run: &RunId, effect: EffectId) -> Option<&mut Probing> {
        self.by_run.get_mut(run)?.get_mut(&effect)
    }

    /// Questions about outcomes that are known by now are not asked any more.
    fn keep(&mut self, run: &RunId, open: &BTreeMap<EffectId, (Epoch, Timestamp)>) {
        let Some(of_run) = self.by_run.get_mut(run) else { return };
        let is_open = |id: &EffectId, probing: &mut Probing| {
            open.get(id).is_none_or(|(epoch, _)| *epoch != probing.epoch)
        };
        let over: Vec<Probing> =
            of_run.extract_if(.., is_open).map(|(_, probing)| probing).collect();
        if of_run.is_empty() {
            self.by_run.remove(run);
        }
        for probing in over {
            self.end(probing);
        }
    }

    fn end(&mut self, probing: Probing) {
        if let Next::UnderWay(stopper) = probing.next {
            self.under_way -= 1;
            stopper.stop(StopWhy::Cancelled);
        }
        for waiter in probing.waiters {
            let what = "somebody else said what became of the effect";
            let trouble = Trouble::new("wrong_state", what);
            // Who does not listen any more needs no answer, here and below.
            let _ = waiter.send(Err(Error::Conflict(trouble)));
        }
    }
}

impl Handle {
    /// Asks the outside now what became of an effect, and gives what that made of it.
    pub async fn probe(
        &self,
        run: &RunId,
        effect: EffectId,
        epoch: Epoch,
        wish: Wish,
    ) -> Result<Probed> {
        let (reply, answer) = oneshot::channel();
        let run = run.clone();
        self.tell(move |manager| manager.probe_for(run, (effect, epoch), wish, reply))?;
        answer.await.unwrap_or_else(|_| Err(handle::gone()))
    }
}

impl Manager {
    /// Looks after the questions about the effects of a run that is here: those that are due are
    /// asked.
    pub(super) fn tend_probes(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get(id) else { return };
        let questions = here.run.questions();
        let open: BTreeMap<_, _> =
            questions.map(|(effect, at)| (effect.id, (effect.epoch, at))).collect();
        self.probes.keep(id, &open);
        if self.stopping {
            return;
        }
        for (effect, (epoch, at)) in open {
            let probing = Probing::at(epoch, at);
            let of_run = self.probes.by_run.entry(id.clone()).or_default();
            let next = &of_run.entry(effect).or_insert(probing).next;
            if matches!(next, Next::At(at) if *at <= self.runs.clock.now()) {
                self.ask_when_free(id, effect, epoch);
            }
        }
    }

    /// Asks, unless a holder lives, or too much is asked already: then later.
    fn ask_when_free(&mut self, id: &RunId, effect: EffectId, epoch: Epoch) {
        let now = self.now();
        let later = match self.lives_until(id, effect) {
            Some(until) => Some(until.later_by(self.patience_ms(id, effect))),
            None if self.probes.under_way >= PROBES_CONCURRENT_MAX => {
                Some(now.plus_millis(BUSY_MS))
            }
            None => None,
        };
        if let Some(later) = later {
            if let Some(probing) = self.probes.get(id, effect) {
                probing.next = Next::At(later);
            }
            return;
        }
        let Some(Seat::Here(here)) = self.seats.get(id) else { return };
        match self.question(&here.run, effect, epoch) {
            Ok(question) => self.ask_outside(question),
            Err(e) => tracing::warn!(run = %id, %effect, "the outside cannot be asked: {e}"),
        }
    }

    /// Until when the holder of an effect has said that it lives.
    fn lives_until(&self, run: &RunId, effect: EffectId) -> Option<Timestamp> {
        let key = EffectName::of(run, effect);
        let now_ms = self.runs.clock.passed_millis();
        self.leases.get(&key).filter(|lease| lease.deadline_ms > now_ms)?;
        self.lease_until(&key)
    }

    fn patience_ms(&self, run: &RunId, effect: EffectId) -> u64 {
        let Some(Seat::Here(here)) = self.seats.get(run) else { return 0 };
        let patience =
            |its: &Effect| its.policy.probe.as_ref().map(|probe| probe::patience_ms(probe, its));
        here.run.state().effect(effect).and_then(patience).unwrap_or(0)
    }

    /// Prepares a question.
    fn question(&self, run: &OpenRun, effect: EffectId, epoch: Epoch) -> Result<Question> {
        let (probe, asked_at) = (run.probe_of(effect, epoch)?, self.runs.clock.now());
        let (kind, def) = (probe.kind.name(), definition(&probe));
        let executor = match self.desk.registry.get(kind) {
            None => Err(format!("nothing of kind {kind} is executed here")),
            Some(executor) => match executor.may_run(&def, run.state().cwd.as_deref()) {
                Ok(()) => Ok(Arc::clone(executor)),
                Err(Bar::Held { why, allow }) => Err(format!("{why}; set {allow}")),
                Err(Bar::Never(error)) => Err(error.message),
                Err(Bar::Elsewhere) => Err("it is done elsewhere".to_owned()),
            },
        };
        let mut task = run.task(effect)?;
        task.policy.attempt_timeout_ms = Some(PROBE_MS_MAX);
        task.deadline = None;
        let args = task.args.clone();
        let by = executor.map(|executor| attended(run, executor, &task, def, asked_at));
        let mut by = by.map(|attended| attended.asking(kind));
        if let Ok(attended) = &mut by {
            attended.read_inline_args(run, args)?;
        }
        let dir = run.dir.clone();
        let run = dir.id().clone();
        Ok(Question { run, effect, epoch, probe, dir, by, asked_at, wish: None })
    }

    fn ask_outside(&mut self, question: Question) {
        let (stopper, _) = Stopper::new();
        let stopper = question.by.as_ref().map_or(Arc::new(stopper), |by| Arc::clone(&by.stopper));
        let Some(probing) = self.probes.get(&question.run, question.effect) else { return };
        probing.next = Next::UnderWay(stopper);
        self.probes.under_way += 1;
        let inbox = self.inbox.clone();
        self.runtime.spawn(async move {
            let heard = question.ask().await;
            // A manager that has ended hears nothing; the next one asks for itself.
            let _ =
                inbox.send(Message::Look(Box::new(move |manager| manager.answered_probe(heard))));
        });
    }

    /// Somebody outside said something, or nothing.
    fn answered_probe(&mut self, mut heard: Heard) {
        let lives_until = self.lives_until(&heard.run, heard.effect);
        let patience_ms = self.patience_ms(&heard.run, heard.effect);
        let Some(probing) = self.probes.get(&heard.run, heard.effect) else { return };
        if probing.epoch != heard.epoch || !matches!(probing.next, Next::UnderWay(_)) {
            return;
        }
        heard.waiters = std::mem::take(&mut probing.waiters);
        if let Some(until) = lives_until {
            // Whoever lives may say it better, and may be acting.
            probing.next = Next::At(until.later_by(patience_ms));
            heard.answer = Answer::Unsure(HOLDER_LIVES.to_owned());
        } else {
            probing.asked = probing.asked.saturating_add(1);
            probing.next = Next::Parked;
            heard.asked = Some(probing.asked);
        }
        self.probes.under_way -= 1;
        self.record_probe(heard);
    }

    /// Records what an answer means.
    fn record_probe(&mut self, heard: Heard) {
        let inbox = self.inbox.clone();
        let run = heard.run.clone();
        let act = move |opened: Result<&mut OpenRun>| -> Reply {
            let (effect, epoch) = (heard.effect, heard.epoch);
            let concluded = opened.and_then(|opened| {
                let concluded = opened.conclude(effect, epoch, &heard.answer)?;
                let in_vain = heard.asked.filter(|_| !concluded.is_taken);
                Ok((concluded, in_vain.and_then(|asked| Then::of(opened, effect, asked))))
            });
            Box::new(move |durable| {
                let done = concluded.and_then(|concluded| durable.map(|()| concluded));
                let told = move |manager: &mut Self| manager.concluded(heard, done);
                let _ = inbox.send(Message::Look(Box::new(told)));
            })
        };
        let by = probe::BY.to_owned();
        self.admit(run, Ask::Deed { by, flow: Flow::Outcome, act: Box::new(act) });
    }

    /// An answer was recorded, or says nothing.
    fn concluded(&mut self, heard: Heard, done: Result<(Concluded, Option<Then>)>) {
        let (now, run, effect) = (self.now(), heard.run.clone(), heard.effect);
        let is_taken = done.as_ref().is_ok_and(|(concluded, _)| concluded.is_taken);
        let answer = heard.answer.name();
        tracing::info!(%run, %effect, answer, is_taken, "the outside was asked");
        let then = match &done {
            Ok((_, then)) => *then,
            // What could not be written is asked again.
            Err(Error::Storage { .. }) => Some(Then::AskAgain { after_ms: UNWRITTEN_MS }),
            Err(_) => None,
        };
        if let Some(probing) = self.probes.get(&run, effect).filter(|p| p.epoch == heard.epoch)
            && let Some(Then::AskAgain { after_ms }) = then
        {
            probing.next = Next::At(now.later_by(after_ms));
        }
        let wake_at = self.timers.of(&run).into_iter().chain(self.probes.next(&run)).min();
        self.timers.set(&run, wake_at);
        if then == Some(Then::Leave) {
            self.leave_unanswered(&run, effect, heard.epoch);
        }
        heard.tell(&done.map(|(concluded, _)| concluded));
    }

    /// Nobody is asked any more: the rest of the policy decides.
    fn leave_unanswered(&mut self, run: &RunId, effect: EffectId, epoch: Epoch) {
        let id = run.clone();
        let act = move |opened: Result<&mut OpenRun>| -> Reply {
            let done = opened.and_then(|opened| opened.leave_unanswered(effect, epoch));
            Box::new(move |durable| {
                if let Err(e) = done.and(durable) {
                    tracing::warn!(run = %id, %effect, "an effect was not left unanswered: {e}");
                }
            })
        };
        let by = "timer".to_owned();
        self.admit(run.clone(), Ask::Deed { by, flow: Flow::Outcome, act: Box::new(act) });
    }

    /// Somebody wants it asked now.
    fn probe_for(
        &mut self,
        run: RunId,
        (effect, epoch): (EffectId, Epoch),
        wish: Wish,
        waiter: Waiter,
    ) {
        let (inbox, id) = (self.inbox.clone(), run.clone());
        let act = move |opened: Result<&mut OpenRun>| -> Reply {
            let probe = opened.and_then(|opened| opened.probe_of(effect, epoch));
            Box::new(move |_| {
                let ask = move |manager: &mut Self| match probe {
                    Ok(_) => manager.ask_for(&id, (effect, epoch), wish, waiter),
                    Err(e) => {
                        let _ = waiter.send(Err(e));
                    }
                };
                let _ = inbox.send(Message::Look(Box::new(ask)));
            })
        };
        let by = self.runs.by.clone();
        self.ask(run, Ask::Deed { by, flow: Flow::Outcome, act: Box::new(act) });
    }

    fn ask_for(
        &mut self,
        run: &RunId,
        (effect, epoch): (EffectId, Epoch),
        wish: Wish,
        waiter: Waiter,
    ) {
        if let Some(until) = self.lives_until(run, effect) {
            let trouble = Trouble::new("leased", HOLDER_LIVES).fact("epoch", epoch.0);
            let trouble = trouble.fact("leaseUntil", until.to_string());
            let _ = waiter.send(Err(Error::Conflict(trouble)));
            return;
        }
        let question = match self.seats.get(run) {
            Some(Seat::Here(here)) => self.question(&here.run, effect, epoch),
            _ => Err(handle::gone()),
        };
        let question = match question {
            Ok(question) => question,
            Err(e) => {
                let _ = waiter.send(Err(e));
                return;
            }
        };
        let now = self.now();
        let of_run = self.probes.by_run.entry(run.clone()).or_default();
        let probing = of_run.entry(effect).or_insert_with(|| Probing::at(epoch, now));
        probing.waiters.push(waiter);
        if !matches!(probing.next, Next::UnderWay(_)) {
            self.ask_outside(Question { wish: Some(wish), ..question });
        }
    }
}

impl Probing {
    const fn at(epoch: Epoch, at: Timestamp) -> Self {
        Self { epoch, asked: 0, next: Next::At(at), waiters: Vec::new() }
    }
}

/// What follows a question that was asked in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Another one.
    AskAgain { after_ms: u64 },
    /// What the rest of the policy says.
    Leave,
}

impl Then {
    fn of(run: &OpenRun, effect: EffectId, asked: u32) -> Option<Self> {
        let state = run.state();
        let its = state.effect(effect)?;
        let most = its.policy.probe.as_ref()?.max_attempts;
        let after_ms = probe::pause_ms(&state.standing(state.last_at), its, asked);
        Some(if asked < most { Self::AskAgain { after_ms } } else { Self::Leave })
    }
}

impl Heard {
    /// Answers everybody who waited for it.
    fn tell(self, done: &Result<Concluded>) {
        let (answer, why) = match (&self.answer, done) {
            (Answer::Unsure(why), _) => ("unsure", Some(why.clone())),
            (answer, Ok(concluded)) if !concluded.is_taken => {
                let why = format!("it said {}, and that cannot be taken", answer.name());
                ("unsure", Some(why))
            }
            (answer, _) => (answer.name(), None),
        };
        for waiter in self.waiters {
            let told = done.clone().map(|concluded| Probed {
                status: concluded.status,
                seq: concluded.seq,
                answer,
                why: why.clone(),
                file: self.file.clone(),
            });
            let _ = waiter.send(told);
        }
    }
}

impl Question {
    /// Asks, and keeps the answer.
    async fn ask(self) -> Heard {
        let Self { run, effect, epoch, probe, dir, by, asked_at, wish } = self;
        let answer = match by {
            Ok(attended) => {
                let asked = attended.attend_in_a_room().await;
                asked.map_or_else(Answer::Unsure, |outcome| answer(&probe, &outcome))
            }
            Err(why) => Answer::Unsure(why),
        };
        let mut told = told(epoch, &probe, asked_at, &answer);
        if let Some(wish) = wish {
            told["wish"] = json!(wish);
        }
        let kept = pretty(&told);
        let file = tokio::task::spawn_blocking(move || dir.keep_probe(effect, &kept)).await;
        let file = file.ok().and_then(|kept| match kept {
            Ok(file) => file,
            Err(e) => {
                tracing::warn!(%run, %effect, "an answer could not be kept: {e}");
                None
            }
        });
        Heard { run, effect, epoch, answer, file, asked: None, waiters: Vec::new() }
    }
}

/// An answer as it is kept.
fn told(epoch: Epoch, probe: &Probe, asked_at: Timestamp, answer: &Answer) -> Value {
    let mut told = json!({
        "epoch": epoch, "kind": probe.kind, "askedAt": asked_at, "state": answer.name(),
    });
    match answer {
        Answer::Done(value) => told["value"] = value.to_value(),
        Answer::Failed(error) => told["error"] = json!(error),
        Answer::Unsure(why) => told["why"] = json!(why),
        Answer::NotDone => {}
    }
    told
}
